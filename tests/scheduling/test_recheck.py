"""Media that somebody else changes: noticed before a grant, at one look-up for many grants. In virtual time."""

from __future__ import annotations

import errno
from dataclasses import replace
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from lrs_trio.dss.operations import Operation, ReadChangedMedia, ReadMedium, ReadNamedMedia
from lrs_trio.errors import LrsError
from lrs_trio.model import AdmStatus, FsStatus, Lock, LockOwner, LockType, NotifyOperation, RequestKind, lock_id
from lrs_trio.scheduling.recheck import READ_AGAIN_S, located_for
from lrs_trio.wire.messages import Failed, Notified, ReadGranted, WriteGranted
from tests.fakes.house import EPOCH, FakeClient, House, back, house_of
from tests.fakes.report import reported_devices
from tests.fakes.site import DAEMON, HOST, Site, device_id, family_settings, medium_id

A, B, C = "/srv/a", "/srv/b", "/srv/c"
ONE = family_settings(max_concurrent_io=1)
ELSEWHERE = LockOwner("store2", 99)
KEY = LockType.MEDIA, lock_id(medium_id(A))


def change(house: House, path: str, **columns: Any) -> None:
    """What an administrator does in SQL."""
    house.site.dss.media[medium_id(path)] = replace(house.site.medium(path), **columns)


def count(house: House, kind: type[Operation[Any]]) -> int:
    return sum(isinstance(operation, kind) for _, operation in house.site.dss.committed)


def looks(house: House) -> int:
    """How often any row was asked for."""
    return sum(count(house, kind) for kind in (ReadMedium, ReadNamedMedia, ReadChangedMedia))


async def written(client: FakeClient, id: int = 1) -> list[str]:
    """Where a write goes; it is released at once."""
    asked = len(client.responses)
    client.write(1, id=id)
    body = await client.answer(asked + 1)
    assert isinstance(body, WriteGranted), body
    client.release(*[back(granted.medium, 1, to_sync=False) for granted in body.media], id=id)
    return [granted.medium.name for granted in body.media]


async def refusal(client: FakeClient, **read: Any) -> int:
    asked = len(client.responses)
    client.read(A, **read)
    body = await client.answer(asked + 1)
    assert isinstance(body, Failed), body
    return -body.rc


def reason(house: House, path: str) -> Any:
    devices = reported_devices(house.family)
    return next(device["reason"] for device in devices if device["path"] == path)


# When it looks.


async def test_what_is_known_is_asked_for_once_in_the_time_allowed(autojump_clock: MockClock) -> None:
    async with house_of(A, recheck_s=2.0) as house:
        client = house.connect()
        before = looks(house)
        for _ in range(9):
            await written(client)
            await trio.sleep(0.5)
        assert looks(house) == before + 3


async def test_an_idle_family_never_looks(autojump_clock: MockClock) -> None:
    async with house_of(A, B, recheck_s=0.0) as house:
        await written(house.connect())
        await trio.sleep(1)
        before = len(house.site.dss.committed)
        await trio.sleep(10_000)
        assert len(house.site.dss.committed) == before


async def test_without_any_allowance_it_looks_before_each_placement(autojump_clock: MockClock) -> None:
    async with house_of(A, B, recheck_s=0.0) as house:
        client = house.connect()
        for put in (True, False, True):
            change(house, A, put=put)
            before = looks(house)
            assert await written(client) == ([A] if put else [B])
            assert looks(house) > before


async def test_those_who_come_during_a_look_wait_for_it_and_cause_no_second(autojump_clock: MockClock) -> None:
    async with house_of(A, recheck_s=0.0) as house:
        await written(house.connect())
        house.site.dss.delay = lambda: 10.0
        before = count(house, ReadChangedMedia)
        clients = [house.connect() for _ in range(5)]
        begun = trio.current_time()
        for client in clients:
            client.write(1)
            await trio.sleep(1)
        for client in clients:
            await client.granted()
        assert trio.current_time() == begun + 10
        assert count(house, ReadChangedMedia) == before + 1


async def test_a_family_without_media_asks_for_nothing(autojump_clock: MockClock) -> None:
    async with house_of(recheck_s=0.0) as house:
        client = house.connect()
        client.write(1)
        assert await client.answer(1) == Failed(-errno.ENOSPC, RequestKind.WRITE)
        assert looks(house) == 0


async def test_while_the_dss_is_away_nothing_is_granted_on_old_knowledge(autojump_clock: MockClock) -> None:
    async with house_of(A) as house:
        client, gone = house.connect(), house.connect()
        house.site.dss.go_away()
        client.write(1)
        gone.write(1)
        await trio.sleep(1000)
        assert client.responses == []
        gone.leave()
        house.site.dss.come_back()
        await client.granted()
        assert gone.responses == []


async def test_a_drain_refuses_those_who_wait_for_a_look(autojump_clock: MockClock) -> None:
    async with house_of(A) as house:
        client = house.connect()
        house.site.dss.go_away()
        client.write(1, id=7)
        await trio.sleep(1)
        house.drain()
        assert await client.answer(1) == Failed(-errno.ESHUTDOWN, RequestKind.WRITE)
        house.site.dss.come_back()


async def test_a_look_that_the_dss_refuses_keeps_nobody_waiting(autojump_clock: MockClock) -> None:
    async with house_of(A) as house:
        client = house.connect()
        await written(client)
        await trio.sleep(2)
        house.site.dss.refusals[ReadChangedMedia] = LrsError(errno.EINVAL, "no")
        assert await written(client) == [A]


# What it notices.


@pytest.mark.parametrize(
    "columns", [{"put": False}, {"adm_status": AdmStatus.LOCKED}, {"fs_status": FsStatus.FULL}, {"tags": ()}]
)
async def test_a_change_that_nobody_has_told_of_is_noticed_before_a_write(
    columns: dict[str, Any], autojump_clock: MockClock
) -> None:
    site = Site()
    site.add(A, tags=("t",))
    async with house_of(site=site) as house:
        client = house.connect()
        await written(client)
        change(house, A, **columns)
        await trio.sleep(2)
        client.write(1)
        if columns == {"tags": ()}:
            await client.granted(2)
            assert house.family.devices[device_id(A)].medium == site.medium(A)
        else:
            assert await client.answer(2) == Failed(-errno.ENOSPC, RequestKind.WRITE)


@pytest.mark.parametrize("recheck_s", [0.0, 1.0, 1e9])
async def test_a_refusal_rests_on_no_old_knowledge_either(autojump_clock: MockClock, recheck_s: float) -> None:
    """What an import has made usable, nobody tells."""
    site = Site()
    site.add(A, fs_status=FsStatus.IMPORTING, medium_status=AdmStatus.LOCKED)
    async with house_of(site=site, recheck_s=recheck_s) as house:
        client = house.connect()
        client.read(A, id=1)
        assert isinstance(await client.answer_to(1), ReadGranted)
        before = looks(house)
        client.write(1, id=2)
        assert await client.answer_to(2) == Failed(-errno.ENOSPC, RequestKind.WRITE)
        assert looks(house) == before + 1
        change(house, A, fs_status=FsStatus.USED, adm_status=AdmStatus.UNLOCKED)
        assert await written(client, 3) == [A]


async def test_those_who_are_to_be_refused_share_a_look_as_well(autojump_clock: MockClock) -> None:
    async with house_of(A) as house:
        client = house.connect()
        await written(client)
        house.site.dss.delay = lambda: 10.0
        before = looks(house)
        for number in range(100):
            client.write(1, 1, id=number)
        await client.answer(101)
        # They have all come at the same moment.
        assert looks(house) == before + 1


async def test_who_was_promised_a_changed_medium_is_decided_anew(autojump_clock: MockClock) -> None:
    async with house_of(A, B, recheck_s=0.0) as house:
        promised, other = house.connect(pause=None), house.connect()
        promised.write(1)
        await house.settle()
        device = house.family.devices[device_id(A)]
        assert device.state.planned == 1
        change(house, A, put=False)
        assert await written(other) == [B]
        (response,) = promised.outbox.flush()
        assert isinstance(response.body, WriteGranted)
        assert [granted.medium.name for granted in response.body.media] == [B]


async def test_news_of_one_medium_leaves_promises_on_the_others_alone(autojump_clock: MockClock) -> None:
    async with house_of(A, B, recheck_s=0.0) as house:
        promised, other = house.connect(pause=None), house.connect()
        promised.read(B)
        await house.settle()
        (grant,) = house.family.devices[device_id(B)].state.grants
        change(house, A, put=False)
        await written(other)
        assert grant in house.family.devices[device_id(B)].state.grants


async def test_books_of_our_own_are_no_news(autojump_clock: MockClock) -> None:
    async with house_of(A, B, recheck_s=0.0) as house:
        writer, promised, other = house.connect(), house.connect(pause=None), house.connect()
        writer.write(1)
        await writer.granted()
        promised.read(A)
        await house.settle()
        writer.release(back(A, 1))
        await writer.answer(2)
        (grant,) = house.family.devices[device_id(A)].state.grants
        other.read(B)
        await other.granted()
        assert grant in house.family.devices[device_id(A)].state.grants


async def test_a_deleted_medium_is_granted_to_nobody_until_it_is_back(autojump_clock: MockClock) -> None:
    async with house_of(A, B) as house:
        client, admin = house.connect(), house.connect()
        assert await written(client) == [A]
        medium = house.site.dss.media.pop(medium_id(A))
        await trio.sleep(READ_AGAIN_S)
        assert await written(client) == [B]
        assert await refusal(client) == errno.ENXIO
        assert "deleted from the DSS" in reason(house, A)
        house.site.dss.media[medium.id] = medium
        admin.notify(NotifyOperation.MEDIA_UPDATE, A)
        assert await admin.answer(1) == Notified(medium_id(A))
        client.read(A, id=5)
        assert isinstance(await client.answer_to(5), ReadGranted)
        assert reason(house, A) == ""


async def test_a_row_that_cannot_be_read_withholds_its_medium_only(autojump_clock: MockClock) -> None:
    async with house_of(A) as house:
        client = house.connect()
        await written(client)
        house.site.dss.refusals[ReadMedium] = LrsError(errno.EINVAL, "malformed")
        await trio.sleep(READ_AGAIN_S)
        assert await refusal(client) == errno.EINVAL
        house.site.dss.refusals.clear()
        await trio.sleep(READ_AGAIN_S)
        assert await written(client) == [A]


async def test_news_that_the_medium_is_gone_reach_who_asked(autojump_clock: MockClock) -> None:
    async with house_of(A, B) as house:
        client, admin = house.connect(), house.connect()
        await written(client)
        del house.site.dss.media[medium_id(A)]
        admin.notify(NotifyOperation.MEDIA_UPDATE, A)
        assert await admin.answer(1) == Failed(-errno.ENXIO, RequestKind.NOTIFY)
        assert await written(client) == [B]


async def test_a_release_that_finds_its_medium_deleted_withholds_it(autojump_clock: MockClock) -> None:
    async with house_of(A, B) as house:
        client = house.connect()
        client.write(1)
        await client.granted()
        del house.site.dss.media[medium_id(A)]
        client.release(back(A, 1))
        assert await client.answer(2) == Failed(-errno.ENOENT, RequestKind.RELEASE_WRITE)
        assert await written(client) == [B]


# Locks.


@pytest.mark.parametrize("weak", [False, True])
async def test_a_medium_that_another_host_has_locked_is_read_nowhere_and_written_elsewhere(
    weak: bool, autojump_clock: MockClock
) -> None:
    async with house_of(A, B) as house:
        client = house.connect()
        assert await written(client) == [A]
        house.site.dss.add_lock(*KEY_OF_A, ELSEWHERE, is_weak=weak)
        await trio.sleep(2)
        assert await refusal(client) == errno.EALREADY
        assert await written(client) == [B]
        assert "store2" in reason(house, A)
        client.read(A, B, required=1, id=4)
        assert isinstance(await client.answer_to(4), ReadGranted)
        del house.site.dss.locks[KEY]
        await trio.sleep(2)
        client.read(A, id=5)
        assert isinstance(await client.answer_to(5), ReadGranted)
        assert house.site.dss.locks[KEY].owner == DAEMON


KEY_OF_A = LockType.MEDIA, medium_id(A)


@pytest.mark.parametrize("left", [None, Lock(*KEY, LockOwner(HOST, 1), 0.0, is_weak=True)])
async def test_a_lock_that_was_cleaned_is_taken_again_and_the_request_is_granted(
    left: Lock | None, autojump_clock: MockClock
) -> None:
    async with house_of(A, recheck_s=0.0) as house:
        client = house.connect()
        await written(client)
        house.site.dss.locks.clear()
        if left is not None:
            house.site.dss.locks[KEY] = left
        assert await written(client) == [A]
        assert {lock.owner for lock in house.site.dss.locks.values()} == {DAEMON}
        assert len(house.site.dss.locks) == 2


async def test_a_format_of_what_another_host_has_locked_is_busy(autojump_clock: MockClock) -> None:
    site = Site()
    site.add(A, fs_status=FsStatus.BLANK)
    site.add(B, fs_status=FsStatus.BLANK, device_status=AdmStatus.LOCKED)
    async with house_of(site=site) as house:
        client = house.connect()
        for path in (A, B):
            site.dss.add_lock(LockType.MEDIA, medium_id(path), ELSEWHERE)
        client.format(A, id=1)
        client.format(B, id=2)
        for id in (1, 2):
            assert await client.answer_to(id) == Failed(-errno.EBUSY, RequestKind.FORMAT)


# Locates.

LOCATING = family_settings(locate_expiry_ms=60_000)


def locate(house: House, path: str, ago: float = 0.0) -> None:
    """What ``phobos locate`` does to a lock."""
    key = LockType.MEDIA, lock_id(medium_id(path))
    last = EPOCH + trio.current_time() - ago
    house.site.dss.locks[key] = replace(house.site.dss.locks[key], last_locate=last)


@pytest.mark.parametrize(
    ("last_locate", "expiry", "expected"),
    [(None, 60.0, 0.0), (1000.0, 60.0, 50.0), (940.0, 60.0, -10.0), (1010.0, 0.5, 0.5), (1011.0, 0.0, 0.0)],
)
def test_how_long_a_locate_counts(last_locate: float | None, expiry: float, expected: float) -> None:
    lock = Lock(*KEY, DAEMON, 0.0, last_locate=last_locate)
    assert located_for(lock, expiry, 1010.0) == expected
    assert located_for(None, expiry, 1010.0) == 0.0


async def test_a_located_medium_is_read_and_not_written_until_the_locate_has_expired(
    autojump_clock: MockClock,
) -> None:
    async with house_of(A, B, settings=LOCATING) as house:
        client, reader = house.connect(), house.connect()
        assert await written(client) == [A]
        locate(house, A)
        assert await written(client) == [B]
        reader.read(A)
        await reader.granted()
        await trio.sleep(61)
        assert await written(client) == [B]  # a reader is busy there
        reader.leave()
        assert await written(client) == [A]


async def test_a_write_that_waits_for_a_located_medium_gets_it_at_the_very_moment(autojump_clock: MockClock) -> None:
    async with house_of(A, settings=LOCATING) as house:
        client, reader = house.connect(), house.connect()
        locate(house, A)
        begun = trio.current_time()
        client.write(1)
        await trio.sleep(30)
        reader.read(A)
        await trio.sleep(1)
        before = looks(house)
        await trio.sleep(28)
        assert (len(reader.responses), looks(house)) == (1, before)
        await client.granted()
        assert trio.current_time() == pytest.approx(begun + 60)


async def test_a_locate_that_is_renewed_while_a_write_waits_counts_from_then(autojump_clock: MockClock) -> None:
    async with house_of(A, settings=LOCATING) as house:
        client = house.connect()
        locate(house, A)
        begun = trio.current_time()
        client.write(1)
        await trio.sleep(50)
        locate(house, A)
        await client.granted()
        assert trio.current_time() == pytest.approx(begun + 110)


async def test_nobody_wakes_up_for_a_locate_when_no_write_waits(autojump_clock: MockClock) -> None:
    async with house_of(A, settings=LOCATING) as house:
        client = house.connect()
        locate(house, A)
        client.write(1)
        await trio.sleep(1)
        client.leave()
        await trio.sleep(1)
        before = len(house.site.dss.committed)
        await trio.sleep(1000)
        assert len(house.site.dss.committed) == before


async def test_reads_do_not_ask_for_locates(autojump_clock: MockClock) -> None:
    async with house_of(A, settings=LOCATING) as house:
        client = house.connect()
        client.read(A, id=0)
        await client.granted()
        before = looks(house)
        for number in range(1, 6):
            client.read(A, id=number)
            await client.answer(number + 1)
        assert looks(house) == before
        await written(client)
        assert looks(house) == before + 1


async def test_locates_do_not_matter_unless_they_are_given_time(autojump_clock: MockClock) -> None:
    async with house_of(A, recheck_s=0.0) as house:
        locate(house, A)
        assert await written(house.connect()) == [A]


async def test_a_weak_lock_that_a_locate_has_left_for_this_host_is_taken_over_and_counts(
    autojump_clock: MockClock,
) -> None:
    site = Site()
    site.add(A)
    site.dss.add_lock(*KEY_OF_A, LockOwner(HOST, 1), is_weak=True, last_locate=EPOCH)
    async with house_of(site=site, settings=LOCATING) as house:
        client, reader = house.connect(), house.connect()
        client.write(1)
        reader.read(A)
        await reader.granted()
        assert (site.dss.locks[KEY].owner, site.dss.locks[KEY].is_weak) == (DAEMON, False)
        await client.granted()
        assert trio.current_time() == pytest.approx(60)


async def test_a_new_expiry_takes_effect_at_once(autojump_clock: MockClock) -> None:
    async with house_of(A, settings=LOCATING) as house:
        client = house.connect()
        locate(house, A)
        client.write(1)
        await trio.sleep(5)
        house.family.change_settings(family_settings(locate_expiry_ms=10_000))
        await client.granted()
        assert trio.current_time() == pytest.approx(10)
