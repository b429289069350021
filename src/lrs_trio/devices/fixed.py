"""The device whose medium never leaves it: a directory."""

from __future__ import annotations

import errno
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import ClassVar

import structlog
import trio

from lrs_trio.devices.device import DeviceContext, DeviceTask
from lrs_trio.devices.health import health_from_log
from lrs_trio.devices.life import DeviceStatus
from lrs_trio.devices.state import FormatJob, Prepare
from lrs_trio.devices.to_sync import SyncGroup
from lrs_trio.devices.volume import Volume
from lrs_trio.dss.operations import MediumUpdate, ReadHealthLog, ReadMedium, SetDeviceStatus, UpdateMedia
from lrs_trio.errors import LrsError, describe
from lrs_trio.events import EventKind
from lrs_trio.model import AdmStatus, Device, FsStatus, LockType, Medium, Phase, ResourceId
from lrs_trio.storage.protocols import Unit

log = structlog.get_logger()

NOBODY_TO_BLAME = frozenset({errno.EEXIST, errno.EACCES, errno.EPERM, errno.EROFS})
"""Errors of a format that speak of what the administrator set up, not of a medium or a device that broke."""


class FixedDevice(DeviceTask):
    """One device and the medium in it: what fails one of them fails the other, for nothing can be compared."""

    FULL_FOR_EVER: ClassVar[bool] = False
    # What is mounted is granted at once, and a format waits until nothing goes on.
    ACTS_DURING_SYNCS: ClassVar[bool] = False

    def __init__(self, row: Device, unit: Unit, context: DeviceContext) -> None:
        super().__init__(row, unit.filesystem, context)
        self.health = context.settings.max_health
        self.medium_health = context.settings.max_health
        self._unit = unit

    async def _adopt(self, task_status: trio.TaskStatus[None]) -> None:
        """Find out what is there, take the locks, and make the medium usable."""
        waiting = partial(self._tell_started, task_status)
        await self._ownership.take(LockType.DEVICE, self.id, waiting)
        with self._deadline(Phase.LOOK_UP):
            self.identity = await self._unit.drive.query(self.row)
            name = (await self._unit.library.lookup(self.row)).medium
        if name is None:
            raise LrsError(errno.ENOMEDIUM, f"{self.row.path}: there is no medium in this device")
        medium = ResourceId(self.id.family, name, self.id.library)
        await self._ownership.take(LockType.MEDIA, medium, waiting)
        row = await self._context.dss.execute(ReadMedium(medium))
        if row is None:
            raise LrsError(errno.ENXIO, f"{medium}: the DSS does not know this medium; add it first")
        self.medium = row.medium
        self.state.present = medium
        await self._read_health(medium)
        with self._deadline(Phase.OPEN):
            await self._filesystem.open(self.identity.path)
        self.state.volume = self._context.volumes.setdefault(self._filesystem.volume, Volume())
        # Nothing is promised here before it is known that the medium can be mounted, and how much space there is.
        if row.medium.fs_status is FsStatus.BLANK:
            self.state.become(DeviceStatus.LOADED, trio.current_time())
        else:
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

    async def _prepare(self, action: Prepare) -> None:
        try:
            if self.state.status is not DeviceStatus.MOUNTED:
                await self._mount()
        except OSError as error:
            await self._fail(error)
            return
        self._recover()
        self._ready(action.grant)

    def _prepare_at_once(self, medium: Medium) -> bool:
        if self.state.status is not DeviceStatus.MOUNTED:
            return False
        self._recover()
        return True

    async def _mount(self) -> None:
        medium = self._loaded()
        try:
            with self._deadline(Phase.MOUNT):
                self.root = await self._filesystem.mount(medium)
                self.space = await self._filesystem.space()
        except OSError as error:
            self._emit(EventKind.MOUNT_FAILED, errno=error.errno or 0, detail=describe(error))
            raise
        self.state.volume.measure(self.space.free)
        self.state.become(DeviceStatus.MOUNTED, trio.current_time())
        self._emit(EventKind.MOUNTED)

    async def _make_filesystem(self, job: FormatJob) -> None:
        try:
            with self._deadline(Phase.FORMAT):
                self.space = await self._filesystem.format(job.medium)
            return
        except OSError as error:
            failure = error
        self._emit(EventKind.FORMAT_FAILED, errno=failure.errno or 0, detail=describe(failure))
        log.error("format failed", device=self.row.path, medium=job.medium.id.name, error=describe(failure))
        if failure.errno not in NOBODY_TO_BLAME:
            await self._fail(failure)
        raise failure

    def _synced(self, group: SyncGroup, seconds: float) -> None:
        """Nothing is learned from it: it costs next to nothing."""

    async def _sync_failed(self, error: OSError) -> None:
        await self._fail(error, lost=True)

    async def _worked(self) -> None:
        # No turn of the loop is taken: every sync comes by here, and its end has just been waited for.
        self._recover()

    async def _exchange(self, medium: Medium | None) -> None:
        raise RuntimeError(f"{self.id}: its medium never moves")

    async def _find_out(self) -> None:
        raise RuntimeError(f"{self.id}: its medium never moves")

    async def _eject(self) -> None:
        raise RuntimeError(f"{self.id}: its medium cannot be taken out")

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
        self.state.fail(error, trio.current_time())
        self._end_promises(error)
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
        failure = self.state.error
        if failure is not None and self.state.volume.written:
            await self._measure_for_others(failure)
        if self.state.status is DeviceStatus.MOUNTED and await self._let_go(self._filesystem.unmount):
            self._emit(EventKind.UNMOUNTED)
        await self._let_go(self._filesystem.close)
        await self._ownership.give_back()
        if failure is None:
            self.state.become(DeviceStatus.STOPPED, trio.current_time())
            log.info("device released", device=self.row.path)
        self._emit(EventKind.DEVICE_REMOVED)

    async def _measure_for_others(self, failure: OSError) -> None:
        """Replace the estimates of a volume that other directories may share: no sync here will do that any more."""
        space = None
        # What hangs would only be waited for once more; and what cannot be measured now is when another one is synced.
        if failure.errno != errno.ETIMEDOUT:
            with suppress(OSError), self._deadline(Phase.LOOK_UP):
                space = await self._filesystem.space()
        volume = self.state.volume
        volume.measure(volume.measured if space is None else space.free)

    async def _let_go(self, operation: Callable[[], Awaitable[None]]) -> bool:
        """Do one step of the departure; the next one follows even if it fails."""
        try:
            with self._deadline(Phase.UNMOUNT):
                await operation()
        except OSError as error:
            self._emit(EventKind.UNMOUNT_FAILED, errno=error.errno or 0, detail=describe(error))
            log.error("unmount failed", device=self.row.path, error=describe(error))
            return False
        return True
