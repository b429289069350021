"""What others have changed in the DSS, and settings, between two looks at it: what those are told who ask now."""

from __future__ import annotations

import errno
from dataclasses import replace

import trio
from trio.testing import MockClock

from lrs_trio.model import AdmStatus, Family, RequestKind
from lrs_trio.settings import FairShareSettings
from lrs_trio.wire.messages import Failed, Released, WriteAllocation, WriteMedium
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
