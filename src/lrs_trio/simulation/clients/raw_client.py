"""A client without manners: it puts bytes on a stream and takes responses from it, in whatever order it likes."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from lrs_trio.simulation.host.network import Network
from lrs_trio.wire.codec import decode_response, encode_request
from lrs_trio.wire.framing import FrameDecoder, encode_frame
from lrs_trio.wire.messages import Request, RequestBody, Response

READ_SIZE = 64 * 1024


@asynccontextmanager
async def raw_client(
    network: Network, name: str, *, room: int = READ_SIZE, uid: int | None = None
) -> AsyncIterator[RawClient]:
    """A connection that is cut off at the end of the block. `room` is how many bytes of responses wait on our side.

    `uid` is as for `Network.connect`.

    Raises:
        ConnectionRefusedError: no daemon listens.
    """
    stream = await network.connect(name, room=room, uid=uid)
    try:
        yield RawClient(stream)
    finally:
        await trio.aclose_forcefully(stream)


class RawClient:
    """Every method that waits raises `EOFError` when the daemon has closed the connection, or is gone."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self._decoder = FrameDecoder()
        self._received: deque[Response] = deque()

    async def send_bytes(self, data: bytes) -> None:
        try:
            await self._stream.send_all(data)
        except trio.BrokenResourceError:
            raise EOFError from None

    async def send(self, *bodies: RequestBody) -> None:
        """Send requests in one go, with the ids 1, 2, and so on."""
        await self.send_bytes(b"".join(frame(id_, body) for id_, body in enumerate(bodies, start=1)))

    async def ask(self, body: RequestBody, id_: int) -> Response:
        """Send one request and take the next response, whatever it is for."""
        await self.send_bytes(frame(id_, body))
        return await self.receive()

    async def receive(self) -> Response:
        """The next response."""
        while not self._received:
            await self.receive_some(READ_SIZE)
        return self._received.popleft()

    async def receive_some(self, most: int) -> None:
        """Read at most so many bytes."""
        try:
            data = await self._stream.receive_some(most)
        except trio.BrokenResourceError:
            data = b""
        if not data:
            raise EOFError
        self._received.extend(map(decode_response, self._decoder.feed(data)))

    @property
    def received(self) -> int:
        """Responses that have arrived whole and were not taken yet."""
        return len(self._received)

    async def read_to_the_end(self) -> None:
        """Drop all that still comes."""
        while True:
            await self.receive()


def frame(id_: int, body: RequestBody) -> bytes:
    """A request as it should be sent."""
    return encode_frame(encode_request(Request(id_, body)))
