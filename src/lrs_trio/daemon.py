"""The daemon: what starts in which order, what ends in which order (notes 10, 11).

The nesting of the nurseries is the order of the drain, read from the inside out: devices end first, then
the schedulers, then the releases; then the responses are flushed and the server ends; the DSS and the
signals go last.
"""

from __future__ import annotations

import errno
import resource
import signal
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from functools import partial

import structlog
import trio

from lrs_trio import __version__, systemd, tuning
from lrs_trio.dss.group_commit import Blockade, GroupCommit
from lrs_trio.dss.home import DaemonHome
from lrs_trio.dss.inventory import Additions, read_inventory
from lrs_trio.dss.operations import DeleteLocks, Dss, ReadLocks
from lrs_trio.dss.recovery import sort_locks
from lrs_trio.errors import DssUnavailableError, LrsError, describe
from lrs_trio.events import EventKind, Events
from lrs_trio.logs import configure_logging
from lrs_trio.machine import Machine, ThisMachine
from lrs_trio.model import Family, LockOwner, ResourceId
from lrs_trio.observe.counting import ToSync, follow_events
from lrs_trio.observe.recording import Recorder
from lrs_trio.observe.stats import Stats
from lrs_trio.scheduling.attached import AttachedSupply
from lrs_trio.scheduling.bookkeeper import Bookkeeper
from lrs_trio.scheduling.family import FamilyScheduler
from lrs_trio.scheduling.report import family_status
from lrs_trio.scheduling.supply import Supply, Surroundings
from lrs_trio.server.access import Access
from lrs_trio.server.configuration import Configuration
from lrs_trio.server.descriptors import room_for_connections
from lrs_trio.server.dispatch import Dispatcher, Services
from lrs_trio.server.server import Server
from lrs_trio.settings import FamilySettings, Settings, TapeSettings
from lrs_trio.wire.plain import plain_message

log = structlog.get_logger()

EXIT_DRAINED = 0
EXIT_FAILED = 1
EXIT_FORCED = 3
STATUS_VERSION = 1


Supplying = tuple[Callable[[Surroundings], Supply], Callable[[FamilySettings], None]]
"""What makes the supply of a family, and what hears of its new settings."""


class Daemon:
    """One daemon, from its start to the end of its drain.

    `machine` is what it runs on, this one by default. `on_ready` is called once, when clients are served; they wait
    for it. `configuration` has the values of the Phobos configuration that the settings come from, if there is one.
    """

    def __init__(
        self,
        settings: Settings,
        machine: Machine | None = None,
        *,
        on_ready: Callable[[], None] | None = None,
        configuration: Configuration | None = None,
    ) -> None:
        self.settings = settings
        self._on_ready = on_ready
        self._configuration = configuration
        self._machine = machine or ThisMachine()
        self.started = False
        self.events = Events(trio.current_time)
        self._owner = LockOwner(settings.host, self._machine.pid)
        self._stats = Stats()
        self.families: dict[Family, FamilyScheduler] = {}
        self._draining = trio.Event()
        self._drained = trio.Event()
        self._forced = trio.CancelScope()
        self._preparing = trio.CancelScope()
        self._prepared = False
        """Whether there is something to drain."""
        self._since = 0.0
        self._server: Server | None = None
        self._named: dict[tuple[str, str], ResourceId] = {}
        """Devices by their families and names, as the statistics know them."""
        self._dss: GroupCommit | None = None

    async def run(self) -> int:
        """Serve until drained and return the exit status.

        Raises:
            OSError: it could not start; the errno says why (AlreadyRunningError: another daemon is here).
        """
        self._since = trio.current_time()
        machine, settings, status = self._machine, self.settings, EXIT_DRAINED
        failure: Exception | None = None
        with machine.lock_file(settings.server, settings.host), machine.signals() as signals:
            async with trio.open_nursery() as around:
                around.start_soon(self._watch_signals, signals, name="signals")
                try:
                    status = await self._live()
                except Exception as error:  # noqa: BLE001 raised again below, and not in a group
                    failure = error
                around.cancel_scope.cancel(reason="ended")
        if failure is not None:
            raise failure
        return status

    async def _live(self) -> int:
        """From before the DSS is there to the end of the drain; returns the exit status."""
        status = EXIT_DRAINED
        with self._preparing:
            # Outside every nursery that uses it: a home may bring an event loop of its own.
            async with self._machine.open_home(self.settings.dss, self._owner) as home, trio.open_nursery() as root:
                self._dss = GroupCommit(home, random=self._machine.random)
                await root.start(self._dss.run, name="dss writer")
                recorder = await self._recorder(self._dss, root)
                await self._recover_locks(self._dss)
                if not self._draining.is_set():
                    self._prepared = True
                    root.start_soon(self._watch_dss, home, self._dss, name="dss watch")
                    status = await self._serve(self._dss, root, recorder)
                root.cancel_scope.cancel(reason="drained")
        if not self._prepared:
            log.info("ended before anything was served")
        return status

    async def _recorder(self, dss: Dss, root: trio.Nursery) -> Recorder | None:
        """What is to write everything that happens from now on to a trace, if that is wanted."""
        settings = self.settings
        if settings.events.trace is None:
            return None
        recorder = Recorder(
            settings.events.trace, self.events, plain_message, host=settings.host, started=trio.current_time()
        )
        inventory = await read_inventory(settings, dss)
        recorder.note_inventory(inventory)
        additions = Additions(inventory, dss, recorder.note_resource)
        root.start_soon(additions.run, name="additions to the inventory")

        def tell(connection: int, message: object) -> None:
            recorder.note_message(connection, message)
            additions.hear(message)

        self.events.on_message = tell
        return recorder

    async def _serve(self, dss: Dss, root: trio.Nursery, recorder: Recorder | None) -> int:
        settings = self.settings
        self.families = self._make_families(dss)
        self._keep_statistics()
        access = Access(settings.access, self._machine.uid)
        bookkeeper = Bookkeeper(dss)
        dispatcher = Dispatcher(
            Services(self.families, bookkeeper, self.events, self._stats, self.status, self._configuration),
            settings.server.max_requests_per_connection,
        )
        server = self._server = Server(settings.server, dispatcher, self.events, self._machine.credentials, access)
        async with (
            self._machine.listen(settings.server) as listener,
            trio.open_nursery() as serving,
        ):
            if recorder is not None:
                # Not before the socket is ours: a start that fails leaves the trace of whoever serves it alone.
                root.start_soon(recorder.run, name="recorder of events")
            with self._forced:
                async with trio.open_nursery() as releases:
                    await releases.start(bookkeeper.run, name="bookkeeper")
                    try:
                        async with trio.open_nursery() as schedulers:
                            async with trio.open_nursery() as devices:
                                for family in self.families.values():
                                    await schedulers.start(family.run, devices, name=f"family {family.family.label}")
                                await serving.start(server.run, listener, name="server")
                                self._announce_ready()
                                await self._draining.wait()
                                root.start_soon(self._report_drain, name="drain report")
                                self._begin_drain()
                            log.info("every device has ended")
                            for family in self.families.values():
                                family.close()
                    finally:
                        dispatcher.accepts_releases = False
                        bookkeeper.close()
            self._drained.set()
            self.events.emit(EventKind.DRAIN_ENDED)
            server.finish()
        if self.forced:
            log.warning("forced end: the next start recovers what is left")
            return EXIT_FORCED
        log.info("drained")
        return EXIT_DRAINED

    def _make_families(self, dss: Dss) -> dict[Family, FamilyScheduler]:
        return {
            family: self._make_family(family, settings, dss)
            for family, settings in self.settings.families.served.items()
        }

    def _make_family(self, family: Family, settings: FamilySettings, dss: Dss) -> FamilyScheduler:
        if isinstance(settings, TapeSettings):
            make_supply, on_settings = self._tapes(family, settings)
        else:
            make_supply, on_settings = self._directories(settings)
        return FamilyScheduler(
            family,
            settings,
            dss=dss,
            owner=self._owner,
            make_supply=make_supply,
            events=self.events,
            recheck_s=self.settings.dss.recheck_s,
            wall_clock=self._machine.wall_clock,
            start_of=self._machine.start_of,
            on_settings=on_settings,
        )

    def _directories(self, settings: FamilySettings) -> Supplying:
        storage = self._machine.directories(self.settings.host, settings.full_threshold_percent)

        def change_storage(settings: FamilySettings) -> None:
            storage.full_threshold_percent = settings.full_threshold_percent

        return lambda around: AttachedSupply(around, storage.unit), change_storage

    def _tapes(self, family: Family, settings: TapeSettings) -> Supplying:
        # Not at import, as what the machine has for tapes.
        from lrs_trio.scheduling.library import LibrarySupply

        storage = self._machine.tapes(settings, self.settings.libraries)

        def change_storage(settings: FamilySettings) -> None:
            if isinstance(settings, TapeSettings):
                storage.change(settings)

        def make_supply(around: Surroundings) -> Supply:
            return LibrarySupply(
                family,
                around,
                storage.unit,
                recheck_s=self.settings.dss.recheck_s,
                wall_clock=self._machine.wall_clock,
                logs_moves=storage.logs_moves,
            )

        return make_supply, change_storage

    def _keep_statistics(self) -> None:
        """Register what is counted, in the order in which Phobos shows it; ours comes last."""
        for family in self.families.values():
            tags = {"family": family.family.label}
            self._stats.computed("sched", "incoming_qsize", family.queue.__len__, tags)
            # A request that has to be placed anew goes back to its place in the one queue.
            self._stats.computed("sched", "retry_qsize", lambda: 0, tags)
            self._stats.computed("sched", "ongoing_format", partial(_formats, family), tags)
        follow_events(self._stats, self.events, self._to_sync)
        self._stats.computed("req", "response_qsize", lambda: self._server.unsent if self._server else 0)
        self._stats.computed("dss", "transactions", lambda: self._dss.transactions if self._dss else 0)
        self._stats.computed("dss", "operations", lambda: self._dss.operations if self._dss else 0)

    async def _recover_locks(self, dss: Dss) -> None:
        """Clear what a dead predecessor on this host has left; other hosts' locks are never touched."""
        locks = await dss.execute(ReadLocks(self._owner.host))
        stale = sort_locks(locks, self._owner, self._machine.start_of).stale
        if stale:
            await dss.execute(DeleteLocks(stale))
            log.info("locks of a dead predecessor removed", count=len(stale))

    async def _watch_dss(self, home: DaemonHome, dss: Dss) -> None:
        """Ask a DSS that has gone away for something, so that an idle daemon knows, says so, and is back when it is.

        What belongs to a connection, such as our presence there, is ours again as soon as possible.
        """
        while True:
            await home.wait_lost()
            try:
                await dss.execute(ReadLocks(self._owner.host))
            except LrsError as error:
                # It is back; who needs what it refuses is told so.
                log.warning("the dss is back and refuses to tell its locks", error=describe(error))

    # Signals and the drain.

    async def _watch_signals(self, signals: AsyncIterator[int]) -> None:
        async for number in signals:
            name = signal.Signals(number).name
            if self._draining.is_set():
                log.warning("second signal: ending now", signal=name)
                self._forced.cancel(reason=f"second signal {name}")
            else:
                log.info("draining", signal=name, deadline_s=self.settings.drain.deadline_s)
                self._draining.set()
                # Also the start that is still going on has no more time than this.
                self._forced.deadline = trio.current_time() + self.settings.drain.deadline_s
                if not self._prepared:
                    # What is only prepared waits for as long as the DSS is away, and nobody would miss it.
                    self._preparing.cancel(reason=f"signal {name}")

    def _begin_drain(self) -> None:
        systemd.notify("STOPPING=1\nSTATUS=draining")
        self.events.emit(EventKind.DRAIN_BEGUN)
        for family in self.families.values():
            family.drain()

    async def _report_drain(self) -> None:
        """Say every few seconds, by device and client, what the drain waits for."""
        while not self._drained.is_set():
            with trio.move_on_after(self.settings.drain.report_s):
                await self._drained.wait()
                return
            for family in self.families.values():
                for line in family.unfinished():
                    log.info("the drain waits", family=family.family.label, device=line)

    def _announce_ready(self) -> None:
        self.started = True
        log.info(
            "ready",
            version=__version__,
            socket=str(self.settings.server.socket),
            dss=self.settings.dss.shown,
            devices=sum(len(family.devices) for family in self.families.values()),
        )
        systemd.notify("READY=1\nSTATUS=serving")
        if self._on_ready is not None:
            self._on_ready()

    # Reports.

    @property
    def forced(self) -> bool:
        """Whether the drain was not waited for to its end."""
        return self._forced.cancelled_caught

    @property
    def waiting_for_dss(self) -> int:
        """Operations that the DSS has not answered yet."""
        return self._dss.waiting if self._dss else 0

    def status(self) -> Mapping[str, object]:
        """What `lrs status` shows; ages are seconds, sizes bytes. What there may be many of is an iterator."""
        now = trio.current_time()
        unavailable = self._dss.unavailable_since if self._dss else None
        return {
            "version": STATUS_VERSION,
            "daemon": {
                "version": __version__,
                "pid": self._owner.pid,
                "host": self._owner.host,
                "uptime_s": round(now - self._since, 3),
                "draining": self._draining.is_set(),
                "dss": {
                    "url": self.settings.dss.shown,
                    "unavailable_s": None if unavailable is None else round(now - unavailable, 3),
                    "waits_for": [_blockade(blockade, now) for blockade in self._dss.blockades] if self._dss else [],
                },
            },
            "connections": len(self._server) if self._server is not None else 0,
            "families": (family_status(family) for family in self.families.values()),
        }

    def _to_sync(self, family: str, device: str) -> ToSync:
        devices = self.families[Family.from_label(family)].devices
        if self._named.get((family, device)) not in devices:
            # For all at once: each is asked for, and a search for each would take the square of their number.
            self._named |= {(family, known.name): known for known in devices}
        named = self._named.get((family, device))
        if named is None or named not in devices:
            return ToSync(0, 0, 0)
        pending = devices[named].state.to_sync
        return ToSync(len(pending), pending.size, pending.extents)


def _blockade(blockade: Blockade, now: float) -> Mapping[str, object]:
    """A lock of somebody else that operations wait for, as the status shows it."""
    lock = blockade.lock
    return {
        "lock": lock.type.value,
        "resource": lock.id,
        "host": lock.owner.host,
        "pid": lock.owner.pid,
        "operations": blockade.waiting,
        "age_s": round(now - blockade.since, 3),
    }


def _formats(family: FamilyScheduler) -> int:
    return sum(device.state.formatting is not None for device in family.devices.values())


def run_daemon(
    settings: Settings,
    *,
    warnings: Sequence[str] = (),
    on_ready: Callable[[], None] | None = None,
    configuration: Configuration | None = None,
) -> int:
    """Run a daemon in this process, log `warnings` first, and return the exit status.

    0: drained. 1: a defect. 3: the drain was forced. 17: another daemon is running. Else the errno
    that kept it from starting.
    """
    configure_logging(settings.log.level, settings.log.format, sys.stderr, to_syslog=settings.log.syslog, limited=True)
    for warning in warnings:
        log.warning(warning)
    _provide_descriptors(settings.server.max_connections)
    tuning.share_heaps()

    def ready() -> None:
        tuning.settle()
        if on_ready is not None:
            on_ready()

    daemon = Daemon(settings, on_ready=ready, configuration=configuration)
    try:
        return trio.run(daemon.run, restrict_keyboard_interrupt_to_checkpoints=True)
    except DssUnavailableError as error:
        log.error("cannot start", error=str(error))
        return errno.EBUSY
    except (OSError, ExceptionGroup) as error:
        cause = _start_error(error)
        if daemon.started or cause is None:
            raise
        log.error("cannot start", error=describe(cause))
        return cause.errno or EXIT_FAILED


def _provide_descriptors(connections: int) -> None:
    """Use as many descriptors as the system allows: each connection and each device needs one."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if (possible := room_for_connections(hard)) < connections:
        log.warning(
            "the limit of file descriptors allows fewer clients than server.max_connections;"
            " raise it (LimitNOFILE= of the systemd unit, or ulimit -Hn)",
            limit=hard,
            possible=possible,
            max_connections=connections,
        )


def _start_error(error: Exception) -> OSError | None:
    """The one OSError in `error`, if it is nothing else."""
    if isinstance(error, ExceptionGroup):
        return _start_error(error.exceptions[0]) if len(error.exceptions) == 1 else None
    return error if isinstance(error, OSError) else None
