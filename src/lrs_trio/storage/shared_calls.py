"""A call that may block, and the short ones of others after it, in one turn of a thread.

A change of threads costs as much as ten such calls.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import trio

T = TypeVar("T")

PATIENCE_S = 1.0
"""How long the calls of others are waited for. Who has no answer then makes its call alone, in a thread of its own."""


@dataclass(eq=False, slots=True)
class SharedCall(Generic[T]):
    """What somebody else may call in its turn of a thread; more than once, then the last one counts."""

    function: Callable[[], T]
    made: bool = False
    _results: list[T] = field(default_factory=list)
    """The one result, unless there is an error."""
    _error: OSError | None = None

    def make(self) -> None:
        try:
            self._results = [self.function()]
            self._error = None
        except OSError as error:
            self._error = error
        self.made = True

    def result(self) -> T:
        """What the last call has returned; it has been `made`.

        Raises:
            OSError: the function raised it.
        """
        if self._error is not None:
            raise self._error
        return self._results[0]


async def call_with(
    call: Callable[[], T], others: Sequence[SharedCall[Any]], limiter: trio.CapacityLimiter
) -> tuple[T, bool]:
    """The result of `call`, and whether the calls of `others`, which are made after it, have ended by now.

    Whoever gives up, or has waited long enough for `others`, leaves the thread to itself; it keeps the token.

    Raises:
        OSError: `call` raised it; then no others are called.
    """
    if not others:
        return await trio.to_thread.run_sync(call, abandon_on_cancel=True, limiter=limiter), True
    results: list[T] = []
    patience, token = trio.CancelScope(), trio.lowlevel.current_trio_token()

    def begin_others() -> None:
        patience.deadline = trio.current_time() + PATIENCE_S

    def turn() -> None:
        results.append(call())
        token.run_sync_soon(begin_others)
        for other in others:
            other.make()

    with patience:
        await trio.to_thread.run_sync(turn, abandon_on_cancel=True, limiter=limiter)
    return results[0], not patience.cancelled_caught
