"""The task of a drive: media that come, are used, and go."""

from __future__ import annotations

import errno
from dataclasses import replace

import pytest
import trio
from trio.testing import MockClock

from lrs_trio.devices.adoption import LONGEST_PAUSE_S
from lrs_trio.devices.grant import GrantState
from lrs_trio.devices.life import DeviceStatus
from lrs_trio.devices.to_sync import SyncStatus
from lrs_trio.dss.operations import ReadMedium, TakeLock, UpdateMedia
from lrs_trio.errors import LrsError
from lrs_trio.model import AdmStatus, FsStatus, LockType, RequestKind
from tests.devices.drives import ELSEWHERE, NO_PROCESS, Watched, running, statuses
from tests.fakes.library import SECONDS, tape_id
from tests.fakes.tapes import GIB, TapeSite


async def test_an_empty_drive_is_adopted_and_loads_what_is_asked_for(autojump_clock: MockClock) -> None:
    site = TapeSite()
    async with running(site) as watched:
        assert watched.drive.state.status is DeviceStatus.EMPTY
        await watched.granted("T00")
        assert watched.drive.root == "/mnt/D0"
        assert watched.held == {"T00"}
        assert site.medium("T00").stats.nb_load == 1
        watched.drive.end_grant(next(iter(watched.drive.state.grants)), dirty=False)
    assert statuses(site) == [
        "adopting",
        "empty",
        "loading",
        "loaded",
        "mounting",
        "mounted",
        "unmounting",
        "loaded",
        "stopped",
    ]
    assert site.library.drives["D0"].tape is not None
    assert site.dss.locks == {}


@pytest.mark.note("2.5f", "4.4")
async def test_another_tape_is_loaded_only_after_what_waits_is_synced_and_in_the_books(
    autojump_clock: MockClock,
) -> None:
    site = TapeSite()
    async with running(site) as watched:
        one = await watched.release(await watched.granted("T00"), size=100)
        _, holder = watched.grant("T01", RequestKind.READ)
        await trio.sleep(8)
        assert one.sub.status is SyncStatus.DONE
        assert site.library.calls("unmount") == []
        assert watched.drive.state.unsettled == 1
        watched.drive.release_settled(counted=True)
        await trio.sleep(1000)
        assert len(holder.ready) == 1
        (unmounted,), (unloaded,) = site.library.calls("unmount"), site.library.calls("unload")
        assert unloaded == (unmounted[0] + 60, "D0", "T00")
        assert watched.put_back == [("T00", None)]
        assert watched.held == {"T01"}
        watched.drive.end_grant(holder.ready[0], dirty=False)


@pytest.mark.note("2.5f")
@pytest.mark.parametrize("state", [GrantState.READY, GrantState.ONGOING, GrantState.RESERVED])
async def test_a_tape_that_somebody_uses_is_not_exchanged(autojump_clock: MockClock, state: GrantState) -> None:
    site = TapeSite()
    async with running(site, max_concurrent_io=2) as watched:
        held = await watched.granted("T00")
        watched.drive.move_grant(held, state)
        _, other = watched.grant("T01", RequestKind.READ)
        await trio.sleep(1000)
        assert site.library.calls("unmount") == []
        watched.drive.end_grant(held, dirty=True)
        await trio.sleep(1000)
        assert [grant.medium.name for grant in other.ready] == ["T01"]
        assert len(site.library.calls("sync")) == 1
        watched.drive.end_grant(other.ready[0], dirty=False)


async def test_a_tape_whose_request_has_gone_is_loaded_to_the_end_and_the_next_one_comes(
    autojump_clock: MockClock,
) -> None:
    site = TapeSite()
    async with running(site) as watched:
        gone, _ = watched.grant("T00")
        await trio.sleep(5)
        assert watched.drive.state.status is DeviceStatus.LOADING
        assert watched.drive.medium_id == tape_id("T00")
        watched.drive.end_grant(gone, dirty=False)
        assert not watched.drive.state.idle
        _, holder = watched.grant("T01")
        await trio.sleep(1000)
        assert [name for _, _, name in site.library.calls("load")] == ["T00", "T01"]
        assert [name for _, _, name in site.library.calls("mount")] == ["T01"]
        assert watched.held == {"T01"}
        watched.drive.end_grant(holder.ready[0], dirty=False)


async def test_a_tape_that_nobody_wants_any_more_is_not_loaded(autojump_clock: MockClock) -> None:
    site = TapeSite()
    async with running(site) as watched:
        await watched.mounted("T00")
        gone, holder = watched.grant("T01")
        await trio.sleep(1)
        assert statuses(site)[-1] == "unmounting"
        assert watched.held == {"T00", "T01"}
        watched.drive.end_grant(gone, dirty=False)
        await trio.sleep(1000)
        assert watched.drive.state.status is DeviceStatus.EMPTY
        assert holder.failed == []
        assert watched.held == set()


async def test_a_tape_that_another_host_has_locked_is_not_touched(autojump_clock: MockClock) -> None:
    site = TapeSite()
    site.dss.add_lock(LockType.MEDIA, tape_id("T01"), ELSEWHERE)
    async with running(site) as watched:
        await watched.mounted("T00")
        _, holder = watched.grant("T01")
        await trio.sleep(10)
        assert [error.errno for _, error in holder.failed] == [errno.EALREADY]
        assert watched.put_back == [("T01", errno.EALREADY)]
        assert watched.drive.state.status is DeviceStatus.MOUNTED


@pytest.mark.parametrize("change", ["before", "while it is loaded"])
async def test_a_tape_that_is_changed_after_it_was_chosen_is_not_granted(
    autojump_clock: MockClock, change: str
) -> None:
    site = TapeSite()
    async with running(site) as watched:
        _, holder = watched.grant("T00")
        if change != "before":
            await trio.sleep(5)
        site.dss.media[tape_id("T00")] = replace(site.medium("T00"), adm_status=AdmStatus.LOCKED)
        await trio.sleep(100)
        assert [error.errno for _, error in holder.failed] == [errno.EAGAIN]
        assert site.library.calls("mount") == []
        loaded = change != "before"
        assert watched.held == ({"T00"} if loaded else set())
        assert watched.put_back == ([] if loaded else [("T00", None)])


async def test_a_tape_that_was_deleted_after_it_was_chosen_is_not_loaded(autojump_clock: MockClock) -> None:
    site = TapeSite()
    async with running(site) as watched:
        _, holder = watched.grant("T00")
        del site.dss.media[tape_id("T00")]
        await trio.sleep(100)
        assert [error.errno for _, error in holder.failed] == [errno.ENXIO]
        assert site.library.calls("load") == []
        assert len(site.dss.locks) == 1


async def test_a_dss_that_refuses_to_read_a_tape_gets_its_lock_back(autojump_clock: MockClock) -> None:
    site = TapeSite()
    async with running(site) as watched:
        site.dss.refusals[ReadMedium] = LrsError(errno.EINVAL, "malformed")
        _, holder = watched.grant("T00")
        await trio.sleep(100)
        assert [error.errno for _, error in holder.failed] == [errno.EINVAL]
        assert watched.held == set()


async def test_a_load_that_the_dss_does_not_count_serves_all_the_same(autojump_clock: MockClock) -> None:
    site = TapeSite()
    site.dss.refusals[UpdateMedia] = LrsError(errno.EINVAL, "no")
    async with running(site) as watched:
        await watched.mounted("T00")
        assert watched.drive.state.status is DeviceStatus.MOUNTED


# What a write finds.


async def test_a_write_protected_tape_is_never_granted_for_writing(autojump_clock: MockClock) -> None:
    site = TapeSite()
    site.library.tapes["T00"].read_only = True
    async with running(site) as watched:
        _, holder = watched.grant("T00")
        await trio.sleep(1000)
        assert [error.errno for _, error in holder.failed] == [errno.EROFS]
        assert not site.medium("T00").put
        await watched.mounted("T00")


async def test_a_full_tape_is_never_granted_for_writing(autojump_clock: MockClock) -> None:
    site = TapeSite()
    site.library.tapes["T00"].used = site.library.tapes["T00"].capacity
    async with running(site) as watched:
        _, holder = watched.grant("T00")
        await trio.sleep(1000)
        assert [error.errno for _, error in holder.failed] == [errno.ENOSPC]
        assert site.medium("T00").fs_status is FsStatus.FULL


async def test_a_tape_that_has_less_space_than_the_dss_says_is_not_granted_for_more(autojump_clock: MockClock) -> None:
    site = TapeSite()
    site.library.tapes["T00"].used = site.library.tapes["T00"].capacity - GIB
    async with running(site) as watched:
        _, holder = watched.grant("T00", size=2 * GIB)
        await trio.sleep(1000)
        assert [error.errno for _, error in holder.failed] == [errno.ENOSPC]
        assert (site.medium("T00").fs_status, site.medium("T00").stats.phys_spc_free) == (FsStatus.EMPTY, GIB)
        _, holder = watched.grant("T00", size=GIB)
        await trio.sleep(1)
        assert len(holder.ready) == 1
        watched.drive.end_grant(holder.ready[0], dirty=False)


async def test_space_is_reserved_on_the_tape_that_is_asked_for_and_forgotten_with_it(autojump_clock: MockClock) -> None:
    site = TapeSite()
    async with running(site) as watched:
        await watched.mounted("T00")
        held, _ = watched.grant("T01", size=GIB)
        assert {name: volume.reserved for name, volume in site.volumes.items()} == {
            str(tape_id("T00")): 0,
            str(tape_id("T01")): GIB,
        }
        await trio.sleep(1000)
        assert held.volume is watched.drive.state.volume
        assert held.volume.available == 99 * GIB
        watched.drive.end_grant(held, dirty=False)
        assert {name: volume.reserved for name, volume in site.volumes.items()} == {str(tape_id("T01")): 0}


# Formats.


@pytest.mark.note("5.1", "5.3")
async def test_a_blank_tape_is_loaded_formatted_and_then_used(autojump_clock: MockClock) -> None:
    site = TapeSite(tapes=0)
    site.add_tape("T00", fs_status=FsStatus.BLANK)
    async with running(site) as watched:
        outcome = watched.format("T00")
        assert watched.drive.bound == site.medium("T00")
        await trio.sleep(200)
        assert outcome.said == [("formatted", None)]
        assert (site.medium("T00").fs_status, site.medium("T00").fs_label) == (FsStatus.EMPTY, "T00")
        assert watched.drive.state.status is DeviceStatus.LOADED
        await watched.mounted("T00")


@pytest.mark.note("2.5f", "5.3")
async def test_a_mounted_tape_is_synced_accounted_for_and_unmounted_before_it_is_formatted(
    autojump_clock: MockClock,
) -> None:
    site = TapeSite()
    async with running(site) as watched:
        one = await watched.release(await watched.granted("T00"), size=100)
        outcome = watched.format("T00")
        await trio.sleep(100)
        assert one.sub.status is SyncStatus.DONE
        assert site.library.calls("unmount") == []
        watched.drive.release_settled(counted=True)
        await trio.sleep(1000)
        assert outcome.said == [("formatted", None)]
        assert site.medium("T00").stats.logc_spc_used == 0


@pytest.mark.note("5.3", "8")
async def test_a_format_waits_until_nobody_uses_the_tape(autojump_clock: MockClock) -> None:
    site = TapeSite()
    async with running(site) as watched:
        held, holder = watched.grant("T00")
        outcome = watched.format("T00")
        await trio.sleep(100)
        assert holder.ready == [held]
        assert not watched.drive.state.excludes_io
        assert outcome.said == []
        watched.drive.end_grant(held, dirty=False)
        await trio.sleep(1000)
        assert outcome.said == [("formatted", None)]


async def test_a_format_whose_books_are_refused_leaves_a_drive_that_serves(autojump_clock: MockClock) -> None:
    site = TapeSite()
    async with running(site) as watched:
        await watched.mounted("T00")
        site.dss.refusals[UpdateMedia] = LrsError(errno.EINVAL, "no")
        outcome = watched.format("T00")
        await trio.sleep(1000)
        assert outcome.said == [("failed", errno.EINVAL)]
        site.dss.refusals.clear()
        await watched.mounted("T00")
        await watched.mounted("T01")


@pytest.mark.parametrize("number", [errno.EBUSY, errno.EIO])
async def test_a_format_that_cannot_get_at_its_tape_goes_elsewhere(autojump_clock: MockClock, number: int) -> None:
    site = TapeSite()
    site.library.fail("unmount", number)
    async with running(site) as watched:
        await watched.mounted("T00")
        outcome = watched.format("T01")
        await trio.sleep(1000)
        assert outcome.said == [("displaced", number)]
        assert watched.held == {"T00"}
        assert watched.drive.state.serving == (number == errno.EBUSY)


async def test_a_format_that_fails_takes_the_tape_out(autojump_clock: MockClock) -> None:
    site = TapeSite()
    site.library.fail("format", errno.EIO)
    async with running(site) as watched:
        outcome = watched.format("T00")
        await trio.sleep(1000)
        assert outcome.said == [("failed", errno.EIO)]
        assert watched.drive.state.status is DeviceStatus.EMPTY
        assert (watched.drive.id, tape_id("T00")) in watched.evidence.barred()


async def test_a_library_that_cannot_be_reached_fails_a_format(autojump_clock: MockClock) -> None:
    site = TapeSite()
    async with running(site) as watched:
        site.library.unreachable = True
        outcome = watched.format("T00")
        await trio.sleep(100)
        assert outcome.said == [("failed", errno.ECONNREFUSED)]
        site.library.unreachable = False
        await trio.sleep(100)
        assert watched.drive.state.idle


# Media that are not ours any more.


@pytest.mark.note("2.5f")
@pytest.mark.parametrize("why", ["deleted", "locked elsewhere"])
async def test_a_tape_that_is_not_ours_any_more_is_synced_and_taken_out(autojump_clock: MockClock, why: str) -> None:
    site = TapeSite()
    async with running(site) as watched:
        held = await watched.granted("T00")
        if why == "deleted":
            del site.dss.media[tape_id("T00")]
        else:
            site.dss.add_lock(LockType.MEDIA, tape_id("T00"), ELSEWHERE)
        assert watched.read("T00")
        assert not watched.drive.state.serving
        await trio.sleep(100)
        assert statuses(site)[-1] == "mounted"
        one = await watched.release(held, size=100)
        await trio.sleep(10)
        assert one.sub.status is SyncStatus.DONE
        assert site.library.calls("unmount") == []
        watched.drive.release_settled(counted=True)
        await trio.sleep(1000)
        assert watched.drive.state.status is DeviceStatus.EMPTY
        assert watched.drive.state.serving
        assert watched.put_back == [("T00", None)]
        assert (len(site.dss.locks) == 2) == (why == "locked elsewhere")
    assert [lock.owner for lock in site.dss.locks.values()] == ([ELSEWHERE] if why == "locked elsewhere" else [])


async def test_a_tape_that_is_not_ours_while_it_is_loaded_is_not_granted(autojump_clock: MockClock) -> None:
    site = TapeSite()
    async with running(site) as watched:
        _, holder = watched.grant("T00")
        await trio.sleep(5)
        site.dss.add_lock(LockType.MEDIA, tape_id("T00"), ELSEWHERE)
        watched.read("T00")
        await trio.sleep(1000)
        assert [error.errno for _, error in holder.failed] == [errno.EALREADY]
        assert site.library.calls("mount") == []
        assert watched.drive.state.status is DeviceStatus.EMPTY


async def test_locks_that_are_removed_while_a_tape_is_loaded_are_taken_again(autojump_clock: MockClock) -> None:
    site = TapeSite()
    async with running(site) as watched:
        _, holder = watched.grant("T00")
        await trio.sleep(5)
        site.dss.locks.clear()
        watched.read("T00")
        await trio.sleep(100)
        assert watched.held == {"T00"}
        assert len(site.dss.locks) == 2
        watched.drive.end_grant(holder.ready[0], dirty=False)


async def test_locks_that_are_removed_while_a_load_fails_leave_an_empty_drive_that_is_ours(
    autojump_clock: MockClock,
) -> None:
    site = TapeSite()
    del site.library.tapes["T00"]
    async with running(site) as watched:
        watched.grant("T00")
        site.library.seconds["lookup"] = 1.0
        site.library.fail("load", errno.EIO, tape="T01")
        await trio.sleep(1)
        watched.grant("T01")
        await trio.sleep(5)
        site.dss.locks.clear()
        watched.read("T01")
        await trio.sleep(100)
        assert watched.drive.state.status is DeviceStatus.EMPTY
        assert [lock.type for lock in site.dss.locks.values()] == [LockType.DEVICE]


async def test_a_lock_that_cannot_be_taken_again_gives_the_tape_up(autojump_clock: MockClock) -> None:
    site = TapeSite()
    async with running(site) as watched:
        await watched.mounted("T00")
        site.dss.locks.clear()
        site.dss.refusals[TakeLock] = LrsError(errno.EINVAL, "no")
        watched.read("T00")
        _, holder = watched.grant("T00", RequestKind.READ)
        await trio.sleep(1000)
        assert [error.errno for _, error in holder.failed] == [errno.EINVAL]
        assert watched.drive.state.status is DeviceStatus.EMPTY


async def test_news_of_a_tape_that_has_left_changes_nothing(autojump_clock: MockClock) -> None:
    site = TapeSite()
    async with running(site) as watched:
        assert not watched.drive.medium_read(None)
        await watched.mounted("T00")
        site.dss.add_lock(LockType.MEDIA, tape_id("T01"), ELSEWHERE)
        assert not watched.read("T01")
        assert watched.drive.state.serving
        assert not watched.drive.state.unlocked


# The end.


@pytest.mark.note("11")
@pytest.mark.parametrize("after", [0, 1, 6, 12, 19, 21, 25, 31, 60])
async def test_a_stop_at_any_step_of_a_load_ends_in_order(autojump_clock: MockClock, after: int) -> None:
    site = TapeSite()
    site.dss.delay = lambda: 2.0
    async with running(site) as watched:
        held, _ = watched.grant("T00")
        await trio.sleep(after)
        watched.drive.stop()
        # What the family does: it takes back what was only promised.
        watched.drive.end_grant(held, dirty=False)
        await watched.drive.ended.wait()
    assert watched.drive.state.status is DeviceStatus.STOPPED
    assert not site.library.drives["D0"].mounted
    assert (site.dss.locks, list(site.volumes)[1:]) == ({}, [])


@pytest.mark.note("11", "2.5f")
@pytest.mark.parametrize("after", [0, 1, 30, 70, 95, 100, 125])
async def test_a_stop_at_any_step_of_an_exchange_ends_in_order(autojump_clock: MockClock, after: int) -> None:
    site = TapeSite()
    async with running(site) as watched:
        watched.drive.end_grant(await watched.granted("T00"), dirty=True)
        held, _ = watched.grant("T01")
        await trio.sleep(after)
        watched.drive.stop()
        watched.drive.end_grant(held, dirty=False)
        await watched.drive.ended.wait()
    assert len(site.library.calls("sync")) == 1
    assert watched.drive.state.status is DeviceStatus.STOPPED
    assert not site.library.drives["D0"].mounted
    assert site.dss.locks == {}


async def unmounts_of_a_stop(watched: Watched, site: TapeSite) -> list[float]:
    """When the drive begins to unmount its tape, in seconds after it was told to stop."""
    began = trio.current_time()
    watched.drive.stop()
    await watched.drive.ended.wait()
    return [time - began for time, _, _ in site.library.calls("unmount")]


@pytest.mark.note("11")
@pytest.mark.parametrize("error", [LrsError(errno.EBUSY, "in use"), NO_PROCESS])
async def test_a_stop_waits_for_a_tape_that_somebody_uses_without_a_grant(
    autojump_clock: MockClock, error: LrsError
) -> None:
    site = TapeSite()
    site.library.fail("unmount", error, error)
    async with running(site) as watched:
        await watched.mounted("T00")
        assert await unmounts_of_a_stop(watched, site) == [0, 65, 130]
    assert statuses(site)[-1] == "stopped"
    assert site.dss.locks == {}


async def test_a_tape_in_use_stays_mounted_and_is_tried_again(autojump_clock: MockClock) -> None:
    site = TapeSite()
    site.library.fail("unmount", errno.EBUSY)
    async with running(site) as watched:
        await watched.mounted("T00")
        _, holder = watched.grant("T01")
        await trio.sleep(100)
        assert [error.errno for _, error in holder.failed] == [errno.EBUSY]
        assert watched.drive.state.status is DeviceStatus.MOUNTED
        assert watched.drive.state.serving
        assert watched.drive.busy_until > trio.current_time() - 30
        assert watched.put_back == []
        assert watched.held == {"T00"}


async def test_a_host_that_cannot_begin_to_unmount_leaves_the_tape_mounted_and_blames_nobody(
    autojump_clock: MockClock,
) -> None:
    site = TapeSite()
    site.library.fail("unmount", NO_PROCESS)
    async with running(site) as watched:
        await watched.mounted("T00")
        _, holder = watched.grant("T01")
        await trio.sleep(100)
        assert [error for _, error in holder.failed] == [NO_PROCESS]
        assert (watched.drive.state.status, watched.drive.state.serving) == (DeviceStatus.MOUNTED, True)
        assert site.drive_row("D0").adm_status is AdmStatus.UNLOCKED
        assert (watched.verdicts, watched.evidence.suspects()) == ([], [])
        assert [entry for entry in site.dss.log if entry.errno] == []
        (failed,) = [time for time, _, _ in site.library.calls("unmount")]
        assert watched.drive.busy_until == failed + SECONDS["unmount"] + LONGEST_PAUSE_S
        await watched.mounted("T01")


@pytest.mark.note("11")
async def test_a_stop_does_not_wait_for_ever_for_a_host_that_cannot_begin_to_unmount(
    autojump_clock: MockClock,
) -> None:
    site = TapeSite()
    site.library.fail("unmount", *[NO_PROCESS] * 100)
    async with running(site) as watched:
        await watched.mounted("T00")
        assert await unmounts_of_a_stop(watched, site) == [0, 65, 130]
    # The next start adopts it as it is.
    assert (statuses(site)[-1], site.library.drives["D0"].mounted) == ("stopped", True)
    assert site.drive_row("D0").adm_status is AdmStatus.UNLOCKED
    assert site.dss.locks == {}


@pytest.mark.note("11")
async def test_a_dss_that_is_away_delays_an_end_and_nothing_else(autojump_clock: MockClock) -> None:
    site = TapeSite()
    async with running(site) as watched:
        await watched.mounted("T00")
        site.dss.go_away()
        watched.drive.stop()
        await trio.sleep(1000)
        assert not site.library.drives["D0"].mounted
        assert not watched.drive.ended.is_set()
        site.dss.come_back()
    assert site.dss.locks == {}
