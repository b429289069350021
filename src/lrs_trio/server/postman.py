"""One task that sends what is ready, for all connections: what many clients wait for leaves in one turn of the loop."""

from __future__ import annotations

from typing import Protocol

import trio


class Sender(Protocol):
    """A connection, as the postman sees it."""

    def send_some(self) -> bool:
        """Send some of what is ready, without waiting; whether more of it may be sent in the same way."""
        ...


class Postman:
    """Comes to whoever has called; `run` has to be running."""

    def __init__(self) -> None:
        # Not bounded: a connection calls again only when everything it had then has been taken.
        self._calls: list[Sender] = []
        self._rung = trio.Event()

    def call(self, sender: Sender) -> None:
        """Let something be sent in the next turn of the event loop."""
        self._calls.append(sender)
        self._rung.set()

    async def run(self) -> None:
        """Send until cancelled. Whoever has much to send waits for all others before its next piece."""
        while True:
            calls, self._calls = self._calls, []
            for sender in calls:
                if sender.send_some():
                    self._calls.append(sender)
            if self._calls:
                await trio.lowlevel.checkpoint()
            else:
                self._rung = trio.Event()
                await self._rung.wait()
