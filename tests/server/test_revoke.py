"""Grants that an administrator takes away; through connections in memory."""

from __future__ import annotations

import errno
import json
from typing import Any

import pytest
import structlog
import trio
from trio.testing import MockClock

from lrs_trio.events import Event, EventKind
from lrs_trio.model import Family, RequestKind
from lrs_trio.wire.messages import (
    Failed,
    ReadAllocation,
    ReadGranted,
    Release,
    Released,
    RequestBody,
    ResponseBody,
    Revoke,
    Revoked,
    WriteAllocation,
    WriteGranted,
    WriteMedium,
)
from tests.fakes.house import House, back, house_of, released
from tests.fakes.peer import DAEMON_UID, Peer, door_of
from tests.fakes.site import LIBRARY, device_id, family_settings, medium_id

A, B = "/srv/a", "/srv/b"
WRITE_BOTH = WriteAllocation((WriteMedium(10), WriteMedium(10)), Family.DIR)
RELEASE_WRITE = RequestKind.RELEASE_WRITE
REFUSED = Failed(-errno.EINVAL, RELEASE_WRITE)


def syncs(house: House, path: str) -> int:
    return len(house.site.disks[device_id(path)].times("sync"))


async def ask(peer: Peer, body: RequestBody, id: int = 5) -> ResponseBody:
    await peer.send((id, body))
    response = await peer.receive()
    assert response.request_id == id
    return response.body


async def revoke(peer: Peer, *media: str, **more: Any) -> list[dict[str, Any]]:
    answer = await ask(peer, Revoke(media, **more))
    assert isinstance(answer, Revoked)
    report: dict[str, Any] = json.loads(answer.revoked)
    assert report["version"] == 1
    revoked: list[dict[str, Any]] = report["revoked"]
    return revoked


def grants(house: House) -> int:
    return sum(len(device.state.grants) for device in house.family.devices.values())


def objects(house: House) -> int:
    return sum(medium.stats.nb_obj for medium in house.site.dss.media.values())


@pytest.mark.note("9")
async def test_a_write_that_is_revoked_is_synced_and_not_counted(autojump_clock: MockClock) -> None:
    events: list[Event] = []
    async with house_of(A, B) as house, door_of(house) as door:
        house.site.events.subscribe(events.append)
        holder, administrator = door.connect(), door.connect()
        assert isinstance(await ask(holder, WRITE_BOTH), WriteGranted)
        await trio.sleep(100)
        with structlog.testing.capture_logs() as lines:
            (told,) = await revoke(administrator, A)
        assert told == {
            "family": "dir",
            "medium": A,
            "library": LIBRARY,
            "device": device_id(A).name,
            "kind": "write",
            "client": 1,
            "pid": 1001,
            "uid": DAEMON_UID,
            "held_s": 100.0,
        }
        (line,) = lines
        assert (line["event"], line["medium"], line["held_s"]) == ("grant revoked", str(medium_id(A)), 100.0)
        assert (line["client"][:8], line["by"][:8]) == ("client 1", "client 2")
        assert grants(house) == 1
        await trio.sleep(100)
        assert syncs(house, A) == 1
        assert objects(house) == 0
        told_of = [event for event in events if event.kind in (EventKind.GRANT_REVOKED, EventKind.IO_ENDED)]
        assert [(event.kind, event.medium) for event in told_of] == [
            (EventKind.GRANT_REVOKED, A),
            (EventKind.IO_ENDED, A),
        ]
        assert {event.serial for event in told_of} == {1}
        assert told_of[0].detail.startswith("client 2 ")


async def test_who_releases_what_was_revoked_is_told_and_nothing_is_counted(autojump_clock: MockClock) -> None:
    async with house_of(A, B) as house, door_of(house) as door:
        holder, administrator = door.connect(), door.connect()
        await ask(holder, WRITE_BOTH)
        await revoke(administrator, A)
        with structlog.testing.capture_logs() as lines:
            assert await ask(holder, Release((back(A, 10), back(B, 10)), RELEASE_WRITE)) == REFUSED
        assert [line["error"] for line in lines if line["event"] == "release failed"] == [
            f"{medium_id(A)}: was revoked by an administrator; nothing of it is counted"
        ]
        await house.settle()
        assert (grants(house), objects(house)) == (0, 0)


async def test_a_later_grant_of_the_same_medium_is_as_any_other(autojump_clock: MockClock) -> None:
    async with house_of(A) as house, door_of(house) as door:
        holder, administrator = door.connect(), door.connect()
        write = WriteAllocation((WriteMedium(10),), Family.DIR)
        await ask(holder, write)
        await revoke(administrator, A)
        await ask(holder, write)
        release = Release((back(A, 10),), RELEASE_WRITE)
        assert await ask(holder, release) == released(A)
        with structlog.testing.capture_logs() as lines:
            assert await ask(holder, release) == REFUSED
        assert any(line.get("error", "").endswith("is not held by this connection") for line in lines)


async def test_a_read_that_is_revoked_leaves_nothing_to_sync(autojump_clock: MockClock) -> None:
    async with house_of(A) as house, door_of(house) as door:
        holder, administrator = door.connect(), door.connect()
        assert isinstance(await ask(holder, ReadAllocation(1, (medium_id(A),))), ReadGranted)
        (told,) = await revoke(administrator, A)
        assert told["kind"] == "read"
        await trio.sleep(100)
        assert (grants(house), syncs(house, A)) == (0, 0)


async def test_what_was_revoked_is_free_for_others_at_once(autojump_clock: MockClock) -> None:
    async with house_of(A, settings=family_settings(max_concurrent_io=1)) as house, door_of(house) as door:
        holder, waiting, administrator = door.connect(), door.connect(), door.connect()
        write = WriteAllocation((WriteMedium(10),), Family.DIR)
        await ask(holder, write)
        await waiting.send((1, write))
        await house.settle()
        assert len(await revoke(administrator, A)) == 1
        assert isinstance((await waiting.receive()).body, WriteGranted)
        assert isinstance(await ask(waiting, Release((back(A, 10),), RELEASE_WRITE)), Released)


@pytest.mark.parametrize(
    ("media", "more", "expected"),
    [
        ((A,), {}, {(1, A), (2, A)}),
        ((A, B), {}, {(1, A), (1, B), (2, A)}),
        ((), {"client": 1}, {(1, A), (1, B)}),
        ((), {"pid": 1002}, {(2, A)}),
        ((A,), {"client": 1}, {(1, A)}),
        ((A,), {"client": 1, "pid": 1002}, set()),
        ((B,), {"pid": 1002}, set()),
        ((A,), {"library": LIBRARY}, {(1, A), (2, A)}),
        ((A,), {"library": "another"}, set()),
        (("/srv/c",), {}, set()),
        ((), {"client": 99}, set()),
    ],
)
async def test_all_that_is_said_has_to_be_true_of_a_grant(
    autojump_clock: MockClock, media: tuple[str, ...], more: dict[str, Any], expected: set[tuple[int, str]]
) -> None:
    async with house_of(A, B) as house, door_of(house) as door:
        first, second, administrator = door.connect(), door.connect(), door.connect()
        await ask(first, WRITE_BOTH)
        await ask(second, ReadAllocation(1, (medium_id(A),)))
        told = await revoke(administrator, *media, **more)
        assert {(grant["client"], grant["medium"]) for grant in told} == expected
        assert grants(house) == 3 - len(expected)


@pytest.mark.parametrize("body", [Revoke(), Revoke(library=LIBRARY), Revoke(("a",) * 1025)])
async def test_a_revocation_says_of_what(autojump_clock: MockClock, body: Revoke) -> None:
    async with house_of(A) as house, door_of(house) as door:
        await ask(door.connect(), WriteAllocation((WriteMedium(10),), Family.DIR))
        assert await ask(door.connect(), body) == Failed(-errno.EINVAL, RequestKind.WRITE)
        assert grants(house) == 1


@pytest.mark.note("2.5d")
async def test_what_is_being_synced_for_its_client_is_not_touched(autojump_clock: MockClock) -> None:
    async with house_of(A) as house, door_of(house) as door:
        holder, administrator = door.connect(), door.connect()
        await ask(holder, WriteAllocation((WriteMedium(10),), Family.DIR))
        house.site.disks[device_id(A)].seconds["sync"] = 10.0
        await holder.send((6, Release((back(A, 10),), RELEASE_WRITE, partial=True)))
        await trio.sleep(5)
        assert await revoke(administrator, A) == []
        assert (await holder.receive()).body == released(A, partial=True)
        assert objects(house) == 1
        assert len(await revoke(administrator, A)) == 1
        assert await ask(holder, Release((back(A, 10),), RELEASE_WRITE)) == REFUSED


async def test_what_is_only_promised_is_not_touched(autojump_clock: MockClock) -> None:
    """A grant is the client's when its response leaves: not before that of an earlier one has been read."""
    async with house_of(A) as house, door_of(house) as door:
        slow, administrator = door.connect(slow=True), door.connect()
        for number in (1, 2):
            await slow.send((number, WriteAllocation((WriteMedium(10),), Family.DIR)))
            await house.settle()
        assert grants(house) == 2
        assert len(await revoke(administrator, A)) == 1
        for _ in range(2):
            assert isinstance((await slow.receive()).body, WriteGranted)


async def test_a_drain_does_not_wait_for_what_is_revoked(autojump_clock: MockClock) -> None:
    async with house_of(A, keep_clients=True) as house, door_of(house) as door:
        holder, administrator = door.connect(), door.connect()
        await ask(holder, WriteAllocation((WriteMedium(10),), Family.DIR))
        house.drain()
        await trio.sleep(100)
        assert house.family.unfinished()
        assert len(await revoke(administrator, A)) == 1
        await trio.sleep(100)
        assert not house.family.unfinished()


async def test_a_client_whose_grant_was_revoked_may_leave(autojump_clock: MockClock) -> None:
    async with house_of(A, B) as house, door_of(house) as door:
        holder, administrator = door.connect(), door.connect()
        await ask(holder, WRITE_BOTH)
        await revoke(administrator, A)
        await holder.leave()
        await trio.sleep(100)
        assert (grants(house), syncs(house, A), syncs(house, B)) == (0, 1, 1)
