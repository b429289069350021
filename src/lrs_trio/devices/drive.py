"""The drive of a tape library: what is done with the medium in it, and what it means if that fails.

Who may be to blame goes to the evidence, a medium that cannot stay is taken out, a drive that cannot be trusted is
failed, and one that did not answer in time is quarantined.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import ClassVar

import structlog
import trio

from lrs_trio.devices.adoption import LONGEST_PAUSE_S
from lrs_trio.devices.blame import DriveContext
from lrs_trio.devices.carrier import Carrier
from lrs_trio.devices.device import NotThereError
from lrs_trio.devices.grant import Grant
from lrs_trio.devices.life import DeviceStatus
from lrs_trio.devices.state import FormatJob, Prepare
from lrs_trio.devices.streaming import Streaming
from lrs_trio.devices.sync_cost import SyncCost, SyncCosts
from lrs_trio.devices.to_sync import SyncGroup
from lrs_trio.dss.operations import MediumRow, MediumUpdate, SetDeviceStatus, UpdateMedia
from lrs_trio.errors import HostError, LibraryUnreachableError, LrsError, describe
from lrs_trio.events import EventKind
from lrs_trio.model import AdmStatus, Device, Medium, Phase, RequestKind
from lrs_trio.storage.protocols import DriveUnit

log = structlog.get_logger()

PAUSE_OF_DRAIN_S = 5.0
"""Between two attempts to unmount when the drive is to stop: then somebody waits for it."""

TRIES_OF_DRAIN = 3
"""How often a drive that is to stop meets with a host that cannot even begin to unmount: users end, settings do not
change any more. What is left mounted the next start adopts."""


class DriveTask(Carrier):
    """One drive, and whatever medium is in it."""

    FULL_FOR_EVER: ClassVar[bool] = True
    ACTS_DURING_SYNCS: ClassVar[bool] = True

    def __init__(self, row: Device, unit: DriveUnit, context: DriveContext) -> None:
        super().__init__(row, unit, context)
        self._condemned: LrsError | None = None
        self._stopped = trio.Event()
        self._not_exchanged: Callable[[OSError], None] = _tell_nobody
        self._sync_costs: dict[str | None, SyncCosts] = {}
        """By the model of the tape."""
        share = context.settings.sync.share_to_stream
        if share is not None:
            self.state.streaming = Streaming(share, self._sync_seconds)

    @property
    def sync_cost(self) -> SyncCost | None:
        costs = self._sync_costs.get(self.medium.model) if self.medium is not None else None
        return costs.learned if costs is not None else None

    def _sync_seconds(self, files: int) -> float | None:
        """How long a sync takes with so many more files on the tape than the books have, if that is known."""
        cost = self.sync_cost
        return cost.seconds(self._loaded().stats.nb_obj + files) if cost is not None else None

    # What others ask for.

    def stop(self) -> None:
        self._stopped.set()
        super().stop()

    def exchange(self, medium: Medium | None, failed: Callable[[OSError], None]) -> None:
        """Bring `medium` and mount it, or take out what is there, although nobody is promised it yet.

        `failed` is told if that does not work. Callers have seen that the drive is idle between the same two
        checkpoints, so nobody else's exchange is under way.
        """
        self.used = trio.current_time()
        self._not_exchanged = failed
        self.state.exchange(medium)
        self.ring()

    def condemn(self, error: LrsError) -> None:
        """The drive is proven broken: let what goes on there end, then fail it."""
        self._condemned = error
        super().stop()
        self._end_promises(error)
        self._context.changed()

    def medium_changed(self, row: Medium | None) -> None:
        super().medium_changed(row)
        self._give_up_withheld()

    def medium_read(self, row: MediumRow | LrsError | None) -> bool:
        news = super().medium_read(row)
        self._give_up_withheld()
        return news

    async def _lock_again(self) -> None:
        await super()._lock_again()
        self._give_up_withheld()

    def _give_up_withheld(self) -> None:
        """A medium that is not ours to grant any more only takes the place of another."""
        if self.state.withheld is not None and self.state.gives_up:
            self._end_promises(self.state.withheld, self.medium_id)
            self.ring()

    # Work.

    async def _prepare(self, action: Prepare) -> None:
        grant, medium = action.grant, action.medium.id
        self._coming = action.medium
        try:
            await self._bring(action.medium, lambda: any(promised.medium == medium for promised in self.state.grants))
            if grant in self.state.grants:
                await self._mount()
                await self._check_writable(grant)
        except OSError as error:
            if self.medium_id == medium:
                self._give_back(grant, error)
            else:
                # Whoever else was promised it here would have the same tried again.
                self._end_promises(error, medium)
        else:
            self._ready(grant)
        finally:
            self._coming = None
        self._context.changed()

    async def _exchange(self, medium: Medium | None) -> None:
        self._coming = medium
        failed, self._not_exchanged = self._not_exchanged, _tell_nobody
        try:
            if medium is None:
                await self._empty()
            else:
                await self._bring(medium, lambda: True)
                await self._mount()
        except OSError as error:
            name = medium.id.name if medium is not None else None
            log.warning("medium not exchanged", device=self.row.path, medium=name, error=describe(error))
            failed(error)
        finally:
            self._coming = None
        self._context.changed()

    async def _make_filesystem(self, job: FormatJob) -> None:
        self._coming = job.medium
        try:
            try:
                await self._bring(job.medium, lambda: True)
                if self.state.status is DeviceStatus.MOUNTED:
                    await self._unmount()
            except (LibraryUnreachableError, HostError):
                raise
            except OSError as error:
                raise NotThereError(error.errno or errno.EIO, describe(error)) from error
            await self._run_format(job.medium)
        finally:
            self._coming = None

    async def _run_format(self, medium: Medium) -> None:
        self.state.become(DeviceStatus.FORMATTING, trio.current_time())

        async def format_it() -> None:
            self.space = await self._filesystem.format(medium)

        failure = await self._attempt(Phase.FORMAT, format_it)
        self.state.become(DeviceStatus.LOADED, trio.current_time())
        if failure is not None:
            self._emit(EventKind.FORMAT_FAILED, errno=failure.errno or 0, detail=describe(failure))
            await self._went_wrong(Phase.FORMAT, failure)
            raise failure

    async def _mount(self) -> None:
        if self.state.status is DeviceStatus.MOUNTED:
            return
        medium = self._loaded()
        self.state.become(DeviceStatus.MOUNTING, trio.current_time())

        async def mount_it() -> None:
            self.root = await self._filesystem.mount(medium)
            self.space = await self._filesystem.space()

        failure = await self._attempt(Phase.MOUNT, mount_it)
        if failure is not None:
            self._emit(EventKind.MOUNT_FAILED, errno=failure.errno or 0, detail=describe(failure))
            await self._see_mounted(failure)
            await self._went_wrong(Phase.MOUNT, failure)
            raise failure
        self.state.volume.measure(self.space.free)
        self.state.become(DeviceStatus.MOUNTED, trio.current_time())
        self._emit(EventKind.MOUNTED)
        await self._worked()

    async def _see_mounted(self, error: OSError) -> None:
        """A mount that failed may have left something mounted, which has to be unmounted first."""
        root = None
        if error.errno != errno.ETIMEDOUT:
            # The mount's own failure is what is told; what cannot be looked at counts as not mounted.
            with suppress(OSError), self._deadline(Phase.LOOK_UP):
                root = await self._unit.filesystem.adopt()
        self.root = root or ""
        self.state.become(DeviceStatus.MOUNTED if root else DeviceStatus.LOADED, trio.current_time())

    async def _check_writable(self, grant: Grant) -> None:
        """A write goes elsewhere if this medium turns out to be too full or protected, and the DSS learns it.

        Raises:
            LrsError: ENOSPC or EROFS.
        """
        full = self.space.free == 0 or self.space.free < grant.size
        if grant.kind is not RequestKind.WRITE or not (self.space.read_only or full):
            return
        medium = self._loaded()
        if self.space.read_only:
            update = MediumUpdate(medium.id, put=False)
            error = LrsError(
                errno.EROFS, f"{medium.id}: is write-protected; it takes no more writes until that is changed"
            )
        else:
            used, free = self.space.used, self.space.free
            update = MediumUpdate(medium.id, phys_spc_used=used, phys_spc_free=free, mark_full=free == 0)
            error = LrsError(errno.ENOSPC, f"{medium.id}: has {free} bytes left, which is too little")
        log.warning("medium does not take the write", medium=medium.id.name, reason=describe(error))
        (row,) = await self._context.dss.execute(UpdateMedia((update,)))
        self.medium_changed(row)
        raise error

    async def _unmount(self) -> None:
        self.state.become(DeviceStatus.UNMOUNTING, trio.current_time())
        failure = await self._attempt(Phase.UNMOUNT, self._filesystem.unmount)
        if failure is not None:
            self._emit(EventKind.UNMOUNT_FAILED, errno=failure.errno or 0, detail=describe(failure))
            if _leaves_mounted(failure):
                self._stays_mounted(failure)
            else:
                await self._stuck(Phase.UNMOUNT, failure)
            raise failure
        self.root = ""
        self.state.become(DeviceStatus.LOADED, trio.current_time())
        self._emit(EventKind.UNMOUNTED)

    def _stays_mounted(self, error: OSError) -> None:
        self.state.become(DeviceStatus.MOUNTED, trio.current_time())
        self.busy_until = trio.current_time() + LONGEST_PAUSE_S
        medium = self._loaded().id.name
        log.warning("medium stays mounted for now", medium=medium, root=self.root, error=describe(error))

    async def _eject(self) -> None:
        """Take the medium out, so that it and the drive can be tried with others."""
        reason = self.state.tainted or self.state.withheld
        try:
            await self._empty()
        except OSError as error:
            if self.state.error is None and self.busy_until > trio.current_time():
                log.info("drive not emptied yet", device=self.row.path, error=describe(error))
                await self._pause()
            return
        log.info("drive emptied", device=self.row.path, reason=describe(reason) if reason else "")
        self._context.changed()

    async def _pause(self) -> None:
        """Let somebody who still uses the medium come to an end, or this host or the library be able to go on."""
        with trio.move_on_at(self.busy_until):
            await self._stopped.wait()
            await trio.sleep(PAUSE_OF_DRAIN_S)

    # What failures mean.

    async def _went_wrong(self, phase: Phase, error: OSError) -> None:
        medium = self._loaded()
        self._taint(error)
        if error.errno == errno.ETIMEDOUT:
            await self._fail_drive(error, DeviceStatus.QUARANTINED)
        await self._blame.failed(phase, medium, error)

    async def _stuck(self, phase: Phase, error: OSError) -> None:
        late = error.errno == errno.ETIMEDOUT
        await self._fail_drive(error, DeviceStatus.QUARANTINED if late else DeviceStatus.FAILED)
        await self._blame.stuck(phase, self._loaded(), error)

    async def _fail_drive(self, error: OSError, status: DeviceStatus = DeviceStatus.FAILED) -> None:
        """Take the drive out of service, here and in the DSS; what it failed for first stays the reason."""
        if self.state.error is not None:
            return
        self.state.fail(error, trio.current_time(), status)
        self._end_promises(error)
        self._settle_waiting(error)
        log.error("drive out of service", device=self.row.path, status=status.value, error=describe(error))
        self._emit(EventKind.DEVICE_FAILED, errno=error.errno or 0, detail=describe(error))
        try:
            await self._context.dss.execute(SetDeviceStatus(self.id, AdmStatus.FAILED))
            self.row = replace(self.row, adm_status=AdmStatus.FAILED)
        except LrsError as refusal:
            log.error("failure not recorded in the DSS", device=self.row.path, error=describe(refusal))
        self._context.changed()

    def _taint(self, error: OSError) -> None:
        """Nothing more is granted on the medium in the drive; what waits for it is told."""
        self.state.tainted = error
        self._end_promises(error, self.medium_id)
        self._settle_waiting(error)
        self.ring()

    def _settle_waiting(self, error: OSError) -> None:
        self.state.to_sync.take().settle(error)
        self._failure_settled = True

    def _give_back(self, grant: Grant, error: OSError) -> None:
        """The drive has failed one grant: its request is told, unless it was told with all others."""
        if grant in self.state.grants:
            self.state.end(grant, trio.current_time(), dirty=False)
            grant.holder.grant_failed(grant, error)

    def _synced(self, group: SyncGroup, seconds: float) -> None:
        medium = self._loaded()
        files = medium.stats.nb_obj + sum(waiting.extents for waiting in group.waiting)
        self._sync_costs.setdefault(medium.model, SyncCosts()).learn(files, seconds)

    async def _sync_failed(self, error: OSError) -> None:
        await self._went_wrong(Phase.SYNC, error)

    async def _worked(self) -> None:
        await self._blame.worked(self._loaded())

    # The end.

    async def _leave(self) -> None:
        """Unmount but keep the cartridge; a condemned drive gives it up."""
        if self.state.error is None:
            await self._leave_in_order()
        if self.state.error is not None and self.medium is not None:
            # It stays in there. Until an administrator has seen to it, nobody else may try to move it.
            await self._stopped.wait()
        # There is nothing left that a failure could spoil.
        with suppress(OSError), self._deadline(Phase.OPEN):
            await self._filesystem.close()
        await self._ownership.give_back()
        self._coming = None
        if self.state.error is None:
            self.state.become(DeviceStatus.STOPPED, trio.current_time())
            log.info("drive released", device=self.row.path, medium=self.medium.id.name if self.medium else None)
        self._emit(EventKind.DEVICE_REMOVED)

    async def _leave_in_order(self) -> None:
        patience = TRIES_OF_DRAIN
        while self.state.status is DeviceStatus.MOUNTED and patience:
            try:
                await self._unmount()
            except OSError as error:
                if not _leaves_mounted(error):
                    return
                patience -= isinstance(error, HostError)
                if patience:
                    await self._pause()
        if self.state.status is DeviceStatus.MOUNTED:
            log.error("medium left mounted", device=self.row.path, medium=self._loaded().id.name, root=self.root)
        if self._condemned is not None:
            if self.state.status is DeviceStatus.LOADED:
                with suppress(OSError):  # told where it happens, and the drive fails anyway
                    await self._unload()
            await self._fail_drive(self._condemned)


def _leaves_mounted(error: OSError) -> bool:
    """Whether an unmount that has failed with `error` is known to have changed nothing, and to be nobody's fault."""
    return error.errno == errno.EBUSY or isinstance(error, HostError)


def _tell_nobody(error: OSError) -> None:
    return None
