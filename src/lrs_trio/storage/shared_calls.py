"""Short calls that may block, of several tasks at once, in one turn of a thread.

A change of threads costs as much as ten such calls. What hangs, because its disk does, is not to keep the others
waiting: who is not answered soon makes its call alone, in a thread of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import trio

T = TypeVar("T")

PATIENCE_S = 1.0
"""How long a call waits for those that are made in the same turn."""


@dataclass(eq=False, slots=True)
class _Call(Generic[T]):
    function: Callable[[], T]
    made: bool = False
    results: list[T] = field(default_factory=list)
    """The one result, unless there is an error."""
    error: OSError | None = None
    answered: trio.Event = field(default_factory=trio.Event)

    def make(self) -> None:
        try:
            self.results.append(self.function())
        except OSError as error:
            self.error = error
        self.made = True

    def result(self) -> T:
        if self.error is not None:
            raise self.error
        return self.results[0]


class SharedCalls:
    """Those who call while nobody is being answered share a turn; while one is under way, everybody is alone."""

    def __init__(self) -> None:
        self._limiter = trio.CapacityLimiter(1)
        self._gathering: list[_Call[Any]] | None = None

    async def call(self, function: Callable[[], T], limiter: trio.CapacityLimiter) -> T:
        """The result of `function`; `limiter` is for the case that it has to be called alone.

        A call that is given up goes on by itself, in its thread.

        Raises:
            OSError: `function` raised it.
        """
        call = _Call(function)
        if self._gathering is not None:
            self._gathering.append(call)
            # Whoever makes the turn says so in any case, after `PATIENCE_S` at the latest.
            await call.answered.wait()
        elif self._limiter.available_tokens:
            await self._make_turn(call)
        if not call.made:
            return await trio.to_thread.run_sync(function, abandon_on_cancel=True, limiter=limiter)
        return call.result()

    async def _make_turn(self, first: _Call[Any]) -> None:
        """Let those who are about to call join `first`, then make all the calls."""
        calls = self._gathering = [first]
        try:
            try:
                await trio.lowlevel.checkpoint()
            finally:
                self._gathering = None
            with trio.move_on_after(PATIENCE_S):
                await trio.to_thread.run_sync(_make, tuple(calls), abandon_on_cancel=True, limiter=self._limiter)
        finally:
            for call in calls:
                call.answered.set()


def _make(calls: Iterable[_Call[Any]]) -> None:
    for call in calls:
        call.make()
