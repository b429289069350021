"""A family whose media come and go: requests, drives and evidence together, in virtual time."""

from __future__ import annotations

import errno
import math
from dataclasses import replace
from random import Random

import pytest
import trio
from trio.testing import MockClock

from lrs_trio.devices.life import DeviceStatus
from lrs_trio.errors import HostError, LibraryUnreachableError, LrsError
from lrs_trio.model import AdmStatus, Family, FsStatus, NotifyOperation, RequestKind
from lrs_trio.wire.messages import (
    Failed,
    Formatted,
    Notified,
    Notify,
    Released,
    WriteAllocation,
    WriteGranted,
    WriteMedium,
)
from tests.fakes.house import back
from tests.fakes.library import SECONDS, tape_id
from tests.fakes.tapes import GIB, TapeClient, TapeHouse, TapeSite, tape_house, tape_settings, two_generations

EMPTY_WANTED = WriteAllocation((WriteMedium(GIB, (), empty_medium=True),), Family.TAPE)


async def test_a_write_loads_a_tape_and_its_release_is_synced(autojump_clock: MockClock) -> None:
    async with tape_house() as house:
        client = house.client()
        client.write(GIB)
        (granted,) = await client.granted()
        assert granted.root == "/mnt/D0"
        client.release(client.write_data(granted.medium.name, GIB))
        assert isinstance(await client.answer(2), Released)
        medium = house.site.medium(granted.medium.name)
        assert (medium.stats.nb_obj, medium.stats.logc_spc_used, medium.fs_status) == (1, GIB, FsStatus.USED)


async def test_who_wants_an_empty_tape_gets_none_that_has_just_been_written(autojump_clock: MockClock) -> None:
    async with tape_house(TapeSite(drives=2, tapes=2), tape_settings(age_ms=60_000)) as house:
        first, second, third = house.client(), house.client(), house.client()
        first.write(GIB)
        (written,) = await first.granted()
        first.release(first.write_data(written.medium.name, GIB))
        second.ask(1, EMPTY_WANTED)
        (granted,) = await second.granted()
        assert granted.medium != written.medium
        third.ask(1, EMPTY_WANTED)
        await trio.sleep(50)
        assert third.bodies == []
        second.release(second.write_data(granted.medium.name, GIB), id=2)
        # When all that is written has been synced, no tape is empty any more.
        assert await third.answer(1) == Failed(-errno.ENOSPC, RequestKind.WRITE)


async def test_two_copies_go_to_two_tapes_in_two_drives(autojump_clock: MockClock) -> None:
    async with tape_house() as house:
        client = house.client()
        client.write(GIB, GIB)
        media = await client.granted()
        assert len({granted.medium for granted in media}) == 2
        assert {granted.root for granted in media} == {"/mnt/D0", "/mnt/D1"}
        client.release(*(client.write_data(granted.medium.name, GIB) for granted in media))
        assert isinstance(await client.answer(2), Released)


async def test_a_mounted_tape_is_written_again_without_a_move(autojump_clock: MockClock) -> None:
    async with tape_house() as house:
        client = house.client()
        for number in range(3):
            client.write(GIB, id=number)
            (granted,) = await client.granted(2 * number + 1)
            client.release(client.write_data(granted.medium.name, GIB), id=number)
            await client.answer(2 * number + 2)
        assert len(house.site.library.calls("load")) == 1


async def test_a_read_evicts_the_least_recently_used_tape(autojump_clock: MockClock) -> None:
    async with tape_house() as house:
        client = house.client()
        for number, tape in enumerate(("T00", "T01", "T02")):
            client.read(tape)
            await client.granted(number + 1)
            client.release(back(tape_id(tape), to_sync=False), kind=RequestKind.RELEASE_READ)
        assert [tape for _, _, tape in house.site.library.calls("unload")] == ["T00"]


async def test_a_mount_that_fails_is_tried_on_another_drive_and_the_drive_is_charged(
    autojump_clock: MockClock,
) -> None:
    site = TapeSite()
    site.library.broken_drives.add("D0")
    async with tape_house(site) as house:
        client = house.client()
        client.read("T00")
        (granted,) = await client.granted()
        assert granted.root == "/mnt/D1"
        await trio.sleep(1000)
        assert site.drive_row("D0").adm_status is AdmStatus.FAILED
        assert house.drive("D0").state.status is DeviceStatus.FAILED
        assert site.medium("T00").adm_status is AdmStatus.UNLOCKED
        client.release(back(tape_id("T00"), to_sync=False), kind=RequestKind.RELEASE_READ)


async def test_a_tape_that_fails_in_two_drives_is_charged_with_a_third_tape_that_works(
    autojump_clock: MockClock,
) -> None:
    site = TapeSite()
    site.library.broken_tapes.add("T00")
    async with tape_house(site) as house:
        client = house.client()
        client.read("T00")
        assert await client.answer(1) == Failed(-errno.EIO, RequestKind.READ)
        client.read("T01")
        await client.granted(2)
        client.release(back(tape_id("T01"), to_sync=False), kind=RequestKind.RELEASE_READ)
        assert site.medium("T00").adm_status is AdmStatus.FAILED
        assert {row.adm_status for row in site.dss.devices.values()} == {AdmStatus.UNLOCKED}


async def test_a_write_moves_to_another_tape_if_the_first_is_write_protected(autojump_clock: MockClock) -> None:
    site = TapeSite()
    for tape in ("T00", "T01"):
        site.library.tapes[tape].read_only = True
    async with tape_house(site) as house:
        client = house.client()
        client.write(GIB)
        (granted,) = await client.granted()
        assert granted.medium.name in ("T02", "T03")
        client.release(client.write_data(granted.medium.name, 1))
        await client.answer(2)


async def test_a_format_of_a_shelved_tape(autojump_clock: MockClock) -> None:
    site = TapeSite(tapes=0)
    site.add_tape("N00", fs_status=FsStatus.BLANK, adm_status=AdmStatus.LOCKED)
    async with tape_house(site) as house:
        client = house.client()
        client.format("N00", unlock=True)
        assert await client.answer(1) == Formatted(tape_id("N00"))
        medium = site.medium("N00")
        assert (medium.fs_status, medium.adm_status, medium.fs_label) == (FsStatus.EMPTY, AdmStatus.UNLOCKED, "N00")


@pytest.mark.parametrize("drives", [2, 3])
async def test_a_format_of_a_broken_tape_is_tried_once_in_each_drive(autojump_clock: MockClock, drives: int) -> None:
    site = TapeSite(drives=drives, tapes=2)
    site.library.fail("load", *[errno.EIO] * 100, tape="T00")
    async with tape_house(site) as house:
        client = house.client()
        client.read("T00")
        assert isinstance(await client.answer(1), Failed)
        # Where a drive works with another tape, that one is to blame.
        client.read("T01")
        await client.granted(2)
        client.release(back(tape_id("T01"), to_sync=False), kind=RequestKind.RELEASE_READ)
        await trio.sleep(10)
        assert site.medium("T00").adm_status is AdmStatus.FAILED
        before = len(site.library.calls("load"))
        client.format("T00", id=9, force=True, unlock=True)
        with trio.fail_after(10_000):
            assert await client.answer(3) == Failed(-errno.EIO, RequestKind.FORMAT)
        assert len(site.library.calls("load")) - before == drives


async def test_a_library_that_is_unreachable_is_told_and_blames_nobody(autojump_clock: MockClock) -> None:
    async with tape_house() as house:
        house.site.library.unreachable = True
        client = house.client()
        client.read("T00")
        assert await client.answer(1) == Failed(-errno.ECONNREFUSED, RequestKind.READ)
        house.site.library.unreachable = False
        await trio.sleep(100)
        client.read("T00")
        await client.granted(2)
        client.release(back(tape_id("T00"), to_sync=False), kind=RequestKind.RELEASE_READ)
        assert house.site.medium("T00").adm_status is AdmStatus.UNLOCKED


async def test_a_drive_is_locked_and_unlocked_by_an_administrator(autojump_clock: MockClock) -> None:
    async with tape_house() as house:
        client = house.client()
        client.read("T00")
        (granted,) = await client.granted()
        serial = granted.root.rpartition("/")[2]
        admin = house.client()
        admin.ask(1, Notify(tape_id(serial), NotifyOperation.DEVICE_LOCK, True))
        await trio.sleep(100)
        assert admin.bodies == []
        client.release(back(tape_id("T00"), to_sync=False), kind=RequestKind.RELEASE_READ)
        assert isinstance(await admin.answer(1), Notified)
        assert tape_id(serial) not in house.family.devices
        assert house.site.dss.locks.keys() == {
            key for key in house.site.dss.locks if serial not in key[1] and "T00" not in key[1]
        }
        admin.ask(2, Notify(tape_id(serial), NotifyOperation.DEVICE_UNLOCK, True))
        assert isinstance(await admin.answer(2), Notified)
        assert house.drive(serial).medium_id == tape_id("T00")


async def test_a_drive_that_is_unlocked_in_vain_still_says_why_it_is_not_used(autojump_clock: MockClock) -> None:
    site = TapeSite()
    site.library.fail("lookup", errno.EIO, errno.EIO, drive="D0")
    async with tape_house(site) as house:
        admin = house.client()
        admin.ask(1, Notify(tape_id("D0"), NotifyOperation.DEVICE_UNLOCK, True))
        assert await admin.answer(1) == Failed(-errno.EIO, RequestKind.NOTIFY)
        assert house.drive("D0").state.error is not None
        admin.ask(2, Notify(tape_id("D0"), NotifyOperation.DEVICE_UNLOCK, True))
        assert isinstance(await admin.answer(2), Notified)
        assert house.drive("D0").state.serving


class Crowd:
    """Clients that write two copies, and what became of each request."""

    def __init__(self, house: TapeHouse, seed: int) -> None:
        self.house = house
        self.random = Random(seed)
        self.done = 0
        self.errors: list[int] = []
        self.acknowledged: dict[str, int] = {}

    async def write(self, client: TapeClient, times: int, pause: float) -> None:
        answers = 0
        for number in range(times):
            await trio.sleep(self.random.random() * pause)
            client.write(GIB, GIB, id=number)
            answers += 1
            body = await client.answer(answers)
            if isinstance(body, Failed):
                self.errors.append(-body.rc)
                continue
            assert isinstance(body, WriteGranted)
            await trio.sleep(10)
            parts = []
            for granted in body.media:
                tape = self.house.site.library.tapes[granted.medium.name]
                tape.used += GIB
                parts.append(back(granted.medium, GIB))
            client.release(*parts, id=number)
            answers += 1
            body = await client.answer(answers)
            if isinstance(body, Failed):
                self.errors.append(-body.rc)
                continue
            assert isinstance(body, Released)
            self.done += 1
            for medium in body.media:
                self.acknowledged[medium.name] = self.acknowledged.get(medium.name, 0) + GIB


@pytest.mark.parametrize("seed", range(3))
async def test_two_copies_are_written_while_drives_die_until_none_is_left(autojump_clock: MockClock, seed: int) -> None:
    site = TapeSite(drives=8, tapes=40)
    random = Random(seed)
    async with tape_house(site) as house:
        crowd = Crowd(house, seed)
        died: dict[str, float] = {}
        async with trio.open_nursery() as nursery:
            for _ in range(12):
                nursery.start_soon(crowd.write, house.client(), 20, 900.0)
            serials = sorted(site.library.drives)
            random.shuffle(serials)
            for serial in serials[:-1]:
                await trio.sleep(1500)
                site.library.drives[serial].dead = True
                died[serial] = trio.current_time()
        # Two copies need two drives: with one left they are refused, single ones are still served.
        assert set(crowd.errors) <= {errno.EIO, errno.ENODEV}
        assert crowd.done > 50
        client, answers, roots = house.client(), 0, [""]
        for number in range(20):
            client.write(GIB, id=number)
            (granted,) = await client.granted(answers + 1)
            client.release(client.write_data(granted.medium.name, GIB), id=number)
            answer, answers = await client.answer(answers + 2), answers + 2
            # A drive that has died shows it when it is used.
            assert isinstance(answer, Released) or granted.root.rpartition("/")[2] in serials[:-1]
            roots.append(granted.root)
        assert roots[-1] == f"/mnt/{serials[-1]}"
        await trio.sleep(1000)
        for serial, drive in site.library.drives.items():
            used_since = any(
                time > died.get(serial, math.inf) for time, operation, _ in drive.calls if operation in SECONDS
            )
            assert (site.drive_row(serial).adm_status is AdmStatus.FAILED) == used_since
        assert {medium.adm_status for medium in site.dss.media.values()} == {AdmStatus.UNLOCKED}
        for name, size in crowd.acknowledged.items():
            assert site.library.tapes[name].synced >= size


async def test_a_tape_that_has_failed_in_every_drive_is_an_input_output_error(autojump_clock: MockClock) -> None:
    site = TapeSite(drives=1, tapes=1)
    site.library.broken_tapes.add("T00")
    async with tape_house(site) as house:
        client = house.client()
        for number in (1, 2):
            client.read("T00", id=number)
            assert await client.answer(number) == Failed(-errno.EIO, RequestKind.READ)
        assert len(site.library.calls("mount")) == 1


async def test_a_host_that_cannot_mount_at_all_blames_nobody_and_tells_the_client(autojump_clock: MockClock) -> None:
    async with tape_house() as house:
        house.site.library.fail("mount", HostError(errno.ENOENT, "there is no ltfs", {"mount": "no such program"}))
        client = house.client()
        client.read("T00")
        assert await client.answer(1) == Failed(-errno.ENOENT, RequestKind.READ)
        await trio.sleep(1000)
        assert {row.adm_status for row in house.site.dss.devices.values()} == {AdmStatus.UNLOCKED}
        assert len(house.site.library.calls("mount")) == 1
        client.read("T00")
        await client.granted(2)
        client.release(back(tape_id("T00"), to_sync=False), kind=RequestKind.RELEASE_READ)


def site_with_a_full_tape() -> TapeSite:
    """Two copies need T02, which is on the shelf, in place of T01."""
    site = TapeSite(drives=2, tapes=0)
    for name, drive in (("T00", "D0"), ("T01", "D1")):
        site.add_tape(name, drive=drive, capacity=100 * GIB)
        site.library.drives[drive].mounted = True
    site.library.tapes["T01"].used = site.library.tapes["T01"].capacity
    site.dss.media[tape_id("T01")] = replace(site.medium("T01"), fs_status=FsStatus.FULL)
    site.add_tape("T02")
    return site


async def test_a_write_that_has_to_wait_for_a_tape_leaves_the_mounted_one_to_others(autojump_clock: MockClock) -> None:
    site = site_with_a_full_tape()
    async with tape_house(site) as house:
        two, one = house.client(), house.client()
        two.write(GIB, GIB)
        await trio.sleep(1)
        one.write(GIB)
        (granted,) = await one.granted()
        # T02 is on its way to D1 for the two copies; T00 does not wait for it.
        assert (granted.medium, trio.current_time() < 10) == (tape_id("T00"), True)
        one.release(one.write_data("T00", GIB))
        both = await two.granted()
        assert {medium.medium.name for medium in both} == {"T00", "T02"}
        two.release(*(two.write_data(medium.medium.name, GIB) for medium in both))
        assert isinstance(await two.answer(2), Released)


@pytest.mark.parametrize(
    ("operation", "error"),
    [
        ("mount", HostError(errno.EAGAIN, "no process can be started", {"mount": "no process"})),
        ("unmount", HostError(errno.EAGAIN, "no process can be started", {"umount": "no process"})),
        ("load", LibraryUnreachableError(errno.ESHUTDOWN, "the controller is shutting down")),
        ("unload", LibraryUnreachableError(errno.ENOENT, "every slot is full")),
        ("unload", LibraryUnreachableError(errno.ECONNREFUSED, "nobody listens there", asked=False)),
    ],
)
async def test_a_write_for_which_no_tape_can_be_fetched_is_refused_although_nobody_is_to_blame(
    autojump_clock: MockClock, operation: str, error: LrsError
) -> None:
    site = site_with_a_full_tape()
    site.library.fail(operation, *[error] * 100)
    async with tape_house(site) as house:
        client = house.client()
        client.write(GIB, GIB)
        assert await client.answer(1) == Failed(-(error.errno or 0), RequestKind.WRITE)
        await trio.sleep(1000)
        assert len(site.library.calls(operation)) <= 2
        assert {row.adm_status for row in site.dss.devices.values()} == {AdmStatus.UNLOCKED}
        site.library.errors.clear()
        client.write(GIB, GIB, id=2)
        media = await client.granted(2)
        assert {granted.medium.name for granted in media} == {"T00", "T02"}
        client.release(*(client.write_data(granted.medium.name, GIB) for granted in media))
        assert isinstance(await client.answer(3), Released)


async def test_one_that_is_served_by_other_drives_meanwhile_is_not_refused_when_nothing_can_be_fetched_for_it(
    autojump_clock: MockClock,
) -> None:
    site = site_with_a_full_tape()
    site.add_drive("D2")
    site.add_tape("T03", drive="D2")
    site.library.drives["D2"].mounted = True
    site.library.fail("mount", HostError(errno.EAGAIN, "no process can be started", {"mount": "no process"}))
    async with tape_house(site) as house:
        other, slow = house.client(), house.connect(pause=None)
        assert isinstance(slow, TapeClient)
        other.read("T03")
        await other.granted()
        slow.write(GIB, GIB)
        await trio.sleep(1)
        other.release(back(tape_id("T03"), to_sync=False), kind=RequestKind.RELEASE_READ)
        await trio.sleep(1000)
        assert len(site.library.calls("mount")) == 1
        # Nothing that was fetched in vain is among what has waited for this client.
        slow.outbox.flush()
        media = await slow.granted()
        assert {granted.medium.name for granted in media} == {"T00", "T03"}
        slow.release(*(slow.write_data(granted.medium.name, GIB) for granted in media))


async def test_a_read_whose_tapes_cannot_be_taken_out_of_the_wrong_drives_is_refused(autojump_clock: MockClock) -> None:
    site, settings = two_generations()
    site.library.fail("unload", LibraryUnreachableError(errno.ENOENT, "every slot is full"))
    async with tape_house(site, settings) as house:
        client = house.client()
        client.read("T8", "T9")
        assert await client.answer(1) == Failed(-errno.ENOENT, RequestKind.READ)
        client.read("T8", "T9", id=2)
        assert {granted.medium.name for granted in await client.granted(2)} == {"T8", "T9"}


async def test_tapes_in_drives_are_served_while_nobody_moves_any(autojump_clock: MockClock) -> None:
    site = TapeSite(drives=2, tapes=1)
    site.add_tape("T10", drive="D0")
    site.add_tape("T11", drive="D1")
    async with tape_house(site) as house:
        site.library.refuses = True
        client, others = house.client(), house.client()
        for number in range(3):
            client.read("T00", id=number)
            assert await client.answer(number + 1) == Failed(-errno.ECONNREFUSED, RequestKind.READ)
        for name in ("T10", "T11"):
            others.read(name)
        await others.granted(1)
        await others.granted(2)
        assert {drive.state.status for drive in house.family.devices.values()} == {DeviceStatus.MOUNTED}
        for name in ("T10", "T11"):
            others.release(back(tape_id(name), to_sync=False), kind=RequestKind.RELEASE_READ)
        site.library.refuses = False
        client.read("T00", id=9)
        await client.granted(4)
        client.release(back(tape_id("T00"), to_sync=False), kind=RequestKind.RELEASE_READ)
