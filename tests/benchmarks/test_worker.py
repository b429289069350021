"""The connections of the load: answers that arrive in pieces, and what must not arrive."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from benchmarks.driver import frames
from benchmarks.driver.frames import FIRST_ID
from benchmarks.driver.scripts import Script, WrongAnswerError
from benchmarks.driver.worker import Client
from lrs_trio.wire import lrs_pb2
from lrs_trio.wire.framing import encode_frame


def pong(number: int) -> bytes:
    return encode_frame(lrs_pb2.Response(request_id=FIRST_ID + number, ping=True).SerializeToString())


@pytest.fixture
def ends(tmp_path: Path) -> Iterator[tuple[Client, socket.socket]]:
    """A client, and the daemon's end of its connection."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(tmp_path / "lrs"))
        listener.listen()
        client = Client(str(tmp_path / "lrs"))
        with closing(client.socket), listener.accept()[0] as daemon:
            yield client, daemon


def pings(client: Client, count: int) -> Script:
    for _ in range(count):
        client.send(frames.ping())
        yield


def test_an_answer_may_arrive_in_pieces(ends: tuple[Client, socket.socket]) -> None:
    client, daemon = ends
    client.start(pings(client, 1))
    answer = pong(1)
    for piece in (answer[:2], answer[2:6]):
        daemon.sendall(piece)
        assert client.receive()
    daemon.sendall(answer[6:])
    assert not client.receive()


def test_each_request_has_an_id_of_its_own(ends: tuple[Client, socket.socket]) -> None:
    client, daemon = ends
    client.start(pings(client, 2))
    daemon.sendall(pong(1))
    assert client.receive()
    daemon.sendall(pong(2))
    assert not client.receive()


@pytest.mark.parametrize(
    ("answer", "said"),
    [(pong(2), "nobody waits for"), (pong(1) + pong(1), "bytes more than"), (b"", "has closed the connection")],
)
def test_what_nobody_waits_for_is_an_error(ends: tuple[Client, socket.socket], answer: bytes, said: str) -> None:
    client, daemon = ends
    client.start(pings(client, 1))
    if answer:
        daemon.sendall(answer)
    else:
        daemon.shutdown(socket.SHUT_WR)
    with pytest.raises(WrongAnswerError, match=said):
        client.receive()


def test_a_greeting_ends_with_the_answer_to_a_ping(ends: tuple[Client, socket.socket]) -> None:
    client, daemon = ends
    daemon.sendall(pong(1))
    client.greet()
    assert client.socket.gettimeout() == 0


def test_a_greeting_that_is_refused_is_an_error(ends: tuple[Client, socket.socket]) -> None:
    client, daemon = ends
    refusal = lrs_pb2.Response(request_id=FIRST_ID + 1, error=lrs_pb2.Error(rc=-1, kind=lrs_pb2.KIND_STAT))
    daemon.sendall(encode_frame(refusal.SerializeToString()))
    with pytest.raises(WrongAnswerError, match="a ping was answered with"):
        client.greet()
