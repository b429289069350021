"""A family of any size on storage in memory, filled with grants and with requests that wait."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from random import Random
from typing import Final, TypeVar

import trio
import trio.testing

from lrs_trio.devices.grant import Grant
from lrs_trio.dss.operations import Operation
from lrs_trio.errors import LrsError
from lrs_trio.events import Events
from lrs_trio.model import Family, FsStatus, NotifyOperation, ResourceId
from lrs_trio.scheduling.client import Client
from lrs_trio.scheduling.family import FamilyScheduler
from lrs_trio.scheduling.requests import Allocation, FamilyRequest, FormatRequest, NotifyRequest
from lrs_trio.settings import FamilySettings
from lrs_trio.wire.messages import Format, Notify, ReadAllocation, Request, WriteAllocation, WriteMedium
from tests.fakes.dss import FakeDss
from tests.fakes.library import tape_id
from tests.fakes.outbox import RecordingOutbox
from tests.fakes.site import DAEMON, Site, family_settings, medium_id
from tests.fakes.tapes import TapeSite, tape_settings

T = TypeVar("T")

GIB: Final = 2**30
TIB: Final = 2**40
REQUESTS_PER_CLIENT: Final = 1000
TAG_SETS: Final = ((), ("fast",), ("blue",), ("fast", "blue"))

Body = WriteAllocation | ReadAllocation | Format | Notify
Drawn = Callable[["Crowded", Random], Body]
"""Makes one request of a mix."""


@dataclass(slots=True)
class Crowded:
    """A family that serves, with all that its clients hold."""

    family: FamilyScheduler
    site: Site | TapeSite
    media: list[ResourceId]
    clients: list[Client] = field(default_factory=list)
    serial: int = 0

    def ask(self, body: Body) -> FamilyRequest:
        """Hand a request over, of a client with few of them."""
        if not self.clients or len(self.clients[-1].waiting) >= REQUESTS_PER_CLIENT:
            self.clients.append(Client(len(self.clients) + 1, RecordingOutbox(), pid=1, uid=1))
        client = self.clients[-1]
        self.serial += 1
        request = Request(self.serial, body, None, None)
        made: FamilyRequest
        if isinstance(body, Format):
            made = FormatRequest(client, request, body, self.serial, trio.current_time())
        elif isinstance(body, Notify):
            made = NotifyRequest(client, request, body, self.serial, trio.current_time())
        else:
            thresholds = self.family.settings.sync.thresholds
            made = Allocation(client, request, body, self.serial, trio.current_time(), thresholds)
        if not self.family.submit(made):
            raise RuntimeError("the channel of the family is full")
        return made

    def ask_and_forget(self, body: Body) -> None:
        self.ask(body)

    async def ask_for_all(self, bodies: list[Body]) -> None:
        """Hand many over, as fast as they are taken in."""
        for number, body in enumerate(bodies, 1):
            self.ask(body)
            if number % 100 == 0:
                await self.settle()
        await self.settle()

    async def settle(self) -> None:
        """Let everything happen that needs no time, and let all responses leave."""
        answered = True
        while answered:
            await trio.testing.wait_all_tasks_blocked()
            outboxes = (client.outbox for client in self.clients)
            answers = [outbox.flush() for outbox in outboxes if isinstance(outbox, RecordingOutbox)]
            answered = any(answers)

    def held(self) -> list[Grant]:
        """All that clients hold now."""
        return [grant for client in self.clients for grant in client.holdings.all()]

    def give_back(self, grant: Grant) -> None:
        """What a release does at once that has nothing to sync."""
        for client in self.clients:
            if client.holdings.holds(grant.medium) and grant in client.holdings.all():
                client.holdings.remove(grant)
                grant.device.end_grant(grant, dirty=False)
                return


class DssApart:
    """`dss`, asked in tasks of their own: a daemon's works in a thread, so that its work is not the scheduler's."""

    def __init__(self, dss: FakeDss) -> None:
        self._dss = dss

    @property
    def unavailable_since(self) -> float | None:
        return self._dss.unavailable_since

    async def execute(self, operation: Operation[T]) -> T:
        (found,) = await self.execute_all([operation])
        if isinstance(found, LrsError):
            raise found
        return found

    def submit(self, operation: Operation[T], done: Callable[[T | LrsError], None]) -> None:
        self._dss.submit(operation, done)

    async def execute_all(self, operations: Sequence[Operation[T]]) -> list[T | LrsError]:
        found: list[T | LrsError] = []

        async def ask() -> None:
            found.extend(await self._dss.execute_all(operations))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask, name="the DSS")
        return found


@asynccontextmanager
async def directories(count: int, *, io: int = 8, tags: bool = False, shared: bool = False) -> AsyncIterator[Crowded]:
    """A family of `count` directories, each with room for `io` at once, perhaps all on one filesystem."""
    site = Site()
    first = None
    for number in range(count):
        bears = TAG_SETS[number % len(TAG_SETS)] if tags else ()
        disk = site.add(f"/srv/{number:04}", total=100 * TIB, tags=bears, shares=first if shared else None)
        first = first or disk
    site.events = Events(trio.current_time)
    async with _serving(Family.DIR, family_settings(max_concurrent_io=io), site) as family:
        yield Crowded(family, site, [medium_id(f"/srv/{number:04}") for number in range(count)])


@asynccontextmanager
async def tapes(drives: int, count: int) -> AsyncIterator[Crowded]:
    """A family of so many drives and tapes, one library, nothing loaded yet."""
    site = TapeSite(drives, 0)
    for number in range(count):
        site.add_tape(f"T{number:05}", capacity=12 * TIB, fs_status=FsStatus.USED)
    # One robot brings all of them: with real times those behind would give up.
    site.library.seconds.update(load=0.01, unload=0.01, mount=0.01, unmount=0.01)
    site.events = Events(trio.current_time)
    async with _serving(Family.TAPE, tape_settings(), site) as family:
        yield Crowded(family, site, [tape_id(f"T{number:05}") for number in range(count)])


@asynccontextmanager
async def _serving(family: Family, settings: FamilySettings, site: Site | TapeSite) -> AsyncIterator[FamilyScheduler]:
    made = FamilyScheduler(
        family,
        settings,
        dss=DssApart(site.dss),
        owner=DAEMON,
        make_supply=site.supply,
        events=site.events,
        recheck_s=1.0,
        wall_clock=lambda: 1_700_000_000.0 + trio.current_time(),
    )
    async with trio.open_nursery() as schedulers, trio.open_nursery() as devices:
        await schedulers.start(made.run, devices)
        yield made
        devices.cancel_scope.cancel()
        schedulers.cancel_scope.cancel()


# What is asked for.


def write(crowded: Crowded, random: Random) -> Body:
    return WriteAllocation((WriteMedium(random.randrange(GIB)),), crowded.family.family)


def tagged_write(crowded: Crowded, random: Random) -> Body:
    return WriteAllocation((WriteMedium(random.randrange(GIB), random.choice(TAG_SETS)),), crowded.family.family)


def two_copies(crowded: Crowded, random: Random) -> Body:
    size = random.randrange(GIB)
    return WriteAllocation((WriteMedium(size), WriteMedium(size)), crowded.family.family)


def read(crowded: Crowded, random: Random) -> Body:
    return ReadAllocation(1, (random.choice(crowded.media),))


def read_one_medium(crowded: Crowded, random: Random) -> Body:
    return ReadAllocation(1, (crowded.media[0],))


def read_one_of_three(crowded: Crowded, random: Random) -> Body:
    return ReadAllocation(1, tuple(random.sample(crowded.media, min(3, len(crowded.media)))))


def mixed(crowded: Crowded, random: Random) -> Body:
    return random.choice((write, tagged_write, two_copies, read, read_one_of_three))(crowded, random)


def update_of(medium: ResourceId) -> Body:
    return Notify(medium, NotifyOperation.MEDIA_UPDATE)


MIXES: Final[dict[str, Drawn]] = {
    "writes": write,
    "tagged writes": tagged_write,
    "two copies": two_copies,
    "reads": read,
    "reads of one medium": read_one_medium,
    "reads of 1 of 3": read_one_of_three,
    "mixed": mixed,
}
