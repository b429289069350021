"""One run: a world is made, the daemon and its clients live in it, and whatever is wrong is found."""

from __future__ import annotations

import traceback
from dataclasses import dataclass
from functools import partial
from typing import TextIO

import trio

from lrs_trio.events import Event, EventKind
from lrs_trio.simulation.clients.administrator import Administrator
from lrs_trio.simulation.clients.crowd import Crowd
from lrs_trio.simulation.clients.hostile import Hostiles
from lrs_trio.simulation.determinism import Chance, run_seeded
from lrs_trio.simulation.faults import Faults
from lrs_trio.simulation.host.site import Site
from lrs_trio.simulation.lives import Lives
from lrs_trio.simulation.oracles.ledger import Ledger
from lrs_trio.simulation.outcome import Outcome
from lrs_trio.simulation.replay.player import Replayed
from lrs_trio.simulation.replay.recorded import Workload
from lrs_trio.simulation.scenario import HOST, HOUR, End, Scenario
from lrs_trio.simulation.steps import Steps
from lrs_trio.simulation.trace import Trace
from lrs_trio.simulation.world import Violations, World

PATIENCE_S = 24 * HOUR
"""How long after the last fault all that is pending may take: tapes are moved, mounted and written one by one."""

LATE_S = 12 * HOUR
"""How long after the last fault clients still ask for something: on one drive that syncs rarely, all may take days."""

DRAIN_S = 4 * HOUR
"""How much longer than its deadline a drain may take: what is under way on a drive ends first."""


def simulate(
    scenario: Scenario,
    *,
    workload: Workload | None = None,
    sink: TextIO | None = None,
    keep_events: bool = False,
) -> Outcome:
    """Run `scenario`. The same one gives the same outcome, line by line.

    Args:
        scenario: what happens.
        workload: what recorded clients ask for, instead of what `scenario` says of clients.
        sink: gets every line of the trace as it comes.
        keep_events: whether the outcome has all events of the daemon, for a timeline.
    """
    return run_seeded(scenario.seed, _Run(scenario, workload, sink, keep_events).run)


@dataclass(frozen=True, slots=True)
class _Cast:
    """Who takes part."""

    site: Site
    ledger: Ledger
    lives: Lives


class _Run:
    def __init__(self, scenario: Scenario, workload: Workload | None, sink: TextIO | None, keep_events: bool) -> None:
        self._scenario = scenario
        self._workload = workload
        self._trace = Trace(sink)
        self._steps = Steps()
        self._events: list[Event] | None = [] if keep_events else None
        self._syncs = 0

    async def run(self) -> Outcome:
        trio.lowlevel.add_instrument(self._steps)
        cast: _Cast | None = None
        error = ""
        try:
            async with trio.open_nursery() as nursery:
                cast = self._cast(nursery)
                nursery.start_soon(self._give_up, cast.site.world.violations, nursery.cancel_scope, name="give up")
                try:
                    await self._live(cast.site, cast.ledger, cast.lives)
                finally:
                    cast.site.close()
                nursery.cancel_scope.cancel(reason="the run is over")
        except Exception as escaped:
            if cast is None:
                raise
            error = "".join(traceback.format_exception(escaped))
        return self._outcome(cast, error)

    def _cast(self, nursery: trio.Nursery) -> _Cast:
        chance = Chance(self._scenario.seed)
        faults = Faults(chance, self._scenario.rates, self._trace)
        site = Site(World(HOST, chance, self._trace, faults, Violations(self._trace), nursery), self._scenario)
        ledger = Ledger(site.world, site.content_at, site.dss.committed_of)
        site.dss.observers.append(ledger.observe)
        return _Cast(site, ledger, Lives(site, self._scenario.settings, ledger, self._note))

    async def _live(self, site: Site, ledger: Ledger, lives: Lives) -> None:
        """All that happens, from the first start to the end of the last drain."""
        scenario, violations = self._scenario, site.world.violations
        self._arrange(lives)
        async with trio.open_nursery() as daemons:
            daemons.start_soon(lives.run, scenario.lives, name="lives of the daemon")
            administrator = Administrator(site, scenario, ledger)
            with trio.move_on_after(scenario.hours * HOUR + PATIENCE_S) as patience:
                await self._work(site, ledger, administrator)
            if patience.cancelled_caught:
                violations.report(f"still unanswered long after the last fault: {ledger.unanswered()}")
            lives.finish()
            daemons.cancel_scope.deadline = trio.current_time() + self._longest_end()
        violations.check(not daemons.cancel_scope.cancelled_caught, "the daemon has not ended")
        for medium in site.dss.read().media:
            ledger.check_books(medium)

    async def _work(self, site: Site, ledger: Ledger, administrator: Administrator) -> None:
        """Let the clients do all they have to do, while things break; in the end everything works."""
        scenario = self._scenario
        over = trio.Event()
        recorded = self._workload
        crowd = Crowd(site, scenario, ledger) if recorded is None else Replayed(site, recorded, ledger)

        async def work() -> None:
            await crowd.run()
            over.set()

        async with trio.open_nursery() as clients:
            clients.start_soon(work, name="clients")
            with trio.move_on_after(scenario.hours * HOUR):
                async with trio.open_nursery() as trouble:
                    if scenario.meddling:
                        trouble.start_soon(administrator.run, name="administrator")
                    if scenario.hostile:
                        trouble.start_soon(Hostiles(site, scenario).run, name="hostile clients")
                    await over.wait()
                    trouble.cancel_scope.cancel(reason="the clients are done")
            if isinstance(crowd, Crowd):
                crowd.hurry()
            site.world.faults.stop()
            site.mend()
            await administrator.repair_everything()
            with trio.move_on_after(LATE_S):
                await over.wait()
            if isinstance(crowd, Crowd):
                crowd.finish()

    def _arrange(self, lives: Lives) -> None:
        """See to it that the life is cut short where the scenario says so."""
        interrupt = self._scenario.interrupt
        if interrupt is None:
            return
        self._steps.call_after(interrupt.step, partial(lives.end, interrupt.end))
        if interrupt.end is End.FORCED:
            self._steps.call_after(interrupt.step + interrupt.again, lives.signal_again)

    def _longest_end(self) -> float:
        """Lives that are still to come, and a drain."""
        return self._scenario.hours * HOUR + self._scenario.settings.drain.deadline_s + DRAIN_S

    async def _give_up(self, violations: Violations, run: trio.CancelScope) -> None:
        await violations.first.wait()
        run.cancel(reason="something is wrong")

    def _note(self, event: Event) -> None:
        self._trace.event(event)
        self._syncs += event.kind is EventKind.SYNC_FINISHED
        if self._events is not None:
            self._events.append(event)

    def _outcome(self, cast: _Cast, error: str) -> Outcome:
        world, ledger = cast.site.world, cast.ledger
        return Outcome(
            scenario=self._scenario,
            violations=tuple(world.violations.found),
            error=error,
            digest=self._trace.digest,
            lines=self._trace.lines,
            last_lines=tuple(self._trace.last),
            seconds=trio.current_time(),
            requests=dict(ledger.requests),
            answers=dict(ledger.answers),
            errors=dict(ledger.errors),
            acknowledged=ledger.acknowledged,
            syncs=self._syncs,
            commits=cast.site.dss.steps,
            lives=dict(cast.lives.ended),
            faults=dict(world.faults.hits),
            betrayals=ledger.betrayals,
            steps=self._steps.count,
            longest_wait=ledger.longest_wait,
            events=None if self._events is None else tuple(self._events),
        )
