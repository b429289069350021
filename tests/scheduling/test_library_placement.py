"""Reads and formats where media come and go: the rules one by one."""

from __future__ import annotations

import errno
from typing import Any

import pytest

from lrs_trio.errors import LrsError
from lrs_trio.model import AdmStatus, FsStatus, FsType, ReadOperation, ResourceId
from lrs_trio.scheduling.library_offers import DriveOffer
from lrs_trio.scheduling.library_placement import drives_for_format, drives_for_read, place_format, place_read
from lrs_trio.scheduling.placement import Outcome, Placed, Waits
from lrs_trio.wire.messages import Format
from tests.fakes.stock import (
    FORMAT,
    NOBODY,
    ONLY_FORMAT,
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
    wanted_by_reads,
)


def form(name: str, *, fs_type: FsType = FsType.LTFS, force: bool = False) -> Format:
    return Format(tape_id(name), fs_type, force=force)


def blank(name: str, **more: Any) -> Any:
    return tape(name, 0, fs_status=FsStatus.BLANK, **more)


def unloads(outcome: Outcome) -> set[str]:
    assert isinstance(outcome, Waits), outcome
    return {device.name for device in outcome.unload}


# Reads: which media.


@pytest.mark.note("6")
def test_what_is_mounted_is_read_before_what_is_loaded_and_that_before_what_is_on_the_shelf() -> None:
    drives = [drive("d1", tape("loaded")), drive("d2", tape("mounted"), mounted=True), drive("d3")]
    have = stock(drives, [tape("shelved")])
    assert pairs(place_read(read(1, "shelved", "loaded", "mounted"), have)) == [("mounted", "d2")]
    assert pairs(place_read(read(2, "shelved", "loaded", "mounted"), have)) == [("mounted", "d2"), ("loaded", "d1")]
    assert pairs(place_read(read(3, "shelved", "loaded", "mounted"), have))[2] == ("shelved", "d3")


@pytest.mark.note("6")
def test_the_clients_order_decides_between_equals() -> None:
    have = stock([drive("d1"), drive("d2")], [tape(name) for name in "abc"])
    assert [medium for medium, _ in pairs(place_read(read(2, "c", "a", "b"), have))] == ["c", "a"]


def test_what_is_busy_is_passed_over_for_what_can_be_had_now() -> None:
    have = stock([drive("d1", tape("a"), busy=True, mounted=True), drive("d2")], [tape("b")])
    assert pairs(place_read(read(1, "a", "b"), have)) == [("b", "d2")]
    assert waits(place_read(read(1, "a"), have))


def test_two_media_are_never_read_in_one_drive() -> None:
    have = stock([drive("d1"), drive("d2", busy=True)], [tape("a"), tape("b"), tape("c")])
    outcome = place_read(read(2, "a", "b"), have)
    assert waits(outcome)
    settle(outcome, READ)
    assert waits(place_read(read(1, "c"), have))


def test_an_assignment_that_the_first_choice_of_drives_would_miss_is_found() -> None:
    """a goes into both drives, b only into the one that a would take first."""
    have = stock([drive("d1", model="TD9"), drive("d2", model="TD8")], [tape("a"), tape("b", model="LTO9")])
    assert pairs(place_read(read(2, "a", "b"), have)) == [("a", "d2"), ("b", "d1")]


@pytest.mark.parametrize(
    ("spoilt", "operation", "expected"),
    [
        ({"fs_status": FsStatus.BLANK}, ReadOperation.READ, errno.EINVAL),
        ({"get": False}, ReadOperation.READ, errno.EPERM),
        ({"delete": False}, ReadOperation.DELETE, errno.EPERM),
        ({"adm_status": AdmStatus.LOCKED}, ReadOperation.READ, errno.EPERM),
        ({"model": "LTO9"}, ReadOperation.READ, errno.ENODEV),
        ({"library": "other"}, ReadOperation.READ, errno.ENODEV),
    ],
)
def test_media_that_cannot_be_read_are_left_out_while_enough_remain(
    spoilt: dict[str, Any], operation: ReadOperation, expected: int
) -> None:
    medium = tape("bad", **spoilt)
    request = read(1, "bad", operation=operation)
    request = type(request)(1, (medium.id,), operation)
    for have in (stock([drive("d1", medium)]), stock([drive("d1")], [medium])):
        assert refused(place_read(request, have)) == expected
    both = type(request)(1, (medium.id, tape_id("good")), operation)
    assert pairs(place_read(both, stock([drive("d1")], [medium, tape("good")]))) == [("good", "d1")]


def test_the_first_error_is_the_one_that_is_told() -> None:
    elsewhere = LrsError(errno.EALREADY, "on store2")
    have = stock(
        [drive("d1")],
        [tape("a"), tape("b", get=False)],
        refused={"a": elsewhere},
        absent={tape_id("c"): LrsError(errno.ENXIO, "unknown")},
    )
    assert refused(place_read(read(1, "a", "b", "c"), have)) == errno.EALREADY
    assert refused(place_read(read(1, "c", "b", "a"), have)) == errno.ENXIO
    assert refused(place_read(read(1, "d"), have)) == errno.ENODEV


def test_a_medium_that_is_stuck_in_a_broken_drive_is_refused_with_what_broke_it() -> None:
    broken = drive("d1", tape("a"), serving=False, refusal=LrsError(errno.EIO, "stuck"))
    assert refused(place_read(read(1, "a"), stock([broken, drive("d2")]))) == errno.EIO


def test_a_medium_in_a_drive_that_does_not_serve_now_may_come_back() -> None:
    assert waits(place_read(read(1, "a"), stock([drive("d1", tape("a"), serving=False), drive("d2")])))
    assert refused(place_read(read(1, "a"), stock([drive("d1", tape("a"), serving=False)]))) == errno.ENODEV


def test_a_medium_on_its_way_out_of_a_drive_is_waited_for() -> None:
    have = stock([drive("d1", tape("b"), loaded=False, busy=True)], leaving=[tape("a")])
    assert waits(place_read(read(1, "a"), have))


def test_more_media_at_once_than_there_are_drives_can_never_be() -> None:
    have = stock([drive("d1"), drive("d2", model="TD9", serving=False)], [tape("a"), tape("b")])
    assert refused(place_read(read(2, "a", "b"), have)) == errno.ENODEV


def test_a_busy_drive_counts_as_one_and_a_barred_one_does_not() -> None:
    have = stock([drive("d1", busy=True)], [tape("a")])
    assert waits(place_read(read(1, "a"), have))
    have = stock([drive("d1", busy=True)], [tape("a")], barred=[("d1", "a")])
    assert refused(place_read(read(1, "a"), have)) == errno.ENODEV
    have = stock([drive("d1"), drive("d2", used=9.0)], [tape("a")], barred=[("d1", "a")])
    assert pairs(place_read(read(1, "a"), have)) == [("a", "d2")]


# Which drive has to give its medium up.


@pytest.mark.parametrize(
    ("cheap", "dear"),
    [
        (drive("cheap", used=9.0), drive("dear", tape("y"))),
        (drive("cheap", tape("x"), used=9.0, pending=1, mounted=True), drive("dear", tape("wanted"))),
        (drive("cheap", tape("x"), used=9.0, mounted=True), drive("dear", tape("y"), pending=1)),
        (drive("cheap", tape("x"), used=9.0), drive("dear", tape("y"), mounted=True)),
        (drive("cheap", tape("x"), used=1.0), drive("dear", tape("y"), used=2.0)),
    ],
)
def test_the_cheapest_drive_gives_its_medium_up(cheap: DriveOffer, dear: DriveOffer) -> None:
    for drives in ([cheap, dear], [dear, cheap]):
        have = stock(drives, [tape("a")], wanted=["wanted"])
        assert pairs(place_read(read(1, "a"), have)) == [("a", "cheap")]


@pytest.mark.parametrize(
    "spared",
    [
        {"stays": True},
        {"located": True},
        {"idle": False},
        {"slots": 0},
        {"serving": False},
        {"dedicated": ONLY_WRITE},
        {"dedicated": NOBODY},
        {"model": "TD7"},
        {"library": "other"},
    ],
)
def test_drives_that_keep_their_medium(spared: dict[str, Any]) -> None:
    have = stock([drive("d1", tape("x"), **spared), drive("d2", busy=True)], [tape("a")])
    assert waits(place_read(read(1, "a"), have))


def test_a_tape_stays_where_reads_wait_for_it() -> None:
    """Only other reads leave it alone: nobody else would ever be served."""
    drives = [drive("d1", tape("x"))]
    request = read(1, "a")
    shelf = [tape("a"), blank("new")]
    outcome = place_read(request, stock(drives, shelf, wanted=["x"], grouped=True))
    assert waits(outcome)
    settle(outcome, READ)
    assert pairs(place_read(read(1, "x"), stock(drives, shelf))) == [("x", "d1")]
    assert pairs(place_read(request, stock(drives, shelf, wanted=["x"], grouped=False))) == [("a", "d1")]
    assert pairs(place_format(form("new"), stock(drives, shelf, wanted=["x"], grouped=True))) == [("new", "d1")]


def test_a_medium_that_its_drive_has_failed_with_is_kept_for_nobody() -> None:
    have = stock([drive("d1", tape("x"))], [tape("a")], wanted=["x"], grouped=True, barred=[("d1", "x")])
    assert pairs(place_read(read(1, "a"), have)) == [("a", "d1")]


def test_what_reads_want_is_what_they_could_have_without_a_load() -> None:
    drives = [
        drive("d1", tape("a")),
        drive("d2", tape("b"), busy=True),
        drive("d3", tape("c"), dedicated=ONLY_WRITE),
        drive("d4", tape("d"), serving=False),
        drive("d5", tape("e", get=False)),
        drive("d6"),
    ]
    requests = [read(1, "a", "x"), read(2, "a", "b"), read(2, "a", "x"), *(read(1, name) for name in "cdex")]
    wanted = wanted_by_reads(requests, drives)
    assert {medium.name for medium in wanted} == {"a", "b"}
    assert wanted_by_reads([read(1, "e", operation=ReadOperation.DELETE)], drives) == {tape_id("e")}


# What one pass does to the stock.


def test_a_medium_that_is_on_its_way_is_joined_if_there_are_slots() -> None:
    for slots, expected in ((1, None), (2, [("a", "d1")])):
        have = stock([drive("d1", tape("x"), slots=slots)], [tape("a")])
        outcome = place_read(read(1, "a"), have)
        settle(outcome, READ)
        again = place_read(read(1, "a"), have)
        assert waits(again) if expected is None else pairs(again) == expected
        assert have.drives[0].medium == tape("a")
        assert not have.drives[0].mounted
        assert not have.drives[0].loaded


def test_a_medium_that_has_just_lost_its_drive_is_waited_for() -> None:
    have = stock([drive("d1", tape("x")), drive("d2", busy=True)], [tape("a")])
    settle(place_read(read(1, "a"), have), READ)
    assert waits(place_read(read(1, "x"), have))


def test_the_shelf_that_was_given_is_not_changed() -> None:
    """A family may keep it from one pass to the next."""
    have = stock([drive("d1")], [tape("a")])
    settle(place_read(read(1, "a"), have), READ)
    assert list(have.shelf) == [tape_id("a")]


def test_one_that_waits_keeps_its_media_and_drives_from_those_behind() -> None:
    have = stock([drive("d1"), drive("d2", tape("x"), busy=True)], [tape("a"), tape("b")])
    outcome = place_read(read(2, "a", "x"), have)
    assert waits(outcome)
    settle(outcome, READ)
    assert waits(place_read(read(1, "b"), have))
    assert waits(place_read(read(1, "a"), have))


def test_one_that_waits_for_a_busy_medium_holds_no_other_drive_up() -> None:
    have = stock([drive("d1"), drive("d2", tape("x"), busy=True)], [tape("a")])
    settle(place_read(read(1, "x"), have), READ)
    assert pairs(place_read(read(1, "a"), have)) == [("a", "d1")]


def test_one_that_waits_for_a_drive_lets_nobody_join_what_goes_on_there() -> None:
    have = stock([drive("d1", tape("x"), idle=False, slots=3, load=1, mixes=True)], [tape("a")])
    settle(place_read(read(1, "a"), have), READ)
    assert waits(place_read(read(1, "x"), have))


def test_a_read_lets_no_write_follow_the_writes_that_it_waits_for() -> None:
    have = stock([drive("d1", tape("x"), idle=False, slots=3, load=1, kinds=ONLY_WRITE)])
    settle(place_read(read(1, "x"), have), READ)
    assert have.drives[0].slots == 0


def test_a_tape_that_cannot_leave_may_still_be_read() -> None:
    have = stock([drive("d1", tape("x"), stays=True, mounted=True)], [tape("a")])
    settle(place_read(read(1, "a"), have), READ)
    assert pairs(place_read(read(1, "x"), have)) == [("x", "d1")]


def test_a_medium_that_blocks_the_only_drive_for_another_has_to_be_taken_out() -> None:
    """Both are wanted at once; a is in the only drive that takes b, and the other drive would do for a."""
    a, b = tape("a"), tape("b", model="LTO9")
    have = stock([drive("d1", a, model="TD9"), drive("d2", tape("x"))], [b])
    outcome = place_read(read(2, "a", "b"), have)
    assert unloads(outcome) == {"d1"}
    settle(outcome, READ)
    assert not any(drive.slots for drive in have.drives)
    assert pairs(place_read(read(2, "a", "b"), stock([drive("d1", model="TD9"), drive("d2")], [a, b]))) == [
        ("a", "d2"),
        ("b", "d1"),
    ]


def test_a_medium_in_a_drive_that_it_failed_with_has_to_be_taken_out() -> None:
    have = stock([drive("d1", tape("a")), drive("d2", busy=True)], barred=[("d1", "a")])
    assert unloads(place_read(read(1, "a"), have)) == set()
    have = stock([drive("d1", tape("a")), drive("d2")], barred=[("d1", "a")])
    assert unloads(place_read(read(1, "a"), have)) == {"d1"}


# Drives that are shared out.


def test_a_drive_that_serves_others_is_exchanged_for_one_of_ours() -> None:
    theirs = drive("d1", tape("a"), dedicated=ONLY_WRITE)
    ours = drive("d2", tape("x"), dedicated=ONLY_READ)
    have = stock([theirs, ours])
    outcome = place_read(read(1, "a"), have)
    assert pairs(outcome) == [("a", "d1")]
    settle(outcome, READ)
    assert (theirs.dedicated, ours.dedicated) == (ONLY_READ, ONLY_WRITE)
    assert ours.medium == tape("x")
    assert ours.at_rest


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ({"busy": True}, {}),
        ({"idle": False, "slots": 2, "load": 1}, {}),
        ({}, {"busy": True}),
        ({}, {"technology": "LTO9"}),
        ({}, {"dedicated": ONLY_WRITE}),
    ],
)
def test_no_drive_is_exchanged_unless_both_are_at_rest_and_alike(theirs: dict[str, Any], ours: dict[str, Any]) -> None:
    drives = [drive("d1", tape("a"), dedicated=ONLY_WRITE, **theirs), drive("d2", **({"dedicated": ONLY_READ} | ours))]
    outcome = place_read(read(1, "a"), stock(drives))
    assert waits(outcome)
    settle(outcome, READ)
    assert drives[0].dedicated == ONLY_WRITE


def test_a_drive_that_serves_both_is_exchanged_for_one_that_serves_only_others() -> None:
    """Those have as many as before."""
    theirs, both = drive("d1", tape("a"), dedicated=ONLY_WRITE), drive("d2", dedicated=ONLY_READ | ONLY_WRITE)
    outcome = place_read(read(1, "a"), stock([theirs, both]))
    assert pairs(outcome) == [("a", "d1")]
    settle(outcome, READ)
    assert (theirs.dedicated, both.dedicated) == (ONLY_READ | ONLY_WRITE, ONLY_WRITE)


def test_one_that_needs_more_drives_than_there_are_for_its_kind_holds_up_nobody() -> None:
    ours = drive("d1", tape("a"), dedicated=ONLY_READ)
    theirs = [drive(name, tape(medium), dedicated=ONLY_WRITE) for name, medium in (("d2", "b"), ("d3", "c"))]
    outcome = place_read(read(2, "a", "b"), stock([ours, *theirs]))
    assert outcome == Waits((), in_turn=False)


def test_a_drive_of_nobody_is_simply_taken() -> None:
    spare = drive("d1", tape("a"), dedicated=NOBODY)
    outcome = place_read(read(1, "a"), stock([spare]))
    assert pairs(outcome) == [("a", "d1")]
    settle(outcome, READ)
    assert spare.dedicated == ONLY_READ


def test_reads_do_not_give_the_drive_away_whose_tape_they_wait_for() -> None:
    reads = drive("d1", tape("a"), dedicated=ONLY_READ)
    writes = drive("d2", tape("b"), dedicated=ONLY_WRITE)
    formats = drive("d3", dedicated=ONLY_FORMAT)
    assert waits(place_read(read(1, "b"), stock([reads, writes], wanted=["a"], grouped=True)))
    assert pairs(place_read(read(1, "b"), stock([reads, writes], wanted=["a"]))) == [("b", "d2")]
    assert waits(place_format(form("a", force=True), stock([reads, formats], wanted=["a"], grouped=True)))
    assert pairs(place_format(form("a", force=True), stock([reads, formats]))) == [("a", "d1")]


def test_one_that_can_only_wait_for_the_drive_of_others_keeps_it_from_them() -> None:
    theirs = drive("d1", tape("a"), dedicated=ONLY_WRITE)
    have = stock([theirs, drive("d2", busy=True, dedicated=ONLY_READ)])
    settle(place_read(read(1, "a"), have), READ)
    assert theirs.slots == 0


def test_one_that_has_another_way_lets_others_keep_their_drive() -> None:
    theirs = drive("d1", tape("a"), dedicated=ONLY_WRITE)
    have = stock([theirs, drive("d2", busy=True, dedicated=ONLY_READ)], [tape("b")])
    settle(place_read(read(1, "a", "b"), have), READ)
    assert theirs.slots == 1


def in_turn(outcome: Outcome) -> bool:
    assert isinstance(outcome, Waits), outcome
    return outcome.in_turn


def test_a_drive_that_does_not_serve_is_nothing_to_give_for_another() -> None:
    drives = [drive("d1", tape("a"), dedicated=ONLY_WRITE), drive("d2", tape("b"), dedicated=ONLY_READ)]
    for serving in (True, False):
        have = stock([*drives, drive("d3", dedicated=ONLY_READ, busy=True, serving=serving)])
        assert in_turn(place_read(read(2, "a", "b"), have)) is serving


@pytest.mark.parametrize("barred", [[], [("d1", "a")]])
def test_a_drive_is_not_had_for_a_tape_that_it_has_failed_with(barred: list[tuple[str, str]]) -> None:
    """The tape is in d1, and d2, which could be given for d1, does not take it."""
    drives = [
        drive("d1", tape("a", model="LTO9"), model="TD9", dedicated=ONLY_WRITE),
        drive("d2", busy=True, dedicated=ONLY_READ),
        drive("d3", model="TD9", dedicated=ONLY_WRITE),
    ]
    assert in_turn(place_read(read(1, "a"), stock(drives, barred=barred))) == (not barred)


def suited(drives: tuple[ResourceId, ...]) -> set[str]:
    return {drive.name for drive in drives}


def test_which_other_drives_would_do() -> None:
    """d1 is there for reads and does not take the tape."""
    drives = [
        drive("d1", dedicated=ONLY_READ),
        drive("d2", dedicated=ONLY_WRITE),
        drive("d3", dedicated=ONLY_FORMAT, serving=False),
    ]
    have = stock(drives, [tape("a"), tape("b"), blank("new")], barred=[("d1", "a"), ("d2", "b"), ("d3", "new")])
    assert suited(drives_for_read(read(1, "a"), have)) == {"d2"}
    assert suited(drives_for_read(read(1, "b"), have)) == {"d1"}
    # As many as it has, and formats have none that serves.
    assert suited(drives_for_read(read(2, "a", "b"), have)) == set()
    assert suited(drives_for_format(form("new"), have)) == set()
    drives[2].serving = True
    assert suited(drives_for_format(form("new"), have)) == {"d1"}
    assert suited(drives_for_format(form("unknown"), have)) == set()


def test_what_is_theirs_is_kept_where_it_will_do() -> None:
    drives = [
        drive("d1", dedicated=ONLY_READ),
        drive("d2", dedicated=ONLY_READ),
        drive("d3", dedicated=ONLY_WRITE),
        drive("d4", dedicated=ONLY_WRITE),
    ]
    barred = [(d, "b") for d in ("d1", "d2", "d3")]
    assert suited(drives_for_read(read(2, "a", "b"), stock(drives, [tape("a"), tape("b")], barred=barred))) == {
        "d1",
        "d4",
    }


def test_an_idle_drive_is_wanted_before_one_at_work() -> None:
    drives = [
        drive("d1", dedicated=ONLY_READ),
        drive("d2", dedicated=ONLY_WRITE, busy=True),
        drive("d3", dedicated=NOBODY),
    ]
    assert suited(drives_for_read(read(1, "a"), stock(drives, [tape("a")], barred=[("d1", "a")]))) == {"d3"}


def test_drives_of_another_technology_are_no_others() -> None:
    drives = [drive("d1", dedicated=ONLY_READ), drive("d2", model="TD9", technology="LTO9", dedicated=ONLY_WRITE)]
    assert drives_for_read(read(1, "a"), stock(drives, [tape("a", model="LTO9")])) == ()


# Formats.


@pytest.mark.note("5.1")
def test_a_format_takes_the_drive_that_has_the_medium_else_the_cheapest() -> None:
    have = stock([drive("d1"), drive("d2", blank("a"))], [blank("b")])
    assert pairs(place_format(form("a"), have)) == [("a", "d2")]
    assert pairs(place_format(form("b"), have)) == [("b", "d1")]


@pytest.mark.note("5.1")
@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("status", [FsStatus.EMPTY, FsStatus.USED, FsStatus.FULL])
def test_only_who_insists_formats_what_is_not_blank(status: FsStatus, force: bool) -> None:
    have = stock([drive("d1")], [tape("a", fs_status=status)])
    outcome = place_format(form("a", force=force), have)
    assert pairs(outcome) == [("a", "d1")] if force else refused(outcome) == errno.EINVAL


@pytest.mark.note("5.1")
def test_formats_that_can_never_be_done() -> None:
    have = stock(
        [
            drive("d1"),
            drive("d2", blank("doing"), busy=True, formatting=True),
            drive("d3", blank("stuck"), serving=False, refusal=LrsError(errno.EIO, "stuck")),
        ],
        [tape("importing", fs_status=FsStatus.IMPORTING), blank("far"), blank("nowhere", model="LTO9"), blank("a")],
        refused={"far": LrsError(errno.EALREADY, "on store2")},
        absent={tape_id("gone"): LrsError(errno.ENXIO, "unknown")},
    )
    for name, expected in (
        ("importing", errno.EINVAL),
        ("doing", errno.EINVAL),
        ("stuck", errno.EIO),
        ("far", errno.EBUSY),
        ("nowhere", errno.ENODEV),
        ("gone", errno.ENXIO),
        ("unheard-of", errno.ENODEV),
    ):
        assert refused(place_format(form(name, force=True), have)) == expected, name
    assert refused(place_format(form("a", fs_type=FsType.POSIX), have)) == errno.EINVAL


def test_a_locked_medium_is_formatted_all_the_same() -> None:
    have = stock([drive("d1")], [blank("a", adm_status=AdmStatus.LOCKED)])
    assert pairs(place_format(form("a"), have)) == [("a", "d1")]


def test_a_format_waits_for_its_drive_and_lets_nobody_in_before() -> None:
    have = stock([drive("d1", tape("a"), idle=False, slots=2, load=1, mixes=True)])
    settle(place_format(form("a", force=True), have), FORMAT)
    assert waits(place_read(read(1, "a"), have))


def test_the_same_medium_is_formatted_once() -> None:
    have = stock([drive("d1"), drive("d2")], [blank("a")])
    settle(place_format(form("a"), have), FORMAT)
    assert refused(place_format(form("a"), have)) == errno.EINVAL


def test_nobody_reads_in_a_drive_that_formats() -> None:
    have = stock([drive("d1", tape("a"), slots=3, mixes=True)])
    settle(place_format(form("a", force=True), have), FORMAT)
    assert waits(place_read(read(1, "a"), have))


def test_what_is_placed_is_taken_with_its_kind() -> None:
    have = stock([drive("d1", tape("a"), slots=2)])
    outcome = place_read(read(1, "a"), have)
    assert isinstance(outcome, Placed)
    outcome.take(READ)
    assert have.drives[0].kinds == ONLY_READ
    assert not have.drives[0].admits(WRITE)
