"""The scheduler of one family: it takes requests in and hands promises to its devices (notes 10.1 to 10.4).

The task is thin: requests arrive on a bounded channel, a change anywhere sets an event, and each time
one pass of `placement` over the queue decides. No state changes across an await.
"""

from __future__ import annotations

import errno
from collections.abc import Callable

import structlog
import trio

from lrs_trio.devices.device import DeviceContext, DeviceTask
from lrs_trio.devices.grant import GrantState
from lrs_trio.devices.state import DeviceStatus, Volume
from lrs_trio.dss.operations import Dss, MediumRow, ReadDevice, ReadDevices, ReadMedium
from lrs_trio.errors import LrsError, describe
from lrs_trio.events import EventKind, Events
from lrs_trio.model import AdmStatus, Device, Family, LockOwner, NotifyOperation, RequestKind, ResourceId
from lrs_trio.scheduling.client import Client
from lrs_trio.scheduling.placement import (
    Never,
    Offer,
    Outcome,
    Placed,
    VolumeOffer,
    Waits,
    place_format,
    place_read,
    place_write,
    read_error,
)
from lrs_trio.scheduling.queue import RequestQueue
from lrs_trio.scheduling.requests import (
    Allocation,
    Choice,
    FamilyRequest,
    FormatRequest,
    NotifyRequest,
    PlaceableRequest,
    RequestState,
    shutting_down,
)
from lrs_trio.settings import FamilySettings
from lrs_trio.storage.protocols import Unit
from lrs_trio.wire.messages import ReadAllocation, WriteAllocation

log = structlog.get_logger()

INBOX_CAPACITY = 256
"""Requests handed over and not yet taken in. The family takes them in without waiting for anything, so
this only absorbs bursts; when it is full, the task that hands over waits, and no reader does."""


PATIENCE_SECONDS = 10.0
"""How long the start of the daemon waits for its devices: a filesystem that hangs must not keep the others."""

ENDINGS = {
    RequestState.ANSWERED: EventKind.ALLOCATION_GRANTED,
    RequestState.REFUSED: EventKind.ALLOCATION_REFUSED,
    RequestState.WITHDRAWN: EventKind.ALLOCATION_WITHDRAWN,
}


class FamilyScheduler:
    """One family: its devices, its queue, and who waits for what."""

    def __init__(
        self,
        family: Family,
        settings: FamilySettings,
        *,
        dss: Dss,
        owner: LockOwner,
        make_unit: Callable[[Device], Unit],
        events: Events,
    ) -> None:
        self.family = family
        self.settings = settings
        self.devices: dict[ResourceId, DeviceTask] = {}
        self.queue = RequestQueue()
        self.live: set[FamilyRequest] = set()
        self.draining = False
        self.volumes: dict[str, Volume] = {}
        self._dss = dss
        self._make_unit = make_unit
        self._owner = owner
        self._events = events
        self._changed = trio.Event()
        self._world: tuple[object, ...] = ()
        self._undecided: dict[PlaceableRequest, None] = {}
        self._context = DeviceContext(settings, dss, owner, self.volumes, events, self.look)
        self._hand_over, self._inbox = trio.open_memory_channel[FamilyRequest](INBOX_CAPACITY)

    # What the server asks for.

    def submit(self, request: FamilyRequest) -> bool:
        """Hand a request over; ``False`` if the channel is full and `wait_submit` has to be awaited."""
        if self.draining:
            request.refuse(shutting_down())
            return True
        try:
            self._hand_over.send_nowait(request)
        except trio.WouldBlock:
            return False
        return True

    async def wait_submit(self, request: FamilyRequest) -> None:
        """Hand a request over once there is room."""
        try:
            await self._hand_over.send(request)
        except (trio.ClosedResourceError, trio.BrokenResourceError):
            request.refuse(shutting_down())

    def is_attached(self, medium: ResourceId) -> bool:
        return any(device.medium_id == medium for device in self.devices.values())

    def look(self) -> None:
        """Something has changed that may let a request go on: look at the queue again soon."""
        self._changed.set()

    # Life.

    async def run(
        self, devices: trio.Nursery, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Start the family's devices in `devices`, then serve until `close`.

        Started once every device is adopted, refused or waiting for a lock; one that hangs is not waited
        for and joins when it is ready.
        """
        rows = await self._dss.execute(ReadDevices(self.family, self._owner.host))
        for row in rows:
            if row.device.adm_status is AdmStatus.UNLOCKED:
                device = self._make_device(row.device)
                devices.start_soon(device.run, name=f"device {row.device.path}")
        await self._wait_settled()
        task_status.started()
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._schedule_on_change, name=f"placement of {self.family.label}")
                with self._inbox:
                    async for request in self._inbox:
                        self._take_in(request, nursery, devices)
                nursery.cancel_scope.cancel(reason="the family's channel is closed")
        finally:
            # Only a forced end leaves any.
            for request in tuple(self.live):
                request.abandon()

    def drain(self) -> None:
        """Refuse whatever has no answer on its way, and let the devices end in order (note 11)."""
        self.draining = True
        for request in tuple(self.live):
            request.refuse(shutting_down())
        for device in self.devices.values():
            device.stop()

    def close(self) -> None:
        """Take nothing more in; `run` ends when what was handed over is refused."""
        self._hand_over.close()

    # Taking in.

    def _take_in(self, request: FamilyRequest, nursery: trio.Nursery, devices: trio.Nursery) -> None:
        if request.ended:
            return
        if self.draining:
            request.refuse(shutting_down())
            return
        self.live.add(request)
        request.on_end = lambda: self._forget(request)
        request.on_requeue = lambda: self._requeue(request)
        if isinstance(request, NotifyRequest):
            nursery.start_soon(self._notify, request, devices, name=f"notify of {request.body.resource}")
        elif isinstance(request, PlaceableRequest):
            unknown = [medium for medium in request.media if not self.is_attached(medium)]
            if unknown:
                nursery.start_soon(self._look_up, request, unknown, name="look-up of media")
            else:
                self._admit(request)

    async def _look_up(self, request: PlaceableRequest, media: list[ResourceId]) -> None:
        """Find out why media that are in no device here cannot be had, so that the refusal is exact."""
        for medium in media:
            try:
                row = await self._dss.execute(ReadMedium(medium))
                request.absent[medium] = self._why_absent(request, medium, row)
            except LrsError as error:
                request.absent[medium] = error
        self._admit(request)

    def _why_absent(self, request: PlaceableRequest, medium: ResourceId, row: MediumRow | None) -> LrsError:
        if row is None:
            return LrsError(errno.ENXIO, f"{medium}: the DSS does not know this medium")
        if isinstance(request, Allocation) and isinstance(request.body, ReadAllocation):
            error = read_error(request.body.operation, row.medium)
            if error is not None:
                return error
        if row.lock is not None and row.lock.owner.host != self._owner.host:
            return LrsError(errno.EALREADY, f"{medium}: is in use on host {row.lock.owner.host}")
        return LrsError(errno.ENODEV, f"{medium}: is in no usable device of this host")

    def _admit(self, request: PlaceableRequest) -> None:
        """Queue a request; the next pass places it, lets it wait, or refuses what can never be served."""
        if request.ended:
            return
        self.queue.add(request)
        self._undecided[request] = None
        self.look()

    def _requeue(self, request: FamilyRequest) -> None:
        if self.draining:
            request.refuse(shutting_down())
        elif isinstance(request, PlaceableRequest):
            self._admit(request)

    def _forget(self, request: FamilyRequest) -> None:
        kind = ENDINGS.get(request.state)
        if kind is not None and isinstance(request, Allocation):
            self._events.emit(kind, family=self.family.label, request=request.kind.name, client=str(request.client))
        self.live.discard(request)
        if isinstance(request, PlaceableRequest):
            self.queue.discard(request)
            self._undecided.pop(request, None)
        self.look()

    # Placing.

    async def _schedule_on_change(self) -> None:
        while True:
            await self._changed.wait()
            self._changed = trio.Event()
            self._schedule()

    def _schedule(self) -> None:
        """One pass: every waiting request takes, claims, or is refused, in order (decision 3)."""
        offers = self._offers()
        world = tuple((o.device, o.serving, o.medium.adm_status, o.medium.fs_status, o.medium.put) for o in offers)
        everything, self._world = world != self._world, world
        for request in self.queue.in_order():
            if not everything and not any(offer.slots for offer in offers):
                break
            self._settle(request, offers)
        # Nothing is free for those that are left, but the new ones may ask for what can never be.
        for request in tuple(self._undecided):
            self._settle(request, offers)

    def _settle(self, request: PlaceableRequest, offers: list[Offer]) -> None:
        """Let one request take, claim or be refused."""
        self._undecided.pop(request, None)
        outcome = self._decide(request, offers)
        match outcome:
            case Never(error):
                self._refuse(request, error)
            case Placed():
                outcome.take(request.kind)
                self.queue.discard(request)
                self._place(request, outcome)
            case Waits():
                outcome.keep()

    def _decide(self, request: PlaceableRequest, offers: list[Offer]) -> Outcome:
        body = request.body
        if isinstance(body, WriteAllocation):
            excluded = self._held_by(request.client) if body.prevent_duplicate else frozenset[ResourceId]()
            return place_write(body, offers, groupings=self.settings.groupings, excluded=excluded)
        if isinstance(body, ReadAllocation):
            return place_read(body, offers, request.absent)
        return place_format(body, offers, request.absent.get(body.medium))

    def _place(self, request: PlaceableRequest, placed: Placed) -> None:
        choices = [Choice(self.devices[take.offer.device], take.offer.medium, take.reserve) for take in placed.takes]
        if isinstance(request, Allocation):
            request.place(choices)
        else:
            request.place(choices[0].device)

    def _refuse(self, request: FamilyRequest, error: LrsError) -> None:
        log.info(
            "request refused", client=str(request.client), request=request.kind.name.lower(), error=describe(error)
        )
        request.refuse(error)

    def _offers(self) -> list[Offer]:
        now = trio.current_time()
        volumes = {id(v): VolumeOffer(v.measured, v.available) for v in self.volumes.values()}
        return [self._offer(device, volumes, now) for device in self.devices.values() if device.medium is not None]

    def _offer(self, device: DeviceTask, volumes: dict[int, VolumeOffer], now: float) -> Offer:
        state, medium = device.state, device.medium
        if medium is None:
            raise RuntimeError(f"{device.id}: offered without a medium")
        kinds = frozenset(kind for kind in (RequestKind.READ, RequestKind.WRITE) if state.accepts(kind))
        return Offer(
            device=device.id,
            medium=medium,
            volume=volumes.setdefault(id(state.volume), VolumeOffer(state.volume.measured, state.volume.available)),
            serving=state.serving,
            idle=state.idle,
            slots=state.free_slots(now),
            load=len(state.grants),
            mixes=state.mix_reads_and_writes,
            kinds=kinds,
            formatting=state.formatting is not None,
        )

    def _held_by(self, client: Client) -> frozenset[ResourceId]:
        return frozenset(
            device.id
            for device in self.devices.values()
            if any(grant.holder.client is client for grant in device.state.grants)
        )

    # Devices and media that change while the daemon runs.

    async def _wait_settled(self) -> None:
        with trio.move_on_after(PATIENCE_SECONDS):
            for device in tuple(self.devices.values()):
                await device.settled.wait()
        for device in self.devices.values():
            if not device.settled.is_set():
                log.warning("device does not answer; starting without it", device=device.row.path)

    def _make_device(self, row: Device) -> DeviceTask:
        device = DeviceTask(row, self._make_unit(row), self._context)
        self.devices[row.id] = device
        return device

    async def _start_device(self, row: Device, devices: trio.Nursery) -> DeviceTask:
        if self.draining:
            raise shutting_down()
        # Known before it is adopted: a drain that begins meanwhile stops it too.
        device = self._make_device(row)
        await devices.start(device.run, name=f"device {row.path}")
        return device

    async def _notify(self, request: NotifyRequest, devices: trio.Nursery) -> None:
        resource = request.body.resource
        try:
            match request.body.operation:
                case NotifyOperation.DEVICE_ADD:
                    await self._add_device(resource, devices)
                case NotifyOperation.DEVICE_LOCK:
                    await self._lock_device(resource)
                case NotifyOperation.DEVICE_UNLOCK:
                    await self._unlock_device(resource, devices)
                case NotifyOperation.MEDIA_UPDATE:
                    await self._update_medium(resource)
        except OSError as error:
            self._refuse(request, LrsError(error.errno or errno.EIO, describe(error)))
        else:
            request.done()

    async def _add_device(self, resource: ResourceId, devices: trio.Nursery) -> None:
        """Take a device into service.

        Raises:
            LrsError: ENXIO if the DSS has no such unlocked device of this host; else why it is refused.
        """
        row = await self._dss.execute(ReadDevice(resource))
        if row is None or row.device.host != self._owner.host or row.device.adm_status is not AdmStatus.UNLOCKED:
            text = f"{resource}: the DSS knows no unlocked device of this name on host {self._owner.host}"
            raise LrsError(errno.ENXIO, text)
        known = self.devices.get(resource)
        if known is not None and known.state.serving:
            return
        if known is not None:
            await self._end_device(known)
        device = await self._start_device(row.device, devices)
        if device.state.error is not None:
            await self._end_device(device)
            raise device.state.error

    async def _lock_device(self, resource: ResourceId) -> None:
        """Take a device out of service once its ongoing I/O and syncs have ended; unknown ones are out already."""
        device = self.devices.get(resource)
        if device is not None:
            await self._end_device(device)
            self._events.emit(EventKind.DEVICE_LOCKED, family=self.family.label, device=resource.name)

    async def _unlock_device(self, resource: ResourceId, devices: trio.Nursery) -> None:
        device = self.devices.get(resource)
        if device is None or not device.state.serving:
            await self._add_device(resource, devices)

    async def _end_device(self, device: DeviceTask) -> None:
        """Stop a device in order. What was only promised on it goes back to the queue."""
        device.stop()
        self._replan(device)
        self.look()
        await device.ended.wait()
        if self.devices.get(device.id) is device:
            del self.devices[device.id]
        self.look()

    async def _update_medium(self, resource: ResourceId) -> None:
        row = await self._dss.execute(ReadMedium(resource))
        if row is None:
            raise LrsError(errno.ENXIO, f"{resource}: the DSS does not know this medium")
        for device in self.devices.values():
            if device.medium_id == resource:
                device.medium_changed(row.medium)
                self._replan(device)
        # Its flags may be others now: whoever waits for it is looked at anew.
        self._world = ()
        self.look()

    def _replan(self, device: DeviceTask) -> None:
        """Let the requests that were promised this device, and not yet answered, be decided anew."""
        promised = {
            request
            for request in self.live
            if isinstance(request, Allocation) and any(grant.device is device for grant in request.grants)
        }
        for allocation in sorted(promised, key=lambda request: request.serial):
            allocation.replan()
        for request in tuple(self.live):
            if isinstance(request, FormatRequest) and request.device is device:
                request.replan()

    # What the drain waits for.

    def unfinished(self) -> list[str]:
        """Each device that has not ended, with what keeps it, for people to read."""
        return [
            f"{device.row.path}: {_reasons(device)}" for device in self.devices.values() if not device.ended.is_set()
        ]


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
    if state.status is DeviceStatus.WAITING:
        reasons.append(f"a lock held by {device.waiting_for}")
    return ", ".join(reasons) or "its unmount and its locks"
