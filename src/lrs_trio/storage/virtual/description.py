"""What a virtual library consists of, as its `library.toml` and the files of its generations say. Pure but for reading.

A generation is a file beside the description: `lto8` is `lto8.toml`. One that is not there is taken from those that
come with this program.
"""

from __future__ import annotations

import errno
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, model_validator

from lrs_trio.errors import LrsError
from lrs_trio.settings import Size, Switch, Table, Whole
from lrs_trio.storage.virtual.faults import FaultList
from lrs_trio.storage.virtual.tables import ARRAY, read_table
from lrs_trio.storage.virtual.timing import Generation

DESCRIPTION = "library.toml"

ARM = 0
FIRST_MAIL_SLOT = 16
FIRST_DRIVE = 256
FIRST_SLOT = 1001
"""Addresses of elements; the ranges are wide enough for what a description may ask for."""

GenerationName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")]


class DriveGroup(Table):
    """Some equal drives."""

    generation: GenerationName
    count: Whole = Field(ge=1, le=FIRST_SLOT - FIRST_DRIVE)


class CartridgeGroup(Table):
    """Some equal cartridges."""

    generation: GenerationName
    count: Whole = Field(ge=1, le=60_000)
    capacity: Size | None = Field(default=None, ge=1)
    """Bytes, if it is not the generation's: small ones fill up while somebody watches."""

    prefix: str = Field(default="V", pattern="^[A-Z]$")
    """What the barcodes begin with; a number of five digits and the generation's suffix follow."""

    formatted: Switch = False
    """Whether they bear the labels that belong to their barcodes already."""

    new: Switch = False
    """Whether they have never been loaded, for generations that mind."""

    write_protected: Switch = False


class Description(Table):
    """A library. Drives and cartridges are numbered in the order of their groups."""

    slots: Whole = Field(ge=1, le=60_000)
    mail_slots: Whole = Field(default=0, ge=0, le=FIRST_DRIVE - FIRST_MAIL_SLOT)
    """Import/export elements."""

    seed: Whole = 0
    """Decides what faults with a rate do."""

    durable: Switch = True
    """Whether a sync makes the content durable on the disk, in a worker thread. A clock that is not the wall clock
    does not go with threads: then nothing survives the host that the system has not written by itself."""

    stream_at_sync: Switch = True
    """Whether sync and unmount take the time of streaming what was written since the last one. For clients that write
    as fast as the disk goes; those that take their time as with a tape set it to false."""

    drives: Annotated[tuple[DriveGroup, ...], ARRAY] = Field(min_length=1)
    cartridges: Annotated[tuple[CartridgeGroup, ...], ARRAY] = ()
    faults: FaultList = ()

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if sum(group.count for group in self.cartridges) > self.slots:
            raise ValueError(f"there are more cartridges than the {self.slots} slots")
        if sum(group.count for group in self.drives) > FIRST_SLOT - FIRST_DRIVE:
            raise ValueError(f"there are more than {FIRST_SLOT - FIRST_DRIVE} drives")
        return self

    def generation_names(self) -> set[str]:
        return {group.generation for group in self.drives} | {group.generation for group in self.cartridges}


@dataclass(frozen=True, slots=True)
class LibraryDrive:
    """A drive, for those who add it to the DSS; `path` names it there, nothing is at that path."""

    serial: str
    model: str
    path: str
    address: int
    generation: Generation

    @property
    def device_id(self) -> str:
        return f"{self.generation.vendor} {self.model} {self.serial}"


@dataclass(frozen=True, slots=True)
class LibraryCartridge:
    """A cartridge, for those who add it to the DSS; `label` is its barcode, `capacity` is in bytes."""

    label: str
    model: str
    capacity: int


@dataclass(frozen=True, slots=True)
class Plan:
    """A description with its generations by name."""

    description: Description
    generations: dict[str, Generation]

    def drives(self, library: str) -> Iterator[LibraryDrive]:
        """The drives of a library that is called `library`."""
        names = [group.generation for group in self.description.drives for _ in range(group.count)]
        for number, name in enumerate(names, 1):
            generation = self.generations[name]
            yield LibraryDrive(
                serial=f"VD{number:04}",
                model=generation.drive_model,
                path=f"/dev/virtual-{library}-{number}",
                address=FIRST_DRIVE + number - 1,
                generation=generation,
            )

    def cartridges(self) -> Iterator[tuple[LibraryCartridge, CartridgeGroup]]:
        """The cartridges, each with the group that describes it."""
        groups = [group for group in self.description.cartridges for _ in range(group.count)]
        for number, group in enumerate(groups, 1):
            generation = self.generations[group.generation]
            yield (
                LibraryCartridge(
                    label=f"{group.prefix}{number:05}{generation.barcode_suffix}",
                    model=generation.model,
                    capacity=group.capacity or generation.capacity,
                ),
                group,
            )


def read_plan(file: Path) -> Plan:
    """The description in `file` with its generations.

    Raises:
        LrsError: EINVAL, something in the files is wrong, or a generation has no file.
    """
    description = read_table(file, Description)
    names = sorted(description.generation_names())
    return Plan(description, {name: read_table(generation_file(name, file), Generation) for name in names})


def generation_file(name: str, description: Path) -> Path:
    """Where the generation is described that the file `description` calls `name`.

    Raises:
        LrsError: EINVAL, nowhere.
    """
    beside, shipped = description.with_name(f"{name}.toml"), generation_files()
    if beside.exists():
        return beside
    if name not in shipped:
        raise LrsError(
            errno.EINVAL,
            f"{description}: the generation {name!r} is unknown: there is no {beside}, and what comes with this"
            f" program is {', '.join(shipped)}",
        )
    return shipped[name]


def generation_files() -> dict[str, Path]:
    """The generations that come with this program, by name."""
    return {file.stem: file for file in sorted(_shipped().glob("lto*.toml"))}


def description_path(name: str) -> Path:
    """The description called `name` (``demo``, ``small``) that comes with this program.

    Raises:
        LrsError: ENOENT, there is none.
    """
    found = _shipped() / f"{name}.toml"
    if not found.exists():
        raise LrsError(errno.ENOENT, f"{found}: no such description of a virtual library comes with this program")
    return found


def _shipped() -> Path:
    """In the source tree, or where the installed package has put them."""
    source = Path(__file__).resolve().parents[4] / "settings" / "virtual"
    return source if source.exists() else Path(sys.prefix, "share", "lrs-trio", "virtual")
