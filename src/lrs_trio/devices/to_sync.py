"""The to-sync set of a device: what waits for one grouped sync (notes 2.1, 2.4, 2.5, 3.0 to 3.2).

Plain data without I/O: time is an argument, in seconds of whatever clock the caller uses throughout.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from math import inf

from lrs_trio.model import SyncThresholds


class Cause(Enum):
    """Why a sync is due."""

    PARTIAL = "partial"
    """A client waits for it in the middle of its work."""

    REQUESTS = "requests"
    BYTES = "bytes"
    TIME = "time"
    """The thresholds: so many wait, they have written so much, the oldest has waited so long."""

    STREAMING = "streaming"
    """The drive has streamed long enough to be worth a sync."""

    ALONE = "alone"
    """Nobody is there who could join."""

    EXCHANGE = "exchange"
    """The medium makes room for another one, or is formatted."""

    DRAIN = "drain"
    """The device stops."""


class SyncStatus(Enum):
    """Where one medium of a release stands (note 2.1)."""

    TODO = "todo"
    DONE = "done"
    ERROR = "error"
    CANCELLED = "cancelled"


@dataclass(slots=True, eq=False)
class SubRequest:
    """One medium of a release that waits for a sync. Sizes are bytes, negative for deletions.

    `on_settled` is called once, when the sync that it waited for has ended well or badly. A
    sub-request that is cancelled before that is never called back.
    """

    size: int
    extents: int
    grouping: str | None = None
    status: SyncStatus = SyncStatus.TODO
    error: OSError | None = None
    on_settled: Callable[[], None] | None = None

    def settle(self, error: OSError | None) -> None:
        """Record the outcome of the sync, unless this one was cancelled meanwhile (note 4.4)."""
        if self.status is not SyncStatus.TODO:
            return
        self.status = SyncStatus.DONE if error is None else SyncStatus.ERROR
        self.error = error
        # Who is called refers to this: nothing is left that only a search for garbage would free.
        call, self.on_settled = self.on_settled, None
        if call is not None:
            call()

    def cancel(self) -> None:
        if self.status is SyncStatus.TODO:
            self.status = SyncStatus.CANCELLED
            self.on_settled = None


@dataclass(frozen=True, slots=True)
class SyncGroup:
    """What one physical sync serves: the waiting sub-requests, perhaps none when only the medium is dirty."""

    waiting: tuple[SubRequest, ...]
    cause: Cause | None = None
    """What the sync was started for; ``None`` if there was none."""

    def settle(self, error: OSError | None) -> None:
        for sub_request in self.waiting:
            sub_request.settle(error)


@dataclass(slots=True)
class ToSyncSet:
    """The sub-requests that the next sync of a device will serve, and when that sync is due.

    A medium can also be dirty: written by a client that went away without a release. Nobody waits for
    that, but it is synced at the time threshold at the latest.
    """

    thresholds: SyncThresholds
    size: int = 0
    extents: int = 0
    _arrivals: dict[SubRequest, float] = field(default_factory=dict)
    _dirty_since: float | None = None
    _forced: bool = False

    def __len__(self) -> int:
        return len(self._arrivals)

    def __contains__(self, sub_request: SubRequest) -> bool:
        return sub_request in self._arrivals

    @property
    def pending(self) -> bool:
        """Whether anything at all would be served by a sync."""
        return bool(self._arrivals) or self._dirty_since is not None

    @property
    def since(self) -> float | None:
        """When the oldest of what is pending arrived."""
        # Asked for whenever anything changes, and mostly there is nothing.
        if not self.pending:
            return None
        return min(next(iter(self._arrivals.values()), inf), inf if self._dirty_since is None else self._dirty_since)

    def add(self, sub_request: SubRequest, now: float, *, at_once: bool = False) -> None:
        """Let `sub_request` wait for the next sync, which is due without delay if `at_once`."""
        self._arrivals[sub_request] = now
        self.size += sub_request.size
        self.extents += sub_request.extents
        self._forced = self._forced or at_once

    def mark_dirty(self, now: float) -> None:
        if self._dirty_since is None:
            self._dirty_since = now

    def discard(self, sub_request: SubRequest, now: float) -> None:
        """Take out a cancelled sub-request (note 4.4); what it wrote leaves the medium dirty."""
        if self._arrivals.pop(sub_request, None) is None:
            return
        self.size -= sub_request.size
        self.extents -= sub_request.extents
        if not self._arrivals:
            self._forced = False
        self.mark_dirty(now)

    def deadline(self) -> float:
        """When the next sync is due: -inf for at once, +inf for never (notes 2.5c, 3.0 to 3.2, 4.5)."""
        since = self.since
        if since is None:
            return inf
        if self._forced or len(self._arrivals) >= self.thresholds.requests or self.size >= self.thresholds.size:
            return -inf
        return since + self.thresholds.age

    def due(self, now: float) -> bool:
        return now >= self.deadline()

    def cause(self, now: float) -> Cause | None:
        """Which threshold has been reached, if any."""
        if not self.due(now):
            return None
        if self._forced:
            return Cause.PARTIAL
        if len(self._arrivals) >= self.thresholds.requests:
            return Cause.REQUESTS
        return Cause.BYTES if self.size >= self.thresholds.size else Cause.TIME

    def take(self, cause: Cause | None = None) -> SyncGroup:
        """Hand everything that is pending over to one sync, if so for that `cause`; the set is empty afterwards."""
        group = SyncGroup(tuple(self._arrivals), cause)
        self._arrivals.clear()
        self.size = self.extents = 0
        self._dirty_since = None
        self._forced = False
        return group
