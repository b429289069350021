"""Families whose media never leave their devices: directories."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from math import inf

import trio

from lrs_trio.devices.device import DeviceTask
from lrs_trio.devices.fixed import FixedDevice
from lrs_trio.dss.operations import MediumRow, ReadMedium
from lrs_trio.errors import LrsError
from lrs_trio.model import Device, RequestKind, ResourceId
from lrs_trio.scheduling.offers import offers_of
from lrs_trio.scheduling.placement import ALL_KINDS, Offer, Outcome, place_format, place_read, place_write, read_error
from lrs_trio.scheduling.queue import RequestQueue
from lrs_trio.scheduling.requests import Allocation, FormatRequest, PlaceableRequest
from lrs_trio.scheduling.supply import Pass, Surroundings
from lrs_trio.storage.protocols import Unit
from lrs_trio.wire.messages import ReadAllocation, WriteAllocation


@dataclass(slots=True)
class AttachedPass:
    """The offers of one pass."""

    offers: list[Offer]
    around: Surroundings

    @property
    def world(self) -> object:
        return tuple((o.device, o.serving, o.medium.adm_status, o.medium.fs_status, o.medium.put) for o in self.offers)

    @property
    def gives(self) -> bool:
        return any(offer.slots for offer in self.offers)

    def decide(self, request: PlaceableRequest) -> Outcome:
        body = request.body
        if isinstance(body, WriteAllocation):
            excluded = self.around.held_by(request.client) if body.prevent_duplicate else frozenset[ResourceId]()
            settings = self.around.settings()
            first_fit = settings.policy == "first_fit"
            return place_write(body, self.offers, groupings=settings.groupings, excluded=excluded, first_fit=first_fit)
        if isinstance(body, ReadAllocation):
            return place_read(body, self.offers, request.absent)
        return place_format(body, self.offers, request.absent.get(body.medium))


class AttachedSupply:
    """Every device has its medium, and what is in no device here cannot be had."""

    def __init__(self, around: Surroundings, make_unit: Callable[[Device], Unit]) -> None:
        self._around = around
        self._context = around.context
        self._make_unit = make_unit

    def make_device(self, row: Device) -> DeviceTask:
        return FixedDevice(row, self._make_unit(row), self._context)

    async def start(self) -> None:
        await trio.lowlevel.checkpoint()

    async def look_up(self, request: PlaceableRequest, media: Iterable[ResourceId]) -> None:
        """Find out why media that are in no device here cannot be had, so that the refusal is exact."""
        for medium in media:
            if self._around.is_attached(medium):
                continue
            try:
                row = await self._context.dss.execute(ReadMedium(medium))
                request.absent[medium] = self._why_absent(request, medium, row)
            except LrsError as error:
                request.absent[medium] = error

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

    async def refresh(self, queue: RequestQueue) -> bool:
        await trio.lowlevel.checkpoint()
        return False

    @property
    def looks(self) -> int | None:
        return None

    def expire(self) -> None:
        """What is attached is looked up by the family itself."""

    def heeds_locates(self, queue: RequestQueue) -> bool:
        return queue.count(RequestKind.WRITE) > 0

    def settings_changed(self) -> None:
        """They are read when they are needed."""

    def next_change(self) -> float:
        return inf

    def begin(self, queue: RequestQueue) -> AttachedPass:
        devices, volumes = self._around.devices.values(), self._context.volumes.values()
        offers = offers_of(devices, volumes, self._around.recheck.located, trio.current_time())
        return AttachedPass(offers, self._around)

    def end(self, made: Pass) -> None:
        return None

    async def device_added(self, device: ResourceId) -> None:
        await trio.lowlevel.checkpoint()

    async def medium_updated(self, medium: ResourceId) -> None:
        await trio.lowlevel.checkpoint()

    def report(self) -> Mapping[str, object]:
        # Directories of one filesystem share a volume, which counts once.
        volumes = {
            id(device.state.volume): device.state.volume for device in self._around.devices.values() if device.medium
        }
        return {"volumes": len(volumes), "free": sum(volume.free for volume in volumes.values())}

    def dedicated(self, device: ResourceId) -> frozenset[RequestKind]:
        return ALL_KINDS
