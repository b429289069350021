"""What leaves the client when things go wrong: releases that must not be lost, errors that must not change."""

from __future__ import annotations

import errno
import socket

import pytest
import trio
import trio.testing

from lrs_trio.client.asynchronous import open_client_on
from lrs_trio.client.blocking import Client
from lrs_trio.model import RequestKind
from lrs_trio.wire.messages import WriteGranted
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
