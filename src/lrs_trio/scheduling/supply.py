"""What a family has to give, and how its requests are placed on it: the seam between the two kinds of families."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from lrs_trio.devices.device import DeviceContext, DeviceTask
from lrs_trio.devices.grant import GrantState
from lrs_trio.model import Device, RequestKind, ResourceId
from lrs_trio.scheduling.client import Client
from lrs_trio.scheduling.placement import Never, Outcome, Placed, Waits
from lrs_trio.scheduling.queue import Line, RequestQueue
from lrs_trio.scheduling.recheck import Recheck
from lrs_trio.scheduling.requests import Allocation, PlaceableRequest
from lrs_trio.settings import FamilySettings

FEW = 8
"""For so many media the devices are asked one by one: most are where they were found last."""


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
    _found: dict[ResourceId, DeviceTask] = field(default_factory=dict, init=False)

    def is_attached(self, medium: ResourceId) -> bool:
        return self.device_with(medium) is not None

    def unattached(self, media: Sequence[ResourceId]) -> list[ResourceId]:
        """Those of `media` that are in no device."""
        if len(media) <= FEW:
            return [medium for medium in media if not self.is_attached(medium)]
        attached = {device.medium.id for device in self.devices.values() if device.medium is not None}
        return [medium for medium in media if medium not in attached]

    def device_with(self, medium: ResourceId) -> DeviceTask | None:
        """The device that has `medium` in it."""
        device = self._found.get(medium)
        # Where it was found last it is nearly always.
        if device is None or device.medium_id != medium or self.devices.get(device.id) is not device:
            device = self._find(medium)
            if device is None:
                self._found.pop(medium, None)
            else:
                self._found[medium] = device
        return device

    def _find(self, medium: ResourceId) -> DeviceTask | None:
        for device in self.devices.values():
            # Asked for nearly every medium that is on a shelf: a property of each device takes twice as long.
            if device.medium is not None and device.medium.id == medium:
                return device
        return None

    def held_by(self, client: Client) -> frozenset[ResourceId]:
        """The devices on which `client` has a grant."""
        promised = [request.grants for request in client.waiting if isinstance(request, Allocation)]
        grants = (grant for some in (client.holdings.all(), *promised) for grant in some)
        return frozenset(grant.device.id for grant in grants if grant.state is not GrantState.ENDED)


class Pass(Protocol):
    """One look at those who wait. What a request takes or claims is not there for those behind it.

    A pass may take several steps of its task; what changes meanwhile is for the next one.
    """

    @property
    def world(self) -> object:
        """What decides whether a request can ever be served: while it is equal, none has to be asked again."""
        ...

    @property
    def looks_per_step(self) -> float:
        """How many of those who wait can be looked at in one step without holding anybody up."""
        ...

    def turns(self) -> Iterator[PlaceableRequest | None]:
        """Those that could take or claim anything, in order; each is to be decided before the next one is asked for.

        ``None`` stands for one that could not, so that whoever asks can make a pause now and then.
        """
        ...

    def decide(self, request: PlaceableRequest) -> Outcome:
        """What `request` gets now."""
        ...

    def apply(self, request: PlaceableRequest, outcome: Placed | Waits) -> None:
        """Take what `request` has got, or what it claims, out of what there is for later ones."""
        ...

    def judge(self, request: PlaceableRequest) -> Never | None:
        """Why `request` can never be served, if so."""
        ...

    def is_fine(self, line: Line) -> bool:
        """Whether it is plain that nobody in `line` has to be refused."""
        ...


class Supply(Protocol):
    """The devices and media of one family, as placement sees them."""

    def make_device(self, row: Device) -> DeviceTask:
        """The task of a device, not yet running."""
        ...

    async def start(self) -> None:
        """Learn what has to be known before the first device is started."""
        ...

    async def look_up(self, request: PlaceableRequest, media: Sequence[ResourceId]) -> None:
        """Find out what there is to know of `media`, which are in no device here, before `request` is queued."""
        ...

    async def refresh(self, queue: RequestQueue) -> None:
        """Look up what may be old before a pass."""
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

    def touch(self, device: DeviceTask) -> None:
        """Something about `device` may have changed."""
        ...

    def look_anew(self) -> None:
        """What has changed may matter to all who wait, also where nothing has come free."""
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
