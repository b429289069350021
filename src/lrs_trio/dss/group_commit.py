"""Group commit: what several tasks have to write at the same moment goes into one transaction.

One writer task commits batch after batch. An operation that comes while nothing is under way is
committed at once, alone if it is alone; what comes while a batch is under way makes up the next one.
So batches grow with the load and nobody waits for company.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from random import Random
from typing import Any, Final, TypeVar, cast

import structlog
import trio

from lrs_trio.dss.home import Home
from lrs_trio.dss.operations import Operation, Outcome
from lrs_trio.errors import DssUnavailableError, LrsError

T = TypeVar("T")

LARGEST_BATCH: Final = 1000
"""Bounds how long one transaction keeps the commands from writing: some tens of milliseconds on SQLite."""

FIRST_PAUSE_S: Final = 0.05
LONGEST_PAUSE_S: Final = 5.0
"""Between two attempts at a DSS that is away: doubled from the first to the longest, less up to a half at random."""

log: structlog.typing.FilteringBoundLogger = structlog.get_logger(__name__)


@dataclass(eq=False, slots=True)
class _Waiter:
    operation: Operation[Any]
    answered: trio.Event = field(default_factory=trio.Event)
    outcome: Outcome = None
    under_way: bool = False
    """In the batch that is being committed."""
    gone: bool = False
    """Cancelled while under way."""

    def answer(self, outcome: Outcome) -> None:
        self.outcome = outcome
        self.answered.set()


class GroupCommit:
    """The DSS as the daemon uses it (`operations.Dss`), over one home. `run` has to be running.

    Args:
        home: where batches are committed.
        random: spreads the attempts of several daemons at a DSS that is away.
        largest_batch: most operations in one transaction.
    """

    def __init__(self, home: Home, *, random: Random, largest_batch: int = LARGEST_BATCH) -> None:
        self._home = home
        self._random = random
        self._largest_batch = largest_batch
        # In the order of arrival, batch under way included. Not bounded: every entry is a task that waits.
        self._waiters: dict[_Waiter, None] = {}
        self._look = trio.Event()
        self._closing = False
        self._ended = False
        self._unavailable_since: float | None = None
        self.transactions = 0
        """Batches committed."""
        self.operations = 0
        """Operations committed or refused in them."""
        self.largest_seen = 0
        """Operations in the largest of these batches."""

    @property
    def unavailable_since(self) -> float | None:
        """Trio's time since when the DSS has not answered, ``None`` while it does; an idle DSS is not asked."""
        return self._unavailable_since

    async def execute(self, operation: Operation[T]) -> T:
        """Commit `operation` and return its result; waits for as long as the DSS is unavailable.

        A caller that is cancelled before a batch took the operation withdraws it; later, the operation
        is committed or not as a whole and the result is dropped.

        Raises:
            LrsError: the operation was refused and nothing of it was done; ESHUTDOWN when the writer
                has ended or was closed.
        """
        # Without this the writer might take the operation before a cancelled caller gets to its first wait.
        await trio.lowlevel.checkpoint_if_cancelled()
        if self._closing or self._ended:
            raise LrsError(errno.ESHUTDOWN, f"the DSS is closed for this daemon; {operation} was not done")
        waiter = _Waiter(operation)
        self._waiters[waiter] = None
        self._look.set()
        try:
            await waiter.answered.wait()
        finally:
            self._leave(waiter)
        if isinstance(waiter.outcome, LrsError):
            raise waiter.outcome
        return cast(T, waiter.outcome)

    def close(self) -> None:
        """Take no more operations; `run` returns when all that were taken are answered."""
        self._closing = True
        self._look.set()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """The writer task: commits until cancelled or closed.

        Who still waits when it ends gets an `LrsError` ESHUTDOWN. What is no `DssUnavailableError` and
        no refusal of one operation is a bug and ends it.
        """
        task_status.started()
        try:
            while True:
                if self._waiters:
                    await self._commit_next()
                elif self._closing:
                    return
                else:
                    self._look = trio.Event()
                    await self._look.wait()
        finally:
            self._end()

    async def _commit_next(self) -> None:
        """Answer the waiters at the head of the queue, however long the DSS is away."""
        attempt = 0
        while batch := tuple(islice(self._waiters, self._largest_batch)):
            for waiter in batch:
                waiter.under_way = True
            try:
                outcomes = await self._home.commit([waiter.operation for waiter in batch])
            except DssUnavailableError as error:
                self._put_back(batch)
                self._went_away(error)
            else:
                self._answer(batch, outcomes)
                self._came_back()
                return
            await trio.sleep(self._pause(attempt))
            attempt += 1

    def _answer(self, batch: Sequence[_Waiter], outcomes: Sequence[Outcome]) -> None:
        self.transactions += 1
        self.operations += len(batch)
        self.largest_seen = max(self.largest_seen, len(batch))
        for waiter, outcome in zip(batch, outcomes, strict=True):
            del self._waiters[waiter]
            waiter.answer(outcome)

    def _put_back(self, batch: Sequence[_Waiter]) -> None:
        """The batch was not committed: its waiters keep their place, those that have gone are withdrawn."""
        for waiter in batch:
            waiter.under_way = False
            if waiter.gone:
                del self._waiters[waiter]

    def _leave(self, waiter: _Waiter) -> None:
        """The waiter's task goes, answered or cancelled."""
        if waiter.answered.is_set():
            return
        if waiter.under_way:
            waiter.gone = True
        else:
            del self._waiters[waiter]

    def _end(self) -> None:
        self._ended = True
        for waiter in self._waiters:
            fate = (
                "it was being committed: the next start shows whether it was done"
                if waiter.under_way
                else "it was not done"
            )
            waiter.answer(LrsError(errno.ESHUTDOWN, f"the DSS writer ended before {waiter.operation}; {fate}"))
        self._waiters.clear()

    def _pause(self, attempt: int) -> float:
        longest = min(FIRST_PAUSE_S * 2.0 ** min(attempt, 32), LONGEST_PAUSE_S)
        return longest * self._random.uniform(0.5, 1.0)

    def _went_away(self, error: DssUnavailableError) -> None:
        if self._unavailable_since is None:
            self._unavailable_since = trio.current_time()
            log.warning("dss unavailable, operations wait", error=str(error), waiting=len(self._waiters))

    def _came_back(self) -> None:
        if self._unavailable_since is not None:
            away_s = round(trio.current_time() - self._unavailable_since, 3)
            self._unavailable_since = None
            log.info("dss available again", away_s=away_s)
