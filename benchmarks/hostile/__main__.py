"""Hostile clients beside an honest one: ``python -m benchmarks.hostile [--case NAME] [--seconds S]``.

A real daemon for each case, hostile clients in processes of low priority, and the honest client in one of its own. Its
waits, one for each thing that it was due to do, are measured alone, beside processes that only use the processors, and
beside the attack. Nothing is asserted about time; an honest client that gets an error, and anything that clients leave
in the daemon, ends it with status 1.
"""

from __future__ import annotations

import os
import resource
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from time import sleep
from typing import Final

import click

from benchmarks.books import wrong_after_drain
from benchmarks.conclusion import conclude
from benchmarks.harness import Lrsd, format_media, running
from benchmarks.hostile import attacks
from benchmarks.hostile.cases import CASES, Case
from benchmarks.hostile.honest import PERIODS_S, Phase, Report, be_honest, measured
from benchmarks.hostile.latency import Latency
from benchmarks.hostile.processes import Worker, Workers, burn, workers
from benchmarks.hostile.site import Place, temporary_place
from benchmarks.hostile.watch import pids_of_grants, wrong_after_attack
from lrs_trio.client import Client, connect

ROUNDS: Final = 5
"""Whatever else the machine does is in all kinds of phases alike when these follow each other several times."""

SETTLE_S: Final = 0.5
PHASE_S: Final = 1.5
"""How long each phase is waited for before it is measured, and is measured. Seconds."""

MB: Final = 1024 * 1024

HEADER: Final = (
    f"{'':22} {'p99 of the honest client: alone / beside busy processes / attacked (times busy), longest; ms':102}\n"
    f"{'case':22} {'ping':>34} {'write cycle':>34} {'read':>34}  lrsd CPU, memory, log; what the hostile got"
)


class Run:
    """One case on a place of its own; `problems` are what is wrong with the daemon after it."""

    def __init__(self, case: Case, place: Place, daemon: Lrsd, observer: Client, seconds: float) -> None:
        self.problems: list[str] = []
        self._case = case
        self._place = place
        self._daemon = daemon
        self._observer = observer
        self._seconds = seconds
        self._alone: list[Phase] = []
        self._busy: list[Phase] = []
        self._attacked: list[Phase] = []
        self._cpu = 0.0
        self._visible = False

    def run(self) -> str:
        """The line of the case."""
        with workers() as started:
            honest = self._honest_client(started)
            busy = [started.start(burn) for _ in range(self._case.processes)]
            attackers = self._attackers(started)
            sleep(2 * SETTLE_S)
            log, memory = self._log_bytes(), self._daemon.resident_bytes()
            for _ in range(ROUNDS):
                self._measure([], self._alone)
                self._measure(busy, self._busy)
                self._measure(attackers, self._attacked)
            memory = self._daemon.resident_bytes() - memory
            log = self._log_bytes() - log
            found = sum((worker.result() for worker in attackers), Counter[str]())
            reports: dict[str, Report] = {kind: worker.result() for kind, worker in honest.items()}
        for report in reports.values():
            self.problems += report.problems
        self.problems += wrong_after_attack(self._daemon, self._observer)
        columns = [self._column(report, kind in self._case.spared) for kind, report in reports.items()]
        cpu = self._cpu / sum(ends - begins for begins, ends in self._attacked)
        costs = f"{cpu:.0%}, {memory / MB:+.0f} MB, {log / 1000:+.0f} kB"
        visible = "; its grants are in the status" if self._visible else ""
        return f"{self._case.name:22} {' '.join(columns)}  {costs}; {_words(found)}{visible}"

    def _measure(self, workers: list[Worker], phases: list[Phase]) -> None:
        for worker in workers:
            worker.go_on()
        sleep(SETTLE_S)
        cpu = self._daemon.cpu_seconds()
        phases.append(measured(self._seconds))
        if phases is self._attacked:
            self._cpu += self._daemon.cpu_seconds() - cpu
            self._visible |= not pids_of_grants(self._observer.status()).isdisjoint(worker.pid for worker in workers)
        for worker in workers:
            worker.rest()

    def _honest_client(self, started: Workers) -> dict[str, Worker]:
        path, media = str(self._place.site.socket), self._place.honest
        return {kind: started.start(be_honest, kind, path, media) for kind in PERIODS_S}

    def _attackers(self, started: Workers) -> list[Worker]:
        place, case = self._place, self._case
        return [
            started.start(attacks.run, case.attack, str(place.site.socket), place.others) for _ in range(case.processes)
        ]

    def _log_bytes(self) -> int:
        return self._place.site.log.stat().st_size

    def _column(self, report: Report, is_spared: bool) -> str:
        alone, busy, attacked = map(report.within, (self._alone, self._busy, self._attacked))
        ratio = f"({attacked.p99 / busy.p99:.1f}{'' if is_spared else '*'})" if busy.p99 else "(-)"
        return f"{_ms(alone)} / {_ms(busy)} / {_ms(attacked)} {ratio}, {attacked.longest * 1000:.0f}".rjust(34)


def _ms(figures: Latency) -> str:
    return f"{figures.p99 * 1000:.1f}"


def _words(found: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {what}" for what, count in found.items())


@click.command()
@click.option("--case", "names", type=click.Choice([case.name for case in CASES]), multiple=True, help="Only this one.")
@click.option("--seconds", type=click.FloatRange(0.5), default=PHASE_S, show_default=True, help="Of each measurement.")
@click.option("--base", type=click.Path(path_type=Path, exists=True, file_okay=False), help="Where to make the sites.")
def main(names: tuple[str, ...], seconds: float, base: Path | None) -> None:
    """Attack daemons, and watch what an honest client of theirs has to wait for."""
    print(f"{os.cpu_count()} processors, load average {os.getloadavg()[0]:.1f}\n\n{HEADER}", flush=True)
    problems = []
    for case in CASES:
        if names and case.name not in names:
            continue
        with (
            temporary_place(base, directories=case.directories) as place,
            running(place.site) as daemon,
            connect(place.site.socket) as observer,
        ):
            format_media(place.site)
            if case.descriptors is not None:
                resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, (case.descriptors, case.descriptors))
            run = Run(case, place, daemon, observer, seconds)
            print(run.run(), flush=True)
            if daemon.status() is None:
                daemon.terminate()
            wrong = run.problems + wrong_after_drain(place.site, daemon)
        problems += [f"{case.name}: {problem}" for problem in wrong]
    print("\n* not spared: what the order of requests promises is longer\n")
    conclude(problems, "the honest client was always served, and nothing was left behind")


if __name__ == "__main__":
    main()
