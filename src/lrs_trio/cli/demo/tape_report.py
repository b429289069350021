"""The summary of the demo on tapes, and the checks that decide its exit status."""

from __future__ import annotations

import errno
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, Self

import click

from lrs_trio.cli.demo.daemon import DemoSite
from lrs_trio.cli.demo.ledger import Failure, Ledger, locks_left, unsound_files, wrong_books
from lrs_trio.cli.demo.report import drain_problems, percentile_99, print_verdicts
from lrs_trio.cli.demo.tape_checks import (
    REASONS,
    misplaced,
    on_cartridges,
    other_times,
    single_copies,
    syncs_during_io,
    time_lost,
    unexplained,
    without_end,
    wrong_states,
)
from lrs_trio.cli.demo.tape_site import MAGNIFICATION, open_library
from lrs_trio.cli.output import counted
from lrs_trio.cli.timeline import print_shares
from lrs_trio.events import EventKind
from lrs_trio.model import Family
from lrs_trio.observe.recording import Recording, read_recording
from lrs_trio.observe.replay import build_timeline
from lrs_trio.observe.timeline import MICROSECONDS, Timeline
from lrs_trio.observe.words import duration
from lrs_trio.sizes import human_size

if TYPE_CHECKING:
    from lrs_trio.cli.demo.crowd import DrainSeen


@dataclass(slots=True)
class Outcome:
    """What the clients have seen. `broken` is the drive that broke at `broken_at` seconds of their clock; the tape
    `stuck` was in it.

    `reports` are what the daemon said of its drives before it was told to end; `status` is what it ended with.
    """

    ledger: Ledger
    seen: DrainSeen
    broken: str = ""
    broken_at: float = 0.0
    stuck: str = ""
    reports: list[dict[str, Any]] = field(default_factory=list)
    status: int | None = None


@dataclass(frozen=True, slots=True)
class Record:
    """What the daemon has recorded, and the same as it would be with a real library: it takes longer, for more."""

    recording: Recording
    timeline: Timeline
    own_timeline: Timeline
    """In the daemon's own time, with the sizes of its files."""

    @classmethod
    def read(cls, path: Path, speed: float) -> Self:
        """The recording at `path` of a daemon whose library was `speed` times as fast as a real one.

        Raises:
            OSError: it cannot be read.
        """
        recording = read_recording(path)
        begin = recording.header.time
        real = [
            replace(event, time=begin + (event.time - begin) * speed, size=event.size * MAGNIFICATION)
            for event in recording.events
        ]
        return cls(recording, build_timeline(real, begin), build_timeline(recording.events, begin))

    def count(self, kind: EventKind) -> int:
        return sum(event.kind is kind for event in self.recording.events)


def print_summary(outcome: Outcome, record: Record, speed: float) -> None:
    ledger = outcome.ledger
    synced, syncs = record.count(EventKind.SYNC_REQUESTED), record.count(EventKind.SYNC_FINISHED)
    size = ledger.stored_bytes
    lines = {
        "files": f"{len(ledger.written)}, each on two tapes"
        + (f"; {ledger.given_up} given up after three attempts" if ledger.given_up else ""),
        "bytes": f"{human_size(size)} in all copies, which took as long as {human_size(size * MAGNIFICATION)}",
        "files read back": str(ledger.read),
        "failed requests": _reasons(ledger.failures),
        "syncs": f"{syncs}, for {synced} releases of tapes: {synced / max(syncs, 1):.1f} in each",
        "loads": f"{record.count(EventKind.LOADED)}; {counted(record.count(EventKind.UNLOADED), 'tape')} taken out of"
        " a drive for another one",
        "wait for tapes": _times(ledger.allocate_times, speed),
        "wait for a sync": _times(ledger.release_times, speed),
    }
    click.echo(f"times are those of a real library; here it was {speed:g} times as fast")
    for name, value in lines.items():
        click.echo(f"{name:<16} {value}")
    click.echo()
    print_shares(record.timeline)


def print_checks(site: DemoSite, outcome: Outcome, record: Record) -> bool:
    """Check what was promised, line by line; ``True`` if all of it holds."""
    ledger, library = outcome.ledger, open_library(site)
    serials = [drive.serial for drive in library.drives]
    labels = [cartridge.label for cartridge in library.cartridges]
    written = on_cartridges(ledger.written, site.library)
    copies = sum(len(file.paths) for file in written)
    ended = [] if outcome.status == 0 else [f"it ended with {outcome.status}; see its log below"]
    checks: dict[str, Sequence[str]] = {
        f"every acknowledged file is on two tapes with its content ({counted(copies, 'copy', 'copies')})": [
            *single_copies(written),
            *unsound_files(written),
        ],
        f"what was read back is what was written ({counted(ledger.read, 'file')})": ledger.spoilt,
        f"every request ended, each that failed with an errno that says why ({len(ledger.failures)} failed)": [
            *unexplained(ledger.failures, outcome.broken_at, outcome.stuck),
            *without_end(record.timeline.requests),
        ],
        "the DSS counts exactly what was acknowledged": wrong_books(ledger.written, site.dss, Family.TAPE),
        f"of all drives and tapes only the drive that broke has failed in the DSS ({outcome.broken})": wrong_states(
            site.dss, outcome.broken
        ),
        "the times of every drive add up": [
            *time_lost(record.timeline.devices, serials),
            *other_times(record.own_timeline.devices, outcome.reports),
        ],
        "no tape was synced while a client used it": syncs_during_io(record.recording.events),
        f"SIGINT: no new I/O, the {outcome.seen.under_way} under way ended and were answered": drain_problems(
            outcome.seen
        ),
        "lrsd ended with status 0": ended,
        "no lock is left in the DSS": locks_left(site.dss),
        f"every one of the {len(labels)} tapes is in a drive or a slot": misplaced(library.elements(), labels),
    }
    return print_verdicts(checks, site)


def _reasons(failures: Sequence[Failure]) -> str:
    counts = Counter(failure.errno for failure in failures)
    reasons = [
        f"{count} with {errno.errorcode.get(number, str(number))} ({REASONS.get(number, 'nobody knows why')})"
        for number, count in counts.most_common()
    ]
    return ", ".join(reasons) or "none"


def _times(seconds: list[float], speed: float) -> str:
    if not seconds:
        return "-"
    middle, late = (duration(round(s * speed * MICROSECONDS)) for s in (median(seconds), percentile_99(seconds)))
    return f"median {middle}, 99th percentile {late}"
