"""The to-sync set: what waits, since when, and when its sync is due."""

from __future__ import annotations

import errno
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from lrs_trio.devices.to_sync import Cause, SubRequest, SyncGroup, SyncStatus, ToSyncSet
from lrs_trio.model import SyncThresholds

AGE, COUNT, SIZE = 10.0, 3, 1000


def make_set(age: float = AGE, requests: int = COUNT, size: int = SIZE) -> ToSyncSet:
    return ToSyncSet(SyncThresholds(age, requests, size))


def sub(size: int = 0, extents: int = 1) -> SubRequest:
    return SubRequest(size, extents)


@pytest.mark.note("2.4")
def test_an_empty_set_is_never_due() -> None:
    to_sync = make_set()
    assert (to_sync.pending, to_sync.since, to_sync.deadline(), len(to_sync)) == (False, None, inf, 0)
    assert not to_sync.due(1e12)


@pytest.mark.note("2.4", "3.0")
def test_the_oldest_decides_when_the_age_threshold_is_reached() -> None:
    to_sync = make_set()
    to_sync.add(sub(), 5.0)
    to_sync.add(sub(), 14.0)
    assert to_sync.since == 5.0
    assert to_sync.deadline() == 15.0
    assert not to_sync.due(14.999)
    assert to_sync.due(15.0)


@pytest.mark.note("1", "3.0")
def test_a_release_of_nothing_is_synced_as_well() -> None:
    to_sync = make_set()
    to_sync.add(sub(size=0, extents=0), 0.0)
    assert to_sync.pending
    assert to_sync.due(AGE)


@pytest.mark.note("3.1")
def test_the_count_threshold_makes_the_sync_due_at_once() -> None:
    to_sync = make_set()
    for _ in range(COUNT - 1):
        to_sync.add(sub(), 0.0)
    assert not to_sync.due(0.0)
    to_sync.add(sub(), 0.0)
    assert to_sync.due(0.0)


@pytest.mark.note("3.2")
def test_the_size_threshold_makes_the_sync_due_at_once() -> None:
    to_sync = make_set()
    to_sync.add(sub(SIZE - 1), 0.0)
    assert not to_sync.due(0.0)
    to_sync.add(sub(1), 0.0)
    assert to_sync.due(0.0)


@pytest.mark.note("2.4", "3.2")
def test_deletions_count_down_and_take_the_threshold_back() -> None:
    to_sync = make_set()
    to_sync.add(sub(SIZE - 1), 0.0)
    to_sync.add(sub(-500), 0.0)
    assert to_sync.size == SIZE - 501
    assert not to_sync.due(0.0)


def test_at_once_means_at_once() -> None:
    to_sync = make_set()
    to_sync.add(sub(), 3.0, at_once=True)
    assert to_sync.due(3.0)


@pytest.mark.note("3.0", "3.1", "3.2", "4.5")
def test_what_makes_a_sync_due_is_told() -> None:
    to_sync = make_set()
    assert to_sync.cause(1e12) is None
    to_sync.add(sub(), 0.0)
    assert to_sync.cause(AGE - 1) is None
    assert to_sync.cause(AGE) is Cause.TIME
    to_sync.add(sub(SIZE), 0.0)
    assert to_sync.cause(0.0) is Cause.BYTES
    to_sync.add(sub(), 0.0)
    assert to_sync.cause(0.0) is Cause.REQUESTS
    to_sync.add(sub(), 0.0, at_once=True)
    assert to_sync.cause(0.0) is Cause.PARTIAL
    assert to_sync.take(Cause.PARTIAL).cause is Cause.PARTIAL
    assert to_sync.take().cause is None


def test_a_cancelled_hurry_is_over() -> None:
    to_sync = make_set()
    hurried = sub()
    to_sync.add(hurried, 3.0, at_once=True)
    to_sync.discard(hurried, 4.0)
    assert not to_sync.due(4.0)
    to_sync.add(sub(), 5.0)
    assert not to_sync.due(5.0)


@pytest.mark.note("4.4")
def test_what_a_cancelled_one_wrote_stays_to_be_synced() -> None:
    to_sync = make_set()
    cancelled = sub(700)
    to_sync.add(cancelled, 0.0)
    to_sync.discard(cancelled, 2.0)
    assert (len(to_sync), to_sync.size) == (0, 0)
    assert to_sync.pending
    assert to_sync.due(2.0 + AGE)
    assert to_sync.take().waiting == ()


def test_discarding_a_stranger_changes_nothing() -> None:
    to_sync = make_set()
    to_sync.discard(sub(5), 1.0)
    assert not to_sync.pending
    assert to_sync.size == 0


def test_a_dirty_medium_is_due_at_the_age_threshold() -> None:
    to_sync = make_set()
    to_sync.mark_dirty(7.0)
    to_sync.mark_dirty(9.0)
    assert to_sync.since == 7.0
    assert not to_sync.due(16.9)
    assert to_sync.due(17.0)


def test_dirt_that_is_older_than_every_release_decides() -> None:
    to_sync = make_set()
    to_sync.mark_dirty(1.0)
    to_sync.add(sub(), 5.0)
    assert to_sync.deadline() == 1.0 + AGE


@pytest.mark.note("2.5d")
def test_one_sync_takes_everything_that_waits() -> None:
    to_sync = make_set()
    waiting = [sub(1), sub(2), sub(-3)]
    for one in waiting:
        to_sync.add(one, 0.0, at_once=True)
    to_sync.mark_dirty(0.0)
    group = to_sync.take()
    assert list(group.waiting) == waiting
    assert (to_sync.pending, to_sync.size, to_sync.deadline()) == (False, 0, inf)
    to_sync.add(sub(), 1.0)
    assert not to_sync.due(1.0)


@pytest.mark.note("2.1", "2.5d")
def test_a_group_settles_each_one_once() -> None:
    told: list[str] = []
    first, second = (SubRequest(1, 1, on_settled=lambda name=name: told.append(name)) for name in ("a", "b"))  # type: ignore[misc]
    group = SyncGroup((first, second))
    group.settle(None)
    group.settle(OSError(errno.EIO, "late"))
    assert told == ["a", "b"]
    assert (first.status, first.error) == (SyncStatus.DONE, None)


@pytest.mark.note("2.1", "4.4")
def test_a_cancelled_one_is_not_told_how_the_sync_ended() -> None:
    told: list[int] = []
    cancelled = SubRequest(1, 1, on_settled=lambda: told.append(1))
    cancelled.cancel()
    SyncGroup((cancelled,)).settle(None)
    assert cancelled.status is SyncStatus.CANCELLED
    assert told == []


@pytest.mark.note("2.1")
@pytest.mark.parametrize("error", [None, OSError(errno.EIO, "disk")])
def test_what_is_settled_cannot_be_cancelled_any_more(error: OSError | None) -> None:
    settled = sub()
    settled.settle(error)
    settled.cancel()
    assert settled.status is (SyncStatus.DONE if error is None else SyncStatus.ERROR)
    assert settled.error is error


class AgainstAPlainModel(RuleBasedStateMachine):
    """The set against a list of (arrival, sub-request) that is looked through each time."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 100.0
        self.to_sync = make_set()
        self.waiting: list[tuple[float, SubRequest]] = []
        self.hurry = False
        self.dirty: float | None = None
        self.gone: list[SubRequest] = []

    @rule(seconds=st.floats(0, 30))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(size=st.integers(-2 * SIZE, 2 * SIZE), extents=st.integers(-5, 5), at_once=st.booleans())
    def add(self, size: int, extents: int, at_once: bool) -> None:
        added = sub(size, extents)
        self.to_sync.add(added, self.now, at_once=at_once)
        self.waiting.append((self.now, added))
        self.hurry = self.hurry or at_once

    @rule()
    def mark_dirty(self) -> None:
        self.to_sync.mark_dirty(self.now)
        self.dirty = self.now if self.dirty is None else self.dirty

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def discard(self, data: st.DataObject) -> None:
        entry = data.draw(st.sampled_from(self.waiting))
        self.to_sync.discard(entry[1], self.now)
        self.waiting.remove(entry)
        self.gone.append(entry[1])
        self.hurry = self.hurry and bool(self.waiting)
        self.dirty = self.now if self.dirty is None else self.dirty

    @precondition(lambda self: self.gone)
    @rule(data=st.data())
    def discard_again(self, data: st.DataObject) -> None:
        self.to_sync.discard(data.draw(st.sampled_from(self.gone)), self.now)

    @rule()
    def take(self) -> None:
        group = self.to_sync.take()
        assert list(group.waiting) == [waiting for _, waiting in self.waiting]
        self.gone += group.waiting
        self.waiting, self.hurry, self.dirty = [], False, None

    @invariant()
    def counts_what_waits(self) -> None:
        assert len(self.to_sync) == len(self.waiting)
        assert self.to_sync.size == sum(waiting.size for _, waiting in self.waiting)
        assert self.to_sync.extents == sum(waiting.extents for _, waiting in self.waiting)
        assert all(waiting in self.to_sync for _, waiting in self.waiting)
        assert not any(gone in self.to_sync for gone in self.gone)

    @invariant()
    def due_when_a_threshold_is_reached(self) -> None:
        arrivals = [arrival for arrival, _ in self.waiting] + ([] if self.dirty is None else [self.dirty])
        assert self.to_sync.pending == bool(arrivals)
        assert self.to_sync.since == min(arrivals, default=None)
        reached = (
            self.hurry
            or len(self.waiting) >= COUNT
            or sum(waiting.size for _, waiting in self.waiting) >= SIZE
            or (bool(arrivals) and self.now >= min(arrivals) + AGE)
        )
        assert self.to_sync.due(self.now) == reached
        if not reached and arrivals:
            assert self.to_sync.deadline() == min(arrivals) + AGE


TestAgainstAPlainModel = pytest.mark.note("2.4", "3.0", "3.1", "3.2", "4.5")(AgainstAPlainModel.TestCase)


@given(st.lists(st.floats(0, 5), min_size=1, max_size=20))
def test_the_deadline_only_comes_nearer_while_releases_arrive(pauses: list[float]) -> None:
    to_sync = make_set(requests=100)
    now, deadline = 0.0, inf
    for pause in pauses:
        now += pause
        to_sync.add(sub(), now)
        assert to_sync.deadline() <= deadline
        deadline = to_sync.deadline()
