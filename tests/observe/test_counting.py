from __future__ import annotations

import json

import pytest

from lrs_trio.events import EventKind, Events
from lrs_trio.observe.counting import OWN_REQUESTS, REQUESTS, ToSync, follow_events
from lrs_trio.observe.stats import Stats
from lrs_trio.wire.messages import RequestBody

FAMILY, DEVICE = "dir", "host1:/data/d1"


class Watched:
    def __init__(self) -> None:
        self.stats = Stats()
        self.events = Events(lambda: 0.0)
        self.waiting = ToSync(0, 0, 0)
        self.stop = follow_events(self.stats, self.events, lambda family, device: self.waiting)

    def value(self, name: str, tags: str) -> int:
        ns, _, metric = name.partition(".")
        (entry,) = json.loads(self.stats.dump(ns, metric, tags))
        value = entry["value"]
        assert isinstance(value, int)
        return value

    def device(self, name: str) -> int:
        return self.value(f"dev.{name}", f"family={FAMILY},device={DEVICE}")

    def emit(self, kind: EventKind, *, size: int = 0, count: int = 0, device: str = DEVICE) -> None:
        self.events.emit(kind, family=FAMILY, device=device, size=size, count=count)


@pytest.fixture
def watched() -> Watched:
    return Watched()


def test_every_request_has_a_counter() -> None:
    names = {kind.__name__.upper().removesuffix("ALLOCATION") for kind in RequestBody.__args__}
    assert names == {*REQUESTS, *OWN_REQUESTS}


def test_all_request_counters_are_there_from_the_start(watched: Watched) -> None:
    names = [
        (entry["name"], entry["tags"])
        for entry in json.loads(watched.stats.dump("req"))
        if not any(own in entry["tags"] for own in OWN_REQUESTS)
    ]
    kinds = ("READ", "WRITE", "FORMAT", "RELEASE", "NOTIFY", "PING", "MONITOR", "CONFIGURE", "STAT")
    assert names == [
        *(("req.count", f"request={kind}") for kind in kinds),
        *(
            (f"req.{name}", "request=RELEASE")
            for name in ("tosync_media_cnt", "tosync_size", "tosync_extents", "nosync_media_cnt", "nosync_size")
        ),
        ("req.media_requested", "request=READ"),
        ("req.media_requested", "request=WRITE"),
    ]


def test_requests_and_the_media_they_ask_for(watched: Watched) -> None:
    watched.events.emit(EventKind.REQUEST_RECEIVED, request="WRITE", count=2)
    watched.events.emit(EventKind.REQUEST_RECEIVED, request="WRITE", count=1)
    watched.events.emit(EventKind.REQUEST_RECEIVED, request="PING")
    assert watched.value("req.count", "request=WRITE") == 2
    assert watched.value("req.media_requested", "request=WRITE") == 3
    assert watched.value("req.media_requested", "request=READ") == 0
    assert watched.value("req.count", "request=PING") == 1


@pytest.mark.note("1")
def test_releases_with_and_without_sync(watched: Watched) -> None:
    watched.events.emit(EventKind.RELEASE_TO_SYNC, medium="a", size=100, count=1)
    watched.events.emit(EventKind.RELEASE_TO_SYNC, medium="b", size=0, count=1)
    watched.events.emit(EventKind.RELEASE_NO_SYNC, medium="c", size=7, count=1)
    release = "request=RELEASE"
    assert watched.value("req.tosync_media_cnt", release) == 2
    assert watched.value("req.tosync_size", release) == 100
    assert watched.value("req.tosync_extents", release) == 2
    assert watched.value("req.nosync_media_cnt", release) == 1
    assert watched.value("req.nosync_size", release) == 7


@pytest.mark.parametrize(
    ("kind", "attempts", "errors"),
    [
        (EventKind.MOUNTED, "nb_mount", None),
        (EventKind.MOUNT_FAILED, "nb_mount", "mount_errors"),
        (EventKind.UNMOUNTED, "nb_umount", None),
        (EventKind.UNMOUNT_FAILED, "nb_umount", "umount_error"),
        (EventKind.LOADED, "nb_load", None),
        (EventKind.LOAD_FAILED, "nb_load", "load_errors"),
        (EventKind.UNLOADED, "nb_unload", None),
        (EventKind.UNLOAD_FAILED, "nb_unload", "unload_errors"),
        (EventKind.FORMATTED, "nb_format", None),
        (EventKind.FORMAT_FAILED, "nb_format", "format_errors"),
    ],
)
def test_an_attempt_counts_and_its_failure_too(
    watched: Watched, kind: EventKind, attempts: str, errors: str | None
) -> None:
    watched.emit(kind)
    counted = {entry["name"].removeprefix("dev."): entry["value"] for entry in json.loads(watched.stats.dump("dev"))}
    assert {name for name, value in counted.items() if value} == {attempts, errors} - {None}


@pytest.mark.note("2.5d")
def test_many_requested_syncs_and_one_effective(watched: Watched) -> None:
    for _ in range(3):
        watched.emit(EventKind.SYNC_REQUESTED, size=10, count=1)
    watched.emit(EventKind.SYNC_STARTED, count=3)
    watched.emit(EventKind.SYNC_FINISHED, size=30, count=3)
    watched.emit(EventKind.SYNC_STARTED)
    watched.emit(EventKind.SYNC_FAILED)
    assert watched.device("requested_sync") == 3
    assert watched.device("effective_sync") == 2
    assert watched.device("sync_errors") == 1
    assert watched.device("total_tosync_size") == 30
    assert watched.device("total_tosync_extents") == 3


def test_what_waits_is_asked_when_it_is_shown(watched: Watched) -> None:
    watched.emit(EventKind.DEVICE_ADDED)
    watched.waiting = ToSync(2, 4096, 3)
    assert watched.device("tosync_count") == 2
    assert watched.device("tosync_size") == 4096
    assert watched.device("tosync_extents") == 3
    watched.waiting = ToSync(1, -5, 1)
    assert watched.device("tosync_size") == 0


def test_a_devices_figures_vanish_with_it_and_start_again(watched: Watched) -> None:
    other = "host1:/data/d2"
    watched.emit(EventKind.MOUNTED)
    watched.emit(EventKind.MOUNTED, device=other)
    watched.emit(EventKind.DEVICE_REMOVED)
    watched.emit(EventKind.DEVICE_REMOVED)
    assert {entry["tags"] for entry in json.loads(watched.stats.dump("dev"))} == {f"family=dir,device={other}"}
    watched.emit(EventKind.MOUNTED)
    assert watched.device("nb_mount") == 1


def test_a_device_that_never_came_up_leaves_nothing(watched: Watched) -> None:
    watched.emit(EventKind.DEVICE_FAILED)
    watched.emit(EventKind.DEVICE_REMOVED)
    assert watched.stats.dump("dev") == "[]"


def test_following_ends(watched: Watched) -> None:
    watched.stop()
    watched.events.emit(EventKind.REQUEST_RECEIVED, request="PING")
    assert watched.value("req.count", "request=PING") == 0


def test_what_is_not_the_protocol_is_counted(watched: Watched) -> None:
    watched.emit(EventKind.PROTOCOL_ERROR)
    watched.emit(EventKind.PROTOCOL_ERROR)
    assert watched.value("conn.protocol_errors", "") == 2
