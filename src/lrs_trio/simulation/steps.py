"""The steps of a run: every time that a task goes on until it waits again."""

from __future__ import annotations

from collections.abc import Callable

import trio


class Steps(trio.abc.Instrument):
    """Counts them, and calls what is to happen right after one of them."""

    def __init__(self) -> None:
        self.count = 0
        self._due: dict[int, Callable[[], None]] = {}

    def call_after(self, step: int, action: Callable[[], None]) -> None:
        """Call `action` after step number `step`, counted from 1, which is still to come."""
        self._due[step] = action

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        self.count += 1
        if self._due:
            action = self._due.pop(self.count, None)
            if action is not None:
                action()
