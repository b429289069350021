"""What `tests/storage/test_ltfs.py` has happen in a mount namespace of its own: real mounts, real attributes.

    python -m tests.storage.ltfs_scenarios NAME DIRECTORY

A failed assertion is a traceback and status 1.
"""

from __future__ import annotations

import errno
import gc
import math
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from shlex import quote
from typing import Final

import pytest
import structlog.testing
import trio
import trio.testing

from lrs_trio.errors import LabelError, LrsError, OperationError
from lrs_trio.model import Family, FsType, Medium, ResourceId, Space
from lrs_trio.settings import LtfsSettings
from lrs_trio.storage.command import run_command
from lrs_trio.storage.ltfs import LtfsFilesystem
from lrs_trio.storage.space import FullThreshold
from tests.processes import PATIENCE_S, wait_gone
from tests.storage.fuse_ltfs import BLOCK, BLOCKS, FREE

DEVICE: Final = "/dev/sg9"
LABEL: Final = "AB0001L8"
PROGRAM: Final = Path(__file__).with_name("fuse_ltfs.py")
LOOK_AGAIN_S: Final = 0.005
"""How often to look at what another process does. Seconds."""


class Place:
    """A drive with a cartridge: what mounts it, and what it keeps in `state`."""

    def __init__(self, directory: Path) -> None:
        self.state = directory / "st at é"
        self.state.mkdir()
        self.prefix = f"{directory}/mnt é-"
        self.root = f"{self.prefix}sg9"
        self.settings = LtfsSettings(
            mount=f'{quote(sys.executable)} {quote(str(PROGRAM))} {quote(str(self.state))} {LABEL} "%s" "%s"',
            unmount='sh -c \'umount "$2"\' umount_ltfs "%s" "%s"',
        )

    async def filesystem(self) -> LtfsFilesystem:
        """As a daemon that has just started has it."""
        filesystem = LtfsFilesystem(self.settings, self.prefix, FullThreshold(5))
        await filesystem.open(DEVICE)
        return filesystem

    async def mounted(self) -> LtfsFilesystem:
        filesystem = await self.filesystem()
        assert await filesystem.mount(medium()) == self.root
        return filesystem

    def syncs(self) -> int:
        file = self.state / "syncs"
        return len(file.read_text().splitlines()) if file.exists() else 0

    async def wait_syncs(self, number: int) -> None:
        while self.syncs() < number:  # noqa: ASYNC110 another process does it
            await trio.sleep(LOOK_AGAIN_S)

    def kill_server(self) -> None:
        pid = int((self.state / "pid").read_text())
        os.kill(pid, signal.SIGKILL)
        wait_gone(pid)


def medium(label: str = LABEL) -> Medium:
    return Medium(ResourceId(Family.TAPE, LABEL, "legacy"), FsType.LTFS, fs_label=label)


async def life(place: Place) -> None:
    filesystem = await place.filesystem()
    assert await filesystem.adopt() is None
    assert await filesystem.mount(medium()) == place.root
    assert await filesystem.read_label() == LABEL
    full = Space(used=(BLOCKS - FREE) * BLOCK, free=FREE * BLOCK)
    assert await filesystem.space() == full
    assert place.syncs() == 0
    assert await filesystem.sync() == full
    assert place.syncs() == 1
    await filesystem.unmount()
    assert not os.path.ismount(place.root)
    assert await filesystem.adopt() is None
    await filesystem.mount(medium(label=""))
    await filesystem.unmount()


async def predecessor(place: Place) -> None:
    await place.mounted()
    successor = await place.filesystem()
    assert await successor.adopt() == place.root
    assert await successor.read_label() == LABEL
    await successor.sync()
    await successor.unmount()
    assert await successor.adopt() is None


async def foreign_label(place: Place) -> None:
    filesystem = await place.filesystem()
    with pytest.raises(LabelError) as caught:
        await filesystem.mount(medium("AB0002L8"))
    assert caught.value.errno == errno.EINVAL
    assert caught.value.record == {"label mismatch": "found: AB0001L8, expected: AB0002L8"}
    assert os.path.ismount(place.root)
    await filesystem.unmount()
    assert not os.path.ismount(place.root)


async def busy(place: Place) -> None:
    filesystem = await place.mounted()
    user = os.open(place.root, os.O_PATH)
    with pytest.raises(LrsError) as caught:
        await filesystem.unmount()
    assert (caught.value.errno, type(caught.value)) == (errno.EBUSY, LrsError)
    assert await filesystem.read_label() == LABEL
    os.close(user)
    await filesystem.unmount()


async def protected(place: Place) -> None:
    (place.state / "protected").touch()
    filesystem = await place.mounted()
    assert (await filesystem.space()).read_only
    await filesystem.unmount()


async def failing_sync(place: Place) -> None:
    filesystem = await place.mounted()
    (place.state / "sync").write_text(str(errno.EIO))
    with pytest.raises(OperationError) as caught:
        await filesystem.sync()
    assert caught.value.errno == errno.EIO
    assert list(caught.value.record) == ["sync"]
    await filesystem.unmount()


async def hanging_sync(place: Place) -> None:
    """It is given up, what comes after it is bounded as well, and the commands still work."""
    filesystem = await place.mounted()
    (place.state / "sync").write_text("hang")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(filesystem.sync)
        await place.wait_syncs(1)
        nursery.cancel_scope.cancel()
    with trio.move_on_after(0.01) as scope:
        await filesystem.space()
    assert scope.cancelled_caught
    assert await filesystem.adopt() == place.root
    with pytest.raises(LrsError) as caught:
        await filesystem.unmount()
    assert caught.value.errno == errno.EBUSY
    place.kill_server()


async def dead_server(place: Place) -> None:
    """The filesystem is gone but still in the table."""
    filesystem = await place.mounted()
    place.kill_server()
    for operation in (filesystem.space, filesystem.sync, filesystem.read_label):
        with pytest.raises(OperationError) as caught:
            await operation()
        assert caught.value.errno == errno.ENOTCONN
    successor = await place.filesystem()
    assert await successor.adopt() == place.root
    await successor.unmount()
    await (await place.mounted()).unmount()


async def unkillable(place: Place) -> None:
    """A command that waits in the kernel for a device that does not answer."""
    filesystem = await place.mounted()
    (place.state / "sync").write_text("hang")
    stuck = f"import os; os.setxattr({place.root!r}, 'user.ltfs.sync', (1).to_bytes(4, {sys.byteorder!r}))"
    with structlog.testing.capture_logs() as lines:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run_command, [sys.executable, "-c", stuck])
            await place.wait_syncs(1)
            nursery.cancel_scope.cancel()
    [line] = [line for line in lines if line["log_level"] == "error"]
    [pid] = line["left"]
    assert Path(f"/proc/{pid}").exists(), "it could be killed: the test tests nothing"
    place.kill_server()
    wait_gone(pid)
    gc.collect()
    await run_command(["true"])
    assert not Path(f"/proc/{pid}").exists(), "it is a zombie"
    await filesystem.unmount()


async def not_by_fuse(place: Place) -> None:
    os.mkdir(place.root)
    await trio.run_process(["mount", "-t", "tmpfs", f"ltfs:{DEVICE}", place.root])
    with pytest.raises(LrsError) as caught:
        await (await place.filesystem()).adopt()
    assert caught.value.errno == errno.EMEDIUMTYPE


SCENARIOS: Final[dict[str, Callable[[Place], Awaitable[None]]]] = {
    scenario.__name__: scenario
    for scenario in (
        life,
        predecessor,
        foreign_label,
        busy,
        protected,
        failing_sync,
        hanging_sync,
        dead_server,
        unkillable,
        not_by_fuse,
    )
}


async def main(name: str, directory: str) -> None:
    with trio.fail_after(math.inf if name in HURRIED else PATIENCE_S):
        await SCENARIOS[name](Place(Path(directory)))


HURRIED: Final = {"unkillable"}
"""Those in which seconds pass that nobody wants to wait for."""

if __name__ == "__main__":
    _, name, directory = sys.argv
    trio.run(main, name, directory, clock=trio.testing.MockClock(rate=40) if name in HURRIED else None)
