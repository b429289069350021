"""One connection: a reader task and a sender task around one stream.

Whatever a client does, only its own connection may suffer: bytes that are not the protocol, a stream
that breaks, and responses that nobody reads all end here.
"""

from __future__ import annotations

import errno
from functools import partial

import structlog
import trio

from lrs_trio.errors import ProtocolError
from lrs_trio.events import EventKind, Events
from lrs_trio.model import RequestKind
from lrs_trio.scheduling.client import Client
from lrs_trio.server.dispatch import Dispatcher
from lrs_trio.server.outbox import CHUNK, ResponseChannel
from lrs_trio.server.stream import ClientStream
from lrs_trio.server.turnstile import Share, Turnstile
from lrs_trio.settings import ServerSettings
from lrs_trio.wire.codec import MalformedRequestError, decode_request
from lrs_trio.wire.framing import FrameDecoder
from lrs_trio.wire.messages import Failed, Response

log = structlog.get_logger()

READ_SIZE = 64 * 1024


class Connection:
    """Runs until the client leaves, misbehaves, or the server stops it."""

    def __init__(
        self,
        stream: trio.abc.Stream,
        client: Client,
        outbox: ResponseChannel,
        dispatcher: Dispatcher,
        settings: ServerSettings,
        events: Events,
        turnstile: Turnstile,
    ) -> None:
        if isinstance(stream, trio.SocketStream):
            stream = ClientStream(stream)
        self.client = client
        self._stream = stream
        self._outbox = outbox
        self._dispatcher = dispatcher
        self._settings = settings
        self._events = events
        self._share = Share(turnstile)
        self._send_now = stream.send_now if isinstance(stream, ClientStream) else _send_nothing
        self._reading = trio.CancelScope()
        self._tell = None if events.on_message is None else partial(events.on_message, client.serial)
        outbox.on_departure = self._tell

    @property
    def unsent(self) -> int:
        return len(self._outbox)

    def stop(self) -> None:
        """Read no more; the connection ends when its responses are flushed."""
        self._reading.cancel(reason="the server stops")

    async def run(self) -> None:
        """Serve the client."""
        self._events.emit(EventKind.CONNECTION_OPENED, client=str(self.client), serial=self.client.serial)
        try:
            async with self._stream, trio.open_nursery() as nursery:
                nursery.start_soon(self._send, name=f"sender of {self.client}")
                try:
                    with self._reading:
                        await self._read(nursery)
                except ProtocolError as error:
                    # What was asked before in order is still answered, then the connection ends.
                    log.warning("connection closed", client=str(self.client), error=str(error))
                    self._events.emit(
                        EventKind.PROTOCOL_ERROR,
                        client=str(self.client),
                        detail=str(error),
                        serial=self.client.serial,
                    )
                finally:
                    self.client.leave()
                    self._outbox.close()
        except* (trio.BrokenResourceError, trio.ClosedResourceError):
            log.debug("connection broken", client=str(self.client))
        except* trio.TooSlowError:
            log.warning(
                "connection closed: the client does not read its responses",
                client=str(self.client),
                unsent=len(self._outbox),
                seconds=self._settings.slow_client_s,
            )
        finally:
            self._events.emit(EventKind.CONNECTION_CLOSED, client=str(self.client), serial=self.client.serial)

    async def _read(self, nursery: trio.Nursery) -> None:
        decoder = FrameDecoder(self._settings.max_frame_bytes)
        while data := await self._stream.receive_some(READ_SIZE):
            self._share.begin()
            for payload in decoder.feed(data):
                if self._outbox.full:
                    await self._outbox.wait_room()
                if not self._share.take():
                    await self._share.renew()
                self._handle(payload, nursery)
        if not decoder.at_boundary():
            raise ProtocolError("the connection ended inside a frame")

    def _handle(self, payload: bytes, nursery: trio.Nursery) -> None:
        try:
            request = decode_request(payload)
        except MalformedRequestError as error:
            if self._tell is not None:
                self._tell(payload)
            log.info("malformed request", client=str(self.client), error=str(error))
            kind = RequestKind.WRITE if error.kind is None else error.kind
            if not error.silent:
                self._outbox.respond(Response(error.request_id, Failed(-errno.EINVAL, kind)))
            return
        if self._tell is not None:
            self._tell(request)
        self._dispatcher.dispatch(self.client, request, nursery)

    async def _send(self) -> None:
        while frames := await self._outbox.take():
            sent = self._send_now(frames)
            if sent < len(frames):
                await self._send_slowly(memoryview(frames)[sent:])

    async def _send_slowly(self, frames: memoryview) -> None:
        """Send what the client does not read as fast as it comes, for as long as it reads at all."""
        for start in range(0, len(frames), CHUNK):
            with trio.fail_after(self._settings.slow_client_s):
                await self._stream.send_all(frames[start : start + CHUNK])


def _send_nothing(data: bytes) -> int:
    """A stream that can only be waited for."""
    return 0
