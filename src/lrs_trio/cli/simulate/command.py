"""`lrs simulate`: runs of the whole daemon in simulation, each decided by a seed."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from lrs_trio.simulation.suite.case import Case
    from lrs_trio.simulation.suite.pool import Workers

LEVELS = ("debug", "info", "warning", "error")
SITES = ("dir", "tape")


def _seeds(_context: click.Context, _option: click.Parameter, text: str | None) -> range | None:
    """Seeds in a row: ``7``, or ``1-200``."""
    if text is None:
        return None
    first, dash, last = text.partition("-")
    try:
        seeds = range(int(first), int(last if dash else first) + 1)
    except ValueError:
        seeds = range(0)
    if not seeds:
        raise click.BadParameter(f"{text!r} is no range of seeds; one looks like 1-200")
    return seeds


@click.command()
@click.option("--seed", type=click.IntRange(0), metavar="N", help="Run what this number stands for.")
@click.option("--hours", type=click.FloatRange(0, min_open=True), help="Virtual hours that the requests come in.")
@click.option("--drives", type=click.IntRange(0, 4096), help="Tape drives.")
@click.option("--directories", type=click.IntRange(0, 4096), help="Directories.")
@click.option("--clients", type=click.IntRange(1, 10_000), help="Clients at the same time.")
@click.option("--requests", type=click.IntRange(0, 10_000_000), help="What all clients together ask for.")
@click.option("--no-faults", is_flag=True, help="Nothing goes wrong.")
@click.option("--no-lives", is_flag=True, help="The daemon lives once, and ends in order.")
@click.option("--small", type=click.Choice(SITES), help="A small site, as the suite cuts it short at every step.")
@click.option("--kill-at", type=click.IntRange(1), metavar="K", help="Kill the daemon after K steps of the run.")
@click.option("--cut-power-at", type=click.IntRange(1), metavar="K", help="Let the host lose its power then.")
@click.option("--term-at", type=click.IntRange(1), metavar="K", help="Send SIGTERM then.")
@click.option("--term-again", type=click.IntRange(1), metavar="K", help="And once more, K steps later.")
@click.option(
    "--replay",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    metavar="TRACE",
    help="Play again what a daemon recorded (events.trace).",
)
@click.option("--trace", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="Write every line here.")
@click.option(
    "--timeline",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE.html",
    help="Draw what every device did, as `lrs timeline` does.",
)
@click.option("--log", type=click.Choice(LEVELS), help="Show the daemon's log, with virtual times.")
@click.option("--runs", type=click.IntRange(1), default=1, metavar="N", help="Run it N times and compare the digests.")
@click.option("--seeds", callback=_seeds, metavar="A-B", help="Run many seeds in several processes.")
@click.option("--suite", is_flag=True, help="Run the suite of `make simulate`.")
@click.option("--forever", is_flag=True, help="Count up from a random seed until one fails.")
@click.option("--jobs", type=click.IntRange(1, 1024), show_default="one for each processor", help="Processes.")
@click.option(
    "--limit",
    type=click.FloatRange(0, min_open=True),
    default=600.0,
    show_default=True,
    metavar="S",
    help="A run of one of many that takes longer has failed; real seconds.",
)
@click.option("--speed", is_flag=True, help="Measure how fast the simulation is, with 4, 64 and 512 drives.")
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
def simulate(
    seed: int | None,
    seeds: range | None,
    suite: bool,
    forever: bool,
    speed: bool,
    replay: Path | None,
    trace: Path | None,
    timeline: Path | None,
    log: str | None,
    runs: int,
    jobs: int | None,
    limit: float,
    as_json: bool,
    **words: Any,
) -> None:
    """Run the whole daemon under a virtual clock, with clients and faults that a seed decides.

    The same seed gives the same run, line by line, with any one version of the program. What must hold is checked all
    the time; whatever does not ends the run, is told with the last lines of what happened, and with the one line that
    shows it again. Nothing real is touched.

    With --seed or --replay one run is told of in detail; with --seeds, --suite and --forever many are run at once.

    Exit status: 0 if all that was checked holds, 1 if not.
    """
    if replay is not None and seed is None and seeds is None:
        seed = 1
    modes = {"--seed": seed is not None, "--seeds": seeds is not None}
    modes |= {"--suite": suite, "--forever": forever, "--speed": speed}
    if sum(modes.values()) != 1:
        raise click.UsageError(f"one of {', '.join(modes)} is needed")
    if seed is None:
        _refuse("--seed", {"--trace": trace, "--timeline": timeline, "--log": log})
    if seed is None and seeds is None:
        _refuse("--seed and --seeds", {"--runs": runs > 1, "--replay": replay, **_given(words)})
    # Not at import: the other commands have no use for them.
    if speed:
        from lrs_trio.cli.simulate.speed import measure_speed

        sound = measure_speed(as_json=as_json)
    elif seed is not None:
        from lrs_trio.cli.simulate.one import Wanted, run_one

        sound = run_one(
            _case(seed, replay, **words), Wanted(trace, timeline, log, as_json), runs, _workers(jobs, limit)
        )
    else:
        from lrs_trio.cli.simulate.many import run_forever, run_seeds, run_suite

        workers = _workers(jobs, limit)
        if seeds is not None:
            sound = run_seeds([_case(number, replay, **words) for number in seeds], runs, workers, as_json=as_json)
        elif suite:
            sound = run_suite(workers, as_json=as_json)
        else:
            sound = run_forever(workers)
    sys.exit(0 if sound else 1)


def _refuse(needed: str, options: dict[str, Any]) -> None:
    for name, value in options.items():
        if value:
            raise click.UsageError(f"{name} goes with {needed} only")


def _given(words: dict[str, Any]) -> dict[str, bool]:
    """The options that change a run, and whether each is there."""
    return {f"--{name.replace('_', '-')}": value not in (None, False) for name, value in words.items()}


def _workers(jobs: int | None, limit: float) -> Workers:
    from lrs_trio.simulation.suite.pool import Workers

    return Workers(limit_s=limit) if jobs is None else Workers(count=jobs, limit_s=limit)


def _case(
    seed: int,
    replay: Path | None,
    *,
    hours: float | None,
    drives: int | None,
    directories: int | None,
    clients: int | None,
    requests: int | None,
    no_faults: bool,
    no_lives: bool,
    small: str | None,
    kill_at: int | None,
    cut_power_at: int | None,
    term_at: int | None,
    term_again: int | None,
) -> Case:
    from lrs_trio.model import Family
    from lrs_trio.simulation.scenario import End, Interrupt, Wishes
    from lrs_trio.simulation.suite.case import Case

    wishes = Wishes(hours, drives, directories, clients, requests, faults=not no_faults, lives=not no_lives)
    if (small is not None) + (replay is not None) + (wishes != Wishes()) > 1:
        raise click.UsageError("--small and --replay say all that clients do: they exclude each other and all else")
    if term_again is not None and term_at is None:
        raise click.UsageError("--term-again goes with --term-at only")
    term = End.DRAIN if term_again is None else End.FORCED
    ends = {End.KILL: kill_at, End.POWER: cut_power_at, term: term_at}
    interrupts = [Interrupt(step, end, term_again or 0) for end, step in ends.items() if step is not None]
    if len(interrupts) > 1:
        raise click.UsageError("--kill-at, --cut-power-at and --term-at exclude each other")
    family = None if small is None else Family.from_label(small)
    recorded = "" if replay is None else str(replay)
    return Case(seed, wishes, family, interrupts[0] if interrupts else None, recorded)
