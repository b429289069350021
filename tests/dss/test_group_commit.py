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

from lrs_trio.dss.group_commit import FIRST_PAUSE_S, LONGEST_PAUSE_S, LONGEST_WAIT_S, Blockade, GroupCommit
from lrs_trio.dss.home import ThreadedHome
from lrs_trio.dss.operations import Blocked, MediumUpdate, Operation, Outcome, ReadMedia, ReadMedium, UpdateMedia
from lrs_trio.dss.sqlite import SqliteHome
from lrs_trio.errors import CommitInDoubtError, DssUnavailableError, LrsError
from lrs_trio.model import FsStatus, Lock, LockOwner, LockType

from .samples import COMMAND, ELSEWHERE, directory, medium_id

COMMIT_S = 1.0


class FakeHome:
    """Takes a second of the virtual clock for each batch and remembers them."""

    def __init__(self) -> None:
        self.batches: list[list[Operation[Any]]] = []
        self.attempts: list[float] = []
        self.away = False
        self.bug: Exception | None = None
        self.refuse: Callable[[Operation[Any]], bool] = lambda operation: False
        self.holders: dict[Operation[Any], Lock] = {}
        """Who keeps which operation from being done."""
        self.in_doubt = 0
        """How many of the next commits are not answered, though they are done or not done as `committed` says."""
        self.committed = False
        self.looked: list[float] = []
        """When somebody asked for the fate of such a commit, which takes a second too, and fails while away."""

    async def commit(self, batch: Sequence[Operation[Any]]) -> list[Outcome]:
        self.attempts.append(trio.current_time())
        await trio.sleep(COMMIT_S)
        if self.bug is not None:
            raise self.bug
        if self.away:
            raise DssUnavailableError("gone fishing")
        outcomes = [self._outcome(operation) for operation in batch]
        if self.in_doubt:
            self.in_doubt -= 1
            await self._leave_in_doubt(batch, outcomes)
        self.batches.append(list(batch))
        return outcomes

    def _outcome(self, operation: Operation[Any]) -> Outcome:
        if operation in self.holders:
            return Blocked(self.holders[operation])
        return LrsError(errno.EEXIST, f"no {operation}") if self.refuse(operation) else f"done {operation}"

    async def _leave_in_doubt(self, batch: Sequence[Operation[Any]], outcomes: list[Outcome]) -> None:
        committed = self.committed
        if committed:
            self.batches.append(list(batch))

        async def resolve() -> list[Outcome] | None:
            self.looked.append(trio.current_time())
            await trio.sleep(COMMIT_S)
            if self.away:
                raise DssUnavailableError("still fishing")
            return outcomes if committed else None

        raise CommitInDoubtError("cut off", resolve)


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


# Locks of others


def held(name: str, owner: LockOwner = ELSEWHERE) -> Lock:
    return Lock(LockType.MEDIA_UPDATE, f"{name}_legacy", owner, 0.0)


async def test_what_a_lock_blocks_waits_while_others_go_on(
    group: GroupCommit, fake: FakeHome, autojump_clock: MockClock
) -> None:
    fake.holders[op("a")] = held("a")
    answered: list[tuple[str, float]] = []

    async def execute(name: str) -> None:
        await group.execute(op(name))
        answered.append((name, trio.current_time()))

    start = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(execute, "a")
        nursery.start_soon(execute, "b")
        await trio.sleep(20)
        assert answered == [("b", start + COMMIT_S)]
        nursery.start_soon(execute, "c")
        await trio.sleep(20)
        assert [name for name, _ in answered] == ["b", "c"]
        assert (group.operations, group.unavailable_since) == (2, None)
        fake.holders.clear()
    assert [name for name, _ in answered] == ["b", "c", "a"]
    assert group.operations == 3
    assert not group.blockades


async def test_what_was_blocked_does_not_undo_what_has_overtaken_it(
    group: GroupCommit, fake: FakeHome, autojump_clock: MockClock
) -> None:
    def found(name: str, free: int) -> MediumUpdate:
        return MediumUpdate(medium_id(name), add_objects=1, phys_spc_used=100 - free, phys_spc_free=free)

    older = UpdateMedia((found("a", 90), found("b", 50)))
    fake.holders[older] = held("a")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(group.execute, older)
        await trio.sleep(COMMIT_S / 2)
        await group.execute(UpdateMedia((found("b", 20),)))
        fake.holders.clear()
    last = fake.batches[-1]
    # What counts is still counted, and what is known of the other medium is still news.
    assert last == [UpdateMedia((found("a", 90), MediumUpdate(medium_id("b"), add_objects=1)))]


@pytest.mark.parametrize("format", [False, True])
async def test_a_status_that_was_found_out_is_old_news_too_and_one_that_was_made_is_not(
    group: GroupCommit, fake: FakeHome, autojump_clock: MockClock, format: bool
) -> None:
    status = FsStatus.EMPTY if format else FsStatus.USED
    objects = 0 if format else None
    older = MediumUpdate(medium_id("a"), set_objects=objects, fs_status=status, mark_full=True, phys_spc_free=0)
    fake.holders[UpdateMedia((older,))] = held("a")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(group.execute, UpdateMedia((older,)))
        await trio.sleep(COMMIT_S / 2)
        await group.execute(UpdateMedia((MediumUpdate(medium_id("a"), phys_spc_free=7),)))
        fake.holders.clear()
    left = MediumUpdate(medium_id("a"), set_objects=objects, fs_status=status if format else None)
    assert fake.batches[-1] == [UpdateMedia((left,))]


async def test_what_was_refused_has_overtaken_nothing(
    group: GroupCommit, fake: FakeHome, autojump_clock: MockClock
) -> None:
    older = UpdateMedia((MediumUpdate(medium_id("a"), phys_spc_free=5),))
    later = UpdateMedia((MediumUpdate(medium_id("a"), phys_spc_free=7),))
    fake.holders[older] = held("a")
    fake.refuse = lambda operation: operation == later
    async with trio.open_nursery() as nursery:
        nursery.start_soon(group.execute, older)
        await trio.sleep(COMMIT_S / 2)
        with pytest.raises(LrsError):
            await group.execute(later)
        fake.holders.clear()
    assert fake.batches[-1] == [older]


async def test_attempts_at_what_is_blocked_grow_apart_up_to_the_longest_wait(
    group: GroupCommit, fake: FakeHome, autojump_clock: MockClock
) -> None:
    fake.holders[op("a")] = held("a")
    with trio.move_on_after(200):
        await group.execute(op("a"))
    ends = [start + COMMIT_S for start in fake.attempts]
    waits = [later - earlier for earlier, later in zip(ends[:-1], fake.attempts[1:], strict=True)]
    assert all(0 < wait <= LONGEST_WAIT_S for wait in waits)
    assert max(waits[:3]) < min(waits[10:])
    assert min(waits[10:]) >= LONGEST_WAIT_S / 2
    assert len(set(waits[10:])) > 1


async def test_blockades_tell_whose_lock_and_since_when(
    group: GroupCommit, fake: FakeHome, autojump_clock: MockClock
) -> None:
    first, second = held("a"), held("b")
    fake.holders |= {op("a"): first, op("a again"): first, op("b"): second}
    assert not group.blockades
    start = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(group.execute, op("b"))
        await trio.sleep(10)
        nursery.start_soon(group.execute, op("a"))
        await trio.sleep(10)
        nursery.start_soon(group.execute, op("a again"))
        await trio.sleep(10)

        (on_a, on_b) = group.blockades
        assert on_b == Blockade(second, start + COMMIT_S, 1)
        assert (on_a.lock, on_a.waiting) == (first, 2)
        assert start + 10 < on_a.since < start + 13

        # Another holder is another wait.
        fake.holders[op("b")] = third = held("b", COMMAND)
        await trio.sleep(10)
        on_b = group.blockades[1]
        assert (on_b.lock, on_b.waiting) == (third, 1)
        assert start + 30 < on_b.since < start + 33
        nursery.cancel_scope.cancel()
    await trio.sleep(3)
    assert not group.blockades


async def test_a_blocked_waiter_that_is_cancelled_is_withdrawn(
    group: GroupCommit, fake: FakeHome, autojump_clock: MockClock
) -> None:
    fake.holders[op("a")] = held("a")
    with trio.move_on_after(10):
        await group.execute(op("a"))
    await trio.sleep(3)
    attempts = len(fake.attempts)
    fake.holders.clear()
    await trio.sleep(100)
    assert len(fake.attempts) == attempts
    assert await group.execute(op("b")) == f"done {op('b')}"  # type: ignore[comparison-overlap]
    assert fake.batches[-1] == [op("b")]


async def test_a_closed_writer_waits_for_what_is_blocked(fake: FakeHome, autojump_clock: MockClock) -> None:
    group = GroupCommit(fake, random=Random(1))
    fake.holders[op("a")] = held("a")
    answered: list[object] = []

    async def execute() -> None:
        answered.append(await group.execute(op("a")))

    async with trio.open_nursery() as nursery:
        await nursery.start(group.run)
        nursery.start_soon(execute)
        await trio.sleep(10)
        group.close()
        await trio.sleep(10)
        assert answered == []
        fake.holders.clear()
    assert answered == [f"done {op('a')}"]


# Commits in doubt


async def test_a_commit_in_doubt_that_was_done_answers_and_is_not_done_again(
    group: GroupCommit, fake: FakeHome, autojump_clock: MockClock
) -> None:
    fake.in_doubt, fake.committed = 1, True
    fake.refuse = lambda operation: operation == op("refused")
    answers: list[object] = []

    async def execute(name: str) -> None:
        try:
            answers.append(await group.execute(op(name)))
        except LrsError as error:
            answers.append(error.errno)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(execute, "a")
        nursery.start_soon(execute, "refused")
    assert set(answers) == {f"done {op('a')}", errno.EEXIST}
    assert len(fake.attempts) == len(fake.batches) == len(fake.looked) == 1
    assert (group.transactions, group.operations, group.unavailable_since) == (1, 2, None)


async def test_a_commit_in_doubt_that_was_not_done_is_done_again(
    group: GroupCommit, fake: FakeHome, autojump_clock: MockClock
) -> None:
    fake.in_doubt = 1
    assert await group.execute(op("a")) == f"done {op('a')}"  # type: ignore[comparison-overlap]
    assert fake.batches == [[op("a")]]
    assert (len(fake.attempts), len(fake.looked)) == (2, 1)
    assert (group.transactions, group.unavailable_since) == (1, None)


async def test_what_is_never_committed_is_tried_with_pauses(
    group: GroupCommit, fake: FakeHome, autojump_clock: MockClock
) -> None:
    fake.in_doubt = 1000
    with trio.move_on_after(60):
        await group.execute(op("a"))
    # An attempt and a look at its fate take a second each.
    pauses = [later - earlier - 2 * COMMIT_S for earlier, later in zip(fake.attempts, fake.attempts[1:], strict=False)]
    assert len(pauses) > 10
    assert all(FIRST_PAUSE_S / 2 <= round(pause, 9) <= FIRST_PAUSE_S for pause in pauses)


async def test_while_a_fate_is_unknown_nothing_else_is_committed(
    group: GroupCommit, fake: FakeHome, autojump_clock: MockClock
) -> None:
    fake.in_doubt, fake.committed = 1, True
    answered = []

    async def execute(name: str) -> None:
        await group.execute(op(name))
        answered.append(name)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(execute, "a")
        await trio.sleep(1.5 * COMMIT_S)
        fake.away = True
        nursery.start_soon(execute, "b")
        await trio.sleep(100)
        assert (answered, len(fake.attempts)) == ([], 1)
        assert group.unavailable_since == fake.attempts[0] + COMMIT_S
        looks = [later - earlier - COMMIT_S for earlier, later in zip(fake.looked, fake.looked[1:], strict=False)]
        assert max(looks[:3]) < min(looks[8:]) <= max(looks) <= LONGEST_PAUSE_S
        assert len(set(looks)) == len(looks)
        fake.away = False
    assert answered == ["a", "b"]
    assert fake.batches == [[op("a")], [op("b")]]
    assert group.unavailable_since is None


@pytest.mark.parametrize("committed", [True, False])
async def test_a_waiter_cancelled_while_in_doubt_is_withdrawn_or_its_answer_dropped(
    group: GroupCommit, fake: FakeHome, autojump_clock: MockClock, committed: bool
) -> None:
    fake.in_doubt, fake.committed = 1, committed

    async def leave() -> None:
        with trio.move_on_after(1.5 * COMMIT_S) as scope:
            await group.execute(op("leaves"))
        assert scope.cancelled_caught

    async with trio.open_nursery() as nursery:
        nursery.start_soon(group.execute, op("stays"))
        nursery.start_soon(leave)
    if committed:
        (batch,) = fake.batches
        assert set(batch) == {op("stays"), op("leaves")}
    else:
        assert fake.batches == [[op("stays")]]


async def test_who_waits_for_a_fate_when_the_writer_is_cancelled_is_told_that_it_is_not_known(
    fake: FakeHome, autojump_clock: MockClock
) -> None:
    group = GroupCommit(fake, random=Random(1))
    fake.in_doubt, fake.committed = 1, True
    refusals: list[LrsError] = []
    async with trio.open_nursery() as waiters, trio.open_nursery() as writer:
        await writer.start(group.run)
        waiters.start_soon(refusal, group, "in doubt", refusals)
        await trio.sleep(1.5 * COMMIT_S)
        writer.cancel_scope.cancel()
    (error,) = refusals
    assert error.errno == errno.ESHUTDOWN
    assert "next start" in str(error)


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


# Several at once


async def test_each_of_several_operations_has_an_outcome_of_its_own(
    group: GroupCommit, fake: FakeHome, autojump_clock: MockClock
) -> None:
    fake.refuse = lambda operation: operation == op("b")
    good, refused = await group.execute_all([op("a"), op("b")])
    assert good == f"done {op('a')}"  # type: ignore[comparison-overlap]
    assert isinstance(refused, LrsError)
    assert refused.errno == errno.EEXIST
    assert fake.batches == [[op("a"), op("b")]]


async def test_none_at_all_are_done_at_once(group: GroupCommit, fake: FakeHome, autojump_clock: MockClock) -> None:
    assert await group.execute_all([]) == []
    assert fake.attempts == []


async def test_more_than_a_batch_are_done_when_the_last_is(
    group: GroupCommit, fake: FakeHome, autojump_clock: MockClock
) -> None:
    operations = [op(str(number)) for number in range(25)]
    outcomes = await group.execute_all(operations)
    assert list(map(str, outcomes)) == [f"done {operation}" for operation in operations]
    assert [len(batch) for batch in fake.batches] == [10, 10, 5]


async def test_those_of_a_cancelled_caller_that_are_not_under_way_are_withdrawn(
    group: GroupCommit, fake: FakeHome, autojump_clock: MockClock
) -> None:
    operations = [op(str(number)) for number in range(25)]
    with trio.move_on_after(1.5 * COMMIT_S) as scope:
        await group.execute_all(operations)
    assert scope.cancelled_caught
    assert group.waiting == 10
    await group.execute(op("later"))
    assert [len(batch) for batch in fake.batches] == [10, 10, 1]


async def test_a_closed_writer_refuses_each_of_several(fake: FakeHome, autojump_clock: MockClock) -> None:
    group = GroupCommit(fake, random=Random(1))
    group.close()
    outcomes = await group.execute_all([op("a"), op("b")])
    assert [outcome.errno for outcome in outcomes if isinstance(outcome, LrsError)] == [errno.ESHUTDOWN] * 2
