"""Traces that a test makes, line by line."""

from __future__ import annotations

from pathlib import Path

from lrs_trio.events import Event, EventKind
from lrs_trio.model import AddressType, AdmStatus, Device, Family, FsStatus, FsType, Medium, MediumStats, ResourceId
from lrs_trio.observe.inventory import Inventory
from lrs_trio.observe.tracefile import Header, TraceWriter
from lrs_trio.settings import FamiliesSettings, Settings, TapeSettings
from lrs_trio.wire.messages import GrantedMedium, ReadGranted, Request, Response, WriteGranted
from lrs_trio.wire.plain import plain_message

RECORDED_HOST = "silo1"
LIBRARY = "legacy"
BEGIN = 1000.0
GIB = 2**30


def directory(path: str) -> ResourceId:
    return ResourceId(Family.DIR, path, LIBRARY)


def device_of(path: str, host: str = RECORDED_HOST) -> Device:
    return Device(ResourceId(Family.DIR, f"{host}:{path}", LIBRARY), host, path, AdmStatus.UNLOCKED)


def medium_of(path: str, *, used: int = 0, free: int = 64 * GIB) -> Medium:
    stats = MediumStats(phys_spc_used=used, phys_spc_free=free)
    return Medium(directory(path), FsType.POSIX, AdmStatus.UNLOCKED, FsStatus.EMPTY, path, stats=stats)


def inventory_of(*paths: str, settings: Settings | None = None) -> Inventory:
    families = FamiliesSettings(tape=TapeSettings(enabled=False))
    return Inventory(
        settings or Settings(host=RECORDED_HOST, families=families),
        tuple(map(device_of, paths)),
        tuple(map(medium_of, paths)),
    )


def write_granted(*paths: str) -> WriteGranted:
    return WriteGranted(tuple(map(_granted, map(directory, paths))))


def read_granted(*paths: str) -> ReadGranted:
    return ReadGranted(tuple(map(_granted, map(directory, paths))))


def tape_granted(kind: type[WriteGranted | ReadGranted], tape: ResourceId) -> WriteGranted | ReadGranted:
    return kind((_granted(tape),))


def _granted(medium: ResourceId) -> GrantedMedium:
    if medium.family is Family.DIR:
        return GrantedMedium(medium, medium.name, FsType.POSIX, AddressType.HASH1)
    return GrantedMedium(medium, "/mnt/lrs-sg0", FsType.LTFS, AddressType.HASH1)


class TraceMaker:
    """Times are seconds since the beginning of the trace."""

    def __init__(self, inventory: Inventory | None = None) -> None:
        self._writer = TraceWriter(Header(RECORDED_HOST, 77, BEGIN, 1_700_000_000.0, "1.2.3"))
        if inventory is not None:
            self._writer.add_inventory(BEGIN, inventory)

    def added(self, time: float, resource: Device | Medium) -> None:
        self._writer.add_resource(BEGIN + time, resource)

    def opened(self, time: float, connection: int) -> None:
        self._writer.add_event(Event(BEGIN + time, EventKind.CONNECTION_OPENED, serial=connection))

    def closed(self, time: float, connection: int) -> None:
        self._writer.add_event(Event(BEGIN + time, EventKind.CONNECTION_CLOSED, serial=connection))

    def passed(self, time: float, connection: int, *messages: Request | Response | bytes) -> None:
        for message in messages:
            self._writer.add_message(BEGIN + time, connection, plain_message(message))

    def write_to(self, path: Path) -> Path:
        path.write_bytes(self._writer.finish())
        return path
