"""The client's end of a stream, speaking frames; and a server over a house, without sockets."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio
import trio.testing

from lrs_trio.model import Family
from lrs_trio.observe.stats import Stats
from lrs_trio.server.access import Access
from lrs_trio.server.configuration import Configuration
from lrs_trio.server.credentials import PeerCredentials, peer_credentials
from lrs_trio.server.dispatch import Dispatcher, Services
from lrs_trio.server.server import Server
from lrs_trio.settings import AccessSettings, ServerSettings
from lrs_trio.wire.codec import decode_response, encode_request
from lrs_trio.wire.framing import FrameDecoder, encode_frame
from lrs_trio.wire.messages import Request, RequestBody, Response
from tests.fakes.house import LONG, House

DAEMON_UID = 900
GROUP = 100


class Peer:
    """Sends requests and takes responses apart."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self._decoder = FrameDecoder()
        self._received: deque[Response] = deque()

    async def send(self, *requests: tuple[int, RequestBody]) -> None:
        await self.stream.send_all(b"".join(frame(id, body) for id, body in requests))

    async def receive(self) -> Response:
        """The next response.

        Raises:
            EOFError: the server has closed.
        """
        while not self._received:
            self._received.extend(await self.receive_some())
        return self._received.popleft()

    async def receive_some(self) -> list[Response]:
        """Read once, and return the responses that are complete by that.

        Raises:
            EOFError: the server has closed.
        """
        with trio.fail_after(LONG):
            data = await self.stream.receive_some(65536)
        if not data:
            raise EOFError
        return list(map(decode_response, self._decoder.feed(data)))

    async def receive_all(self) -> list[Response]:
        """What still comes until the server closes."""
        responses = []
        try:
            while True:
                responses.append(await self.receive())
        except (EOFError, trio.BrokenResourceError):
            return responses

    async def leave(self) -> None:
        await self.stream.aclose()


def frame(id: int, body: RequestBody) -> bytes:
    return encode_frame(encode_request(Request(id, body)))


class Door:
    """Serves one peer after the other on streams in memory."""

    def __init__(
        self,
        house: House,
        nursery: trio.Nursery,
        settings: ServerSettings,
        limit: int,
        configuration: Configuration | None,
        access: AccessSettings,
    ) -> None:
        self.house = house
        self.dispatcher = Dispatcher(
            Services(
                {Family.DIR: house.family},
                house.bookkeeper,
                house.site.events,
                Stats(),
                lambda: {"version": 1},
                configuration,
            ),
            limit,
        )
        rules = Access(access, DAEMON_UID)
        self.server = Server(settings, self.dispatcher, house.site.events, peer_credentials, rules)
        self._nursery = nursery
        self._nursery.start_soon(self.server.postman.run)
        self._nursery.start_soon(self.dispatcher.reports.run)
        self._serial = 0

    def connect(self, *, slow: bool = False, uid: int = DAEMON_UID) -> Peer:
        """A connected peer; on a `slow` stream the server's sending waits for the peer's receiving."""
        pair = trio.testing.lockstep_stream_pair if slow else trio.testing.memory_stream_pair
        ours, theirs = pair()
        self.accept(theirs, uid=uid)
        return Peer(ours)

    def accept(self, stream: trio.abc.Stream, *, uid: int = DAEMON_UID) -> None:
        """Serve whoever is at the other end of `stream`."""
        self._serial += 1
        self._nursery.start_soon(self._serve, stream, self._serial, uid)

    async def _serve(self, stream: trio.abc.Stream, serial: int, uid: int) -> None:
        await self.server.serve(stream, serial, PeerCredentials(1000 + serial, uid, GROUP))


@asynccontextmanager
async def door_of(
    house: House,
    settings: ServerSettings | None = None,
    *,
    limit: int = 1024,
    configuration: Configuration | None = None,
    access: AccessSettings | None = None,
) -> AsyncIterator[Door]:
    """A server in front of `house`; what is connected at the end of the block is cut off."""
    async with trio.open_nursery() as nursery:
        yield Door(house, nursery, settings or ServerSettings(), limit, configuration, access or AccessSettings())
        nursery.cancel_scope.cancel()
