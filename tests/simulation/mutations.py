"""Whether the simulation finds mistakes: each is planted in a copy of the program, and runs are to fail there.

``python -m tests.simulation.mutations [--jobs 2] [--only TEXT]`` prints which run has found which mistake, and how, and
those that no run has found. Exit status 1 if too few are found.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import click
import trio

from lrs_trio.cli.output import print_table
from lrs_trio.simulation.scenario import End, Interrupt
from lrs_trio.simulation.suite.case import Case
from lrs_trio.simulation.suite.cases import ENDS, SMALL, crowds
from lrs_trio.simulation.suite.pool import Workers, run_cases
from lrs_trio.simulation.suite.result import Result
from tests.simulation.mistakes import MUTATIONS, Mutation

ROOT: Final = Path(__file__).parents[2]
PARTS: Final = ("src", "settings")
"""Of the project: all that the program needs."""

PACKAGE: Final = Path("src", "lrs_trio")

LEAST_FOUND: Final = 28 / 30
"""Of all mistakes."""

LIMIT_S: Final = 120.0
"""How long one run may take, in real seconds. What goes round in circles without an end is found by that."""

SEEDS: Final = range(1, 21)
"""These, and all crowded sites."""

STEPS: Final = range(60, 900, 120)
"""At these the small sites are cut short."""

SIGNALLED: Final = range(60, 900, 12)
"""At these they are told to drain: what goes on just then lasts for few steps."""

SHOWN: Final = 110
"""Characters of what a run has found."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What has become of one mistake; nothing is found if there is no result."""

    mutation: Mutation
    result: Result | None
    real_seconds: float
    """That the search took."""


def cases() -> Iterator[Case]:
    """The runs that look for a mistake, all of them such as the suite has: short ones first."""
    for small in SMALL:
        yield small
        for number, step in enumerate(STEPS):
            yield replace(small, interrupt=Interrupt(step, ENDS[number % len(ENDS)]))
    yield from crowds()
    yield from map(Case, SEEDS)
    for step in SIGNALLED:
        for small in SMALL:
            yield replace(small, interrupt=Interrupt(step, End.DRAIN))


@contextmanager
def copied(base: Path) -> Iterator[Path]:
    """A copy of the program in a directory of its own below `base`."""
    with tempfile.TemporaryDirectory(dir=base) as directory:
        copy = Path(directory)
        for part in PARTS:
            shutil.copytree(ROOT / part, copy / part, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        yield copy


def judged(result: Result) -> Result:
    """`result`, with what the suite holds against runs in which too little is asked for: here it was nothing."""
    if result.problems or any(result.requests.values()):
        return result
    return replace(result, problems=("nobody could ask for anything",))


def plant(mutation: Mutation, copy: Path) -> None:
    """Make the mistake in the program at `copy`.

    Raises:
        ValueError: the place where it belongs is not there, or not the only one.
    """
    file = copy / PACKAGE / mutation.file
    text = file.read_text(encoding="utf-8")
    if text.count(mutation.old) != 1:
        raise ValueError(f"{mutation.file}: has {mutation.old!r} {text.count(mutation.old)} times")
    file.write_text(text.replace(mutation.old, mutation.new), encoding="utf-8")


async def look(copy: Path) -> Result | None:
    """Run the program at `copy` until a run fails, which is the result."""
    failures: list[Result] = []

    def tell(result: Result) -> bool:
        result = judged(result)
        failures.extend([] if result.ok else [result])
        return result.ok

    workers = Workers(count=1, limit_s=LIMIT_S, environment={"PYTHONPATH": str(copy / "src")})
    await run_cases(cases(), workers, tell)
    return failures[0] if failures else None


async def check(mutations: Sequence[Mutation], jobs: int, base: Path) -> list[Finding]:
    """Plant each of the `mutations` in a copy of its own below `base`, so many at a time."""
    queue = iter(enumerate(mutations))
    findings: dict[int, Finding] = {}

    async def work() -> None:
        for number, mutation in queue:
            begun = time.monotonic()
            with copied(base) as copy:
                plant(mutation, copy)
                finding = Finding(mutation, await look(copy), time.monotonic() - begun)
            findings[number] = finding
            click.echo(f"{len(findings)} of {len(mutations)}: {row(finding)[-1]} ({mutation.why})", err=True)

    async with trio.open_nursery() as nursery:
        for _ in range(jobs):
            nursery.start_soon(work)
    return [findings[number] for number in range(len(mutations))]


def row(finding: Finding) -> tuple[str, ...]:
    result = finding.result
    if result is None:
        return finding.mutation.file, finding.mutation.why, "-", "NOT FOUND"
    said = " ".join(result.problems[0].split())
    return finding.mutation.file, finding.mutation.why, result.case.command.removeprefix("lrs simulate "), said[:SHOWN]


@click.command()
@click.option("--jobs", type=click.IntRange(1), default=2, show_default=True)
@click.option("--only", default="", help="Only mistakes in files, or with reasons, that contain this.")
def main(jobs: int, only: str) -> None:
    """Plant mistakes in copies of the program and see which of them the simulation finds."""
    chosen = [mutation for mutation in MUTATIONS if only in mutation.file or only in mutation.why]
    with tempfile.TemporaryDirectory(prefix="lrs-mutations-") as directory:
        base = Path(directory)
        with copied(base) as copy:
            failure = trio.run(look, copy)
        if failure is not None:
            click.echo(f"the program fails as it is: {failure.case.command}: {failure.problems[0]}", err=True)
            sys.exit(1)
        findings = trio.run(check, chosen, jobs, base)
    print_table(("file", "mistake", "found by", "which said"), map(row, findings))
    found = sum(finding.result is not None for finding in findings)
    click.echo(f"\n{found} of {len(findings)} mistakes are found")
    sys.exit(0 if found >= LEAST_FOUND * len(findings) else 1)


if __name__ == "__main__":
    main()
