"""What the device task asks of storage: a library, a drive, a filesystem.

Every method may block for as long as the hardware does and is bounded by the caller's deadline. All
raise `OSError` with an errno; what they raise is blamed as the caller knows best. None of them knows
the DSS.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from lrs_trio.model import Device, Medium, Space


@dataclass(frozen=True, slots=True)
class DriveIdentity:
    """What a drive says of itself: where it is reached now, and its serial."""

    path: str
    serial: str
    model: str | None


class Drive(Protocol):
    async def query(self, device: Device) -> DriveIdentity:
        """Find the drive behind `device`.

        Raises:
            OSError: it is not there (ENOENT, ENOTDIR...), or another one answers (EINVAL).
        """
        ...


@dataclass(frozen=True, slots=True)
class Content:
    """What a library says of one drive: the name of the medium in it, ``None`` if it is empty, and its number.

    The first drive of a library has the number 0.
    """

    medium: str | None
    address: int = 0


class Library(Protocol):
    async def lookup(self, device: Device) -> Content:
        """What is in `device`'s drive.

        Raises:
            LibraryUnreachableError: nobody could be asked.
            LrsError: ENOENT, the library knows no such drive.
        """
        ...


class Robot(Library, Protocol):
    """A library whose media move. A move that was given up may still be done: look the drive up afterwards."""

    async def load(self, device: Device, medium: str) -> None:
        """Bring `medium` from wherever it is into `device`'s drive, which is empty.

        Raises:
            LibraryUnreachableError: nobody could be asked; nothing was moved as far as is known.
            MediumMissingError: the library has no such medium.
            OperationError: it did not work.
        """
        ...

    async def unload(self, device: Device, medium: str) -> None:
        """Take `medium` out of `device`'s drive, to the slot it came from if that is free.

        Raises:
            LibraryUnreachableError: nobody could be asked; nothing was moved as far as is known.
            OperationError: it did not work, or the drive is empty or holds another medium.
        """
        ...


class Filesystem(Protocol):
    """The filesystem of one medium in one drive, from `open` to `close`."""

    async def open(self, path: str) -> None:
        """Get hold of what is at the drive's `path`; needed before anything else here."""
        ...

    async def close(self) -> None: ...

    async def read_label(self) -> str | None:
        """The label found, ``None`` if there is none: the medium has not been formatted."""
        ...

    async def mount(self, medium: Medium) -> str:
        """Make `medium` usable and return its root; its label must match (else EINVAL)."""
        ...

    async def unmount(self) -> None: ...

    async def format(self, medium: Medium) -> Space:
        """Label `medium` and return its space. EEXIST if it bears a label already."""
        ...

    async def sync(self) -> Space:
        """Make durable all that was written before the call, and return the space there is then."""
        ...

    async def space(self) -> Space: ...

    @property
    def volume(self) -> str:
        """Names what the free space belongs to: filesystems of equal volume share theirs."""
        ...


class TapeFilesystem(Filesystem, Protocol):
    """The filesystem of whatever medium is in one drive.

    `open` is given the drive's path and does not touch the medium. `mount` raises `LabelError` for another medium's
    label, `unmount` EBUSY while somebody uses it: then it stays mounted. An operation that is cancelled ends
    whatever it has started within a few seconds, and leaves the drive in an unknown state.
    """

    async def adopt(self) -> str | None:
        """The root, if something is mounted from this drive already; ``None`` if not."""
        ...


@dataclass(frozen=True, slots=True)
class Unit:
    """The adapters of one device whose medium never leaves it."""

    library: Library
    drive: Drive
    filesystem: Filesystem


@dataclass(frozen=True, slots=True)
class DriveUnit:
    """The adapters of one device whose media come and go."""

    library: Robot
    drive: Drive
    filesystem: TapeFilesystem
