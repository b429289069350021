"""What has to be true after the demo on tapes: each function says what is not. Pure but for reading the DSS."""

from __future__ import annotations

import errno
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from lrs_trio.cli.demo.ledger import Failure, Written
from lrs_trio.devices.life import DeviceStatus
from lrs_trio.dss.operations import ReadDevices, ReadMedia
from lrs_trio.dss.sqlite import SqliteHome
from lrs_trio.events import Event, EventKind
from lrs_trio.model import AdmStatus, Family
from lrs_trio.observe.timeline import MICROSECONDS, DeviceLife, Outcome, RequestLife, State
from lrs_trio.storage.elements import Element, ElementKind
from lrs_trio.storage.virtual.content import content_of

REASONS: Final = {
    errno.EIO: "the drive broke",
    errno.ESHUTDOWN: "the daemon was ending",
    errno.ENOSPC: "no tape had room",
}
"""The errors that clients may get here, and why."""

TOLERANCE_S: Final = 0.05
"""By how much the daemon's own account of a drive's time and its recording may differ. Seconds."""


def on_cartridges(written: Iterable[Written], library: Path) -> list[Written]:
    """The same files where they lie on the cartridges of the virtual `library`: no daemon is needed to read them."""
    return [
        replace(file, paths=tuple(content_of(library, name) / "files" / file.paths[0].name for name in file.media))
        for file in written
    ]


def single_copies(written: Iterable[Written]) -> list[str]:
    """Files that are not on as many different tapes as was asked for."""
    return [
        f"file {file.order.number}: {file.order.copies} copies were asked for, it is on {', '.join(file.media)}"
        for file in written
        if len(set(file.media)) != file.order.copies
    ]


def unexplained(failures: Iterable[Failure], broken_at: float, stuck: str) -> list[str]:
    """Failures without an errno that says why, or with one that had no cause there and then.

    `broken_at`: when the drive broke, in seconds of the crowd's clock, with the tape `stuck` in it.
    """
    return [
        f"{failure.text} [{errno.errorcode.get(failure.errno, failure.errno)}]"
        for failure in failures
        if failure.errno not in REASONS
        or (failure.errno == errno.EIO and (failure.time < broken_at or stuck not in (failure.media or (stuck,))))
    ]


def without_end(requests: Iterable[RequestLife]) -> list[str]:
    """Requests that the daemon has left without an end, or has let fail without an errno."""
    return [
        f"{request.request} {request.serial} of {request.client}: {request.outcome.value}"
        + ("" if request.errno else " without an errno")
        for request in requests
        if request.outcome is Outcome.UNFINISHED
        or (request.outcome in (Outcome.FAILED, Outcome.REFUSED) and not request.errno)
    ]


def wrong_states(dss: Path, broken: str) -> list[str]:
    """Where the DSS says of a drive or a tape something else than that the drive `broken` has failed, and only it."""
    with SqliteHome.open(dss) as home:
        drives = home.execute(ReadDevices(Family.TAPE))
        tapes = home.execute(ReadMedia(Family.TAPE))
    found = {row.device.id.name: row.device.adm_status for row in drives}
    wanted = {name: AdmStatus.FAILED if name == broken else AdmStatus.UNLOCKED for name in (*found, broken)}
    found |= {row.medium.id.name: row.medium.adm_status for row in tapes}
    wanted |= {row.medium.id.name: AdmStatus.UNLOCKED for row in tapes}
    return [
        f"{name}: is {found[name].value if name in found else 'not in the DSS'} and should be {status.value}"
        for name, status in wanted.items()
        if found.get(name) is not status
    ]


def misplaced(elements: Iterable[Element], labels: Iterable[str]) -> list[str]:
    """Cartridges that are not in one place, a drive or a slot."""
    places: defaultdict[str, list[Element]] = defaultdict(list)
    for element in elements:
        if element.label:
            places[element.label].append(element)
    return [
        f"{label}: is in {' and in '.join(f'{e.kind.value} {e.address}' for e in places[label]) or 'no place'}"
        for label in sorted({*labels, *places})
        if [e.kind in (ElementKind.DRIVE, ElementKind.SLOT) for e in places[label]] != [True]
    ]


def syncs_during_io(events: Iterable[Event]) -> list[str]:
    """Drives in which a client did I/O while the tape was being synced."""
    io: Counter[str] = Counter()
    syncing: set[str] = set()
    problems = []
    for event in events:
        match event.kind:
            case EventKind.IO_BEGUN:
                io[event.device] += 1
            case EventKind.IO_ENDED:
                io[event.device] -= 1
            case EventKind.SYNC_STARTED:
                syncing.add(event.device)
            case EventKind.SYNC_FINISHED | EventKind.SYNC_FAILED | EventKind.DEVICE_REMOVED:
                syncing.discard(event.device)
        if event.device in syncing and io[event.device] and event.kind in (EventKind.IO_BEGUN, EventKind.SYNC_STARTED):
            problems.append(f"{event.device}: at {event.time:.3f} s of the daemon's clock")
    return problems


def time_lost(drives: Sequence[DeviceLife], names: Iterable[str]) -> list[str]:
    """Drives of which something is not known at a time, or two things are."""
    problems = [f"{name}: nothing is known of it" for name in sorted({*names} - {drive.name for drive in drives})]
    for drive in drives:
        begins = [interval.begin for interval in drive.intervals]
        ends = [interval.end for interval in drive.intervals]
        if [*begins, drive.end] != [drive.begin, *ends]:
            problems.append(f"{drive.name}: its states do not follow each other without a gap")
        known = sum(drive.shares().values())
        if known != drive.duration:
            problems.append(f"{drive.name}: its states take {_s(known)}, its life {_s(drive.duration)}")
    return problems


def other_times(drives: Iterable[DeviceLife], reports: Iterable[Mapping[str, Any]]) -> list[str]:
    """Where the daemon's own account of how long a drive was what says something else than the recording.

    `reports` are what the daemon has said of its drives at some time; `drives` are in the daemon's own time.
    """
    lives = {drive.name: drive for drive in drives}
    problems = []
    for report in reports:
        name, told = str(report["name"]), {DeviceStatus(key): float(time) for key, time in report["times"].items()}
        recorded = _times(lives[name], sum(told.values())) if name in lives else {}
        for status in DeviceStatus:
            times = told.get(status, 0.0), recorded.get(status, 0.0)
            if abs(times[0] - times[1]) > TOLERANCE_S:
                problems.append(f"{name}: {status.value} for {times[0]:.3f} s by its status, {times[1]:.3f} s recorded")
    return problems


_MOUNTED: Final = frozenset({State.READING, State.WRITING, State.READING_AND_WRITING, State.SYNCING})
"""What a drive does with a tape that is mounted; its status stays the same."""


def _times(drive: DeviceLife, first_s: float) -> dict[DeviceStatus, float]:
    """How long the drive was what in the first seconds of its life."""
    times: defaultdict[DeviceStatus, float] = defaultdict(float)
    end = drive.begin + first_s * MICROSECONDS
    for interval in drive.intervals:
        if interval.state is State.UNKNOWN:
            continue  # no status of ours: what is missing here differs from what was told
        status = DeviceStatus.MOUNTED if interval.state in _MOUNTED else DeviceStatus(interval.state.value)
        times[status] += max(min(interval.end, end) - interval.begin, 0) / MICROSECONDS
    return times


def _s(time: int) -> str:
    return f"{time / MICROSECONDS:g} s"
