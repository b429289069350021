"""The lives of the simulated daemon: it starts, serves, and ends as the scenario says, until the run is over."""

from __future__ import annotations

import re
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import trio

from lrs_trio.daemon import EXIT_DRAINED, EXIT_FORCED, Daemon
from lrs_trio.errors import DssUnavailableError
from lrs_trio.events import Event, EventKind
from lrs_trio.settings import Settings
from lrs_trio.simulation.faults import FaultKind
from lrs_trio.simulation.host.machine import SimulatedMachine
from lrs_trio.simulation.host.site import Site
from lrs_trio.simulation.oracles.ledger import Ledger
from lrs_trio.simulation.oracles.watch import Watch
from lrs_trio.simulation.scenario import End, Life
from lrs_trio.simulation.world import Process, ProcessKilledError, wall_clock

FIRST_PID = 1001
LONGEST_PAUSE_S = 60.0
"""Between two lives."""

LONGEST_SECOND_THOUGHT_S = 60.0
"""Between two signals."""

_PID = re.compile(r"\(pid (\d+),")


class Lives:
    """Runs one daemon after the other on `site`; `told` hears of every event of each."""

    def __init__(self, site: Site, settings: Settings, ledger: Ledger, told: Callable[[Event], None]) -> None:
        self.ended: Counter[End] = Counter()
        self._site = site
        self._settings = settings
        self._ledger = ledger
        self._told = told
        self._random = site.world.chance.of("lives")
        self._process: Process | None = None
        self._machine: SimulatedMachine | None = None
        self._running = trio.CancelScope()
        self._killed = End.KILL
        """How the last one that was killed has ended."""
        self._signalled = self._signalled_again = False
        self._begun = trio.Event()
        self._over = trio.Event()

    async def run(self, lives: tuple[Life, ...]) -> None:
        """Live `lives`, and then on until `finish` ends the last one."""
        for life in lives:
            await self._live(life)
            await self._pause()
        while not self._over.is_set():
            await self._live(None)
            await self._pause()

    def finish(self) -> None:
        """End the last life in order."""
        self._over.set()

    def end(self, how: End) -> None:
        """End the life that is going on, if there is one: at this very moment, or with a signal."""
        process = self._process
        if process is None or not process.alive:
            return
        if how in (End.DRAIN, End.FORCED):
            # Who drains already would take another signal for an order to be quick.
            if not self._signalled:
                self._signalled = True
                self._signal(FaultKind.SIGTERM)
        else:
            self._kill(process, power=how is End.POWER)

    def signal_again(self) -> None:
        """The second signal, if whoever has got the first is still there."""
        if self._process is not None and self._signalled:
            self._signalled_again = True
            self._signal(FaultKind.SECOND_SIGTERM)

    def _signal(self, kind: FaultKind) -> None:
        if self._machine is not None:
            self._site.world.faults.hit(kind)
            self._machine.send(signal.SIGTERM)

    def _kill(self, process: Process, *, power: bool) -> None:
        world = self._site.world
        world.faults.hit(FaultKind.POWER_CUT if power else FaultKind.SIGKILL)
        process.alive = False
        if power:
            self._site.cut_power()
            self._ledger.power_cut()
        else:
            self._site.kill()
            self._ledger.killed()
        self._running.cancel(reason="killed")
        self._killed = End.POWER if power else End.KILL

    async def _live(self, life: Life | None) -> None:
        """One life, with as many starts as it takes: a DSS that is away keeps the daemon from starting."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._end, life, name="end of a life")
            ended = await self._start()
            while ended is None:
                await self._pause()
                ended = await self._start()
            nursery.cancel_scope.cancel(reason="the life is over")
        self.ended[ended] += 1

    async def _pause(self) -> None:
        """Between two lives, unless no other is to come."""
        with trio.move_on_after(self._random.random() * LONGEST_PAUSE_S):
            await self._over.wait()

    async def _start(self) -> End | None:
        """Run a daemon to its end; ``None`` if it could not start and has to be started again."""
        world = self._site.world
        process = Process(FIRST_PID + len(world.processes), wall_clock())
        world.processes[process.pid] = self._process = process
        self._machine = SimulatedMachine(self._site, process)
        self._running = trio.CancelScope()
        self._signalled = self._signalled_again = False
        self._begun.set()
        world.trace.note("daemon.started", pid=process.pid)
        daemon = Daemon(self._settings, self._machine)
        daemon.events.subscribe(lambda event: self._tell(process, event))
        daemon.events.subscribe(self._revoked, (EventKind.GRANT_REVOKED,))
        watch = Watch(world, daemon, process, self._site.dss)
        status: int | None = None
        try:
            with self._running, watch.watching(), _unwinding(process):
                status = await daemon.run()
        except DssUnavailableError as error:
            world.trace.note("daemon.not_started", error=error)
            return None
        finally:
            alive, process.alive = process.alive, False
            self._process = self._machine = None
            self._begun = trio.Event()
        world.trace.note("daemon.ended", pid=process.pid, status=status)
        if not alive:
            return self._killed
        self._ledger.ended()
        world.violations.check(status in (EXIT_DRAINED, EXIT_FORCED), f"the daemon ended with status {status}")
        # By then everything works and nobody wants anything.
        last = self._over.is_set() and not self._signalled_again
        world.violations.check(status == EXIT_DRAINED or not last, "the last drain did not end in order")
        return End.DRAIN if status == EXIT_DRAINED else End.FORCED

    def _tell(self, process: Process, event: Event) -> None:
        if process.alive:
            self._told(event)

    def _revoked(self, event: Event) -> None:
        """The ledger knows connections by the names of their clients, the daemon by their pids."""
        found = _PID.search(event.client)
        if found is not None:
            self._ledger.revoked(self._site.network.names[int(found[1])], event.medium)

    async def _end(self, life: Life | None) -> None:
        if life is None:
            await self._over.wait()
        else:
            await trio.sleep(life.seconds)
        # One that could not start is started again soon.
        await self._begun.wait()
        self.end(End.DRAIN if life is None else life.end)
        if life is not None and life.end is End.FORCED:
            await trio.sleep(self._random.random() ** 3 * LONGEST_SECOND_THOUGHT_S)
            self.signal_again()


@contextmanager
def _unwinding(process: Process) -> Iterator[None]:
    """Let what a killed process still raises end with it; a living one's errors are the run's."""
    try:
        yield
    except (Exception, ProcessKilledError, BaseExceptionGroup) as error:
        if process.alive:
            raise
        cancelled = error.subgroup(trio.Cancelled) if isinstance(error, BaseExceptionGroup) else None
        if cancelled is not None:
            raise cancelled from None
