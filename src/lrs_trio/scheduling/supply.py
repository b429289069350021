"""What a family has to give, and how its requests are placed on it: the seam between the two kinds of families."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from lrs_trio.devices.device import DeviceContext, DeviceTask
from lrs_trio.model import Device, RequestKind, ResourceId
from lrs_trio.scheduling.client import Client
from lrs_trio.scheduling.placement import Outcome
from lrs_trio.scheduling.queue import RequestQueue
from lrs_trio.scheduling.recheck import Recheck
from lrs_trio.scheduling.requests import PlaceableRequest
from lrs_trio.settings import FamilySettings


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a family lends to its supply: its devices, what is known of them, and its settings as they are now.

    `replan` has what was promised on a device, and not yet answered, decided anew.
    """

    context: DeviceContext
    devices: Mapping[ResourceId, DeviceTask]
    recheck: Recheck
    settings: Callable[[], FamilySettings]
    replan: Callable[[DeviceTask], None]

    def is_attached(self, medium: ResourceId) -> bool:
        return any(device.medium_id == medium for device in self.devices.values())

    def held_by(self, client: Client) -> frozenset[ResourceId]:
        """The devices on which `client` has a grant."""
        return frozenset(
            device.id
            for device in self.devices.values()
            if any(grant.holder.client is client for grant in device.state.grants)
        )


class Pass(Protocol):
    """One look at the queue. What a request takes or claims is not there for the next one."""

    @property
    def world(self) -> object:
        """What decides whether a request can ever be served: while it is equal, none has to be asked again."""
        ...

    @property
    def gives(self) -> bool:
        """Whether anything is left to be given."""
        ...

    def decide(self, request: PlaceableRequest) -> Outcome: ...


class Supply(Protocol):
    """The devices and media of one family, as placement sees them."""

    def make_device(self, row: Device) -> DeviceTask:
        """The task of a device, not yet running."""
        ...

    async def start(self) -> None:
        """Learn what has to be known before the first device is started."""
        ...

    async def look_up(self, request: PlaceableRequest, media: Iterable[ResourceId]) -> None:
        """Find out what there is to know of `media`, which are in no device here, before `request` is queued."""
        ...

    async def refresh(self, queue: RequestQueue) -> bool:
        """Look up what may be old before a pass; ``True`` if anything is new."""
        ...

    @property
    def looks(self) -> int | None:
        """How often `refresh` has begun to look; ``None`` if there is nothing for it to look at."""
        ...

    def expire(self) -> None:
        """Let the next `refresh` look, however recent the last look is."""
        ...

    def heeds_locates(self, queue: RequestQueue) -> bool:
        """Whether anything that waits could disturb those who have been told where a medium is."""
        ...

    def settings_changed(self) -> None:
        """The settings are others now."""
        ...

    def next_change(self) -> float:
        """When the passing of time alone will change what can be placed, in trio's time."""
        ...

    def begin(self, queue: RequestQueue) -> Pass:
        """Begin a pass."""
        ...

    def end(self, made: Pass) -> None:
        """The pass is over: keep what it has decided beside the placements."""
        ...

    async def device_added(self, device: ResourceId) -> None:
        """An administrator puts a device into service, or says again that it is: nothing is held against it."""
        ...

    async def medium_updated(self, medium: ResourceId) -> None:
        """An administrator has changed a medium: look at it with fresh eyes."""
        ...

    def report(self) -> Mapping[str, object]:
        """What `lrs status` shows of the family beside its devices."""
        ...

    def dedicated(self, device: ResourceId) -> frozenset[RequestKind]:
        """Which kinds of requests a device serves now."""
        ...
