"""The state of a device and its decisions: what it may accept, and what it does next.

Plain data without I/O. Every change of state is one method without an await in it: that is what stands
in for the locks of a threaded design (notes 4.2, 4.3).
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from enum import Enum
from math import inf
from typing import Protocol

from lrs_trio.devices.grant import Grant, GrantState
from lrs_trio.devices.to_sync import SyncGroup, ToSyncSet
from lrs_trio.errors import LrsError
from lrs_trio.model import RequestKind, ResourceId


class DeviceStatus(Enum):
    """What a device is doing, as shown to people."""

    WAITING = "waiting"
    ADOPTING = "adopting"
    LOADED = "loaded"
    MOUNTED = "mounted"
    FAILED = "failed"
    STOPPED = "stopped"


@dataclass(slots=True)
class Volume:
    """Free space that may be shared: directories of one filesystem have one volume. Sizes are bytes.

    `measured` is what statvfs said last, `written` what clients have said to have written since, and
    `reserved` what writes that are granted may still take.
    """

    measured: int = 0
    written: int = 0
    reserved: int = 0

    @property
    def free(self) -> int:
        return max(self.measured - self.written, 0)

    @property
    def available(self) -> int:
        """What a new write may count on: free space less what other writes have reserved."""
        return max(self.free - self.reserved, 0)

    def measure(self, free: int) -> None:
        self.measured = free
        self.written = 0

    def estimate(self, written: int) -> None:
        """Account for `written` bytes until the next statvfs says better; deletions only show there."""
        self.written += max(written, 0)


@dataclass(frozen=True, slots=True)
class Prepare:
    """Make a grant's medium usable (notes 6, 7)."""

    grant: Grant


class FormatHolder(Protocol):
    """The request that wants a format, as the device sees it. Both calls return at once."""

    def formatted(self) -> None: ...

    def format_failed(self, error: OSError) -> None: ...


@dataclass(frozen=True, slots=True, eq=False)
class FormatJob:
    """Format a medium in the device's task (note 5.3)."""

    medium: ResourceId
    unlock: bool
    holder: FormatHolder


Action = Prepare | FormatJob


class Step(Enum):
    """What a device task does next."""

    LOCK = "lock"
    SYNC = "sync"
    ACT = "act"
    STOP = "stop"
    WAIT = "wait"


@dataclass(slots=True)
class DeviceState:
    """One device's counts, queue and to-sync set (notes 2.3, 2.4, 5.2, 8, 9)."""

    to_sync: ToSyncSet
    max_concurrent_io: int
    sync_while_io: bool
    mix_reads_and_writes: bool
    volume: Volume = field(default_factory=Volume)
    status: DeviceStatus = DeviceStatus.ADOPTING
    scheduled: deque[Action] = field(default_factory=deque)
    grants: set[Grant] = field(default_factory=set)
    syncing: SyncGroup | None = None
    formatting: FormatJob | None = None
    unsettled: int = 0
    """Synced sub-requests whose books are not committed yet: nothing is unmounted before they are."""
    stopping: bool = False
    error: OSError | None = None
    """Why the device or its medium can no longer be trusted; set once, never taken back."""
    withheld: LrsError | None = None
    """Why nothing new is planned although nothing is broken: the medium is somebody else's, or unknown, by now."""
    unlocked: bool = False
    """Whether somebody has removed our locks: they have to be taken again before anything is planned."""
    _counts: dict[GrantState, int] = field(default_factory=lambda: dict.fromkeys(GrantState, 0))

    @property
    def planned(self) -> int:
        return self._counts[GrantState.PLANNED] + self._counts[GrantState.READY]

    @property
    def ongoing(self) -> int:
        return self._counts[GrantState.ONGOING]

    @property
    def reserved(self) -> int:
        return self._counts[GrantState.RESERVED]

    @property
    def serving(self) -> bool:
        """Whether new work may be planned here at all, though not always at once."""
        ready = self.status in (DeviceStatus.LOADED, DeviceStatus.MOUNTED) and not self.stopping and self.error is None
        return ready and (self.withheld is None or self.unlocked)

    @property
    def excludes_io(self) -> bool:
        """Whether a sync or a format keeps a planned I/O from starting right now."""
        return self.formatting is not None or (self.syncing is not None and not self.sync_while_io)

    @property
    def idle(self) -> bool:
        return not self.grants and not self.scheduled and self.formatting is None

    @property
    def finished(self) -> bool:
        """Nothing is granted, nothing waits for a sync or for its books, nothing physical goes on."""
        busy = self.grants or self.to_sync.pending or self.unsettled
        return not busy and self.syncing is None and self.formatting is None

    def free_slots(self, now: float) -> int:
        """How many more grants may be planned now (notes 2.5f, 8)."""
        if not self.serving or self.unlocked or self.formatting is not None:
            return 0
        if not self.sync_while_io and (self.syncing is not None or self.to_sync.due(now)):
            return 0
        return self.max_concurrent_io - len(self.grants)

    def accepts(self, kind: RequestKind) -> bool:
        """Whether `kind` may join what is planned or ongoing (note 8: reads and writes may exclude each other)."""
        return self.mix_reads_and_writes or all(grant.kind is kind for grant in self.grants)

    def plan(self, grant: Grant, now: float) -> None:
        """Promise a slot. Callers have looked at `free_slots` between the same two checkpoints."""
        if len(self.grants) >= self.max_concurrent_io:
            raise RuntimeError(f"{grant.medium}: planned beyond max_concurrent_io={self.max_concurrent_io}")
        self.grants.add(grant)
        self.volume.reserved += grant.size
        self._enter(grant, GrantState.PLANNED, now)
        self.scheduled.append(Prepare(grant))

    def move(self, grant: Grant, state: GrantState, now: float) -> None:
        """Bring a live grant to another live state; one that has ended meanwhile stays ended."""
        if grant not in self.grants:
            return
        self._counts[grant.state] -= 1
        self._enter(grant, state, now)

    def end(self, grant: Grant, now: float, *, dirty: bool) -> None:
        """Give the slot and the reserved space back, and leave the queue (note 6).

        `dirty` says that bytes may have been written which no release will account for.
        """
        if grant not in self.grants:
            return
        self.grants.discard(grant)
        self._counts[grant.state] -= 1
        if grant.state is GrantState.PLANNED:
            self.scheduled = deque(a for a in self.scheduled if not (isinstance(a, Prepare) and a.grant is grant))
        grant.state = GrantState.ENDED
        self.volume.reserved -= grant.size
        if dirty and self.error is None:
            self.to_sync.mark_dirty(now)

    def schedule_format(self, job: FormatJob) -> None:
        """Queue a format. Callers have seen that the device is idle between the same two checkpoints."""
        self.formatting = job
        self.scheduled.append(job)

    def withdraw_format(self, job: FormatJob) -> bool:
        """Take a format back that has not begun (note 6); ``False`` if it is under way or over."""
        if job not in self.scheduled:
            return False
        self.scheduled.remove(job)
        self.formatting = None
        return True

    def begin_sync(self) -> SyncGroup:
        self.syncing = self.to_sync.take()
        return self.syncing

    def end_sync(self) -> None:
        self.syncing = None

    def fail(self, error: OSError) -> None:
        """Stop trusting this device. What waits for a sync must be settled with `error` by the caller."""
        self.error = error
        self.status = DeviceStatus.FAILED

    def next_step(self, now: float) -> tuple[Step, float]:
        """What to do now, and until when to wait if nothing: a due sync comes before the next action (note 2.5).

        Where a sync excludes I/O, a due one waits for the ongoing I/O and keeps new I/O from starting. Taking lost
        locks again comes first: requests wait for that, and it takes one transaction.
        """
        if self.error is not None:
            return (Step.STOP if self.syncing is None and not self.unsettled else Step.WAIT), inf
        if self.unlocked and not self.stopping:
            return Step.LOCK, now
        due = self.to_sync.due(now) or (self.stopping and self.to_sync.pending)
        if due and self.syncing is None and self.formatting is None and (self.sync_while_io or not self.ongoing):
            return Step.SYNC, now
        held_back = not self.sync_while_io and (due or self.syncing is not None)
        if self.scheduled and not self.stopping and not held_back:
            return Step.ACT, now
        if self.stopping and self.finished:
            return Step.STOP, now
        return Step.WAIT, inf if due else self.to_sync.deadline()

    def _enter(self, grant: Grant, state: GrantState, now: float) -> None:
        self._counts[state] += 1
        grant.state = state
        grant.since = now
