"""What a person reads of one run and of many: lines of a name and its figures. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from lrs_trio.model import Family
from lrs_trio.observe.words import counted, duration
from lrs_trio.simulation.faults import FaultKind
from lrs_trio.simulation.outcome import Outcome
from lrs_trio.simulation.scenario import HOUR, End, Scenario
from lrs_trio.simulation.suite.case import Case
from lrs_trio.simulation.suite.result import Totals

MICROSECONDS: Final = 1_000_000

Line = tuple[str, str]

CHECKED: Final = (
    "every request answered once or its connection closed, and no other release than those with something to sync",
    "no answer to a release before its data is durable and the books are committed",
    "a medium in one device, no more I/O than allowed, reads and writes mixed only where allowed, nothing negative",
    "the books equal to what was acknowledged, the locks in the DSS equal to those that are held",
    "every drain in order and in time, no task left over, everything answered after the last fault",
)

_ENDS: Final = {
    End.DRAIN: "ended in order",
    End.FORCED: "forced to end",
    End.KILL: "killed",
    End.POWER: "cut off by a power failure",
}


def scenario_text(scenario: Scenario) -> str:
    """What is simulated, in one sentence."""
    families = {Family.DIR: scenario.directories, Family.TAPE: scenario.drives}
    names = {Family.DIR: ("directory", "directories"), Family.TAPE: ("drive", "drives")}
    devices = " and ".join(counted(count, *names[family]) for family, count in families.items() if count)
    media = f" with {counted(scenario.tapes, 'tape')}" if scenario.drives else ""
    work = f"{counted(scenario.clients, 'client')} with {counted(scenario.requests, 'request')}"
    return f"{devices or 'recorded devices'}{media}; {work} within {span(scenario.hours * HOUR)}"


def span(seconds: float) -> str:
    return duration(round(seconds * MICROSECONDS))


def speed(seconds: float, real_seconds: float) -> str:
    """How much faster than time itself."""
    return f"{seconds / max(real_seconds, 1e-6):,.0f}"


def outcome_lines(outcome: Outcome, real_seconds: float) -> Iterator[Line]:
    """What happened in one run that took so long."""
    yield "simulated", scenario_text(outcome.scenario)
    yield "time", time_text(outcome.seconds, real_seconds)
    yield "requests", _sum_of(outcome.requests)
    yield "answers", f"{_sum_of(outcome.answers)}; the longest wait was {span(outcome.longest_wait)}"
    yield "errors", _sum_of(outcome.errors)
    yield "releases", releases_text(outcome.acknowledged, outcome.syncs, outcome.commits)
    yield "daemons", lives_text(outcome.lives)
    yield "faults", f"{sum(outcome.faults.values()):,} of {counted(len(outcome.faults), 'kind')}"
    if outcome.betrayals:
        yield "lost", f"{counted(outcome.betrayals, 'file')} by syncs that lied, all of them noticed"
    yield "digest", f"{outcome.digest} of {counted(outcome.lines, 'line')}, {counted(outcome.steps, 'step')} of tasks"


def totals_lines(totals: Totals, real_seconds: float) -> Iterator[Line]:
    """What happened in many runs that took so long together."""
    yield "runs", f"{totals.cases:,}"
    if totals.interrupted:
        yield "cut short", ", ".join(f"{count:,} {_ENDS[end]}" for end, count in totals.interrupted.items())
    yield "time", f"{totals.hours:,.1f} hours simulated, {speed(totals.seconds, real_seconds)} times as fast as time"
    yield "requests", _sum_of(totals.requests)
    yield "releases", releases_text(totals.acknowledged, totals.syncs, totals.commits)
    yield "longest wait", span(totals.longest_wait)
    yield "daemons", lives_text(totals.lives)
    yield "faults", f"{totals.faults.total():,} of {counted(len(FaultKind) - len(totals.never_hit), 'kind')}"
    yield "steps", f"{totals.steps:,} of tasks"
    yield "failures", f"{len(totals.failures):,}"


def fault_rows(faults: Mapping[FaultKind, int]) -> list[tuple[str, str]]:
    """Every kind that was injected, with how often."""
    return [(kind.value, f"{faults[kind]:,}") for kind in FaultKind if faults.get(kind)]


def failure_lines(case: Case, problems: Sequence[str], program: str) -> Iterator[str]:
    """What was wrong, and the one line that shows it again with this `program`."""
    yield from problems
    yield f"{case.command}   # {program}"


def time_text(seconds: float, real_seconds: float) -> str:
    return f"{span(seconds)} in {span(real_seconds)}: {speed(seconds, real_seconds)} times as fast as time"


def releases_text(acknowledged: int, syncs: int, commits: int) -> str:
    return f"{acknowledged:,} acknowledged, {counted(syncs, 'sync')}, {counted(commits, 'commit')} of the DSS"


def lives_text(lives: Mapping[End, int]) -> str:
    told = ", ".join(f"{count:,} {_ENDS[end]}" for end, count in lives.items() if count)
    return told or "none has ended"


def _sum_of(counts: Mapping[str, int]) -> str:
    if not counts:
        return "none"
    parts = ", ".join(f"{name} {count:,}" for name, count in sorted(counts.items(), key=_most))
    return f"{sum(counts.values()):,}: {parts}"


def _most(item: tuple[str, int]) -> tuple[int, str]:
    return -item[1], item[0]
