"""A storage host with a tape library for tests, and clients that ask it for tapes."""

from __future__ import annotations

from collections.abc import AsyncIterator, MutableMapping
from contextlib import asynccontextmanager
from typing import Any
from weakref import WeakValueDictionary

import trio

from lrs_trio.devices.drive import DriveTask
from lrs_trio.devices.volume import Volume
from lrs_trio.events import Event, Events
from lrs_trio.model import (
    AdmStatus,
    Device,
    Family,
    FsStatus,
    FsType,
    Medium,
    MediumStats,
    ReadOperation,
    ResourceId,
)
from lrs_trio.scheduling.library import LibrarySupply
from lrs_trio.scheduling.supply import Surroundings
from lrs_trio.settings import TapeSettings, TapeSyncSettings
from lrs_trio.wire.messages import Format, ReadAllocation, ReleasedMedium, WriteAllocation, WriteMedium
from tests.fakes.dss import FakeDss
from tests.fakes.house import EPOCH, AnyHouse, FakeClient
from tests.fakes.library import FakeDriveState, FakeLibrary, FakeTape, tape_id
from tests.fakes.site import HOST

GIB = 2**30


def tape_settings(
    *, age_ms: int = 10_000, requests: int = 5, size: int = GIB, share: float | None = None, **more: Any
) -> TapeSettings:
    """Adaptive if there is a `share` to stream, by thresholds without."""
    sync = TapeSyncSettings(time_ms=age_ms, requests=requests, bytes=size)
    if share is not None:
        sync = sync.model_copy(update={"mode": "adaptive", "streaming_share": share})
    return TapeSettings(enabled=True, sync=sync, **more)


class TapeSite:
    """The library of one host, and the DSS that knows its drives and tapes."""

    def __init__(self, drives: int = 2, tapes: int = 4, *, capacity: int = 100 * GIB) -> None:
        self.dss = FakeDss()
        self.library = FakeLibrary()
        self.volumes: MutableMapping[str, Volume] = WeakValueDictionary()
        self.seen: list[Event] = []
        self.events = Events(trio.current_time)
        self.events.subscribe(self.seen.append)
        for number in range(drives):
            self.add_drive(f"D{number}")
        for number in range(tapes):
            self.add_tape(f"T{number:02}", capacity=capacity)

    def add_drive(self, serial: str, *, model: str = "ULT3580-TD8", status: AdmStatus = AdmStatus.UNLOCKED) -> None:
        self.library.drives[serial] = FakeDriveState(serial, len(self.library.drives))
        device = Device(tape_id(serial), HOST, f"/dev/{serial}", status, model)
        self.dss.devices[device.id] = device

    def add_tape(
        self,
        name: str,
        *,
        capacity: int = 100 * GIB,
        fs_status: FsStatus = FsStatus.EMPTY,
        adm_status: AdmStatus = AdmStatus.UNLOCKED,
        drive: str = "",
        model: str = "LTO8",
        **more: Any,
    ) -> FakeTape:
        """Make a tape known to the DSS, formatted unless it is blank, and put it on the shelf or into `drive`."""
        blank = fs_status is FsStatus.BLANK
        tape = FakeTape(name, capacity, None if blank else name, place=drive)
        self.library.tapes[name] = tape
        if drive:
            self.library.drives[drive].tape = tape
        label = "" if blank else name
        stats = MediumStats(phys_spc_free=0 if blank else capacity)
        medium = Medium(
            tape_id(name),
            FsType.LTFS,
            adm_status,
            fs_status,
            label,
            model=model,
            stats=more.pop("stats", stats),
            **more,
        )
        self.dss.media[medium.id] = medium
        return tape

    def supply(self, around: Surroundings) -> LibrarySupply:
        return LibrarySupply(
            Family.TAPE,
            around,
            self.library.unit,
            recheck_s=1.0,
            wall_clock=lambda: EPOCH + trio.current_time(),
            logs_moves=lambda library: True,
        )

    def running_syncs(self, device: ResourceId) -> int:
        return self.library.drives[device.name].running.get("sync", 0)

    def medium(self, name: str) -> Medium:
        """The medium as the DSS has it now."""
        return self.dss.media[tape_id(name)]

    def drive_row(self, serial: str) -> Device:
        return self.dss.devices[tape_id(serial)]


class TapeHouse(AnyHouse[TapeSite]):
    """What the daemon is between its sockets and its tapes."""

    def __init__(self, site: TapeSite, settings: TapeSettings, recheck_s: float) -> None:
        super().__init__(site, settings, recheck_s, Family.TAPE)

    def make_client(self, serial: int) -> TapeClient:
        return TapeClient(self, serial)

    def client(self) -> TapeClient:
        """A new client that takes its responses at once."""
        client = self.connect()
        assert isinstance(client, TapeClient)
        return client

    def drive(self, serial: str) -> DriveTask:
        drive = self.family.devices[tape_id(serial)]
        assert isinstance(drive, DriveTask)
        return drive


class TapeClient(FakeClient):
    """A connection that asks for tapes."""

    house: TapeHouse

    def write(
        self, *sizes: int, id: int = 1, qos: int | None = None, priority: int | None = None, **more: object
    ) -> None:
        media = tuple(WriteMedium(size) for size in sizes)
        self.ask(id, WriteAllocation(media, Family.TAPE, **more), qos, priority)  # type: ignore[arg-type]

    def read(
        self, *names: str, required: int | None = None, id: int = 1, operation: ReadOperation = ReadOperation.READ
    ) -> None:
        media = tuple(map(tape_id, names))
        self.ask(id, ReadAllocation(len(media) if required is None else required, media, operation))

    def format(self, name: str, *, id: int = 1, unlock: bool = False, force: bool = False) -> None:
        self.ask(id, Format(tape_id(name), FsType.LTFS, unlock, force))

    def write_data(self, name: str, size: int) -> ReleasedMedium:
        """Do the I/O of a grant on the tape `name` and return what is to be released."""
        tape = self.house.site.library.tapes[name]
        assert self.house.site.library.drives[tape.place].mounted, f"{name} is not mounted"
        tape.used += size
        return ReleasedMedium(tape_id(name), 0, size, 1, True)


def two_generations() -> tuple[TapeSite, TapeSettings]:
    """An LTO-8 tape in the LTO-9 drive, which is the only one for the other tape, and an empty LTO-8 drive."""
    site = TapeSite(drives=0, tapes=0)
    site.add_drive("D8", model="ULT3580-TD8")
    site.add_drive("D9", model="ULT3580-TD9")
    site.add_tape("T8", drive="D9")
    site.add_tape("T9", model="LTO9")
    settings = tape_settings(
        drive_types={"LTO8_drive": ("ULT3580-TD8",), "LTO9_drive": ("ULT3580-TD9",)},
        tape_types={"LTO8": ("LTO8_drive", "LTO9_drive"), "LTO9": ("LTO9_drive",)},
    )
    return site, settings


@asynccontextmanager
async def tape_house(
    site: TapeSite | None = None,
    settings: TapeSettings | None = None,
    *,
    keep_clients: bool = False,
    recheck_s: float = 1.0,
) -> AsyncIterator[TapeHouse]:
    """A house that serves the library of `site`."""
    house = TapeHouse(site or TapeSite(), settings or tape_settings(), recheck_s)
    async with house.serve(keep_clients=keep_clients):
        yield house
