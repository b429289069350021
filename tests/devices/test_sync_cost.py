"""What is learned from syncs: the cost of the next one."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrs_trio.devices.sync_cost import REMEMBERED, SyncCost, SyncCosts, fit

SECONDS = st.floats(0, 10_000)
SAMPLES = st.lists(st.tuples(st.integers(0, 10**7), SECONDS), min_size=1, max_size=REMEMBERED)


def learned(*samples: tuple[int, float]) -> SyncCost:
    costs = SyncCosts()
    for files, seconds in samples:
        costs.learn(files, seconds)
    assert costs.learned is not None
    return costs.learned


def test_nothing_is_known_before_the_first_sync() -> None:
    assert SyncCosts().learned is None


def test_the_next_sync_is_expected_to_be_as_the_only_one_before() -> None:
    cost = learned((5000, 7.0))
    assert (cost.base_s, cost.per_file_s, cost.samples) == (7.0, 0.0, 1)
    assert cost.seconds(0) == cost.seconds(10**6) == 7.0


def test_syncs_with_as_many_files_each_say_nothing_of_a_file() -> None:
    cost = learned((100, 6.0), (100, 7.0), (100, 60.0))
    assert (cost.base_s, cost.per_file_s) == (7.0, 0.0)


@given(base=st.floats(0, 100), per_file=st.floats(0, 0.01), files=st.sets(st.integers(0, 100_000), min_size=2))
def test_what_is_on_a_line_is_found(base: float, per_file: float, files: set[int]) -> None:
    cost = fit((number, base + per_file * number) for number in sorted(files))
    for number in files:
        assert cost.seconds(number) == pytest.approx(base + per_file * number, abs=1e-6)


@pytest.mark.parametrize("seed", range(20))
def test_noise_and_stalls_do_not_hide_it(seed: int) -> None:
    random = Random(seed)
    costs = SyncCosts()
    for number in range(REMEMBERED):
        files = random.randrange(100_000)
        stalls = number % 8 == 0
        costs.learn(files, (2.5 + 0.0001 * files) * random.uniform(0.9, 1.1) + 600 * stalls)
    assert costs.learned is not None
    assert costs.learned.base_s == pytest.approx(2.5, abs=0.7)
    assert costs.learned.per_file_s == pytest.approx(0.0001, rel=0.2)


def test_one_full_tape_tells_more_than_many_syncs_of_one_that_is_nearly_empty() -> None:
    random = Random(1)
    many = [(files, random.uniform(2.0, 4.0)) for files in range(20)]
    assert learned(*many, (50_000, 8.0)).seconds(50_000) == pytest.approx(8.0, abs=1)


def test_what_was_learned_is_forgotten_when_it_is_not_so_any_more() -> None:
    costs = SyncCosts()
    for number in range(3 * REMEMBERED):
        slow = number < 2 * REMEMBERED
        costs.learn(number, 30.0 if slow else 3.0)
    assert costs.learned == SyncCost(3.0, 0.0, REMEMBERED)


def test_a_sync_that_takes_less_with_more_files_is_noise() -> None:
    assert learned((0, 9.0), (1000, 5.0)).per_file_s == 0


def test_a_line_that_would_begin_below_nothing_begins_there() -> None:
    cost = learned((1000, 1.0), (2000, 3.0))
    assert cost.base_s == 0
    assert cost.per_file_s == pytest.approx(0.00125)


@given(SAMPLES, st.integers(-1000, 10**8))
def test_law_no_cost_is_negative_and_more_files_never_cost_less(samples: list[tuple[int, float]], files: int) -> None:
    cost = fit(samples)
    assert cost.base_s >= 0
    assert cost.per_file_s >= 0
    assert 0 <= cost.seconds(files) <= cost.seconds(files + 1)


@given(SAMPLES)
def test_law_the_order_of_the_samples_does_not_matter(samples: list[tuple[int, float]]) -> None:
    assert fit(reversed(samples)) == fit(samples)


@given(SAMPLES)
def test_law_half_of_the_syncs_took_no_less_than_what_is_expected(samples: list[tuple[int, float]]) -> None:
    cost = fit(samples)
    longer = sum(seconds >= cost.seconds(files) - 1e-6 * (1 + seconds) for files, seconds in samples)
    assert longer >= len(samples) / 2 or cost.base_s == 0
