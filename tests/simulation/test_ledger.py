"""The ledger finds every breach of the rules by a daemon that is made up here, and none where there is none."""

from __future__ import annotations

import errno
from collections.abc import Awaitable, Callable
from random import Random

import pytest
import trio

from lrs_trio.dss.operations import MediumUpdate, ReleaseLock, UpdateMedia
from lrs_trio.errors import LrsError
from lrs_trio.model import (
    AddressType,
    ConfigureOperation,
    Family,
    FsType,
    LockOwner,
    LockType,
    NotifyOperation,
    RequestKind,
    ResourceId,
)
from lrs_trio.simulation.determinism import Chance, run_seeded
from lrs_trio.simulation.faults import Faults
from lrs_trio.simulation.host.content import Content
from lrs_trio.simulation.host.stream import stream_pair
from lrs_trio.simulation.oracles.books import Counted
from lrs_trio.simulation.oracles.ledger import Ledger
from lrs_trio.simulation.oracles.tap import Tap
from lrs_trio.simulation.trace import Trace
from lrs_trio.simulation.world import Violations, World
from lrs_trio.wire import lrs_pb2 as pb
from lrs_trio.wire.codec import decode_request, encode_request, encode_response
from lrs_trio.wire.framing import FrameDecoder, encode_frame
from lrs_trio.wire.messages import (
    Configure,
    Configured,
    Failed,
    Format,
    Formatted,
    GrantedMedium,
    Monitor,
    Monitored,
    Notified,
    Notify,
    Ping,
    Pong,
    ReadAllocation,
    ReadGranted,
    Release,
    Released,
    ReleasedMedium,
    Request,
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

A, B, C = (ResourceId(Family.DIR, f"/data/{name}", "legacy") for name in "abc")
TAPE = ResourceId(Family.TAPE, "T00001L8", "legacy")
WRITE = RequestKind.RELEASE_WRITE
SIZE = 4096


class Desk:
    """A ledger, and the client and the daemon of one connection, which do what a test says.

    Each medium is found under its name.
    """

    def __init__(self, nursery: trio.Nursery) -> None:
        chance, trace = Chance(1), Trace()
        self.world = World("store1", chance, trace, Faults(chance, {}, trace), Violations(trace), nursery)
        self.contents = {medium.name: Content(10**9) for medium in (A, B, C, TAPE)}
        self.committed: dict[ResourceId, Counted] = {}
        self.ledger = Ledger(self.world, self.contents.get, lambda medium: self.committed.get(medium, Counted()))
        self.connect("client")

    def connect(self, name: str) -> None:
        ours, self.daemon = stream_pair(Random(1))
        self.client = self.ledger.tap(ours, name)
        self.name = name

    @property
    def violations(self) -> list[str]:
        return self.world.violations.found

    async def ask(self, id_: int, body: RequestBody) -> None:
        await self.client.send_all(encode_frame(encode_request(Request(id_, body))))

    async def answer(self, id_: int, body: ResponseBody) -> None:
        """The daemon answers, and the client receives that."""
        await self.daemon.send_all(encode_frame(encode_response(Response(id_, body))))
        await drain(self.client)

    async def exchange(self, body: RequestBody, answer: ResponseBody) -> None:
        await self.ask(1, body)
        await self.answer(1, answer)

    async def hold(self, *media: ResourceId) -> None:
        await self.exchange(write_of(len(media)), granted(*media))

    def write(self, medium: ResourceId, size: int = SIZE) -> None:
        self.ledger.wrote(self.name, medium.name, size)

    def sync(self, *media: ResourceId) -> None:
        for medium in media:
            content = self.contents[medium.name]
            content.end_sync(content.begin_sync())

    def commit(self, *media: ResourceId, objects: int = 1, size: int = SIZE) -> None:
        for medium in media:
            self.committed[medium] = self.committed.get(medium, Counted()) + Counted(objects, size)
            update = MediumUpdate(medium, add_objects=objects, add_logical=size)
            self.ledger.observe(UpdateMedia((update,)), (None,))

    async def release_well(self, *media: ResourceId, partial: bool = False) -> None:
        """Release what was written, and be answered as it should be."""
        await self.ask(2, release_of(*media, partial=partial))
        self.sync(*media)
        self.commit(*media)
        await self.answer(2, Released(media, WRITE, partial))


async def drain(stream: Tap) -> None:
    """Receive what is there."""
    with trio.move_on_after(1):
        while await stream.receive_some():
            pass


def write_of(count: int) -> WriteAllocation:
    return WriteAllocation((WriteMedium(SIZE),) * count, Family.DIR)


def granted(*media: ResourceId) -> WriteGranted:
    return WriteGranted(tuple(map(granted_medium, media)))


def granted_medium(medium: ResourceId) -> GrantedMedium:
    return GrantedMedium(medium, medium.name, FsType.POSIX, AddressType.HASH1)


def read_granted(*media: ResourceId) -> ReadGranted:
    return ReadGranted(tuple(map(granted_medium, media)))


def release_of(
    *media: ResourceId, to_sync: bool = True, partial: bool = False, rc: int = 0, size: int = SIZE, extents: int = 1
) -> Release:
    return Release(tuple(ReleasedMedium(medium, rc, size, extents, to_sync) for medium in media), WRITE, partial)


Story = Callable[[Desk], Awaitable[None]]


def play(story: Story) -> Desk:
    desks: list[Desk] = []

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            desk = Desk(nursery)
            desks.append(desk)
            await story(desk)

    run_seeded(1, main)
    return desks[0]


def check_found(story: Story, *words: str) -> None:
    """The story's only violation is told with these words."""
    found = play(story).violations
    assert len(found) == 1, found
    assert all(word in found[0] for word in words), found


def check_nothing_found(story: Story) -> Desk:
    desk = play(story)
    assert desk.violations == []
    return desk


# An honest daemon.


HONEST: list[tuple[RequestBody, ResponseBody]] = [
    (write_of(2), granted(A, B)),
    (write_of(2), Failed(-errno.ENOSPC, RequestKind.WRITE)),
    (ReadAllocation(1, (A, B)), read_granted(B)),
    (ReadAllocation(1, (A, B)), Failed(-errno.ENODEV, RequestKind.READ)),
    (Format(A, FsType.POSIX), Formatted(A)),
    (Format(A, FsType.POSIX), Failed(-errno.EPERM, RequestKind.FORMAT)),
    (Notify(A, NotifyOperation.MEDIA_UPDATE), Notified(A)),
    (Notify(A, NotifyOperation.MEDIA_UPDATE), Failed(-errno.ENXIO, RequestKind.NOTIFY)),
    (Ping(True), Pong(True)),
    (Monitor(Family.DIR), Monitored("[]")),
    (Monitor(Family.TAPE), Failed(-errno.EINVAL, RequestKind.MONITOR)),
    (Configure(ConfigureOperation.GET, "[]"), Configured("[]")),
    (Configure(ConfigureOperation.GET, "["), Failed(-errno.EINVAL, RequestKind.CONFIGURE)),
    (Stat(), Statistics("[]")),
    (Stat(), Failed(-errno.EMSGSIZE, RequestKind.WRITE)),
    (Status(), StatusReport("{}")),
    (release_of(A), Failed(-errno.EINVAL, WRITE)),
]


@pytest.mark.parametrize(("asked", "answer"), HONEST, ids=str)
def test_a_right_answer(asked: RequestBody, answer: ResponseBody) -> None:
    async def story(desk: Desk) -> None:
        await desk.exchange(asked, answer)

    desk = check_nothing_found(story)
    assert desk.ledger.requests == {type(asked).__name__: 1}
    assert desk.ledger.answers == {type(answer).__name__: 1}
    assert desk.ledger.unanswered() == []


def test_whoever_begins_with_the_grant_of_a_daemon_that_has_gone_is_an_intruder() -> None:
    async def story(desk: Desk) -> None:
        await desk.hold(A, B)
        desk.ledger.begin_io("client", A.name)
        desk.ledger.killed()
        desk.ledger.begin_io("client", B.name)
        counts = [(desk.contents[medium.name].users, desk.contents[medium.name].intruders) for medium in (A, B)]
        assert counts == [(1, 0), (1, 1)]
        for medium in (A, B):
            desk.ledger.end_io("client", medium.name)

    check_nothing_found(story)


def test_a_whole_life_of_a_client() -> None:
    async def story(desk: Desk) -> None:
        await desk.hold(A, B)
        for medium in (A, B):
            desk.ledger.begin_io("client", medium.name)
            desk.write(medium)
            desk.ledger.end_io("client", medium.name)
        await desk.release_well(A, B, partial=True)
        desk.write(A)
        desk.write(B)
        await desk.release_well(A, B)
        await desk.ask(3, ReadAllocation(1, (A, B)))
        await trio.sleep(7)
        await desk.answer(3, read_granted(A))
        await desk.ask(4, Release((ReleasedMedium(A),), RequestKind.RELEASE_READ))
        await desk.ask(5, Notify(A, NotifyOperation.MEDIA_UPDATE, wait=False))
        await desk.client.aclose()

    desk = check_nothing_found(story)
    assert desk.ledger.acknowledged == 2
    assert desk.ledger.requests["Release"] == 3
    assert 7 <= desk.ledger.longest_wait < 10
    assert desk.ledger.books_of(A).acknowledged == Counted(2, 2 * SIZE)
    assert desk.contents[A.name].users == 0


# A client whose grants are revoked does not know it.


def test_nothing_is_expected_of_what_was_revoked() -> None:
    async def story(desk: Desk) -> None:
        await desk.hold(A, B)
        for medium in (A, B):
            desk.write(medium)
        desk.ledger.revoked("client", A.name)
        desk.write(A)
        await desk.ask(2, release_of(A, B))
        await desk.answer(2, Failed(-errno.EINVAL, WRITE))
        # The answer to an allocation may have been on its way.
        await desk.hold(A)
        desk.write(A)
        await desk.ask(3, release_of(A))
        desk.commit(A)
        await desk.answer(3, Released((A,), WRITE))

    check_nothing_found(story)


def test_what_was_not_revoked_is_as_before() -> None:
    async def story(desk: Desk) -> None:
        await desk.hold(A, B)
        desk.write(B)
        desk.ledger.revoked("client", A.name)
        desk.ledger.revoked("nobody", B.name)
        await desk.ask(2, release_of(B))
        desk.commit(B)
        await desk.answer(2, Released((B,), WRITE))

    check_found(story, "is acknowledged", "not durable")


def test_a_release_that_is_refused_for_a_revoked_grant_is_not_counted() -> None:
    async def story(desk: Desk) -> None:
        await desk.hold(A)
        desk.write(A)
        desk.ledger.revoked("client", A.name)
        await desk.ask(2, release_of(A))
        await desk.answer(2, Failed(-errno.EINVAL, WRITE))
        desk.commit(A)

    check_found(story, f"the books of {A} are wrong")


def test_whoever_goes_on_with_what_was_revoked_is_an_intruder() -> None:
    async def story(desk: Desk) -> None:
        await desk.hold(A, B)
        for medium in (A, B):
            desk.ledger.begin_io("client", medium.name)
        desk.ledger.revoked("client", A.name)
        desk.ledger.begin_io("client", A.name)
        counts = [(desk.contents[medium.name].users, desk.contents[medium.name].intruders) for medium in (A, B)]
        assert counts == [(2, 2), (1, 0)]
        for medium in (A, A, B):
            desk.ledger.end_io("client", medium.name)
        counts = [(desk.contents[medium.name].users, desk.contents[medium.name].intruders) for medium in (A, B)]
        assert counts == [(0, 0), (0, 0)]

    check_nothing_found(story)


def test_nothing_is_changed_on_its_way() -> None:
    async def story(desk: Desk) -> None:
        decoder = FrameDecoder()
        sent = encode_frame(encode_request(Request(7, write_of(1))))
        await desk.client.send_all(sent[:5])
        await desk.client.send_all(memoryview(sent)[5:])
        messages: list[bytes] = []
        while not messages:
            messages += decoder.feed(await desk.daemon.receive_some())
        assert decode_request(messages[0]) == Request(7, write_of(1))
        answer = encode_frame(encode_response(Response(7, granted(A))))
        await desk.daemon.send_all(answer)
        await desk.daemon.aclose()
        received = b""
        with pytest.raises(trio.BrokenResourceError):
            # The daemon did not read all that there was.
            await desk.ask(8, Ping())
        while piece := await desk.client.receive_some(10):
            received += piece
        assert received == answer

    check_nothing_found(story)


def test_the_trace_tells_what_passes() -> None:
    async def story(desk: Desk) -> None:
        await desk.hold(A)
        await desk.ask(2, release_of(A, rc=-5))
        await desk.answer(2, Failed(-errno.EIO, WRITE))

    lines = [line.split(" ", 1)[1] for line in check_nothing_found(story).world.trace.last]
    assert lines == [
        "request client=client id=1 what=WriteAllocation dir 4096",
        "answer client=client id=1 what=WriteGranted dir:legacy:/data/a at /data/a",
        "request client=client id=2 what=Release dir:legacy:/data/a+1/+4096 sync rc=-5",
        "answer client=client id=2 what=Failed RELEASE_WRITE EIO",
    ]


# Answers.


WRONG: list[tuple[RequestBody, ResponseBody]] = [
    (write_of(2), granted(A)),
    (write_of(2), granted(A, A)),
    (write_of(1), granted(TAPE)),
    (WriteAllocation((WriteMedium(1),), Family.DIR, library="other"), granted(A)),
    (write_of(1), read_granted(A)),
    (write_of(1), Pong()),
    (write_of(1), Failed(-errno.ENOSPC, RequestKind.READ)),
    (write_of(1), Failed(errno.ENOSPC, RequestKind.WRITE)),
    (write_of(1), Failed(0, RequestKind.WRITE)),
    (ReadAllocation(2, (A, B)), read_granted(A)),
    (ReadAllocation(1, (A, B)), read_granted(C)),
    (ReadAllocation(2, (A, B)), read_granted(A, A)),
    (ReadAllocation(1, (A,)), granted(A)),
    (Format(A, FsType.POSIX), Formatted(B)),
    (Format(A, FsType.POSIX), Notified(A)),
    (Notify(A, NotifyOperation.MEDIA_UPDATE), Notified(B)),
    (Ping(True), Pong(False)),
    (Monitor(Family.DIR), Statistics("[]")),
    (Stat(), Failed(-errno.EMSGSIZE, RequestKind.STAT)),
    (Status(), Monitored("[]")),
]


@pytest.mark.parametrize(("asked", "answer"), WRONG, ids=str)
def test_a_wrong_answer(asked: RequestBody, answer: ResponseBody) -> None:
    async def story(desk: Desk) -> None:
        await desk.exchange(asked, answer)

    check_found(story, "client:", f"{type(asked).__name__} 1")


@pytest.mark.parametrize(
    "answer",
    [
        Released((A, B), RequestKind.RELEASE_READ),
        Released((A, B), WRITE, partial=True),
        Released((B, A), WRITE),
        Released((A,), WRITE),
        Failed(-errno.EIO, RequestKind.RELEASE_READ),
    ],
)
def test_a_wrong_answer_to_a_release(answer: ResponseBody) -> None:
    async def story(desk: Desk) -> None:
        await desk.hold(A, B)
        await desk.ask(2, release_of(A, B))
        desk.commit(A, B)
        await desk.answer(2, answer)

    check_found(story, "client:", "Release 2")


def test_an_answer_comes_twice() -> None:
    async def story(desk: Desk) -> None:
        await desk.exchange(Ping(), Pong())
        await desk.answer(1, Pong())

    check_found(story, "does not wait for an answer")


def test_an_answer_to_what_was_never_asked() -> None:
    async def story(desk: Desk) -> None:
        await desk.ask(1, Ping())
        await desk.answer(2, Pong())

    check_found(story, "does not wait for an answer")


def test_a_release_without_anything_to_sync_is_answered() -> None:
    async def story(desk: Desk) -> None:
        await desk.hold(A)
        await desk.ask(2, release_of(A, to_sync=False))
        await desk.answer(2, Failed(-errno.EINVAL, WRITE))

    check_found(story, "does not wait for an answer")


def test_news_that_nobody_waits_for_is_answered() -> None:
    async def story(desk: Desk) -> None:
        await desk.exchange(Notify(A, NotifyOperation.MEDIA_UPDATE, wait=False), Notified(A))

    check_found(story, "does not wait for an answer")


def test_ids_repeat() -> None:
    async def story(desk: Desk) -> None:
        for _ in range(2):
            await desk.exchange(Ping(), Pong())
        # Also before the first one is answered, in any order.
        await desk.ask(1, Ping(True))
        await desk.ask(1, Monitor(Family.DIR))
        await desk.ask(1, Ping(False))
        assert len(desk.ledger.unanswered()) == 3
        await desk.answer(1, Pong(False))
        await desk.answer(1, Monitored("[]"))
        await desk.answer(1, Pong(True))

    check_nothing_found(story)


def test_what_is_still_owed() -> None:
    async def story(desk: Desk) -> None:
        await desk.hold(A)
        await desk.ask(5, write_of(1))
        await desk.ask(6, release_of(A))
        await desk.ask(7, Notify(A, NotifyOperation.MEDIA_UPDATE, wait=False))
        since = trio.current_time()
        assert desk.ledger.unanswered() == [
            f"client: WriteAllocation 5 since {since:.3f} s",
            f"client: Release 6 since {since:.3f} s",
        ]

    check_nothing_found(story)


@pytest.mark.parametrize("how", ["closes", "is cut off", "daemon ends", "daemon is killed", "power"])
def test_nothing_is_owed_to_who_is_not_connected(how: str) -> None:
    async def story(desk: Desk) -> None:
        await desk.ask(1, Ping())
        match how:
            case "closes":
                await desk.client.aclose()
            case "is cut off":
                desk.daemon.close()
            case "daemon ends":
                desk.ledger.ended()
            case "daemon is killed":
                desk.ledger.killed()
            case "power":
                desk.ledger.power_cut()
        assert desk.ledger.unanswered() == []

    check_nothing_found(story)


def test_what_the_daemon_sent_before_it_left_still_counts() -> None:
    async def story(desk: Desk) -> None:
        await desk.ask(1, Ping())
        await desk.daemon.send_all(encode_frame(encode_response(Response(2, Pong()))))
        desk.daemon.close()
        with pytest.raises(trio.BrokenResourceError):
            await drain(desk.client)

    check_found(story, "does not wait for an answer")


def test_a_daemon_that_does_not_speak_the_protocol() -> None:
    async def story(desk: Desk) -> None:
        await desk.daemon.send_all(encode_frame(b"\xff\xff"))
        await drain(desk.client)

    check_found(story, "has sent what is not the protocol")


# Clients that break the protocol.


@pytest.mark.parametrize(
    "garbage", [b"\0\0\0\0\x0e", encode_frame(b"\xff\xff"), encode_frame(pb.Request(ping=True).SerializeToString())]
)
def test_nothing_is_owed_after_garbage(garbage: bytes) -> None:
    async def story(desk: Desk) -> None:
        await desk.ask(1, Ping())
        await desk.client.send_all(garbage)
        assert desk.ledger.unanswered() == []
        await desk.ask(2, Ping())
        # What was asked before is answered all the same.
        await desk.answer(1, Pong())

    check_nothing_found(story)


def test_a_malformed_request_is_answered_with_einval() -> None:
    request = pb.Request(id=9)
    request.format.force = True

    def story_of(answer: ResponseBody) -> Story:
        async def story(desk: Desk) -> None:
            await desk.client.send_all(encode_frame(request.SerializeToString()))
            assert len(desk.ledger.unanswered()) == 1
            await desk.answer(9, answer)
            assert desk.ledger.unanswered() == []

        return story

    check_nothing_found(story_of(Failed(-errno.EINVAL, RequestKind.FORMAT)))
    check_found(story_of(Failed(-errno.EIO, RequestKind.FORMAT)), "Malformed 9")
    check_found(story_of(Formatted(A)), "Malformed 9")


# Grants.


def test_the_root_shows_nothing() -> None:
    async def story(desk: Desk) -> None:
        del desk.contents[A.name]
        await desk.hold(A)

    check_found(story, f"was granted {A}", "nothing")


def test_the_root_shows_another_medium() -> None:
    async def story(desk: Desk) -> None:
        await desk.hold(A)
        desk.contents[B.name] = desk.contents[A.name]
        await desk.hold(B)

    check_found(story, f"was granted {B}", "another medium")


def test_a_medium_shows_another_content_than_before() -> None:
    async def story(desk: Desk) -> None:
        await desk.hold(A)
        desk.contents[A.name] = Content(10**9)
        await desk.hold(A)

    check_found(story, f"was granted {A}", "another medium")


@pytest.mark.parametrize("act", ["write", "delete", "begin"])
def test_the_medium_goes_away_under_a_client(act: str) -> None:
    async def story(desk: Desk) -> None:
        await desk.hold(A, B)
        desk.contents[A.name] = desk.contents[B.name]
        match act:
            case "write":
                desk.write(A)
            case "delete":
                desk.ledger.deleted("client", A.name, SIZE)
            case "begin":
                desk.ledger.begin_io("client", A.name)

    check_found(story, f"was granted {A}", "another medium")


def test_a_write_to_nowhere_fails() -> None:
    async def story(desk: Desk) -> None:
        await desk.hold(A)
        del desk.contents[A.name]
        with pytest.raises(OSError, match=r"[Ii]nput/output") as raised:
            desk.write(A)
        assert raised.value.errno == errno.EIO

    check_found(story, f"was granted {A}", "nothing")


def test_a_root_may_be_gone_with_the_daemon() -> None:
    async def story(desk: Desk) -> None:
        await desk.hold(A)
        await desk.ask(1, write_of(1))
        await desk.daemon.send_all(encode_frame(encode_response(Response(1, granted(B)))))
        desk.ledger.power_cut()
        desk.contents.clear()
        await drain(desk.client)
        desk.ledger.begin_io("client", A.name)
        with pytest.raises(OSError, match=r"[Ii]nput/output"):
            desk.write(A)
        desk.ledger.end_io("client", A.name)

    check_nothing_found(story)


def test_a_full_medium() -> None:
    async def story(desk: Desk) -> None:
        await desk.hold(A)
        with pytest.raises(OSError, match="No space") as raised:
            desk.write(A, size=10**9 + 1)
        assert raised.value.errno == errno.ENOSPC

    check_nothing_found(story)


# I/O.


def test_io_is_seen_on_the_medium() -> None:
    async def story(desk: Desk) -> None:
        content = desk.contents[A.name]
        await desk.hold(A)
        desk.ledger.begin_io("client", A.name)
        desk.ledger.begin_io("client", A.name)
        assert content.users == 2
        desk.ledger.end_io("client", A.name)
        assert content.users == 1
        desk.write(A)
        desk.ledger.deleted("client", A.name, SIZE)
        assert (content.files, content.used) == (0, 0)
        desk.ledger.end_io("client", A.name)
        assert content.users == 0

    check_nothing_found(story)


def test_the_io_of_before_a_power_cut_ends_with_it() -> None:
    async def story(desk: Desk) -> None:
        content = desk.contents[A.name]
        await desk.hold(A)
        desk.ledger.begin_io("client", A.name)
        content.cut(Random(1))
        desk.ledger.power_cut()
        desk.ledger.begin_io("another one", A.name)
        desk.ledger.end_io("client", A.name)
        assert (content.users, content.intruders) == (1, 1)

    check_nothing_found(story)


# What is acknowledged is durable.


async def write_and_release(desk: Desk) -> None:
    await desk.hold(A, B)
    desk.write(A)
    desk.write(B)
    await desk.ask(2, release_of(A, B))


def test_acknowledged_before_it_is_durable() -> None:
    async def story(desk: Desk) -> None:
        await write_and_release(desk)
        desk.sync(A)
        desk.commit(A, B)
        await desk.answer(2, Released((A, B), WRITE))

    check_found(story, "Release 2 is acknowledged", str(B), "not durable")


def test_acknowledged_although_it_is_lost() -> None:
    async def story(desk: Desk) -> None:
        await write_and_release(desk)
        desk.sync(A)
        content = desk.contents[B.name]
        content.fail_sync(content.begin_sync())
        desk.commit(A, B)
        await desk.answer(2, Released((A, B), WRITE))

    check_found(story, "Release 2 is acknowledged", str(B), "lost")


def test_a_part_is_acknowledged_before_it_is_durable() -> None:
    async def story(desk: Desk) -> None:
        await desk.hold(A)
        desk.write(A)
        await desk.ask(2, release_of(A, partial=True))
        desk.commit(A)
        await desk.answer(2, Released((A,), WRITE, partial=True))

    check_found(story, "Release 2 is acknowledged", "not durable")


def test_what_is_written_after_the_release_need_not_be_durable() -> None:
    async def story(desk: Desk) -> None:
        await desk.hold(A)
        desk.write(A)
        await desk.ask(2, release_of(A, partial=True))
        desk.sync(A)
        desk.write(A)
        desk.commit(A)
        await desk.answer(2, Released((A,), WRITE, partial=True))
        desk.ledger.check_books(A)

    check_nothing_found(story)


def test_nobody_could_know_of_a_betrayal() -> None:
    async def story(desk: Desk) -> None:
        await write_and_release(desk)
        for medium in (A, B):
            desk.contents[medium.name].betray(desk.contents[medium.name].begin_sync())
        desk.commit(A, B)
        await desk.answer(2, Released((A, B), WRITE))

    assert check_nothing_found(story).ledger.betrayals == 2


def test_a_file_is_somebody_elses_on_another_connection() -> None:
    async def story(desk: Desk) -> None:
        await desk.hold(A)
        desk.write(A)
        await desk.ask(2, release_of(A))
        desk.sync(A)
        first, server = desk.client, desk.daemon
        desk.connect("another one")
        await desk.hold(A)
        desk.write(A)
        desk.client, desk.daemon, desk.name = first, server, "client"
        desk.commit(A)
        await desk.answer(2, Released((A,), WRITE))

    check_nothing_found(story)


def test_a_release_without_an_answer_vouches_for_nothing() -> None:
    async def story(desk: Desk) -> None:
        await desk.hold(A)
        desk.write(A)
        await desk.ask(2, release_of(A, to_sync=False, rc=-5))
        await desk.hold(A)
        await desk.ask(2, release_of(A))
        desk.commit(A)
        await desk.answer(2, Released((A,), WRITE))

    check_nothing_found(story)


def test_a_release_that_the_client_says_has_failed_is_acknowledged() -> None:
    async def story(desk: Desk) -> None:
        await desk.hold(A)
        await desk.ask(2, release_of(A, rc=-errno.EDQUOT))
        await desk.answer(2, Released((A,), WRITE))

    check_found(story, "Release 2 is acknowledged although the client said")


def test_a_release_of_what_is_not_held_is_acknowledged() -> None:
    async def story(desk: Desk) -> None:
        await desk.hold(A)
        await desk.ask(2, release_of(A))
        await desk.ask(3, release_of(A))
        desk.commit(A)
        await desk.answer(2, Released((A,), WRITE))
        await desk.answer(3, Released((A,), WRITE))

    check_found(story, "Release 3 is acknowledged although", "was not held")


# One connection that holds a medium twice.


async def lose_of_two(desk: Desk) -> None:
    """What was written under two grants on A is lost, and both are released."""
    await desk.hold(A)
    await desk.hold(A)
    desk.write(A)
    content = desk.contents[A.name]
    content.fail_sync(content.begin_sync())
    await desk.ask(2, release_of(A))
    await desk.ask(3, release_of(A))


@pytest.mark.parametrize("order", [(2, 3), (3, 2)])
def test_one_error_is_enough(order: tuple[int, int]) -> None:
    """A grant that began after the failure has nothing to do with it, and which one that is, nobody can tell."""

    async def story(desk: Desk) -> None:
        await lose_of_two(desk)
        for id_ in order:
            if id_ == 3:
                await desk.answer(3, Failed(-errno.EIO, WRITE))
            else:
                desk.commit(A)
                await desk.answer(2, Released((A,), WRITE))

    check_nothing_found(story)


def test_no_error_is_not_enough() -> None:
    async def story(desk: Desk) -> None:
        await lose_of_two(desk)
        for id_ in (2, 3):
            desk.commit(A)
            await desk.answer(id_, Released((A,), WRITE))

    check_found(story, "Release 3 is acknowledged", "lost")


def test_the_other_grant_goes_on() -> None:
    async def story(desk: Desk) -> None:
        await desk.hold(A)
        await desk.hold(A)
        desk.write(A)
        await desk.ask(2, release_of(A, to_sync=False))
        await desk.ask(3, release_of(A))
        desk.commit(A)
        await desk.answer(3, Released((A,), WRITE))

    check_found(story, "Release 3 is acknowledged", "not durable")


# The books.


def test_acknowledged_before_it_is_counted() -> None:
    async def story(desk: Desk) -> None:
        await desk.hold(A)
        await desk.ask(2, release_of(A))
        await desk.answer(2, Released((A,), WRITE))

    check_found(story, f"the books of {A} are wrong", "0 extents are counted; 1 were acknowledged")


def test_counted_twice() -> None:
    async def story(desk: Desk) -> None:
        await desk.hold(A)
        await desk.ask(2, release_of(A))
        desk.commit(A)
        desk.commit(A)

    check_found(story, f"the books of {A} are wrong", "2 extents are counted")


def test_counted_with_another_size() -> None:
    async def story(desk: Desk) -> None:
        await desk.hold(A)
        await desk.ask(2, release_of(A))
        desk.commit(A, size=SIZE + 1)

    check_found(story, f"the books of {A} are wrong", "4097 bytes are counted")


def test_counted_although_refused() -> None:
    async def story(desk: Desk) -> None:
        await desk.hold(A)
        await desk.ask(2, release_of(A))
        desk.commit(A)
        await desk.answer(2, Failed(-errno.EIO, WRITE))

    check_found(story, f"the books of {A} are wrong", "1 extents are counted; 0 were acknowledged")


@pytest.mark.parametrize("number", [errno.ENOENT, errno.ESHUTDOWN])
def test_some_errors_leave_it_open_what_is_counted(number: int) -> None:
    async def story(desk: Desk) -> None:
        await desk.hold(A, B)
        await desk.ask(2, release_of(A, B))
        desk.commit(A)
        await desk.answer(2, Failed(-number, WRITE))
        desk.ledger.check_books(A)
        desk.ledger.check_books(B)

    check_nothing_found(story)


@pytest.mark.parametrize("request_", [release_of(A, to_sync=False), release_of(A, rc=-5)], ids=["silent", "failed"])
def test_counted_although_nothing_was_to_be(request_: Release) -> None:
    async def story(desk: Desk) -> None:
        await desk.hold(A)
        await desk.ask(2, request_)
        desk.commit(A)

    check_found(story, f"the books of {A} are wrong")


def test_a_release_whose_client_has_left_may_be_counted_or_not() -> None:
    async def story(desk: Desk) -> None:
        await desk.hold(A)
        await desk.ask(2, release_of(A))
        await desk.client.aclose()
        desk.ledger.check_books(A)
        desk.commit(A)
        desk.ledger.check_books(A)

    check_nothing_found(story)


def test_deletions_widen_what_is_possible() -> None:
    async def story(desk: Desk) -> None:
        await desk.hold(A)
        await desk.release_well(A)
        await desk.hold(A)
        await desk.ask(2, release_of(A, size=-SIZE, extents=-1))
        desk.ledger.check_books(A)
        desk.commit(A, objects=-1, size=-SIZE)
        await desk.answer(2, Released((A,), WRITE))
        assert desk.violations == []
        desk.commit(A, objects=-1, size=-SIZE)

    check_found(story, "-1 extents are counted; 0 were acknowledged")


def test_a_format_begins_the_books_anew() -> None:
    async def story(desk: Desk) -> None:
        await desk.hold(A)
        await desk.release_well(A)
        await desk.hold(A)
        await desk.ask(3, release_of(A))
        desk.committed[A] = Counted()
        desk.ledger.observe(UpdateMedia((MediumUpdate(A, set_objects=0, set_logical=0),)), (None,))
        desk.ledger.check_books(A)
        # The answer to what was released before has been under way.
        await desk.answer(3, Released((A,), WRITE))
        await desk.hold(A)
        await desk.release_well(A)
        assert desk.violations == []
        desk.commit(A)

    check_found(story, "2 extents are counted; 1 were acknowledged, 1 to 1 are possible")


def test_other_operations_do_not_matter() -> None:
    async def story(desk: Desk) -> None:
        await desk.hold(A)
        await desk.release_well(A)
        desk.ledger.observe(ReleaseLock(LockType.MEDIA, A, LockOwner("store1", 1001)), True)
        desk.ledger.observe(UpdateMedia((MediumUpdate(A, set_objects=0),)), LrsError(errno.ENXIO, "unknown"))
        desk.ledger.check_books(A)

    check_nothing_found(story)


@pytest.mark.parametrize("counted", [False, True])
def test_with_the_daemon_ends_all_doubt(counted: bool) -> None:
    async def story(desk: Desk) -> None:
        await desk.hold(A)
        await desk.ask(2, release_of(A))
        if counted:
            desk.commit(A)
        desk.ledger.killed()
        # The answer has been under way.
        if counted:
            await desk.answer(2, Released((A,), WRITE))
        assert desk.violations == []
        desk.commit(A)

    check_found(story, f"the books of {A} are wrong")


def test_a_wrong_count_is_found_when_the_daemon_ends() -> None:
    async def story(desk: Desk) -> None:
        await desk.hold(A)
        await desk.release_well(A)
        desk.committed[A] = Counted()
        desk.ledger.ended()

    check_found(story, "0 extents are counted; 1 were acknowledged")


def test_errors_are_counted_by_their_names() -> None:
    async def story(desk: Desk) -> None:
        for number in (errno.ENOSPC, errno.ENOSPC, 4000):
            await desk.exchange(write_of(1), Failed(-number, RequestKind.WRITE))

    assert check_nothing_found(story).ledger.errors == {"ENOSPC": 2, "errno 4000": 1}


def test_a_name_may_be_used_again() -> None:
    async def story(desk: Desk) -> None:
        await desk.hold(A)
        first = desk.client
        desk.connect("client")
        await desk.ask(1, Ping())
        await first.aclose()
        assert len(desk.ledger.unanswered()) == 1
        await trio.aclose_forcefully(desk.client)
        assert desk.ledger.unanswered() == []

    check_nothing_found(story)
