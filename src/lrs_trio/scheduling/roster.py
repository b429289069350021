"""The devices of one family: which there are, and how they come and go (note 4.1)."""

from __future__ import annotations

import errno
from collections.abc import Callable
from weakref import WeakValueDictionary

import structlog
import trio

from lrs_trio.devices.device import DeviceContext, DeviceTask
from lrs_trio.devices.grant import GrantState
from lrs_trio.devices.life import DeviceStatus
from lrs_trio.devices.volume import Volume
from lrs_trio.dss.operations import ReadDevice, ReadDevices, ReadMedium
from lrs_trio.errors import LrsError
from lrs_trio.events import EventKind
from lrs_trio.model import AdmStatus, Device, Family, NotifyOperation, ResourceId
from lrs_trio.scheduling.requests import shutting_down
from lrs_trio.scheduling.supply import Supply
from lrs_trio.wire.messages import Notify

log = structlog.get_logger()

PATIENCE_SECONDS = 10.0
"""How long the start of the daemon waits for its devices: a filesystem that hangs must not keep the others."""


class Roster:
    """Starts and stops the devices of `family`, which it keeps in `devices` by their names.

    `supply` makes them. `replan` is called with a device when what was promised on it, and not yet answered, has
    to be decided anew; `changed` when anything may have changed for those who wait.
    """

    def __init__(
        self,
        family: Family,
        devices: dict[ResourceId, DeviceTask],
        supply: Supply,
        context: DeviceContext,
        replan: Callable[[DeviceTask], None],
        changed: Callable[[], None],
    ) -> None:
        self.devices = devices
        self._gone: list[DeviceTask] = []
        self._family = family
        self._supply = supply
        self._context = context
        self._replan = replan
        self._changed = changed
        self._stopping = False
        # Of the devices that are being added; each stays as long as somebody has it or waits for it.
        self._adding: WeakValueDictionary[ResourceId, trio.Lock] = WeakValueDictionary()

    @property
    def held(self) -> list[DeviceTask]:
        """The devices, and behind them those that have failed and gone while clients still hold grants on them."""
        return [*self.devices.values(), *(device for device in self._gone if device.state.grants)]

    async def start(self, nursery: trio.Nursery) -> None:
        """Start every unlocked device of this host; those that hang are not waited for and join when they are ready."""
        for row in await self._context.dss.execute(ReadDevices(self._family, self._context.owner.host)):
            if row.device.adm_status is AdmStatus.UNLOCKED:
                device = self._make(row.device)
                nursery.start_soon(device.run, name=f"device {row.device.path}")
        with trio.move_on_after(PATIENCE_SECONDS):
            for device in tuple(self.devices.values()):
                await device.settled.wait()
        for device in self.devices.values():
            if not device.settled.is_set():
                log.warning("device does not answer; starting without it", device=device.row.path)

    def stop(self) -> None:
        """Let all devices end in order, and start no more."""
        self._stopping = True
        for device in self.devices.values():
            device.stop()

    async def heed(self, news: Notify, nursery: trio.Nursery) -> None:
        """Do what an administrator's news ask for; devices are started in `nursery`.

        Raises:
            OSError: it cannot be done.
        """
        match news.operation:
            case NotifyOperation.DEVICE_ADD:
                await self._add(news.resource, nursery)
            case NotifyOperation.DEVICE_LOCK:
                await self._lock(news.resource)
            case NotifyOperation.DEVICE_UNLOCK:
                await self._unlock(news.resource, nursery)
            case NotifyOperation.MEDIA_UPDATE:
                await self._update_medium(news.resource)

    async def look_again(self, wanted: Callable[[ResourceId], bool]) -> None:
        """Let devices that wait until another host unlocks what is `wanted` see now whether they still have to."""
        async with trio.open_nursery() as looks:
            for device in self.devices.values():
                if device.awaited is not None and wanted(device.awaited):
                    looks.start_soon(device.look_again, name=f"look at the locks of {device.row.path}")

    def unfinished(self) -> list[str]:
        """Each device that has not ended, with what keeps it, for people to read."""
        return [
            f"{device.row.path}: {_reasons(device)}" for device in self.devices.values() if not device.ended.is_set()
        ]

    def _make(self, row: Device) -> DeviceTask:
        device = self._supply.make_device(row)
        self.devices[row.id] = device
        return device

    async def _start_one(self, row: Device, nursery: trio.Nursery) -> DeviceTask:
        if self._stopping:
            raise shutting_down()
        # Known before it is adopted: a drain that begins meanwhile stops it too.
        device = self._make(row)
        await nursery.start(device.run, name=f"device {row.path}")
        return device

    async def _add(self, resource: ResourceId, nursery: trio.Nursery) -> None:
        """Take a device into service.

        Raises:
            LrsError: ENXIO if the DSS has no such unlocked device of this host; EALREADY while another host has
                it locked, for which only a device that was known before goes on waiting; else why it is refused.
        """
        # One after the other: two who wait for the end of the same task would both start another one.
        async with self._adding.setdefault(resource, trio.Lock()):
            await self._add_alone(resource, nursery)

    async def _add_alone(self, resource: ResourceId, nursery: trio.Nursery) -> None:
        row = await self._read_unlocked(resource)
        known = self.devices.get(resource)
        if known is not None:
            await known.look_again()
            if known.state.serving:
                return
            if known.awaited is not None:
                raise _waits_elsewhere(known)
            await self._end(known)
            # It may have been locked meanwhile.
            row = await self._read_unlocked(resource)
        await self._supply.device_added(resource)
        device = await self._start_one(row, nursery)
        if device.state.error is not None:
            # One that was known before stays, with the reason and with what is in it.
            if known is None:
                await self._end(device)
            raise device.state.error
        if device.awaited is not None:
            refusal = _waits_elsewhere(device)
            if known is None:
                await self._end(device)
            raise refusal

    async def _read_unlocked(self, resource: ResourceId) -> Device:
        row = await self._context.dss.execute(ReadDevice(resource))
        host = self._context.owner.host
        if row is None or row.device.host != host or row.device.adm_status is not AdmStatus.UNLOCKED:
            raise LrsError(errno.ENXIO, f"{resource}: the DSS knows no unlocked device of this name on host {host}")
        return row.device

    async def _lock(self, resource: ResourceId) -> None:
        """Take a device out of service once its ongoing I/O and syncs have ended; unknown ones are out already."""
        device = self.devices.get(resource)
        if device is not None:
            await self._end(device)
            self._context.events.emit(EventKind.DEVICE_LOCKED, family=self._family.label, device=resource.name)

    async def _unlock(self, resource: ResourceId, nursery: trio.Nursery) -> None:
        device = self.devices.get(resource)
        if device is not None and device.state.serving:
            await self._supply.device_added(resource)
            self._changed()
        else:
            await self._add(resource, nursery)

    async def _end(self, device: DeviceTask) -> None:
        """Stop a device in order. What was only promised on it goes back to the queue."""
        device.stop()
        self._replan(device)
        self._changed()
        await device.ended.wait()
        if self.devices.get(device.id) is device:
            del self.devices[device.id]
            self._gone = [gone for gone in (*self._gone, device) if gone.state.grants]
            # Whoever remembers the device is not to keep its volume: a next one there measures anew.
            device.state.volume = Volume()
        self._supply.touch(device)
        self._changed()

    async def _update_medium(self, resource: ResourceId) -> None:
        await self.look_again(lambda awaited: awaited == resource)
        await self._supply.medium_updated(resource)
        row = await self._context.dss.execute(ReadMedium(resource))
        for device in self.devices.values():
            if device.medium_id == resource:
                device.medium_read(row)
                self._replan(device)
        # Its flags may be others now, for better or for worse.
        self._context.changed()
        if row is None:
            raise LrsError(errno.ENXIO, f"{resource}: the DSS does not know this medium")


def _waits_elsewhere(device: DeviceTask) -> LrsError:
    return LrsError(errno.EALREADY, f"{device.id}: {device.awaited} is locked by {device.waiting_for}")


def _reasons(device: DeviceTask) -> str:
    state = device.state
    reasons = [
        f"{grant.kind.name.lower()} by {grant.holder.client}"
        for grant in sorted(state.grants, key=lambda grant: grant.since)
        if grant.state in (GrantState.ONGOING, GrantState.RESERVED)
    ]
    if state.syncing is not None or state.to_sync.pending:
        reasons.append("a sync")
    if state.formatting is not None:
        reasons.append("a format")
    if state.unsettled:
        reasons.append("its books in the DSS")
    if state.status is DeviceStatus.WAITING:
        reasons.append(f"a lock held by {device.waiting_for}")
    return ", ".join(reasons) or "its unmount and its locks"
