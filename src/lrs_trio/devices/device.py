"""The device task: physical operations in order, one device each (notes 4.1, 4.4, 5.3, 6, 7, 11).

The task is thin: what to do next is decided by `DeviceState`, what is done here is I/O through the
storage adapters and bookkeeping through the DSS. Others change its state by plain calls and ring its
bell; the task itself waits for the bell or for the deadline of its oldest release, never for a period.

What all devices have in common is here. `fixed` is the device whose medium never leaves it, `drive` the one whose
media come and go.
"""

from __future__ import annotations

import errno
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import inf
from typing import ClassVar

import structlog
import trio

from lrs_trio.devices.grant import Grant, GrantState
from lrs_trio.devices.life import DeviceStatus, Life
from lrs_trio.devices.ownership import Ownership
from lrs_trio.devices.state import Action, DeviceState, Exchange, FormatJob, Prepare, Step
from lrs_trio.devices.sync_cost import SyncCost
from lrs_trio.devices.to_sync import SubRequest, SyncGroup, SyncStatus, ToSyncSet
from lrs_trio.devices.volume import Volume
from lrs_trio.dss.operations import (
    Dss,
    MediumRow,
    MediumUpdate,
    UpdateMedia,
)
from lrs_trio.dss.processes import process_start_time
from lrs_trio.dss.recovery import StartTimeOf
from lrs_trio.errors import LrsError, describe
from lrs_trio.events import EventKind, Events
from lrs_trio.model import (
    LABEL_LENGTH,
    AdmStatus,
    Device,
    FsStatus,
    LockOwner,
    LockType,
    Medium,
    Phase,
    ResourceId,
    Space,
)
from lrs_trio.settings import FamilySettings
from lrs_trio.storage.protocols import DriveIdentity, Filesystem

log = structlog.get_logger()


def _no_newcomers(decided: Callable[[], None]) -> bool:
    return False


@dataclass(frozen=True, slots=True)
class DeviceContext:
    """What all devices of a family share.

    `changed` is called whenever a device may be able to take work that it could not take before. `start_of` tells when
    a process of this host started. `newcomers` tells whether requests wait of which it is not decided yet where they go
    on; if so, it calls what it is given when that is decided.
    """

    settings: FamilySettings
    dss: Dss
    owner: LockOwner
    volumes: MutableMapping[str, Volume]
    events: Events
    changed: Callable[[], None]
    start_of: StartTimeOf = field(default=process_start_time, kw_only=True)
    newcomers: Callable[[Callable[[], None]], bool] = field(default=_no_newcomers, kw_only=True)


class NotThereError(LrsError):
    """The medium to be formatted could not be brought into the device; another device may do better."""


class DeviceTask(ABC):
    """One device, from adoption to departure."""

    FULL_FOR_EVER: ClassVar[bool]
    """Whether a medium that was full stays so although its filesystem says that there is space."""

    ACTS_DURING_SYNCS: ClassVar[bool]
    """Whether there can be anything to do beside a sync that allows I/O: else it needs no task of its own."""

    def __init__(self, row: Device, filesystem: Filesystem, context: DeviceContext) -> None:
        settings = context.settings
        self.row = row
        self.identity: DriveIdentity | None = None
        self.address = 0
        """Its number in its library."""
        self.medium: Medium | None = None
        self.root = ""
        self.used = 0.0
        """When anything was last planned here, in trio's time."""
        self.state = DeviceState(
            to_sync=ToSyncSet(settings.sync.thresholds),
            max_concurrent_io=settings.max_concurrent_io,
            sync_while_io=settings.sync_while_io,
            mix_reads_and_writes=settings.mix_reads_and_writes,
            adaptive=settings.sync.adaptive,
            newcomers=lambda: context.newcomers(self._pass_over),
        )
        self.space = Space(0, 0)
        self.settled = trio.Event()
        """Adopted, refused, or waiting for another owner."""
        self.ended = trio.Event()
        self._filesystem = filesystem
        self._context = context
        self._ownership = Ownership(row.path, self.state, context.dss, context.owner, context.start_of)
        self._adoption = trio.CancelScope()
        self._failure_settled = False
        self.state.on_status = self._tell_status
        self._rung = trio.Event()
        self._asleep_until: float | None = None
        """Until when the task waits for nothing but the bell, in trio's time; ``None`` while it does not."""

    @property
    def id(self) -> ResourceId:
        return self.row.id

    @property
    def medium_id(self) -> ResourceId | None:
        """The medium that is in it, as far as is known."""
        return self.medium.id if self.medium else None

    @property
    def bound(self) -> Medium | None:
        """The medium that is in it, or the one that was promised here and will be."""
        return self.medium

    @property
    def waiting_for(self) -> str:
        """Who has the lock that this device waits for, to be read by people."""
        return self._ownership.holder

    @property
    def awaited(self) -> ResourceId | None:
        """The device or medium whose lock another host has; ``None`` when none is waited for."""
        return self._ownership.awaited

    @property
    def sync_cost(self) -> SyncCost | None:
        """What a sync of the medium that is in it costs; ``None`` if that is not known, or nobody wants to know."""
        return None

    @property
    def locks(self) -> Mapping[tuple[LockType, ResourceId], bool]:
        """What it has locked in the DSS; ``False`` while that is not certain."""
        return self._ownership.held

    def holds(self, medium: ResourceId) -> bool:
        """Whether another device of this daemon must leave `medium` alone: it is here, or here is its lock."""
        return not self.ended.is_set() and (medium == self.medium_id or (LockType.MEDIA, medium) in self.locks)

    # What others ask for: plain calls that change the state and ring the bell.

    def ring(self) -> None:
        """Let the task look at its state again, if it would find anything to do; while it is awake it looks anyway."""
        if self._asleep_until is None:
            return
        step, until = self.state.next_step(trio.current_time())
        if step is not Step.WAIT or until < self._asleep_until:
            self._asleep_until = None
            self._rung.set()

    def _pass_over(self) -> None:
        self.state.pass_over(trio.current_time())
        self.ring()

    def plan(self, grant: Grant, medium: Medium) -> None:
        """Promise `medium` to `grant`, which has chosen this device."""
        self.used = trio.current_time()
        grant.volume = self._volume_of(medium)
        self.state.plan(grant, medium, self.used)
        # A task of its own is for what takes time: where nothing has to be done, the client need not wait for a turn.
        if self.state.begins_at_once(self.used) and self._prepare_at_once(medium):
            self.state.scheduled.popleft()
            self._ready(grant)
        else:
            self.ring()

    def plan_format(self, job: FormatJob) -> None:
        self.used = trio.current_time()
        self.state.schedule_format(job)
        self.ring()

    def withdraw_format(self, job: FormatJob) -> bool:
        """Take a format back; ``False`` if it is under way or over."""
        if not self.state.withdraw_format(job):
            return False
        self.ring()
        self._context.changed()
        return True

    def end_grant(self, grant: Grant, *, dirty: bool) -> None:
        """Give up a grant; `dirty` if its client may have written what no release accounts for."""
        self.used = now = trio.current_time()
        if grant in self.state.grants and grant.state is GrantState.ONGOING:
            self._emit_io(EventKind.IO_ENDED, grant)
        self.state.end(grant, now, dirty=dirty)
        self.ring()
        self._context.changed()

    def move_grant(self, grant: Grant, state: GrantState) -> None:
        if grant in self.state.grants and GrantState.ONGOING in (grant.state, state):
            self._emit_io(EventKind.IO_BEGUN if state is GrantState.ONGOING else EventKind.IO_ENDED, grant)
        self.state.move(grant, state, trio.current_time())
        # I/O that begins gives the task nothing to do, unless it counts for how long the drive streams.
        if state is not GrantState.ONGOING or self.state.streaming is not None:
            self.ring()

    def add_release(self, sub_request: SubRequest, *, at_once: bool) -> None:
        """Let one medium of a release wait for the next sync (note 2.5b)."""
        self._emit(EventKind.SYNC_REQUESTED, size=sub_request.size, count=sub_request.extents)
        broken = self.state.error or self.state.tainted
        if broken is not None and self._failure_settled:
            sub_request.settle(broken)
            return
        self.state.volume.estimate(sub_request.size)
        self.state.to_sync.add(sub_request, trio.current_time(), at_once=at_once)
        self.ring()

    def cancel_release(self, sub_request: SubRequest) -> None:
        """Take back a sub-request whose release has met an error elsewhere (note 4.4)."""
        sub_request.cancel()
        self.state.to_sync.discard(sub_request, trio.current_time())
        self.ring()
        # A sync that was due because of it may be so no more: then there is room again.
        self._context.changed()

    def release_settled(self, *, counted: bool) -> None:
        """The books of one synced sub-request are committed, or given up: then the medium counts as dirty."""
        self.state.unsettled -= 1
        if not counted and self.state.error is None and self.state.tainted is None:
            self.state.to_sync.mark_dirty(trio.current_time())
        self.ring()

    async def look_again(self) -> None:
        """If another host's lock is waited for, see now whether that is gone; returns when it is known."""
        await self._ownership.look_again()

    def stop(self) -> None:
        """End in order: ongoing I/O is awaited, pending syncs are done, the medium is unmounted (note 11)."""
        self.state.stopping = True
        self._adoption.cancel(reason="device stopped")
        self.ring()

    # The task.

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Adopt the device, serve until stopped or failed, leave in order.

        Started as soon as the device is adopted, refused, or found to be waiting for another owner of its locks.
        Only defects escape: a failing device ends its own task and no other.
        """
        self.state.life = Life(trio.current_time())
        self._tell_status(self.state.status)
        adopted = False
        try:
            with self._adoption:
                await self._adopt(task_status)
                adopted = True
        except OSError as error:
            self._refuse(error)
        self._ownership.stop_waiting()
        self._tell_started(task_status)
        self._context.changed()
        if adopted:
            async with trio.open_nursery() as syncs:
                await self._serve(syncs)
        await self._leave()
        self.ended.set()
        self._context.changed()

    @abstractmethod
    async def _adopt(self, task_status: trio.TaskStatus[None]) -> None:
        """Take the locks and find out what is there.

        Raises:
            OSError: the device cannot be used; nothing is proven broken.
        """

    @abstractmethod
    async def _prepare(self, action: Prepare) -> None:
        """Make the medium of one grant usable and say so (notes 6, 7)."""

    def _prepare_at_once(self, medium: Medium) -> bool:
        """Make `medium` usable if nothing has to be awaited for that; ``False`` if `_prepare` has to do it."""
        return False

    @abstractmethod
    async def _exchange(self, medium: Medium | None) -> None:
        """Have `medium` mounted in the device, or none in it; whoever waits for that sees what came of it."""

    @abstractmethod
    async def _make_filesystem(self, job: FormatJob) -> None:
        """Format the medium of `job` and measure it.

        Raises:
            OSError: it did not work; what follows from that for the device is done already.
        """

    @abstractmethod
    async def _sync_failed(self, error: OSError) -> None:
        """What was to be synced may be lost: see that nothing more is written, and who is to blame."""

    @abstractmethod
    def _synced(self, group: SyncGroup, seconds: float) -> None:
        """A sync of `group` has worked, and taken so long."""

    @abstractmethod
    async def _worked(self) -> None:
        """Something physical has succeeded with the medium that is in the device."""

    @abstractmethod
    async def _find_out(self) -> None:
        """See what is in the device after a move that was lost track of."""

    @abstractmethod
    async def _eject(self) -> None:
        """Take out the medium because of which nothing is planned here."""

    @abstractmethod
    async def _leave(self) -> None:
        """Unmount, let go of the medium, and give the locks back."""

    def _tell_started(self, task_status: trio.TaskStatus[None]) -> None:
        if not self.settled.is_set():
            self.settled.set()
            task_status.started()

    def _refuse(self, error: OSError) -> None:
        """Keep the record, so that people see why, but leave the DSS as it is: nothing is proven broken."""
        self.state.fail(error, trio.current_time())
        log.error("device not usable", device=self.row.path, error=describe(error))
        self._emit(EventKind.DEVICE_FAILED, errno=error.errno or 0, detail=describe(error))

    async def _serve(self, syncs: trio.Nursery) -> None:
        while True:
            now = trio.current_time()
            step, until = self.state.next_step(now)
            match step:
                case Step.STOP:
                    return
                case Step.WAIT:
                    await self._sleep(until)
                case Step.LOCK:
                    await self._lock_again()
                    self._context.changed()
                case Step.FIND_OUT:
                    await self._find_out()
                case Step.EJECT:
                    await self._eject()
                case Step.ACT:
                    self.state.acting = True
                    await self._act(self.state.scheduled.popleft())
                    self.state.acting = False
                case Step.SYNC:
                    group = self.state.begin_sync(now)
                    if self.state.sync_while_io and self.ACTS_DURING_SYNCS:
                        syncs.start_soon(self._sync, group, name=f"sync of {self.row.path}")
                    else:
                        await self._sync(group)

    async def _sleep(self, until: float) -> None:
        """Wait for the bell, at most `until`, in trio's time."""
        self._rung = trio.Event()
        self._asleep_until = until
        try:
            if until == inf:
                await self._rung.wait()
            else:
                with trio.move_on_at(until):
                    await self._rung.wait()
        finally:
            self._asleep_until = None

    async def _lock_again(self) -> None:
        await self._ownership.take_again(self.id, self.medium_id)

    async def _act(self, action: Action) -> None:
        match action:
            case Prepare():
                await self._prepare(action)
            case FormatJob():
                await self._format(action)
            case Exchange(medium):
                await self._exchange(medium)

    async def _format(self, job: FormatJob) -> None:
        try:
            await self._make_filesystem(job)
            row = await self._record_format(job.medium, job)
        except NotThereError as error:
            self.state.formatting = None
            job.holder.format_displaced(error)
        except OSError as error:
            self.state.formatting = None
            job.holder.format_failed(error)
        else:
            self.state.formatting = None
            self.medium = row
            self.state.volume.measure(self.space.free)
            self.state.become(DeviceStatus.LOADED, trio.current_time())
            self._emit(EventKind.FORMATTED)
            job.holder.formatted()
            await self._worked()
        self._context.changed()

    def _ready(self, grant: Grant) -> None:
        """The medium of `grant` is usable."""
        if grant.state is GrantState.PLANNED:
            self.state.move(grant, GrantState.READY, trio.current_time())
            grant.holder.grant_ready(grant)

    def _end_promises(self, error: OSError, medium: ResourceId | None = None) -> None:
        """What was promised here, of `medium` if one is given, and has not begun goes back to its requests."""
        for grant in tuple(self.state.grants):
            if grant.state in (GrantState.PLANNED, GrantState.READY) and medium in (None, grant.medium):
                self.state.end(grant, trio.current_time(), dirty=False)
                grant.holder.grant_failed(grant, error)
        job = self.state.formatting
        if job is not None and medium in (None, job.medium.id) and self.state.withdraw_format(job):
            job.holder.format_displaced(error)
        if medium is None:
            self.state.forget_exchanges()
        self.ring()

    async def _record_format(self, medium: Medium, job: FormatJob) -> Medium:
        update = MediumUpdate(
            medium.id,
            set_objects=0,
            set_logical=0,
            phys_spc_used=self.space.used,
            phys_spc_free=self.space.free,
            fs_status=FsStatus.EMPTY,
            fs_label=medium.id.name[:LABEL_LENGTH],
            adm_status=AdmStatus.UNLOCKED if job.unlock else None,
        )
        (row,) = await self._context.dss.execute(UpdateMedia((update,)))
        if row is None:
            raise LrsError(errno.ENOENT, f"{medium.id}: was deleted from the DSS while it was formatted")
        return row

    async def _sync(self, group: SyncGroup) -> None:
        """One physical sync for every waiting release (notes 2.5d, 4.4)."""
        started = trio.current_time()
        cause = group.cause.value if group.cause is not None else ""
        self._emit(EventKind.SYNC_STARTED, count=len(group.waiting), detail=cause)
        try:
            with self._deadline(Phase.SYNC):
                self.space = await self._filesystem.sync()
        except OSError as error:
            self._log_sync(error.errno or errno.EIO)
            self._emit(EventKind.SYNC_FAILED, errno=error.errno or 0, detail=describe(error))
            log.error("sync failed", device=self.row.path, waiting=len(group.waiting), error=describe(error))
            await self._sync_failed(error)
            group.settle(error)
        else:
            self._log_sync(0)
            self._synced(group, trio.current_time() - started)
            self.state.volume.measure(self.space.free)
            group.settle(None)
            served = [waiting for waiting in group.waiting if waiting.status is SyncStatus.DONE]
            self.state.unsettled += len(served)
            self._emit(
                EventKind.SYNC_FINISHED,
                size=sum(waiting.size for waiting in served),
                count=sum(waiting.extents for waiting in served),
                detail=f"{trio.current_time() - started:.6f}",
            )
            await self._worked()
            if not served:
                # No release will write these figures with its books, and the next sync waits meanwhile.
                await self._record()
        self.state.end_sync()
        for grant in [grant for grant in self.state.grants if grant.state in (GrantState.READY, GrantState.RESERVED)]:
            grant.holder.grant_ready(grant)
        self.ring()
        self._context.changed()

    def _log_sync(self, number: int) -> None:
        """Say that a physical sync has ended, in words that scripts look for; `number` is its errno or 0."""
        log.debug("sync: medium=%s rc=%d", self._loaded().id.name, -number)

    def figures(self, released: SubRequest | None = None) -> MediumUpdate:
        """What the last sync taught about the medium (used now, and how much space is left), and what was `released`.

        The last one may be later than the one that a release waited for; its figures are the better ones.
        """
        medium, space = self._loaded(), self.space
        no_longer_full = medium.fs_status is FsStatus.FULL and space.free > 0 and not self.FULL_FOR_EVER
        return MediumUpdate(
            medium.id,
            add_objects=0 if released is None else released.extents,
            add_logical=0 if released is None else released.size,
            phys_spc_used=space.used,
            phys_spc_free=space.free,
            fs_status=FsStatus.USED if no_longer_full else None,
            mark_used=True,
            mark_full=space.free == 0,
            add_groupings=(released.grouping,) if released is not None and released.grouping else (),
        )

    async def _record(self) -> None:
        try:
            (row,) = await self._context.dss.execute(UpdateMedia((self.figures(),)))
        except LrsError as error:
            # Nobody waits for these figures, and neither the medium nor the device is to blame for the refusal.
            self.medium_read(error)
        else:
            self.medium_changed(row)

    def medium_changed(self, row: Medium | None) -> None:
        """The medium's row in the DSS is this now; ``None`` if somebody has deleted it."""
        if row is None:
            self._ownership.withhold(
                LrsError(errno.ENXIO, f"{self._loaded().id}: was deleted from the DSS; add it again")
            )
        elif self.medium is not None and row.id == self.medium.id:
            before, self.medium = self.medium, row
            if before.use != row.use:
                self._context.changed()

    def medium_read(self, row: MediumRow | LrsError | None) -> bool:
        """The DSS was asked for the medium: it has `row`, or none, or one that cannot be used. True if that is news.

        A medium without a row, or that somebody else has locked, is not granted any more. If only our lock is
        gone it is taken again first.
        """
        if self.medium is None or (isinstance(row, MediumRow) and row.medium.id != self.medium.id):
            return False  # it has left meanwhile
        before = self.medium.use, self.state.withheld, self.state.unlocked
        if isinstance(row, LrsError):
            self._ownership.withhold(row)
        elif row is None:
            self.medium_changed(None)
        else:
            self.medium_changed(row.medium)
            self._ownership.lock_read(row.medium.id, row.lock)
            self.ring()
        return self.medium is None or before != (self.medium.use, self.state.withheld, self.state.unlocked)

    def _volume_of(self, medium: Medium) -> Volume:
        """What the free space of `medium` belongs to."""
        return self.state.volume

    def _loaded(self) -> Medium:
        if self.medium is None:
            raise RuntimeError(f"{self.id}: there is no medium in it")
        return self.medium

    @contextmanager
    def _deadline(self, phase: Phase) -> Iterator[None]:
        """Bound one physical operation (decision 17).

        Raises:
            LrsError: ETIMEDOUT, naming the phase.
        """
        limit = self._context.settings.limit(phase)
        with trio.CancelScope(deadline=trio.current_time() + limit) as scope:
            yield
        if scope.cancelled_caught:
            raise LrsError(
                errno.ETIMEDOUT,
                f"{self.row.path}: the {phase.value} did not end within {limit:g} s; look at what it hangs on",
            )

    def _tell_status(self, status: DeviceStatus) -> None:
        self._emit(EventKind.DEVICE_STATUS, detail=status.value)

    def _emit_io(self, kind: EventKind, grant: Grant) -> None:
        if not self._context.events.wants(kind):
            return
        self._context.events.emit(
            kind,
            family=self.id.family.label,
            device=self.id.name,
            medium=grant.medium.name,
            request=grant.kind.name,
            client=str(grant.holder.client),
            serial=grant.serial,
        )

    def _emit(
        self,
        kind: EventKind,
        *,
        medium: Medium | None = None,
        size: int = 0,
        count: int = 0,
        errno: int = 0,
        detail: str = "",
    ) -> None:
        if not self._context.events.wants(kind):
            return
        medium = medium or self.medium
        self._context.events.emit(
            kind,
            family=self.id.family.label,
            device=self.id.name,
            medium=medium.id.name if medium else "",
            size=size,
            count=count,
            errno=errno,
            detail=detail,
        )
