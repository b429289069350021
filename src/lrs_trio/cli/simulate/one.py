"""One run, told in detail."""

from __future__ import annotations

import sys
import time
from contextlib import nullcontext
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

import click
import trio

from lrs_trio.cli.output import print_json, print_table, say
from lrs_trio.cli.simulate.many import print_lines
from lrs_trio.cli.simulate.program import program
from lrs_trio.cli.timeline import print_shares
from lrs_trio.logs import LogLevel, configure_logging
from lrs_trio.observe.picture import draw, shares_rows
from lrs_trio.observe.replay import build_timeline
from lrs_trio.simulation.outcome import Outcome
from lrs_trio.simulation.scenario import HOST
from lrs_trio.simulation.suite.case import Case
from lrs_trio.simulation.suite.cases import Digests
from lrs_trio.simulation.suite.pool import Workers, run_all
from lrs_trio.simulation.suite.report import CHECKED, failure_lines, fault_rows, outcome_lines
from lrs_trio.simulation.suite.result import Result, plain_result, problems_of, result_of
from lrs_trio.simulation.suite.running import outcome_of
from lrs_trio.simulation.world import EPOCH

if TYPE_CHECKING:
    from structlog.typing import EventDict

    from lrs_trio.observe.timeline import Timeline

SHOWN: Final = 40
"""Of the trace, after a failure."""

MOST_DEVICES: Final = 24
"""That get a line each."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a person wants to see of the run besides its figures."""

    trace: Path | None = None
    timeline: Path | None = None
    log: str | None = None
    as_json: bool = False


def run_one(case: Case, wanted: Wanted, runs: int, workers: Workers) -> bool:
    """Run `case`, `runs` times, and tell of it; ``True`` if all is as it should be.

    Raises:
        OSError: something that is wanted cannot be written.
    """
    level = "off" if wanted.log is None else cast("LogLevel", wanted.log)
    configure_logging(level, "console", sys.stderr, stamp=_virtual_time)
    begun = time.monotonic()
    with open(wanted.trace, "w", encoding="utf-8") if wanted.trace is not None else nullcontext() as sink:
        outcome = outcome_of(case, sink=sink, keep_events=True)
    real_seconds = time.monotonic() - begun
    problems = (*problems_of(outcome), *_other_ways(case, outcome.digest, runs - 1, workers))
    result = replace(result_of(case, outcome, real_seconds), problems=problems)
    timeline = build_timeline(outcome.events or (), 0.0, outcome.seconds)
    if wanted.timeline is not None:
        _draw(wanted.timeline, case, timeline)
    if wanted.as_json:
        print_json(plain_result(result) | {"program": program()})
    else:
        _print(outcome, result, timeline, runs)
    if not result.ok:
        _tell_failure(outcome, result)
    return result.ok


def _other_ways(case: Case, digest: str, runs: int, workers: Workers) -> tuple[str, ...]:
    """Run `case` so many times more, in processes of their own, and say how they differ from the first."""
    if not runs:
        return ()
    digests = Digests()
    digests.compare(Result(case, (), 0.0, digest=digest))
    problems: dict[str, None] = {}

    def tell(result: Result) -> bool:
        problems.update(dict.fromkeys(digests.compare(result).problems))
        return True

    run_all([case] * runs, workers, tell)
    return tuple(problems)


def _draw(path: Path, case: Case, timeline: Timeline) -> None:
    note = f"Simulated: {case.command}"
    page = draw(timeline, f"Devices and requests on {HOST}", begun=datetime.fromtimestamp(EPOCH, UTC), note=note)
    path.write_text(page, encoding="utf-8")
    say(f"the picture is {path}")


def _print(outcome: Outcome, result: Result, timeline: Timeline, runs: int) -> None:
    click.echo(click.style(result.case.command, bold=True))
    print_lines(outcome_lines(outcome, result.real_seconds))
    if runs > 1 and result.ok:
        click.echo(f"{runs} runs have the same digest")
    if any(outcome.faults.values()):
        click.echo()
        print_table(("fault", "times"), fault_rows(outcome.faults), right=frozenset({"times"}))
    if timeline.devices:
        click.echo()
        _print_shares(timeline)
    if result.ok:
        click.echo()
        for promise in CHECKED:
            click.echo(f"{click.style('ok    ', fg='green')} {promise}")


def _print_shares(timeline: Timeline) -> None:
    """How the devices spent their time; of a crowd of them, only all together."""
    if len(timeline.devices) <= MOST_DEVICES:
        print_shares(timeline)
        return
    for family in timeline.families:
        head, *_, total = shares_rows(timeline, family)
        print_table(head, [total], right=frozenset(head[1:]), title=f"family {family}")


def _tell_failure(outcome: Outcome, result: Result) -> None:
    if outcome.error:
        click.echo(outcome.error, err=True)
    click.echo("the last lines of what happened:", err=True)
    for line in outcome.last_lines[-SHOWN:]:
        click.echo(f"  {line}", err=True)
    for line in failure_lines(result.case, result.problems, program()):
        click.echo(f"{click.style('FAILED', fg='red')} {line}", err=True)


def _virtual_time(_logger: object, _method: str, line: EventDict) -> EventDict:
    try:
        now = trio.current_time()
    except RuntimeError:  # the run has not begun, or is over
        return line
    return {"timestamp": f"{now:15.6f}", **line}
