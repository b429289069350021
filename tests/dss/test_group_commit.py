"""Group commit: what makes a batch, who may still leave, and what happens while the DSS is away."""

from __future__ import annotations

import errno
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any

import pytest
import trio
from structlog.testing import capture_logs
from trio.testing import MockClock, wait_all_tasks_blocked

from lrs_trio.dss.group_commit import LONGEST_PAUSE_S, GroupCommit
from lrs_trio.dss.home import ThreadedHome
from lrs_trio.dss.operations import MediumUpdate, Operation, Outcome, ReadMedia, ReadMedium, UpdateMedia
from lrs_trio.dss.sqlite import SqliteHome
from lrs_trio.errors import DssUnavailableError, LrsError

from .samples import directory, medium_id

COMMIT_S = 1.0


class FakeHome:
    """Takes a second of the virtual clock for each batch and remembers them."""

    def __init__(self) -> None:
        self.batches: list[list[Operation[Any]]] = []
        self.attempts: list[float] = []
        self.away = False
        self.bug: Exception | None = None
        self.refuse: Callable[[Operation[Any]], bool] = lambda operation: False

    async def commit(self, batch: Sequence[Operation[Any]]) -> list[Outcome]:
        self.attempts.append(trio.current_time())
        await trio.sleep(COMMIT_S)
        if self.bug is not None:
            raise self.bug
        if self.away:
            raise DssUnavailableError("gone fishing")
        self.batches.append(list(batch))
        return [
            LrsError(errno.EEXIST, f"no {operation}") if self.refuse(operation) else f"done {operation}"
            for operation in batch
        ]


def op(name: str) -> ReadMedium:
    return ReadMedium(medium_id(name))


@pytest.fixture
def fake() -> FakeHome:
    return FakeHome()


@pytest.fixture
async def group(fake: FakeHome, nursery: trio.Nursery) -> GroupCommit:
    group = GroupCommit(fake, random=Random(1), largest_batch=10)
    await nursery.start(group.run)
    return group


async def execute_all(group: GroupCommit, operations: Sequence[Operation[Any]]) -> None:
    async with trio.open_nursery() as nursery:
        for operation in operations:
            nursery.start_soon(group.execute, operation)


# Batches


async def test_a_lone_operation_waits_for_nobody(group: GroupCommit, fake: FakeHome, autojump_clock: MockClock) -> None:
    start = trio.current_time()
    assert await group.execute(op("a")) == f"done {op('a')}"  # type: ignore[comparison-overlap]
    assert trio.current_time() - start == COMMIT_S
    assert fake.batches == [[op("a")]]


async def test_what_waits_at_the_same_moment_is_one_transaction(
    group: GroupCommit, fake: FakeHome, autojump_clock: MockClock
) -> None:
    operations = [op(str(number)) for number in range(8)]
    await execute_all(group, operations)
    (batch,) = fake.batches
    assert set(batch) == set(operations)
    assert (group.transactions, group.operations, group.largest_seen) == (1, 8, 8)


async def test_while_a_batch_is_under_way_the_next_gathers_up_to_its_bound(
    group: GroupCommit, fake: FakeHome, autojump_clock: MockClock
) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(group.execute, op("first"))
        await wait_all_tasks_blocked()
        for number in range(25):
            nursery.start_soon(group.execute, op(str(number)))
    assert [len(batch) for batch in fake.batches] == [1, 10, 10, 5]
    assert (group.transactions, group.operations, group.largest_seen) == (4, 26, 10)


async def test_operations_are_committed_in_the_order_of_arrival(
    group: GroupCommit, fake: FakeHome, autojump_clock: MockClock
) -> None:
    operations = [op(str(number)) for number in range(25)]
    async with trio.open_nursery() as nursery:
        for operation in operations:
            nursery.start_soon(group.execute, operation)
            await wait_all_tasks_blocked()
    assert [operation for batch in fake.batches for operation in batch] == operations


async def test_a_refused_operation_is_an_error_to_its_own_waiter_only(
    group: GroupCommit, fake: FakeHome, autojump_clock: MockClock
) -> None:
    fake.refuse = lambda operation: operation == op("b")
    results = []

    async def execute(name: str) -> None:
        try:
            results.append((name, str(await group.execute(op(name)))))
        except LrsError as error:
            results.append((name, str(error.errno)))

    async with trio.open_nursery() as nursery:
        for name in "abc":
            nursery.start_soon(execute, name)

    assert sorted(results) == [("a", f"done {op('a')}"), ("b", str(errno.EEXIST)), ("c", f"done {op('c')}")]
    assert len(fake.batches) == 1


async def test_an_idle_writer_never_wakes(group: GroupCommit, autojump_clock: MockClock) -> None:
    await group.execute(op("a"))
    await wait_all_tasks_blocked()
    assert trio.lowlevel.current_statistics().seconds_to_next_deadline == float("inf")


# Cancelled waiters


async def test_a_waiter_cancelled_before_its_batch_is_withdrawn(
    group: GroupCommit, fake: FakeHome, autojump_clock: MockClock
) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(group.execute, op("under way"))
        await wait_all_tasks_blocked()
        nursery.start_soon(group.execute, op("stays"))
        with trio.move_on_after(COMMIT_S / 2) as scope:
            await group.execute(op("leaves"))
        assert scope.cancelled_caught
    assert fake.batches == [[op("under way")], [op("stays")]]


async def test_a_waiter_cancelled_at_once_leaves_nothing(
    group: GroupCommit, fake: FakeHome, autojump_clock: MockClock
) -> None:
    with trio.CancelScope() as scope:
        scope.cancel()
        await group.execute(op("a"))
    await group.execute(op("b"))
    assert fake.batches == [[op("b")]]


async def test_a_waiter_cancelled_during_the_commit_leaves_it_whole(
    group: GroupCommit, fake: FakeHome, autojump_clock: MockClock
) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(group.execute, op("first"))
        await wait_all_tasks_blocked()
        nursery.start_soon(group.execute, op("stays"))
        with trio.move_on_after(1.5 * COMMIT_S) as scope:
            await group.execute(op("leaves"))
        assert scope.cancelled_caught
    first, second = fake.batches
    assert first == [op("first")]
    assert set(second) == {op("stays"), op("leaves")}


async def test_a_waiter_cancelled_during_an_attempt_that_fails_is_withdrawn(
    group: GroupCommit, fake: FakeHome, autojump_clock: MockClock
) -> None:
    fake.away = True
    async with trio.open_nursery() as nursery:
        nursery.start_soon(group.execute, op("stays"))
        await wait_all_tasks_blocked()
        with trio.move_on_after(1.5 * COMMIT_S):
            await group.execute(op("leaves"))
        assert len(fake.attempts) == 2
        await trio.sleep(COMMIT_S)
        fake.away = False
    assert fake.batches == [[op("stays")]]


# Unavailability


async def test_while_the_dss_is_away_operations_wait_and_then_all_are_done(
    group: GroupCommit, fake: FakeHome, autojump_clock: MockClock
) -> None:
    assert group.unavailable_since is None
    fake.away = True
    answered = []

    async def execute(name: str) -> None:
        await group.execute(op(name))
        answered.append(name)

    with capture_logs() as lines:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(execute, "a")
            await trio.sleep(100)
            nursery.start_soon(execute, "b")
            await trio.sleep(100)
            assert group.unavailable_since == fake.attempts[0] + COMMIT_S
            assert answered == []
            fake.away = False

    assert sorted(answered) == ["a", "b"]
    assert fake.batches == [[op("a"), op("b")]]
    assert group.unavailable_since is None
    assert group.transactions == 1
    assert [line["log_level"] for line in lines] == ["warning", "info"]
    assert "gone fishing" in lines[0]["error"]


async def test_attempts_grow_apart_up_to_the_longest_pause(
    group: GroupCommit, fake: FakeHome, autojump_clock: MockClock
) -> None:
    fake.away = True
    with trio.move_on_after(600):
        await group.execute(op("a"))
    ends = [start + COMMIT_S for start in fake.attempts]
    pauses = [later - earlier for earlier, later in zip(ends[:-1], fake.attempts[1:], strict=True)]
    assert all(0 < pause <= LONGEST_PAUSE_S for pause in pauses)
    assert max(pauses[:3]) < min(pauses[8:])
    assert min(pauses[8:]) >= LONGEST_PAUSE_S / 2
    assert len(set(pauses[8:])) > 1


async def test_nobody_left_to_ask_for_ends_the_attempts(
    group: GroupCommit, fake: FakeHome, autojump_clock: MockClock
) -> None:
    fake.away = True
    with trio.move_on_after(10):
        await group.execute(op("a"))
    await trio.sleep(LONGEST_PAUSE_S + COMMIT_S)
    attempts = len(fake.attempts)
    await trio.sleep(1000)
    assert len(fake.attempts) == attempts

    fake.away = False
    await group.execute(op("b"))
    assert fake.batches == [[op("b")]]
    assert group.unavailable_since is None


# The end


async def refusal(group: GroupCommit, name: str, refusals: list[LrsError]) -> None:
    try:
        await group.execute(op(name))
    except LrsError as error:
        refusals.append(error)


async def test_who_waits_when_the_writer_is_cancelled_gets_an_error(fake: FakeHome, autojump_clock: MockClock) -> None:
    group = GroupCommit(fake, random=Random(1))
    refusals: list[LrsError] = []
    async with trio.open_nursery() as waiters:
        async with trio.open_nursery() as writer:
            await writer.start(group.run)
            waiters.start_soon(refusal, group, "under way", refusals)
            await wait_all_tasks_blocked()
            waiters.start_soon(refusal, group, "waiting", refusals)
            await wait_all_tasks_blocked()
            writer.cancel_scope.cancel()
        await refusal(group, "late", refusals)

    assert [error.errno for error in refusals] == [errno.ESHUTDOWN] * 3
    fates = {
        name: str(error) for error in refusals for name in ("under way", "waiting", "late") if f"'{name}'" in str(error)
    }
    assert "next start" in fates["under way"]
    assert "not done" in fates["waiting"]
    assert "not done" in fates["late"]


async def test_a_closed_writer_finishes_what_it_took(fake: FakeHome, autojump_clock: MockClock) -> None:
    group = GroupCommit(fake, random=Random(1))
    refusals: list[LrsError] = []
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            await nursery.start(group.run)
            nursery.start_soon(group.execute, op("first"))
            await wait_all_tasks_blocked()
            nursery.start_soon(group.execute, op("second"))
            await wait_all_tasks_blocked()
            group.close()
            await refusal(group, "late", refusals)

    assert fake.batches == [[op("first")], [op("second")]]
    assert [error.errno for error in refusals] == [errno.ESHUTDOWN]


async def test_an_idle_writer_that_is_closed_returns(fake: FakeHome, autojump_clock: MockClock) -> None:
    group = GroupCommit(fake, random=Random(1))
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            await nursery.start(group.run)
            await wait_all_tasks_blocked()
            group.close()


async def test_a_bug_ends_the_writer_and_leaves_nobody_waiting(fake: FakeHome, autojump_clock: MockClock) -> None:
    group = GroupCommit(fake, random=Random(1))
    fake.bug = ZeroDivisionError("a bug")
    refusals: list[LrsError] = []
    async with trio.open_nursery() as waiters:
        waiters.start_soon(refusal, group, "a", refusals)
        with pytest.RaisesGroup(ZeroDivisionError):
            async with trio.open_nursery() as writer:
                await writer.start(group.run)
    assert [error.errno for error in refusals] == [errno.ESHUTDOWN]


# Over the real home, on the real clock


@pytest.fixture
async def real(tmp_path: Path, nursery: trio.Nursery) -> AsyncIterator[GroupCommit]:
    with SqliteHome.open(tmp_path / "dss.sqlite") as home:
        home.commit([directory(f"/srv/{number}") for number in range(4)])
        group = GroupCommit(ThreadedHome(home), random=Random(1))
        await nursery.start(group.run)
        yield group


def add_one(number: int) -> UpdateMedia:
    return UpdateMedia((MediumUpdate(medium_id(f"/srv/{number}"), add_objects=1),))


@pytest.mark.note("2.5d")
async def test_many_tasks_share_transactions_and_every_update_counts_once(real: GroupCommit) -> None:
    async def release(number: int) -> None:
        for _ in range(20):
            await real.execute(add_one(number % 4))

    async with trio.open_nursery() as nursery:
        for number in range(32):
            nursery.start_soon(release, number)

    assert [row.medium.stats.nb_obj for row in await real.execute(ReadMedia())] == [160] * 4
    assert real.operations == 32 * 20 + 1
    assert real.transactions < real.operations
    assert real.largest_seen > 1


async def test_the_waiters_of_a_real_commit_may_be_cancelled_at_any_time(real: GroupCommit) -> None:
    random = Random(7)
    acknowledged = 0

    async def release() -> None:
        nonlocal acknowledged
        with trio.move_on_after(random.uniform(0, 0.01)):
            await real.execute(add_one(0))
            acknowledged += 1

    for _ in range(20):
        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(release)

    row = await real.execute(ReadMedium(medium_id("/srv/0")))
    assert row is not None
    assert acknowledged <= row.medium.stats.nb_obj <= 200
