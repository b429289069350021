"""Cases, how they are run in processes of their own, and what is made of many results."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from lrs_trio.model import Family
from lrs_trio.simulation.faults import FaultKind
from lrs_trio.simulation.scenario import HOUR, MIB, End, Interrupt, Wishes, scenario_for
from lrs_trio.simulation.suite.case import Case
from lrs_trio.simulation.suite.cases import (
    MINIMUM_FAULTS,
    MINIMUM_HOURS,
    MINIMUM_REQUESTS,
    MINIMUM_SEEDS,
    SEEDS,
    SMALL,
    TWICE,
    Digests,
    crowds,
    enumeration,
    part_of,
    shortcomings,
)
from lrs_trio.simulation.suite.pool import Workers, run_all, run_cases
from lrs_trio.simulation.suite.report import outcome_lines, totals_lines
from lrs_trio.simulation.suite.result import Result, Totals, plain_result, result_of
from lrs_trio.simulation.suite.running import outcome_of, run_case
from lrs_trio.simulation.suite.worker import CASE, RESULT

SMALL_DIRECTORIES = Case(1, small=Family.DIR)
EVERYTHING = Result(
    Case(7, Wishes(hours=1.5, faults=False), interrupt=Interrupt(3, End.FORCED, 5)),
    ("something is wrong",),
    1.25,
    seconds=7200.0,
    digest="abc",
    steps=9,
    requests={"Ping": 3},
    errors={"ENOSPC": 1},
    acknowledged=2,
    syncs=1,
    commits=4,
    longest_wait=0.5,
    betrayals=1,
    lives={End.KILL: 1},
    faults={FaultKind.SIGKILL: 2},
)


# Cases and results.


def test_wishes_and_an_interrupt_are_part_of_the_scenario() -> None:
    case = Case(3, Wishes(drives=2, requests=9), interrupt=Interrupt(5, End.POWER))
    scenario = case.scenario
    assert (scenario.seed, scenario.drives, scenario.directories, scenario.requests) == (3, 2, 0, 9)
    assert scenario.interrupt == Interrupt(5, End.POWER)
    assert SMALL_DIRECTORIES.scenario.requests < Case(1).scenario.requests


def test_cases_and_results_go_from_one_process_to_another() -> None:
    assert RESULT.validate_json(RESULT.dump_json(EVERYTHING)) == EVERYTHING
    assert CASE.validate_json(CASE.dump_json(EVERYTHING.case)) == EVERYTHING.case


def test_a_result_has_what_the_outcome_had() -> None:
    outcome = outcome_of(SMALL_DIRECTORIES)
    result = result_of(SMALL_DIRECTORIES, outcome, 2.0)
    assert (result.ok, result.digest, result.steps, result.real_seconds) == (True, outcome.digest, outcome.steps, 2.0)
    assert sum(result.requests.values()) == outcome.asked > 0
    try:
        raise ExceptionGroup("several", [ValueError("that")])
    except ExceptionGroup:
        wrong = replace(outcome, violations=("two answers",), error=traceback.format_exc())
    assert result_of(SMALL_DIRECTORIES, wrong, 2.0).problems == (
        "two answers",
        "an error has escaped: ValueError: that",
    )


def test_totals_add_up() -> None:
    totals = Totals()
    totals.add(EVERYTHING)
    totals.add(replace(EVERYTHING, problems=(), longest_wait=3.0, case=Case(8)))
    assert (totals.cases, totals.hours, totals.asked, totals.longest_wait) == (2, 4.0, 6, 3.0)
    assert totals.interrupted == {End.FORCED: 1}
    assert totals.failures == [EVERYTHING]
    assert totals.faults[FaultKind.SIGKILL] == 4
    assert set(totals.never_hit) == set(FaultKind) - {FaultKind.SIGKILL}
    assert totals.plain()["failures"] == [plain_result(EVERYTHING)]
    assert plain_result(EVERYTHING)["faults"] == {"sigkill": 2}


def test_what_a_person_reads() -> None:
    outcome = outcome_of(SMALL_DIRECTORIES)
    told = dict(outcome_lines(outcome, 2.0))
    assert "2 directories" in told["simulated"]
    assert outcome.digest in told["digest"]
    totals = Totals()
    totals.add(EVERYTHING)
    told = dict(totals_lines(totals, 3.6))
    assert told["time"] == "2.0 hours simulated, 2,000 times as fast as time"
    assert told["failures"] == "1"


# The suite.


def test_the_suite_asks_for_enough_seeds() -> None:
    assert len(SEEDS) >= MINIMUM_SEEDS
    assert len(TWICE) >= 50
    assert set(TWICE) <= set(SEEDS)
    assert {case.small for case in SMALL} == {Family.DIR, Family.TAPE}


def test_some_sites_have_weak_disks_little_room_or_one_client() -> None:
    scenarios = [scenario_for(seed) for seed in SEEDS]
    bad_days = [made.rates for made in scenarios if made.rates]
    weak = [rates for rates in bad_days if rates[FaultKind.SYNC_ERROR] > rates[FaultKind.LABEL_MISMATCH]]
    assert len(SEEDS) / 10 < len(weak) < len(SEEDS) / 2
    assert any(made.directory_capacity <= MIB for made in scenarios)
    assert 1 in {case.scenario.clients for case in crowds()}


@pytest.mark.parametrize("end", [End.KILL, End.POWER])
def test_a_run_is_cut_short_at_every_step(end: End) -> None:
    interrupts = [case.interrupt for case in enumeration(SMALL_DIRECTORIES, 40)]
    steps = [interrupt.step for interrupt in interrupts if interrupt is not None and interrupt.end is end]
    assert steps == list(range(1, 41))


def test_signals_come_at_many_steps_and_second_ones_after_many_distances() -> None:
    cases = list(enumeration(SMALL_DIRECTORIES, 300))
    interrupts = [case.interrupt for case in cases if case.interrupt is not None]
    first = [interrupt for interrupt in interrupts if interrupt.end is End.DRAIN]
    forced = [interrupt for interrupt in interrupts if interrupt.end is End.FORCED]
    assert len(first) == len(forced) == 50
    assert len({interrupt.again for interrupt in forced}) >= 4
    assert all(interrupt.again for interrupt in forced)
    assert len(set(cases)) == len(cases)
    assert {part_of(case) for case in cases} == {
        "killed at every step of a small site with directories",
        "without power at every step of a small site with directories",
        "signalled at a small site with directories",
    }


def test_what_the_suite_has_not_reached_is_told() -> None:
    enough, too_few = Totals(), Totals()
    for seed in SEEDS:
        faults = {kind: MINIMUM_FAULTS // len(SEEDS) for kind in FaultKind}
        hours, requests = MINIMUM_HOURS / len(SEEDS), MINIMUM_REQUESTS // len(SEEDS)
        enough.add(Result(Case(seed), (), 0.0, seconds=hours * HOUR, requests={"Ping": requests}, faults=faults))
    assert shortcomings(enough, enough) == ()
    too_few.add(Result(Case(1), (), 0.0, faults={kind: 1 for kind in FaultKind if kind is not FaultKind.SYNC_LIE}))
    told = shortcomings(too_few, too_few)
    assert [line.split()[1] for line in told[:4]] == ["seeds", "requests", "faults", "simulated"]
    assert told[4:] == (f"no fault of the kind {FaultKind.SYNC_LIE.value!r} was injected",)


def test_runs_of_one_case_that_differ_are_told() -> None:
    digests = Digests()
    first = Result(SMALL_DIRECTORIES, (), 0.0, digest="aa")
    assert digests.compare(first) is first
    assert digests.compare(replace(first, case=Case(2), digest="bb")).ok
    assert digests.compare(Result(SMALL_DIRECTORIES, ("it hangs",), 0.0)).problems == ("it hangs",)
    assert "aa and cc" in digests.compare(replace(first, digest="cc")).problems[0]


# Processes.


async def collect(cases: Sequence[Case], workers: Workers) -> dict[Case, Result]:
    results: dict[Case, Result] = {}

    def tell(result: Result) -> bool:
        results[result.case] = result
        return True

    await run_cases(cases, workers, tell)
    return results


async def test_other_processes_run_the_same_and_hash_otherwise() -> None:
    cases = [SMALL_DIRECTORIES, replace(SMALL_DIRECTORIES, interrupt=Interrupt(200, End.KILL))]
    results = await collect(cases, Workers(count=1, first_hash_seed=4711))
    here = await trio.to_thread.run_sync(lambda: [run_case(case) for case in cases])
    assert [results[case].digest for case in cases] == [result.digest for result in here]
    assert all(result.ok for result in here)


Standin = Callable[[str], dict[str, str]]


@pytest.fixture
def standin(tmp_path: Path) -> Standin:
    """Put another worker in the place of the real one: what `body` does with each `case`; `answer` writes a line."""

    def make(body: str) -> dict[str, str]:
        package = tmp_path / "lrs_trio" / "simulation" / "suite"
        package.mkdir(parents=True)
        for directory in (package, package.parent, package.parent.parent):
            (directory / "__init__.py").write_text("")
        (package / "worker.py").write_text(
            "import json, os, sys, time\n"
            "def answer(**figures):\n"
            "    print(json.dumps({'case': case, 'problems': [], 'real_seconds': 0.0} | figures), flush=True)\n"
            "for line in sys.stdin:\n"
            "    case = json.loads(line)\n"
            f"    {body}\n"
        )
        return {"PYTHONPATH": str(tmp_path)}

    return make


async def test_every_case_is_run_once_by_as_many_processes_as_asked_for(standin: Standin) -> None:
    environment = standin("answer(digest=f\"{os.getpid()} {os.environ['PYTHONHASHSEED']}\")")
    results: list[Result] = []
    cases = [Case(seed) for seed in range(40)]

    def tell(result: Result) -> bool:
        results.append(result)
        return True

    await run_cases(cases, Workers(count=2, environment=environment, first_hash_seed=5), tell)
    assert sorted(result.case.seed for result in results) == list(range(40))
    pids, hash_seeds = zip(*(result.digest.split() for result in results), strict=True)
    assert len(set(pids)) <= 2
    assert set(hash_seeds) <= {"5", "6"}


async def test_a_process_that_dies_or_hangs_fails_its_case_and_is_replaced(standin: Standin) -> None:
    environment = standin("os._exit(3) if case['seed'] == 1 else time.sleep(case['seed'] == 2 and 1000); answer()")
    results = await collect([Case(seed) for seed in range(5)], Workers(count=1, limit_s=2, environment=environment))
    assert {case.seed: result.problems for case, result in results.items() if not result.ok} == {
        1: ("the process that ran it has ended with status 3",),
        2: ("the run has not ended within 2 s",),
    }
    assert len(results) == 5


async def test_whoever_is_told_may_say_that_it_is_enough(standin: Standin) -> None:
    environment = standin("answer()")
    results: list[Result] = []

    def tell(result: Result) -> bool:
        results.append(result)
        return len(results) < 3

    with trio.fail_after(30):
        await run_cases((Case(seed) for seed in range(10**9)), Workers(count=1, environment=environment), tell)
    assert len(results) == 3


def test_an_interruption_ends_everything(standin: Standin) -> None:
    environment = standin("os.kill(os.getppid(), 2); time.sleep(1000)")
    with pytest.raises(KeyboardInterrupt):
        run_all([SMALL_DIRECTORIES], Workers(count=1, environment=environment), lambda result: True)
