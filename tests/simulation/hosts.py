"""A simulated storage host with the real daemon on it, for as long as a block lasts."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import trio

from lrs_trio.daemon import EXIT_DRAINED, Daemon
from lrs_trio.simulation.determinism import Chance, run_seeded
from lrs_trio.simulation.faults import FaultKind, Faults
from lrs_trio.simulation.host.machine import SimulatedMachine
from lrs_trio.simulation.host.site import Site
from lrs_trio.simulation.scenario import HOST, Scenario, small_scenario
from lrs_trio.simulation.trace import Trace
from lrs_trio.simulation.world import Process, Violations, World, wall_clock

T = TypeVar("T")

PID = 1001
PATIENCE_S = 100_000.0
"""Virtual; only so that a defect ends a test instead of holding it up."""


def scenario_with(*, tapes: bool = False, seed: int = 1, **changes: Any) -> Scenario:
    """A small scenario, with some values changed."""
    return replace(small_scenario(seed, tapes=tapes), **changes)


def run_patiently(main: Callable[..., Awaitable[T]], *args: object) -> T:
    """Run `main` under the virtual clock, in an order of tasks that is always the same."""

    async def patient() -> T:
        with trio.fail_after(PATIENCE_S):
            return await main(*args)

    return run_seeded(1, patient)


@dataclass(slots=True)
class Host:
    """A site, and how its daemon is started."""

    site: Site
    scenario: Scenario

    @property
    def world(self) -> World:
        return self.site.world

    @property
    def violations(self) -> list[str]:
        return self.site.world.violations.found

    @property
    def hits(self) -> Mapping[FaultKind, int]:
        return self.site.world.faults.hits

    @asynccontextmanager
    async def daemon(self) -> AsyncIterator[None]:
        """A daemon that serves in the block and is drained at its end."""
        processes = self.world.processes
        process = processes[PID + len(processes)] = Process(PID + len(processes), wall_clock())
        machine = SimulatedMachine(self.site, process)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._run, machine, process)
            yield
            machine.send(signal.SIGTERM)

    async def _run(self, machine: SimulatedMachine, process: Process) -> None:
        assert await Daemon(self.scenario.settings, machine).run() == EXIT_DRAINED
        process.alive = False


@asynccontextmanager
async def host_of(scenario: Scenario) -> AsyncIterator[Host]:
    """A host without a daemon."""
    chance, trace = Chance(scenario.seed), Trace()
    faults = Faults(chance, scenario.rates, trace)
    async with trio.open_nursery() as nursery:
        site = Site(World(HOST, chance, trace, faults, Violations(trace), nursery), scenario)
        try:
            yield Host(site, scenario)
        finally:
            site.close()
        nursery.cancel_scope.cancel()
