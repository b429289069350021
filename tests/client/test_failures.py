"""What leaves the client when things go wrong: releases that must not be lost, errors that must not change."""

from __future__ import annotations

import errno
import socket
import threading
from collections.abc import Callable
from typing import Any

import pytest
import trio
import trio.testing

from lrs_trio.client.asynchronous import open_client_on
from lrs_trio.client.blocking import Client
from lrs_trio.model import RequestKind
from lrs_trio.wire.messages import Format, Formatted, Ping, Pong, RequestBody, ResponseBody, StatusReport, WriteGranted
from tests.client.samples import A, Script, frame, granted
from tests.client.test_asynchronous import talking_to

GARBAGE = b"\0\0\0\0"


async def test_error_of_the_body_leaves_the_client_as_it_is() -> None:
    ours, _theirs = trio.testing.memory_stream_pair()
    error = OSError(errno.ENOSPC, "mine")
    with pytest.raises(OSError, match="mine") as caught:
        async with open_client_on(ours):
            raise error
    assert caught.value is error


@pytest.mark.parametrize("kind", [RequestKind.RELEASE_WRITE, RequestKind.RELEASE_READ])
async def test_task_that_is_cancelled_at_the_end_of_its_block_still_releases(kind: RequestKind) -> None:
    script = Script()
    async with talking_to(script) as client:
        with trio.CancelScope() as scope:
            async with client.write(1) if kind is RequestKind.RELEASE_WRITE else client.read([A]):
                scope.cancel()
        await client.ping()
    assert [release.kind for release in script.releases] == [kind]


async def test_garbage_from_the_daemon_is_a_connection_error_on_trio() -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    await theirs.send_all(GARBAGE)
    async with open_client_on(ours) as client:
        with pytest.raises(ConnectionError) as caught:
            await client.ping()
    assert caught.value.errno == errno.EPROTO


def test_garbage_from_the_daemon_is_a_connection_error() -> None:
    ours, theirs = socket.socketpair()
    with theirs, Client(ours) as client:
        theirs.sendall(GARBAGE)
        with pytest.raises(ConnectionError) as caught:
            client.ping()
    assert caught.value.errno == errno.EPROTO


def test_error_of_the_block_is_kept_when_the_daemon_has_gone_too() -> None:
    ours, theirs = socket.socketpair()
    theirs.sendall(frame(1, WriteGranted((granted(A),))))

    def fail(client: Client) -> None:
        with client.write(1):
            theirs.close()
            raise KeyError("mine")

    with Client(ours) as client, pytest.raises(KeyError, match="mine"):
        fail(client)


@pytest.mark.parametrize("read", [0, 1])
def test_a_daemon_that_closes_at_once_is_no_reader_of_our_output_that_has_gone(read: int) -> None:
    """The kernel says EPIPE to who sends to it, ECONNRESET to who waits for the answer to what it has not read."""
    ours, theirs = socket.socketpair()

    def leave() -> None:
        with theirs:
            theirs.recv(read)

    with Client(ours) as client:
        leaving = threading.Thread(target=leave)
        leaving.start()
        if not read:
            leaving.join()
        with pytest.raises(ConnectionResetError, match=r"it has ended, or has too many clients") as caught:
            client.ping()
        leaving.join()
    assert caught.value.errno == errno.ECONNRESET


@pytest.mark.parametrize(
    "ask",
    [
        Client.ping,
        Client.monitor,
        Client.stats,
        Client.status,
        Client.revoke,
        lambda client: client.configure_get([]),
        lambda client: client.configure_set([]),
    ],
)
def test_what_is_answered_at_once_is_not_waited_for_without_end(ask: Callable[[Client], Any]) -> None:
    ours, theirs = socket.socketpair()
    with theirs, Client(ours, "/run/lrs", answers_within=0.01) as client:
        with pytest.raises(TimeoutError, match=r"has not answered within 0\.01 s") as caught:
            ask(client)
        # What comes too late is not taken for the answer to what is asked next.
        theirs.sendall(frame(1, StatusReport("late")) + frame(2, Pong()))
        client.ping()
    assert (caught.value.errno, caught.value.filename) == (errno.ETIMEDOUT, "/run/lrs")


def test_only_what_is_answered_at_once_has_a_limit() -> None:
    ours, theirs = socket.socketpair()
    limits: dict[type[RequestBody], float | None] = {}

    def answer(body: RequestBody) -> ResponseBody:
        limits[type(body)] = ours.gettimeout()
        return Formatted(A) if isinstance(body, Format) else Pong()

    def listen() -> None:
        script = Script(answer)
        with theirs:
            while data := theirs.recv(65536):
                theirs.sendall(script.hear(data))

    listener = threading.Thread(target=listen)
    with Client(ours, answers_within=60) as client:
        listener.start()
        client.ping()
        client.format(A)
        ours.shutdown(socket.SHUT_WR)
        listener.join()
    assert limits == {Ping: 60, Format: None}


def test_a_daemon_that_does_not_even_read_is_given_up() -> None:
    ours, theirs = socket.socketpair()
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    with theirs, Client(ours, "/run/lrs", answers_within=0.01) as client:
        with pytest.raises(TimeoutError) as caught:
            client.revoke(["x" * 1000] * 1000)
        assert ours.fileno() == -1
    assert caught.value.errno == errno.ETIMEDOUT
