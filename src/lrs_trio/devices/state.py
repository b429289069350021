"""The state of a device and its decisions: what it may accept, and what it does next.

Plain data without I/O. Every change of state is one method without an await in it: that is what stands
in for the locks of a threaded design (notes 4.2, 4.3).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from math import inf
from typing import Protocol

from lrs_trio.devices.grant import Grant, GrantState
from lrs_trio.devices.life import DeviceStatus, Life
from lrs_trio.devices.streaming import Streaming
from lrs_trio.devices.to_sync import Cause, SyncGroup, ToSyncSet
from lrs_trio.devices.volume import Volume
from lrs_trio.errors import LrsError
from lrs_trio.model import Medium, RequestKind, ResourceId
from lrs_trio.ordered import OrderedSet

LONG_IO = 10
"""How many times as long as a release waits at most a grant may have been out, to be waited for: what has lasted that
long will hardly end within that time, and what is held for ever never does."""


@dataclass(frozen=True, slots=True)
class Prepare:
    """Make a grant's medium usable (notes 6, 7)."""

    grant: Grant
    medium: Medium


class FormatHolder(Protocol):
    """The request that wants a format, as the device sees it. All calls return at once."""

    def formatted(self) -> None: ...

    def format_failed(self, error: OSError) -> None: ...

    def format_displaced(self, error: OSError) -> None:
        """The device could not get at the medium: another one may."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class FormatJob:
    """Format a medium in the device's task (note 5.3)."""

    medium: Medium
    unlock: bool
    holder: FormatHolder


@dataclass(frozen=True, slots=True)
class Exchange:
    """Have `medium` mounted in the device, or none in it, before anybody is promised that."""

    medium: Medium | None


Action = Prepare | FormatJob | Exchange


SERVING = frozenset(
    {
        DeviceStatus.EMPTY,
        DeviceStatus.LOADING,
        DeviceStatus.LOADED,
        DeviceStatus.MOUNTING,
        DeviceStatus.MOUNTED,
        DeviceStatus.UNMOUNTING,
        DeviceStatus.UNLOADING,
        DeviceStatus.FORMATTING,
    }
)
"""What a device may be doing while more is planned on it."""


class Step(Enum):
    """What a device task does next."""

    LOCK = "lock"
    FIND_OUT = "find out"
    EJECT = "eject"
    SYNC = "sync"
    ACT = "act"
    STOP = "stop"
    WAIT = "wait"


def _ignore(status: DeviceStatus) -> None:
    return None


def _nobody() -> bool:
    return False


@dataclass(slots=True)
class DeviceState:
    """One device's counts, queue and to-sync set (notes 2.3, 2.4, 5.2, 8, 9)."""

    to_sync: ToSyncSet
    max_concurrent_io: int
    sync_while_io: bool
    mix_reads_and_writes: bool
    volume: Volume = field(default_factory=Volume)
    life: Life = field(default_factory=lambda: Life(0.0))
    present: ResourceId | None = None
    """The medium that is in the device now; what is scheduled may be about another one."""
    scheduled: deque[Action] = field(default_factory=deque)
    grants: OrderedSet[Grant] = field(default_factory=OrderedSet)
    """Oldest first."""
    syncing: SyncGroup | None = None
    formatting: FormatJob | None = None
    unsettled: int = 0
    """Synced sub-requests whose books are not committed yet: nothing is unmounted before they are."""
    stopping: bool = False
    acting: bool = False
    """Whether a scheduled action is under way, also for a grant that has ended meanwhile."""
    movable: bool = False
    """Whether the medium can be taken out."""
    error: OSError | None = None
    """Why the device or its medium can no longer be trusted; set once, never taken back."""
    withheld: LrsError | None = None
    """Why nothing new is planned although nothing is broken: the medium is somebody else's, or unknown, by now."""
    unlocked: bool = False
    """Whether somebody has removed our locks: they have to be taken again before anything is planned."""
    lost: bool = False
    """Whether a move was lost track of: what is in the device has to be found out first."""
    tainted: OSError | None = None
    """Why the medium in it has to be taken out before anything else is planned here."""
    on_status: Callable[[DeviceStatus], None] = _ignore
    """Called with each new status."""
    adaptive: bool = False
    """Whether a sync is due before its thresholds where waiting for them would gain nothing."""
    newcomers: Callable[[], bool] = _nobody
    """Whether requests wait of which it is not decided yet whether they go on here; asked only if that matters."""
    passed_over: bool = False
    """Whether it has been decided since the last promise, and none of them did."""
    streaming: Streaming | None = None
    """Whether a group has grown enough; ``None`` where only the thresholds say so."""
    _counts: dict[GrantState, int] = field(default_factory=lambda: dict.fromkeys(GrantState, 0))
    _writes: int = 0
    """The grants for writing that are in no partial release."""

    @property
    def status(self) -> DeviceStatus:
        return self.life.status

    def become(self, status: DeviceStatus, now: float) -> None:
        """Go on to `status`."""
        if self.life.enter(status, now):
            self.on_status(status)

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
        broken = self.error or self.tainted
        ready = self.status in SERVING and not self.stopping and broken is None
        return ready and (self.withheld is None or self.unlocked)

    @property
    def excludes_io(self) -> bool:
        """Whether a sync or a format that is under way keeps a planned I/O from starting right now."""
        return self.formats or (self.syncing is not None and not self.sync_while_io)

    @property
    def idle(self) -> bool:
        return not self.grants and not self.scheduled and self.formatting is None and not self.acting

    @property
    def writes(self) -> bool:
        """Whether anybody writes on the medium that was promised here last, or may begin to."""
        return self._writes > 0

    @property
    def unrecorded(self) -> bool:
        """Whether the medium that is present may hold what the DSS does not know of yet."""
        return self.to_sync.pending or self.syncing is not None or self.unsettled > 0

    @property
    def formats(self) -> bool:
        """Whether a format is under way."""
        return self.formatting is not None and self.formatting not in self.scheduled

    @property
    def at_rest(self) -> bool:
        """Nobody uses the medium that is present, and what was synced is in the books: it may be unmounted."""
        used = self._counts[GrantState.READY] or self.ongoing or self.reserved
        return not used and self.syncing is None and not self.unsettled

    @property
    def gives_up(self) -> bool:
        """Whether the medium that is present only takes the place of another, because it is not ours to grant."""
        return self.movable and self.present is not None and self.withheld is not None and not self.unlocked

    @property
    def finished(self) -> bool:
        """Nothing is granted, nothing waits for a sync or for its books, nothing physical goes on."""
        busy = self.grants or self.to_sync.pending or self.unsettled
        return not busy and self.syncing is None and self.formatting is None

    def free_slots(self, now: float) -> int:
        """How many more grants may be planned now (notes 2.5f, 8)."""
        if not self.serving or self.unlocked or self.formatting is not None:
            return 0
        # A sync that is due only because nobody is there to join does not keep anybody from joining.
        if not self.sync_while_io and (self.syncing is not None or now >= self._sync_deadline()):
            return 0
        return self.max_concurrent_io - len(self.grants)

    def accepts(self, kind: RequestKind) -> bool:
        """Whether `kind` may join what is planned or ongoing (note 8: reads and writes may exclude each other)."""
        return self.mix_reads_and_writes or all(grant.kind is kind for grant in self.grants)

    @property
    def exchanging(self) -> bool:
        """Whether what comes next needs the medium that is present to be unmounted first."""
        if not self.scheduled:
            return False
        action = self.scheduled[0]
        wanted = action.medium.id if action.medium is not None else None
        return isinstance(action, FormatJob) or wanted != self.present

    def plan(self, grant: Grant, medium: Medium, now: float) -> None:
        """Promise a slot. Callers have looked at `free_slots` between the same two checkpoints."""
        if len(self.grants) >= self.max_concurrent_io:
            raise RuntimeError(f"{grant.medium}: planned beyond max_concurrent_io={self.max_concurrent_io}")
        self.passed_over = False
        self.grants.add(grant)
        grant.volume.reserved += grant.size
        self._enter(grant, GrantState.PLANNED, now)
        self.scheduled.append(Prepare(grant, medium))

    def begins_at_once(self, now: float) -> bool:
        """Whether the one action that is scheduled may begin now, as far as syncs and other actions are concerned."""
        if self.error or self.tainted or self.lost or self.unlocked or self.stopping:
            return False
        if self.acting or len(self.scheduled) != 1 or self.formatting is not None or self.exchanging:
            return False
        return self.sync_while_io or (self.syncing is None and now < self._sync_deadline())

    def move(self, grant: Grant, state: GrantState, now: float) -> None:
        """Bring a live grant to another live state; one that has ended meanwhile stays ended."""
        if grant not in self.grants:
            return
        self._exit(grant)
        self._enter(grant, state, now)
        self._measure_io(now)

    def end(self, grant: Grant, now: float, *, dirty: bool) -> None:
        """Give the slot and the reserved space back, and leave the queue (note 6).

        `dirty` says that bytes may have been written which no release will account for.
        """
        if grant not in self.grants:
            return
        self.grants.discard(grant)
        self._exit(grant)
        self._measure_io(now)
        if grant.state is GrantState.PLANNED:
            self.scheduled = deque(a for a in self.scheduled if not (isinstance(a, Prepare) and a.grant is grant))
        grant.state = GrantState.ENDED
        grant.volume.reserved -= grant.size
        # Whoever remembers the grant is not to keep the volume of a medium that has left.
        grant.volume = Volume()
        if dirty and self.error is None and self.tainted is None:
            self.to_sync.mark_dirty(now)

    def schedule_format(self, job: FormatJob) -> None:
        """Queue a format. Callers have seen that the device is idle between the same two checkpoints."""
        self.formatting = job
        self.scheduled.append(job)

    def exchange(self, medium: Medium | None) -> None:
        """Queue an exchange. Callers have seen that the device is idle between the same two checkpoints."""
        self.scheduled.append(Exchange(medium))

    def forget_exchanges(self) -> None:
        """Take back those that have not begun: nobody is promised what they would bring, yet it counts as bound."""
        self.scheduled = deque(action for action in self.scheduled if not isinstance(action, Exchange))

    def withdraw_format(self, job: FormatJob) -> bool:
        """Take a format back that has not begun (note 6); ``False`` if it is under way or over."""
        if job not in self.scheduled:
            return False
        self.scheduled.remove(job)
        self.formatting = None
        return True

    def pass_over(self, now: float) -> None:
        """All requests that waited have been looked at: who can go on here has been promised that by now."""
        self.passed_over = not self._has_company(now)

    def begin_sync(self, now: float) -> SyncGroup:
        self.syncing = self.to_sync.take(self.sync_cause(now))
        self.passed_over = False
        if self.streaming is not None:
            self.streaming.begin_sync(now)
        return self.syncing

    def end_sync(self) -> None:
        self.syncing = None

    def fail(self, error: OSError, now: float, status: DeviceStatus = DeviceStatus.FAILED) -> None:
        """Stop trusting this device. What waits for a sync must be settled with `error` by the caller."""
        self.error = error
        self.forget_exchanges()
        self.become(status, now)

    def next_step(self, now: float) -> tuple[Step, float]:
        """What to do now, and until when to wait if nothing: a due sync comes before the next action (note 2.5).

        Where a sync excludes I/O, a due one waits for the ongoing I/O and keeps new I/O from starting. Taking lost
        locks again comes first: requests wait for that, and it takes one transaction.
        """
        if self.error is not None:
            return (Step.STOP if self.syncing is None and not self.unsettled else Step.WAIT), inf
        if not self.stopping:
            if self.lost:
                return Step.FIND_OUT, now
            if self.tainted is not None:
                return (Step.EJECT if self.at_rest else Step.WAIT), inf
            if self.unlocked:
                return Step.LOCK, now
        due = self.sync_cause(now) is not None
        if due and self.syncing is None and not self.formats and (self.sync_while_io or not self.ongoing):
            return Step.SYNC, now
        held_back = not self.sync_while_io and (due or self.syncing is not None)
        # What was synced must be in the books before its medium leaves, or is formatted (note 2.5f).
        held_back = held_back or (self.exchanging and not self.at_rest)
        if self.scheduled and not self.stopping and not held_back:
            return Step.ACT, now
        if self.stopping and self.finished:
            return Step.STOP, now
        if self.gives_up and self.idle and self.finished:
            return Step.EJECT, now
        return Step.WAIT, inf if due else self._sync_deadline()

    def sync_cause(self, now: float) -> Cause | None:
        """Why a sync is due now, if one is (notes 2.4, 2.5, 3.0 to 3.2)."""
        if not self.to_sync.pending:
            return None
        if now >= self._sync_deadline():
            return self.to_sync.cause(now) or Cause.STREAMING
        if self.stopping:
            return Cause.DRAIN
        if self.exchanging or self.gives_up:
            return Cause.EXCHANGE
        return Cause.ALONE if self._alone(now) else None

    def _sync_deadline(self) -> float:
        """When a sync is due if nothing more happens, never later than the thresholds have it."""
        deadline = self.to_sync.deadline()
        if self.streaming is None or not len(self.to_sync):
            return deadline
        return min(deadline, self.streaming.deadline(self.to_sync.extents))

    def _alone(self, now: float) -> bool:
        """Whether nobody could join those that wait. What nobody waits for can wait for company."""
        if not self.adaptive or not len(self.to_sync) or self._has_company(now):
            return False
        return self.passed_over or not self.newcomers()

    def _has_company(self, now: float) -> bool:
        """Whether any grant may end in a release that joins. One in a partial release waits for a sync itself.

        Reads end without a sync. They are waited for all the same where a sync and I/O exclude each other.
        """
        if not self.sync_while_io:
            return len(self.grants) > self.reserved
        if not self._writes:
            return False
        since = now - LONG_IO * self.to_sync.thresholds.age
        return any(grant.since >= since and _may_join(grant) for grant in self.grants)

    def _measure_io(self, now: float) -> None:
        if self.streaming is not None:
            self.streaming.io(self.ongoing > 0, now)

    def _enter(self, grant: Grant, state: GrantState, now: float) -> None:
        self._counts[state] += 1
        grant.state = state
        grant.since = now
        self._writes += _may_join(grant)

    def _exit(self, grant: Grant) -> None:
        self._counts[grant.state] -= 1
        self._writes -= _may_join(grant)


def _may_join(grant: Grant) -> bool:
    """Whether `grant` may end in a release that waits for a sync, and not after one that it waits for already."""
    return grant.kind is RequestKind.WRITE and grant.state is not GrantState.RESERVED
