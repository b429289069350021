"""Fairness among connections: who sends much at once waits for others, and nobody else waits for them."""

from __future__ import annotations

from math import inf

import trio

FREE_FRAMES = 2
"""Requests that arrive together and are handled at once: a client that waits for its answers sends a release and an
allocation at most."""

FREE_BYTES = 4096
"""Larger requests take longer to understand than others to be answered: none of them is free."""

TURN_FRAMES = 8
TURN_S = 0.0005
"""Bounds of what is handled of one connection in a turn of the event loop: requests, and seconds. A report is made for
as long in one turn."""

PASSED_OVER = 256
"""Requests that nobody needs any more, of which so many cost as much as one that is handled."""

TURNS_BETWEEN = 3
"""Turns of the event loop between two that are longer: what a client waits for takes a dozen turns, which cost next to
nothing where there is nothing to do in them."""

COMPANY_S = 0.1
"""A client that has asked for something so lately, in seconds, may be waiting for the answer."""

PAUSE = 2.0
"""For how many times as long as a share, or a report, took up the loop it is left to those who may be waiting."""

LONGEST_S = 0.05
"""The most that a share can have taken up, in seconds: if it seems to be longer, the whole process stood still."""


class Turnstile:
    """Lets those who have much to do pass one by one, in the order of their coming.

    However many connections are flooded, some turns of the event loop are longer by what one of them is allowed, and
    none is by what all of them want. While others are there who may be waiting, all those together take up a third of
    its time at most.
    """

    def __init__(self) -> None:
        self.arrivals = 0
        """How often few requests have arrived, on whatever connection."""
        self._lock = trio.Lock()

    async def wait_passed(self, spent: float = 0, *, in_company: bool = False) -> None:
        """Wait for one's turn, after a share that has `spent` so many seconds of the loop."""
        # Taking a lock lasts until the next turn, so its next owner takes it one turn later.
        async with self._lock:
            begins = trio.current_time()
            for _ in range(TURNS_BETWEEN):
                await trio.lowlevel.checkpoint()
            if in_company:
                # What was begun by the last share is done in these turns, beside what others had to do.
                await trio.sleep(PAUSE * min(spent + trio.current_time() - begins, LONGEST_S))


class Share:
    """What may be handled of one connection before it has to pass the turnstile."""

    def __init__(self, turnstile: Turnstile) -> None:
        self._turnstile = turnstile
        self._frames = 0
        self._ends = inf
        """When the share is used up; what is free has no end."""
        self._spent = 0.0
        """Seconds of the loop that the last share took, if they are not paid for yet."""
        self._arrivals = 0
        """How many of the turnstile's were ours."""
        self._are_few = False
        """Whether those that arrived last are counted there."""
        self._passed_over = 0
        self._company = 0
        """How many of others there had been when we looked last; since `_looked` we have had nothing to do."""
        self._looked = -inf
        self._company_until = -inf

    def begin(self) -> None:
        """Requests have arrived that were waited for."""
        self._turnstile.arrivals += 1
        self._arrivals += 1
        self._are_few = True
        self.resume()

    def resume(self) -> None:
        """Requests can be handled again that others are not to blame for having waited."""
        # So few need no clock.
        self._frames, self._ends = FREE_FRAMES, inf

    def take(self, size: int) -> bool:
        """Whether one more request, of so many bytes, may be handled now."""
        self._frames -= 1
        if self._ends == inf:
            return self._frames >= 0 and size <= FREE_BYTES
        return self._frames >= 0 and trio.current_time() < self._ends

    def pass_over(self) -> bool:
        """Whether one more request, that nobody needs any more, may be passed over now."""
        self._passed_over = (self._passed_over + 1) % PASSED_OVER
        return self._passed_over != 0

    def end(self) -> None:
        """All that has arrived is handled."""
        if self._ends != inf:
            self._looked = now = trio.current_time()
            self._spent, self._ends = now - self._ends + TURN_S, inf

    async def renew(self) -> None:
        """Wait for the next share; one request may be handled then without asking."""
        if self._are_few:
            # There are more of them: who sends so many at once is no company for others who do.
            self._are_few = False
            self._turnstile.arrivals -= 1
            self._arrivals -= 1
        self.end()
        spent, self._spent = self._spent, 0.0
        await self._turnstile.wait_passed(spent, in_company=self._is_in_company(trio.current_time()))
        self._frames, self._ends = TURN_FRAMES - 1, trio.current_time() + TURN_S

    def _is_in_company(self, now: float) -> bool:
        others = self._turnstile.arrivals - self._arrivals
        # After a pause of ours they may have come at any time.
        if others != self._company and now - self._looked <= COMPANY_S:
            self._company_until = now + COMPANY_S
        self._company, self._looked = others, now
        return now < self._company_until
