"""What a device does when somebody else changes, deletes or locks its medium in the DSS."""

from __future__ import annotations

import errno
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
import trio
import trio.testing
from structlog.testing import capture_logs
from trio.testing import MockClock

from lrs_trio.devices.device import DeviceTask
from lrs_trio.devices.grant import Grant
from lrs_trio.devices.life import DeviceStatus
from lrs_trio.dss.operations import MediumRow, TakeLock
from lrs_trio.errors import LrsError
from lrs_trio.model import AdmStatus, FsStatus, LockOwner, LockType, lock_id
from tests.fakes.site import DAEMON, HOST, Site, device_id, grant_on, medium_id, waiter
from tests.processes import child

A = "/srv/a"
ELSEWHERE = LockOwner("store2", 4711)
DEVICE_KEY = LockType.DEVICE, lock_id(device_id(A))
MEDIUM_KEY = LockType.MEDIA, lock_id(medium_id(A))


@asynccontextmanager
async def adopted() -> AsyncIterator[tuple[Site, DeviceTask]]:
    site = Site()
    site.add(A)
    device = site.device(A)
    async with site.running(device):
        assert device.state.serving
        yield site, device


def read(site: Site, device: DeviceTask) -> bool:
    """What the family does with what it has read."""
    return device.medium_read(MediumRow(site.medium(A), site.dss.locks.get(MEDIUM_KEY)))


def reason(device: DeviceTask) -> int | None:
    return device.state.withheld.errno if device.state.withheld else None


async def test_a_row_as_it_is_known_is_no_news(autojump_clock: MockClock) -> None:
    async with adopted() as (site, device):
        assert not read(site, device)
        site.dss.media[medium_id(A)] = replace(site.medium(A), tags=("t",))
        assert read(site, device)
        assert not read(site, device)
        assert device.medium == site.medium(A)


async def test_a_lock_that_was_removed_is_taken_again_before_anything_is_planned(autojump_clock: MockClock) -> None:
    async with adopted() as (site, device):
        site.dss.locks.clear()
        assert read(site, device)
        assert (device.state.serving, device.state.free_slots(0.0)) == (True, 0)
        assert not read(site, device)
        await trio.sleep(1)
        assert {key: lock.owner for key, lock in site.dss.locks.items()} == {DEVICE_KEY: DAEMON, MEDIUM_KEY: DAEMON}
        assert device.state.free_slots(0.0) > 0
        assert not read(site, device)
    assert [type(op) for _, op in site.dss.committed].count(TakeLock) == 4


async def test_a_lock_of_ours_that_is_weak_now_is_made_strong(autojump_clock: MockClock) -> None:
    async with adopted() as (site, device):
        site.dss.locks[MEDIUM_KEY] = replace(site.dss.locks[MEDIUM_KEY], is_weak=True)
        read(site, device)
        await trio.sleep(1)
        assert not site.dss.locks[MEDIUM_KEY].is_weak
        assert device.state.free_slots(0.0) > 0


@pytest.mark.parametrize("weak", [False, True])
async def test_a_medium_that_another_host_has_locked_is_withheld_until_that_is_gone(
    autojump_clock: MockClock, weak: bool
) -> None:
    async with adopted() as (site, device):
        theirs = site.dss.add_lock(LockType.MEDIA, medium_id(A), ELSEWHERE, is_weak=weak)
        with capture_logs() as lines:
            assert read(site, device)
            for _ in range(3):
                assert not read(site, device)
                await trio.sleep(1)
            assert (device.state.serving, reason(device)) == (False, errno.EALREADY)
            assert device.state.status is DeviceStatus.MOUNTED
            assert site.dss.locks[MEDIUM_KEY] == theirs
            del site.dss.locks[MEDIUM_KEY]
            assert read(site, device)
            await trio.sleep(1)
        assert (device.state.serving, reason(device)) == (True, None)
        assert site.dss.locks[MEDIUM_KEY].owner == DAEMON
    told = [line["event"] for line in lines if "locks had" not in line["event"]]
    assert told == ["medium withheld", "medium granted again"]


@pytest.mark.parametrize("weak", [False, True])
async def test_a_lock_that_another_host_has_got_meanwhile_is_not_given_back_for_it(
    autojump_clock: MockClock, weak: bool
) -> None:
    async with adopted() as (site, device):
        theirs = site.dss.add_lock(LockType.MEDIA, medium_id(A), ELSEWHERE, is_weak=weak)
        read(site, device)
        device.stop()
        await device.ended.wait()
        assert list(site.dss.locks.values()) == [theirs]


async def test_a_lock_that_somebody_takes_first_withholds_the_medium(autojump_clock: MockClock) -> None:
    async with adopted() as (site, device):
        site.dss.locks.clear()
        site.dss.delay = lambda: 5.0
        read(site, device)
        await trio.sleep(1)
        site.dss.add_lock(LockType.DEVICE, device_id(A), ELSEWHERE)
        await trio.sleep(100)
        assert (device.state.serving, reason(device)) == (False, errno.EALREADY)


async def test_a_lock_of_another_process_of_this_host_withholds_while_that_lives() -> None:
    """On the real clock: the owner is a real process."""
    with child([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        async with adopted() as (site, device):
            site.dss.add_lock(LockType.MEDIA, medium_id(A), LockOwner(HOST, process.pid), timestamp=time.time())
            read(site, device)
            assert reason(device) == errno.ENOLCK
            process.kill()
            process.wait()
            assert read(site, device)
            with trio.fail_after(30):
                await trio.testing.wait_all_tasks_blocked()
            assert device.state.free_slots(0.0) > 0
            assert site.dss.locks[MEDIUM_KEY].owner == DAEMON


async def test_locks_that_the_dss_refuses_withhold_the_medium(autojump_clock: MockClock) -> None:
    async with adopted() as (site, device):
        site.dss.locks.clear()
        site.dss.refusals[TakeLock] = LrsError(errno.EINVAL, "no")
        read(site, device)
        await trio.sleep(1)
        assert (device.state.serving, reason(device)) == (False, errno.EINVAL)
        del site.dss.refusals[TakeLock]
        read(site, device)
        await trio.sleep(1)
        assert device.state.free_slots(0.0) > 0


@pytest.mark.parametrize("row", [None, LrsError(errno.EINVAL, "its stats are malformed")])
async def test_a_medium_that_is_gone_or_unreadable_is_withheld_until_it_is_back(
    autojump_clock: MockClock, row: LrsError | None
) -> None:
    async with adopted() as (site, device):
        assert device.medium_read(row)
        assert not device.medium_read(row)
        assert (device.state.serving, reason(device)) == (False, errno.ENXIO if row is None else errno.EINVAL)
        assert read(site, device)
        assert device.state.free_slots(0.0) > 0


async def test_a_sync_that_finds_the_medium_deleted_withholds_it(autojump_clock: MockClock) -> None:
    async with adopted() as (site, device):
        del site.dss.media[medium_id(A)]
        device.end_grant(planned(device), dirty=True)
        await trio.sleep(1)
        assert reason(device) == errno.ENXIO
        assert device.state.error is None


def planned(device: DeviceTask) -> Grant:
    grant = grant_on(device)
    assert device.medium is not None
    device.plan(grant, device.medium)
    return grant


async def test_what_is_granted_goes_on_while_the_medium_is_withheld(autojump_clock: MockClock) -> None:
    async with adopted() as (site, device):
        grant = planned(device)
        await trio.sleep(1)
        site.dss.add_lock(LockType.MEDIA, medium_id(A), ELSEWHERE)
        read(site, device)
        one = waiter()
        device.end_grant(grant, dirty=False)
        device.add_release(one.sub, at_once=False)
        await trio.sleep(1)
        assert len(one.settled) == 1
        assert one.sub.error is None
        device.release_settled(counted=True)


async def test_a_stopping_device_takes_no_lock_again(autojump_clock: MockClock) -> None:
    async with adopted() as (site, device):
        planned(device)
        await trio.sleep(1)
        device.stop()
        site.dss.locks.clear()
        read(site, device)
        await trio.sleep(10)
        assert site.dss.locks == {}


# Imports.


async def test_a_medium_that_is_being_imported_is_adopted_whatever_its_label(autojump_clock: MockClock) -> None:
    site = Site()
    site.add(A, fs_status=FsStatus.IMPORTING, medium_status=AdmStatus.LOCKED).label = "/old/place"
    device = site.device(A)
    async with site.running(device):
        assert device.state.status is DeviceStatus.MOUNTED
        site.dss.media[medium_id(A)] = replace(site.medium(A), fs_status=FsStatus.USED)
        assert read(site, device)
        assert device.state.serving
