"""The honest clients of a run: programs that use the real client library, and are started again when they die."""

from __future__ import annotations

import errno
from collections import Counter
from collections.abc import Sequence
from typing import Final

import trio

from lrs_trio.client.asynchronous import open_client_on
from lrs_trio.model import FsStatus
from lrs_trio.simulation.clients.client_io import ClientIo
from lrs_trio.simulation.clients.client_process import ClientProcess, Surroundings
from lrs_trio.simulation.clients.mortal import MortalStream
from lrs_trio.simulation.clients.workload import FULLNESS, Order, Stock, Workload, shares
from lrs_trio.simulation.host.site import Site
from lrs_trio.simulation.oracles.ledger import Ledger
from lrs_trio.simulation.scenario import HOUR, Scenario

ROOMS: Final = (64 * 1024, 64 * 1024, 4096)
"""Bytes of responses that a client's end of the connection has room for."""

FIRST_PAUSE_S: Final = 2.0
LONGEST_PAUSE_S: Final = 120.0
"""The longest pause before a client comes back to a daemon that was not there, or was about to end: it doubles."""

LATE_PAUSE_S: Final = 1.0
"""Between two requests of a client that is told to hurry, on average."""

REBIRTH_S: Final = 10.0
"""How long it takes on average until somebody starts what was killed again."""


class Crowd:
    """All honest clients of a run, which together make the requests of its scenario."""

    def __init__(self, site: Site, scenario: Scenario, ledger: Ledger) -> None:
        self.errors: Counter[str] = Counter()
        """What requests were answered with instead, by the name of the errno."""
        self.done = 0
        """Requests that came to an end, whichever."""
        self.finished = trio.Event()
        self.hurried = trio.Event()
        self._programs: list[_Program] = []
        media = site.dss.read().media
        blank = [id_ for id_, row in media.items() if row.medium.fs_status is FsStatus.BLANK]
        around = Surroundings(site.world, Stock(blank), tuple(media))
        fullness = site.world.chance.of("crowd").choice(FULLNESS)
        for number, quota in enumerate(shares(scenario.requests, min(scenario.clients, scenario.requests))):
            name = f"client {number}"
            workload = Workload(scenario, site.world.chance.of(f"{name} workload"), around.stock, fullness)
            pace = scenario.hours * HOUR / quota
            self._programs.append(_Program(self, name, quota, pace, workload, around, site, ledger))

    async def run(self) -> None:
        """Return when all requests are made, or none is to be made any more, and nothing is held."""
        async with trio.open_nursery() as nursery:
            for program in self._programs:
                nursery.start_soon(program.run, name=program.name)

    def hurry(self) -> None:
        """Ask for what is left, almost without a pause."""
        self.hurried.set()

    def finish(self) -> None:
        """Ask for nothing more."""
        self.finished.set()
        self.hurried.set()

    def ended(self, error: OSError | None) -> None:
        """A request has come to its end."""
        self.done += 1
        if error is not None:
            self.errors[errno.errorcode.get(error.errno or 0, "unknown")] += 1


class _Program:
    """One client: a process after the other, until its `quota` of requests is used up.

    `pace` is how many seconds there are for one request.
    """

    def __init__(
        self,
        crowd: Crowd,
        name: str,
        quota: int,
        pace: float,
        workload: Workload,
        around: Surroundings,
        site: Site,
        ledger: Ledger,
    ) -> None:
        self.name = name
        self._crowd = crowd
        self._quota = quota
        self._pace = pace
        self._workload = workload
        self._around = around
        self._site = site
        self._ledger = ledger
        self._random = site.world.chance.of(name)
        self._processes = 0

    async def run(self) -> None:
        await self.pause(1)
        longest = FIRST_PAUSE_S
        while self.goes_on:
            if await self._run_process():
                longest = FIRST_PAUSE_S
            else:
                await self._rest(longest * self._random.random())
                longest = min(2 * longest, LONGEST_PAUSE_S)

    # What a process asks of its program.

    @property
    def goes_on(self) -> bool:
        return self._quota > 0 and not self._crowd.finished.is_set()

    def orders(self, most: int) -> Sequence[Order]:
        return [self._workload.order() for _ in range(min(most, self._quota))]

    def ended(self, error: OSError | None) -> None:
        self._quota -= 1
        self._crowd.ended(error)

    async def pause(self, requests: int) -> None:
        with trio.move_on_after(self._random.expovariate(1 / (self._pace * requests)) if self.goes_on else 0.0):
            await self._crowd.hurried.wait()
            await self._rest(self._random.expovariate(1 / LATE_PAUSE_S))

    # Its processes.

    async def _run_process(self) -> bool:
        """One process; the result is whether any of its requests came to an end."""
        self._processes += 1
        name = f"{self.name}.{self._processes}"
        try:
            stream = await self._site.network.connect(name, room=self._random.choice(ROOMS))
        except ConnectionRefusedError:
            return False
        mortal = MortalStream(self._ledger.tap(stream, name), self._random)
        process = ClientProcess(self._around, self, mortal, ClientIo(self._ledger, name, self._random), self._random)
        with mortal.life:
            async with open_client_on(mortal) as client:
                await process.run(client)
        if mortal.life.cancelled_caught:
            await self._rest(self._random.expovariate(1 / REBIRTH_S))
        return process.served

    async def _rest(self, seconds: float) -> None:
        """Wait, but not when there is nothing more to be asked for."""
        with trio.move_on_after(seconds):
            await self._crowd.finished.wait()
