"""Runs a daemon in the background, and ends in the foreground with what has become of its start.

Whoever has started it knows from the exit status that it serves, and finds its process id in a file. That is written
when the daemon serves and not before: a start that fails does not touch what a running daemon has in it.
"""

from __future__ import annotations

import errno
import os
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from lrs_trio.errors import LrsError

Serve = Callable[[Callable[[], None]], int]
"""A daemon's whole life: it calls its argument when it is ready, and returns its exit status."""

_READY: Final = b"\0"
"""What the new process says when it serves. Any other byte is the exit status that it ends with instead."""

_WRITTEN: Final = b"\0"
"""The answer to that: its process id is in the file."""

_SILENT: Final = 1
"""The status of a start whose process has ended without a word."""


def run_in_background(serve: Serve, pid_file: str) -> int:
    """Run `serve` in a new process, which outlives us once it is ready, and return the status of its start.

    0: it is ready, and `pid_file` holds its process id in decimal and nothing else. Else the status that it has ended
    with. It keeps our standard error. If we are killed before it is ready, it ends in order when it would be.
    Not to be called where threads are.

    Raises:
        LrsError: the file cannot be written, or a signal has ended the new process; no process is left.
    """
    # Most of what can be wrong with the file shows here, before there is a process.
    os.close(_open(pid_file))
    ours, theirs = socket.socketpair()
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        ours.close()
        sys.exit(_live(serve, theirs))
    theirs.close()
    with ours:
        said = ours.recv(1)
        if said == _READY:
            try:
                _write(pid_file, child)
            except LrsError:
                ours.close()  # an answer that it understands, too
                os.waitpid(child, 0)
                raise
            ours.send(_WRITTEN)
            return 0
    _, ended = os.waitpid(child, 0)
    if said:
        return said[0]
    if os.WIFSIGNALED(ended):
        number = os.WTERMSIG(ended)
        told = f"the daemon was ended by signal {number} ({signal.strsignal(number)}) before it was ready"
        raise LrsError(errno.EIO, told)
    return _SILENT


def _live(serve: Serve, parent: socket.socket) -> int:
    """The new process from here to its end; returns its exit status."""
    os.setsid()  # a terminal that closes is no reason to end
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1):
        os.dup2(nothing, stream)
    os.close(nothing)

    def ready() -> None:
        try:
            parent.send(_READY)
            answer = parent.recv(1)
        except OSError:
            answer = b""
        parent.close()
        if answer != _WRITTEN:
            import structlog

            structlog.get_logger().warning("ending: whoever started this daemon has gone or cannot write its pid file")
            signal.raise_signal(signal.SIGTERM)

    status = _SILENT
    try:
        status = serve(ready)
    finally:
        with suppress(OSError):  # said before, or there is nobody to tell
            parent.send(bytes([status or _SILENT]))
    return status


def _open(pid_file: str, flags: int = 0) -> int:
    try:
        return os.open(pid_file, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | flags, 0o666)
    except OSError as error:
        raise _failure(pid_file, error) from error


def _write(pid_file: str, pid: int) -> None:
    descriptor = _open(pid_file, os.O_TRUNC)
    try:
        os.write(descriptor, str(pid).encode())
    except OSError as error:
        raise _failure(pid_file, error) from error
    finally:
        os.close(descriptor)


def _failure(pid_file: str, error: OSError) -> LrsError:
    return LrsError(error.errno or errno.EIO, f"pid file {pid_file}: {error.strerror}; the daemon was not started")
