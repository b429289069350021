"""Virtual libraries for tests, and what a daemon would do with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tomli_w

from lrs_trio.model import Device, Family, FsType, Medium, ResourceId
from lrs_trio.storage.protocols import DriveUnit
from lrs_trio.storage.space import FullThreshold
from lrs_trio.storage.virtual.library import VirtualLibrary, create
from lrs_trio.storage.virtual.timing import Generation

MIB = 2**20
A, B, C = (f"V{number:05}L8" for number in (1, 2, 3))
"""The first cartridges of a shelf."""
WRITABLE: list[dict[str, Any]] = [{"generation": "lto8", "count": 3, "capacity": "10MiB", "formatted": True}]
PROTECTED = [WRITABLE[0] | {"write_protected": True}]
BLANK = [WRITABLE[0] | {"formatted": False}]
D1, D2 = "VD0001", "VD0002"
SLOT_A, SLOT_B = 1001, 1002
MAIL_SLOT = 16
DRIVE_1, DRIVE_2 = 256, 257


def describe(directory: Path, **changes: Any) -> Path:
    """The file of a description: two drives, three cartridges of 10 MiB, four slots and a mail slot, no threads."""
    description: dict[str, Any] = {
        "slots": 4,
        "mail_slots": 1,
        "durable": False,
        "drives": [{"generation": "lto8", "count": 2}],
        "cartridges": WRITABLE,
    } | changes
    file = directory / "description.toml"
    file.write_text(tomli_w.dumps(description))
    return file


def shelf(directory: Path, *, speed: float = 1.0, **changes: Any) -> VirtualLibrary:
    """A library in `directory`/shelf; its drives' mount points are in `directory` too."""
    create(directory / "shelf", describe(directory, **changes))
    return VirtualLibrary.open(directory / "shelf", speed=speed)


def device(serial: str) -> Device:
    return Device(ResourceId(Family.TAPE, serial, "lib"), "store1", "")


def medium(name: str) -> Medium:
    return Medium(ResourceId(Family.TAPE, name, "lib"), FsType.LTFS)


def unit(library: VirtualLibrary, directory: Path, serial: str = D1, percent: int = 5) -> DriveUnit:
    return library.unit(device(serial), f"{directory}/mnt-", FullThreshold(percent))


def generation(library: VirtualLibrary) -> Generation:
    return library.drives[0].generation


async def mounted(library: VirtualLibrary, directory: Path, name: str = A, serial: str = D1) -> tuple[DriveUnit, Path]:
    """A drive with a cartridge that is mounted, and where."""
    found = unit(library, directory, serial)
    await found.library.load(device(serial), name)
    return found, Path(await found.filesystem.mount(medium(name)))


def places(library: VirtualLibrary) -> dict[str, int]:
    """Where each cartridge is, by barcode; each is in one place only."""
    found = [(element.label, element.address) for element in library.elements() if element.label is not None]
    assert len(found) == len(dict(found))
    return dict(found)
