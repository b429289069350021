"""A release from its arrival to its answer, over device tasks and a DSS in virtual time."""

from __future__ import annotations

import errno

import pytest
import trio
from trio.testing import MockClock

from lrs_trio.devices.device import DeviceTask
from lrs_trio.dss.operations import UpdateMedia
from lrs_trio.events import EventKind
from lrs_trio.model import AdmStatus, FsStatus, MediumStats, ReadOperation, RequestKind
from lrs_trio.wire.messages import Failed, WriteGranted
from tests.fakes.house import FakeClient, House, back, house_of, released
from tests.fakes.site import Site, device_id, family_settings, medium_id

A, B, C = "/srv/a", "/srv/b", "/srv/c"
RELEASE = RequestKind.RELEASE_WRITE


def device(house: House, path: str) -> DeviceTask:
    return house.family.devices[device_id(path)]


def stats(house: House, path: str) -> tuple[int, int]:
    kept = house.site.medium(path).stats
    return kept.nb_obj, kept.logc_spc_used


async def writing(house: House, count: int = 1, size: int = 100) -> tuple[FakeClient, list[str]]:
    """A client that has been granted `count` media, in the order of the grant."""
    client = house.connect()
    client.write(*[size] * count)
    return client, [granted.medium.name for granted in await client.granted()]


async def quiet(house: House) -> None:
    """Long after every sync that could be due."""
    await trio.sleep(100)


# Answered or not (note 1).


@pytest.mark.note("1")
async def test_a_release_without_to_sync_is_never_answered(autojump_clock: MockClock) -> None:
    async with house_of(A) as house:
        client, _ = await writing(house)
        assert not client.release(back(A, 10, to_sync=False))
        await quiet(house)
        assert len(client.responses) == 1
        assert device(house, A).state.grants == set()
        assert not [event for event in house.site.seen if event.kind is EventKind.RELEASE_BEGUN]  # it would never end


@pytest.mark.note("1")
@pytest.mark.parametrize(
    "element", [back(A, to_sync=False), back("/nowhere", to_sync=False), back(A, rc=-5, to_sync=False)]
)
async def test_not_even_an_error_is_answered_without_to_sync(autojump_clock: MockClock, element: object) -> None:
    async with house_of(A) as house:
        client = house.connect()
        client.release(element)  # type: ignore[arg-type]
        await quiet(house)
        assert client.responses == []


@pytest.mark.note("1", "2.5d", "2.5e")
async def test_a_release_is_answered_once_after_its_sync_and_its_books(autojump_clock: MockClock) -> None:
    async with house_of(A, settings=family_settings(age_ms=5000)) as house:
        client, _ = await writing(house)
        begun = trio.current_time()
        house.site.dss.delay = lambda: 2.0
        client.release(back(A, 70, 3), id=9)
        await quiet(house)
        ((when, response),) = client.outbox.sent[1:]
        assert when == pytest.approx(begun + 7)
        assert (response.request_id, response.body) == (9, released(A))
        assert stats(house, A) == (3, 70)
        assert house.site.medium(A).fs_status is FsStatus.USED


@pytest.mark.note("1")
async def test_a_release_of_nothing_written_is_synced_all_the_same(autojump_clock: MockClock) -> None:
    async with house_of(A) as house:
        client, _ = await writing(house)
        client.release(back(A, 0, 0))
        assert await client.answer(2) == released(A)
        assert len(house.site.disks[device_id(A)].times("sync")) == 1


async def test_no_answer_leaves_before_the_dss_has_committed(autojump_clock: MockClock) -> None:
    async with house_of(A) as house:
        client, _ = await writing(house)
        house.site.dss.go_away()
        client.release(back(A, 10))
        await trio.sleep(10_000)
        assert len(client.responses) == 1
        assert stats(house, A) == (0, 0)
        house.site.dss.come_back()
        assert await client.answer(2) == released(A)
        assert stats(house, A) == (1, 10)


async def test_nothing_is_unmounted_before_the_books_are_committed(autojump_clock: MockClock) -> None:
    async with house_of(A) as house:
        client, _ = await writing(house)
        house.site.dss.go_away()
        client.release(back(A, 10))
        house.drain()
        await trio.sleep(1000)
        assert house.site.disks[device_id(A)].times("unmount") == []
        house.site.dss.come_back()
        assert await client.answer(2) == released(A)


# Several media.


@pytest.mark.note("2.1", "2.5d")
async def test_the_books_of_all_media_are_one_transaction_after_the_last_sync(autojump_clock: MockClock) -> None:
    async with house_of(A, B) as house:
        house.site.disks[device_id(B)].seconds["sync"] = 7.0
        client, _ = await writing(house, 2)
        begun = trio.current_time()
        client.release(back(A, 10), back(B, 20))
        assert await client.answer(2) == released(A, B)
        operations = [(when, op) for when, op in house.site.dss.committed if isinstance(op, UpdateMedia)]
        assert len(operations) == 1
        assert operations[0][0] >= begun + 7
        assert [(u.id.name, u.add_logical) for u in operations[0][1].updates] == [(A, 10), (B, 20)]


@pytest.mark.note("2.5d", "4.4")
async def test_the_first_error_cancels_the_siblings_and_nothing_is_counted(autojump_clock: MockClock) -> None:
    async with house_of(A, B, C, settings=family_settings(age_ms=1000)) as house:
        for path in (A, B, C):
            house.site.disks[device_id(path)].seconds["sync"] = {A: 1.0, B: 3.0, C: 50.0}[path]
        house.site.disks[device_id(B)].fail("sync", errno.EIO)
        client, _ = await writing(house, 3)
        begun = trio.current_time()
        client.release(back(A, 10), back(B, 20), back(C, 30), id=4)
        await quiet(house)
        ((when, failure),) = client.outbox.sent[1:]
        assert when == pytest.approx(begun + 4)
        assert (failure.request_id, failure.body) == (4, Failed(-errno.EIO, RELEASE))
        assert [stats(house, path) for path in (A, B, C)] == [(0, 0)] * 3
        assert [house.site.medium(path).adm_status for path in (A, B, C)] == [
            AdmStatus.UNLOCKED,
            AdmStatus.FAILED,
            AdmStatus.UNLOCKED,
        ]


@pytest.mark.note("2.5d", "4.4")
async def test_what_a_failed_release_wrote_on_a_good_medium_makes_it_a_used_one(autojump_clock: MockClock) -> None:
    """Nobody accounts for those bytes, but the medium is not empty and not as free as it was."""
    async with house_of(A, B, settings=family_settings(age_ms=1000)) as house:
        house.site.disks[device_id(B)].seconds["sync"] = 5.0
        house.site.disks[device_id(B)].fail("sync", errno.EIO)
        client, _ = await writing(house, 2)
        house.site.disks[device_id(A)].write(10)
        client.release(back(A, 10), back(B, 10))
        assert await client.answer(2) == Failed(-errno.EIO, RELEASE)
        await quiet(house)
        medium = house.site.medium(A)
        assert (medium.stats.nb_obj, medium.stats.logc_spc_used) == (0, 0)
        assert (medium.fs_status, medium.stats.phys_spc_used) == (FsStatus.USED, 10)


async def test_what_still_waits_leaves_its_queue_when_a_sibling_fails(autojump_clock: MockClock) -> None:
    async with house_of(A, B, settings=family_settings(age_ms=1_000_000)) as house:
        client, _ = await writing(house, 2)
        other = house.connect()
        other.read(B)
        await other.granted()
        house.site.disks[device_id(B)].fail("sync", errno.EIO)
        client.release(back(A, 10), back(B, 20))
        other.release(back(B, 0, 0), kind=RequestKind.RELEASE_READ, partial=True)
        assert await client.answer(2) == Failed(-errno.EIO, RELEASE)
        await house.settle()
        assert len(device(house, A).state.to_sync) == 0
        assert device(house, A).state.to_sync.pending


@pytest.mark.note("2.1")
async def test_one_clients_error_costs_that_client_only(autojump_clock: MockClock) -> None:
    async with house_of(A, B, settings=family_settings(age_ms=1000)) as house:
        client, _ = await writing(house, 2)
        neighbour = house.connect()
        neighbour.write(10)
        (where,) = await neighbour.granted()
        neighbour.release(back(where.medium, 10))
        client.release(back(A, 10, rc=-errno.ENOSPC), back(B, 20))
        assert client.outbox.unsent
        await quiet(house)
        assert client.bodies[1:] == [Failed(-errno.ENOSPC, RELEASE)]
        assert neighbour.bodies[1:] == [released(where.medium.name)]
        assert stats(house, where.medium.name) == (1, 10)
        assert sum(stats(house, path)[1] for path in (A, B)) == 10
        assert {house.site.medium(path).adm_status for path in (A, B)} == {AdmStatus.UNLOCKED}
        assert {d.state.error for d in house.family.devices.values()} == {None}


@pytest.mark.parametrize("rc", [5, -5, 2**31 - 1, -(2**31)])
async def test_a_clients_rc_is_answered_as_a_negative_errno(autojump_clock: MockClock, rc: int) -> None:
    async with house_of(A) as house:
        client, _ = await writing(house)
        client.release(back(A, rc=rc))
        assert await client.answer(2) == Failed(-abs(rc), RELEASE)


async def test_a_failed_client_leaves_a_dirty_medium(autojump_clock: MockClock) -> None:
    async with house_of(A, settings=family_settings(age_ms=3000)) as house:
        client, _ = await writing(house)
        client.release(back(A, 10, rc=-5))
        await quiet(house)
        assert len(house.site.disks[device_id(A)].times("sync")) == 1
        assert house.site.medium(A).fs_status is FsStatus.USED
        assert stats(house, A) == (0, 0)


# Grants that are not there (decision 4).


@pytest.mark.note("2.1")
@pytest.mark.parametrize(("path", "expected"), [(A, errno.EINVAL), ("/nowhere", errno.ENODEV)])
async def test_releasing_what_one_does_not_hold_is_an_error(
    autojump_clock: MockClock, path: str, expected: int
) -> None:
    async with house_of(A) as house:
        holder, _ = await writing(house)
        thief = house.connect()
        thief.release(back(path, 10), id=3)
        assert await thief.answer(1) == Failed(-expected, RELEASE)
        assert device(house, A).state.ongoing == 1
        holder.release(back(A, 10))
        assert await holder.answer(2) == released(A)


async def test_a_double_release_is_an_error_once_and_counts_once(autojump_clock: MockClock) -> None:
    async with house_of(A) as house:
        client, _ = await writing(house)
        client.release(back(A, 10), id=1)
        client.release(back(A, 10), id=2)
        await quiet(house)
        assert [(r.request_id, r.body) for r in client.responses[1:]] == [
            (2, Failed(-errno.EINVAL, RELEASE)),
            (1, released(A)),
        ]
        assert stats(house, A) == (1, 10)


async def test_one_wrong_element_fails_the_release_but_the_others_are_given_back(autojump_clock: MockClock) -> None:
    async with house_of(A, B) as house:
        client, _ = await writing(house, 2)
        client.release(back(A, 10), back("/nowhere", 1), back(B, 20, to_sync=False))
        assert await client.answer(2) == Failed(-errno.ENODEV, RELEASE)
        await quiet(house)
        assert [device(house, path).state.grants for path in (A, B)] == [set(), set()]
        assert [stats(house, path) for path in (A, B)] == [(0, 0), (0, 0)]
        assert len(client.responses) == 2


async def test_a_medium_named_twice_in_one_release_is_an_error(autojump_clock: MockClock) -> None:
    async with house_of(A) as house:
        client, _ = await writing(house)
        client.release(back(A, 10), back(A, 10))
        assert await client.answer(2) == Failed(-errno.EINVAL, RELEASE)


async def test_two_grants_on_one_medium_end_with_two_elements(autojump_clock: MockClock) -> None:
    async with house_of(A) as house:
        client = house.connect()
        client.write(10, id=1)
        client.write(10, id=2)
        await client.answer(2)
        client.release(back(A, 1), back(A, 2), id=3)
        assert await client.answer(3) == released(A, A)
        assert stats(house, A) == (2, 3)


async def test_two_grants_on_one_medium_are_both_partly_released(autojump_clock: MockClock) -> None:
    async with house_of(A) as house:
        client = house.connect()
        client.write(10, id=1)
        client.write(10, id=2)
        await client.answer(2)
        client.release(back(A, 1), back(A, 2), id=3, partial=True)
        assert await client.answer(3) == released(A, A, partial=True)
        assert device(house, A).state.ongoing == 2


async def test_a_second_grant_can_be_released_while_the_first_is_partly_released(autojump_clock: MockClock) -> None:
    async with house_of(A) as house:
        house.site.disks[device_id(A)].seconds["sync"] = 10.0
        client = house.connect()
        client.write(10, id=1)
        client.write(10, id=2)
        await client.answer(2)
        client.release(back(A, 1), id=3, partial=True)
        client.release(back(A, 2), id=4)
        await quiet(house)
        assert {(r.request_id, r.body) for r in client.responses[2:]} == {
            (3, released(A, partial=True)),
            (4, released(A)),
        }


async def test_a_read_grant_ends_inside_a_write_release(autojump_clock: MockClock) -> None:
    """A copy within one host gives both back at once; the read joins no sync."""
    async with house_of(A, B) as house:
        house.site.add(C, fs_status=FsStatus.USED)
        client = house.connect()
        client.read(A, id=1)
        client.write(10, id=2)
        await client.answer(2)
        target = next(b.media[0].medium for b in client.bodies if isinstance(b, WriteGranted))
        client.release(back(target, 10), back(A, to_sync=False), id=3)
        assert await client.answer(3) == released(target.name)
        assert sum(len(d.state.grants) for d in house.family.devices.values()) == 0
        assert len(client.client.holdings) == 0


async def test_the_grant_of_the_same_kind_is_given_back_first(autojump_clock: MockClock) -> None:
    async with house_of(A) as house:
        client = house.connect()
        client.read(A, id=1)
        await client.answer(1)
        client.write(10, id=2)
        await client.answer(2)
        client.release(back(A, 10), id=3)
        (left,) = device(house, A).state.grants
        assert left.kind is RequestKind.READ
        client.release(back(A, to_sync=False), id=4, kind=RequestKind.RELEASE_READ)
        assert device(house, A).state.grants == set()


async def test_a_deletion_is_synced_and_counts_down_to_zero(autojump_clock: MockClock) -> None:
    site = Site()
    site.add(A, fs_status=FsStatus.USED, stats=MediumStats(nb_obj=5, logc_spc_used=100))
    async with house_of(site=site) as house:
        client = house.connect()
        for number, (size, objects) in enumerate(((-30, -2), (-200, -9))):
            client.read(A, operation=ReadOperation.DELETE)
            await client.answer(2 * number + 1)
            client.release(back(A, size, objects), kind=RequestKind.RELEASE_READ)
            assert await client.answer(2 * number + 2) == released(A, kind=RequestKind.RELEASE_READ)
            assert stats(house, A) == ((3, 70), (0, 0))[number]


@pytest.mark.parametrize("kept", [True, False])
async def test_a_grouping_is_noted_where_the_family_keeps_them(autojump_clock: MockClock, kept: bool) -> None:
    async with house_of(A, settings=family_settings(groupings=kept)) as house:
        client, _ = await writing(house)
        client.release(back(A, 10, grouping="g"))
        await client.answer(2)
        assert house.site.medium(A).groupings == (("g",) if kept else ())


async def test_a_medium_deleted_meanwhile_is_an_error(autojump_clock: MockClock) -> None:
    async with house_of(A, settings=family_settings(age_ms=1000)) as house:
        client, _ = await writing(house)
        client.release(back(A, 10))
        del house.site.dss.media[medium_id(A)]
        assert await client.answer(2) == Failed(-errno.ENOENT, RELEASE)


@pytest.mark.note("2.2", "4.5")
@pytest.mark.parametrize("partial", [True, False])
async def test_a_partial_release_of_which_a_medium_is_gone_counts_nothing(
    autojump_clock: MockClock, partial: bool
) -> None:
    async with house_of(A, B) as house:
        client = house.connect()
        client.write(1, 1)
        await client.granted()
        del house.site.dss.media[medium_id(B)]
        client.release(back(A, 40), back(B, 40), id=2, partial=partial)
        assert await client.answer(2) == Failed(-errno.ENOENT, RELEASE)
        # Its client counts all of it once more with what follows; after a last release nothing follows.
        assert house.site.medium(A).stats.logc_spc_used == (0 if partial else 40)


# Partial releases (decision 5).


@pytest.mark.note("9")
@pytest.mark.parametrize("sync_while_io", [True, False])
async def test_a_partial_release_syncs_at_once_and_gives_the_io_back(
    autojump_clock: MockClock, sync_while_io: bool
) -> None:
    async with house_of(A, settings=family_settings(age_ms=1_000_000, sync_while_io=sync_while_io)) as house:
        house.site.disks[device_id(A)].seconds["sync"] = 5.0
        client, _ = await writing(house)
        begun = trio.current_time()
        seen: list[int] = []
        client.outbox.on_sent = lambda response: seen.append(device(house, A).state.ongoing)
        client.release(back(A, 10), id=2, partial=True)
        assert (device(house, A).state.ongoing, device(house, A).state.reserved) == (0, 1)
        assert device(house, A).state.volume.reserved == 100
        assert await client.answer(2) == released(A, partial=True)
        assert trio.current_time() == pytest.approx(begun + 5)
        assert seen == [1]
        assert (device(house, A).state.ongoing, device(house, A).state.reserved) == (1, 0)
        assert stats(house, A) == (1, 10)
        client.release(back(A, 20), id=3)
        if not sync_while_io:
            assert device(house, A).state.ongoing == 0
        house.drain()
        assert await client.answer(3) == released(A)
        assert stats(house, A) == (2, 30)


@pytest.mark.parametrize("sync_while_io", [True, False])
async def test_each_partial_release_is_answered_once_and_with_its_own_id(
    autojump_clock: MockClock, sync_while_io: bool
) -> None:
    async with house_of(A, settings=family_settings(sync_while_io=sync_while_io)) as house:
        house.site.disks[device_id(A)].seconds["sync"] = 5.0
        client, _ = await writing(house)
        for number in (2, 3, 4):
            client.release(back(A, 10), id=number, partial=True)
            await quiet(house)
        client.release(back(A, 10), id=5)
        await quiet(house)
        assert [response.request_id for response in client.responses[1:]] == [2, 3, 4, 5]
        assert stats(house, A) == (4, 40)


async def test_all_media_of_a_partial_release_are_the_clients_again_together(autojump_clock: MockClock) -> None:
    async with house_of(A, B, settings=family_settings(sync_while_io=False)) as house:
        house.site.disks[device_id(B)].seconds["sync"] = 5.0
        client, _ = await writing(house, 2)
        client.release(back(A, 10), back(B, 10), partial=True)
        await trio.sleep(4)
        assert [device(house, path).state.reserved for path in (A, B)] == [1, 1]
        await client.answer(2)
        assert [device(house, path).state.ongoing for path in (A, B)] == [1, 1]


async def test_a_partial_release_waits_for_a_sync_that_excludes_io(autojump_clock: MockClock) -> None:
    """Its own sync is over, but another has begun on that device before the response could leave."""
    settings = family_settings(requests=1, sync_while_io=False, max_concurrent_io=2)
    async with house_of(A, settings=settings) as house:
        disk = house.site.disks[device_id(A)]
        disk.seconds["sync"] = 5.0
        client, _ = await writing(house)
        other, _ = await writing(house)
        house.site.dss.delay = lambda: 1.0
        client.release(back(A, 10), partial=True)
        other.release(back(A, 10, to_sync=False))
        begun = trio.current_time()
        await trio.sleep(2)
        other.write(10, id=5)
        await trio.sleep(2)
        device(house, A).state.to_sync.mark_dirty(trio.current_time() - 100)
        await trio.sleep(5)
        assert device(house, A).state.syncing is not None
        assert len(client.responses) == 1
        await client.answer(2)
        assert trio.current_time() >= begun + 10
        other.leave()


async def test_an_element_without_to_sync_keeps_its_grant_in_a_partial_release(autojump_clock: MockClock) -> None:
    async with house_of(A, B) as house:
        client, _ = await writing(house, 2)
        client.release(back(A, 10), back(B, 10, to_sync=False), partial=True)
        assert device(house, B).state.ongoing == 1
        assert await client.answer(2) == released(A, partial=True)
        assert house.site.disks[device_id(B)].times("sync") == []
        client.release(back(A, 1), back(B, 1))
        assert await client.answer(3) == released(A, B)


@pytest.mark.parametrize("rc", [0, -errno.EIO])
async def test_a_failed_partial_release_leaves_the_client_what_it_holds(autojump_clock: MockClock, rc: int) -> None:
    async with house_of(A, B) as house:
        if rc == 0:
            house.site.disks[device_id(B)].fail("sync", errno.EIO)
        client, _ = await writing(house, 2)
        client.release(back(A, 10), back(B, 10, rc=rc), partial=True)
        assert await client.answer(2) == Failed(-errno.EIO, RELEASE)
        await house.settle()
        assert [device(house, path).state.ongoing for path in (A, B)] == [1, 1]
        client.release(back(A, 0, to_sync=False), back(B, 0, to_sync=False))
        assert [device(house, path).state.grants for path in (A, B)] == [set(), set()]


async def test_a_release_of_what_is_partly_released_is_an_error(autojump_clock: MockClock) -> None:
    async with house_of(A) as house:
        house.site.disks[device_id(A)].seconds["sync"] = 5.0
        client, _ = await writing(house)
        client.release(back(A, 10), id=2, partial=True)
        client.release(back(A, 10), id=3)
        await quiet(house)
        assert [(r.request_id, r.body) for r in client.responses[1:]] == [
            (3, Failed(-errno.EINVAL, RELEASE)),
            (2, released(A, partial=True)),
        ]
        assert device(house, A).state.ongoing == 1


# Clients and daemons that go.


async def test_a_release_completes_without_its_client(autojump_clock: MockClock) -> None:
    async with house_of(A, B, settings=family_settings(age_ms=1000)) as house:
        client, _ = await writing(house, 2)
        client.release(back(A, 10), back(B, 20))
        client.leave()
        await quiet(house)
        assert [stats(house, path) for path in (A, B)] == [(1, 10), (1, 20)]
        assert len(client.responses) == 1


@pytest.mark.parametrize("sync_while_io", [True, False])
async def test_a_partial_release_completes_without_its_client(autojump_clock: MockClock, sync_while_io: bool) -> None:
    async with house_of(A, settings=family_settings(sync_while_io=sync_while_io)) as house:
        house.site.disks[device_id(A)].seconds["sync"] = 5.0
        client, _ = await writing(house)
        client.release(back(A, 10), partial=True)
        await trio.sleep(1)
        client.leave()
        assert device(house, A).state.grants == set()
        await quiet(house)
        assert stats(house, A) == (1, 10)
        again, _ = await writing(house)
        again.release(back(A, 1))
        assert await again.answer(2) == released(A)


@pytest.mark.parametrize("sync_while_io", [True, False])
async def test_a_client_that_goes_before_its_partial_answer_has_left_starts_no_io(
    autojump_clock: MockClock, sync_while_io: bool
) -> None:
    async with house_of(A, settings=family_settings(sync_while_io=sync_while_io)) as house:
        client = house.connect(pause=None)
        client.write(100)
        await house.settle()
        client.outbox.flush()
        client.release(back(A, 10), partial=True)
        await quiet(house)
        assert client.outbox.unsent
        client.leave()
        client.outbox.flush()
        assert device(house, A).state.ongoing == 0
        again, _ = await writing(house)
        again.release(back(A, 1))
        assert await again.answer(2) == released(A)


async def test_releases_on_a_failed_device_fail_one_by_one(autojump_clock: MockClock) -> None:
    async with house_of(A, settings=family_settings(requests=1)) as house:
        house.site.disks[device_id(A)].fail("sync", errno.EIO)
        first, _ = await writing(house)
        second, _ = await writing(house)
        first.release(back(A, 10))
        assert await first.answer(2) == Failed(-errno.EIO, RELEASE)
        second.release(back(A, 10))
        assert await second.answer(2) == Failed(-errno.EIO, RELEASE)
        assert stats(house, A) == (0, 0)
        assert len(house.site.disks[device_id(A)].times("sync")) == 1


@pytest.mark.note("11")
@pytest.mark.parametrize("away", [True, False])
async def test_a_forced_end_answers_every_release_that_waits(autojump_clock: MockClock, away: bool) -> None:
    async with house_of(A, B, settings=family_settings(age_ms=1_000_000)) as house:
        clients = [(await writing(house, 2))[0] for _ in range(3)]
        for client in clients:
            client.release(back(A, 10), back(B, 10), id=7)
        if away:
            house.site.dss.go_away()
            house.drain()
        await house.settle()
        house.force()
        for client in clients:
            with trio.CancelScope(shield=True):
                await house.settle()
                client.outbox.flush()
            assert [(r.request_id, r.body) for r in client.responses[1:]] == [(7, Failed(-errno.ESHUTDOWN, RELEASE))]
