"""Clients that write onto tape as fast as a drive takes it."""

from __future__ import annotations

from dataclasses import dataclass, field

import trio

from lrs_trio.wire.messages import Released, WriteGranted
from tests.fakes.house import back
from tests.fakes.tapes import TapeClient, TapeHouse

RATE = 360_000_000
"""Bytes per second that an LTO-8 drive takes."""


@dataclass
class Crowd:
    """Clients that write one file after the other, and the time that each release took to be answered."""

    house: TapeHouse
    size: int
    waits: list[float] = field(default_factory=list)

    @property
    def io_s(self) -> float:
        """How long one file streams."""
        return self.size / RATE

    async def run(self, clients: int, files: int) -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(clients):
                nursery.start_soon(self._write, self.house.client(), files)

    async def _write(self, client: TapeClient, files: int) -> None:
        for number in range(files):
            client.write(self.size, id=number)
            body = await client.answer(2 * number + 1)
            assert isinstance(body, WriteGranted)
            await trio.sleep(self.io_s)
            (granted,) = body.media
            self.house.site.library.tapes[granted.medium.name].used += self.size
            began = trio.current_time()
            client.release(back(granted.medium, self.size), id=number)
            assert isinstance(await client.answer(2 * number + 2), Released)
            self.waits.append(trio.current_time() - began)
