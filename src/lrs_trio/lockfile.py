"""A file that says, for as long as a process lives, that it holds something.

The lock is the kernel's (``flock``), not the file's being there: it ends with the process, so a crash
leaves nothing to clean. The file stays, unless its owner asks for its removal.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import weakref
from contextlib import suppress
from types import TracebackType
from typing import Final, Self

from lrs_trio.errors import AlreadyRunningError, LrsError

_PID_DIGITS = 20

_ADVICE: Final = {
    errno.ELOOP: ("this is a symbolic link, which is not followed", "name a file"),
    errno.EISDIR: ("this is a directory", "name a file in it"),
    errno.EINVAL: ("this is no file", "name one, or one that does not exist yet"),
}
"""What is at the path instead of a file, and what to do then."""


class FileLock:
    """A context manager that holds the lock on `path`; a fork of the process does not hold it.

    Args:
        path: the lock file, made where it is missing; its directory has to be there.
        what: what is held, in words, for the error that the next process gets.
        mode: of a file that is made. Who may open the file can hold the lock.
        remove: the file is deleted with the release, for those who look whether it is there.
    """

    def __init__(self, path: str | os.PathLike[str], what: str, *, mode: int = 0o660, remove: bool = False) -> None:
        self._path = os.fspath(path)
        self._what = what
        self._mode = mode
        self._remove = remove
        self._descriptor: int | None = None

    def acquire(self) -> None:
        """Take the lock at once or not at all.

        Raises:
            AlreadyRunningError: EEXIST, a living process holds it; the text names its pid.
            LrsError: the file cannot be made or opened.
        """
        descriptor = self._locked()
        while self._remove and not self._is_at_path(descriptor):
            # Removed by its last holder between our opening and our locking: it means nothing any more.
            os.close(descriptor)
            descriptor = self._locked()
        os.truncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        self._descriptor = descriptor
        os.register_at_fork(after_in_child=_Forget(self))

    def _locked(self) -> int:
        descriptor = self._open()
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, _PID_DIGITS, 0).decode("ascii", "replace").strip()
            os.close(descriptor)
            raise AlreadyRunningError(
                errno.EEXIST,
                f"{self._what} is in use: {f'pid {holder}' if holder else 'a process that is just starting'} "
                f"holds the lock on {self._path}; stop that process first",
            ) from None
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def release(self) -> None:
        """Let go of the lock, if this process holds it."""
        if self._descriptor is None:
            return
        os.truncate(self._descriptor, 0)
        if self._remove and self._is_at_path(self._descriptor):
            # While we hold the lock nobody else takes this file for his. One that stays is in nobody's way.
            with suppress(OSError):
                os.unlink(self._path)
        # Unlocked before it is closed: a child that is between fork and exec has a copy of the descriptor.
        fcntl.flock(self._descriptor, fcntl.LOCK_UN)
        self.forget()

    def forget(self) -> None:
        """Close our descriptor and leave the lock to whoever else has it, as a fork does."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _open(self) -> int:
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, self._mode)
        except OSError as error:
            raise self._no_file(error.errno or errno.EIO) from error
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise self._no_file(errno.EINVAL)
        return descriptor

    def _no_file(self, number: int) -> LrsError:
        what, advice = _ADVICE.get(
            number, (os.strerror(number), f"its directory must exist and be writable for user id {os.geteuid()}")
        )
        return LrsError(number, f"lock file {self._path} for {self._what}: {what}; {advice}")

    def _is_at_path(self, descriptor: int) -> bool:
        try:
            return os.path.samestat(os.stat(self._path, follow_symlinks=False), os.fstat(descriptor))
        except OSError:
            return False

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(
        self, type_: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()


class _Forget:
    """What a forked child does about `lock`; keeps it from living longer than its owner wants."""

    def __init__(self, lock: FileLock) -> None:
        self._lock = weakref.ref(lock)

    def __call__(self) -> None:
        lock = self._lock()
        if lock is not None:
            lock.forget()
