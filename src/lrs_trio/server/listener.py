"""The daemon's Unix socket: who may connect, and that there is only one daemon behind it."""

from __future__ import annotations

import errno
import grp
import os
import socket
import stat
import struct
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import trio

from lrs_trio.errors import LrsError
from lrs_trio.lockfile import FileLock

MAX_PATH_BYTES = 107
"""What the address of a Unix socket has room for on Linux, without its closing zero."""

BACKLOG = 4096
"""Connections that the kernel keeps until they are accepted; a crowd that starts at once must find room."""

_CREDENTIALS = struct.Struct("3i")


@dataclass(frozen=True, slots=True)
class PeerCredentials:
    """Who was at the other end when the connection was made. The kernel may give the pid to another process later."""

    pid: int
    uid: int
    gid: int


def peer_credentials(stream: trio.SocketStream) -> PeerCredentials:
    """The credentials of the process that connected `stream`."""
    found = stream.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return PeerCredentials(*_CREDENTIALS.unpack(found))


@asynccontextmanager
async def open_unix_listener(
    path: Path, *, mode: int, group: str | None = None, backlog: int = BACKLOG
) -> AsyncIterator[trio.SocketListener]:
    """Listen on `path` until the block is left; the socket is closed and its file removed then.

    `mode` holds the permission bits of the socket's file: who may write it may connect. `group`, a name or a
    number, is to own it; ``None`` leaves the process's group. A lock on ``<path>.lock`` is held throughout, so
    that the socket of a daemon that died is replaced, and that of a living one never.

    Raises:
        AlreadyRunningError: another daemon holds the lock; the text names its pid.
        LrsError: ENAMETOOLONG, the path does not fit; ENOENT or ENOTDIR, its directory is not there; ENOTSOCK,
            there is something else than a socket; EINVAL, there is no such group; EPERM, we may not give it
            to that group.
        OSError: the socket cannot be made.
    """
    _check_path(path)
    owner = -1 if group is None else _group_number(group)
    with FileLock(path.with_name(path.name + ".lock"), f"socket {path}"):
        _remove_stale(path)
        with _bound_socket(path, mode, owner) as bound:
            bound.listen(backlog)
            yield trio.SocketListener(trio.socket.from_stdlib_socket(bound))


def _check_path(path: Path) -> None:
    length = len(os.fsencode(path))
    if length > MAX_PATH_BYTES:
        raise LrsError(
            errno.ENAMETOOLONG, f"socket {path}: the path has {length} bytes, at most {MAX_PATH_BYTES} are possible"
        )
    if not path.parent.exists():
        raise LrsError(errno.ENOENT, f"socket {path}: the directory {path.parent} does not exist; create it first")
    if not path.parent.is_dir():
        raise LrsError(errno.ENOTDIR, f"socket {path}: {path.parent} is not a directory")


def _group_number(group: str) -> int:
    if group.isdecimal():
        return int(group)
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        raise LrsError(errno.EINVAL, f"socket group {group!r}: there is no such group on this host") from None


def _remove_stale(path: Path) -> None:
    """Remove the socket of a daemon that has died. The lock is ours, so nobody listens there."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise LrsError(errno.ENOTSOCK, f"socket {path}: there is a file of that name that is no socket; move it away")
    path.unlink()


@contextmanager
def _bound_socket(path: Path, mode: int, group: int) -> Iterator[socket.socket]:
    """A socket bound to `path` and not listening yet: nobody can connect before its permissions are right."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as bound:
        # The file gets the socket's own mode. A umask would do the same to every file that another thread
        # makes at this moment.
        os.fchmod(bound.fileno(), 0o600)
        bound.bind(os.fspath(path))
        made = path.lstat()
        try:
            if group != -1:
                _give_to_group(path, group)
            path.chmod(mode)
            yield bound
        finally:
            _remove_own(path, made)


def _give_to_group(path: Path, group: int) -> None:
    try:
        os.chown(path, -1, group)
    except PermissionError:
        raise LrsError(
            errno.EPERM, f"socket {path}: we may not give it to group {group}; run the daemon as a member of that group"
        ) from None


def _remove_own(path: Path, made: os.stat_result) -> None:
    """Remove the file that we made, unless it is gone or somebody has put another one there."""
    try:
        if os.path.samestat(path.lstat(), made):
            path.unlink()
    except FileNotFoundError:
        pass
