"""An outbox that keeps what leaves, in place of a connection's sender."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import trio

from lrs_trio.devices.departure import Departure
from lrs_trio.wire.messages import Response, ResponseBody


class RecordingOutbox:
    """What is to leave waits until `flush` is called, or leaves by itself while `serve` runs.

    `sent` lists (time, response), the time as `now` says. As on a connection, `close` drops what comes
    later, not what waits.
    """

    def __init__(self, now: Callable[[], float] = trio.current_time) -> None:
        self._now = now
        self.unsent: deque[Response | Departure] = deque()
        self.sent: list[tuple[float, Response]] = []
        self.on_sent: Callable[[Response], None] = lambda response: None
        self._closed = False
        self._changed = trio.Event()

    def respond(self, response: Response) -> None:
        self._put(response)

    def promise(self) -> None:
        return None

    def keep(self, response: Response) -> None:
        self._put(response)

    def offer(self, departure: Departure) -> None:
        self._put(departure)

    def close(self) -> None:
        self._closed = True

    def flush(self) -> list[Response]:
        """Do what a sender does with all that waits, and return what left."""
        left = []
        while self.unsent:
            item = self.unsent.popleft()
            response = item.depart() if isinstance(item, Departure) else item
            if response is not None:
                self.sent.append((self._now(), response))
                left.append(response)
                self.on_sent(response)
        self._ring()
        return left

    async def serve(self, pause: Callable[[], float] = lambda: 0.0) -> None:
        """Be the sender, which gets its turn `pause()` seconds after each response was queued."""
        while True:
            while not self.unsent:
                await self._changed.wait()
            await trio.sleep(pause())
            self.flush()

    async def wait_sent(self, count: int) -> list[Response]:
        """All responses, once there are `count`."""
        while len(self.sent) < count:
            await self._changed.wait()
        return self.responses

    @property
    def responses(self) -> list[Response]:
        return [response for _, response in self.sent]

    @property
    def bodies(self) -> list[ResponseBody]:
        return [response.body for response in self.responses]

    def _put(self, item: Response | Departure) -> None:
        if not self._closed:
            self.unsent.append(item)
            self._ring()

    def _ring(self) -> None:
        changed, self._changed = self._changed, trio.Event()
        changed.set()
