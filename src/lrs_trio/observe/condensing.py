"""Makes much that happened little to draw: what is too short to be seen is drawn together. Pure."""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TypeVar

from lrs_trio.events import EventKind
from lrs_trio.observe.timeline import Interval, Moment, Phase, RequestLife

_Span = TypeVar("_Span", Interval, Phase)
_Thing = TypeVar("_Thing")


def condense(spans: Iterable[_Span], shortest: int) -> Iterator[list[_Span]]:
    """Groups of successive `spans`, each to be drawn as one.

    A span of at least `shortest` is alone. Shorter ones are joined until they are that long together, or a longer
    one follows: in a time of `shortest` there is not more than one group of them.
    """
    group: list[_Span] = []
    for span in spans:
        is_long = span.end - span.begin >= shortest
        if group and (is_long or group[-1].end - group[0].begin >= shortest):
            yield group
            group = []
        if is_long:
            yield [span]
        else:
            group.append(span)
    if group:
        yield group


def gather(things: Iterable[_Thing], time_of: Callable[[_Thing], int], near: int) -> Iterator[list[_Thing]]:
    """Groups of successive `things`, each to be drawn as one: those not later than `near` after the first of them."""
    group: list[_Thing] = []
    for thing in things:
        if group and time_of(thing) - time_of(group[0]) > near:
            yield group
            group = []
        group.append(thing)
    if group:
        yield group


def say_once(faults: Sequence[Moment]) -> list[Moment]:
    """The `faults` of one device: what took it out of service is not told again if the fault before it says it."""
    told: list[Moment] = []
    for before, fault in zip((None, *faults), faults, strict=False):
        repeats = before is not None and fault.kind is EventKind.DEVICE_FAILED and fault.text == before.text
        told.append(replace(fault, text="") if repeats else fault)
    return told


def media_stays(intervals: Iterable[Interval]) -> list[Interval]:
    """How long each medium was in the device, whatever was done with it."""
    stays: list[Interval] = []
    for interval in intervals:
        if stays and stays[-1].medium == interval.medium:
            last = stays.pop()
            stays.append(Interval(last.state, last.begin, interval.end, last.medium))
        else:
            stays.append(interval)
    return [stay for stay in stays if stay.medium]


def lanes(lives: Sequence[RequestLife], gap: int) -> list[int]:
    """For each of `lives`, in the order of their beginnings, a lane where nothing else is drawn at that time.

    Two lives in one lane are at least `gap` apart. The lanes are numbered from 0 and as few as can be.
    """
    free: list[int] = []
    busy: list[tuple[int, int]] = []
    found = []
    for life in lives:
        while busy and busy[0][0] + gap <= life.begin:
            heapq.heappush(free, heapq.heappop(busy)[1])
        lane = heapq.heappop(free) if free else len(busy)
        heapq.heappush(busy, (life.end, lane))
        found.append(lane)
    return found


def crowd(
    lives: Iterable[RequestLife], begin: int, end: int, columns: int, kind_of: Callable[[RequestLife, Phase], str]
) -> dict[str, list[float]]:
    """How many requests were in phases of each kind on average, in each of `columns` equal parts of the time.

    Only kinds that occur are there.
    """
    totals: defaultdict[str, list[float]] = defaultdict(lambda: [0.0] * columns)
    width = (end - begin) / columns
    for life in lives:
        for phase in life.phases:
            _spread(totals[kind_of(life, phase)], (phase.begin - begin) / width, (phase.end - begin) / width)
    return totals


def _spread(columns: list[float], first: float, last: float) -> None:
    """Add 1 to each column from `first` to `last`, and to those at the ends as much as is covered of them."""
    last = min(last, len(columns))
    column = int(first)
    while column < last:
        columns[column] += min(last, column + 1) - max(first, column)
        column += 1
