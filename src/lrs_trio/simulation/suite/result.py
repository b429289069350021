"""What is kept of a case that was run: plain figures that go from one process to another, and their sums. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from enum import Enum

from lrs_trio.simulation.faults import FaultKind
from lrs_trio.simulation.outcome import Outcome
from lrs_trio.simulation.scenario import HOUR, End
from lrs_trio.simulation.suite.case import Case


@dataclass(frozen=True, slots=True)
class Result:
    """One case. `real_seconds` are those of whoever waited for it, all other times are virtual."""

    case: Case
    problems: tuple[str, ...]
    """What was found to be wrong."""

    real_seconds: float
    seconds: float = 0.0
    digest: str = ""
    steps: int = 0
    requests: Mapping[str, int] = field(default_factory=dict)
    errors: Mapping[str, int] = field(default_factory=dict)
    acknowledged: int = 0
    syncs: int = 0
    commits: int = 0
    longest_wait: float = 0.0
    betrayals: int = 0
    lives: Mapping[End, int] = field(default_factory=dict)
    faults: Mapping[FaultKind, int] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        return not self.problems


_SAME = tuple(field.name for field in fields(Result) if field.name not in ("case", "problems", "real_seconds"))


def result_of(case: Case, outcome: Outcome, real_seconds: float) -> Result:
    figures = {name: getattr(outcome, name) for name in _SAME}
    return Result(case, problems_of(outcome), real_seconds, **figures)


def problems_of(outcome: Outcome) -> tuple[str, ...]:
    """What was wrong, an error that nobody handled last: what had gone wrong before may be its cause."""
    # The traceback of a group has rules around its lines, and below the last.
    lines = [told for line in outcome.error.splitlines() if (told := line.strip(" |+-"))]
    return (*outcome.violations, *(f"an error has escaped: {line}" for line in lines[-1:]))


def plain_result(result: Result) -> dict[str, object]:
    """`result` as JSON has it."""
    return {
        "command": result.case.command,
        "ok": result.ok,
        "problems": list(result.problems),
        "real_s": round(result.real_seconds, 3),
        **{name: _plain(getattr(result, name)) for name in _SAME},
    }


class Totals:
    """Sums over results."""

    def __init__(self) -> None:
        self.cases = 0
        self.interrupted: Counter[End] = Counter()
        """Cases that were cut short at one step, by how."""
        self.seconds = 0.0
        self.steps = 0
        self.acknowledged = 0
        self.syncs = 0
        self.commits = 0
        self.longest_wait = 0.0
        self.requests: Counter[str] = Counter()
        self.lives: Counter[End] = Counter()
        self.faults: Counter[FaultKind] = Counter()
        self.failures: list[Result] = []

    def add(self, result: Result) -> None:
        self.cases += 1
        if result.case.interrupt is not None:
            self.interrupted[result.case.interrupt.end] += 1
        self.seconds += result.seconds
        self.steps += result.steps
        self.acknowledged += result.acknowledged
        self.syncs += result.syncs
        self.commits += result.commits
        self.longest_wait = max(self.longest_wait, result.longest_wait)
        self.requests.update(result.requests)
        self.lives.update(result.lives)
        self.faults.update(result.faults)
        if not result.ok:
            self.failures.append(result)

    @property
    def hours(self) -> float:
        return self.seconds / HOUR

    @property
    def asked(self) -> int:
        """All requests."""
        return self.requests.total()

    @property
    def never_hit(self) -> tuple[FaultKind, ...]:
        return tuple(kind for kind in FaultKind if not self.faults[kind])

    def plain(self) -> dict[str, object]:
        """All sums as JSON has them."""
        return {
            "runs": self.cases,
            "cut_short": _plain(self.interrupted),
            "seconds": self.seconds,
            "steps": self.steps,
            "requests": _plain(self.requests),
            "acknowledged": self.acknowledged,
            "syncs": self.syncs,
            "commits": self.commits,
            "longest_wait": self.longest_wait,
            "lives": _plain(self.lives),
            "faults": {kind.name.lower(): self.faults[kind] for kind in FaultKind},
            "failures": [plain_result(result) for result in self.failures],
        }


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return {key.name.lower() if isinstance(key, Enum) else key: count for key, count in value.items()}
    return value
