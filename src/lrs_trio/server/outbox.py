"""The response channel of one connection (note 2.2): filled at once, taken from when something can be sent."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import trio

from lrs_trio.devices.departure import Departure
from lrs_trio.wire.codec import encode_response
from lrs_trio.wire.framing import encode_frame
from lrs_trio.wire.messages import Response, report_text

CHUNK = 16 * 1024
"""Bytes handed to the socket at a time, at most: large enough to answer a burst in one go, small enough that a
client which reads slowly is seen to make progress."""

ENOUGH = 12 * 1024
"""Bytes to which no further frame is added, so that nearly all that is taken at a time is not more than a chunk."""

MOST_REPORTED = 1024 * 1024
"""Characters of reports that may wait in a channel: each is as long as the site is large."""


MOST_PROMISED = 8
"""Reports that may be promised to a connection."""


class ResponseChannel:
    """Responses that have not left yet.

    Answering never waits, so a slow client holds up neither a device nor another client. The channel is
    bounded all the same: the reader takes no further request while more than `capacity` responses, or long
    reports, are unsent, or reports are promised, and what can still arrive then is one answer for each request that is
    outstanding already.
    """

    def __init__(self, capacity: int, on_filled: Callable[[], None]) -> None:
        """Make an empty one; `on_filled` is called with the first response after all have been taken."""
        self.on_departure: Callable[[Response], None] | None = None
        """Is called with each response that leaves, if somebody wants to know."""
        self._capacity = capacity
        self._unsent: deque[Response | Departure] = deque()
        self._reported = 0
        """Characters of the reports since there was nothing unsent."""
        self._promised = 0
        self._kept = trio.Event()
        self._on_filled = on_filled
        self._drained = trio.Event()
        self._awaited = False
        """Whether somebody waits for room."""
        self._closed = False

    def __len__(self) -> int:
        return len(self._unsent)

    @property
    def full(self) -> bool:
        return not self._closed and (
            len(self._unsent) >= self._capacity or self._reported > MOST_REPORTED or self._promised >= MOST_PROMISED
        )

    def respond(self, response: Response) -> None:
        self._reported += len(report_text(response.body) or "")
        self._put(response)

    def promise(self) -> None:
        self._promised += 1

    def keep(self, response: Response) -> None:
        self._promised -= 1
        if not self._promised:
            self._kept.set()
        self.respond(response)
        self._tell_room()

    def offer(self, departure: Departure) -> None:
        self._put(departure)

    def close(self) -> None:
        """Accept no more; `take` still hands out what is there."""
        self._closed = True
        self._drained.set()
        self._kept.set()
        # Nobody is called any more, and who would have been called can be forgotten with us.
        self._on_filled = _call_nobody

    def discard(self) -> None:
        """Accept no more, and forget what is there: nobody will read it."""
        self.close()
        self._unsent.clear()
        self._reported = 0

    async def wait_room(self) -> None:
        """Return once the channel is not full any more, or nothing will ever be sent."""
        while self.full:
            self._drained, self._awaited = trio.Event(), True
            await self._drained.wait()
        self._awaited = False

    async def wait_kept(self) -> None:
        """Return once nothing is promised any more, or nothing will ever be sent."""
        while self._promised and not self._closed:
            self._kept = trio.Event()
            await self._kept.wait()

    def take(self) -> bytes:
        """The next frames to send, a `CHUNK` at most unless one of them is long; empty if there are none.

        Taking is the moment at which a response leaves: the grants in it become ongoing here.
        """
        frames = bytearray()
        while self._unsent and len(frames) < ENOUGH:
            item = self._unsent.popleft()
            response = item.depart() if isinstance(item, Departure) else item
            if response is not None:
                if self.on_departure is not None:
                    self.on_departure(response)
                frames += encode_frame(encode_response(response))
        if not self._unsent:
            self._reported = 0
        self._tell_room()
        return bytes(frames)

    def _tell_room(self) -> None:
        if self._awaited and not self.full:
            self._drained.set()

    def _put(self, item: Response | Departure) -> None:
        if self._closed:
            return
        self._unsent.append(item)
        if len(self._unsent) == 1:
            self._on_filled()


def _call_nobody() -> None:
    return None
