"""What statvfs says, in the terms of the DSS."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass, replace

from lrs_trio.errors import LrsError
from lrs_trio.model import Space


@dataclass(slots=True)
class FullThreshold:
    """How much of a filesystem must be left, or it counts as full; may change while that is in use."""

    percent: int


def measured_space(found: os.statvfs_result, path: str) -> Space:
    """Used and free space as the filesystem at `path` reports them, in bytes.

    Raises:
        LrsError: EIO, the figures contradict each other.
    """
    if found.f_blocks + found.f_bavail < found.f_bfree:
        raise LrsError(
            errno.EIO,
            f"{path}: statvfs contradicts itself ({found.f_blocks} blocks, {found.f_bfree} free,"
            f" {found.f_bavail} available); check the filesystem",
        )
    return Space(
        used=max(found.f_blocks - found.f_bfree, 0) * found.f_frsize,
        free=found.f_bavail * found.f_frsize,
    )


def with_full_threshold(space: Space, percent: int) -> Space:
    """`space` with nothing free once only `percent` of it is left; until then all of it is."""
    left = (100 - percent) * space.free // 100 - percent * space.used // 100
    return space if left > 0 else replace(space, free=0)
