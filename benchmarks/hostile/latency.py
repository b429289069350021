"""How long answers took, in a few figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.percentiles import percentile


@dataclass(frozen=True, slots=True)
class Latency:
    """Of so many answers; seconds. All figures of no answers are 0."""

    count: int
    p50: float
    p99: float
    longest: float


def latency(seconds: Sequence[float]) -> Latency:
    """The figures of these waits, in whatever order."""
    p50, p99, longest = (percentile(seconds, percent) for percent in (50, 99, 100))
    return Latency(len(seconds), p50, p99, longest)
