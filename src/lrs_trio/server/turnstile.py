"""Fairness among connections: who sends much at once waits for others who do, and nobody else waits for them."""

from __future__ import annotations

from math import inf

import trio

FREE_FRAMES = 2
"""Requests that arrive together and are handled at once: a client that waits for its answers sends a release and an
allocation at most."""

TURN_FRAMES = 8
TURN_S = 0.0002
"""Bounds of what is handled of one connection in a turn of the event loop: requests, and seconds."""


TURNS_BETWEEN = 3
"""Turns of the event loop between two that are longer: what a client waits for takes a dozen turns, which cost next to
nothing where there is nothing to do in them."""


class Turnstile:
    """Lets those who have much to do pass one by one, in the order of their coming.

    However many connections are flooded, some turns of the event loop are longer by what one of them is allowed, and
    none is by what all of them want.
    """

    def __init__(self) -> None:
        self._lock = trio.Lock()

    async def wait_passed(self) -> None:
        # Taking a lock lasts until the next turn, so its next owner takes it one turn later.
        async with self._lock:
            for _ in range(TURNS_BETWEEN):
                await trio.lowlevel.checkpoint()


class Share:
    """What may be handled of one connection before it has to pass the turnstile."""

    def __init__(self, turnstile: Turnstile) -> None:
        self._turnstile = turnstile
        self._frames = 0
        self._ends = 0.0

    def begin(self) -> None:
        """Requests have arrived that were waited for."""
        # So few need no clock.
        self._frames, self._ends = FREE_FRAMES, inf

    def take(self) -> bool:
        """Whether one more request may be handled now."""
        self._frames -= 1
        return self._frames >= 0 and (self._ends == inf or trio.current_time() < self._ends)

    async def renew(self) -> None:
        """Wait for the next share; one request may be handled then without asking."""
        await self._turnstile.wait_passed()
        self._frames, self._ends = TURN_FRAMES - 1, trio.current_time() + TURN_S
