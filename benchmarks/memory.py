"""What the daemon keeps in memory, and what it does when there is nothing to do."""

from __future__ import annotations

import socket
from contextlib import ExitStack
from dataclasses import dataclass
from time import perf_counter, sleep
from typing import Final

from benchmarks.cases import Place, Point
from benchmarks.driver.crew import Crew
from benchmarks.measuring import Schedule, served
from benchmarks.sites import Sites

PLACE: Final = Place("sqlite", 64)
CLIENTS: Final = 100
SETTLE_S: Final = 1.0
"""From the end of the load until the daemon is looked at. Seconds."""


@dataclass(frozen=True, slots=True)
class Memory:
    """Of a daemon with so many devices and clients."""

    devices: int
    clients: int
    busy_bytes: int
    """In memory while all clients write."""
    idle_bytes: int
    """In memory while all are connected and silent."""
    idle_cpu: float
    """Seconds of CPU per second while they are."""

    def __str__(self) -> str:
        return (
            f"memory with {self.devices} devices and {self.clients} clients: {self.busy_bytes / 2**20:.1f} MiB while"
            f" they write, {self.idle_bytes / 2**20:.1f} MiB while they are silent;"
            f" then {self.idle_cpu * 1e3:.2f} ms of CPU per second"
        )


def measure_memory(crew: Crew, seconds: float) -> tuple[Memory, list[str]]:
    """Look at a daemon under load and at rest, for so long each; the second is what was wrong.

    Raises:
        OSError, RuntimeError, WrongAnswerError: as `Measuring.run`.
    """
    with served(PLACE, Sites(), crew, with_limits=False) as place, ExitStack() as connections:
        figures = place.measuring.run(Point("write", CLIENTS), Schedule(seconds, rounds=1))
        for _ in range(CLIENTS):
            connection = connections.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
            connection.connect(str(place.site.socket))
        sleep(SETTLE_S)
        begun, cpu = perf_counter(), place.daemon.cpu_seconds()
        sleep(seconds)
        idle_cpu = (place.daemon.cpu_seconds() - cpu) / (perf_counter() - begun)
        found = Memory(PLACE.devices, CLIENTS, figures.resident_bytes, place.daemon.resident_bytes(), idle_cpu)
        connections.close()
    return found, place.problems
