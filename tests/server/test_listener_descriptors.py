"""Clients come and there is no file descriptor for them."""

from __future__ import annotations

import errno
import os
import resource
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path

import pytest
import structlog
import trio
import trio.testing
from trio.testing import MockClock

from lrs_trio.server.listener import PAUSE_S, UnixListener, open_unix_listener

PATIENCE_S = 20.0
"""Only so that a defect ends a test instead of holding it up."""


@contextmanager
def descriptors(left: int) -> Iterator[None]:
    """In the block this process can open so many files."""
    _, hard = before = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.open(os.devnull, os.O_RDONLY)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest + left, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


class Crowd:
    """Clients of a listener that have their descriptors already, and those of them that it has accepted."""

    def __init__(self, path: Path, clients: list[trio.socket.SocketType]) -> None:
        self.accepted: list[trio.SocketStream] = []
        self._path = str(path)
        self._clients = clients

    async def accept(self, listener: UnixListener) -> None:
        while True:
            self.accepted.append(await listener.accept())

    async def connect(self) -> trio.socket.SocketType:
        """The next of the clients, connected."""
        client = self._clients.pop()
        await client.connect(self._path)
        return client

    async def is_refused(self) -> bool:
        """Whether the next client is closed at once, and not accepted."""
        before, client = len(self.accepted), await self.connect()
        with trio.fail_after(PATIENCE_S):
            return await client.recv(1) == b"" and len(self.accepted) == before

    async def is_accepted(self) -> bool:
        """Whether the next client gets what is sent to whoever is accepted next."""
        before, client = len(self.accepted), await self.connect()
        with trio.fail_after(PATIENCE_S):
            while len(self.accepted) == before:
                await trio.lowlevel.checkpoint()
            await self.accepted[-1].send_all(b"!")
            return await client.recv(1) == b"!"


@pytest.fixture
async def crowd(tmp_path: Path) -> AsyncIterator[Crowd]:
    async with AsyncExitStack() as stack:
        path = tmp_path / "lrs"
        clients = [stack.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(8)]
        made = Crowd(path, list(map(trio.socket.from_stdlib_socket, clients)))
        listener = await stack.enter_async_context(open_unix_listener(path, mode=0o600))
        nursery = await stack.enter_async_context(trio.open_nursery())
        nursery.start_soon(made.accept, listener)
        # Its first attempt, before a test changes what it finds.
        await trio.testing.wait_all_tasks_blocked()
        yield made
        for stream in made.accepted:
            await trio.aclose_forcefully(stream)
        nursery.cancel_scope.cancel()


@pytest.fixture
def lines() -> Iterator[list[structlog.typing.EventDict]]:
    with structlog.testing.capture_logs() as captured:
        yield captured


async def test_who_comes_when_there_is_none_is_closed_and_later_others_are_served(
    crowd: Crowd, lines: list[structlog.typing.EventDict]
) -> None:
    assert await crowd.is_accepted()
    with descriptors(0):
        assert await crowd.is_refused()
        assert await crowd.is_refused()
    assert await crowd.is_accepted()
    assert [line["event"] for line in lines] == ["connection refused: no file descriptors are left"] * 2
    assert {line["client"] for line in lines} == {f"pid {os.getpid()}, uid {os.getuid()}"}


async def test_while_there_is_none_nothing_is_done_before_somebody_comes(crowd: Crowd) -> None:
    with descriptors(0):
        assert await crowd.is_refused()
        # The kernel refuses to accept even if there is nobody: trying again and again would never end.
        with trio.fail_after(PATIENCE_S):
            await trio.testing.wait_all_tasks_blocked()
        assert await crowd.is_refused()


async def test_if_nobody_can_be_sent_away_they_wait(
    autojump_clock: MockClock,
    crowd: Crowd,
    lines: list[structlog.typing.EventDict],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begun = trio.current_time()
    with descriptors(0):
        # As if another thread were always faster.
        monkeypatch.setattr("lrs_trio.server.descriptors.SpareDescriptor.close", lambda spare: None)
        client = await crowd.connect()
        await trio.sleep(10 * PAUSE_S)
        assert crowd.accepted == []
    await trio.sleep(PAUSE_S)
    (accepted,) = crowd.accepted
    await accepted.send_all(b"!")
    assert await client.recv(1) == b"!"
    assert {line["event"] for line in lines} == {"nobody can be accepted for a moment"}
    assert 9 <= len(lines) <= 11
    assert trio.current_time() - begun >= 11 * PAUSE_S


@pytest.mark.parametrize("number", [errno.ENOBUFS, errno.ENOMEM])
async def test_a_kernel_without_memory_is_given_time(
    autojump_clock: MockClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    accept = trio.SocketListener.accept
    failures = 3

    async def fails_at_first(listener: trio.SocketListener) -> trio.SocketStream:
        nonlocal failures
        if failures:
            failures -= 1
            raise OSError(number, os.strerror(number))
        return await accept(listener)

    monkeypatch.setattr(trio.SocketListener, "accept", fails_at_first)
    async with (
        open_unix_listener(tmp_path / "lrs", mode=0o600) as listener,
        await trio.open_unix_socket(tmp_path / "lrs"),
        await listener.accept(),
    ):
        assert trio.current_time() == pytest.approx(3 * PAUSE_S)


async def test_an_error_that_does_not_pass_ends_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fails(_listener: trio.SocketListener) -> trio.SocketStream:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    monkeypatch.setattr(trio.SocketListener, "accept", fails)
    async with open_unix_listener(tmp_path / "lrs", mode=0o600) as listener:
        with pytest.raises(OSError, match="Invalid argument"):
            await listener.accept()
