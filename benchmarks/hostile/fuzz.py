"""The fuzzer: ``python -m benchmarks.hostile.fuzz [--frames 10000000] [--seed TEXT]``.

Several processes with several connections each send frames to a real daemon: requests of every kind, changed ones, and
what never was a request. An honest client is beside them all the time. Ends with status 1 if the daemon ends, answers
or closes where it must not, keeps what clients have left, or gives the honest client an error. The same seed makes
the same frames.
"""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from random import SystemRandom
from time import monotonic, sleep
from typing import Final

import click

from benchmarks.books import wrong_after_drain
from benchmarks.conclusion import conclude
from benchmarks.harness import Lrsd, format_media, running
from benchmarks.hostile.fuzz_process import Task, fuzz
from benchmarks.hostile.honest import PERIODS_S, Phase, Report, be_honest, measured
from benchmarks.hostile.processes import Findings, Worker, burn, workers
from benchmarks.hostile.site import Place, temporary_place
from benchmarks.hostile.watch import wrong_after_attack
from lrs_trio.client import Client, connect

PROCESSES: Final = 2
MEASURED_S: Final = 5.0
"""Before and after the fuzzing. Seconds."""

LINE_S: Final = 60.0
MB: Final = 1024 * 1024


class Run:
    """One fuzzing on a place; `problems` are what was wrong."""

    def __init__(self, place: Place, daemon: Lrsd, observer: Client, seed: str) -> None:
        self.problems: list[str] = []
        self._place = place
        self._daemon = daemon
        self._observer = observer
        self._seed = seed
        self._memory = [daemon.resident_bytes()]

    def run(self, frames: int, longest_s: float) -> None:
        """Send so many frames, unless it takes too long, and print what was seen."""
        path, honest, others = str(self._place.site.socket), self._place.honest, self._place.others
        with workers() as started:
            honest_ones = {kind: started.start(be_honest, kind, path, honest) for kind in PERIODS_S}
            sleep(1)
            phases = {"alone": measured(MEASURED_S)}
            busy = [started.start(burn) for _ in range(PROCESSES)]
            for worker in busy:
                worker.go_on()
            sleep(1)
            phases["beside busy processes"] = measured(MEASURED_S)
            for worker in busy:
                worker.rest()
            tasks = [
                Task(path, f"{self._seed}/{number}", frames // PROCESSES, honest, others) for number in range(PROCESSES)
            ]
            phases["fuzzed"] = self._wait([started.start(fuzz, task) for task in tasks], longest_s)
            sleep(1)
            phases["after"] = measured(MEASURED_S)
            reports: dict[str, Report] = {kind: worker.result() for kind, worker in honest_ones.items()}
        self._print(reports, phases)
        for report in reports.values():
            self.problems += report.problems
        self.problems += wrong_after_attack(self._daemon, self._observer)

    def _wait(self, fuzzers: list[Worker], longest_s: float) -> Phase:
        begins = monotonic()
        next_line = begins + LINE_S
        while self._daemon.status() is None and monotonic() < begins + longest_s:
            if all(worker.is_done() for worker in fuzzers):
                break
            if monotonic() >= next_line:
                next_line += LINE_S
                self._memory.append(self._daemon.resident_bytes())
                print(f"{monotonic() - begins:5.0f} s: lrsd has {self._memory[-1] / MB:.0f} MB", flush=True)
            sleep(0.1)
        seen: Findings = Counter()
        for worker in fuzzers:
            found, problem = worker.result()
            seen += found
            self.problems += [f"{problem}{self._daemon.said()}"] if problem is not None else []
        ends = monotonic()
        frames = seen.pop("frames", 0)
        print(f"{frames} frames in {ends - begins:.0f} s, {frames / (ends - begins):.0f} per second")
        print(", ".join(f"{count} {what}" for what, count in sorted(seen.items())))
        return begins, ends

    def _print(self, reports: dict[str, Report], phases: dict[str, Phase]) -> None:
        for kind, report in reports.items():
            for name, phase in phases.items():
                found = report.within([phase])
                times = " ".join(f"{value * 1000:8.2f}" for value in (found.p50, found.p99, found.longest))
                print(f"{kind:6} {name:22} p50, p99, longest in ms: {times} ({found.count})")
            during, beside = report.within([phases["fuzzed"]]), report.within([phases["beside busy processes"]])
            print(f"{kind:6} p99 during / p99 beside busy processes: {during.p99 / (beside.p99 or 1):.1f}")
        first, last = self._memory[0], self._daemon.resident_bytes()
        print(f"lrsd: {first / MB:.0f} MB before, {last / MB:.0f} MB after; {self._daemon.cpu_seconds():.0f} s of CPU")


@click.command()
@click.option("--frames", type=click.IntRange(1), default=100_000, show_default=True, help="How many to send.")
@click.option("--seed", default=None, help="Makes the same frames again; by default there are others each time.")
@click.option(
    "--minutes", type=click.FloatRange(0.1), default=15.0, show_default=True, help="The longest that it takes."
)
@click.option("--base", type=click.Path(path_type=Path, exists=True, file_okay=False), help="Where to make the site.")
def main(frames: int, seed: str | None, minutes: float, base: Path | None) -> None:
    """Fuzz the socket of a daemon, beside an honest client of it."""
    seed = seed or str(SystemRandom().randrange(10**9))
    print(f"seed {seed}, {os.cpu_count()} processors, load average {os.getloadavg()[0]:.1f}", flush=True)
    with temporary_place(base) as place, running(place.site) as daemon, connect(place.site.socket) as observer:
        format_media(place.site)
        run = Run(place, daemon, observer, seed)
        run.run(frames, minutes * 60)
        if daemon.status() is None:
            daemon.terminate()
        problems = run.problems + wrong_after_drain(place.site, daemon)
        print(f"log: {place.site.log.stat().st_size / 1000:.0f} kB")
    conclude(problems, "the honest client was always served, nothing was left behind, and the drain was an ordered one")


if __name__ == "__main__":
    main()
