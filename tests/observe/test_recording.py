from __future__ import annotations

import math
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs
from trio.testing import MockClock, wait_all_tasks_blocked, wait_all_threads_completed

from lrs_trio import __version__
from lrs_trio.events import Event, EventKind, Events
from lrs_trio.model import Device, Family, ResourceId
from lrs_trio.observe import recording
from lrs_trio.observe.inventory import Inventory
from lrs_trio.observe.recording import FLUSH_S, Recorder, read_recording
from lrs_trio.observe.tracefile import SAID_BY_MESSAGES, Header, Line, TraceReader
from lrs_trio.settings import Settings
from tests.observe.samples import write_recording

EPOCH = 1_795_000_000.5
DRIVE = Device(ResourceId(Family.TAPE, "1013005381", "legacy"), "silo1", "/dev/sg3")


class Scene:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.events = Events(trio.current_time)
        self.recorder = Recorder(
            path,
            self.events,
            lambda message: {"kind": "request", "said": message},
            host="silo1",
            started=trio.current_time(),
            wall_clock=lambda: EPOCH,
        )

    def emit(self, detail: str = "empty") -> None:
        self.events.emit(EventKind.DEVICE_STATUS, family="tape", device="d1", detail=detail)

    def tell(self, connection: int, message: str) -> None:
        self.recorder.note_message(connection, message)

    def lines(self) -> list[Line]:
        """All but the header."""
        return list(TraceReader(self.path))


@asynccontextmanager
async def recording_to(path: Path) -> AsyncIterator[Scene]:
    scene = Scene(path)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(scene.recorder.run)
        yield scene
        nursery.cancel_scope.cancel()


async def settled() -> None:
    """Whatever can happen without the clock has happened."""
    await wait_all_tasks_blocked()
    await wait_all_threads_completed()
    await wait_all_tasks_blocked()


async def test_what_is_told_is_read_back(tmp_path: Path, mock_clock: MockClock) -> None:
    seen: list[Event] = []
    mock_clock.jump(3.25)
    async with recording_to(tmp_path / "events") as scene:
        scene.events.subscribe(seen.append)
        scene.emit()
        mock_clock.jump(0.125)
        scene.events.emit(
            EventKind.ALLOCATION_REFUSED, request="WRITE", client="client 1", size=-5, count=2, errno=28, serial=77
        )
    read = read_recording(scene.path)
    assert read.header == Header("silo1", os.getpid(), 3.25, EPOCH, __version__)
    assert read.events == tuple(seen)
    assert [event.time for event in seen] == [3.25, 3.375]


async def test_messages_and_inventory_stand_between_the_events(tmp_path: Path, mock_clock: MockClock) -> None:
    async with recording_to(tmp_path / "events") as scene:
        scene.recorder.note_inventory(Inventory(Settings(), (), ()))
        scene.tell(7, "hello")
        scene.recorder.note_resource(DRIVE)
        mock_clock.jump(0.5)
        scene.emit()
        scene.tell(8, "good bye")
    settings, hello, added, event, bye = scene.lines()
    assert settings.kind == "inventory.settings"
    assert hello.values == {"time": 0.0, "connection": 7, "kind": "request", "said": "hello"}
    assert (added.kind, added.values["device"]["path"]) == ("inventory.device", "/dev/sg3")
    assert event.kind == "device.status"
    assert (bye.time, bye.values["connection"]) == (0.5, 8)
    assert [event.kind for event in read_recording(scene.path).events] == [EventKind.DEVICE_STATUS]


async def test_what_requests_say_themselves_is_not_said_again(tmp_path: Path, mock_clock: MockClock) -> None:
    async with recording_to(tmp_path / "events") as scene:
        for kind in EventKind:
            scene.events.emit(kind)
    assert {line.kind for line in scene.lines()} == {kind.value for kind in EventKind if kind not in SAID_BY_MESSAGES}


EVENTS = st.lists(
    st.builds(
        Event,
        time=st.integers(0, 10**9).map(lambda thousandths: thousandths / 1000),
        kind=st.sampled_from([kind for kind in EventKind if kind not in SAID_BY_MESSAGES]),
        family=st.text(),
        device=st.text(),
        medium=st.text(),
        request=st.text(),
        client=st.text(),
        size=st.integers(-(2**70), 2**70),
        count=st.integers(),
        errno=st.integers(),
        detail=st.text(st.sampled_from("a\n\r\0\x85\u2028\N{PILE OF POO}\udc80\udcff")),
        serial=st.integers(),
    ),
    max_size=4,
)


@given(EVENTS)
@settings(max_examples=20)
def test_every_event_survives(events: list[Event]) -> None:
    with TemporaryDirectory() as directory:
        path = Path(directory) / "events"
        write_recording(path, events)
        assert read_recording(path).events == tuple(events)


async def test_only_what_is_not_empty_is_written(tmp_path: Path, mock_clock: MockClock) -> None:
    async with recording_to(tmp_path / "events") as scene:
        scene.emit()
    (line,) = scene.lines()
    assert line.values == {"time": 0.0, "kind": "device.status", "family": "tape", "device": "d1", "detail": "empty"}


async def test_events_are_in_the_file_a_second_later(tmp_path: Path, mock_clock: MockClock) -> None:
    async with recording_to(tmp_path / "events") as scene:
        await settled()
        scene.emit()
        scene.emit("loading")
        await settled()
        assert len(scene.lines()) == 0
        mock_clock.jump(FLUSH_S)
        await settled()
        assert len(scene.lines()) == 2


async def test_an_idle_daemon_is_not_woken(tmp_path: Path, mock_clock: MockClock) -> None:
    def next_wake() -> float:
        return trio.lowlevel.current_statistics().seconds_to_next_deadline

    async with recording_to(tmp_path / "events") as scene:
        for lines in (0, 1):
            await settled()
            assert len(scene.lines()) == lines
            assert next_wake() == math.inf
            scene.emit()
            await settled()
            assert next_wake() == FLUSH_S
            mock_clock.jump(FLUSH_S)


@pytest.mark.parametrize("place", ["full", "full/events"])
async def test_a_disk_that_takes_nothing_costs_one_warning(tmp_path: Path, place: str, mock_clock: MockClock) -> None:
    # By a link of the test's own: whatever is renamed or removed by mistake, the device itself is not.
    (tmp_path / "full").symlink_to("/dev/full")
    path = tmp_path / place
    with capture_logs() as logs:
        scene = Scene(path)
        scene.emit()
        await scene.recorder.run()
        scene.emit()
        with trio.CancelScope() as scope:
            scope.cancel()
            await scene.recorder.run()
    assert [(line["log_level"], line["path"]) for line in logs] == [("warning", str(path))]


async def test_a_disk_that_is_too_slow_ends_the_recording_without_a_hole(
    tmp_path: Path, mock_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recording, "MOST_WAITING", 3)
    scene = Scene(tmp_path / "events")
    with capture_logs() as logs:
        for number in range(6):
            scene.emit(str(number))
        await scene.recorder.run()
        scene.emit("late")
        scene.tell(1, "late")
    assert [event.detail for event in read_recording(scene.path).events] == ["0", "1", "2"]
    assert [line["error"] for line in logs] == ["the disk does not keep up"]


async def test_a_disk_that_hangs_does_not_keep_the_daemon_from_ending(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    scene = Scene(path)
    with trio.move_on_after(60) as limit:
        await scene.recorder.run()
    assert limit.cancelled_caught
    # Whoever opens the pipe lets the thread go on, which then has a file to close.
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        autojump_clock.autojump_threshold = math.inf
        with trio.CancelScope() as scope:
            scope.cancel()
            await scene.recorder.run()
    finally:
        os.close(reader)


async def test_the_recording_of_the_run_before_is_kept(tmp_path: Path, mock_clock: MockClock) -> None:
    for detail in ("first", "second", "third"):
        async with recording_to(tmp_path / "events") as scene:
            scene.emit(detail)
    kept = [read_recording(tmp_path / name).events[0].detail for name in ("events", "events.1")]
    assert kept == ["third", "second"]
    assert len(list(tmp_path.iterdir())) == 2
