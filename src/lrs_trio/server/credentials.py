"""Who is at the other end of a connection, as the kernel says it."""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import struct
from array import array
from dataclasses import dataclass
from typing import Final

import trio

SO_PEERGROUPS: Final = 59
"""The socket module has no name for it; the number is the same on all machines but PA-RISC and SPARC."""

FEW_BYTES: Final = 1024
"""Of groups: what Python's getsockopt takes at most, and enough for nearly everybody."""

MOST_GROUPS: Final = 65_536
"""That a process may be in."""

_CREDENTIALS: Final = struct.Struct("3i")
_NUMBER: Final = "I"
_LIBC: Final = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class PeerCredentials:
    """Who was at the other end when the connection was made. The kernel may give the pid to another process later.

    `groups` are the supplementary ones of the process, in no order.
    """

    pid: int
    uid: int
    gid: int
    groups: frozenset[int] = frozenset()

    def __str__(self) -> str:
        return f"pid {self.pid}, uid {self.uid}"


def peer_credentials(stream: trio.SocketStream) -> PeerCredentials:
    """The credentials of the process that connected `stream`."""
    found = stream.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    assert isinstance(found, bytes)
    pid, uid, gid = _CREDENTIALS.unpack(found)
    return PeerCredentials(pid, uid, gid, _groups(stream))


def _groups(stream: trio.SocketStream) -> frozenset[int]:
    try:
        found = stream.getsockopt(socket.SOL_SOCKET, SO_PEERGROUPS, FEW_BYTES)
    except OSError as error:
        if error.errno == errno.ENOPROTOOPT:  # a sandbox without this call: what only groups may do is refused there
            return frozenset()
        if error.errno != errno.ERANGE:
            raise
        found = _many_groups(stream.socket.fileno())
    assert isinstance(found, bytes)
    return frozenset(array(_NUMBER, found))


def _many_groups(descriptor: int) -> bytes:
    size = ctypes.c_uint32(MOST_GROUPS * array(_NUMBER).itemsize)
    buffer = ctypes.create_string_buffer(size.value)
    if _LIBC.getsockopt(descriptor, socket.SOL_SOCKET, SO_PEERGROUPS, buffer, ctypes.byref(size)) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return buffer.raw[: size.value]
