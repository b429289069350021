"""A simulated tape library with a world around it, for tests."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

import trio

from lrs_trio.model import Device, Family, FsType, Medium, ResourceId
from lrs_trio.settings import TapeSettings
from lrs_trio.simulation.determinism import Chance, run_seeded
from lrs_trio.simulation.faults import FaultKind, Faults
from lrs_trio.simulation.host.tapes import SimulatedLibrary
from lrs_trio.simulation.trace import Trace
from lrs_trio.simulation.world import Process, Violations, World
from lrs_trio.storage.protocols import DriveUnit
from lrs_trio.storage.virtual.description import CartridgeGroup, Description, DriveGroup, Plan, generation_files
from lrs_trio.storage.virtual.tables import read_table
from lrs_trio.storage.virtual.timing import Generation

LTO8 = read_table(generation_files()["lto8"], Generation)
A, B, C, BLANK = (f"V{number:05}L8" for number in (1, 2, 3, 4))
D1, D2 = "VD0001", "VD0002"
DRIVE_1, DRIVE_2 = 256, 257
ROOT_1 = "/mnt/lrs-virtual-simulated-1"
CAPACITY = 1_000_000
SETTINGS = TapeSettings()


def plan(drives: int = 2, tapes: int = 3) -> Plan:
    """Some drives, and cartridges of which the last one is blank."""
    cartridges = (
        CartridgeGroup(generation="lto8", count=tapes, capacity=CAPACITY, formatted=True),
        CartridgeGroup(generation="lto8", count=1, capacity=CAPACITY),
    )
    description = Description(
        slots=tapes + 5,
        durable=False,
        stream_at_sync=False,
        drives=(DriveGroup(generation="lto8", count=drives),),
        cartridges=cartridges,
    )
    return Plan(description, {"lto8": LTO8})


def device(serial: str) -> Device:
    return Device(ResourceId(Family.TAPE, serial, "lib"), "store1", "")


def medium(name: str) -> Medium:
    return Medium(ResourceId(Family.TAPE, name, "lib"), FsType.LTFS)


@dataclass(slots=True)
class Site:
    """A world, its library, and the daemons in it."""

    world: World
    library: SimulatedLibrary
    settings: TapeSettings

    def process(self) -> Process:
        process = Process(1001 + len(self.world.processes), 0.0)
        self.world.processes[process.pid] = process
        return process

    def unit(self, serial: str = D1, process: Process | None = None) -> DriveUnit:
        """The adapters of a drive for a daemon that starts now, unless it is given."""
        return self.library.adapters(process or self.process(), self.settings).unit(device(serial))

    async def mounted(self, name: str = A, process: Process | None = None) -> DriveUnit:
        """The first drive, with a cartridge that is mounted."""
        unit = self.unit(D1, process)
        await unit.library.load(device(D1), name)
        await unit.filesystem.mount(medium(name))
        return unit


def run(
    scenario: Callable[[Site], Awaitable[None]],
    rates: Mapping[FaultKind, float] | None = None,
    *,
    seed: int = 1,
    settings: TapeSettings = SETTINGS,
    furnished: Plan | None = None,
    violations: bool = False,
) -> Site:
    """Run `scenario` in a world, and return what is left of it; `violations` if some are expected."""

    async def live() -> Site:
        trace = Trace()
        chance = Chance(seed)
        async with trio.open_nursery() as nursery:
            world = World("store1", chance, trace, Faults(chance, rates or {}, trace), Violations(trace), nursery)
            site = Site(world, SimulatedLibrary(world, furnished or plan(), settings), settings)
            await scenario(site)
        assert bool(world.violations.found) == violations, world.violations.found
        return site

    return run_seeded(seed, live)
