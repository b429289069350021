"""The device task: adoption, exact wake-ups, grouped syncs, failures, and its end. All in virtual time."""

from __future__ import annotations

import errno
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

import pytest
import trio
from structlog.testing import capture_logs
from trio.testing import MockClock, wait_all_tasks_blocked

from lrs_trio.devices.device import DeviceTask
from lrs_trio.devices.grant import GrantState
from lrs_trio.devices.life import DeviceStatus
from lrs_trio.devices.ownership import LOOK_AGAIN_S
from lrs_trio.devices.state import FormatJob
from lrs_trio.devices.to_sync import SyncStatus
from lrs_trio.dss.operations import MediumRow, ReleaseLock, SetDeviceStatus, UpdateMedia
from lrs_trio.errors import LrsError
from lrs_trio.events import EventKind
from lrs_trio.model import AdmStatus, FsStatus, LockOwner, LockType, RequestKind, lock_id
from tests.fakes.site import (
    DAEMON,
    HOST,
    Holder,
    Site,
    device_id,
    family_settings,
    grant_on,
    medium_id,
    run_virtual,
    waiter,
)
from tests.processes import child

A = "/srv/a"
ELSEWHERE = LockOwner("store2", 4711)


@pytest.fixture
def site() -> Site:
    return Site()


def settled_books(device: DeviceTask, count: int) -> None:
    """What a release does once its books are committed."""
    for _ in range(count):
        device.release_settled(counted=True)


@pytest.fixture
def living() -> Iterator[subprocess.Popen[bytes]]:
    """A process that lives until its input is closed."""
    with child([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield process


@pytest.fixture
def dead_pid() -> int:
    """The pid that a process had."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


# Adoption.


@pytest.mark.note("4.1")
async def test_a_labelled_directory_is_mounted_and_its_locks_are_taken(site: Site, autojump_clock: MockClock) -> None:
    disk = site.add(A, total=1000)
    disk.capacity.used = 300
    device = site.device(A)
    async with site.running(device):
        assert device.state.status is DeviceStatus.MOUNTED
        assert device.root == A
        assert device.medium_id == medium_id(A)
        assert device.state.volume.free == 700
        assert {key: lock.owner for key, lock in site.dss.locks.items()} == {
            (LockType.DEVICE, lock_id(device_id(A))): DAEMON,
            (LockType.MEDIA, lock_id(medium_id(A))): DAEMON,
        }


async def test_a_blank_directory_is_loaded_and_not_mounted(site: Site, autojump_clock: MockClock) -> None:
    disk = site.add(A, fs_status=FsStatus.BLANK)
    device = site.device(A)
    async with site.running(device):
        assert device.state.status is DeviceStatus.LOADED
        assert disk.times("mount") == []


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        pytest.param(lambda site: site.dss.media.clear(), errno.ENXIO, id="medium-unknown"),
        pytest.param(lambda site: setattr(site.disks[device_id(A)], "present", False), errno.ENOMEDIUM, id="empty"),
        pytest.param(lambda site: setattr(site.disks[device_id(A)], "label", "other"), errno.EINVAL, id="other-label"),
        pytest.param(lambda site: site.disks[device_id(A)].fail("query", errno.ENOENT), errno.ENOENT, id="gone"),
        pytest.param(lambda site: site.disks[device_id(A)].fail("open", errno.EACCES), errno.EACCES, id="closed"),
    ],
)
async def test_a_device_that_cannot_be_adopted_is_refused_without_blame(
    site: Site, autojump_clock: MockClock, spoil: Callable[[Site], None], expected: int
) -> None:
    site.add(A)
    spoil(site)
    device = site.device(A)
    async with site.running(device):
        await device.ended.wait()
        assert device.state.status is DeviceStatus.FAILED
        assert device.state.error is not None
        assert device.state.error.errno == expected
        assert not device.state.serving
    assert site.dss.locks == {}
    assert site.device_row(A).adm_status is AdmStatus.UNLOCKED
    assert site.dss.updates() == []


@pytest.mark.parametrize("locked", [LockType.DEVICE, LockType.MEDIA])
@pytest.mark.parametrize("weak", [False, True])
async def test_a_lock_of_another_host_is_waited_for_and_stays(
    site: Site, autojump_clock: MockClock, locked: LockType, weak: bool
) -> None:
    site.add(A)
    resource = device_id(A) if locked is LockType.DEVICE else medium_id(A)
    lock = site.dss.add_lock(locked, resource, ELSEWHERE, is_weak=weak)
    device = site.device(A)
    with capture_logs() as lines:
        async with site.running(device):
            await trio.sleep(10 * LOOK_AGAIN_S)
            assert device.state.status is DeviceStatus.WAITING
            assert (device.waiting_for, device.awaited) == (str(ELSEWHERE), resource)
            assert not device.state.serving
            device.stop()
            await device.ended.wait()
    assert list(site.dss.locks.values()) == [lock]
    assert [line["holder"] for line in lines if line["event"] == "device waits for a lock"] == [str(ELSEWHERE)]


@pytest.mark.parametrize("locked", [LockType.DEVICE, LockType.MEDIA])
async def test_a_device_is_adopted_soon_after_another_host_has_let_go(
    site: Site, autojump_clock: MockClock, locked: LockType
) -> None:
    site.add(A)
    resource = device_id(A) if locked is LockType.DEVICE else medium_id(A)
    lock = site.dss.add_lock(locked, resource, ELSEWHERE)
    adopted = trio.Event()
    device = site.device(A, changed=adopted.set)
    async with site.running(device):
        await trio.sleep(100)
        del site.dss.locks[lock.type, lock.id]
        with trio.fail_after(LOOK_AGAIN_S + 0.001):
            await adopted.wait()
        assert device.state.serving
        assert (device.waiting_for, device.awaited) == ("", None)
        assert {held.owner for held in site.dss.locks.values()} == {DAEMON}


async def test_a_device_that_waits_for_another_host_looks_when_it_is_asked(
    site: Site, autojump_clock: MockClock
) -> None:
    site.add(A)
    lock = site.dss.add_lock(LockType.MEDIA, medium_id(A), ELSEWHERE)
    device = site.device(A)
    async with site.running(device):
        await trio.sleep(LOOK_AGAIN_S / 2)
        begun = trio.current_time()
        await device.look_again()
        assert device.awaited == medium_id(A)
        del site.dss.locks[lock.type, lock.id]
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(device.look_again)
        assert device.state.serving
        await device.look_again()
        assert trio.current_time() == begun


async def test_who_asked_a_waiting_device_to_look_learns_that_it_is_stopped(
    site: Site, autojump_clock: MockClock
) -> None:
    site.add(A)
    site.dss.add_lock(LockType.MEDIA, medium_id(A), ELSEWHERE)
    device = site.device(A)
    async with site.running(device):
        site.dss.delay = lambda: 60.0
        async with trio.open_nursery() as nursery:
            nursery.start_soon(device.look_again)
            await trio.sleep(1)
            device.stop()
        await device.ended.wait()
    assert device.state.status is DeviceStatus.STOPPED


async def test_only_a_device_that_waits_wakes_up_by_itself(site: Site, autojump_clock: MockClock) -> None:
    site.add(A)
    async with site.running(site.device(A)):
        before = len(site.dss.committed)
        await trio.sleep(1000 * LOOK_AGAIN_S)
        assert len(site.dss.committed) == before


async def test_a_lock_that_a_dead_process_left_is_replaced(
    site: Site, autojump_clock: MockClock, dead_pid: int
) -> None:
    site.add(A)
    for kind, resource in ((LockType.DEVICE, device_id(A)), (LockType.MEDIA, medium_id(A))):
        site.dss.add_lock(kind, resource, LockOwner(HOST, dead_pid), timestamp=time.time())
    device = site.device(A)
    async with site.running(device):
        assert device.state.serving
        assert {lock.owner for lock in site.dss.locks.values()} == {DAEMON}


async def test_a_weak_lock_of_this_host_is_taken_over(site: Site, autojump_clock: MockClock) -> None:
    site.add(A)
    site.dss.add_lock(LockType.MEDIA, medium_id(A), LockOwner(HOST, 1), is_weak=True)
    device = site.device(A)
    async with site.running(device):
        assert device.state.serving
        assert {lock.owner for lock in site.dss.locks.values()} == {DAEMON}


async def test_a_device_waits_for_a_living_owner_and_then_serves(site: Site, living: subprocess.Popen[bytes]) -> None:
    """On the real clock: the owner is a real process."""
    site.add(A)
    site.dss.add_lock(LockType.DEVICE, device_id(A), LockOwner(HOST, living.pid), timestamp=time.time())
    adopted = trio.Event()
    device = site.device(A, changed=adopted.set)
    async with site.running(device):
        assert device.state.status is DeviceStatus.WAITING
        assert str(living.pid) in device.waiting_for
        assert not device.state.serving
        assert living.stdin is not None
        living.stdin.close()
        with trio.fail_after(30):
            await adopted.wait()
        assert device.state.serving
        assert device.waiting_for == ""


async def test_a_device_that_waits_for_an_owner_can_be_stopped(site: Site, living: subprocess.Popen[bytes]) -> None:
    """On the real clock: the owner is a real process, which keeps its lock."""
    site.add(A)
    lock = site.dss.add_lock(LockType.DEVICE, device_id(A), LockOwner(HOST, living.pid), timestamp=time.time())
    device = site.device(A)
    async with site.running(device):
        device.stop()
        with trio.fail_after(30):
            await device.ended.wait()
    assert list(site.dss.locks.values()) == [lock]


async def test_a_device_stopped_before_it_runs_ends_at_once(site: Site, autojump_clock: MockClock) -> None:
    site.add(A)
    device = site.device(A)
    device.stop()
    async with site.running(device):
        await device.ended.wait()
    assert device.state.status is DeviceStatus.STOPPED
    assert site.dss.locks == {}


async def test_nothing_is_promised_on_a_device_before_its_medium_is_mounted(
    site: Site, autojump_clock: MockClock
) -> None:
    """Found by the simulation, seed 328: what was promised meanwhile was never answered when the mount failed."""
    disk = site.add(A)
    disk.seconds["mount"] = 60.0
    device = site.device(A)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(device.run)
        await trio.sleep(5)
        assert not device.state.serving
        await trio.sleep(60)
        assert device.state.serving
        assert device.space == disk.capacity.space
        device.stop()


async def test_a_device_whose_unmount_fails_lets_go_of_its_medium(site: Site, autojump_clock: MockClock) -> None:
    disk = site.add(A)
    disk.fail("unmount", errno.EIO)
    device = site.device(A)
    async with site.running(device):
        device.stop()
        await device.ended.wait()
    assert (disk.is_mounted, disk.is_open) == (True, False)
    assert site.dss.locks == {}


async def test_a_device_stopped_while_it_is_adopted_gives_its_locks_back(site: Site, autojump_clock: MockClock) -> None:
    disk = site.add(A)
    disk.seconds["open"] = 60.0
    device = site.device(A)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(device.run)
        await trio.sleep(5)
        assert site.dss.locks
        device.stop()
        await device.ended.wait()
        assert trio.current_time() < 10
    assert site.dss.locks == {}


# When a sync happens.


class StepsOf(trio.abc.Instrument):
    """Counts how often a task was given its turn."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.steps = 0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.steps += self.name in task.name


@pytest.mark.note("3.0", "4.5", "4.6")
async def test_the_task_wakes_up_at_the_deadline_and_not_before(site: Site, autojump_clock: MockClock) -> None:
    disk = site.add(A)
    device = site.device(A, family_settings(age_ms=7_000))
    async with site.running(device):
        await trio.sleep(3)
        first = waiter()
        device.add_release(first.sub, at_once=False)
        begun = trio.current_time()
        await trio.sleep(1)
        counting = StepsOf("DeviceTask.run")
        trio.lowlevel.add_instrument(counting)
        await trio.sleep_until(begun + 6.999)
        assert counting.steps == 0
        assert disk.times("sync") == []
        await trio.sleep(10)
        trio.lowlevel.remove_instrument(counting)
        assert disk.times("sync") == [pytest.approx(begun + 7, abs=1e-9)]
        assert first.settled == disk.times("sync")


@pytest.mark.note("4.6")
async def test_an_idle_device_never_wakes_up(site: Site, autojump_clock: MockClock) -> None:
    site.add(A)
    device = site.device(A)
    async with site.running(device):
        await wait_all_tasks_blocked()
        counting = StepsOf("DeviceTask.run")
        trio.lowlevel.add_instrument(counting)
        await trio.sleep(86_000)
        trio.lowlevel.remove_instrument(counting)
        assert counting.steps == 0
        device.add_release(waiter().sub, at_once=True)
        trio.lowlevel.add_instrument(counting)
        await trio.sleep(1)
        trio.lowlevel.remove_instrument(counting)
        assert counting.steps > 0


@pytest.mark.note("2.5b", "2.5d", "3.0")
async def test_one_sync_serves_all_that_wait(site: Site, autojump_clock: MockClock) -> None:
    disk = site.add(A)
    device = site.device(A, family_settings(age_ms=1000, requests=100))
    async with site.running(device):
        begun = trio.current_time()
        waiters = [waiter(size) for size in (10, 0, -5, 20)]
        for one in waiters:
            device.add_release(one.sub, at_once=False)
            await trio.sleep(0.1)
        await trio.sleep(10)
        assert disk.times("sync") == [pytest.approx(begun + 1.0)]
        assert [one.settled for one in waiters] == [disk.times("sync")] * 4
        assert device.state.unsettled == 4


@pytest.mark.note("3.1")
async def test_the_count_threshold_syncs_at_once(site: Site, autojump_clock: MockClock) -> None:
    disk = site.add(A)
    device = site.device(A, family_settings(age_ms=1_000_000, requests=3))
    async with site.running(device):
        for expected in (0, 0, 1):
            device.add_release(waiter().sub, at_once=False)
            await trio.sleep(1)
            assert len(disk.times("sync")) == expected


@pytest.mark.note("3.2")
async def test_the_size_threshold_syncs_at_once(site: Site, autojump_clock: MockClock) -> None:
    disk = site.add(A)
    device = site.device(A, family_settings(age_ms=1_000_000, size=1000))
    async with site.running(device):
        for size, expected in ((600, 0), (-300, 0), (699, 0), (1, 1)):
            device.add_release(waiter(size).sub, at_once=False)
            await trio.sleep(1)
            assert len(disk.times("sync")) == expected


@pytest.mark.note("2.5d")
async def test_what_comes_during_a_sync_waits_for_the_next_one(site: Site, autojump_clock: MockClock) -> None:
    disk = site.add(A)
    disk.seconds["sync"] = 5.0
    device = site.device(A, family_settings(requests=1))
    async with site.running(device):
        begun = trio.current_time()
        early, late = waiter(), waiter()
        device.add_release(early.sub, at_once=False)
        await trio.sleep(1)
        device.add_release(late.sub, at_once=False)
        await trio.sleep(30)
        assert disk.times("sync") == [pytest.approx(begun), pytest.approx(begun + 5)]
        assert early.settled == [pytest.approx(begun + 5)]
        assert late.settled == [pytest.approx(begun + 10)]


@pytest.mark.note("2.5c", "4.4")
@pytest.mark.parametrize(("sync_while_io", "waits"), [(True, 0.0), (False, 20.0)])
async def test_a_due_sync_waits_for_io_only_where_it_excludes_it(
    site: Site, autojump_clock: MockClock, sync_while_io: bool, waits: float
) -> None:
    disk = site.add(A)
    device = site.device(A, family_settings(requests=1, sync_while_io=sync_while_io))
    async with site.running(device):
        held = grant_on(device)
        device.plan(held, site.medium(A))
        await wait_all_tasks_blocked()
        assert held.state is GrantState.READY
        device.move_grant(held, GrantState.ONGOING)
        begun = trio.current_time()
        device.add_release(waiter().sub, at_once=False)
        await trio.sleep(20)
        device.end_grant(held, dirty=False)
        await trio.sleep(20)
        assert disk.times("sync") == [pytest.approx(begun + waits)]


@pytest.mark.note("2.5f", "9")
async def test_nothing_is_made_ready_while_an_exclusive_sync_runs(site: Site, autojump_clock: MockClock) -> None:
    disk = site.add(A)
    disk.seconds["sync"] = 5.0
    device = site.device(A, family_settings(requests=1, sync_while_io=False))
    async with site.running(device):
        device.add_release(waiter().sub, at_once=False)
        await trio.sleep(1)
        holder = Holder()
        device.plan(grant_on(device, holder=holder), site.medium(A))
        await trio.sleep(3)
        assert holder.ready == []
        await trio.sleep(3)
        assert len(holder.ready) == 1


@pytest.mark.note("9")
async def test_a_sync_that_excluded_io_says_when_it_is_over(site: Site, autojump_clock: MockClock) -> None:
    disk = site.add(A)
    disk.seconds["sync"] = 5.0
    device = site.device(A, family_settings(requests=1, sync_while_io=False))
    async with site.running(device):
        holder = Holder()
        device.plan(grant_on(device, holder=holder), site.medium(A))
        await wait_all_tasks_blocked()
        device.add_release(waiter().sub, at_once=False)
        await trio.sleep(1)
        assert len(holder.ready) == 1
        assert device.state.excludes_io
        await trio.sleep(5)
        assert len(holder.ready) == 2
        assert not device.state.excludes_io


async def test_a_dirty_medium_is_synced_at_the_age_threshold(site: Site, autojump_clock: MockClock) -> None:
    disk = site.add(A, total=1000)
    device = site.device(A, family_settings(age_ms=4_000))
    async with site.running(device):
        held = grant_on(device)
        device.plan(held, site.medium(A))
        await wait_all_tasks_blocked()
        device.move_grant(held, GrantState.ONGOING)
        disk.write(400)
        begun = trio.current_time()
        device.end_grant(held, dirty=True)
        await trio.sleep(100)
        assert disk.times("sync") == [pytest.approx(begun + 4)]
        medium = site.medium(A)
        assert (medium.fs_status, medium.stats.phys_spc_used, medium.stats.phys_spc_free) == (FsStatus.USED, 400, 600)
        assert (medium.stats.nb_obj, medium.stats.logc_spc_used) == (0, 0)


@pytest.mark.note("4.4")
async def test_a_cancelled_release_is_dropped_and_the_others_are_served(site: Site, autojump_clock: MockClock) -> None:
    disk = site.add(A)
    device = site.device(A, family_settings(age_ms=1000))
    async with site.running(device):
        cancelled, kept = waiter(), waiter()
        device.add_release(cancelled.sub, at_once=False)
        device.add_release(kept.sub, at_once=False)
        device.cancel_release(cancelled.sub)
        await trio.sleep(10)
        assert (cancelled.settled, len(kept.settled), len(disk.times("sync"))) == ([], 1, 1)
        assert device.state.unsettled == 1


@pytest.mark.note("4.4")
async def test_a_release_cancelled_during_its_sync_is_not_counted(site: Site, autojump_clock: MockClock) -> None:
    disk = site.add(A)
    disk.seconds["sync"] = 5.0
    device = site.device(A, family_settings(requests=1))
    async with site.running(device):
        cancelled = waiter()
        device.add_release(cancelled.sub, at_once=False)
        await trio.sleep(1)
        device.cancel_release(cancelled.sub)
        await trio.sleep(30)
        assert cancelled.settled == []
        assert cancelled.sub.status is SyncStatus.CANCELLED
        assert device.state.unsettled == 0
        assert len(disk.times("sync")) == 1
        assert site.medium(A).fs_status is FsStatus.USED
        assert site.medium(A).stats.nb_obj == 0


async def test_statvfs_corrects_the_estimate(site: Site, autojump_clock: MockClock) -> None:
    disk = site.add(A, total=1000)
    device = site.device(A, family_settings(age_ms=1000))
    async with site.running(device):
        disk.write(300)
        device.add_release(waiter(size=200).sub, at_once=False)
        assert device.state.volume.free == 800
        await trio.sleep(2)
        assert device.state.volume.free == 700


async def test_a_volume_that_two_directories_share_has_one_free_space(site: Site, autojump_clock: MockClock) -> None:
    first = site.add(A, total=1000)
    site.add("/srv/b", shares=first)
    device, sibling = site.device(A), site.device("/srv/b")
    async with site.running(device, sibling):
        assert device.state.volume is sibling.state.volume
        device.plan(grant_on(device, size=300), site.medium(A))
        assert sibling.state.volume.available == 700


def causes(site: Site) -> list[str]:
    return [event.detail for event in site.seen if event.kind is EventKind.SYNC_STARTED]


async def test_what_each_sync_was_started_for_is_told(site: Site, autojump_clock: MockClock) -> None:
    disk = site.add(A)
    device = site.device(A, family_settings(age_ms=5_000, requests=2, adaptive=True))
    async with site.running(device):
        device.add_release(waiter().sub, at_once=False)
        await trio.sleep(1)
        company = grant_on(device)
        device.plan(company, site.medium(A))
        device.add_release(waiter().sub, at_once=False)
        await trio.sleep(10)
        for _ in range(2):
            device.add_release(waiter().sub, at_once=False)
        await trio.sleep(1)
        device.add_release(waiter().sub, at_once=True)
        await trio.sleep(1)
        device.add_release(waiter().sub, at_once=False)
        device.end_grant(company, dirty=False)
        await trio.sleep(1)
    assert disk.times("sync") == [0, 6, 11, 12, 13]
    assert causes(site) == ["alone", "time", "requests", "partial", "alone"]


# A sync that fails.


async def make_failing(site: Site, nursery: trio.Nursery, *, sync_while_io: bool = True, **more: Any) -> DeviceTask:
    site.add(A)
    site.disks[device_id(A)].fail("sync", errno.EIO)
    device = site.device(A, family_settings(age_ms=1000, sync_while_io=sync_while_io, **more))
    await nursery.start(device.run)
    return device


@pytest.mark.note("2.5d")
async def test_a_failing_sync_fails_every_waiting_release_once_and_blames(
    site: Site, autojump_clock: MockClock
) -> None:
    async with trio.open_nursery() as nursery:
        device = await make_failing(site, nursery)
        waiters = [waiter() for _ in range(3)]
        for one in waiters:
            device.add_release(one.sub, at_once=False)
        await device.ended.wait()
    assert [len(one.settled) for one in waiters] == [1, 1, 1]
    assert {one.sub.status for one in waiters} == {SyncStatus.ERROR}
    assert {one.sub.error.errno for one in waiters if one.sub.error} == {errno.EIO}
    assert site.medium(A).adm_status is AdmStatus.FAILED
    assert site.device_row(A).adm_status is AdmStatus.FAILED
    assert site.medium(A).stats.nb_obj == 0
    assert site.dss.locks == {}
    assert device.state.status is DeviceStatus.FAILED
    assert device.medium is not None
    assert device.medium.adm_status is AdmStatus.FAILED


@pytest.mark.note("2.5d")
async def test_nobody_is_told_of_a_failure_before_the_dss_knows_it(site: Site, autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        device = await make_failing(site, nursery)
        early, late = waiter(), waiter()
        device.add_release(early.sub, at_once=True)
        site.dss.delay = lambda: 3.0
        await trio.sleep(1)
        device.add_release(late.sub, at_once=False)
        await device.ended.wait()
    known = max(when for when, op in site.dss.committed if isinstance(op, UpdateMedia | SetDeviceStatus))
    assert known == pytest.approx(6.0)
    assert (early.settled, late.settled) == ([known], [known])


async def test_a_failing_sync_hands_back_what_is_planned_and_leaves_what_is_ongoing(
    site: Site, autojump_clock: MockClock
) -> None:
    async with trio.open_nursery() as nursery:
        device = await make_failing(site, nursery)
        holders = [Holder() for _ in range(3)]
        grants = [grant_on(device, size=10, holder=holder) for holder in holders]
        for grant in grants:
            device.plan(grant, site.medium(A))
        await wait_all_tasks_blocked()
        device.move_grant(grants[0], GrantState.ONGOING)
        device.move_grant(grants[1], GrantState.RESERVED)
        device.add_release(waiter().sub, at_once=True)
        await device.ended.wait()
        assert [len(holder.failed) for holder in holders] == [0, 0, 1]
        assert device.state.grants == {grants[0], grants[1]}
        assert device.state.volume.reserved == 20
        late = waiter()
        device.end_grant(grants[0], dirty=False)
        device.add_release(late.sub, at_once=False)
        assert (late.sub.status, len(late.settled)) == (SyncStatus.ERROR, 1)


async def test_a_device_with_health_left_is_not_set_to_failed(site: Site, autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        device = await make_failing(site, nursery, max_health=2)
        device.add_release(waiter().sub, at_once=True)
        await device.ended.wait()
    assert site.medium(A).adm_status is AdmStatus.FAILED
    assert site.device_row(A).adm_status is AdmStatus.UNLOCKED


async def test_a_statvfs_that_fails_after_the_sync_fails_it(site: Site, autojump_clock: MockClock) -> None:
    site.add(A).fail("space", None, errno.EIO)
    device = site.device(A)
    async with site.running(device):
        one = waiter()
        device.add_release(one.sub, at_once=True)
        await device.ended.wait()
    assert one.sub.status is SyncStatus.ERROR
    assert site.medium(A).adm_status is AdmStatus.FAILED


async def test_every_physical_sync_leaves_a_line_for_those_who_debug(site: Site, autojump_clock: MockClock) -> None:
    site.add(A).fail("sync", None, errno.EIO)
    device = site.device(A)
    with capture_logs() as lines:
        async with site.running(device):
            for _ in range(2):
                device.add_release(waiter().sub, at_once=False)
                device.add_release(waiter().sub, at_once=True)
                await trio.sleep(1)
                settled_books(device, 2)
    debugging = [line["event"] for line in lines if line["log_level"] == "debug"]
    assert debugging == [f"sync: medium={A} rc=0", f"sync: medium={A} rc=-{errno.EIO}"]


async def test_a_sync_that_takes_too_long_fails_with_etimedout(site: Site, autojump_clock: MockClock) -> None:
    disk = site.add(A)
    disk.seconds["sync"] = 1e6
    device = site.device(A, family_settings(operation_timeout_s=50.0))
    async with site.running(device):
        one = waiter()
        begun = trio.current_time()
        device.add_release(one.sub, at_once=True)
        await device.ended.wait()
    assert one.sub.error is not None
    assert one.sub.error.errno == errno.ETIMEDOUT
    assert one.settled == [pytest.approx(begun + 50)]


async def test_a_mount_that_fails_gives_the_grant_back(site: Site, autojump_clock: MockClock) -> None:
    disk = site.add(A, fs_status=FsStatus.BLANK)
    device = site.device(A)
    async with site.running(device):
        disk.fail("mount", errno.EIO)
        holder = Holder()
        device.plan(grant_on(device, holder=holder), site.medium(A))
        await device.ended.wait()
        assert [error.errno for _, error in holder.failed] == [errno.EIO]
        assert (len(device.state.grants), device.state.volume.reserved) == (0, 0)


# Leaving.


@pytest.mark.note("11", "2.5f", "4.4")
async def test_a_stop_waits_syncs_unmounts_and_gives_the_locks_back_in_that_order(
    site: Site, autojump_clock: MockClock
) -> None:
    disk = site.add(A)
    disk.seconds.update(sync=2.0, unmount=1.0)
    device = site.device(A, family_settings(age_ms=1_000_000, sync_while_io=False))
    async with site.running(device):
        held = grant_on(device)
        device.plan(held, site.medium(A))
        await wait_all_tasks_blocked()
        device.move_grant(held, GrantState.ONGOING)
        one = waiter()
        device.add_release(one.sub, at_once=False)
        device.stop()
        await trio.sleep(10)
        assert disk.times("sync") == []
        device.end_grant(held, dirty=False)
        await trio.sleep(5)
        assert len(one.settled) == 1
        assert disk.times("unmount") == []
        device.release_settled(counted=True)
        await device.ended.wait()
    order = [name for _, name in disk.ends if name in ("sync", "unmount", "close")]
    assert order == ["sync", "unmount", "close"]
    released = [(when, op.type) for when, op in site.dss.committed if isinstance(op, ReleaseLock)]
    assert [kind for _, kind in released] == [LockType.MEDIA, LockType.DEVICE]
    assert all(when >= disk.ends[-1][0] for when, _ in released)
    assert (device.state.status, site.dss.locks) == (DeviceStatus.STOPPED, {})
    assert site.seen[-1].kind is EventKind.DEVICE_REMOVED


@pytest.mark.note("11")
async def test_a_stop_syncs_a_dirty_medium_first(site: Site, autojump_clock: MockClock) -> None:
    disk = site.add(A)
    device = site.device(A, family_settings(age_ms=1_000_000))
    async with site.running(device):
        held = grant_on(device)
        device.plan(held, site.medium(A))
        await wait_all_tasks_blocked()
        device.move_grant(held, GrantState.ONGOING)
        device.end_grant(held, dirty=True)
        device.stop()
        await device.ended.wait()
    assert [name for _, name in disk.ends][-4:] == ["sync", "space", "unmount", "close"]
    assert site.medium(A).fs_status is FsStatus.USED


async def test_an_unmount_that_fails_still_ends_the_device(site: Site, autojump_clock: MockClock) -> None:
    site.add(A).fail("unmount", errno.EBUSY)
    device = site.device(A)
    async with site.running(device):
        device.stop()
        await device.ended.wait()
    assert site.dss.locks == {}
    assert EventKind.UNMOUNT_FAILED in [event.kind for event in site.seen]


@pytest.mark.note("11")
async def test_a_device_ends_only_when_the_dss_has_its_locks_back(site: Site, autojump_clock: MockClock) -> None:
    site.add(A)
    device = site.device(A)
    async with site.running(device):
        site.dss.go_away()
        device.stop()
        await trio.sleep(1000)
        assert not device.ended.is_set()
        site.dss.come_back()
        await device.ended.wait()
    assert site.dss.locks == {}


# Formats.


class FormatOutcome:
    def __init__(self) -> None:
        self.said: list[str | int | None] = []

    def formatted(self) -> None:
        self.said.append("formatted")

    def format_failed(self, error: OSError) -> None:
        self.said.append(error.errno)

    def format_displaced(self, error: OSError) -> None:
        self.said.append("displaced")


@pytest.mark.note("5.1", "5.2", "5.3")
@pytest.mark.parametrize("unlock", [True, False])
async def test_a_format_labels_and_accounts(site: Site, autojump_clock: MockClock, unlock: bool) -> None:
    disk = site.add(A, total=1000, fs_status=FsStatus.BLANK, medium_status=AdmStatus.LOCKED)
    disk.seconds["format"] = 60.0
    device, outcome = site.device(A), FormatOutcome()
    async with site.running(device):
        device.plan_format(FormatJob(site.medium(A), unlock, outcome))
        await trio.sleep(30)
        assert outcome.said == []
        await trio.sleep(40)
        assert outcome.said == ["formatted"]
        medium = site.medium(A)
        assert (medium.fs_status, medium.fs_label, medium.stats.phys_spc_free) == (FsStatus.EMPTY, A, 1000)
        assert medium.adm_status is (AdmStatus.UNLOCKED if unlock else AdmStatus.LOCKED)
        assert device.medium == medium
        assert device.state.serving
        holder = Holder()
        device.plan(grant_on(device, holder=holder), site.medium(A))
        await trio.sleep(1)
        assert len(holder.ready) == 1
        assert device.state.status is DeviceStatus.MOUNTED


@pytest.mark.note("5.1")
@pytest.mark.parametrize("number", [errno.EEXIST, errno.EACCES])
async def test_a_format_that_the_site_forbids_blames_nobody(site: Site, autojump_clock: MockClock, number: int) -> None:
    site.add(A, fs_status=FsStatus.BLANK).fail("format", number)
    device, outcome = site.device(A), FormatOutcome()
    async with site.running(device):
        device.plan_format(FormatJob(site.medium(A), unlock=False, holder=outcome))
        await trio.sleep(1)
        assert outcome.said == [number]
        assert device.state.serving
        assert device.state.idle
        assert site.medium(A).adm_status is AdmStatus.UNLOCKED


@pytest.mark.note("5.1")
async def test_a_format_that_breaks_fails_medium_and_device(site: Site, autojump_clock: MockClock) -> None:
    site.add(A, fs_status=FsStatus.BLANK).fail("format", errno.EIO)
    device, outcome = site.device(A), FormatOutcome()
    async with site.running(device):
        device.plan_format(FormatJob(site.medium(A), unlock=False, holder=outcome))
        await device.ended.wait()
    assert outcome.said == [errno.EIO]
    assert site.medium(A).adm_status is AdmStatus.FAILED
    assert site.device_row(A).adm_status is AdmStatus.FAILED


@pytest.mark.note("5.3")
async def test_a_due_sync_comes_between_two_actions(site: Site, autojump_clock: MockClock) -> None:
    disk = site.add(A)
    device = site.device(A, family_settings(requests=1, sync_while_io=False))
    async with site.running(device):
        holder = Holder()
        device.add_release(waiter().sub, at_once=False)
        device.plan(grant_on(device, RequestKind.READ, holder=holder), site.medium(A))
        assert holder.ready == []
        await trio.sleep(1)
        assert disk.times("sync") == [0.0]
        assert len(holder.ready) == 1


# Any order.


@pytest.mark.note("2.5d", "4.2", "4.3")
@pytest.mark.parametrize("sync_while_io", [True, False])
def test_every_release_is_settled_once_whatever_the_order(sync_while_io: bool) -> None:
    async def scenario(seed: int) -> None:
        random, site = Random(seed), Site()
        disk = site.add(A)
        disk.jitter = lambda: random.choice((0.0, 0.001, random.random()))
        if random.random() < 0.5:
            disk.fail("sync", *[None] * random.randrange(5), errno.EIO)
        device = site.device(A, family_settings(age_ms=500, requests=4, sync_while_io=sync_while_io))
        waiters = [waiter(random.randrange(-50, 200)) for _ in range(20)]
        cancelled = set(random.sample(range(20), 5))

        async def release(number: int) -> None:
            await trio.sleep(random.random() * 5)
            one = waiters[number]
            device.add_release(one.sub, at_once=random.random() < 0.2)
            if number in cancelled:
                await trio.sleep(random.random())
                device.cancel_release(one.sub)

        async with trio.open_nursery() as devices:
            await devices.start(device.run)
            async with trio.open_nursery() as clients:
                for number in range(20):
                    clients.start_soon(release, number)
            await trio.sleep(100)
            done = [one for one in waiters if one.sub.status is SyncStatus.DONE]
            assert device.state.unsettled == len(done)
            settled_books(device, len(done))
            device.stop()
        for number, one in enumerate(waiters):
            assert len(one.settled) == (0 if one.sub.status is SyncStatus.CANCELLED else 1)
            assert one.sub.status is not SyncStatus.CANCELLED or number in cancelled
        assert site.dss.locks == {}
        failed = device.state.error is not None
        assert failed == any(one.sub.status is SyncStatus.ERROR for one in waiters)
        assert site.medium(A).adm_status is (AdmStatus.FAILED if failed else AdmStatus.UNLOCKED)

    for seed in range(20):
        run_virtual(scenario, seed)


async def test_an_error_in_words_names_the_directory_and_what_to_do(site: Site, autojump_clock: MockClock) -> None:
    site.add(A)
    device = site.device(A)
    async with site.running(device):
        device.medium_read(MediumRow(site.medium(A), site.dss.add_lock(LockType.MEDIA, medium_id(A), ELSEWHERE)))
    assert isinstance(device.state.withheld, LrsError)
    assert A in str(device.state.withheld)
    assert "store2" in str(device.state.withheld)
