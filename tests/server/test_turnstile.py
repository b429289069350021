"""Connections that are flooded take turns with each other, and with nobody else."""

from __future__ import annotations

from collections.abc import AsyncIterator
from itertools import pairwise

import pytest
import trio
from trio.testing import MockClock

from lrs_trio.server.turnstile import (
    COMPANY_S,
    FREE_BYTES,
    FREE_FRAMES,
    LONGEST_S,
    PASSED_OVER,
    PAUSE,
    TURN_FRAMES,
    TURN_S,
    TURNS_BETWEEN,
    Share,
    Turnstile,
)


def taken(share: Share) -> int:
    """How many requests may be handled now."""
    count = 0
    while share.take(100):
        count += 1
    return count


async def test_few_requests_that_arrive_together_are_handled_at_once(mock_clock: MockClock) -> None:
    share = Share(Turnstile())
    for _ in range(3):
        share.begin()
        assert taken(share) == FREE_FRAMES


async def test_more_of_them_have_to_pass_again_and_again(mock_clock: MockClock) -> None:
    share = Share(Turnstile())
    share.begin()
    taken(share)
    for _ in range(3):
        await share.renew()
        # The one that it waited with comes on top.
        assert taken(share) == TURN_FRAMES - 1


async def test_requests_that_take_long_use_up_their_share_sooner(mock_clock: MockClock) -> None:
    share = Share(Turnstile())
    await share.renew()
    mock_clock.jump(TURN_S / 2)
    assert share.take(100)
    mock_clock.jump(TURN_S / 2)
    assert not share.take(100)


async def renewal_s(share: Share, clock: MockClock, spent: float) -> float:
    """How long `share` waits for the next one, after one that has taken so many seconds."""
    await share.renew()
    clock.jump(spent)
    assert not share.take(100)
    begins = trio.current_time()
    await share.renew()
    return trio.current_time() - begins


async def test_the_loop_is_left_to_others_for_longer_than_it_was_taken_up(autojump_clock: MockClock) -> None:
    turnstile = Turnstile()
    flooded, other = Share(turnstile), Share(turnstile)
    await flooded.renew()
    other.begin()
    assert await renewal_s(flooded, autojump_clock, 0.02) == pytest.approx(PAUSE * 0.02)


async def test_large_requests_are_not_free_and_are_paid_for_when_the_next_ones_come(autojump_clock: MockClock) -> None:
    turnstile = Turnstile()
    flooded, other = Share(turnstile), Share(turnstile)
    for number in range(3):
        flooded.begin()
        other.begin()
        assert not flooded.take(FREE_BYTES + 1)
        begins = trio.current_time()
        await flooded.renew()
        assert trio.current_time() - begins == pytest.approx(PAUSE * 0.04 if number else 0)
        autojump_clock.jump(0.04)
        flooded.end()


async def test_who_came_long_ago_is_no_company(autojump_clock: MockClock) -> None:
    turnstile = Turnstile()
    flooded, other = Share(turnstile), Share(turnstile)
    other.begin()
    await trio.sleep(5)
    assert await renewal_s(flooded, autojump_clock, 0.02) == 0


async def test_who_is_alone_has_the_loop(autojump_clock: MockClock) -> None:
    turnstile = Turnstile()
    flooded, other = Share(turnstile), Share(turnstile)
    await flooded.renew()
    other.begin()
    await flooded.renew()
    await trio.sleep(COMPANY_S)
    for _ in range(3):
        flooded.begin()
        assert await renewal_s(flooded, autojump_clock, 0.02) == 0


async def test_others_who_have_much_to_do_are_no_company(autojump_clock: MockClock) -> None:
    turnstile = Turnstile()
    flooded, other = Share(turnstile), Share(turnstile)
    await flooded.renew()
    await trio.sleep(COMPANY_S)
    for _ in range(3):
        other.begin()
        await other.renew()
        assert await renewal_s(flooded, autojump_clock, 0.02) == 0


async def test_nobody_pays_for_what_was_not_its_share(autojump_clock: MockClock) -> None:
    turnstile = Turnstile()
    flooded, other = Share(turnstile), Share(turnstile)
    await flooded.renew()
    await trio.sleep(5)
    flooded.resume()
    assert taken(flooded) == FREE_FRAMES
    other.begin()
    begins = trio.current_time()
    await flooded.renew()
    assert trio.current_time() == begins


class Turns(trio.abc.Instrument):
    """Counts turns of the event loop."""

    def __init__(self) -> None:
        self.count = 0

    def before_io_wait(self, timeout: float) -> None:
        self.count += 1


@pytest.fixture
async def turns() -> AsyncIterator[Turns]:
    counted = Turns()
    trio.lowlevel.add_instrument(counted)
    yield counted
    trio.lowlevel.remove_instrument(counted)


async def test_one_passes_after_the_other_in_the_order_of_their_coming_and_others_have_turns_between(
    mock_clock: MockClock, turns: Turns
) -> None:
    turnstile = Turnstile()
    passed: list[tuple[int, int]] = []

    async def flooded(number: int) -> None:
        for _ in range(10):
            await turnstile.wait_passed()
            passed.append((number, turns.count))

    async with trio.open_nursery() as nursery:
        for number in range(3):
            nursery.start_soon(flooded, number)
    who, when = zip(*passed, strict=True)
    assert all(later - earlier > TURNS_BETWEEN for earlier, later in pairwise(when))
    assert all({*who[start : start + 3]} == {0, 1, 2} for start in range(0, 30, 3))


async def test_one_that_is_alone_waits_for_no_more_turns_than_these(mock_clock: MockClock, turns: Turns) -> None:
    turnstile, before = Turnstile(), turns.count
    for _ in range(100):
        await turnstile.wait_passed()
    assert turns.count - before <= 100 * (1 + TURNS_BETWEEN) + 1


async def test_who_gives_up_waiting_holds_up_nobody(autojump_clock: MockClock) -> None:
    turnstile = Turnstile()
    async with trio.open_nursery() as nursery:
        with trio.CancelScope() as scope:
            nursery.start_soon(turnstile.wait_passed)
            scope.cancel()
            await turnstile.wait_passed()
            pytest.fail("it did not give up")
    with trio.fail_after(1):
        await turnstile.wait_passed()


async def test_what_nobody_needs_any_more_costs_next_to_nothing() -> None:
    share = Share(Turnstile())
    assert [share.pass_over() for _ in range(3 * PASSED_OVER)].count(False) == 3


async def test_a_process_that_stood_still_does_not_hold_up_everybody_for_longer(mock_clock: MockClock) -> None:
    stood_still = 1000 * LONGEST_S
    turnstile = Turnstile()
    flooded, other = Share(turnstile), Share(turnstile)
    await flooded.renew()
    other.begin()
    mock_clock.jump(stood_still)
    mock_clock.autojump_threshold = 0
    before = trio.current_time()
    await flooded.renew()
    assert trio.current_time() - before == pytest.approx(PAUSE * LONGEST_S)
