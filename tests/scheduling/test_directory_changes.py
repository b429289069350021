"""What changes among directories while requests wait, or between two steps of a pass, is known to the next pass."""

from __future__ import annotations

import errno
from dataclasses import replace
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from lrs_trio.devices.device import DeviceTask
from lrs_trio.devices.life import DeviceStatus, Life
from lrs_trio.devices.volume import Volume
from lrs_trio.dss.operations import UpdateMedia
from lrs_trio.errors import LrsError
from lrs_trio.model import AdmStatus, Family, FsStatus, NotifyOperation, RequestKind, ResourceId
from lrs_trio.scheduling.family import FamilyScheduler
from lrs_trio.scheduling.offers import KeptOffers
from lrs_trio.scheduling.revocation import revoke
from lrs_trio.wire.messages import Failed, Notified, Revoke, WriteAllocation, WriteGranted, WriteMedium
from tests.fakes.house import FakeClient, House, back, house_of
from tests.fakes.report import reported_devices
from tests.fakes.site import Site, device_id, family_settings, medium_id

A, B = "/srv/a", "/srv/b"


def grants_on(family: FamilyScheduler, device: str) -> list[dict[str, Any]]:
    """What the status of `family` shows of `device`, however often that is there."""
    return [grant for shown in reported_devices(family) if shown["path"] == device for grant in shown["grants"]]


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


async def test_who_wants_an_empty_directory_gets_none_that_is_being_written(autojump_clock: MockClock) -> None:
    site = Site()
    site.add(A)
    empty = WriteAllocation((WriteMedium(1, (), empty_medium=True),), Family.DIR)
    async with house_of(site=site, settings=family_settings()) as house:
        first, second, third = (house.connect() for _ in range(3))
        first.write(1)
        await first.granted()
        second.ask(1, empty)
        third.write(1)
        await third.granted()
        assert second.bodies == []
        first.release(back(A, 1))
        third.release(back(A, 1))
        assert await second.answer(1) == Failed(-errno.ENOSPC, RequestKind.WRITE)
        assert site.medium(A).fs_status is FsStatus.USED


async def test_who_wants_an_empty_directory_gets_one_on_which_nothing_came_to_be_written(
    autojump_clock: MockClock,
) -> None:
    site = Site()
    site.add(A)
    async with house_of(site=site, settings=family_settings()) as house:
        reader, first, second = house.connect(), house.connect(pause=None), house.connect()
        reader.read(A)
        await reader.granted()
        first.write(1)
        await house.settle()
        second.ask(1, WriteAllocation((WriteMedium(1, (), empty_medium=True),), Family.DIR))
        await house.settle()
        assert second.bodies == []
        first.leave()
        with trio.fail_after(10):
            await second.granted()


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


async def held_where_it_fails(house: House, holder: FakeClient) -> str:
    """`holder` gets 900 bytes of a directory, which fails then; its path."""
    failing = house.connect()
    holder.write(900)
    (held,) = await holder.granted()
    path = held.medium.name
    failing.read(path)
    await failing.granted()
    house.site.disks[device_id(path)].fail("sync", errno.EIO)
    failing.release(back(path, 1))
    assert isinstance(await failing.answer(2), Failed)
    return path


async def test_what_is_given_back_on_a_directory_that_has_gone_is_there_for_others(autojump_clock: MockClock) -> None:
    site = Site()
    site.add(B, total=1000, shares=site.add(A, total=1000))
    async with house_of(site=site, settings=family_settings(max_health=1)) as house:
        holder, admin, writer = (house.connect() for _ in range(3))
        path = await held_where_it_fails(house, holder)
        admin.notify(NotifyOperation.DEVICE_LOCK, path)
        assert isinstance(await admin.answer(1), Notified)
        writer.write(500)
        await trio.sleep(1)
        assert writer.bodies == []
        holder.leave()
        with trio.fail_after(10):
            await writer.granted()


@pytest.mark.parametrize("unlock", [False, True])
async def test_what_is_held_on_a_directory_that_has_gone_is_seen_and_can_be_revoked(
    autojump_clock: MockClock, unlock: bool
) -> None:
    site = Site()
    site.add(B, total=1000, shares=site.add(A, total=1000))
    async with house_of(site=site, settings=family_settings(max_health=1)) as house:
        holder, admin, writer = (house.connect() for _ in range(3))
        path = await held_where_it_fails(house, holder)
        await trio.sleep(1)
        if unlock:
            device, medium = device_id(path), medium_id(path)
            site.dss.devices[device] = replace(site.dss.devices[device], adm_status=AdmStatus.UNLOCKED)
            site.dss.media[medium] = replace(site.dss.media[medium], adm_status=AdmStatus.UNLOCKED)
        admin.notify(NotifyOperation.DEVICE_UNLOCK if unlock else NotifyOperation.DEVICE_LOCK, path)
        assert isinstance(await admin.answer(1), Notified)
        writer.write(500)
        await trio.sleep(1)
        assert writer.bodies == []
        assert [grant["client"] for grant in grants_on(house.family, path)] == [holder.client.serial]
        revoke([house.family], Revoke((path,)), admin.client, site.events)
        with trio.fail_after(10):
            await writer.granted()
        assert holder.client.serial not in [grant["client"] for grant in grants_on(house.family, path)]


@pytest.mark.parametrize(
    ("failure", "unmeasurable", "free"),
    [(errno.EIO, False, 700), (errno.EIO, True, 1000), (errno.ETIMEDOUT, False, 1000)],
)
async def test_what_was_said_to_be_written_where_a_sync_fails_keeps_no_space_from_others(
    autojump_clock: MockClock, failure: int, unmeasurable: bool, free: int
) -> None:
    site = Site()
    disk = site.add(A, total=1000)
    site.add(B, total=1000, shares=disk)
    async with house_of(site=site, settings=family_settings(max_health=1)) as house:
        client, late, writer = house.connect(), house.connect(), house.connect()
        late.write(1, id=1)
        (held,) = await late.granted()
        client.read(held.medium.name)
        await client.granted()
        disk = site.disks[device_id(held.medium.name)]
        disk.write(300)
        disk.fail("sync", failure)
        if unmeasurable:
            disk.fail("space", errno.EIO)
        client.release(back(held.medium.name, 600))
        assert isinstance(await client.answer(2), Failed)
        late.release(back(held.medium.name, 100))
        assert isinstance(await late.answer(2), Failed)
        writer.write(700)
        with trio.fail_after(10):
            (granted,) = await writer.granted()
        assert granted.avail_size == free


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
