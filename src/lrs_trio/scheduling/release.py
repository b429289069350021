"""A release: what a client gives back, synced, accounted for and answered once (notes 1, 2.1, 2.5, 4.4)."""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog
import trio

from lrs_trio.devices.departure import Departure
from lrs_trio.devices.grant import Grant, GrantState
from lrs_trio.devices.to_sync import SubRequest, SyncStatus
from lrs_trio.dss.operations import UpdateMedia
from lrs_trio.errors import LrsError, describe
from lrs_trio.events import EventKind, Events
from lrs_trio.model import Medium, RequestKind, ResourceId
from lrs_trio.scheduling.client import Client
from lrs_trio.scheduling.requests import Held
from lrs_trio.wire.messages import Failed, Release, Released, ReleasedMedium, Response, ResponseBody

log = structlog.get_logger()


@dataclass(slots=True, eq=False)
class Part:
    """One medium of the release that waits for a sync: what the notes keep in a release container (2.1)."""

    grant: Grant
    waiting: SubRequest

    @property
    def medium(self) -> ResourceId:
        return self.grant.medium

    def when_settled(self, call: Callable[[], None]) -> None:
        """Call once the sync has ended, well or badly; at once if it has."""
        if self.waiting.status is SyncStatus.TODO:
            self.waiting.on_settled = call
        else:
            call()


class ReleaseRequest:
    """One release of one client.

    `begin` is the state change, done at once when the release is received. If it says so, the syncs of `parts` have to
    be awaited and the `books` written; what comes of that is told to `end`. Releases without a medium to sync are
    never answered, whatever happens (note 1).
    """

    def __init__(self, client: Client, request_id: int, body: Release, events: Events, serial: int = 0) -> None:
        self.client = client
        self.parts: list[Part] = []
        self._serial = serial
        self._request_id = request_id
        self._body = body
        self._events = events
        self._is_to_be_answered = any(element.to_sync for element in body.media)
        self._answered = False

    def begin(self, is_attached: Callable[[ResourceId], bool], groupings: Callable[[ResourceId], bool]) -> bool:
        """Give the grants back and let what was written wait for its sync; ``True`` if any was.

        `is_attached` tells whether a medium is in a device of this host, `groupings` whether its family
        keeps groupings. The first element that is wrong fails the release; the others are still
        released, and nothing of it is synced for this client.
        """
        if self._is_to_be_answered:
            self._tell(EventKind.RELEASE_BEGUN, len(self._body.media))
        error: OSError | None = None
        released: list[tuple[Grant, ReleasedMedium]] = []
        taken: set[Grant] = set()
        for element in self._body.media:
            grant = self.client.holdings.find(element.medium, self._kind_of_grant(), apart_from=taken)
            if grant is None:
                error = error or self._not_held(element.medium, is_attached(element.medium))
                continue
            taken.add(grant)
            revoked = self.client.holdings.was_revoked(grant)
            if not self._body.partial:
                self.client.holdings.remove(grant)
            if revoked:
                error = error or _revoked(element.medium)
                continue
            if element.rc != 0 and element.to_sync:
                error = error or LrsError(abs(element.rc), f"{element.medium}: the client reported an error")
            released.append((grant, element))
        if error is not None:
            log.info("release failed", client=str(self.client), error=describe(error))
        for grant, element in released:
            self._release(grant, element, groupings(element.medium), cancelled=error is not None)
        if error is not None:
            self._fail(error)
        return bool(self.parts)

    async def wait_for_syncs(self) -> None:
        """Return when all parts are synced.

        Raises:
            OSError: one of them cannot be; then nobody waits for the siblings.
        """
        error: OSError | None = None
        try:
            async with trio.open_nursery() as nursery:
                for part in self.parts:
                    nursery.start_soon(_wait_for_sync, part)
        except* OSError as group:
            error = _first(group)
        if error is not None:
            raise error

    def books(self) -> UpdateMedia:
        """Sizes and counts of all media, to be added in one transaction, so that nothing is ever half counted.

        What a partial release has not counted, if one of its media is gone, its client counts once more later on.
        """
        updates = tuple(part.grant.device.figures(part.waiting) for part in self.parts)
        return UpdateMedia(updates, together=self._body.partial)

    def end(self, outcome: Sequence[Medium | None] | OSError) -> None:
        """Answer. `outcome` has the rows of the media after their books were written, or says why they were not.

        What still waits leaves its device's set: the first error cancels the siblings (notes 2.5d, 4.4).
        """
        error = outcome if isinstance(outcome, OSError) else self._note(outcome)
        if error is None:
            self._succeed()
        else:
            self._fail(error)
        for part in self.parts:
            if part.waiting.status is SyncStatus.DONE:
                part.grant.device.release_settled(counted=error is None)
            elif part.waiting.status is SyncStatus.TODO:
                part.grant.device.cancel_release(part.waiting)

    def _note(self, rows: Sequence[Medium | None]) -> LrsError | None:
        for part, row in zip(self.parts, rows, strict=True):
            part.grant.device.medium_changed(row)
        if gone := [str(part.medium) for part, row in zip(self.parts, rows, strict=True) if row is None]:
            return LrsError(errno.ENOENT, f"{', '.join(gone)}: deleted from the DSS while it was written")
        return None

    def _release(self, grant: Grant, element: ReleasedMedium, groupings: bool, *, cancelled: bool) -> None:
        device = grant.device
        waits = element.to_sync and not cancelled
        if self._body.partial:
            if not waits:
                return
            device.move_grant(grant, GrantState.RESERVED)
        else:
            # What no sync of this release will cover may still have been written.
            device.end_grant(grant, dirty=grant.kind is RequestKind.WRITE and not waits)
        if not waits:
            return
        waiting = SubRequest(element.size_written, element.extents_written, element.grouping if groupings else None)
        self.parts.append(Part(grant, waiting))
        device.add_release(waiting, at_once=self._body.partial)

    def _succeed(self) -> None:
        media = tuple(part.medium for part in self.parts)
        self._answer(Released(media, self._body.kind, self._body.partial))

    def _fail(self, error: OSError) -> None:
        if self._is_to_be_answered and not self._answered:
            self._answer(Failed(-(error.errno or errno.EIO), self._body.kind))

    def _answer(self, body: ResponseBody) -> None:
        """Answer once. After a partial release all media are the client's again just before (decision 5)."""
        self._answered = True
        if isinstance(body, Failed):
            self._tell(EventKind.RELEASE_FAILED, len(self.parts), -body.rc)
        else:
            self._tell(EventKind.RELEASE_FINISHED, len(self.parts))
        response = Response(self._request_id, body)
        reserved = tuple(part.grant for part in self.parts if part.grant.state is GrantState.RESERVED)

        def keep() -> None:
            for grant in reserved:
                grant.holder = Held(self.client)

        departure = Departure(self.client.outbox, response, reserved, keep)
        for grant in reserved:
            grant.holder = Held(self.client, departure)
        departure.offer()

    def _tell(self, kind: EventKind, count: int, number: int = 0) -> None:
        if self._events.wants(kind):
            self._events.emit(kind, client=str(self.client), count=count, errno=number, serial=self._serial)

    def _kind_of_grant(self) -> RequestKind:
        reads = (RequestKind.READ, RequestKind.RELEASE_READ)
        return RequestKind.READ if self._body.kind in reads else RequestKind.WRITE

    def _not_held(self, medium: ResourceId, attached: bool) -> LrsError:
        if self.client.holdings.holds(medium):
            return LrsError(errno.EINVAL, f"{medium}: all of it that this connection holds is in a release already")
        if attached:
            return LrsError(errno.EINVAL, f"{medium}: is not held by this connection")
        return LrsError(errno.ENODEV, f"{medium}: is in no device of this host")


def _revoked(medium: ResourceId) -> LrsError:
    return LrsError(errno.EINVAL, f"{medium}: was revoked by an administrator; nothing of it is counted")


async def _wait_for_sync(part: Part) -> None:
    settled = trio.Event()
    part.when_settled(settled.set)
    await settled.wait()
    if part.waiting.error is not None:
        raise part.waiting.error


def _first(group: ExceptionGroup[OSError]) -> OSError:
    error = group.exceptions[0]
    return _first(error) if isinstance(error, ExceptionGroup) else error
