"""The demo's summary, and the checks that decide its exit status."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import TYPE_CHECKING

import click

from lrs_trio.cli.demo_daemon import LOG_LINES, DemoSite
from lrs_trio.cli.demo_ledger import Ledger, locks_left, unsound_files, wrong_books
from lrs_trio.cli.output import counted, human_size

if TYPE_CHECKING:
    from lrs_trio.cli.demo_crowd import DrainSeen, Syncs

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
    drain = [] if seen.refused else ["the daemon did not answer a new request with ESHUTDOWN"]
    if not seen.under_way or seen.released != seen.under_way:
        drain.append(f"{seen.released} of {seen.under_way} writes that were under way have been answered")
    checks = {
        "no request failed": ledger.errors,
        f"every acknowledged file is there with its content ({counted(copies, 'copy', 'copies')})": unsound_files(
            ledger.written
        ),
        "the DSS counts exactly what was acknowledged": wrong_books(ledger.written, site.dss),
        "a client that was killed in the middle of its I/O got nothing and held up nobody": (
            [] if taken_back else ["the daemon has not taken back what the killed client had been granted"]
        ),
        f"SIGINT: no new I/O, the {seen.under_way} under way ended, were synced and answered": drain,
        "lrsd ended with status 0": [] if status == 0 else [f"it ended with {status}; see its log below"],
        "no lock is left in the DSS": locks_left(site.dss),
    }
    for name, problems in checks.items():
        _print_check(name, problems)
    sound = not any(checks.values())
    if not sound:
        click.echo("\nthe last lines of the daemon's log:")
        click.echo("\n".join(site.log.read_text(errors="replace").splitlines()[-LOG_LINES:]))
    return sound


def _print_check(name: str, problems: Sequence[str]) -> None:
    verdict = click.style("FAILED", fg="red") if problems else click.style("ok    ", fg="green")
    click.echo(f"{verdict} {name}")
    for problem in problems[:SHOWN]:
        click.echo(f"       {problem}")
    if len(problems) > SHOWN:
        click.echo(f"       and {len(problems) - SHOWN} more")


def _times(seconds: list[float]) -> str:
    if not seconds:
        return "-"
    ordered = sorted(seconds)
    p99 = ordered[min(len(ordered) * 99 // 100, len(ordered) - 1)]
    return f"median {median(ordered) * 1000:.1f} ms, 99th percentile {p99 * 1000:.1f} ms"
