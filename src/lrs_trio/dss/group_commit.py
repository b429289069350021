"""Group commit: what several tasks have to write at the same moment goes into one transaction.

One writer task commits batch after batch. An operation that comes while nothing is under way is
committed at once, alone if it is alone; what comes while a batch is under way makes up the next one.
So batches grow with the load and nobody waits for company.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count, islice
from math import inf
from random import Random
from typing import Any, Final, TypeVar, cast

import structlog
import trio

from lrs_trio.dss.home import Home
from lrs_trio.dss.operations import Blocked, MediumUpdate, Operation, Outcome, UpdateMedia
from lrs_trio.errors import CommitInDoubtError, DssUnavailableError, LrsError
from lrs_trio.model import Lock, ResourceId

T = TypeVar("T")

FIRST_WAIT_S: Final = 0.005
LONGEST_WAIT_S: Final = 1.0
"""Between two attempts at what somebody else's lock blocks: those who hold such a lock do so for milliseconds."""

LARGEST_BATCH: Final = 1000
"""Bounds how long one transaction keeps the commands from writing: some tens of milliseconds on SQLite."""

FIRST_PAUSE_S: Final = 0.05
LONGEST_PAUSE_S: Final = 5.0
"""Between two attempts at a DSS that is away: doubled from the first to the longest, less up to a half at random."""

log: structlog.typing.FilteringBoundLogger = structlog.get_logger(__name__)


@dataclass(eq=False, slots=True)
class _Caller:
    """A task that waits for the outcomes of so many operations."""

    missing: int
    answered: trio.Event = field(default_factory=trio.Event)

    def answer_one(self, outcome: Outcome) -> None:
        self.missing -= 1
        if not self.missing:
            self.answered.set()


@dataclass(eq=False, slots=True)
class _Waiter:
    operation: Operation[Any]
    told: Callable[[Outcome], None]
    answered: bool = False
    outcome: Outcome = None
    under_way: bool = False
    """In the batch that is being committed."""
    gone: bool = False
    """Cancelled while under way."""
    not_before: float = -inf
    """When to try again what was blocked, in trio's time."""
    attempts: int = 0
    """How often it was blocked."""
    blocked_by: Lock | None = None
    blocked_since: float = 0.0
    serial: int = 0
    """In the order of arrival."""

    def answer(self, outcome: Outcome) -> None:
        self.outcome = outcome
        self.answered = True
        self.told(outcome)


@dataclass(frozen=True, slots=True)
class Blockade:
    """A lock of somebody else that operations of ours wait for, since when (trio's time), and how many."""

    lock: Lock
    since: float
    waiting: int


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
        # In the order of arrival, batch under way included. Not bounded: every entry is a task or a release that waits.
        self._waiters: dict[_Waiter, None] = {}
        self._look = trio.Event()
        self._closing = False
        self._ended = False
        self._unavailable_since: float | None = None
        self._unavailable_why = ""
        self._failures = 0
        self._serial = count()
        self._blocked: dict[ResourceId, dict[_Waiter, None]] = {}
        """The updates that wait for somebody else and tell what was found out about a medium."""
        self.transactions = 0
        """Batches committed."""
        self.operations = 0
        """Operations committed or refused in them; one that has to wait for a lock counts when it is done."""
        self.largest_seen = 0
        """Operations in the largest of these batches."""

    @property
    def unavailable_since(self) -> float | None:
        """Trio's time since when the DSS has not answered, ``None`` while it does; an idle DSS is not asked."""
        return self._unavailable_since

    @property
    def waiting(self) -> int:
        """Operations that have no outcome yet."""
        return len(self._waiters)

    @property
    def blockades(self) -> tuple[Blockade, ...]:
        """The locks of others that operations wait for now, by their keys."""
        found: dict[str, Blockade] = {}
        for waiter in self._waiters:
            lock = waiter.blocked_by
            if lock is None:
                continue
            known = found.get(lock.id, Blockade(lock, waiter.blocked_since, 0))
            found[lock.id] = Blockade(lock, min(known.since, waiter.blocked_since), known.waiting + 1)
        return tuple(found[key] for key in sorted(found))

    async def execute(self, operation: Operation[T]) -> T:
        """Commit `operation` and return its result; waits for as long as the DSS is unavailable.

        A caller that is cancelled before a batch took the operation withdraws it; later, the operation
        is committed or not as a whole and the result is dropped.

        Raises:
            LrsError: the operation was refused and nothing of it was done; ESHUTDOWN when the writer
                has ended or was closed.
        """
        (outcome,) = await self._outcomes([operation])
        if isinstance(outcome, LrsError):
            raise outcome
        return cast(T, outcome)

    async def execute_all(self, operations: Sequence[Operation[T]]) -> list[T | LrsError]:
        """Commit `operations`, each by itself; the outcome of each is its result or why it was refused.

        What is said of `execute` holds for each of them.
        """
        return cast("list[T | LrsError]", await self._outcomes(operations))

    async def _outcomes(self, operations: Sequence[Operation[Any]]) -> list[Outcome]:
        # Without this the writer might take an operation before a cancelled caller gets to its first wait.
        await trio.lowlevel.checkpoint_if_cancelled()
        if self._closing or self._ended:
            return [_closed(operation) for operation in operations]
        caller = _Caller(len(operations))
        waiters = [_Waiter(operation, caller.answer_one, serial=next(self._serial)) for operation in operations]
        if not waiters:
            return []
        self._waiters.update(dict.fromkeys(waiters))
        self._look.set()
        try:
            await caller.answered.wait()
        finally:
            if caller.missing:
                for waiter in waiters:
                    self._leave(waiter)
        return [waiter.outcome for waiter in waiters]

    def submit(self, operation: Operation[T], done: Callable[[T | LrsError], None]) -> None:
        """Commit `operation` though nobody waits, and call `done` with its result, or with why it was refused.

        That is called as soon as it is known, in the order of the commits, by the writer: it must return at once.
        """
        if self._closing or self._ended:
            done(_closed(operation))
            return
        told = cast("Callable[[Outcome], None]", done)
        self._waiters[_Waiter(operation, told, serial=next(self._serial))] = None
        self._look.set()

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
            while self._waiters or not self._closing:
                batch = self._next_batch()
                if batch:
                    await self._commit(batch)
                else:
                    self._look = trio.Event()
                    with trio.move_on_at(self._next_attempt()):
                        await self._look.wait()
        finally:
            self._end()

    def _next_batch(self) -> tuple[_Waiter, ...]:
        """Those at the head of the queue that are not waiting for a lock of somebody else."""
        now = trio.current_time()
        ready = (waiter for waiter in self._waiters if waiter.not_before <= now)
        return tuple(islice(ready, self._largest_batch))

    def _next_attempt(self) -> float:
        return min((waiter.not_before for waiter in self._waiters), default=inf)

    async def _commit(self, batch: Sequence[_Waiter]) -> None:
        """One attempt at `batch`; if the DSS is away, its waiters are back in the queue after a pause."""
        for waiter in batch:
            waiter.under_way = True
        try:
            outcomes = await self._home.commit([waiter.operation for waiter in batch])
        except DssUnavailableError as error:
            self._put_back(batch)
            self._went_away(error)
            await self._pause()
            return
        except CommitInDoubtError as doubt:
            self._went_away(doubt)
            found = await self._resolve(doubt)
            if found is None:
                self._put_back(batch)
                # It answers; but what cannot be committed there must not be tried without end and pause.
                self._failures = 0
                await self._pause()
                return
            outcomes = found
        self._came_back()
        self._answer(batch, outcomes)

    async def _resolve(self, doubt: CommitInDoubtError) -> list[Outcome] | None:
        """Look, however long the DSS is away, whether a batch was committed; its waiters wait meanwhile."""
        while True:
            try:
                return await doubt.resolve()
            except DssUnavailableError as error:
                self._went_away(error)
            await self._pause()

    def _answer(self, batch: Sequence[_Waiter], outcomes: Sequence[Outcome]) -> None:
        self.transactions += 1
        self.largest_seen = max(self.largest_seen, len(batch))
        for waiter, outcome in zip(batch, outcomes, strict=True):
            if isinstance(outcome, Blocked):
                self._block(waiter, outcome.holder)
            else:
                self.operations += 1
                self._forget(waiter)
                self._overtake(waiter, outcome)
                waiter.answer(outcome)

    def _overtake(self, done: _Waiter, outcome: Outcome) -> None:
        """What is blocked and came before `done` must not undo it when it is done at last."""
        if not self._blocked or not isinstance(done.operation, UpdateMedia):
            return
        # Nothing of it was done where it was refused, and perhaps nothing where a medium is gone.
        if isinstance(outcome, LrsError) or (isinstance(outcome, tuple) and None in outcome):
            return
        for update in filter(_tells, done.operation.updates):
            for waiter in [older for older in self._blocked.get(update.id, ()) if older.serial < done.serial]:
                waiter.operation = cast(UpdateMedia, waiter.operation).overtaken_by(update)
                self._has_nothing_to_tell(waiter, update.id)

    def _has_nothing_to_tell(self, waiter: _Waiter, medium: ResourceId) -> None:
        waiters = self._blocked.get(medium)
        if waiters is not None and waiter in waiters:
            del waiters[waiter]
            if not waiters:
                del self._blocked[medium]

    def _forget(self, waiter: _Waiter) -> None:
        del self._waiters[waiter]
        if waiter.blocked_by is not None and isinstance(waiter.operation, UpdateMedia):
            for medium in waiter.operation.media:
                self._has_nothing_to_tell(waiter, medium)

    def _block(self, waiter: _Waiter, holder: Lock) -> None:
        """Keep a waiter in the queue until somebody else's lock may have gone."""
        now = trio.current_time()
        if waiter.blocked_by is None or waiter.blocked_by.owner != holder.owner:
            waiter.blocked_since = now
            log.info(
                "waiting for a lock in the dss", lock=holder.type.value, resource=holder.id, holder=str(holder.owner)
            )
        waiter.blocked_by = holder
        if isinstance(waiter.operation, UpdateMedia):
            for update in filter(_tells, waiter.operation.updates):
                self._blocked.setdefault(update.id, {})[waiter] = None
        waiter.not_before = now + self._less_at_random(min(FIRST_WAIT_S * 2.0**waiter.attempts, LONGEST_WAIT_S))
        waiter.attempts = min(waiter.attempts + 1, 32)
        self._put_back([waiter])

    def _put_back(self, batch: Sequence[_Waiter]) -> None:
        """The batch was not committed: its waiters keep their place, those that have gone are withdrawn."""
        for waiter in batch:
            waiter.under_way = False
            if waiter.gone:
                self._forget(waiter)

    def _leave(self, waiter: _Waiter) -> None:
        """The waiter's task goes, because it is cancelled."""
        if waiter.answered:
            return
        if waiter.under_way:
            waiter.gone = True
        else:
            self._forget(waiter)

    def _end(self) -> None:
        self._ended = True
        for waiter in tuple(self._waiters):
            fate = (
                "it was being committed: the next start shows whether it was done"
                if waiter.under_way
                else "it was not done"
            )
            waiter.answer(LrsError(errno.ESHUTDOWN, f"the DSS writer ended before {waiter.operation}; {fate}"))
        self._waiters.clear()

    async def _pause(self) -> None:
        await trio.sleep(self._less_at_random(min(FIRST_PAUSE_S * 2.0**self._failures, LONGEST_PAUSE_S)))
        self._failures = min(self._failures + 1, 32)

    def _less_at_random(self, seconds: float) -> float:
        return seconds * self._random.uniform(0.5, 1.0)

    def _went_away(self, error: DssUnavailableError | CommitInDoubtError) -> None:
        why = str(error)
        if self._unavailable_since is None:
            self._unavailable_since = trio.current_time()
            log.warning("dss unavailable, operations wait", error=why, waiting=len(self._waiters))
        elif why != self._unavailable_why:
            log.info("dss still unavailable", error=why, waiting=len(self._waiters))
        self._unavailable_why = why

    def _came_back(self) -> None:
        self._failures = 0
        if self._unavailable_since is not None:
            away_s = round(trio.current_time() - self._unavailable_since, 3)
            self._unavailable_since = None
            log.info("dss available again", away_s=away_s)


def _tells(update: MediumUpdate) -> bool:
    """Whether an update tells what was found out about its medium."""
    return update.phys_spc_free is not None


def _closed(operation: Operation[Any]) -> LrsError:
    return LrsError(errno.ESHUTDOWN, f"the DSS is closed for this daemon; {operation} was not done")
