"""From a decoded request to whoever answers it."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final, get_args

import structlog
import trio

from lrs_trio.errors import LrsError, describe
from lrs_trio.events import EventKind, Events
from lrs_trio.model import Family, RequestKind, ResourceId, Right
from lrs_trio.observe.stats import Stats, check_filters
from lrs_trio.scheduling.bookkeeper import Bookkeeper
from lrs_trio.scheduling.client import Client
from lrs_trio.scheduling.family import FamilyScheduler
from lrs_trio.scheduling.release import ReleaseRequest
from lrs_trio.scheduling.report import monitor
from lrs_trio.scheduling.requests import Allocation, FamilyRequest, FormatRequest, NotifyRequest, shutting_down
from lrs_trio.scheduling.revocation import revoke
from lrs_trio.server.access import needed_right
from lrs_trio.server.configuration import Configuration, LiveConfiguration
from lrs_trio.server.reports import AS_ASCII, AS_IT_IS, LONGEST_REPORT, Report, Reports, json_pieces
from lrs_trio.wire.messages import (
    Configure,
    Failed,
    Format,
    Monitor,
    Monitored,
    Notify,
    Ping,
    Pong,
    ReadAllocation,
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
    WriteAllocation,
    report_text,
)

log = structlog.get_logger()

REVOKED_VERSION = 1
"""Of the answer to a revocation."""


@dataclass(frozen=True, slots=True)
class Services:
    """What requests are answered from.

    `status` makes the daemon's own report, `configuration` has the values of a Phobos configuration, if there is one.
    """

    families: Mapping[Family, FamilyScheduler]
    bookkeeper: Bookkeeper
    events: Events
    stats: Stats
    status: Callable[[], Mapping[str, object]]
    configuration: Configuration | None = None


class Dispatcher:
    """Answers at once what needs no device, and hands the rest over.

    Everything here returns at once, so a release is always read, however busy the families are.
    """

    def __init__(self, services: Services, max_requests_per_connection: int) -> None:
        self.accepts_releases = True
        """Whether there is still somebody to see to them."""
        self._services = services
        self._limit = max_requests_per_connection
        self._configuration = LiveConfiguration(services.families, services.configuration)
        self._serial = 0
        self._immediate: dict[type, Callable[..., ResponseBody]] = {
            Ping: lambda body: Pong(body.value),
            Configure: self._configuration.answer,
        }
        self.reports = Reports(
            {
                Monitor: Report(
                    self._monitor, Monitored, lambda body: _nothing(self._family(body.family)), RequestKind.MONITOR
                ),
                Stat: Report(self._stat, Statistics, lambda body: check_filters(body.ns, body.name, body.tags)),
                Status: Report(lambda body: json_pieces(services.status(), AS_ASCII), StatusReport, _nothing),
            }
        )

    def dispatch(self, client: Client, request: Request, nursery: trio.Nursery) -> None:
        """Take care of `request`: tasks that end with the client go to `nursery`.

        What is written is accounted for without its writer: releases go to the bookkeeper.
        """
        body = request.body
        self._count(body)
        right = needed_right(body)
        if right is not None and right not in client.rights:
            _forbid(client, request, right)
            return
        immediate = self._immediate.get(type(body))
        if immediate is not None:
            self._answer_at_once(client, request, immediate)
        elif isinstance(body, Release):
            self._release(client, request, body)
        elif isinstance(body, _FOR_A_FAMILY):
            self._submit(client, request, body, nursery)
        elif type(body) in self.reports:
            self._report(client, request)
        elif isinstance(body, Revoke):
            self._answer_at_once(client, request, partial(self._revoke, client))

    def _report(self, client: Client, request: Request) -> None:
        try:
            self.reports.ask(client, request)
        except LrsError as error:
            self._refuse(client, request, error)

    def _refuse(self, client: Client, request: Request, error: LrsError) -> None:
        log.info("request refused", client=str(client), error=describe(error))
        failed = Failed(-(error.errno or errno.EINVAL), _KINDS[type(request.body)])
        client.outbox.respond(Response(request.id, failed))

    def _answer_at_once(self, client: Client, request: Request, answer: Callable[..., ResponseBody]) -> None:
        try:
            body = answer(request.body)
            _check_size(body)
        except LrsError as error:
            self._refuse(client, request, error)
        else:
            client.outbox.respond(Response(request.id, body))

    def _submit(
        self,
        client: Client,
        request: Request,
        body: WriteAllocation | ReadAllocation | Format | Notify,
        nursery: trio.Nursery,
    ) -> None:
        kind = _KINDS[type(body)]
        silent = isinstance(body, Notify) and not body.wait
        try:
            family = self._family(_family_of(body))
            if len(client.waiting) >= self._limit:
                text = f"{client} has {self._limit} requests unanswered already"
                raise LrsError(errno.EBUSY, text)
        except LrsError as error:
            log.info("request refused", client=str(client), request=kind.name.lower(), error=describe(error))
            if not silent:
                client.outbox.respond(Response(request.id, Failed(-(error.errno or errno.EINVAL), kind)))
            return
        pending = self._pending(client, request, body, family)
        if not family.submit(pending):
            nursery.start_soon(family.wait_submit, pending, name=f"hand-over for {client}")

    def _pending(
        self,
        client: Client,
        request: Request,
        body: WriteAllocation | ReadAllocation | Format | Notify,
        family: FamilyScheduler,
    ) -> FamilyRequest:
        self._serial += 1
        now = trio.current_time()
        if isinstance(body, Format):
            return FormatRequest(client, request, body, self._serial, now)
        if isinstance(body, Notify):
            return NotifyRequest(client, request, body, self._serial, now)
        return Allocation(client, request, body, self._serial, now, family.settings.sync.thresholds)

    def _release(self, client: Client, request: Request, body: Release) -> None:
        try:
            self._check_accepts_releases()
        except LrsError as error:
            log.info("release refused", client=str(client), error=describe(error))
            if any(element.to_sync for element in body.media):
                client.outbox.respond(Response(request.id, Failed(-(error.errno or errno.EINVAL), body.kind)))
            return
        self._serial += 1
        release = ReleaseRequest(client, request.id, body, self._services.events, self._serial)
        if release.begin(self._is_attached, self._keeps_groupings):
            self._services.bookkeeper.accept(release)

    def _check_accepts_releases(self) -> None:
        if not self.accepts_releases:
            raise shutting_down()

    def _is_attached(self, medium: ResourceId) -> bool:
        family = self._services.families.get(medium.family)
        return family is not None and family.is_attached(medium)

    def _keeps_groupings(self, medium: ResourceId) -> bool:
        family = self._services.families.get(medium.family)
        return family is not None and family.settings.groupings

    def _family(self, family: Family) -> FamilyScheduler:
        scheduler = self._services.families.get(family)
        if scheduler is None:
            raise LrsError(errno.EINVAL, f"family {family.label} is not served here")
        return scheduler

    def _monitor(self, body: Monitor) -> Iterator[str]:
        return json_pieces(monitor(self._family(body.family)), AS_IT_IS)

    def _stat(self, body: Stat) -> Iterator[str]:
        return json_pieces(self._services.stats.shown(body.ns, body.name, body.tags), AS_IT_IS)

    def _revoke(self, client: Client, body: Revoke) -> Revoked:
        report = revoke(self._services.families.values(), body, client, self._services.events)
        return Revoked(json.dumps({"version": REVOKED_VERSION} | report))

    def _count(self, body: object) -> None:
        """Tell the observers what has arrived."""
        events = self._services.events
        name, media = _counted(body)
        events.emit(EventKind.REQUEST_RECEIVED, request=name, count=media)
        if isinstance(body, Release):
            for element in body.media:
                events.emit(
                    EventKind.RELEASE_TO_SYNC if element.to_sync else EventKind.RELEASE_NO_SYNC,
                    medium=element.medium.name,
                    size=element.size_written,
                    count=element.extents_written,
                )


# A union in place of it would be made anew for each request.
_FOR_A_FAMILY: Final = (WriteAllocation, ReadAllocation, Format, Notify)

_KINDS: dict[type, RequestKind] = {
    WriteAllocation: RequestKind.WRITE,
    ReadAllocation: RequestKind.READ,
    Format: RequestKind.FORMAT,
    Notify: RequestKind.NOTIFY,
    Monitor: RequestKind.MONITOR,
    Configure: RequestKind.CONFIGURE,
    # Of these Phobos does not tell the kind in an error, it leaves 0; our own status has none on the wire.
    Ping: RequestKind.WRITE,
    Stat: RequestKind.WRITE,
    Status: RequestKind.WRITE,
    Revoke: RequestKind.WRITE,
}


def _nothing(_: object) -> None:
    return None


def _forbid(client: Client, request: Request, right: Right) -> None:
    """Refuse what `client` has not the `right` to; whoever waits for no answer gets none."""
    body = request.body
    log.warning(
        "request not permitted",
        client=str(client),
        request=_counted(body)[0].lower(),
        error=f"needs the right {right}; the settings give it by access.users, access.groups or access.everyone",
    )
    kind = body.kind if isinstance(body, Release) else _KINDS[type(body)]
    if not (isinstance(body, Notify) and not body.wait):
        client.outbox.respond(Response(request.id, Failed(-errno.EPERM, kind)))


def _check_size(body: ResponseBody) -> None:
    """See that a report fits into a frame.

    Raises:
        LrsError: EMSGSIZE.
    """
    text = report_text(body)
    if text is not None and (size := len(text.encode())) > LONGEST_REPORT:
        raise LrsError(errno.EMSGSIZE, f"a report of {size} bytes does not fit into a frame; ask for less")


def _counted(body: object) -> tuple[str, int]:
    """The name under which a request is counted, and how many media it asks for."""
    if isinstance(body, WriteAllocation):
        return "WRITE", len(body.media)
    if isinstance(body, ReadAllocation):
        return "READ", body.n_required
    return _NAMES[type(body)], 0


_NAMES: dict[type, str] = {kind: kind.__name__.upper() for kind in get_args(RequestBody)}


def _family_of(body: WriteAllocation | ReadAllocation | Format | Notify) -> Family:
    """The family that `body` is for.

    Raises:
        LrsError: EINVAL if the request contradicts itself.
    """
    if isinstance(body, WriteAllocation):
        if not body.media:
            raise LrsError(errno.EINVAL, "a write of no medium")
        return body.family
    if isinstance(body, Format):
        return body.medium.family
    if isinstance(body, Notify):
        return body.resource.family
    media = body.media
    if len(set(media)) != len(media):
        raise LrsError(errno.EINVAL, "a medium is named twice")
    if not 1 <= body.n_required <= len(media):
        raise LrsError(errno.EINVAL, f"{body.n_required} of {len(media)} media are required")
    if len({medium.family for medium in media}) != 1:
        raise LrsError(errno.EINVAL, "media of several families in one request")
    return media[0].family
