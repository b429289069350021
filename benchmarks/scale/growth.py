"""How a cost grows with a size: the slope on a log-log scale, and a plot of it in text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import log
from statistics import linear_regression

from benchmarks.scale.decisions import Cost

WIDTH = 40
"""Columns of the longest bar."""


@dataclass(frozen=True, slots=True)
class Series:
    """What one kind of event costs at each size, in seconds."""

    what: str
    sizes: Sequence[int]
    seconds: Sequence[float]

    @property
    def slope(self) -> float:
        """0: it costs always the same. 1: it grows as the size does. 2: it would be quadratic."""
        return linear_regression([log(size) for size in self.sizes], [log(cost) for cost in self.seconds]).slope

    def lines(self) -> list[str]:
        """For people to read: the bars are logarithmic, from a microsecond on."""
        longest = max(log(max(1e6 * cost, 2)) for cost in self.seconds)
        bars = ["#" * max(round(WIDTH * log(max(1e6 * cost, 1)) / longest), 1) for cost in self.seconds]
        rows = zip(self.sizes, self.seconds, bars, strict=True)
        return [
            f"{self.what}: slope {self.slope:.2f}",
            *(f"  {size:7}  {1e6 * cost:9.0f} us  {bar}" for size, cost, bar in rows),
        ]


def grow(sizes: Sequence[int], measure: Callable[[int], Sequence[Cost]], what: str) -> list[Series]:
    """Measure at each of `sizes`; one series for each kind of event, but for filling the queue one request is one.

    `what` names the size.
    """
    at = {size: {cost.event: cost.per_event for cost in measure(size) if cost.steps} for size in sizes}
    events = [event for event in at[sizes[0]] if all(event in costs for costs in at.values())]
    return [
        Series(f"{event}, by {what}", sizes, [at[size][event] for size in sizes])
        for event in events
        if event != "filling the queue"
    ]
