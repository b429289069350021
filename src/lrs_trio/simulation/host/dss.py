"""The DSS of a simulated world, as the daemon reaches it and as everybody else does.

It is like a database on another host: batches take their time, the DSS goes away, answers are lost, other hosts write
to it. The transactions themselves are SQLite's, and each is done at one moment.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from math import inf
from typing import Any, Final

import trio

from lrs_trio.dss.home import DaemonHome
from lrs_trio.dss.operations import (
    DeleteLocks,
    MediumUpdate,
    Operation,
    Outcome,
    ReleaseLock,
    ReplaceLock,
    TakeLock,
    UpdateMedia,
)
from lrs_trio.errors import CommitInDoubtError, DssUnavailableError, LrsError
from lrs_trio.model import Lock, LockOwner, LockType, Medium, ResourceId, lock_id
from lrs_trio.simulation.faults import FaultKind
from lrs_trio.simulation.host.dss_files import DssContent, DssFiles
from lrs_trio.simulation.oracles.books import Counted
from lrs_trio.simulation.world import Process, World, wall_clock

__all__ = ["DssContent", "SimulatedDss"]

THIEF: Final = LockOwner("thief", 666)
"""The daemon of another host, which takes what is not its own."""

SHORTEST_S: Final = 0.0005
LONGEST_S: Final = 0.005
"""How long a batch is on its way to the DSS, and its answer on the way back."""

SLOWEST_S: Final = 40.0
"""The longest that a batch is on its way when the DSS is slow."""

LONGEST_AWAY_S: Final = 300.0

SHORTEST_THEFT_S: Final = 60.0
LONGEST_THEFT_S: Final = 900.0
"""How long it takes until a stolen lock is given back."""

STILL_IN_DOUBT: Final = 0.3
"""The probability that it cannot be told yet what became of a commit."""

CUT_IN_COMMIT: Final = 0.5
"""The probability that a batch that is on its way is being committed when the power fails."""

LockKey = tuple[LockType, str]


class SimulatedDss:
    """One DSS, which outlives the daemon. To be closed at the end of the run."""

    def __init__(self, world: World) -> None:
        self.steps = 0
        """Transactions of the daemon that were committed."""
        self.committed: dict[ResourceId, Counted] = {}
        """What was added to the figures of each medium since they were last set."""
        self.observers: list[Callable[[Operation[Any], Outcome], None]] = []
        """Called for every operation of the daemon, once, when its transaction is durable."""
        self.stolen: dict[str, Lock] = {}
        """The thief's rows, by their ids. One that was given back stays here until its lock is taken anew or the
        daemon that had it has ended: until then that may believe that it still has it."""
        self._world = world
        self._random = world.chance.of("dss")
        self._files = DssFiles(wall_clock, world.chance.of("sqlite"))
        self._daemon: _Connection | None = None
        self._holders: dict[LockKey, LockOwner] = {}
        self._away_until = -inf
        self._gone = trio.Event()

    def administer(self, *operations: Operation[Any]) -> list[Outcome]:
        """Commit `operations` together as a command does; the outcome of one that is refused is its `LrsError`."""
        self._world.trace.note("administered", operations=_names(operations))
        return self._transact(None, operations)

    def read(self) -> DssContent:
        """What is in the DSS now."""
        return self._files.read()

    def committed_of(self, medium: ResourceId) -> Counted:
        """What was added to the figures of `medium` since they were last set."""
        return self.committed.get(medium, Counted())

    def go_away(self) -> None:
        """The daemon does not reach the DSS any more, until `come_back`."""
        self._world.faults.hit(FaultKind.DSS_AWAY)
        self._be_away_until(inf)

    def come_back(self) -> None:
        """The daemon reaches the DSS again."""
        self._away_until = -inf

    def kill(self) -> None:
        """The daemon's process is gone; what it has written is in the system's memory."""
        self._files.kill()
        self._end_daemon()

    def cut_power(self) -> None:
        """The host loses its power, perhaps in the middle of a commit."""
        daemon = self._daemon
        batch = daemon.on_its_way if daemon is not None and self._random.random() < CUT_IN_COMMIT else ()
        outcomes, intact = self._files.cut_power(self._random, daemon, batch)
        self._world.violations.check(intact, "the DSS has lost a commit, or a part of one")
        if outcomes:
            self._keep_accounts(batch, outcomes)
            self._settle(batch, outcomes)
        self._end_daemon()

    def close(self) -> None:
        """The run is over."""
        self._files.close()

    @asynccontextmanager
    async def open_home(self, process: Process) -> AsyncIterator[DaemonHome]:
        """The home of the daemon `process`.

        Raises:
            DssUnavailableError: the DSS is away.
        """
        await trio.sleep(self.travel_time())
        process.check()
        self.refuse_if_away()
        self._daemon = daemon = _Connection(self, self._world, process)
        try:
            yield daemon
        finally:
            if process.alive:
                self._files.shut()
                self._end_daemon()

    def _end_daemon(self) -> None:
        self._daemon = None
        there = self.read().locks.values()
        self.stolen = {id_: lock for id_, lock in self.stolen.items() if lock in there}

    # The way to it.

    def travel_time(self) -> float:
        """How long a batch or an answer is on its way, in seconds."""
        return self._random.uniform(SHORTEST_S, LONGEST_S)

    def slow_time(self) -> float:
        """How long a batch is on its way when the DSS is slow, in seconds."""
        return self._random.uniform(LONGEST_S, SLOWEST_S)

    def is_still_in_doubt(self) -> bool:
        """Whether it cannot be told yet what became of a commit."""
        return self._random.random() < STILL_IN_DOUBT

    def refuse_if_away(self) -> None:
        """Raises `DssUnavailableError` while the DSS is away."""
        if trio.current_time() < self._away_until:
            raise DssUnavailableError("the simulated DSS is away")

    def leave(self) -> None:
        """Be away for a while: a few seconds in most cases, seldom minutes."""
        self._be_away_until(trio.current_time() + 1 + (LONGEST_AWAY_S - 1) * self._random.random() ** 4)

    async def wait_gone(self) -> None:
        """Return when it goes away the next time."""
        await self._gone.wait()

    def _be_away_until(self, time: float) -> None:
        self._away_until = time
        self._gone.set()
        self._gone = trio.Event()

    # What the daemon does.

    def commit(self, daemon: _Connection, batch: Sequence[Operation[Any]]) -> list[Outcome]:
        """Commit the `batch` of `daemon` now."""
        outcomes = self._transact(daemon, batch)
        self._settle(batch, outcomes)
        return outcomes

    def _transact(self, user: _Connection | None, batch: Sequence[Operation[Any]]) -> list[Outcome]:
        outcomes = self._files.commit(user, batch)
        self._keep_accounts(batch, outcomes)
        return outcomes

    def _settle(self, batch: Sequence[Operation[Any]], outcomes: Sequence[Outcome]) -> None:
        """The `batch` of a daemon has become durable."""
        self.steps += 1
        self._world.trace.note("committed", step=self.steps, operations=_names(batch))
        for operation, outcome in zip(batch, outcomes, strict=True):
            for observe in self.observers:
                observe(operation, outcome)

    # Locks that are stolen.

    def holds_locks(self, owner: LockOwner) -> bool:
        """Whether `owner` has a lock that can be stolen."""
        return owner in self._holders.values()

    def steal_from(self, owner: LockOwner) -> None:
        """Another host takes one of the locks of `owner`, and gives it back some minutes later."""
        lock = self._random.choice([lock for lock in self.read().locks.values() if lock.owner == owner])
        self.administer(ReplaceLock(lock, THIEF))
        stolen = self.stolen[lock.id] = self.read().locks[lock.type, lock.id]
        self._world.nursery.start_soon(self._give_back, stolen, name=f"thief of {lock.id}")

    async def _give_back(self, stolen: Lock) -> None:
        await trio.sleep(self._random.uniform(SHORTEST_THEFT_S, LONGEST_THEFT_S))
        self.administer(DeleteLocks((stolen,)))

    # The accounts.

    def _keep_accounts(self, batch: Sequence[Operation[Any]], outcomes: Sequence[Outcome]) -> None:
        for operation, outcome in zip(batch, outcomes, strict=True):
            match operation, outcome:
                case _, LrsError():
                    pass
                case UpdateMedia(updates), tuple(media):
                    self._count(updates, media)
                case TakeLock(type_, resource, owner), None:
                    self._hold((type_, lock_id(resource)), owner)
                case ReplaceLock(lock, owner), True:
                    self._hold((lock.type, lock.id), owner)
                case ReleaseLock(type_, resource), True:
                    self._holders.pop((type_, lock_id(resource)), None)
                case DeleteLocks(), _:
                    self._holders = {key: lock.owner for key, lock in self.read().locks.items()}

    def _count(self, updates: Sequence[MediumUpdate], media: Sequence[Medium | None]) -> None:
        for update, medium in zip(updates, media, strict=True):
            if medium is None:
                continue
            before = self.committed_of(update.id)
            self.committed[update.id] = Counted(
                update.add_objects + (before.objects if update.set_objects is None else 0),
                update.add_logical + (before.size if update.set_logical is None else 0),
            )

    def _hold(self, key: LockKey, owner: LockOwner) -> None:
        self._holders[key] = owner
        if owner != THIEF:
            self.stolen.pop(key[1], None)


class _Connection:
    """The home of one daemon: its way to the DSS, with everything that happens on it.

    Who is cancelled leaves at once: the batch is done or not, as with a database on another host.
    """

    def __init__(self, dss: SimulatedDss, world: World, process: Process) -> None:
        self.on_its_way: Sequence[Operation[Any]] = ()
        """The batch that has not reached the DSS yet."""
        self._dss = dss
        self._faults = world.faults
        self._process = process
        self._owner = LockOwner(world.host, process.pid)

    async def commit(self, batch: Sequence[Operation[Any]]) -> list[Outcome]:
        dss, faults = self._dss, self._faults
        await self._send(batch)
        self._process.check()
        dss.refuse_if_away()
        if faults.strikes(FaultKind.DSS_AWAY):
            dss.leave()
            dss.refuse_if_away()
        if faults.strikes(FaultKind.COMMIT_LOST):
            raise self._doubt(None)
        outcomes = dss.commit(self, batch)
        if dss.holds_locks(self._owner) and faults.strikes(FaultKind.LOCK_STOLEN):
            dss.steal_from(self._owner)
        if faults.strikes(FaultKind.COMMIT_ANSWER_LOST):
            raise self._doubt(outcomes)
        await trio.sleep(dss.travel_time())
        return outcomes

    async def wait_lost(self) -> None:
        await self._dss.wait_gone()

    async def _send(self, batch: Sequence[Operation[Any]]) -> None:
        slow = self._faults.strikes(FaultKind.DSS_SLOW)
        self.on_its_way = batch
        try:
            await trio.sleep(self._dss.slow_time() if slow else self._dss.travel_time())
        finally:
            self.on_its_way = ()

    def _doubt(self, outcomes: list[Outcome] | None) -> CommitInDoubtError:
        async def resolve() -> list[Outcome] | None:
            await trio.sleep(self._dss.travel_time())
            self._dss.refuse_if_away()
            if self._dss.is_still_in_doubt():
                raise DssUnavailableError("the simulated DSS does not know yet")
            return outcomes

        return CommitInDoubtError("the answer of the simulated DSS is lost", resolve)


def _names(operations: Iterable[Operation[Any]]) -> str:
    return ",".join(type(operation).__name__ for operation in operations)
