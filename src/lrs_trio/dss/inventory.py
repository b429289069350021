"""What a daemon has, as the DSS knows it, for its trace: at the start, and what is added while it serves."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

import structlog
import trio

from lrs_trio.dss.operations import Dss, ReadDevice, ReadDevices, ReadMedia, ReadMedium
from lrs_trio.errors import LrsError, describe
from lrs_trio.model import Device, Family, Medium, ResourceId
from lrs_trio.observe.inventory import Inventory
from lrs_trio.settings import Settings
from lrs_trio.wire.messages import Format, Notify, ReadGranted, Request, Response, WriteGranted

log = structlog.get_logger()

MOST_UNKNOWN: Final = 1024
"""Names that wait to be looked up: clients may name whatever they like."""


async def read_inventory(settings: Settings, dss: Dss) -> Inventory:
    """The families that `settings` serve, with their devices on this host and the media that may be in these."""
    devices: list[Device] = []
    media: list[Medium] = []
    for family in settings.families.served:
        here = [row.device for row in await dss.execute(ReadDevices(family, settings.host))]
        there = [row.medium for row in await dss.execute(ReadMedia(family))]
        devices += here
        media += _own_directories(here, there) if family is Family.DIR else there
    return Inventory(settings, tuple(devices), tuple(media))


def _own_directories(devices: list[Device], media: list[Medium]) -> list[Medium]:
    """Directories stay where they are: those of other hosts are no matter here."""
    paths = {device.path for device in devices}
    return [medium for medium in media if medium.id.name in paths]


class Additions:
    """Looks up what is not in `inventory` when a message names it, and calls `found` with it, once."""

    def __init__(self, inventory: Inventory, dss: Dss, found: Callable[[Device | Medium], None]) -> None:
        self._host = inventory.settings.host
        self._known = {resource.id for resource in inventory.resources}
        self._dss = dss
        self._found = found
        self._unknown: dict[ResourceId, None] = {}
        self._news = trio.Event()

    def hear(self, message: object) -> None:
        """A request has come, or a response leaves."""
        for resource in _named(message):
            if resource not in self._known and len(self._unknown) < MOST_UNKNOWN:
                self._unknown[resource] = None
                self._news.set()

    async def run(self) -> None:
        """Look up what was heard of; to be cancelled in the end."""
        while True:
            await self._news.wait()
            self._news = trio.Event()
            unknown, self._unknown = self._unknown, {}
            for resource in unknown:
                try:
                    await self._look_up(resource)
                except LrsError as error:
                    log.warning("left out of the trace's inventory", resource=str(resource), error=describe(error))

    async def _look_up(self, resource: ResourceId) -> None:
        device = await self._dss.execute(ReadDevice(resource))
        if device is not None and device.device.host == self._host:
            self._add(device.device)
            resource = ResourceId(resource.family, device.device.path, resource.library)
        medium = await self._dss.execute(ReadMedium(resource))
        if medium is not None:
            self._add(medium.medium)

    def _add(self, resource: Device | Medium) -> None:
        if resource.id not in self._known:
            self._known.add(resource.id)
            self._found(resource)


def _named(message: object) -> Iterator[ResourceId]:
    """What `message` makes use of for the first time, if it is not known."""
    match message:
        case Request(body=Format(medium=resource) | Notify(resource=resource)):
            yield resource
        case Response(body=WriteGranted(media=media) | ReadGranted(media=media)):
            for granted in media:
                yield granted.medium
