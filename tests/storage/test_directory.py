"""The directory adapters on real directories, in real threads, on the real clock."""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest
import trio
import trio.testing

from lrs_trio.errors import LrsError
from lrs_trio.model import LABEL_LENGTH, Device, Family, FsStatus, FsType, Medium, ResourceId
from lrs_trio.storage import shared_calls
from lrs_trio.storage.directory import DirectoryFilesystem, DirectoryStorage
from lrs_trio.storage.protocols import Content
from lrs_trio.storage.root import LABEL_FILE, Root
from lrs_trio.storage.shared_sync import SharedSync
from lrs_trio.storage.space import FullThreshold
from lrs_trio.storage.syncfs import syncfs
from tests.storage.faults import FaultyFilesystem, faulty

HOST = "store1"
PATIENCE = 30.0
"""Seconds after which a test that hangs gives up; never reached in a good run."""


def device(name: str) -> Device:
    return Device(id=ResourceId(Family.DIR, name, "legacy"), host=HOST, path=name.partition(":")[2])


def medium(name: Path | str) -> Medium:
    return Medium(id=ResourceId(Family.DIR, str(name), "legacy"), fs_type=FsType.POSIX)


def filesystem(shared: SharedSync | None = None, sync: Callable[[int], None] = syncfs) -> DirectoryFilesystem:
    return DirectoryFilesystem(trio.CapacityLimiter(1), FullThreshold(5), shared or SharedSync(), sync=sync)


class SlowDisk:
    """A system call that hangs until it is let go, and then does what it was told."""

    def __init__(self) -> None:
        self.begun = threading.Semaphore(0)
        self.go_on = threading.Semaphore(0)
        self.error: OSError | None = None
        self.calls = 0

    def __call__(self, descriptor: int) -> None:
        self.calls += 1
        self.begun.release()
        self.go_on.acquire()
        if self.error is not None:
            raise self.error

    async def wait_begun(self) -> None:
        await trio.to_thread.run_sync(self.begun.acquire)


# Drive and library.


async def test_a_directory_is_identified_by_host_and_real_path(tmp_path: Path) -> None:
    name = f"{HOST}:{tmp_path}"
    identity = await DirectoryStorage(HOST, 5).unit(device(name)).drive.query(device(name))
    assert (identity.path, identity.serial, identity.model) == (str(tmp_path), name, None)


async def test_a_path_that_leads_elsewhere_is_another_drive(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "alias").symlink_to("real")
    name = f"{HOST}:{tmp_path}/alias"
    with pytest.raises(LrsError, match=f"{name} .*{HOST}:{tmp_path}/real") as caught:
        await DirectoryStorage(HOST, 5).unit(device(name)).drive.query(device(name))
    assert caught.value.errno == errno.EINVAL


async def test_another_hosts_directory_is_another_drive(tmp_path: Path) -> None:
    name = f"store2:{tmp_path}"
    with pytest.raises(LrsError, match=f"{name} .*{HOST}:{tmp_path}") as caught:
        await DirectoryStorage(HOST, 5).unit(device(name)).drive.query(device(name))
    assert caught.value.errno == errno.EINVAL


async def test_a_drive_that_is_not_there_or_no_directory(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for name, error in (("missing", FileNotFoundError), ("file", NotADirectoryError)):
        row = device(f"{HOST}:{tmp_path}/{name}")
        with pytest.raises(error, match=f"{tmp_path}/{name}"):
            await DirectoryStorage(HOST, 5).unit(row).drive.query(row)


async def test_the_medium_is_called_like_the_path_even_with_colons(tmp_path: Path) -> None:
    row = device(f"{HOST}:/srv/a:b")
    assert await DirectoryStorage(HOST, 5).unit(row).library.lookup(row) == Content("/srv/a:b")


@pytest.mark.parametrize("name", ["nonsense", f"{HOST}:/srv/nonsense\0"])
async def test_a_device_without_a_path_is_refused(name: str) -> None:
    row = device(name)
    unit = DirectoryStorage(HOST, 5).unit(row)
    asked: list[Callable[[Device], Awaitable[object]]] = [unit.drive.query, unit.library.lookup]
    for ask in asked:
        with pytest.raises(LrsError, match="nonsense") as caught:
            await ask(row)
        assert caught.value.errno == errno.EINVAL


# Label and mount.


async def test_format_then_mount(tmp_path: Path) -> None:
    fs = filesystem()
    await fs.open(str(tmp_path))
    assert await fs.read_label() is None
    space = await fs.format(medium(tmp_path))
    assert space.used + space.free > 0
    assert await fs.read_label() == str(tmp_path)
    assert await fs.mount(medium(tmp_path)) == str(tmp_path)
    await fs.unmount()
    await fs.close()


async def test_format_reports_free_space_without_the_threshold(tmp_path: Path) -> None:
    fs = DirectoryFilesystem(trio.CapacityLimiter(1), FullThreshold(100), SharedSync())
    await fs.open(str(tmp_path))
    assert (await fs.format(medium(tmp_path))).free > 0
    assert (await fs.space()).free == 0
    await fs.close()


async def test_mount_without_a_label(tmp_path: Path) -> None:
    fs = filesystem()
    await fs.open(str(tmp_path))
    with pytest.raises(LrsError, match="format it first") as caught:
        await fs.mount(medium(tmp_path))
    assert caught.value.errno == errno.ENOENT
    await fs.close()


async def test_mount_of_another_medium(tmp_path: Path) -> None:
    (tmp_path / LABEL_FILE).write_text("/srv/other")
    fs = filesystem()
    await fs.open(str(tmp_path))
    with pytest.raises(LrsError, match=f"'/srv/other'.*'{tmp_path}'") as caught:
        await fs.mount(medium(tmp_path))
    assert caught.value.errno == errno.EINVAL
    await fs.close()


async def test_a_medium_that_is_being_imported_may_have_any_label_but_must_have_one(tmp_path: Path) -> None:
    fs = filesystem()
    await fs.open(str(tmp_path))
    importing = replace(medium(tmp_path), fs_status=FsStatus.IMPORTING)
    with pytest.raises(LrsError, match="format it first"):
        await fs.mount(importing)
    (tmp_path / LABEL_FILE).write_text("/srv/other")
    assert await fs.mount(importing) == str(tmp_path)
    await fs.close()


async def test_an_imported_medium_keeps_the_label_that_the_dss_has_of_it(tmp_path: Path) -> None:
    label = "/the/place/where/it/was/formatted/once"
    (tmp_path / LABEL_FILE).write_text(label)
    fs = filesystem()
    await fs.open(str(tmp_path))
    assert await fs.mount(replace(medium(tmp_path), fs_label=label[:LABEL_LENGTH])) == str(tmp_path)
    for other in ("", "NULL", label[: LABEL_LENGTH - 1], "/another/place"):
        with pytest.raises(LrsError, match="wrong filesystem"):
            await fs.mount(replace(medium(tmp_path), fs_label=other))
    await fs.close()


async def test_a_threshold_that_changes_counts_from_the_next_measurement(tmp_path: Path) -> None:
    storage = DirectoryStorage(HOST, 1)
    fs = storage.unit(device(f"{HOST}:{tmp_path}")).filesystem
    await fs.open(str(tmp_path))
    assert (await fs.space()).free > 0
    storage.full_threshold_percent = 99
    # Of any real disk more than 1 % is used.
    assert (await fs.space()).free == 0
    assert (await fs.sync()).free == 0
    assert storage.full_threshold_percent == 99
    await fs.close()


async def test_a_replaced_directory_is_neither_mounted_nor_formatted_nor_synced(tmp_path: Path) -> None:
    place = tmp_path / "d"
    place.mkdir()
    fs = filesystem()
    await fs.open(str(place))
    await fs.format(medium(place))
    place.rename(tmp_path / "old")
    place.mkdir()
    (place / LABEL_FILE).write_text(str(place))
    operations: list[Callable[[], Awaitable[object]]] = [
        lambda: fs.mount(medium(place)),
        lambda: fs.format(medium(place)),
        fs.sync,
    ]
    for operation in operations:
        with pytest.raises(LrsError, match=str(place)) as caught:
            await operation()
        assert caught.value.errno == errno.ESTALE
    await fs.close()


async def test_an_open_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    fs = filesystem()
    with pytest.raises(FileNotFoundError, match="missing"):
        await fs.open(f"{tmp_path}/missing")
    await fs.close()
    await fs.open(str(tmp_path))
    assert await fs.read_label() is None
    await fs.close()
    await fs.close()


# Sync.


@pytest.mark.note("2.5d")
async def test_a_real_sync(tmp_path: Path) -> None:
    fs = filesystem()
    await fs.open(str(tmp_path))
    (tmp_path / "object").write_bytes(b"x" * 4096)
    await fs.sync()
    await fs.close()


async def test_directories_of_one_filesystem_have_one_volume(tmp_path: Path) -> None:
    shared = SharedSync()
    names = [tmp_path / name for name in "ab"]
    found = []
    for name in names:
        name.mkdir()
        fs = filesystem(shared)
        await fs.open(str(name))
        found.append(fs.volume)
        await fs.close()
    assert found[0] == found[1] == str(os.stat(tmp_path).st_dev)


async def test_directories_of_one_filesystem_share_syncs(tmp_path: Path) -> None:
    shared = SharedSync()
    calls = 0
    syncs_each = 10

    def slow(descriptor: int) -> None:
        nonlocal calls
        calls += 1
        time.sleep(0.005)  # the disk's, long enough for the others to gather
        syncfs(descriptor)

    async def sync_often(fs: DirectoryFilesystem) -> None:
        for _ in range(syncs_each):
            await fs.sync()

    joined = []
    for name in "abcd":
        (tmp_path / name).mkdir()
        fs = filesystem(shared, slow)
        await fs.open(str(tmp_path / name))
        joined.append(fs)
    async with trio.open_nursery() as nursery:
        for fs in joined:
            nursery.start_soon(sync_often, fs)
    assert len(joined) <= calls < len(joined) * syncs_each
    for fs in joined:
        await fs.close()


async def test_a_failed_sync_names_the_directory_and_stays_failed_until_it_is_opened_again(tmp_path: Path) -> None:
    results = [errno.EIO]

    def reported_once(descriptor: int) -> None:
        if results:
            number = results.pop()
            raise OSError(number, os.strerror(number))

    fs = filesystem(sync=reported_once)
    await fs.open(str(tmp_path))
    for _ in range(2):
        with pytest.raises(OSError, match=str(tmp_path)) as caught:
            await fs.sync()
        assert caught.value.errno == errno.EIO
    await fs.close()
    await fs.open(str(tmp_path))
    await fs.sync()
    await fs.close()


async def test_what_a_sync_that_was_given_up_finds_out_is_told_to_the_next_one(tmp_path: Path) -> None:
    disk = SlowDisk()
    disk.error = OSError(errno.EIO, "lost")
    fs = filesystem(sync=disk)
    await fs.open(str(tmp_path))
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fs.sync)
            await disk.wait_begun()
            nursery.cancel_scope.cancel(reason="test")
        disk.go_on.release()
        with pytest.raises(OSError, match=str(tmp_path)):
            await fs.sync()
        assert disk.calls == 1
    await fs.close()


async def test_a_hanging_disk_holds_up_no_other_device(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
    disk = SlowDisk()
    shared = SharedSync()
    hanging, good = filesystem(shared, disk), filesystem(shared)
    await hanging.open(str(tmp_path / "a"))
    await good.open(str(tmp_path / "b"))
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(hanging.sync)
            await disk.wait_begun()
            await good.format(medium(tmp_path / "b"))
            await good.sync()
            disk.go_on.release()
    await hanging.close()
    await good.close()


async def test_a_path_that_hangs_holds_up_no_other_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in "abc":
        (tmp_path / name).mkdir()
    monkeypatch.setattr(shared_calls, "PATIENCE_S", 0.01)
    check_in_place, go_on, asked = Root.check_in_place, threading.Event(), threading.Event()

    def check(root: Root) -> None:
        if go_on.is_set() or not asked.is_set() or not root.path.endswith("b"):
            check_in_place(root)
        else:
            go_on.wait(PATIENCE)

    monkeypatch.setattr(Root, "check_in_place", check)
    disk, shared = SlowDisk(), SharedSync()
    slow, stuck, good = filesystem(shared, disk), filesystem(shared), filesystem(shared)
    for fs, name in ((slow, "a"), (stuck, "b"), (good, "c")):
        await fs.open(str(tmp_path / name))
    await stuck.sync()  # from now on it waits for others
    asked.set()
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(slow.sync)
            await disk.wait_begun()
            nursery.start_soon(stuck.sync)
            await trio.testing.wait_all_tasks_blocked()
            await good.sync()
            await good.space()
            go_on.set()
            disk.go_on.release()
    for fs in (slow, stuck, good):
        await fs.close()


async def test_closing_does_not_pull_the_descriptor_from_under_a_call(tmp_path: Path) -> None:
    disk = SlowDisk()
    seen: list[str] = []

    def look(descriptor: int) -> None:
        disk(descriptor)
        seen.append(os.readlink(f"/proc/self/fd/{descriptor}"))

    limiter = trio.CapacityLimiter(1)
    fs = DirectoryFilesystem(limiter, FullThreshold(5), SharedSync(), sync=look)
    await fs.open(str(tmp_path))
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fs.sync)
            await disk.wait_begun()
            nursery.cancel_scope.cancel(reason="test")
        await fs.close()
        disk.go_on.release()
        async with limiter:  # the thread gives its token back when it has ended
            assert seen == [str(tmp_path)]


# What other tests use.


async def test_the_faulty_filesystem_fails_and_holds_as_told(tmp_path: Path) -> None:
    row = device(f"{HOST}:{tmp_path}")
    unit, fs = faulty(DirectoryStorage(HOST, 5).unit(row))
    assert isinstance(unit.filesystem, FaultyFilesystem)
    await fs.open(str(tmp_path))
    fs.fail("sync", errno.EIO)
    with pytest.raises(OSError, match="<sync>") as caught:
        await fs.sync()
    assert caught.value.errno == errno.EIO
    fs.heal("sync")
    held = fs.hold("sync")
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fs.sync)
            await trio.testing.wait_all_tasks_blocked()
            held.set()
    assert fs.calls == ["open", "sync", "sync", "space"]
    await fs.close()
