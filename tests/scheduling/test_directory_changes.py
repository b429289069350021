"""What changes among directories while requests wait, or between two steps of a pass, is known to the next pass."""

from __future__ import annotations

import errno
from dataclasses import replace

import pytest
import trio
from trio.testing import MockClock

from lrs_trio.devices.device import DeviceTask
from lrs_trio.devices.life import DeviceStatus, Life
from lrs_trio.devices.volume import Volume
from lrs_trio.dss.operations import UpdateMedia
from lrs_trio.errors import LrsError
from lrs_trio.model import AdmStatus, NotifyOperation, ResourceId
from lrs_trio.scheduling.offers import KeptOffers
from lrs_trio.wire.messages import Failed, Notified, WriteGranted
from tests.fakes.house import back, house_of
from tests.fakes.site import Site, device_id, family_settings, medium_id

A, B = "/srv/a", "/srv/b"


@pytest.mark.parametrize("ahead", [10, 100])
async def test_a_small_write_is_looked_at_behind_any_number_of_large_ones(
    autojump_clock: MockClock, ahead: int
) -> None:
    site = Site()
    site.add(A, total=10_000_000)
    site.add(B, total=1000)
    async with house_of(site=site, settings=family_settings(max_concurrent_io=1)) as house:
        first, many, small = house.connect(), house.connect(), house.connect()
        first.write(5000)
        await first.granted()
        for number in range(ahead):
            many.write(5000, id=number)
        await trio.sleep(1)
        small.write(10)
        with trio.fail_after(10):
            (granted,) = await small.granted()
        assert (granted.medium, many.bodies) == (medium_id(B), [])


async def test_nothing_is_granted_of_a_medium_once_its_lock_is_acknowledged(autojump_clock: MockClock) -> None:
    site = Site()
    site.add(A)
    async with house_of(site=site, settings=family_settings(max_concurrent_io=5000), recheck_s=1000) as house:
        admin, client = house.connect(), house.connect()
        client.write(1)
        await client.granted()
        site.dss.media[medium_id(A)] = replace(site.medium(A), adm_status=AdmStatus.LOCKED)
        # More than are decided in one step.
        for number in range(2, 242):
            client.write(1, id=number)
        admin.notify(NotifyOperation.MEDIA_UPDATE, A)
        assert isinstance(await admin.answer(1), Notified)
        before = len([body for body in client.bodies if isinstance(body, WriteGranted)])
        await trio.sleep(10)
        granted = [body for body in client.bodies if isinstance(body, WriteGranted)]
        assert (len(granted), len(client.bodies)) == (before, 241)
        assert before < 241


async def test_a_row_that_the_dss_refuses_costs_no_directory(autojump_clock: MockClock) -> None:
    site = Site()
    site.add(A)
    async with house_of(site=site, settings=family_settings()) as house:
        first, second = house.connect(), house.connect()
        for client in (first, second):
            client.write(1)
            await client.granted()
        refusal = LrsError(errno.EINVAL, "its stats are malformed")
        site.dss.refusals[UpdateMedia] = refusal
        first.release(back(A, 1))
        assert isinstance(await first.answer(2), Failed)
        await trio.sleep(100)
        state = house.family.devices[device_id(A)].state
        assert (state.status, state.error, state.withheld) == (DeviceStatus.MOUNTED, None, refusal)
        assert site.device_row(A).adm_status is AdmStatus.UNLOCKED
        site.dss.refusals.clear()
        second.release(back(A, 1))
        assert not isinstance(await second.answer(2), Failed)


async def test_what_is_given_back_on_a_directory_that_has_gone_is_there_for_others(autojump_clock: MockClock) -> None:
    site = Site()
    site.add(B, total=1000, shares=site.add(A, total=1000))
    async with house_of(site=site, settings=family_settings(max_health=1)) as house:
        holder, admin, writer, failing = (house.connect() for _ in range(4))
        holder.write(900)
        (held,) = await holder.granted()
        path = held.medium.name
        failing.read(path)
        await failing.granted()
        site.disks[device_id(path)].fail("sync", errno.EIO)
        failing.release(back(path, 1))
        assert isinstance(await failing.answer(2), Failed)
        admin.notify(NotifyOperation.DEVICE_LOCK, path)
        assert isinstance(await admin.answer(1), Notified)
        writer.write(500)
        await trio.sleep(1)
        assert writer.bodies == []
        holder.leave()
        with trio.fail_after(10):
            await writer.granted()


async def test_a_medium_that_two_devices_have_had_is_in_the_one_that_serves(autojump_clock: MockClock) -> None:
    site = Site()
    site.add(A)
    site.add(B)
    devices: dict[ResourceId, DeviceTask] = {}
    offers = KeptOffers(devices)
    volume, medium = Volume(100), site.medium(A)

    def begin(path: str) -> ResourceId:
        device = site.device(path)
        device.medium, device.state.present, device.state.volume = medium, medium.id, volume
        device.state.life = Life(0.0)
        device.state.become(DeviceStatus.MOUNTED, 0.0)
        devices[device.id] = device
        offers.enrol(device.id)
        return device.id

    def look() -> tuple[str, bool]:
        offers.renew({}, 0.0)
        return offers.by_medium[medium.id].device.name, offers.by_medium[medium.id].serving

    first = begin(A)
    assert look() == (device_id(A).name, True)
    devices[first].state.fail(OSError(5, "broken"), 1.0)
    offers.touch(first)
    second = begin(B)
    assert look() == (device_id(B).name, True)
    del devices[second]
    offers.touch(second)
    begin(A)
    assert look() == (device_id(A).name, True)
