"""One family with its devices: who is served when, devices that come and go, and the drain. In virtual time."""

from __future__ import annotations

import errno
import gc
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from lrs_trio.devices.device import DeviceTask
from lrs_trio.devices.life import DeviceStatus
from lrs_trio.devices.ownership import LOOK_AGAIN_S
from lrs_trio.dss.operations import ReadNamedMedia, TakeLock
from lrs_trio.events import EventKind
from lrs_trio.model import AdmStatus, Family, FsStatus, LockOwner, LockType, NotifyOperation, RequestKind
from lrs_trio.scheduling.media_look_up import READ_AT_ONCE
from lrs_trio.scheduling.release import ReleaseRequest
from lrs_trio.scheduling.report import monitor
from lrs_trio.scheduling.requests import Allocation
from lrs_trio.settings import FamilySettings
from lrs_trio.wire.messages import (
    Failed,
    Formatted,
    Notified,
    ReadAllocation,
    ReadGranted,
    Request,
    WriteAllocation,
    WriteGranted,
    WriteMedium,
)
from tests.fakes.house import FakeClient, House, back, house_of, released
from tests.fakes.report import reported_devices
from tests.fakes.site import LIBRARY, Site, device_id, family_settings, medium_id

A, B, C = "/srv/a", "/srv/b", "/srv/c"
ELSEWHERE = LockOwner("store2", 99)
ONE = family_settings(max_concurrent_io=1)
LOCK, UNLOCK, ADD, UPDATE = (
    NotifyOperation.DEVICE_LOCK,
    NotifyOperation.DEVICE_UNLOCK,
    NotifyOperation.DEVICE_ADD,
    NotifyOperation.MEDIA_UPDATE,
)


def device(house: House, path: str) -> DeviceTask:
    return house.family.devices[device_id(path)]


def refused(kind: RequestKind, number: int = errno.ESHUTDOWN) -> Failed:
    return Failed(-number, kind)


async def reader_of(house: House, *paths: str) -> FakeClient:
    """A client that holds a read grant on each of `paths`."""
    client = house.connect()
    client.read(*paths)
    await client.granted()
    return client


def give_back(client: FakeClient, *paths: str) -> None:
    client.release(*[back(path, to_sync=False) for path in paths], kind=RequestKind.RELEASE_READ)


# Allocations.


@pytest.mark.note("7", "10.4")
async def test_a_write_is_answered_with_everything_the_client_needs(autojump_clock: MockClock) -> None:
    settings = family_settings(age_ms=50, requests=7, size=999)
    site = Site()
    site.add(A, total=1000)
    async with house_of(site=site, settings=settings) as house:
        client = house.connect()
        client.write(300, id=42)
        body = await client.answer(1)
        assert client.responses[0].request_id == 42
        assert isinstance(body, WriteGranted)
        (granted,) = body.media
        assert (granted.medium, granted.root, granted.avail_size) == (medium_id(A), A, 1000)
        assert body.thresholds == settings.sync.thresholds
        other = house.connect()
        other.write(100)
        (second,) = await other.granted()
        assert second.avail_size == 700


@pytest.mark.note("6", "7", "9")
async def test_the_response_leaves_when_the_last_medium_is_ready(autojump_clock: MockClock) -> None:
    site = Site()
    site.add(A)
    slow = site.add(B, fs_status=FsStatus.BLANK)
    async with house_of(site=site, settings=family_settings(sync_while_io=False)) as house:
        admin = house.connect()
        admin.format(B)
        assert await admin.answer(1) == Formatted(medium_id(B))
        slow.seconds["mount"] = 60.0
        client = house.connect()
        begun = trio.current_time()
        client.write(1, 1)
        await trio.sleep(30)
        assert (device(house, A).state.planned, device(house, A).state.ongoing) == (1, 0)
        device(house, A).state.to_sync.mark_dirty(0.0)
        device(house, A).ring()
        await trio.sleep(1)
        assert len(site.disks[device_id(A)].times("sync")) == 1
        await client.granted()
        assert trio.current_time() == pytest.approx(begun + 60)
        assert [device(house, path).state.ongoing for path in (A, B)] == [1, 1]


@pytest.mark.note("9")
async def test_io_is_ongoing_only_when_the_response_leaves(autojump_clock: MockClock) -> None:
    async with house_of(A) as house:
        client = house.connect(pause=None)
        client.write(1)
        await trio.sleep(5)
        assert (device(house, A).state.planned, device(house, A).state.ongoing) == (1, 0)
        client.outbox.flush()
        assert (device(house, A).state.planned, device(house, A).state.ongoing) == (0, 1)


@pytest.mark.note("8")
async def test_several_io_per_device_up_to_the_maximum(autojump_clock: MockClock) -> None:
    async with house_of(A, settings=family_settings(max_concurrent_io=3)) as house:
        clients = [house.connect() for _ in range(5)]
        for client in clients:
            client.read(A)
            await house.settle()
        await trio.sleep(1)
        assert [len(client.responses) for client in clients] == [1, 1, 1, 0, 0]
        give_back(clients[1], A)
        await trio.sleep(1)
        assert [len(client.responses) for client in clients] == [1, 1, 1, 1, 0]


@pytest.mark.note("8")
async def test_kinds_are_kept_apart_where_they_do_not_mix(autojump_clock: MockClock) -> None:
    async with house_of(A, settings=family_settings(mix_reads_and_writes=False)) as house:
        reader = await reader_of(house, A)
        writer, late = house.connect(), house.connect()
        writer.write(1)
        await house.settle()
        late.read(A)
        await trio.sleep(5)
        assert (writer.responses, late.responses) == ([], [])
        give_back(reader, A)
        await writer.granted()
        assert late.responses == []
        writer.release(back(A, 1))
        await late.granted()


@pytest.mark.note("6")
async def test_n_of_several_are_read_in_the_clients_order_as_far_as_they_are_free(autojump_clock: MockClock) -> None:
    async with house_of(A, B, C, settings=ONE) as house:
        holder = await reader_of(house, B)
        client = house.connect()
        client.read(C, B, A, required=2)
        assert [granted.medium.name for granted in await client.granted()] == [C, A]
        give_back(holder, B)


@pytest.mark.note("10.2")
async def test_two_crossed_requests_for_two_are_both_served(autojump_clock: MockClock) -> None:
    async with house_of(A, B, settings=ONE) as house:
        holders = [await reader_of(house, A), await reader_of(house, B)]
        first, second = house.connect(), house.connect()
        first.read(A, B)
        await house.settle()
        second.read(B, A)
        give_back(holders[1], B)
        await trio.sleep(1)
        assert (first.responses, second.responses) == ([], [])
        give_back(holders[0], A)
        await first.granted()
        give_back(first, A, B)
        await second.granted()


async def test_a_request_for_two_is_not_overtaken_for_ever(autojump_clock: MockClock) -> None:
    async with house_of(A, B, settings=ONE) as house:
        holder = await reader_of(house, A)
        patient = house.connect()
        patient.read(A, B)
        await house.settle()
        newcomers = []
        for _ in range(10):
            client = house.connect()
            client.read(B)
            newcomers.append(client)
            await trio.sleep(1)
        assert [client.responses for client in newcomers] == [[]] * 10
        give_back(holder, A)
        await patient.granted()


async def test_priorities_order_those_that_wait(autojump_clock: MockClock) -> None:
    async with house_of(A, settings=ONE) as house:
        holder = await reader_of(house, A)
        order: list[str] = []

        async def write_once(name: str, qos: int | None, priority: int | None) -> None:
            client = house.connect()
            client.write(1, qos=qos, priority=priority)
            await client.granted()
            order.append(name)
            client.leave()

        async with trio.open_nursery() as nursery:
            for name, qos, priority in (("low", 0, -5), ("plain", None, None), ("high", 0, 5), ("best", 1, -99)):
                nursery.start_soon(write_once, name, qos, priority)
                await house.settle()
            give_back(holder, A)
        assert order == ["best", "high", "plain", "low"]


@pytest.mark.parametrize(
    ("path", "expected"), [("/unknown", errno.ENXIO), (B, errno.ENODEV), (C, errno.EALREADY), ("/blank", errno.EINVAL)]
)
async def test_a_read_that_can_never_be_served_is_refused_at_once(
    autojump_clock: MockClock, path: str, expected: int
) -> None:
    site = Site()
    site.add(A)
    site.add(B, device_status=AdmStatus.LOCKED)
    site.add(C, device_status=AdmStatus.LOCKED)
    site.add("/blank", fs_status=FsStatus.BLANK)
    site.dss.add_lock(LockType.MEDIA, medium_id(C), LockOwner("store2", 1))
    async with house_of(site=site) as house:
        client = house.connect()
        client.read(path)
        assert await client.answer(1) == refused(RequestKind.READ, expected)
        client.read(path, A, required=1, id=2)
        assert isinstance(await client.answer(2), ReadGranted)


async def test_media_that_nobody_knows_are_looked_up_together(autojump_clock: MockClock) -> None:
    async with house_of(A) as house:
        client = house.connect()
        client.read(*(f"/unknown/{number}" for number in range(2 * READ_AT_ONCE - 1)), A, required=1)
        assert isinstance(await client.answer(1), ReadGranted)
        operations = [operation for _, operation in house.site.dss.committed]
        asked = [o.media for o in operations if isinstance(o, ReadNamedMedia)]
        # What is attached is looked at as well.
        assert [len(media) for media in asked if medium_id(A) not in media] == [READ_AT_ONCE, READ_AT_ONCE - 1]


async def test_a_write_that_can_never_be_served_is_refused_at_once(autojump_clock: MockClock) -> None:
    site = Site()
    site.add(A, total=100)
    async with house_of(site=site) as house:
        client = house.connect()
        client.write(101, id=1)
        client.write(1, 1, id=2)
        client.write(1, id=3, library=LIBRARY + "?")
        await trio.sleep(1)
        assert {r.request_id: r.body for r in client.responses} == dict.fromkeys(
            (1, 2, 3), refused(RequestKind.WRITE, errno.ENOSPC)
        )


async def test_space_that_was_estimated_too_low_is_no_reason_to_refuse(autojump_clock: MockClock) -> None:
    """A sync measured the bytes of a client that releases only later: its release counts them a second time."""
    site = Site()
    disk = site.add(A, total=1000)
    async with house_of(site=site, settings=family_settings(age_ms=5000)) as house:
        first, second = house.connect(), house.connect()
        first.write(600)
        await first.granted()
        second.write(10)
        await second.granted()
        disk.write(600)
        second.release(back(A, 0, 0), partial=True)
        await second.answer(2)
        first.release(back(A, 600))
        third = house.connect()
        third.write(300)
        assert isinstance(await third.answer(1), WriteGranted)


@pytest.mark.note("0")
async def test_one_connection_may_repeat_its_ids(autojump_clock: MockClock) -> None:
    async with house_of(A, B, settings=ONE) as house:
        client, other = house.connect(), house.connect()
        client.read(A, id=0)
        client.read(B, id=0)
        await client.answer(2)
        other.read(A, id=0)
        await trio.sleep(1)
        assert ([r.request_id for r in client.responses], other.responses) == ([0, 0], [])
        give_back(client, A)
        assert [granted.medium for granted in await other.granted()] == [medium_id(A)]


# Clients that go.


async def test_a_waiting_request_leaves_the_queue_with_its_client(autojump_clock: MockClock) -> None:
    async with house_of(A, B, settings=ONE) as house:
        holder = await reader_of(house, A)
        gone, patient = house.connect(), house.connect()
        gone.read(A, B)
        await house.settle()
        patient.read(B)
        await trio.sleep(1)
        assert patient.responses == []
        gone.leave()
        await patient.granted()
        assert (gone.responses, len(house.family.queue), len(house.family.live)) == ([], 0, 0)
        give_back(holder, A)


async def test_a_promise_is_taken_back_with_its_client(autojump_clock: MockClock) -> None:
    async with house_of(A, settings=ONE) as house:
        gone, patient = house.connect(pause=None), house.connect()
        gone.write(50)
        await house.settle()
        assert gone.outbox.unsent
        patient.write(50)
        gone.leave()
        await patient.granted()
        assert gone.outbox.flush() == []
        assert device(house, A).state.volume.reserved == 50


async def test_a_grant_is_taken_back_with_its_client_and_a_write_leaves_dirt(autojump_clock: MockClock) -> None:
    async with house_of(A, B, settings=family_settings(max_concurrent_io=1, age_ms=1000)) as house:
        reader = await reader_of(house, A)
        writer = house.connect()
        writer.write(1)
        await writer.granted()
        reader.leave()
        writer.leave()
        await trio.sleep(100)
        assert [len(house.site.disks[device_id(path)].times("sync")) for path in (A, B)] == [0, 1]
        assert [d.state.grants for d in house.family.devices.values()] == [set(), set()]


async def test_a_client_that_goes_between_submission_and_queue_leaves_nothing(autojump_clock: MockClock) -> None:
    async with house_of(A) as house:
        client = house.connect()
        client.write(1)
        client.leave()
        await house.settle()
        assert device(house, A).state.grants == set()
        assert house.family.live == set()


async def test_a_client_that_goes_during_the_lookup_leaves_nothing(autojump_clock: MockClock) -> None:
    site = Site()
    site.add(A)
    site.add(B, device_status=AdmStatus.LOCKED)
    async with house_of(site=site) as house:
        client = house.connect()
        site.dss.delay = lambda: 10.0
        client.read(B, A, required=1)
        await trio.sleep(1)
        client.leave()
        await trio.sleep(100)
        assert (client.responses, len(device(house, A).state.grants), len(house.family.queue)) == ([], 0, 0)


# Devices that fail.


async def test_a_promise_on_a_device_that_fails_moves_to_another(autojump_clock: MockClock) -> None:
    site = Site()
    disk = site.add(A, fs_status=FsStatus.BLANK)
    site.add(B)
    async with house_of(site=site, settings=ONE) as house:
        admin = house.connect()
        admin.format(A)
        await admin.answer(1)
        disk.fail("mount", errno.EIO)
        holder = await reader_of(house, B)
        client = house.connect()
        client.write(1)
        await trio.sleep(1)
        assert device(house, A).state.status is DeviceStatus.FAILED
        assert client.responses == []
        give_back(holder, B)
        assert [granted.medium.name for granted in await client.granted()] == [B]


async def test_a_read_of_a_medium_that_fails_is_refused(autojump_clock: MockClock) -> None:
    settings = family_settings(max_concurrent_io=1, requests=1, sync_while_io=False)
    async with house_of(A, settings=settings) as house:
        house.site.disks[device_id(A)].fail("sync", errno.EIO)
        writer, waiting = house.connect(), house.connect()
        writer.write(1)
        await writer.granted()
        waiting.read(A)
        await house.settle()
        writer.release(back(A, 1))
        assert await waiting.answer(1) in [refused(RequestKind.READ, number) for number in (errno.ENODEV, errno.EPERM)]


# Formats.


@pytest.mark.note("5.1", "5.3")
async def test_a_directory_is_formatted_and_then_written(autojump_clock: MockClock) -> None:
    site = Site()
    site.add(A, fs_status=FsStatus.BLANK, medium_status=AdmStatus.LOCKED)
    async with house_of(site=site) as house:
        client = house.connect()
        client.format(A, unlock=True, id=5)
        assert await client.answer(1) == Formatted(medium_id(A))
        client.write(1, id=6)
        await client.granted(2)
        client.format(A, id=7)
        assert await client.answer(3) == refused(RequestKind.FORMAT, errno.EINVAL)


@pytest.mark.note("5.1")
async def test_a_second_format_of_the_same_medium_is_refused(autojump_clock: MockClock) -> None:
    site = Site()
    site.add(A, fs_status=FsStatus.BLANK).seconds["format"] = 60.0
    async with house_of(site=site) as house:
        client, second = house.connect(), house.connect()
        client.format(A)
        await trio.sleep(1)
        second.format(A)
        assert await second.answer(1) == refused(RequestKind.FORMAT, errno.EINVAL)
        assert await client.answer(1) == Formatted(medium_id(A))


async def test_a_format_goes_on_without_its_client(autojump_clock: MockClock) -> None:
    site = Site()
    site.add(A, fs_status=FsStatus.BLANK).seconds["format"] = 60.0
    async with house_of(site=site) as house:
        client = house.connect()
        client.format(A)
        await trio.sleep(1)
        client.leave()
        await trio.sleep(100)
        assert site.medium(A).fs_status is FsStatus.EMPTY
        assert device(house, A).state.idle


# Devices that come and go (note 4.1).


@pytest.mark.note("4.1")
async def test_a_device_added_while_requests_wait_serves_them(autojump_clock: MockClock) -> None:
    async with house_of(A, settings=ONE) as house:
        holder = await reader_of(house, A)
        waiting = house.connect()
        waiting.write(1)
        await trio.sleep(1)
        house.site.add(B)
        admin = house.connect()
        admin.notify(ADD, B)
        assert await admin.answer(1) == Notified(device_id(B))
        assert [granted.medium.name for granted in await waiting.granted()] == [B]
        give_back(holder, A)


@pytest.mark.parametrize("operation", [ADD, UNLOCK])
@pytest.mark.parametrize("row", ["unknown", "locked", "elsewhere"])
async def test_a_device_that_is_not_to_be_served_is_not_taken_in(
    autojump_clock: MockClock, operation: NotifyOperation, row: str
) -> None:
    async with house_of(A) as house:
        house.site.add(B, device_status=AdmStatus.LOCKED if row == "locked" else AdmStatus.UNLOCKED)
        if row == "unknown":
            del house.site.dss.devices[device_id(B)]
        if row == "elsewhere":
            house.site.dss.devices[device_id(B)] = replace(house.site.device_row(B), host="store2")
        admin = house.connect()
        admin.notify(operation, B)
        assert await admin.answer(1) == refused(RequestKind.NOTIFY, errno.ENXIO)
        assert list(house.family.devices) == [device_id(A)]


async def test_a_device_that_cannot_be_adopted_is_refused_to_who_adds_it(autojump_clock: MockClock) -> None:
    async with house_of(A) as house:
        house.site.add(B).label = "another"
        admin = house.connect()
        admin.notify(ADD, B)
        assert await admin.answer(1) == refused(RequestKind.NOTIFY, errno.EINVAL)
        assert device_id(B) not in house.family.devices


async def test_adding_a_device_that_serves_changes_nothing(autojump_clock: MockClock) -> None:
    async with house_of(A) as house:
        serving = device(house, A)
        admin = house.connect()
        admin.notify(ADD, A)
        assert await admin.answer(1) == Notified(device_id(A))
        assert device(house, A) is serving


async def test_two_that_add_one_device_at_once_are_both_answered(autojump_clock: MockClock) -> None:
    async with house_of(A) as house:
        house.site.add(B).seconds["open"] = 5.0
        admins = [house.connect() for _ in range(2)]
        for admin in admins:
            admin.notify(ADD, B)
            await trio.sleep(1)
        for admin in admins:
            assert await admin.answer(1) == Notified(device_id(B))
        assert device(house, B).state.serving
        client = house.connect()
        client.read(B)
        await client.granted()


async def test_a_lock_waits_for_io_and_syncs_and_takes_no_more(autojump_clock: MockClock) -> None:
    async with house_of(A, settings=family_settings(age_ms=1_000_000)) as house:
        client, admin, late = house.connect(), house.connect(), house.connect()
        client.write(1)
        await client.granted()
        admin.notify(LOCK, A)
        await trio.sleep(1000)
        assert admin.responses == []
        late.read(A)
        assert await late.answer(1) == refused(RequestKind.READ, errno.ENODEV)
        client.release(back(A, 1))
        assert await client.answer(2) == released(A)
        assert await admin.answer(1) == Notified(device_id(A))
        assert (house.family.devices, house.site.dss.locks) == ({}, {})
        admin.notify(UNLOCK, A)
        assert await admin.answer(2) == Notified(device_id(A))
        client.read(A, id=3)
        await client.answer(3)


async def test_a_lock_gives_back_what_was_only_promised(autojump_clock: MockClock) -> None:
    async with house_of(A, B, settings=ONE) as house:
        client, admin = house.connect(pause=None), house.connect()
        client.read(A, B, required=1)
        await house.settle()
        assert device(house, A).state.planned == 1
        admin.notify(LOCK, A)
        assert await admin.answer(1) == Notified(device_id(A))
        (response,) = client.outbox.flush()
        assert isinstance(response.body, ReadGranted)
        assert [granted.medium.name for granted in response.body.media] == [B]


async def test_an_unlock_of_a_device_that_serves_changes_nothing(autojump_clock: MockClock) -> None:
    async with house_of(A) as house:
        serving, admin = device(house, A), house.connect()
        admin.notify(UNLOCK, A)
        assert await admin.answer(1) == Notified(device_id(A))
        assert device(house, A) is serving


async def test_a_lock_of_a_device_that_is_not_there_succeeds(autojump_clock: MockClock) -> None:
    async with house_of(A) as house:
        admin = house.connect()
        admin.notify(LOCK, "/nowhere")
        assert await admin.answer(1) == Notified(device_id("/nowhere"))


async def test_news_that_nobody_waits_for_is_not_answered(autojump_clock: MockClock) -> None:
    async with house_of(A) as house:
        admin = house.connect()
        admin.notify(LOCK, A, wait=False)
        for operation in (ADD, UNLOCK, UPDATE):
            admin.notify(operation, "/nowhere", wait=False)
        await trio.sleep(100)
        assert (admin.responses, house.family.devices) == ([], {})


@pytest.mark.parametrize("change", [{"adm_status": AdmStatus.LOCKED}, {"get": False}])
async def test_a_medium_that_is_locked_meanwhile_is_not_given_to_who_waits(
    change: dict[str, Any], autojump_clock: MockClock
) -> None:
    async with house_of(A, B, settings=ONE) as house:
        holder = await reader_of(house, A)
        waiting, admin = house.connect(), house.connect()
        waiting.read(A)
        await house.settle()
        house.site.dss.media[medium_id(A)] = replace(house.site.medium(A), **change)
        admin.notify(UPDATE, A)
        assert await admin.answer(1) == Notified(medium_id(A))
        assert await waiting.answer(1) == refused(RequestKind.READ, errno.EPERM)
        give_back(holder, A)


async def test_a_failed_device_serves_again_after_an_unlock(autojump_clock: MockClock) -> None:
    async with house_of(A) as house:
        house.site.disks[device_id(A)].fail("sync", errno.EIO)
        client, admin = house.connect(), house.connect()
        client.write(70)
        await client.granted()
        client.release(back(A, 1))
        assert isinstance(await client.answer(2), Failed)
        await trio.sleep(1)
        house.site.dss.devices[device_id(A)] = replace(house.site.device_row(A), adm_status=AdmStatus.UNLOCKED)
        house.site.dss.media[medium_id(A)] = replace(house.site.medium(A), adm_status=AdmStatus.UNLOCKED)
        admin.notify(UNLOCK, A)
        assert await admin.answer(1) == Notified(device_id(A))
        client.write(1, id=3)
        await client.granted(3)


async def test_two_unlocks_while_a_device_ends_start_it_once(autojump_clock: MockClock) -> None:
    """Found by the simulation, seed 78: both waited for the end of the old task, and both started a new one."""
    async with house_of(A) as house:
        client, *admins = house.connect(), house.connect(), house.connect(), house.connect()
        client.write(1)
        await client.granted()
        admins[0].notify(LOCK, A)
        await house.settle()
        for admin in admins[1:]:
            admin.notify(UNLOCK, A)
        await trio.sleep(1)
        client.release(back(A, 1))
        for admin in admins:
            assert await admin.answer(1) == Notified(device_id(A))
        assert len(house.site.disks[device_id(A)].times("open")) == 2


async def test_a_device_that_is_locked_while_it_ends_is_not_started_again(autojump_clock: MockClock) -> None:
    async with house_of(A) as house:
        client, admin, other = house.connect(), house.connect(), house.connect()
        client.write(1)
        await client.granted()
        admin.notify(LOCK, A)
        await house.settle()
        other.notify(UNLOCK, A)
        await trio.sleep(1)
        house.site.dss.devices[device_id(A)] = replace(house.site.device_row(A), adm_status=AdmStatus.LOCKED)
        client.release(back(A, 1))
        assert await other.answer(1) == refused(RequestKind.NOTIFY, errno.ENXIO)
        assert house.family.devices == {}


# Devices whose locks another host has.


@asynccontextmanager
async def locked_elsewhere(*paths: str, kind: LockType = LockType.MEDIA) -> AsyncIterator[House]:
    """A house of `paths`, of which another host has locked the first."""
    site = Site()
    for path in paths:
        site.add(path)
    site.dss.add_lock(kind, medium_id(paths[0]) if kind is LockType.MEDIA else device_id(paths[0]), ELSEWHERE)
    async with house_of(site=site) as house:
        yield house


def unlock_elsewhere(house: House) -> None:
    locks = house.site.dss.locks
    for key in [key for key, lock in locks.items() if lock.owner == ELSEWHERE]:
        del locks[key]


async def test_a_medium_that_another_host_holds_is_refused_to_readers_and_avoided_by_writers(
    autojump_clock: MockClock,
) -> None:
    async with locked_elsewhere(A, B) as house:
        client = house.connect()
        client.read(A, id=1)
        assert await client.answer_to(1) == refused(RequestKind.READ, errno.EALREADY)
        client.read(A, B, required=1, id=2)
        assert isinstance(await client.answer_to(2), ReadGranted)
        client.write(1, id=3)
        assert isinstance(await client.answer_to(3), WriteGranted)
        client.write(1, 1, id=4)
        assert await client.answer_to(4) == refused(RequestKind.WRITE, errno.ENOSPC)
        client.format(A, id=5)
        assert await client.answer_to(5) == refused(RequestKind.FORMAT, errno.EBUSY)
        devices = reported_devices(house.family)
        waiting = devices[0]
        assert (waiting["status"], waiting["reason"]) == ("waiting", str(ELSEWHERE))
        assert "media" not in next(monitor(house.family))


@pytest.mark.parametrize("kind", [LockType.DEVICE, LockType.MEDIA])
async def test_what_another_host_lets_go_of_is_served_soon(autojump_clock: MockClock, kind: LockType) -> None:
    async with locked_elsewhere(A, kind=kind) as house:
        await trio.sleep(100)
        unlock_elsewhere(house)
        await trio.sleep(LOOK_AGAIN_S + 1)
        assert device(house, A).state.serving
        client = house.connect()
        client.write(1)
        await client.granted()


@pytest.mark.parametrize("ask", ["read", "write", "two writes", "update", "unlock", "add"])
async def test_what_another_host_has_let_go_of_serves_who_needs_it_at_once(autojump_clock: MockClock, ask: str) -> None:
    async with locked_elsewhere(A, B) as house:
        await trio.sleep(1)
        unlock_elsewhere(house)
        begun, client = trio.current_time(), house.connect()
        match ask:
            case "read":
                client.read(A)
            case "write":
                client.write(1, library=LIBRARY)
            case "two writes":
                client.write(1, 1)
            case "update":
                client.notify(UPDATE, A)
            case "unlock":
                client.notify(UNLOCK, A)
            case "add":
                client.notify(ADD, A)
        assert not isinstance(await client.answer(1), Failed)
        assert device(house, A).state.serving is (ask != "write")
        assert trio.current_time() == begun


async def test_a_write_asks_those_who_wait_for_another_host_once(autojump_clock: MockClock) -> None:
    async with locked_elsewhere(A) as house:
        client = house.connect()
        before = len(house.site.dss.committed)
        client.write(1)
        assert await client.answer(1) == refused(RequestKind.WRITE, errno.ENOSPC)
        looks = [op for _, op in house.site.dss.committed[before:] if isinstance(op, TakeLock)]
        assert [look.resource for look in looks] == [medium_id(A)]


async def test_a_client_that_goes_while_its_write_asks_around_leaves_nothing(autojump_clock: MockClock) -> None:
    async with locked_elsewhere(A) as house:
        house.site.dss.delay = lambda: 1.0
        client = house.connect()
        client.write(1)
        await trio.sleep(0.5)
        client.leave()
        await trio.sleep(100)
        assert (client.responses, len(house.family.live), len(house.family.queue)) == ([], 0, 0)


@pytest.mark.parametrize("operation", [ADD, UNLOCK])
@pytest.mark.parametrize("kind", [LockType.DEVICE, LockType.MEDIA])
async def test_a_new_device_that_another_host_has_locked_is_not_taken_in(
    autojump_clock: MockClock, operation: NotifyOperation, kind: LockType
) -> None:
    async with house_of(B) as house:
        house.site.add(A)
        lock = house.site.dss.add_lock(kind, medium_id(A) if kind is LockType.MEDIA else device_id(A), ELSEWHERE)
        admin = house.connect()
        admin.notify(operation, A)
        assert await admin.answer(1) == refused(RequestKind.NOTIFY, errno.EALREADY)
        assert list(house.family.devices) == [device_id(B)]
        assert [held for held in house.site.dss.locks.values() if A in held.id] == [lock]


@pytest.mark.parametrize("operation", [ADD, UNLOCK])
async def test_a_known_device_goes_on_waiting_though_the_administrator_is_told_who_has_it(
    autojump_clock: MockClock, operation: NotifyOperation
) -> None:
    async with locked_elsewhere(A) as house:
        waiting, admin = device(house, A), house.connect()
        admin.notify(operation, A)
        assert await admin.answer(1) == refused(RequestKind.NOTIFY, errno.EALREADY)
        assert device(house, A) is waiting
        unlock_elsewhere(house)
        await trio.sleep(LOOK_AGAIN_S + 1)
        assert waiting.state.serving


@pytest.mark.parametrize("operation", [ADD, UNLOCK])
async def test_a_withheld_device_waits_after_an_unlock_in_vain(
    autojump_clock: MockClock, operation: NotifyOperation
) -> None:
    async with house_of(A, recheck_s=0.0) as house:
        client, admin = house.connect(), house.connect()
        house.site.dss.add_lock(LockType.MEDIA, medium_id(A), ELSEWHERE)
        client.read(A)
        assert await client.answer(1) == refused(RequestKind.READ, errno.EALREADY)
        admin.notify(operation, A)
        assert await admin.answer(1) == refused(RequestKind.NOTIFY, errno.EALREADY)
        assert device(house, A).awaited == medium_id(A)
        unlock_elsewhere(house)
        client.read(A, id=2)
        assert isinstance(await client.answer_to(2), ReadGranted)


async def test_a_device_that_waits_for_another_host_can_be_locked(autojump_clock: MockClock) -> None:
    async with locked_elsewhere(A) as house:
        admin = house.connect()
        admin.notify(LOCK, A)
        assert await admin.answer(1) == Notified(device_id(A))
        assert house.family.devices == {}
        assert [lock.owner for lock in house.site.dss.locks.values()] == [ELSEWHERE]


async def test_media_of_other_hosts_are_never_waited_for_by_writes(autojump_clock: MockClock) -> None:
    """They are in the DSS, have room, and are locked or not: no device of this host has them."""
    async with house_of(A) as house:
        for path, lock in ((B, True), (C, False)):
            house.site.add(path)
            house.site.dss.devices[device_id(path)] = replace(house.site.device_row(path), host="store2")
            if lock:
                house.site.dss.add_lock(LockType.MEDIA, medium_id(path), ELSEWHERE)
        client = house.connect()
        client.write(1, id=1)
        assert [granted.medium.name for granted in await client.granted()] == [A]
        client.write(1, 1, id=2)
        assert await client.answer_to(2) == refused(RequestKind.WRITE, errno.ENOSPC)


# How writes are placed, by the settings.


@pytest.mark.parametrize(("policy", "expected"), [("best_fit", B), ("first_fit", A)])
async def test_the_policy_decides_where_a_write_goes(autojump_clock: MockClock, policy: str, expected: str) -> None:
    site = Site()
    site.add(A, total=1000)
    site.add(B, total=500)
    async with house_of(site=site, settings=family_settings(policy=policy)) as house:
        client = house.connect()
        client.write(100)
        assert [granted.medium.name for granted in await client.granted()] == [expected]


async def test_new_settings_count_for_those_who_wait_as_well(autojump_clock: MockClock) -> None:
    site = Site()
    site.add(A, total=1000)
    site.add(B, total=500, groupings=("g",))
    heard: list[FamilySettings] = []
    async with house_of(site=site, settings=ONE) as house:
        house.family._on_settings = heard.append
        holder = await reader_of(house, A, B)
        client = house.connect()
        client.write(1, grouping="g")
        await trio.sleep(1)
        changed = ONE.model_copy(update={"groupings": True})
        house.family.change_settings(changed)
        assert heard == [changed]
        give_back(holder, A, B)
        assert [granted.medium.name for granted in await client.granted()] == [B]


# The drain (note 11).


@pytest.mark.note("7")
async def test_a_grouping_that_a_release_has_brought_is_known_to_the_next_write(autojump_clock: MockClock) -> None:
    site = Site()
    site.add(A, total=500, fs_status=FsStatus.USED)
    site.add(B, total=1000, fs_status=FsStatus.USED, tags=("b",))
    site.add(C, total=100, fs_status=FsStatus.USED)
    settings = family_settings(groupings=True, max_concurrent_io=1)
    async with house_of(site=site, settings=settings) as house:
        # Somebody always waits, so that passes take what has changed.
        for reader in (house.connect(), house.connect()):
            reader.read(C)
        await house.settle()
        site.dss.delay = lambda: 0.005
        client = house.connect()
        body = WriteAllocation((WriteMedium(200, ("b",)),), Family.DIR, grouping="g")
        client.ask(1, body, None, None)
        await client.granted(1)
        client.release(back(B, 10, grouping="g"), id=2)
        await client.answer(2)
        await trio.sleep(100)
        client.write(200, id=3, grouping="g")
        (granted,) = await client.granted(3)
        assert granted.medium.name == B


@pytest.mark.note("11")
@pytest.mark.parametrize("wait", [True, False])
async def test_a_drain_answers_who_waits_for_a_lock_of_a_device_in_use(autojump_clock: MockClock, wait: bool) -> None:
    async with house_of(A) as house:
        holder, admin = await reader_of(house, A), house.connect()
        admin.notify(LOCK, A, id=9, wait=wait)
        await trio.sleep(1)
        house.drain()
        await trio.sleep(1)
        said = [(response.request_id, response.body) for response in admin.responses]
        assert said == ([(9, refused(RequestKind.NOTIFY))] if wait else [])
        give_back(holder, A)


@pytest.mark.note("11", "10.3")
async def test_a_drain_refuses_what_has_no_answer_yet_with_its_own_id(autojump_clock: MockClock) -> None:
    site = Site()
    site.add(A)
    site.add(B, fs_status=FsStatus.BLANK)
    async with house_of(site=site, settings=ONE) as house:
        holder = await reader_of(house, A)
        ready = house.connect(pause=None)
        queued, late = house.connect(), house.connect()
        queued.read(A, id=11)
        queued.write(1, id=12)
        await house.settle()
        house.drain()
        late.write(1, id=13)
        late.format(B, id=14)
        late.notify(LOCK, A, id=15)
        ready.read(A, id=16)
        ready.outbox.flush()
        await house.settle()
        assert {r.request_id: r.body for r in queued.responses + late.responses + ready.responses} == {
            11: refused(RequestKind.READ),
            12: refused(RequestKind.WRITE),
            13: refused(RequestKind.WRITE),
            14: refused(RequestKind.FORMAT),
            15: refused(RequestKind.NOTIFY),
            16: refused(RequestKind.READ),
        }
        told = [event for event in house.site.seen if event.kind is EventKind.ALLOCATION_REFUSED]
        assert Counter((event.request, event.errno) for event in told) == {
            ("READ", errno.ESHUTDOWN): 2,
            ("WRITE", errno.ESHUTDOWN): 2,
        }
        assert not device(house, A).ended.is_set()
        give_back(holder, A)


@pytest.mark.note("11", "9")
async def test_a_drain_overtakes_a_response_that_has_not_left(autojump_clock: MockClock) -> None:
    async with house_of(A) as house:
        client = house.connect(pause=None)
        client.write(1, id=8)
        await house.settle()
        assert len(client.outbox.unsent) == 1
        house.drain()
        assert [(r.request_id, r.body) for r in client.outbox.flush()] == [(8, refused(RequestKind.WRITE))]
        assert device(house, A).state.ongoing == 0


@pytest.mark.note("11", "2.5a")
async def test_a_drain_waits_for_the_release_of_what_is_ongoing(autojump_clock: MockClock) -> None:
    async with house_of(A, B, settings=family_settings(age_ms=1_000_000)) as house:
        client = house.connect()
        client.write(1, 1)
        await client.granted()
        house.drain()
        await trio.sleep(10_000)
        assert [device(house, path).ended.is_set() for path in (A, B)] == [False, False]
        assert {line.split(":")[0] for line in house.family.unfinished()} == {A, B}
        assert all("write by client 1 (pid 1001" in line for line in house.family.unfinished())
        client.release(back(A, 1), back(B, 1), id=3)
        assert await client.answer(2) == released(A, B)
        for path in (A, B):
            await device(house, path).ended.wait()
        assert house.family.unfinished() == []


@pytest.mark.note("11", "2.5d")
async def test_a_drain_that_waits_for_the_books_says_so(autojump_clock: MockClock) -> None:
    async with house_of(A) as house:
        client = house.connect()
        client.write(1)
        await client.granted()
        house.site.dss.go_away()
        client.release(back(A, 1), id=2)
        house.drain()
        await trio.sleep(100)
        assert house.family.unfinished() == [f"{A}: its books in the DSS"]
        house.site.dss.come_back()
        assert await client.answer(2) == released(A)


@pytest.mark.note("11", "5.3")
async def test_a_drain_waits_for_a_format_that_is_under_way(autojump_clock: MockClock) -> None:
    site = Site()
    site.add(A, fs_status=FsStatus.BLANK).seconds["format"] = 60.0
    async with house_of(site=site) as house:
        client = house.connect()
        client.format(A)
        await trio.sleep(1)
        house.drain()
        assert await client.answer(1) == Formatted(medium_id(A))


@pytest.mark.note("11")
async def test_a_forced_end_answers_a_format_that_is_under_way(autojump_clock: MockClock) -> None:
    site = Site()
    site.add(A, fs_status=FsStatus.BLANK).seconds["format"] = 60.0
    async with house_of(site=site, keep_clients=True) as house:
        client = house.connect(pause=None)
        client.format(A, id=4)
        await trio.sleep(1)
        house.drain()
        await trio.sleep(1)
        house.force()
    client.outbox.flush()
    assert [(r.request_id, r.body) for r in client.responses] == [(4, refused(RequestKind.FORMAT))]


async def test_nothing_is_promised_to_a_client_that_is_on_its_way_out(autojump_clock: MockClock) -> None:
    async with house_of(A, settings=family_settings(max_concurrent_io=1)) as house:
        holder, leaving, other = house.connect(), house.connect(), house.connect()
        holder.write(1)
        await holder.granted()
        leaving.write(1, id=2)
        leaving.write(1, id=3)
        other.write(1, id=4)
        await house.settle()
        # The first of its requests is withdrawn, and the second would be next.
        next(leaving.client.withdrawals())
        holder.leave()
        await other.granted()
        assert leaving.responses == []
        assert leaving.client.waiting == set()


@pytest.mark.note("11")
async def test_a_forced_end_answers_what_was_handed_over_and_not_taken_in(autojump_clock: MockClock) -> None:
    async with house_of(A, keep_clients=True) as house:
        client = house.connect(pause=None)
        await house.settle()
        house.force()
        client.write(1, id=4)
    client.outbox.flush()
    assert [(r.request_id, r.body) for r in client.responses] == [(4, refused(RequestKind.WRITE))]


@pytest.mark.note("11")
async def test_a_drain_ends_a_device_that_is_still_adopted(autojump_clock: MockClock) -> None:
    async with house_of(A) as house:
        house.site.add(B).seconds["open"] = 500.0
        admin = house.connect()
        admin.notify(ADD, B)
        await trio.sleep(1)
        begun = trio.current_time()
        house.drain()
        await device(house, B).ended.wait()
        assert trio.current_time() < begun + 10
        assert admin.bodies == [refused(RequestKind.NOTIFY)]


@pytest.mark.note("11", "10.3")
async def test_requests_that_arrive_at_the_very_end_are_still_answered(autojump_clock: MockClock) -> None:
    async with house_of(A) as house:
        client = house.connect(pause=None)
        for number in range(50):
            client.write(1, id=number)
        house.drain()
        for number in range(50, 60):
            client.write(1, id=number)
        await house.settle()
        client.outbox.flush()
        assert Counter(r.request_id for r in client.responses) == Counter(range(60))
        assert set(client.bodies) == {refused(RequestKind.WRITE)}


async def test_a_full_inbox_makes_who_hands_over_wait_and_loses_nobody(autojump_clock: MockClock) -> None:
    async with house_of(A) as house:
        client = house.connect()
        body = ReadAllocation(1, (medium_id("/unknown"),))
        made = [
            Allocation(client.client, Request(n, body), body, n, 0.0, house.settings.sync.thresholds)
            for n in range(1000)
        ]
        async with trio.open_nursery() as nursery:
            for request in made:
                if not house.family.submit(request):
                    nursery.start_soon(house.family.wait_submit, request)
        await client.answer(1000)
        assert Counter(r.request_id for r in client.responses) == Counter(range(1000))


# Several devices at once.


@pytest.mark.note("2.5d")
async def test_one_failing_directory_among_four_does_not_slow_the_others(autojump_clock: MockClock) -> None:
    paths = ["/srv/1", "/srv/2", "/srv/3", "/srv/4"]
    async with house_of(*paths, settings=family_settings(requests=1)) as house:
        house.site.disks[device_id(paths[0])].fail("sync", errno.EIO)
        counts: Counter[str] = Counter()
        failures = 0

        async def client_of_two() -> None:
            nonlocal failures
            client = house.connect()
            for number in range(10):
                asked = len(client.responses)
                client.write(10, 10, id=number)
                granted = await client.granted(asked + 1)
                await trio.sleep(1)
                client.release(*[back(one.medium, 10) for one in granted], id=number)
                answer = await client.answer(asked + 2)
                if isinstance(answer, Failed):
                    failures += 1
                else:
                    counts.update(one.medium.name for one in granted)

        begun = trio.current_time()
        async with trio.open_nursery() as nursery:
            for _ in range(8):
                nursery.start_soon(client_of_two)
        assert trio.current_time() == pytest.approx(begun + 10)
        assert 1 <= failures <= 8
        for path in paths:
            assert house.site.medium(path).stats.nb_obj == counts[path]
        assert device(house, paths[0]).state.grants == set()
        assert [device(house, path).state.status for path in paths[1:]] == [DeviceStatus.MOUNTED] * 3


async def test_a_device_that_hangs_does_not_keep_the_others_from_starting(autojump_clock: MockClock) -> None:
    site = Site()
    site.add(A)
    site.add(B).seconds["open"] = 100.0
    begun = trio.current_time()
    async with house_of(site=site) as house:
        assert trio.current_time() - begun < 100
        client = house.connect()
        client.write(1, id=1)
        await client.granted(1)
        assert house.family.devices[device_id(B)].state.status is DeviceStatus.ADOPTING
        await trio.sleep(100)
        client.read(B, id=2)
        assert isinstance(await client.answer(2), ReadGranted)


async def test_a_device_that_was_locked_is_an_event_once_it_has_ended(autojump_clock: MockClock) -> None:
    async with house_of(A) as house:
        holder = await reader_of(house, A)
        admin = house.connect()
        admin.notify(LOCK, A)
        await house.settle()
        assert EventKind.DEVICE_LOCKED not in [event.kind for event in house.site.seen]
        give_back(holder, A)
        await admin.answer(1)
        assert [event.kind for event in house.site.seen].count(EventKind.DEVICE_LOCKED) == 1


@pytest.fixture
def no_collector() -> Iterator[None]:
    """What depends on when the garbage collector runs shows best where it never does."""
    gc.disable()
    yield
    gc.enable()


async def test_what_has_been_answered_is_freed_without_a_search_for_garbage(
    autojump_clock: MockClock, no_collector: None
) -> None:
    def remembered() -> int:
        return sum(isinstance(thing, Allocation | ReleaseRequest) for thing in gc.get_objects())

    gc.collect()
    before = remembered()
    async with house_of(A, B) as house:
        client = house.connect()
        client.write(100)
        await client.granted(1)
        client.release(back(A, 1), id=2)
        await client.answer(2)
        client.read(B, id=3)
        await client.granted(3)
        client.release(back(B, to_sync=False), id=4)
        await house.settle()
        # The family has the last one that came still in its hand.
        assert remembered() - before <= 1


async def test_a_volume_is_forgotten_with_the_last_device_on_it(autojump_clock: MockClock, no_collector: None) -> None:
    async with house_of(A, B) as house:
        client, admin = house.connect(), house.connect()
        client.write(100)
        await client.granted()
        client.leave()
        assert len(house.family.volumes) == 2
        admin.notify(LOCK, A)
        await admin.answer(1)
        assert len(house.family.volumes) == 1
        admin.notify(UNLOCK, A, id=2)
        await admin.answer(2)
        assert len(house.family.volumes) == 2
