from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrs_trio.events import EventKind
from lrs_trio.observe.timeline import FAULTS, MICROSECONDS
from lrs_trio.observe.words import clock, duration, errno_name, fault_of, listed, time_scale

SECOND = MICROSECONDS


@pytest.mark.parametrize(
    ("time", "said"),
    [
        (0, "0 ms"),
        (1234, "1.23 ms"),
        (999_400, "999 ms"),
        (1_234_567, "1.23 s"),
        (59_940_000, "59.9 s"),
        (59_960_000, "1 min"),
        (200 * SECOND, "3 min 20 s"),
        (3600 * SECOND, "1 h"),
        (7500 * SECOND, "2 h 5 min"),
        (100 * 3600 * SECOND, "100 h"),
    ],
)
def test_durations_are_short(time: int, said: str) -> None:
    assert duration(time) == said


@pytest.mark.parametrize(
    ("time", "said"), [(0, "0:00.00"), (7_254_999, "0:07.25"), (59_999_000, "1:00.00"), (3_661 * SECOND, "1:01:01.00")]
)
def test_clock(time: int, said: str) -> None:
    assert clock(time) == said


@pytest.mark.parametrize(
    ("end", "unit", "marks"),
    [
        (0, "seconds", ["0.000"]),
        (SECOND, "seconds", ["0.00", "0.10", "0.20"]),
        (90 * SECOND, "seconds", ["0", "10", "20"]),
        (600 * SECOND, "min:s", ["0:00", "1:00", "2:00"]),
        (7200 * SECOND, "h:min", ["0:00", "0:15", "0:30"]),
        (10 * 86400 * SECOND, "h:min", ["0:00", "24:00", "48:00"]),
    ],
)
def test_scales_have_round_marks(end: int, unit: str, marks: list[str]) -> None:
    scale = time_scale(0, end)
    assert scale.unit == unit
    assert list(scale.marks.values())[:3] == marks


@given(st.integers(0, 10**14), st.integers(0, 10**14))
def test_a_scale_fits_its_time(begin: int, length: int) -> None:
    scale = time_scale(begin, begin + length)
    assert len(scale.marks) <= 12
    assert len(scale.fine) <= 80
    assert not set(scale.marks) & set(scale.fine)
    times = [*scale.marks, *scale.fine]
    assert all(begin <= time <= begin + length for time in times)
    if length > 100_000:
        assert scale.fine
        written = [*scale.marks.values(), *scale.fine.values()]
        assert len(set(written)) == len(written)


def test_errors_and_counts() -> None:
    assert [errno_name(number) for number in (0, 28, 12345)] == ["", "ENOSPC", "12345"]
    assert listed({"EIO": 1, "ENOSPC": 3000}) == "3,000 ENOSPC, 1 EIO"


def test_faults_say_what_failed() -> None:
    assert sorted(fault_of(kind, "tape") for kind in FAULTS) == [
        "format failed",
        "load failed",
        "mount failed",
        "sync failed",
        "tape drive taken out of service",
        "unload failed",
        "unmount failed",
    ]
    assert fault_of(EventKind.DEVICE_FAILED, "dir") == "directory taken out of service"
