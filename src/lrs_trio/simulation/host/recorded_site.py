"""The storage host of a recorded workload: its directories, drives and tapes, as full as they were."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from lrs_trio.dss.operations import AddDevice, AddDirectory, AddMedia
from lrs_trio.errors import LrsError
from lrs_trio.model import Device, Family, FsStatus, Medium
from lrs_trio.observe.inventory import Inventory
from lrs_trio.simulation.host.content import Content
from lrs_trio.simulation.host.directories import SimulatedDirectories
from lrs_trio.simulation.host.dss import SimulatedDss
from lrs_trio.simulation.host.tapes import SimulatedLibrary
from lrs_trio.storage.virtual.description import (
    FIRST_DRIVE,
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

UNKNOWN_CAPACITY: Final = 2**40
"""Of a directory that the DSS had no figures of, in bytes."""

GENERATION: Final = "lto8"
"""What drives and tapes of a model that is unknown here behave like."""


@dataclass(frozen=True, slots=True)
class RecordedPlan(Plan):
    """A library with drives and cartridges that have the names of others."""

    devices: tuple[Device, ...]
    media: tuple[Medium, ...]

    def drives(self, library: str) -> Iterator[LibraryDrive]:
        models = {generation.drive_model: generation for generation in self.generations.values()}
        for address, device in enumerate(self.devices, FIRST_DRIVE):
            generation = models.get(device.model or "", self.generations[GENERATION])
            model = device.model or generation.drive_model
            yield LibraryDrive(device.id.name, model, device.path, address, generation)

    def cartridges(self) -> Iterator[tuple[LibraryCartridge, CartridgeGroup]]:
        names = {generation.model: name for name, generation in self.generations.items()}
        for medium in self.media:
            name = names.get(medium.model or "", GENERATION)
            capacity = _capacity(medium) or self.generations[name].capacity
            group = CartridgeGroup(generation=name, count=1, formatted=medium.fs_status is not FsStatus.BLANK)
            model = medium.model or self.generations[name].model
            yield LibraryCartridge(medium.id.name, model, capacity), group


def recorded_plan(inventory: Inventory, seed: int) -> Plan:
    """The library with the drives and tapes of `inventory`."""
    drives = tuple(device for device in inventory.devices if device.id.family is Family.TAPE)
    tapes = tuple(medium for medium in inventory.media if medium.id.family is Family.TAPE)
    description = Description(
        slots=len(tapes) + 4,
        seed=seed,
        durable=False,
        stream_at_sync=False,
        drives=(DriveGroup(generation=GENERATION, count=max(len(drives), 1)),),
    )
    generations = {name: read_table(file, Generation) for name, file in generation_files().items()}
    return RecordedPlan(description, generations, drives, tapes)


def furnish(
    inventory: Inventory, dss: SimulatedDss, directories: SimulatedDirectories, library: SimulatedLibrary
) -> None:
    """Put everything in `inventory` where it belongs: each directory is a filesystem of its own."""
    media = {medium.id: medium for medium in inventory.media}
    by_path = {medium.id.name: medium for medium in inventory.media if medium.id.family is Family.DIR}
    for number, device in enumerate(inventory.devices):
        if device.id.family is not Family.DIR:
            _add(dss, AddDevice(device))
        elif (medium := by_path.get(device.path)) is not None:
            directories.add(
                device.path,
                volume=number,
                capacity=_capacity(medium) or UNKNOWN_CAPACITY,
                label=None if medium.fs_status is FsStatus.BLANK else medium.fs_label,
            )
            _fill(directories.content(device.path), medium)
            _add(dss, AddDirectory(device, medium))
            del media[medium.id]
    for medium in media.values():
        if medium.id.family is Family.TAPE:
            _fill(library.content(medium.id.name), medium)
            _add(dss, AddMedia((medium,)))


def _capacity(medium: Medium) -> int:
    """Bytes, 0 if nobody knows."""
    return medium.stats.phys_spc_used + medium.stats.phys_spc_free


def _fill(content: Content, medium: Medium) -> None:
    content.used = medium.stats.phys_spc_used
    content.files = medium.stats.nb_obj


def _add(dss: SimulatedDss, operation: AddDevice | AddDirectory | AddMedia) -> None:
    (outcome,) = dss.administer(operation)
    if isinstance(outcome, LrsError):
        raise outcome
