"""What a client does with the media that it holds: it reads, writes and deletes, and that takes its time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from random import Random
from typing import Final

import trio

from lrs_trio.client.common import HeldMedium
from lrs_trio.model import Family
from lrs_trio.simulation.clients.workload import Stored
from lrs_trio.simulation.oracles.ledger import Ledger

BYTES_PER_SECOND: Final = {Family.TAPE: 300e6, Family.DIR: 1e9}

LEAST_S: Final = {Family.TAPE: (0.005, 5.0, 60.0), Family.DIR: (0.005, 0.2, 5.0)}
"""What the smallest I/O of a client takes on average: one of these. Slow ones meet each other on the devices."""

STALLED: Final = 0.01
LONGEST_STALL_S: Final = 600.0
"""The probability that a client has other things to do while it holds media, and how long they take at most."""

FORGETFUL: Final = 0.0005
FORGETFUL_S: Final = 3600.0
"""The probability that it keeps what it holds for very long, and how long that is."""

Step = Callable[[], Awaitable[None]]


class ClientIo:
    """The I/O of the process `name`. Midway through each, when nothing is complete yet, comes a step of the caller."""

    def __init__(self, ledger: Ledger, name: str, random: Random) -> None:
        self.name = name
        self._ledger = ledger
        self._random = random
        self._least_s = {family: random.choice(choices) for family, choices in LEAST_S.items()}

    async def write(self, media: Sequence[HeldMedium], size: int, midway: Step) -> None:
        """Write a file of `size` bytes on each of `media`.

        Raises:
            OSError: ENOSPC, one of them has no room for it.
        """
        with self._going_on(media):
            await self._take_time(media, size, midway)
            for held in media:
                self._ledger.wrote(self.name, held.root, size)
                held.wrote(size)

    async def read(self, media: Sequence[HeldMedium], size: int, midway: Step) -> None:
        """Read `size` bytes on each of `media`."""
        with self._going_on(media):
            await self._take_time(media, size, midway)

    async def delete(self, held: HeldMedium, stored: Stored, midway: Step) -> None:
        """Delete what is stored on the medium that is held."""
        with self._going_on((held,)):
            await self._take_time((held,), 0, midway)
            self._ledger.deleted(self.name, held.root, stored.size)
            held.deleted(stored.size, stored.extents)

    @contextmanager
    def _going_on(self, media: Sequence[HeldMedium]) -> Iterator[None]:
        for held in media:
            self._ledger.begin_io(self.name, held.root)
        try:
            yield
        finally:
            for held in media:
                self._ledger.end_io(self.name, held.root)

    async def _take_time(self, media: Sequence[HeldMedium], size: int, midway: Step) -> None:
        family = media[0].medium.family
        seconds = self._random.expovariate(1 / self._least_s[family]) + size / BYTES_PER_SECOND[family]
        if self._random.random() < STALLED:
            seconds += self._random.random() * LONGEST_STALL_S
        if self._random.random() < FORGETFUL:
            seconds += FORGETFUL_S
        before = self._random.random() * seconds
        await trio.sleep(before)
        await midway()
        await trio.sleep(seconds - before)
