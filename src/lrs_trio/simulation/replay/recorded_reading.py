"""From a trace to the workload that it tells. Pure but for reading the file."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from lrs_trio.errors import LrsError
from lrs_trio.events import EventKind
from lrs_trio.model import RequestKind, ResourceId
from lrs_trio.observe.inventory import InventoryReader
from lrs_trio.observe.tracefile import Line, TraceReader
from lrs_trio.simulation.replay.recorded import Answer, Asked, Conversation, Held, Place, Workload
from lrs_trio.wire import plain
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
    ReadAllocation,
    ReadGranted,
    Release,
    Released,
    Request,
    RequestBody,
    Response,
    ResponseBody,
    Revoke,
    Stat,
    Statistics,
    Status,
    StatusReport,
    WriteAllocation,
    WriteGranted,
)

_ANSWERS: Final[Mapping[type[RequestBody], type[ResponseBody]]] = {
    WriteAllocation: WriteGranted,
    ReadAllocation: ReadGranted,
    Release: Released,
    Format: Formatted,
    Notify: Notified,
    Ping: Pong,
    Monitor: Monitored,
    Configure: Configured,
    Stat: Statistics,
    Status: StatusReport,
}

_RELEASES: Final = frozenset({RequestKind.RELEASE_READ, RequestKind.RELEASE_WRITE})


def read_workload(path: Path) -> Workload:
    """The workload in the trace at `path`. What was no request is left out.

    Raises:
        OSError: the file cannot be read.
        LrsError: EINVAL, it is no trace, one of another version or damaged, or the daemon did not get so far as to be
            asked for anything.
    """
    inventory = InventoryReader()
    with TraceReader(path) as reader:
        begin = last = reader.header.time
        talk = _Talk(begin)
        for line in reader:
            last = max(last, line.time)
            try:
                if not inventory.take(line.values):
                    talk.take(line)
            except ValueError:
                raise reader.bad_line(line.number) from None
    known = inventory.inventory()
    if known is None:
        raise LrsError(errno.EINVAL, f"{path}: has no inventory: the daemon ended before it was ready")
    conversations = tuple(talk.conversations())
    return Workload(known, conversations, last - begin)


class _Talk:
    """All connections, as they come up in the trace."""

    def __init__(self, begin: float) -> None:
        self._begin = begin
        self._connections: dict[int, _Connection] = {}
        self._formats: _Formats = {}

    def take(self, line: Line) -> None:
        """Note what `line` says, if it is about a connection.

        Raises:
            ValueError: it lacks what its kind has.
        """
        time = line.time - self._begin
        match line.kind:
            case EventKind.CONNECTION_OPENED.value:
                self._connection(line.values.get("serial"), time)
            case EventKind.CONNECTION_CLOSED.value:
                self._connection(line.values.get("serial"), time).closed = time
            case plain.REQUEST if "raw" not in line.values:
                self._connection(line.values.get("connection"), time).ask(time, plain.request_of(line.values))
            case plain.RESPONSE:
                self._connection(line.values.get("connection"), time).answer(time, plain.response_of(line.values))

    def conversations(self) -> Iterator[Conversation]:
        for number, connection in self._connections.items():
            yield Conversation(number, connection.opened, connection.closed, tuple(connection.asked))

    def _connection(self, number: object, time: float) -> _Connection:
        if type(number) is not int:
            raise ValueError(f"{number!r} is no connection")
        return self._connections.setdefault(number, _Connection(number, time, self._formats))


@dataclass(slots=True, eq=False)
class _Grant:
    held: Held
    medium: ResourceId
    is_read: bool


_Formats = dict[ResourceId, tuple[float, Place]]
"""By medium: when it was formatted, the last time, and by which request."""


@dataclass(slots=True)
class _Connection:
    number: int
    opened: float
    formats: _Formats
    closed: float | None = None
    asked: list[Asked] = field(default_factory=list)
    _unanswered: list[int] = field(default_factory=list)
    _grants: list[_Grant] = field(default_factory=list)
    """Not given back, oldest first."""

    def ask(self, time: float, request: Request) -> None:
        if isinstance(request.body, Revoke):
            return  # it names connections and processes that a replay does not have
        gives_back = self._give_back(request.body) if isinstance(request.body, Release) else ()
        if _is_to_be_answered(request.body):
            self._unanswered.append(len(self.asked))
        self.asked.append(Asked(time, request, None, gives_back))

    def answer(self, time: float, response: Response) -> None:
        """Clients may use an id for several requests at once: the oldest one to which this can be the answer has it."""
        number = next((number for number in self._unanswered if _answers(self.asked[number].request, response)), None)
        if number is None:
            return
        self._unanswered.remove(number)
        self.asked[number] = replace(
            self.asked[number], answer=Answer(time, response.body), formats=self._formats_before(number, response.body)
        )
        if isinstance(response.body, WriteGranted | ReadGranted):
            is_read = isinstance(response.body, ReadGranted)
            self._grants += [
                _Grant(Held(number, index), granted.medium, is_read)
                for index, granted in enumerate(response.body.media)
            ]
        elif isinstance(response.body, Formatted):
            self.formats[response.body.medium] = time, Place(self.number, number)

    def _formats_before(self, number: int, granted: ResponseBody) -> tuple[Place, ...]:
        if not isinstance(granted, WriteGranted | ReadGranted):
            return ()
        came = self.asked[number].time
        found = [self.formats[held.medium] for held in granted.media if held.medium in self.formats]
        return tuple(place for time, place in found if time <= came)

    def _give_back(self, release: Release) -> tuple[Held | None, ...]:
        """What the daemon takes back for each medium: the oldest grant on it, one of the same kind before any other."""
        is_read = release.kind in (RequestKind.READ, RequestKind.RELEASE_READ)
        taken: list[_Grant | None] = []
        for element in release.media:
            held = [grant for grant in self._grants if grant.medium == element.medium and grant not in taken]
            of_kind = [grant for grant in held if grant.is_read == is_read]
            taken.append(next(iter(of_kind or held), None))
        if not release.partial:
            self._grants = [grant for grant in self._grants if grant not in taken]
        return tuple(None if grant is None else grant.held for grant in taken)


def _is_to_be_answered(body: RequestBody) -> bool:
    match body:
        case Release(media):
            return any(element.to_sync for element in media)
        case Notify(wait=wait):
            return wait
    return True


def _answers(request: Request, response: Response) -> bool:
    if request.id != response.request_id:
        return False
    if isinstance(response.body, Failed):
        return (response.body.kind in _RELEASES) == isinstance(request.body, Release)
    return isinstance(response.body, _ANSWERS[type(request.body)])
