"""The least that a trio server can do with the frames of a cycle: the limit that the daemon is measured against.

For each connection it has a reader, a writer and a bounded channel between them, as every server needs them that
answers later than it reads. It parses each request and answers at once with a fixed grant: no scheduling, no sync,
no books. Started by `benchmarks.limits`: ``python -m benchmarks.echo SOCKET MEDIUM...``.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterator
from functools import partial
from itertools import cycle
from typing import Final

import trio

from benchmarks.harness import LIBRARY
from lrs_trio.wire.framing import PROTOCOL_VERSION
from lrs_trio.wire.lrs_pb2 import (
    DIR,
    HASH1,
    KIND_RELEASE_WRITE,
    POSIX,
    ReadGranted,
    Release,
    Released,
    Request,
    ResourceId,
    Response,
    WriteGranted,
)

READ_SIZE: Final = 64 * 1024
CHANNEL: Final = 1024
BACKLOG: Final = 1024
FREE: Final = 1 << 30
"""What each medium says it has room for. Bytes."""

_HEADER: Final = struct.Struct(">IB")
_LENGTH_SIZE: Final = 4


class Echo:
    """Grants the media in turn."""

    def __init__(self, media: list[str]) -> None:
        self._media = cycle([ResourceId(family=DIR, name=name, library=LIBRARY) for name in media])

    async def serve(self, stream: trio.SocketStream) -> None:
        """Runs until the client has closed the connection."""
        frames, to_write = trio.open_memory_channel[bytes](CHANNEL)
        async with stream, trio.open_nursery() as nursery:
            nursery.start_soon(self._write, stream, to_write)
            async with frames:
                await self._read(stream, frames)

    async def _read(self, stream: trio.SocketStream, frames: trio.MemorySendChannel[bytes]) -> None:
        buffer = bytearray()
        while data := await stream.receive_some(READ_SIZE):
            buffer += data
            for message in _messages(buffer):
                answer = self._answer(Request.FromString(message))
                if answer is not None:
                    encoded = answer.SerializeToString()
                    await frames.send(_HEADER.pack(len(encoded) + 1, PROTOCOL_VERSION) + encoded)

    async def _write(self, stream: trio.SocketStream, frames: trio.MemoryReceiveChannel[bytes]) -> None:
        async with frames:
            async for frame in frames:
                await stream.send_all(frame)

    def _answer(self, request: Request) -> Response | None:
        if request.HasField("ping"):
            return Response(request_id=request.id, ping=True)
        if request.HasField("write"):
            return Response(
                request_id=request.id,
                write=WriteGranted(
                    media=[
                        WriteGranted.Medium(
                            medium=medium, avail_size=FREE, root=medium.name, fs_type=POSIX, address_type=HASH1
                        )
                        for _, medium in zip(request.write.media, self._media, strict=False)
                    ]
                ),
            )
        if request.HasField("read"):
            medium = request.read.media[0]
            granted = ReadGranted.Medium(medium=medium, root=medium.name, fs_type=POSIX, address_type=HASH1)
            return Response(request_id=request.id, read=ReadGranted(media=[granted]))
        if request.release.kind == KIND_RELEASE_WRITE:
            return Response(request_id=request.id, release=_released(request.release))
        return None


def _released(release: Release) -> Released:
    return Released(media=[element.medium for element in release.media], partial=release.partial, kind=release.kind)


def _messages(buffer: bytearray) -> Iterator[bytes]:
    """Take what is whole out of `buffer`."""
    start = 0
    while len(buffer) - start >= _HEADER.size:
        end = start + _LENGTH_SIZE + int.from_bytes(buffer[start : start + _LENGTH_SIZE])
        if len(buffer) < end:
            break
        yield bytes(memoryview(buffer)[start + _HEADER.size : end])
        start = end
    del buffer[:start]


async def main(path: str, media: list[str]) -> None:
    """Serve on the socket at `path`; runs until cancelled."""
    with trio.socket.socket(trio.socket.AF_UNIX, trio.socket.SOCK_STREAM) as listener:
        await listener.bind(path)
        listener.listen(BACKLOG)
        print("ready", flush=True)
        await trio.serve_listeners(Echo(media).serve, [trio.SocketListener(listener)])


if __name__ == "__main__":
    trio.run(partial(main, sys.argv[1], sys.argv[2:]))
