"""A connection over streams in memory: only its own client suffers from what that client does."""

from __future__ import annotations

import errno
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from itertools import pairwise

import pytest
import trio
from trio.testing import MockClock

from lrs_trio.events import EventKind
from lrs_trio.model import AdmStatus, ConfigureOperation, Family, FsStatus, NotifyOperation, RequestKind, ResourceId
from lrs_trio.scheduling.client import Client
from lrs_trio.server.connection import READ_SIZE, WITHDRAWN_PER_STEP
from lrs_trio.server.long_frames import AT_ONCE, LONG_BYTES
from lrs_trio.server.outbox import CHUNK
from lrs_trio.server.turnstile import FREE_FRAMES, TURN_FRAMES
from lrs_trio.settings import AccessSettings, ServerSettings
from lrs_trio.wire.codec import decode_request, decode_response
from lrs_trio.wire.framing import PROTOCOL_VERSION, FrameDecoder, encode_frame
from lrs_trio.wire.messages import (
    Configure,
    Failed,
    Notify,
    Ping,
    Pong,
    ReadAllocation,
    ReadGranted,
    Release,
    ReleasedMedium,
    Request,
    RequestBody,
    Response,
    WriteAllocation,
    WriteGranted,
    WriteMedium,
)
from tests.fakes.house import LONG, House, back, house_of, released
from tests.fakes.peer import Door, Peer, door_of, frame
from tests.fakes.site import Site, device_id, family_settings, medium_id

A, B = "/srv/a", "/srv/b"
RELEASE = RequestKind.RELEASE_WRITE


def write(*sizes: int) -> WriteAllocation:
    return WriteAllocation(tuple(map(WriteMedium, sizes)), Family.DIR)


def read(*paths: str, required: int | None = None) -> ReadAllocation:
    return ReadAllocation(len(paths) if required is None else required, tuple(map(medium_id, paths)))


def release(*media: ReleasedMedium, partial: bool = False) -> Release:
    return Release(media, RELEASE, partial)


def ongoing(house: House, path: str) -> int:
    return house.family.devices[device_id(path)].state.ongoing


async def still_served(peer: Peer) -> None:
    await peer.send((99, Ping()))
    assert (await peer.receive()).request_id == 99


# The straight way.


@pytest.mark.note("10.4", "2.5e")
async def test_a_client_writes_and_releases(autojump_clock: MockClock) -> None:
    async with house_of(A) as house, door_of(house) as door:
        peer = door.connect()
        await peer.send((1, Ping()), (2, write(10)))
        assert (await peer.receive()).body == Pong()
        granted = await peer.receive()
        assert (granted.request_id, type(granted.body)) == (2, WriteGranted)
        assert ongoing(house, A) == 1
        await peer.send((3, release(back(A, 10))))
        answer = await peer.receive()
        assert (answer.request_id, answer.body) == (3, released(A))
        assert house.site.medium(A).stats.logc_spc_used == 10


@pytest.mark.note("0")
async def test_requests_that_repeat_an_id_are_each_answered(autojump_clock: MockClock) -> None:
    async with house_of(A, B) as house, door_of(house) as door:
        peer = door.connect()
        await peer.send((0, read(A)), (0, write(1)))
        bodies = [(await peer.receive()).body for _ in range(2)]
        assert {type(body) for body in bodies} == {ReadGranted, WriteGranted}


async def test_frames_may_come_byte_by_byte(autojump_clock: MockClock) -> None:
    async with house_of(A) as house, door_of(house) as door:
        peer = door.connect()
        for byte in frame(5, write(1)):
            await peer.stream.send_all(bytes([byte]))
            await trio.sleep(0.01)
        assert (await peer.receive()).request_id == 5


@pytest.mark.note("2.2")
async def test_thousands_of_pipelined_pings_are_all_answered_in_order(autojump_clock: MockClock) -> None:
    async with house_of() as house, door_of(house, ServerSettings(response_channel=8)) as door:
        peer = door.connect()
        most = 0

        async def look() -> None:
            nonlocal most
            while True:
                await trio.lowlevel.checkpoint()
                most = max(most, max((connection.unsent for connection in door.server._connections), default=0))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(look)
            nursery.start_soon(peer.send, *[(number, Ping()) for number in range(3000)])
            for number in range(3000):
                assert (await peer.receive()).request_id == number
            nursery.cancel_scope.cancel()
        assert most <= 8


async def test_one_with_many_pings_does_not_keep_others_waiting(autojump_clock: MockClock) -> None:
    async with house_of() as house, door_of(house) as door:
        loud, quiet = door.connect(), door.connect()
        await loud.send(*[(number, Ping()) for number in range(5000)])
        await quiet.send((1, Ping()))
        await quiet.receive()
        received = 0
        with trio.move_on_after(1):
            while True:
                await loud.receive()
                received += 1
        assert received == 5000


# Limits (decision 10).


async def test_past_its_limit_a_connection_gets_ebusy_and_releases_are_still_read(autojump_clock: MockClock) -> None:
    async with house_of(A, settings=family_settings(max_concurrent_io=1)) as house, door_of(house, limit=2) as door:
        peer = door.connect()
        await peer.send((1, write(1)))
        await peer.receive()
        await peer.send((2, write(1)), (3, read(A)), (4, write(1)))
        busy = await peer.receive()
        assert (busy.request_id, busy.body) == (4, Failed(-errno.EBUSY, RequestKind.WRITE))
        await peer.send((5, release(back(A, 1))))
        assert {(await peer.receive()).request_id for _ in range(2)} == {2, 5}


@pytest.mark.note("2.2")
async def test_who_never_reads_is_closed_in_time_and_nobody_else_notices(autojump_clock: MockClock) -> None:
    settings = ServerSettings(response_channel=4, slow_client_s=30.0)
    async with house_of(A, settings=family_settings(max_concurrent_io=1)) as house, door_of(house, settings) as door:
        slow, other = door.connect(slow=True), door.connect()
        begun = trio.current_time()

        async def send() -> None:
            with suppress(trio.BrokenResourceError):
                await slow.send((1, write(1)), *[(number, Ping()) for number in range(2, 100)])

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            await trio.sleep(1)
            await other.send((1, write(1)))
            granted = await other.receive()
            assert isinstance(granted.body, WriteGranted)
            assert trio.current_time() == pytest.approx(begun + 30)
            await house.settle()
        closed = [event.time for event in house.site.seen if event.kind is EventKind.CONNECTION_CLOSED]
        assert closed == [pytest.approx(begun + 30)]
        await still_served(other)


@pytest.mark.parametrize("capacity", [1, 2, 8])
async def test_a_small_channel_gives_no_longer_turns(autojump_clock: MockClock, capacity: int) -> None:
    async with house_of(A) as house, door_of(house, ServerSettings(response_channel=capacity)) as door:
        ours, theirs = trio.socket.socketpair()
        door.accept(trio.SocketStream(theirs))
        peer = Peer(trio.SocketStream(ours))
        handled: list[int] = []
        answered = door.server._dispatcher.dispatch
        count = 0

        def dispatch(client: Client, request: Request, nursery: trio.Nursery) -> None:
            nonlocal count
            count += 1
            answered(client, request, nursery)

        door.server._dispatcher.dispatch = dispatch  # type: ignore[method-assign]

        class Watch(trio.abc.Instrument):
            def after_task_step(self, task: trio.lowlevel.Task) -> None:
                handled.append(count)

        trio.lowlevel.add_instrument(watch := Watch())
        await peer.send(*[(number, Ping()) for number in range(500)])
        for _ in range(500):
            await peer.receive()
        trio.lowlevel.remove_instrument(watch)
        assert count == 500
        assert max(later - earlier for earlier, later in pairwise(handled)) <= TURN_FRAMES + FREE_FRAMES
        await peer.leave()


async def test_who_reads_slowly_but_reads_is_kept(autojump_clock: MockClock) -> None:
    settings = ServerSettings(response_channel=4, slow_client_s=30.0)
    async with house_of() as house, door_of(house, settings) as door:
        slow = door.connect(slow=True)
        begun = trio.current_time()
        received: list[Response] = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(slow.send, *[(number, Ping()) for number in range(40)])
            while len(received) < 40:
                await trio.sleep(25)
                received += await slow.receive_some()
        assert [response.request_id for response in received] == list(range(40))
        assert trio.current_time() > begun + 100


class LongValues:
    """A configuration whose values are `length` characters."""

    def __init__(self, length: int) -> None:
        self._value = "x" * length

    def get(self, section: str, key: str) -> str:
        return self._value

    def set(self, section: str, key: str, value: str) -> None:
        raise AssertionError("nothing is set here")


GET = Configure(ConfigureOperation.GET, '[{"section": "dss", "key": "url"}]')


@asynccontextmanager
async def unread_on_a_socket(length: int) -> AsyncIterator[tuple[Door, trio.SocketStream, int]]:
    """A client to whom much more is to be sent than its socket has room for, and the number of answers.

    Each of them is of `length` bytes and a few more. Who does not take them is waited for 30 s, which begin now.
    """
    settings = ServerSettings(slow_client_s=30.0)
    async with house_of() as house, door_of(house, settings, configuration=LongValues(length)) as door:
        ours, theirs = trio.socket.socketpair()
        door.accept(trio.SocketStream(theirs))
        count = 1_000_000 // length
        async with trio.SocketStream(ours) as client:
            await client.send_all(b"".join(frame(number, GET) for number in range(count)))
            await trio.testing.wait_all_tasks_blocked()
            yield door, client, count


async def take(client: trio.SocketStream, size: int) -> bytes:
    """Read so much, or less if no more comes."""
    taken = b""
    with trio.move_on_after(LONG):
        while len(taken) < size and (data := await client.receive_some(size - len(taken))):
            taken += data
    return taken


@pytest.mark.parametrize("length", [2_000, 6_000, 200_000])
async def test_who_takes_a_chunk_of_a_real_socket_in_its_time_is_kept(autojump_clock: MockClock, length: int) -> None:
    async with unread_on_a_socket(length) as (door, client, count):
        decoder, received = FrameDecoder(), list[int]()
        while len(received) < count:
            assert len(door.server) == 1
            await trio.sleep(29)
            data = await take(client, CHUNK)
            received += [decode_response(message).request_id for message in decoder.feed(data)]
        assert received == list(range(count))


@pytest.mark.parametrize("size", [0, 1000])
async def test_who_takes_less_of_a_real_socket_is_closed(autojump_clock: MockClock, size: int) -> None:
    async with unread_on_a_socket(200_000) as (door, client, _):
        await trio.sleep(29)
        assert len(await take(client, size)) == size
        assert len(door.server) == 1
        await trio.sleep(2)
        assert len(door.server) == 0


async def test_a_quiet_connection_is_kept(autojump_clock: MockClock) -> None:
    async with house_of() as house, door_of(house) as door:
        peer = door.connect()
        await trio.sleep(86_000)
        await still_served(peer)


# Bad input.

BODY = bytes(frame(1, Ping()))[5:]


@pytest.mark.parametrize(
    "nonsense",
    [
        pytest.param(bytes(5), id="zero-length"),
        pytest.param(b"\xff\xff\xff\xff\x0e", id="oversized"),
        pytest.param((len(BODY) + 1).to_bytes(4, "big") + bytes([PROTOCOL_VERSION + 1]) + BODY, id="version"),
        pytest.param(encode_frame(b"\xff\xff\xff"), id="unparsable"),
        pytest.param(encode_frame(b""), id="without-id"),
        pytest.param(b"GET / HTTP/1.1\r\n\r\n", id="http"),
    ],
)
async def test_what_is_not_the_protocol_closes_that_connection_only(autojump_clock: MockClock, nonsense: bytes) -> None:
    async with house_of(A) as house, door_of(house) as door:
        bad, good = door.connect(), door.connect()
        await bad.send((1, write(1)))
        await bad.receive()
        await bad.stream.send_all(frame(2, Ping()) + nonsense + frame(3, Ping()))
        assert [response.request_id for response in await bad.receive_all()] == [2]
        assert ongoing(house, A) == 0
        assert [event.kind for event in house.site.seen].count(EventKind.PROTOCOL_ERROR) == 1
        await still_served(good)


async def test_a_connection_that_ends_inside_a_frame_is_an_error(autojump_clock: MockClock) -> None:
    async with house_of(A) as house, door_of(house) as door:
        peer = door.connect()
        await peer.stream.send_all(frame(1, write(1))[:-1])
        await peer.leave()
        await house.settle()
        assert EventKind.PROTOCOL_ERROR in [event.kind for event in house.site.seen]
        assert house.family.devices[device_id(A)].state.idle


def long_one(id: int) -> bytes:
    """A frame that is too long to be read at once."""
    return frame(
        id, Notify(ResourceId(Family.DIR, "x" * 10 * LONG_BYTES, "legacy"), NotifyOperation.MEDIA_UPDATE, True)
    )


async def test_who_begins_long_frames_and_ends_none_is_closed_and_keeps_only_himself_waiting(
    autojump_clock: MockClock,
) -> None:
    settings = ServerSettings(slow_client_s=30)
    async with house_of(A) as house, door_of(house, settings) as door:
        begun = trio.current_time()
        for _ in range(2 * AT_ONCE):
            await door.connect(uid=5555).stream.send_all(long_one(1)[:-1])
        await trio.sleep(10)
        other, same = door.connect(uid=6666), door.connect(uid=5555)
        await other.stream.send_all(long_one(2))
        await other.receive()
        assert trio.current_time() - begun == 10
        await still_served(same)
        await same.stream.send_all(long_one(3))
        await same.receive()
        assert trio.current_time() - begun == pytest.approx(30)
        await trio.sleep(1)
        assert len(door.server) == 2


def notify(*, operation: int, wait: bool) -> bytes:
    """News about a device, with request id 7."""
    body = b"\x0a\x0a\x08\x01\x12\x01a\x1a\x03lib" + bytes([0x10, operation, 0x18, wait])
    return b"\x08\x07\x42" + bytes([len(body)]) + body


def test_news_are_written_right_here() -> None:
    body = Notify(ResourceId(Family.DIR, "a", "lib"), NotifyOperation.DEVICE_UNLOCK, wait=False)
    assert decode_request(notify(operation=2, wait=False)) == Request(7, body)


async def test_malformed_news_that_nobody_waits_for_are_not_answered(autojump_clock: MockClock) -> None:
    async with house_of() as house, door_of(house) as door:
        peer = door.connect()
        await peer.stream.send_all(encode_frame(notify(operation=99, wait=False)))
        await still_served(peer)


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        pytest.param(b"\x08\x07", RequestKind.WRITE, id="no-body"),
        pytest.param(b"\x08\x07\x22\x00", RequestKind.WRITE, id="empty-write"),
        pytest.param(b"\x08\x07\x2a\x00", RequestKind.READ, id="empty-read"),
        pytest.param(b"\x08\x07\x3a\x00", RequestKind.FORMAT, id="empty-format"),
        pytest.param(b"\x08\x07\x52\x02\x08\x63", RequestKind.MONITOR, id="unknown-family"),
        pytest.param(notify(operation=99, wait=True), RequestKind.NOTIFY, id="unknown-news"),
        pytest.param(b"\x08\x07\x48\x00\x52\x02\x08\x01", None, id="two-bodies"),
    ],
)
async def test_a_malformed_request_gets_einval_with_its_id(
    autojump_clock: MockClock, message: bytes, kind: RequestKind | None
) -> None:
    async with house_of() as house, door_of(house) as door:
        peer = door.connect()
        await peer.stream.send_all(encode_frame(message))
        response = await peer.receive()
        assert response.request_id == 7
        assert isinstance(response.body, Failed)
        assert response.body.rc == -errno.EINVAL
        assert kind in (None, response.body.kind)
        await still_served(peer)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (write(), RequestKind.WRITE),
        (WriteAllocation((WriteMedium(1),), Family.TAPE), RequestKind.WRITE),
        (WriteAllocation((WriteMedium(1),), Family.RADOS_POOL), RequestKind.WRITE),
        (ReadAllocation(0, ()), RequestKind.READ),
        (read(A, required=0), RequestKind.READ),
        (read(A, required=2), RequestKind.READ),
        (read(A, A), RequestKind.READ),
    ],
)
async def test_a_request_that_contradicts_itself_gets_einval(
    autojump_clock: MockClock, body: RequestBody, kind: RequestKind
) -> None:
    async with house_of(A) as house, door_of(house) as door:
        peer = door.connect()
        await peer.send((6, body))
        response = await peer.receive()
        assert (response.request_id, response.body) == (6, Failed(-errno.EINVAL, kind))
        await still_served(peer)


@pytest.mark.note("0")
async def test_a_grant_belongs_to_the_connection_that_got_it(autojump_clock: MockClock) -> None:
    async with house_of(A) as house, door_of(house) as door:
        owner, thief = door.connect(), door.connect()
        await owner.send((1, write(1)))
        await owner.receive()
        await thief.send((1, release(back(A, 1))))
        assert (await thief.receive()).body == Failed(-errno.EINVAL, RELEASE)
        await owner.send((2, release(back(A, 1))))
        assert (await owner.receive()).body == released(A)


# Leaving.


async def test_a_client_that_goes_gives_everything_back(autojump_clock: MockClock) -> None:
    async with house_of(A, settings=family_settings(max_concurrent_io=1, age_ms=1000)) as house, door_of(house) as door:
        gone, next_one = door.connect(), door.connect()
        await gone.send((1, write(1)))
        await gone.receive()
        await gone.send((2, write(1)), (3, read(A)))
        await house.settle()
        await next_one.send((1, read(A)))
        await gone.leave()
        assert isinstance((await next_one.receive()).body, ReadGranted)
        await trio.sleep(100)
        assert house.site.medium(A).fs_status is FsStatus.USED
        assert house.site.medium(A).stats.nb_obj == 0


@pytest.mark.parametrize("sync_while_io", [True, False])
async def test_a_client_that_goes_between_grant_and_response(autojump_clock: MockClock, sync_while_io: bool) -> None:
    """The response is being sent, so the I/O is ongoing; the client never reads it and goes."""
    settings = family_settings(max_concurrent_io=1, sync_while_io=sync_while_io)
    async with house_of(A, settings=settings) as house, door_of(house) as door:
        gone, next_one = door.connect(slow=True), door.connect()
        await gone.send((1, write(1)))
        await house.settle()
        assert ongoing(house, A) == 1
        await gone.leave()
        await next_one.send((1, write(1)))
        assert isinstance((await next_one.receive()).body, WriteGranted)
        await next_one.send((2, release(back(A, 1))))
        assert (await next_one.receive()).body == released(A)


@pytest.mark.parametrize("partial", [True, False])
async def test_a_release_completes_though_its_client_hangs_up_at_once(autojump_clock: MockClock, partial: bool) -> None:
    async with house_of(A, settings=family_settings(sync_while_io=False)) as house, door_of(house) as door:
        peer, other = door.connect(), door.connect()
        await peer.send((1, write(1)))
        await peer.receive()
        await peer.send((2, release(back(A, 5), partial=partial)))
        await peer.leave()
        await trio.sleep(100)
        assert house.site.medium(A).stats.logc_spc_used == 5
        assert house.family.devices[device_id(A)].state.idle
        await other.send((1, write(1)))
        await other.receive()
        await other.send((2, release(back(A, 1))))
        assert (await other.receive()).body == released(A)


@pytest.mark.parametrize("pings", [0, 1, 5, 40])
async def test_a_release_completes_though_the_answers_before_it_cannot_be_sent(
    autojump_clock: MockClock, pings: int
) -> None:
    async with house_of(A) as house, door_of(house) as door:
        peer = door.connect()
        await peer.send((1, write(10)))
        await peer.receive()
        await peer.send(*[(9, Ping())] * pings, (3, release(back(A, 10))))
        await peer.leave()
        await trio.sleep(100)
        assert house.site.medium(A).stats.logc_spc_used == 10
        assert not door.server._connections


async def test_what_a_client_that_has_gone_had_asked_for_is_left_alone(autojump_clock: MockClock) -> None:
    async with house_of(A) as house, door_of(house) as door:
        peer = door.connect()
        await peer.send(*[(number, write(1)) for number in range(500)])
        await peer.leave()
        await trio.sleep(1)
        assert not door.server._connections
        queued = [event for event in house.site.seen if event.kind is EventKind.ALLOCATION_QUEUED]
        assert 0 < len(queued) < 50
        assert house.family.devices[device_id(A)].state.idle


async def test_a_release_completes_though_it_was_not_read_when_its_client_had_gone(autojump_clock: MockClock) -> None:
    async with house_of(A) as house, door_of(house) as door:
        peer = door.connect()
        await peer.send((1, write(10)))
        await peer.receive()
        # The first answers cannot be sent long before all of this is read.
        await peer.send(*[(9, Ping())] * (3 * READ_SIZE // len(frame(9, Ping()))), (3, release(back(A, 10))))
        await peer.leave()
        await trio.sleep(100)
        assert house.site.medium(A).stats.logc_spc_used == 10
        assert not door.server._connections


async def test_who_hears_nothing_any_more_is_promised_nothing_and_can_still_release(autojump_clock: MockClock) -> None:
    settings = family_settings(max_concurrent_io=1)
    async with house_of(A, settings=settings) as house, door_of(house) as door:
        ours, theirs = trio.socket.socketpair()
        door.accept(trio.SocketStream(theirs))
        deaf = Peer(trio.SocketStream(ours))
        await deaf.send((1, write(10)))
        await deaf.receive()
        await deaf.send((2, write(10)))
        await house.settle()
        assert len(house.family.queue) == 1
        ours.shutdown(trio.socket.SHUT_RD)
        await deaf.send((3, Ping()))
        await house.settle()
        assert len(house.family.queue) == 0
        await deaf.send((4, write(10)), (5, release(back(A, 10))))
        await trio.sleep(100)
        assert house.site.medium(A).stats.logc_spc_used == 10
        assert (len(door.server), house.family.devices[device_id(A)].state.idle) == (1, True)
        await deaf.leave()
        await house.settle()
        assert len(door.server) == 0


async def test_a_client_that_goes_with_thousands_of_requests_leaves_others_their_turns(
    autojump_clock: MockClock,
) -> None:
    settings = family_settings(max_concurrent_io=1)
    async with house_of(A, settings=settings) as house, door_of(house) as door:
        lengths: list[int] = []

        class Watch(trio.abc.Instrument):
            def after_task_step(self, task: trio.lowlevel.Task) -> None:
                lengths.append(len(house.family.queue))

        peer = door.connect()
        await peer.send(*[(number, write(1)) for number in range(1000)])
        await trio.sleep(1)
        waiting = len(house.family.queue)
        assert waiting > 5 * WITHDRAWN_PER_STEP
        trio.lowlevel.add_instrument(watch := Watch())
        await peer.leave()
        await trio.sleep(1)
        trio.lowlevel.remove_instrument(watch)
        assert len(house.family.queue) == 0
        assert max(before - after for before, after in pairwise([waiting, *lengths])) == WITHDRAWN_PER_STEP


async def test_what_was_received_is_seen_to_when_the_server_stops(autojump_clock: MockClock) -> None:
    async with house_of(A) as house, door_of(house) as door:
        peer = door.connect()
        await peer.send((1, write(10)))
        await peer.receive()
        await peer.send(*[(9, Ping())] * 40, (3, release(back(A, 10))))
        # It has read that, and is at the turnstile.
        await trio.lowlevel.checkpoint()
        for connection in tuple(door.server._connections):
            connection.stop()
        # The release completes, too; that its answer is waited for is the business of the drain.
        assert [response.body for response in await peer.receive_all()] == [Pong()] * 40
        await trio.sleep(100)
        assert house.site.medium(A).stats.logc_spc_used == 10


async def test_who_may_only_read_leaves_the_books_alone(autojump_clock: MockClock) -> None:
    access = AccessSettings(everyone=("read",))
    async with house_of(A) as house, door_of(house, access=access) as door:
        peer = door.connect(uid=5555)
        await peer.send((1, ReadAllocation(1, (medium_id(A),))))
        assert isinstance((await peer.receive()).body, ReadGranted)
        await peer.send((2, Release((back(A, 2**62, 10**6),), RequestKind.RELEASE_READ)))
        assert (await peer.receive()).body == Failed(-errno.EPERM, RequestKind.RELEASE_READ)
        assert (house.site.medium(A).stats.logc_spc_used, house.site.medium(A).stats.nb_obj) == (0, 0)
        await peer.send((3, Release((back(A, to_sync=False),), RequestKind.RELEASE_READ)), (4, Ping()))
        assert (await peer.receive()).body == Pong()
        assert house.family.devices[device_id(A)].state.idle


async def test_answers_that_wait_are_flushed_when_the_server_stops(autojump_clock: MockClock) -> None:
    site = Site()
    site.add(A)
    async with house_of(site=site) as house, door_of(house) as door:
        peer = door.connect(slow=True)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(peer.send, *[(number, Ping()) for number in range(10)])
            await house.settle()
            for connection in tuple(door.server._connections):
                connection.stop()
            assert Counter(response.request_id for response in await peer.receive_all()) == Counter(range(10))
    assert site.medium(A).adm_status is AdmStatus.UNLOCKED


async def test_a_failing_neighbour_changes_nothing_for_who_writes_elsewhere(autojump_clock: MockClock) -> None:
    async with house_of(A, B, settings=family_settings(max_concurrent_io=1)) as house, door_of(house) as door:
        house.site.disks[device_id(A)].fail("sync", errno.EIO)
        peers = [door.connect() for _ in range(2)]
        where = {}
        for peer in peers:
            await peer.send((1, write(1)))
            body = (await peer.receive()).body
            assert isinstance(body, WriteGranted)
            where[body.media[0].medium.name] = peer
        await where[A].send((2, release(back(A, 1))))
        assert (await where[A].receive()).body == Failed(-errno.EIO, RELEASE)
        await where[B].send((2, release(back(B, 1))))
        assert (await where[B].receive()).body == released(B)
