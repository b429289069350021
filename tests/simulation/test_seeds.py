"""Whole runs: one of each kind, and those that have failed once.

A case is what the line says that was told with a failure: `lrs simulate --seed 7 --kill-at 200` is
``Case(7, interrupt=Interrupt(200, End.KILL))``.
"""

from __future__ import annotations

import pytest

from lrs_trio.model import Family
from lrs_trio.simulation.scenario import End, Interrupt, Wishes
from lrs_trio.simulation.suite.case import Case
from lrs_trio.simulation.suite.running import run_case

RUNS = (
    (Case(1, small=Family.DIR), "directories, and nothing goes wrong"),
    (Case(1, small=Family.TAPE), "tapes, and nothing goes wrong"),
    (Case(1, small=Family.DIR, interrupt=Interrupt(300, End.KILL)), "killed"),
    (Case(1, small=Family.TAPE, interrupt=Interrupt(300, End.POWER)), "without power"),
    (Case(1, small=Family.TAPE, interrupt=Interrupt(300, End.DRAIN)), "drained, and started again"),
    (Case(1, small=Family.DIR, interrupt=Interrupt(300, End.FORCED, 5)), "forced to end"),
    (Case(5, Wishes(directories=3, drives=3, clients=6, requests=60)), "everything at once"),
)
"""And what is special about each, or what was wrong."""


@pytest.mark.parametrize(("case", "what"), RUNS, ids=[what for _, what in RUNS])
def test_nothing_is_wrong_with_the_run(case: Case, what: str) -> None:
    assert run_case(case).problems == (), what
