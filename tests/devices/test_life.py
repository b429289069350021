"""The life of a device: what may follow what, and that its times add up."""

from __future__ import annotations

from itertools import product
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrs_trio.devices.life import DeviceStatus, Life

ENDS = {DeviceStatus.FAILED, DeviceStatus.QUARANTINED, DeviceStatus.STOPPED}

ALLOWED = {
    DeviceStatus.WAITING: "adopting",
    DeviceStatus.ADOPTING: "waiting empty loaded mounted",
    DeviceStatus.EMPTY: "loading adopting",
    DeviceStatus.LOADING: "loaded empty adopting",
    DeviceStatus.LOADED: "mounting mounted unloading formatting adopting",
    DeviceStatus.MOUNTING: "mounted loaded",
    DeviceStatus.MOUNTED: "unmounting loaded",
    DeviceStatus.UNMOUNTING: "loaded mounted",
    DeviceStatus.UNLOADING: "empty loaded adopting",
    DeviceStatus.FORMATTING: "loaded",
}


def following(status: DeviceStatus) -> set[DeviceStatus]:
    """What may come after `status`: any end after whatever is none, and nothing after an end."""
    if status in ENDS:
        return set()
    return {DeviceStatus(value) for value in ALLOWED[status].split()} | ENDS


@pytest.mark.parametrize("before", DeviceStatus)
def test_only_what_may_follow_does(before: DeviceStatus) -> None:
    for after in set(DeviceStatus) - {before}:
        life = Life(1.0, before)
        if after in following(before):
            assert life.enter(after, 3.0)
            assert (life.status, life.since) == (after, 3.0)
        else:
            with pytest.raises(RuntimeError, match=f"{before.value} cannot become {after.value}"):
                life.enter(after, 3.0)
            assert (life.status, life.since, life.seconds(4.0)) == (before, 1.0, {before: 3.0})


@pytest.mark.parametrize("status", DeviceStatus)
def test_entering_what_it_is_already_changes_nothing(status: DeviceStatus) -> None:
    life = Life(1.0, status)
    assert not life.enter(status, 3.0)
    assert life.since == 1.0


def test_a_device_is_adopted_first_and_what_never_was_is_left_out() -> None:
    life = Life(10.0)
    assert life.seconds(10.0) == {DeviceStatus.ADOPTING: 0.0}
    life.enter(DeviceStatus.EMPTY, 12.0)
    life.enter(DeviceStatus.LOADING, 12.0)
    assert life.seconds(15.5) == {DeviceStatus.ADOPTING: 2.0, DeviceStatus.EMPTY: 0.0, DeviceStatus.LOADING: 3.5}


def test_time_in_a_status_that_comes_again_is_added() -> None:
    life = Life(0.0, DeviceStatus.LOADED)
    for status, now in ((DeviceStatus.MOUNTING, 5.0), (DeviceStatus.LOADED, 7.0), (DeviceStatus.MOUNTING, 8.0)):
        life.enter(status, now)
    assert life.seconds(9.0) == {DeviceStatus.LOADED: 6.0, DeviceStatus.MOUNTING: 3.0}
    # Looking changes nothing.
    assert life.seconds(9.0) == life.seconds(9.0)


@given(st.randoms(use_true_random=False), st.lists(st.integers(0, 2**20), min_size=1, max_size=30))
def test_law_the_times_add_up_to_the_whole_life(random: Random, pauses: list[int]) -> None:
    # In eighths of a second, so that adding them is exact.
    begin = now = random.randrange(2**20) / 8
    life = Life(begin)
    spent = dict.fromkeys(DeviceStatus, 0.0)
    for pause in pauses:
        now += pause / 8
        spent[life.status] += pause / 8
        choices = sorted(following(life.status) - ENDS, key=lambda status: status.value)
        if choices:
            life.enter(random.choice(choices), now)
    seconds = life.seconds(now)
    assert sum(seconds.values()) == now - begin
    assert all(seconds.get(status, 0.0) == spent[status] for status in DeviceStatus)


def test_everything_can_come_about_and_every_device_can_end() -> None:
    reached = {DeviceStatus.ADOPTING}
    for _ in DeviceStatus:
        for before, after in product(tuple(reached), DeviceStatus):
            if after in following(before) and Life(0.0, before).enter(after, 0.0):
                reached.add(after)
    assert reached == set(DeviceStatus)
    assert all(Life(0.0, status).enter(end, 0.0) for status in set(DeviceStatus) - ENDS for end in ENDS)
