"""A whole daemon in this process, and clients that say exactly what a test wants said."""

from __future__ import annotations

import json
import signal
import socket
import tomllib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar, cast

import pytest
import structlog
import tomli_w
import trio

from benchmarks.books import Books, differences, read_books
from benchmarks.harness import READ_SIZE, Site, administer, temporary_site
from benchmarks.sites import Sites
from lrs_trio.daemon import EXIT_DRAINED, Daemon
from lrs_trio.dss.operations import Operation
from lrs_trio.model import Device, Family, FsType, RequestKind, ResourceId
from lrs_trio.settings_sources import load_settings
from lrs_trio.storage.directory import DirectoryStorage
from lrs_trio.storage.protocols import Unit
from lrs_trio.wire.codec import decode_response, encode_request
from lrs_trio.wire.framing import FrameDecoder, encode_frame
from lrs_trio.wire.messages import (
    Failed,
    Format,
    Formatted,
    ReadAllocation,
    ReadGranted,
    Release,
    Released,
    ReleasedMedium,
    Request,
    RequestBody,
    Response,
    ResponseBody,
    Stat,
    Statistics,
    Status,
    StatusReport,
    WriteAllocation,
    WriteGranted,
    WriteMedium,
)
from tests.storage.faults import FaultyFilesystem, faulty

T = TypeVar("T")
B = TypeVar("B", bound=ResponseBody)

PATIENCE_S = 20.0
"""Only so that a defect ends a test instead of holding it up."""

LOOK_AGAIN_S = 0.005
NEVER_DUE = (
    "families.dir.sync.mode=thresholds",
    "families.dir.sync.time_ms=86400000",
    "families.dir.sync.requests=1000000",
    f"families.dir.sync.bytes={2**63 - 1}",
)
"""Thresholds that no test reaches."""


# Requests in few words.


def write(size: int = 1000, copies: int = 1, **more: Any) -> WriteAllocation:
    return WriteAllocation((WriteMedium(size),) * copies, Family.DIR, **more)


def read(*media: ResourceId, n_required: int = 1, **more: Any) -> ReadAllocation:
    return ReadAllocation(n_required, media, **more)


def release(
    *media: ResourceId,
    size: int = 1000,
    extents: int = 1,
    to_sync: bool = True,
    rc: int = 0,
    kind: RequestKind = RequestKind.RELEASE_WRITE,
    partial: bool = False,
) -> Release:
    return Release(tuple(ReleasedMedium(m, rc, size, extents, to_sync) for m in media), kind, partial)


def frames(*requests: Request) -> bytes:
    return b"".join(encode_frame(encode_request(request)) for request in requests)


def media_of(granted: ResponseBody) -> tuple[ResourceId, ...]:
    assert isinstance(granted, WriteGranted | ReadGranted), granted
    return tuple(medium.medium for medium in granted.media)


def device_of(site: Site, medium: ResourceId) -> ResourceId:
    return ResourceId(Family.DIR, f"{site.host}:{medium.name}", medium.library)


class Caller:
    """One connection, spoken to in frames."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self._decoder = FrameDecoder()
        self._come: list[Response] = []

    async def send(self, *requests: Request) -> None:
        """All of `requests` in one go."""
        await self.send_bytes(frames(*requests))

    async def send_bytes(self, data: bytes) -> None:
        with trio.fail_after(PATIENCE_S):
            await self.stream.send_all(data)

    async def receive(self) -> Response:
        with trio.fail_after(PATIENCE_S):
            while not self._come:
                data = await self.stream.receive_some(READ_SIZE)
                if not data:
                    raise EOFError("the daemon closed the connection")
                self._come += map(decode_response, self._decoder.feed(data))
        return self._come.pop(0)

    async def receive_many(self, count: int) -> list[Response]:
        return [await self.receive() for _ in range(count)]

    async def rest(self) -> list[Response]:
        """What still comes until the daemon closes the connection."""
        responses = []
        try:
            while True:
                responses.append(await self.receive())
        except (EOFError, trio.BrokenResourceError):
            return responses

    async def ask(self, body: RequestBody, expected: type[B], *, id: int = 1) -> B:
        """One request and its answer, which must be the next to come."""
        await self.send(Request(id, body))
        response = await self.receive()
        assert response.request_id == id, response
        assert isinstance(response.body, expected), response
        return response.body

    async def refused(self, body: RequestBody, *, id: int = 1) -> int:
        """The errno with which `body` is refused."""
        return -(await self.ask(body, Failed, id=id)).rc

    async def hold(self, size: int = 1000, copies: int = 1, **more: Any) -> tuple[ResourceId, ...]:
        """The media of a write that is granted now."""
        return media_of(await self.ask(write(size, copies, **more), WriteGranted))

    async def hang_up(self) -> None:
        await trio.aclose_forcefully(self.stream)


@dataclass
class Running:
    """A daemon that is ready."""

    site: Site
    daemon: Daemon
    manager: trio.socket.SocketType
    committed: Counter[ResourceId] = field(default_factory=Counter)
    """Bytes that the DSS must count by now, beyond what it counted before; each release counts one object."""
    objects: Counter[ResourceId] = field(default_factory=Counter)
    ended: trio.Event = field(default_factory=trio.Event)
    exit_status: int | None = None

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[Caller]:
        async with await trio.open_unix_socket(str(self.site.socket)) as stream:
            yield Caller(stream)

    async def ask(self, body: RequestBody, expected: type[B]) -> B:
        """One request on a connection of its own."""
        async with self.connect() as caller:
            return await caller.ask(body, expected)

    async def status(self) -> dict[str, Any]:
        report: dict[str, Any] = json.loads((await self.ask(Status(), StatusReport)).status)
        return report

    async def family(self) -> dict[str, Any]:
        (family,) = (await self.status())["families"]
        assert isinstance(family, dict)
        return family

    async def device(self, medium: ResourceId) -> dict[str, Any]:
        """What the status says of the directory of `medium`."""
        name = device_of(self.site, medium).name
        (found,) = [device for device in (await self.family())["devices"] if device["name"] == name]
        assert isinstance(found, dict)
        return found

    async def until(self, holds: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
        """The first status of the family for which `holds` is true."""
        family = None
        try:
            with trio.fail_after(PATIENCE_S):
                async with self.connect() as caller:
                    while True:
                        report = json.loads((await caller.ask(Status(), StatusReport)).status)
                        (family,) = report["families"]
                        if holds(family):
                            assert isinstance(family, dict)
                            return family
                        await trio.sleep(LOOK_AGAIN_S)
        except trio.TooSlowError:
            raise AssertionError(f"this never came true: {family}") from None

    async def stat(self, name: str) -> int:
        """The statistic called `name` (``namespace.name``), summed over its tags."""
        metrics = json.loads((await self.ask(Stat(), Statistics)).stats)
        return sum(int(metric["value"]) for metric in metrics if metric["name"] == name)

    @property
    def unsent(self) -> int:
        """Responses that wait in the daemon."""
        server = self.daemon._server
        return 0 if server is None else server.unsent

    def interrupt(self, number: signal.Signals = signal.SIGTERM) -> None:
        signal.raise_signal(number)

    async def drain(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Begin a drain, and see it begun."""
        self.interrupt(number)
        await self.told("STOPPING=1")

    async def told(self, line: str) -> None:
        """Return when the daemon tells its service manager `line`."""
        with trio.fail_after(PATIENCE_S):
            while line.encode() not in (await self.manager.recv(4096)).splitlines():
                pass

    async def wait_ended(self) -> int | None:
        with trio.fail_after(PATIENCE_S):
            await self.ended.wait()
        return self.exit_status

    def count(self, *media: ResourceId, size: int = 1000, extents: int = 1) -> None:
        """Note what a release that was acknowledged, or must be committed, adds."""
        for medium in media:
            self.committed[medium] += size
            self.objects[medium] += extents

    async def write_cycle(self, size: int = 1000, copies: int = 1) -> tuple[ResourceId, ...]:
        """What an honest client does."""
        async with self.connect() as honest:
            media = await honest.hold(size, copies)
            for medium in media:
                Path(medium.name, "honest").write_bytes(b"x" * size)
            answer = await honest.ask(release(*media, size=size), Released)
            assert answer.media == media
        self.count(*media, size=size)
        return media

    async def unharmed(self) -> None:
        """The daemon serves an honest client, nothing is left taken by anybody, the counters are exact."""
        await self.write_cycle()
        await self.until(lambda family: not taken(family))
        assert differences(await self.found(), self.expected()) == []

    async def expect_books(self) -> None:
        """Take the books as they are now: what went before is no matter for this test."""
        self.committed.clear()
        self.objects.clear()
        for medium, (objects, size) in (await self.found()).items():
            self.count(medium, size=size, extents=objects)

    async def found(self) -> dict[ResourceId, tuple[int, int]]:
        return (await books_of(self.site)).totals

    def expected(self) -> dict[ResourceId, tuple[int, int]]:
        media = {*self.site.media, *self.committed}
        return {medium: (self.objects[medium], self.committed[medium]) for medium in media}


def taken(family: dict[str, Any]) -> list[str]:
    """Every sign that somebody holds or awaits something."""
    signs = [f"queued {kind}" for kind, count in family["queued"].items() if count]
    signs += [f"waiting {request}" for request in family["waiting"]]
    for device in family["devices"]:
        figures = ("planned", "ongoing", "reserved", "reserved_bytes", "grants", "syncing")
        signs += [f"{device['name']}: {name} {device[name]}" for name in figures if device[name]]
        signs += [f"{device['name']}: to sync"] if device["to_sync"]["requests"] else []
    return signs


def mounted(family: dict[str, Any]) -> int:
    return sum(device["status"] == "mounted" for device in family["devices"])


@asynccontextmanager
async def serving(
    site: Site, *overrides: str, format: bool = True, expect: int = EXIT_DRAINED
) -> AsyncIterator[Running]:
    """A daemon on `site` in this process. `overrides` are KEY=VALUE texts.

    At the end it is drained, unless the test has ended it, and must leave with status `expect`; after an
    ordered drain no lock and no socket may be left, and the books must be what the test has noted.
    """
    settings = load_settings(site.config, {}, overrides)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager, pytest.MonkeyPatch.context() as environment:
        manager.bind("")
        address = manager.getsockname().decode().replace("\0", "@", 1)
        environment.setenv("NOTIFY_SOCKET", address)
        running = Running(site, Daemon(settings), trio.socket.from_stdlib_socket(manager))
        await running.expect_books()

        async def serve() -> None:
            running.exit_status = await running.daemon.run()
            running.ended.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve)
            await running.told("READY=1")
            if format:
                async with running.connect() as administrator:
                    for medium in site.media:
                        await administrator.ask(Format(medium, FsType.POSIX, unlock=True), Formatted)
            yield running
            if not running.ended.is_set():
                if not (await running.status())["daemon"]["draining"]:
                    running.interrupt()
                await running.wait_ended()
    assert running.exit_status == expect
    if expect == EXIT_DRAINED:
        books = await books_of(site)
        assert differences(books.totals, running.expected()) == []
        assert not {lock for lock in books.locks if lock[2] == running.daemon._owner.pid}
        assert not site.socket.exists()


# What the DSS says, and what an administrator's command does to it. Beside the daemon, which is in this thread
# and may hold what is asked for.

_ADMINISTRATOR: Final = trio.CapacityLimiter(1)


async def books_of(site: Site) -> Books:
    """As `read_books`, which is for tests that run no trio."""
    return await trio.to_thread.run_sync(read_books, site, limiter=_ADMINISTRATOR)


async def change_dss(site: Site, *operations: Operation[Any]) -> None:
    """Do `operations` in one transaction."""
    await trio.to_thread.run_sync(administer, site, *operations, limiter=_ADMINISTRATOR)


async def read_dss(site: Site, operation: Operation[T]) -> T:
    (result,) = await trio.to_thread.run_sync(administer, site, operation, limiter=_ADMINISTRATOR)
    return cast(T, result)


def configure(site: Site, **tables: dict[str, Any]) -> None:
    """Change tables of the site's settings file."""
    settings = tomllib.loads(site.config.read_text())
    for name, values in tables.items():
        settings[name] = settings.get(name, {}) | values
    site.config.write_text(tomli_w.dumps(settings))


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def sites(request: pytest.FixtureRequest) -> Sites:
    """What follows is tested with the DSS at each of its homes."""
    return Sites(request.getfixturevalue("cluster") if request.param == "postgres" else None)


@pytest.fixture
def site(sites: Sites) -> Iterator[Site]:
    """Two directories that are known and blank."""
    with sites.temporary(2) as made:
        yield made


@pytest.fixture
def site_of_three(sites: Sites) -> Iterator[Site]:
    with sites.temporary(3) as made:
        yield made


@pytest.fixture
def sqlite_site() -> Iterator[Site]:
    """As `site`, for tests that are about the SQLite file itself."""
    with temporary_site(2) as made:
        yield made


@pytest.fixture
def lines() -> Iterator[list[Any]]:
    """The log lines of daemons in this process, as they come."""
    with structlog.testing.capture_logs() as captured:
        yield captured


async def logged(lines: list[Any], holds: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    """The first line for which `holds` is true."""
    with trio.fail_after(PATIENCE_S):
        while True:
            for line in lines:
                if holds(line):
                    assert isinstance(line, dict)
                    return line
            await trio.sleep(LOOK_AGAIN_S)


@pytest.fixture
def filesystems(monkeypatch: pytest.MonkeyPatch) -> dict[str, FaultyFilesystem]:
    """By path: the directories' filesystems, which can be made to fail or to hang."""
    made: dict[str, FaultyFilesystem] = {}

    class FaultyStorage(DirectoryStorage):
        def unit(self, device: Device) -> Unit:
            unit, made[device.path] = faulty(super().unit(device))
            return unit

    monkeypatch.setattr("lrs_trio.machine.DirectoryStorage", FaultyStorage)
    return made
