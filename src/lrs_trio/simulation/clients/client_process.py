"""One process of an honest client: what it asks over its connection, and where on the way it gives up or dies."""

from __future__ import annotations

import errno
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, replace
from math import inf
from random import Random
from typing import Final, Protocol

import trio

from lrs_trio.client.asynchronous import Allocation, Client
from lrs_trio.client.common import HeldMedium, held_by, write_body
from lrs_trio.errors import LrsError
from lrs_trio.model import Family, NotifyOperation, ResourceId
from lrs_trio.simulation.clients.client_io import ClientIo
from lrs_trio.simulation.clients.mortal import MortalStream
from lrs_trio.simulation.clients.workload import DeleteOrder, FormatOrder, Order, ReadOrder, Stock, Stored, WriteOrder
from lrs_trio.simulation.faults import FaultKind
from lrs_trio.simulation.world import World

BURST: Final = 0.3
"""The probability that a client asks for several things at once."""

LARGEST_BURST: Final = 8

IMPATIENT: Final = 0.04
"""The probability that a client does not wait for ever."""

PATIENCE_S: Final = 60.0
"""How long such a client waits, on average."""

BOTCHED: Final = 0.02
"""The probability that a client has to tell the daemon that its I/O has failed."""

ASIDE: Final = 0.15
"""The probability that a client asks before a burst how things are going."""

LEAVING: Final = 0.03
"""The probability that a client closes its connection after a burst, and opens another one."""

URGENT: Final = 0.1
"""The probability that a request comes with an order of its own."""

FORMATTED_ALREADY: Final = (errno.EINVAL, errno.EEXIST)
"""What the daemon says if an earlier attempt has succeeded after all."""

SHORT_LIFE_S: Final = 1.0
LONG_LIFE_S: Final = 60.0
"""How long one that is killed while it waits has waited, on average: one or the other."""


class Program(Protocol):
    """What a process works for."""

    @property
    def goes_on(self) -> bool:
        """Whether there is still something to be asked for."""
        ...

    def orders(self, most: int) -> Sequence[Order]:
        """What is to be asked for at once: at least one thing, and at most so many."""
        ...

    def ended(self, error: OSError | None) -> None:
        """A request has come to its end; `error` is what the client was told."""
        ...

    async def pause(self, requests: int) -> None:
        """Return after as long as so many requests should take, or when there is nothing more to be asked for."""
        ...


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What all processes of a run have in common."""

    world: World
    stock: Stock
    media: tuple[ResourceId, ...]
    """Those that there are from the beginning."""


class ClientProcess:
    """Works until the program is done, the daemon sends it away or is gone, or the process dies."""

    def __init__(
        self, around: Surroundings, program: Program, mortal: MortalStream, io: ClientIo, random: Random
    ) -> None:
        self.served = False
        """Whether any of its requests came to an end."""
        self._world = around.world
        self._stock = around.stock
        self._media = around.media
        self._program = program
        self._mortal = mortal
        self._io = io
        self._random = random
        self._lost = False

    async def run(self, client: Client) -> None:
        """Ask over `client` for what the program has to ask for."""
        random = self._random
        while self._program.goes_on and not self._lost:
            if random.random() < ASIDE:
                with self._told():
                    await self._ask_aside(client)
            orders = self._program.orders(random.randint(2, LARGEST_BURST) if random.random() < BURST else 1)
            async with trio.open_nursery() as burst:
                for order in orders:
                    burst.start_soon(self._carry_out, client, order, name=f"request of {self._io.name}")
            await self._program.pause(len(orders))
            if random.random() < LEAVING:
                break

    async def _carry_out(self, client: Client, order: Order) -> None:
        """Ask for one thing, and do with it what was to be done."""
        with trio.CancelScope(deadline=self._patience()) as patience, self._told(counts=True):
            match order:
                case WriteOrder() if self._random.random() < BOTCHED:
                    await self._botch(client, order, patience)
                case WriteOrder():
                    await self._write(client, order, patience)
                case ReadOrder():
                    await self._read(client, order, patience)
                case DeleteOrder():
                    await self._delete(client, order, patience)
                case FormatOrder():
                    await self._format(client, order)
        if patience.cancelled_caught:
            self._end(None)

    # What is asked for.

    async def _write(self, client: Client, order: WriteOrder, patience: trio.CancelScope) -> None:
        qos, priority = self._urgency()
        request = client.write(
            order.size,
            copies=order.copies,
            family=order.family,
            tags=order.tags,
            grouping=order.grouping,
            empty=order.empty,
            no_split=order.no_split,
            library=order.library,
            prevent_duplicate=order.prevent_duplicate,
            qos=qos,
            priority=priority,
        )
        written: list[Stored] = []
        async with self._held(request, patience) as allocation:
            for number, size in enumerate(order.sizes, start=1):
                await self._io.write(allocation.media, size, self._perhaps_die_in_io)
                written += [Stored(held.medium, size) for held in allocation.media]
                if order.in_parts and number < len(order.sizes):
                    await allocation.sync()
                    self._remember(written)
        self._remember(written)

    async def _botch(self, client: Client, order: WriteOrder, patience: trio.CancelScope) -> None:
        """Write, and say at the release that it went wrong: nothing of it may be counted."""
        held = held_by(await client.request(write_body(order.size, copies=order.copies, family=order.family)))
        patience.deadline = inf
        with suppress(OSError):
            await self._io.write(held.media, order.size, self._perhaps_die_in_io)
        release = held.finish()
        first, *others = release.media
        try:
            await client.request(replace(release, media=(replace(first, rc=-errno.EDQUOT), *others)))
        except LrsError as error:
            expected = error.errno in (errno.EDQUOT, errno.ESHUTDOWN) or (error.errno == errno.EINVAL and self._robbed)
            self._check(expected, f"a release with an error of the client's own was answered with {error}")
        else:
            self._check(False, "a release with an error of the client's own was answered as if all were well")

    async def _read(self, client: Client, order: ReadOrder, patience: trio.CancelScope) -> None:
        qos, priority = self._urgency()
        request = client.read(order.media, n_required=order.n_required, qos=qos, priority=priority)
        async with self._held(request, patience, syncs=False) as allocation:
            await self._io.read(allocation.media, order.size, self._perhaps_die_in_io)

    async def _delete(self, client: Client, order: DeleteOrder, patience: trio.CancelScope) -> None:
        async with self._held(client.delete(order.media), patience) as allocation:
            held_on: dict[ResourceId, HeldMedium] = {held.medium: held for held in allocation.media}
            for stored in order.objects:
                await self._io.delete(held_on[stored.medium], stored, self._perhaps_die_in_io)

    async def _format(self, client: Client, order: FormatOrder) -> None:
        try:
            with self._dying(FaultKind.CLIENT_KILLED_WAITING):
                await client.format(order.medium, fs_type=order.fs_type, unlock=True)
        except BaseException as error:
            if not (isinstance(error, LrsError) and error.errno in FORMATTED_ALREADY):
                self._stock.put_back(order.medium)
            raise

    async def _ask_aside(self, client: Client) -> None:
        random = self._random
        match random.choices(range(7), (30, 10, 15, 15, 10, 10, 10))[0]:
            case 0:
                await client.ping()
            case 1:
                await client.status()
            case 2:
                await client.monitor(random.choice((Family.DIR, Family.TAPE)))
            case 3:
                await client.stats(random.choice((None, "dev", "req")))
            case 4:
                await client.notify(NotifyOperation.MEDIA_UPDATE, random.choice(self._media))
            case 5:
                await client.notify(NotifyOperation.MEDIA_UPDATE, random.choice(self._media), wait=False)
            case _:
                await client.configure_get([{"section": "lrs", "key": "families"}])

    # How it ends.

    @contextmanager
    def _told(self, *, counts: bool = False) -> Iterator[None]:
        """What clients live with: an errno, and the end of the connection. Only requests that count are over then."""
        try:
            yield
        except LrsError as error:
            self._check(error.errno != errno.EPROTO, f"a client cannot understand the daemon: {error}")
            if error.errno == errno.ESHUTDOWN:
                self._lost = True
            elif counts:
                self._end(error)
        except ConnectionError as error:
            self._check(error.errno != errno.EPROTO, f"a client cannot understand the daemon: {error}")
            self._lost = True
        except OSError as error:
            if counts:
                self._end(error)
        else:
            if counts:
                self._end(None)

    def _end(self, error: OSError | None) -> None:
        self.served = True
        self._program.ended(error)

    def _check(self, holds: bool, what: str) -> None:
        self._world.violations.check(holds, f"{self._io.name}: {what}")

    def _remember(self, written: list[Stored]) -> None:
        """All of that is acknowledged."""
        for stored in written:
            self._stock.add(stored)
        written.clear()

    @property
    def _robbed(self) -> bool:
        """Whether somebody may have taken away what this client holds."""
        return self._world.faults.hits[FaultKind.GRANT_REVOKED] > 0

    # Giving up, and dying.

    @asynccontextmanager
    async def _held(
        self, request: AbstractAsyncContextManager[Allocation], patience: trio.CancelScope, *, syncs: bool = True
    ) -> AsyncIterator[Allocation]:
        """Ask, and release at the end of the block, unless the process dies at a step of that."""
        if self._strikes(FaultKind.CLIENT_KILLED_ASKING):
            self._mortal.doom()
        async with AsyncExitStack() as stack:
            with self._dying(FaultKind.CLIENT_KILLED_WAITING):
                allocation = await stack.enter_async_context(request)
            patience.deadline = inf
            await self._perhaps_die(FaultKind.CLIENT_KILLED_GRANTED)
            yield allocation
            if self._strikes(FaultKind.CLIENT_KILLED_RELEASING):
                self._mortal.doom()
            if syncs:
                with self._dying(FaultKind.CLIENT_KILLED_SYNCING):
                    await allocation.release()

    def _patience(self) -> float:
        """When the client gives up, if nothing is granted until then."""
        if self._random.random() >= IMPATIENT:
            return inf
        return trio.current_time() + self._random.expovariate(1 / PATIENCE_S)

    def _urgency(self) -> tuple[int | None, int | None]:
        """The `qos` and the `priority` of a request."""
        if self._random.random() >= URGENT:
            return None, None
        return self._random.choice((None, 1, 2)), self._random.choice((None, -1, 1, 100))

    def _strikes(self, kind: FaultKind) -> bool:
        return self._world.faults.strikes(kind, self._io.name)

    @contextmanager
    def _dying(self, kind: FaultKind) -> Iterator[None]:
        """If `kind` strikes, the process does not outlive the block, and maybe not what it waits for in there."""
        struck = self._strikes(kind)
        if struck:
            average = self._random.choice((SHORT_LIFE_S, LONG_LIFE_S))
            self._mortal.kill_in(self._random.expovariate(1 / average))
        try:
            yield
        finally:
            if struck:
                self._mortal.kill()

    async def _perhaps_die(self, kind: FaultKind) -> None:
        if self._strikes(kind):
            self._mortal.kill()
        await trio.lowlevel.checkpoint()

    async def _perhaps_die_in_io(self) -> None:
        await self._perhaps_die(FaultKind.CLIENT_KILLED_IN_IO)
