"""Keeps the daemon's counters by watching its events."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from lrs_trio.events import EventKind, Events, Tally
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
    return events.count(_Counting(stats, to_sync).tallies)


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

        self.tallies: dict[EventKind, Tally] = {
            EventKind.REQUEST_RECEIVED: self._note_request,
            EventKind.RELEASE_TO_SYNC: self._note_to_sync,
            EventKind.RELEASE_NO_SYNC: self._note_no_sync,
            EventKind.PROTOCOL_ERROR: self._note_protocol_error,
            EventKind.DEVICE_REMOVED: self._forget_device,
            **{kind: partial(self._note_device, names) for kind, names in COUNTED.items()},
            EventKind.SYNC_FINISHED: self._note_synced,
        }
        """What to do at the events that change a counter."""

    def _note_request(self, family: str, device: str, request: str, size: int, count: int) -> None:
        self._requests[request].add()
        if request in self._media_requested:
            self._media_requested[request].add(count)

    def _note_to_sync(self, family: str, device: str, request: str, size: int, count: int) -> None:
        self._to_sync_media.add()
        self._to_sync_size.add(size)
        self._to_sync_extents.add(count)

    def _note_no_sync(self, family: str, device: str, request: str, size: int, count: int) -> None:
        self._no_sync_media.add()
        self._no_sync_size.add(size)

    def _note_protocol_error(self, family: str, device: str, request: str, size: int, count: int) -> None:
        self._protocol_errors.add()

    def _forget_device(self, family: str, device: str, request: str, size: int, count: int) -> None:
        if self._devices.pop((family, device), None) is not None:
            self._stats.unregister("dev", {"family": family, "device": device})

    def _note_device(
        self, names: tuple[str, ...], family: str, device: str, request: str, size: int, count: int
    ) -> None:
        counters = self._devices.get((family, device)) or self._register(family, device)
        for name in names:
            counters[name].add()

    def _note_synced(self, family: str, device: str, request: str, size: int, count: int) -> None:
        counters = self._devices.get((family, device)) or self._register(family, device)
        counters["total_tosync_size"].add(size)
        counters["total_tosync_extents"].add(count)

    def _register(self, family: str, device: str) -> dict[str, Counter]:
        tags = {"family": family, "device": device}
        asked: dict[str, Callable[[], int]] = {
            "tosync_count": lambda: self._to_sync(family, device).requests,
            "tosync_size": lambda: self._to_sync(family, device).size,
            "tosync_extents": lambda: self._to_sync(family, device).extents,
        }
        counters = self._devices[family, device] = {}
        for name in DEVICE_METRICS:
            if name in asked:
                self._stats.computed("dev", name, asked[name], tags)
            else:
                counters[name] = self._stats.counter("dev", name, tags)
        return counters
