"""The files of a cartridge: a directory that a drive shows at a mount point by a link."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

WRITE_BITS = 0o222


@dataclass(frozen=True, slots=True)
class Measure:
    """How many files there are, and how many bytes they have together."""

    files: int
    size: int


def content_of(library: Path, barcode: str) -> Path:
    return library / "cartridges" / barcode / "content"


def measure(content: Path) -> Measure:
    """All files below `content`; what vanishes meanwhile counts or not."""
    files = size = 0
    for directory, _, names in os.walk(content):
        for name in names:
            with suppress(FileNotFoundError):
                size += os.lstat(os.path.join(directory, name)).st_size
                files += 1
    return Measure(files, size)


def erase(content: Path) -> None:
    """Remove everything below `content`."""
    with os.scandir(content) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path)
            else:
                os.unlink(entry.path)


def is_shown(content: Path, mount_point: str) -> bool:
    """Whether `mount_point` leads to `content`."""
    try:
        return os.readlink(mount_point) == str(content)
    except OSError:
        return False


def show(content: Path, mount_point: str) -> None:
    """Make `mount_point` lead to `content`, in place of a link that is left from before.

    Raises:
        OSError: EEXIST, something else is there, such as the mount of another library; others, no link can be made.
    """
    if os.path.islink(mount_point) and _is_left_over(Path(os.readlink(mount_point)), content):
        os.unlink(mount_point)
    os.symlink(content, mount_point)


def _is_left_over(target: Path, content: Path) -> bool:
    """Whether a link to `target` serves nobody: that is gone, or of the library that `content` is of."""
    return not target.exists() or target.parent.parent == content.parent.parent


def hide(mount_point: str) -> None:
    """Take the link away; nothing happens if it is gone."""
    with suppress(FileNotFoundError):
        os.unlink(mount_point)
