"""How long answers took, in a few figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Latency:
    """Of so many answers; seconds. All figures of no answers are 0."""

    count: int
    p50: float
    p99: float
    longest: float


def latency(seconds: Sequence[float]) -> Latency:
    """The figures of these waits, in whatever order."""
    ordered = sorted(seconds) or [0.0]
    return Latency(len(seconds), ordered[len(ordered) // 2], ordered[len(ordered) * 99 // 100], ordered[-1])
