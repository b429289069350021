"""`lrs simulate`, in this process, and what a person sees of it."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from click.testing import Result as Shown
from structlog.testing import capture_logs

from lrs_trio.cli.lrs import lrs
from lrs_trio.cli.simulate.many import run_forever, run_seeds
from lrs_trio.cli.simulate.program import program
from lrs_trio.model import Family
from lrs_trio.observe.timeline import Share
from lrs_trio.simulation.faults import FaultKind
from lrs_trio.simulation.outcome import Outcome
from lrs_trio.simulation.scenario import End, Interrupt, Wishes
from lrs_trio.simulation.suite.case import Case
from lrs_trio.simulation.suite.pool import Workers
from lrs_trio.simulation.suite.result import Result
from lrs_trio.simulation.suite.running import outcome_of
from tests.simulation.traces import TraceMaker, inventory_of

SMALL = Case(1, small=Family.DIR)

Simulate = Callable[..., Shown]


@pytest.fixture
def simulate(monkeypatch: pytest.MonkeyPatch) -> Simulate:
    # Logging is set up once for a process, and this one has other tests to run.
    monkeypatch.setattr("lrs_trio.cli.simulate.one.configure_logging", lambda *args, **options: None)

    def run(*args: str | Path) -> Shown:
        with capture_logs():
            return CliRunner().invoke(lrs, ["simulate", *map(str, args)], prog_name="lrs")

    return run


def failing(outcome: Outcome) -> Outcome:
    return replace(outcome, violations=("at 3.000000 s: two answers to one request",), last_lines=("2.9 the last",))


# One run.


def test_a_run_is_told_with_its_figures_and_the_shares_of_the_time(simulate: Simulate) -> None:
    done = simulate("--seed", "1", "--small", "dir")
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert lines[0] == SMALL.command
    assert re.search(r"^digest +[0-9a-f]{32} of [0-9,]+ lines, [0-9,]+ steps of tasks$", done.stdout, re.MULTILINE)
    assert any("times as fast as time" in line for line in lines)
    assert "family dir" in lines
    assert all(share.value in done.stdout for share in Share)
    assert sum(line.startswith("ok ") for line in lines) == 5


def test_many_devices_are_shown_all_together(simulate: Simulate) -> None:
    done = simulate("--seed", "1", "--directories", "40", "--requests", "1", "--no-faults", "--no-lives")
    assert done.exit_code == 0, done.output
    rows = done.stdout.partition("family dir\n")[2].splitlines()
    assert [row.split()[0] for row in rows[:3] if row] == ["device", "all"]


def test_trace_timeline_and_json(simulate: Simulate, tmp_path: Path) -> None:
    trace, picture = tmp_path / "trace.txt", tmp_path / "picture.html"
    done = simulate("--seed", "1", "--small", "dir", "--json", "--trace", trace, "--timeline", picture)
    figures = json.loads(done.stdout)
    outcome = outcome_of(SMALL)
    assert (figures["command"], figures["ok"], figures["digest"]) == (SMALL.command, True, outcome.digest)
    assert figures["program"] == program()
    assert len(trace.read_text().splitlines()) == outcome.lines
    assert SMALL.command in picture.read_text()
    assert str(picture) in done.stderr


def test_a_failure_is_told_with_the_line_that_shows_it_again(
    simulate: Simulate, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcome = failing(outcome_of(SMALL))
    monkeypatch.setattr("lrs_trio.cli.simulate.one.outcome_of", lambda case, **options: outcome)
    done = simulate("--seed", "1", "--small", "dir")
    assert done.exit_code == 1
    assert "ok " not in done.stdout
    assert done.stderr.splitlines() == [
        "the last lines of what happened:",
        "  2.9 the last",
        "FAILED at 3.000000 s: two answers to one request",
        f"FAILED {SMALL.command}   # {program()}",
    ]


def test_a_run_that_goes_another_way_the_second_time_is_a_failure(
    simulate: Simulate, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run_all(cases: Iterable[Case], workers: Workers, tell: Callable[[Result], bool]) -> None:
        for case in cases:
            tell(Result(case, (), 0.0, digest="another"))

    monkeypatch.setattr("lrs_trio.cli.simulate.one.run_all", run_all)
    done = simulate("--seed", "1", "--small", "dir", "--runs", "3")
    assert done.exit_code == 1
    assert "their digests are" in done.stderr


def test_a_recorded_workload_is_played(simulate: Simulate, tmp_path: Path) -> None:
    trace = TraceMaker(inventory_of("/data/a")).write_to(tmp_path / "a trace.gz")
    done = simulate("--replay", trace)
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines()[0] == f"lrs simulate --seed 1 --replay '{trace}'"
    other = tmp_path / "other"
    other.write_text("something else\n")
    assert "is not a trace" in simulate("--replay", other).stderr


# Many runs.


@pytest.fixture
def pool(monkeypatch: pytest.MonkeyPatch) -> list[Case]:
    """Instead of processes: seed 13 fails, all others hit one fault; the result has what was run."""
    run: list[Case] = []

    def run_all(cases: Iterable[Case], workers: Workers, tell: Callable[[Result], bool]) -> None:
        for case in cases:
            run.append(case)
            problems = ("bad luck",) if case.seed % 100 == 13 else ()
            result = Result(case, problems, 0.1, seconds=3600.0, digest="d", requests={"Ping": 5}, steps=30)
            if not tell(replace(result, faults={FaultKind.SIGKILL: 1})):
                return

    monkeypatch.setattr("lrs_trio.cli.simulate.many.run_all", run_all)
    return run


def test_many_seeds_are_summed_up(simulate: Simulate, pool: list[Case]) -> None:
    done = simulate("--seeds", "1-12", "--drives", "3")
    assert done.exit_code == 0, done.output
    assert pool == [Case(seed, Wishes(drives=3)) for seed in range(1, 13)]
    assert "12.0 hours simulated" in done.stdout
    assert re.search(rf"^{FaultKind.SIGKILL.value} +12$", done.stdout, re.MULTILINE)
    assert f"never hit: {FaultKind.CLIENT_KILLED_ASKING.value}" in done.stdout


def test_each_failure_has_its_line(simulate: Simulate, pool: list[Case]) -> None:
    done = simulate("--seeds", "12-14", "--json")
    assert done.exit_code == 1
    assert json.loads(done.stdout)["runs"] == len(pool) == 3
    assert done.stderr.splitlines() == ["bad luck", f"lrs simulate --seed 13   # {program()}"]


def test_the_suite_runs_all_its_parts_and_says_what_it_misses(simulate: Simulate, pool: list[Case]) -> None:
    done = simulate("--suite")
    assert done.exit_code == 1
    assert re.search(r"^seeds +200 ", done.stdout, re.MULTILINE)
    assert re.search(r"^crowded sites +150 ", done.stdout, re.MULTILINE)
    assert re.search(r"^seeds once more +50 ", done.stdout, re.MULTILINE)
    assert re.search(r"^killed at every step of a small site with tapes +30 ", done.stdout, re.MULTILINE)
    assert "lrs: 1,000 requests are fewer than 100,000" in done.stderr
    assert f"no fault of the kind {FaultKind.SYNC_LIE.value!r} was injected" in done.stderr


def test_a_search_goes_on_until_one_fails(pool: list[Case], capsys: pytest.CaptureFixture[str]) -> None:
    assert run_forever(Workers(count=1)) is False
    seeds = [case.seed for case in pool]
    assert seeds == list(range(seeds[0], seeds[-1] + 1))
    assert seeds[-1] % 100 == 13
    assert f"lrs simulate --seed {seeds[-1]}   #" in capsys.readouterr().err


def test_whoever_has_enough_of_a_search_sees_what_it_has_done(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run_all(cases: Iterable[Case], workers: Workers, tell: Callable[[Result], bool]) -> None:
        for case in cases:
            tell(Result(case, (), 0.1))
            raise KeyboardInterrupt

    monkeypatch.setattr("lrs_trio.cli.simulate.many.run_all", run_all)
    assert run_forever(Workers(count=1)) is True
    assert re.search(r"^runs +1$", capsys.readouterr().out, re.MULTILINE)


def test_rounds_are_run_in_processes_that_hash_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[int] = []

    def run_all(cases: Iterable[Case], workers: Workers, tell: Callable[[Result], bool]) -> None:
        used.extend(range(workers.first_hash_seed, workers.first_hash_seed + workers.count))

    monkeypatch.setattr("lrs_trio.cli.simulate.many.run_all", run_all)
    assert run_seeds([SMALL], 3, Workers(count=2), as_json=False)
    assert len(set(used)) == 6


# The command line.


@pytest.mark.parametrize(
    "case",
    [
        SMALL,
        Case(5, Wishes(0.5, 3, 0, 7, 100, faults=False, lives=False)),
        Case(5, Wishes(directories=2), interrupt=Interrupt(9, End.KILL)),
        Case(0, small=Family.TAPE, interrupt=Interrupt(9, End.POWER)),
        Case(5, interrupt=Interrupt(9, End.DRAIN)),
        Case(5, interrupt=Interrupt(9, End.FORCED, 40)),
        Case(5, replay=__file__),
    ],
    ids=lambda case: case.command,
)
def test_the_line_that_is_told_runs_the_very_same(monkeypatch: pytest.MonkeyPatch, case: Case) -> None:
    run: list[Case] = []

    def run_one(case: Case, *options: object) -> bool:
        run.append(case)
        return True

    monkeypatch.setattr("lrs_trio.cli.simulate.one.run_one", run_one)
    program_name, *arguments = shlex.split(case.command)
    done = CliRunner().invoke(lrs, arguments)
    assert (program_name, done.exit_code, run) == ("lrs", 0, [case])


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("", "one of --seed"),
        ("--seed 1 --suite", "one of --seed"),
        ("--seeds 9-1", "is no range of seeds"),
        ("--seeds x", "is no range of seeds"),
        ("--seeds 1-2 --log info", "--log goes with --seed only"),
        ("--suite --runs 2", "--runs goes with"),
        ("--forever --drives 2", "--drives goes with"),
        ("--seed 1 --small dir --drives 2", "exclude"),
        ("--seed 1 --term-again 2", "--term-again goes with --term-at only"),
        ("--seed 1 --kill-at 3 --term-at 2", "exclude each other"),
    ],
)
def test_a_wrong_command_line(line: str, said: str) -> None:
    done = CliRunner().invoke(lrs, ["simulate", *line.split()])
    assert done.exit_code == 2
    assert said in " ".join(done.stderr.split())
