from __future__ import annotations

from collections.abc import Iterator

from lrs_trio.events import Event, EventKind, Events


def ticking() -> Iterator[float]:
    time = 0.0
    while True:
        time += 1.0
        yield time


def test_every_subscriber_gets_every_event_in_order() -> None:
    clock = ticking()
    events = Events(lambda: next(clock))
    seen: list[tuple[str, Event]] = []
    events.subscribe(lambda event: seen.append(("first", event)))
    events.subscribe(lambda event: seen.append(("second", event)))
    events.emit(EventKind.MOUNTED, family="dir", device="h:/d", medium="/d")
    mounted = Event(1.0, EventKind.MOUNTED, family="dir", device="h:/d", medium="/d")
    assert seen == [("first", mounted), ("second", mounted)]


def test_all_fields_arrive() -> None:
    events = Events(lambda: 5.0)
    seen: list[Event] = []
    events.subscribe(seen.append)
    events.emit(
        EventKind.SYNC_FAILED,
        family="dir",
        device="h:/d",
        medium="/d",
        request="RELEASE",
        client="client 3",
        size=-7,
        count=2,
        errno=5,
        detail="why",
    )
    assert seen == [Event(5.0, EventKind.SYNC_FAILED, "dir", "h:/d", "/d", "RELEASE", "client 3", -7, 2, 5, "why")]


def test_without_listeners_not_even_the_clock_is_read() -> None:
    clock = ticking()
    events = Events(lambda: next(clock))
    events.emit(EventKind.MOUNTED)
    assert next(clock) == 1.0


def test_who_counts_is_told_first_and_without_an_event() -> None:
    clock = ticking()
    events = Events(lambda: next(clock))
    told: list[object] = []
    stop = events.count({EventKind.SYNC_FINISHED: lambda *figures: told.append(figures)})
    assert events.wants(EventKind.SYNC_FINISHED)
    assert not events.wants(EventKind.SYNC_STARTED)
    events.emit(EventKind.SYNC_FINISHED, family="dir", device="h:/d", medium="/d", request="X", size=-7, count=2)
    events.emit(EventKind.SYNC_STARTED, family="dir")
    assert next(clock) == 1.0
    events.subscribe(told.append)
    events.emit(EventKind.SYNC_FINISHED)
    assert told == [("dir", "h:/d", "X", -7, 2), ("", "", "", 0, 0), Event(2.0, EventKind.SYNC_FINISHED)]
    stop()
    events.emit(EventKind.SYNC_FINISHED)
    assert told[3:] == [Event(3.0, EventKind.SYNC_FINISHED)]


def test_a_subscription_ends_alone() -> None:
    events = Events(lambda: 0.0)
    seen: list[Event] = []
    end_first = events.subscribe(seen.append)
    events.subscribe(seen.append)
    end_first()
    end_first()
    events.emit(EventKind.MOUNTED)
    assert len(seen) == 1


def test_a_subscriber_may_leave_during_an_event() -> None:
    events = Events(lambda: 0.0)
    seen: list[str] = []

    def once(event: Event) -> None:
        seen.append("once")
        leave()

    leave = events.subscribe(once)
    events.subscribe(lambda event: seen.append("always"))
    events.emit(EventKind.MOUNTED)
    events.emit(EventKind.MOUNTED)
    assert seen == ["once", "always", "always"]


def test_names_are_unique() -> None:
    assert len({kind.value for kind in EventKind}) == len(EventKind.__members__)
