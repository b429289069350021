"""What a share of many values does not exceed."""

from __future__ import annotations

from collections.abc import Sequence


def percentile(values: Sequence[float], percent: int) -> float:
    """The least of `values`, in whatever order, that so many percent of them do not exceed; 0 of none."""
    ordered = sorted(values)
    # Rounded upwards: the 99th percentile of a hundred values is the 99th of them.
    rank = (len(ordered) * percent + 99) // 100
    return ordered[max(rank, 1) - 1] if ordered else 0.0
