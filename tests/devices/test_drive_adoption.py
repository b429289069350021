"""What a drive makes of what it finds: at its start, and after a move that was lost track of."""

from __future__ import annotations

import errno
from dataclasses import replace
from itertools import pairwise

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from lrs_trio.devices.carrier import UNREACHABLE_S
from lrs_trio.devices.life import DeviceStatus
from lrs_trio.devices.ownership import LOOK_AGAIN_S
from lrs_trio.dss.operations import SetDeviceStatus
from lrs_trio.errors import LibraryUnreachableError, LrsError
from lrs_trio.model import AdmStatus, LockType, RequestKind
from tests.devices.drives import ELSEWHERE, running, statuses, watch
from tests.fakes.library import SECONDS, tape_id
from tests.fakes.tapes import TapeSite


def site_with_a_tape(*, mounted: bool) -> TapeSite:
    """One in the drive, one on the shelf."""
    site = TapeSite(drives=1, tapes=0)
    site.add_tape("T00", drive="D0")
    site.add_tape("T01")
    site.library.drives["D0"].mounted = mounted
    return site


async def test_what_a_predecessor_has_left_mounted_is_adopted(autojump_clock: MockClock) -> None:
    site = site_with_a_tape(mounted=True)
    async with running(site) as watched:
        assert watched.drive.state.status is DeviceStatus.MOUNTED
        assert (watched.drive.root, watched.drive.medium_id) == ("/mnt/D0", tape_id("T00"))
        await watched.mounted("T00")
    assert site.library.calls("mount") == []


async def test_what_is_not_mounted_is_adopted_as_it_is(autojump_clock: MockClock) -> None:
    site = site_with_a_tape(mounted=False)
    async with running(site) as watched:
        assert watched.drive.state.status is DeviceStatus.LOADED
        assert watched.found == ["T00"]
        await watched.mounted("T00")
    assert site.library.calls("load") == []


async def test_a_tape_that_the_dss_does_not_know_keeps_its_drive_out_of_use(autojump_clock: MockClock) -> None:
    site = site_with_a_tape(mounted=False)
    del site.dss.media[tape_id("T00")]
    async with running(site) as watched:
        assert watched.drive.state.error is not None
        assert watched.drive.state.error.errno == errno.ENXIO
        await watched.drive.ended.wait()
    assert site.dss.locks == {}


@pytest.mark.parametrize("operation", ["adopt", "read_label", "space"])
async def test_a_tape_that_cannot_be_looked_at_stays_where_it_is_until_the_drive_is_stopped(
    autojump_clock: MockClock, operation: str
) -> None:
    site = site_with_a_tape(mounted=True)
    site.library.fail(operation, errno.EIO)
    async with running(site) as watched:
        await trio.sleep(1000)
        assert watched.drive.state.status is DeviceStatus.FAILED
        # Others can see where it is, and do not look for it on the shelf.
        assert watched.drive.bound == site.medium("T00")
        assert watched.held == {"T00"}
        assert not watched.drive.ended.is_set()
    assert site.dss.locks == {}
    assert watched.drive.state.status is DeviceStatus.FAILED
    assert site.drive_row("D0").adm_status is AdmStatus.UNLOCKED


async def test_a_tape_mounted_under_another_label_is_refused_and_nobody_blamed(autojump_clock: MockClock) -> None:
    site = site_with_a_tape(mounted=True)
    site.library.tapes["T00"].label = "OTHER"
    async with running(site) as watched:
        assert watched.drive.state.error is not None
        assert "OTHER" in str(watched.drive.state.error)
        assert watched.drive.bound == site.medium("T00")
        assert watched.verdicts == []
    assert site.drive_row("D0").adm_status is AdmStatus.UNLOCKED
    assert site.library.calls("unmount") == []


@pytest.mark.parametrize(("recorded", "found"), [("", "T00"), ("NULL", "T00"), ("x" * 32, "x" * 40)])
async def test_a_tape_that_is_mounted_under_a_label_that_a_mount_would_accept_is_adopted(
    autojump_clock: MockClock, recorded: str, found: str
) -> None:
    site = site_with_a_tape(mounted=True)
    site.dss.media[tape_id("T00")] = replace(site.medium("T00"), fs_label=recorded)
    site.library.tapes["T00"].label = found
    async with running(site) as watched:
        assert watched.drive.state.status is DeviceStatus.MOUNTED
        assert watched.drive.state.error is None


@pytest.mark.parametrize("operation", ["query", "lookup", "open"])
async def test_a_drive_that_is_not_there_keeps_its_status_in_the_dss(autojump_clock: MockClock, operation: str) -> None:
    site = site_with_a_tape(mounted=False)
    site.library.fail(operation, errno.ENOENT)
    async with running(site) as watched:
        await watched.drive.ended.wait()
        assert watched.drive.state.error is not None
        assert watched.drive.state.error.errno == errno.ENOENT
    assert watched.drive.state.status is DeviceStatus.FAILED
    assert not any(isinstance(operation, SetDeviceStatus) for _, operation in site.dss.committed)
    assert site.dss.locks == {}


# Waiting.


async def test_a_library_that_does_not_answer_is_awaited(autojump_clock: MockClock) -> None:
    site = site_with_a_tape(mounted=False)
    site.library.fail(
        "lookup", LibraryUnreachableError(errno.ECONNREFUSED, "nobody there"), OSError(errno.ETIMEDOUT, "late")
    )
    async with running(site) as watched:
        assert watched.drive.state.status is DeviceStatus.ADOPTING
        assert "nobody there" in watched.drive.waiting_for
        await trio.sleep(1.5)
        assert "late" in watched.drive.waiting_for
        await trio.sleep(2)
        assert (watched.drive.waiting_for, watched.drive.state.status) == ("", DeviceStatus.LOADED)


async def test_a_look_up_that_hangs_is_tried_again(autojump_clock: MockClock) -> None:
    site = site_with_a_tape(mounted=False)
    site.library.hanging.add(("lookup", "D0"))
    async with running(site) as watched:
        assert trio.current_time() == 60
        site.library.hanging.clear()
        await trio.sleep(2)
        assert watched.drive.state.status is DeviceStatus.LOADED


@pytest.mark.parametrize("serves", [True, False])
async def test_a_tape_that_another_host_has_locked_is_awaited(autojump_clock: MockClock, serves: bool) -> None:
    site = site_with_a_tape(mounted=False)
    theirs = site.dss.add_lock(LockType.MEDIA, tape_id("T00"), ELSEWHERE)
    async with running(site) as watched:
        await trio.sleep(100)
        assert statuses(site)[-1] == "waiting"
        assert watched.drive.awaited == tape_id("T00")
        if serves:
            site.dss.locks.pop((LockType.MEDIA, theirs.id))
            await watched.drive.look_again()
            await trio.sleep(1)
            assert watched.drive.state.status is DeviceStatus.LOADED
    assert list(site.dss.locks.values()) == ([] if serves else [theirs])


async def test_a_tape_that_its_host_has_fetched_meanwhile_is_not_adopted(autojump_clock: MockClock) -> None:
    site = site_with_a_tape(mounted=False)
    theirs = site.dss.add_lock(LockType.MEDIA, tape_id("T00"), ELSEWHERE)
    async with running(site) as watched:
        site.library.drives["D0"].tape = None
        site.library.tapes["T00"].place = "elsewhere"
        del site.dss.locks[LockType.MEDIA, theirs.id]
        await trio.sleep(2 * LOOK_AGAIN_S)
        assert watched.drive.state.status is DeviceStatus.EMPTY
        assert watched.held == set()


# Another drive of the same daemon, which has the locks of media in common with it.


async def test_a_tape_that_another_drive_is_about_to_take_from_here_is_not_adopted(autojump_clock: MockClock) -> None:
    site = TapeSite()
    site.library.drives["D1"].tape = site.library.tapes["T00"]
    async with running(site) as first:
        await first.mounted("T01")
        _, asked = first.grant("T00", RequestKind.READ)
        await trio.sleep(70)
        assert statuses(site)[-1] == "unloading"
        async with running(site, "D1", beside=[first]) as second:
            await trio.sleep(10)
            assert (second.drive.medium_id, second.drive.state.status) == (None, DeviceStatus.ADOPTING)
            assert "/dev/D0" in second.drive.waiting_for
            site.library.drives["D1"].tape = None
            await trio.sleep(100)
            assert (asked.failed, first.drive.medium_id) == ([], tape_id("T00"))
            assert second.drive.state.status is DeviceStatus.EMPTY
        assert first.held == {"T00"}
        first.drive.end_grant(next(iter(first.drive.state.grants)), dirty=False)
    assert site.dss.locks == {}


async def test_a_tape_that_another_drive_does_not_take_after_all_is_adopted(autojump_clock: MockClock) -> None:
    site = TapeSite()
    site.library.drives["D1"].tape = site.library.tapes["T00"]
    async with running(site) as first:
        await first.mounted("T01")
        unwanted, _ = first.grant("T00", RequestKind.READ)
        await trio.sleep(70)
        async with running(site, "D1", beside=[first]) as second:
            first.drive.end_grant(unwanted, dirty=False)
            await trio.sleep(100)
            assert first.drive.medium_id is None
            assert (second.drive.medium_id, second.drive.state.status) == (tape_id("T00"), DeviceStatus.LOADED)
            assert (second.held, second.drive.waiting_for) == ({"T00"}, "")
    assert site.dss.locks == {}


@pytest.mark.parametrize("step", range(0, 60, 3))
async def test_a_tape_is_bound_to_its_drive_as_soon_as_that_has_its_lock(autojump_clock: MockClock, step: int) -> None:
    site = site_with_a_tape(mounted=True)
    site.library.seconds |= dict.fromkeys(("query", "lookup", "open", "adopt", "read_label", "space"), 5.0)
    site.dss.delay = lambda: 5.0
    watched = watch(site)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watched.drive.run)
        await trio.sleep(step)
        assert watched.drive.bound == site.medium("T00") or "T00" not in watched.held
        watched.drive.stop()
        while not watched.drive.ended.is_set():
            await trio.sleep(1)
            assert watched.drive.holds(tape_id("T00")) or "T00" not in watched.held
    assert watched.held == set()


@pytest.mark.note("11")
@pytest.mark.parametrize("how", ["stop", "condemn"])
@pytest.mark.parametrize("after", range(0, 80, 5))
async def test_whatever_ends_an_adoption_at_any_step_leaves_no_lock(
    autojump_clock: MockClock, after: int, how: str
) -> None:
    site = site_with_a_tape(mounted=True)
    site.library.seconds |= dict.fromkeys(("query", "lookup", "open", "adopt", "read_label", "space"), 10.0)
    site.dss.delay = lambda: 4.0
    watched = watch(site)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watched.drive.run)
        await trio.sleep(after)
        if how == "condemn":
            watched.drive.condemn(LrsError(errno.EIO, "broken"))
            await trio.sleep(1000)
        watched.drive.stop()
        await watched.drive.ended.wait()
    expected = DeviceStatus.STOPPED if how == "stop" else DeviceStatus.FAILED
    assert watched.drive.state.status is expected
    assert (site.drive_row("D0").adm_status is AdmStatus.FAILED) == (how == "condemn")
    assert site.dss.locks == {}


# A move that was lost track of.


async def test_a_library_that_cannot_be_reached_blames_nobody_and_is_awaited(autojump_clock: MockClock) -> None:
    site = TapeSite()
    async with running(site, max_concurrent_io=2) as watched:
        site.library.unreachable = True
        holders = [watched.grant("T00")[1], watched.grant("T00")[1]]
        await trio.sleep(100)
        assert [error.errno for holder in holders for _, error in holder.failed] == [errno.ECONNREFUSED] * 2
        assert not watched.drive.state.serving
        assert watched.drive.bound == site.medium("T00")
        assert "does not answer" in watched.drive.waiting_for
        site.library.unreachable = False
        await trio.sleep(100)
        assert watched.drive.state.status is DeviceStatus.EMPTY
        assert watched.put_back == [("T00", None)]
        assert watched.held == set()
        assert not watched.evidence.barred()


async def test_a_load_that_was_done_although_nobody_heard_of_it_is_found(autojump_clock: MockClock) -> None:
    site = TapeSite()
    async with running(site) as watched:
        site.library.fail("load", LibraryUnreachableError(errno.ECONNRESET, "gone"))
        watched.grant("T00")
        await trio.sleep(20)
        site.library.drives["D0"].tape = site.library.tapes["T00"]
        await trio.sleep(1)
        assert watched.drive.state.status is DeviceStatus.LOADED
        await watched.mounted("T00")


REFUSALS = [
    LibraryUnreachableError(errno.ENOENT, "every slot is full"),
    LibraryUnreachableError(errno.ESHUTDOWN, "the controller is shutting down"),
    LibraryUnreachableError(errno.ECONNREFUSED, "nobody listens there", asked=False),
]
"""To move anything, by a library that can be asked all the same what is in a drive."""


@pytest.mark.parametrize("refusal", REFUSALS)
async def test_a_library_that_does_not_take_a_tape_back_is_asked_less_and_less_often(
    autojump_clock: MockClock, refusal: LibraryUnreachableError
) -> None:
    site = TapeSite()
    site.library.fail("mount", errno.EIO, None, errno.EIO)
    site.library.fail("unload", *[refusal] * 5, None, None, refusal)
    site.library.seconds |= {"unload": 0.0, "unmount": 0.0}
    async with running(site) as watched:
        watched.grant("T00")
        await trio.sleep(1000)
        asked = [time for time, _, name in site.library.calls("unload") if name == "T00"]
        assert [later - earlier for earlier, later in pairwise(asked)] == [5, 10, 20, 30, 30]
        assert watched.drive.state.status is DeviceStatus.EMPTY
        assert watched.verdicts == []
        # It has worked meanwhile.
        await watched.mounted("T01")
        watched.grant("T02")
        await trio.sleep(1000)
        asked = [time for time, _, name in site.library.calls("unload") if name == "T02"]
        assert [later - earlier for earlier, later in pairwise(asked)] == [5]


@pytest.mark.parametrize("refusal", REFUSALS)
@pytest.mark.parametrize("move", ["load", "unload"])
async def test_a_drive_rests_after_a_move_that_its_library_has_refused(
    autojump_clock: MockClock, move: str, refusal: LibraryUnreachableError
) -> None:
    site = TapeSite()
    async with running(site) as watched:
        if move == "unload":
            await watched.mounted("T00")
        site.library.fail(move, refusal)
        _, holder = watched.grant("T01")
        await trio.sleep(100)
        assert [error for _, error in holder.failed] == [refusal]
        ((asked, _, _),) = site.library.calls(move)
        assert watched.drive.busy_until == asked + SECONDS[move] + UNREACHABLE_S
        assert watched.drive.state.serving
        assert watched.held == ({"T00"} if move == "unload" else set())


@pytest.mark.parametrize("found", ["T00", "T01", None])
async def test_an_unload_that_was_lost_track_of_is_followed_up(autojump_clock: MockClock, found: str | None) -> None:
    site = TapeSite()
    async with running(site) as watched:
        await watched.mounted("T00")
        site.library.fail("unload", LibraryUnreachableError(errno.ECONNRESET, "gone"))
        _, holder = watched.grant("T02")
        await trio.sleep(89)
        site.library.drives["D0"].tape = None if found is None else site.library.tapes[found]
        await trio.sleep(2)
        assert [error.errno for _, error in holder.failed] == [errno.ECONNRESET]
        assert watched.drive.state.status is (DeviceStatus.EMPTY if found is None else DeviceStatus.LOADED)
        assert watched.held == ({found} if found else set())
        assert watched.put_back == ([] if found == "T00" else [("T00", None)])


async def test_another_tape_that_somebody_has_put_in_is_adopted_and_nobody_blamed(autojump_clock: MockClock) -> None:
    site = TapeSite()
    async with running(site) as watched:
        site.library.drives["D0"].tape = site.library.tapes["T03"]
        _, holder = watched.grant("T00")
        await trio.sleep(100)
        assert [error.errno for _, error in holder.failed] == [errno.EBUSY]
        assert (watched.drive.medium_id, watched.held) == (tape_id("T03"), {"T03"})
        assert watched.drive.state.serving
        assert not watched.evidence.barred()


async def test_a_tape_that_somebody_has_exchanged_is_not_stuck(autojump_clock: MockClock) -> None:
    site = TapeSite()
    async with running(site) as watched:
        await watched.mounted("T00")
        _, holder = watched.grant("T01")
        await trio.sleep(70)
        site.library.drives["D0"].tape = site.library.tapes["T03"]
        await trio.sleep(100)
        assert [error.errno for _, error in holder.failed] == [errno.EINVAL]
        assert (watched.drive.medium_id, watched.drive.state.serving) == (tape_id("T03"), True)


@pytest.mark.note("11")
@pytest.mark.parametrize("how", ["stop", "condemn"])
@pytest.mark.parametrize("move", ["load", "unload", "ejection"])
async def test_whatever_ends_a_drive_that_is_lost_track_of_does_not_wait_for_the_library(
    autojump_clock: MockClock, move: str, how: str
) -> None:
    site = TapeSite()
    async with running(site) as watched:
        if move != "load":
            await watched.mounted("T00")
        if move == "ejection":
            site.dss.add_lock(LockType.MEDIA, tape_id("T00"), ELSEWHERE)
            watched.read("T00")
        else:
            watched.grant("T01")
        site.library.unreachable = True
        await trio.sleep(1000)
        assert watched.drive.state.lost
        if how == "condemn":
            watched.drive.condemn(LrsError(errno.EIO, "broken"))
            await trio.sleep(10)
            assert watched.drive.state.status is DeviceStatus.FAILED
            assert not watched.drive.ended.is_set()
    assert watched.drive.waiting_for == ""
    assert [lock.owner for lock in site.dss.locks.values()] == ([ELSEWHERE] if move == "ejection" else [])


async def test_nobody_waits_for_a_look_at_a_lock_once_a_lost_drive_is_stopped(autojump_clock: MockClock) -> None:
    site = TapeSite()
    site.dss.add_lock(LockType.MEDIA, tape_id("T03"), ELSEWHERE)
    async with running(site) as watched:
        site.library.drives["D0"].tape = site.library.tapes["T03"]
        watched.grant("T00")
        await trio.sleep(100)
        assert watched.drive.awaited == tape_id("T03")
        with trio.fail_after(1000):
            async with trio.open_nursery() as nursery:
                site.dss.delay = lambda: 100.0
                nursery.start_soon(watched.drive.look_again)
                await trio.sleep(1)
                watched.drive.stop()
        await wait_all_tasks_blocked()
        assert watched.drive.awaited is None


async def test_a_stop_while_a_lost_tape_is_given_back_leaves_no_lock(autojump_clock: MockClock) -> None:
    site = TapeSite()
    async with running(site) as watched:
        site.library.fail("load", LibraryUnreachableError(errno.ECONNRESET, "gone"))
        watched.grant("T00")
        await trio.sleep(1)
        site.dss.delay = lambda: 100.0
        await trio.sleep(50)
        watched.drive.stop()
    assert site.dss.locks == {}


async def test_a_drive_that_the_library_does_not_know_any_more_is_given_up_with_its_tape(
    autojump_clock: MockClock,
) -> None:
    site = TapeSite()
    async with running(site) as watched:
        await watched.mounted("T00")
        site.library.fail("unload", LibraryUnreachableError(errno.ECONNRESET, "gone"))
        site.library.fail("lookup", errno.ENOENT)
        watched.grant("T01")
        await trio.sleep(1000)
        assert watched.drive.state.status is DeviceStatus.FAILED
        assert watched.held == {"T00"}
        assert site.drive_row("D0").adm_status is AdmStatus.UNLOCKED
    assert site.dss.locks == {}
