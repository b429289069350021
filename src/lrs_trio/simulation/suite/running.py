"""Runs a case, whatever it stands for, and takes the time."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import TextIO

from lrs_trio.simulation.outcome import Outcome
from lrs_trio.simulation.replay.player import read_workload, scenario_of
from lrs_trio.simulation.run import simulate
from lrs_trio.simulation.suite.case import Case
from lrs_trio.simulation.suite.result import Result, result_of


def run_case(case: Case) -> Result:
    """What came of `case`, and how long that took."""
    begun = time.monotonic()
    outcome = outcome_of(case)
    return result_of(case, outcome, time.monotonic() - begun)


def outcome_of(case: Case, *, sink: TextIO | None = None, keep_events: bool = False) -> Outcome:
    """Run `case`; `sink` gets every line of the trace as it comes.

    Raises:
        OSError: a recorded workload cannot be read.
        LrsError: EINVAL, it is none.
    """
    if not case.replay:
        return simulate(case.scenario, sink=sink, keep_events=keep_events)
    workload = read_workload(Path(case.replay))
    scenario = replace(scenario_of(workload, case.seed), interrupt=case.interrupt)
    return simulate(scenario, workload=workload, sink=sink, keep_events=keep_events)
