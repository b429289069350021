"""What a family of tapes remembers, forgets, looks at again, and says of itself."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import structlog
import trio
from trio.testing import MockClock

from lrs_trio.devices.life import DeviceStatus
from lrs_trio.dss.operations import AppendLog, LogEntry
from lrs_trio.model import AdmStatus, LockOwner, LockType, NotifyOperation, RequestKind
from lrs_trio.scheduling.catalog import MISSING_S
from lrs_trio.scheduling.report import family_status
from lrs_trio.wire.messages import Failed, Notified, Notify, Released
from tests.fakes.house import back
from tests.fakes.library import SECONDS, tape_id
from tests.fakes.tapes import GIB, TapeClient, TapeHouse, TapeSite, tape_house, tape_settings


class Wakes(trio.abc.Instrument):
    """Counts the steps of the tasks of a family that place requests, and cancels `scope` at the tenth."""

    def __init__(self, scope: trio.CancelScope) -> None:
        self.steps = 0
        self.scope = scope

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        self.steps += task.name.startswith("placement of")
        if self.steps == 10:
            # With steps without end a virtual clock would never get on.
            self.scope.cancel()


@contextmanager
def wakes() -> Iterator[Wakes]:
    with trio.CancelScope() as scope:
        counted = Wakes(scope)
        trio.lowlevel.add_instrument(counted)
        try:
            yield counted
        finally:
            trio.lowlevel.remove_instrument(counted)


def give_back(client: TapeClient, name: str) -> None:
    client.release(back(tape_id(name), to_sync=False), kind=RequestKind.RELEASE_READ)


async def notified(house: TapeHouse, operation: NotifyOperation, name: str) -> None:
    admin = house.client()
    admin.ask(1, Notify(tape_id(name), operation, True))
    assert isinstance(await admin.answer(1), Notified)


# An idle daemon.


async def test_an_idle_family_does_not_wake_up(autojump_clock: MockClock) -> None:
    """Although a tape is missing, another one is somebody else's, and a third one could not be unmounted."""
    site = TapeSite(drives=1)
    del site.library.tapes["T00"]
    site.library.fail("unmount", errno.EBUSY)
    async with tape_house(site, tape_settings(locate_expiry_ms=60_000), recheck_s=5.0) as house:
        site.dss.add_lock(LockType.MEDIA, tape_id("T01"), LockOwner("elsewhere", 1))
        client = house.client()
        for number, (name, error) in enumerate((("T00", errno.ENXIO), ("T01", errno.EALREADY))):
            client.read(name)
            assert await client.answer(number + 1) == Failed(-error, RequestKind.READ)
        client.read("T02")
        await client.granted(3)
        give_back(client, "T02")
        other = house.client()
        other.read("T03")
        await trio.sleep(1)
        other.leave()
        await trio.sleep(SECONDS["unmount"])
        assert house.drive("D0").busy_until > trio.current_time()
        with wakes() as counted:
            await trio.sleep(3 * MISSING_S)
        assert counted.steps == 0


async def test_a_tape_that_was_missing_is_asked_for_again(autojump_clock: MockClock) -> None:
    site = TapeSite(drives=1)
    tape = site.library.tapes.pop("T00")
    async with tape_house(site) as house:
        client = house.client()
        for number in (1, 2):
            client.read("T00")
            assert await client.answer(number) == Failed(-errno.ENXIO, RequestKind.READ)
        assert site.medium("T00").adm_status is AdmStatus.UNLOCKED
        site.library.tapes["T00"] = tape
        client.read("T00")
        assert await client.answer(3) == Failed(-errno.ENXIO, RequestKind.READ)
        await trio.sleep(MISSING_S)
        client.read("T00")
        await client.granted(4)
        give_back(client, "T00")


async def test_a_missing_tape_is_asked_for_at_once_when_an_administrator_says_so(autojump_clock: MockClock) -> None:
    site = TapeSite(drives=1)
    tape = site.library.tapes.pop("T00")
    async with tape_house(site) as house:
        client = house.client()
        client.read("T00")
        assert await client.answer(1) == Failed(-errno.ENXIO, RequestKind.READ)
        site.library.tapes["T00"] = tape
        await notified(house, NotifyOperation.MEDIA_UPDATE, "T00")
        client.read("T00")
        await client.granted(2)
        give_back(client, "T00")


async def test_one_that_waits_is_served_while_a_tape_that_it_may_have_cannot_be_unmounted(
    autojump_clock: MockClock,
) -> None:
    """Nothing but the passing of time changes what can be placed."""
    site = TapeSite(drives=1)
    site.library.fail("unmount", errno.EBUSY, errno.EBUSY)
    async with tape_house(site) as house:
        client = house.client()
        client.read("T00")
        await client.granted()
        give_back(client, "T00")
        client.read("T01")
        await client.granted(2)
        assert len(site.library.calls("unmount")) == 3
        give_back(client, "T01")


# Fresh starts.


def one_bad_pair() -> TapeSite:
    """The only drive does not work with the only tape; nobody can know which of the two is broken."""
    site = TapeSite(drives=1, tapes=1)
    site.library.broken_tapes.add("T00")
    return site


@pytest.mark.parametrize(
    ("operation", "name"), [(NotifyOperation.MEDIA_UPDATE, "T00"), (NotifyOperation.DEVICE_UNLOCK, "D0")]
)
async def test_an_administrator_has_those_tried_again_that_have_failed_together(
    autojump_clock: MockClock, operation: NotifyOperation, name: str
) -> None:
    site = one_bad_pair()
    async with tape_house(site) as house:
        client = house.client()
        for number in (1, 2):
            client.read("T00")
            assert await client.answer(number) == Failed(-errno.EIO, RequestKind.READ)
        site.library.broken_tapes.clear()
        client.read("T00")
        assert await client.answer(3) == Failed(-errno.EIO, RequestKind.READ)
        assert [pair["medium"] for pair in suspects(house)] == ["T00"]
        await notified(house, operation, name)
        assert suspects(house) == []
        client.read("T00")
        await client.granted(4)
        give_back(client, "T00")
    # The next start remembers neither.
    async with tape_house(site) as house:
        assert suspects(house) == []


def suspects(house: TapeHouse) -> list[dict[str, str]]:
    found = family_status(house.family)["suspects"]
    assert isinstance(found, list)
    return found


async def test_a_suspicion_survives_a_restart(autojump_clock: MockClock) -> None:
    site = one_bad_pair()
    async with tape_house(site) as house:
        client = house.client()
        client.read("T00")
        await client.answer(1)
    async with tape_house(site) as house:
        assert [(pair["drive"], pair["medium"]) for pair in suspects(house)] == [("D0", "T00")]
        client = house.client()
        client.read("T00")
        assert await client.answer(1) == Failed(-errno.EIO, RequestKind.READ)
        assert len(site.library.calls("mount")) == 1


async def prove_broken(house: TapeHouse, name: str) -> None:
    """Let the tape fail in all drives, and another one work."""
    client = house.client()
    client.read(name)
    assert await client.answer(1) == Failed(-errno.EIO, RequestKind.READ)
    client.read("T01")
    await client.granted(2)
    give_back(client, "T01")
    await trio.sleep(200)
    assert house.site.medium(name).adm_status is AdmStatus.FAILED


async def test_a_tape_with_health_left_is_not_failed(autojump_clock: MockClock) -> None:
    site = TapeSite()
    site.library.broken_tapes.add("T00")
    async with tape_house(site, tape_settings(max_health=100)) as house:
        client = house.client()
        client.read("T00")
        assert await client.answer(1) == Failed(-errno.EIO, RequestKind.READ)
        client.read("T01")
        await client.granted(2)
        give_back(client, "T01")
        await trio.sleep(200)
        assert site.medium("T00").adm_status is AdmStatus.UNLOCKED


async def test_a_failed_tape_that_is_unlocked_on_the_shelf_is_tried_again(autojump_clock: MockClock) -> None:
    """No daemon is told of it: a tape on the shelf is nobody's."""
    site = TapeSite()
    site.library.broken_tapes.add("T00")
    async with tape_house(site) as house:
        await prove_broken(house, "T00")
        client = house.client()
        client.read("T00")
        assert await client.answer(1) == Failed(-errno.EPERM, RequestKind.READ)
        site.library.broken_tapes.clear()
        site.dss.media[tape_id("T00")] = replace(site.medium("T00"), adm_status=AdmStatus.UNLOCKED)
        client.read("T00")
        await client.granted(2)
        give_back(client, "T00")
    assert site.medium("T00").adm_status is AdmStatus.UNLOCKED


async def test_a_failed_tape_that_is_unlocked_while_nobody_serves_is_tried_again(autojump_clock: MockClock) -> None:
    site = TapeSite()
    site.library.broken_tapes.add("T00")
    async with tape_house(site) as house:
        await prove_broken(house, "T00")
    site.library.broken_tapes.clear()
    site.dss.media[tape_id("T00")] = replace(site.medium("T00"), adm_status=AdmStatus.UNLOCKED)
    async with tape_house(site) as house:
        client = house.client()
        client.read("T00")
        await client.granted()
        give_back(client, "T00")


async def test_a_failed_tape_stays_so_over_a_restart(autojump_clock: MockClock) -> None:
    site = TapeSite()
    site.library.broken_tapes.add("T00")
    async with tape_house(site) as house:
        await prove_broken(house, "T00")
    async with tape_house(site) as house:
        client = house.client()
        client.read("T00")
        assert await client.answer(1) == Failed(-errno.EPERM, RequestKind.READ)


async def test_nothing_is_logged_for_those_against_whom_nothing_is_held(autojump_clock: MockClock) -> None:
    async with tape_house() as house:
        for _ in range(3):
            await notified(house, NotifyOperation.MEDIA_UPDATE, "T00")
            await notified(house, NotifyOperation.DEVICE_UNLOCK, "D0")
        assert [entry for _, entry in house.site.dss.committed if isinstance(entry, AppendLog)] == []


async def test_a_log_that_nobody_understands_harms_nobody(autojump_clock: MockClock) -> None:
    site = TapeSite()
    for cause in ("LTFS mount", "Device load", "Something new", ""):
        site.dss.log.append(LogEntry(tape_id("D0"), "", -errno.EIO, cause, "{not json"))
        site.dss.log.append(LogEntry(tape_id("GONE"), "X", 7, cause, "null"))
    async with tape_house(site) as house:
        client = house.client()
        client.read("T00")
        await client.granted()
        give_back(client, "T00")


async def test_a_tape_that_is_proven_broken_on_its_way_into_another_drive(autojump_clock: MockClock) -> None:
    site = TapeSite(drives=2, tapes=2)
    site.library.broken_tapes.add("T00")
    async with tape_house(site) as house:
        reader, other = house.client(), house.client()
        reader.read("T00")
        await trio.sleep(sum(SECONDS[operation] for operation in ("load", "mount", "unload")) + 1)
        # The tape has failed in one drive, and is on its way into the other one.
        first, second = [drive for _, drive, _ in site.library.calls("load")]
        assert first != second
        other.read("T01")
        await other.granted()
        assert await reader.answer(1) == Failed(-errno.EIO, RequestKind.READ)
        give_back(other, "T01")
        await trio.sleep(500)
        assert site.medium("T00").adm_status is AdmStatus.FAILED
        assert {row.adm_status for row in site.dss.devices.values()} == {AdmStatus.UNLOCKED}
        assert house.drive(second).state.status in (DeviceStatus.EMPTY, DeviceStatus.MOUNTED)


# What is read, and how often.


async def test_tapes_of_others_do_not_have_everybody_looked_at_anew(autojump_clock: MockClock) -> None:
    site = TapeSite(drives=1, tapes=3)
    site.dss.add_lock(LockType.MEDIA, tape_id("T02"), LockOwner("elsewhere", 1))
    async with tape_house(site) as house:
        holder, waiting = house.client(), house.client()
        holder.read("T00")
        await holder.granted()
        waiting.read("T01")
        await trio.sleep(1)
        supply = house.family.supply
        world = supply.begin(house.family.queue).world
        for _ in range(3):
            await trio.sleep(2)
            house.family.look()
            await house.settle()
            assert supply.begin(house.family.queue).world == world
        give_back(holder, "T00")
        await waiting.granted()
        give_back(waiting, "T01")


async def test_a_full_shelf_costs_a_pass_little(autojump_clock: MockClock) -> None:
    """The shelf is looked at once for all passes in which it is the same, not for each request that comes."""
    site = TapeSite(drives=1, tapes=50)
    async with tape_house(site) as house:
        client = house.client()
        client.write(GIB)
        (granted,) = await client.granted()
        supply = house.family.supply
        for number in range(2, 10):
            client.write(GIB, id=number)
            await house.settle()
        shelf = supply.begin(house.family.queue).stock.shelf  # type: ignore[attr-defined]
        assert supply.begin(house.family.queue).stock.shelf is shelf  # type: ignore[attr-defined]
        assert (len(shelf), granted.medium in shelf) == (49, False)
        site.dss.media[tape_id("T49")] = replace(site.medium("T49"), put=False)
        await trio.sleep(2)
        house.family.look()
        await house.settle()
        fresh = supply.begin(house.family.queue).stock.shelf  # type: ignore[attr-defined]
        assert not fresh[tape_id("T49")].medium.put


# What is told.


async def test_the_report_counts_what_can_be_written(autojump_clock: MockClock) -> None:
    site = TapeSite(drives=1, tapes=2, capacity=100 * GIB)
    site.add_tape("T02", adm_status=AdmStatus.LOCKED)
    site.add_tape("T03", put=False)
    async with tape_house(site) as house:
        before = family_status(house.family)
        assert (before["volumes"], before["free"]) == (2, 200 * GIB)
        assert before["media"] == {"drives": 0, "shelf": 4}
        client = house.client()
        client.write(30 * GIB)
        (granted,) = await client.granted()
        client.release(client.write_data(granted.medium.name, 30 * GIB))
        assert isinstance(await client.answer(2), Released)
        after = family_status(house.family)
        assert (after["volumes"], after["free"]) == (2, 170 * GIB)
        assert after["media"] == {"drives": 1, "shelf": 3}


async def test_what_the_tables_leave_out_is_logged_once_and_again_when_they_change(autojump_clock: MockClock) -> None:
    site = TapeSite(drives=1, tapes=1)
    site.add_tape("A9", model="LTO9")
    eight: dict[str, Any] = {"drive_types": {"LTO8_drive": ("ULT3580-TD8",)}, "tape_types": {"LTO8": ("LTO8_drive",)}}
    with structlog.testing.capture_logs() as lines:

        def told() -> list[str]:
            return [line["gap"] for line in lines if line["event"] == "a gap in the tables of the settings"]

        async with tape_house(site, tape_settings(**eight)) as house:
            (about_tapes,) = told()
            assert "LTO9" in about_tapes
            house.family.change_settings(tape_settings(policy="first_fit", **eight))
            assert told() == [about_tapes]
            nine: dict[str, Any] = {
                "drive_types": {"LTO9_drive": ("ULT3580-TD9",)},
                "tape_types": {"LTO8": ("LTO9_drive",)},
            }
            house.family.change_settings(tape_settings(**nine))
            assert len(told()) == 2
            assert "ULT3580-TD8" in told()[1]
            house.family.change_settings(tape_settings())
            house.family.change_settings(tape_settings(**eight))
            assert told()[2:] == [about_tapes]


async def test_a_start_without_gaps_says_nothing(autojump_clock: MockClock) -> None:
    with structlog.testing.capture_logs() as lines:
        async with tape_house():
            await trio.sleep(SECONDS["load"])
    assert not [line for line in lines if line["log_level"] in ("warning", "error")]
