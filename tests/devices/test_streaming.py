"""When a drive has streamed long enough for a sync."""

from __future__ import annotations

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrs_trio.devices.streaming import Streaming


def streaming(cost: float | None = 7.0, share: float = 0.9) -> Streaming:
    return Streaming(share, lambda files: None if cost is None else cost + files)


def test_the_sync_that_tells_what_one_costs_need_not_be_earned() -> None:
    assert streaming(None).deadline(1) == -inf


def test_a_sync_is_earned_when_io_has_gone_on_for_its_share() -> None:
    drive = streaming()
    assert drive.deadline(0) == inf
    drive.io(True, 100.0)
    assert drive.deadline(0) == pytest.approx(163.0)
    drive.io(False, 130.0)
    assert drive.deadline(0) == inf
    drive.io(True, 1000.0)
    assert drive.deadline(0) == pytest.approx(1033.0)
    drive.io(False, 1040.0)
    assert drive.deadline(0) == -inf


def test_more_files_need_more_streaming() -> None:
    drive = streaming()
    drive.io(True, 0.0)
    assert drive.deadline(1) == pytest.approx(72.0)


def test_io_of_several_clients_at_once_counts_once() -> None:
    drive = streaming()
    drive.io(True, 0.0)
    drive.io(True, 40.0)
    drive.io(False, 50.0)
    drive.io(False, 60.0)
    drive.io(True, 100.0)
    assert drive.deadline(0) == pytest.approx(113.0)


def test_a_sync_spends_what_was_earned() -> None:
    drive = streaming()
    drive.io(True, 0.0)
    drive.begin_sync(50.0)
    assert drive.deadline(0) == pytest.approx(113.0)
    drive.io(False, 60.0)
    drive.begin_sync(60.0)
    drive.io(True, 100.0)
    assert drive.deadline(0) == pytest.approx(163.0)


@given(
    share=st.floats(0.01, 0.99),
    cost=st.floats(0.1, 1000),
    files=st.lists(st.tuples(st.floats(0.1, 500), st.floats(0, 100)), min_size=1, max_size=50),
)
def test_law_the_group_is_the_smallest_that_keeps_the_share(
    share: float, cost: float, files: list[tuple[float, float]]
) -> None:
    """Whatever comes: a sync that is earned keeps the share, and one file less would not have."""
    drive = Streaming(share, lambda _: cost)
    now = io_s = before = 0.0
    for seconds, pause in files:
        drive.io(True, now)
        now += seconds
        before, io_s = io_s, io_s + seconds
        drive.io(False, now)
        now += pause
        if now >= drive.deadline(1):
            assert io_s / (io_s + cost) >= share - 1e-6
            assert before / (before + cost) < share + 1e-6
            drive.begin_sync(now)
            io_s = 0.0
