"""The files of the cartridges: a directory for each, which a drive shows at a mount point by a link."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import trio

from lrs_trio.storage.root import Root
from lrs_trio.storage.virtual.keeping import Measure

T = TypeVar("T")


def content_of(library: Path, barcode: str) -> Path:
    return library / "cartridges" / barcode / "content"


class DirectoryContents:
    """The contents of the library in `directory`; `durable` makes what is synced survive the host's end."""

    def __init__(self, directory: Path, *, durable: bool) -> None:
        self._directory = directory
        self._durable = durable

    def is_shown(self, barcode: str, mount_point: str) -> bool:
        try:
            return os.readlink(mount_point) == str(content_of(self._directory, barcode))
        except OSError:
            return False

    def show(self, barcode: str, mount_point: str) -> None:
        """Make a link, in place of one that is left from before.

        Raises:
            OSError: EEXIST, something else is there, such as the mount of another library; others, no link can be made.
        """
        content = content_of(self._directory, barcode)
        if os.path.islink(mount_point) and _is_left_over(Path(os.readlink(mount_point)), content):
            os.unlink(mount_point)
        os.symlink(content, mount_point)

    def hide(self, mount_point: str) -> None:
        with suppress(FileNotFoundError):
            os.unlink(mount_point)

    def mode(self, barcode: str) -> int:
        return stat.S_IMODE(content_of(self._directory, barcode).stat().st_mode)

    def set_mode(self, barcode: str, mode: int) -> None:
        content_of(self._directory, barcode).chmod(mode)

    def of_drive(self) -> DirectoryFiles:
        return DirectoryFiles(self._directory, durable=self._durable)


class DirectoryFiles:
    """What one drive reaches of them. What may take a while is done in a thread, unless nothing is to be durable."""

    def __init__(self, directory: Path, *, durable: bool) -> None:
        self._directory = directory
        self._durable = durable
        self._limiter = trio.CapacityLimiter(1)
        self._root: Root | None = None

    def hold(self, barcode: str) -> None:
        self._open(barcode)

    def let_go(self) -> None:
        root, self._root = self._root, None
        if root is not None:
            root.release()

    async def measure(self, barcode: str) -> Measure:
        return await self._on_disk(measure, barcode)

    async def erase(self, barcode: str) -> None:
        await self._on_disk(erase, barcode, abandon=False)

    async def make_durable(self, barcode: str) -> None:
        if not self._durable:
            await trio.lowlevel.checkpoint()
            return
        root = self._root or self._open(barcode)
        await trio.to_thread.run_sync(root.syncfs, abandon_on_cancel=True, limiter=self._limiter)

    def _open(self, barcode: str) -> Root:
        self.let_go()
        root = Root(str(content_of(self._directory, barcode)))
        root.open()
        self._root = root
        return root

    async def _on_disk(self, function: Callable[[Path], T], barcode: str, *, abandon: bool = True) -> T:
        content = content_of(self._directory, barcode)
        if not self._durable:
            await trio.lowlevel.checkpoint()
            return function(content)
        return await trio.to_thread.run_sync(function, content, abandon_on_cancel=abandon, limiter=self._limiter)


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


def _is_left_over(target: Path, content: Path) -> bool:
    """Whether a link to `target` serves nobody: that is gone, or of the library that `content` is of."""
    return not target.exists() or target.parent.parent == content.parent.parent
