"""How fast the simulation is."""

from __future__ import annotations

import sys
from typing import Final

from lrs_trio.cli.output import print_json, print_table, say
from lrs_trio.logs import configure_logging
from lrs_trio.simulation.scenario import Wishes
from lrs_trio.simulation.suite.case import Case
from lrs_trio.simulation.suite.report import span, speed
from lrs_trio.simulation.suite.result import Result, plain_result
from lrs_trio.simulation.suite.running import run_case

DRIVES: Final = (4, 64, 512)
HOURS: Final = 24.0
REQUESTS: Final = 400
CLIENTS: Final = 64
"""The same work for each site: more of it would say more about the daemon than about the simulation."""

SEED: Final = 1


def measure_speed(*, as_json: bool) -> bool:
    """Run a day of sites of different sizes without faults, and print how fast that is; ``True`` if nothing fails."""
    configure_logging("off", "console", sys.stderr)
    results = [_measure(drives) for drives in DRIVES]
    if as_json:
        print_json([plain_result(result) for result in results])
    else:
        head = ("drives", "requests", "steps", "virtual", "real", "virtual s per real s")
        print_table(head, [_row(result) for result in results], right=frozenset(head))
    for result in results:
        for problem in result.problems:
            say(f"{result.case.command}: {problem}")
    return all(result.ok for result in results)


def _measure(drives: int) -> Result:
    wishes = Wishes(
        hours=HOURS,
        drives=drives,
        directories=0,
        clients=CLIENTS,
        requests=REQUESTS,
        faults=False,
        lives=False,
    )
    return run_case(Case(SEED, wishes))


def _row(result: Result) -> tuple[str, ...]:
    return (
        f"{result.case.wishes.drives:,}",
        f"{sum(result.requests.values()):,}",
        f"{result.steps:,}",
        span(result.seconds),
        span(result.real_seconds),
        speed(result.seconds, result.real_seconds),
    )
