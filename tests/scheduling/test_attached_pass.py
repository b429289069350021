"""The pass that keeps what it knows, and looks at few, comes to what a look at everybody in order comes to."""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from random import Random
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lrs_trio.devices.device import DeviceTask
from lrs_trio.devices.grant import Grant
from lrs_trio.devices.life import DeviceStatus
from lrs_trio.devices.state import DeviceState
from lrs_trio.devices.to_sync import ToSyncSet
from lrs_trio.devices.volume import Volume
from lrs_trio.model import (
    AdmStatus,
    Family,
    FsStatus,
    FsType,
    Medium,
    ReadOperation,
    RequestKind,
    ResourceId,
    SyncThresholds,
)
from lrs_trio.scheduling.attached_pass import MOST_IN_VAIN, AttachedPass
from lrs_trio.scheduling.client import Client
from lrs_trio.scheduling.offers import KeptOffers, offers_of
from lrs_trio.scheduling.placement import Never, Outcome, Placed, Waits, place_format, place_read, place_write
from lrs_trio.scheduling.queue import RequestQueue
from lrs_trio.scheduling.requests import Allocation, FormatRequest, PlaceableRequest
from lrs_trio.scheduling.supply import Surroundings
from lrs_trio.scheduling.sweep import Sweep
from lrs_trio.wire.messages import Format, ReadAllocation, Request, WriteAllocation, WriteMedium
from tests.fakes.outbox import RecordingOutbox
from tests.fakes.site import device_id, family_settings, medium_id

NAMES = "abcde"
THRESHOLDS = SyncThresholds(1.0, 5, 1000)
Body = WriteAllocation | ReadAllocation | Format


@dataclass(eq=False)
class FakeDevice:
    """What placement sees of a device."""

    name: str
    medium: Medium
    state: DeviceState

    @property
    def id(self) -> ResourceId:
        return device_id(self.name)

    @property
    def medium_id(self) -> ResourceId:
        return self.medium.id


@dataclass
class Place:
    """Devices, a queue, and the two ways to find out who gets what."""

    slots: int
    mixes: bool
    while_io: bool
    policy: str
    groupings: bool
    devices: dict[ResourceId, FakeDevice] = field(default_factory=dict)
    volumes: list[Volume] = field(default_factory=list)
    queue: RequestQueue = field(default_factory=RequestQueue)
    located: dict[ResourceId, float] = field(default_factory=dict)
    clients: list[Client] = field(default_factory=list)
    held: list[Grant] = field(default_factory=list)
    now: float = 0.0
    serial: int = 0

    def __post_init__(self) -> None:
        self.settings = family_settings(policy=self.policy, groupings=self.groupings)
        self.clients = [Client(number, RecordingOutbox(lambda: 0.0), pid=1, uid=1) for number in range(3)]
        self.offers = KeptOffers(cast(Any, self.devices))
        self.looks_again = 0
        around = SimpleNamespace(
            settings=lambda: self.settings,
            devices=self.devices,
            held_by=self.held_by,
            context=SimpleNamespace(changed=self._look_again),
        )
        self.around = cast(Surroundings, around)

    def _look_again(self) -> None:
        self.looks_again += 1

    def held_by(self, client: Client) -> frozenset[ResourceId]:
        return frozenset(grant.device.id for grant in self.held if grant.holder.client is client)

    def add(self, name: str, volume: Volume, **medium: Any) -> None:
        state = DeviceState(
            ToSyncSet(THRESHOLDS), self.slots, self.while_io, self.mixes, volume=volume, present=medium_id(name)
        )
        state.become(DeviceStatus.MOUNTED, 0.0)
        row = replace(Medium(medium_id(name), FsType.POSIX, AdmStatus.UNLOCKED, FsStatus.USED), **medium)
        self.devices[device_id(name)] = FakeDevice(name, row, state)
        self.offers.enrol(device_id(name))
        if volume not in self.volumes:
            self.volumes.append(volume)

    def ask(self, body: Body, client: int, qos: int, priority: int) -> None:
        self.serial += 1
        request = Request(self.serial, body, qos, priority)
        owner = self.clients[client]
        made: PlaceableRequest
        if isinstance(body, Format):
            made = FormatRequest(owner, request, body, self.serial, 0.0)
        else:
            made = Allocation(owner, request, body, self.serial, 0.0, THRESHOLDS)
        self.queue.add(made)

    def plainly(self) -> tuple[dict[int, object], dict[int, int | None]]:
        """Who gets what and who is refused, if everything is looked at anew, and everybody in order."""
        devices = cast(Sequence[DeviceTask], list(self.devices.values()))
        offers = offers_of(devices, self.volumes, self.located, self.now)
        placed: dict[int, object] = {}
        refused: dict[int, int | None] = {}
        for request in self.queue.in_order():
            outcome = self._plain_outcome(request, offers)
            if isinstance(outcome, Placed):
                outcome.take(request.kind)
                placed[request.serial] = named(outcome)
            elif isinstance(outcome, Waits):
                outcome.keep()
            else:
                refused[request.serial] = outcome.error.errno
        return placed, refused

    def _plain_outcome(self, request: PlaceableRequest, offers: list[Any]) -> Outcome:
        body, by_medium = request.body, {offer.medium.id: offer for offer in offers}
        if isinstance(body, WriteAllocation):
            excluded = self.held_by(request.client) if body.prevent_duplicate else frozenset[ResourceId]()
            return place_write(
                body, offers, groupings=self.groupings, excluded=excluded, first_fit=self.policy == "first_fit"
            )
        if isinstance(body, ReadAllocation):
            return place_read(body, by_medium, request.absent)
        return place_format(body, by_medium, request.absent)

    def incrementally(self) -> tuple[dict[int, Placed], dict[int, int | None]]:
        """The same by a pass of the family's; what is placed and refused leaves the queue."""
        made = self._begin()
        placed: dict[int, Placed] = {}
        refused: dict[int, int | None] = {}
        for request in made.turns():
            if request is None:
                continue
            outcome = made.decide(request)
            if isinstance(outcome, Never):
                refused[request.serial] = outcome.error.errno
                self.queue.discard(request)
                continue
            made.apply(request, outcome)
            if isinstance(outcome, Placed):
                placed[request.serial] = outcome
                self.queue.discard(request)
        return placed, refused

    def swept(self) -> dict[int, int | None]:
        """Who is refused when all are judged anew."""
        made, sweep = self._begin(), Sweep(self.queue)
        sweep.begin()
        refused: dict[int, int | None] = {}
        while sweep:
            for request in sweep.some(made, 3):
                never = made.judge(request)
                if never is not None:
                    refused[request.serial] = never.error.errno
        return refused

    def _begin(self) -> AttachedPass:
        for medium in self.located:
            self.offers.touch_medium(medium)
        self.offers.renew(self.located, self.now)
        return AttachedPass(self.offers, self.queue, self.around, lambda: self.now)

    def grant(self, kind: RequestKind, client: Client, outcome: Placed) -> None:
        for take in outcome.takes:
            device = self.devices[take.device]
            if kind is RequestKind.FORMAT:
                continue  # done in no time
            holder = cast(Any, SimpleNamespace(client=client))
            grant = Grant(cast(DeviceTask, device), take.medium.id, kind, holder, take.reserve)
            grant.volume = device.state.volume
            device.state.plan(grant, take.medium, self.now)
            self.held.append(grant)

    def end(self, grant: Grant) -> None:
        self.held.remove(grant)
        self.devices[grant.device.id].state.end(grant, self.now, dirty=False)
        self.offers.touch(grant.device.id)


def named(placed: Placed) -> object:
    return [(take.device, take.reserve) for take in placed.takes]


tags = st.sampled_from([(), (), ("x",), ("y",), ("x", "y")])
writes = st.builds(
    WriteAllocation,
    st.lists(
        st.builds(
            WriteMedium,
            st.integers(0, 120),
            st.sampled_from([(), (), (), ("x",)]),
            st.sampled_from([False] * 5 + [True]),
        ),
        min_size=1,
        max_size=3,
    ).map(tuple),
    st.just(Family.DIR),
    prevent_duplicate=st.sampled_from([False, False, False, True]),
    no_split=st.booleans(),
    grouping=st.sampled_from([None, None, "g"]),
)
single_writes = st.builds(
    lambda size, marks: WriteAllocation((WriteMedium(size, marks),), Family.DIR),
    st.integers(0, 120),
    st.sampled_from([(), (), ("x",)]),
)
reads = st.builds(
    lambda names, required, operation: ReadAllocation(
        min(required, len(names)), tuple(map(medium_id, names)), operation
    ),
    st.lists(st.sampled_from(NAMES + "z"), unique=True, min_size=1, max_size=3),
    st.integers(1, 3),
    st.sampled_from(ReadOperation),
)
formats = st.builds(lambda name: Format(medium_id(name), FsType.POSIX), st.sampled_from(NAMES))
bodies = st.one_of(single_writes, single_writes, writes, reads, reads, formats)


@st.composite
def places(draw: st.DrawFn) -> Place:
    place = Place(
        slots=draw(st.integers(1, 3)),
        mixes=draw(st.booleans()),
        while_io=draw(st.booleans()),
        policy=draw(st.sampled_from(["best_fit", "first_fit"])),
        groupings=draw(st.booleans()),
    )
    volumes = [Volume(measured=draw(st.integers(0, 300))) for _ in range(draw(st.integers(1, 4)))]
    for name in draw(st.lists(st.sampled_from(NAMES), unique=True, max_size=5)):
        place.add(
            name,
            draw(st.sampled_from(volumes)),
            fs_status=draw(
                st.sampled_from([FsStatus.USED, FsStatus.USED, FsStatus.EMPTY, FsStatus.FULL, FsStatus.BLANK])
            ),
            tags=draw(tags),
            groupings=draw(st.sampled_from([(), (), ("g",)])),
            put=draw(st.sampled_from([True, True, True, False])),
            get=draw(st.sampled_from([True, True, True, False])),
        )
    return place


def something_changes(place: Place, draw: Callable[[st.SearchStrategy[Any]], Any]) -> None:
    """One of the things that happen to devices; those tell that they have changed which tell it in the daemon."""
    device: FakeDevice = draw(st.sampled_from(list(place.devices.values())))
    what = draw(st.sampled_from(["fails", "is kept back", "is used", "is measured", "is located", "gets a release"]))
    state = device.state
    if what == "fails":
        state.error = OSError(5, "broken")
    elif what == "is kept back":
        state.withheld = None if state.withheld else cast(Any, OSError(11, "another host has it"))
    elif what == "is used":
        device.medium = replace(device.medium, fs_status=draw(st.sampled_from([FsStatus.USED, FsStatus.FULL])))
    elif what == "is measured":
        state.volume.measure(draw(st.integers(0, 300)))
    elif what == "is located":
        for medium in (device.medium.id, *place.located):
            place.offers.touch_medium(medium)
        place.located = {device.medium.id: 1.0} if not place.located else {}
    else:
        state.to_sync.mark_dirty(place.now)
        place.now += draw(st.sampled_from([0.0, 2.0]))
        if not place.while_io:
            for name in place.devices:
                place.offers.touch(name)
    place.offers.touch(device.id)
    for other in place.devices.values():
        if other.state.volume is state.volume:
            place.offers.touch(other.id)


@settings(max_examples=400)
@given(st.data())
def test_law_it_decides_what_a_look_at_everybody_decides(data: st.DataObject) -> None:
    place = data.draw(places())
    for _ in range(data.draw(st.integers(1, 6))):
        arrivals = st.tuples(bodies, st.integers(0, 2), st.sampled_from([0, 0, 0, 1]), st.sampled_from([0, 0, -5, 7]))
        for body, client, qos, priority in data.draw(st.lists(arrivals, max_size=8)):
            place.ask(body, client, qos, priority)
        waiting = {request.serial: request for request in place.queue.in_order()}
        expected, expected_refusals = place.plainly()
        assert place.swept() == expected_refusals
        placed, refused = place.incrementally()
        assert {serial: named(outcome) for serial, outcome in placed.items()} == expected
        assert refused.items() <= expected_refusals.items()
        for serial, number in expected_refusals.items():
            assert number is not None
            place.queue.discard(waiting[serial])
        for serial, outcome in placed.items():
            place.grant(waiting[serial].kind, waiting[serial].client, outcome)
        for grant in data.draw(st.lists(st.sampled_from(place.held), unique_by=id)) if place.held else ():
            place.end(grant)
        if data.draw(st.booleans()) and place.devices:
            something_changes(place, data.draw)


def agreed(place: Place) -> dict[int, object]:
    """Who gets what, which both ways have to agree on."""
    expected, _ = place.plainly()
    placed, _ = place.incrementally()
    assert {serial: named(outcome) for serial, outcome in placed.items()} == expected
    return expected


def full(place: Place, name: str) -> None:
    """Let a directory have no slot left."""
    grant = Grant(cast(DeviceTask, place.devices[device_id(name)]), medium_id(name), RequestKind.READ, cast(Any, None))
    for _ in range(place.slots):
        place.devices[device_id(name)].state.plan(replace(grant), cast(Medium, None), place.now)


def test_a_device_that_can_do_less_without_having_said_so_gets_nothing() -> None:
    place = Place(1, True, False, "best_fit", False)
    place.add("a", Volume(measured=100))
    place.add("b", Volume(measured=200))
    place.incrementally()
    place.devices[device_id("a")].state.to_sync.mark_dirty(place.now)
    place.now += 10
    place.ask(single(10), 0, 0, 0)
    assert agreed(place) == {1: [(device_id("b"), 10)]}
    # It may be able to do something else by now: that is for another pass to see.
    assert place.looks_again == 1


@pytest.mark.note("10.2")
@pytest.mark.parametrize(("size", "fits"), [(50, False), (40, True)])
def test_bytes_are_kept_for_one_that_finds_no_slot(size: int, fits: bool) -> None:
    place = Place(1, True, True, "best_fit", False)
    shared = Volume(measured=100)
    place.add("a", shared, tags=("x",))
    place.add("b", shared)
    full(place, "a")
    place.ask(single(60, "x"), 0, 0, 0)
    place.ask(single(size), 1, 0, 0)
    assert agreed(place) == ({2: [(device_id("b"), size)]} if fits else {})


def test_one_that_has_to_be_split_need_not_wait_behind_one_that_has_not() -> None:
    place = Place(1, True, True, "best_fit", False)
    place.add("a", Volume(measured=460))
    place.add("b", Volume(measured=50))
    full(place, "a")
    place.ask(single(100), 0, 0, 0)
    place.ask(single(505), 0, 0, 0)
    assert agreed(place) == {2: [(device_id("b"), 50)]}


def test_copies_that_do_not_fit_on_one_volume_together_are_no_whole_ones() -> None:
    place = Place(1, True, True, "best_fit", False)
    shared = Volume(measured=100)
    place.add("a", shared)
    place.add("b", shared)
    place.add("c", Volume(measured=30))
    full(place, "a")
    place.ask(WriteAllocation((WriteMedium(60), WriteMedium(60)), Family.DIR), 0, 0, 0)
    assert agreed(place) == {1: [(device_id("b"), 60), (device_id("c"), 30)]}


@pytest.mark.parametrize("no_split", [False, True])
def test_a_part_of_no_bytes_needs_a_byte_of_its_own(no_split: bool) -> None:
    place = Place(1, True, True, "best_fit", False)
    shared = Volume(measured=90)
    place.add("a", shared)
    place.add("b", shared)
    place.ask(WriteAllocation((WriteMedium(90), WriteMedium(0)), Family.DIR, no_split=no_split), 0, 0, 0)
    assert place.incrementally() == ({}, {1: errno.ENOSPC})


def test_those_who_want_an_empty_medium_that_is_written_keep_no_bytes_of_its_volume() -> None:
    place = Place(2, True, True, "best_fit", False)
    shared = Volume(measured=100)
    place.add("a", shared, tags=("x",), fs_status=FsStatus.EMPTY)
    place.add("b", shared)
    place.ask(single(0, "x"), 0, 0, 0)
    for outcome in place.incrementally()[0].values():
        place.grant(RequestKind.WRITE, place.clients[0], outcome)
    empty = WriteAllocation((WriteMedium(60, ("x",), empty_medium=True),), Family.DIR)
    for _ in range(2):
        place.ask(empty, 0, 0, 0)
    place.ask(single(90), 1, 0, 0)
    assert agreed(place) == {4: [(device_id("b"), 90)]}


def single(size: int, *marks: str) -> WriteAllocation:
    return WriteAllocation((WriteMedium(size, marks),), Family.DIR)


@pytest.mark.note("10.2")
def test_bytes_are_kept_for_a_crowd_that_finds_no_slot() -> None:
    """They share their volume with a directory that has slots, and that they may not use."""
    place = Place(1, True, True, "best_fit", False)
    shared = Volume(measured=1000)
    place.add("a", shared, tags=("x",))
    place.add("b", shared)
    place.ask(single(0, "x"), 0, 0, 0)
    for serial, outcome in place.incrementally()[0].items():
        place.grant(RequestKind.WRITE, place.clients[0], outcome)
        assert serial == 1
    # Those that are looked at leave something of the volume, all together do not.
    for _ in range(2 * MOST_IN_VAIN):
        place.ask(single(800 // MOST_IN_VAIN, "x"), 0, 0, 0)
    place.ask(single(10), 1, 0, 0)
    expected, _ = place.plainly()
    assert expected == {}
    assert place.incrementally() == ({}, {})


@settings(max_examples=100)
@given(st.randoms(use_true_random=False), st.integers(2, 40))
def test_law_all_are_judged_however_often_the_sweep_begins_anew(random: Random, count: int) -> None:
    place = Place(1, True, True, "best_fit", False)
    place.add("a", Volume(measured=100))
    known, unknown = (ReadAllocation(1, (medium_id(name),)) for name in "az")
    kinds: list[Body] = [single(1), single(200), known, unknown]
    for _ in range(count):
        place.ask(random.choice(kinds), 0, 0, 0)
    expected = place.swept()
    made, sweep = place._begin(), Sweep(place.queue)
    found: dict[int, int | None] = {}
    # As many steps as there are to look at, and one for each that begins anew.
    for _ in range(4 * count + 20):
        sweep.begin()
        for request in sweep.some(made, 1):
            never = made.judge(request)
            if never is not None:
                found[request.serial] = never.error.errno
    assert found == expected
