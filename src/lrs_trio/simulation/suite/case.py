"""A case: one scenario in the words of a command line, so that another process and any person can run it. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from shlex import quote

from lrs_trio.model import Family
from lrs_trio.simulation.scenario import End, Interrupt, Scenario, Wishes, scenario_for, small_scenario

NO_WISHES = Wishes()

OPTIONS = {
    End.KILL: "--kill-at",
    End.POWER: "--cut-power-at",
    End.DRAIN: "--term-at",
    End.FORCED: "--term-at",
}
"""The option that ends a life at a step, and how it ends."""


@dataclass(frozen=True, slots=True)
class Case:
    """One run. What `seed` decides is left to it, but for the `wishes`."""

    seed: int
    wishes: Wishes = NO_WISHES

    small: Family | None = None
    """The small site, of media of this family: one that can be cut short at every step. It knows no wishes."""

    interrupt: Interrupt | None = None

    replay: str = ""
    """The file of a recorded workload that is played instead; it knows no wishes either."""

    @property
    def scenario(self) -> Scenario:
        """What is decided by seed and wishes alone: all but a replay."""
        if self.small is None:
            made = scenario_for(self.seed, self.wishes)
        else:
            made = small_scenario(self.seed, tapes=self.small is Family.TAPE)
        return replace(made, interrupt=self.interrupt)

    @property
    def command(self) -> str:
        """The one line that runs the very same."""
        return " ".join(("lrs simulate --seed", str(self.seed), *self._options()))

    def _options(self) -> Iterator[str]:
        if self.replay:
            yield f"--replay {quote(self.replay)}"
        if self.small is not None:
            yield f"--small {self.small.label}"
        wishes = self.wishes
        for name in ("hours", "drives", "directories", "clients", "requests"):
            value = getattr(wishes, name)
            if value is not None:
                yield f"--{name} {value}"
        if not wishes.faults:
            yield "--no-faults"
        if not wishes.lives:
            yield "--no-lives"
        if self.interrupt is not None:
            yield f"{OPTIONS[self.interrupt.end]} {self.interrupt.step}"
            if self.interrupt.end is End.FORCED:
                yield f"--term-again {self.interrupt.again}"
