"""Figures of the daemon under load: ``python -m benchmarks [--quick] [--json FILE]``.

A real daemon on real directories and a real DSS; the clients are one lean thread of this process. Nothing is
asserted about time, but wrong counters, and answers that are missing or come twice, end it with status 1.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from itertools import cycle, islice
from pathlib import Path
from random import Random
from time import process_time
from typing import Final

import click

from benchmarks.books import differences, read_books, sum_of, unsound_files
from benchmarks.harness import Lrsd, Site, counters, format_media, running, temporary_site
from benchmarks.limits import commit_rate, echo_server, syncfs_rate
from benchmarks.load import Client, Ledger, Script, Written, finishing, orders, read_all, run_load, write_all

LIMIT_S: Final = 2.0
"""How long each limit is measured. Seconds."""

DEADLINE_S: Final = 180.0
"""No case may take longer. Seconds."""


@dataclass(frozen=True, slots=True)
class Case:
    """So many cycles of one kind; 0 copies: reads."""

    name: str
    clients: int
    cycles: int
    copies: int


CASES: Final = (
    Case("write", 64, 10_000, 1),
    Case("write", 8, 2_000, 1),
    Case("write", 1, 100, 1),
    Case("write two copies", 64, 3_000, 2),
    Case("write two copies", 8, 1_000, 2),
    Case("read", 64, 10_000, 0),
    Case("read", 8, 5_000, 0),
    Case("read", 1, 1_000, 0),
)
QUICK_PART: Final = 10
"""`--quick` does one of so many cycles."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Per second: syncfs calls of one thread, SQLite commits of one thread, and cycles of 64 clients without
    files with a server that only answers: what remains when there is nothing but the frames.
    """

    syncfs: float
    commits: float
    echo_writes: float
    echo_reads: float


@dataclass(frozen=True, slots=True)
class Figures:
    """What one case has shown. Times are seconds."""

    name: str
    clients: int
    cycles: int
    seconds: float
    cycles_per_s: float
    cycle_p50: float
    cycle_p99: float
    allocation_p50: float
    allocation_p99: float
    release_p50: float
    release_p99: float
    syncs: int
    releases_per_sync: float
    daemon_cpu_per_cycle: float
    clients_cpu_share: float
    """Of one processor."""
    clients_file_io_share: float
    """Of the time: while they write and read files, the one thread of the clients asks for nothing."""


class Bench:
    """All cases on one site, with one daemon."""

    def __init__(self, site: Site, daemon: Lrsd) -> None:
        self.problems: list[str] = []
        self._site = site
        self._daemon = daemon
        self._random = Random(1)
        self._written: list[Written] = []
        self._books = dict.fromkeys(site.media, (0, 0))

    def run(self, case: Case) -> Figures:
        ledger = Ledger()
        before, cpu_before, own_before = counters(self._site), self._daemon.cpu_seconds(), process_time()
        seconds = run_load(self._site.socket, ledger, case.clients, self._script(case), seconds=DEADLINE_S)
        own = process_time() - own_before
        cpu = self._daemon.cpu_seconds() - cpu_before
        syncs = counters(self._site) - before
        self._check(case, ledger)
        cycles = len(ledger.cycle_s)
        return Figures(
            case.name,
            case.clients,
            cycles,
            seconds,
            cycles / seconds,
            *_percentiles(ledger.cycle_s),
            *_percentiles(ledger.allocation_s),
            *_percentiles(ledger.release_s),
            syncs["dev.effective_sync"],
            syncs["dev.requested_sync"] / max(syncs["dev.effective_sync"], 1),
            cpu / max(cycles, 1),
            own / seconds,
            ledger.file_io_s / seconds,
        )

    def _script(self, case: Case) -> Callable[[Client], Script]:
        if case.copies:
            wanted = islice(orders(self._random, copies=[case.copies], start=len(self._written)), case.cycles)
            return lambda client: finishing(client, write_all(client, wanted))
        files = islice(cycle(self._written), case.cycles)
        return lambda client: finishing(client, read_all(client, files))

    def _check(self, case: Case, ledger: Ledger) -> None:
        wrong = ledger.problems
        self._written += ledger.acknowledged
        self._books = sum_of(self._books, ledger.totals())
        wrong += differences(read_books(self._site).totals, self._books) + unsound_files(ledger.acknowledged)
        done = len(ledger.acknowledged) + ledger.reads
        if done != case.cycles or ledger.failures or ledger.lost_connections:
            wrong.append(
                f"{done} of {case.cycles} cycles done, refused: {dict(ledger.failures)},"
                f" connections lost: {ledger.lost_connections}"
            )
        self.problems += [f"{case.name}, {case.clients} clients: {problem}" for problem in wrong]


def measure_limits(site: Site, seconds: float) -> Limits:
    """What is possible here, now; roughly `seconds` for each."""
    count = round(2000 * seconds)
    with echo_server(site) as path:
        writes, reads = Ledger(), Ledger()
        wanted = islice(orders(Random(1), copies=[1]), count)
        writes_s = run_load(path, writes, 64, lambda client: write_all(client, wanted, files=False), seconds=DEADLINE_S)
        again = islice(cycle(writes.acknowledged), count)
        reads_s = run_load(path, reads, 64, lambda client: read_all(client, again, files=False), seconds=DEADLINE_S)
    return Limits(
        syncfs=syncfs_rate(site.directories[0], seconds),
        commits=commit_rate(site.base, seconds),
        echo_writes=len(writes.acknowledged) / writes_s,
        echo_reads=reads.reads / reads_s,
    )


def _percentiles(values: list[float]) -> tuple[float, float]:
    """Median and 99th percentile."""
    ordered = sorted(values) or [0.0]
    return ordered[len(ordered) // 2], ordered[len(ordered) * 99 // 100]


HEADER: Final = (
    f"{'':16} {'':>7} {'':>8} {'of':>5} {'cycle ms':>12} {'allocation ms':>13} {'release ms':>12}"
    f" {'releases':>8} {'':>7} {'of':>6} {'of':>6} {'lrsd CPU':>8} {'clients':>15}\n"
    f"{'case':16} {'clients':>7} {'cycles/s':>8} {'echo':>5} {'p50 / p99':>12} {'p50 / p99':>13} {'p50 / p99':>12}"
    f" {'per sync':>8} {'syncs/s':>7} {'syncfs':>6} {'commit':>6} {'ms/cycle':>8} {'CPU, file I/O':>15}"
)


def line(figures: Figures, limits: Limits) -> str:
    """One row below `HEADER`."""
    writes = figures.syncs > 0
    echo = limits.echo_writes if writes else limits.echo_reads

    def times(p50: float, p99: float) -> str:
        return f"{p50 * 1000:.1f} / {p99 * 1000:.0f}"

    columns = [
        f"{figures.name:16} {figures.clients:7} {figures.cycles_per_s:8.0f} {figures.cycles_per_s / echo:5.0%}",
        f"{times(figures.cycle_p50, figures.cycle_p99):>12}",
        f"{times(figures.allocation_p50, figures.allocation_p99):>13}",
        f"{times(figures.release_p50, figures.release_p99) if writes else '':>12}",
        f"{figures.releases_per_sync:8.1f} {figures.syncs / figures.seconds:7.0f}" if writes else f"{'':16}",
        f"{figures.syncs / figures.seconds / limits.syncfs:6.0%} {figures.cycles_per_s / limits.commits:6.0%}"
        if writes
        else f"{'':13}",
        f"{figures.daemon_cpu_per_cycle * 1000:8.2f}",
        f"{figures.clients_cpu_share:>7.0%}, {figures.clients_file_io_share:6.0%}",
    ]
    return " ".join(columns)


def commit() -> str:
    """The project's commit, with a plus if files differ from it."""
    described = subprocess.run(
        ["git", "describe", "--always", "--abbrev=40", "--dirty=+"],
        cwd=Path(__file__).parent,
        check=False,
        capture_output=True,
        text=True,
    )
    return described.stdout.strip() or "unknown"


@click.command()
@click.option("--quick", is_flag=True, help=f"One of {QUICK_PART} cycles, for machines that have others to serve.")
@click.option("--json", "results", type=click.Path(path_type=Path), help="File to append the figures to, as one line.")
@click.option("--directories", type=click.IntRange(2), default=4, show_default=True)
@click.option("--base", type=click.Path(path_type=Path, exists=True, file_okay=False), help="Where to make the site.")
def main(quick: bool, results: Path | None, directories: int, base: Path | None) -> None:
    """Measure write and read cycles against a real daemon, beside what this machine can do at best."""
    part = QUICK_PART if quick else 1
    with temporary_site(directories, parent=base) as site:
        limits = measure_limits(site, LIMIT_S / part)
        print(
            f"{os.cpu_count()} processors, load average {os.getloadavg()[0]:.1f}\n"
            f"limits, per second: syncfs {limits.syncfs:.0f}, SQLite commits {limits.commits:.0f}; a server that only"
            f" answers: {limits.echo_writes:.0f} write cycles, {limits.echo_reads:.0f} read cycles\n\n{HEADER}"
        )
        with running(site) as daemon:
            format_media(site)
            bench = Bench(site, daemon)
            measured = []
            for case in CASES:
                figures = bench.run(replace(case, cycles=max(case.cycles // part, case.clients)))
                measured.append(figures)
                print(line(figures, limits), flush=True)
            daemon.terminate()
            if (status := daemon.wait()) != 0:
                bench.problems.append(f"the drain ended with status {status}{daemon.said()}")
    if results is not None:
        record = {
            "commit": commit(),
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
            "quick": quick,
            "directories": directories,
            "processors": os.cpu_count(),
            "load_average": os.getloadavg()[0],
            "limits": asdict(limits),
            "cases": [asdict(figures) for figures in measured],
            "problems": bench.problems,
        }
        with results.open("a") as file:
            file.write(json.dumps(record) + "\n")
    print()
    for problem in bench.problems:
        print(f"WRONG: {problem}")
    releases = sum(figures.cycles for figures in measured if figures.syncs)
    print(
        f"{len(bench.problems)} violations"
        if bench.problems
        else f"{releases} releases answered once each; the counters of the DSS equal their sums"
    )
    sys.exit(1 if bench.problems else 0)


if __name__ == "__main__":
    main()
