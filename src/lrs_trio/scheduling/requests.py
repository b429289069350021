"""The requests that a family serves, each with its own small state machine.

Every request is answered exactly once, or withdrawn when its client goes.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

from lrs_trio.devices.departure import Departure
from lrs_trio.devices.grant import Grant, GrantState
from lrs_trio.devices.state import FormatJob
from lrs_trio.errors import HostError, LibraryUnreachableError, LrsError
from lrs_trio.model import Medium, RequestKind, ResourceId, SyncThresholds
from lrs_trio.scheduling.client import Client
from lrs_trio.wire.messages import (
    Failed,
    Format,
    Formatted,
    GrantedMedium,
    Notified,
    Notify,
    ReadAllocation,
    ReadGranted,
    Request,
    Response,
    ResponseBody,
    WriteAllocation,
    WriteGranted,
)

if TYPE_CHECKING:
    from lrs_trio.devices.device import DeviceTask


class RequestState(Enum):
    QUEUED = "queued"
    PLANNED = "planned"
    ANSWERED = "answered"
    REFUSED = "refused"
    WITHDRAWN = "withdrawn"


class FamilyRequest:
    """What all requests to a family have in common.

    `serial` gives the order of arrival. `on_end` is called with it once, when it is answered or
    withdrawn; `on_requeue` when it has to be placed anew. There may be very many of them.
    """

    __slots__ = ("answered", "client", "on_end", "on_requeue", "request", "serial", "since", "state")

    kind: RequestKind

    def __init__(self, client: Client, request: Request, serial: int, since: float) -> None:
        self.client = client
        self.request = request
        self.serial = serial
        self.since = since
        self.state = RequestState.QUEUED
        self.answered = 0
        """The errno of its refusal."""
        self.on_end: Callable[[Any], None] = _nothing
        self.on_requeue: Callable[[Any], None] = _nothing
        client.waiting.add(self)

    @property
    def rank(self) -> tuple[int, int, int]:
        """Sorts requests of one kind: higher qos first, then higher priority, then arrival (decision 2)."""
        return -(self.request.qos or 0), -(self.request.priority or 0), self.serial

    @property
    def ended(self) -> bool:
        """Answered, refused or withdrawn: nothing more will be said to the client."""
        return self.state in (RequestState.ANSWERED, RequestState.REFUSED, RequestState.WITHDRAWN)

    def refuse(self, error: OSError) -> None:
        """Answer with an error; nothing happens if the request has ended already."""
        if not self.ended:
            self.answered = error.errno or errno.EIO
            self._give_up(Failed(-self.answered, self.kind))

    def abandon(self) -> None:
        """The daemon ends now: answer, whatever is under way for this request."""
        FamilyRequest.refuse(self, shutting_down())

    def withdraw(self) -> None:
        """The client has gone: leave without an answer."""
        if not self.ended:
            self._give_up(None)

    def _give_up(self, body: Failed | None) -> None:
        if body is not None:
            self.client.outbox.respond(Response(self.request.id, body))
        self._end(RequestState.WITHDRAWN if body is None else RequestState.REFUSED)

    def _answer(self, body: ResponseBody) -> None:
        self.client.outbox.respond(Response(self.request.id, body))
        self._end(RequestState.ANSWERED)

    def _end(self, state: RequestState) -> None:
        self.state = state
        self.client.waiting.discard(self)
        self.on_end(self)


@dataclass(frozen=True, slots=True)
class Choice:
    """One medium of a placement: `reserve` bytes are set aside on it for a write."""

    device: DeviceTask
    medium: Medium
    reserve: int = 0


class Allocation(FamilyRequest):
    """A read or write allocation: all its media or none, one answer (notes 6, 7, 9)."""

    __slots__ = ("_departure", "_thresholds", "absent", "body", "error", "grants", "hoped", "kind")

    def __init__(
        self,
        client: Client,
        request: Request,
        body: WriteAllocation | ReadAllocation,
        serial: int,
        since: float,
        thresholds: SyncThresholds,
    ) -> None:
        super().__init__(client, request, serial, since)
        self.body = body
        self.kind = RequestKind.WRITE if isinstance(body, WriteAllocation) else RequestKind.READ
        self.absent: dict[ResourceId, LrsError] = {}
        """Of the media that are in no device here: why they cannot be had."""
        self.hoped = False
        """Whether devices that wait for other hosts have looked on its behalf whether they still have to."""
        self.error: OSError | None = None
        """What a device has met with on behalf of this request, last."""
        self.grants: tuple[Grant, ...] = ()
        self._thresholds = thresholds
        self._departure: Departure | None = None

    @property
    def media(self) -> tuple[ResourceId, ...]:
        """The media that the client named."""
        return self.body.media if isinstance(self.body, ReadAllocation) else ()

    def place(self, choices: Sequence[Choice]) -> None:
        """Promise every medium in one step; each device then makes its own usable."""
        self.state = RequestState.PLANNED
        grouping = self.body.grouping if isinstance(self.body, WriteAllocation) else None
        self.grants = tuple(
            Grant(choice.device, choice.medium.id, self.kind, self, choice.reserve, grouping, serial=self.serial)
            for choice in choices
        )
        for grant, choice in zip(self.grants, choices, strict=True):
            grant.device.plan(grant, choice.medium)

    def grant_ready(self, grant: Grant) -> None:
        """The last medium to be ready lets the response leave (note 6)."""
        if self._departure is None and all(grant.state is GrantState.READY for grant in self.grants):
            response = Response(self.request.id, self._granted())
            self._departure = Departure(self.client.outbox, response, self.grants, self._departed)
        if self._departure is not None:
            self._departure.offer()

    def grant_failed(self, grant: Grant, error: OSError) -> None:
        """Another medium or device may serve; what was promised on the siblings is given back.

        Not where the library could not be reached, or the host could not even begin: no other device would do better.
        """
        self.error = _failure(error) or self.error
        if isinstance(error, LibraryUnreachableError | HostError):
            self.refuse(error)
        else:
            self.replan()

    def replan(self) -> None:
        """Give every promise back and wait in the queue again, at the old place."""
        if self.state is not RequestState.PLANNED:
            return
        if self._departure is not None:
            self._departure.replace(None)
        self._take_back()
        self.state = RequestState.QUEUED
        self.on_requeue(self)

    def _give_up(self, body: Failed | None) -> None:
        response = None if body is None else Response(self.request.id, body)
        queued = self._departure is not None and self._departure.replace(response)
        self._take_back()
        if response is not None and not queued:
            self.client.outbox.respond(response)
        self._end(RequestState.WITHDRAWN if response is None else RequestState.REFUSED)

    def _take_back(self) -> None:
        grants, self.grants, self._departure = self.grants, (), None
        for grant in grants:
            grant.device.end_grant(grant, dirty=False)

    def _departed(self) -> None:
        for grant in self.grants:
            # From here on the grant is the client's, and so is what the device has to say about it.
            grant.holder = Held(self.client)
            self.client.holdings.add(grant)
        self._end(RequestState.ANSWERED)

    def _granted(self) -> WriteGranted | ReadGranted:
        media = tuple(self._granted_medium(grant) for grant in self.grants)
        if self.kind is RequestKind.WRITE:
            return WriteGranted(media, self._thresholds)
        return ReadGranted(media)

    def _granted_medium(self, grant: Grant) -> GrantedMedium:
        device, medium = grant.device, grant.device.medium
        if medium is None or medium.id != grant.medium:
            raise RuntimeError(f"{grant.medium} is granted but not in {device.id}")
        return GrantedMedium(
            grant.medium,
            device.root,
            medium.fs_type,
            medium.address_type,
            # The own reservation is part of what this client may use.
            avail_size=grant.volume.available + grant.size if self.kind is RequestKind.WRITE else 0,
        )


@dataclass(slots=True)
class Held:
    """Holds a grant whose response has left; what happens to it now is seen at its release."""

    client: Client
    departure: Departure | None = None

    def grant_ready(self, grant: Grant) -> None:
        """A device that excluded I/O is free: a partial release that waited for it may answer."""
        if self.departure is not None:
            self.departure.offer()

    def grant_failed(self, grant: Grant, error: OSError) -> None:
        return None


class FormatRequest(FamilyRequest):
    """A format, done by the device's task (notes 5.1, 5.3)."""

    __slots__ = ("_device", "_job", "absent", "body", "error")

    kind = RequestKind.FORMAT

    def __init__(self, client: Client, request: Request, body: Format, serial: int, since: float) -> None:
        super().__init__(client, request, serial, since)
        self.body = body
        self.absent: dict[ResourceId, LrsError] = {}
        """Says why the medium cannot be had, if it is in no device here."""
        self.error: OSError | None = None
        """What a device has met with on behalf of this request, last."""
        self._device: DeviceTask | None = None
        self._job: FormatJob | None = None

    @property
    def media(self) -> tuple[ResourceId, ...]:
        return (self.body.medium,)

    def place(self, choice: Choice) -> None:
        device = choice.device
        self.state = RequestState.PLANNED
        self._device = device
        self._job = FormatJob(choice.medium, self.body.unlock, self)
        device.plan_format(self._job)

    @property
    def device(self) -> DeviceTask | None:
        return self._device

    def replan(self) -> None:
        """Wait in the queue again, unless the format has begun."""
        if self.state is RequestState.PLANNED and self._take_back():
            self.state = RequestState.QUEUED
            self.on_requeue(self)

    def formatted(self) -> None:
        if not self.ended:
            self._answer(Formatted(self.body.medium))

    def format_failed(self, error: OSError) -> None:
        self._device = None
        self.refuse(error)

    def format_displaced(self, error: OSError) -> None:
        self._device = self._job = None
        self.error = _failure(error) or self.error
        if self.state is RequestState.PLANNED:
            self.state = RequestState.QUEUED
            self.on_requeue(self)

    def refuse(self, error: OSError) -> None:
        if self._take_back():
            super().refuse(error)

    def withdraw(self) -> None:
        self._take_back()
        super().withdraw()

    def _take_back(self) -> bool:
        """``False`` if the device is at it already."""
        if self._device is None or self._job is None:
            return True
        if not self._device.withdraw_format(self._job):
            return False
        self._device = self._job = None
        return True


PlaceableRequest = Allocation | FormatRequest
"""What waits in the family's queue for a device."""


class NotifyRequest(FamilyRequest):
    """News from an administrator; answered only if the client waits for it."""

    __slots__ = ("body",)

    kind = RequestKind.NOTIFY

    def __init__(self, client: Client, request: Request, body: Notify, serial: int, since: float) -> None:
        super().__init__(client, request, serial, since)
        self.body = body

    def withdraw(self) -> None:
        """News stays news: a command that does not wait has gone before its news is taken in."""

    def done(self) -> None:
        if self.ended:
            return
        if self.body.wait:
            self._answer(Notified(self.body.resource))
        else:
            self._end(RequestState.ANSWERED)

    def _give_up(self, body: Failed | None) -> None:
        super()._give_up(body if self.body.wait else None)


_MEANWHILE = frozenset({errno.EALREADY, errno.ENXIO, errno.EAGAIN, errno.ECANCELED, errno.EROFS, errno.ENOSPC})
"""What has become known of a medium since its choice: taken, deleted or changed, given up, write-protected or full."""


def _failure(error: OSError) -> OSError | None:
    """`error` if something has failed; what placement finds now says more than that it was too late."""
    return None if error.errno in _MEANWHILE else error


def shutting_down() -> LrsError:
    return LrsError(errno.ESHUTDOWN, "the daemon is shutting down")


def _nothing(request: object) -> None:
    return None
