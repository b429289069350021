from __future__ import annotations

from itertools import accumulate, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrs_trio.events import EventKind
from lrs_trio.observe.condensing import condense, crowd, gather, lanes, media_stays, say_once
from lrs_trio.observe.timeline import Interval, Moment, Outcome, Phase, RequestLife, Stage, State


def intervals(lengths: list[int]) -> list[Interval]:
    edges = list(accumulate(lengths, initial=0))
    states = (State.WRITING, State.MOUNTED, State.SYNCING)
    return [Interval(states[n % 3], begin, end) for n, (begin, end) in enumerate(pairwise(edges))]


def life(begin: int, end: int, stage: Stage = Stage.IO) -> RequestLife:
    return RequestLife("tape", 1, "READ", "c", begin, end, (Phase(stage, begin, end),), Outcome.DONE)


@given(st.lists(st.integers(1, 50)), st.integers(0, 60))
def test_nothing_is_lost_and_little_is_left(lengths: list[int], shortest: int) -> None:
    spans = intervals(lengths)
    groups = list(condense(spans, shortest))
    assert [span for group in groups for span in group] == spans
    assert all(len(group) == 1 or all(span.duration < shortest for span in group) for group in groups)
    assert all(len(group) == 1 or group[-1].begin - group[0].begin < shortest for group in groups)
    if shortest:
        assert len(groups) <= 2 * (sum(lengths) // shortest) + 1


def test_long_ones_stay_alone() -> None:
    spans = intervals([10, 1, 1, 10, 4, 4, 4])
    assert [len(group) for group in condense(spans, 8)] == [1, 2, 1, 2, 1]


def test_stays_of_media() -> None:
    told = [("", 0, 2), ("m1", 2, 3), ("m1", 3, 9), ("m2", 9, 10), ("", 10, 11), ("m1", 11, 12)]
    spans = [Interval(State.EMPTY, begin, end, medium) for medium, begin, end in told]
    stays = media_stays(spans)
    assert [(stay.medium, stay.begin, stay.end) for stay in stays] == [("m1", 2, 9), ("m2", 9, 10), ("m1", 11, 12)]


@given(st.lists(st.tuples(st.integers(0, 100), st.integers(0, 30)), max_size=15), st.integers(0, 5))
def test_lives_in_one_lane_do_not_meet(told: list[tuple[int, int]], gap: int) -> None:
    lives = [life(begin, begin + length) for begin, length in sorted(told)]
    places = lanes(lives, gap)
    ends: dict[int, int] = {}
    for one, place in zip(lives, places, strict=True):
        assert one.begin >= ends.get(place, -gap) + gap
        ends[place] = one.end
    most = max((sum(one.begin <= time < one.end + gap for one in lives) for time in range(140)), default=0)
    assert len(ends) <= max(most, 1 if lives else 0)


def test_the_crowd_is_counted_column_by_column() -> None:
    counted = crowd([life(10, 20), life(14, 18, Stage.QUEUED), life(12, 14)], 10, 20, 5, kind)
    assert counted == {
        "READ I/O": pytest.approx([1, 2, 1, 1, 1]),
        "READ queued": pytest.approx([0, 0, 1, 1, 0]),
    }
    half = crowd([life(11, 15)], 10, 20, 5, kind)
    assert half == {"READ I/O": pytest.approx([0.5, 1, 0.5, 0, 0])}


def kind(one: RequestLife, phase: Phase) -> str:
    return f"{one.request} {phase.stage.value}"


@given(st.lists(st.integers(0, 100)).map(sorted), st.integers(0, 20))
def test_what_is_gathered_is_near_the_first(times: list[int], near: int) -> None:
    groups = list(gather(times, int, near))
    assert [time for group in groups for time in group] == times
    assert all(group[-1] - group[0] <= near for group in groups)
    assert all(after[0] - group[0] > near for group, after in pairwise(groups))


def test_a_death_is_told_once() -> None:
    faults = [
        Moment(1, EventKind.SYNC_FAILED, errno=5, text="dead"),
        Moment(1, EventKind.UNMOUNT_FAILED, errno=5, text="dead"),
        Moment(2, EventKind.DEVICE_FAILED, errno=5, text="dead"),
    ]
    assert [fault.text for fault in say_once(faults)] == ["dead", "dead", ""]
    assert [fault.text for fault in say_once(faults[2:])] == ["dead"]
    other = [faults[0], Moment(2, EventKind.DEVICE_FAILED, errno=5, text="stuck")]
    assert say_once(other) == other
