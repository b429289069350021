"""A recorded workload, played against the simulated daemon: as many clients, who ask for the same at the same times.

What was not recorded is that this daemon is another one: it grants other media, sooner or later. So a client that
gives something back gives back what it has got here, after holding it as long as it did then; a client that was
answered before it left waits for that answer here, too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import trio

from lrs_trio.model import Device, Family, Medium
from lrs_trio.settings import AccessSettings, LibrarySettings
from lrs_trio.simulation.host.site import Site
from lrs_trio.simulation.host.stream import StreamEnd
from lrs_trio.simulation.oracles.ledger import Ledger
from lrs_trio.simulation.replay.recorded import Conversation, Workload
from lrs_trio.simulation.replay.recorded_reading import read_workload
from lrs_trio.simulation.replay.replayed_client import Formats, ReplayedClient
from lrs_trio.simulation.scenario import HOST, HOUR, Scenario

__all__ = ["Replayed", "read_workload", "scenario_of"]

ACCESS: Final = AccessSettings(everyone=("read", "write", "format", "admin"))
"""A trace does not tell who the clients were."""

FIRST_PAUSE_S: Final = 0.05
LONGEST_PAUSE_S: Final = 60.0
"""Before a client tries again to connect to a daemon that is not there: it doubles."""


def scenario_of(workload: Workload, seed: int) -> Scenario:
    """A run in which nothing goes wrong, on a host like that of `workload`; `seed` decides what the trace does not."""
    inventory = workload.on_host(HOST).inventory
    virtual = LibrarySettings(robot="virtual", drives="virtual", directory=Path("/simulated"))
    libraries = dict.fromkeys(sorted({device.id.library for device in inventory.devices}), virtual)
    dss = inventory.settings.dss.model_copy(update={"url": "sqlite:///simulated/dss.sqlite"})
    return Scenario(
        seed=seed,
        directories=_count(inventory.devices, Family.DIR),
        drives=_count(inventory.devices, Family.TAPE),
        tapes=_count(inventory.media, Family.TAPE),
        blank=0,
        clients=len(workload.conversations),
        requests=workload.requests,
        hours=workload.seconds / HOUR,
        meddling=False,
        hostile=False,
        settings=inventory.settings.model_copy(update={"access": ACCESS, "dss": dss, "libraries": libraries}),
        inventory=inventory,
    )


def _count(resources: Sequence[Device | Medium], family: Family) -> int:
    return sum(resource.id.family is family for resource in resources)


class Replayed:
    """All clients of a recorded workload.

    Attributes:
        sent: recorded requests that were sent, by the names of their types.
        surplus: releases that nobody had recorded: of what was granted here, and refused there.
    """

    def __init__(self, site: Site, workload: Workload, ledger: Ledger) -> None:
        self.sent: Counter[str] = Counter()
        self.surplus = 0
        self._site = site
        self._ledger = ledger
        self._formats = Formats()
        self._workload = workload.on_host(site.world.host)
        self._opening = trio.CancelScope()
        self._present: dict[str, ReplayedClient] = {}
        self._finished = False

    @property
    def dropped(self) -> int:
        """Requests that were recorded and are not sent: releases of what was not granted here, and what a client has
        still to ask when its connection is cut."""
        return self._workload.requests - self.sent.total()

    async def run(self) -> None:
        """Return when everybody has left."""
        begin = trio.current_time()
        conversations = sorted(self._workload.conversations, key=lambda conversation: conversation.opened)
        async with trio.open_nursery() as nursery:
            with self._opening:
                for conversation in conversations:
                    await trio.sleep_until(begin + conversation.opened)
                    name = f"recorded client {conversation.number}"
                    nursery.start_soon(self._play, conversation, name, name=name)

    def finish(self) -> None:
        """Ask for nothing more: everybody gives back what is held, and leaves."""
        self._finished = True
        self._opening.cancel(reason="nothing more is to be asked for")
        for client in self._present.values():
            client.finish()

    async def _play(self, conversation: Conversation, name: str) -> None:
        stream = await self._connect(name)
        if stream is None:
            return
        end = self._workload.seconds if conversation.closed is None else conversation.closed
        tapped = self._ledger.tap(stream, name)
        client = ReplayedClient(conversation, end, tapped, self._ledger, self._site.dss, self._formats, name)
        self._present[name] = client
        if self._finished:
            client.finish()
        await client.run()
        del self._present[name]
        self.sent.update(client.sent)
        self.surplus += client.surplus

    async def _connect(self, name: str) -> StreamEnd | None:
        """The client's end, ``None`` if it has nothing to ask any more before there is a daemon."""
        pause = FIRST_PAUSE_S
        while not self._finished:
            try:
                return await self._site.network.connect(name)
            except ConnectionRefusedError:
                await trio.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE_S)
        return None
