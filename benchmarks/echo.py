"""The least that a trio server can do with the frames of a cycle: the limit that the daemon is measured against.

It decodes each request and answers at once with a fixed grant: no scheduling, no sync, no books.
Started by `benchmarks.limits`: ``python -m benchmarks.echo SOCKET MEDIUM...``.
"""

from __future__ import annotations

import sys
from functools import partial
from itertools import cycle

import trio

from benchmarks.harness import LIBRARY, READ_SIZE
from lrs_trio.model import AddressType, Family, FsType, RequestKind, ResourceId
from lrs_trio.wire.codec import decode_request, encode_response
from lrs_trio.wire.framing import FrameDecoder, encode_frame
from lrs_trio.wire.messages import (
    GrantedMedium,
    Ping,
    Pong,
    ReadAllocation,
    ReadGranted,
    Release,
    Released,
    RequestBody,
    Response,
    ResponseBody,
    WriteAllocation,
    WriteGranted,
)


class Echo:
    """Grants the media in turn."""

    def __init__(self, media: list[str]) -> None:
        self._granted = cycle(
            GrantedMedium(ResourceId(Family.DIR, name, LIBRARY), name, FsType.POSIX, AddressType.HASH1, 1 << 30)
            for name in media
        )

    def answer(self, body: RequestBody) -> ResponseBody | None:
        match body:
            case WriteAllocation():
                return WriteGranted(tuple(next(self._granted) for _ in body.media))
            case ReadAllocation():
                medium = body.media[0]
                return ReadGranted((GrantedMedium(medium, medium.name, FsType.POSIX, AddressType.HASH1),))
            case Release(kind=RequestKind.RELEASE_WRITE):
                return Released(tuple(element.medium for element in body.media), body.kind)
            case Ping():
                return Pong(body.value)
            case _:
                return None

    async def serve(self, stream: trio.SocketStream) -> None:
        decoder = FrameDecoder()
        async with stream:
            while data := await stream.receive_some(READ_SIZE):
                frames = bytearray()
                for message in decoder.feed(data):
                    request = decode_request(message)
                    body = self.answer(request.body)
                    if body is not None:
                        frames += encode_frame(encode_response(Response(request.id, body)))
                if frames:
                    await stream.send_all(frames)


async def main(path: str, media: list[str]) -> None:
    with trio.socket.socket(trio.socket.AF_UNIX, trio.socket.SOCK_STREAM) as listener:
        await listener.bind(path)
        listener.listen(128)
        print("ready", flush=True)
        await trio.serve_listeners(Echo(media).serve, [trio.SocketListener(listener)])


if __name__ == "__main__":
    trio.run(partial(main, sys.argv[1], sys.argv[2:]))
