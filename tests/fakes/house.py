"""A family with its devices and releases, nested as in the daemon, and clients that talk to it without a socket."""

from __future__ import annotations

import errno
import itertools
from collections.abc import AsyncIterator, Callable, MutableMapping
from contextlib import asynccontextmanager
from typing import Any, Generic, Protocol, TypeVar

import trio
import trio.testing

from lrs_trio.devices.grant import GrantState
from lrs_trio.devices.life import DeviceStatus
from lrs_trio.devices.volume import Volume
from lrs_trio.events import Events
from lrs_trio.model import Family, FsType, NotifyOperation, ReadOperation, RequestKind, ResourceId
from lrs_trio.scheduling.bookkeeper import Bookkeeper
from lrs_trio.scheduling.client import Client
from lrs_trio.scheduling.family import FamilyScheduler
from lrs_trio.scheduling.release import ReleaseRequest
from lrs_trio.scheduling.requests import Allocation, FamilyRequest, FormatRequest, NotifyRequest
from lrs_trio.scheduling.supply import Supply, Surroundings
from lrs_trio.settings import FamilySettings
from lrs_trio.wire.messages import (
    Failed,
    Format,
    GrantedMedium,
    Notify,
    ReadAllocation,
    ReadGranted,
    Release,
    Released,
    ReleasedMedium,
    Request,
    Response,
    ResponseBody,
    WriteAllocation,
    WriteGranted,
    WriteMedium,
)
from tests.fakes.dss import FakeDss
from tests.fakes.outbox import RecordingOutbox
from tests.fakes.site import DAEMON, Site, device_id, family_settings, medium_id

LONG = 1_000_000.0
"""Virtual seconds after which a test that hangs fails."""

EPOCH = 1_700_000_000.0
"""The wall clock's time when the virtual clock began."""


class AnySite(Protocol):
    """What a house stands on."""

    dss: FakeDss
    events: Events
    volumes: MutableMapping[str, Volume]

    def supply(self, around: Surroundings) -> Supply: ...

    def running_syncs(self, device: ResourceId) -> int: ...


S = TypeVar("S", bound=AnySite)


class AnyHouse(Generic[S]):
    """What the daemon is between its sockets and its storage."""

    def __init__(
        self,
        site: S,
        settings: FamilySettings,
        recheck_s: float,
        family: Family = Family.DIR,
    ) -> None:
        self.site = site
        self.settings = settings
        self.family = FamilyScheduler(
            family,
            settings,
            dss=site.dss,
            owner=DAEMON,
            make_supply=site.supply,
            events=site.events,
            recheck_s=recheck_s,
            wall_clock=lambda: EPOCH + trio.current_time(),
        )
        site.volumes = self.family.volumes
        self.clients: list[FakeClient] = []
        self.violations: list[str] = []
        self.bookkeeper = Bookkeeper(site.dss)
        self.accepts_releases = True
        self.forced = trio.CancelScope()
        self._senders: trio.Nursery | None = None
        self._draining = trio.Event()
        self._serials = 0

    def next_serial(self) -> int:
        self._serials += 1
        return self._serials

    def connect(self, *, pause: Callable[[], float] | None = lambda: 0.0) -> FakeClient:
        """A new client; its sender takes responses after `pause()` seconds, or only on `flush` if that is None."""
        client = self.make_client(len(self.clients) + 1)
        self.clients.append(client)
        if pause is not None and self._senders is not None:
            self._senders.start_soon(client.outbox.serve, pause)
        return client

    def make_client(self, serial: int) -> FakeClient:
        return FakeClient(self, serial)

    def drain(self) -> None:
        """The first signal."""
        self._draining.set()
        self.family.drain()

    def force(self) -> None:
        """The second signal."""
        self.forced.cancel()

    async def settle(self) -> None:
        """Let everything happen that needs no time."""
        await trio.testing.wait_all_tasks_blocked()

    @asynccontextmanager
    async def serve(self, *, keep_clients: bool = False) -> AsyncIterator[None]:
        """Serve inside the block. At its end the clients leave, unless kept, and the house is drained."""
        watch = Watch(self)
        trio.lowlevel.add_instrument(watch)
        try:
            async with trio.open_nursery() as senders:
                self._senders = senders
                with self.forced:
                    async with trio.open_nursery() as releases:
                        await releases.start(self.bookkeeper.run)
                        try:
                            async with trio.open_nursery() as schedulers:
                                async with trio.open_nursery() as devices:
                                    await schedulers.start(self.family.run, devices)
                                    yield
                                    for client in () if keep_clients else self.clients:
                                        client.leave()
                                    if not self._draining.is_set():
                                        self.drain()
                                    devices.cancel_scope.deadline = trio.current_time() + LONG
                                if devices.cancel_scope.cancelled_caught:
                                    raise AssertionError(f"the drain hangs: {self.family.unfinished()}")
                                self.family.close()
                        finally:
                            self.accepts_releases = False
                            self.bookkeeper.close()
                senders.cancel_scope.cancel()
        finally:
            trio.lowlevel.remove_instrument(watch)
        assert self.violations == []
        if not self.forced.cancelled_caught:
            self._check_ended()

    def _check_ended(self) -> None:
        assert self.family.live == set()
        assert len(self.family.queue) == 0
        ours = [lock for lock in self.site.dss.locks.values() if lock.owner == DAEMON]
        assert ours == []
        for device in self.family.devices.values():
            assert device.ended.is_set()
            assert device.state.status in (DeviceStatus.STOPPED, DeviceStatus.FAILED, DeviceStatus.QUARANTINED)
            assert device.state.grants == set()
        for name, volume in self.site.volumes.items():
            assert volume.reserved == 0, name
        for client in self.clients:
            assert client.client.waiting == set()


class House(AnyHouse[Site]):
    """One whose storage is disks."""


class Watch(trio.abc.Instrument):
    """After every step of every task: what locks would protect is true (notes 4.2, 4.3)."""

    def __init__(self, house: AnyHouse[Any]) -> None:
        self._house = house
        self._ongoing: dict[ResourceId, int] = {}

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        for device in self._house.family.devices.values():
            self._look_at(device.id)

    def _look_at(self, name: ResourceId) -> None:
        device = self._house.family.devices[name]
        state = device.state
        counted = {kind: sum(grant.state is kind for grant in state.grants) for kind in GrantState}
        self._check(name, "planned", state.planned == counted[GrantState.PLANNED] + counted[GrantState.READY])
        self._check(name, "ongoing", state.ongoing == counted[GrantState.ONGOING])
        self._check(name, "reserved", state.reserved == counted[GrantState.RESERVED])
        self._check(name, "ended", counted[GrantState.ENDED] == 0)
        self._check(name, "maximum", len(state.grants) <= state.max_concurrent_io)
        excluded = state.syncing is not None and not state.sync_while_io
        before = self._ongoing.get(name, 0)
        self._check(name, "I/O starts during a sync", not excluded or state.ongoing <= before)
        self._ongoing[name] = state.ongoing
        self._check(name, "one sync at a time", self._house.site.running_syncs(name) <= 1)
        self._check(name, "free space", state.volume.free >= 0 and state.volume.reserved >= 0)
        kinds = {grant.kind for grant in state.grants}
        self._check(name, "mixed kinds", state.mix_reads_and_writes or len(kinds) <= 1)

    def _check(self, name: ResourceId, what: str, holds: bool) -> None:
        if not holds:
            self._house.violations.append(f"{name}: {what} at {trio.current_time()}")


class FakeClient:
    """A connection: what it asks, what it is told, what it holds."""

    def __init__(self, house: AnyHouse[Any], serial: int) -> None:
        self.house = house
        self.outbox = RecordingOutbox()
        self.client = Client(serial, self.outbox, pid=1000 + serial, uid=0)
        self.gone = False

    def write(
        self, *sizes: int, id: int = 1, qos: int | None = None, priority: int | None = None, **more: object
    ) -> None:
        media = tuple(WriteMedium(size) for size in sizes)
        self.ask(id, WriteAllocation(media, Family.DIR, **more), qos, priority)  # type: ignore[arg-type]

    def read(
        self, *paths: str, required: int | None = None, id: int = 1, operation: ReadOperation = ReadOperation.READ
    ) -> None:
        media = tuple(map(medium_id, paths))
        self.ask(id, ReadAllocation(len(media) if required is None else required, media, operation))

    def format(self, path: str, *, id: int = 1, unlock: bool = False) -> None:
        self.ask(id, Format(medium_id(path), FsType.POSIX, unlock))

    def notify(self, operation: NotifyOperation, path: str, *, id: int = 1, wait: bool = True) -> None:
        resource = medium_id(path) if operation is NotifyOperation.MEDIA_UPDATE else device_id(path)
        self.ask(id, Notify(resource, operation, wait))

    def ask(
        self,
        id: int,
        body: WriteAllocation | ReadAllocation | Format | Notify,
        qos: int | None = None,
        priority: int | None = None,
    ) -> None:
        request = Request(id, body, qos, priority)
        serial, now = self.house.next_serial(), trio.current_time()
        made: FamilyRequest
        if isinstance(body, Format):
            made = FormatRequest(self.client, request, body, serial, now)
        elif isinstance(body, Notify):
            made = NotifyRequest(self.client, request, body, serial, now)
        else:
            made = Allocation(self.client, request, body, serial, now, self.house.settings.sync.thresholds)
        assert self.house.family.submit(made)

    def release(
        self, *media: ReleasedMedium, id: int = 1, kind: RequestKind = RequestKind.RELEASE_WRITE, partial: bool = False
    ) -> bool:
        """Release; the result tells whether the release waits for a sync."""
        house = self.house
        if not house.accepts_releases:
            if any(element.to_sync for element in media):
                self.outbox.respond(Response(id, Failed(-errno.ESHUTDOWN, kind)))
            return False
        release = ReleaseRequest(self.client, id, Release(media, kind, partial), house.site.events)
        goes_on = release.begin(house.family.is_attached, lambda medium: house.settings.groupings)
        if goes_on:
            house.bookkeeper.accept(release)
        return goes_on

    def leave(self) -> None:
        """The connection ends, as the server sees it."""
        if not self.gone:
            self.gone = True
            self.client.leave()
            self.outbox.close()

    async def answer(self, count: int) -> ResponseBody:
        """The body of the `count`th answer, counted from 1."""
        with trio.fail_after(LONG):
            return (await self.outbox.wait_sent(count))[count - 1].body

    async def answer_to(self, id: int, nth: int = 1) -> ResponseBody:
        """The body of the `nth` answer with this request id."""
        with trio.fail_after(LONG):
            for count in itertools.count(1):
                response = (await self.outbox.wait_sent(count))[count - 1]
                nth -= response.request_id == id
                if not nth:
                    return response.body
        raise AssertionError("unreachable")

    async def granted(self, count: int = 1) -> tuple[GrantedMedium, ...]:
        body = await self.answer(count)
        assert isinstance(body, WriteGranted | ReadGranted), body
        return body.media

    @property
    def bodies(self) -> list[ResponseBody]:
        return self.outbox.bodies

    @property
    def responses(self) -> list[Response]:
        return self.outbox.responses


def back(
    medium: ResourceId | str, size: int = 0, extents: int = 1, *, rc: int = 0, to_sync: bool = True, **more: str
) -> ReleasedMedium:
    """One medium given back."""
    name = medium_id(medium) if isinstance(medium, str) else medium
    return ReleasedMedium(name, rc, size, extents, to_sync, **more)


def released(*paths: str, partial: bool = False, kind: RequestKind = RequestKind.RELEASE_WRITE) -> Released:
    return Released(tuple(map(medium_id, paths)), kind, partial)


@asynccontextmanager
async def house_of(
    *paths: str,
    settings: FamilySettings | None = None,
    site: Site | None = None,
    keep_clients: bool = False,
    recheck_s: float = 1.0,
) -> AsyncIterator[House]:
    """A house that serves the directories at `paths`, or what `site` already has."""
    if site is None:
        site = Site()
    for path in paths:
        site.add(path)
    house = House(site, settings or family_settings(), recheck_s)
    async with house.serve(keep_clients=keep_clients):
        yield house
