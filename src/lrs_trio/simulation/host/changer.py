"""The robot of a simulated library behind its controller: what it has begun it ends, whoever has asked for it."""

from __future__ import annotations

import errno
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

import trio

from lrs_trio.errors import LibraryUnreachableError
from lrs_trio.model import Device
from lrs_trio.simulation.faults import FaultKind
from lrs_trio.simulation.host.tape_faults import LOADING, UNLOADING, FaultyHardware, Labels, Mishap
from lrs_trio.simulation.world import Process, World
from lrs_trio.storage.protocols import Content
from lrs_trio.storage.virtual.description import Plan
from lrs_trio.storage.virtual.hardware import Operation
from lrs_trio.storage.virtual.keeping import Keeping
from lrs_trio.storage.virtual.robot import VirtualRobot

SHORTEST_ABSENCE_S: Final = 5.0
LONGEST_ABSENCE_S: Final = 900.0
"""How long a controller that has gone away stays so."""

LONGEST_SILENCE_S: Final = 120.0
"""Until somebody notices that the answer of a controller will not come."""


class Doing(Enum):
    """The values are what the trace has."""

    LOAD = "load"
    UNLOAD = "unload"


class _Lost(Enum):
    """What is lost when the connection to the controller breaks."""

    NOTHING = "nothing"
    REQUEST = "request"
    REQUEST_PERHAPS = "request, or its answer"
    ANSWER = "answer"


@dataclass(slots=True, eq=False)
class _Job:
    """What the robot does for one drive. `over` is set at its end, `error` is how it failed."""

    doing: Doing
    device: Device
    medium: str
    error: OSError | None = None
    over: trio.Event = field(default_factory=trio.Event)
    freed: trio.Event = field(default_factory=trio.Event)
    """Nothing of it hangs any more: it was mended, or nobody waits for it."""


class Changer:
    """Moves cartridges in tasks of the world, one move for each drive at a time.

    A look-up waits for the move that goes on with its drive: who has given that up must not be told what was before.
    """

    def __init__(self, world: World, keeping: Keeping, plan: Plan, labels: Labels) -> None:
        self._world = world
        self._random = world.chance.of("the robot's controller")
        self._jobs: dict[str, _Job] = {}
        self._away_until = 0.0
        self._robot = VirtualRobot(
            FaultyHardware(keeping, plan, world, check=works_on, mishap=self._mishap, hang=self._hang, labels=labels)
        )

    async def move(self, process: Process, doing: Doing, device: Device, medium: str) -> None:
        """Have a cartridge moved for `process`; raises as the methods of `Robot` do."""
        await trio.lowlevel.checkpoint()
        process.check()
        lost = self._ask(device.id.name)
        await self._turn(device.id.name)
        process.check()
        job = self._begin(_Job(doing, device, medium))
        try:
            if lost is _Lost.ANSWER:
                await self._wait_in_vain(job)
            await job.over.wait()
        finally:
            job.freed.set()
        if job.error is not None:
            raise job.error

    async def look_up(self, process: Process, device: Device) -> Content:
        await trio.lowlevel.checkpoint()
        process.check()
        if self._ask(device.id.name) is not _Lost.NOTHING:
            raise _unreachable(errno.ECONNRESET, "closed the connection before it answered", asked=True)
        await self._turn(device.id.name)
        return await self._robot.lookup(device)

    def mend(self) -> None:
        """The controller can be reached, and nothing hangs any more."""
        self._away_until = 0.0
        for job in self._jobs.values():
            job.freed.set()

    def _ask(self, serial: str) -> _Lost:
        """Send a request; the result is what of it gets lost.

        Raises:
            LibraryUnreachableError: it has not arrived, or nobody can say so.
        """
        now = trio.current_time()
        if now < self._away_until:
            raise _unreachable(errno.ECONNREFUSED, "cannot be reached", asked=False)
        if not self._world.faults.strikes(FaultKind.ROBOT_UNREACHABLE, serial):
            return _Lost.NOTHING
        self._away_until = now + self._random.uniform(SHORTEST_ABSENCE_S, LONGEST_ABSENCE_S)
        lost = self._random.choice((_Lost.REQUEST, _Lost.REQUEST_PERHAPS, _Lost.ANSWER))
        if lost is _Lost.REQUEST:
            raise _unreachable(errno.ECONNREFUSED, "cannot be reached", asked=False)
        if lost is _Lost.REQUEST_PERHAPS:
            raise _unreachable(errno.ECONNRESET, "closed the connection before it answered", asked=True)
        return lost

    async def _turn(self, serial: str) -> None:
        while serial in self._jobs:
            await self._jobs[serial].over.wait()

    def _begin(self, job: _Job) -> _Job:
        self._jobs[job.device.id.name] = job
        self._world.nursery.start_soon(self._work, job, name=f"{job.doing.value} of {job.medium}")
        return job

    async def _wait_in_vain(self, job: _Job) -> None:
        job.freed.set()
        with trio.move_on_after(self._random.uniform(0, LONGEST_SILENCE_S)):
            await job.over.wait()
        raise _unreachable(errno.ECONNRESET, "closed the connection before it answered", asked=True)

    async def _work(self, job: _Job) -> None:
        work = self._robot.load if job.doing is Doing.LOAD else self._robot.unload
        try:
            await work(job.device, job.medium)
        except OSError as error:
            job.error = error
        finally:
            del self._jobs[job.device.id.name]
            job.over.set()
        what = {"drive": job.device.id.name, "medium": job.medium, "error": job.error}
        self._world.trace.note(f"robot.{job.doing.value}", **what)

    def _mishap(self, operation: Operation) -> Mishap | None:
        job = self._jobs.get(operation.drive.serial)
        if job is None:
            # It gives its cartridge to another drive.
            return None
        return LOADING if job.doing is Doing.LOAD else UNLOADING

    async def _hang(self, operation: Operation) -> None:
        await self._jobs[operation.drive.serial].freed.wait()


def works_on() -> None:
    """The robot does not end with the daemon."""


def _unreachable(number: int, what: str, *, asked: bool) -> LibraryUnreachableError:
    return LibraryUnreachableError(number, f"the simulated controller {what}", asked=asked)
