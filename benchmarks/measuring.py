"""Cases measured on a real daemon, and what the DSS must say after each of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import cycle
from random import Random
from time import monotonic, process_time
from typing import Final

from benchmarks.books import differences, read_books, sum_of, unsound_files
from benchmarks.cases import Case
from benchmarks.harness import Lrsd, Site, counters
from benchmarks.load import Client, Ledger, Script, Written, finishing, orders, read_all, run_load, until, write_all

PATIENCE_S: Final = 60.0
"""How long clients may take to their end after the last cycle has begun. Seconds."""


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
    transactions: int
    operations_per_transaction: float
    daemon_cpu_per_cycle: float
    clients_cpu_share: float
    """Of one processor."""
    clients_file_io_share: float
    """Of the time: while they write and read files, the one thread of the clients asks for nothing."""

    @property
    def syncs_per_s(self) -> float:
        return self.syncs / self.seconds

    @property
    def transactions_per_s(self) -> float:
        return self.transactions / self.seconds


class Measuring:
    """Cases on one site, with one daemon; `problems` are those of all of them."""

    def __init__(self, site: Site, daemon: Lrsd) -> None:
        self.problems: list[str] = []
        self._site = site
        self._daemon = daemon
        self._random = Random(1)
        self._written: list[Written] = []
        self._books = dict.fromkeys(site.media, (0, 0))

    def run(self, case: Case, seconds: float) -> Figures:
        """Cycles for so long."""
        ledger = Ledger()
        script = self._script(case, monotonic() + seconds)
        before, cpu_before, own_before = counters(self._site), self._daemon.cpu_seconds(), process_time()
        took = run_load(self._site.socket, ledger, case.clients, script, seconds=seconds + PATIENCE_S)
        own = process_time() - own_before
        cpu = self._daemon.cpu_seconds() - cpu_before
        seen = counters(self._site) - before
        self._check(case, ledger)
        cycles = len(ledger.cycle_s)
        syncs, transactions = seen["dev.effective_sync"], seen["dss.transactions"]
        return Figures(
            case.name,
            case.clients,
            cycles,
            took,
            cycles / took,
            *_percentiles(ledger.cycle_s),
            *_percentiles(ledger.allocation_s),
            *_percentiles(ledger.release_s),
            syncs,
            seen["dev.requested_sync"] / max(syncs, 1),
            transactions,
            seen["dss.operations"] / max(transactions, 1),
            cpu / max(cycles, 1),
            own / took,
            ledger.file_io_s / took,
        )

    def _script(self, case: Case, ends: float) -> Callable[[Client], Script]:
        if case.copies:
            wanted = until(ends, orders(self._random, copies=[case.copies], start=len(self._written)))
            return lambda client: finishing(client, write_all(client, wanted))
        files = until(ends, cycle(self._written))
        return lambda client: finishing(client, read_all(client, files))

    def _check(self, case: Case, ledger: Ledger) -> None:
        wrong = ledger.problems
        self._written += ledger.acknowledged
        self._books = sum_of(self._books, ledger.totals())
        wrong += differences(read_books(self._site).totals, self._books) + unsound_files(ledger.acknowledged)
        if not ledger.cycle_s or ledger.unacknowledged or ledger.failures or ledger.lost_connections:
            wrong.append(
                f"{len(ledger.cycle_s)} cycles, refused: {dict(ledger.failures)}, releases without an answer:"
                f" {len(ledger.unacknowledged)}, connections lost: {ledger.lost_connections}"
            )
        self.problems += [f"{case.name}, {case.clients} clients: {problem}" for problem in wrong]


def _percentiles(values: list[float]) -> tuple[float, float]:
    """Median and 99th percentile."""
    ordered = sorted(values) or [0.0]
    return ordered[len(ordered) // 2], ordered[len(ordered) * 99 // 100]
