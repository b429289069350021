"""A virtual tape library in a directory: made once, and used by any number of processes."""

from __future__ import annotations

import errno
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Self

from lrs_trio.errors import LrsError
from lrs_trio.model import Device
from lrs_trio.storage.elements import Element
from lrs_trio.storage.protocols import DriveUnit
from lrs_trio.storage.space import FullThreshold
from lrs_trio.storage.virtual.content import content_of
from lrs_trio.storage.virtual.description import (
    DESCRIPTION,
    LibraryCartridge,
    LibraryDrive,
    generation_file,
    read_plan,
)
from lrs_trio.storage.virtual.directory import KeptInDirectory
from lrs_trio.storage.virtual.faults import Faults
from lrs_trio.storage.virtual.filesystem import VirtualFilesystem
from lrs_trio.storage.virtual.hardware import Hardware, now
from lrs_trio.storage.virtual.robot import VirtualDrive, VirtualRobot
from lrs_trio.storage.virtual.state import StateFile, first_state


def create(directory: Path, description: Path) -> None:
    """Make the library that the file `description` describes in `directory`, which need not be there.

    The description and its generations are copied: what is changed there later counts when the library is opened.

    Raises:
        LrsError: EEXIST, there is one already; EINVAL, the description is no good.
        OSError: something cannot be written.
    """
    plan = read_plan(description)
    if (directory / DESCRIPTION).exists():
        raise LrsError(
            errno.EEXIST, f"{directory}: there is a virtual library already; remove it or take another place"
        )
    directory.mkdir(parents=True, exist_ok=True)
    for name in plan.generations:
        shutil.copyfile(generation_file(name, description), directory / f"{name}.toml")
    for cartridge, _ in plan.cartridges():
        content_of(directory, cartridge.label).mkdir(parents=True, exist_ok=True)
    StateFile(directory, durable=plan.description.durable).create(first_state(plan))
    # Last: what breaks off before can be made once more.
    fresh = directory / f"{DESCRIPTION}.new"
    shutil.copyfile(description, fresh)
    os.replace(fresh, directory / DESCRIPTION)


class VirtualLibrary:
    """One library as one process sees it; others may use it at the same time."""

    def __init__(self, hardware: Hardware) -> None:
        self._hardware = hardware
        self._robot = VirtualRobot(hardware)

    @classmethod
    def open(cls, directory: Path, *, speed: float = 1.0) -> Self:
        """The library that was made in `directory`, `speed` times as fast as a real one.

        Raises:
            LrsError: ENOENT, there is none; EINVAL, its description is no good or does not go with its state.
        """
        directory = directory.resolve()
        if not (directory / DESCRIPTION).exists():
            raise LrsError(
                errno.ENOENT, f"{directory}: there is no virtual library, for there is no {DESCRIPTION} in it"
            )
        plan = read_plan(directory / DESCRIPTION)
        faults = Faults(plan.description.seed, plan.description.faults, now)
        keeping = KeptInDirectory(directory, durable=plan.description.durable)
        hardware = Hardware(keeping, plan, faults, speed)
        state, expected = hardware.state.read(), first_state(hardware.plan)
        if state.places.keys() != expected.places.keys() or state.cartridges.keys() != expected.cartridges.keys():
            raise LrsError(
                errno.EINVAL,
                f"{directory}: {DESCRIPTION} describes other drives, slots or cartridges than there are;"
                " make a new library for those",
            )
        return cls(hardware)

    @property
    def drives(self) -> tuple[LibraryDrive, ...]:
        return tuple(self._hardware.drives.values())

    @property
    def cartridges(self) -> tuple[LibraryCartridge, ...]:
        return tuple(cartridge for cartridge, _ in self._hardware.plan.cartridges())

    @property
    def faults(self) -> Faults:
        """What goes wrong in this process, besides what is in the file of faults."""
        return self._hardware.faults

    def elements(self) -> tuple[Element, ...]:
        """All places with what the library believes to be in them."""
        return self._robot.elements()

    async def move(self, source: int, target: int) -> None:
        """Take a cartridge from one element to another, out of a drive and into one as that needs.

        Raises:
            OperationError: EINVAL, there is no such element, or nothing in the one or something in the other; EBUSY,
                the cartridge is mounted; EMEDIUMTYPE, the drive cannot read it; EIO, something failed.
        """
        await self._robot.move(source, target)

    def mend(self, serial: str) -> None:
        """What a technician does: the drive is not dead any more. What is in it, or was mounted from it, stays so.

        Raises:
            LrsError: ENOENT, there is no such drive.
        """
        address = self._hardware.drive(serial).address
        with self._hardware.state.change() as state:
            state.bays[address] = replace(state.bays[address], dead=False)

    def unit(self, device: Device, mount_prefix: str, full_threshold: FullThreshold) -> DriveUnit:
        """The adapters of one adoption of `device`, whose name is the serial of a drive.

        Args:
            device: as in the DSS.
            mount_prefix: a cartridge is mounted at this and the last part of the drive's path.
            full_threshold: how much of a cartridge must be left, or it counts as full.
        """
        filesystem = VirtualFilesystem(self._hardware, device.id.name, mount_prefix, full_threshold)
        return DriveUnit(self._robot, VirtualDrive(self._hardware), filesystem)
