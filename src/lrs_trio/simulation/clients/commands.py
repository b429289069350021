"""The administrator's commands: the DSS is written first, in one transaction; then the daemon is told, if it runs."""

from __future__ import annotations

import errno
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import trio

from lrs_trio.client.asynchronous import Client, open_client_on
from lrs_trio.dss.operations import Operation
from lrs_trio.errors import LrsError
from lrs_trio.model import Family, NotifyOperation, ResourceId
from lrs_trio.simulation.host.network import ADMINISTRATOR_UID
from lrs_trio.simulation.host.site import Site
from lrs_trio.simulation.oracles.ledger import Ledger
from lrs_trio.simulation.scenario import LIBRARY

AT_ONCE: Final = 8
"""How much the daemon is told of at once: less than it lets one connection ask for."""

NAME: Final = "administrator"

News = tuple[NotifyOperation, ResourceId]


class Commands:
    """Each has a connection of its own, if there is a daemon to be told."""

    def __init__(self, site: Site, ledger: Ledger) -> None:
        self._dss = site.dss
        self._network = site.network
        self._trace = site.world.trace
        self._ledger = ledger
        self._count = 0

    def write(self, *operations: Operation[Any]) -> bool:
        """Write the DSS; the result is whether nothing was refused."""
        outcomes = self._dss.administer(*operations) if operations else []
        refusals = [outcome for outcome in outcomes if isinstance(outcome, LrsError)]
        for refusal in refusals:
            self._trace.note("administrator.refused", error=refusal)
        return not refusals

    async def tell(self, *news: News, wait: bool = True) -> Sequence[News]:
        """Tell the daemon what has been written, and `wait` until it has acted on it.

        The result is what it refuses: nothing, if there is no daemon, or one that is about to end. The next one will
        read it in the DSS.
        """
        refused: list[News] = []
        limiter = trio.CapacityLimiter(AT_ONCE)
        async with self._connected() as client, trio.open_nursery() as nursery:
            if client is not None:
                for item in news:
                    nursery.start_soon(self._tell_one, client, item, wait, limiter, refused, name="news of the DSS")
        return refused

    async def format(self, medium: ResourceId) -> bool:
        """Have the daemon format a directory and unlock it; the result is whether that is done."""
        try:
            async with self._connected() as client:
                if client is not None:
                    await client.format(medium, unlock=True)
        except OSError as error:
            self._trace.note("administrator.refused", error=error)
            return False
        return client is not None

    async def given_up(self) -> list[ResourceId]:
        """The devices that the daemon says it has given up."""
        return [
            ResourceId(Family.from_label(family["family"]), device["name"], LIBRARY)
            for family in await self._families()
            for device in family["devices"]
            if device["status"] in ("failed", "quarantined")
        ]

    async def held_long(self, seconds: float) -> list[dict[str, Any]]:
        """The grants, as the daemon reports them, that clients have, or could have, for longer than so many seconds."""
        return [
            grant
            for family in await self._families()
            for device in family["devices"]
            for grant in device["grants"]
            if grant["state"] in ("ready", "ongoing") and grant["age_s"] > seconds
        ]

    async def revoke(self, *media: str, client: int | None = None, pid: int | None = None) -> None:
        """Take grants away."""
        try:
            async with self._connected() as connection:
                if connection is not None:
                    await connection.revoke(media, client=client, pid=pid)
        except OSError as error:
            self._trace.note("administrator.refused", error=error)

    async def _families(self) -> Sequence[dict[str, Any]]:
        """What the daemon reports of its families; nothing, if there is no daemon."""
        try:
            async with self._connected() as client:
                if client is not None:
                    families: Sequence[dict[str, Any]] = (await client.status())["families"]
                    return families
        except OSError as error:
            self._trace.note("administrator.refused", error=error)
        return ()

    async def _tell_one(
        self, client: Client, item: News, wait: bool, limiter: trio.CapacityLimiter, refused: list[News]
    ) -> None:
        operation, resource = item
        try:
            async with limiter:
                await client.notify(operation, resource, wait=wait)
        except OSError as error:
            self._trace.note("administrator.refused", news=operation.name, resource=resource, error=error)
            if isinstance(error, LrsError) and error.errno != errno.ESHUTDOWN:
                refused.append(item)

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[Client | None]:
        """A connection to the daemon, ``None`` if there is no daemon."""
        self._count += 1
        name = f"{NAME}.{self._count}"
        try:
            stream = await self._network.connect(name, uid=ADMINISTRATOR_UID)
        except ConnectionRefusedError:
            stream = None
        if stream is None:
            yield None
            return
        async with open_client_on(self._ledger.tap(stream, name)) as client:
            yield client
