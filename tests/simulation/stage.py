"""The whole daemon on a simulated machine whose storage a test holds up, and clients that say exactly what it wants."""

from __future__ import annotations

import signal
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Final

import trio

from lrs_trio.daemon import Daemon
from lrs_trio.events import Event, EventKind
from lrs_trio.machine import Directories, Tapes
from lrs_trio.model import Device, Family, FsType, Medium, NotifyOperation, RequestKind, ResourceId, Space
from lrs_trio.settings import (
    DirectorySettings,
    DssSettings,
    FamiliesSettings,
    LibrarySettings,
    Settings,
    SyncSettings,
    TapeSettings,
    TapeSyncSettings,
)
from lrs_trio.simulation.determinism import Chance, run_seeded
from lrs_trio.simulation.faults import FaultKind, Faults
from lrs_trio.simulation.host.machine import SimulatedMachine
from lrs_trio.simulation.host.network import DAEMON_UID
from lrs_trio.simulation.host.site import Site, directory_path
from lrs_trio.simulation.oracles.watch import Watch
from lrs_trio.simulation.scenario import HOST, LIBRARY, Scenario
from lrs_trio.simulation.trace import Trace
from lrs_trio.simulation.world import Process, Violations, World, wall_clock
from lrs_trio.storage.protocols import DriveUnit, Filesystem, TapeFilesystem, Unit
from lrs_trio.wire.messages import (
    Format,
    Notify,
    ReadAllocation,
    Release,
    ReleasedMedium,
    RequestBody,
    ResponseBody,
    WriteAllocation,
    WriteMedium,
)
from tests.fakes.peer import Peer

PID: Final = 1001
PATIENCE_S: Final = 100_000.0
"""Virtual; only so that a defect ends a test instead of holding it up."""


def directory(path: str) -> ResourceId:
    return ResourceId(Family.DIR, path, LIBRARY)


def device(medium: ResourceId) -> ResourceId:
    """The device of a directory."""
    return ResourceId(Family.DIR, f"{HOST}:{medium.name}", LIBRARY)


A, B, BLANK = (directory(directory_path(number)) for number in range(3))


class Gate:
    """Holds up one operation of one disk: it waits there until the test opens the gate, or lets it fail."""

    def __init__(self) -> None:
        self.reached = trio.Event()
        self._opened = trio.Event()
        self._error: OSError | None = None

    def open(self, error: int = 0) -> None:
        """Let the operation go on; with an `error`, its errno, it fails."""
        self._error = OSError(error, "as the test wants it") if error else None
        self._opened.set()

    async def pass_through(self) -> None:
        self.reached.set()
        await self._opened.wait()
        if self._error is not None:
            raise self._error


class Gates:
    """The gates of one filesystem, by operation; each serves once."""

    def __init__(self) -> None:
        self._gates: dict[tuple[str, str], deque[Gate]] = {}

    def add(self, path: str, operation: str) -> Gate:
        gate = Gate()
        self._gates.setdefault((path, operation), deque()).append(gate)
        return gate

    async def pass_through(self, path: str, operation: str) -> None:
        gates = self._gates.get((path, operation))
        if gates:
            await gates.popleft().pass_through()


class GatedFilesystem:
    """Passes the gates of its operations before it does them."""

    def __init__(self, filesystem: Filesystem, path: str, gates: Gates) -> None:
        self._filesystem = filesystem
        self._path = path
        self._gates = gates

    async def open(self, path: str) -> None:
        await self._filesystem.open(path)

    async def close(self) -> None:
        await self._filesystem.close()

    async def read_label(self) -> str | None:
        return await self._filesystem.read_label()

    async def mount(self, medium: Medium) -> str:
        await self._gates.pass_through(self._path, "mount")
        return await self._filesystem.mount(medium)

    async def unmount(self) -> None:
        await self._gates.pass_through(self._path, "unmount")
        await self._filesystem.unmount()

    async def format(self, medium: Medium) -> Space:
        await self._gates.pass_through(self._path, "format")
        return await self._filesystem.format(medium)

    async def sync(self) -> Space:
        await self._gates.pass_through(self._path, "sync")
        return await self._filesystem.sync()

    async def space(self) -> Space:
        return await self._filesystem.space()

    @property
    def volume(self) -> str:
        return self._filesystem.volume


class GatedTapeFilesystem(GatedFilesystem):
    def __init__(self, filesystem: TapeFilesystem, path: str, gates: Gates) -> None:
        super().__init__(filesystem, path, gates)
        self._tape = filesystem

    async def adopt(self) -> str | None:
        return await self._tape.adopt()


class GatedDirectories:
    def __init__(self, directories: Directories, gates: Gates) -> None:
        self.full_threshold_percent = directories.full_threshold_percent
        self._directories = directories
        self._gates = gates

    def unit(self, device: Device) -> Unit:
        unit = self._directories.unit(device)
        return Unit(unit.library, unit.drive, GatedFilesystem(unit.filesystem, device.path, self._gates))


class GatedTapes:
    def __init__(self, tapes: Tapes, gates: Gates) -> None:
        self._tapes = tapes
        self._gates = gates

    def unit(self, device: Device) -> DriveUnit:
        unit = self._tapes.unit(device)
        return DriveUnit(unit.library, unit.drive, GatedTapeFilesystem(unit.filesystem, device.path, self._gates))

    def change(self, settings: TapeSettings) -> None:
        self._tapes.change(settings)

    def logs_moves(self, library: str) -> bool:
        return self._tapes.logs_moves(library)


class StageMachine(SimulatedMachine):
    """One whose storage has gates."""

    def __init__(self, site: Site, process: Process, gates: Gates) -> None:
        super().__init__(site, process)
        self._gates = gates

    def directories(self, host: str, full_threshold_percent: int) -> Directories:
        return GatedDirectories(super().directories(host, full_threshold_percent), self._gates)

    def tapes(self, settings: TapeSettings, libraries: Mapping[str, LibrarySettings]) -> Tapes:
        return GatedTapes(super().tapes(settings, libraries), self._gates)


class Stage:
    """A daemon and its `watch`. There are directories A and B and one that is blank, or drives and tapes."""

    def __init__(self, nursery: trio.Nursery, scenario: Scenario) -> None:
        chance, trace = Chance(scenario.seed), Trace()
        self.violations = Violations(trace)
        self.world = World(HOST, chance, trace, Faults(chance, {}, trace), self.violations, nursery)
        self.site = Site(self.world, scenario)
        self.dss = self.site.dss
        self.gates = Gates()
        self.process = Process(PID, wall_clock())
        self.world.processes[PID] = self.process
        self.machine = StageMachine(self.site, self.process, self.gates)
        self.ready = trio.Event()
        self.daemon = Daemon(scenario.settings, self.machine, on_ready=self.ready.set)
        self.events: list[Event] = []
        self.daemon.events.subscribe(self._hear)
        self.watch = Watch(self.world, self.daemon, self.process, self.dss)
        self.status: int | None = None
        self.ended = trio.Event()
        self._heard = trio.Event()

    async def run(self) -> None:
        """The life of the daemon."""
        with self.watch.watching():
            self.status = await self.daemon.run()
        self.ended.set()

    async def connect(self) -> Caller:
        """A client that may do everything."""
        return Caller(Peer(await self.site.network.connect("caller", uid=DAEMON_UID)))

    def signal(self) -> None:
        if self.all_heard(EventKind.DRAIN_BEGUN):
            self.world.faults.hit(FaultKind.SECOND_SIGTERM)
        self.machine.send(signal.SIGTERM)

    async def heard(self, kind: EventKind, nth: int = 1, **about: object) -> Event:
        """The `nth` event of `kind` since the start of the daemon that has such values."""
        with trio.fail_after(PATIENCE_S):
            while len(found := self.all_heard(kind, **about)) < nth:
                await self._heard.wait()
        return found[nth - 1]

    def all_heard(self, kind: EventKind, **about: object) -> list[Event]:
        return [
            event
            for event in self.events
            if event.kind is kind and all(getattr(event, name) == value for name, value in about.items())
        ]

    def figures(self, medium: ResourceId) -> tuple[int, int]:
        """How many extents with how many bytes the DSS has of `medium`."""
        stats = self.dss.read().media[medium].medium.stats
        return stats.nb_obj, stats.logc_spc_used

    def _hear(self, event: Event) -> None:
        self.events.append(event)
        self._heard.set()
        self._heard = trio.Event()


class Caller:
    """One connection."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer

    async def write(self, copies: int = 1, *, id: int = 1, size: int = 1000, family: Family = Family.DIR) -> None:
        await self.send(id, WriteAllocation((WriteMedium(size),) * copies, family))

    async def read(self, *media: ResourceId, id: int = 1) -> None:
        await self.send(id, ReadAllocation(len(media), media))

    async def format(self, medium: ResourceId, *, id: int = 1) -> None:
        await self.send(id, Format(medium, FsType.POSIX, True))

    async def lock_device(self, device: ResourceId, *, id: int = 1) -> None:
        await self.send(id, Notify(device, NotifyOperation.DEVICE_LOCK, True))

    async def release(self, *media: ResourceId, size: int = 1000, id: int = 1, to_sync: bool = True) -> None:
        elements = tuple(ReleasedMedium(medium, 0, size, 1, to_sync) for medium in media)
        await self.send(id, Release(elements, RequestKind.RELEASE_WRITE, False))

    async def send(self, id: int, body: RequestBody) -> None:
        with trio.fail_after(PATIENCE_S):
            await self._peer.send((id, body))

    async def answer(self, *, id: int | None = None) -> ResponseBody:
        """The next response, which must be that to the request `id`, if one is given."""
        response = await self._peer.receive()
        assert id in (None, response.request_id), response
        return response.body

    async def leave(self) -> None:
        await self._peer.leave()

    async def rest(self) -> list[ResponseBody]:
        """What still comes until the daemon closes the connection."""
        return [response.body for response in await self._peer.receive_all()]


def play(
    story: Callable[[Stage], Awaitable[None]],
    *,
    thresholds: tuple[int, int, int] = (0, 1, 1),
    drives: int = 0,
    seed: int = 1,
    expected: str = "",
    **settings: Any,
) -> None:
    """Run `story` beside a daemon, and drain that at its end, unless the story has.

    `thresholds` make a sync due: milliseconds, releases, bytes. With `drives` there are some, and no directories.
    Nothing may be wrong but what is `expected`.
    """

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            stage = Stage(nursery, _scenario(thresholds, drives, seed, settings))
            nursery.start_soon(stage.run)
            with trio.fail_after(PATIENCE_S):
                await stage.ready.wait()
                await story(stage)
                if not stage.all_heard(EventKind.DRAIN_BEGUN):
                    stage.signal()
                await stage.ended.wait()
            nursery.cancel_scope.cancel()
        stage.site.close()
        found = stage.violations.found
        as_expected = any(expected in violation for violation in found) if expected else not found
        assert as_expected, found

    run_seeded(seed, main)


def _scenario(thresholds: tuple[int, int, int], drives: int, seed: int, more: Mapping[str, Any]) -> Scenario:
    age, requests, size = thresholds
    sync = SyncSettings(mode="thresholds", time_ms=age, requests=requests, bytes=size)
    tape_sync = TapeSyncSettings(time_ms=age, requests=requests, bytes=size)
    families = FamiliesSettings(
        dir=DirectorySettings(enabled=not drives, sync=sync, **({} if drives else more)),
        tape=TapeSettings(enabled=drives > 0, sync=tape_sync, **(more if drives else {})),
    )
    settings = Settings(
        host=HOST,
        dss=DssSettings(url="sqlite:///simulated/dss.sqlite"),
        families=families,
        libraries={LIBRARY: LibrarySettings(robot="virtual", drives="virtual", directory=Path("/simulated"))},
    )
    directories = 0 if drives else 3
    return Scenario(seed, directories, drives, tapes=2 * drives, blank=0 if drives else 1, volumes=3, settings=settings)
