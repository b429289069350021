"""What administration asks of the hardware: who a drive is, which cartridges there are, to forget a reservation."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import trio

from lrs_trio.cli.robot import Robot
from lrs_trio.cli.tlc import library_settings
from lrs_trio.errors import LrsError
from lrs_trio.storage.ltfs import release_drive
from lrs_trio.storage.protocols import DriveIdentity
from lrs_trio.storage.scsi_tape import identify, scan

if TYPE_CHECKING:
    from pathlib import Path

    from lrs_trio.settings import Settings


def identify_drive(name: str, library: str, settings: Settings) -> DriveIdentity:
    """The drive at the path `name`; those of a virtual library answer to their serials as well.

    Raises:
        SettingsError: the settings have no such library.
        OSError: there is no such drive.
    """
    drives = library_settings(settings, library)
    if drives.drives == "virtual" and drives.directory is not None:
        return _virtual_drive(name, library, drives.directory)
    found = identify(name)
    return DriveIdentity(name, found.serial, found.model)


def release_reservation(serial: str, settings: Settings) -> None:
    """Have the drive forget that another host has reserved it.

    Raises:
        OSError: ENOENT, this host has no such drive; else the command of the settings failed.
    """
    drive = next((drive for drive in scan() if drive.serial == serial), None)
    if drive is None:
        raise LrsError(errno.ENOENT, f"no tape drive of this host has the serial {serial}")
    trio.run(release_drive, drive.path, settings.families.tape.ltfs)


def cartridge_labels(library: str, settings: Settings) -> list[str]:
    """The labels of all cartridges that `library` has, in alphabetical order.

    Raises:
        SettingsError: the settings have no such library.
        OSError: it cannot be asked.
    """
    robot = Robot(library, library_settings(settings, library), settings.families.tape.timeouts.look_up_s)
    return sorted({element.label for element in robot.elements() if element.full and element.label})


def _virtual_drive(name: str, library: str, directory: Path) -> DriveIdentity:
    from lrs_trio.storage.virtual.library import VirtualLibrary

    drives = VirtualLibrary.open(directory).drives
    for drive in drives:
        if name in (drive.path, drive.serial):
            return DriveIdentity(drive.path, drive.serial, drive.model)
    there = ", ".join(f"{drive.path} ({drive.serial})" for drive in drives)
    raise LrsError(errno.ENOENT, f"{name}: is no drive of the virtual library {library}, which has {there}")
