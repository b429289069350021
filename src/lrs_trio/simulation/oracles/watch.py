"""Looks inside the running daemon all the time, and reports what must never be.

What an event tells is checked at once, the devices that it names after the step of the task that told it. Everything
else is looked at now and then: the more there is to look at, the more steps lie between two looks, so that a run with
many drives costs no more for each of its steps than one with few.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import trio

from lrs_trio.daemon import Daemon
from lrs_trio.devices.device import DeviceTask
from lrs_trio.devices.life import DeviceStatus
from lrs_trio.events import Event
from lrs_trio.model import LockOwner
from lrs_trio.simulation.faults import FaultKind
from lrs_trio.simulation.oracles.device_rules import DeviceRules
from lrs_trio.simulation.oracles.drain_order import DrainOrder
from lrs_trio.simulation.oracles.row_rules import RowRules, WatchedDss
from lrs_trio.simulation.oracles.table_rules import TableRules
from lrs_trio.simulation.oracles.task_rules import TaskRules, tasks_of
from lrs_trio.simulation.oracles.wake_ups import look_at_queue, look_at_waiting_devices, look_at_waiting_requests
from lrs_trio.simulation.world import Process, World

STEPS_PER_LOOK: Final = 16
"""Steps of tasks between two looks at everything, for each device and each request that there is."""

STEPS_PER_REST: Final = 6
"""The same, where nothing can go on before the time does: then more can be checked, and it matters more."""

RESTS_PER_READ: Final = 10
"""At every so many of these the rows of the DSS are read, and placement is done again: that costs more."""

_AT_WORK = frozenset(
    {
        DeviceStatus.ADOPTING,
        DeviceStatus.LOADING,
        DeviceStatus.MOUNTING,
        DeviceStatus.UNMOUNTING,
        DeviceStatus.UNLOADING,
        DeviceStatus.FORMATTING,
    }
)


class Watch(trio.abc.Instrument):
    """Watches `process`, one life of `daemon`, from before its start until it has ended."""

    def __init__(self, world: World, daemon: Daemon, process: Process, dss: WatchedDss) -> None:
        settings = daemon.settings
        self.looks = 0
        """How often everything was looked at."""
        self.rests = 0
        """How often of these nothing could go on before the time did."""
        self._world = world
        self._daemon = daemon
        self._process = process
        self._said: set[str] = set()
        self._touched: dict[DeviceTask, None] = {}
        self._steps = 0
        self._size = 1
        """Devices and requests, when everything was looked at last."""
        self._signals = 0
        self._devices = DeviceRules(lambda: daemon.families, self._report)
        self._tables = TableRules(lambda: daemon.families, settings.server.max_requests_per_connection, self._report)
        self._drain = DrainOrder(
            lambda: daemon.families, settings.drain.deadline_s, lambda: daemon.forced, self._report
        )
        self._rows = RowRules(lambda: daemon.families, dss, LockOwner(settings.host, process.pid), self._report)
        self._tasks: TaskRules | None = None
        self._records = settings.events.trace is not None

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Watch what happens in the block, in which the daemon runs in this task."""
        tasks = self._tasks = TaskRules(self._report)
        self._signals = self._second_signals
        unsubscribe = self._daemon.events.subscribe(self._tell)
        trio.lowlevel.add_instrument(self)
        ended = False
        try:
            yield
            ended = True
        finally:
            trio.lowlevel.remove_instrument(self)
            unsubscribe()
            tasks.look_at_end()
            if ended and self._process.alive:
                self._look_at_end()

    # What trio and the daemon tell.

    def task_spawned(self, task: trio.lowlevel.Task) -> None:
        if self._tasks is not None:
            self._tasks.spawned(task)

    def task_exited(self, task: trio.lowlevel.Task) -> None:
        if self._tasks is not None:
            self._tasks.exited(task)

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        self._steps += 1
        if self._touched:
            touched, self._touched = self._touched, {}
            self._guarded(lambda: self._look_at_devices(touched))
        elif self._steps >= STEPS_PER_LOOK * self._size:
            self._guarded(self._look)

    def before_io_wait(self, timeout: float) -> None:
        # A run of tasks has ended. If none can go on at once, the time does.
        if self._steps >= STEPS_PER_REST * self._size and not trio.lowlevel.current_statistics().tasks_runnable:
            self._guarded(self._look_at_rest)

    def _tell(self, event: Event) -> None:
        if self._process.alive:
            self._drain.tell(event)
            self._tables.tell(event)
            self._touched |= dict.fromkeys(self._devices.tell(event))

    # What is looked at.

    def _look_at_devices(self, devices: dict[DeviceTask, None]) -> None:
        for device in devices:
            self._devices.look(device)

    def _look(self) -> None:
        families = self._daemon.families.values()
        self._steps = 0
        self._size = max(sum(len(family.devices) + len(family.live) for family in families), 1)
        self.looks += 1
        self._look_at_time()
        for family in families:
            for device in family.devices.values():
                self._devices.look(device)
            self._devices.look_at_space(family)
        self._tables.look()

    def _look_at_rest(self) -> None:
        """Nothing happens before the clock goes on, so nothing is half done."""
        self._look()
        self.rests += 1
        if self._daemon.forced:
            return  # what was cut short stays as it is, and clients still read their answers
        self._tables.look_at_rest(len(self._drain.releases))
        now = trio.current_time()
        for family in self._daemon.families.values():
            look_at_waiting_devices(family, now, self._report)
            look_at_waiting_requests(family, self._report)
        if self._daemon.started and not self._daemon.waiting_for_dss and self.rests % RESTS_PER_READ == 0:
            self._rows.look()
            for family in self._daemon.families.values():
                look_at_queue(family, self._report)
        self._count_tasks()

    def _count_tasks(self) -> None:
        families = self._daemon.families.values()
        devices = [device for family in families for device in family.devices.values()]
        waits = any(len(family.live) for family in families) or self._daemon.waiting_for_dss
        # News that a drain has refused are heeded all the same.
        waits = waits or self._drain.begun
        works = any(
            device.state.acting or device.state.syncing or device.state.status in _AT_WORK for device in devices
        )
        if self._tasks is not None and self._daemon.started and not waits and not works:
            self._tasks.look(
                families=len(families),
                devices=len(devices),
                connections=len(self._tables.connections),
                others=sum(map(tasks_of, self._drain.releases.values())) + self._records,
            )

    def _look_at_time(self) -> None:
        now = trio.current_time()
        if self._second_signals > self._signals:
            self._signals = self._second_signals
            self._drain.signalled_again(now)
        self._drain.look(now)

    def _look_at_end(self) -> None:
        self._look_at_time()
        if not self._daemon.forced:
            self._tables.look_at_end(self._daemon.waiting_for_dss)
            self._rows.look_at_end()

    @property
    def _second_signals(self) -> int:
        return self._world.faults.hits[FaultKind.SECOND_SIGTERM]

    # What is wrong.

    def _guarded(self, look: Callable[[], None]) -> None:
        """Look, unless the process is dead. An error would only take this instrument out of trio's hands."""
        if not self._process.alive:
            return
        try:
            look()
        except Exception as error:  # noqa: BLE001 whatever it is, nothing must look well because of it
            self._report(f"the watch has failed: {error!r}")

    def _report(self, what: str) -> None:
        """Say what is wrong once, however often it is seen."""
        if what not in self._said:
            self._said.add(what)
            self._world.violations.report(what)
