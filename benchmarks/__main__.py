"""The suite: ``python -m benchmarks [--quick]``. What is in its table, and how to read it, is in docs/benchmarks.md.

Nothing is asserted about time, but counters that are wrong, and an answer that is an error or missing, end it with
status 1.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter

import click

from benchmarks import results
from benchmarks.cases import Place, Point, full_plan, quick_plan
from benchmarks.conclusion import conclude
from benchmarks.driver.crew import PROCESSES, crew_of
from benchmarks.driver.scripts import WrongAnswerError
from benchmarks.measuring import Schedule, served
from benchmarks.memory import measure_memory
from benchmarks.picture import draw
from benchmarks.results import DIRECTORY, Block, Results
from benchmarks.sites import DSS_KINDS, DssKind, Sites, temporary_sites
from benchmarks.table import HEADER, line

SECONDS, QUICK_SECONDS = 3.0, 0.5
ROUNDS, QUICK_ROUNDS = 3, 1


@click.command()
@click.option("--quick", is_flag=True, help="A few points, short; nothing is written down unless --results says where.")
@click.option("--seconds", type=click.FloatRange(0.1), help=f"Of each point under load; {SECONDS} or {QUICK_SECONDS}.")
@click.option("--rounds", type=click.IntRange(1), help=f"To divide these seconds into; {ROUNDS} or {QUICK_ROUNDS}.")
@click.option("--dss", "kinds", type=click.Choice(DSS_KINDS), multiple=True, help="Only with the DSS there.")
@click.option("--devices", type=click.IntRange(1), multiple=True, help="Only with so many; may be repeated.")
@click.option("--files", is_flag=True, help="Clients write a file on each medium that is granted.")
@click.option("--processes", type=click.IntRange(1), default=PROCESSES, show_default=True, help="Of the clients.")
@click.option("--results", "directory", type=click.Path(path_type=Path, file_okay=False), help="Where to write them.")
@click.option("--base", type=click.Path(path_type=Path, exists=True, file_okay=False), help="Where to make the sites.")
def main(
    quick: bool,
    seconds: float | None,
    rounds: int | None,
    kinds: tuple[DssKind, ...],
    devices: tuple[int, ...],
    files: bool,
    processes: int,
    directory: Path | None,
    base: Path | None,
) -> None:
    """Measure cycles against a real daemon, beside what this machine can do at best."""
    begun = perf_counter()
    schedule = Schedule(
        seconds or (QUICK_SECONDS if quick else SECONDS),
        rounds or (QUICK_ROUNDS if quick else ROUNDS),
    )
    run = results.begin(schedule, processes, files=files)
    parts = [
        (place, points)
        for place, points in (quick_plan() if quick else full_plan())
        if place.dss in (kinds or DSS_KINDS) and (not devices or place.devices in devices)
    ]
    machine = run.machine
    print(
        f"commit {run.commit}, {machine.processors} processors, kernel {machine.kernel}, Python {machine.python}, load"
        f" average {machine.load_average:.1f}\n{schedule.seconds:g} s for each point, in {schedule.rounds} rounds"
        f"\n\n{HEADER}",
        flush=True,
    )
    for kind in DSS_KINDS:
        of_kind = [part for part in parts if part[0].dss == kind]
        if of_kind:
            with temporary_sites(kind, parent=base) as sites:
                for place, points in of_kind:
                    measure(run, place, points, sites, base)
    with noting(run.problems, "memory"), crew_of(processes) as crew:
        run.memory, problems = measure_memory(crew, schedule.seconds)
        run.problems += problems
        print(f"\n{run.memory}")
    written = directory or (None if quick else DIRECTORY)
    if written is not None:
        file = results.save(run, written)
        file.with_suffix(".svg").write_text(draw(run))
        print(f"written to {file}, and a picture beside it")
    print(f"{perf_counter() - begun:.0f} s in all")
    conclude(run.problems, "the counters of the DSS equal the releases")


def measure(run: Results, place: Place, points: Iterable[Point], sites: Sites, base: Path | None) -> None:
    """Add a block to `run`, with rows of the table as they come."""
    print(f"\n{place}", flush=True)
    block = Block(place, [])
    run.blocks.append(block)
    with noting(run.problems, str(place)), crew_of(run.processes) as crew:
        with served(place, sites, crew, parent=base, files=run.files) as at:
            for point in points:
                block.figures.append(at.measuring.run(point, run.schedule))
                print(line(block.figures[-1]), flush=True)
        run.problems += [f"{place}: {problem}" for problem in at.problems]


@contextmanager
def noting(problems: list[str], where: str) -> Iterator[None]:
    """What ends the block goes to `problems`: what was measured elsewhere is worth keeping."""
    try:
        yield
    except (OSError, RuntimeError, WrongAnswerError) as error:
        problems.append(f"{where}: {error}")
        print(f"failed: {error}", flush=True)


if __name__ == "__main__":
    main()
