"""Between a home and its server: forwards what they say to each other, and can do otherwise when a COMMIT comes."""

from __future__ import annotations

import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from urllib.parse import quote, urlsplit

import trio

from benchmarks.postgres import PORT, Cluster

COMMIT = b"Q" + struct.pack("!i", 11) + b"COMMIT\0"

_GONE = (trio.BrokenResourceError, trio.ClosedResourceError)


class Link:
    """One connection through the proxy."""

    def __init__(self, home: trio.SocketStream, server: trio.SocketStream) -> None:
        self.home = home
        self.server = server
        self.muted = False
        """What the server says is not passed on."""
        self.answered = trio.Event()
        """The server has said something while it was muted."""
        self.unnoticed = False
        """The server's side stays open when the home's has ended."""

    async def hang_up(self) -> None:
        await self.home.aclose()
        await self.server.aclose()


class Proxy:
    """`on_commit` is called, once, with the next COMMIT in place of passing it on."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.on_commit: Callable[[Link], Awaitable[None]] | None = None
        self.commits = 0
        self.deaf = False
        """Nothing is passed on, and nobody is told."""
        self.closed = False
        """Nobody is let in."""

    async def link(self, home: trio.SocketStream, server: trio.SocketStream) -> None:
        link = Link(home, server)
        async with server, trio.open_nursery() as nursery:
            nursery.start_soon(self._downwards, link)
            with suppress(*_GONE):
                await self._upwards(link)
            if not link.unnoticed:
                nursery.cancel_scope.cancel()

    async def _upwards(self, link: Link) -> None:
        received = bytearray()
        first = True
        while chunk := await link.home.receive_some():
            received += chunk
            while message := _message(received, typed=not first):
                first = False
                del received[: len(message)]
                if message == COMMIT:
                    self.commits += 1
                    if self.on_commit is not None:
                        on_commit, self.on_commit = self.on_commit, None
                        await on_commit(link)
                        continue
                if not self.deaf:
                    await link.server.send_all(message)

    async def _downwards(self, link: Link) -> None:
        with suppress(*_GONE):
            while chunk := await link.server.receive_some():
                if link.muted:
                    link.answered.set()
                elif not self.deaf:
                    await link.home.send_all(chunk)
        await link.home.aclose()


def _message(received: bytearray, *, typed: bool) -> bytes:
    """The first whole message; the very first of a connection has no type."""
    head = 1 if typed else 0
    if len(received) < head + 4:
        return b""
    (length,) = struct.unpack_from("!i", received, head)
    return bytes(received[: head + length]) if len(received) >= head + length else b""


@asynccontextmanager
async def open_proxy(cluster: Cluster, database_url: str, directory: Path) -> AsyncIterator[Proxy]:
    """A proxy to one database of `cluster`, with a socket in `directory`."""
    name = urlsplit(database_url).path
    proxy = Proxy(f"postgresql://lrs@{name}?host={quote(str(directory))}&port={PORT}")
    listening = trio.socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    await listening.bind(str(directory / f".s.PGSQL.{PORT}"))
    listening.listen()

    async def serve(home: trio.SocketStream) -> None:
        with suppress(OSError):
            if not proxy.closed:
                await proxy.link(home, await trio.open_unix_socket(str(cluster.base / f".s.PGSQL.{PORT}")))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, serve, [trio.SocketListener(listening)])
        yield proxy
        nursery.cancel_scope.cancel()
