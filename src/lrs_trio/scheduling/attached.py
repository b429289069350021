"""Families whose media never leave their devices: directories."""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from math import inf

import trio

from lrs_trio.devices.device import DeviceTask
from lrs_trio.devices.fixed import FixedDevice
from lrs_trio.dss.operations import MediumRow
from lrs_trio.errors import LrsError
from lrs_trio.model import Device, RequestKind, ResourceId
from lrs_trio.scheduling.attached_pass import AttachedPass
from lrs_trio.scheduling.media_look_up import in_parts, read_media
from lrs_trio.scheduling.offers import KeptOffers
from lrs_trio.scheduling.placement import ALL_KINDS, read_error
from lrs_trio.scheduling.queue import RequestQueue
from lrs_trio.scheduling.requests import Allocation, FormatRequest, PlaceableRequest
from lrs_trio.scheduling.supply import Pass, Surroundings
from lrs_trio.storage.protocols import Unit
from lrs_trio.wire.messages import ReadAllocation


class AttachedSupply:
    """Every device has its medium, and what is in no device here cannot be had."""

    def __init__(self, around: Surroundings, make_unit: Callable[[Device], Unit]) -> None:
        self.around = around
        """What the family lends to it."""
        self._context = around.context
        self._make_unit = make_unit
        self._offers = KeptOffers(around.devices)
        self._located: dict[ResourceId, float] = {}
        """Those that the last pass kept for readers."""

    def make_device(self, row: Device) -> DeviceTask:
        self._offers.enrol(row.id)
        context = replace(self._context, changed=partial(self._device_changed, row.id))
        return FixedDevice(row, self._make_unit(row), context)

    async def start(self) -> None:
        await trio.lowlevel.checkpoint()

    async def look_up(self, request: PlaceableRequest, media: Sequence[ResourceId]) -> None:
        """Find out why media that are in no device here cannot be had, so that the refusal is exact."""
        for part in map(self.around.unattached, in_parts(media)):
            for medium, row in zip(part, await read_media(self._context.dss, part), strict=True):
                request.absent[medium] = row if isinstance(row, LrsError) else self._why_absent(request, medium, row)

    def _why_absent(self, request: PlaceableRequest, medium: ResourceId, row: MediumRow | None) -> LrsError:
        if row is None:
            return LrsError(errno.ENXIO, f"{medium}: the DSS does not know this medium")
        if isinstance(request, Allocation) and isinstance(request.body, ReadAllocation):
            error = read_error(request.body.operation, row.medium)
            if error is not None:
                return error
        if row.lock is not None and row.lock.owner.host != self._context.owner.host:
            number = errno.EBUSY if isinstance(request, FormatRequest) else errno.EALREADY
            return LrsError(number, f"{medium}: is in use on host {row.lock.owner.host}")
        return LrsError(errno.ENODEV, f"{medium}: is in no usable device of this host")

    async def refresh(self, queue: RequestQueue) -> None:
        await trio.lowlevel.checkpoint()

    @property
    def looks(self) -> int | None:
        return None

    def expire(self) -> None:
        """What is attached is looked up by the family itself."""

    def heeds_locates(self, queue: RequestQueue) -> bool:
        return queue.count(RequestKind.WRITE) > 0

    def settings_changed(self) -> None:
        """They are read when they are needed."""

    def touch(self, device: DeviceTask) -> None:
        self._offers.touch(device.id)

    def look_anew(self) -> None:
        self._offers.version += 1

    def next_change(self) -> float:
        return inf

    def begin(self, queue: RequestQueue) -> AttachedPass:
        located = self.around.recheck.located
        for medium in self._located | located:
            self._offers.touch_medium(medium)
        self._located = located
        self._offers.renew(located, trio.current_time())
        return AttachedPass(self._offers, queue, self.around, trio.current_time)

    def end(self, made: Pass) -> None:
        return None

    async def device_added(self, device: ResourceId) -> None:
        await trio.lowlevel.checkpoint()

    async def medium_updated(self, medium: ResourceId) -> None:
        await trio.lowlevel.checkpoint()

    def report(self) -> Mapping[str, object]:
        # Directories of one filesystem share a volume, which counts once.
        volumes = {
            id(device.state.volume): device.state.volume for device in self.around.devices.values() if device.medium
        }
        return {"volumes": len(volumes), "free": sum(volume.free for volume in volumes.values())}

    def dedicated(self, device: ResourceId) -> frozenset[RequestKind]:
        return ALL_KINDS

    def _device_changed(self, device: ResourceId) -> None:
        self._offers.touch(device)
        self._context.changed()
