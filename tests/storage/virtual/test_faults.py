from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from lrs_trio.storage.virtual.faults import Fault, Faults

ONE, TWO, TAPE = "VD0001", "VD0002", "V00001L8"


def faults(*given: Fault, seed: int = 1) -> Faults:
    return Faults(seed, given, lambda: 0.0)


def firing(faults: Faults, times: int, drive: str = ONE, cartridge: str = TAPE) -> list[int]:
    """Which of so many loads go wrong, from 1."""
    return [n for n in range(1, times + 1) if faults.fires("load", drive=drive, cartridge=cartridge) is not None]


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ({}, [1]),
        ({"at": 3}, [3]),
        ({"at": 3, "count": 2}, [3, 4]),
        ({"count": 3}, [1, 2, 3]),
        ({"rate": 1}, [1, 2, 3, 4, 5, 6]),
        ({"rate": 1, "count": 2}, [1, 2]),
        ({"drive": ONE, "cartridge": TAPE}, [1]),
        ({"drive": TWO}, []),
        ({"cartridge": "V00002L8"}, []),
    ],
)
def test_when_a_fault_strikes(how: dict[str, Any], expected: list[int]) -> None:
    assert firing(faults(Fault(kind="load", **how)), 6) == expected


def test_only_the_operations_that_a_fault_is_about_count() -> None:
    found = faults(Fault(kind="load", drive=TWO, at=2))
    assert firing(found, 5) == []
    assert found.fires("mount", drive=TWO) is None
    assert firing(found, 3, TWO) == [2]


def test_several_faults_count_for_themselves() -> None:
    assert firing(faults(Fault(kind="load", at=2), Fault(kind="load", at=4), Fault(kind="load", at=2)), 5) == [2, 4]


@given(st.integers(), st.lists(st.tuples(st.sampled_from([ONE, TWO]), st.sampled_from(["T1", "T2"])), max_size=60))
def test_a_seed_decides_whatever_the_order(seed: int, operations: list[tuple[str, str]]) -> None:
    fault = Fault(kind="load", rate=0.5)

    def run(order: list[tuple[str, str]]) -> dict[tuple[str, str], list[bool]]:
        found, seen = faults(fault, seed=seed), dict[tuple[str, str], list[bool]]()
        for drive, cartridge in order:
            seen.setdefault((drive, cartridge), []).append(
                found.fires("load", drive=drive, cartridge=cartridge) is not None
            )
        return seen

    assert run(operations) == run(sorted(operations))


def test_a_rate_is_met_and_seeds_differ() -> None:
    runs = [firing(faults(Fault(kind="load", rate=0.1), seed=seed), 2000) for seed in (1, 2)]
    assert runs[0] != runs[1]
    assert all(150 < len(run) < 250 for run in runs)


def test_an_injected_fault_counts_from_then_on() -> None:
    found = faults()
    assert firing(found, 3) == []
    found.inject(Fault(kind="load", at=2))
    assert firing(found, 3) == [2]


def test_a_list_that_changes_keeps_count_of_what_stays() -> None:
    found = faults()
    stays = Fault(kind="load", at=3)
    found.list_anew([Fault(kind="load", at=2), stays])
    assert firing(found, 1) == []
    found.list_anew([stays])
    assert firing(found, 3) == [2]
    found.list_anew([])
    found.list_anew([stays])
    assert firing(found, 3) == [3]


def test_death_by_schedule() -> None:
    time = 100.0
    found = Faults(1, [Fault(kind="drive_death", drive=ONE, after_s=10)], lambda: time)
    assert found.death_at(ONE) == 110
    assert found.death_at(TWO) == math.inf
    time = 105.0
    found.inject(Fault(kind="drive_death", after_s=1))
    assert found.death_at(ONE) == found.death_at(TWO) == 106
    time = 107.0
    found.died(ONE)
    assert found.death_at(ONE) == 110
    time = 110.0
    found.died(ONE)
    assert found.death_at(ONE) == math.inf
    assert found.death_at(TWO) == 106


def test_what_is_to_happen_later_waits_for_time_to_begin() -> None:
    time: float | None = None
    found = Faults(1, [Fault(kind="drive_death", after_s=10)], lambda: time)
    assert found.death_at(ONE) == math.inf
    time = 5.0
    assert found.death_at(ONE) == 15


@pytest.mark.parametrize(
    "how",
    [
        {"kind": "fire"},
        {"kind": "load", "at": 0},
        {"kind": "load", "rate": 0},
        {"kind": "load", "rate": 2},
        {"kind": "load", "at": 1, "rate": 0.5},
        {"kind": "load", "after_s": 1},
        {"kind": "drive_death", "after_s": 1, "at": 1},
        {"kind": "drive_death", "after_s": 1, "cartridge": TAPE},
        {"kind": "load", "drives": ONE},
    ],
)
def test_what_is_no_fault(how: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Fault(**how)
