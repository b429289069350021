"""Work that is done in steps of bounded length, so that others have their turns between them."""

from __future__ import annotations

from math import inf

import trio


class Pace:
    """Makes a pause after every `most` looks, never if that is infinite."""

    def __init__(self, most: float = inf) -> None:
        self._most = most
        self._looks = 0

    async def step(self) -> None:
        """One more look is done; the pause is a checkpoint."""
        self._looks += 1
        if self._looks >= self._most:
            self._looks = 0
            await trio.lowlevel.checkpoint()
