"""Grants that an administrator takes away; through connections in memory."""

from __future__ import annotations

import errno
import json
from typing import Any

import pytest
import structlog
import trio
from trio.testing import MockClock

from lrs_trio.devices.grant import GrantState
from lrs_trio.events import Event, EventKind
from lrs_trio.log_flood import LINES, LineLimit
from lrs_trio.model import Family, FsStatus, FsType, RequestKind
from lrs_trio.scheduling import revocation
from lrs_trio.wire.messages import (
    Failed,
    Format,
    Formatted,
    ReadAllocation,
    ReadGranted,
    Release,
    Released,
    RequestBody,
    Response,
    ResponseBody,
    Revoke,
    Revoked,
    WriteAllocation,
    WriteGranted,
    WriteMedium,
)
from tests.fakes.house import House, back, house_of, released
from tests.fakes.peer import DAEMON_UID, Peer, door_of
from tests.fakes.site import LIBRARY, Site, device_id, family_settings, medium_id

A, B = "/srv/a", "/srv/b"
WRITE = WriteAllocation((WriteMedium(10),), Family.DIR)
WRITE_BOTH = WriteAllocation((WriteMedium(10), WriteMedium(10)), Family.DIR)
RELEASE_WRITE = RequestKind.RELEASE_WRITE
REFUSED = Failed(-errno.EINVAL, RELEASE_WRITE)
REVOKED = "was revoked by an administrator; nothing of it is counted"


def syncs(house: House, path: str) -> int:
    return len(house.site.disks[device_id(path)].times("sync"))


async def ask(peer: Peer, body: RequestBody, id: int = 5) -> ResponseBody:
    await peer.send((id, body))
    response = await peer.receive()
    assert response.request_id == id
    return response.body


async def report_of(peer: Peer, *media: str, **more: Any) -> dict[str, Any]:
    answer = await ask(peer, Revoke(media, **more))
    assert isinstance(answer, Revoked)
    report: dict[str, Any] = json.loads(answer.revoked)
    assert report["version"] == 1
    return report


async def revoke(peer: Peer, *media: str, **more: Any) -> list[dict[str, Any]]:
    revoked: list[dict[str, Any]] = (await report_of(peer, *media, **more))["revoked"]
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
            "state": "ongoing",
            "client": 1,
            "pid": 1001,
            "uid": DAEMON_UID,
            "held_s": 100.0,
        }
        (line,) = lines
        assert (line["event"], line["medium"], line["held_s"]) == ("grant revoked", str(medium_id(A)), 100.0)
        assert (line["holder"][:8], line["by"][:8]) == ("client 1", "client 2")
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
        assert [line["error"] for line in lines if line["event"] == "release failed"] == [f"{medium_id(A)}: {REVOKED}"]
        await house.settle()
        assert (grants(house), objects(house)) == (0, 0)


async def test_the_first_release_after_a_revocation_is_that_of_the_revoked_grant(autojump_clock: MockClock) -> None:
    """Whoever was granted the medium again on the same connection is not to suffer, and still writes."""
    async with house_of(A) as house, door_of(house) as door:
        holder, administrator = door.connect(), door.connect()
        await ask(holder, WRITE)
        await revoke(administrator, A)
        await ask(holder, WRITE)
        with structlog.testing.capture_logs() as lines:
            assert await ask(holder, Release((back(A, 700, 7),), RELEASE_WRITE)) == REFUSED
        assert any(line.get("error") == f"{medium_id(A)}: {REVOKED}" for line in lines)
        assert (grants(house), objects(house)) == (1, 0)
        assert await ask(holder, Release((back(A, 10),), RELEASE_WRITE)) == released(A)
        assert (grants(house), objects(house)) == (0, 1)
        with structlog.testing.capture_logs() as lines:
            assert await ask(holder, Release((back(A, 10),), RELEASE_WRITE)) == REFUSED
        assert any(line.get("error", "").endswith("is not held by this connection") for line in lines)


async def test_each_revoked_grant_has_a_release_of_its_own(autojump_clock: MockClock) -> None:
    async with house_of(A) as house, door_of(house) as door:
        holder, administrator = door.connect(), door.connect()
        for _ in range(2):
            await ask(holder, WRITE)
        assert len(await revoke(administrator, A)) == 2
        await ask(holder, WRITE)
        release = Release((back(A, 10),), RELEASE_WRITE)
        assert [await ask(holder, release) for _ in range(3)] == [REFUSED, REFUSED, released(A)]
        assert objects(house) == 1


@pytest.mark.parametrize("read_first", [False, True])
async def test_a_release_of_another_kind_is_not_that_of_the_revoked_grant(
    autojump_clock: MockClock, read_first: bool
) -> None:
    async with house_of(A, settings=family_settings(mix_reads_and_writes=True)) as house, door_of(house) as door:
        holder, administrator = door.connect(), door.connect()
        read = ReadAllocation(1, (medium_id(A),))
        first, second = (read, WRITE) if read_first else (WRITE, read)
        await ask(holder, first)
        await revoke(administrator, A)
        await ask(holder, second)
        give_back = {
            True: Release((back(A, 10),), RELEASE_WRITE),
            False: Release((back(A),), RequestKind.RELEASE_READ),
        }
        assert await ask(holder, give_back[read_first]) == released(A, kind=give_back[read_first].kind)
        of_revoked = give_back[not read_first]
        assert await ask(holder, of_revoked) == Failed(-errno.EINVAL, of_revoked.kind)
        assert grants(house) == 0


async def test_a_partial_release_leaves_the_revoked_grant_to_be_given_back(autojump_clock: MockClock) -> None:
    async with house_of(A) as house, door_of(house) as door:
        holder, administrator = door.connect(), door.connect()
        await ask(holder, WRITE)
        await revoke(administrator, A)
        await ask(holder, WRITE)
        halfway = Release((back(A, 10),), RELEASE_WRITE, partial=True)
        assert [await ask(holder, halfway) for _ in range(2)] == [REFUSED, REFUSED]
        assert await ask(holder, Release((back(A, 10),), RELEASE_WRITE)) == REFUSED
        assert (grants(house), objects(house)) == (1, 0)
        assert await ask(holder, halfway) == released(A, partial=True)
        assert await ask(holder, Release((back(A, 10),), RELEASE_WRITE)) == released(A)
        assert (grants(house), objects(house)) == (0, 2)


async def test_a_release_with_the_revoked_grant_gives_the_others_back_uncounted(autojump_clock: MockClock) -> None:
    async with house_of(A, B) as house, door_of(house) as door:
        holder, administrator = door.connect(), door.connect()
        await ask(holder, WRITE)
        (taken,) = await revoke(administrator, client=1)
        for _ in range(2):
            await ask(holder, WRITE_BOTH)
        revoked = taken["medium"]
        # One release of both grants on that medium: of the revoked one, and of the one that came first after it.
        assert await ask(holder, Release((back(revoked, 10), back(revoked, 10)), RELEASE_WRITE)) == REFUSED
        assert (grants(house), objects(house)) == (3, 0)
        assert await ask(holder, Release((back(A, 10), back(B, 10)), RELEASE_WRITE)) == released(A, B)
        assert (grants(house), objects(house)) == (1, 2)


async def test_the_release_of_a_revoked_grant_may_be_one_without_an_answer(autojump_clock: MockClock) -> None:
    async with house_of(A) as house, door_of(house) as door:
        holder, administrator = door.connect(), door.connect()
        await ask(holder, WRITE)
        await revoke(administrator, A)
        await ask(holder, WRITE)
        await holder.send((6, Release((back(A, to_sync=False),), RELEASE_WRITE)))
        assert await ask(holder, Release((back(A, 10),), RELEASE_WRITE)) == released(A)


async def test_another_connection_knows_nothing_of_a_revocation(autojump_clock: MockClock) -> None:
    async with house_of(A) as house, door_of(house) as door:
        first, administrator = door.connect(), door.connect()
        await ask(first, WRITE)
        await revoke(administrator, A)
        await first.leave()
        second = door.connect()
        await ask(second, WRITE)
        assert await ask(second, Release((back(A, 10),), RELEASE_WRITE)) == released(A)
        assert (grants(house), objects(house)) == (0, 1)


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
        await ask(holder, WRITE)
        await waiting.send((1, WRITE))
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
        await ask(door.connect(), WRITE)
        assert await ask(door.connect(), body) == Failed(-errno.EINVAL, RequestKind.WRITE)
        assert grants(house) == 1


@pytest.mark.note("2.5d")
async def test_what_is_being_synced_for_its_client_is_not_touched(autojump_clock: MockClock) -> None:
    async with house_of(A) as house, door_of(house) as door:
        holder, administrator = door.connect(), door.connect()
        await ask(holder, WRITE)
        house.site.disks[device_id(A)].seconds["sync"] = 10.0
        await holder.send((6, Release((back(A, 10),), RELEASE_WRITE, partial=True)))
        await trio.sleep(5)
        report = await report_of(administrator, A)
        assert (report["revoked"], report["more"], report["untouched"]) == ([], 0, 1)
        assert (await holder.receive()).body == released(A, partial=True)
        assert objects(house) == 1
        assert len(await revoke(administrator, A)) == 1
        assert await ask(holder, Release((back(A, 10),), RELEASE_WRITE)) == REFUSED


async def test_what_is_granted_to_a_client_that_does_not_read_is_refused(autojump_clock: MockClock) -> None:
    """A grant is the client's when its response leaves: not before that of an earlier one has been read."""
    async with house_of(A, settings=family_settings(max_concurrent_io=2)) as house, door_of(house) as door:
        slow, waiting, administrator = door.connect(slow=True), door.connect(), door.connect()
        for number in (1, 2):
            await slow.send((number, WRITE))
            await house.settle()
            await trio.sleep(1)
        await waiting.send((1, WRITE))
        await house.settle()
        assert grants(house) == 2
        with structlog.testing.capture_logs() as lines:
            told = await revoke(administrator, pid=1001)
        assert [(grant["state"], grant["held_s"]) for grant in told] == [("ongoing", 2.0), ("ready", 1.0)]
        assert [line["state"] for line in lines if line["event"] == "grant revoked"] == ["ongoing", "ready"]
        assert isinstance((await waiting.receive()).body, WriteGranted)
        # What was on its way arrives, and is revoked all the same; the other is refused, and never granted as well.
        told_slow = [await slow.receive() for _ in range(2)]
        assert isinstance(told_slow[0].body, WriteGranted)
        assert (told_slow[1].request_id, told_slow[1].body) == (2, Failed(-errno.ECANCELED, RequestKind.WRITE))
        release = Release((back(A, 10),), RELEASE_WRITE)
        assert await ask(slow, release) == REFUSED
        assert await ask(waiting, release) == released(A)
        assert isinstance(await ask(slow, WRITE), WriteGranted)
        assert await ask(slow, release) == released(A)
        assert objects(house) == 2


async def test_with_one_medium_the_whole_allocation_is_refused(autojump_clock: MockClock) -> None:
    """Also where another of its media has still to be made ready: nobody is told of either."""
    site = Site()
    site.add(A)
    slow = site.add(B, fs_status=FsStatus.BLANK)
    async with house_of(site=site) as house, door_of(house) as door:
        holder, administrator = door.connect(), door.connect()
        assert await ask(administrator, Format(medium_id(B), FsType.POSIX, unlock=True)) == Formatted(medium_id(B))
        slow.seconds["mount"] = 60.0
        await holder.send((3, WRITE_BOTH))
        await trio.sleep(1)
        states = {grant.medium.name: grant.state for d in house.family.devices.values() for grant in d.state.grants}
        assert states == {A: GrantState.READY, B: GrantState.PLANNED}
        report = await report_of(administrator, B)
        assert (report["revoked"], report["untouched"]) == ([], 1)
        (told,) = await revoke(administrator, A)
        assert (told["medium"], told["state"]) == (A, "ready")
        assert await holder.receive() == Response(3, Failed(-errno.ECANCELED, RequestKind.WRITE))
        assert (grants(house), objects(house)) == (0, 0)
        await trio.sleep(100)
        assert syncs(house, A) == 0


async def test_both_media_of_an_allocation_are_told_of(autojump_clock: MockClock) -> None:
    async with house_of(A, B) as house, door_of(house) as door:
        slow, administrator = door.connect(slow=True), door.connect()
        for body in (ReadAllocation(1, (medium_id(A),)), WRITE_BOTH):
            await slow.send((1, body))
            await house.settle()
        report = await report_of(administrator, A, B)
        assert sorted((grant["medium"], grant["state"]) for grant in report["revoked"]) == [
            (A, "ongoing"),
            (A, "ready"),
            (B, "ready"),
        ]
        assert (report["more"], grants(house)) == (0, 0)


@pytest.mark.parametrize(("limit", "value"), [("MOST_GRANTS", 2), ("MOST_CHARACTERS", 300)])
async def test_what_does_not_fit_into_the_answer_is_left_and_counted(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, limit: str, value: int
) -> None:
    monkeypatch.setattr(revocation, limit, value)
    async with house_of(A) as house, door_of(house) as door:
        holder, administrator = door.connect(), door.connect()
        for number in range(5):
            await ask(holder, WRITE, number)
            await trio.sleep(1)
        for ages, more in ([5.0, 4.0], 3), ([3.0, 2.0], 1), ([1.0], 0):
            report = await report_of(administrator, A)
            assert ([grant["held_s"] for grant in report["revoked"]], report["more"]) == (ages, more)


async def test_the_log_has_every_revocation(autojump_clock: MockClock) -> None:
    limited = LineLimit()
    async with house_of(A, settings=family_settings(max_concurrent_io=3 * LINES)) as house, door_of(house) as door:
        holder, administrator = door.connect(), door.connect()
        for number in range(3 * LINES):
            await ask(holder, WRITE, number)
        with structlog.testing.capture_logs() as lines:
            await revoke(administrator, A)
        revoked = [line for line in lines if line["event"] == "grant revoked"]
        assert len(revoked) == 3 * LINES
        for line in revoked:
            assert "left_out" not in limited(None, "warning", line)


async def test_a_drain_does_not_wait_for_what_is_revoked(autojump_clock: MockClock) -> None:
    async with house_of(A, keep_clients=True) as house, door_of(house) as door:
        holder, administrator = door.connect(), door.connect()
        await ask(holder, WRITE)
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
