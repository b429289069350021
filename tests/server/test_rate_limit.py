from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lrs_trio.server.rate_limit import RateLimit


def test_a_crowd_comes_through_and_a_flood_is_slowed_down() -> None:
    pace = RateLimit(per_s=100, at_once=50)
    assert [pace.step(5.0) for _ in range(49)] == [0] * 49
    now = 5.0
    for _ in range(1000):
        now += pace.step(now)
    assert 5 + 9.9 < now < 5 + 10.1


def test_after_a_pause_a_crowd_may_come_again() -> None:
    pace = RateLimit(per_s=100, at_once=50)
    for _ in range(60):
        pace.step(0.0)
    assert pace.step(0.0) > 0
    assert [pace.step(10.0) for _ in range(49)] == [0] * 49


def test_who_is_slower_never_waits() -> None:
    pace = RateLimit(per_s=100, at_once=1)
    assert all(pace.step(number / 100) <= 1 / 100 for number in range(1000))


@given(st.lists(st.floats(0, 0.5), min_size=1, max_size=200))
def test_it_is_never_more_than_the_pace_and_what_may_come_at_once(pauses: list[float]) -> None:
    pace, now = RateLimit(per_s=20, at_once=5), 0.0
    for steps, pause in enumerate(pauses, start=1):
        now += pause
        now += pace.step(now)
        assert steps <= 5 + now * 20 + 1e-6
