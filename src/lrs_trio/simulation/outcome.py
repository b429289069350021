"""What came of one run: figures for people, and whether anything was wrong."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lrs_trio.events import Event
from lrs_trio.simulation.faults import FaultKind
from lrs_trio.simulation.scenario import End, Scenario


@dataclass(frozen=True, slots=True)
class Outcome:
    """One run. Times are virtual seconds."""

    scenario: Scenario
    violations: tuple[str, ...]
    """What was found to be wrong, in sentences with their times."""

    error: str
    """The traceback of what escaped from the run, "" if nothing did."""

    digest: str
    """Of the trace: the same for the same scenario."""

    lines: int
    """Of the trace."""

    last_lines: tuple[str, ...]
    """The end of the trace."""

    seconds: float
    requests: Mapping[str, int]
    """By the names of their types, as they left the clients."""

    answers: Mapping[str, int]
    """By the names of their types."""

    errors: Mapping[str, int]
    """Answers that were errors, by the name of the errno."""

    acknowledged: int
    """Releases that were answered well."""

    syncs: int
    commits: int
    lives: Mapping[End, int]
    faults: Mapping[FaultKind, int]
    betrayals: int
    """Files that a lying sync has lost, which was noticed."""

    steps: int
    """Of trio's tasks."""

    longest_wait: float
    """For an answer."""

    events: tuple[Event, ...] | None
    """Everything that the daemons told, if it was to be kept."""

    @property
    def ok(self) -> bool:
        return not self.violations and not self.error

    @property
    def asked(self) -> int:
        """All requests."""
        return sum(self.requests.values())
