"""The bookkeeper: which releases share a transaction, and what becomes of those that are open at the end."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from random import Random
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from lrs_trio.dss.group_commit import GroupCommit
from lrs_trio.dss.operations import Blocked, Operation, Outcome, UpdateMedia
from lrs_trio.model import Lock, LockOwner, LockType, RequestKind, ResourceId
from lrs_trio.scheduling.bookkeeper import Bookkeeper
from lrs_trio.scheduling.release import ReleaseRequest
from lrs_trio.wire.messages import Failed, Release
from tests.fakes.dss import FakeDss
from tests.fakes.house import FakeClient, House, back, house_of, released
from tests.fakes.site import device_id, family_settings, medium_id

A, B = "/srv/a", "/srv/b"
WRITE = RequestKind.RELEASE_WRITE


async def writing(house: House) -> tuple[FakeClient, str]:
    client = house.connect()
    client.write(100)
    (granted,) = await client.granted()
    return client, granted.medium.name


def begun(house: House, client: FakeClient, path: str) -> ReleaseRequest:
    """A release that nobody sees to yet."""
    release = ReleaseRequest(client.client, 7, Release((back(path, 10),), WRITE), house.site.events)
    assert release.begin(house.family.is_attached, lambda medium: False)
    return release


async def test_what_is_synced_during_a_transaction_shares_the_next_one(autojump_clock: MockClock) -> None:
    async with house_of(A, B, settings=family_settings(requests=1, max_concurrent_io=4)) as house:
        writers = [await writing(house) for _ in range(5)]
        house.site.dss.delay = lambda: 10.0
        for client, path in writers:
            await trio.sleep(1)
            client.release(back(path, 10))
        for client, path in writers:
            assert await client.answer(2) == released(path)
        times = [at for at, operation in house.site.dss.committed if isinstance(operation, UpdateMedia)]
        assert len(times) == 5
        assert len(set(times)) == 2


class BlockingHome:
    """Somebody else holds a lock on the medium that is `blocked`."""

    def __init__(self, dss: FakeDss, blocked: ResourceId) -> None:
        self.blocked: ResourceId | None = blocked
        self._dss = dss
        self._lock = Lock(LockType.MEDIA_UPDATE, "some medium", LockOwner("elsewhere", 1), 0.0)

    async def commit(self, batch: Sequence[Operation[Any]]) -> list[Outcome]:
        await trio.lowlevel.checkpoint()
        return [self._outcome(operation) for operation in batch]

    def _outcome(self, operation: Operation[Any]) -> Outcome:
        if isinstance(operation, UpdateMedia) and self.blocked in [update.id for update in operation.updates]:
            return Blocked(self._lock)
        return self._dss._execute(operation)


async def test_a_lock_of_somebody_else_holds_up_nobody_but_who_needs_it(autojump_clock: MockClock) -> None:
    async with house_of(A, B, settings=family_settings(requests=1, max_concurrent_io=1)) as house:
        (first, a), (second, b) = await writing(house), await writing(house)
        home = BlockingHome(house.site.dss, medium_id(a))
        group = GroupCommit(home, random=Random(1))
        bookkeeper = Bookkeeper(group)
        async with trio.open_nursery() as own:
            await own.start(group.run)
            await own.start(bookkeeper.run)
            for client, path in ((first, a), (second, b)):
                bookkeeper.accept(begun(house, client, path))
            with trio.fail_after(1):
                assert await second.answer(2) == released(b)
            assert house.family.devices[device_id(b)].state.unsettled == 0
            await trio.sleep(3600)
            assert len(first.bodies) == 1
            home.blocked = None
            assert await first.answer(2) == released(a)
            own.cancel_scope.cancel()


async def test_it_ends_when_the_last_release_is_answered(autojump_clock: MockClock) -> None:
    async with house_of(A, settings=family_settings(age_ms=5000, adaptive=False)) as house:
        client, path = await writing(house)
        bookkeeper = Bookkeeper(house.site.dss)
        async with trio.open_nursery() as own:
            await own.start(bookkeeper.run)
            bookkeeper.accept(begun(house, client, path))
            bookkeeper.close()
            await wait_all_tasks_blocked()
            assert len(bookkeeper) == 1
            own.cancel_scope.deadline = trio.current_time() + 10
        assert not own.cancel_scope.cancelled_caught
        assert await client.answer(2) == released(path)


async def test_a_release_that_has_failed_already_ends_at_once(autojump_clock: MockClock) -> None:
    async with house_of(A) as house:
        first, path = await writing(house)
        second, _ = await writing(house)
        house.site.disks[device_id(A)].fail("sync", errno.EIO)
        first.release(back(path, 10))
        assert await first.answer(2) == Failed(-errno.EIO, WRITE)
        house.bookkeeper.accept(begun(house, second, path))
        assert len(house.bookkeeper) == 0
        assert await second.answer(2) == Failed(-errno.EIO, WRITE)


async def test_a_forced_end_answers_those_that_wait_for_a_sync_and_those_that_wait_for_their_books(
    autojump_clock: MockClock,
) -> None:
    async with house_of(A, B, settings=family_settings(age_ms=5000, adaptive=False)) as house:
        bookkeeper = Bookkeeper(house.site.dss)
        (unsynced, one), (synced, other) = await writing(house), await writing(house)
        house.site.dss.go_away()
        async with trio.open_nursery() as own:
            await own.start(bookkeeper.run)
            bookkeeper.accept(begun(house, synced, other))
            await trio.sleep(6)
            bookkeeper.accept(begun(house, unsynced, one))
            await wait_all_tasks_blocked()
            own.cancel_scope.cancel()
        assert len(bookkeeper) == 0
        for client in synced, unsynced:
            assert await client.answer(2) == Failed(-errno.ESHUTDOWN, WRITE)
        house.site.dss.come_back()


@pytest.mark.note("11")
async def test_what_comes_after_a_forced_end_is_answered_at_once(autojump_clock: MockClock) -> None:
    async with house_of(A, settings=family_settings(age_ms=5000, adaptive=False)) as house:
        client, path = await writing(house)
        bookkeeper = Bookkeeper(house.site.dss)
        async with trio.open_nursery() as own:
            await own.start(bookkeeper.run)
            own.cancel_scope.cancel()
        bookkeeper.accept(begun(house, client, path))
        assert len(bookkeeper) == 0
        assert await client.answer(2) == Failed(-errno.ESHUTDOWN, WRITE)
