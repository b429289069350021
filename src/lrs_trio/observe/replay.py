"""From what happened, event by event, to the lives of devices and requests. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from lrs_trio.events import Event, EventKind
from lrs_trio.observe.timeline import (
    FAULTS,
    MICROSECONDS,
    DeviceLife,
    Interval,
    Moment,
    Outcome,
    Phase,
    ReleaseLife,
    RequestLife,
    Stage,
    State,
    Timeline,
)

_MOMENTS: Final = FAULTS | {EventKind.LOADED, EventKind.SYNC_FINISHED}

_OF_DEVICES: Final = _MOMENTS | {
    EventKind.DEVICE_STATUS,
    EventKind.DEVICE_ADDED,
    EventKind.DEVICE_REMOVED,
    EventKind.IO_BEGUN,
    EventKind.IO_ENDED,
    EventKind.SYNC_STARTED,
}

_TELL_THE_MEDIUM: Final = frozenset(
    {EventKind.DEVICE_STATUS, EventKind.DEVICE_ADDED, EventKind.IO_BEGUN, EventKind.LOADED}
)

_BROKEN: Final = frozenset({State.FAILED, State.QUARANTINED})


def build_timeline(events: Iterable[Event], begin: float | None = None, end: float | None = None) -> Timeline:
    """The timeline of `events`, which are in the order in which they happened.

    `begin` and `end`, in seconds of the events' clock, are those of the recording; without them, it begins with
    the first event and ends with the last.
    """
    replay = _Replay(begin)
    for event in events:
        replay.note(event)
    return replay.timeline(end)


class _Replay:
    def __init__(self, begin: float | None) -> None:
        self._origin = begin
        self._now = 0
        self._devices: dict[tuple[str, str], _Device] = {}
        self._requests: dict[int, _Request] = {}
        self._releases: dict[int, _Release] = {}
        self._giving_back: dict[str, list[_Release]] = {}

    def note(self, event: Event) -> None:
        self._now = max(self._now, self._since_begin(event.time))
        if event.kind in _OF_DEVICES and event.device:
            key = event.family, event.device
            if key not in self._devices:
                self._devices[key] = _Device(self._now)
            self._devices[key].note(event, self._now)
        if event.serial:
            self._note_request(event)

    def timeline(self, end: float | None) -> Timeline:
        last = self._now if end is None else max(self._now, self._since_begin(end))
        return Timeline(
            0,
            last,
            tuple(
                device.life(family, name, last)
                for (family, name), device in sorted(self._devices.items(), key=lambda item: _natural_order(item[0]))
            ),
            tuple(request.life(last) for request in self._requests.values()),
            tuple(release.life(last) for release in self._releases.values()),
        )

    def _since_begin(self, time: float) -> int:
        if self._origin is None:
            self._origin = time
        return max(round((time - self._origin) * MICROSECONDS), 0)

    def _note_request(self, event: Event) -> None:
        match event.kind:
            case EventKind.ALLOCATION_QUEUED:
                self._request(event).enter(Stage.QUEUED, self._now)
            case EventKind.ALLOCATION_PLACED:
                self._request(event).place(event.detail, self._now)
            case EventKind.ALLOCATION_GRANTED:
                self._request(event).enter(Stage.IO, self._now)
            case EventKind.ALLOCATION_REFUSED:
                self._request(event).finish(Outcome.REFUSED, self._now, event.errno)
            case EventKind.ALLOCATION_WITHDRAWN:
                self._request(event).finish(Outcome.WITHDRAWN, self._now)
            case EventKind.IO_BEGUN:
                self._request(event).begin_io(event, self._now)
            case EventKind.IO_ENDED:
                self._request(event).end_io(event, self._find_release(event.client), self._now)
            case EventKind.RELEASE_BEGUN:
                release = _Release(event, self._now)
                self._releases[event.serial] = release
                self._giving_back.setdefault(event.client, []).append(release)
            case EventKind.RELEASE_FINISHED | EventKind.RELEASE_FAILED:
                self._end_release(event)

    def _request(self, event: Event) -> _Request:
        if event.serial not in self._requests:
            self._requests[event.serial] = _Request(event, self._now)
        return self._requests[event.serial]

    def _find_release(self, client: str) -> _Release | None:
        """The release by which `client` gives a medium back just now."""
        for release in reversed(self._giving_back.get(client, [])):
            if release.expected:
                release.expected -= 1
                return release
        return None

    def _end_release(self, event: Event) -> None:
        release = self._releases.get(event.serial)
        if release is None or release.outcome is not Outcome.UNFINISHED:
            return
        release.finish(event, self._now)
        others = self._giving_back[release.client]
        others.remove(release)
        if not others:
            del self._giving_back[release.client]
        for request in release.requests:
            request.end_release(release, self._now)


class _Device:
    def __init__(self, now: int) -> None:
        self._begin = self._since = now
        self._status = State.ADOPTING
        self._medium = ""
        self._io: list[tuple[int, State]] = []
        self._syncing = False
        self._removed: int | None = None
        self._intervals: list[Interval] = []
        self._moments: list[Moment] = []

    def note(self, event: Event, now: int) -> None:
        before = self._shown()
        self._change(event, now)
        if event.kind in _MOMENTS:
            self._moments.append(Moment(now, event.kind, event.medium, event.size, event.errno, event.detail))
        if self._shown() != before:
            self._add(*before, now)

    def life(self, family: str, name: str, end: int) -> DeviceLife:
        if self._removed is not None and self._status not in _BROKEN:
            end = self._removed
        self._add(*self._shown(), end)
        return DeviceLife(family, name, self._begin, end, tuple(self._intervals), tuple(self._moments))

    def _shown(self) -> tuple[State, str]:
        if self._status is not State.MOUNTED:
            return self._status, self._medium
        if self._syncing:
            return State.SYNCING, self._medium
        directions = {direction for _, direction in self._io}
        if len(directions) == 2:
            return State.READING_AND_WRITING, self._medium
        return next(iter(directions), State.MOUNTED), self._medium

    def _change(self, event: Event, now: int) -> None:
        if event.medium and event.kind in _TELL_THE_MEDIUM:
            self._medium = event.medium
        match event.kind:
            case EventKind.DEVICE_STATUS:
                self._removed = None
                self._status = _state(event.detail)
                if self._status is State.EMPTY:
                    self._medium = ""
            case EventKind.DEVICE_REMOVED:
                self._removed = now
                self._io.clear()
                self._syncing = False
                if self._status not in _BROKEN:
                    self._status = State.STOPPED
            case EventKind.IO_BEGUN:
                self._io.append((event.serial, State.READING if event.request == "READ" else State.WRITING))
            case EventKind.IO_ENDED:
                found = next((io for io in self._io if io[0] == event.serial), None)
                if found is not None:
                    self._io.remove(found)
            case EventKind.SYNC_STARTED:
                self._syncing = True
            case EventKind.SYNC_FINISHED | EventKind.SYNC_FAILED:
                self._syncing = False

    def _add(self, state: State, medium: str, end: int) -> None:
        """The device was `state` up to `end`; what took no time is left out, and what goes on is one interval."""
        if end <= self._since:
            return
        begin = self._since
        if self._intervals and (self._intervals[-1].state, self._intervals[-1].medium) == (state, medium):
            begin = self._intervals.pop().begin
        self._intervals.append(Interval(state, begin, end, medium))
        self._since = end


class _Request:
    def __init__(self, event: Event, now: int) -> None:
        self._first = event
        self._begin = self._since = now
        self._end: int | None = None
        self._stage: Stage | None = None
        self._detail = ""
        self._phases: list[Phase] = []
        self._io: set[tuple[str, str]] = set()
        self._releases: set[_Release] = set()
        self._outcome = Outcome.UNFINISHED
        self._errno = 0
        self._placings = 0

    def enter(self, stage: Stage, now: int, detail: str = "") -> None:
        """Be at `stage` from now on. What had ended goes on: it was a partial release."""
        self._end = None
        self._outcome = Outcome.UNFINISHED
        if (stage, detail) != (self._stage, self._detail):
            self._add(now)
            self._stage, self._detail = stage, detail

    def place(self, devices: str, now: int) -> None:
        self._placings += 1
        self.enter(Stage.PLANNED, now, devices)

    def begin_io(self, event: Event, now: int) -> None:
        self._io.add((event.device, event.medium))
        self.enter(Stage.IO, now)

    def end_io(self, event: Event, release: _Release | None, now: int) -> None:
        self._io.discard((event.device, event.medium))
        if release is not None:
            self._releases.add(release)
            release.requests.append(self)
        if not self._io:
            self._wait_or_finish(now)

    def end_release(self, release: _Release, now: int) -> None:
        self._releases.discard(release)
        self._errno = self._errno or release.errno
        if not self._io:
            self._wait_or_finish(now)

    def finish(self, outcome: Outcome, now: int, errno: int = 0) -> None:
        self._end, self._outcome = now, outcome
        self._errno = errno or self._errno

    def life(self, end: int) -> RequestLife:
        end = end if self._end is None else self._end
        self._add(end)
        first = self._first
        return RequestLife(
            first.family,
            first.serial,
            first.request,
            first.client,
            self._begin,
            end,
            tuple(self._phases),
            self._outcome,
            self._errno,
            self._placings,
        )

    def _wait_or_finish(self, now: int) -> None:
        if self._releases:
            self.enter(Stage.RELEASE, now)
        else:
            self.finish(Outcome.FAILED if self._errno else Outcome.DONE, now)

    def _add(self, end: int) -> None:
        if self._stage is not None and end > self._since:
            self._phases.append(Phase(self._stage, self._since, end, self._detail))
            self._since = end


class _Release:
    def __init__(self, event: Event, now: int) -> None:
        self.client = event.client
        self.expected = event.count
        """So many media are still to be given back in this step."""
        self.requests: list[_Request] = []
        self.outcome = Outcome.UNFINISHED
        self.errno = 0
        self._serial = event.serial
        self._media = event.count
        self._begin = now
        self._end: int | None = None

    def finish(self, event: Event, now: int) -> None:
        self.outcome = Outcome.DONE if event.kind is EventKind.RELEASE_FINISHED else Outcome.FAILED
        self.errno = event.errno
        self._end = now

    def life(self, end: int) -> ReleaseLife:
        end = end if self._end is None else self._end
        return ReleaseLife(self._serial, self.client, self._media, self._begin, end, self.outcome, self.errno)


def _state(status: str) -> State:
    try:
        return State(status)
    except ValueError:
        return State.UNKNOWN


def _natural_order(key: tuple[str, str]) -> tuple[str, list[tuple[int, str]]]:
    """Drives 2 and 10 come in this order."""
    family, name = key
    return family, [(len(part) if part.isdecimal() else 0, part) for part in re.split(r"([0-9]+)", name)]
