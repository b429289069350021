"""What a sync of a tape costs, learned from those that were done. Pure.

LTFS writes the whole index with each sync, so a sync takes so many seconds, and so many more for each file that is on
the tape. The drive, the tape and the software decide how many; nobody has to find out and set it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from statistics import median

REMEMBERED = 32
"""So many syncs, the last ones, say what the next one costs: enough to see through noise, and soon forgotten."""


@dataclass(frozen=True, slots=True)
class SyncCost:
    """A sync of a tape with so many files on it takes `base_s` and `per_file_s` for each, in seconds, never negative.

    `samples` is how many syncs say so.
    """

    base_s: float
    per_file_s: float
    samples: int

    def seconds(self, files: int) -> float:
        return self.base_s + self.per_file_s * max(files, 0)


@dataclass(slots=True)
class SyncCosts:
    """The last syncs, and what they have in common."""

    learned: SyncCost | None = None
    """``None`` before the first sync."""
    _samples: deque[tuple[int, float]] = field(default_factory=lambda: deque(maxlen=REMEMBERED))

    def learn(self, files: int, seconds: float) -> None:
        """A sync has taken so long with so many `files` on the tape."""
        self._samples.append((max(files, 0), seconds))
        self.learned = fit(self._samples)


def fit(samples: Iterable[tuple[int, float]]) -> SyncCost:
    """The line through `samples` of files and seconds, at least one, that no few of them can bend.

    The slope is the median of those between any two samples, each with the weight of the distance between them: a
    stalled sync does not count, and one tape that is fuller than the others tells more than many that are alike.
    """
    points = tuple(samples)
    per_file = max(_slope(points), 0.0)
    base = median(seconds - per_file * files for files, seconds in points)
    if base < 0:
        # With noise, or files that all came at once, a steep line may start below nothing.
        base, per_file = 0.0, median(seconds / files for files, seconds in points if files)
    return SyncCost(base, per_file, len(points))


def _slope(points: Sequence[tuple[int, float]]) -> float:
    """The weighted median; 0 where all have as many files."""
    slopes = sorted(
        ((seconds - before) / (files - fewer), abs(files - fewer))
        for (fewer, before), (files, seconds) in combinations(points, 2)
        if files != fewer
    )
    half = sum(weight for _, weight in slopes) / 2
    passed = 0
    for slope, weight in slopes:
        passed += weight
        if passed >= half:
            return slope
    return 0.0
