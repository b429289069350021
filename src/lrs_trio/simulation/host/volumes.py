"""The filesystems that simulated directories are on: those on one share its space, its syncs and its errors."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass, field
from random import Random

import trio

from lrs_trio.model import Space
from lrs_trio.simulation.faults import FaultKind
from lrs_trio.simulation.host.content import Content, File
from lrs_trio.simulation.world import World

LONG_CALLS = 0.01
"""The part of all calls that take up to some seconds; the others take milliseconds."""


def duration(random: Random) -> float:
    """How long one call of the system takes, in seconds."""
    return random.uniform(0.1, 5.0) if random.random() < LONG_CALLS else random.uniform(0.000_2, 0.01)


class Repair:
    """What hangs waits for this."""

    def __init__(self) -> None:
        self._next = trio.Event()

    async def wait(self) -> None:
        """Return at the next `mend`."""
        await self._next.wait()

    def mend(self) -> None:
        self._next.set()
        self._next = trio.Event()


@dataclass(slots=True, eq=False)
class Descriptor:
    """One open directory.

    `untold` is the errno of a write-back error that it still has to report, 0 if there is none.
    """

    untold: int = 0


class Volume:
    """One filesystem. Sizes are bytes.

    `full` says that somebody else has taken all the space that was left.
    """

    def __init__(self, world: World, number: int, capacity: int, repair: Repair) -> None:
        self.number = number
        self.capacity = capacity
        self.full = False
        self.contents: list[Content] = []
        self._world = world
        self._repair = repair
        self._random = world.chance.of("volumes")
        self._open: dict[Descriptor, None] = {}
        self._power_cuts = 0

    @property
    def free(self) -> int:
        return 0 if self.full else max(self.capacity - sum(content.used for content in self.contents), 0)

    @property
    def space(self) -> Space:
        """What statvfs says: the same in each directory."""
        free = self.free
        return Space(self.capacity - free, free)

    def open(self) -> Descriptor:
        """Open a directory; it hears of the write-back errors from now on."""
        descriptor = Descriptor()
        self._open[descriptor] = None
        return descriptor

    def close(self, descriptor: Descriptor) -> None:
        """Close what `open` returned; nothing happens if that is closed already."""
        self._open.pop(descriptor, None)

    def close_all(self) -> None:
        """The process that has opened them has ended."""
        self._open.clear()

    def cut_power(self, random: Random) -> None:
        """The host goes down: nothing is open any more, and the syncs under way never end."""
        self.close_all()
        self._power_cuts += 1
        for content in self.contents:
            content.cut(random)

    async def sync(self, descriptor: Descriptor, path: str) -> None:
        """Make all durable that was written to the volume so far; what is given up goes on by itself.

        A write-back error is reported once to each descriptor that was open when it happened. `path` is the
        directory whose descriptor this is.

        Raises:
            OSError: something could not be written, now or earlier.
        """
        begun = [(content, content.begin_sync()) for content in self.contents]
        ended = trio.Event()
        self._world.nursery.start_soon(self._write_back, begun, ended, path, name=f"write-back of {path}")
        await ended.wait()
        number, descriptor.untold = descriptor.untold, 0
        if number:
            raise OSError(number, os.strerror(number), path)

    async def _write_back(self, begun: list[tuple[Content, tuple[File, ...]]], ended: trio.Event, path: str) -> None:
        power_cuts = self._power_cuts
        strikes = self._world.faults.strikes
        if strikes(FaultKind.SYNC_HANG, path):
            await self._repair.wait()
        await trio.sleep(duration(self._random))
        if power_cuts != self._power_cuts:
            return
        if strikes(FaultKind.SYNC_ERROR, path):
            for content, files in begun:
                content.fail_sync(files)
            for descriptor in self._open:
                descriptor.untold = errno.EIO
        elif any(files for _, files in begun) and strikes(FaultKind.SYNC_LIE, path):
            for content, files in begun:
                content.betray(files)
        else:
            for content, files in begun:
                content.end_sync(files)
        ended.set()


@dataclass(slots=True, eq=False)
class SharedContent(Content):
    """The files of a directory that shares the space of `volume` with others."""

    volume: Volume = field(kw_only=True)

    @property
    def free(self) -> int:
        return self.volume.free
