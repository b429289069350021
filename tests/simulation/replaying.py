"""One replay of a workload against a simulated daemon, which can be recorded again."""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from pathlib import Path

import trio

from lrs_trio.daemon import Daemon
from lrs_trio.events import Event
from lrs_trio.observe.inventory import Inventory
from lrs_trio.observe.tracefile import Header, TraceWriter
from lrs_trio.simulation.determinism import Chance, run_seeded
from lrs_trio.simulation.faults import Faults
from lrs_trio.simulation.host.dss import DssContent
from lrs_trio.simulation.host.machine import SimulatedMachine
from lrs_trio.simulation.host.site import Site
from lrs_trio.simulation.oracles.ledger import Ledger
from lrs_trio.simulation.replay.player import Replayed, scenario_of
from lrs_trio.simulation.replay.recorded import Workload
from lrs_trio.simulation.scenario import HOST, Scenario
from lrs_trio.simulation.trace import Trace
from lrs_trio.simulation.world import Process, Violations, World, wall_clock
from lrs_trio.wire.plain import plain_message

LONGEST_S = 10 * 24 * 3600.0
"""Virtual; only so that a defect ends a test instead of holding it up."""

PID = 1001


@dataclass(frozen=True, slots=True)
class Played:
    """What came of a replay. Times are virtual seconds."""

    replayed: Replayed
    content: DssContent
    """Of the DSS at the end."""

    events: tuple[Event, ...]
    violations: tuple[str, ...]
    digest: str
    seconds: float
    status: int


def play(
    workload: Workload,
    seed: int = 1,
    *,
    record_to: Path | None = None,
    finish_after: float = inf,
    change: Callable[[Scenario], Scenario] = lambda scenario: scenario,
) -> Played:
    """Play `workload` to its end, or for so many seconds, and drain the daemon; `record_to` gets a trace of that."""
    return run_seeded(seed, _play, workload, change(scenario_of(workload, seed)), record_to, finish_after)


async def _play(workload: Workload, scenario: Scenario, record_to: Path | None, finish_after: float) -> Played:
    trace, chance = Trace(), Chance(scenario.seed)
    events: list[Event] = []
    async with trio.open_nursery() as nursery:
        faults = Faults(chance, scenario.rates, trace)
        world = World(HOST, chance, trace, faults, Violations(trace), nursery)
        site = Site(world, scenario)
        try:
            ledger = Ledger(world, site.content_at, site.dss.committed_of)
            site.dss.observers.append(ledger.observe)
            process = Process(PID, wall_clock())
            world.processes[PID] = process
            machine = SimulatedMachine(site, process)
            daemon = Daemon(scenario.settings, machine)
            daemon.events.subscribe(trace.event)
            daemon.events.subscribe(events.append)
            writer = _record(daemon, site.dss.read()) if record_to is not None else None
            replayed = Replayed(site, workload, ledger)
            with trio.fail_after(LONGEST_S):
                status = await _run_daemon(daemon, machine, replayed, finish_after)
            if record_to is not None and writer is not None:
                record_to.write_bytes(writer.finish())
            content = site.dss.read()
            for medium in content.media:
                ledger.check_books(medium)
        finally:
            site.close()
        seconds = trio.current_time()
        nursery.cancel_scope.cancel()
    return Played(replayed, content, tuple(events), tuple(world.violations.found), trace.digest, seconds, status)


async def _run_daemon(daemon: Daemon, machine: SimulatedMachine, replayed: Replayed, finish_after: float) -> int:
    """Until everybody has left and the daemon has drained; its status."""
    statuses: list[int] = []

    async def run() -> None:
        statuses.append(await daemon.run())

    async def finish() -> None:
        await trio.sleep(finish_after)
        replayed.finish()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run, name="daemon")
        async with trio.open_nursery() as playing:
            playing.start_soon(finish, name="finish")
            await replayed.run()
            playing.cancel_scope.cancel()
        machine.send(signal.SIGTERM)
    return statuses[0]


def _record(daemon: Daemon, content: DssContent) -> TraceWriter:
    """Without the daemon's own recorder, which writes in a thread."""
    writer = TraceWriter(Header(daemon.settings.host, PID, trio.current_time(), wall_clock(), "1.2.3"))
    devices = tuple(row.device for row in content.devices.values())
    media = tuple(row.medium for row in content.media.values())
    writer.add_inventory(trio.current_time(), Inventory(daemon.settings, devices, media))
    daemon.events.subscribe(writer.add_event)
    daemon.events.on_message = lambda connection, message: writer.add_message(
        trio.current_time(), connection, plain_message(message)
    )
    return writer
