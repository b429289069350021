"""What all parts of a simulated world share: chance, faults, the trace, and what is found to be wrong."""

from __future__ import annotations

from dataclasses import dataclass, field

import trio

from lrs_trio.simulation.determinism import Chance
from lrs_trio.simulation.faults import Faults
from lrs_trio.simulation.trace import Trace

EPOCH = 1_700_000_000.0
"""The wall clock's time when the virtual clock began, in seconds since the epoch."""


def wall_clock() -> float:
    """Seconds since the epoch in the simulated world."""
    return EPOCH + trio.current_time()


class Violations:
    """What was found to be wrong; the first one ends the run."""

    def __init__(self, trace: Trace) -> None:
        self.found: list[str] = []
        self.first = trio.Event()
        self._trace = trace

    def report(self, what: str) -> None:
        """Something that must never be is: `what`, in a sentence."""
        self.found.append(f"at {trio.current_time():.6f} s: {what}")
        self._trace.note("violation", what=what)
        self.first.set()

    def check(self, holds: bool, what: str) -> None:
        if not holds:
            self.report(what)


@dataclass(slots=True)
class Process:
    """One life of the daemon. What a process that was killed still does while trio unwinds it has no effect."""

    pid: int
    started: float
    """Seconds since the epoch."""

    alive: bool = True

    def check(self) -> None:
        """To be called before anything of this process has an effect on the world.

        Raises:
            ProcessKilledError: it has been killed.
        """
        if not self.alive:
            raise ProcessKilledError(self.pid)


class ProcessKilledError(BaseException):
    """Ends whatever a killed process still does. No error of the world: nobody in the process may handle it."""


@dataclass(frozen=True, slots=True)
class World:
    """What the parts of one simulated world are made with.

    Attributes:
        host: the short name of the simulated storage host.
        nursery: owns what goes on in the world whatever becomes of the daemon: a robot that moves, an answer of the
            DSS that is on its way.
    """

    host: str
    chance: Chance
    trace: Trace
    faults: Faults
    violations: Violations
    nursery: trio.Nursery
    processes: dict[int, Process] = field(default_factory=dict)
    """By pid, the living one and those before it."""
