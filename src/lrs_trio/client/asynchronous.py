"""The client on trio: many tasks may use one connection at the same time."""

from __future__ import annotations

import errno
import os
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import trio

from lrs_trio.client.common import (
    Held,
    HeldMedium,
    checked,
    configure_body,
    configured_values,
    connection_lost,
    expect,
    held_by,
    next_id,
    parsed,
    read_body,
    release_unwanted,
    write_body,
)
from lrs_trio.errors import ProtocolError
from lrs_trio.model import ConfigureOperation, Family, FsType, NotifyOperation, ReadOperation, ResourceId
from lrs_trio.wire.codec import decode_response, encode_request
from lrs_trio.wire.framing import FrameDecoder, encode_frame
from lrs_trio.wire.messages import (
    Format,
    Monitor,
    Monitored,
    Notify,
    Ping,
    Release,
    Request,
    RequestBody,
    Response,
    ResponseBody,
    Revoke,
    Revoked,
    Stat,
    Statistics,
    Status,
    StatusReport,
)

READ_SIZE = 64 * 1024
GIVE_BACK_SECONDS = 5.0
"""How long the last releases may take to leave when the client is closed."""

FIRST_PAUSE_SECONDS = 0.005
LONGEST_PAUSE_SECONDS = 0.5
"""Between two attempts to connect to a daemon whose backlog is full."""

OUTGOING_CAPACITY = 256
"""Requests that wait for the stream; when it is full the tasks that have one more wait. Releases go behind
them without waiting: there is at most one for each grant."""


@asynccontextmanager
async def open_client(socket_path: str | os.PathLike[str]) -> AsyncIterator[Client]:
    """A client of the daemon that listens on `socket_path`.

    Raises:
        OSError: nobody listens there, or we may not connect.
    """
    stream = await _connect(os.fspath(socket_path))
    async with open_client_on(stream) as client:
        yield client


@asynccontextmanager
async def open_client_on(stream: trio.abc.Stream) -> AsyncIterator[Client]:
    """A client over any stream that leads to a daemon; the stream is closed at the end."""
    outgoing, to_send = trio.open_memory_channel[bytes](OUTGOING_CAPACITY)
    failure: Exception | None = None
    async with stream, trio.open_nursery() as nursery:
        client = Client(outgoing)
        nursery.start_soon(client.send_to, stream, to_send, name="requests to the daemon")
        nursery.start_soon(client.receive_from, stream, name="responses of the daemon")
        try:
            yield client
        except Exception as error:  # noqa: BLE001 raised below: the nursery would wrap it in a group
            failure = error
        # A release that nobody waits for may still be on its way, or wait for the answer to a sync.
        with outgoing, trio.move_on_after(GIVE_BACK_SECONDS):
            await client.all_ended()
            outgoing.close()
            await client.flushed.wait()
        nursery.cancel_scope.cancel(reason="the client is closed")
    if failure is not None:
        raise failure


async def _connect(path: str) -> trio.SocketStream:
    """Connect, also while more clients arrive than the daemon has accepted yet.

    With a full backlog the kernel answers a non-blocking connect at once, which looks as if it were
    under way and had then succeeded; only the missing peer tells. There is nothing to wait for but time.
    """
    pause = FIRST_PAUSE_SECONDS
    while True:
        stream = await trio.open_unix_socket(path)
        try:
            stream.socket.getpeername()
        except OSError as error:
            await trio.aclose_forcefully(stream)
            if error.errno != errno.ENOTCONN:
                raise
        else:
            return stream
        await trio.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE_SECONDS)


@dataclass(slots=True, eq=False)
class _Waiting:
    arrived: trio.Event = field(default_factory=trio.Event)
    response: Response | None = None


@dataclass(slots=True, eq=False)
class _Partial:
    """A partial release that is under way in the daemon, whether or not somebody still waits for it."""

    held: Held
    answered: trio.Event = field(default_factory=trio.Event)


class Client:
    """Every method raises `LrsError` with the daemon's errno, or another `OSError` if the connection is lost.

    A task that is cancelled while it waits for media leaves no trace: the request cannot be taken back,
    so its grant is released as soon as it arrives. In the same way media whose sync is given up are released
    as soon as that is answered.
    """

    def __init__(self, outgoing: trio.MemorySendChannel[bytes]) -> None:
        self._outgoing = outgoing
        self._waiting: dict[int, _Waiting] = {}
        self._partials: dict[int, _Partial] = {}
        self._last_id = 0
        self._lost = False
        self._overflow: deque[bytes] = deque()
        self.flushed = trio.Event()
        self._protocol_error: ProtocolError | None = None

    # Media.

    def write(
        self,
        size: int,
        *,
        copies: int = 1,
        family: Family = Family.DIR,
        tags: Sequence[str] = (),
        library: str | None = None,
        grouping: str | None = None,
        no_split: bool = False,
        empty: bool = False,
        prevent_duplicate: bool = False,
        qos: int | None = None,
        priority: int | None = None,
    ) -> AbstractAsyncContextManager[Allocation]:
        """Hold `copies` different media with room for `size` bytes each, while the block lasts.

        Entering waits for the media. Leaving the block normally releases them and returns when what was
        written is synced and counted; leaving it with an exception releases them uncounted.
        """
        body = write_body(
            size,
            copies=copies,
            family=family,
            tags=tags,
            library=library,
            grouping=grouping,
            no_split=no_split,
            empty=empty,
            prevent_duplicate=prevent_duplicate,
        )
        return self._hold(body, grouping=grouping, qos=qos, priority=priority)

    def read(
        self,
        media: Sequence[ResourceId],
        *,
        n_required: int = 1,
        operation: ReadOperation = ReadOperation.READ,
        qos: int | None = None,
        priority: int | None = None,
    ) -> AbstractAsyncContextManager[Allocation]:
        """Hold `n_required` of `media`, preferred in their order, while the block lasts."""
        return self._hold(read_body(media, n_required, operation), qos=qos, priority=priority)

    def delete(self, media: Sequence[ResourceId]) -> AbstractAsyncContextManager[Allocation]:
        """Hold all of `media` to delete from; tell with `HeldMedium.deleted` what is gone."""
        return self._hold(read_body(media, len(media), ReadOperation.DELETE), deletes=True)

    # Administration.

    async def format(
        self, medium: ResourceId, *, fs_type: FsType = FsType.POSIX, unlock: bool = False, force: bool = False
    ) -> None:
        await self.request(Format(medium, fs_type, unlock, force))

    async def notify(self, operation: NotifyOperation, resource: ResourceId, *, wait: bool = True) -> None:
        """Tell the daemon that `resource` has changed in the DSS; `wait` until it has acted on it."""
        body = Notify(resource, operation, wait)
        if wait:
            await self.request(body)
        else:
            await self.send(body)

    async def ping(self) -> None:
        await self.request(Ping())

    async def monitor(self, family: Family = Family.DIR) -> list[dict[str, Any]]:
        answer: list[dict[str, Any]] = parsed(expect(await self.request(Monitor(family)), Monitored).status)
        return answer

    async def stats(
        self, ns: str | None = None, name: str | None = None, tags: str | None = None
    ) -> list[dict[str, Any]]:
        answer: list[dict[str, Any]] = parsed(expect(await self.request(Stat(ns, name, tags)), Statistics).stats)
        return answer

    async def status(self) -> dict[str, Any]:
        answer: dict[str, Any] = parsed(expect(await self.request(Status()), StatusReport).status)
        return answer

    async def revoke(
        self,
        media: Iterable[str] = (),
        *,
        library: str | None = None,
        client: int | None = None,
        pid: int | None = None,
    ) -> list[dict[str, Any]]:
        """Take away the grants of which all that is given is true, and return what was taken; ages are seconds.

        `media` are names, `client` is the number of the connection that holds them, `pid` its process. Whoever holds
        them may go on using them, and is told when it releases them.
        """
        body = Revoke(tuple(media), library, client, pid)
        answer: list[dict[str, Any]] = parsed(expect(await self.request(body), Revoked).revoked)["revoked"]
        return answer

    async def configure_get(self, items: Sequence[Mapping[str, str]]) -> list[str]:
        """The values of `items` (section, key), "" where nothing is set."""
        return configured_values(await self.request(configure_body(ConfigureOperation.GET, items)))

    async def configure_set(self, items: Sequence[Mapping[str, str]]) -> None:
        """Set `items` (section, key, value) in the running daemon."""
        await self.request(configure_body(ConfigureOperation.SET, items))

    # Requests.

    async def request(self, body: RequestBody, *, qos: int | None = None, priority: int | None = None) -> ResponseBody:
        """Send one request and wait for its response.

        Raises:
            LrsError: the daemon answered with an error.
            OSError: the connection is lost.
        """
        return await self._ask(body, qos=qos, priority=priority)

    async def sync(self, held: Held) -> None:
        """Have synced what was written on the media of `held` so far; one task at a time."""
        await self.settled(held)
        await self._ask(held.checkpoint(), partial_of=held)

    async def settled(self, held: Held) -> None:
        """Return when no partial release of `held` is under way: one that was given up may be."""
        while held.partial is not None:
            await self._partials[held.partial].answered.wait()

    async def all_ended(self) -> None:
        """Return when no last release waits for a partial one any more."""
        for under_way in tuple(self._partials.values()):
            if under_way.held.waits_to_end:
                await under_way.answered.wait()

    def end(self, held: Held, last: Callable[[], Release]) -> None:
        """Send the last release of `held`, if that was not done, as soon as the daemon takes it; nobody waits."""
        release = held.end(last)
        if release is not None:
            self._abandon(release)

    async def _ask(
        self, body: RequestBody, *, qos: int | None = None, priority: int | None = None, partial_of: Held | None = None
    ) -> ResponseBody:
        request_id = self._last_id = next_id(self._last_id)
        waiting = self._waiting[request_id] = _Waiting()
        try:
            await self._send(Request(request_id, body, qos, priority))
            if partial_of is not None:
                # Not before it is sent: what could not be sent is never answered.
                partial_of.partial = request_id
                self._partials[request_id] = _Partial(partial_of)
            await waiting.arrived.wait()
        except BaseException:
            if waiting.response is not None:
                # Cancelled in the very moment in which the response arrived.
                self._give_back(waiting.response)
            raise
        finally:
            del self._waiting[request_id]
        if waiting.response is None:
            raise connection_lost(self._protocol_error)
        return checked(body, waiting.response.body)

    async def send(self, body: RequestBody) -> None:
        """Send a request that is never answered."""
        self._last_id = next_id(self._last_id)
        await self._send(Request(self._last_id, body))
        await trio.lowlevel.checkpoint()

    async def receive_from(self, stream: trio.abc.Stream) -> None:
        """Hand every response to the task that waits for it, until the daemon closes the stream."""
        decoder = FrameDecoder()
        try:
            while data := await stream.receive_some(READ_SIZE):
                for message in decoder.feed(data):
                    self._hand_out(decode_response(message))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # as if it had been closed in order: nothing more will come
        except ProtocolError as error:
            self._protocol_error = error
        finally:
            self._lost = True
            for request_id in tuple(self._partials):
                # What was to follow is dropped: the daemon takes back everything itself.
                self._settle(request_id, None)
            for waiting in self._waiting.values():
                waiting.arrived.set()

    async def send_to(self, stream: trio.abc.Stream, to_send: trio.MemoryReceiveChannel[bytes]) -> None:
        """Send whole frames only: a cancelled request must not leave half of one on the stream."""
        try:
            with to_send:
                async for frame in to_send:
                    await stream.send_all(frame)
                    while self._overflow:
                        await stream.send_all(self._overflow.popleft())
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # the reader finds out, and tells everybody who waits
        finally:
            self.flushed.set()

    def _hand_out(self, response: Response) -> None:
        last = self._settle(response.request_id, response.body)
        if last is not None:
            self._abandon(last)
        waiting = self._waiting.get(response.request_id)
        if waiting is None:
            self._give_back(response)
        else:
            waiting.response = response
            waiting.arrived.set()

    def _settle(self, request_id: int, body: ResponseBody | None) -> Release | None:
        """If that was a partial release, let go on what waits for it; the last release, if that does."""
        settled = self._partials.pop(request_id, None)
        if settled is None:
            return None
        settled.answered.set()
        return settled.held.answered(request_id, body)

    def _give_back(self, response: Response) -> None:
        """Release a grant that nobody waits for."""
        release = release_unwanted(response.body)
        if release is not None:
            self._abandon(release)

    def _abandon(self, release: Release) -> None:
        """Send a release whose task has been cancelled, or has failed; nothing answers it."""
        self._last_id = next_id(self._last_id)
        # With the connection lost, the daemon has taken everything back already.
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            self._queue(Request(self._last_id, release))

    def _queue(self, request: Request) -> None:
        """Put a request into the channel, or behind all that is in it, without a checkpoint: it may not be lost."""
        frame = encode_frame(encode_request(request))
        try:
            self._outgoing.send_nowait(frame)
        except trio.WouldBlock:
            self._overflow.append(frame)

    async def _send(self, request: Request) -> None:
        if self._lost:
            raise connection_lost(self._protocol_error)
        try:
            if isinstance(request.body, Release):
                # A task that is cancelled already still releases what it holds.
                self._queue(request)
            else:
                await self._outgoing.send(encode_frame(encode_request(request)))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            raise connection_lost(self._protocol_error) from None

    @asynccontextmanager
    async def _hold(
        self,
        body: RequestBody,
        *,
        deletes: bool = False,
        grouping: str | None = None,
        qos: int | None = None,
        priority: int | None = None,
    ) -> AsyncIterator[Allocation]:
        held = held_by(await self.request(body, qos=qos, priority=priority), deletes=deletes, grouping=grouping)
        allocation = Allocation(self, held)
        try:
            yield allocation
        except BaseException as error:
            self.end(held, partial(held.abandon, error))
            raise
        await allocation.release()


class Allocation:
    """Media that are held. `Client.write`, `Client.read` and `Client.delete` make one."""

    def __init__(self, client: Client, held: Held) -> None:
        self._client = client
        self._held = held
        self._turn = trio.Lock()
        """The daemon takes one release of these media at a time."""

    @property
    def media(self) -> tuple[HeldMedium, ...]:
        return self._held.media

    async def sync(self) -> None:
        """Return when what was written so far is synced and counted; the media stay held.

        A sync that is given up goes on in the daemon, and the next one, or the release, waits for it. What a sync that
        was refused did not count, they count.
        """
        async with self._turn:
            await self._client.sync(self._held)

    async def release(self) -> None:
        """Give the media back before the block ends; harmless when that is done already."""
        try:
            async with self._turn:
                await self._client.settled(self._held)
                await self._finish()
        except BaseException:
            # A task that is cancelled before its turn comes still releases what it holds.
            self._client.end(self._held, self._held.finish)
            raise

    async def _finish(self) -> None:
        if self._held.released:
            return
        if self._held.syncs:
            await self._client.request(self._held.finish())
        else:
            await self._client.send(self._held.finish())
