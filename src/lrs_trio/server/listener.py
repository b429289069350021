"""The daemon's Unix socket: who may connect, and that there is only one daemon behind it."""

from __future__ import annotations

import errno
import grp
import os
import socket
import stat
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from math import inf
from pathlib import Path

import structlog
import trio

from lrs_trio.errors import LrsError, describe
from lrs_trio.lockfile import FileLock
from lrs_trio.server.credentials import peer_credentials
from lrs_trio.server.descriptors import SpareDescriptor, descriptor_limit
from lrs_trio.server.rate_limit import RateLimit

log = structlog.get_logger()

MAX_PATH_BYTES = 107
"""What the address of a Unix socket has room for on Linux, without its closing zero."""

BACKLOG = 4096
"""Connections that the kernel keeps until they are accepted; a crowd that starts at once must find room."""

ACCEPTED_PER_S = 2000
ACCEPTED_AT_ONCE = 1024
"""Clients of a flood wait in the backlog, so that those who are connected already get on."""

PAUSE_S = 0.1
"""How long nobody is accepted after the kernel had no room for another connection. Seconds."""

_NO_DESCRIPTOR = frozenset({errno.EMFILE, errno.ENFILE})
_NO_MEMORY = frozenset({errno.ENOBUFS, errno.ENOMEM})


class UnixListener(trio.abc.Listener[trio.SocketStream]):
    """Accepts while there are file descriptors; whoever comes when there are none is closed at once.

    A client that is closed knows it; one that nobody accepts waits for ever.
    """

    def __init__(self, listening: socket.socket) -> None:
        """Accept from `listening`, which is closed with this listener."""
        self._socket = listening
        self._listener = trio.SocketListener(trio.socket.from_stdlib_socket(listening))
        self._spare = SpareDescriptor()
        self._pace = RateLimit(ACCEPTED_PER_S, ACCEPTED_AT_ONCE)
        self._next = -inf

    async def accept(self) -> trio.SocketStream:
        """The next client that there is room for.

        Raises:
            ClosedResourceError: this listener is closed.
            OSError: it cannot accept, for a reason that does not pass.
        """
        while True:
            stream = await self._accept_anybody()
            if self._spare.refill():
                return stream
            client, limit = str(peer_credentials(stream)), descriptor_limit()
            log.warning("connection refused: no file descriptors are left", client=client, limit=limit)
            await trio.aclose_forcefully(stream)

    async def aclose(self) -> None:
        self.close()
        await trio.lowlevel.checkpoint()

    def close(self) -> None:
        """Accept nobody any more."""
        self._spare.close()
        self._listener.socket.close()

    async def _accept_anybody(self) -> trio.SocketStream:
        while True:
            if self._next > trio.current_time():
                await trio.sleep_until(self._next)
            try:
                return await self._listener.accept()
            except OSError as error:
                stream = await self._accept_in_spite_of(error)
                if stream is not None:
                    return stream
            finally:
                now = trio.current_time()
                self._next = now + self._pace.step(now)

    async def _accept_in_spite_of(self, error: OSError) -> trio.SocketStream | None:
        """Accept with the spare descriptor, or wait for a better moment; raise `error` if there is none to come."""
        if error.errno in _NO_DESCRIPTOR:
            self._spare.close()
            try:
                accepted, _ = self._socket.accept()
            except BlockingIOError:
                # The kernel has looked for a descriptor before it has looked for a client.
                self._spare.refill()
                await trio.lowlevel.wait_readable(self._socket)
                return None
            except OSError as again:
                error = again
            else:
                return trio.SocketStream(trio.socket.from_stdlib_socket(accepted))
        if error.errno not in _NO_DESCRIPTOR | _NO_MEMORY:
            raise error
        log.warning("nobody can be accepted for a moment", client="those who wait", error=describe(error))
        await trio.sleep(PAUSE_S)
        return None


@asynccontextmanager
async def open_unix_listener(
    path: Path, *, mode: int, group: str | None = None, backlog: int = BACKLOG
) -> AsyncIterator[UnixListener]:
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
            listener = UnixListener(bound)
            try:
                yield listener
            finally:
                listener.close()


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
