"""What happens in the daemon, as records that anybody may watch.

The daemon's parts emit events; statistics, traces and displays subscribe. An event that nobody listens
to is never built. Subscribers are called at once, in the emitter's own step: they must return quickly,
must not raise, and must not change the state of what they watch.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from enum import StrEnum

from lrs_trio.record import record

EVENTS_VERSION = 2
"""Version of the kinds' names and of the fields' meanings, for whoever writes events down."""


class EventKind(StrEnum):
    """What happened. The values are names that last: they may be written to files."""

    REQUEST_RECEIVED = "request.received"
    """`request` names its type; `count` is the media that it asks for, where it asks for some."""
    ALLOCATION_QUEUED = "allocation.queued"
    """A read or write waits to be placed: `serial` tells requests apart, in this and in what follows."""
    ALLOCATION_PLACED = "allocation.placed"
    """Its media and devices are chosen, `detail` names the devices; a later ALLOCATION_QUEUED says that it failed."""
    ALLOCATION_GRANTED = "allocation.granted"
    """The response leaves and the I/O becomes ongoing (note 9)."""
    ALLOCATION_REFUSED = "allocation.refused"
    ALLOCATION_WITHDRAWN = "allocation.withdrawn"
    """The client has gone, or the request was cancelled, before the response left."""

    RELEASE_TO_SYNC = "release.to_sync"
    """One medium of a release that waits for a sync: `size` bytes in `count` extents (note 1)."""
    RELEASE_NO_SYNC = "release.no_sync"
    """One medium of a release that waits for nothing: `size` bytes in `count` extents."""
    RELEASE_BEGUN = "release.begun"
    """A client gives `count` media back and waits for the answer; told before the I/O on them ends. `serial` tells
    releases apart."""
    RELEASE_FINISHED = "release.finished"
    """All media of a release are synced and their books committed; the response leaves. `serial` says which."""
    RELEASE_FAILED = "release.failed"
    """A release is answered with `errno`. `serial` says which."""

    IO_BEGUN = "io.begun"
    """A client may do its I/O on the medium in a device; `request` is READ or WRITE, `serial` the request."""
    IO_ENDED = "io.ended"
    """It has given the medium back, or has gone."""
    GRANT_REVOKED = "grant.revoked"
    """An administrator takes the medium away from the client, just before its I/O ends: as for IO_BEGUN, and `detail`
    names the administrator."""

    SYNC_REQUESTED = "sync.requested"
    """A device takes in one sub-request of a release: `size` bytes in `count` extents."""
    SYNC_STARTED = "sync.started"
    """A physical sync begins; `count` sub-requests wait for it, `detail` is what it was started for."""
    SYNC_FINISHED = "sync.finished"
    """It served `size` bytes in `count` extents; `detail` is its duration in seconds."""
    SYNC_FAILED = "sync.failed"

    LOADED = "medium.loaded"
    LOAD_FAILED = "medium.load_failed"
    UNLOADED = "medium.unloaded"
    UNLOAD_FAILED = "medium.unload_failed"
    MOUNTED = "medium.mounted"
    MOUNT_FAILED = "medium.mount_failed"
    UNMOUNTED = "medium.unmounted"
    UNMOUNT_FAILED = "medium.unmount_failed"
    FORMATTED = "medium.formatted"
    FORMAT_FAILED = "medium.format_failed"

    DEVICE_STATUS = "device.status"
    """A device is now what `detail` says (a value of DeviceStatus)."""
    DEVICE_ADDED = "device.added"
    DEVICE_LOCKED = "device.locked"
    DEVICE_FAILED = "device.failed"
    DEVICE_REMOVED = "device.removed"
    """The last event of a device's life here, however it ended."""

    CONNECTION_OPENED = "connection.opened"
    """`serial` is the number of the connection, in this and in the next two."""
    CONNECTION_CLOSED = "connection.closed"
    PROTOCOL_ERROR = "connection.protocol_error"
    """A peer sent what is not the protocol; `detail` says what."""

    DRAIN_BEGUN = "drain.begun"
    DRAIN_ENDED = "drain.ended"


@record(frozen=True, slots=True)
class Event:
    """One thing that happened; fields that do not apply are empty or 0.

    `time` is in seconds of the hub's clock. `size` is in bytes, negative for deletions. `errno` is
    positive. `family` is a label, `device` and `medium` are names, `request` is a request's type in
    capitals (``WRITE``, ``RELEASE``, ``PING``...), `client` names a connection to a person, `serial` is the
    number of a request (or of a connection, where that is what the event is about), the same in all that is told
    of it.
    """

    time: float
    kind: EventKind
    family: str = ""
    device: str = ""
    medium: str = ""
    request: str = ""
    client: str = ""
    size: int = 0
    count: int = 0
    errno: int = 0
    detail: str = ""
    serial: int = 0


Tally = Callable[[str, str, str, int, int], None]
"""Counts one event: is called with its `family`, `device`, `request`, `size` and `count`."""


class Events:
    """Hands every event to all who subscribed to its kind, in the order of their subscription.

    Whoever only counts is told before them, and without an event: in a daemon that nobody watches, that is all there
    is to do.

    `now` gives the time of an event, in seconds; the daemon passes its only clock. `on_message` is for a recorder,
    and set before the first connection comes: it is called with the number of a connection and each message of it,
    a request that has come or a response that leaves. Without a recorder, nothing is done for it.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self.now = now
        self.on_message: Callable[[int, object], None] | None = None
        self._tallies: dict[EventKind, tuple[Tally, ...]] = dict.fromkeys(EventKind, ())
        self._subscribers: dict[EventKind, tuple[Callable[[Event], None], ...]] = dict.fromkeys(EventKind, ())

    def wants(self, kind: EventKind) -> bool:
        """Whether anybody listens to `kind`: where an event costs something to describe, it is asked first."""
        return bool(self._tallies[kind] or self._subscribers[kind])

    def count(self, tallies: Mapping[EventKind, Tally]) -> Callable[[], None]:
        """Call each of `tallies` for every event of its kind from now on; returns what ends that."""
        for kind, tally in tallies.items():
            self._tallies[kind] += (tally,)

        def stop() -> None:
            for kind, tally in tallies.items():
                self._tallies[kind] = tuple(kept for kept in self._tallies[kind] if kept is not tally)

        return stop

    def subscribe(
        self, callback: Callable[[Event], None], kinds: Collection[EventKind] = tuple(EventKind)
    ) -> Callable[[], None]:
        """Call `callback` with every event of `kinds` from now on; returns what ends that."""

        # Compared by identity: one callback may be subscribed twice, and each ends its own.
        def subscriber(event: Event) -> None:
            callback(event)

        for kind in kinds:
            self._subscribers[kind] += (subscriber,)

        def unsubscribe() -> None:
            for kind in kinds:
                self._subscribers[kind] = tuple(kept for kept in self._subscribers[kind] if kept is not subscriber)

        return unsubscribe

    def emit(
        self,
        kind: EventKind,
        *,
        family: str = "",
        device: str = "",
        medium: str = "",
        request: str = "",
        client: str = "",
        size: int = 0,
        count: int = 0,
        errno: int = 0,
        detail: str = "",
        serial: int = 0,
    ) -> None:
        """Tell those who count, and the subscribers, that `kind` has happened now."""
        for tally in self._tallies[kind]:
            tally(family, device, request, size, count)
        subscribers = self._subscribers[kind]
        if not subscribers:
            return
        event = Event(self.now(), kind, family, device, medium, request, client, size, count, errno, detail, serial)
        for subscriber in subscribers:
            subscriber(event)
