"""How long tasks hold the loop: the seconds of CPU of each step between two checkpoints."""

from __future__ import annotations

from dataclasses import dataclass, field
from time import thread_time

import trio


@dataclass(eq=False)
class StepTimes(trio.abc.Instrument):
    """Notes the steps of tasks whose names begin with `name`, and the longest of all others, in seconds."""

    name: str
    seconds: list[float] = field(default_factory=list)
    longest_other: float = 0.0
    _began: float = field(default_factory=thread_time)

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self._began = thread_time()

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        spent = thread_time() - self._began
        if task.name.startswith(self.name):
            self.seconds.append(spent)
        else:
            self.longest_other = max(self.longest_other, spent)

    def clear(self) -> None:
        self.seconds.clear()
        self.longest_other = 0.0
