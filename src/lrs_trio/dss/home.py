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

        The answer holds for each operation its result, or the `LrsError` that refused that operation alone. The
        batch's reads see all its writes, so that of two answers none is older than the other.

        Raises:
            DssUnavailableError: nothing of the batch was done; it may be tried again.
            CommitInDoubtError: it is not known whether it was done; what the error has finds it out.
        """
        ...


class DaemonHome(Home, Protocol):
    """The home of a daemon, which wants to know when it goes away."""

    async def wait_lost(self) -> None:
        """Return when the DSS has gone away although nobody asked it for anything; perhaps never."""
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

    async def wait_lost(self) -> None:
        """A file that is gone is noticed when it is used."""
        await trio.sleep_forever()
