"""What every device did all the time and how every request fared: plain data, and what can be computed from it.

All times are whole microseconds since the beginning of the recording, so that they add up exactly.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import Final, TypeVar

from lrs_trio.events import EventKind

MICROSECONDS: Final = 1_000_000


class State(Enum):
    """What a device is doing: its status, and of a mounted one, what is done with its medium.

    A device that syncs is SYNCING, also where I/O may go on meanwhile, as it may on a directory.
    """

    WAITING = "waiting"
    ADOPTING = "adopting"
    EMPTY = "empty"
    LOADING = "loading"
    LOADED = "loaded"
    MOUNTING = "mounting"
    MOUNTED = "mounted"
    READING = "reading"
    WRITING = "writing"
    READING_AND_WRITING = "reading and writing"
    SYNCING = "syncing"
    UNMOUNTING = "unmounting"
    UNLOADING = "unloading"
    FORMATTING = "formatting"
    FAILED = "failed"
    QUARANTINED = "quarantined"
    STOPPED = "stopped"
    UNKNOWN = "unknown"
    """A status that this program does not know."""


class Share(Enum):
    """What the time of a device is divided into."""

    STREAMING = "streaming"
    SYNCING = "syncing"
    MOVING = "moving"
    FORMATTING = "formatting"
    IDLE = "idle"
    OUT_OF_SERVICE = "out of service"


SHARE_OF: Final = {
    State.READING: Share.STREAMING,
    State.WRITING: Share.STREAMING,
    State.READING_AND_WRITING: Share.STREAMING,
    State.SYNCING: Share.SYNCING,
    State.ADOPTING: Share.MOVING,
    State.LOADING: Share.MOVING,
    State.MOUNTING: Share.MOVING,
    State.UNMOUNTING: Share.MOVING,
    State.UNLOADING: Share.MOVING,
    State.FORMATTING: Share.FORMATTING,
    State.EMPTY: Share.IDLE,
    State.LOADED: Share.IDLE,
    State.MOUNTED: Share.IDLE,
    State.WAITING: Share.OUT_OF_SERVICE,
    State.FAILED: Share.OUT_OF_SERVICE,
    State.QUARANTINED: Share.OUT_OF_SERVICE,
    State.STOPPED: Share.OUT_OF_SERVICE,
    State.UNKNOWN: Share.OUT_OF_SERVICE,
}

FAULTS: Final = frozenset(
    {
        EventKind.LOAD_FAILED,
        EventKind.UNLOAD_FAILED,
        EventKind.MOUNT_FAILED,
        EventKind.UNMOUNT_FAILED,
        EventKind.FORMAT_FAILED,
        EventKind.SYNC_FAILED,
        EventKind.DEVICE_FAILED,
    }
)
"""What went wrong with a device or the medium in it."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A device was in one state, with one medium or none, from `begin` up to `end`."""

    state: State
    begin: int
    end: int
    medium: str = ""

    @property
    def duration(self) -> int:
        return self.end - self.begin


@dataclass(frozen=True, slots=True)
class Moment:
    """Something that a device did or suffered at one time; `size` in bytes, `text` for people."""

    time: int
    kind: EventKind
    medium: str = ""
    size: int = 0
    errno: int = 0
    text: str = ""


@dataclass(frozen=True, slots=True)
class DeviceLife:
    """A device from its first event to its last: the intervals follow each other without a gap.

    The life of a device that was stopped in order ends when it leaves. A broken one is out of service until the
    recording ends, or until it serves again.
    """

    family: str
    name: str
    begin: int
    end: int
    intervals: tuple[Interval, ...]
    moments: tuple[Moment, ...] = ()

    @property
    def duration(self) -> int:
        return self.end - self.begin

    @property
    def faults(self) -> tuple[Moment, ...]:
        return tuple(moment for moment in self.moments if moment.kind in FAULTS)

    @property
    def failed_operations(self) -> int:
        """The faults without what followed from them: that the device was taken out of service."""
        return len(self.faults) - self.count(EventKind.DEVICE_FAILED)

    def count(self, kind: EventKind) -> int:
        return sum(moment.kind is kind for moment in self.moments)

    @property
    def synced(self) -> int:
        """The bytes that its syncs have made safe."""
        return sum(moment.size for moment in self.moments if moment.kind is EventKind.SYNC_FINISHED)

    def by_state(self) -> dict[State, int]:
        """How long it was what; what it never was is left out."""
        times: dict[State, int] = {}
        for interval in self.intervals:
            times[interval.state] = times.get(interval.state, 0) + interval.duration
        return times

    def shares(self) -> dict[Share, int]:
        """How its time is divided; every share is there."""
        return _shares(self.by_state())


class Stage(Enum):
    """What a request for media goes through."""

    QUEUED = "queued"
    PLANNED = "planned"
    IO = "I/O"
    RELEASE = "waiting for its release"


class Outcome(Enum):
    """How a request or a release ended."""

    DONE = "done"
    FAILED = "failed"
    REFUSED = "refused"
    WITHDRAWN = "withdrawn"
    UNFINISHED = "unfinished"
    """The recording ends first."""


@dataclass(frozen=True, slots=True)
class Phase:
    """A request was at one stage from `begin` up to `end`; `detail` names devices, where some were chosen."""

    stage: Stage
    begin: int
    end: int
    detail: str = ""


@dataclass(frozen=True, slots=True)
class RequestLife:
    """A read or write from its arrival until it is refused, or its media are given back and that is answered.

    `errno` says why it was refused or why its release failed. `placings` counts the times that media and devices
    were chosen for it: more than one says that a medium or a device failed it.
    """

    family: str
    serial: int
    request: str
    client: str
    begin: int
    end: int
    phases: tuple[Phase, ...]
    outcome: Outcome
    errno: int = 0
    placings: int = 0


@dataclass(frozen=True, slots=True)
class ReleaseLife:
    """A release that was to be answered, from its arrival to its answer; `media` counts what was given back."""

    serial: int
    client: str
    media: int
    begin: int
    end: int
    outcome: Outcome
    errno: int = 0

    @property
    def duration(self) -> int:
        return self.end - self.begin


@dataclass(frozen=True, slots=True)
class Timeline:
    """Devices by family and name, requests and releases in the order of their arrival."""

    begin: int
    end: int
    devices: tuple[DeviceLife, ...]
    requests: tuple[RequestLife, ...]
    releases: tuple[ReleaseLife, ...]

    @property
    def duration(self) -> int:
        return self.end - self.begin

    @property
    def families(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(device.family for device in self.devices))

    def by_state(self, family: str) -> dict[State, int]:
        """How long the devices of `family` together were what; what they never were is left out."""
        times: dict[State, int] = {}
        for device in self.devices:
            if device.family == family:
                for state, duration in device.by_state().items():
                    times[state] = times.get(state, 0) + duration
        return times

    def shares(self, family: str) -> dict[Share, int]:
        """How the time of all devices of `family` together is divided; every share is there."""
        return _shares(self.by_state(family))

    def between(self, begin: int, end: int) -> Timeline:
        """What happened from `begin` up to `end`, cut off at both; what was not there then is left out.

        A request keeps its outcome, though it may come later.
        """
        begin, end = max(begin, self.begin), min(end, self.end)
        return Timeline(
            begin,
            max(begin, end),
            tuple(_cut_device(device, begin, end) for device in self.devices if _meets(device, begin, end)),
            tuple(_cut_request(request, begin, end) for request in self.requests if _meets(request, begin, end)),
            tuple(
                replace(release, begin=max(release.begin, begin), end=min(release.end, end))
                for release in self.releases
                if _meets(release, begin, end)
            ),
        )


_Span = TypeVar("_Span", Interval, Phase)
_Part = TypeVar("_Part", Share, State)


def percentages(times: Mapping[_Part, int]) -> dict[_Part, float]:
    """What each part is of the whole, in per cent; 0 of nothing."""
    whole = sum(times.values())
    return {part: 100 * time / whole if whole else 0.0 for part, time in times.items()}


def _shares(times: Mapping[State, int]) -> dict[Share, int]:
    shares = dict.fromkeys(Share, 0)
    for state, duration in times.items():
        shares[SHARE_OF[state]] += duration
    return shares


def _meets(life: DeviceLife | RequestLife | ReleaseLife, begin: int, end: int) -> bool:
    return life.begin <= end and life.end >= begin


def _cut_device(device: DeviceLife, begin: int, end: int) -> DeviceLife:
    return replace(
        device,
        begin=max(device.begin, begin),
        end=min(device.end, end),
        intervals=tuple(_cut(device.intervals, begin, end)),
        moments=tuple(moment for moment in device.moments if begin <= moment.time <= end),
    )


def _cut_request(request: RequestLife, begin: int, end: int) -> RequestLife:
    return replace(
        request,
        begin=max(request.begin, begin),
        end=min(request.end, end),
        phases=tuple(_cut(request.phases, begin, end)),
    )


def _cut(spans: Iterable[_Span], begin: int, end: int) -> Iterable[_Span]:
    for span in spans:
        if span.end > begin and span.begin < end:
            yield replace(span, begin=max(span.begin, begin), end=min(span.end, end))
