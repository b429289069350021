"""What is answered at once, what is refused, what is handed over; through a connection in memory."""

from __future__ import annotations

import errno
import json

import pytest
import trio
from trio.testing import MockClock

from lrs_trio.events import EventKind
from lrs_trio.model import (
    ConfigureOperation,
    Family,
    FsStatus,
    FsType,
    LockType,
    NotifyOperation,
    RequestKind,
)
from lrs_trio.wire.messages import (
    Configure,
    Configured,
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
    ResponseBody,
    Stat,
    Statistics,
    Status,
    StatusReport,
    WriteAllocation,
    WriteMedium,
)
from tests.fakes.house import House, back, house_of
from tests.fakes.peer import Door, Peer, door_of
from tests.fakes.site import Site, device_id, medium_id

A, B = "/srv/a", "/srv/b"
SET, GET = ConfigureOperation.SET, ConfigureOperation.GET


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


async def test_the_monitor_of_a_family_that_is_not_served_is_refused(autojump_clock: MockClock) -> None:
    async with house_of() as house, door_of(house) as door:
        assert await ask(door.connect(), Monitor(Family.TAPE)) == Failed(-errno.EINVAL, RequestKind.MONITOR)


async def test_a_stat_is_a_json_array_and_bad_tags_are_refused(autojump_clock: MockClock) -> None:
    async with house_of() as house, door_of(house) as door:
        peer = door.connect()
        body = await ask(peer, Stat())
        assert isinstance(body, Statistics)
        assert isinstance(json.loads(body.stats), list)
        assert await ask(peer, Stat(tags="nonsense")) == Failed(-errno.EINVAL, RequestKind.STAT)


async def test_what_is_set_can_be_got_for_as_long_as_the_daemon_lives(autojump_clock: MockClock) -> None:
    async with house_of() as house, door_of(house) as door:
        peer, other = door.connect(), door.connect()
        items = [{"section": "s", "key": "k", "value": "v"}]
        assert await ask(peer, Configure(SET, json.dumps(items))) == Configured()
        asked = [{"section": "s", "key": "unset"}, {"section": "s", "key": "k"}]
        body = await ask(other, Configure(GET, json.dumps(asked)))
        assert isinstance(body, Configured)
        assert json.loads(body.configuration or "") == ["", "v"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", errno.EPROTO),
        ("{", errno.EINVAL),
        ("{}", errno.EINVAL),
        ("[1]", errno.EINVAL),
        ('[{"section": "s"}]', errno.EINVAL),
        ('[{"section": "s", "key": 1}]', errno.EINVAL),
        ('[{"section": "s", "section": "t", "key": "k"}]', errno.EINVAL),
        ("[" * 100_000, errno.EINVAL),
    ],
)
async def test_a_configuration_that_is_none_is_refused(autojump_clock: MockClock, text: str, expected: int) -> None:
    async with house_of() as house, door_of(house) as door:
        peer = door.connect()
        for operation in (SET, GET):
            assert await ask(peer, Configure(operation, text)) == Failed(-expected, RequestKind.CONFIGURE)


async def test_nothing_of_a_refused_configuration_is_set(autojump_clock: MockClock) -> None:
    async with house_of() as house, door_of(house) as door:
        peer = door.connect()
        items = [{"section": "s", "key": "k", "value": "v"}, {"section": "s", "key": "k2"}]
        await ask(peer, Configure(SET, json.dumps(items)))
        body = await ask(peer, Configure(GET, '[{"section": "s", "key": "k"}]'))
        assert isinstance(body, Configured)
        assert json.loads(body.configuration or "") == [""]


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
