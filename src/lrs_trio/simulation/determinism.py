"""Runs that a seed decides: trio's clock and trio's order of tasks."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from random import Random
from typing import TypeVar

import trio
import trio.testing
from trio._core import _run

T = TypeVar("T")


class Chance:
    """Sequences of random numbers by name, so that one part of a run never disturbs another's."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._made: dict[str, Random] = {}

    def of(self, name: str) -> Random:
        """The sequence called `name`: the same object each time."""
        if name not in self._made:
            # A text seeds by its digest, which no process hashes otherwise.
            self._made[name] = Random(f"{self._seed} {name}")
        return self._made[name]


def run_seeded(seed: int, main: Callable[..., Awaitable[T]], *args: object) -> T:
    """Run `main` under trio with a clock that jumps to the next deadline, and an order of tasks that `seed` decides.

    No worker thread, socket or subprocess goes with such a clock: it would not wait for them.
    """
    with _seeded_order(seed):
        return trio.run(main, *args, clock=trio.testing.MockClock(autojump_threshold=0))


@contextmanager
def _seeded_order(seed: int) -> Iterator[None]:
    """The one place that knows how trio can be told in which order tasks of one turn run."""
    before = _run._ALLOW_DETERMINISTIC_SCHEDULING, _run._r
    _run._ALLOW_DETERMINISTIC_SCHEDULING = True  # type: ignore[misc]
    _run._r = Random(f"{seed} order of tasks")
    try:
        yield
    finally:
        _run._ALLOW_DETERMINISTIC_SCHEDULING, _run._r = before  # type: ignore[misc]
