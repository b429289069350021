"""A home: where batches of operations are committed. The daemon reaches every database through this seam."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import trio

from lrs_trio.dss.operations import Operation, Outcome


class SynchronousHome(Protocol):
    """A home that blocks its thread; used by one thread at a time."""

    def commit(self, batch: Sequence[Operation[Any]]) -> list[Outcome]:
        """As `Home.commit`."""
        ...


class Home(Protocol):
    async def commit(self, batch: Sequence[Operation[Any]]) -> list[Outcome]:
        """Execute `batch` in one transaction; when this returns it is durable.

        The answer holds for each operation its result, or the `LrsError` that refused that operation alone.

        Raises:
            DssUnavailableError: nothing of the batch was done; it may be tried again.
        """
        ...


class ThreadedHome:
    """A synchronous home behind one worker thread.

    A commit that has begun is never abandoned: a cancelled caller gets its outcome all the same, and
    cannot leave before the thread has.
    """

    def __init__(self, home: SynchronousHome) -> None:
        self._home = home
        # Its own, so that calls which wait for devices can never keep the DSS waiting for a thread.
        self._dss_limiter = trio.CapacityLimiter(1)

    async def commit(self, batch: Sequence[Operation[Any]]) -> list[Outcome]:
        return await trio.to_thread.run_sync(
            self._home.commit, batch, limiter=self._dss_limiter, thread_name="dss writer"
        )
