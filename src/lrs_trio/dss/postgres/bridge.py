"""Where trio meets asyncio: the only place, because asyncpg knows no other event loop.

A crossing costs as much as a short statement, and a connection that is used across several of them is
lost when one is cancelled at the wrong moment. So whoever crosses does so once for a whole unit of work:
an asyncio-flavoured function, which cleans up after itself when it is cancelled.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, ParamSpec, TypeVar

import structlog
import trio
import trio_asyncio

P = ParamSpec("P")
T = TypeVar("T")

log: structlog.typing.FilteringBoundLogger = structlog.get_logger(__name__)


@asynccontextmanager
async def asyncio_loop() -> AsyncIterator[None]:
    """An asyncio loop for everything inside; to be opened outside every nursery whose tasks `cross`.

    An `Exception` of the block, or Ctrl-C, leaves it as it is, not in a group, although the loop is a nursery.
    """
    failure: BaseException | None = None
    async with trio_asyncio.open_loop() as loop:
        loop.set_exception_handler(_report)
        _forget_cancelled_timers(loop)
        try:
            yield
        except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 raised again below
            failure = error
    if failure is not None:
        raise failure


def _forget_cancelled_timers(loop: Any) -> None:
    """Let `loop` not wake up at the time of a timer that was cancelled: trio-asyncio would, and an idle daemon sleeps.

    Every timeout that ends in time is such a timer.
    """
    due = False

    def forget() -> None:
        nonlocal due
        due = False
        loop._timers = [timer for timer in loop._timers if not timer.cancelled()]
        heapq.heapify(loop._timers)

    def note(timer: asyncio.TimerHandle) -> None:
        nonlocal due
        if not due and loop.is_running():
            due = True
            # A timer reaches the heap by the queue of callbacks: behind it, all of them are there.
            loop.call_soon(forget)

    loop._timer_handle_cancelled = note


def _report(loop: asyncio.AbstractEventLoop, context: Mapping[str, Any]) -> None:
    """What goes wrong where nobody waits for it, in a callback of the driver, is no reason to end the daemon.

    Whoever waits for that connection has a limit.
    """
    log.error("error in the driver of the dss", message=context["message"], exc_info=context.get("exception"))


async def cross(function: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run an asyncio-flavoured function and return its result; cancelling the caller cancels it."""
    crossing: Callable[P, Awaitable[T]] = trio_asyncio.aio_as_trio(function)
    return await crossing(*args, **kwargs)


def run_blocking(function: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run an asyncio-flavoured function on a loop of its own, from a thread that runs no trio."""

    async def run() -> T:
        async with asyncio_loop():
            return await cross(function, *args, **kwargs)

    return trio.run(run)
