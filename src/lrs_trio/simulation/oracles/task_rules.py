"""How many tasks a life of the daemon has, and whether all of them end with it."""

from __future__ import annotations

import trio

from lrs_trio.events import Event
from lrs_trio.simulation.oracles.device_rules import Report

FIXED = 8
"""Signals, DSS writer and its watch; the bookkeeper; the server, what accepts, the postman, and what makes reports."""

PER_FAMILY = 2
"""Its inbox, and placement."""

PER_DEVICE = 1
OF_DEVICE = "device "
"""How the name of a device's task begins: there is one for each device."""

PER_CONNECTION = 2
"""A reader, and a sender where something does not go at once."""


def tasks_of(release: Event) -> int:
    """How many tasks a release may have: its own and one for each of its media, if there are several."""
    return 1 + release.count if release.count > 1 else 0


class TaskRules:
    """The tasks below the task that makes this."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._root = trio.lowlevel.current_task()
        # What the same task runs beside the daemon is none of it.
        self._beside = frozenset(self._root.child_nurseries)
        self._tasks: dict[trio.lowlevel.Task, None] = {self._root: None}

    def __len__(self) -> int:
        return len(self._tasks) - 1

    def spawned(self, task: trio.lowlevel.Task) -> None:
        nursery = task.parent_nursery
        if nursery is None or nursery in self._beside:
            return
        if nursery.parent_task in self._tasks:
            if task.name.startswith(OF_DEVICE) and task.name in self._names():
                self._report(f"{task.name} has two tasks")
            self._tasks[task] = None
        elif nursery.parent_task is trio.lowlevel.current_root_task():
            self._report(f"the task {task.name} is started where nobody waits for its end")

    def exited(self, task: trio.lowlevel.Task) -> None:
        self._tasks.pop(task, None)

    def look(self, *, families: int, devices: int, connections: int, others: int) -> None:
        """Check that there are no more tasks than there is something to do for them, `others` beside the usual ones."""
        most = FIXED + PER_FAMILY * families + PER_DEVICE * devices + PER_CONNECTION * connections + others
        if len(self) > most:
            self._report(
                f"there are {len(self)} tasks, at most {most} have something to do: {', '.join(sorted(self._names()))}"
            )

    def look_at_end(self) -> None:
        """Check that all have ended."""
        for name in self._names():
            self._report(f"the task {name} outlives the daemon")

    def _names(self) -> list[str]:
        return [task.name for task in self._tasks if task is not self._root]
