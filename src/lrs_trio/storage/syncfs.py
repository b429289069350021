"""The system call that makes a whole filesystem durable; the standard library has none for it."""

from __future__ import annotations

import ctypes
import os

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syncfs.argtypes = [ctypes.c_int]
_libc.syncfs.restype = ctypes.c_int


def syncfs(descriptor: int) -> None:
    """Write back everything of the filesystem that `descriptor` is on, and wait for it.

    An interrupted call is not tried again: it may have used up the report of a write-back error.

    Raises:
        OSError: something could not be written, by now or since the last call on this descriptor.
    """
    if _libc.syncfs(descriptor) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
