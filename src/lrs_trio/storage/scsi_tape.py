"""The tape drives of this host, as the kernel's SCSI tape driver lists them in sysfs."""

from __future__ import annotations

import errno
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog
import trio

from lrs_trio.errors import LrsError, describe
from lrs_trio.model import Device
from lrs_trio.storage.protocols import DriveIdentity

log = structlog.get_logger()

SYSFS: Final = Path("/sys/class/scsi_tape")

_TAPE_NAME = re.compile(r"st([0-9]+)", re.ASCII)
_GENERIC_NAME = re.compile(r"sg[0-9]+", re.ASCII)
_SERIAL_PAGE: Final = 0x80
_PAGE_HEADER: Final = 4


class ScsiTapeDrive:
    """Finds drives by their serials, anew each time: a drive that is connected later is found as well."""

    def __init__(self, root: Path = SYSFS) -> None:
        self._root = root
        self._limiter = trio.CapacityLimiter(1)

    async def query(self, device: Device) -> DriveIdentity:
        """Find the drive with `device`'s serial, and see that it is of the model that the DSS has.

        Raises:
            LrsError: ENOENT, there is no such drive; EINVAL, it is of another model.
        """
        # To give up on it is harmless: it only reads.
        drives = await trio.to_thread.run_sync(scan, self._root, abandon_on_cancel=True, limiter=self._limiter)
        serial = device.id.name
        found = next((drive for drive in drives if drive.serial == serial), None)
        if found is None:
            raise LrsError(
                errno.ENOENT,
                f"no tape drive of this host has the serial {serial}; there are"
                f" {', '.join(drive.serial for drive in drives) or 'none'}; check its power, its cable and that the"
                " kernel's st and sg drivers are loaded",
            )
        if (device.model or "").strip() != (found.model or "").strip():
            raise LrsError(
                errno.EINVAL,
                f"the drive {serial} is of model {device.model or 'unknown'} in the DSS, but {found.path} says"
                f" {found.model or 'nothing'}; delete it and add it again",
            )
        return found


def scan(root: Path = SYSFS) -> list[DriveIdentity]:
    """All drives, in the order of their numbers; one that cannot be read is logged and left out. Blocks."""
    return [drive.identity for drive in _drives(root)]


def identify(path: str, root: Path = SYSFS) -> DriveIdentity:
    """The drive behind a device file, by its tape name (``/dev/st0``) or else its generic one (``/dev/sg3``). Blocks.

    A link to either (those of ``/dev/tape/by-id``) will do.

    Raises:
        OSError: ENOENT, there is no such file, or it is none of a drive.
    """
    name = os.path.basename(os.path.realpath(path, strict=True))
    drives = _drives(root)
    for found in ([drive for drive in drives if drive.tape == name], [drive for drive in drives if drive.sg == name]):
        if found:
            return found[0].identity
    raise LrsError(
        errno.ENOENT,
        f"{path} is no tape drive of this host; there are"
        f" {', '.join(f'/dev/{drive.tape} (/dev/{drive.sg})' for drive in drives) or 'none'}",
    )


@dataclass(frozen=True, slots=True)
class _Found:
    tape: str
    sg: str
    identity: DriveIdentity


def _drives(root: Path) -> list[_Found]:
    try:
        names = os.listdir(root)
    except FileNotFoundError:  # the driver is not loaded
        return []
    numbered = sorted((int(match[1]), name) for name in names if (match := _TAPE_NAME.fullmatch(name)))
    found = []
    for _, name in numbered:
        try:
            found.append(_read(root / name / "device", name))
        except OSError as error:
            log.warning("a tape drive cannot be read", drive=name, error=describe(error))
    return found


def _read(directory: Path, tape: str) -> _Found:
    serial = _serial(directory / "vpd_pg80")
    model = _text((directory / "model").read_bytes())
    sg = os.path.basename(os.readlink(directory / "generic"))
    if not _GENERIC_NAME.fullmatch(sg):
        raise OSError(errno.EINVAL, f"leads to {sg!r}, which is no generic SCSI device", str(directory / "generic"))
    return _Found(tape, sg, DriveIdentity(path=f"/dev/{sg}", serial=serial, model=model or None))


def _serial(file: Path) -> str:
    """The unit serial number page: four bytes, of which the last two are the length of the text that follows."""
    page = file.read_bytes()
    length = int.from_bytes(page[2:_PAGE_HEADER], "big")
    if len(page) < _PAGE_HEADER + length or page[1] != _SERIAL_PAGE:
        raise OSError(errno.EINVAL, "is no page of a serial number", str(file))
    serial = _text(page[_PAGE_HEADER : _PAGE_HEADER + length])
    if not serial:
        raise OSError(errno.EINVAL, "holds no serial number", str(file))
    return serial


def _text(field: bytes) -> str:
    return field.strip(b"\0 \t\n").decode("ascii", "backslashreplace")
