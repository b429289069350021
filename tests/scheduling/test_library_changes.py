"""What changes in a library while requests wait, or between two steps of a pass, is known to the next pass."""

from __future__ import annotations

import errno

import trio
from trio.testing import MockClock

from lrs_trio.devices.life import DeviceStatus
from lrs_trio.errors import LrsError
from lrs_trio.model import NotifyOperation, RequestKind
from lrs_trio.scheduling.library_pass import PlannedExchange
from lrs_trio.wire.messages import Failed, Notified, Notify
from tests.fakes.library import tape_id
from tests.fakes.tapes import GIB, TapeClient, TapeHouse, TapeSite, tape_house, tape_settings, two_generations

BROKEN = LrsError(errno.EIO, "broken")


async def refused(client: TapeClient, id: int, number: int, kind: RequestKind) -> None:
    """The request of `client` is refused soon, although nothing else happens."""
    with trio.fail_after(60):
        assert await client.answer(id) == Failed(-number, kind)


async def hold(house: TapeHouse, *tapes: str) -> None:
    """Somebody reads these."""
    for tape in tapes:
        client = house.client()
        client.read(tape)
        await client.granted()


async def read_at(house: TapeHouse, tape: str) -> str:
    """Where a new client may read it."""
    reader = house.client()
    reader.read(tape)
    (granted,) = await reader.granted()
    return granted.root


async def test_a_tape_that_is_to_leave_its_drive_for_nobody_is_waited_for(autojump_clock: MockClock) -> None:
    site, settings = two_generations()
    async with tape_house(site, settings) as house:
        writer, reader, other = house.client(), house.client(), house.client()
        writer.write(GIB)
        await writer.granted()
        # The sync that the release waits for keeps the tape where it is.
        site.library.seconds["sync"] = 50.0
        writer.release(writer.write_data("T8", 1))
        reader.read("T8", "T9")
        await trio.sleep(1)
        await trio.sleep(1)
        assert house.drive("D9").bound is None
        other.ask(1, Notify(tape_id("T9"), NotifyOperation.MEDIA_UPDATE, wait=True))
        assert isinstance(await other.answer(1), Notified)
        assert {one.medium.name for one in await reader.granted()} == {"T8", "T9"}


async def test_an_exchange_is_not_begun_in_a_drive_that_has_failed_meanwhile(autojump_clock: MockClock) -> None:
    site = TapeSite(drives=2, tapes=2)
    async with tape_house(site) as house:
        supply, drive = house.family.supply, house.drive("D0")
        told: list[OSError] = []
        made = supply.begin(house.family.queue)
        made.exchanges[drive.id] = PlannedExchange(site.medium("T00"), told.append)  # type: ignore[attr-defined]
        drive.condemn(BROKEN)
        supply.end(made)
        assert (list(drive.state.scheduled), told) == ([], [])
        assert await read_at(house, "T00") == "/mnt/D1"


async def test_an_exchange_that_has_not_begun_ends_with_its_drive(autojump_clock: MockClock) -> None:
    site = TapeSite(drives=2, tapes=2)
    async with tape_house(site) as house:
        drive = house.drive("D0")
        told: list[OSError] = []
        drive.exchange(site.medium("T00"), told.append)
        drive.condemn(BROKEN)
        assert (drive.bound, told) == (None, [])
        assert await read_at(house, "T00") == "/mnt/D1"


async def test_settings_that_change_during_a_pass_hold_from_the_next_one_on(autojump_clock: MockClock) -> None:
    site = TapeSite(drives=1, tapes=1)
    async with tape_house(site) as house:
        supply, queue = house.family.supply, house.family.queue
        made, medium = supply.begin(queue), site.medium("T00")
        house.family.change_settings(tape_settings(tape_types={"LTO8": ("LTO8_drive",)}))
        assert len(made.stock.ever(medium)) == 1  # type: ignore[attr-defined]
        assert supply.begin(queue).stock.ever(medium) == []  # type: ignore[attr-defined]


async def test_a_write_of_several_media_is_refused_when_an_empty_drive_fails(autojump_clock: MockClock) -> None:
    site = TapeSite(drives=3, tapes=4)
    async with tape_house(site) as house:
        await hold(house, "T00", "T01")
        writer = house.client()
        writer.write(GIB, GIB, GIB)
        await trio.sleep(1)
        (empty,) = [drive for drive in map(house.drive, ("D0", "D1", "D2")) if not drive.state.grants]
        assert writer.bodies == []
        empty.condemn(BROKEN)
        await refused(writer, 1, errno.ENODEV, RequestKind.WRITE)


async def test_a_read_of_several_media_is_refused_when_too_few_drives_are_left(autojump_clock: MockClock) -> None:
    site = TapeSite(drives=2, tapes=3)
    async with tape_house(site) as house:
        await hold(house, "T00")
        (spare,) = [serial for serial in ("D0", "D1") if not house.drive(serial).state.grants]
        reader, admin = house.client(), house.client()
        reader.read("T01", "T02")
        await trio.sleep(1)
        assert reader.bodies == []
        admin.ask(1, Notify(tape_id(spare), NotifyOperation.DEVICE_LOCK, wait=True))
        assert isinstance(await admin.answer(1), Notified)
        await refused(reader, 1, errno.ENODEV, RequestKind.READ)


async def test_who_waits_for_a_tape_hears_that_its_drive_cannot_be_adopted(autojump_clock: MockClock) -> None:
    site = TapeSite(drives=1, tapes=0)
    tape = site.add_tape("T00", drive="D0")
    async with tape_house(site) as house:
        reader, admin = house.client(), house.client()
        admin.ask(1, Notify(tape_id("D0"), NotifyOperation.DEVICE_LOCK, wait=True))
        assert isinstance(await admin.answer(1), Notified)
        tape.label, site.library.drives["D0"].mounted = "T99", True
        site.library.seconds["read_label"] = 20.0
        admin.ask(2, Notify(tape_id("D0"), NotifyOperation.DEVICE_UNLOCK, wait=False))
        await trio.sleep(10)
        reader.read("T00")
        await trio.sleep(5)
        assert (reader.bodies, house.drive("D0").state.status) == ([], DeviceStatus.ADOPTING)
        await refused(reader, 1, errno.EIO, RequestKind.READ)
