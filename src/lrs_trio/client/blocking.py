"""The blocking client: one caller over one connection."""

from __future__ import annotations

import os
import socket
from collections import deque
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import partial
from itertools import islice
from types import TracebackType
from typing import Any, Self, TypeVar

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
    no_answer,
    parsed,
    read_body,
    release_unwanted,
    write_body,
)
from lrs_trio.errors import LrsError, ProtocolError
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

B = TypeVar("B", bound=RequestBody)


def connect(socket_path: str | os.PathLike[str], *, answers_within: float | None = None) -> Client:
    """A client of the daemon that listens on `socket_path`; close it, or use it in a ``with`` block.

    `answers_within` is how many seconds the daemon may send nothing while it is asked what it answers at once: `ping`,
    the reports, `revoke` and the configuration. Media, formats and notifications take their time, without a limit.

    Raises:
        OSError: nobody listens there, or we may not connect.
    """
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        connection.connect(os.fspath(socket_path))
    except OSError as error:
        connection.close()
        error.filename = os.fspath(socket_path)
        raise
    return Client(connection, os.fspath(socket_path), answers_within)


class Client:
    """Every method raises `LrsError` with the daemon's errno, or another `OSError` if the connection is lost.

    That is `TimeoutError` if the daemon does not give in time what it should answer at once.
    """

    def __init__(self, connection: socket.socket, address: str = "", answers_within: float | None = None) -> None:
        self._connection = connection
        self._address = address
        self._answers_within = answers_within
        self._decoder = FrameDecoder()
        self._received: deque[Response] = deque()
        self._partials: dict[int, Held] = {}
        """What the partial releases that are under way in the daemon are of."""
        self._last_id = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, type_: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Leave. What is still held is taken back by the daemon, and not counted."""
        self._connection.close()

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
    ) -> AbstractContextManager[Allocation]:
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
    ) -> AbstractContextManager[Allocation]:
        """Hold `n_required` of `media`, preferred in their order, while the block lasts."""
        return self._hold(read_body(media, n_required, operation), qos=qos, priority=priority)

    def delete(self, media: Sequence[ResourceId]) -> AbstractContextManager[Allocation]:
        """Hold all of `media` to delete from; tell with `HeldMedium.deleted` what is gone."""
        return self._hold(read_body(media, len(media), ReadOperation.DELETE), deletes=True)

    # Administration.

    def format(
        self, medium: ResourceId, *, fs_type: FsType = FsType.POSIX, unlock: bool = False, force: bool = False
    ) -> None:
        self.request(Format(medium, fs_type, unlock, force))

    def format_all(
        self,
        media: Iterable[ResourceId],
        *,
        fs_type: FsType = FsType.POSIX,
        unlock: bool = False,
        force: bool = False,
        at_once: int = 0,
    ) -> Iterator[tuple[ResourceId, LrsError | None]]:
        """Format many media; give each as soon as it is done, with the error if it was refused.

        `at_once` is how many the daemon may work on, 0 for all; it refuses more than its settings allow to a client.
        """
        bodies = (Format(medium, fs_type, unlock, force) for medium in media)
        for body, answer in self.request_all(bodies, at_once=at_once):
            yield body.medium, answer if isinstance(answer, LrsError) else None

    def notify(self, operation: NotifyOperation, resource: ResourceId, *, wait: bool = True) -> None:
        """Tell the daemon that `resource` has changed in the DSS; `wait` until it has acted on it."""
        body = Notify(resource, operation, wait)
        if wait:
            self.request(body)
        else:
            self.send(body)

    def ping(self) -> None:
        self._ask_at_once(Ping())

    def monitor(self, family: Family = Family.DIR) -> list[dict[str, Any]]:
        answer: list[dict[str, Any]] = parsed(expect(self._ask_at_once(Monitor(family)), Monitored).status)
        return answer

    def stats(self, ns: str | None = None, name: str | None = None, tags: str | None = None) -> list[dict[str, Any]]:
        answer: list[dict[str, Any]] = parsed(expect(self._ask_at_once(Stat(ns, name, tags)), Statistics).stats)
        return answer

    def status(self) -> dict[str, Any]:
        answer: dict[str, Any] = parsed(expect(self._ask_at_once(Status()), StatusReport).status)
        return answer

    def revoke(
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
        return list(self.revocation(Revoke(tuple(media), library, client, pid))["revoked"])

    def revocation(self, body: Revoke) -> dict[str, Any]:
        """As `revoke`; the whole answer, in which ``more`` is how many are left because it would be too long."""
        answer: dict[str, Any] = parsed(expect(self._ask_at_once(body), Revoked).revoked)
        return answer

    def configure_get(self, items: Sequence[Mapping[str, str]]) -> list[str]:
        """The values of `items` (section, key), "" where nothing is set."""
        return configured_values(self._ask_at_once(configure_body(ConfigureOperation.GET, items)))

    def configure_set(self, items: Sequence[Mapping[str, str]]) -> None:
        """Set `items` (section, key, value) in the running daemon."""
        self._ask_at_once(configure_body(ConfigureOperation.SET, items))

    # Requests.

    def request(self, body: RequestBody, *, qos: int | None = None, priority: int | None = None) -> ResponseBody:
        """Send one request and wait for its response.

        Raises:
            LrsError: the daemon answered with an error.
            OSError: the connection is lost.
        """
        request_id = self._send(body, qos=qos, priority=priority)
        return checked(body, self._receive_one_of({request_id}).body)

    def request_all(self, bodies: Iterable[B], *, at_once: int = 0) -> Iterator[tuple[B, ResponseBody | LrsError]]:
        """Send requests, and give each with its response, or the daemon's error, as the responses come.

        Nothing is sent before something is asked for. At most `at_once` are unanswered at any time, 0 for any number.

        Raises:
            OSError: the connection is lost.
        """
        rest = iter(bodies)
        unanswered: dict[int, B] = {}
        while True:
            for body in islice(rest, at_once - len(unanswered) if at_once else None):
                unanswered[self._send(body)] = body
            if not unanswered:
                return
            response = self._receive_one_of(unanswered)
            body = unanswered.pop(response.request_id)
            try:
                answer: ResponseBody | LrsError = checked(body, response.body)
            except LrsError as error:
                answer = error
            yield body, answer

    def send(self, body: RequestBody) -> None:
        """Send a request that is never answered."""
        self._send(body)

    def sync(self, held: Held) -> None:
        """Have synced what was written on the media of `held` so far."""
        self.settle(held)
        release = held.checkpoint()
        request_id = self._send(release, partial_of=held)
        checked(release, self._receive_one_of({request_id}).body)

    def settle(self, held: Held) -> None:
        """Return when no partial release of `held` is under way: one that an interrupt ended the wait for may be."""
        if held.partial is not None:
            self._receive_one_of({held.partial})

    def end(self, held: Held, last: Callable[[], Release]) -> None:
        """Send the last release of `held`, if that was not done, when the daemon takes it; nobody waits for its answer.

        If a partial one is under way, that is when its answer is received, by whatever is asked for next.
        """
        release = held.end(last)
        if release is not None:
            self.send(release)

    def abandon(self, held: Held, error: BaseException) -> None:
        """Give back what is held after `error`, once no partial release is under way.

        Raises:
            OSError: the connection is lost.
        """
        try:
            if not held.released:
                self.settle(held)
        finally:
            self.end(held, partial(held.abandon, error))

    def _ask_at_once(self, body: RequestBody) -> ResponseBody:
        """The response to a request for which the daemon waits for nothing."""
        if self._answers_within is None:
            return self.request(body)
        self._connection.settimeout(self._answers_within)
        try:
            return self.request(body)
        except TimeoutError as error:
            raise no_answer(self._address, self._answers_within) from error
        finally:
            # Closed, if not even the request went out.
            with suppress(OSError):
                self._connection.settimeout(None)

    def _send(
        self, body: RequestBody, *, qos: int | None = None, priority: int | None = None, partial_of: Held | None = None
    ) -> int:
        self._last_id = next_id(self._last_id)
        frame = encode_frame(encode_request(Request(self._last_id, body, qos, priority)))
        try:
            if partial_of is not None:
                # An interrupt may come while it is sent, or at once after that.
                partial_of.partial = self._last_id
                self._partials[self._last_id] = partial_of
            self._connection.sendall(frame)
        except ConnectionError as error:
            self.close()
            raise connection_lost() from error
        except BaseException:
            # Half a frame may have left: nothing that follows it could be understood.
            self.close()
            raise
        return self._last_id

    def _receive_one_of(self, request_ids: Container[int]) -> Response:
        while (response := self._receive()).request_id not in request_ids:
            # The answer to a request that was given up, perhaps by an interrupt.
            unwanted = release_unwanted(response.body)
            if unwanted is not None:
                self.send(unwanted)
        return response

    def _receive(self) -> Response:
        while not self._received:
            try:
                data = self._connection.recv(READ_SIZE)
            except ConnectionError as error:
                raise connection_lost() from error
            if not data:
                raise connection_lost()
            try:
                self._received.extend(map(decode_response, self._decoder.feed(data)))
            except ProtocolError as error:
                self.close()
                raise connection_lost(error) from error
        # Taken only when that is done: an interrupt in between loses no answer that is waited for later.
        self._settle(self._received[0])
        return self._received.popleft()

    def _settle(self, response: Response) -> None:
        """If that was a partial release, send what has waited for its answer."""
        held = self._partials.get(response.request_id)
        if held is None:
            return
        last = held.answered(response.request_id, response.body)
        del self._partials[response.request_id]
        if last is not None:
            self.send(last)

    @contextmanager
    def _hold(
        self,
        body: RequestBody,
        *,
        deletes: bool = False,
        grouping: str | None = None,
        qos: int | None = None,
        priority: int | None = None,
    ) -> Iterator[Allocation]:
        held = held_by(self.request(body, qos=qos, priority=priority), deletes=deletes, grouping=grouping)
        allocation = Allocation(self, held)
        try:
            yield allocation
        except BaseException as error:
            # If the connection is lost too, the daemon has taken the media back, and `error` says more.
            with suppress(OSError):
                self.abandon(held, error)
            raise
        allocation.release()


class Allocation:
    """Media that are held. `Client.write`, `Client.read` and `Client.delete` make one."""

    def __init__(self, client: Client, held: Held) -> None:
        self._client = client
        self._held = held

    @property
    def media(self) -> tuple[HeldMedium, ...]:
        return self._held.media

    def sync(self) -> None:
        """Return when what was written so far is synced and counted; the media stay held.

        A sync whose wait is interrupted goes on in the daemon, and the next one, or the release, waits for it. What a
        sync that was refused did not count, they count.
        """
        self._client.sync(self._held)

    def release(self) -> None:
        """Give the media back before the block ends; harmless when that is done already."""
        if self._held.released:
            return
        try:
            self._client.settle(self._held)
        except BaseException:
            # Nobody comes back to do it.
            self._client.end(self._held, self._held.finish)
            raise
        if self._held.syncs:
            self._client.request(self._held.finish())
        else:
            self._client.send(self._held.finish())
