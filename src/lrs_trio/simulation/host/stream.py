"""A connection without a socket, which behaves like one over a Unix socket.

What is sent waits at the other end, as far as there is room; it is received in pieces, or several messages at once.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import index
from random import Random
from typing import Final

import trio
from trio.lowlevel import ParkingLot, checkpoint

ROOM: Final = 64 * 1024
"""Bytes that wait at one end until they are received, unless somebody says otherwise."""

WHOLE: Final = 0.7
"""The probability that everything is received that is there."""

CRUMB: Final = 0.1
"""The probability that only a few bytes are received: a frame's header is cut."""

CRUMB_BYTES: Final = 8

AT_ONCE: Final = 0.5
"""The probability that what was sent is there at once."""

LONGEST_S: Final = 0.0005
"""How long it takes at most otherwise, in seconds."""


class StreamEnd(trio.abc.HalfCloseableStream):
    """One end of a connection. `stream_pair` makes both.

    Closing it lets the other end receive what was sent before, and then the end of the stream; if this end has not
    received everything itself, the other one finds the connection broken instead, as over a Unix socket.
    """

    def __init__(self, incoming: _Way, outgoing: _Way, random: Random, check: Callable[[], None]) -> None:
        self.closed = False
        self._incoming = incoming
        self._outgoing = outgoing
        self._random = random
        self._check = check
        self._sending = _OneTask("another task is sending on this stream")
        self._receiving = _OneTask("another task is receiving on this stream")

    @property
    def severed(self) -> bool:
        """Whether the other end is gone: what is sent now reaches nobody."""
        return self._outgoing.abandoned

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        with self._sending:
            await checkpoint()
            self._check_sending()
            with memoryview(data) as all_of_it:
                sent = self._outgoing.put(all_of_it)
                while sent < len(all_of_it):
                    await self._outgoing.changed.park()
                    self._check_sending()
                    sent += self._outgoing.put(all_of_it[sent:])

    async def wait_send_all_might_not_block(self) -> None:
        with self._sending:
            await checkpoint()
            self._check_open()
            while self._outgoing.is_full:
                await self._outgoing.changed.park()
                self._check_open()

    async def send_eof(self) -> None:
        with self._sending:
            await checkpoint()
            self._check_open()
            self._check()
            self._outgoing.end()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        if max_bytes is not None and index(max_bytes) < 1:
            raise ValueError("max_bytes must be at least 1")
        with self._receiving:
            while not (self._incoming.has_news or self.closed):
                await self._incoming.changed.park()
            await trio.sleep(self._latency())
            self._check_open()
            return self._take(max_bytes)

    async def aclose(self) -> None:
        self.close()
        await checkpoint()

    def close(self) -> None:
        """Close at once; whoever still waits here gets `trio.ClosedResourceError`. Closing twice is harmless."""
        if not self.closed:
            self.closed = True
            self._outgoing.end(broken=self._incoming.abandon())

    def break_off(self, *, loses: bool) -> None:
        """Be gone without a farewell: the other end finds the connection broken, and `loses` what is on its way."""
        self.closed = True
        self._incoming.abandon()
        self._outgoing.end(broken=True)
        if loses:
            self._outgoing.lose()

    def _take(self, max_bytes: int | None) -> bytes:
        available = len(self._incoming)
        if not available:
            if self._incoming.is_broken:
                raise trio.BrokenResourceError("the other end has broken the connection")
            return b""
        most = available if max_bytes is None else min(available, max_bytes)
        return self._incoming.take(self._cut(most))

    def _cut(self, most: int) -> int:
        """How many of at most so many bytes are received this time."""
        lot = self._random.random()
        if lot < WHOLE:
            return most
        return self._random.randint(1, min(most, CRUMB_BYTES) if lot < WHOLE + CRUMB else most)

    def _latency(self) -> float:
        return 0.0 if self._random.random() < AT_ONCE else self._random.random() * LONGEST_S

    def _check_open(self) -> None:
        if self.closed:
            raise trio.ClosedResourceError("this end was closed")

    def _check_sending(self) -> None:
        self._check_open()
        self._check()
        if self._outgoing.ended:
            raise trio.ClosedResourceError("nothing can be sent after the end")
        if self._outgoing.abandoned:
            raise trio.BrokenResourceError("the other end is gone")


class _OneTask:
    """A block that only one task at a time may be in; the next one is told so in `complaint`."""

    def __init__(self, complaint: str) -> None:
        self._complaint = complaint
        self._taken = False

    def __enter__(self) -> None:
        if self._taken:
            raise trio.BusyResourceError(self._complaint)
        self._taken = True

    def __exit__(self, *error: object) -> None:
        self._taken = False


class _Way:
    """One direction: what was sent at one end and not yet received at the other."""

    def __init__(self, room: int) -> None:
        self.ended = False
        """Nothing more will be sent."""
        self.is_broken = False
        """It has ended without a farewell."""
        self.abandoned = False
        """Nothing more will be received."""
        self.changed = ParkingLot()
        """Where both sides wait for each other."""
        self._room = room
        self._data = bytearray()

    def __len__(self) -> int:
        return len(self._data)

    @property
    def is_full(self) -> bool:
        """Whether somebody who sends has to wait."""
        return len(self._data) >= self._room and not (self.abandoned or self.ended)

    @property
    def has_news(self) -> bool:
        """Whether somebody who receives need not wait."""
        return bool(self._data) or self.ended

    def put(self, data: memoryview) -> int:
        """Add as much of `data` as there is room for; returns how much that is."""
        part = data[: max(self._room - len(self._data), 0)]
        self._data += part
        self.changed.unpark_all()
        return len(part)

    def take(self, count: int) -> bytes:
        taken = bytes(self._data[:count])
        del self._data[:count]
        self.changed.unpark_all()
        return taken

    def end(self, *, broken: bool = False) -> None:
        self.ended = True
        self.is_broken = self.is_broken or broken
        self.changed.unpark_all()

    def abandon(self) -> bool:
        """Receive nothing more; the result is whether something is left that was sent."""
        left = bool(self._data)
        self.abandoned = True
        self.lose()
        return left

    def lose(self) -> None:
        """What is on its way is lost."""
        self._data.clear()
        self.changed.unpark_all()


def stream_pair(
    random: Random, *, rooms: tuple[int, int] = (ROOM, ROOM), check: Callable[[], None] = lambda: None
) -> tuple[StreamEnd, StreamEnd]:
    """Two ends of one connection.

    Args:
        random: decides how what was sent is cut, and how long it is on its way.
        rooms: bytes that can wait at the first end and at the second one.
        check: called before anything that the second end sends has an effect; what it raises, `send_all` raises.
    """
    to_first, to_second = _Way(rooms[0]), _Way(rooms[1])
    return (
        StreamEnd(to_first, to_second, random, lambda: None),
        StreamEnd(to_second, to_first, random, check),
    )
