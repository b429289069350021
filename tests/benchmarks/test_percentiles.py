"""Ranks: which of many values a percentile is."""

from __future__ import annotations

from random import Random

import pytest

from benchmarks.hostile.latency import Latency, latency
from benchmarks.percentiles import percentile


@pytest.mark.parametrize(
    ("count", "percent", "expected"),
    [
        (100, 99, 99),
        (100, 50, 50),
        (100, 100, 100),
        (101, 99, 100),
        (99, 99, 99),
        (700, 99, 693),
        (1, 1, 1),
        (2, 50, 1),
    ],
)
def test_so_many_percent_do_not_exceed_it(count: int, percent: int, expected: int) -> None:
    values = list(range(1, count + 1))
    Random(1).shuffle(values)
    assert percentile(values, percent) == expected


def test_nothing_has_percentiles_of_0() -> None:
    assert percentile([], 99) == 0


def test_the_latency_of_answers_has_these_ranks() -> None:
    assert latency(range(1, 101)) == Latency(100, 50, 99, 100)
    assert latency([]) == Latency(0, 0, 0, 0)
