"""The storage host of a scenario: its DSS, network, directories and tape library, with all that is in them."""

from __future__ import annotations

from lrs_trio.dss.operations import AddDevice, AddDirectory, AddMedia
from lrs_trio.errors import LrsError
from lrs_trio.model import AdmStatus, Device, Family, FsStatus, FsType, Medium, MediumStats, ResourceId
from lrs_trio.simulation.host.content import Content
from lrs_trio.simulation.host.directories import SimulatedDirectories
from lrs_trio.simulation.host.dss import SimulatedDss
from lrs_trio.simulation.host.network import Network
from lrs_trio.simulation.host.recorded_site import furnish, recorded_plan
from lrs_trio.simulation.host.tapes import SimulatedLibrary
from lrs_trio.simulation.scenario import HOST, LIBRARY, Scenario
from lrs_trio.simulation.world import World
from lrs_trio.storage.virtual.description import (
    CartridgeGroup,
    Description,
    DriveGroup,
    LibraryCartridge,
    LibraryDrive,
    Plan,
    generation_files,
)
from lrs_trio.storage.virtual.tables import read_table
from lrs_trio.storage.virtual.timing import Generation

GENERATION = "lto8"
MODEL = "LTO8"


class Site:
    """Everything outside the daemon that outlives it."""

    def __init__(self, world: World, scenario: Scenario) -> None:
        families = scenario.settings.families
        self.world = world
        self.dss = SimulatedDss(world)
        self.network = Network(world)
        self.directories = SimulatedDirectories(world, excludes_io=not families.dir.sync_while_io)
        self.library = SimulatedLibrary(world, _plan(scenario), families.tape)
        if scenario.inventory is None:
            self._furnish(scenario)
        else:
            furnish(scenario.inventory, self.dss, self.directories, self.library)

    def content_at(self, root: str) -> Content | None:
        """What a client finds now at a root that it was told."""
        found = self.directories.content_at(root)
        return self.library.content_at(root) if found is None else found

    def kill(self) -> None:
        """The daemon's process is gone, the system is still there."""
        self.dss.kill()
        self.network.kill()
        self.directories.kill()
        self.library.kill()

    def cut_power(self) -> None:
        self.dss.cut_power()
        self.network.cut_power()
        self.directories.cut_power()
        self.library.cut_power()

    def mend(self) -> None:
        """Whatever is broken works again."""
        self.dss.come_back()
        self.directories.mend()
        self.library.mend()

    def close(self) -> None:
        self.dss.close()

    def _furnish(self, scenario: Scenario) -> None:
        blank = min(scenario.blank, scenario.directories - 1)
        for number in range(scenario.directories):
            path = directory_path(number)
            is_blank = number >= scenario.directories - blank
            self.directories.add(
                path,
                volume=number % scenario.volumes,
                capacity=scenario.directory_capacity,
                label=None if is_blank else path,
            )
            self._add(AddDirectory(directory_device(path), directory_medium(path, blank=is_blank)))
        for drive in self.library.drives if scenario.drives else ():
            self._add(AddDevice(tape_drive(drive)))
        for number, cartridge in enumerate(self.library.cartridges if scenario.drives else ()):
            self._add(AddMedia((tape(cartridge, blank=number >= scenario.tapes - _blank_tapes(scenario)),)))

    def _add(self, operation: AddDirectory | AddDevice | AddMedia) -> None:
        (outcome,) = self.dss.administer(operation)
        if isinstance(outcome, LrsError):
            raise outcome


def directory_path(number: int) -> str:
    return f"/data/{number:03}"


def directory_device(path: str) -> Device:
    """The device of the directory at `path`, in service."""
    return Device(ResourceId(Family.DIR, f"{HOST}:{path}", LIBRARY), HOST, path, AdmStatus.UNLOCKED)


def directory_medium(path: str, *, blank: bool) -> Medium:
    return Medium(
        ResourceId(Family.DIR, path, LIBRARY),
        FsType.POSIX,
        AdmStatus.LOCKED if blank else AdmStatus.UNLOCKED,
        FsStatus.BLANK if blank else FsStatus.EMPTY,
        "" if blank else path,
    )


def tape_drive(drive: LibraryDrive) -> Device:
    """The drive as in the DSS, in service."""
    return Device(ResourceId(Family.TAPE, drive.serial, LIBRARY), HOST, drive.path, AdmStatus.UNLOCKED, drive.model)


def tape(cartridge: LibraryCartridge, *, blank: bool) -> Medium:
    return Medium(
        ResourceId(Family.TAPE, cartridge.label, LIBRARY),
        FsType.LTFS,
        AdmStatus.LOCKED if blank else AdmStatus.UNLOCKED,
        FsStatus.BLANK if blank else FsStatus.EMPTY,
        "" if blank else cartridge.label,
        model=cartridge.model,
        stats=MediumStats(phys_spc_free=0 if blank else cartridge.capacity),
    )


def _blank_tapes(scenario: Scenario) -> int:
    return min(scenario.blank, max(scenario.tapes - 2, 0))


def _plan(scenario: Scenario) -> Plan:
    if scenario.inventory is not None:
        return recorded_plan(scenario.inventory, scenario.seed)
    blank = _blank_tapes(scenario)
    groups = [
        CartridgeGroup(
            generation=GENERATION, count=count, capacity=scenario.tape_capacity, formatted=formatted, new=not formatted
        )
        for count, formatted in ((scenario.tapes - blank, True), (blank, False))
        if count
    ]
    description = Description(
        slots=scenario.tapes + 4,
        seed=scenario.seed,
        durable=False,
        stream_at_sync=False,
        drives=(DriveGroup(generation=GENERATION, count=max(scenario.drives, 1)),),
        cartridges=tuple(groups),
    )
    return Plan(description, {GENERATION: read_table(generation_files()[GENERATION], Generation)})
