"""A client's end of a connection, with somebody who reads along in both directions and changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import trio

from lrs_trio.errors import ProtocolError
from lrs_trio.simulation.host.stream import StreamEnd
from lrs_trio.wire.framing import FrameDecoder


class Listener(Protocol):
    """Who reads along."""

    def request(self, message: bytes) -> None:
        """The client is about to send `message`, whole; `ProtocolError` if that is no request."""
        ...

    def response(self, message: bytes) -> None:
        """The client has received `message`, whole; `ProtocolError` if that is no response."""
        ...

    def garbage(self, error: ProtocolError, *, received: bool) -> None:
        """What is sent, or was received, is not the protocol. Nothing more is told of that direction."""
        ...

    def end(self) -> None:
        """The connection is over; told once."""
        ...


class Tap(trio.abc.Stream):
    """Tells `listener` what passes over `stream`."""

    def __init__(self, stream: StreamEnd, listener: Listener) -> None:
        self._stream = stream
        self._listener = listener
        self._sent: FrameDecoder | None = FrameDecoder()
        self._received: FrameDecoder | None = FrameDecoder()
        self._ended = False

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        # Told before it leaves: the answer may arrive before this task goes on.
        if not self._stream.severed:
            self._sent = self._feed(self._sent, data, self._listener.request, received=False)
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        try:
            data = await self._stream.receive_some(max_bytes)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self._end()
            raise
        if data:
            self._received = self._feed(self._received, data, self._listener.response, received=True)
        else:
            self._end()
        return data

    async def aclose(self) -> None:
        self._end()
        await self._stream.aclose()

    def _feed(
        self,
        decoder: FrameDecoder | None,
        data: bytes | bytearray | memoryview,
        tell: Callable[[bytes], None],
        *,
        received: bool,
    ) -> FrameDecoder | None:
        """Tell of the messages that are complete now; the result is the decoder, unless nothing can follow any more."""
        if decoder is None or self._ended:
            return None
        try:
            for message in decoder.feed(data):
                tell(message)
        except ProtocolError as error:
            self._listener.garbage(error, received=received)
            return None
        return decoder

    def _end(self) -> None:
        if not self._ended:
            self._ended = True
            self._listener.end()
