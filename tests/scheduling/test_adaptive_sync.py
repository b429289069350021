"""Syncs that come before their thresholds: for those whom nobody could join, and for drives that have streamed."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from lrs_trio.events import Event, EventKind
from lrs_trio.wire.messages import ReadGranted, Released
from tests.fakes.crowd import Crowd
from tests.fakes.house import FakeClient, House, back, house_of, released
from tests.fakes.report import reported_devices
from tests.fakes.site import family_settings
from tests.fakes.tapes import GIB, TapeSite, tape_house, tape_settings

A, B = "/srv/a", "/srv/b"
HOUR = 3600.0

PATIENT: Any = {"age_ms": 3_600_000, "requests": 1000}
"""Thresholds that are worth waiting for company."""


def syncs(seen: list[Event]) -> list[tuple[str, int]]:
    """Why each sync was started, and how many releases it served."""
    return [(event.detail, event.count) for event in seen if event.kind is EventKind.SYNC_STARTED]


# Directories.


async def one_waits_for_the_other(house: House) -> tuple[FakeClient, FakeClient]:
    """Two that write on A; the first has released, and has no answer while the second has not."""
    first, second = house.connect(), house.connect()
    for client in (first, second):
        client.write(100)
        await client.granted()
    first.release(back(A, 100))
    await trio.sleep(10)
    assert len(first.bodies) == 1
    return first, second


async def test_a_client_that_is_alone_does_not_wait(autojump_clock: MockClock) -> None:
    async with house_of(A, settings=family_settings(adaptive=True, **PATIENT)) as house:
        client = house.connect()
        for number in range(3):
            client.write(100)
            await client.granted(2 * number + 1)
            client.release(back(A, 100))
            assert await client.answer(2 * number + 2) == released(A)
        assert trio.current_time() == 0
        assert syncs(house.site.seen) == [("alone", 1)] * 3


async def test_by_thresholds_it_waits(autojump_clock: MockClock) -> None:
    async with house_of(A, settings=family_settings(**PATIENT)) as house:
        client = house.connect()
        client.write(100)
        await client.granted()
        client.release(back(A, 100))
        assert await client.answer(2) == released(A)
        assert trio.current_time() == HOUR
        assert syncs(house.site.seen) == [("time", 1)]


async def test_who_does_io_there_is_waited_for(autojump_clock: MockClock) -> None:
    async with house_of(A, settings=family_settings(adaptive=True, **PATIENT)) as house:
        first, second = await one_waits_for_the_other(house)
        second.release(back(A, 100))
        assert await first.answer(2) == await second.answer(2) == released(A)
        assert trio.current_time() == 10
        assert syncs(house.site.seen) == [("alone", 2)]


async def test_who_ends_without_a_sync_is_waited_for_no_longer(autojump_clock: MockClock) -> None:
    async with house_of(A, settings=family_settings(adaptive=True, **PATIENT)) as house:
        writer, other = await one_waits_for_the_other(house)
        other.release(back(A, to_sync=False))
        assert await writer.answer(2) == released(A)
        assert trio.current_time() == 10


@pytest.mark.parametrize("sync_while_io", [True, False])
async def test_a_reader_is_company_only_where_the_sync_has_to_wait_for_it(
    autojump_clock: MockClock, sync_while_io: bool
) -> None:
    rules = family_settings(adaptive=True, sync_while_io=sync_while_io, **PATIENT)
    async with house_of(A, settings=rules) as house:
        writer, reader = house.connect(), house.connect()
        writer.write(100)
        await writer.granted()
        reader.read(A)
        assert isinstance(await reader.answer(1), ReadGranted)
        writer.release(back(A, 100))
        await trio.sleep(10)
        assert len(writer.bodies) == (2 if sync_while_io else 1)
        reader.leave()
        assert await writer.answer(2) == released(A)
        assert trio.current_time() == 10


async def test_company_on_another_directory_is_none(autojump_clock: MockClock) -> None:
    async with house_of(A, B, settings=family_settings(adaptive=True, **PATIENT)) as house:
        first, second = house.connect(), house.connect()
        places = []
        for client in (first, second):
            client.write(100)
            (granted,) = await client.granted()
            places.append(granted.medium.name)
        assert sorted(places) == [A, B]
        first.release(back(places[0], 100))
        assert await first.answer(2) == released(places[0])
        assert trio.current_time() == 0


async def test_the_thresholds_still_count(autojump_clock: MockClock) -> None:
    async with house_of(A, settings=family_settings(adaptive=True, age_ms=7_000, requests=2)) as house:
        clients = [house.connect() for _ in range(4)]
        for client in clients:
            client.write(100)
            await client.granted()
        clients[0].release(back(A, 100))
        assert await clients[0].answer(2) == released(A)
        assert trio.current_time() == 7
        for client in clients[1:3]:
            client.release(back(A, 100))
        assert await clients[2].answer(2) == released(A)
        assert trio.current_time() == 7
        assert syncs(house.site.seen) == [("time", 1), ("requests", 2)]


async def serve_queue(house: House) -> None:
    """Three clients of which one at a time can write."""
    clients = [house.connect() for _ in range(3)]
    for client in clients:
        client.write(100)
    await house.settle()
    for client in clients:
        await client.granted()
        await trio.sleep(1)
        client.release(back(A, 100))
    for client in clients:
        assert await client.answer(2) == released(A)


@pytest.mark.parametrize("sync_while_io", [True, False])
async def test_who_waits_in_the_queue_comes_first(autojump_clock: MockClock, sync_while_io: bool) -> None:
    settings = family_settings(adaptive=True, max_concurrent_io=1, sync_while_io=sync_while_io, **PATIENT)
    async with house_of(A, settings=settings) as house:
        await serve_queue(house)
        assert trio.current_time() == 3
        assert syncs(house.site.seen) == [("alone", 3)]


async def test_what_is_handed_over_at_the_same_moment_is_waited_for(autojump_clock: MockClock) -> None:
    async with house_of(A, settings=family_settings(adaptive=True, max_concurrent_io=1, **PATIENT)) as house:
        client = house.connect()
        client.write(100, id=1)
        await client.granted()
        client.release(back(A, 100), id=2)
        client.write(100, id=3)
        await client.answer_to(3)
        await trio.sleep(5)
        client.release(back(A, 100), id=4)
        assert await client.answer_to(4) == released(A)
        assert syncs(house.site.seen) == [("alone", 2)]


async def test_those_who_wait_for_something_else_are_not_waited_for(autojump_clock: MockClock) -> None:
    """A reader of B waits while B is written to; that does not concern A."""
    settings = family_settings(adaptive=True, max_concurrent_io=1, **PATIENT)
    async with house_of(A, B, settings=settings) as house:
        clients = {}
        for _ in range(2):
            client = house.connect()
            client.write(100)
            (granted,) = await client.granted()
            clients[granted.medium.name] = client
        house.connect().read(B)
        await house.settle()
        clients[A].release(back(A, 100))
        assert await clients[A].answer(2) == released(A)
        assert trio.current_time() == 0


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.note("3.0", "4.5")
async def test_law_nobody_waits_longer_than_the_thresholds_have_it(autojump_clock: MockClock, seed: int) -> None:
    random = Random(seed)
    age, sync_s = 4.0, 0.5
    settings = family_settings(
        adaptive=True,
        age_ms=int(age * 1000),
        requests=random.randint(2, 6),
        max_concurrent_io=random.choice((1, 4)),
    )
    waits: list[float] = []

    async def work(house: House) -> None:
        client = house.connect()
        for number in range(5):
            await trio.sleep(random.expovariate(0.3))
            client.write(100)
            (granted,) = await client.granted(2 * number + 1)
            await trio.sleep(random.expovariate(1))
            begun = trio.current_time()
            client.release(back(granted.medium, 100))
            assert isinstance(await client.answer(2 * number + 2), Released)
            waits.append(trio.current_time() - begun)

    async with house_of(A, B, settings=settings) as house:
        for disk in house.site.disks.values():
            disk.seconds["sync"] = sync_s
        async with trio.open_nursery() as nursery:
            for _ in range(6):
                nursery.start_soon(work, house)
    # At worst the sync that runs when the time is up has just begun.
    assert max(waits) <= age + 2 * sync_s
    assert len(waits) == 30


# Tapes.


def make_site(sync_s: float) -> TapeSite:
    site = TapeSite(drives=1, tapes=2, capacity=12_000 * GIB)
    site.library.seconds["sync"] = sync_s
    return site


def streaming_share(seen: list[Event]) -> float:
    """The part of a drive's time that one client after the other had, between the ends of its first and last syncs."""
    ends = [event.time for event in seen if event.kind is EventKind.SYNC_FINISHED]
    io = [event for event in seen if event.kind in (EventKind.IO_BEGUN, EventKind.IO_ENDED)]
    spans = [(begun.time, ended.time) for begun, ended in zip(io[::2], io[1::2], strict=False)]
    inside = (ended - begun for begun, ended in spans if begun >= ends[0] and ended <= ends[-1])
    return sum(inside) / (ends[-1] - ends[0])


async def test_a_lone_client_of_a_tape_does_not_wait_for_nobody(autojump_clock: MockClock) -> None:
    site = make_site(7.0)
    async with tape_house(site, tape_settings(share=0.9, age_ms=3_600_000, requests=1000, size=1000 * GIB)) as house:
        crowd = Crowd(house, GIB)
        await crowd.run(1, 3)
    assert crowd.waits == [pytest.approx(7.0)] * 3
    assert syncs(site.seen)[1:] == [("alone", 1)] * 2


@pytest.mark.parametrize("share", [0.5, 0.9])
async def test_a_drive_streams_for_its_share_and_not_much_more(autojump_clock: MockClock, share: float) -> None:
    site = make_site(7.0)
    settings = tape_settings(share=share, age_ms=3_600_000, requests=1000, size=1000 * GIB)
    async with tape_house(site, settings) as house:
        crowd = Crowd(house, GIB // 4)
        with trio.move_on_after(HOUR / 4):
            await crowd.run(100, 100)
        devices = reported_devices(house.family)
    assert streaming_share(site.seen) == pytest.approx(share, abs=0.03)
    # The first one tells what a sync costs, and the last one comes with the end.
    assert syncs(site.seen)[0] == ("streaming", 1)
    assert {cause for cause, _ in syncs(site.seen)[:-1]} == {"streaming"}
    (device,) = devices
    assert device["sync_cost"]["base_s"] == pytest.approx(7.0, abs=0.1)
    assert device["sync_cost"]["per_file_s"] == pytest.approx(0, abs=1e-4)
    assert device["sync_cost"]["syncs"] > 10


async def test_a_drive_syncs_by_its_thresholds_before_it_has_streamed_enough(autojump_clock: MockClock) -> None:
    site = make_site(7.0)
    async with tape_house(site, tape_settings(share=0.9, age_ms=60_000, requests=5, size=1000 * GIB)) as house:
        await Crowd(house, GIB).run(41, 1)
    assert syncs(site.seen) == [("streaming", 1), *[("requests", 5)] * 8]


async def test_what_a_sync_costs_is_learned_without_being_adaptive_too(autojump_clock: MockClock) -> None:
    site = make_site(3.0)
    async with tape_house(site, tape_settings(requests=1)) as house:
        devices = reported_devices(house.family)
        assert devices[0]["sync_cost"] is None
        await Crowd(house, GIB).run(1, 2)
        devices = reported_devices(house.family)
        assert devices[0]["sync_cost"] == {"base_s": 3.0, "per_file_s": 0.0, "syncs": 2}


async def test_who_goes_away_before_a_pass_has_looked_at_it_is_waited_for_no_longer(autojump_clock: MockClock) -> None:
    async with house_of(A, settings=family_settings(adaptive=True, **PATIENT), recheck_s=1.0) as house:
        writer, other = house.connect(), house.connect()
        writer.write(100)
        await writer.granted()
        await trio.sleep(10)
        house.site.dss.delay = lambda: 5.0
        other.write(100)
        # The pass first asks the DSS what others have changed.
        await house.settle()
        writer.release(back(A, 100))
        await trio.sleep(1)
        assert syncs(house.site.seen) == []
        other.leave()
        await house.settle()
        assert syncs(house.site.seen) == [("alone", 1)]
        assert await writer.answer(2) == released(A)
        assert trio.current_time() == 16
