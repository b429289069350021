"""Keeps the daemon's counters by watching its events."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

from lrs_trio.events import Event, EventKind, Events
from lrs_trio.observe.stats import Counter, Stats

REQUESTS = ("READ", "WRITE", "FORMAT", "RELEASE", "NOTIFY", "PING", "MONITOR", "CONFIGURE", "STAT")
"""The types of requests that clients of Phobos know, in the order in which it shows them."""

OWN_REQUESTS = ("STATUS", "REVOKE")

DEVICE_METRICS = (
    "nb_mount",
    "nb_umount",
    "nb_load",
    "nb_unload",
    "nb_format",
    "requested_sync",
    "effective_sync",
    "mount_errors",
    "umount_error",
    "load_errors",
    "unload_errors",
    "format_errors",
    "sync_errors",
    "tosync_count",
    "tosync_size",
    "tosync_extents",
    "total_tosync_size",
    "total_tosync_extents",
)
"""What there is of each device, in the order in which Phobos shows it."""

COUNTED = {
    EventKind.MOUNTED: ("nb_mount",),
    EventKind.MOUNT_FAILED: ("nb_mount", "mount_errors"),
    EventKind.UNMOUNTED: ("nb_umount",),
    EventKind.UNMOUNT_FAILED: ("nb_umount", "umount_error"),
    EventKind.LOADED: ("nb_load",),
    EventKind.LOAD_FAILED: ("nb_load", "load_errors"),
    EventKind.UNLOADED: ("nb_unload",),
    EventKind.UNLOAD_FAILED: ("nb_unload", "unload_errors"),
    EventKind.FORMATTED: ("nb_format",),
    EventKind.FORMAT_FAILED: ("nb_format", "format_errors"),
    EventKind.SYNC_REQUESTED: ("requested_sync",),
    EventKind.SYNC_STARTED: ("effective_sync",),
    EventKind.SYNC_FAILED: ("sync_errors",),
    EventKind.SYNC_FINISHED: (),
    EventKind.DEVICE_ADDED: (),
}
"""What of a device counts one more at each event. An attempt counts however it ends."""


@dataclass(frozen=True, slots=True)
class ToSync:
    """What waits for the next sync of a device: sub-requests, their bytes, their extents."""

    requests: int
    size: int
    extents: int


def follow_events(stats: Stats, events: Events, to_sync: Callable[[str, str], ToSync]) -> Callable[[], None]:
    """Keep the request and device counters of `stats` up to date; returns what ends that.

    A device's metrics appear with its first event and vanish when it is removed. `to_sync` is asked,
    only when the figures are shown, what waits on the device of that family label and that name.
    """
    counting = _Counting(stats, to_sync)
    return events.subscribe(counting.note, counting.kinds)


class _Counting:
    def __init__(self, stats: Stats, to_sync: Callable[[str, str], ToSync]) -> None:
        self._stats = stats
        self._to_sync = to_sync
        self._devices: dict[tuple[str, str], dict[str, Counter]] = {}
        self._requests = {name: stats.counter("req", "count", {"request": name}) for name in REQUESTS}
        release = {"request": "RELEASE"}
        self._to_sync_media = stats.counter("req", "tosync_media_cnt", release)
        self._to_sync_size = stats.counter("req", "tosync_size", release)
        self._to_sync_extents = stats.counter("req", "tosync_extents", release)
        self._no_sync_media = stats.counter("req", "nosync_media_cnt", release)
        self._no_sync_size = stats.counter("req", "nosync_size", release)
        self._media_requested = {
            name: stats.counter("req", "media_requested", {"request": name}) for name in ("READ", "WRITE")
        }
        self._requests |= {name: stats.counter("req", "count", {"request": name}) for name in OWN_REQUESTS}
        self._protocol_errors = stats.counter("conn", "protocol_errors")

        self._counted_by: dict[EventKind, Callable[[Event], None]] = {
            EventKind.REQUEST_RECEIVED: self._note_request,
            EventKind.RELEASE_TO_SYNC: self._note_to_sync,
            EventKind.RELEASE_NO_SYNC: self._note_no_sync,
            EventKind.PROTOCOL_ERROR: lambda event: self._protocol_errors.add(),
            EventKind.DEVICE_REMOVED: self._forget_device,
            **dict.fromkeys(COUNTED, self._note_device),
        }

    @property
    def kinds(self) -> Collection[EventKind]:
        """The kinds of events that change a counter."""
        return self._counted_by.keys()

    def note(self, event: Event) -> None:
        """Count `event`, which is of one of `kinds`."""
        self._counted_by[event.kind](event)

    def _note_request(self, event: Event) -> None:
        self._requests[event.request].add()
        if event.request in self._media_requested:
            self._media_requested[event.request].add(event.count)

    def _note_to_sync(self, event: Event) -> None:
        self._to_sync_media.add()
        self._to_sync_size.add(event.size)
        self._to_sync_extents.add(event.count)

    def _note_no_sync(self, event: Event) -> None:
        self._no_sync_media.add()
        self._no_sync_size.add(event.size)

    def _forget_device(self, event: Event) -> None:
        if self._devices.pop((event.family, event.device), None) is not None:
            self._stats.unregister("dev", {"family": event.family, "device": event.device})

    def _note_device(self, event: Event) -> None:
        counters = self._devices.get((event.family, event.device))
        if counters is None:
            counters = self._devices[event.family, event.device] = self._register(event.family, event.device)
        for name in COUNTED[event.kind]:
            counters[name].add()
        if event.kind is EventKind.SYNC_FINISHED:
            counters["total_tosync_size"].add(event.size)
            counters["total_tosync_extents"].add(event.count)

    def _register(self, family: str, device: str) -> dict[str, Counter]:
        tags = {"family": family, "device": device}
        asked: dict[str, Callable[[], int]] = {
            "tosync_count": lambda: self._to_sync(family, device).requests,
            "tosync_size": lambda: self._to_sync(family, device).size,
            "tosync_extents": lambda: self._to_sync(family, device).extents,
        }
        counters: dict[str, Counter] = {}
        for name in DEVICE_METRICS:
            if name in asked:
                self._stats.computed("dev", name, asked[name], tags)
            else:
                counters[name] = self._stats.counter("dev", name, tags)
        return counters
