"""Simulated directories: they have to behave as real ones do, and to go wrong in the ways that real ones do."""

from __future__ import annotations

import errno
from collections.abc import Awaitable, Callable, Mapping
from functools import partial

import pytest
import trio

from lrs_trio.model import Device, Family, FsStatus, FsType, Medium, ResourceId, Space
from lrs_trio.simulation.determinism import Chance, run_seeded
from lrs_trio.simulation.faults import FaultKind, Faults
from lrs_trio.simulation.host.directories import WRONG_LABEL, SimulatedDirectories
from lrs_trio.simulation.trace import Trace
from lrs_trio.simulation.world import Process, ProcessKilledError, Violations, World
from lrs_trio.storage.protocols import Filesystem, Unit

GIB = 2**30
A, B, C, BLANK = "/data/a", "/data/b", "/data/c", "/data/blank"
DEADLINE_S = 300.0


class Host:
    """Directories A, B and BLANK on one filesystem of 10 GiB, and C on another one of 1 GiB."""

    def __init__(self, nursery: trio.Nursery, rates: Mapping[FaultKind, float], *, excludes_io: bool) -> None:
        chance, trace = Chance(1), Trace()
        self.faults = Faults(chance, rates, trace)
        self.world = World("store1", chance, trace, self.faults, Violations(trace), nursery)
        self.directories = SimulatedDirectories(self.world, excludes_io=excludes_io)
        for path, volume, capacity in ((A, 0, 10 * GIB), (B, 0, 10 * GIB), (BLANK, 0, 10 * GIB), (C, 1, GIB)):
            self.directories.add(path, volume=volume, capacity=capacity, label=None if path == BLANK else path)
        self.start()

    def start(self) -> None:
        """Begin another life of the daemon."""
        self.process = Process(1001, 0.0)
        self.adapters = self.directories.adapters(self.process, 5)

    def unit(self, path: str) -> Unit:
        return self.adapters.unit(device(path))

    async def open(self, path: str) -> Filesystem:
        filesystem = self.unit(path).filesystem
        await filesystem.open(path)
        return filesystem

    @property
    def violations(self) -> list[str]:
        return self.world.violations.found


Story = Callable[[Host], Awaitable[None]]


def play(story: Story, *kinds: FaultKind, excludes_io: bool = False) -> None:
    """Run `story` where `kinds` go wrong each time, until the story stops that."""

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            with trio.fail_after(100 * DEADLINE_S):
                await story(Host(nursery, dict.fromkeys(kinds, 1.0), excludes_io=excludes_io))
            nursery.cancel_scope.cancel()

    run_seeded(1, main)


def device(path: str, host: str = "store1") -> Device:
    return Device(ResourceId(Family.DIR, f"{host}:{path}", "legacy"), host, path)


def medium(path: str, label: str = "") -> Medium:
    return Medium(ResourceId(Family.DIR, path, "legacy"), FsType.POSIX, fs_label=label)


async def refused(call: Callable[[], Awaitable[object]], number: int) -> None:
    with pytest.raises(OSError, match=rf"\A\[Errno {number}\]"):
        await call()


# Drive, library, label.


def test_a_directory_is_its_drive_and_its_medium() -> None:
    async def story(host: Host) -> None:
        unit = host.unit(A)
        identity = await unit.drive.query(device(A))
        assert (identity.path, identity.serial) == (A, f"store1:{A}")
        assert (await unit.library.lookup(device(A))).medium == A
        await refused(lambda: unit.drive.query(device("/data/none")), errno.ENOENT)
        await refused(lambda: unit.drive.query(device(A, "store2")), errno.EINVAL)

    play(story)


def test_mount_wants_the_label_of_the_medium() -> None:
    async def story(host: Host) -> None:
        filesystem = await host.open(A)
        assert await filesystem.mount(medium(A)) == A
        await refused(lambda: filesystem.mount(medium(B)), errno.EINVAL)
        blank = await host.open(BLANK)
        assert await blank.read_label() is None
        await refused(lambda: blank.mount(medium(BLANK)), errno.ENOENT)

    play(story)


def test_mount_takes_a_label_that_the_dss_has_and_any_of_a_medium_that_is_imported() -> None:
    async def story(host: Host) -> None:
        filesystem = await host.open(A)
        assert await filesystem.mount(medium("/old/name", label=A)) == A
        importing = Medium(ResourceId(Family.DIR, "/new", "legacy"), FsType.POSIX, fs_status=FsStatus.IMPORTING)
        assert await filesystem.mount(importing) == A

    play(story)


def test_format_labels_once_and_again_only_what_is_empty() -> None:
    async def story(host: Host) -> None:
        filesystem = await host.open(BLANK)
        assert await filesystem.format(medium(BLANK)) == Space(0, 10 * GIB)
        assert await filesystem.read_label() == BLANK
        await filesystem.format(medium(BLANK))
        await refused(lambda: filesystem.format(medium(A)), errno.EEXIST)
        host.directories.content(BLANK).write(1)
        await refused(lambda: filesystem.format(medium(BLANK)), errno.EEXIST)
        assert host.directories.content(BLANK).files == 1

    play(story)


def test_a_path_that_was_added_is_what_clients_find() -> None:
    async def story(host: Host) -> None:
        assert host.directories.content_at(A) is host.directories.content(A)
        assert host.directories.content_at("/mnt/tape") is None
        for path, capacity in ((A, 10 * GIB), ("/data/other", GIB)):
            with pytest.raises(ValueError, match="volume 0"):
                host.directories.add(path, volume=0, capacity=capacity, label=None)

    play(story)


# Space.


def test_directories_of_one_volume_share_its_space() -> None:
    async def story(host: Host) -> None:
        a, b, c = [await host.open(path) for path in (A, B, C)]
        assert a.volume == b.volume != c.volume
        host.directories.content(A).write(4 * GIB)
        assert await a.space() == await b.space() == Space(4 * GIB, 6 * GIB)
        assert host.directories.content(B).free == 6 * GIB
        assert await c.space() == Space(0, GIB)

    play(story)


def test_what_is_nearly_full_counts_as_full() -> None:
    async def story(host: Host) -> None:
        filesystem = await host.open(C)
        host.directories.content(C).write(96 * GIB // 100)
        assert (await filesystem.sync()).free == 0
        host.adapters.full_threshold_percent = 1
        assert (await filesystem.sync()).free == GIB - 96 * GIB // 100

    play(story)


# Sync.


def test_a_sync_makes_durable_what_was_written_before_it_on_the_whole_volume() -> None:
    async def story(host: Host) -> None:
        filesystem = await host.open(A)
        before = [host.directories.content(path).write(1) for path in (A, B)]
        elsewhere = host.directories.content(C).write(1)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(filesystem.sync)
            # Nothing lasts less time than this, and a sync is more than one call.
            await trio.sleep(0.000_1)
            before.append(host.directories.content(A).write(1))
        assert all(file.durable for file in before)
        assert not elsewhere.durable

    play(story)


def test_what_is_written_while_the_volume_is_written_back_waits_for_the_next_sync() -> None:
    async def story(host: Host) -> None:
        filesystem = await host.open(A)
        calls = WriteBacks()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(filesystem.sync)
            await calls.first.wait()
            during = host.directories.content(A).write(1)
        assert not during.durable
        await filesystem.sync()
        assert during.durable

    play(story)


class WriteBacks(trio.abc.Instrument):
    """Counts the syncs that the system itself does."""

    def __init__(self) -> None:
        self.begun = 0
        self.first = trio.Event()
        trio.lowlevel.add_instrument(self)

    def task_spawned(self, task: trio.lowlevel.Task) -> None:
        if task.name.startswith("write-back"):
            self.begun += 1
            self.first.set()


def test_directories_of_one_volume_that_wait_share_a_sync() -> None:
    async def story(host: Host) -> None:
        filesystems = [await host.open(path) for path in (A, B, BLANK)]
        for filesystem in filesystems:
            await filesystem.sync()
        calls = WriteBacks()
        async with trio.open_nursery() as nursery:
            for filesystem in filesystems:
                nursery.start_soon(filesystem.sync)
        # The first one goes ahead, and the next one that begins serves them all.
        assert calls.begun == 2

    play(story)


def test_a_write_back_error_is_told_once_to_each_descriptor_that_was_open() -> None:
    async def story(host: Host) -> None:
        a, b = await host.open(A), await host.open(B)
        files = [host.directories.content(path).write(1) for path in (A, B)]
        await refused(a.sync, errno.EIO)
        host.faults.stop()
        later = await host.open(BLANK)
        assert all(file.lost and not file.betrayed for file in files)
        assert host.faults.hits[FaultKind.SYNC_ERROR] == 1
        await later.sync()
        await refused(b.sync, errno.EIO)

    play(story, FaultKind.SYNC_ERROR)


def test_after_an_error_a_directory_is_not_synced_until_it_is_opened_anew() -> None:
    async def story(host: Host) -> None:
        filesystem = await host.open(A)
        await refused(filesystem.sync, errno.EIO)
        host.faults.stop()
        file = host.directories.content(A).write(1)
        await refused(filesystem.sync, errno.EIO)
        assert not file.durable
        await filesystem.close()
        await filesystem.open(A)
        await filesystem.sync()
        assert file.durable

    play(story, FaultKind.SYNC_ERROR)


def test_an_error_does_not_undo_what_another_sync_has_done() -> None:
    async def story(host: Host) -> None:
        content = host.directories.content(A)
        file = content.write(1)
        early, late = content.begin_sync(), content.begin_sync()
        content.end_sync(early)
        content.fail_sync(late)
        content.betray(late)
        assert file.durable
        assert not file.lost
        assert not file.betrayed
        await trio.lowlevel.checkpoint()

    play(story)


def test_a_sync_that_lies() -> None:
    async def story(host: Host) -> None:
        filesystem = await host.open(A)
        await filesystem.sync()
        assert not host.faults.hits, "there was nothing to lie about"
        files = [host.directories.content(path).write(1) for path in (A, B)]
        await filesystem.sync()
        assert all(file.lost and file.betrayed and not file.durable for file in files)
        assert host.faults.hits[FaultKind.SYNC_LIE] == 1

    play(story, FaultKind.SYNC_LIE)


def test_a_sync_that_hangs_ends_once_all_is_mended() -> None:
    async def story(host: Host) -> None:
        filesystem = await host.open(A)
        file = host.directories.content(A).write(1)
        with trio.move_on_after(DEADLINE_S) as deadline:
            await filesystem.sync()
        assert deadline.cancelled_caught
        assert not file.durable
        host.directories.mend()
        await trio.sleep(10)
        assert file.durable, "what was given up goes on by itself"

    play(story, FaultKind.SYNC_HANG)


# What else goes wrong.


def test_statvfs_that_fails() -> None:
    async def story(host: Host) -> None:
        filesystem = await host.open(A)
        file = host.directories.content(A).write(1)
        await refused(filesystem.space, errno.EIO)
        await refused(filesystem.sync, errno.EIO)
        assert file.durable
        host.faults.stop()
        await filesystem.sync()

    play(story, FaultKind.STATVFS_ERROR)


def test_a_volume_that_is_full_early() -> None:
    async def story(host: Host) -> None:
        filesystem = await host.open(A)
        assert (await filesystem.sync()).free == 0
        assert host.directories.content(B).free == 0
        assert host.directories.content(C).free == GIB
        host.faults.stop()
        assert (await filesystem.space()) == Space(10 * GIB, 0)
        host.directories.mend()
        assert (await filesystem.space()).free == 10 * GIB

    play(story, FaultKind.EARLY_END)


def test_a_label_that_somebody_has_replaced() -> None:
    async def story(host: Host) -> None:
        filesystem = await host.open(A)
        for _ in range(2):
            await refused(lambda: filesystem.mount(medium(A)), errno.EINVAL)
        assert await filesystem.read_label() == WRONG_LABEL
        assert host.faults.hits[FaultKind.LABEL_MISMATCH] == 1
        host.faults.stop()
        await refused(lambda: filesystem.mount(medium(A)), errno.EINVAL)
        host.directories.mend()
        assert await filesystem.mount(medium(A)) == A

    play(story, FaultKind.LABEL_MISMATCH)


def test_mounts_and_unmounts_that_fail() -> None:
    async def story(host: Host) -> None:
        filesystem = await host.open(A)
        await refused(lambda: filesystem.mount(medium(A)), errno.EIO)
        await refused(filesystem.unmount, errno.EIO)
        host.faults.stop()
        await filesystem.mount(medium(A))
        await filesystem.unmount()

    play(story, FaultKind.MOUNT_FAILURE, FaultKind.UNMOUNT_FAILURE)


def test_a_mount_that_hangs_until_all_is_mended() -> None:
    async def story(host: Host) -> None:
        filesystem = await host.open(A)
        with trio.move_on_after(DEADLINE_S) as deadline:
            await filesystem.mount(medium(A))
        assert deadline.cancelled_caught
        async with trio.open_nursery() as nursery:
            nursery.start_soon(filesystem.mount, medium(A))
            await trio.sleep(DEADLINE_S)
            host.directories.mend()

    play(story, FaultKind.MOUNT_HANG)


def test_a_format_that_fails_before_or_after_it_has_labelled() -> None:
    async def story(host: Host) -> None:
        found = set()
        for path in (f"/data/new{number}" for number in range(20)):
            host.directories.add(path, volume=0, capacity=10 * GIB, label=None)
            filesystem = await host.open(path)
            await refused(partial(filesystem.format, medium(path)), errno.EIO)
            label = await filesystem.read_label()
            found.add(label == path)
            assert label in (path, None)
        assert found == {True, False}
        host.faults.stop()
        filesystem = await host.open("/data/new0")
        assert (await filesystem.format(medium("/data/new0"))).free

    play(story, FaultKind.FORMAT_FAILURE)


# The end of a process.


def test_a_killed_process_changes_nothing_any_more() -> None:
    async def story(host: Host) -> None:
        filesystem, blank = await host.open(A), await host.open(BLANK)
        file = host.directories.content(A).write(1)
        host.process.alive = False
        host.directories.kill()
        calls: list[Callable[[], Awaitable[object]]] = [
            filesystem.sync,
            filesystem.space,
            filesystem.unmount,
            lambda: filesystem.mount(medium(A)),
            lambda: blank.format(medium(BLANK)),
            lambda: host.unit(B).filesystem.open(B),
        ]
        for call in calls:
            with pytest.raises(ProcessKilledError):
                await call()
        assert not file.durable
        host.start()
        filesystem = await host.open(A)
        await filesystem.mount(medium(A))
        assert await (await host.open(BLANK)).read_label() is None
        await filesystem.sync()
        assert file.durable

    play(story)


def test_a_write_back_outlives_the_process_that_wanted_it() -> None:
    async def story(host: Host) -> None:
        filesystem = await host.open(A)
        file = host.directories.content(A).write(1)
        calls = WriteBacks()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(filesystem.sync)
            await calls.first.wait()
            host.process.alive = False
            host.directories.kill()
            nursery.cancel_scope.cancel()
        assert not file.durable
        await trio.sleep(10)
        assert file.durable

    play(story)


def test_a_power_cut_loses_some_of_what_was_not_synced() -> None:
    async def story(host: Host) -> None:
        filesystem, content = await host.open(A), host.directories.content(A)
        safe = content.write(1)
        await filesystem.sync()
        files = [content.write(1) for _ in range(100)]
        calls = WriteBacks()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(filesystem.sync)
            await calls.first.wait()
            host.process.alive = False
            host.directories.cut_power()
            nursery.cancel_scope.cancel()
        await trio.sleep(10)
        assert safe.durable
        assert all(file.durable is not file.lost for file in files)
        assert 0 < sum(file.lost for file in files) < 100
        assert content.used == content.files == 1 + sum(file.durable for file in files)

    play(story)


def test_a_power_cut_ends_the_write_backs() -> None:
    async def story(host: Host) -> None:
        filesystem = await host.open(A)
        with trio.move_on_after(1):
            await filesystem.sync()
        host.directories.cut_power()
        host.start()
        host.faults.stop()
        filesystem = await host.open(A)
        file = host.directories.content(A).write(1)
        host.directories.mend()
        await trio.sleep(10)
        assert not file.durable
        await filesystem.sync()
        assert file.durable

    play(story, FaultKind.SYNC_HANG)


# What must never be.


def test_a_sync_during_io_that_it_should_exclude() -> None:
    async def story(host: Host) -> None:
        filesystem, other = await host.open(A), await host.open(B)
        host.directories.content(A).users += 1
        await other.sync()
        assert not host.violations
        await filesystem.sync()
        assert f"{A}: a sync during I/O" in host.violations[0]

    play(story, excludes_io=True)


def test_io_that_begins_during_a_sync_that_excludes_it() -> None:
    async def story(host: Host) -> None:
        filesystem = await host.open(A)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(filesystem.sync)
            await trio.sleep(0.000_1)
            host.directories.content(A).users += 1
        assert f"{A}: a sync during I/O" in host.violations[0]

    play(story, excludes_io=True)


def test_io_may_go_on_where_it_is_not_excluded() -> None:
    async def story(host: Host) -> None:
        filesystem = await host.open(A)
        host.directories.content(A).users += 1
        await filesystem.sync()
        assert not host.violations

    play(story)


def test_a_daemon_does_not_know_of_the_io_that_its_predecessor_has_granted() -> None:
    async def story(host: Host) -> None:
        content = host.directories.content(A)
        content.users += 2
        host.process.alive = False
        host.directories.kill()
        host.start()
        filesystem = await host.open(A)
        await filesystem.sync()
        content.users -= 1
        await filesystem.sync()
        assert not host.violations
        content.users += 1
        await filesystem.sync()
        assert host.violations

    play(story, excludes_io=True)


def test_two_syncs_of_one_directory_at_once() -> None:
    async def story(host: Host) -> None:
        filesystem = await host.open(A)
        with trio.move_on_after(0.000_1):
            await filesystem.sync()
        await filesystem.sync()
        assert not host.violations, "the first one was given up"
        async with trio.open_nursery() as nursery:
            nursery.start_soon(filesystem.sync)
            nursery.start_soon(filesystem.sync)
        assert f"{A}: two syncs" in host.violations[0]

    play(story)


# Time.


def test_calls_take_milliseconds_and_sometimes_seconds() -> None:
    async def story(host: Host) -> None:
        filesystem = await host.open(A)
        taken = []
        for _ in range(1_000):
            began = trio.current_time()
            await filesystem.space()
            taken.append(trio.current_time() - began)
        assert min(taken) > 0
        assert sorted(taken)[900] < 0.02
        assert 0.1 < max(taken) <= 5

    play(story)
