"""The health that the log tells of: by hand, by law, and at the adoption of a device."""

from __future__ import annotations

import errno

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from lrs_trio.devices.health import health_from_log
from lrs_trio.dss.operations import LogEntry
from lrs_trio.model import AdmStatus, FsStatus
from tests.fakes.site import Holder, Site, device_id, family_settings, grant_on, medium_id, waiter

A = "/srv/a"
BAD = -errno.EIO


@pytest.mark.parametrize(
    ("numbers", "maximum", "expected"),
    [
        ([], 5, 5),
        ([0, 0, 0], 5, 5),
        ([BAD], 5, 4),
        ([0, 0, BAD], 5, 4),
        ([BAD, BAD, 0], 5, 4),
        ([BAD, 0, 0, 0], 5, 5),
        ([BAD] * 9, 5, 0),
        ([BAD] * 9 + [0], 5, 1),
        ([BAD], 1, 0),
        ([0, BAD, 0], 1, 1),
        # Commands of others end with positive numbers.
        ([2], 1, 0),
    ],
)
def test_the_health_after_a_log(numbers: list[int], maximum: int, expected: int) -> None:
    assert health_from_log(numbers, maximum) == expected


@given(st.lists(st.integers(-5, 1)), st.integers(1, 6))
def test_law_the_health_stays_in_its_bounds_and_what_precedes_the_first_error_is_ignored(
    numbers: list[int], maximum: int
) -> None:
    assert 0 <= health_from_log(numbers, maximum) <= maximum
    assert health_from_log([0, 0, *numbers], maximum) == health_from_log(numbers, maximum)
    assert health_from_log([*numbers, *[0] * maximum], maximum) == maximum


def logged(path: str, medium: str, *numbers: int) -> list[LogEntry]:
    return [LogEntry(device_id(path), medium, number, "LTFS mount", "{}") for number in numbers]


async def test_a_device_begins_with_the_health_of_its_log_and_its_medium_with_its_own(
    autojump_clock: MockClock,
) -> None:
    site = Site()
    site.add(A)
    site.dss.log = [*logged(A, "/elsewhere", BAD, BAD), *logged("/srv/b", A, BAD), *logged(A, A, 0, BAD)]
    device = site.device(A, family_settings(max_health=5))
    async with site.running(device):
        assert (device.health, device.medium_health) == (3, 4)


async def test_no_health_at_the_start_fails_nothing_and_the_first_failure_does(autojump_clock: MockClock) -> None:
    site = Site()
    disk = site.add(A)
    site.dss.log = logged(A, A, BAD, BAD, BAD)
    device = site.device(A, family_settings(max_health=2))
    async with site.running(device):
        assert (device.health, device.state.serving) == (0, True)
        assert site.dss.updates() == []
        disk.fail("sync", errno.EIO)
        device.add_release(waiter().sub, at_once=True)
        await device.ended.wait()
    assert (site.medium(A).adm_status, site.device_row(A).adm_status) == (AdmStatus.FAILED, AdmStatus.FAILED)


async def test_what_succeeds_gives_health_back(autojump_clock: MockClock) -> None:
    site = Site()
    site.add(A)
    site.dss.log = logged(A, A, BAD, BAD, BAD)
    device = site.device(A, family_settings(max_health=3))
    async with site.running(device):
        device.add_release(waiter().sub, at_once=True)
        await trio.sleep(1)
        assert (device.health, device.medium_health) == (1, 1)
        device.plan(grant_on(device), site.medium(A))
        await trio.sleep(1)
        assert (device.health, device.medium_health) == (2, 2)


@pytest.mark.parametrize(("maximum", "status"), [(1, AdmStatus.FAILED), (2, AdmStatus.UNLOCKED)])
async def test_a_failing_mount_fails_only_who_has_no_health_left(
    autojump_clock: MockClock, maximum: int, status: AdmStatus
) -> None:
    site = Site()
    disk = site.add(A, fs_status=FsStatus.BLANK)
    disk.fail("mount", errno.EIO)
    device = site.device(A, family_settings(max_health=maximum))
    async with site.running(device):
        holder = Holder()
        device.plan(grant_on(device, holder=holder), site.medium(A))
        await device.ended.wait()
    assert len(holder.failed) == 1
    assert (site.medium(A).adm_status, site.device_row(A).adm_status) == (status, status)
    assert [update.id for update in site.dss.updates()] == ([medium_id(A)] if status is AdmStatus.FAILED else [])
