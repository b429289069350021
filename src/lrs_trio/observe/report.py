"""A timeline for programs: what `lrs timeline --json` prints. Times and durations are seconds, sizes bytes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Final

from lrs_trio.events import EventKind
from lrs_trio.observe.timeline import (
    MICROSECONDS,
    DeviceLife,
    Moment,
    ReleaseLife,
    RequestLife,
    Share,
    Timeline,
    percentages,
)

REPORT_VERSION: Final = 1


def timeline_report(timeline: Timeline) -> dict[str, object]:
    """Everything in `timeline`, as JSON has it; times count from the beginning of the recording."""
    return {
        "version": REPORT_VERSION,
        "begin_s": _seconds(timeline.begin),
        "end_s": _seconds(timeline.end),
        "families": {family: _shares(timeline.shares(family)) for family in timeline.families},
        "devices": [_device(device) for device in timeline.devices],
        "outcomes": Counter(request.outcome.value for request in timeline.requests),
        "requests": [_request(request) for request in timeline.requests],
        "releases": [_release(release) for release in timeline.releases],
    }


def _device(device: DeviceLife) -> dict[str, object]:
    return {
        "family": device.family,
        "device": device.name,
        **_span(device.begin, device.end),
        **_shares(device.shares()),
        "states_s": {state.value: _seconds(time) for state, time in device.by_state().items()},
        "loads": device.count(EventKind.LOADED),
        "syncs": device.count(EventKind.SYNC_FINISHED),
        "synced": device.synced,
        "faults": [_fault(fault) for fault in device.faults],
        "intervals": [
            {"state": interval.state.value, "medium": interval.medium, **_span(interval.begin, interval.end)}
            for interval in device.intervals
        ],
    }


def _shares(times: Mapping[Share, int]) -> dict[str, object]:
    return {
        "percent": {share.value: round(part, 3) for share, part in percentages(times).items()},
        "shares_s": {share.value: _seconds(time) for share, time in times.items()},
    }


def _fault(fault: Moment) -> dict[str, object]:
    return {
        "time_s": _seconds(fault.time),
        "kind": fault.kind.value,
        "medium": fault.medium,
        "errno": fault.errno,
        "text": fault.text,
    }


def _request(request: RequestLife) -> dict[str, object]:
    return {
        "family": request.family,
        "serial": request.serial,
        "request": request.request,
        "client": request.client,
        **_span(request.begin, request.end),
        "outcome": request.outcome.value,
        "errno": request.errno,
        "placings": request.placings,
        "phases": [
            {"stage": phase.stage.value, **_span(phase.begin, phase.end), "detail": phase.detail}
            for phase in request.phases
        ],
    }


def _release(release: ReleaseLife) -> dict[str, object]:
    return {
        "serial": release.serial,
        "client": release.client,
        "media": release.media,
        **_span(release.begin, release.end),
        "outcome": release.outcome.value,
        "errno": release.errno,
    }


def _span(begin: int, end: int) -> dict[str, float]:
    return {"begin_s": _seconds(begin), "end_s": _seconds(end)}


def _seconds(time: int) -> float:
    return time / MICROSECONDS
