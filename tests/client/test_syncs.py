"""Partial releases that are given up, refused, or asked for by many: nothing stays held, nothing is counted twice."""

from __future__ import annotations

import errno
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from lrs_trio.client import blocking
from lrs_trio.client.asynchronous import GIVE_BACK_SECONDS, Client, open_client_on
from lrs_trio.client.common import Held, HeldMedium
from lrs_trio.errors import LrsError
from lrs_trio.model import RequestKind
from lrs_trio.wire.messages import Failed, Release, Released, ReleasedMedium, Request, RequestBody, ResponseBody
from tests.client.samples import A, Script, frame, usual_answer

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

GIVEN_UP = Release((ReleasedMedium(A, -errno.EIO),), RequestKind.RELEASE_WRITE)
"""What leaves a block in which a task was cancelled."""


def reported(size: int, extents: int, *, partial: bool = False) -> Release:
    return Release((ReleasedMedium(A, 0, size, extents, True),), RequestKind.RELEASE_WRITE, partial)


@dataclass(slots=True)
class SlowDaemon:
    """Syncs when it is told to. As the daemon does, it takes no release of what is in one already."""

    refused: list[Release] = field(default_factory=list)
    script: Script = field(init=False)
    _under_way: Request | None = None

    def __post_init__(self) -> None:
        self.script = Script(self._answer)

    def end_sync(self, error: int = 0) -> bytes:
        """What is said when the sync has ended."""
        request, self._under_way = self._under_way, None
        assert request is not None
        body = Failed(-error, RequestKind.RELEASE_WRITE) if error else usual_answer(request.body)
        assert body is not None
        return frame(request.id, body)

    def _answer(self, body: RequestBody) -> ResponseBody | None:
        if not isinstance(body, Release):
            return usual_answer(body)
        if self._under_way is not None:
            self.refused.append(body)
            is_answered = any(element.to_sync for element in body.media)
            return Failed(-errno.EINVAL, body.kind) if is_answered else None
        if any(element.to_sync for element in body.media):
            self._under_way = self.script.requests[-1]
            return None
        return usual_answer(body)


# The client on trio.


@dataclass(slots=True)
class Site:
    client: Client
    daemon: SlowDaemon
    stream: trio.abc.Stream
    """The daemon's end."""

    async def end_sync(self, error: int = 0) -> None:
        await self.stream.send_all(self.daemon.end_sync(error))
        await trio.testing.wait_all_tasks_blocked()

    @property
    def releases(self) -> list[Release]:
        return self.daemon.script.releases


@asynccontextmanager
async def slow_site() -> AsyncIterator[Site]:
    ours, theirs = trio.testing.memory_stream_pair()
    daemon = SlowDaemon()

    async def listen() -> None:
        with suppress(trio.ClosedResourceError):
            while data := await theirs.receive_some():
                if said := daemon.script.hear(bytes(data)):
                    await theirs.send_all(said)

    # A deadline, so that a defect ends a test instead of holding it up.
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(listen)
            async with open_client_on(ours) as client:
                yield Site(client, daemon, theirs)
            await theirs.aclose()
    assert daemon.refused == []


async def test_media_whose_sync_is_cancelled_are_given_back_when_it_has_ended(autojump_clock: MockClock) -> None:
    async with slow_site() as site:
        with trio.move_on_after(1):
            async with site.client.write(100) as allocation:
                allocation.media[0].wrote(40)
                await allocation.sync()
        await trio.testing.wait_all_tasks_blocked()
        assert trio.current_time() < 2, "the task that was cancelled waited for the sync"
        assert site.releases == [reported(40, 1, partial=True)]
        await site.end_sync()
        assert site.releases[1:] == [GIVEN_UP]


async def test_a_client_that_is_closed_in_order_has_given_everything_back(autojump_clock: MockClock) -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    daemon = SlowDaemon()

    async def listen() -> None:
        while data := await theirs.receive_some():
            if said := daemon.script.hear(bytes(data)):
                await theirs.send_all(said)

    async def end_sync_later() -> None:
        await trio.sleep(GIVE_BACK_SECONDS / 2)
        await theirs.send_all(daemon.end_sync())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(listen)
        async with open_client_on(ours) as client:
            with trio.move_on_after(1) as given_up:
                async with client.write(100) as allocation:
                    allocation.media[0].wrote(40)
                    with trio.move_on_after(0.1):
                        await allocation.sync()
                    allocation.media[0].wrote(60)
                    given_up.cancel()
            nursery.start_soon(end_sync_later)
    assert daemon.script.releases == [reported(40, 1, partial=True), reported(60, 1)]


def test_an_answer_that_is_told_twice_counts_once() -> None:
    held = Held((HeldMedium(A, "/srv/a", 0),), RequestKind.RELEASE_WRITE, syncs=True)
    held.media[0].wrote(40)
    first = held.checkpoint()
    held.partial = 1
    answer = Released((A,), RequestKind.RELEASE_WRITE, True)
    assert held.answered(1, answer) is None
    held.media[0].wrote(20)
    held.checkpoint()
    held.partial = 2
    assert held.answered(1, answer) is None
    assert (first, held.finish()) == (reported(40, 1, partial=True), reported(20, 1))


@pytest.mark.parametrize(("error", "left"), [(0, reported(20, 1)), (errno.EIO, reported(60, 2))])
async def test_a_block_that_is_left_in_order_waits_for_the_sync_that_timed_out(
    autojump_clock: MockClock, error: int, left: Release
) -> None:
    async with slow_site() as site, trio.open_nursery() as nursery:

        async def write() -> None:
            async with site.client.write(100) as allocation:
                allocation.media[0].wrote(40)
                with trio.move_on_after(1):
                    await allocation.sync()
                allocation.media[0].wrote(20)
            assert trio.current_time() >= 9

        nursery.start_soon(write)
        await trio.sleep(5)
        await site.end_sync(error)
        assert site.releases == [reported(40, 1, partial=True), left]
        await trio.sleep(5)
        await site.end_sync()


async def test_a_sync_after_one_that_timed_out_waits_for_it(autojump_clock: MockClock) -> None:
    async with slow_site() as site, trio.open_nursery() as nursery:

        async def write() -> None:
            async with site.client.write(100) as allocation:
                for size in (40, 20):
                    allocation.media[0].wrote(size)
                    with trio.move_on_after(1):
                        await allocation.sync()
                await allocation.sync()

        nursery.start_soon(write)
        for _ in range(3):
            await trio.sleep(5)
            await site.end_sync()
    assert site.releases == [reported(40, 1, partial=True), reported(20, 1, partial=True), reported(0, 0)]


async def test_a_task_that_is_cancelled_before_its_turn_to_release_still_has_all_counted(
    autojump_clock: MockClock,
) -> None:
    async with slow_site() as site:
        with trio.move_on_after(2):
            async with site.client.write(100) as allocation:
                allocation.media[0].wrote(40)
                with trio.move_on_after(1):
                    await allocation.sync()
                allocation.media[0].wrote(20)
        assert site.releases == [reported(40, 1, partial=True)]
        await site.end_sync()
        assert site.releases[1:] == [reported(20, 1)]


async def test_nobody_waits_for_a_sync_after_the_connection_is_lost(autojump_clock: MockClock) -> None:
    async with slow_site() as site:

        async def write() -> None:
            async with site.client.write(100) as allocation:
                with trio.move_on_after(1):
                    await allocation.sync()
                await site.stream.aclose()

        with pytest.raises(ConnectionError):
            await write()
    assert site.releases == [reported(0, 0, partial=True)]


async def test_a_sync_that_cannot_be_sent_is_not_waited_for(autojump_clock: MockClock) -> None:
    async with slow_site() as site:

        async def write() -> None:
            async with site.client.write(100) as allocation:
                await site.stream.aclose()
                await trio.testing.wait_all_tasks_blocked()
                with pytest.raises(ConnectionError):
                    await allocation.sync()

        with pytest.raises(ConnectionError):
            await write()
    assert site.releases == []


async def test_tasks_that_sync_one_allocation_take_turns(autojump_clock: MockClock) -> None:
    async with slow_site() as site, trio.open_nursery() as outer:

        async def write() -> None:
            async with site.client.write(1000) as allocation, trio.open_nursery() as nursery:

                async def part(size: int) -> None:
                    await trio.sleep(size)
                    allocation.media[0].wrote(size)
                    await allocation.sync()

                nursery.start_soon(part, 1)
                nursery.start_soon(part, 2)

        outer.start_soon(write)
        for _ in range(3):
            await trio.sleep(5)
            await site.end_sync()
    assert site.releases == [reported(1, 1, partial=True), reported(2, 1, partial=True), reported(0, 0)]


async def test_a_task_that_fails_beside_a_sync_gives_back_when_that_has_ended(autojump_clock: MockClock) -> None:
    async with slow_site() as site, trio.open_nursery() as outside:

        async def write() -> None:
            async with site.client.write(100) as allocation:
                outside.start_soon(allocation.sync)
                await trio.sleep(1)
                raise OSError(errno.EDQUOT, "disk")

        with pytest.raises(OSError, match="disk"):
            await write()
        await trio.testing.wait_all_tasks_blocked()
        assert len(site.releases) == 1
        await site.end_sync()
        assert site.releases[1:] == [Release((ReleasedMedium(A, -errno.EDQUOT),), RequestKind.RELEASE_WRITE)]


async def test_a_block_is_left_when_the_task_that_releases_has_done_so(autojump_clock: MockClock) -> None:
    async with slow_site() as site, trio.open_nursery() as outside:

        async def end_later() -> None:
            await trio.sleep(5)
            await site.end_sync()

        async with site.client.write(100) as allocation:
            outside.start_soon(allocation.release)
            outside.start_soon(end_later)
            await trio.sleep(1)
        assert trio.current_time() >= 5, "left before what was written was synced"
    assert site.releases == [reported(0, 0)]


async def test_a_sync_of_what_was_released_is_an_error(autojump_clock: MockClock) -> None:
    async with slow_site() as site, trio.open_nursery() as outside, site.client.write(100) as allocation:
        outside.start_soon(allocation.release)
        await trio.testing.wait_all_tasks_blocked()
        await site.end_sync()
        with pytest.raises(LrsError, match="dir:legacy:/media/a") as caught:
            await allocation.sync()
        assert caught.value.errno == errno.EINVAL
    assert site.releases == [reported(0, 0)]


# The blocking client.


class GaveUpError(Exception):
    """As the handler of a signal raises it."""


class SlowConnection(socket.socket):
    """Leads to a slow daemon.

    Of `events` one happens whenever the client waits and there is nothing to read: an exception is raised, a number is
    the error with which a sync ends, ``None`` is the end of the connection.
    """

    def __init__(self, *events: Exception | int | None) -> None:
        super().__init__(socket.AF_UNIX)
        self.daemon = SlowDaemon()
        self._events = list(events)
        self._said = b""

    @property
    def releases(self) -> list[Release]:
        return self.daemon.script.releases

    def end_sync(self, error: int = 0) -> None:
        self._said += self.daemon.end_sync(error)

    def sendall(self, data: ReadableBuffer, flags: int = 0, /) -> None:
        self._said += self.daemon.script.hear(bytes(data))

    def recv(self, bufsize: int, flags: int = 0, /) -> bytes:
        if not self._said:
            event = self._events.pop(0)
            if isinstance(event, Exception):
                raise event
            if event is not None:
                self.end_sync(event)
        said, self._said = self._said, b""
        return said


@contextmanager
def slow_connection(*events: Exception | int | None) -> Iterator[tuple[blocking.Client, SlowConnection]]:
    connection = SlowConnection(*events)
    with blocking.Client(connection) as client:
        yield client, connection
    assert connection.daemon.refused == []


def write_and_sync(client: blocking.Client) -> None:
    with client.write(100) as allocation:
        allocation.media[0].wrote(40)
        allocation.sync()


def write_on_after_a_sync(client: blocking.Client, error: type[Exception]) -> None:
    """The sync ends with `error`, which the program takes lightly."""
    with client.write(100) as allocation:
        allocation.media[0].wrote(40)
        with pytest.raises(error):
            allocation.sync()
        allocation.media[0].wrote(20)


def test_media_whose_sync_was_interrupted_are_given_back_when_it_has_ended() -> None:
    with slow_connection(GaveUpError(), 0) as (client, connection):
        with pytest.raises(GaveUpError):
            write_and_sync(client)
        assert connection.releases == [reported(40, 1, partial=True), GIVEN_UP]


def test_media_are_given_back_by_what_is_asked_next_when_the_end_of_the_block_was_interrupted_too() -> None:
    with slow_connection(GaveUpError(), GaveUpError()) as (client, connection):
        with pytest.raises(GaveUpError):
            write_and_sync(client)
        connection.end_sync()
        client.ping()
        assert connection.releases == [reported(40, 1, partial=True), GIVEN_UP]


@pytest.mark.parametrize(("error", "left"), [(0, reported(20, 1)), (errno.EIO, reported(60, 2))])
def test_a_block_that_is_left_in_order_waits_for_the_sync_that_was_interrupted(error: int, left: Release) -> None:
    with slow_connection(GaveUpError(), error, 0) as (client, connection):
        write_on_after_a_sync(client, GaveUpError)
        assert connection.releases == [reported(40, 1, partial=True), left]


def test_a_release_that_is_interrupted_before_its_turn_is_sent_by_what_is_asked_next() -> None:
    with slow_connection(GaveUpError(), GaveUpError()) as (client, connection):
        with pytest.raises(GaveUpError):
            write_on_after_a_sync(client, GaveUpError)
        connection.end_sync()
        client.ping()
        assert connection.releases == [reported(40, 1, partial=True), reported(20, 1)]


def test_a_connection_that_is_lost_while_a_sync_is_waited_for_changes_no_error() -> None:
    with slow_connection(GaveUpError(), None) as (client, connection):
        with pytest.raises(GaveUpError):
            write_and_sync(client)
        assert connection.releases == [reported(40, 1, partial=True)]


def test_what_a_refused_sync_did_not_count_is_left_to_the_release() -> None:
    with slow_connection(errno.EIO, 0) as (client, connection):
        write_on_after_a_sync(client, LrsError)
        assert connection.releases == [reported(40, 1, partial=True), reported(60, 2)]
