from __future__ import annotations

import errno
import json
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from lrs_trio.errors import LibraryUnreachableError, LrsError, MediumMissingError, OperationError
from lrs_trio.model import Device, Family, ResourceId
from lrs_trio.storage.elements import Element, ElementKind
from lrs_trio.storage.protocols import Content, Robot
from lrs_trio.storage.tlc import CONNECT_SECONDS, TlcClient, TlcLibrary
from lrs_trio.wire import tlc

Handler = Callable[[trio.SocketStream], Awaitable[None]]

PATIENCE_S = 20.0
"""Only so that a defect ends a test instead of holding it up."""

DRIVE = Device(ResourceId(Family.TAPE, "S1", "main"), "host", "/dev/sg3")


def has(address: str) -> bool:
    try:
        with socket.create_server((address, 0), family=socket.AF_INET6 if ":" in address else socket.AF_INET):
            return True
    except OSError:
        return False


LOOPBACKS = [address for address in ("127.0.0.1", "::1") if has(address)]


@asynccontextmanager
async def peer(handler: Handler, host: str = "127.0.0.1") -> AsyncIterator[TlcClient]:
    """A client of somebody who does with each connection what `handler` does."""
    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host=host)
        nursery.start_soon(trio.serve_listeners, handler, [listener])
        with trio.fail_after(PATIENCE_S):
            yield TlcClient(host, listener.socket.getsockname()[1])
        nursery.cancel_scope.cancel()


async def request_of(stream: trio.SocketStream) -> tlc.Request:
    decoder = tlc.frame_decoder()
    while data := await stream.receive_some():
        for message in decoder.feed(data):
            return tlc.decode_request(message)
    raise EOFError


def answering(body: tlc.ResponseBody, asked: list[tlc.RequestBody] | None = None, *, id: int = 1) -> Handler:
    async def handler(stream: trio.SocketStream) -> None:
        async with stream:
            request = await request_of(stream)
            if asked is not None:
                asked.append(request.body)
            await stream.send_all(tlc.response_frame(tlc.Response(id, body)))

    return handler


def sending(data: bytes) -> Handler:
    async def handler(stream: trio.SocketStream) -> None:
        async with stream:
            await request_of(stream)
            await stream.send_all(data)

    return handler


# Answers


@pytest.mark.parametrize("host", LOOPBACKS)
async def test_a_ping_tells_whether_the_library_is_up(host: str) -> None:
    for up in (True, False):
        async with peer(answering(tlc.Pong(up)), host) as client:
            assert await client.ping() is up


async def test_each_method_asks_for_what_its_name_says() -> None:
    asked: list[tlc.RequestBody] = []
    async with peer(answering(tlc.Found(258, 256, "P5"), asked)) as client:
        assert await client.drive_lookup("S1") == tlc.Found(258, 256, "P5")
    async with peer(answering(tlc.Loaded('{"x": 1}'), asked)) as client:
        await client.load("S1", "P5")
    async with peer(answering(tlc.Unloaded("P5", 7), asked)) as client:
        assert await client.unload("S1") == tlc.Unloaded("P5", 7)
        await client.unload("S1", "P5")
    async with peer(answering(tlc.Refreshed(), asked)) as client:
        await client.refresh()
    async with peer(answering(tlc.Statistics('[{"name": "req.count", "value": 1}]'), asked)) as client:
        assert await client.stat("req", "count", "request=LOAD") == [{"name": "req.count", "value": 1}]
    async with peer(
        answering(tlc.Elements('[{"type":"slot","address":3,"full":false,"accessible":true}]'), asked)
    ) as c:
        assert await c.status() == (Element(ElementKind.SLOT, 3),)
        await c.status(refresh=True)
    assert asked == [
        tlc.LookUp("S1"),
        tlc.Load("S1", "P5"),
        tlc.Unload("S1"),
        tlc.Unload("S1", "P5"),
        tlc.Refresh(True),
        tlc.Stat("req", "count", "request=LOAD"),
        tlc.Status(False),
        tlc.Status(True),
    ]


async def test_requests_are_under_way_at_the_same_time() -> None:
    both = trio.Event()
    come: list[trio.SocketStream] = []

    async def handler(stream: trio.SocketStream) -> None:
        async with stream:
            await request_of(stream)
            come.append(stream)
            if len(come) == 2:
                both.set()
            await both.wait()
            await stream.send_all(tlc.response_frame(tlc.Response(1, tlc.Loaded())))

    async with peer(handler) as client, trio.open_nursery() as nursery:
        nursery.start_soon(client.load, "S1", "P1")
        nursery.start_soon(client.load, "S2", "P2")


async def test_the_callers_deadline_ends_the_connection() -> None:
    ended = trio.Event()
    deadline = trio.CancelScope()

    async def handler(stream: trio.SocketStream) -> None:
        async with stream:
            await request_of(stream)
            deadline.deadline = trio.current_time()
            assert await stream.receive_some() == b""
            ended.set()

    async with peer(handler) as client:
        with deadline:
            await client.load("S1", "P5")
        assert deadline.cancelled_caught
        await ended.wait()


# The robot that a device sees


async def test_a_drive_is_numbered_from_the_first_one_and_known_by_its_serial() -> None:
    asked: list[tlc.RequestBody] = []
    async with peer(answering(tlc.Found(258, 256, "P5"), asked)) as client:
        robot: Robot = TlcLibrary(client)
        assert await robot.lookup(DRIVE) == Content("P5", 2)
    async with peer(answering(tlc.Found(256, 256), asked)) as client:
        assert await TlcLibrary(client).lookup(DRIVE) == Content(None, 0)
    async with peer(answering(tlc.Loaded(), asked)) as client:
        await TlcLibrary(client).load(DRIVE, "P5")
    async with peer(answering(tlc.Unloaded("P5", 7), asked)) as client:
        await TlcLibrary(client).unload(DRIVE, "P5")
    assert asked == [tlc.LookUp("S1"), tlc.LookUp("S1"), tlc.Load("S1", "P5"), tlc.Unload("S1", "P5")]


# Nobody there, or nobody who speaks the protocol


async def refused(client: TlcClient) -> LibraryUnreachableError:
    with pytest.raises(LibraryUnreachableError) as caught:
        await client.load("S1", "P5")
    return caught.value


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


async def test_a_port_where_nobody_listens() -> None:
    port = closed_port()
    error = await refused(TlcClient("127.0.0.1", port))
    assert error.errno == errno.ECONNREFUSED
    assert f"127.0.0.1:{port}" in str(error)


class Resolver(trio.abc.HostnameResolver):
    def __init__(self, *addresses: tuple[str, int]) -> None:
        self.addresses = addresses

    async def getaddrinfo(self, host: object, port: object, family: int = 0, *rest: int) -> list[object]:  # type: ignore[override]
        if not self.addresses:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        kinds = [(socket.AF_INET6 if ":" in ip else socket.AF_INET, ip, number) for ip, number in self.addresses]
        return [(kind, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (ip, number)) for kind, ip, number in kinds]

    async def getnameinfo(self, *arguments: object) -> tuple[str, str]:
        raise NotImplementedError


async def test_a_name_that_nobody_knows() -> None:
    trio.socket.set_custom_hostname_resolver(Resolver())
    error = await refused(TlcClient("robot.example", 20123))
    assert error.errno == errno.EHOSTUNREACH
    assert "robot.example" in str(error)
    assert "not known" in str(error)


async def test_a_name_that_is_none() -> None:
    assert (await refused(TlcClient("x" * 100, 20123))).errno == errno.EHOSTUNREACH


async def test_a_name_with_several_addresses_none_of_which_answers() -> None:
    port = closed_port()
    trio.socket.set_custom_hostname_resolver(Resolver(("127.0.0.1", port), ("127.0.0.1", port)))
    assert (await refused(TlcClient("robot.example", port))).errno == errno.ECONNREFUSED


async def test_a_host_that_does_not_answer(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def connect(host: str, port: int) -> trio.SocketStream:
        await trio.sleep_forever()
        raise AssertionError

    monkeypatch.setattr(trio, "open_tcp_stream", connect)
    assert (await refused(TlcClient("127.0.0.1", 1))).errno == errno.ETIMEDOUT
    assert trio.current_time() == pytest.approx(CONNECT_SECONDS)


async def test_a_peer_that_takes_nothing_in(autojump_clock: trio.testing.MockClock) -> None:
    async def handler(stream: trio.SocketStream) -> None:
        await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, handler, [listener])
        client = TlcClient("127.0.0.1", listener.socket.getsockname()[1])
        with pytest.raises(LibraryUnreachableError) as caught:
            await client.load("S1", "P" * 20_000_000)
        assert caught.value.errno == errno.ETIMEDOUT
        nursery.cancel_scope.cancel()


LOADED = tlc.response_frame(tlc.Response(1, tlc.Loaded()))


@pytest.mark.parametrize(
    ("answer", "number"),
    [
        pytest.param(b"", errno.ECONNRESET, id="nothing"),
        pytest.param(LOADED[:3], errno.ECONNRESET, id="half a length"),
        pytest.param(LOADED[:-1], errno.ECONNRESET, id="half an answer"),
        pytest.param(b"HTTP/1.1 400 Bad Request\r\n\r\n", errno.EPROTO, id="another protocol"),
        pytest.param(struct.pack(">IB", 2**32 - 1, 2), errno.EPROTO, id="four gigabytes"),
        pytest.param(struct.pack(">I", 0), errno.EPROTO, id="length zero"),
        pytest.param(LOADED[:4] + b"\x0e" + LOADED[5:], errno.EPROTO, id="version of another daemon"),
        pytest.param(struct.pack(">IB", 4, 2) + b"\xff\xff\xff", errno.EPROTO, id="no message"),
        pytest.param(struct.pack(">IB", 3, 2) + b"\x08\x01", errno.EPROTO, id="no body"),
        pytest.param(tlc.response_frame(tlc.Response(2, tlc.Loaded())), errno.EPROTO, id="another id"),
        pytest.param(tlc.response_frame(tlc.Response(1, tlc.Pong(True))), errno.EPROTO, id="another answer"),
        pytest.param(tlc.response_frame(tlc.Response(0, tlc.Failed(-5))), errno.EPROTO, id="somebody else's error"),
    ],
)
async def test_what_is_no_answer_blames_nobody(answer: bytes, number: int) -> None:
    async with peer(sending(answer)) as client:
        assert (await refused(client)).errno == number


async def test_a_connection_that_is_reset() -> None:
    async def handler(stream: trio.SocketStream) -> None:
        await request_of(stream)
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await trio.aclose_forcefully(stream)

    async with peer(handler) as client:
        assert (await refused(client)).errno == errno.ECONNRESET


async def test_elements_and_statistics_that_are_none() -> None:
    for text in ("", "{}", "[1]", "[" * 100_000):
        async with peer(answering(tlc.Elements(text))) as client:
            with pytest.raises(LibraryUnreachableError) as caught:
                await client.status()
            assert caught.value.errno == errno.EPROTO
        async with peer(answering(tlc.Statistics(text))) as client:
            with pytest.raises(LibraryUnreachableError) as caught:
                await client.stat()
            assert caught.value.errno == errno.EPROTO


# Errors


async def failure(rc: int, message: object = None) -> LrsError:
    text = message if message is None or isinstance(message, str) else json.dumps(message)
    async with peer(answering(tlc.Failed(rc, text))) as client:
        with pytest.raises(LrsError) as caught:
            await client.load("S1", "P5")
    return caught.value


@pytest.mark.parametrize(
    ("rc", "number"),
    [(-errno.EBUSY, errno.EBUSY), (-errno.EINVAL, errno.EINVAL), (0, errno.EIO), (5, errno.EIO), (-4095, errno.EIO)],
)
async def test_an_error_has_the_controllers_errno_if_it_is_one(rc: int, number: int) -> None:
    error = await failure(rc)
    assert isinstance(error, OperationError)
    assert error.errno == number
    assert error.record == {"load": "P5", "drive": "S1"}
    assert "load of P5 into drive S1" in str(error)


@pytest.mark.parametrize(
    ("message", "record"),
    [
        ({"EXPECTED_TAPE": "P5", "LOADED_TAPE": "P6"}, {"EXPECTED_TAPE": "P5", "LOADED_TAPE": "P6"}),
        ({"scsi_execute": {"asc": 59, "ok": False}}, {"scsi_execute": '{"asc": 59, "ok": false}'}),
        ("the arm fell off", {"message": "the arm fell off"}),
        ('"the arm fell off"', {"message": "the arm fell off"}),
        ([1, None], {"message": "[1, null]"}),
        ("[" * 100_000, {"message": "[" * 100_000}),
        ("", {}),
    ],
)
async def test_the_record_of_an_error_holds_its_message(message: object, record: dict[str, str]) -> None:
    error = await failure(-errno.EIO, message)
    assert isinstance(error, OperationError)
    assert error.record == {"load": "P5", "drive": "S1"} | record


@pytest.mark.parametrize(
    ("rc", "message", "kind", "number"),
    [
        (-errno.ENOENT, {"MEDIA_LABEL_UNKNOWN": "P5"}, MediumMissingError, errno.ENXIO),
        (-errno.ENOTSUP, {"MEDIUM_IN_DRIVE": "x"}, MediumMissingError, errno.EBUSY),
        (-errno.ENOENT, {"DRIVE_SERIAL_UNKNOWN": "S1"}, LrsError, errno.ENOENT),
        (-errno.ENOENT, {"DRIVE_UNKNOWN_SERIAL": "S1"}, LrsError, errno.ENOENT),
        (-errno.EBADF, {"NO_AVAILABLE_LIB_DEVICE": "x"}, LibraryUnreachableError, errno.EBADF),
        (-errno.ENOENT, {"NO_FREE_SLOT": "x"}, LibraryUnreachableError, errno.ENOENT),
        (-errno.ESHUTDOWN, None, LibraryUnreachableError, errno.ESHUTDOWN),
        (-errno.ENOENT, None, OperationError, errno.ENOENT),
    ],
)
async def test_who_is_to_blame_is_told_by_the_kind_of_the_error(
    rc: int, message: object, kind: type[LrsError], number: int
) -> None:
    error = await failure(rc, message)
    assert type(error) is kind
    assert error.errno == number
