"""Which requests get which tapes and drives when, with the whole family at work."""

from __future__ import annotations

import errno
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from lrs_trio.devices.life import DeviceStatus
from lrs_trio.model import (
    AdmStatus,
    Family,
    FsStatus,
    FsType,
    LockOwner,
    LockType,
    Medium,
    MediumStats,
    RequestKind,
    ResourceId,
    lock_id,
)
from lrs_trio.scheduling.report import monitor
from lrs_trio.settings import FairShareSettings
from lrs_trio.wire.messages import (
    Failed,
    Format,
    Formatted,
    ReadAllocation,
    ReadGranted,
    Released,
    WriteAllocation,
    WriteGranted,
    WriteMedium,
)
from tests.fakes.house import EPOCH, back
from tests.fakes.library import SECONDS, FakeTape, tape_id
from tests.fakes.site import DAEMON, HOST
from tests.fakes.tapes import GIB, TapeClient, TapeHouse, TapeSite, tape_house, tape_settings

ELSEWHERE = LockOwner("elsewhere", 1)
MODEL = "ULT3580-TD8"
ALL_TAKES_S = 1000.0
"""More than it takes to sync, unmount, unload, load and mount in every drive of these tests."""


def loads(house: TapeHouse) -> list[str]:
    """The tapes that were loaded, in the order of time."""
    return [tape for _, _, tape in house.site.library.calls("load")]


def give_back(client: TapeClient, *names: str) -> None:
    """The end of a read."""
    media = [back(tape_id(name), to_sync=False) for name in names]
    client.release(*media, kind=RequestKind.RELEASE_READ)


async def reading(house: TapeHouse, name: str) -> TapeClient:
    """A client that has been granted a read of `name`."""
    client = house.client()
    client.read(name)
    await client.granted()
    return client


async def write(client: TapeClient, size: int = GIB, **more: Any) -> str:
    """Write to one tape, and return its name when that is acknowledged."""
    before = len(client.bodies)
    client.write(size, **more)
    (granted,) = await client.granted(before + 1)
    client.release(client.write_data(granted.medium.name, size))
    assert isinstance(await client.answer(before + 2), Released)
    return granted.medium.name


async def order_of_grants(clients: dict[str, TapeClient], media: dict[str, str]) -> list[str]:
    """Who is granted when; each gives back at once."""
    order: list[str] = []

    async def take(name: str) -> None:
        await clients[name].granted()
        order.append(name)
        give_back(clients[name], media[name])

    async with trio.open_nursery() as nursery:
        for name in clients:
            nursery.start_soon(take, name)
    return order


# Reads.


@pytest.mark.parametrize(
    ("algorithm", "order", "loaded"),
    [
        ("grouped_read", ["second", "third", "other"], ["T00", "T01"]),
        ("fifo", ["other", "second", "third"], ["T00", "T01", "T00"]),
    ],
)
async def test_a_tape_stays_as_long_as_somebody_waits_to_read_it(
    autojump_clock: MockClock, algorithm: str, order: list[str], loaded: list[str]
) -> None:
    async with tape_house(TapeSite(drives=1), tape_settings(read_algorithm=algorithm)) as house:
        first = await reading(house, "T00")
        media = {"other": "T01", "second": "T00", "third": "T00"}
        clients = {name: house.client() for name in media}
        for name, tape in media.items():
            clients[name].read(tape)
        await trio.sleep(1)
        give_back(first, "T00")
        assert await order_of_grants(clients, media) == order
        assert loads(house) == loaded


@pytest.mark.parametrize(
    ("algorithm", "ordered", "order"),
    [
        ("grouped_read", True, ["qos", "old", "plain", "late"]),
        ("grouped_read", False, ["plain", "late", "old", "qos"]),
        ("fifo", False, ["qos", "old", "plain", "late"]),
    ],
)
async def test_those_who_wait_for_one_tape_go_by_priority_or_as_they_came(
    autojump_clock: MockClock, algorithm: str, ordered: bool, order: list[str]
) -> None:
    settings = tape_settings(read_algorithm=algorithm, ordered_grouped_read=ordered)
    async with tape_house(TapeSite(drives=1), settings) as house:
        first = await reading(house, "T00")
        ranks = {"plain": (0, -20), "late": (0, -30), "old": (0, -10), "qos": (1, -40)}
        clients = {name: house.client() for name in ranks}
        for name, (qos, priority) in ranks.items():
            clients[name].ask(1, ReadAllocation(1, (tape_id("T00"),)), qos, priority)
            await trio.sleep(1)
        give_back(first, "T00")
        assert await order_of_grants(clients, dict.fromkeys(ranks, "T00")) == order


async def test_so_many_of_several_copies_are_read_and_what_is_mounted_comes_first(autojump_clock: MockClock) -> None:
    async with tape_house(TapeSite(drives=2)) as house:
        give_back(await reading(house, "T02"), "T02")
        client = house.client()
        client.read("T00", "T01", "T02", required=2)
        granted = await client.granted()
        assert {medium.medium for medium in granted} == {tape_id("T00"), tape_id("T02")}
        give_back(client, "T00", "T02")
        assert loads(house) == ["T02", "T00"]


async def test_a_write_takes_a_tape_out_that_reads_wait_for_if_it_came_first(autojump_clock: MockClock) -> None:
    site = TapeSite(drives=1, tapes=0)
    site.add_tape("T00", put=False)
    site.add_tape("T01")
    async with tape_house(site) as house:
        first = await reading(house, "T00")
        writer, reader = house.client(), house.client()
        writer.write(GIB)
        reader.read("T00")
        await trio.sleep(1)
        give_back(first, "T00")
        (granted,) = await writer.granted()
        assert reader.bodies == []
        writer.release(writer.write_data(granted.medium.name, GIB))
        await reader.granted()
        give_back(reader, "T00")
        assert loads(house) == ["T00", "T01", "T00"]


@pytest.mark.note("6")
async def test_a_read_whose_client_has_gone_leaves_its_tape_to_the_next_one(autojump_clock: MockClock) -> None:
    async with tape_house(TapeSite(drives=1)) as house:
        client = house.client()
        client.read("T00")
        await trio.sleep(SECONDS["load"] / 2)
        client.leave()
        give_back(await reading(house, "T00"), "T00")
        assert (client.bodies, loads(house)) == ([], ["T00"])


# Writes.


@pytest.mark.note("7")
async def test_the_policy_decides_between_tapes_and_may_be_changed(autojump_clock: MockClock) -> None:
    site = TapeSite(drives=3, tapes=0)
    for name, size in (("T00", 50), ("T01", 20), ("T02", 5), ("T03", 30)):
        site.add_tape(name, capacity=size * GIB)
    async with tape_house(site) as house:
        client = house.client()
        client.write(10 * GIB, id=1)
        assert [granted.medium.name for granted in await client.granted(1)] == ["T01"]
        house.family.change_settings(tape_settings(policy="first_fit"))
        client.write(10 * GIB, id=2)
        assert [granted.medium.name for granted in await client.granted(2)] == ["T00"]


async def test_a_write_is_only_split_where_that_is_allowed(autojump_clock: MockClock) -> None:
    site = TapeSite(tapes=2, capacity=10 * GIB)
    async with tape_house(site) as house:
        client = house.client()
        client.write(15 * GIB, no_split=True)
        assert await client.answer(1) == Failed(-errno.ENOSPC, RequestKind.WRITE)
        client.write(25 * GIB)
        assert await client.answer(2) == Failed(-errno.ENOSPC, RequestKind.WRITE)
        client.write(15 * GIB)
        (granted,) = await client.granted(3)
        assert granted.avail_size == 10 * GIB


@pytest.mark.parametrize("policy", ["best_fit", "first_fit"])
async def test_a_write_that_is_split_does_not_have_tapes_take_turns(autojump_clock: MockClock, policy: str) -> None:
    site = TapeSite(drives=0, tapes=0)
    for serial, model in (("D0", "ULT3580-TD7"), ("D1", MODEL), ("D2", MODEL)):
        site.add_drive(serial, model=model)
    site.add_tape("T00", capacity=1000)
    site.add_tape("T01", capacity=5, model="LTO7")
    site.add_tape("T02", capacity=44, tags=("x",))
    site.add_tape("T03", capacity=1000)
    async with tape_house(site, tape_settings(policy=policy, **TABLES)) as house:
        mounted = ["T01", "T02", "T03"]
        for name in mounted:
            give_back(await reading(house, name), name)
        client = house.client()
        media = (WriteMedium(90), WriteMedium(10), WriteMedium(40, ("x",)))
        client.ask(1, WriteAllocation(media, Family.TAPE))
        granted = await client.granted()
        assert sorted(grant.medium.name for grant in granted) == mounted == loads(house)
        client.leave()


async def test_no_duplicate_goes_to_a_drive_where_the_client_has_another(autojump_clock: MockClock) -> None:
    async with tape_house(TapeSite(drives=2), tape_settings(max_concurrent_io=4)) as house:
        client = house.client()
        roots = []
        for number in range(2):
            client.write(GIB, id=number, prevent_duplicate=True)
            (granted,) = await client.granted(number + 1)
            roots.append(granted.root)
        assert sorted(roots) == ["/mnt/D0", "/mnt/D1"]
        client.write(GIB, id=2, prevent_duplicate=True)
        assert await client.answer(3) == Failed(-errno.ENODEV, RequestKind.WRITE)


async def test_an_empty_tape_and_tags_are_asked_for(autojump_clock: MockClock) -> None:
    site = TapeSite(tapes=0)
    site.add_tape("T00", fs_status=FsStatus.USED)
    site.add_tape("T01")
    site.add_tape("T02", tags=("fast", "here"))
    async with tape_house(site) as house:
        client = house.client()

        async def chosen(*media: WriteMedium) -> list[str]:
            answers = len(client.bodies)
            client.ask(answers, WriteAllocation(media, Family.TAPE))
            granted = await client.granted(answers + 1)
            client.release(*(client.write_data(medium.medium.name, GIB) for medium in granted))
            assert isinstance(await client.answer(answers + 2), Released)
            return [medium.medium.name for medium in granted]

        assert await chosen(WriteMedium(GIB, ("here",))) == ["T02"]
        assert await chosen(WriteMedium(GIB, empty_medium=True), WriteMedium(GIB, ("fast",))) == ["T01", "T02"]
        # All are used by now but one is no more empty than the others.
        client.ask(9, WriteAllocation((WriteMedium(GIB, empty_medium=True),), Family.TAPE))
        assert await client.answer(5) == Failed(-errno.ENOSPC, RequestKind.WRITE)


async def test_a_grouping_is_written_where_it_is_and_noted_where_it_is_new(autojump_clock: MockClock) -> None:
    site = TapeSite(drives=2, tapes=3)
    site.add_tape("T03", groupings=("g",))
    async with tape_house(site) as house:
        client = house.client()
        plain = await write(client)
        assert (plain, site.medium(plain).groupings) == ("T00", ())
        assert await write(client, grouping="g") == "T03"
        client.write(GIB, grouping="new")
        (granted,) = await client.granted(5)
        released = replace(client.write_data(granted.medium.name, GIB), grouping="new")
        client.release(released)
        assert isinstance(await client.answer(6), Released)
        assert "new" in site.medium(granted.medium.name).groupings
        assert await write(client, grouping="new") == granted.medium.name


async def test_where_groupings_are_off_a_write_goes_where_it_would_go_without(autojump_clock: MockClock) -> None:
    site = TapeSite(drives=2, tapes=3)
    site.add_tape("T03", groupings=("g",))
    async with tape_house(site, tape_settings(groupings=False)) as house:
        assert await write(house.client(), grouping="g") == "T00"


async def test_so_many_clients_write_one_grouping(autojump_clock: MockClock) -> None:
    settings = tape_settings(max_writers_per_grouping=1)
    async with tape_house(TapeSite(drives=3), settings) as house:
        first, second, other = house.client(), house.client(), house.client()
        first.write(GIB, grouping="g")
        (granted,) = await first.granted()
        second.write(GIB, grouping="g")
        other.write(GIB, grouping="h")
        await other.granted()
        first.write(GIB, id=2, grouping="g")
        (more,) = await first.granted(2)
        await trio.sleep(ALL_TAKES_S)
        assert second.bodies == []
        # With the sync goes the medium's place among the writers, not only with the answer.
        first.release(first.write_data(granted.medium.name, GIB), first.write_data(more.medium.name, GIB))
        await second.granted()


async def test_a_writer_that_waits_for_its_tape_is_not_overtaken_within_its_grouping(
    autojump_clock: MockClock,
) -> None:
    """The other one could write at once, but then the first would have to wait for it: for longer than it must."""
    site = TapeSite(drives=2, tapes=0)
    site.add_tape("A00", tags=("a",))
    site.add_tape("B00", tags=("b",))
    async with tape_house(site, tape_settings(max_writers_per_grouping=1)) as house:
        holder = await reading(house, "A00")
        first, second = house.client(), house.client()
        for client, tag in ((first, "a"), (second, "b")):
            client.ask(1, WriteAllocation((WriteMedium(GIB, (tag,)),), Family.TAPE, grouping="g"))
        await trio.sleep(ALL_TAKES_S)
        assert (first.bodies, second.bodies) == ([], [])
        give_back(holder, "A00")
        (granted,) = await first.granted()
        assert second.bodies == []
        first.release(first.write_data(granted.medium.name, GIB))
        await second.granted()


async def test_two_copies_are_not_starved_by_a_stream_of_single_ones(autojump_clock: MockClock) -> None:
    async with tape_house(TapeSite(drives=2, tapes=6)) as house:
        singles = 0

        async def stream(client: TapeClient) -> None:
            nonlocal singles
            while True:
                await write(client)
                singles += 1

        async with trio.open_nursery() as nursery:
            for _ in range(4):
                nursery.start_soon(stream, house.client())
            await trio.sleep(100)
            client = house.client()
            client.write(GIB, GIB)
            before = singles
            granted = await client.granted()
            # Each of the others had one under way at most.
            assert singles - before <= 4
            client.release(*(client.write_data(medium.medium.name, GIB) for medium in granted))
            assert isinstance(await client.answer(2), Released)
            nursery.cancel_scope.cancel()


async def test_two_that_need_the_tapes_of_each_other_do_not_take_turns_for_ever(autojump_clock: MockClock) -> None:
    """What is mounted for one that has the rest fetched stays until it is served."""
    async with tape_house(TapeSite(drives=2, tapes=4)) as house:
        for name in ("T00", "T01"):
            give_back(await reading(house, name), name)
        clients = [house.client() for _ in range(4)]
        pairs = [("T00", "T02"), ("T01", "T03"), ("T02", "T01"), ("T03", "T00")]
        for client, pair in zip(clients, pairs, strict=True):
            client.read(*pair)
        for client, pair in zip(clients, pairs, strict=True):
            await client.granted()
            give_back(client, *pair)
        # As many as it takes to bring each where it is wanted.
        assert len(loads(house)) <= 2 + 2 * len(pairs)


# Who may use what.


async def test_each_library_has_its_own_drives_and_tapes(autojump_clock: MockClock) -> None:
    site = TapeSite(drives=1, tapes=1)
    add_northern_library(site)
    async with tape_house(site) as house:
        client = house.client()
        client.write(GIB, library="north")
        (granted,) = await client.granted()
        assert (granted.medium, granted.root) == (tape_id("X00", "north"), "/mnt/N0")
        client.write(GIB, id=2, library="legacy")
        (other,) = await client.granted(2)
        assert (other.medium, other.root) == (tape_id("T00"), "/mnt/D0")
        client.write(GIB, GIB, id=3, library="north")
        assert await client.answer(3) == Failed(-errno.ENOSPC, RequestKind.WRITE)
        client.ask(4, ReadAllocation(1, (tape_id("Y00", "south"),)))
        assert await client.answer(4) == Failed(-errno.ENODEV, RequestKind.READ)
        client.ask(5, ReadAllocation(1, (tape_id("T00", "north"),)))
        assert await client.answer(5) == Failed(-errno.ENXIO, RequestKind.READ)


def add_northern_library(site: TapeSite) -> None:
    """A drive and a tape of another library, and a tape of one without drives."""
    site.add_drive("N0")
    drive = site.dss.devices.pop(tape_id("N0"))
    north = replace(drive, id=tape_id("N0", "north"))
    site.dss.devices[north.id] = north
    for name, library in (("X00", "north"), ("Y00", "south")):
        site.library.tapes[name] = FakeTape(name, 100 * GIB, name)
        medium = Medium(
            tape_id(name, library),
            FsType.LTFS,
            AdmStatus.UNLOCKED,
            FsStatus.EMPTY,
            name,
            model="LTO8",
            stats=MediumStats(phys_spc_free=100 * GIB),
        )
        site.dss.media[medium.id] = medium


TABLES: dict[str, Any] = {
    "drive_types": {"LTO7_drive": ("ULT3580-TD7",), "LTO8_drive": (MODEL,)},
    "tape_types": {"LTO7": ("LTO7_drive", "LTO8_drive"), "LTO8": ("LTO8_drive",)},
}


async def test_tapes_go_into_the_drives_that_take_them(autojump_clock: MockClock) -> None:
    site = TapeSite(drives=0, tapes=0)
    site.add_drive("OLD", model="ULT3580-TD7")
    site.add_drive("NEW", model=MODEL)
    for name, model in (("A7", "LTO7"), ("A8", "LTO8"), ("B8", "LTO8"), ("A9", "LTO9")):
        site.add_tape(name, model=model)
    async with tape_house(site, tape_settings(**TABLES)) as house:
        first = await reading(house, "A8")
        assert site.library.tapes["A8"].place == "NEW"
        waits = house.client()
        waits.read("B8")
        old = await reading(house, "A7")
        assert (site.library.tapes["A7"].place, waits.bodies) == ("OLD", [])
        refused = house.client()
        refused.read("A9")
        assert await refused.answer(1) == Failed(-errno.ENODEV, RequestKind.READ)
        give_back(first, "A8")
        await waits.granted()
        assert site.library.tapes["B8"].place == "NEW"
        give_back(old, "A7")
        # The tables are read where they are needed.
        tables = TABLES | {"tape_types": TABLES["tape_types"] | {"LTO9": ("LTO7_drive",)}}
        house.family.change_settings(tape_settings(**tables))
        give_back(await reading(house, "A9"), "A9")
        assert ("OLD", "A9") in [(drive, tape) for _, drive, tape in site.library.calls("load")]


@pytest.mark.parametrize("kind", ["read", "write", "format"])
async def test_a_tape_that_was_located_is_neither_taken_out_nor_written(autojump_clock: MockClock, kind: str) -> None:
    site = TapeSite(drives=1, tapes=2)
    site.add_tape("N00", fs_status=FsStatus.BLANK)
    async with tape_house(site, tape_settings(locate_expiry_ms=1_000_000)) as house:
        give_back(await reading(house, "T00"), "T00")
        key = LockType.MEDIA, lock_id(tape_id("T00"))
        located = trio.current_time()
        site.dss.locks[key] = replace(site.dss.locks[key], last_locate=EPOCH + located)
        await trio.sleep(1)
        client = house.client()
        if kind == "read":
            client.read("T01")
        elif kind == "write":
            client.write(GIB)
        else:
            client.format("N00")
        await trio.sleep(500)
        # Whoever was told where it is finds it there.
        give_back(await reading(house, "T00"), "T00")
        assert (client.bodies, loads(house)) == ([], ["T00"])
        body = await client.answer(1)
        assert isinstance(body, ReadGranted | WriteGranted | Formatted)
        assert trio.current_time() >= located + 1000


async def test_a_tape_of_another_host_is_passed_over_and_used_when_it_is_free(autojump_clock: MockClock) -> None:
    site = TapeSite(tapes=2)
    lock = site.dss.add_lock(LockType.MEDIA, tape_id("T00"), ELSEWHERE)
    async with tape_house(site) as house:
        client = house.client()
        assert await write(client) == "T01"
        client.write(GIB, GIB, id=2)
        assert await client.answer(3) == Failed(-errno.ENOSPC, RequestKind.WRITE)
        client.read("T00", id=3)
        assert await client.answer(4) == Failed(-errno.EALREADY, RequestKind.READ)
        client.format("T00", id=4, force=True)
        assert await client.answer(5) == Failed(-errno.EBUSY, RequestKind.FORMAT)
        # Nobody tells; it is found before the next one is refused.
        del site.dss.locks[lock.type, lock.id]
        give_back(await reading(house, "T00"), "T00")


async def test_a_tape_that_another_host_takes_at_the_last_moment(autojump_clock: MockClock) -> None:
    """The family believes that it is free, the drive finds that it is not."""
    site = TapeSite(tapes=2)
    async with tape_house(site, recheck_s=100.0) as house:
        site.dss.add_lock(LockType.MEDIA, tape_id("T00"), ELSEWHERE)
        client = house.client()
        assert await write(client) == "T01"
        client.read("T00", id=2)
        assert await client.answer(3) == Failed(-errno.EALREADY, RequestKind.READ)
        assert loads(house) == ["T01"]


async def test_a_tape_that_is_reserved_for_this_host_is_taken_over(autojump_clock: MockClock) -> None:
    site = TapeSite(tapes=1)
    site.dss.add_lock(LockType.MEDIA, tape_id("T00"), LockOwner(HOST, 1), is_weak=True, last_locate=EPOCH)
    async with tape_house(site, tape_settings(locate_expiry_ms=1000)) as house:
        give_back(await reading(house, "T00"), "T00")
        lock = site.dss.locks[LockType.MEDIA, lock_id(tape_id("T00"))]
        assert (lock.owner, lock.is_weak) == (DAEMON, False)


# Formats.


@pytest.mark.note("5.1", "5.3")
@pytest.mark.parametrize(
    ("status", "force", "error"),
    [
        (FsStatus.BLANK, False, None),
        (FsStatus.USED, False, errno.EINVAL),
        (FsStatus.USED, True, None),
        (FsStatus.FULL, True, None),
        (FsStatus.IMPORTING, True, errno.EINVAL),
    ],
)
async def test_what_may_be_formatted(
    autojump_clock: MockClock, status: FsStatus, force: bool, error: int | None
) -> None:
    site = TapeSite(tapes=0)
    site.add_tape("T00", fs_status=status)
    async with tape_house(site) as house:
        client = house.client()
        client.format("T00", force=force)
        expected = Formatted(tape_id("T00")) if error is None else Failed(-error, RequestKind.FORMAT)
        assert await client.answer(1) == expected


async def test_a_tape_is_formatted_by_one_at_a_time_and_after_what_goes_on(autojump_clock: MockClock) -> None:
    async with tape_house(TapeSite(drives=2)) as house:
        reader = await reading(house, "T00")
        client, other = house.client(), house.client()
        client.format("T00", force=True)
        await trio.sleep(ALL_TAKES_S)
        assert client.bodies == []
        give_back(reader, "T00")
        await trio.sleep(SECONDS["unmount"] + SECONDS["format"] / 2)
        assert house.drive("D0").state.status is DeviceStatus.FORMATTING
        other.format("T00", force=True)
        assert await other.answer(1) == Failed(-errno.EINVAL, RequestKind.FORMAT)
        assert await client.answer(1) == Formatted(tape_id("T00"))
        assert loads(house) == ["T00"]


async def test_a_format_that_can_never_be(autojump_clock: MockClock) -> None:
    site = TapeSite(tapes=1)
    site.add_tape("A9", model="LTO9", fs_status=FsStatus.BLANK)
    tables = tape_settings(drive_types={"LTO8_drive": (MODEL,)}, tape_types={"LTO8": ("LTO8_drive",)})
    async with tape_house(site, tables) as house:
        client = house.client()
        for number, (medium, kind, error) in enumerate(
            [
                (tape_id("A9"), FsType.LTFS, errno.ENODEV),
                (tape_id("X"), FsType.LTFS, errno.ENXIO),
                (tape_id("T00"), FsType.POSIX, errno.EINVAL),
            ]
        ):
            client.ask(number, Format(medium, kind, False, True))
            assert await client.answer(number + 1) == Failed(-error, RequestKind.FORMAT)


# Drives that are shared out.


def shared(**limits: tuple[int, int, int]) -> Any:
    return tape_settings(
        dispatch="fair_share",
        fair_share={"LTO8": FairShareSettings(**limits)},
        drive_types={"LTO8_drive": (MODEL,)},
    )


def dedicated(house: TapeHouse) -> tuple[int, int, int]:
    """How many drives there are for reads, writes and formats."""
    letters = Counter("".join(str(drive["currently_dedicated_to"]) for drive in monitor(house.family)))
    return letters["R"], letters["W"], letters["F"]


async def busy(house: TapeHouse, names: Iterable[str]) -> list[TapeClient]:
    """Readers, one for each drive."""
    return [await reading(house, name) for name in names]


@pytest.mark.parametrize(
    ("drives", "queued", "least", "most", "expected"),
    [
        (1, (1, 1, 1), (1, 1, 1), (100, 100, 100), (1, 1, 1)),
        (2, (5, 1, 1), (1, 1, 1), (100, 100, 100), (2, 1, 1)),
        (2, (1, 1, 5), (1, 1, 1), (100, 100, 100), (1, 1, 2)),
        (4, (2, 1, 1), (1, 1, 1), (100, 100, 100), (2, 1, 1)),
        (4, (6, 2, 0), (1, 1, 1), (100, 100, 100), (3, 1, 0)),
        (7, (1, 1, 4), (1, 1, 1), (100, 100, 100), (1, 1, 5)),
        (8, (5, 5, 10), (1, 1, 1), (100, 100, 100), (2, 2, 4)),
        (8, (20, 4, 12), (1, 1, 1), (3, 1, 2), (3, 1, 2)),
        (8, (20, 4, 12), (0, 2, 4), (8, 8, 8), (2, 2, 4)),
        (2, (20, 15, 10), (0, 0, 0), (0, 2, 2), (0, 2, 1)),
    ],
)
async def test_drives_are_shared_out_by_what_waits(
    autojump_clock: MockClock,
    drives: int,
    queued: tuple[int, int, int],
    least: tuple[int, int, int],
    most: tuple[int, int, int],
    expected: tuple[int, int, int],
) -> None:
    site = TapeSite(drives=drives, tapes=drives)
    for number in range(queued[2]):
        site.add_tape(f"N{number:02}", fs_status=FsStatus.BLANK)
    async with tape_house(site, shared(max=(100, 100, 100))) as house:
        readers = await busy(house, (f"T{number:02}" for number in range(drives)))
        client = house.client()
        for number in range(queued[0]):
            client.read("T00", id=number)
        for number in range(queued[1]):
            client.write(GIB, id=number)
        for number in range(queued[2]):
            client.format(f"N{number:02}", id=number)
        house.family.change_settings(shared(min=least, max=most))
        await trio.sleep(2)
        assert tuple(house.family.queue.count(kind) for kind in (RequestKind.READ, RequestKind.WRITE)) == queued[:2]
        assert dedicated(house) == expected
        client.leave()
        for number, reader in enumerate(readers):
            give_back(reader, f"T{number:02}")


async def test_shares_that_are_changed_take_effect_at_once(autojump_clock: MockClock) -> None:
    async with tape_house(TapeSite(drives=4, tapes=8), shared(max=(4, 0, 0))) as house:
        readers = await busy(house, ("T00", "T01"))
        writer = house.client()
        writer.write(GIB)
        await trio.sleep(ALL_TAKES_S)
        assert (writer.bodies, dedicated(house)[1]) == ([], 0)
        house.family.change_settings(shared(max=(2, 2, 0)))
        (granted,) = await writer.granted()
        assert granted.root in ("/mnt/D2", "/mnt/D3")
        for reader, name in zip(readers, ("T00", "T01"), strict=True):
            give_back(reader, name)


async def test_a_drive_is_exchanged_for_one_with_the_tape(autojump_clock: MockClock) -> None:
    """The tape is in a drive that is there for writes, and the one for reads is empty: they change roles."""
    settings = shared(min=(1, 1, 0), max=(1, 2, 0))
    async with tape_house(TapeSite(drives=3), settings) as house:
        writer = house.client()
        name = await write(writer)
        reader = await reading(house, name)
        roles = {drive["name"]: drive["currently_dedicated_to"] for drive in monitor(house.family)}
        assert roles[f"/dev/{house.site.library.tapes[name].place}"] == "R"
        assert loads(house) == [name]
        give_back(reader, name)
        # What was exchanged stays so while nothing else is asked for.
        give_back(await reading(house, name), name)
        assert loads(house) == [name]


async def test_one_of_two_drives_is_for_reads_and_the_tape_is_in_the_other(autojump_clock: MockClock) -> None:
    """Both are there for writes; those have as many drives after the exchange as before."""
    async with tape_house(TapeSite(drives=2), shared(max=(1, 2, 1))) as house:
        writers = [house.client(), house.client()]
        for writer in writers:
            writer.write(GIB)
        names = [(await writer.granted())[0].medium.name for writer in writers]
        for writer, name in zip(writers, names, strict=True):
            writer.release(writer.write_data(name, GIB))
            assert isinstance(await writer.answer(2), Released)
        for name in names:
            give_back(await reading(house, name), name)
            assert dedicated(house)[:2] == (1, 2)
        assert sorted(loads(house)) == sorted(names)


async def test_one_that_needs_more_drives_than_its_kind_has_holds_up_nobody(autojump_clock: MockClock) -> None:
    """As long as reads wait, two drives are theirs and one is for writes: too few for two copies."""
    async with tape_house(TapeSite(drives=3, tapes=8), shared(min=(2, 1, 0), max=(2, 2, 1))) as house:
        holders = [await reading(house, name) for name in ("T00", "T01")]
        copies, single = house.client(), house.client()
        copies.write(GIB, GIB)
        readers = [house.client() for _ in range(4)]
        for number, reader in enumerate(readers):
            reader.read(f"T{number:02}")
        single.write(GIB)
        (granted,) = await single.granted()
        single.release(single.write_data(granted.medium.name, GIB))
        for number, holder in enumerate(holders):
            give_back(holder, f"T{number:02}")
        for number, reader in enumerate(readers):
            await reader.granted()
            # The last two reads are placed at the same moment. Then none waits, and writes may have all drives.
            assert copies.bodies == [] or house.family.queue.count(RequestKind.READ) == 0
            give_back(reader, f"T{number:02}")
        # Now there are writes only.
        media = await copies.granted()
        copies.release(*(copies.write_data(medium.medium.name, GIB) for medium in media))
        assert isinstance(await copies.answer(2), Released)


async def test_drives_of_a_technology_without_shares_serve_all(autojump_clock: MockClock) -> None:
    settings = tape_settings(
        dispatch="fair_share",
        fair_share={"LTO9": FairShareSettings(max=(0, 0, 0))},
        drive_types={"LTO8_drive": (MODEL,)},
    )
    async with tape_house(TapeSite(drives=2), settings) as house:
        await write(house.client())
        assert dedicated(house) == (2, 2, 2)


# The drain.


@pytest.mark.note("11")
@pytest.mark.parametrize("operation", ["load", "mount"])
async def test_a_drain_while_a_tape_is_brought(autojump_clock: MockClock, operation: str) -> None:
    async with tape_house(TapeSite(drives=1)) as house:
        client = house.client()
        client.read("T00")
        await trio.sleep(SECONDS["load"] / 2 if operation == "load" else SECONDS["load"] + 1)
        house.drain()
        assert await client.answer(1) == Failed(-errno.ESHUTDOWN, RequestKind.READ)
        await house.drive("D0").ended.wait()
        assert house.drive("D0").state.status is DeviceStatus.STOPPED
        # The tape stays in the drive, unmounted, and without a lock.
        assert (house.site.library.tapes["T00"].place, house.site.library.drives["D0"].mounted) == ("D0", False)
        assert house.site.dss.locks == {}


@pytest.mark.note("5.1", "11")
async def test_a_drain_lets_a_format_end(autojump_clock: MockClock) -> None:
    site = TapeSite(drives=1, tapes=0)
    site.add_tape("N00", fs_status=FsStatus.BLANK)
    site.add_tape("N01", fs_status=FsStatus.BLANK)
    async with tape_house(site) as house:
        client, other = house.client(), house.client()
        client.format("N00")
        other.format("N01")
        await trio.sleep(SECONDS["load"] + 10)
        house.drain()
        assert await other.answer(1) == Failed(-errno.ESHUTDOWN, RequestKind.FORMAT)
        assert await client.answer(1) == Formatted(tape_id("N00"))
        assert site.medium("N00").fs_status is FsStatus.EMPTY


@pytest.mark.note("2.5f", "11")
async def test_a_drain_syncs_what_is_released_and_unmounts_then(autojump_clock: MockClock) -> None:
    async with tape_house(TapeSite(drives=1)) as house:
        client = house.client()
        client.write(GIB)
        (granted,) = await client.granted()
        house.drain()
        await trio.sleep(100)
        client.release(client.write_data(granted.medium.name, GIB))
        assert isinstance(await client.answer(2), Released)
        await house.drive("D0").ended.wait()
        ((synced, _, _),), ((unmounted, _, _),) = (house.site.library.calls(op) for op in ("sync", "unmount"))
        assert synced < unmounted
        assert house.site.library.calls("unload") == []


@pytest.mark.note("2.5f", "4.4")
async def test_a_tape_is_synced_and_accounted_for_before_it_makes_room(autojump_clock: MockClock) -> None:
    async with tape_house(TapeSite(drives=1), tape_settings(age_ms=100_000)) as house:
        client = house.client()
        client.write(GIB)
        (granted,) = await client.granted()
        client.release(client.write_data(granted.medium.name, GIB))
        reader = house.client()
        reader.read("T03")
        assert isinstance(await client.answer(2), Released)
        stats = house.site.medium(granted.medium.name).stats
        assert (stats.nb_obj, stats.logc_spc_used) == (1, GIB)
        await reader.granted()
        ((synced, _, _),), ((unmounted, _, _),) = (house.site.library.calls(op) for op in ("sync", "unmount"))
        assert synced + SECONDS["sync"] <= unmounted
        give_back(reader, "T03")


async def test_requests_for_more_drives_than_their_shares_are_served_one_after_the_other(
    autojump_clock: MockClock,
) -> None:
    site = TapeSite(drives=4, tapes=8)
    async with tape_house(site, shared(max=(100, 100, 100))) as house:
        names = [f"T{number:02}" for number in range(4)]
        before = await busy(house, names)
        reader, writer = house.client(), house.client()
        reader.read(*names[:3])
        writer.write(GIB, GIB, GIB)
        await trio.sleep(1)
        for client, name in zip(before, names, strict=True):
            give_back(client, name)
        give_back(reader, *(granted.medium.name for granted in await reader.granted()))
        written = await writer.granted()
        writer.release(*(writer.write_data(granted.medium.name, GIB) for granted in written))
        assert isinstance(await writer.answer(2), Released)


async def ask_for_three(house: TapeHouse) -> tuple[TapeClient, TapeClient]:
    """A read and a write of three tapes each: with three drives none has enough while the other waits."""
    reader, writer = house.client(), house.client()
    reader.read("T04", "T05", "T06")
    writer.write(GIB, GIB, GIB)
    await trio.sleep(1)
    assert dedicated(house) != (0, 0, 0)
    assert reader.bodies == writer.bodies == []
    return reader, writer


async def served_in_turn(reader: TapeClient, writer: TapeClient) -> None:
    give_back(reader, *(granted.medium.name for granted in await reader.granted()))
    written = await writer.granted()
    writer.release(*(writer.write_data(granted.medium.name, GIB) for granted in written))
    assert isinstance(await writer.answer(2), Released)


async def test_requests_for_more_drives_than_their_shares_come_while_a_sync_goes_on(autojump_clock: MockClock) -> None:
    """All drives are idle, and yet neither can begin."""
    site = TapeSite(drives=3, tapes=8)
    async with tape_house(site, shared(max=(3, 3, 3))) as house:
        site.library.seconds["sync"] = 100.0
        before = house.client()
        before.write(GIB)
        (granted,) = await before.granted()
        before.release(before.write_data(granted.medium.name, GIB))
        await trio.sleep(11)
        state = house.drive(site.library.tapes[granted.medium.name].place).state
        assert state.syncing is not None
        assert state.idle
        await served_in_turn(*await ask_for_three(house))


async def test_requests_for_more_drives_than_their_shares_are_served_when_the_limits_let_them(
    autojump_clock: MockClock,
) -> None:
    async with tape_house(TapeSite(drives=3, tapes=8), shared(max=(2, 2, 2))) as house:
        reader, writer = await ask_for_three(house)
        await trio.sleep(ALL_TAKES_S)
        assert reader.bodies == writer.bodies == []
        house.family.change_settings(shared(max=(3, 3, 3)))
        await served_in_turn(reader, writer)


@pytest.mark.parametrize("stays", [True, False])
async def test_one_that_needs_fewer_drives_is_served_although_its_kind_has_had_them_in_vain(
    autojump_clock: MockClock, stays: bool
) -> None:
    """Also if it comes at the moment when another one of its kind leaves."""
    async with tape_house(TapeSite(drives=3, tapes=8), shared(max=(2, 2, 2))) as house:
        for name in ("T00", "T01"):
            give_back(await reading(house, name), name)
        reader, writer = await ask_for_three(house)
        for number in range(2, 6):
            writer.write(GIB, GIB, GIB, id=number)
        await trio.sleep(ALL_TAKES_S)
        assert reader.bodies == []
        other = house.client()
        if stays:
            other.read("T02", "T03", "T04")
        else:
            reader.leave()
        other.read("T00", "T01", id=2)
        give_back(other, *(granted.medium.name for granted in await other.granted()))
        assert writer.bodies == []


@pytest.mark.parametrize("most", [(1, 2, 1), (1, 1, 1)])
async def test_a_tape_that_the_drive_for_reads_has_failed_with_is_read_in_another(
    autojump_clock: MockClock, most: tuple[int, int, int]
) -> None:
    site = TapeSite(drives=3, tapes=2)
    async with tape_house(site, shared(max=most)) as house:
        site.library.fail("mount", errno.EIO, tape="T00")
        reader = await reading(house, "T00")
        assert dedicated(house)[0] == 1
        give_back(reader, "T00")


async def test_the_drive_for_reads_is_in_the_library_of_a_tape_that_is_wanted(autojump_clock: MockClock) -> None:
    """It goes from one library to the other, whatever else goes on."""
    site = TapeSite(drives=2, tapes=2)
    add_northern_library(site)
    async with tape_house(site, shared(max=(1, 1, 1))) as house:
        writer = house.client()
        writer.write(GIB, library="legacy")
        await writer.granted()
        for medium in (tape_id("X00", "north"), tape_id("T01"), tape_id("X00", "north")):
            reader = house.client()
            reader.ask(1, ReadAllocation(1, (medium,)))
            await reader.granted()
            assert dedicated(house)[1] == 1
            reader.leave()
        writer.leave()


async def test_two_that_wait_for_the_one_drive_for_reads_in_two_libraries(autojump_clock: MockClock) -> None:
    """Each has the other's drive taken away in its turn, and only while nothing is read there."""
    site = TapeSite(drives=2, tapes=2)
    add_northern_library(site)
    async with tape_house(site, shared(max=(1, 1, 1))) as house:
        order = []

        async def read(medium: ResourceId) -> None:
            reader = house.client()
            reader.ask(1, ReadAllocation(1, (medium,)))
            await reader.granted()
            order.append(medium.library)
            await trio.sleep(ALL_TAKES_S)
            assert order[-1] == medium.library
            reader.leave()

        async with trio.open_nursery() as nursery:
            for medium in (tape_id("T00"), tape_id("X00", "north"), tape_id("T01")):
                nursery.start_soon(read, medium)
        assert sorted(order) == ["legacy", "legacy", "north"]


async def test_a_request_that_the_limits_never_let_through_waits_without_waking_anybody(
    autojump_clock: MockClock,
) -> None:
    site = TapeSite(drives=4, tapes=8)
    async with tape_house(site, shared(max=(100, 2, 100))) as house:
        writer, reader = house.client(), house.client()
        writer.write(GIB, GIB, GIB)
        await trio.sleep(ALL_TAKES_S)
        passes = site.dss.committed.copy()
        await trio.sleep(ALL_TAKES_S)
        assert site.dss.committed == passes
        reader.read("T00", "T01", "T02")
        give_back(reader, *(granted.medium.name for granted in await reader.granted()))
        assert writer.bodies == []
