"""The device task: physical operations in order, one device each (notes 4.1, 4.4, 5.3, 6, 7, 11).

The task is thin: what to do next is decided by `DeviceState`, what is done here is I/O through the
storage adapters and bookkeeping through the DSS. Others change its state by plain calls and ring its
bell; the task itself waits for the bell or for the deadline of its oldest release, never for a period.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial

import structlog
import trio

from lrs_trio.devices.grant import Grant, GrantState
from lrs_trio.devices.health import health_from_log
from lrs_trio.devices.ownership import Ownership
from lrs_trio.devices.state import DeviceState, DeviceStatus, FormatJob, Prepare, Step, Volume
from lrs_trio.devices.to_sync import SubRequest, SyncGroup, SyncStatus, ToSyncSet
from lrs_trio.dss.operations import (
    Dss,
    MediumRow,
    MediumUpdate,
    ReadHealthLog,
    ReadMedium,
    SetDeviceStatus,
    UpdateMedia,
)
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
    ResourceId,
    Space,
)
from lrs_trio.settings import FamilySettings
from lrs_trio.storage.protocols import DriveIdentity, Unit

log = structlog.get_logger()

NOBODY_TO_BLAME = frozenset({errno.EEXIST, errno.EACCES, errno.EPERM, errno.EROFS})
"""Errors of a format that speak of what the administrator set up, not of a medium or a device that broke."""


@dataclass(frozen=True, slots=True)
class DeviceContext:
    """What all devices of a family share.

    `changed` is called whenever a device may be able to take work that it could not take before.
    """

    settings: FamilySettings
    dss: Dss
    owner: LockOwner
    volumes: MutableMapping[str, Volume]
    events: Events
    changed: Callable[[], None]


class DeviceTask:
    """One device and the medium in it, from adoption to departure."""

    def __init__(self, row: Device, unit: Unit, context: DeviceContext) -> None:
        settings = context.settings
        self.row = row
        self.identity: DriveIdentity | None = None
        self.medium: Medium | None = None
        self.root = ""
        self.state = DeviceState(
            to_sync=ToSyncSet(settings.sync.thresholds),
            max_concurrent_io=settings.max_concurrent_io,
            sync_while_io=settings.sync_while_io,
            mix_reads_and_writes=settings.mix_reads_and_writes,
        )
        self.space = Space(0, 0)
        self.health = settings.max_health
        self.medium_health = settings.max_health
        self.settled = trio.Event()
        """Adopted, refused, or waiting for another owner."""
        self.ended = trio.Event()
        self._unit = unit
        self._context = context
        self._ownership = Ownership(row.path, self.state, context.dss, context.owner)
        self._adoption = trio.CancelScope()
        self._failure_settled = False
        # One place is enough: a bell that has been rung already needs no second ring.
        self._bell, self._rung = trio.open_memory_channel[None](1)

    @property
    def id(self) -> ResourceId:
        return self.row.id

    @property
    def medium_id(self) -> ResourceId | None:
        return self.medium.id if self.medium else None

    @property
    def waiting_for(self) -> str:
        """Who has the lock that this device waits for, to be read by people."""
        return self._ownership.holder

    @property
    def awaited(self) -> ResourceId | None:
        """The device or medium whose lock another host has; ``None`` when none is waited for."""
        return self._ownership.awaited

    # What others ask for: plain calls that change the state and ring the bell.

    def ring(self) -> None:
        """Let the task look at its state again."""
        try:
            self._bell.send_nowait(None)
        except trio.WouldBlock:
            pass  # it has been rung already
        except trio.BrokenResourceError:
            pass  # the task has ended, its state is final

    def plan(self, grant: Grant) -> None:
        self.state.plan(grant, trio.current_time())
        self.ring()

    def plan_format(self, job: FormatJob) -> None:
        self.state.schedule_format(job)
        self.ring()

    def end_grant(self, grant: Grant, *, dirty: bool) -> None:
        """Give up a grant; `dirty` if its client may have written what no release accounts for."""
        self.state.end(grant, trio.current_time(), dirty=dirty)
        self.ring()
        self._context.changed()

    def move_grant(self, grant: Grant, state: GrantState) -> None:
        self.state.move(grant, state, trio.current_time())
        self.ring()

    def add_release(self, sub_request: SubRequest, *, at_once: bool) -> None:
        """Let one medium of a release wait for the next sync (note 2.5b)."""
        self._emit(EventKind.SYNC_REQUESTED, size=sub_request.size, count=sub_request.extents)
        self.state.volume.estimate(sub_request.size)
        if self.state.error is not None and self._failure_settled:
            sub_request.settle(self.state.error)
            return
        self.state.to_sync.add(sub_request, trio.current_time(), at_once=at_once)
        self.ring()

    def cancel_release(self, sub_request: SubRequest) -> None:
        """Take back a sub-request whose release has met an error elsewhere (note 4.4)."""
        sub_request.cancel()
        self.state.to_sync.discard(sub_request, trio.current_time())
        self.ring()

    def release_settled(self, *, counted: bool) -> None:
        """The books of one synced sub-request are committed, or given up: then the medium counts as dirty."""
        self.state.unsettled -= 1
        if not counted and self.state.error is None:
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
        with self._rung:
            adopted = False
            try:
                with self._adoption:
                    await self._adopt(task_status)
                    adopted = True
            except OSError as error:
                self._refuse(error)
            self._ownership.awaited = None
            self._ownership.tell_looked()
            self._tell_started(task_status)
            if adopted:
                self._context.changed()
                async with trio.open_nursery() as syncs:
                    await self._serve(syncs)
            await self._leave()
        self.ended.set()
        self._context.changed()

    async def _adopt(self, task_status: trio.TaskStatus[None]) -> None:
        """Find out what is there, take the locks, and make the medium usable."""
        waiting = partial(self._tell_started, task_status)
        await self._ownership.take(LockType.DEVICE, self.id, waiting)
        with self._deadline("look-up"):
            self.identity = await self._unit.drive.query(self.row)
            name = await self._unit.library.lookup(self.row)
        if name is None:
            raise LrsError(errno.ENOMEDIUM, f"{self.row.path}: there is no medium in this device")
        medium = ResourceId(self.id.family, name, self.id.library)
        await self._ownership.take(LockType.MEDIA, medium, waiting)
        row = await self._context.dss.execute(ReadMedium(medium))
        if row is None:
            raise LrsError(errno.ENXIO, f"{medium}: the DSS does not know this medium; add it first")
        self.medium = row.medium
        await self._read_health(medium)
        with self._deadline("open"):
            await self._unit.filesystem.open(self.identity.path)
        self.state.volume = self._context.volumes.setdefault(self._unit.filesystem.volume, Volume())
        self.state.status = DeviceStatus.LOADED
        if row.medium.fs_status is not FsStatus.BLANK:
            await self._mount()
        log.info("device ready", device=self.row.path, medium=medium.name, status=self.state.status.value)
        self._emit(EventKind.DEVICE_ADDED)

    async def _read_health(self, medium: ResourceId) -> None:
        """Begin with the health that the log tells of; nothing is failed for that alone."""
        dss, maximum = self._context.dss, self._context.settings.max_health
        of_device = ReadHealthLog(self.id.library, self.id.family, device=self.id.name)
        of_medium = ReadHealthLog(medium.library, medium.family, medium=medium.name)
        self.health = health_from_log(await dss.execute(of_device), maximum)
        self.medium_health = health_from_log(await dss.execute(of_medium), maximum)

    def _tell_started(self, task_status: trio.TaskStatus[None]) -> None:
        if not self.settled.is_set():
            self.settled.set()
            task_status.started()

    def _refuse(self, error: OSError) -> None:
        """Keep the record, so that people see why, but leave the DSS as it is: nothing is proven broken."""
        self.state.fail(error)
        log.error("device not usable", device=self.row.path, error=describe(error))
        self._emit(EventKind.DEVICE_FAILED, errno=error.errno or 0, detail=describe(error))

    async def _serve(self, syncs: trio.Nursery) -> None:
        while True:
            step, until = self.state.next_step(trio.current_time())
            match step:
                case Step.STOP:
                    return
                case Step.WAIT:
                    with trio.move_on_at(until):
                        await self._rung.receive()
                case Step.LOCK:
                    await self._ownership.take_again(self.id, self._loaded().id)
                    self._context.changed()
                case Step.ACT:
                    await self._act(self.state.scheduled.popleft())
                case Step.SYNC:
                    group = self.state.begin_sync()
                    if self.state.sync_while_io:
                        syncs.start_soon(self._sync, group, name=f"sync of {self.row.path}")
                    else:
                        await self._sync(group)

    async def _act(self, action: Prepare | FormatJob) -> None:
        match action:
            case Prepare(grant):
                await self._prepare(grant)
            case FormatJob():
                await self._format(action)

    async def _prepare(self, grant: Grant) -> None:
        """Make the medium usable for one grant and say so (notes 6, 7)."""
        try:
            if self.state.status is not DeviceStatus.MOUNTED:
                await self._mount()
        except OSError as error:
            await self._fail(error)
            return
        if grant.state is GrantState.PLANNED:
            self._recover()
            self.state.move(grant, GrantState.READY, trio.current_time())
            grant.holder.grant_ready(grant)

    async def _mount(self) -> None:
        medium = self._loaded()
        try:
            with self._deadline("mount"):
                self.root = await self._unit.filesystem.mount(medium)
                self.space = await self._unit.filesystem.space()
        except OSError as error:
            self._emit(EventKind.MOUNT_FAILED, errno=error.errno or 0, detail=describe(error))
            raise
        self.state.volume.measure(self.space.free)
        self.state.status = DeviceStatus.MOUNTED
        self._emit(EventKind.MOUNTED)

    async def _format(self, job: FormatJob) -> None:
        medium = self._loaded()
        try:
            await self._make_filesystem(medium)
            row = await self._record_format(medium, job)
        except OSError as error:
            self.state.formatting = None
            job.holder.format_failed(error)
        else:
            self.state.formatting = None
            self._recover()
            self.medium = row
            self.state.volume.measure(self.space.free)
            self.state.status = DeviceStatus.LOADED
            self._emit(EventKind.FORMATTED)
            job.holder.formatted()
        self._context.changed()

    async def _make_filesystem(self, medium: Medium) -> None:
        try:
            with self._deadline("format"):
                self.space = await self._unit.filesystem.format(medium)
            return
        except OSError as error:
            failure = error
        self._emit(EventKind.FORMAT_FAILED, errno=failure.errno or 0, detail=describe(failure))
        log.error("format failed", device=self.row.path, medium=medium.id.name, error=describe(failure))
        if failure.errno not in NOBODY_TO_BLAME:
            await self._fail(failure)
        raise failure

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
        self._emit(EventKind.SYNC_STARTED, count=len(group.waiting))
        try:
            with self._deadline("sync"):
                self.space = await self._unit.filesystem.sync()
        except OSError as error:
            self._log_sync(error.errno or errno.EIO)
            self._emit(EventKind.SYNC_FAILED, errno=error.errno or 0, detail=describe(error))
            log.error("sync failed", device=self.row.path, waiting=len(group.waiting), error=describe(error))
            await self._fail(error, lost=True)
            group.settle(error)
        else:
            self._log_sync(0)
            self._recover()
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

    def figures(self) -> MediumUpdate:
        """What the last sync taught about the medium: used now, and how much space is left.

        The last one may be later than the one that a release waited for; its figures are the better ones.
        """
        medium = self._loaded()
        no_longer_full = medium.fs_status is FsStatus.FULL and self.space.free > 0
        return MediumUpdate(
            medium.id,
            phys_spc_used=self.space.used,
            phys_spc_free=self.space.free,
            fs_status=FsStatus.USED if no_longer_full else None,
            mark_used=True,
            mark_full=self.space.free == 0,
        )

    async def _record(self) -> None:
        try:
            (row,) = await self._context.dss.execute(UpdateMedia((self.figures(),)))
        except LrsError as error:
            await self._fail(error, lost=True)
        else:
            self.medium_changed(row)

    def medium_changed(self, row: Medium | None) -> None:
        """The medium's row in the DSS is this now; ``None`` if somebody has deleted it."""
        if row is None:
            self._ownership.withhold(
                LrsError(errno.ENXIO, f"{self._loaded().id}: was deleted from the DSS; add it again")
            )
        elif row.id == self.medium_id:
            self.medium = row

    def medium_read(self, row: MediumRow | LrsError | None) -> bool:
        """The DSS was asked for the medium: it has `row`, or none, or one that cannot be used. True if that is news.

        A medium without a row, or that somebody else has locked, is not granted any more. If only our lock is
        gone it is taken again first.
        """
        before = self.medium, self.state.withheld, self.state.unlocked
        if isinstance(row, LrsError):
            self._ownership.withhold(row)
        elif row is None:
            self.medium_changed(None)
        else:
            self.medium_changed(row.medium)
            self._ownership.lock_read(row.medium.id, row.lock)
            self.ring()
        return before != (self.medium, self.state.withheld, self.state.unlocked)

    def _recover(self) -> None:
        """Something succeeded: device and medium get a failure back."""
        maximum = self._context.settings.max_health
        self.health = min(self.health + 1, maximum)
        self.medium_health = min(self.medium_health + 1, maximum)

    async def _fail(self, error: OSError, *, lost: bool = False) -> None:
        """Stop using the device; medium and device are failed once their health is used up (decision 12).

        If bytes may be `lost`, the medium is failed at once. Whoever writes here now cannot be told later that
        the bytes are safe: the system reports a write-back error only once. So every grant that is still out
        fails with its release.
        """
        medium = self._loaded()
        self.health = max(self.health - 1, 0)
        self.medium_health = max(self.medium_health - 1, 0)
        self.state.fail(error)
        for grant in [grant for grant in self.state.grants if grant.state in (GrantState.PLANNED, GrantState.READY)]:
            self.state.end(grant, trio.current_time(), dirty=False)
            grant.holder.grant_failed(grant, error)
        try:
            if lost or self.medium_health == 0:
                failed = UpdateMedia((MediumUpdate(medium.id, adm_status=AdmStatus.FAILED),))
                (row,) = await self._context.dss.execute(failed)
                self.medium_changed(row)
            if self.health == 0:
                await self._context.dss.execute(SetDeviceStatus(self.id, AdmStatus.FAILED))
                self.row = replace(self.row, adm_status=AdmStatus.FAILED)
        except LrsError as refusal:
            log.error("failure not recorded in the DSS", device=self.row.path, error=describe(refusal))
        log.error("device failed", device=self.row.path, medium=medium.id.name, error=describe(error))
        self._emit(EventKind.DEVICE_FAILED, errno=error.errno or 0, detail=describe(error))
        self.state.to_sync.take().settle(error)
        self._failure_settled = True

    async def _leave(self) -> None:
        """Unmount, let go of the filesystem, and give the locks back."""
        failed = self.state.error is not None
        try:
            with self._deadline("unmount"):
                if self.state.status is DeviceStatus.MOUNTED:
                    await self._unit.filesystem.unmount()
                    self._emit(EventKind.UNMOUNTED)
                await self._unit.filesystem.close()
        except OSError as error:
            self._emit(EventKind.UNMOUNT_FAILED, errno=error.errno or 0, detail=describe(error))
            log.error("unmount failed", device=self.row.path, error=describe(error))
        await self._ownership.give_back()
        if not failed:
            self.state.status = DeviceStatus.STOPPED
            log.info("device released", device=self.row.path)
        self._emit(EventKind.DEVICE_REMOVED)

    def _loaded(self) -> Medium:
        if self.medium is None:
            raise RuntimeError(f"{self.id}: no medium was adopted")
        return self.medium

    @contextmanager
    def _deadline(self, phase: str) -> Iterator[None]:
        """Bound one physical operation (decision 17).

        Raises:
            LrsError: ETIMEDOUT, naming the phase.
        """
        limit = self._context.settings.operation_timeout_s
        try:
            with trio.fail_after(limit):
                yield
        except trio.TooSlowError:
            raise LrsError(
                errno.ETIMEDOUT, f"{self.row.path}: {phase} did not end within {limit:g} s; look at the filesystem"
            ) from None

    def _emit(self, kind: EventKind, *, size: int = 0, count: int = 0, errno: int = 0, detail: str = "") -> None:
        self._context.events.emit(
            kind,
            family=self.id.family.label,
            device=self.id.name,
            medium=self.medium.id.name if self.medium else "",
            size=size,
            count=count,
            errno=errno,
            detail=detail,
        )
