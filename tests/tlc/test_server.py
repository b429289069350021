from __future__ import annotations

import errno
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from lrs_trio.errors import LrsError
from lrs_trio.storage.tlc import TlcClient
from lrs_trio.tlc import server as server_module
from lrs_trio.tlc.controller import Controller
from lrs_trio.tlc.server import MOST_REQUESTS, SLOW_PEER_SECONDS, Server, open_listeners, shown_address
from lrs_trio.wire import tlc
from lrs_trio.wire.framing import MAX_FRAME_BYTES
from tests.storage.test_tlc import LOOPBACKS
from tests.tlc.conftest import FakeChanger

PATIENCE_S = 20.0
"""Only so that a defect ends a test instead of holding it up."""

PING = tlc.request_frame(tlc.Request(77, tlc.Ping()))
LOOK_UP = tlc.request_frame(tlc.Request(5, tlc.LookUp("S1")))


class Running:
    """A controller with its server."""

    def __init__(self, changer: FakeChanger, port: int, server: Server) -> None:
        self.changer = changer
        self.port = port
        self.server = server
        self.client = TlcClient("127.0.0.1", port)
        self._callers: list[Caller] = []

    async def connect(self) -> Caller:
        self._callers.append(Caller(await trio.open_tcp_stream("127.0.0.1", self.port)))
        return self._callers[-1]

    async def close(self) -> None:
        for caller in self._callers:
            with trio.CancelScope(shield=True):
                await caller.hang_up()

    async def unharmed(self) -> None:
        """Others are still served."""
        assert await self.client.ping()
        assert (await self.client.drive_lookup("S1")).label == "P3"


class Caller:
    """One connection, spoken to in bytes."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self._decoder = tlc.frame_decoder()
        self._come: list[tlc.Response] = []

    async def send(self, data: bytes) -> None:
        await self.stream.send_all(data)

    async def receive(self) -> tlc.Response:
        while not self._come:
            data = await self.stream.receive_some()
            if not data:
                raise EOFError
            self._come += map(tlc.decode_response, self._decoder.feed(data))
        return self._come.pop(0)

    async def rest(self) -> list[tlc.Response]:
        """What still comes until the controller closes the connection."""
        responses = []
        try:
            while True:
                responses.append(await self.receive())
        except (EOFError, trio.BrokenResourceError):
            return responses

    async def hang_up(self) -> None:
        await trio.aclose_forcefully(self.stream)


@asynccontextmanager
async def serving(changer: FakeChanger | None = None) -> AsyncIterator[Running]:
    changer = changer or FakeChanger()
    controller = Controller(changer)
    await controller.open()
    server = Server(controller)
    async with trio.open_nursery() as nursery:
        (listener,) = await open_listeners("127.0.0.1", 0)
        nursery.start_soon(controller.run)
        await nursery.start(server.run, [listener])
        running = Running(changer, listener.socket.getsockname()[1], server)
        try:
            with trio.fail_after(PATIENCE_S):
                yield running
        finally:
            await running.close()
        nursery.cancel_scope.cancel()


async def test_everything_a_client_asks_is_answered() -> None:
    changer = FakeChanger()
    changer.seconds = 0
    async with serving(changer) as running:
        client = running.client
        assert await client.ping()
        await client.load("S2", "P1")
        assert (await client.unload("S1", "P3")).address == 1003
        assert {element.address for element in await client.status(refresh=True)} == set(changer.places)
        await client.refresh()
        assert {"name": "req.count", "tags": "request=LOAD", "value": 1} in await client.stat()
        with pytest.raises(LrsError) as caught:
            await client.drive_lookup("S9")
        assert caught.value.errno == errno.ENOENT


async def test_requests_of_one_connection_do_not_wait_for_each_other() -> None:
    changer = FakeChanger()
    changer.seconds = 3600.0
    async with serving(changer) as running:
        caller = await running.connect()
        await caller.send(tlc.request_frame(tlc.Request(1, tlc.Load("S2", "P1"))) + LOOK_UP + PING)
        assert {(await caller.receive()).request_id for _ in range(2)} == {5, 77}


# What is not the protocol


def header(length: int, version: int = tlc.PROTOCOL_VERSION) -> bytes:
    return struct.pack(">IB", length, version)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(header(0), id="length zero"),
        pytest.param(header(MAX_FRAME_BYTES + 1), id="one byte too long"),
        pytest.param(b"\xff" * 5, id="four gigabytes"),
        pytest.param(header(5, 14) + b"abcd", id="version of another daemon"),
        pytest.param(header(5, 1) + b"abcd", id="version of yesterday"),
        pytest.param(header(31) + b"\xff" * 30, id="no message"),
        pytest.param(header(3) + b"\x10\x01", id="no id"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", id="another protocol"),
    ],
)
async def test_bytes_that_are_no_requests_end_their_connection(data: bytes) -> None:
    async with serving() as running:
        caller = await running.connect()
        await caller.send(LOOK_UP + data + PING)
        # What was asked in order is still answered, what comes after is not.
        assert await caller.rest() == [tlc.Response(5, tlc.Found(256, 256, "P3"))]
        await running.unharmed()


@pytest.mark.parametrize("cut", [1, 4, 5, len(PING) - 1])
@pytest.mark.parametrize("politely", [True, False])
async def test_half_a_frame_ends_its_connection(cut: int, politely: bool) -> None:
    async with serving() as running:
        caller = await running.connect()
        await caller.send(PING[:cut])
        if politely:
            await caller.stream.send_eof()
            assert await caller.rest() == []
        else:
            caller.stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            await caller.hang_up()
        await running.unharmed()


async def test_a_frame_in_pieces_is_a_frame() -> None:
    async with serving() as running:
        caller = await running.connect()
        for byte in PING:
            await caller.send(bytes([byte]))
        assert await caller.receive() == tlc.Response(77, tlc.Pong(True))


@pytest.mark.parametrize("body", [b"", b"\x1a\x00", b"\x10\x01\x38\x01"], ids=["no body", "no serial", "two bodies"])
async def test_a_request_that_cannot_be_is_answered(body: bytes) -> None:
    async with serving() as running:
        caller = await running.connect()
        message = b"\x08\x2a" + body
        await caller.send(header(len(message) + 1) + message + PING)
        refused = next(answer for answer in (await caller.receive(), await caller.receive()) if answer.request_id == 42)
        assert isinstance(refused.body, tlc.Failed)
        assert refused.body.rc == -errno.EINVAL


# Peers that go, or do not read


async def test_a_peer_that_goes_takes_back_what_has_not_begun() -> None:
    changer = FakeChanger()
    changer.seconds = 3600.0
    async with serving(changer) as running:
        first, second = await running.connect(), await running.connect()
        await first.send(tlc.request_frame(tlc.Request(1, tlc.Unload("S1"))))
        while not changer.moves:  # noqa: ASYNC110 the fake tells nobody
            await trio.sleep(0.001)
        await second.send(tlc.request_frame(tlc.Request(1, tlc.Load("S2", "P1"))))
        await second.hang_up()
        assert await running.client.ping()
        changer.finish()
        assert await first.receive() == tlc.Response(1, tlc.Unloaded("P3", 1003))
        await running.client.refresh()
    assert changer.moves == [(256, 1003)]


async def test_a_peer_that_does_not_read_is_let_go(autojump_clock: MockClock) -> None:
    controller = Controller(FakeChanger())
    await controller.open()
    server = Server(controller)
    ours, theirs = trio.testing.lockstep_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(controller.run)
        nursery.start_soon(server.serve, ours, "the lazy one")
        await theirs.send_all(LOOK_UP)
        await trio.sleep(SLOW_PEER_SECONDS - 1)
        assert ours in [connection._stream for connection in server._connections]
        await trio.sleep(2)
        assert not server._connections
        nursery.cancel_scope.cancel()


async def test_a_peer_may_not_have_any_number_of_requests_unanswered() -> None:
    changer = FakeChanger()
    changer.seconds = 3600.0
    async with serving(changer) as running:
        caller = await running.connect()
        loads = tlc.request_frame(tlc.Request(1, tlc.Load("S2", "P1"))) * MOST_REQUESTS
        await caller.send(loads + PING)
        await running.unharmed()
        with trio.move_on_after(0.05) as waiting:
            await caller.receive()
        assert waiting.cancelled_caught


async def test_there_may_not_be_any_number_of_peers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "MOST_CONNECTIONS", 1)
    async with serving() as running:
        first = await running.connect()
        await first.send(PING)
        await first.receive()
        assert await (await running.connect()).rest() == []
        await first.send(PING)
        assert await first.receive() == tlc.Response(77, tlc.Pong(True))


async def test_an_answer_that_fits_into_no_frame_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "MAX_FRAME_BYTES", 200)
    async with serving() as running:
        with pytest.raises(LrsError) as caught:
            await running.client.status()
        assert caught.value.errno == errno.EMSGSIZE
        await running.unharmed()


# Listening


@pytest.mark.parametrize("host", LOOPBACKS)
async def test_an_address_is_listened_on(host: str) -> None:
    (listener,) = await open_listeners(host, 0)
    async with listener:
        address = listener.socket.getsockname()
        assert address[0] == host
        assert shown_address(address).endswith(f":{address[1]}")


async def test_a_name_is_all_its_addresses() -> None:
    listeners = await open_listeners("localhost", 0)
    assert {listener.socket.getsockname()[0] for listener in listeners} <= {"127.0.0.1", "::1"}
    assert listeners
    server_module.close_listeners(listeners)


async def test_where_nobody_can_listen_is_told() -> None:
    with pytest.raises(LrsError, match=r"192\.0\.2\.1:20123: this host has no such address") as caught:
        await open_listeners("192.0.2.1", 20123)
    assert caught.value.errno == errno.EADDRNOTAVAIL
    with socket.create_server(("127.0.0.1", 0)) as taken:
        with pytest.raises(LrsError, match="somebody listens there already") as caught:
            await open_listeners("127.0.0.1", taken.getsockname()[1])
        assert caught.value.errno == errno.EADDRINUSE
    with pytest.raises(LrsError, match="is no address") as caught:
        await open_listeners("x" * 100, 20123)
    assert caught.value.errno == errno.EADDRNOTAVAIL
