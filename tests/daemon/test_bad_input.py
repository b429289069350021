"""Whatever a client sends, only that client may suffer: hostile bytes on a whole daemon's socket."""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.harness import LIBRARY, Site
from benchmarks.sites import Sites
from lrs_trio.model import ConfigureOperation, Family, FsType, NotifyOperation, RequestKind, ResourceId
from lrs_trio.server.server import KEPT_PLACES
from lrs_trio.wire import lrs_pb2 as pb
from lrs_trio.wire.framing import MAX_FRAME_BYTES, PROTOCOL_VERSION, encode_frame
from lrs_trio.wire.messages import (
    Configure,
    Failed,
    Format,
    Monitor,
    Monitored,
    Notify,
    Ping,
    Pong,
    Release,
    Released,
    Request,
    RequestBody,
    Response,
    Stat,
    Statistics,
    Status,
    StatusReport,
    WriteAllocation,
    WriteGranted,
    WriteMedium,
)
from tests.daemon.conftest import (
    NEVER_DUE,
    Caller,
    Running,
    device_of,
    frames,
    logged,
    media_of,
    read,
    release,
    serving,
    taken,
    write,
)
from tests.storage.faults import FaultyFilesystem
from tests.wire.strategies import request_bodies

ONE_AT_A_TIME = "families.dir.max_concurrent_io=1"
NOBODY = ResourceId(Family.DIR, "/nowhere/at/all", LIBRARY)
PING = frames(Request(77, Ping()))


def header(length: int, version: int = PROTOCOL_VERSION) -> bytes:
    return struct.pack(">IB", length, version)


# What is not the protocol: the connection ends, after the answers to what came before.


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(header(0), id="length zero"),
        pytest.param(header(MAX_FRAME_BYTES + 1), id="one byte too long"),
        pytest.param(b"\xff" * 5, id="four gigabytes"),
        pytest.param(header(5, 13) + b"abcd", id="version of yesterday"),
        pytest.param(header(5, 2) + b"abcd", id="version of another daemon"),
        pytest.param(encode_frame(b"\xff" * 30), id="no message"),
        pytest.param(encode_frame(b"\x0b" * 1000), id="groups without end"),
        pytest.param(encode_frame(b"\x22\xff\xff\xff\xff\x0f"), id="a body that claims four gigabytes"),
        pytest.param(encode_frame(b""), id="nothing in it"),
        pytest.param(encode_frame(pb.Request(ping=True).SerializePartialToString()), id="no id"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", id="another protocol"),
    ],
)
async def test_bytes_that_are_no_requests_end_their_connection(site: Site, data: bytes) -> None:
    async with serving(site) as running, running.connect() as hostile:
        await hostile.hold()
        await hostile.send_bytes(PING + data + PING)
        # What was asked in order is still answered, what comes after is not.
        assert await hostile.rest() == [Response(77, Pong())]
        await running.unharmed()


@pytest.mark.parametrize("cut", [1, 4, 5, 9])
async def test_a_frame_that_is_cut_ends_its_connection(site: Site, cut: int) -> None:
    async with serving(site) as running, running.connect() as hostile:
        await hostile.hold()
        await hostile.send_bytes(PING + frames(Request(1, write()))[:cut])
        await hostile.stream.send_eof()
        assert await hostile.rest() == [Response(77, Pong())]
        await running.unharmed()


async def test_the_largest_frame_is_taken_and_the_limit_can_be_lowered(site: Site) -> None:
    def padded(length: int) -> bytes:
        # Fields that nobody knows are skipped.
        message = pb.Request(id=3, ping=False).SerializeToString()
        filling = length - 1 - len(message) - 6
        return encode_frame(message + b"\xa2\x7d" + varint(filling, 4) + bytes(filling))

    async with serving(site) as running, running.connect() as caller:
        await caller.send_bytes(padded(MAX_FRAME_BYTES))
        assert await caller.receive() == Response(3, Pong())
        await running.unharmed()
    async with serving(site, "server.max_frame_bytes=1000", format=False) as running, running.connect() as caller:
        await caller.send_bytes(padded(1000))
        assert await caller.receive() == Response(3, Pong())
        await caller.send_bytes(padded(1001))
        assert await caller.rest() == []
        await running.unharmed()


def varint(number: int, length: int) -> bytes:
    """`number` in exactly `length` bytes."""
    septets = [number >> (7 * place) & 0x7F for place in range(length)]
    return bytes([*(septet | 0x80 for septet in septets[:-1]), septets[-1]])


# What is a request, but cannot be: answered with an errno and its own id.

E, K = errno, RequestKind


def partial(**fields: object) -> bytes:
    return pb.Request(id=5, **fields).SerializePartialToString()  # type: ignore[arg-type]


def not_utf_8() -> bytes:
    named = pb.ResourceId(family=pb.DIR, name="/\N{SNOWMAN}", library=LIBRARY)
    whole = partial(format=pb.Format(medium=named, fs_type=pb.POSIX, unlock=False, force=False))
    return whole.replace("\N{SNOWMAN}".encode(), b"\xff\xfe\xfd")


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        pytest.param(partial(), K.WRITE, id="no body"),
        pytest.param(partial(ping=True, stat=pb.Stat()), None, id="two bodies"),
        pytest.param(partial() + b"\xa2\x7d\x03abc", K.WRITE, id="a body that nobody knows"),
        pytest.param(partial(write=pb.WriteAllocation()), K.WRITE, id="write of nothing"),
        pytest.param(partial(read=pb.ReadAllocation()), K.READ, id="read of nothing"),
        pytest.param(partial(release=pb.Release()), K.RELEASE_WRITE, id="release of nothing"),
        pytest.param(partial(format=pb.Format()), K.FORMAT, id="format of nothing"),
        pytest.param(partial(notify=pb.Notify()), K.NOTIFY, id="notify of nothing"),
        pytest.param(partial(monitor=pb.Monitor()), K.MONITOR, id="monitor of nothing"),
        pytest.param(partial(configure=pb.Configure()), K.CONFIGURE, id="configure of nothing"),
        # Family 9, operation 9: values of enumerations that nobody knows.
        pytest.param(b"\x08\x05\x52\x02\x08\x09", K.MONITOR, id="unknown family"),
        pytest.param(b"\x08\x05\x5a\x04\x08\x09\x12\x00", K.CONFIGURE, id="unknown operation"),
        pytest.param(b"\x08\x05\x2a\x04\x08\x01\x18\x09", K.READ, id="unknown operation of a read"),
        pytest.param(partial(monitor=pb.Monitor(), notify=pb.Notify()), None, id="halves of two bodies"),
        pytest.param(not_utf_8(), K.FORMAT, id="a name that is no UTF-8"),
    ],
)
async def test_malformed_requests_are_answered(site: Site, message: bytes, kind: RequestKind | None) -> None:
    async with serving(site) as running, running.connect() as hostile:
        await hostile.send_bytes(encode_frame(message) + PING)
        answers = [await hostile.receive() for _ in range(2)]
        failed = answers[0].body
        assert answers[0].request_id == 5
        assert isinstance(failed, Failed)
        assert failed.rc == -errno.EINVAL
        assert kind in (None, failed.kind)
        assert answers[1] == Response(77, Pong())
        await running.unharmed()


REFUSED: list[tuple[str, Callable[[Site], RequestBody], int]] = [
    ("no medium to write", lambda _: WriteAllocation((), Family.DIR), E.EINVAL),
    ("more than there is", lambda _: write(2**64 - 1), E.ENOSPC),
    ("more than there is, twice", lambda _: write(2**64 - 1, copies=2), E.ENOSPC),
    ("more than there is, in one piece", lambda _: write(2**63, no_split=True), E.ENOSPC),
    ("more media than there are", lambda _: write(1, copies=3), E.ENOSPC),
    ("as many media as may be named", lambda _: write(1, copies=1024), E.ENOSPC),
    ("more media than may be named", lambda _: write(1, copies=1025), E.EINVAL),
    ("thousands of media", lambda _: write(1, copies=20_000), E.EINVAL),
    ("a family that is not here", lambda _: WriteAllocation((WriteMedium(1),), Family.TAPE), E.EINVAL),
    ("another family that is not here", lambda _: WriteAllocation((WriteMedium(1),), Family.RADOS_POOL), E.EINVAL),
    ("a tag with a zero in it", lambda _: WriteAllocation((WriteMedium(1, ("a\0b",)),), Family.DIR), E.ENOSPC),
    ("as many tags as may be named", lambda _: WriteAllocation((WriteMedium(1, ("t",) * 1024),), Family.DIR), E.ENOSPC),
    ("more tags than may be named", lambda _: WriteAllocation((WriteMedium(1, ("t",) * 1025),), Family.DIR), E.EINVAL),
    (
        "a grouping of 1,025 letters",
        lambda _: WriteAllocation((WriteMedium(1),), Family.DIR, grouping="g" * 1025),
        E.EINVAL,
    ),
    ("a tag of 10,000 letters", lambda _: WriteAllocation((WriteMedium(1, ("t" * 10_000,)),), Family.DIR), E.ENOSPC),
    ("a library that is not here", lambda _: write(library="\0"), E.ENOSPC),
    ("no medium to read", lambda _: read(), E.EINVAL),
    ("none required", lambda site: read(*site.media, n_required=0), E.EINVAL),
    ("more required than named", lambda site: read(*site.media, n_required=3), E.EINVAL),
    ("four billion required", lambda site: read(*site.media, n_required=2**32 - 1), E.EINVAL),
    ("a medium twice", lambda site: read(site.media[0], site.media[0], n_required=2), E.EINVAL),
    ("families mixed", lambda site: read(site.media[0], ResourceId(Family.TAPE, "T", LIBRARY)), E.EINVAL),
    ("an unknown medium", lambda _: read(NOBODY), E.ENXIO),
    ("a name with a zero in it", lambda _: read(ResourceId(Family.DIR, "/a\0b", LIBRARY)), E.ENXIO),
    ("an empty name", lambda _: read(ResourceId(Family.DIR, "", "")), E.ENXIO),
    ("a name of 10,000 letters", lambda _: read(ResourceId(Family.DIR, "/" + "x" * 10_000, LIBRARY)), E.ENXIO),
    ("a name beyond the plane", lambda _: read(ResourceId(Family.DIR, "/\U0001f4a9\u202e", LIBRARY)), E.ENXIO),
    ("a medium of another library", lambda site: read(ResourceId(Family.DIR, site.media[0].name, "x")), E.ENXIO),
    ("a thousand unknown media", lambda _: read(*many_media(1000), n_required=1000), E.ENXIO),
    ("more media than anybody has copies", lambda _: read(*many_media(20_000)), E.EINVAL),
    ("a format of what is in use", lambda site: Format(site.media[0], FsType.POSIX, force=True), E.EINVAL),
    ("a format as something else", lambda site: Format(site.media[0], FsType.LTFS), E.EINVAL),
    ("a format of nobody", lambda _: Format(NOBODY, FsType.POSIX), E.ENXIO),
    ("a format of a tape", lambda _: Format(ResourceId(Family.TAPE, "T", LIBRARY), FsType.LTFS), E.EINVAL),
    ("a device that nobody knows", lambda _: Notify(NOBODY, NotifyOperation.DEVICE_ADD), E.ENXIO),
    ("an unlock of nobody", lambda _: Notify(NOBODY, NotifyOperation.DEVICE_UNLOCK), E.ENXIO),
    ("an update of nobody", lambda _: Notify(NOBODY, NotifyOperation.MEDIA_UPDATE), E.ENXIO),
    ("a device for a medium", lambda site: Notify(site.media[0], NotifyOperation.DEVICE_ADD), E.ENXIO),
    (
        "a tape's device",
        lambda _: Notify(ResourceId(Family.TAPE, "T", LIBRARY), NotifyOperation.DEVICE_ADD),
        E.EINVAL,
    ),
    ("a monitor of tapes", lambda _: Monitor(Family.TAPE), E.EINVAL),
    ("a filter that is none", lambda _: Stat(tags="request"), E.EINVAL),
    ("nothing to configure", lambda _: Configure(ConfigureOperation.SET, ""), E.EPROTO),
    ("no JSON", lambda _: Configure(ConfigureOperation.GET, "[{"), E.EINVAL),
    ("no array", lambda _: Configure(ConfigureOperation.GET, '{"section":"a","key":"b"}'), E.EINVAL),
    ("no objects", lambda _: Configure(ConfigureOperation.GET, "[1, null]"), E.EINVAL),
    ("no strings", lambda _: Configure(ConfigureOperation.SET, '[{"section":1,"key":2,"value":3}]'), E.EINVAL),
    ("no value", lambda _: Configure(ConfigureOperation.SET, '[{"section":"a","key":"b"}]'), E.EINVAL),
    ("a key twice", lambda _: Configure(ConfigureOperation.GET, '[{"key":"a","key":"b","section":"c"}]'), E.EINVAL),
    ("depth", lambda _: Configure(ConfigureOperation.GET, "[" * 500_000), E.EINVAL),
    ("deep objects", lambda _: Configure(ConfigureOperation.GET, '[{"a":' * 200_000), E.EINVAL),
    ("a number without end", lambda _: Configure(ConfigureOperation.GET, "9" * 100_000), E.EINVAL),
    ("a release of nobody", lambda _: release(NOBODY), E.ENODEV),
    ("a release of what is not held", lambda site: release(*site.media), E.EINVAL),
    ("a partial release of what is not held", lambda site: release(*site.media, partial=True), E.EINVAL),
    ("a release of another family", lambda _: release(ResourceId(Family.TAPE, "T", LIBRARY)), E.ENODEV),
    ("a thousand releases at once", lambda _: release(*many_media(1000)), E.ENODEV),
    ("more than a release may name", lambda _: release(*many_media(5000)), E.EINVAL),
]


def many_media(count: int) -> list[ResourceId]:
    return [ResourceId(Family.DIR, f"/nowhere/{number}", LIBRARY) for number in range(count)]


async def test_requests_that_cannot_be_are_refused(site: Site) -> None:
    async with serving(site) as running, running.connect() as hostile:
        for number, (name, body, expected) in enumerate(REFUSED):
            found = await hostile.refused(body(site), id=number)
            assert found == expected, f"{name}: {errno.errorcode[found]}"
        await hostile.ask(Ping(), Pong)
        await running.unharmed()


async def test_extremes_of_qos_and_priority_are_only_an_order(site: Site) -> None:
    async with serving(site, ONE_AT_A_TIME) as running:
        async with running.connect() as holder, running.connect() as hostile:
            held = await holder.hold(copies=2)
            low, high = -(2**63), 2**63 - 1
            ranks = [(low, low), (low, high), (None, low), (None, None), (0, 1), (high, low), (high, high)]
            await hostile.send(*[Request(n, write(copies=2), *rank) for n, rank in enumerate(ranks)])
            await running.until(lambda family: family["queued"]["write"] == len(ranks))
            await holder.ask(release(*held), Released)
            running.count(*held)
            for expected in reversed(range(len(ranks))):
                answer = await hostile.receive()
                assert answer.request_id == expected
                assert isinstance(answer.body, WriteGranted)
                await hostile.send(Request(99, release(*held, to_sync=False)))
        await running.unharmed()


@pytest.fixture
def site_of_sixteen(sites: Sites) -> Iterator[Site]:
    with sites.temporary(16) as made:
        yield made


async def test_a_giant_request_does_not_stop_the_daemon(site_of_sixteen: Site) -> None:
    async with serving(site_of_sixteen) as running, running.connect() as hostile:
        assert await hostile.refused(write(1, copies=250_000)) == errno.EINVAL
        await running.unharmed()


# Releases.


async def test_a_grant_belongs_to_the_connection_that_got_it(site: Site) -> None:
    async with serving(site) as running, running.connect() as holder, running.connect() as thief:
        media = await holder.hold(copies=2)
        for partial_ in (False, True):
            assert await thief.refused(release(*media, partial=partial_)) == errno.EINVAL
            assert await thief.refused(release(*media, kind=RequestKind.RELEASE_READ, partial=partial_)) == errno.EINVAL
        await thief.send(Request(1, release(*media, to_sync=False)), Request(2, Ping()))
        assert await thief.receive() == Response(2, Pong())
        family = await running.family()
        assert [device["ongoing"] for device in family["devices"]] == [1, 1]
        await holder.ask(release(*media), Released)
        running.count(*media)
        await running.unharmed()


@pytest.mark.note("1")
async def test_a_release_counts_once_however_often_it_is_sent(site: Site) -> None:
    async with serving(site) as running, running.connect() as hostile:
        media = await hostile.hold(copies=2)
        await hostile.send(*[Request(number, release(*media)) for number in range(50)])
        answers = {answer.request_id: answer.body for answer in await hostile.receive_many(50)}
        assert isinstance(answers.pop(0), Released)
        running.count(*media)
        assert set(answers.values()) == {Failed(-errno.EINVAL, RequestKind.RELEASE_WRITE)}
        await running.unharmed()


@pytest.mark.parametrize("twice", ["final", "partial"])
async def test_a_release_that_names_a_medium_twice_fails_and_takes_nothing_away(site: Site, twice: str) -> None:
    async with serving(site) as running, running.connect() as hostile:
        (medium,) = await hostile.hold()
        assert await hostile.refused(release(medium, medium, partial=twice == "partial"), id=4) == errno.EINVAL
        if twice == "partial":
            await hostile.ask(release(medium), Released)
            running.count(medium)
        else:
            assert await hostile.refused(release(medium)) == errno.EINVAL
        await running.unharmed()


@pytest.mark.parametrize("partial", [True, False])
async def test_a_second_release_before_the_answer_to_a_partial_one(site: Site, partial: bool) -> None:
    async with serving(site) as running, running.connect() as hostile:
        (medium,) = await hostile.hold()
        # Two that arrive together are handled in one step.
        await hostile.send(Request(1, release(medium, partial=True)), Request(2, release(medium, partial=partial)))
        answers = {answer.request_id: answer.body for answer in await hostile.receive_many(2)}
        kind = RequestKind.RELEASE_WRITE
        assert answers == {1: Released((medium,), kind, partial=True), 2: Failed(-errno.EINVAL, kind)}
        running.count(medium)
        await hostile.ask(release(medium), Released, id=4)
        running.count(medium)
        await running.unharmed()


async def test_one_wrong_element_costs_its_release_only(site: Site) -> None:
    async with serving(site) as running, running.connect() as hostile:
        (medium,) = await hostile.hold()
        assert await hostile.refused(release(medium, NOBODY)) == errno.ENODEV
        # It was released all the same, and counted nowhere.
        assert await hostile.refused(release(medium)) == errno.EINVAL
        for rc in (errno.EIO, -errno.EIO, -(2**31)):
            (medium,) = await hostile.hold()
            assert await hostile.refused(release(medium, rc=rc)) == abs(rc)
        await running.unharmed()


async def test_a_release_of_no_medium_is_never_answered(site: Site) -> None:
    async with serving(site) as running, running.connect() as hostile:
        nothing = Release((), RequestKind.RELEASE_WRITE)
        for body in (nothing, Release((), RequestKind.MONITOR, partial=True), release(NOBODY, to_sync=False)):
            await hostile.send(Request(1, body), Request(2, Ping()))
            assert await hostile.receive() == Response(2, Pong())
        await running.unharmed()


@pytest.mark.parametrize("extents", [0, -(2**63), 2**63 - 1])
@pytest.mark.parametrize("size", [-(2**63), -1, 2**63 - 1])
async def test_absurd_figures_of_a_release_never_make_a_negative_statistic(site: Site, size: int, extents: int) -> None:
    async with serving(site) as running:
        async with running.connect() as hostile:
            for _ in range(2):
                (medium,) = await hostile.hold()
                await hostile.send(Request(1, release(medium, size=size, extents=extents)))
                answer = await hostile.receive()
                assert isinstance(answer.body, Released | Failed)
        for objects, logical in (await running.found()).values():
            assert 0 <= objects < 2**63
            assert 0 <= logical < 2**63
        await running.until(lambda family: not taken(family))
        assert "failed" not in [device["status"] for device in (await running.family())["devices"]]
        # From here on the next cycle must add exactly its own.
        await running.expect_books()
        if size < 2**62 and extents < 2**62:
            await running.unharmed()


@pytest.mark.parametrize("size", [2**63 - 1, -(2**63)])
async def test_false_sizes_disturb_nobody_elses_writes(
    site: Site, filesystems: dict[str, FaultyFilesystem], size: int
) -> None:
    """What a client claims to have written is only an estimate of the space, until the next sync measures it."""
    async with serving(site, *NEVER_DUE) as running, running.connect() as hostile, running.connect() as honest:
        pairs = [await hostile.hold(copies=2) for _ in range(4)]
        syncs = [filesystem.hold("sync") for filesystem in filesystems.values()]
        await hostile.send(*[Request(1, release(*pair, size=size, extents=0)) for pair in pairs], Request(2, Ping()))
        assert await hostile.receive() == Response(2, Pong())
        await honest.send(Request(3, write(copies=2)))
        await running.status()
        for sync in syncs:
            sync.set()
        answer = await honest.receive()
        assert answer.request_id == 3
        assert isinstance(answer.body, WriteGranted), answer
        # Neither more than the disk has, nor less than was asked for.
        capacity = os.statvfs(site.base).f_blocks * os.statvfs(site.base).f_frsize
        assert all(1000 <= medium.avail_size <= capacity for medium in answer.body.media)
        media = media_of(answer.body)
        await honest.send(Request(4, release(*media)))
        running.interrupt()
        assert isinstance((await honest.receive()).body, Released)
        await running.wait_ended()
        await running.expect_books()


# Too much.


@pytest.mark.note("2.2")
@pytest.mark.parametrize("channel", [1, 1024])
async def test_thousands_of_pipelined_pings_are_all_answered(site: Site, channel: int) -> None:
    count = 20_000
    async with serving(site, f"server.response_channel={channel}") as running, running.connect() as eager:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(eager.send_bytes, b"".join(frames(Request(n, Ping())) for n in range(count)))
            answers = await eager.receive_many(count)
        assert [answer.request_id for answer in answers] == list(range(count))
        await running.unharmed()


async def sent(caller: Caller, data: bytes) -> bool:
    """Whether the daemon still takes `data`."""
    try:
        await caller.send_bytes(data)
    except trio.BrokenResourceError:
        return False
    return True


@pytest.mark.note("2.2")
async def test_a_client_that_never_reads_is_closed_and_nobody_else_notices(
    site: Site, lines: list[dict[str, object]]
) -> None:
    async with serving(site, "server.slow_client_s=0.3", "server.response_channel=16") as running:
        async with running.connect() as deaf:
            await deaf.hold()

            async def flood() -> None:
                data = frames(Request(1, Status())) * 100
                while await sent(deaf, data):
                    pass

            async with trio.open_nursery() as nursery:
                nursery.start_soon(flood)
                for _ in range(5):
                    await running.write_cycle()
                line = await logged(lines, lambda line: "does not read" in str(line["event"]))
        assert line["log_level"] == "warning"
        await running.unharmed()


async def test_a_client_that_reads_slowly_is_not_closed(site: Site) -> None:
    count = 300
    async with serving(site, "server.slow_client_s=10", "server.response_channel=1") as running:
        async with running.connect() as slow:
            slow.stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(slow.send_bytes, b"".join(frames(Request(n, Status())) for n in range(count)))
                # Nothing is read before the channel is full and reading has stopped.
                await running.until(lambda _: running.unsent > 0)
                answers = await slow.receive_many(count)
            assert [answer.request_id for answer in answers] == list(range(count))
        await running.unharmed()


async def test_what_is_outstanding_is_limited_and_what_is_beyond_is_told_so(site: Site) -> None:
    limit, count = 100, 2000
    async with serving(site, ONE_AT_A_TIME, f"server.max_requests_per_connection={limit}") as running:
        async with running.connect() as holder, running.connect() as greedy:
            held = await holder.hold(copies=2)
            lock = Notify(device_of(site, held[0]), NotifyOperation.DEVICE_LOCK)
            await greedy.send(*[Request(n, write()) for n in range(count)], Request(count, lock))
            beyond = await greedy.receive_many(count + 1 - limit)
            assert {answer.request_id for answer in beyond} == set(range(limit, count + 1))
            assert {body for answer in beyond if isinstance(body := answer.body, Failed)} == {
                Failed(-errno.EBUSY, RequestKind.WRITE),
                Failed(-errno.EBUSY, RequestKind.NOTIFY),
            }
            await greedy.ask(Ping(), Pong)
            # Somebody else's are not counted with them, and a release is always read.
            async with running.connect() as other:
                await other.send(Request(1, write()))
                await running.until(lambda family: family["queued"]["write"] == limit + 1)
            await running.until(lambda family: family["queued"]["write"] == limit)
            await greedy.hang_up()
            await running.until(lambda family: family["queued"]["write"] == 0)
            await holder.ask(release(*held), Released)
            running.count(*held)
        await running.unharmed()


async def test_two_thousand_allocations_on_one_connection_are_all_granted(site: Site) -> None:
    count = 2000
    async with serving(site, "server.max_requests_per_connection=2000") as running, running.connect() as greedy:
        await greedy.send(*[Request(n, write(1)) for n in range(count)])
        seen = []
        for _ in range(count):
            answer = await greedy.receive()
            seen.append(answer.request_id)
            await greedy.send(Request(0, release(*media_of(answer.body), to_sync=False)))
        assert sorted(seen) == list(range(count))
        await running.unharmed()


async def test_connections_that_come_and_go_leave_nothing(site: Site) -> None:
    async with serving(site, ONE_AT_A_TIME) as running:
        descriptors = open_descriptors()
        for number in range(300):
            async with running.connect() as hasty:
                if number % 3:
                    await hasty.send(Request(number, write(copies=2)), Request(0, read(*site.media)))
                if number % 3 == 2:
                    await hasty.send_bytes(PING[:3])
                await hasty.hang_up()
        await running.unharmed()
        await running.until(lambda _: open_descriptors() <= descriptors + 2)


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


async def test_connections_beyond_the_limit_are_closed_until_one_ends(site: Site) -> None:
    async with serving(site, "server.max_connections=5") as running, AsyncExitStack() as stack:
        # We are the daemon's own user, for whom some more places are kept.
        callers = [await stack.enter_async_context(running.connect()) for _ in range(5 + KEPT_PLACES)]
        for caller in callers:
            await caller.ask(Ping(), Pong)
        async with running.connect() as refused:
            assert await refused.rest() == []
        (medium,) = await callers[0].hold()
        await callers[0].ask(release(medium), Released)
        running.count(medium)
        for caller in callers[1:]:
            await caller.hang_up()
        await running.unharmed()


@pytest.mark.note("2.2")
async def test_a_burst_of_answers_leaves_in_the_order_in_which_they_were_given(site: Site) -> None:
    async with serving(site) as running, running.connect() as caller:
        requests = [Request(n % 3, (Ping(), Stat(), Status(), Monitor(Family.DIR))[n % 4]) for n in range(200)]
        # However the bytes are cut on their way.
        data = frames(*requests)
        for start in range(0, len(data), 7):
            await caller.send_bytes(data[start : start + 7])
        answers = await caller.receive_many(len(requests))
        # A report is given when it is made; those of one kind are made in the order in which they were asked for.
        for asked, given in ((Ping, Pong), (Stat, Statistics), (Status, StatusReport), (Monitor, Monitored)):
            wanted = [request.id for request in requests if isinstance(request.body, asked)]
            assert [answer.request_id for answer in answers if isinstance(answer.body, given)] == wanted
        await running.unharmed()


# Anything at all.

FRAME = st.builds(lambda id, body: frames(Request(id, body)), st.integers(0, 2**32 - 1), request_bodies)
MANGLED = st.builds(
    lambda frame, place, byte: frame[: place % len(frame)] + bytes([byte]) + frame[place % len(frame) + 1 :],
    FRAME,
    st.integers(0, 1000),
    st.integers(0, 255),
)
PAYLOAD = st.binary(max_size=60).map(encode_frame)
CONNECTION = st.lists(FRAME | MANGLED | PAYLOAD | st.binary(max_size=40), min_size=1, max_size=3).map(b"".join)


@settings(max_examples=25)
@given(connections=st.lists(CONNECTION, min_size=1, max_size=10))
def test_random_bytes_beside_an_honest_client(sites: Sites, connections: list[bytes]) -> None:
    async def attack(site: Site) -> None:
        async with serving(site) as running, trio.open_nursery() as nursery:
            for data in connections:
                nursery.start_soon(send_and_leave, running, data)
            for _ in range(3):
                await running.write_cycle(copies=2)
        # Leaving the block has drained it: the books were checked.

    async def send_and_leave(running: Running, data: bytes) -> None:
        async with running.connect() as hostile:
            await hostile.send_bytes(data)
            await hostile.stream.send_eof()
            await hostile.rest()

    with sites.temporary(2) as site:
        trio.run(attack, site)
