"""One connection of a recorded workload: what is due is sent by one task, what is answered is received by another."""

from __future__ import annotations

import errno
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from heapq import heappop, heappush
from math import inf
from typing import Final

import trio

from lrs_trio.dss.operations import SetDeviceStatus
from lrs_trio.model import AdmStatus, NotifyOperation, RequestKind
from lrs_trio.simulation.host.dss import SimulatedDss
from lrs_trio.simulation.oracles.ledger import Ledger
from lrs_trio.simulation.replay.recorded import Asked, Conversation, Held, Place
from lrs_trio.wire.codec import decode_response, encode_request
from lrs_trio.wire.framing import FrameDecoder, encode_frame
from lrs_trio.wire.messages import (
    Failed,
    Format,
    GrantedMedium,
    Notify,
    ReadAllocation,
    ReadGranted,
    Release,
    ReleasedMedium,
    Request,
    RequestBody,
    Response,
    WriteGranted,
)

READ_SIZE: Final = 64 * 1024

_STATUS: Final = {
    NotifyOperation.DEVICE_LOCK: AdmStatus.LOCKED,
    NotifyOperation.DEVICE_UNLOCK: AdmStatus.UNLOCKED,
}
"""What an administrator has written to the DSS before the daemon was notified."""


@dataclass(slots=True)
class _Grant:
    """A medium that was granted here; `kind` is that of its release. `at_work`: the client may do I/O on it."""

    medium: GrantedMedium
    kind: RequestKind
    at_work: bool = False


class Formats:
    """Those that others wait for, whatever becomes of them."""

    def __init__(self) -> None:
        self._ended: dict[Place, trio.Event] = {}

    def end(self, place: Place) -> None:
        self._of(place).set()

    async def wait(self, place: Place) -> None:
        """Return when that format has been answered, or never will be."""
        await self._of(place).wait()

    def _of(self, place: Place) -> trio.Event:
        return self._ended.setdefault(place, trio.Event())


class ReplayedClient:
    """Plays `conversation` on `stream`, and leaves at the recorded time `end`, or when it has been answered.

    Requests get ids of their own, no two of them the same.
    """

    def __init__(
        self,
        conversation: Conversation,
        end: float,
        stream: trio.abc.Stream,
        ledger: Ledger,
        dss: SimulatedDss,
        formats: Formats,
        name: str,
    ) -> None:
        self.sent: Counter[str] = Counter()
        self.surplus = 0
        self._number = conversation.number
        self._asked = conversation.asked
        self._stream = stream
        self._ledger = ledger
        self._dss = dss
        self._formats = formats
        self._name = name
        # How much later than in the trace everything is here.
        self._shift = trio.current_time() - conversation.opened
        self._leaves_at = end + self._shift
        self._due: list[tuple[float, int]] = []
        """A heap of the requests that only wait for their time."""
        self._needs = {number: needs for number, needs in _needs(self._asked) if needs}
        """By release: the requests that have to be answered before."""
        self._needed_by: dict[int, list[int]] = {}
        self._answered: dict[int, float] = {}
        """When requests were answered here."""
        self._unanswered = {number for number, asked in enumerate(self._asked) if asked.answer is not None}
        """Of those whose answers the client stays for."""
        self._grants: dict[Held, _Grant] = {}
        self._extra: dict[int, Held] = {}
        """Releases that were not recorded, by their numbers."""
        self._cut = False
        self._news = trio.Event()
        for number, asked in enumerate(self._asked):
            if number not in self._needs:
                heappush(self._due, (asked.time + self._shift, number))
            for needed in sorted(self._needs.get(number, ())):
                self._needed_by.setdefault(needed, []).append(number)

    async def run(self) -> None:
        """Return when the client has left, or was sent away."""
        async with self._stream:
            try:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._receive, name=f"ears of {self._name}")
                    await self._send_what_is_due()
                    nursery.cancel_scope.cancel(reason="the client leaves")
            finally:
                self._stop()

    def finish(self) -> None:
        """Ask for nothing more, and leave when everything is given back."""
        self._leaves_at = trio.current_time()
        due, self._due = self._due, []
        for time, number in due:
            if number in self._extra or isinstance(self._asked[number].request.body, Release):
                heappush(self._due, (time, number))
            else:
                self._settle(number)
        self._news.set()

    def _stop(self) -> None:
        """Do nothing more: neither I/O, nor what others wait for."""
        for grant in self._grants.values():
            self._end_io(grant)
        for number, asked in enumerate(self._asked):
            if isinstance(asked.request.body, Format):
                self._formats.end(Place(self._number, number))

    # What is sent.

    async def _send_what_is_due(self) -> None:
        while not self._cut and (self._due or self._needs or self._unanswered or self._time_is_left):
            self._news = trio.Event()
            with trio.CancelScope(deadline=self._next()):
                await self._news.wait()
            while self._due and self._due[0][0] <= trio.current_time() and not self._cut:
                await self._send(heappop(self._due)[1])

    @property
    def _time_is_left(self) -> bool:
        return trio.current_time() < self._leaves_at

    def _next(self) -> float:
        if self._due:
            return self._due[0][0]
        return self._leaves_at if self._time_is_left else inf

    async def _send(self, number: int) -> None:
        for place in self._asked[number].formats if number < len(self._asked) else ():
            await self._formats.wait(place)
        request = self._request(number)
        if request is None or not _is_answered(request.body):
            self._settle(number)
        if request is None:
            return
        self._act_before(request.body)
        try:
            await self._stream.send_all(encode_frame(encode_request(replace(request, id=number + 1))))
        except trio.BrokenResourceError:
            self._cut = True
        if number in self._extra:
            self.surplus += 1
        else:
            self.sent[type(request.body).__name__] += 1

    def _request(self, number: int) -> Request | None:
        """What is to be sent; ``None`` if it makes no sense here."""
        if number in self._extra:
            held = self._extra[number]
            grant = self._grants.pop(held)
            self._end_io(grant)
            return Request(number, Release((ReleasedMedium(grant.medium.medium),), grant.kind))
        asked = self._asked[number]
        if not isinstance(asked.request.body, Release):
            return asked.request
        elements = tuple(self._elements(asked, asked.request.body))
        if not elements:
            return None
        return replace(asked.request, body=replace(asked.request.body, media=elements))

    def _elements(self, asked: Asked, release: Release) -> Iterator[ReleasedMedium]:
        """What the release gives back here, when the I/O on it is done."""
        here = {grant.medium.medium for grant in self._grants.values()}
        for element, held in zip(release.media, asked.gives_back, strict=True):
            if held is None:
                # A mistake of the client's: to be made again, unless it would be none here.
                if element.medium not in here:
                    yield element
            elif (grant := self._grants.get(held)) is not None:
                if not release.partial:
                    del self._grants[held]
                yield self._do_io(element, grant)

    def _do_io(self, element: ReleasedMedium, grant: _Grant) -> ReleasedMedium:
        """Write or delete what was written or deleted then; what the release says of it here."""
        medium = grant.medium
        done = replace(element, medium=medium.medium)
        try:
            if element.size_written < 0 or element.extents_written < 0:
                self._ledger.deleted(self._name, medium.root, -element.size_written)
            elif element.extents_written:
                self._ledger.wrote(self._name, medium.root, element.size_written)
        except OSError as error:
            done = replace(done, rc=-(error.errno or errno.EIO), size_written=0, extents_written=0)
        self._end_io(grant)
        return done

    def _act_before(self, body: RequestBody) -> None:
        if isinstance(body, Notify) and body.operation in _STATUS:
            self._dss.administer(SetDeviceStatus(body.resource, _STATUS[body.operation]))

    # What is received.

    async def _receive(self) -> None:
        decoder = FrameDecoder()
        try:
            while data := await self._stream.receive_some(READ_SIZE):
                for message in decoder.feed(data):
                    self._take(decode_response(message))
        except trio.BrokenResourceError:
            pass
        self._cut = True
        self._news.set()

    def _take(self, response: Response) -> None:
        number = response.request_id - 1
        if number in self._extra:
            return
        asked = self._asked[number]
        match response.body:
            case WriteGranted(media) | ReadGranted(media):
                for index, medium in enumerate(media):
                    self._take_grant(Held(number, index), medium, asked)
        if isinstance(asked.request.body, Release):
            self._go_on(asked)
        elif isinstance(asked.request.body, Format):
            self._formats.end(Place(self._number, number))
        self._settle(number)
        self._news.set()

    def _settle(self, number: int) -> None:
        """There is an answer to a request, or there will be none: whatever has waited for that may follow."""
        self._unanswered.discard(number)
        self._answered[number] = trio.current_time()
        for release in self._needed_by.pop(number, ()):
            if self._needs[release] <= self._answered.keys():
                heappush(self._due, (self._time_of(release), release))
                del self._needs[release]

    def _take_grant(self, held: Held, medium: GrantedMedium, asked: Asked) -> None:
        is_read = isinstance(asked.request.body, ReadAllocation)
        grant = _Grant(medium, RequestKind.RELEASE_READ if is_read else RequestKind.RELEASE_WRITE)
        self._grants[held] = grant
        self._begin_io(grant)
        if asked.answer is not None and isinstance(asked.answer.body, Failed):
            number = len(self._asked) + len(self._extra)
            self._extra[number] = held
            heappush(self._due, (trio.current_time(), number))

    def _go_on(self, release: Asked) -> None:
        """What was given back only for a sync is the client's again."""
        for held in release.gives_back:
            if held is not None and (grant := self._grants.get(held)) is not None:
                self._begin_io(grant)

    def _time_of(self, release: int) -> float:
        """When it is due: so long after each answer that it needs as it was then."""
        time = self._asked[release].time
        return max(self._answered[needed] + time - _answered_at(self._asked[needed]) for needed in self._needs[release])

    def _begin_io(self, grant: _Grant) -> None:
        if not grant.at_work:
            grant.at_work = True
            self._ledger.begin_io(self._name, grant.medium.root)

    def _end_io(self, grant: _Grant) -> None:
        if grant.at_work:
            grant.at_work = False
            self._ledger.end_io(self._name, grant.medium.root)


def _needs(asked: tuple[Asked, ...]) -> Iterator[tuple[int, frozenset[int]]]:
    """For each release the requests that were answered before: what granted its media, and what kept them last."""
    kept: dict[Held, int] = {}
    for number, release in enumerate(asked):
        gives_back = [held for held in release.gives_back if held is not None]
        granting = {held.request for held in gives_back}
        yield number, frozenset(granting | {kept[held] for held in gives_back if held in kept})
        if release.answer is not None and isinstance(release.request.body, Release) and release.request.body.partial:
            kept.update(dict.fromkeys(gives_back, number))


def _answered_at(asked: Asked) -> float:
    return asked.time if asked.answer is None else asked.answer.time


def _is_answered(body: RequestBody) -> bool:
    return not isinstance(body, Release) or any(element.to_sync for element in body.media)
