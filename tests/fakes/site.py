"""A storage host of directories for tests: its DSS, its disks, and the parts of a daemon above them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

import trio
import trio.testing

from lrs_trio.devices.device import DeviceContext, DeviceTask
from lrs_trio.devices.fixed import FixedDevice
from lrs_trio.devices.grant import Grant
from lrs_trio.devices.to_sync import SubRequest
from lrs_trio.devices.volume import Volume
from lrs_trio.events import Event, Events
from lrs_trio.model import (
    AdmStatus,
    Device,
    Family,
    FsStatus,
    FsType,
    LockOwner,
    Medium,
    MediumStats,
    RequestKind,
    ResourceId,
)
from lrs_trio.scheduling.attached import AttachedSupply
from lrs_trio.scheduling.supply import Supply, Surroundings
from lrs_trio.settings import DirectorySettings, FamilySettings, SyncSettings
from tests.fakes.dss import FakeDss
from tests.fakes.storage import Capacity, FakeDisk

T = TypeVar("T")

HOST = "store1"
LIBRARY = "legacy"
DAEMON = LockOwner(HOST, 4711)
TIB = 2**40


def medium_id(path: str) -> ResourceId:
    return ResourceId(Family.DIR, path, LIBRARY)


def device_id(path: str) -> ResourceId:
    return ResourceId(Family.DIR, f"{HOST}:{path}", LIBRARY)


def family_settings(
    *, age_ms: int = 10, requests: int = 5, size: int = 2**30, adaptive: bool = False, **more: Any
) -> DirectorySettings:
    mode: Literal["adaptive", "thresholds"] = "adaptive" if adaptive else "thresholds"
    return DirectorySettings(sync=SyncSettings(mode=mode, time_ms=age_ms, requests=requests, bytes=size), **more)


def run_virtual(main: Callable[..., Awaitable[T]], *args: object) -> T:
    """Run `main` under a clock that jumps to the next deadline when nothing else is to do."""
    return trio.run(main, *args, clock=trio.testing.MockClock(autojump_threshold=0))


class Site:
    """The directories of one host."""

    def __init__(self) -> None:
        self.dss = FakeDss()
        self.disks: dict[ResourceId, FakeDisk] = {}
        self.volumes: MutableMapping[str, Volume] = {}
        self.seen: list[Event] = []
        self.events = Events(trio.current_time)
        self.events.subscribe(self.seen.append)

    def add(
        self,
        path: str,
        *,
        total: int = TIB,
        shares: FakeDisk | None = None,
        fs_status: FsStatus = FsStatus.EMPTY,
        device_status: AdmStatus = AdmStatus.UNLOCKED,
        medium_status: AdmStatus = AdmStatus.UNLOCKED,
        stats: MediumStats | None = None,
        **medium: Any,
    ) -> FakeDisk:
        """Make a directory known to the DSS, labelled unless it is blank; `shares` names one on the same volume."""
        blank = fs_status is FsStatus.BLANK
        disk = FakeDisk(
            path,
            shares.capacity if shares else Capacity(total),
            shares.volume if shares else f"volume of {path}",
            None if blank else path,
        )
        self.disks[device_id(path)] = disk
        self.dss.devices[device_id(path)] = Device(device_id(path), HOST, path, device_status)
        self.dss.media[medium_id(path)] = Medium(
            medium_id(path),
            FsType.POSIX,
            medium_status,
            fs_status,
            stats=stats or MediumStats(),
            **medium,
        )
        return disk

    def supply(self, around: Surroundings) -> Supply:
        return AttachedSupply(around, lambda device: self.disks[device.id].unit)

    def running_syncs(self, device: ResourceId) -> int:
        return self.disks[device].running.get("sync", 0)

    def medium(self, path: str) -> Medium:
        """The medium as the DSS has it now."""
        return self.dss.media[medium_id(path)]

    def device_row(self, path: str) -> Device:
        return self.dss.devices[device_id(path)]

    def device(
        self, path: str, settings: FamilySettings | None = None, changed: Callable[[], None] = lambda: None
    ) -> FixedDevice:
        """A device task of this host that is not running yet."""
        context = DeviceContext(settings or family_settings(), self.dss, DAEMON, self.volumes, self.events, changed)
        return FixedDevice(self.device_row(path), self.disks[device_id(path)].unit, context)

    @asynccontextmanager
    async def running(self, *devices: FixedDevice) -> AsyncIterator[None]:
        """Run `devices` inside the block; they are cancelled at its end."""
        async with trio.open_nursery() as nursery:
            for device in devices:
                await nursery.start(device.run)
            yield
            nursery.cancel_scope.cancel()


@dataclass(eq=False)
class Holder:
    """A request, as a device sees it, that writes down what it is told."""

    client: object = "client"
    ready: list[Grant] = field(default_factory=list)
    failed: list[tuple[Grant, OSError]] = field(default_factory=list)

    def grant_ready(self, grant: Grant) -> None:
        self.ready.append(grant)

    def grant_failed(self, grant: Grant, error: OSError) -> None:
        self.failed.append((grant, error))


def grant_on(
    device: DeviceTask, kind: RequestKind = RequestKind.WRITE, size: int = 0, holder: Holder | None = None
) -> Grant:
    """A grant that nobody has planned yet."""
    return Grant(device, device.medium_id or medium_id(device.row.path), kind, holder or Holder(), size)


@dataclass
class Waiter:
    """A sub-request of a release, with the time at which it was settled."""

    sub: SubRequest
    settled: list[float] = field(default_factory=list)


def waiter(size: int = 100, extents: int = 1) -> Waiter:
    made = Waiter(SubRequest(size, extents))
    made.sub.on_settled = lambda: made.settled.append(trio.current_time())
    return made
