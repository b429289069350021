from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lrs_trio.devices.life import DeviceStatus
from lrs_trio.events import Event, EventKind
from lrs_trio.observe.replay import build_timeline
from lrs_trio.observe.timeline import (
    MICROSECONDS,
    SHARE_OF,
    DeviceLife,
    Outcome,
    RequestLife,
    Share,
    Stage,
    State,
    Timeline,
    percentages,
)
from tests.observe.samples import START, PlayedTapeSite

BEGIN = 100.0


def at(time: float, kind: EventKind, detail: str = "", **fields: object) -> Event:
    event = Event(BEGIN + time, kind, family="tape", device="d1", detail=detail)
    return replace(event, **fields)  # type: ignore[arg-type]


def status(time: float, value: str, medium: str = "") -> Event:
    return at(time, EventKind.DEVICE_STATUS, value, medium=medium)


def io(time: float, kind: EventKind, serial: int = 1, request: str = "WRITE", number: int = 1) -> Event:
    return at(time, kind, device=f"d{number}", medium=f"m{number}", request=request, serial=serial, client="c1")


def request(time: float, kind: EventKind, serial: int = 1, **fields: object) -> Event:
    return replace(
        Event(BEGIN + time, kind, family="tape", request="WRITE", client="c1", serial=serial),
        **fields,  # type: ignore[arg-type]
    )


def device(*events: Event, end: float | None = None) -> DeviceLife:
    (life,) = build_timeline(events, BEGIN, None if end is None else BEGIN + end).devices
    return life


def told(life: DeviceLife) -> list[tuple[str, float, float, str]]:
    return [
        (interval.state.value, interval.begin / MICROSECONDS, interval.end / MICROSECONDS, interval.medium)
        for interval in life.intervals
    ]


def life_of(*events: Event, end: float | None = None) -> RequestLife:
    (life,) = build_timeline(events, BEGIN, None if end is None else BEGIN + end).requests
    return life


def phases(life: RequestLife) -> list[tuple[Stage, float, float]]:
    return [(phase.stage, phase.begin / MICROSECONDS, phase.end / MICROSECONDS) for phase in life.phases]


def test_every_status_of_a_device_is_a_state() -> None:
    assert {status.value for status in DeviceStatus} <= {state.value for state in State}
    assert set(SHARE_OF) == set(State)


def test_a_drive_that_loads_writes_syncs_and_leaves() -> None:
    life = device(
        status(0, "adopting"),
        status(1, "empty"),
        status(2, "loading", "m1"),
        at(12, EventKind.LOADED, medium="m1"),
        status(12, "loaded", "m1"),
        status(12, "mounting", "m1"),
        status(20, "mounted", "m1"),
        io(21, EventKind.IO_BEGUN),
        io(31, EventKind.IO_ENDED),
        at(40, EventKind.SYNC_STARTED, medium="m1"),
        at(43, EventKind.SYNC_FINISHED, medium="m1", size=2**30),
        status(50, "unmounting", "m1"),
        status(60, "loaded", "m1"),
        status(60, "unloading", "m1"),
        status(80, "empty"),
        status(85, "stopped"),
        at(85, EventKind.DEVICE_REMOVED),
        end=100,
    )
    assert told(life) == [
        ("adopting", 0, 1, ""),
        ("empty", 1, 2, ""),
        ("loading", 2, 12, "m1"),
        ("mounting", 12, 20, "m1"),
        ("mounted", 20, 21, "m1"),
        ("writing", 21, 31, "m1"),
        ("mounted", 31, 40, "m1"),
        ("syncing", 40, 43, "m1"),
        ("mounted", 43, 50, "m1"),
        ("unmounting", 50, 60, "m1"),
        ("unloading", 60, 80, "m1"),
        ("empty", 80, 85, ""),
    ]
    assert (life.begin, life.end) == (0, 85 * MICROSECONDS)
    assert {share: time / MICROSECONDS for share, time in life.shares().items()} == {
        Share.STREAMING: 10,
        Share.SYNCING: 3,
        Share.MOVING: 49,
        Share.FORMATTING: 0,
        Share.IDLE: 23,
        Share.OUT_OF_SERVICE: 0,
    }
    assert (life.count(EventKind.LOADED), life.count(EventKind.SYNC_FINISHED), life.synced) == (1, 1, 2**30)


def test_io_of_several_clients_on_one_directory() -> None:
    life = device(
        status(0, "mounted", "m1"),
        io(1, EventKind.IO_BEGUN, 1, "READ"),
        io(2, EventKind.IO_BEGUN, 2, "WRITE"),
        io(3, EventKind.IO_ENDED, 1),
        io(4, EventKind.IO_BEGUN, 3, "WRITE"),
        at(5, EventKind.SYNC_STARTED),
        io(6, EventKind.IO_ENDED, 2),
        at(7, EventKind.SYNC_FAILED, "why", errno=5),
        io(8, EventKind.IO_ENDED, 3),
        end=9,
    )
    assert [(state, begin, end) for state, begin, end, _ in told(life)] == [
        ("mounted", 0, 1),
        ("reading", 1, 2),
        ("reading and writing", 2, 3),
        ("writing", 3, 5),
        ("syncing", 5, 7),
        ("writing", 7, 8),
        ("mounted", 8, 9),
    ]
    assert [(fault.kind, fault.errno, fault.text) for fault in life.faults] == [(EventKind.SYNC_FAILED, 5, "why")]


def test_that_a_drive_is_taken_out_of_service_is_no_failed_operation() -> None:
    life = device(
        status(0, "mounted", "m1"),
        at(1, EventKind.SYNC_FAILED, errno=5),
        at(1, EventKind.UNMOUNT_FAILED, errno=5),
        at(1, EventKind.DEVICE_FAILED, errno=5),
    )
    assert (len(life.faults), life.failed_operations) == (3, 2)


@pytest.mark.parametrize("state", ["failed", "quarantined"])
def test_a_broken_drive_is_out_of_service_until_the_end(state: str) -> None:
    life = device(
        status(0, "mounted", "m1"),
        io(1, EventKind.IO_BEGUN),
        status(2, state, "m1"),
        at(2, EventKind.DEVICE_REMOVED),
        io(3, EventKind.IO_ENDED),
        end=10,
    )
    assert told(life) == [("mounted", 0, 1, "m1"), ("writing", 1, 2, "m1"), (state, 2, 10, "m1")]


def test_a_drive_that_comes_back_was_out_of_service_meanwhile() -> None:
    life = device(
        status(0, "mounted", "m1"),
        io(1, EventKind.IO_BEGUN),
        at(2, EventKind.DEVICE_REMOVED),
        status(5, "mounted", "m2"),
        end=6,
    )
    assert [(state, begin, end) for state, begin, end, _ in told(life)] == [
        ("mounted", 0, 1),
        ("writing", 1, 2),
        ("stopped", 2, 5),
        ("mounted", 5, 6),
    ]


def test_a_status_of_tomorrow_is_unknown_and_out_of_service() -> None:
    life = device(status(0, "levitating"), end=1)
    assert told(life) == [("unknown", 0, 1, "")]
    assert life.shares()[Share.OUT_OF_SERVICE] == MICROSECONDS


@pytest.mark.note("9")
def test_the_life_of_a_write() -> None:
    life = life_of(
        request(0, EventKind.ALLOCATION_QUEUED),
        request(2, EventKind.ALLOCATION_PLACED, detail="d1"),
        request(3, EventKind.ALLOCATION_QUEUED),
        request(4, EventKind.ALLOCATION_PLACED, detail="d2"),
        request(7, EventKind.ALLOCATION_GRANTED),
        io(7, EventKind.IO_BEGUN),
        request(10, EventKind.RELEASE_BEGUN, 9, count=1),
        io(10, EventKind.IO_ENDED),
        request(14, EventKind.RELEASE_FINISHED, 9),
        end=20,
    )
    assert phases(life) == [
        (Stage.QUEUED, 0, 2),
        (Stage.PLANNED, 2, 3),
        (Stage.QUEUED, 3, 4),
        (Stage.PLANNED, 4, 7),
        (Stage.IO, 7, 10),
        (Stage.RELEASE, 10, 14),
    ]
    assert (life.outcome, life.placings, life.errno, life.end) == (Outcome.DONE, 2, 0, 14 * MICROSECONDS)
    assert [phase.detail for phase in life.phases if phase.stage is Stage.PLANNED] == ["d1", "d2"]


def test_two_copies_are_written_until_the_last_is_given_back() -> None:
    events = [
        request(0, EventKind.ALLOCATION_QUEUED),
        io(1, EventKind.IO_BEGUN),
        io(1, EventKind.IO_BEGUN, number=2),
        request(3, EventKind.RELEASE_BEGUN, 8, count=1),
        io(3, EventKind.IO_ENDED),
        request(5, EventKind.RELEASE_BEGUN, 9, count=1),
        io(5, EventKind.IO_ENDED, number=2),
        request(6, EventKind.RELEASE_FAILED, 9, errno=28),
    ]
    waiting = life_of(*events, end=9)
    assert phases(waiting) == [(Stage.QUEUED, 0, 1), (Stage.IO, 1, 5), (Stage.RELEASE, 5, 9)]
    assert waiting.outcome is Outcome.UNFINISHED
    failed = life_of(*events, request(8, EventKind.RELEASE_FINISHED, 8), end=9)
    assert phases(failed)[-1] == (Stage.RELEASE, 5, 8)
    assert (failed.outcome, failed.errno) == (Outcome.FAILED, 28)


def test_a_partial_release_lets_the_io_go_on() -> None:
    life = life_of(
        io(0, EventKind.IO_BEGUN),
        request(2, EventKind.RELEASE_BEGUN, 9, count=1),
        io(2, EventKind.IO_ENDED),
        request(3, EventKind.RELEASE_FINISHED, 9),
        io(4, EventKind.IO_BEGUN),
        io(6, EventKind.IO_ENDED),
        end=8,
    )
    assert phases(life) == [(Stage.IO, 0, 2), (Stage.RELEASE, 2, 4), (Stage.IO, 4, 6)]
    assert life.outcome is Outcome.DONE


def test_a_partial_release_lets_the_drive_sync_before_the_io_goes_on() -> None:
    timeline = build_timeline(
        [
            status(0, "mounted", "m1"),
            io(1, EventKind.IO_BEGUN),
            request(3, EventKind.RELEASE_BEGUN, 9, count=1),
            io(3, EventKind.IO_ENDED),
            at(4, EventKind.SYNC_STARTED, medium="m1"),
            at(6, EventKind.SYNC_FINISHED, medium="m1", size=10),
            request(6, EventKind.RELEASE_FINISHED, 9),
            io(7, EventKind.IO_BEGUN),
            request(9, EventKind.RELEASE_BEGUN, 10, count=1),
            io(9, EventKind.IO_ENDED),
            at(10, EventKind.SYNC_STARTED, medium="m1"),
            at(12, EventKind.SYNC_FINISHED, medium="m1", size=10),
            request(12, EventKind.RELEASE_FINISHED, 10),
        ],
        BEGIN,
    )
    (drive,) = timeline.devices
    assert [(state, begin, end) for state, begin, end, _ in told(drive)] == [
        ("mounted", 0, 1),
        ("writing", 1, 3),
        ("mounted", 3, 4),
        ("syncing", 4, 6),
        ("mounted", 6, 7),
        ("writing", 7, 9),
        ("mounted", 9, 10),
        ("syncing", 10, 12),
    ]
    (life,) = timeline.requests
    assert phases(life) == [(Stage.IO, 1, 3), (Stage.RELEASE, 3, 7), (Stage.IO, 7, 9), (Stage.RELEASE, 9, 12)]
    assert (life.outcome, life.placings) == (Outcome.DONE, 0)
    assert [(release.media, release.outcome) for release in timeline.releases] == [(1, Outcome.DONE)] * 2


@pytest.mark.parametrize(
    ("kind", "outcome"), [(EventKind.RELEASE_FINISHED, Outcome.DONE), (EventKind.RELEASE_FAILED, Outcome.FAILED)]
)
def test_a_client_that_goes_in_its_partial_release_ends_with_it(kind: EventKind, outcome: Outcome) -> None:
    life = life_of(
        io(0, EventKind.IO_BEGUN),
        request(2, EventKind.RELEASE_BEGUN, 9, count=1),
        io(2, EventKind.IO_ENDED),
        request(5, kind, 9, errno=5 if outcome is Outcome.FAILED else 0),
        end=8,
    )
    assert phases(life) == [(Stage.IO, 0, 2), (Stage.RELEASE, 2, 5)]
    assert (life.outcome, life.end) == (outcome, 5 * MICROSECONDS)


def test_a_tape_that_is_fetched_before_a_request_is_placed() -> None:
    timeline = build_timeline(EXCHANGED_AHEAD, BEGIN)
    (drive,) = timeline.devices
    assert told(drive) == [
        ("mounted", 0, 2, "m1"),
        ("unmounting", 2, 4, "m1"),
        ("unloading", 4, 6, "m1"),
        ("empty", 6, 7, ""),
        ("loading", 7, 9, "m2"),
        ("mounting", 9, 12, "m2"),
        ("mounted", 12, 15, "m2"),
        ("writing", 15, 18, "m2"),
        ("mounted", 18, 20, "m2"),
        ("unmounting", 20, 22, "m2"),
        ("unloading", 22, 24, "m2"),
        ("empty", 24, 30, ""),
    ]
    check_partition(drive)
    assert {share: time / MICROSECONDS for share, time in drive.shares().items() if time} == {
        Share.MOVING: 13,
        Share.STREAMING: 3,
        Share.IDLE: 14,
    }
    (life,) = timeline.requests
    assert phases(life) == [(Stage.QUEUED, 1, 14), (Stage.PLANNED, 14, 15), (Stage.IO, 15, 18)]


EXCHANGED_AHEAD = [
    status(0, "mounted", "m1"),
    request(1, EventKind.ALLOCATION_QUEUED),
    status(2, "unmounting", "m1"),
    status(4, "loaded", "m1"),
    status(4, "unloading", "m1"),
    at(6, EventKind.UNLOADED, medium="m1"),
    status(6, "empty"),
    status(7, "loading", "m2"),
    at(9, EventKind.LOADED, medium="m2"),
    status(9, "loaded", "m2"),
    status(9, "mounting", "m2"),
    status(12, "mounted", "m2"),
    request(14, EventKind.ALLOCATION_PLACED, detail="d1"),
    request(15, EventKind.ALLOCATION_GRANTED),
    replace(io(15, EventKind.IO_BEGUN), medium="m2"),
    replace(io(18, EventKind.IO_ENDED), medium="m2"),
    status(20, "unmounting", "m2"),
    status(22, "loaded", "m2"),
    status(22, "unloading", "m2"),
    status(24, "empty"),
    at(30, EventKind.DEVICE_REMOVED),
]
"""Emptied in the end for the sake of others: no tape follows."""


@pytest.mark.parametrize(
    ("kind", "outcome"),
    [(EventKind.ALLOCATION_REFUSED, Outcome.REFUSED), (EventKind.ALLOCATION_WITHDRAWN, Outcome.WITHDRAWN)],
)
def test_a_request_that_gets_nothing(kind: EventKind, outcome: Outcome) -> None:
    queued = request(0, EventKind.ALLOCATION_QUEUED)
    life = life_of(queued, request(3, kind, errno=28), end=8)
    assert phases(life) == [(Stage.QUEUED, 0, 3)]
    assert (life.outcome, life.end) == (outcome, 3 * MICROSECONDS)
    at_once = life_of(request(3, kind, errno=28), end=8)
    assert (at_once.outcome, at_once.begin, at_once.end, at_once.phases) == (outcome, life.end, life.end, ())


def test_an_io_that_no_release_ends_is_over() -> None:
    life = life_of(
        io(0, EventKind.IO_BEGUN),
        request(1, EventKind.RELEASE_BEGUN, 9, client="somebody else", count=1),
        io(2, EventKind.IO_ENDED),
        end=8,
    )
    assert phases(life) == [(Stage.IO, 0, 2)]
    assert life.outcome is Outcome.DONE


def test_a_client_that_goes_does_not_wait_for_its_releases() -> None:
    timeline = build_timeline(
        [
            io(0, EventKind.IO_BEGUN, 1),
            io(0, EventKind.IO_BEGUN, 2),
            request(1, EventKind.RELEASE_BEGUN, 9, count=1),
            io(1, EventKind.IO_ENDED, 1),
            io(2, EventKind.IO_ENDED, 2),
        ],
        BEGIN,
        BEGIN + 5,
    )
    assert [life.outcome for life in timeline.requests] == [Outcome.UNFINISHED, Outcome.DONE]


def test_the_last_release_of_a_client_is_the_one_that_ends_its_io() -> None:
    life = life_of(
        io(0, EventKind.IO_BEGUN),
        request(1, EventKind.RELEASE_BEGUN, 8, count=1),
        request(2, EventKind.RELEASE_BEGUN, 9, count=1),
        io(2, EventKind.IO_ENDED),
        request(3, EventKind.RELEASE_FINISHED, 9),
        end=5,
    )
    assert phases(life) == [(Stage.IO, 0, 2), (Stage.RELEASE, 2, 3)]


def test_releases_are_told_apart() -> None:
    timeline = build_timeline(
        [
            request(0, EventKind.RELEASE_BEGUN, 1, count=2),
            request(1, EventKind.RELEASE_BEGUN, 2, count=1),
            request(4, EventKind.RELEASE_FINISHED, 1),
            request(5, EventKind.RELEASE_FAILED, 2, errno=5),
            request(6, EventKind.RELEASE_FINISHED, 3),
            request(7, EventKind.RELEASE_BEGUN, 4, count=1),
        ],
        BEGIN,
    )
    assert [(life.media, life.duration / MICROSECONDS, life.outcome, life.errno) for life in timeline.releases] == [
        (2, 4, Outcome.DONE, 0),
        (1, 4, Outcome.FAILED, 5),
        (1, 0, Outcome.UNFINISHED, 0),
    ]


def test_devices_come_by_family_and_number() -> None:
    events = [
        Event(0, EventKind.DEVICE_STATUS, family, name, detail="empty")
        for family, name in (("tape", "d10"), ("dir", "h:/b"), ("tape", "d9"), ("dir", "h:/a"), ("tape", ""))
    ]
    devices = build_timeline(events).devices
    assert [(life.family, life.name) for life in devices] == [
        ("dir", "h:/a"),
        ("dir", "h:/b"),
        ("tape", "d9"),
        ("tape", "d10"),
    ]


STATUSES = [state.value for state in State] + ["levitating"]
DEVICE_KINDS = [kind for kind in EventKind if kind.value.startswith(("device.", "io.", "sync.", "medium."))]
UNSORTED = st.lists(
    st.builds(
        Event,
        time=st.floats(0, 1000),
        kind=st.sampled_from(DEVICE_KINDS) | st.just(EventKind.DEVICE_STATUS) | st.sampled_from(EventKind),
        family=st.sampled_from(["tape", "dir"]),
        device=st.sampled_from(["", "d1", "d2"]),
        medium=st.sampled_from(["", "m1", "m2"]),
        request=st.sampled_from(["READ", "WRITE"]),
        client=st.sampled_from(["c1", "c2"]),
        count=st.integers(0, 3),
        errno=st.sampled_from([0, 5]),
        detail=st.just("mounted") | st.sampled_from(STATUSES),
        serial=st.integers(0, 6),
    ),
    max_size=25,
)
MANY = st.one_of(UNSORTED.map(lambda events: sorted(events, key=lambda event: event.time)), UNSORTED)
"""Now and then with a clock that goes back, which no clock should."""


def check_partition(life: DeviceLife) -> None:
    edges = [life.begin]
    for interval in life.intervals:
        assert interval.begin == edges[-1]
        assert interval.end > interval.begin
        edges.append(interval.end)
    assert edges[-1] == life.end
    assert all((one.state, one.medium) != (other.state, other.medium) for one, other in pairwise(life.intervals))
    assert sum(life.shares().values()) == sum(life.by_state().values()) == life.end - life.begin


def check_request(life: RequestLife) -> None:
    edges = [life.begin, *(phase.end for phase in life.phases)]
    assert [phase.begin for phase in life.phases] == edges[:-1]
    assert all(phase.end > phase.begin for phase in life.phases)
    assert edges[-1] <= life.end
    if life.phases:
        assert edges[-1] == life.end


@settings(max_examples=40)
@given(MANY, st.none() | st.floats(0, 2000))
def test_times_add_up_whatever_happens(events: list[Event], end: float | None) -> None:
    timeline = build_timeline(events, 0.0, end)
    for life in timeline.devices:
        check_partition(life)
        assert 0 <= life.begin <= life.end <= timeline.end
    for one in timeline.requests:
        check_request(one)
    for family in timeline.families:
        whole = sum(life.duration for life in timeline.devices if life.family == family)
        assert sum(timeline.shares(family).values()) == whole
        assert sum(percentages(timeline.shares(family)).values()) == pytest.approx(100 if whole else 0)


@settings(max_examples=40)
@given(MANY, st.integers(0, 10**9), st.integers(0, 10**9))
def test_two_parts_of_the_time_make_the_whole(events: list[Event], one: int, other: int) -> None:
    whole = build_timeline(events, 0.0, 1000.0)
    first, last = sorted((one, other))
    edges = [0, first, last, whole.end]
    parts = [whole.between(begin, end) for begin, end in pairwise(edges)]
    for part in parts:
        for life in part.devices:
            check_partition(life)
    assert total(whole) == {state: sum(total(part).get(state, 0) for part in parts) for state in total(whole)}


def total(timeline: Timeline) -> dict[State, int]:
    times: dict[State, int] = {}
    for life in timeline.devices:
        for state, time in life.by_state().items():
            times[state] = times.get(state, 0) + time
    return times


def test_a_part_has_what_happened_in_it() -> None:
    whole = build_timeline(PlayedTapeSite(requests=60).events(), START)
    middle = whole.between(whole.end // 3, whole.end // 2)
    assert (middle.begin, middle.end) == (whole.end // 3, whole.end // 2)
    assert {life.name for life in middle.devices} == {life.name for life in whole.devices}
    assert 0 < len(middle.requests) < len(whole.requests)
    for life in middle.requests:
        assert all(middle.begin <= phase.begin < phase.end <= middle.end for phase in life.phases)
    assert whole.between(-5, whole.end * 2) == whole


def test_nothing_happened() -> None:
    empty = build_timeline([])
    assert empty == Timeline(0, 0, (), (), ())
    assert percentages(empty.shares("tape"))[Share.STREAMING] == 0


def test_the_site_of_the_samples_is_served_to_the_end() -> None:
    timeline = build_timeline(PlayedTapeSite().events(), START)
    assert {life.outcome for life in timeline.requests} == {Outcome.DONE}
    assert len(timeline.requests) == 300
    assert sum(life.shares()[Share.OUT_OF_SERVICE] > 0 for life in timeline.devices) == 1
    for life in timeline.devices:
        check_partition(life)
