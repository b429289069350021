"""What is mounted where: the kernel's table, read as text."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from dataclasses import dataclass

from lrs_trio.errors import LrsError

_ESCAPED = re.compile(r"\\([0-3][0-7]{2})")
_FIXED_FIELDS = 6
"""Number, parent's number, device, root, mount point and options; then come optional ones, up to a hyphen."""


@dataclass(frozen=True, slots=True)
class MountEntry:
    """One line of the table. `root` is the directory of the filesystem that is seen at `mount_point`."""

    source: str
    fs_type: str
    mount_point: str
    root: str

    @property
    def is_fuse(self) -> bool:
        return self.fs_type == "fuse" or self.fs_type.startswith("fuse.")


def entries(text: str) -> Iterator[MountEntry]:
    """The entries of `text`, which is the content of ``/proc/self/mountinfo``; lines of another form are left out."""
    for line in text.split("\n"):
        fields = [_plain(field) for field in line.split(" ")]
        try:
            hyphen = fields.index("-", _FIXED_FIELDS)
            fs_type, source = fields[hyphen + 1 : hyphen + 3]
        except ValueError:
            continue
        yield MountEntry(source, fs_type, mount_point=fields[4], root=fields[3])


def find(text: str, source: str) -> MountEntry | None:
    """The FUSE filesystem mounted from `source`, ``None`` if there is none.

    Of several mounts it is the oldest that shows the whole filesystem, or else the oldest.

    Raises:
        LrsError: EMEDIUMTYPE, something is mounted from there, but not by FUSE.
    """
    found = [entry for entry in entries(text) if entry.source == source]
    mounted = [entry for entry in found if entry.is_fuse]
    if mounted:
        return min(mounted, key=lambda entry: entry.root != "/")
    if found:
        other = found[0]
        raise LrsError(
            errno.EMEDIUMTYPE,
            f"{other.mount_point} is mounted from {source} but as {other.fs_type}, not by FUSE; unmount it",
        )
    return None


def _plain(field: str) -> str:
    """`field` without the kernel's escapes for blanks, tabs, ends of lines and backslashes."""
    return _ESCAPED.sub(lambda escaped: chr(int(escaped[1], 8)), field)
