"""The root directory of a directory medium, reached through one descriptor from open to close.

Everything here blocks: it is called in worker threads. A caller may give up on a call that hangs, so
the thread of an earlier call may still be at work when the next one comes, or after the release.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from lrs_trio.errors import LrsError
from lrs_trio.model import LABEL_LENGTH, Medium
from lrs_trio.storage.syncfs import syncfs

LABEL_FILE = ".phobos_dir_label"
LABEL_FILE_LENGTH = 4096
"""More than any label has: a medium's name is a path."""
NO_CONTENT = frozenset({LABEL_FILE, "lost+found"})
"""What a freshly formatted directory may hold; the latter comes with an ext filesystem."""


class Root:
    """A directory that stays the same one, whatever its path names later (decision 13).

    Linux reports a write-back error once to each descriptor that was open when it happened. So there is
    one descriptor, and once it has reported an error `syncfs` never succeeds again: neither can a caller
    that gave up swallow the report, nor a later success pass for the safety of what was lost.
    """

    def __init__(self, path: str, sync: Callable[[int], None] = syncfs) -> None:
        self.path = path
        self.device = 0
        self._sync = sync
        self._descriptor: int | None = None
        self._opened: os.stat_result | None = None
        self._write_back_errno = 0
        # Calls under way, and the owner. The last one closes: a number that is closed during a call
        # could name another file when the call gets to use it.
        self._users = 1
        self._guard = threading.Lock()

    def open(self) -> None:
        """Get hold of the directory.

        Raises:
            OSError: there is none.
        """
        with self._blamed():
            descriptor = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        with self._guard:
            released = self._users == 0
            self._descriptor = None if released else descriptor
        if released:
            os.close(descriptor)
            return
        with self._use() as descriptor, self._blamed():
            self._opened = os.fstat(descriptor)
            self.device = self._opened.st_dev

    def release(self) -> None:
        """Let go: the descriptor closes now, or when the last call that still uses it ends."""
        with self._guard:
            self._users -= 1
            descriptor = self._descriptor if self._users == 0 else None
        if descriptor is not None:
            os.close(descriptor)

    def check_in_place(self) -> None:
        """See that the path, by which clients reach it, still names this directory.

        Raises:
            LrsError: ESTALE, it names another one.
            OSError: it names none.
        """
        with self._blamed():
            if self._opened is not None and os.path.samestat(self._opened, os.stat(self.path)):
                return
        raise LrsError(
            errno.ESTALE,
            f"{self.path} is not the directory any more that was opened here: it was replaced, or a filesystem was"
            " mounted or unmounted there; put it back, then lock and unlock the device",
        )

    def read_label(self) -> str | None:
        """The label, ``None`` if there is no label file. What is no UTF-8 comes as surrogate escapes."""
        with self._use() as descriptor, self._blamed(LABEL_FILE):
            try:
                label = os.open(LABEL_FILE, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW, dir_fd=descriptor)
            except FileNotFoundError:
                return None
            with open(label, "rb") as file:
                return os.fsdecode(file.read(LABEL_FILE_LENGTH))

    def write_label(self, name: str) -> None:
        """Label the directory with `name`, durably.

        A label that is there already stays, unless it comes from a format whose end nobody has heard of:
        an empty one, or this very one in a directory that holds nothing else.

        Raises:
            LrsError: EEXIST, it is labelled.
        """
        with self._use() as descriptor, self._blamed(LABEL_FILE):
            try:
                self._create_label(descriptor, os.O_CREAT | os.O_EXCL, name)
            except FileExistsError:
                found = self.read_label() or ""
                if found and not (found == name and NO_CONTENT.issuperset(os.listdir(descriptor))):
                    raise LrsError(
                        errno.EEXIST,
                        f"{self.path} is labelled {found!r} already; remove {LABEL_FILE} to give it away",
                    ) from None
                self._create_label(descriptor, os.O_CREAT | os.O_TRUNC, name)
            os.fsync(descriptor)

    def statvfs(self) -> os.statvfs_result:
        with self._use() as descriptor, self._blamed():
            return os.statvfs(descriptor)

    def syncfs(self) -> None:
        """Make durable what was written to the directory's filesystem.

        Raises:
            OSError: not all of it could be written, now or ever since the directory was opened.
        """
        with self._use() as descriptor, self._blamed():
            if self._write_back_errno:
                raise OSError(self._write_back_errno, os.strerror(self._write_back_errno))
            try:
                self._sync(descriptor)
            except OSError as error:
                self._write_back_errno = error.errno or errno.EIO
                raise

    def sync_and_measure(self) -> os.statvfs_result:
        """`syncfs` with everything around it in one call: a change of threads costs as much as a small sync."""
        self.check_in_place()
        self.syncfs()
        return self.statvfs()

    def measure_in_place(self) -> os.statvfs_result:
        self.check_in_place()
        return self.statvfs()

    def _create_label(self, descriptor: int, flags: int, name: str) -> None:
        label = os.open(LABEL_FILE, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW | flags, 0o600, dir_fd=descriptor)
        with open(label, "wb") as file:
            try:
                file.write(os.fsencode(name))
                file.flush()
                os.fsync(label)
            except OSError:
                os.unlink(LABEL_FILE, dir_fd=descriptor)
                raise

    @contextmanager
    def _use(self) -> Iterator[int]:
        with self._guard:
            if not self._users or self._descriptor is None:
                raise OSError(errno.EBADF, os.strerror(errno.EBADF), self.path)
            self._users += 1
        try:
            yield self._descriptor
        finally:
            self.release()

    @contextmanager
    def _blamed(self, file: str = "") -> Iterator[None]:
        """Give errors of calls by descriptor the path that a person knows."""
        try:
            yield
        except LrsError:
            raise
        except OSError as error:
            raise OSError(error.errno, error.strerror, os.path.join(self.path, file) if file else self.path) from error


def label_names(found: str, name: str) -> bool:
    """Whether the label `found` is that of the medium `name`.

    The label file holds the whole name. One that was cut, after 32 bytes or 32 characters as other
    daemons do, is taken for it too.
    """
    whole, label = os.fsencode(name), os.fsencode(found)
    return label in (whole, whole[:LABEL_LENGTH], os.fsencode(name[:LABEL_LENGTH]))


def label_recorded(found: str, medium: Medium) -> bool:
    """Whether the label `found` is the one that the DSS has for `medium`, which was labelled under another name.

    The DSS keeps the beginning of a label only. Where that is no more than the beginning of the medium's own
    name, it would fit the labels of other media as well, and proves nothing.
    """
    recorded, label = os.fsencode(medium.fs_label), os.fsencode(found)
    if not recorded or os.fsencode(medium.id.name).startswith(recorded):
        return False
    return recorded in (label[:LABEL_LENGTH], os.fsencode(found[:LABEL_LENGTH]))
