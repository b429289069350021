"""Writes where media come and go: the rules one by one."""

from __future__ import annotations

import errno
from typing import Any

import pytest

from lrs_trio.errors import LrsError
from lrs_trio.model import AdmStatus, Family, FsStatus, ResourceId
from lrs_trio.scheduling.library_offers import Stock
from lrs_trio.scheduling.library_placement import place_read
from lrs_trio.scheduling.library_write import drives_for_write, place_write, writers_full
from lrs_trio.scheduling.placement import Outcome, Placed, Waits
from lrs_trio.wire.messages import WriteAllocation, WriteMedium
from tests.fakes.stock import (
    NOBODY,
    ONLY_READ,
    ONLY_WRITE,
    READ,
    WRITE,
    drive,
    pairs,
    read,
    refused,
    settle,
    stock,
    tape,
    tape_id,
    waits,
    write,
)


def place(
    request: WriteAllocation,
    have: Stock,
    *,
    excluded: frozenset[ResourceId] = frozenset(),
    first_fit: bool = False,
    groupings: bool = True,
) -> Outcome:
    return place_write(request, have, excluded=excluded, first_fit=first_fit, groupings=groupings)


def reserves(outcome: Outcome) -> list[int]:
    assert isinstance(outcome, Placed), outcome
    return [take.reserve for take in outcome.takes]


def tagged(*wanted: tuple[int, str]) -> WriteAllocation:
    return WriteAllocation(tuple(WriteMedium(size, (tag,) if tag else ()) for size, tag in wanted), Family.TAPE)


# Which medium.


@pytest.mark.note("7")
def test_what_is_mounted_is_written_before_what_is_loaded_and_that_before_what_is_on_the_shelf() -> None:
    drives = [drive("d1", tape("loaded", 500)), drive("d2", tape("mounted", 900), mounted=True), drive("d3")]
    have = stock(drives, [tape("shelved", 100)])
    assert pairs(place(write(100), have)) == [("mounted", "d2")]
    assert pairs(place(write(10, 10), have)) == [("mounted", "d2"), ("loaded", "d1")]
    assert pairs(place(write(10, 10, 10), have))[2] == ("shelved", "d3")


@pytest.mark.parametrize(("first_fit", "expected"), [(False, "tight"), (True, "large")])
@pytest.mark.parametrize("where", ["mounted", "loaded", "shelf"])
def test_among_equals_the_policy_decides(where: str, first_fit: bool, expected: str) -> None:
    media = [tape("tiny", 99), tape("large", 900), tape("tight", 100), tape("middle", 500)]
    if where == "shelf":
        have = stock([drive("d1")], media)
    else:
        have = stock([drive(medium.id.name, medium, mounted=where == "mounted") for medium in media])
    outcome = place(write(100), have, first_fit=first_fit)
    assert [medium for medium, _ in pairs(outcome)] == [expected]
    assert reserves(outcome) == [100]


def test_what_counts_is_the_space_that_nobody_has_reserved() -> None:
    drives = [drive("d1", tape("promised", 300), available=50, slots=2, load=1, idle=False), drive("d2")]
    assert pairs(place(write(100), stock(drives, [tape("a", 400)]))) == [("a", "d2")]
    assert waits(place(write(100), stock(drives[:1])))


@pytest.mark.parametrize(
    "spoilt",
    [
        pytest.param({"fs_status": FsStatus.FULL}, id="full"),
        pytest.param({"fs_status": FsStatus.BLANK}, id="blank"),
        pytest.param({"fs_status": FsStatus.IMPORTING}, id="importing"),
        pytest.param({"adm_status": AdmStatus.LOCKED}, id="locked"),
        pytest.param({"put": False}, id="no-put"),
        pytest.param({"free": 0}, id="no-space"),
        pytest.param({"free": 9}, id="too-little-space"),
    ],
)
def test_a_write_that_no_medium_can_ever_take_is_refused(spoilt: dict[str, Any]) -> None:
    bad = tape("bad", **spoilt)
    for drives, shelf in (([drive("d1", bad)], []), ([drive("d1")], [bad])):
        assert refused(place(write(10), stock(drives, shelf))) == errno.ENOSPC
        assert pairs(place(write(10), stock(drives, [*shelf, tape("good")]))) == [("good", "d1")]


def test_media_of_other_hosts_and_stuck_ones_do_not_count() -> None:
    elsewhere = {"a": LrsError(errno.EALREADY, "on store2")}
    assert refused(place(write(10), stock([drive("d1")], [tape("a")], refused=elsewhere))) == errno.ENOSPC
    stuck = drive("d1", tape("a"), serving=False, refusal=LrsError(errno.EIO, "stuck"))
    assert refused(place(write(10), stock([stuck, drive("d2")]))) == errno.ENOSPC


def test_a_write_without_a_drive_is_refused() -> None:
    assert refused(place(write(10), stock([], [tape("a")]))) == errno.ENODEV
    assert refused(place(write(10), stock([drive("d1", serving=False)], [tape("a")]))) == errno.ENODEV
    assert refused(place(write(10), stock([drive("d1", model="TD7")], [tape("a")]))) == errno.ENODEV
    assert refused(place(write(10), stock([drive("d1", library="far")], [tape("a")]))) == errno.ENODEV
    assert refused(place(write(10), stock([drive("d1")], [tape("a")], barred=[("d1", "a")]))) == errno.ENODEV
    assert refused(place(write(10, 10), stock([drive("d1")], [tape("a"), tape("b")]))) == errno.ENODEV
    assert refused(place(write(10), stock([drive("d1")]))) == errno.ENOSPC


def test_tags_library_and_emptiness_limit_the_choice() -> None:
    shelf = [tape("a", tags=("x",)), tape("b", tags=("y", "x")), tape("c", library="far")]
    have = stock([drive("d1"), drive("d2", library="far")], shelf)
    assert pairs(place(write(10, tags=("x", "y")), have)) == [("b", "d1")]
    assert pairs(place(write(10, library="far"), have)) == [("c", "d2")]
    assert refused(place(write(10, tags=("z",)), have)) == errno.ENOSPC
    assert refused(place(write(10, empty=True), have)) == errno.ENOSPC
    new = tape("new", fs_status=FsStatus.EMPTY)
    assert pairs(place(write(10, empty=True), stock([drive("d1")], [*shelf, new]))) == [("new", "d1")]


def test_a_tape_is_not_empty_once_somebody_writes_on_it() -> None:
    new, other = tape("new", 500, fs_status=FsStatus.EMPTY), tape("other", 900, fs_status=FsStatus.EMPTY)
    drives = [drive("d1", new, mounted=True, mixes=True, slots=2, written=True), drive("d2")]
    assert pairs(place(write(10, empty=True), stock(drives, [other]))) == [("other", "d2")]
    assert pairs(place(write(10), stock(drives, [other]))) == [("new", "d1")]
    have = stock(drives)
    outcome = place(write(10, empty=True), have)
    assert waits(outcome)
    settle(outcome, WRITE)
    assert pairs(place(write(10), have)) == [("new", "d1")]


def test_a_tape_that_is_written_in_this_pass_is_not_empty_any_more() -> None:
    have = stock([drive("d1", mixes=True, slots=2)], [tape("new", fs_status=FsStatus.EMPTY)])
    settle(place(write(10), have), WRITE)
    assert waits(place(write(10, empty=True), have))
    have = stock([drive("d1", tape("old"), written=True)], [tape("new", fs_status=FsStatus.EMPTY)])
    assert pairs(place(write(10, empty=True), have)) == [("new", "d1")]


def test_each_part_has_its_own_tags() -> None:
    """The first part would take both the medium and the drive that the second one needs."""
    shelf = [tape("both", 100, tags=("y",)), tape("other", 200)]
    have = stock([drive("d1", model="TD9"), drive("d2")], shelf)
    assert pairs(place(tagged((10, ""), (10, "y")), have)) == [("other", "d1"), ("both", "d2")]


# Whole and split writes.


def test_a_write_is_split_only_if_it_fits_nowhere_whole() -> None:
    drives = [drive("d1", tape("part", 300)), drive("d2", tape("whole", 301), busy=True)]
    assert pairs(place(write(300), stock(drives))) == [("part", "d1")]
    assert waits(place(write(301), stock(drives)))
    outcome = place(write(302), stock(drives))
    assert pairs(outcome) == [("part", "d1")]
    assert reserves(outcome) == [300]
    assert refused(place(write(602), stock(drives))) == errno.ENOSPC
    assert refused(place(write(302, no_split=True), stock(drives))) == errno.ENOSPC


def test_a_write_that_is_split_takes_the_largest_part_there_is() -> None:
    drives = [drive("d1", tape("mounted", 300), mounted=True), drive("d2")]
    outcome = place(write(1000), stock(drives, [tape("a", 400), tape("b", 400), tape("c", 100)]))
    assert [medium for medium, _ in pairs(outcome)] == ["b"]
    assert reserves(outcome) == [400]
    outcome = place(write(700, 400), stock(drives, [tape("a", 400), tape("b", 600)]))
    assert pairs(outcome) == [("b", "d2"), ("a", "d1")]
    assert reserves(outcome) == [600, 400]


def crossed(*, mounted: bool = True) -> Stock:
    """A larger tape stands on the shelf; it and one of those that are mounted go into the same drives only."""
    drives = [
        drive("d1", tape("old", 5), mounted=True),
        drive("d2", tape("tagged", 44, model="LTO9", tags=("x",)), model="TD9", mounted=True),
        drive("d3", tape("new", 1000, model="LTO9"), model="TD9", mounted=mounted),
    ]
    return stock(drives, [tape("shelved", 1000, model="LTO9")])


@pytest.mark.parametrize("first_fit", [False, True])
def test_what_is_all_there_is_written_before_some_of_it_makes_room_for_more(first_fit: bool) -> None:
    parts = tagged((90, ""), (10, ""), (40, "x"))
    for mounted in (True, False):
        outcome = place(parts, crossed(mounted=mounted), first_fit=first_fit)
        assert sorted(pairs(outcome)) == [("new", "d3"), ("old", "d1"), ("tagged", "d2")]


def test_other_drives_would_do_for_a_write() -> None:
    drives = [drive("d1", dedicated=ONLY_WRITE), drive("d2", dedicated=ONLY_READ)]
    have = stock(drives, [tape("a", 100)], barred=[("d1", "a")])
    for size in (100, 200):
        assert drives_for_write(write(size), have, excluded=frozenset(), first_fit=False) == (tape_id("d2"),)
    others = frozenset({tape_id("d2")})
    assert drives_for_write(write(100), have, excluded=others, first_fit=False) == ()


def test_all_the_parts_need_a_medium_with_room() -> None:
    have = stock([drive("d1"), drive("d2")], [tape("a", 100), tape("full up", 0)])
    assert refused(place(write(10, 10), have)) == errno.ENOSPC


def test_a_medium_too_small_in_a_drive_gives_way_to_one_from_the_shelf() -> None:
    have = stock([drive("d1", tape("small", 99), mounted=True)], [tape("a", 100)])
    assert pairs(place(write(100), have)) == [("a", "d1")]


# Groupings.


def test_a_grouping_is_a_wish_that_gives_way() -> None:
    grouped = tape("grouped", groupings=("g",))
    drives = [drive("d1", tape("mounted"), mounted=True), drive("d2")]
    have = stock(drives, [grouped])
    assert pairs(place(write(10, grouping="g"), have)) == [("grouped", "d2")]
    assert pairs(place(write(10, grouping="h"), have)) == [("mounted", "d1")]
    assert pairs(place(write(10, grouping="g"), have, groupings=False)) == [("mounted", "d1")]
    busy = stock([drives[0], drive("d2", grouped, busy=True)])
    assert pairs(place(write(10, grouping="g"), busy)) == [("mounted", "d1")]


def test_so_many_clients_may_write_one_grouping() -> None:
    writers = {"g": ["a", "b", "b"]}
    assert not writers_full("c", "g", writers, 0)
    assert not writers_full("c", "g", writers, 3)
    assert writers_full("c", "g", writers, 2)
    assert not writers_full("a", "g", writers, 2)
    assert not writers_full("c", "h", writers, 1)


# Which drive.


@pytest.mark.note("7")
def test_the_parts_of_a_write_go_to_different_drives() -> None:
    have = stock([drive("d1", tape("a"), slots=4, mixes=True), drive("d2", busy=True)], [tape("b")])
    outcome = place(write(10, 10), have)
    assert waits(outcome)
    settle(outcome, WRITE)
    assert waits(place_read(read(1, "b"), have))


def test_a_mounted_medium_stays_where_it_is_if_another_drive_will_do() -> None:
    """The part with the tag comes first and would take the drive that was used least recently."""
    drives = [drive("d1", tape("a"), mounted=True, used=1.0), drive("d2", tape("x", 0), mounted=True, used=2.0)]
    have = stock(drives, [tape("tagged", tags=("t",))])
    assert pairs(place(tagged((10, "t"), (10, "")), have)) == [("tagged", "d2"), ("a", "d1")]


def test_a_located_medium_is_neither_written_nor_taken_out() -> None:
    have = stock([drive("d1", tape("a"), located=True)], [tape("b")])
    outcome = place(write(10), have)
    assert waits(outcome)
    settle(outcome, WRITE)
    assert pairs(place_read(read(1, "a"), have)) == [("a", "d1")]


def test_no_duplicate_on_a_drive_that_serves_this_client_already() -> None:
    used = frozenset({tape_id("d1")})
    have = stock([drive("d1", tape("a"), slots=2), drive("d2")], [tape("b")])
    assert pairs(place(write(10), have, excluded=used)) == [("b", "d2")]
    assert refused(place(write(10, 10), have, excluded=used)) == errno.ENODEV
    assert refused(place(write(10), stock([drive("d1", tape("a"))]), excluded=used)) == errno.ENODEV


def test_writes_do_not_join_reads_where_they_do_not_mix() -> None:
    have = stock([drive("d1", tape("a"), slots=1, load=1, idle=False, kinds=ONLY_READ)])
    outcome = place(write(10), have)
    assert waits(outcome)
    settle(outcome, WRITE)
    assert waits(place_read(read(1, "a"), have))


def test_a_write_prefers_its_own_drives_and_takes_those_of_others_if_it_must() -> None:
    theirs = drive("d1", tape("mounted"), mounted=True, dedicated=ONLY_READ)
    ours = drive("d2", dedicated=ONLY_WRITE)
    assert pairs(place(write(10), stock([theirs, ours], [tape("a")]))) == [("a", "d2")]
    outcome = place(write(10), stock([theirs, ours]))
    assert pairs(outcome) == [("mounted", "d1")]
    settle(outcome, WRITE)
    assert (theirs.dedicated, ours.dedicated) == (ONLY_WRITE, ONLY_READ)
    assert pairs(place(write(10), stock([drive("d1", tape("a"), dedicated=NOBODY)]))) == [("a", "d1")]


def test_two_parts_are_never_had_for_the_same_drive_in_exchange() -> None:
    theirs = [drive(name, tape(name), dedicated=ONLY_READ) for name in ("a", "b")]
    assert waits(place(write(10, 10), stock([*theirs, drive("d1", dedicated=ONLY_WRITE)])))


# Waiting.


def claimed(outcome: Outcome, have: Stock) -> set[str]:
    """Which drives have nothing left to give because of an outcome."""
    assert isinstance(outcome, Waits), outcome
    had = {drive.device.name for drive in have.drives if drive.slots}
    outcome.keep()
    return had - {drive.device.name for drive in have.drives if drive.slots}


def test_a_write_of_two_keeps_what_it_has_found() -> None:
    have = stock([drive("d1"), drive("d2", tape("x"), busy=True)], [tape("a")])
    assert claimed(place(write(10, 10), have), have) == {"d1"}
    assert waits(place_read(read(1, "a"), have))


def test_a_write_that_lacks_a_drive_keeps_the_media_that_it_would_take() -> None:
    shelf = [tape("best", 100), tape("second", 200), tape("third", 300)]
    have = stock([drive("d1", dedicated=ONLY_READ), drive("d2", busy=True)], shelf)
    assert claimed(place(write(100), have), have) == set()
    assert waits(place_read(read(1, "best"), have))
    assert pairs(place_read(read(1, "second"), have)) == [("second", "d1")]


def test_a_write_that_lacks_a_medium_holds_no_drive_up() -> None:
    have = stock([drive("d1"), drive("d2", tape("only"), busy=True)], [tape("full", fs_status=FsStatus.FULL)])
    assert claimed(place(write(10), have), have) == set()
    assert pairs(place_read(read(1, "full"), have)) == [("full", "d1")]


def test_parts_with_nothing_in_common_hold_nothing_up_for_each_other() -> None:
    """What the first part has found is enough for it; the second waits for a busy tape."""
    drives = [
        drive("d1", tape("a1", tags=("a",))),
        drive("d2", tape("a2", tags=("a",))),
        drive("d3", tape("b", tags=("b",)), busy=True),
    ]
    have = stock(drives)
    assert claimed(place(tagged((10, "a"), (10, "b")), have), have) == {"d1"}


def test_a_write_keeps_a_slot_and_the_space_for_which_it_waits() -> None:
    have = stock([drive("d1", tape("a", 100), available=50, slots=4, load=1, idle=False, mixes=True)])
    outcome = place(write(80, no_split=True), have)
    assert waits(outcome)
    settle(outcome, WRITE)
    assert (have.drives[0].slots, have.drives[0].volume.available) == (3, 0)
    assert pairs(place_read(read(1, "a"), have)) == [("a", "d1")]


def test_a_medium_that_has_just_lost_its_drive_will_be_there_again() -> None:
    have = stock([drive("d1", tape("a", 1000)), drive("d2", busy=True)], [tape("b", 10)])
    settle(place_read(read(1, "b"), have), READ)
    assert waits(place(write(500), have))


def test_with_nothing_to_give_nobody_claims_anything() -> None:
    have = stock([drive("d1", busy=True)], [tape("a")])
    outcome = place(write(10), have)
    assert isinstance(outcome, Waits)
    assert outcome.claims == ()


def test_a_medium_that_blocks_the_only_drive_for_another_has_to_be_taken_out() -> None:
    have = stock(
        [drive("d1", tape("a", tags=("old",)), model="TD9"), drive("d2", tape("x", 0))],
        [tape("b", model="LTO9", tags=("new",))],
    )
    outcome = place(tagged((10, "old"), (10, "new")), have)
    assert isinstance(outcome, Waits)
    assert [device.name for device in outcome.unload] == ["d1"]
    assert claimed(outcome, have) == {"d1", "d2"}


# What one pass does to the stock.


def test_the_next_write_joins_the_tape_that_this_one_fetches_if_there_are_slots() -> None:
    have = stock([drive("d1", slots=2), drive("d2")], [tape("a", 100), tape("b", 200)])
    for expected in ([("a", "d1")], [("a", "d1")], [("b", "d2")]):
        outcome = place(write(40), have)
        assert pairs(outcome) == expected
        settle(outcome, WRITE)


def test_many_writes_take_many_tapes_in_one_pass() -> None:
    have = stock([drive(f"d{n}") for n in range(3)], [tape(f"t{n}", 100 + n) for n in range(5)])
    for n in range(3):
        outcome = place(write(100), have)
        assert pairs(outcome) == [(f"t{n}", f"d{n}")]
        settle(outcome, WRITE)
    assert waits(place(write(100), have))
