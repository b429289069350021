"""A process dies at every point where it changes something on the disk: the next one can go on."""

from __future__ import annotations

import os
import stat
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from trio.testing import MockClock

from lrs_trio.storage.virtual.library import VirtualLibrary, create
from lrs_trio.storage.virtual.state import StateFile
from tests.storage.virtual.shelf import (
    D1,
    DRIVE_1,
    MIB,
    PROTECTED,
    SLOT_A,
    WRITABLE,
    A,
    describe,
    device,
    medium,
    mounted,
    places,
    shelf,
    unit,
)

CHANGES = ("replace", "symlink", "unlink", "chmod", "mkdir")
"""What the library changes the disk with, by its names in `os`."""


class Death(BaseException):
    """No handler of the library's catches it."""


class Reaper:
    """Lets the process die before or after the `n`-th change."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, n: int, *, after: bool) -> None:
        self.left = n
        for name in CHANGES:
            monkeypatch.setattr(os, name, self._deadly(getattr(os, name), after))

    def _deadly(self, change: Callable[..., Any], after: bool) -> Callable[..., Any]:
        def changed(*args: Any, **kwargs: Any) -> Any:
            self.left -= 1
            if self.left == 0 and not after:
                raise Death
            result = change(*args, **kwargs)
            if self.left == 0:
                raise Death
            return result

        return changed


async def dies(
    monkeypatch: pytest.MonkeyPatch, operation: Callable[[], Awaitable[object]], n: int, *, after: bool
) -> bool:
    """Whether `operation` has got to its `n`-th change."""
    with monkeypatch.context() as patched:
        Reaper(patched, n, after=after)
        try:
            await operation()
        except Death:
            return True
    return False


points = pytest.mark.parametrize(("n", "after"), [(n, after) for n in range(1, 6) for after in (False, True)])


def successor(tmp_path: Path) -> VirtualLibrary:
    return VirtualLibrary.open(tmp_path / "shelf")


@points
async def test_load(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock, n: int, after: bool
) -> None:
    library = shelf(tmp_path)
    died = await dies(monkeypatch, lambda: unit(library, tmp_path).library.load(device(D1), A), n, after=after)
    library = successor(tmp_path)
    expected = SLOT_A if (died, n, after) == (True, 1, False) else DRIVE_1
    assert places(library)[A] == expected
    robot = unit(library, tmp_path).library
    if expected == SLOT_A:
        await robot.load(device(D1), A)
    await robot.unload(device(D1), A)
    assert places(library)[A] == SLOT_A


@points
@pytest.mark.parametrize("cartridges", [WRITABLE, PROTECTED], ids=["writable", "protected"])
async def test_mount(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    autojump_clock: MockClock,
    n: int,
    after: bool,
    cartridges: list[dict[str, Any]],
) -> None:
    library = shelf(tmp_path, cartridges=cartridges)
    found = unit(library, tmp_path)
    await found.library.load(device(D1), A)
    content = tmp_path / f"shelf/cartridges/{A}/content"
    before = stat.S_IMODE(content.stat().st_mode)
    await dies(monkeypatch, lambda: found.filesystem.mount(medium(A)), n, after=after)

    next_one = unit(successor(tmp_path), tmp_path)
    root = tmp_path / "mnt-virtual-shelf-1"
    adopted = await next_one.filesystem.adopt()
    assert adopted == (str(root) if root.is_symlink() else None)
    if adopted is None:
        await next_one.filesystem.mount(medium(A))
    assert root.resolve() == content
    assert (await next_one.filesystem.space()).read_only == (cartridges is PROTECTED)
    await next_one.filesystem.unmount()
    assert stat.S_IMODE(content.stat().st_mode) == before
    await next_one.library.unload(device(D1), A)


@points
@pytest.mark.parametrize("cartridges", [WRITABLE, PROTECTED], ids=["writable", "protected"])
async def test_unmount(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    autojump_clock: MockClock,
    n: int,
    after: bool,
    cartridges: list[dict[str, Any]],
) -> None:
    library = shelf(tmp_path, cartridges=cartridges)
    content = tmp_path / f"shelf/cartridges/{A}/content"
    before = stat.S_IMODE(content.stat().st_mode)
    found, root = await mounted(library, tmp_path)
    (root / "object").write_bytes(b"x" * 1000)
    await dies(monkeypatch, found.filesystem.unmount, n, after=after)

    next_one = unit(successor(tmp_path), tmp_path)
    if await next_one.filesystem.adopt() is not None:
        await next_one.filesystem.unmount()
    assert not root.is_symlink()
    assert stat.S_IMODE(content.stat().st_mode) == before
    await next_one.filesystem.mount(medium(A))
    assert (root / "object").read_bytes() == b"x" * 1000
    assert (await next_one.filesystem.space()).used == 1000
    await next_one.filesystem.unmount()
    await next_one.library.unload(device(D1), A)


@points
async def test_format(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock, n: int, after: bool
) -> None:
    library = shelf(tmp_path)
    found, root = await mounted(library, tmp_path)
    for name in ("one", "two"):
        (root / name).write_bytes(b"x" * MIB)
    await found.filesystem.unmount()
    await dies(monkeypatch, lambda: found.filesystem.format(medium("new")), n, after=after)

    next_one = unit(successor(tmp_path), tmp_path)
    # What has its old label has its files, what has the new one has none, and nobody mounts what is half erased.
    label = await next_one.filesystem.read_label()
    assert label in (A, None, "new")
    if label is not None:
        await next_one.filesystem.mount(medium(label))
        assert {file.name for file in root.iterdir()} == ({"one", "two"} if label == A else set())
        await next_one.filesystem.unmount()
    assert (await next_one.filesystem.format(medium(A))).used == 0
    await next_one.filesystem.mount(medium(A))
    assert (await next_one.filesystem.space()).used == 0


@pytest.mark.parametrize("n", range(1, 12))
def test_create(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, n: int) -> None:
    description = describe(tmp_path)
    with monkeypatch.context() as patched:
        Reaper(patched, n, after=False)
        try:
            create(tmp_path / "shelf", description)
        except Death:
            assert not (tmp_path / "shelf" / "library.toml").exists()
    if not (tmp_path / "shelf" / "library.toml").exists():
        create(tmp_path / "shelf", description)
    assert places(successor(tmp_path))[A] == SLOT_A


def test_a_half_written_state_is_nobodys(tmp_path: Path) -> None:
    library = shelf(tmp_path)
    before = library.elements()
    (tmp_path / "shelf" / "state.new").write_bytes(b'{"places": {"25')
    assert successor(tmp_path).elements() == before
    with StateFile(tmp_path / "shelf", durable=False).change() as state:
        state.move(SLOT_A, DRIVE_1)
    assert places(successor(tmp_path))[A] == DRIVE_1
