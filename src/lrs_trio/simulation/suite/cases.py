"""The suite: the cases that are run before a change is taken, and what they have to reach together. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Final

from lrs_trio.model import Family
from lrs_trio.simulation.scenario import End, Interrupt, Wishes
from lrs_trio.simulation.suite.case import NO_WISHES, Case
from lrs_trio.simulation.suite.result import Result, Totals

SEEDS: Final = range(1, 201)
TWICE: Final = range(1, 51)
"""Those that are run once more, in processes that hash otherwise."""

CROWDS: Final = (
    Wishes(hours=0.01, drives=0, directories=1, clients=12, requests=200),
    Wishes(hours=0.03, drives=0, directories=3, clients=24, requests=300),
    Wishes(hours=1.0, drives=3, directories=0, clients=24, requests=250),
    Wishes(hours=0.001, drives=0, directories=4, clients=24, requests=60),
    Wishes(hours=0.001, drives=0, directories=1, clients=1, requests=200),
)
"""Sites that are too small for what is asked of them, so that all meet each other.

The last but one fills its directories with few writes, and the last has a single client, which asks when the trouble
is over: whoever sleeps through something there is woken by nobody else.
"""

CROWD_SEEDS: Final = range(1, 31)

SMALL: Final = (Case(seed=1, small=Family.DIR), Case(seed=1, small=Family.TAPE))
"""The runs that are cut short at every step."""

ENDS: Final = (End.KILL, End.POWER)
"""How they are at every one of them."""

HOW: Final = {End.KILL: "killed", End.POWER: "without power"}

SIGNALS: Final = (End.DRAIN, End.FORCED)
SIGNAL_STRIDE: Final = 3
"""Steps from one signal to the next: the daemon looks at it in a task of its own, many steps later."""

SECOND_THOUGHTS: Final = (1, 5, 40, 300, 2000)
"""Steps from the first signal to the second."""

MINIMUM_SEEDS: Final = 200
MINIMUM_REQUESTS: Final = 100_000
MINIMUM_FAULTS: Final = 10_000
MINIMUM_HOURS: Final = 2_000


SEEDS_PART: Final = "seeds"


def part_of(case: Case) -> str:
    """What of the suite `case` belongs to, for people."""
    if case.interrupt is None:
        return SEEDS_PART if case.wishes == NO_WISHES else "crowded sites"
    how = "signalled at" if case.interrupt.end in SIGNALS else f"{HOW[case.interrupt.end]} at every step of"
    return f"{how} a small site with {'tapes' if case.small is Family.TAPE else 'directories'}"


def crowds() -> Iterator[Case]:
    return (Case(seed, wishes) for seed in CROWD_SEEDS for wishes in CROWDS)


def enumeration(small: Case, steps: int) -> Iterator[Case]:
    """`small`, which takes so many `steps`, cut short at each of them."""
    for end in ENDS:
        for step in range(1, steps + 1):
            yield replace(small, interrupt=Interrupt(step, end))
    for number, step in enumerate(range(1, steps + 1, SIGNAL_STRIDE)):
        end = SIGNALS[number % len(SIGNALS)]
        again = SECOND_THOUGHTS[number // len(SIGNALS) % len(SECOND_THOUGHTS)] if end is End.FORCED else 0
        yield replace(small, interrupt=Interrupt(step, end, again))


class Digests:
    """Whether the same case goes the same way each time."""

    def __init__(self) -> None:
        self._first: dict[Case, str] = {}

    def compare(self, result: Result) -> Result:
        """`result`, with what is wrong about it if an earlier one of the same case had another digest."""
        if not result.digest:
            return result
        first = self._first.setdefault(result.case, result.digest)
        if first == result.digest:
            return result
        problem = f"two runs of the same seed differ: their digests are {first} and {result.digest}"
        return replace(result, problems=(*result.problems, problem))


def shortcomings(seeds: Totals, all_cases: Totals) -> tuple[str, ...]:
    """What the suite had to reach and has not, in the parts with the `seeds` and in all together."""
    reached: Mapping[str, tuple[float, float]] = {
        "seeds": (seeds.cases, MINIMUM_SEEDS),
        "requests": (seeds.asked, MINIMUM_REQUESTS),
        "faults": (seeds.faults.total(), MINIMUM_FAULTS),
        "simulated hours": (seeds.hours, MINIMUM_HOURS),
    }
    return (
        *(f"{got:,.0f} {what} are fewer than {least:,.0f}" for what, (got, least) in reached.items() if got < least),
        *(f"no fault of the kind {kind.value!r} was injected" for kind in all_cases.never_hit),
    )
