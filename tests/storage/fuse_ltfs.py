"""A program that is to a daemon what ltfs is: it mounts a FUSE filesystem that bears a label, and serves it on.

    fuse_ltfs.py STATE LABEL DEVICE MOUNT_POINT

It returns once the filesystem is mounted; what serves it has left the session and keeps the standard output open.
In the directory STATE it leaves its process id (``pid``) and a line for each sync (``syncs``). A file there says
what comes of a sync: an errno, or ``hang`` for no answer at all (``sync``). If there is a file ``protected``, the
filesystem is read-only.

It speaks the kernel's protocol by itself, so that tests need nothing installed. Needs the right to mount.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import sys
from enum import IntEnum
from pathlib import Path


class Operation(IntEnum):
    """The kernel's numbers, as in linux/fuse.h."""

    FORGET = 2
    GETATTR = 3
    STATFS = 17
    SETXATTR = 21
    GETXATTR = 22
    INIT = 26
    OPENDIR = 27
    INTERRUPT = 36
    DESTROY = 38
    BATCH_FORGET = 42


UNANSWERED = {Operation.FORGET, Operation.INTERRUPT, Operation.BATCH_FORGET}

IN_HEADER = struct.Struct("<IIQQIIII")
OUT_HEADER = struct.Struct("<IiQ")
REQUEST_BYTES = 2**17 + 4096

MS_RDONLY, MS_NOSUID, MS_NODEV = 1, 2, 4

BLOCK = 4096
BLOCKS, FREE = 1000, 600


class Volume:
    """What is mounted: an empty directory with a label."""

    def __init__(self, state: Path, label: str) -> None:
        self._state = state
        self._label = label.encode()

    def answer(self, opcode: int, body: bytes) -> bytes:
        """The answer's content.

        Raises:
            OSError: the answer is an errno.
            TimeoutError: there is none.
        """
        match opcode:
            case Operation.INIT:  # version 7.31, and no more than the kernel offers
                return struct.pack("<IIIIHHIIHHIIH22x", 7, 31, BLOCK, 0, 12, 9, BLOCK, 1, 1, 0, 0, 0, 0)
            case Operation.GETATTR:  # a directory
                times = (0, 0, 0)
                numbers = (0, 0, 0, 0o40755, 2, os.getuid(), os.getgid(), 0, BLOCK, 0)
                return struct.pack("<QII6Q10I", 0, 0, 0, 1, 0, 0, *times, *numbers)
            case Operation.STATFS:
                return struct.pack("<5Q4I24x", BLOCKS, FREE, FREE, 0, 0, BLOCK, 255, BLOCK, 0)
            case Operation.OPENDIR:
                return bytes(16)
            case Operation.GETXATTR:
                size = int.from_bytes(body[:4], "little")
                if body[8:].rstrip(b"\0") != b"user.ltfs.volumeName":
                    raise OSError(errno.ENODATA, "")
                return self._label if size else struct.pack("<II", len(self._label), 0)
            case Operation.SETXATTR:
                name, _, value = body[8:].partition(b"\0")
                self._sync(name, value)
                return b""
        raise OSError(errno.ENOSYS, "")

    def _sync(self, name: bytes, value: bytes) -> None:
        if name != b"user.ltfs.sync" or value != (1).to_bytes(4, sys.byteorder):
            raise OSError(errno.EINVAL, "")
        with (self._state / "syncs").open("a") as syncs:
            syncs.write("sync\n")
        told = self._state / "sync"
        if told.exists():
            text = told.read_text()
            if text == "hang":
                raise TimeoutError
            raise OSError(int(text), "")


def serve(connection: int, volume: Volume) -> None:
    while True:
        try:
            request = os.read(connection, REQUEST_BYTES)
        except OSError as error:
            if error.errno == errno.ENODEV:  # unmounted
                return
            if error.errno in (errno.EINTR, errno.EAGAIN, errno.ENOENT):
                continue
            raise
        _, opcode, unique, *_ = IN_HEADER.unpack_from(request)
        if opcode in UNANSWERED:
            continue
        content, number = b"", 0
        try:
            content = volume.answer(opcode, request[IN_HEADER.size :])
        except TimeoutError:
            continue
        except OSError as error:
            number = error.errno or errno.EIO
        os.write(connection, OUT_HEADER.pack(OUT_HEADER.size + len(content), -number, unique) + content)
        if opcode == Operation.DESTROY:
            return


def mount(source: str, mount_point: str, connection: int, read_only: bool) -> None:
    options = f"fd={connection},rootmode=40000,user_id={os.getuid()},group_id={os.getgid()}"
    flags = MS_NOSUID | MS_NODEV | (MS_RDONLY if read_only else 0)
    library = ctypes.CDLL(None, use_errno=True)
    if library.mount(source.encode(), mount_point.encode(), b"fuse", flags, options.encode()):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), mount_point)


def main(state: Path, label: str, device: str, mount_point: str) -> None:
    connection = os.open("/dev/fuse", os.O_RDWR)
    mount(f"ltfs:{device}", mount_point, connection, (state / "protected").exists())
    sys.stdout.write(f"LTFS11031I Volume mounted successfully: {device}\n")
    sys.stdout.flush()
    if os.fork():
        return
    os.setsid()
    (state / "pid").write_text(str(os.getpid()))
    serve(connection, Volume(state, label))


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
