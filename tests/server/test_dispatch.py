"""What is answered at once, what is refused, what is handed over; through a connection in memory."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from lrs_trio.events import EventKind
from lrs_trio.model import (
    Family,
    FsStatus,
    FsType,
    LockOwner,
    LockType,
    NotifyOperation,
    RequestKind,
)
from lrs_trio.wire.codec import decode_response
from lrs_trio.wire.framing import FrameDecoder
from lrs_trio.wire.messages import (
    Failed,
    Format,
    Formatted,
    Monitor,
    Monitored,
    Notified,
    Notify,
    Ping,
    Pong,
    Release,
    RequestBody,
    Response,
    ResponseBody,
    Stat,
    Statistics,
    Status,
    StatusReport,
    WriteAllocation,
    WriteGranted,
    WriteMedium,
)
from tests.fakes.house import House, back, house_of
from tests.fakes.peer import Door, Peer, door_of
from tests.fakes.site import HOST, LIBRARY, Site, device_id, medium_id

A, B, BLANK = "/srv/a", "/srv/b", "/srv/blank"
CAPTURED = Path(__file__).parent.parent / "vectors" / "phobos-3.3-frames.jsonl"


async def ask(peer: Peer, body: RequestBody, id: int = 5) -> ResponseBody:
    await peer.send((id, body))
    response = await peer.receive()
    assert response.request_id == id
    return response.body


@pytest.mark.parametrize("value", [False, True])
async def test_a_ping_comes_back_as_it_was(autojump_clock: MockClock, value: bool) -> None:
    async with house_of() as house, door_of(house) as door:
        assert await ask(door.connect(), Ping(value)) == Pong(value)


async def test_the_monitor_shows_every_device(autojump_clock: MockClock) -> None:
    async with house_of(A, B) as house, door_of(house) as door:
        peer = door.connect()
        body = await ask(peer, Monitor(Family.DIR))
        assert isinstance(body, Monitored)
        shown = {device["name"]: device for device in json.loads(body.status)}
        assert set(shown) == {A, B}
        assert (shown[A]["media"], shown[A]["mount_path"], shown[A]["ongoing_io"]) == (A, A, False)
        await ask(peer, WriteAllocation((WriteMedium(1), WriteMedium(1)), Family.DIR))
        body = await ask(peer, Monitor(Family.DIR))
        assert isinstance(body, Monitored)
        assert all(device["ongoing_io"] for device in json.loads(body.status))


def captured(case: str) -> Response:
    """The one response of a captured conversation with Phobos."""
    lines = map(json.loads, CAPTURED.read_text().splitlines())
    (frame,) = (line["frame"] for line in lines if (line["case"], line["direction"]) == (case, "response"))
    return decode_response(next(FrameDecoder().feed(bytes.fromhex(frame))))


async def test_the_monitor_says_it_as_phobos_does(autojump_clock: MockClock) -> None:
    paths = [f"/mnt/arch/dirs/cap/d{number}" for number in (1, 2, 3)]
    async with house_of(*paths) as house, door_of(house) as door:
        body = await ask(door.connect(), Monitor(Family.DIR))
        assert isinstance(body, Monitored)
        assert Monitored(body.status.replace(f"{HOST}:", "vm:")) == captured("24_monitor_admin_api").body


async def test_the_monitor_shows_what_is_known_of_a_device(autojump_clock: MockClock) -> None:
    """What waits for its lock was not looked at yet; what has failed holds no medium any more."""
    site = Site()
    site.add("/srv/é").fail("sync", errno.EIO)
    site.add(B)
    site.add(BLANK, fs_status=FsStatus.BLANK)
    site.dss.add_lock(LockType.DEVICE, device_id(B), LockOwner("store2", 1))
    async with house_of(site=site) as house, door_of(house) as door:
        peer = door.connect()
        granted = await ask(peer, WriteAllocation((WriteMedium(1),), Family.DIR))
        assert isinstance(granted, WriteGranted)
        kind = RequestKind.RELEASE_WRITE
        assert await ask(peer, Release((back("/srv/é", 1),), kind)) == Failed(-errno.EIO, kind)
        await house.settle()
        body = await ask(peer, Monitor(Family.DIR))
        assert isinstance(body, Monitored)
        assert "/srv/é" in body.status
        common = {"library": LIBRARY, "currently_dedicated_to": "RWF", "address": 0, "ongoing_io": False}
        assert {device.pop("name"): device for device in json.loads(body.status)} == {
            B: {**common, "device": "", "adm_status": "unlocked"},
            BLANK: {
                **common,
                "device": BLANK,
                "serial": f"{HOST}:{BLANK}",
                "adm_status": "unlocked",
                "mount_path": "",
                "media": BLANK,
            },
            "/srv/é": {**common, "device": "/srv/é", "serial": f"{HOST}:/srv/é", "adm_status": "failed"},
        }


async def test_the_monitor_of_a_family_that_is_not_served_is_refused(autojump_clock: MockClock) -> None:
    async with house_of() as house, door_of(house) as door:
        assert await ask(door.connect(), Monitor(Family.TAPE)) == Failed(-errno.EINVAL, RequestKind.MONITOR)


async def test_a_stat_is_a_json_array_and_bad_tags_are_refused(autojump_clock: MockClock) -> None:
    async with house_of() as house, door_of(house) as door:
        peer = door.connect()
        body = await ask(peer, Stat())
        assert isinstance(body, Statistics)
        assert isinstance(json.loads(body.stats), list)
        # Phobos leaves the kind of such an error at 0.
        assert await ask(peer, Stat(tags="nonsense")) == Failed(-errno.EINVAL, RequestKind.WRITE)


async def test_our_own_status_is_a_versioned_json_object(autojump_clock: MockClock) -> None:
    async with house_of() as house, door_of(house) as door:
        body = await ask(door.connect(), Status())
        assert isinstance(body, StatusReport)
        assert json.loads(body.status)["version"] == 1


@pytest.mark.note("5.1")
async def test_formats_and_news_go_to_their_family(autojump_clock: MockClock) -> None:
    site = Site()
    site.add(A, fs_status=FsStatus.BLANK)
    async with house_of(site=site) as house, door_of(house) as door:
        peer = door.connect()
        assert await ask(peer, Format(medium_id(A), FsType.POSIX)) == Formatted(medium_id(A))
        news = Notify(device_id(A), NotifyOperation.DEVICE_LOCK)
        assert await ask(peer, news) == Notified(device_id(A))
        assert (LockType.DEVICE, A) not in site.dss.locks


async def test_news_for_a_family_that_is_not_served(autojump_clock: MockClock) -> None:
    async with house_of() as house, door_of(house) as door:
        peer = door.connect()
        elsewhere = type(device_id(A))(Family.TAPE, "drive", "legacy")
        news = NotifyOperation.DEVICE_ADD
        assert await ask(peer, Notify(elsewhere, news)) == Failed(-errno.EINVAL, RequestKind.NOTIFY)
        await peer.send((1, Notify(elsewhere, news, wait=False)), (2, Ping()))
        assert (await peer.receive()).request_id == 2


@pytest.mark.note("11")
async def test_while_it_drains_only_pings_reports_and_releases_are_served(autojump_clock: MockClock) -> None:
    async with house_of(A) as house, door_of(house) as door:
        peer = door.connect()
        write = WriteAllocation((WriteMedium(1),), Family.DIR)
        await ask(peer, write)
        house.drain()
        await house.settle()
        late = door.connect()
        assert await ask(late, write) == Failed(-errno.ESHUTDOWN, RequestKind.WRITE)
        assert await ask(late, Ping()) == Pong()
        assert isinstance(await ask(late, Monitor(Family.DIR)), Monitored)
        assert isinstance(await ask(late, Stat()), Statistics)
        assert isinstance(await ask(late, Status()), StatusReport)
        body = await ask(peer, Release((back(A, 1),), RequestKind.RELEASE_WRITE))
        assert not isinstance(body, Failed)


@pytest.mark.note("11")
async def test_after_the_devices_have_ended_a_release_is_refused_if_it_is_to_be_answered(
    autojump_clock: MockClock,
) -> None:
    async with house_of(A) as house, door_of(house) as door:
        peer = door.connect()
        door.dispatcher.accepts_releases = False
        silent = Release((back(A, 1, to_sync=False),), RequestKind.RELEASE_READ)
        await peer.send((1, silent))
        kind = RequestKind.RELEASE_WRITE
        assert await ask(peer, Release((back(A, 1),), kind)) == Failed(-errno.ESHUTDOWN, kind)


@pytest.mark.note("2.5a", "10.1", "10.4")
async def test_a_release_is_taken_in_while_the_family_has_no_time(autojump_clock: MockClock) -> None:
    """Two thousand allocations wait to be taken in; the release behind them gives its grant back at once."""

    async def scenario(house: House, door: Door) -> None:
        peer = door.connect()
        write = WriteAllocation((WriteMedium(1),), Family.DIR)
        await ask(peer, write)
        house.site.dss.go_away()
        kind = RequestKind.RELEASE_WRITE
        await peer.send(*[(number, write) for number in range(1000)], (7, Release((back(A, 1),), kind)))
        await trio.sleep(1)
        assert EventKind.RELEASE_TO_SYNC in [event.kind for event in house.site.seen]
        house.site.dss.come_back()

    async with house_of(A) as house, door_of(house) as door:
        await scenario(house, door)
