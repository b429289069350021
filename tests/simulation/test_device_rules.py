from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
import trio

from lrs_trio.devices.device import DeviceTask
from lrs_trio.devices.grant import GrantState
from lrs_trio.devices.state import FormatJob
from lrs_trio.devices.to_sync import SyncGroup
from lrs_trio.errors import LrsError
from lrs_trio.events import Event, EventKind
from lrs_trio.model import Family, RequestKind
from lrs_trio.simulation.oracles.device_rules import DeviceRules
from tests.fakes.house import FakeClient, House, back, house_of
from tests.fakes.site import device_id, family_settings, medium_id

A, B = "/srv/a", "/srv/b"


@dataclass
class Watched:
    """A house that serves, one write that is under way on `device`, and what the rules say."""

    house: House
    client: FakeClient
    rules: DeviceRules
    said: list[str]
    device: DeviceTask = field(init=False)

    def __post_init__(self) -> None:
        self.device = self.house.family.devices[device_id(A)]

    def emit(self, kind: EventKind, device: DeviceTask | None = None, **values: object) -> None:
        """Tell the rules something that has not happened."""
        device = device or self.device
        told = {"family": "dir", "device": device.id.name, "medium": device.row.path} | values
        self.rules.tell(Event(trio.current_time(), kind, **told))  # type: ignore[arg-type]

    def look(self) -> None:
        self.rules.look(self.device)
        self.rules.look_at_space(self.house.family)


def listen(house: House, rules: DeviceRules) -> None:
    def hear(event: Event) -> None:
        rules.tell(event)

    house.site.events.subscribe(hear)


@asynccontextmanager
async def watched(**settings: object) -> AsyncIterator[Watched]:
    said: list[str] = []
    async with house_of(A, B, settings=family_settings(**settings)) as house:  # type: ignore[arg-type]
        rules = DeviceRules(lambda: {Family.DIR: house.family}, said.append)
        listen(house, rules)
        client = house.connect()
        client.write(100)
        await client.granted()
        state = house.family.devices[device_id(A)].state
        before = dict(state._counts), state.volume.reserved
        made = Watched(house, client, rules, said)
        made.look()
        assert said == []
        yield made
        state._counts, state.volume.reserved = before
        house.violations.clear()


async def test_an_honest_house_breaks_no_rule(autojump_clock: trio.testing.MockClock) -> None:
    said: list[str] = []
    async with house_of(A, B) as house:
        rules = DeviceRules(lambda: {Family.DIR: house.family}, said.append)
        listen(house, rules)
        for number in range(5):
            client = house.connect()
            client.write(100, 100, id=number)
            await client.granted()
            client.release(back(A, 100), back(B, 100), id=number)
            await client.answer(2)
            for device in house.family.devices.values():
                rules.look(device)
            rules.look_at_space(house.family)
    assert said == []


async def test_a_count_that_is_wrong_is_found(autojump_clock: trio.testing.MockClock) -> None:
    async with watched() as house:
        house.device.state._counts[GrantState.ONGOING] += 1
        house.look()
        assert house.said == [
            f"{house.device.id}: counts 0 planned, 2 ongoing, 0 reserved; there are 0, 1, 0",
        ]


async def test_more_grants_than_allowed_are_found(autojump_clock: trio.testing.MockClock) -> None:
    async with watched() as house:
        house.device.state.max_concurrent_io = 0
        house.look()
        house.device.state.max_concurrent_io = 8
        assert house.said == [f"{house.device.id}: has 1 grants, 0 are allowed"]


async def test_reads_and_writes_that_are_mixed_are_found(autojump_clock: trio.testing.MockClock) -> None:
    async with watched() as house:
        reader = house.house.connect()
        reader.read(A)
        await reader.granted()
        house.look()
        assert house.said == []
        house.device.state.mix_reads_and_writes = False
        house.look()
        house.device.state.mix_reads_and_writes = True
        assert house.said == [f"{house.device.id}: reads and writes are mixed"]
        reader.leave()


async def test_io_during_a_sync_that_excludes_it_is_found(autojump_clock: trio.testing.MockClock) -> None:
    async with watched(sync_while_io=False) as house:
        house.device.state.syncing = SyncGroup(())
        house.look()
        house.device.state.syncing = None
        assert house.said == [f"{house.device.id}: I/O goes on during a sync that excludes it"]


async def test_io_that_begins_during_a_sync_that_excludes_it_is_found(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with watched(sync_while_io=False) as house:
        (grant,) = house.device.state.grants
        house.emit(EventKind.SYNC_STARTED)
        assert house.said == [f"{house.device.id}: a sync that excludes I/O begins while I/O goes on"]
        house.said.clear()
        grant.state = GrantState.READY
        house.emit(EventKind.IO_BEGUN, serial=grant.serial)
        assert house.said == [
            f"{house.device.id}: the I/O of request {grant.serial} begins during a sync that excludes it"
        ]
        grant.state = GrantState.ONGOING


async def test_io_without_a_grant_that_is_ready_is_found(autojump_clock: trio.testing.MockClock) -> None:
    async with watched() as house:
        (grant,) = house.device.state.grants
        house.emit(EventKind.IO_BEGUN, serial=99)
        house.emit(EventKind.IO_BEGUN, serial=grant.serial)
        assert house.said == [
            f"{house.device.id}: the I/O of request 99 begins without a grant",
            f"{house.device.id}: the I/O of request {grant.serial} begins when its grant is ongoing",
        ]


async def test_two_syncs_at_a_time_are_found(autojump_clock: trio.testing.MockClock) -> None:
    async with watched() as house:
        house.emit(EventKind.SYNC_STARTED)
        house.emit(EventKind.SYNC_FINISHED)
        house.emit(EventKind.SYNC_STARTED)
        assert house.said == []
        house.emit(EventKind.SYNC_STARTED)
        assert house.said == [f"{house.device.id}: a sync begins while another one is under way"]


async def test_a_medium_in_two_devices_is_found(autojump_clock: trio.testing.MockClock) -> None:
    async with watched() as house:
        other = house.house.family.devices[device_id(B)]
        own, other.medium = other.medium, house.device.medium
        house.rules.look(other)
        other.medium = own
        assert house.said == [f"{medium_id(A)}: is in {device_id(A)} and in {device_id(B)}"]


async def test_space_that_is_not_reserved_by_a_grant_is_found(autojump_clock: trio.testing.MockClock) -> None:
    async with watched() as house:
        house.device.state.volume.reserved += 1
        house.look()
        assert house.said == [f"{medium_id(A)}: 101 bytes are reserved, the grants there have reserved 100"]


async def test_negative_space_is_found(autojump_clock: trio.testing.MockClock) -> None:
    async with watched() as house:
        house.device.state.volume.reserved = -1
        house.rules.look(house.device)
        assert len(house.said) == 1
        assert "negative space" in house.said[0]


@pytest.mark.parametrize("how", ["stopping", "failed"])
async def test_a_promise_of_a_device_that_serves_no_more_is_found(
    how: str, autojump_clock: trio.testing.MockClock
) -> None:
    async with watched() as house:
        state = house.device.state
        (grant,) = state.grants
        grant.state = GrantState.READY
        state._counts = dict.fromkeys(GrantState, 0) | {GrantState.READY: 1}
        if how == "stopping":
            state.stopping = True
        else:
            state.error = LrsError(5, "broken")
        house.rules.look(house.device)
        house.emit(EventKind.ALLOCATION_PLACED, detail=house.device.id.name, serial=7)
        grant.state = GrantState.ONGOING
        state.stopping, state.error = False, None
        why = "is to stop" if how == "stopping" else "has failed"
        assert house.said == [
            f"{house.device.id}: {why} and is promised to request {grant.serial}",
            f"{house.device.id}: request 7 is placed on a device that serves no more",
        ]


async def test_a_format_beside_grants_is_found(autojump_clock: trio.testing.MockClock) -> None:
    async with watched() as house:
        state, medium = house.device.state, house.device.medium
        assert medium is not None
        state.formatting = FormatJob(medium, False, holder=None)  # type: ignore[arg-type]
        house.look()
        house.emit(EventKind.SYNC_STARTED)
        state.formatting = None
        assert house.said == [
            f"{house.device.id}: has grants and a format",
            f"{house.device.id}: a sync begins during a format",
        ]


async def test_an_unmount_before_the_sync_is_found(autojump_clock: trio.testing.MockClock) -> None:
    async with watched() as house:
        (grant,) = house.device.state.grants
        house.device.state.to_sync.mark_dirty(trio.current_time())
        house.emit(EventKind.UNMOUNTED)
        house.emit(EventKind.DEVICE_REMOVED)
        assert house.said == [
            f"{house.device.id}: is unmounted while request {grant.serial} uses {medium_id(A)}",
            f"{house.device.id}: is unmounted before what was written there is synced and in the books",
            f"{house.device.id}: has ended while request {grant.serial} uses {medium_id(A)}",
            f"{house.device.id}: has ended before what was written there is synced and in the books",
            f"{house.device.id}: has ended with grants on it",
        ]


async def test_a_medium_that_is_used_where_it_is_not_is_found(autojump_clock: trio.testing.MockClock) -> None:
    async with watched() as house:
        (grant,) = house.device.state.grants
        grant.medium = medium_id(B)
        house.look()
        grant.medium = medium_id(A)
        assert house.said == [f"{house.device.id}: request {grant.serial} uses {medium_id(B)}, which is not in it"]


async def test_a_request_that_is_placed_twice_on_one_device_is_found(autojump_clock: trio.testing.MockClock) -> None:
    async with watched() as house:
        name = house.device.id.name
        house.emit(EventKind.ALLOCATION_PLACED, detail=f"{name}, {name}", serial=7, request=RequestKind.WRITE.name)
        assert house.said == [f"request 7 is placed on {name}, {name}, which are not devices of their own each"]
