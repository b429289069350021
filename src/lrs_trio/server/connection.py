"""One connection: a reader task around one stream, and a sender task while the client does not read its responses.

Whatever a client does, only its own connection may suffer: bytes that are not the protocol, a stream
that breaks, and responses that nobody reads all end here.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from functools import partial
from itertools import chain

import structlog
import trio

from lrs_trio.errors import ProtocolError
from lrs_trio.events import EventKind, Events
from lrs_trio.model import RequestKind, Right
from lrs_trio.scheduling.client import Client
from lrs_trio.scheduling.pace import Pace
from lrs_trio.server.credentials import PeerCredentials
from lrs_trio.server.dispatch import Dispatcher
from lrs_trio.server.long_frames import LONG_BYTES, LongFrames
from lrs_trio.server.outbox import CHUNK, ResponseChannel
from lrs_trio.server.postman import Postman
from lrs_trio.server.stream import ClientStream
from lrs_trio.server.turnstile import Share, Turnstile
from lrs_trio.settings import ServerSettings
from lrs_trio.wire.codec import MalformedRequestError, decode_request, may_be_release
from lrs_trio.wire.framing import FrameDecoder
from lrs_trio.wire.messages import Failed, Response

log = structlog.get_logger()

READ_SIZE = 64 * 1024

WITHDRAWN_PER_STEP = 16
"""Requests of a client that has gone. Thousands at once would take the event loop milliseconds, and clients of one
program go together."""


class Connection:
    """Runs until the client leaves, misbehaves, or the server stops it."""

    def __init__(
        self,
        stream: trio.abc.Stream,
        serial: int,
        peer: PeerCredentials,
        rights: frozenset[Right],
        dispatcher: Dispatcher,
        settings: ServerSettings,
        events: Events,
        turnstile: Turnstile,
        postman: Postman,
        long_frames: LongFrames,
    ) -> None:
        if isinstance(stream, trio.SocketStream):
            stream = ClientStream(stream)
        self._stream = stream
        self._outbox = ResponseChannel(settings.response_channel, self._filled)
        self.client = Client(serial, self._outbox, pid=peer.pid, uid=peer.uid, rights=rights)
        self._dispatcher = dispatcher
        self._postman = postman
        self._settings = settings
        self._events = events
        self._share = Share(turnstile)
        self._room = long_frames.room_of(peer.uid)
        self._send_now = stream.send_now if isinstance(stream, ClientStream) else _send_nothing
        self._reading = trio.CancelScope()
        self._received: Iterator[bytes] = iter(())
        """What was read and is still to be handled, but for the one for which it is not time yet."""
        self._held_back: bytes | None = None
        self._is_read = True
        """Whether the client reads its answers, as far as we know."""
        self._handling = False
        self._has_answered = False
        """Whether the first of what is to be sent is an answer to what was just handled."""
        self._tasks: trio.Nursery | None = None
        self._sending = False
        """Whether a task of ours sends, so that the postman need not."""
        self._tell = None if events.on_message is None else partial(events.on_message, serial)
        self._outbox.on_departure = self._tell

    @property
    def unsent(self) -> int:
        return len(self._outbox)

    def stop(self) -> None:
        """Read no more; the connection ends when its responses are flushed."""
        self._reading.cancel(reason="nothing more is read")

    async def run(self) -> None:
        """Serve the client."""
        self._events.emit(EventKind.CONNECTION_OPENED, client=str(self.client), serial=self.client.serial)
        try:
            async with self._stream, trio.open_nursery() as self._tasks:
                try:
                    await self._serve(self._tasks)
                    await self._withdraw()
                    # It holds nothing any more while it waits for the reports that it was promised.
                    self.client.leave()
                    await self._outbox.wait_kept()
                finally:
                    self.client.leave()
                    self._outbox.close()
                    is_sending, self._sending = self._sending, True
                if not is_sending:
                    await self._send_slowly(memoryview(self._outbox.take()))
        finally:
            # The nursery knows its task, and the task us: together nobody would forget them soon.
            self._tasks = None
            self._events.emit(EventKind.CONNECTION_CLOSED, client=str(self.client), serial=self.client.serial)

    async def _serve(self, nursery: trio.Nursery) -> None:
        """Handle what comes, until nothing more can or shall be read."""
        try:
            with self._reading:
                await self._read(nursery)
            await self._handle_rest(nursery)
        except ProtocolError as error:
            # What was asked before in order is still answered, then the connection ends.
            log.warning("connection closed", client=str(self.client), error=str(error))
            self._events.emit(
                EventKind.PROTOCOL_ERROR, client=str(self.client), detail=str(error), serial=self.client.serial
            )
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self._lose()

    async def _read(self, nursery: trio.Nursery) -> None:
        decoder = FrameDecoder(self._settings.max_frame_bytes)
        while data := await self._receive(decoder.missing):
            if self._is_read:
                self._share.begin()
            self._received = decoder.feed(data)
            for payload in self._received:
                self._held_back = payload
                if not self._may_go_on(payload):
                    self._send_answers()
                    await self._share.renew()
                if self._outbox.full:
                    self._send_answers()
                if self._outbox.full:
                    # Its time ends here: what is waited for is no work.
                    self._share.resume()
                    await self._outbox.wait_room()
                self._held_back = None
                self._handle(payload, nursery)
            self._send_answers()
            self._share.end()
        if not decoder.at_boundary():
            raise ProtocolError("the connection ended inside a frame")

    async def _receive(self, missing: int) -> bytes | bytearray:
        """What has come next. A frame that lacks much has to be complete in time, for it keeps others from beginning.

        Nor does it wait for room for any longer: it could not be seen meanwhile that its client has gone.

        Raises:
            ProtocolError: it is not.
        """
        if missing <= LONG_BYTES:
            return await self._stream.receive_some(READ_SIZE)
        rest = bytearray()
        with trio.move_on_after(self._settings.slow_client_s):
            async with self._room:
                while len(rest) < missing and (data := await self._stream.receive_some(READ_SIZE)):
                    rest += data
                return rest
        raise ProtocolError(
            f"a frame still lacked {missing - len(rest)} bytes {self._settings.slow_client_s:g} s later"
        )

    async def _handle_rest(self, nursery: trio.Nursery) -> None:
        """Handle what had been received when it was decided to read no more."""
        held_back = () if self._held_back is None else (self._held_back,)
        for payload in chain(held_back, self._received):
            if not self._may_go_on(payload):
                self._send_answers()
                await self._share.renew()
            self._handle(payload, nursery)
        self._send_answers()

    def _may_go_on(self, payload: bytes) -> bool:
        return self._share.pass_over() if self._is_moot(payload) else self._share.take(len(payload))

    def _is_moot(self, payload: bytes) -> bool:
        """Where the answers are not read, a release completes (decision 9), and nothing else is of use to anybody."""
        return not self._is_read and not may_be_release(payload)

    def _handle(self, payload: bytes, nursery: trio.Nursery) -> None:
        if self._is_moot(payload):
            return
        self._handling = True
        try:
            self._take_care(payload, nursery)
        finally:
            self._handling = False

    def _take_care(self, payload: bytes, nursery: trio.Nursery) -> None:
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

    def _filled(self) -> None:
        """There is something to be sent again."""
        if self._handling:
            self._has_answered = True
        else:
            self._postman.call(self)

    def _send_answers(self) -> None:
        """Send what was answered at once: it need not wait for the postman's turn."""
        if self._has_answered:
            self._has_answered = False
            if self.send_some():
                self._postman.call(self)

    def send_some(self) -> bool:
        """Send a chunk of what is ready; whether there is more. What does not go at once is left to a sender task."""
        if self._sending or self._tasks is None:
            return False
        frames = self._outbox.take()
        length = len(frames)
        try:
            # Of more than a chunk at a time it would not be seen that the client takes it.
            sent = self._send_now(frames) if 0 < length <= CHUNK else 0
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            # The sender meets with the same, where it ends the connection.
            sent = 0
        if sent < length:
            self._sending = True
            self._tasks.start_soon(self._send_slowly, memoryview(frames)[sent:], name=f"sender of {self.client}")
            return False
        return len(self._outbox) > 0

    async def _send_slowly(self, frames: memoryview) -> None:
        """Send `frames`, and what is ready then, for as long as the client reads at all."""
        await self._send_all(frames)
        if not self._is_read:
            # What it had sent before it went can still be read, and its releases end. The rest is for nobody.
            await self._withdraw()

    async def _withdraw(self) -> None:
        pace = Pace(WITHDRAWN_PER_STEP)
        for _ in self.client.withdrawals():
            await pace.step()

    async def _send_all(self, frames: memoryview) -> None:
        try:
            while frames:
                for start in range(0, len(frames), CHUNK):
                    await self._send_chunk(frames[start : start + CHUNK])
                frames = memoryview(self._outbox.take())
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self._lose()
        except trio.TooSlowError:
            log.warning(
                "connection closed: the client does not read its responses",
                client=str(self.client),
                unsent=len(self._outbox),
                seconds=self._settings.slow_client_s,
            )
            self._give_up()
            self.stop()
        else:
            self._sending = False

    async def _send_chunk(self, chunk: memoryview) -> None:
        seconds = self._settings.slow_client_s
        if isinstance(self._stream, ClientStream):
            await self._stream.send_patiently(chunk, seconds)
        else:
            with trio.fail_after(seconds):
                await self._stream.send_all(chunk)

    def _lose(self) -> None:
        log.debug("connection broken", client=str(self.client))
        self._give_up()

    def _give_up(self) -> None:
        """Nobody reads what is sent here."""
        self._is_read = False
        self._outbox.discard()


def _send_nothing(data: bytes) -> int:
    """A stream that can only be waited for."""
    return 0
