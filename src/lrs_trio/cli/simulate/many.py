"""Many runs in several processes: seeds in a row, the suite, and a search without an end."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import count
from random import SystemRandom
from typing import Final

import click

from lrs_trio.cli.output import print_json, print_table, say
from lrs_trio.cli.simulate.program import program
from lrs_trio.simulation.suite.case import Case
from lrs_trio.simulation.suite.cases import (
    SEEDS,
    SEEDS_PART,
    SMALL,
    TWICE,
    Digests,
    crowds,
    enumeration,
    part_of,
    shortcomings,
)
from lrs_trio.simulation.suite.pool import Workers, run_all
from lrs_trio.simulation.suite.report import Line, failure_lines, fault_rows, totals_lines
from lrs_trio.simulation.suite.result import Result, Totals

REPORT_S: Final = 15.0
"""How often to say how far it is. Real seconds."""

LAST_SEED: Final = 10**9
"""A search begins below this one: nobody likes to copy more digits."""


def run_seeds(cases: Sequence[Case], runs: int, workers: Workers, *, as_json: bool) -> bool:
    """Run `cases`, each `runs` times in processes that hash differently; ``True`` if none fails."""
    campaign = _Campaign(workers, len(cases) * runs)
    for number in range(runs):
        campaign.run(cases, number)
    return campaign.conclude((), as_json=as_json)


def run_suite(workers: Workers, *, as_json: bool) -> bool:
    """Run the suite; ``True`` if nothing fails and it has reached what it has to reach."""
    seeds, again = [*map(Case, SEEDS), *crowds()], list(map(Case, TWICE))
    interrupted = [case for small, steps in _steps(workers).items() for case in enumeration(small, steps)]
    campaign = _Campaign(workers, len(seeds) + len(interrupted) + len(again))
    campaign.run([*seeds, *interrupted])
    campaign.run(again, 1)
    return campaign.conclude(shortcomings(campaign.parts[SEEDS_PART], campaign.totals), as_json=as_json)


def run_forever(workers: Workers) -> bool:
    """Run one seed after the other, from one that chance decides, until one fails; then ``False``.

    Ctrl-C ends it, too, and nothing was wrong.
    """
    first = SystemRandom().randrange(LAST_SEED)
    say(f"from seed {first} on, until one fails")
    campaign = _Campaign(workers, None)
    with suppress(KeyboardInterrupt):
        campaign.run(map(Case, count(first)))
    return campaign.conclude((), as_json=False)


def print_lines(lines: Iterable[Line]) -> None:
    for name, value in lines:
        click.echo(f"{name:<13} {value}")


def _steps(workers: Workers) -> dict[Case, int]:
    """How many steps the runs take that are to be cut short at each."""
    found: dict[Case, int] = {}

    def tell(result: Result) -> bool:
        found[result.case] = result.steps
        return True

    run_all(SMALL, workers, tell)
    return {case: found[case] for case in SMALL}


class _Campaign:
    """Runs cases, and tells now and then how far it is; without a `total` it goes on until one fails.

    Attributes:
        totals: over all that were run.
        parts: the same for each part of the suite, where later rounds are parts of their own.
    """

    def __init__(self, workers: Workers, total: int | None) -> None:
        self.totals = Totals()
        self.parts: defaultdict[str, Totals] = defaultdict(Totals)
        self._workers = workers
        self._total = total
        self._digests = Digests()
        self._round = ""
        self._begun = self._told = time.monotonic()

    def run(self, cases: Iterable[Case], number: int = 0) -> None:
        """Run `cases` in processes that hash as those of no other round with another `number` do."""
        self._round = " once more" if number else ""
        workers = replace(self._workers, first_hash_seed=1 + number * self._workers.count)
        run_all(cases, workers, self._take)

    def conclude(self, missing: Sequence[str], *, as_json: bool) -> bool:
        """Tell everything; ``True`` if nothing has failed and nothing is `missing`."""
        totals = self.totals
        if as_json:
            print_json(totals.plain() | {"missing": list(missing), "program": program()})
        else:
            self._print()
        for result in totals.failures:
            for line in failure_lines(result.case, result.problems, program()):
                click.echo(line, err=True)
        for what in missing:
            say(what)
        return not totals.failures and not missing

    def _take(self, result: Result) -> bool:
        result = self._digests.compare(result)
        self.totals.add(result)
        self.parts[part_of(result.case) + self._round].add(result)
        now = time.monotonic()
        if now - self._told >= REPORT_S:
            self._told = now
            self._report(now)
        return result.ok or self._total is not None

    def _report(self, now: float) -> None:
        totals = self.totals
        of = "" if self._total is None else f" of {self._total:,}"
        say(
            f"{now - self._begun:.0f} s: {totals.cases:,}{of} runs, {totals.hours:,.0f} hours, "
            f"{totals.asked:,} requests, {totals.faults.total():,} faults, {len(totals.failures)} failed"
        )

    def _print(self) -> None:
        totals = self.totals
        if len(self.parts) > 1:
            rows = [
                (name, f"{part.cases:,}", f"{part.hours:,.0f}", f"{part.asked:,}", str(len(part.failures)))
                for name, part in self.parts.items()
            ]
            head = ("part", "runs", "hours", "requests", "failed")
            print_table(head, rows, right=frozenset(head[1:]))
            click.echo()
        print_lines(totals_lines(totals, time.monotonic() - self._begun))
        click.echo()
        print_table(("fault", "times"), fault_rows(totals.faults), right=frozenset({"times"}))
        if totals.never_hit:
            click.echo(f"never hit: {', '.join(kind.value for kind in totals.never_hit)}")
