"""What others have changed in the DSS, and settings, between two looks at it: what those are told who ask now."""

from __future__ import annotations

import errno
from dataclasses import replace

import trio
from trio.testing import MockClock

from lrs_trio.devices.life import DeviceStatus
from lrs_trio.model import AdmStatus, Family, NotifyOperation, RequestKind, SyncThresholds
from lrs_trio.scheduling.placement import Placed, Waits
from lrs_trio.scheduling.queue import RequestQueue
from lrs_trio.scheduling.requests import Allocation
from lrs_trio.settings import FairShareSettings
from lrs_trio.wire.messages import (
    Failed,
    Notified,
    Notify,
    ReadAllocation,
    Released,
    Request,
    WriteAllocation,
    WriteMedium,
)
from tests.fakes.house import back
from tests.fakes.library import tape_id
from tests.fakes.tapes import GIB, TapeSite, tape_house, tape_settings


async def test_a_write_finds_a_tape_that_was_unlocked_a_moment_ago(autojump_clock: MockClock) -> None:
    """No daemon is told of a tape that is in no drive: it is looked up again before a write is refused."""
    site = TapeSite(tapes=0)
    site.add_tape("T00", adm_status=AdmStatus.LOCKED)
    async with tape_house(site) as house:
        client = house.client()
        client.write(GIB)
        assert await client.answer(1) == Failed(-errno.ENOSPC, RequestKind.WRITE)
        site.dss.media[tape_id("T00")] = replace(site.medium("T00"), adm_status=AdmStatus.UNLOCKED)
        client.write(GIB)
        (granted,) = await client.granted(2)
        client.release(client.write_data(granted.medium.name, GIB))
        assert isinstance(await client.answer(3), Released)


async def test_a_write_whose_only_tape_was_deleted_meanwhile(autojump_clock: MockClock) -> None:
    """It has not asked for that tape: there is just no room."""
    site = TapeSite(tapes=1)
    async with tape_house(site) as house:
        client = house.client()
        del site.dss.media[tape_id("T00")]
        client.write(GIB)
        assert await client.answer(1) == Failed(-errno.ENOSPC, RequestKind.WRITE)
        assert site.library.calls("load") == []


async def test_only_those_are_looked_at_anew_to_whom_a_change_matters(autojump_clock: MockClock) -> None:
    """They are refused although no drive has come free; nobody else is asked whether he can still be served."""
    async with tape_house(TapeSite(drives=2, tapes=5)) as house:
        holder, unlucky, patient, admin = (house.client() for _ in range(4))
        holder.read("T00", "T04")
        await holder.granted()
        unlucky.read("T01")
        unlucky.read("T02", "T03", id=2)
        unlucky.read("T00", id=3)
        patient.read("T02")
        await house.settle()
        world = house.family.supply.begin(house.family.queue).world
        for number, name in enumerate(("T01", "T03", "T00"), 1):
            house.site.dss.media[tape_id(name)] = replace(house.site.medium(name), get=False)
            admin.ask(number, Notify(tape_id(name), NotifyOperation.MEDIA_UPDATE, wait=True))
            assert await unlucky.answer(number) == Failed(-errno.EPERM, RequestKind.READ)
        assert house.family.supply.begin(house.family.queue).world == world
        assert patient.bodies == []
        holder.release(back(tape_id("T00"), to_sync=False), kind=RequestKind.RELEASE_READ)
        await patient.granted()


async def test_a_read_that_gets_no_drive_holds_up_no_write(autojump_clock: MockClock) -> None:
    """Reads have a share of nothing. What they wait for is there for writes, and no drive could be given for it."""
    shares = FairShareSettings(max=(0, 1, 1))
    settings = tape_settings(
        dispatch="fair_share", fair_share={"LTO8": shares}, drive_types={"LTO8_drive": ("ULT3580-TD8",)}
    )
    async with tape_house(TapeSite(drives=1, tapes=1), settings) as house:
        writer, reader = house.client(), house.client()
        for number in (1, 3):
            writer.write(GIB)
            (granted,) = await writer.granted(number)
            writer.release(writer.write_data(granted.medium.name, GIB))
            assert isinstance(await writer.answer(number + 1), Released)
            if number == 1:
                reader.read("T00")
        settings = settings.model_copy(update={"fair_share": {"LTO8": FairShareSettings(max=(1, 1, 1))}})
        house.family.change_settings(settings)
        await reader.granted()
        reader.release(back(tape_id("T00"), to_sync=False), kind=RequestKind.RELEASE_READ)


async def test_a_write_is_not_refused_on_a_catalog_that_is_older_than_it(autojump_clock: MockClock) -> None:
    site = TapeSite(drives=1, tapes=1)
    async with tape_house(site) as house:
        client = house.client()
        # What is in drives will be looked up, what is on the shelf was when the daemon started.
        await trio.sleep(0.5)
        site.dss.media[tape_id("T00")] = replace(site.medium("T00"), tags=("new",))
        client.ask(1, WriteAllocation((WriteMedium(GIB, ("new",)),), Family.TAPE))
        (granted,) = await client.granted()
        assert granted.medium == tape_id("T00")
        client.release(client.write_data("T00", GIB))
        assert isinstance(await client.answer(2), Released)


async def test_a_drive_that_is_unlocked_does_not_adopt_a_tape_that_another_one_is_about_to_load(
    autojump_clock: MockClock,
) -> None:
    """Both locks of the tape would be one row of the daemon, which the first that lets go of it deletes."""
    site = TapeSite(tapes=0)
    site.add_tape("T00", drive="D0")
    site.add_tape("T01", drive="D1")
    async with tape_house(site) as house:
        reader, admin = house.client(), house.client()
        held: list[int] = []
        site.events.subscribe(
            lambda event: held.append(sum(drive.medium_id == tape_id("T00") for drive in house.family.devices.values()))
        )
        admin.ask(1, Notify(tape_id("D0"), NotifyOperation.DEVICE_LOCK, True))
        assert isinstance(await admin.answer(1), Notified)
        reader.read("T00")
        await trio.sleep(10)
        assert house.drive("D1").state.status is DeviceStatus.UNLOADING
        admin.ask(2, Notify(tape_id("D0"), NotifyOperation.DEVICE_UNLOCK, True))
        assert isinstance(await admin.answer(2), Notified)
        assert house.drive("D0").medium_id is None
        # The robot does not take it out of there, and the first drive can have it.
        (granted,) = await reader.granted()
        assert granted.root == "/mnt/D0"
        assert max(held) == 1
        reader.release(back(tape_id("T00"), to_sync=False), kind=RequestKind.RELEASE_READ)
    assert site.dss.locks == {}


async def test_a_tape_that_a_drive_finds_inside_during_a_pass_goes_to_no_other(autojump_clock: MockClock) -> None:
    """Found by the simulation, seed 20: a pass takes a step at a time, and a drive was adopted between two of them."""
    site = TapeSite(tapes=0)
    site.add_tape("T00", drive="D0")
    site.add_tape("T01")
    async with tape_house(site) as house:
        admin, client = house.client(), house.client()
        admin.ask(1, Notify(tape_id("D0"), NotifyOperation.DEVICE_LOCK, True))
        assert isinstance(await admin.answer(1), Notified)
        queue, reads = RequestQueue(keeps_heads=True), []
        for serial, tape in enumerate(("T00", "T01"), 1):
            body = ReadAllocation(1, (tape_id(tape),))
            reads.append(Allocation(client.client, Request(serial, body), body, serial, 0.0, SyncThresholds(1, 1, 1)))
            queue.add(reads[-1])
        supply = house.family.supply
        made = supply.begin(queue)
        admin.ask(2, Notify(tape_id("D0"), NotifyOperation.DEVICE_UNLOCK, True))
        assert isinstance(await admin.answer(2), Notified)
        outcomes = [made.decide(read) for read in reads]
        assert [type(outcome) for outcome in outcomes] == [Waits, Waits]
        later = supply.begin(queue)
        takes = [outcome.takes[0] for read in reads if isinstance(outcome := later.decide(read), Placed)]
        assert [take.device.name for take in takes] == ["D0", "D1"]


async def test_a_tape_that_turns_out_to_be_protected_is_promised_to_nobody_else(autojump_clock: MockClock) -> None:
    """Found by the simulation, seed 177: while more writes were promised there, it was promised to those before."""
    site = TapeSite(drives=1, tapes=1)
    site.library.tapes["T00"].read_only = True
    site.dss.delay = lambda: 0.01
    async with tape_house(site, tape_settings(max_concurrent_io=4)) as house:
        client = house.client()
        for number in range(1, 9):
            client.write(GIB, id=number)
        with trio.fail_after(600):
            for number in range(1, 9):
                refusal = await client.answer_to(number)
                assert isinstance(refusal, Failed)
                # Those that were promised it are told why, the others that there is none.
                assert refusal.rc in (-errno.EROFS, -errno.ENOSPC)
    assert not site.medium("T00").put
    assert len(site.library.calls("mount")) == 1
