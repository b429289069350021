"""What a family knows of the media on the shelf: how old it may be, and what is believed of media that had no luck."""

from __future__ import annotations

import errno
from dataclasses import replace
from math import inf
from typing import TypeVar

import pytest
import trio
from trio.testing import MockClock

from lrs_trio.dss.operations import Operation, ReadMedia, ReadNamedMedia
from lrs_trio.errors import LrsError, MediumMissingError
from lrs_trio.model import AdmStatus, Family, FsStatus, LockOwner, LockType, ResourceId
from lrs_trio.scheduling.catalog import MISSING_S, SHARE_OF_TIME, Catalog, shelf_of
from lrs_trio.scheduling.media_look_up import READ_AT_ONCE
from tests.fakes.dss import FakeDss
from tests.fakes.library import tape_id
from tests.fakes.site import DAEMON, HOST
from tests.fakes.tapes import TapeSite

T = TypeVar("T")

ELSEWHERE = LockOwner("elsewhere", 1)
NOBODY = 2**22 + 1
"""No process has such a number."""


def catalog_of(site: TapeSite, recheck_s: float = 1.0) -> Catalog:
    return Catalog(Family.TAPE, site.dss, DAEMON, recheck_s)


def refusal(catalog: Catalog, name: str) -> int:
    """The errno for which a tape cannot be had; 0 if it can."""
    error = catalog.rows[tape_id(name)].refusal
    return 0 if error is None else error.errno or 0


def changed(catalog: Catalog) -> set[str]:
    """The tapes of which anything has changed since this was last asked."""
    return {medium.name for medium in catalog.take_changed()}


async def refreshed(catalog: Catalog) -> set[str]:
    """What has changed when `catalog` has been refreshed."""
    await catalog.refresh()
    return changed(catalog)


def reads(dss: FakeDss) -> list[float]:
    """When all media were read."""
    return [time for time, operation in dss.committed if isinstance(operation, ReadMedia)]


async def test_all_media_are_read_once_in_the_time_they_may_be_old(autojump_clock: MockClock) -> None:
    catalog = catalog_of(site := TapeSite(tapes=3))
    assert await refreshed(catalog) == {"T00", "T01", "T02"}
    assert catalog.rows.keys() == site.dss.media.keys()
    await trio.sleep(0.9)
    assert not await refreshed(catalog)
    await trio.sleep(0.2)
    assert not await refreshed(catalog)
    catalog.read_again()
    assert not await refreshed(catalog)
    assert reads(site.dss) == pytest.approx([0, 1.1, 1.1])


async def test_only_tapes_are_in_it(autojump_clock: MockClock) -> None:
    catalog = catalog_of(site := TapeSite(tapes=1))
    stranger = ResourceId(Family.DIR, "/srv/a", "legacy")
    site.dss.media[stranger] = replace(site.medium("T00"), id=stranger)
    await catalog.refresh()
    assert catalog.rows.keys() == {tape_id("T00")}


async def test_reading_takes_a_small_part_of_the_time(autojump_clock: MockClock) -> None:
    catalog = catalog_of(site := TapeSite(tapes=1))
    site.dss.delay = lambda: 3.0
    await catalog.refresh()
    await trio.sleep(3 * SHARE_OF_TIME - 0.1)
    await catalog.refresh()
    assert reads(site.dss) == [3.0]
    await trio.sleep(0.2)
    await catalog.refresh()
    assert len(reads(site.dss)) == 2


async def test_what_administrators_do_is_news(autojump_clock: MockClock) -> None:
    catalog = catalog_of(site := TapeSite(tapes=2))
    assert await refreshed(catalog) == {"T00", "T01"}
    site.dss.media[tape_id("T00")] = replace(site.medium("T00"), adm_status=AdmStatus.LOCKED)
    await trio.sleep(2)
    assert await refreshed(catalog) == {"T00"}
    del site.dss.media[tape_id("T01")]
    site.add_tape("T02")
    await trio.sleep(2)
    assert await refreshed(catalog) == {"T01", "T02"}
    assert not catalog.is_unlocked(tape_id("T00"))
    assert catalog.rows.keys() == {tape_id("T00"), tape_id("T02")}


async def test_what_another_host_has_is_refused_until_it_gives_it_back_and_is_no_news_meanwhile(
    autojump_clock: MockClock,
) -> None:
    catalog = catalog_of(site := TapeSite(tapes=2))
    lock = site.dss.add_lock(LockType.MEDIA, tape_id("T00"), ELSEWHERE)
    assert await refreshed(catalog) == {"T00", "T01"}
    assert (refusal(catalog, "T00"), refusal(catalog, "T01")) == (errno.EALREADY, 0)
    for _ in range(3):
        await trio.sleep(2)
        assert not await refreshed(catalog)
        assert await catalog.look_up([tape_id("T00")]) == {}
        assert not changed(catalog)
    del site.dss.locks[lock.type, lock.id]
    await trio.sleep(2)
    assert await refreshed(catalog) == {"T00"}
    assert refusal(catalog, "T00") == 0


@pytest.mark.parametrize(
    ("owner", "weak", "refused"),
    [
        (DAEMON, False, 0),
        (LockOwner(HOST, NOBODY), False, 0),  # a predecessor that died has left it
        (LockOwner(HOST, 1), True, 0),  # a client has reserved it for this host
        (LockOwner(HOST, 1), False, errno.EALREADY),
        (ELSEWHERE, False, errno.EALREADY),
        (ELSEWHERE, True, errno.EALREADY),
    ],
)
async def test_whose_locks_keep_a_tape_from_being_used(
    autojump_clock: MockClock, owner: LockOwner, weak: bool, refused: int
) -> None:
    catalog = catalog_of(site := TapeSite(tapes=1))
    # A lock that is younger than process 1.
    site.dss.add_lock(LockType.MEDIA, tape_id("T00"), owner, is_weak=weak, timestamp=2.0**40)
    await catalog.refresh()
    assert refusal(catalog, "T00") == refused


async def test_figures_of_what_is_in_our_drives_are_taken_in(autojump_clock: MockClock) -> None:
    catalog = catalog_of(site := TapeSite(tapes=1))
    site.dss.add_lock(LockType.MEDIA, tape_id("T00"), DAEMON)
    assert await refreshed(catalog) == {"T00"}
    medium = site.medium("T00")
    site.dss.media[medium.id] = fuller = replace(medium, stats=replace(medium.stats, phys_spc_free=7))
    await trio.sleep(2)
    assert await refreshed(catalog) == {"T00"}
    assert catalog.rows[medium.id].medium == fuller


async def test_what_the_library_does_not_have_is_not_asked_for_for_a_while(autojump_clock: MockClock) -> None:
    catalog = catalog_of(site := TapeSite(tapes=1))
    assert await refreshed(catalog) == {"T00"}
    medium = site.medium("T00")
    catalog.put_back(medium, MediumMissingError(errno.ENXIO, "the library has no T00", {}))
    assert (changed(catalog), catalog.next_expiry()) == ({"T00"}, MISSING_S)
    for _ in range(3):
        await trio.sleep(MISSING_S / 4)
        await catalog.refresh()
        await catalog.look_up([medium.id])
        catalog.expire(trio.current_time())
        assert (refusal(catalog, "T00"), changed(catalog)) == (errno.ENXIO, set())
    await trio.sleep(MISSING_S / 4)
    catalog.expire(trio.current_time())
    assert (refusal(catalog, "T00"), changed(catalog), catalog.next_expiry()) == (0, {"T00"}, inf)


async def test_a_tape_that_is_missing_is_believed_to_be_there_when_somebody_says_so(autojump_clock: MockClock) -> None:
    catalog = catalog_of(site := TapeSite(tapes=1))
    await catalog.refresh()
    catalog.put_back(site.medium("T00"), MediumMissingError(errno.ENXIO, "the library has no T00", {}))
    catalog.forget(tape_id("T00"))
    assert refusal(catalog, "T00") == 0
    catalog.forget(tape_id("X"))
    assert catalog.rows.keys() == {tape_id("T00")}


async def test_another_error_is_forgotten_when_the_tape_is_looked_up_again(autojump_clock: MockClock) -> None:
    catalog = catalog_of(site := TapeSite(tapes=1), recheck_s=5.0)
    assert await refreshed(catalog) == {"T00"}
    catalog.put_back(site.medium("T00"), LrsError(errno.EALREADY, "in use by elsewhere"))
    assert (refusal(catalog, "T00"), changed(catalog), catalog.next_expiry()) == (errno.EALREADY, {"T00"}, 5.0)
    await trio.sleep(5)
    assert await refreshed(catalog) == {"T00"}
    assert refusal(catalog, "T00") == 0


class LateAnswers(FakeDss):
    """What it tells of all media is two seconds old."""

    async def execute(self, operation: Operation[T]) -> T:
        result = await super().execute(operation)
        if isinstance(operation, ReadMedia):
            await trio.sleep(2)
        return result


async def test_a_tape_that_is_gone_does_not_come_back_with_what_was_read_before(autojump_clock: MockClock) -> None:
    site, late = TapeSite(tapes=2), LateAnswers()
    late.media = site.dss.media
    site.dss = late
    catalog = catalog_of(site)
    assert await refreshed(catalog) == {"T00", "T01"}
    catalog.read_again()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(catalog.refresh)
        await trio.sleep(1)
        del late.media[tape_id("T00")]
        assert (await catalog.look_up([tape_id("T00")])).keys() == {tape_id("T00")}
    assert changed(catalog) == {"T00"}
    assert catalog.rows.keys() == {tape_id("T01")}


async def test_a_tape_is_put_back_as_its_drive_knows_it(autojump_clock: MockClock) -> None:
    catalog = catalog_of(site := TapeSite(tapes=1))
    assert await refreshed(catalog) == {"T00"}
    used = replace(site.medium("T00"), fs_status=FsStatus.USED)
    catalog.put_back(used, None)
    assert (catalog.rows[used.id].medium, changed(catalog)) == (used, {"T00"})
    catalog.put_back(used, None)
    assert (catalog.rows[used.id].medium, changed(catalog)) == (used, set())


async def test_a_row_that_is_updated_leaves_the_refusal_as_it_is(autojump_clock: MockClock) -> None:
    catalog = catalog_of(site := TapeSite(tapes=1))
    site.dss.add_lock(LockType.MEDIA, tape_id("T00"), ELSEWHERE)
    await catalog.refresh()
    failed = replace(site.medium("T00"), adm_status=AdmStatus.FAILED)
    catalog.updated(failed)
    assert (catalog.rows[failed.id].medium, refusal(catalog, "T00")) == (failed, errno.EALREADY)
    site.add_tape("T01")
    catalog.updated(site.medium("T01"))
    assert refusal(catalog, "T01") == 0


async def test_one_tape_is_looked_up(autojump_clock: MockClock) -> None:
    catalog = catalog_of(site := TapeSite(tapes=0))
    await catalog.refresh()
    unknown = await catalog.look_up([tape_id("T00")])
    assert [error.errno for error in unknown.values()] == [errno.ENXIO]
    assert not changed(catalog)
    site.add_tape("T00")
    assert await catalog.look_up([tape_id("T00")]) == {}
    assert (catalog.is_unlocked(tape_id("T00")), changed(catalog)) == (True, {"T00"})
    del site.dss.media[tape_id("T00")]
    assert list(await catalog.look_up([tape_id("T00")])) == [tape_id("T00")]
    assert (catalog.rows, changed(catalog)) == ({}, {"T00"})


async def test_many_tapes_are_looked_up_in_a_few_operations(autojump_clock: MockClock) -> None:
    catalog = catalog_of(site := TapeSite(tapes=0))
    names = [f"T{number:04}" for number in range(READ_AT_ONCE + 1)]
    for name in names[::2]:
        site.add_tape(name)
    errors = await catalog.look_up([tape_id(name) for name in names])
    assert list(errors) == [tape_id(name) for name in names[1::2]]
    assert list(catalog.rows) == [tape_id(name) for name in names[::2]]
    assert catalog.changes == len(catalog.rows)
    operations = [operation for _, operation in site.dss.committed]
    assert [len(o.media) for o in operations if isinstance(o, ReadNamedMedia)] == [READ_AT_ONCE, 1]
    assert len(operations) == 2


async def test_a_name_that_the_dss_does_not_take_is_a_matter_of_that_medium(autojump_clock: MockClock) -> None:
    catalog = catalog_of(site := TapeSite(tapes=1))
    refused = LrsError(errno.EINVAL, "not accepted")
    site.dss.refusals[ReadNamedMedia] = refused
    assert await catalog.look_up([tape_id("T01")]) == {tape_id("T01"): refused}
    errors = await catalog.look_up([tape_id("T00"), tape_id("T01")])
    assert [(medium.name, error.errno) for medium, error in errors.items()] == [("T01", errno.ENXIO)]
    assert list(catalog.rows) == [tape_id("T00")]


async def test_what_has_changed_is_told_in_parts(autojump_clock: MockClock) -> None:
    catalog = catalog_of(TapeSite(tapes=5))
    await catalog.refresh()
    assert catalog.changes == 5
    taken = [catalog.take_changed(2), catalog.take_changed(2), catalog.take_changed()]
    assert [[medium.name for medium in some] for some in taken] == [["T00", "T01"], ["T02", "T03"], ["T04"]]
    assert (catalog.changes, catalog.take_changed()) == (0, [])


async def test_a_dss_that_refuses_changes_nothing(autojump_clock: MockClock) -> None:
    catalog = catalog_of(site := TapeSite(tapes=1))
    assert await refreshed(catalog) == {"T00"}
    site.dss.refusals[ReadMedia] = LrsError(errno.EIO, "corrupt")
    await trio.sleep(2)
    assert not await refreshed(catalog)
    assert catalog.is_unlocked(tape_id("T00"))
    site.dss.refusals.clear()
    del site.dss.media[tape_id("T00")]
    # Not asked again at once.
    assert not await refreshed(catalog)
    await trio.sleep(1)
    assert await refreshed(catalog) == {"T00"}


async def test_the_shelf_is_what_is_in_no_drive(autojump_clock: MockClock) -> None:
    catalog = catalog_of(TapeSite(tapes=3))
    await catalog.refresh()
    assert shelf_of(catalog.rows, [tape_id("T01"), tape_id("X")]).keys() == {tape_id("T00"), tape_id("T02")}


async def test_ten_thousand_media(autojump_clock: MockClock) -> None:
    site = TapeSite(tapes=0)
    for number in range(10_000):
        site.add_tape(f"T{number:05}")
    catalog = catalog_of(site)
    assert len(await refreshed(catalog)) == 10_000
    await trio.sleep(2)
    assert not await refreshed(catalog)
    medium = site.medium("T09999")
    site.dss.media[medium.id] = replace(medium, put=False)
    await trio.sleep(2)
    assert await refreshed(catalog) == {"T09999"}
    assert len(catalog.rows) == 10_000
