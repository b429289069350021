"""The demo's summary, and the checks that decide its exit status."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import TYPE_CHECKING

import click

from lrs_trio.cli.demo.daemon import LOG_LINES, DemoSite
from lrs_trio.cli.demo.ledger import Ledger, locks_left, unsound_files, wrong_books
from lrs_trio.cli.output import counted
from lrs_trio.model import Family
from lrs_trio.sizes import human_size

if TYPE_CHECKING:
    from lrs_trio.cli.demo.crowd import DrainSeen, Syncs

SHOWN = 5
"""Of many problems of one kind, show so many."""


def print_summary(ledger: Ledger, syncs: Syncs) -> None:
    files = len(ledger.written)
    twice = sum(written.order.copies == 2 for written in ledger.written)
    per_sync = syncs.requested / syncs.physical if syncs.physical else 0.0
    lines = {
        "files": f"{files}, {twice} of them with two copies",
        "bytes": f"{human_size(ledger.stored_bytes)} in all copies",
        "files read back": str(ledger.read),
        "releases": f"{files}, of {counted(syncs.requested, 'medium', 'media')} before the drain",
        "physical syncs": str(syncs.physical),
        "releases per sync": f"{per_sync:.1f}",
        "allocate": _times(ledger.allocate_times),
        "release with sync": _times(ledger.release_times),
    }
    for name, value in lines.items():
        click.echo(f"{name:<18} {value}")


def print_checks(site: DemoSite, ledger: Ledger, taken_back: bool, seen: DrainSeen, status: int | None) -> bool:
    """Check what was promised, line by line; ``True`` if all of it holds."""
    copies = sum(len(written.paths) for written in ledger.written)
    checks = {
        "no request failed": [*(failure.text for failure in ledger.failures), *ledger.spoilt],
        f"every acknowledged file is there with its content ({counted(copies, 'copy', 'copies')})": unsound_files(
            ledger.written
        ),
        "the DSS counts exactly what was acknowledged": wrong_books(ledger.written, site.dss, Family.DIR),
        "a client that was killed in the middle of its I/O got nothing and held up nobody": (
            [] if taken_back else ["the daemon has not taken back what the killed client had been granted"]
        ),
        f"SIGINT: no new I/O, the {seen.under_way} under way ended, were synced and answered": drain_problems(seen),
        "lrsd ended with status 0": [] if status == 0 else [f"it ended with {status}; see its log below"],
        "no lock is left in the DSS": locks_left(site.dss),
    }
    return print_verdicts(checks, site)


def print_verdicts(checks: Mapping[str, Sequence[str]], site: DemoSite) -> bool:
    """Print each check with its problems; ``True`` if there are none, else the end of the daemon's log is shown."""
    for name, problems in checks.items():
        verdict = click.style("FAILED", fg="red") if problems else click.style("ok    ", fg="green")
        click.echo(f"{verdict} {name}")
        for problem in problems[:SHOWN]:
            click.echo(f"       {problem}")
        if len(problems) > SHOWN:
            click.echo(f"       and {len(problems) - SHOWN} more")
    sound = not any(checks.values())
    if not sound:
        click.echo("\nthe last lines of the daemon's log:")
        click.echo("\n".join(site.log.read_text(errors="replace").splitlines()[-LOG_LINES:]))
    return sound


def drain_problems(seen: DrainSeen) -> list[str]:
    """What was not as it should be when the daemon was told to end."""
    problems = [] if seen.refused else ["the daemon did not answer a new request with ESHUTDOWN"]
    if not seen.under_way or seen.answered != seen.under_way:
        problems.append(f"{seen.answered} of {seen.under_way} writes that were under way have been answered")
    return problems


def _times(seconds: list[float]) -> str:
    if not seconds:
        return "-"
    return f"median {median(seconds) * 1000:.1f} ms, 99th percentile {percentile_99(seconds) * 1000:.1f} ms"


def percentile_99(values: Sequence[float]) -> float:
    return sorted(values)[min(len(values) * 99 // 100, len(values) - 1)]
