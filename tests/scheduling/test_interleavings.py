"""Whole scenarios under many orders of events: seeded delays everywhere, trio's own order of tasks on top."""

from __future__ import annotations

import errno
from collections import Counter
from dataclasses import replace
from random import Random

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from lrs_trio.model import FsStatus, RequestKind, ResourceId
from lrs_trio.wire.messages import Failed, ReadGranted, Released, WriteGranted
from tests.fakes.house import FakeClient, House, back, house_of
from tests.fakes.site import Site, device_id, family_settings, medium_id, run_virtual

A, B, C, D = "/srv/a", "/srv/b", "/srv/c", "/srv/d"


async def meddle(site: Site, random: Random) -> None:
    """Be an administrator who changes media and cleans locks, and tells nobody."""
    while True:
        await trio.sleep(random.random())
        if random.random() < 0.3:
            site.dss.locks.clear()
            continue
        path = random.choice((A, B, C))
        site.dss.media[medium_id(path)] = replace(site.medium(path), tags=(str(random.random()),))


def crowd(seed: int, *, failing: bool) -> None:
    """Clients write one and two copies, whole and in parts, some go away; the books must be those of the releases."""

    async def scenario() -> None:
        random = Random(seed)
        site = Site()
        for path in (A, B, C):
            disk = site.add(path)
            disk.jitter = lambda: random.choice((0.0, 0.001, 0.5 * random.random()))
        if failing:
            site.disks[device_id(B)].fail("sync", *[None] * random.randrange(6), errno.EIO)
        site.dss.delay = lambda: random.choice((0.0, 0.01))
        chosen = family_settings(
            age_ms=random.choice((0, 10, 500)),
            requests=random.choice((1, 3, 100)),
            max_concurrent_io=random.choice((1, 2, 8)),
            sync_while_io=random.random() < 0.5,
            mix_reads_and_writes=random.random() < 0.5,
        )
        received: dict[ResourceId, list[int]] = {}
        acknowledged: dict[ResourceId, int] = {}

        async def one_client(house: House) -> None:
            client = house.connect(pause=lambda: random.choice((0.0, 0.05)))
            for number in range(4):
                await trio.sleep(random.random())
                asked = len(client.responses)
                if random.random() < 0.3:
                    client.read(A, C, required=random.choice((1, 2)), id=number)
                else:
                    client.write(*[100] * random.choice((1, 2)), id=number)
                if random.random() < 0.1:
                    await trio.sleep(random.random() * 0.1)
                    client.leave()
                    return
                body = await client.answer(asked + 1)
                if isinstance(body, Failed):
                    assert failing
                    continue
                assert isinstance(body, WriteGranted | ReadGranted)
                await trio.sleep(random.random())
                media = [granted.medium for granted in body.media]
                if isinstance(body, ReadGranted):
                    client.release(
                        *[back(medium, to_sync=False) for medium in media], kind=RequestKind.RELEASE_READ, id=number
                    )
                    continue
                for partial in (True, False) if random.random() < 0.3 else (False,):
                    size = random.randrange(1, 100)
                    for medium in media:
                        received.setdefault(medium, []).append(size)
                    asked = len(client.responses)
                    client.release(*[back(medium, size) for medium in media], partial=partial, id=number)
                    if random.random() < 0.1:
                        client.leave()
                        return
                    answered = await client.answer(asked + 1)
                    if isinstance(answered, Released):
                        assert answered.partial == partial
                        for medium in answered.media:
                            acknowledged[medium] = acknowledged.get(medium, 0) + size
                    else:
                        assert failing

        recheck_s = random.choice((0.0, 0.1, 1.0))
        async with house_of(site=site, settings=chosen, recheck_s=recheck_s) as house, trio.open_nursery() as others:
            others.start_soon(meddle, site, random)
            async with trio.open_nursery() as clients:
                for _ in range(6):
                    clients.start_soon(one_client, house)
            others.cancel_scope.cancel()
        for path in (A, B, C):
            kept = site.medium(path).stats.logc_spc_used
            committed = sum(update.add_logical for update in site.dss.updates(medium_id(path)))
            assert kept == committed
            assert acknowledged.get(medium_id(path), 0) <= committed <= sum(received.get(medium_id(path), []))
            if not failing:
                assert committed == sum(received.get(medium_id(path), []))

    run_virtual(scenario)


SEED = st.integers(0, 2**32)
"""Hypothesis draws it, and seeds trio's order of tasks with it: every run has the same examples."""


@pytest.mark.note("2.5d", "4.2", "4.3", "8", "9")
@settings(max_examples=60)
@given(SEED)
def test_the_books_are_those_of_the_releases_whatever_the_order(seed: int) -> None:
    crowd(seed, failing=False)


@pytest.mark.note("2.5d", "4.4")
@settings(max_examples=60)
@given(SEED)
def test_the_books_stay_right_when_a_disk_fails_whatever_the_order(seed: int) -> None:
    crowd(seed, failing=True)


async def busy_client(house: House, random: Random, asked: dict[FakeClient, Counter[int]]) -> None:
    """Writes, reads and formats until it is refused; counts in `asked` how many answers are due for each id."""
    client = house.connect(pause=lambda: random.choice((0.0, 0.02)))
    due = asked[client] = Counter()
    number = 0
    while True:
        number += 1
        await trio.sleep(random.random() * 0.2)
        due[number] += 1
        match random.randrange(4):
            case 0:
                client.format(D, id=number)
            case 1:
                client.read(A, B, required=random.choice((1, 2)), id=number)
            case _:
                client.write(*[10] * random.choice((1, 2)), id=number)
        body = await client.answer_to(number)
        if body in [Failed(-errno.ESHUTDOWN, kind) for kind in RequestKind]:
            return
        if isinstance(body, WriteGranted | ReadGranted):
            await trio.sleep(random.random() * 0.3)
            due[number] += 1
            client.release(*[back(granted.medium, 1) for granted in body.media], id=number)
            if random.random() < 0.5:
                await client.answer_to(number, 2)


def end_at_any_moment(seed: int, *, forced: bool) -> None:
    """Each request and each release is answered once, with its own id, however and whenever the daemon ends."""

    async def scenario() -> None:
        random = Random(seed)
        site = Site()
        for path in (A, B, C):
            site.add(path).jitter = lambda: random.choice((0.0, 0.1 * random.random()))
        site.add(D, fs_status=FsStatus.BLANK).seconds["format"] = random.choice((0.0, 0.5, 3.0))
        site.dss.delay = lambda: random.choice((0.0, 0.01))
        chosen = family_settings(
            age_ms=random.choice((10, 500)),
            max_concurrent_io=random.choice((1, 2, 8)),
            sync_while_io=random.random() < 0.5,
        )
        asked: dict[FakeClient, Counter[int]] = {}
        recheck_s = random.choice((0.0, 0.1, 1.0))
        async with trio.open_nursery() as clients:
            async with house_of(site=site, settings=chosen, keep_clients=True, recheck_s=recheck_s) as house:
                clients.start_soon(meddle, site, random)
                for _ in range(5):
                    clients.start_soon(busy_client, house, random, asked)
                await trio.sleep(random.random() * 2)
                house.drain()
                if forced:
                    await trio.sleep(random.random() * 0.3)
                    if random.random() < 0.3:
                        site.dss.go_away()
                    house.force()
            for client in house.clients:
                client.outbox.flush()
            clients.cancel_scope.cancel()
        for client, due in asked.items():
            assert Counter(response.request_id for response in client.responses) == due

    run_virtual(scenario)


@pytest.mark.note("11")
@settings(max_examples=60)
@given(SEED)
def test_a_drain_at_any_moment_leaves_nothing_unanswered(seed: int) -> None:
    end_at_any_moment(seed, forced=False)


@pytest.mark.note("11")
@settings(max_examples=60)
@given(SEED)
def test_a_forced_end_at_any_moment_leaves_nothing_unanswered(seed: int) -> None:
    end_at_any_moment(seed, forced=True)
