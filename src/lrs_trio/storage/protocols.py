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


class Library(Protocol):
    async def lookup(self, device: Device) -> str | None:
        """The name of the medium that is in `device`'s drive, ``None`` if it is empty."""
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


@dataclass(frozen=True, slots=True)
class Unit:
    """The adapters of one device."""

    library: Library
    drive: Drive
    filesystem: Filesystem
