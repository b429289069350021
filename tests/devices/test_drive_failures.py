"""What it means when something goes wrong in a drive: for the tape, the drive, and those who wait."""

from __future__ import annotations

import errno
from itertools import pairwise

import pytest
import trio
from trio.testing import MockClock

from lrs_trio.devices.life import DeviceStatus
from lrs_trio.devices.to_sync import SyncStatus
from lrs_trio.dss.operations import ReleaseLock, SetDeviceStatus, UpdateMedia
from lrs_trio.errors import LibraryUnreachableError, LrsError, MediumMissingError
from lrs_trio.model import AdmStatus, LockType, RequestKind
from tests.devices.drives import NO_PROCESS, Watched, running
from tests.fakes.library import tape_id
from tests.fakes.site import waiter
from tests.fakes.tapes import TapeSite

BROKEN = LrsError(errno.EIO, "broken")
AWAY = LibraryUnreachableError(errno.ECONNREFUSED, "nobody listens there", asked=False)


async def test_a_failing_mount_takes_the_tape_out_and_charges_nobody_yet(autojump_clock: MockClock) -> None:
    site = TapeSite()
    site.library.fail("mount", errno.EIO)
    async with running(site) as watched:
        _, holder = watched.grant("T00")
        await trio.sleep(1000)
        assert [error.errno for _, error in holder.failed] == [errno.EIO]
        assert watched.verdicts == []
        assert (watched.drive.id, tape_id("T00")) in watched.evidence.barred()
        assert watched.drive.state.status is DeviceStatus.EMPTY
        assert watched.drive.state.serving
        assert watched.put_back == [("T00", None)]
        assert [(entry.cause, entry.errno) for entry in site.dss.log] == [
            ("Device load", 0),
            ("LTFS mount", -errno.EIO),
            ("Device unload", 0),
        ]


async def test_a_mount_that_fails_half_way_is_undone_before_the_tape_leaves(autojump_clock: MockClock) -> None:
    site = TapeSite()
    site.library.fail("space", errno.EIO)
    async with running(site) as watched:
        watched.grant("T00")
        await trio.sleep(1000)
        assert len(site.library.calls("unmount")) == 1
        assert watched.drive.state.status is DeviceStatus.EMPTY


async def test_a_drive_that_fails_with_two_tapes_is_failed_and_gives_the_tape_up(autojump_clock: MockClock) -> None:
    site = TapeSite()
    site.library.broken_drives.add("D0")
    async with running(site) as watched:
        for tape in ("T00", "T01", "T02"):
            if watched.drive.state.serving:
                watched.grant(tape)
                await trio.sleep(1000)
        assert [verdict.resource for verdict in watched.verdicts] == [watched.drive.id]
        await watched.drive.ended.wait()
        assert watched.drive.state.status is DeviceStatus.FAILED
        assert site.drive_row("D0").adm_status is AdmStatus.FAILED
        assert site.library.drives["D0"].tape is None
        assert site.dss.locks == {}


async def test_another_label_fails_the_tape_and_not_the_drive(autojump_clock: MockClock) -> None:
    site = TapeSite()
    site.library.tapes["T00"].label = "OTHER"
    async with running(site) as watched:
        watched.grant("T00")
        await trio.sleep(1000)
        assert [(verdict.resource, verdict.is_drive) for verdict in watched.verdicts] == [(tape_id("T00"), False)]
        assert watched.drive.state.status is DeviceStatus.EMPTY


# Moves.


async def test_a_tape_that_is_missing_blames_nobody(autojump_clock: MockClock) -> None:
    site = TapeSite()
    del site.library.tapes["T00"]
    async with running(site) as watched:
        _, holder = watched.grant("T00")
        await trio.sleep(1000)
        assert isinstance(holder.failed[0][1], MediumMissingError)
        assert watched.put_back == [("T00", errno.ENXIO)]
        assert not watched.evidence.barred()
        assert watched.drive.state.status is DeviceStatus.EMPTY
        assert (watched.held, list(site.volumes)) == (set(), [])


async def test_a_load_that_fails_and_leaves_the_drive_empty_may_be_either_ones_fault(
    autojump_clock: MockClock,
) -> None:
    site = TapeSite()
    site.library.fail("load", errno.EIO)
    async with running(site) as watched:
        _, holder = watched.grant("T00")
        await trio.sleep(1000)
        assert [error.errno for _, error in holder.failed] == [errno.EIO]
        assert (watched.drive.id, tape_id("T00")) in watched.evidence.barred()
        assert site.library.calls("unload") == []
        assert (watched.drive.state.status, watched.held) == (DeviceStatus.EMPTY, set())


@pytest.mark.parametrize("trouble", ["broken", "missing", "unreachable"])
async def test_a_load_that_fails_is_not_tried_again_for_each_who_was_promised_the_tape(
    autojump_clock: MockClock, trouble: str
) -> None:
    site = TapeSite()
    if trouble == "missing":
        del site.library.tapes["T00"]
    else:
        site.library.fail("load", BROKEN if trouble == "broken" else AWAY)
    async with running(site, max_concurrent_io=5) as watched:
        gone, _ = watched.grant("T00")
        holders = [watched.grant("T00")[1] for _ in range(3)]
        _, other = watched.grant("T01")
        await trio.sleep(1)
        watched.drive.end_grant(gone, dirty=False)
        await trio.sleep(1000)
        assert [len(holder.failed) for holder in holders] == [1, 1, 1]
        assert len({str(error) for holder in holders for _, error in holder.failed}) == 1
        assert [name for name, _ in watched.put_back] == ["T00"]
        assert [grant.medium.name for grant in other.ready] == ["T01"]
        watched.drive.end_grant(other.ready[0], dirty=False)


async def test_a_load_that_fails_half_way_is_taken_back(autojump_clock: MockClock) -> None:
    site = TapeSite()
    site.library.fail("load", errno.EIO)
    async with running(site) as watched:
        watched.grant("T00")
        await trio.sleep(19)
        site.library.drives["D0"].tape = site.library.tapes["T00"]
        await trio.sleep(1000)
        assert [name for _, _, name in site.library.calls("unload")] == ["T00"]
        assert watched.drive.state.status is DeviceStatus.EMPTY


@pytest.mark.parametrize("operation", ["unmount", "unload"])
async def test_a_tape_that_does_not_come_out_fails_its_drive_and_stays_locked(
    autojump_clock: MockClock, operation: str
) -> None:
    site = TapeSite()
    site.library.fail(operation, errno.EIO)
    async with running(site) as watched:
        await watched.mounted("T00")
        _, holder = watched.grant("T01")
        await trio.sleep(1000)
        assert [error.errno for _, error in holder.failed] == [errno.EIO]
        assert watched.drive.state.status is DeviceStatus.FAILED
        assert site.drive_row("D0").adm_status is AdmStatus.FAILED
        assert watched.held == {"T00"}
        assert watched.drive.bound == site.medium("T00")
        assert not watched.drive.ended.is_set()
    assert watched.drive.state.status is DeviceStatus.FAILED
    assert site.dss.locks == {}


async def test_an_unload_that_fails_but_leaves_the_drive_empty_is_one(autojump_clock: MockClock) -> None:
    site = TapeSite()
    async with running(site) as watched:
        await watched.mounted("T00")
        _, holder = watched.grant("T01")
        await trio.sleep(70)
        site.library.drives["D0"].tape, site.library.tapes["T00"].place = None, ""
        await trio.sleep(1000)
        assert len(holder.ready) == 1
        assert watched.put_back == [("T00", None)]
        watched.drive.end_grant(holder.ready[0], dirty=False)


@pytest.mark.note("11")
@pytest.mark.parametrize(("number", "status"), [(errno.EIO, "failed"), (errno.ETIMEDOUT, "quarantined")])
async def test_an_unmount_that_fails_at_the_end_fails_the_drive(
    autojump_clock: MockClock, number: int, status: str
) -> None:
    site = TapeSite()
    site.library.fail("unmount", number)
    async with running(site) as watched:
        await watched.mounted("T00")
    assert watched.drive.state.status.value == status
    assert site.drive_row("D0").adm_status is AdmStatus.FAILED
    assert site.dss.locks == {}


# Operations without an end.


@pytest.mark.parametrize("operation", ["load", "mount", "unmount", "unload", "sync", "format"])
async def test_an_operation_without_an_end_quarantines_the_drive(autojump_clock: MockClock, operation: str) -> None:
    site = TapeSite()
    async with running(site) as watched:
        if operation != "load":
            await watched.mounted("T01")
        site.library.hanging.add((operation, "D0"))
        told: list[int | None] = []
        match operation:
            case "sync":
                one = await watched.release(await watched.granted("T01"))
                await trio.sleep(20_000)
                told += [one.sub.error.errno] if one.sub.error else []
            case "format":
                outcome = watched.format("T01")
                await trio.sleep(20_000)
                told += [said[1] for said in outcome.said]
            case _:
                _, holder = watched.grant("T00")
                await trio.sleep(20_000)
                told += [error.errno for _, error in holder.failed]
        assert told == [errno.ETIMEDOUT]
        assert watched.drive.state.status is DeviceStatus.QUARANTINED
        assert site.drive_row("D0").adm_status is AdmStatus.FAILED
        # The tape is in there: no other host may try to move it.
        assert len(watched.held) == 1
        assert not watched.drive.ended.is_set()
    assert watched.drive.state.status is DeviceStatus.QUARANTINED
    assert site.dss.locks == {}


async def test_a_failure_that_the_dss_refuses_to_record_keeps_the_tape_locked_as_well(
    autojump_clock: MockClock,
) -> None:
    site = TapeSite()
    site.library.hanging.add(("mount", "D0"))
    site.dss.refusals[SetDeviceStatus] = LrsError(errno.EINVAL, "no")
    async with running(site) as watched:
        watched.grant("T00")
        await trio.sleep(10_000)
        assert watched.drive.state.status is DeviceStatus.QUARANTINED
        assert watched.held == {"T00"}
    assert site.dss.locks == {}


# Syncs.


@pytest.mark.note("2.5d")
async def test_a_failing_sync_fails_who_waits_and_takes_the_tape_out(autojump_clock: MockClock) -> None:
    site = TapeSite()
    site.library.fail("sync", errno.EIO)
    async with running(site) as watched:
        one = await watched.release(await watched.granted("T00"), size=100)
        await trio.sleep(1000)
        assert one.sub.status is SyncStatus.ERROR
        assert watched.drive.state.status is DeviceStatus.EMPTY
        assert site.medium("T00").adm_status is AdmStatus.UNLOCKED
        assert watched.drive.state.serving


@pytest.mark.note("2.5d", "2.5f")
@pytest.mark.parametrize("while_io", [True, False])
async def test_a_tape_that_failed_stays_until_all_who_use_it_are_told(
    autojump_clock: MockClock, while_io: bool
) -> None:
    site = TapeSite()
    site.library.fail("sync", errno.EIO)
    async with running(site, max_concurrent_io=2, sync_while_io=while_io) as watched:
        first, second = await watched.granted("T00"), await watched.granted("T00")
        one = await watched.release(first)
        await trio.sleep(100)
        assert (one.sub.status is SyncStatus.ERROR) == while_io
        assert site.library.calls("unmount") == []
        late = await watched.release(second)
        await trio.sleep(1000)
        assert [one.sub.status, late.sub.status] == [SyncStatus.ERROR] * 2
        assert [len(one.settled), len(late.settled)] == [1, 1]
        assert len(site.library.calls("sync")) == 1
        assert watched.drive.state.status is DeviceStatus.EMPTY


@pytest.mark.note("2.5f", "4.4")
async def test_a_tape_that_failed_stays_until_earlier_books_are_written(autojump_clock: MockClock) -> None:
    site = TapeSite()
    async with running(site) as watched:
        one = await watched.release(await watched.granted("T00"), size=100)
        await trio.sleep(16)
        assert one.sub.status is SyncStatus.DONE
        site.library.fail("sync", errno.EIO)
        await watched.release(await watched.granted("T00"), size=100)
        await trio.sleep(1000)
        assert watched.drive.state.tainted is not None
        # The release that was synced before still asks for them.
        assert watched.drive.figures().id == tape_id("T00")
        assert site.library.calls("unmount") == []
        watched.drive.release_settled(counted=False)
        await trio.sleep(1000)
        assert watched.drive.state.status is DeviceStatus.EMPTY
        assert len(site.library.calls("sync")) == 2


async def test_a_sync_that_fails_before_an_exchange_lets_the_next_tape_come(autojump_clock: MockClock) -> None:
    site = TapeSite()
    site.library.fail("sync", errno.EIO)
    async with running(site) as watched:
        one = await watched.release(await watched.granted("T00"))
        _, holder = watched.grant("T01")
        await trio.sleep(1000)
        assert one.sub.status is SyncStatus.ERROR
        assert [grant.medium.name for grant in holder.ready] == ["T01"]
        watched.drive.end_grant(holder.ready[0], dirty=False)


async def test_a_sync_that_fails_before_a_format_sends_that_elsewhere(autojump_clock: MockClock) -> None:
    site = TapeSite()
    site.library.fail("sync", errno.EIO)
    async with running(site) as watched:
        await watched.release(await watched.granted("T00"))
        outcome = watched.format("T00")
        await trio.sleep(1000)
        assert outcome.said == [("displaced", errno.EIO)]
        assert watched.drive.state.status is DeviceStatus.EMPTY


async def test_figures_that_the_dss_refuses_blame_nobody(autojump_clock: MockClock) -> None:
    site = TapeSite()
    async with running(site) as watched:
        held = await watched.granted("T00")
        site.dss.refusals[UpdateMedia] = LrsError(errno.EINVAL, "malformed")
        watched.drive.end_grant(held, dirty=True)
        await trio.sleep(1000)
        assert not watched.evidence.barred()
        assert watched.drive.state.status is DeviceStatus.EMPTY


async def test_a_dss_that_is_away_while_a_sync_fails_only_delays_the_answer(autojump_clock: MockClock) -> None:
    site = TapeSite()
    site.library.fail("sync", errno.EIO)
    async with running(site) as watched:
        held = await watched.granted("T00")
        site.dss.go_away()
        one = await watched.release(held)
        await trio.sleep(1000)
        assert watched.drive.state.tainted is not None
        assert one.settled == []
        site.dss.come_back()
        await trio.sleep(1000)
        assert len(one.settled) == 1
        assert watched.drive.state.status is DeviceStatus.EMPTY


async def test_a_lock_that_the_dss_refuses_to_take_back_holds_nothing_up(autojump_clock: MockClock) -> None:
    site = TapeSite()
    site.dss.refusals[ReleaseLock] = LrsError(errno.EINVAL, "no")
    async with running(site) as watched:
        await watched.mounted("T00")
        await watched.mounted("T01")
    assert watched.drive.state.status is DeviceStatus.STOPPED


# Who is in use, and who stops.


@pytest.mark.parametrize("error", [LrsError(errno.EBUSY, "in use"), NO_PROCESS])
async def test_a_tape_that_failed_and_is_in_use_is_taken_out_later(autojump_clock: MockClock, error: LrsError) -> None:
    site = TapeSite()
    site.library.fail("sync", errno.EIO)
    site.library.fail("unmount", error, error)
    async with running(site) as watched:
        await watched.release(await watched.granted("T00"))
        await trio.sleep(1000)
        calls = [time for time, _, _ in site.library.calls("unmount")]
        assert [later - earlier for earlier, later in pairwise(calls)] == [90, 90]
        assert watched.drive.state.status is DeviceStatus.EMPTY


@pytest.mark.note("11")
@pytest.mark.parametrize("busy", [0, 3])
async def test_a_drain_leaves_a_tape_that_failed_in_its_drive(autojump_clock: MockClock, busy: int) -> None:
    site = TapeSite()
    site.library.fail("sync", errno.EIO)
    site.library.fail("unmount", *[errno.EBUSY] * busy)
    async with running(site, max_concurrent_io=2, sync_while_io=True) as watched:
        first, second = await watched.granted("T00"), await watched.granted("T00")
        one = await watched.release(first)
        await trio.sleep(100)
        assert one.sub.status is SyncStatus.ERROR
        watched.drive.stop()
        await trio.sleep(100)
        late = await watched.release(second)
        await watched.drive.ended.wait()
        assert len(late.settled) == 1
    assert watched.drive.state.status is DeviceStatus.STOPPED
    assert site.library.calls("unload") == []
    assert site.dss.locks == {}


@pytest.mark.note("11")
async def test_a_failed_drive_ends_although_its_clients_have_not_released(autojump_clock: MockClock) -> None:
    site = TapeSite()
    site.library.fail("sync", errno.ETIMEDOUT)
    async with running(site, max_concurrent_io=2, sync_while_io=True) as watched:
        first, second = await watched.granted("T00"), await watched.granted("T00")
        await watched.release(first)
        await trio.sleep(100)
        watched.drive.stop()
        await watched.drive.ended.wait()
        late = await watched.release(second)
        assert late.sub.status is SyncStatus.ERROR


# Proven broken by what happens elsewhere.


async def condemned(watched: Watched) -> None:
    watched.drive.condemn(BROKEN)
    await trio.sleep(1000)
    assert watched.drive.state.status is DeviceStatus.FAILED
    assert watched.site.drive_row("D0").adm_status is AdmStatus.FAILED
    assert watched.drive.ended.is_set()
    assert watched.site.library.drives["D0"].tape is None
    assert watched.site.dss.locks == {}


@pytest.mark.parametrize("what", ["empty", "loaded", "mounted", "tainted"])
async def test_a_drive_that_is_condemned_at_rest_gives_its_tape_up(autojump_clock: MockClock, what: str) -> None:
    site = TapeSite()
    async with running(site) as watched:
        if what == "tainted":
            site.library.fail("mount", errno.EIO)
            watched.grant("T00")
            await trio.sleep(40)
        elif what == "loaded":
            gone, _ = watched.grant("T00")
            await trio.sleep(1)
            watched.drive.end_grant(gone, dirty=False)
            await trio.sleep(100)
        elif what == "mounted":
            await watched.mounted("T00")
        await condemned(watched)


@pytest.mark.parametrize("after", [0, 1, 15, 25, 31])
async def test_a_drive_that_is_condemned_at_work_gives_promises_back_first(
    autojump_clock: MockClock, after: int
) -> None:
    site = TapeSite()
    async with running(site) as watched:
        _, holder = watched.grant("T00")
        await trio.sleep(after)
        await condemned(watched)
        assert [error.errno for _, error in holder.failed] == [errno.EIO]


@pytest.mark.note("2.5f", "4.4")
async def test_a_drive_that_is_condemned_lets_end_what_goes_on_and_syncs(autojump_clock: MockClock) -> None:
    site = TapeSite()
    async with running(site) as watched:
        held = await watched.granted("T00")
        watched.drive.condemn(BROKEN)
        await trio.sleep(1000)
        assert watched.drive.state.status is DeviceStatus.MOUNTED
        one = await watched.release(held, size=100)
        await trio.sleep(10)
        assert one.sub.status is SyncStatus.DONE
        watched.drive.release_settled(counted=True)
        await condemned(watched)


async def test_a_format_goes_elsewhere_when_its_drive_is_condemned(autojump_clock: MockClock) -> None:
    site = TapeSite()
    async with running(site) as watched:
        await watched.mounted("T00")
        outcome = watched.format("T01")
        watched.drive.condemn(BROKEN)
        await trio.sleep(1000)
        assert outcome.said == [("displaced", errno.EIO)]


async def test_a_drive_that_has_ended_can_be_condemned_and_stopped_again(autojump_clock: MockClock) -> None:
    site = TapeSite()
    async with running(site) as watched:
        watched.drive.stop()
        await watched.drive.ended.wait()
        watched.drive.condemn(BROKEN)
        watched.drive.stop()
    assert watched.drive.state.status is DeviceStatus.STOPPED


async def test_a_condemned_drive_whose_tape_is_stuck_keeps_it_locked(autojump_clock: MockClock) -> None:
    site = TapeSite()
    site.library.fail("unload", errno.EIO)
    async with running(site) as watched:
        await watched.mounted("T00")
        watched.drive.condemn(BROKEN)
        await trio.sleep(1000)
        assert watched.drive.state.status is DeviceStatus.FAILED
        assert watched.held == {"T00"}
        assert (LockType.DEVICE, "D0_legacy") in site.dss.locks
    assert site.dss.locks == {}


async def test_a_condemned_drive_whose_tape_the_host_cannot_unmount_is_failed_all_the_same(
    autojump_clock: MockClock,
) -> None:
    site = TapeSite()
    site.library.fail("unmount", *[NO_PROCESS] * 100)
    async with running(site) as watched:
        await watched.mounted("T00")
        watched.drive.condemn(BROKEN)
        await trio.sleep(1000)
        assert watched.drive.state.status is DeviceStatus.FAILED
        assert site.drive_row("D0").adm_status is AdmStatus.FAILED
        assert watched.held == {"T00"}
    assert site.dss.locks == {}


async def test_a_release_on_a_drive_that_failed_is_told_at_once(autojump_clock: MockClock) -> None:
    site = TapeSite()
    site.library.fail("unmount", errno.EIO)
    async with running(site) as watched:
        await watched.mounted("T00")
        watched.grant("T01", RequestKind.READ)
        await trio.sleep(1000)
        one = waiter()
        watched.drive.add_release(one.sub, at_once=True)
        assert one.settled == [trio.current_time()]
