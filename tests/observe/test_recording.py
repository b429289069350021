from __future__ import annotations

import json
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

from lrs_trio.errors import LrsError
from lrs_trio.events import EVENTS_VERSION, Event, EventKind, Events
from lrs_trio.observe import recording
from lrs_trio.observe.recording import FLUSH_S, Header, Recorder, read_recording
from tests.observe.samples import write_recording

EPOCH = 1_795_000_000.5


class Scene:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.events = Events(trio.current_time)
        self.recorder = Recorder(path, self.events, host="silo1", started=trio.current_time(), wall_clock=lambda: EPOCH)

    def emit(self, detail: str = "empty") -> None:
        self.events.emit(EventKind.DEVICE_STATUS, family="tape", device="d1", detail=detail)

    def lines(self) -> list[bytes]:
        return self.path.read_bytes().splitlines() if self.path.exists() else []


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
    assert read.header == Header("silo1", os.getpid(), 3.25, EPOCH)
    assert read.events == tuple(seen)
    assert [event.time for event in seen] == [3.25, 3.375]


EVENTS = st.lists(
    st.builds(
        Event,
        time=st.integers(0, 10**9).map(lambda thousandths: thousandths / 1000),
        kind=st.sampled_from(EventKind),
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
    header, line = map(json.loads, scene.lines())
    assert header["version"] == EVENTS_VERSION
    assert line == {"time": 0.0, "kind": "device.status", "family": "tape", "device": "d1", "detail": "empty"}


async def test_events_are_in_the_file_a_second_later(tmp_path: Path, mock_clock: MockClock) -> None:
    async with recording_to(tmp_path / "events") as scene:
        await settled()
        scene.emit()
        scene.emit("loading")
        await settled()
        assert len(scene.lines()) == 1
        mock_clock.jump(FLUSH_S)
        await settled()
        assert len(scene.lines()) == 3


async def test_an_idle_daemon_is_not_woken(tmp_path: Path, mock_clock: MockClock) -> None:
    def next_wake() -> float:
        return trio.lowlevel.current_statistics().seconds_to_next_deadline

    async with recording_to(tmp_path / "events") as scene:
        for lines in (1, 2):
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


HEADER = b'{"format":"lrs-trio events","version":1,"host":"h","pid":1,"time":5.0,"wall_clock":9.0}\n'
LINE = b'{"time":6.0,"kind":"io.begun","serial":3}\n'


def written(tmp_path: Path, content: bytes) -> Path:
    path = tmp_path / "events"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("cut", range(len(LINE)))
def test_a_torn_last_line_is_left_out(tmp_path: Path, cut: int) -> None:
    read = read_recording(written(tmp_path, HEADER + LINE + LINE[:cut]))
    assert read.events == (Event(6.0, EventKind.IO_BEGUN, serial=3),)


def test_what_a_newer_daemon_tells_besides_is_left_out(tmp_path: Path) -> None:
    newer = b'{"time":6.0,"kind":"medium.dreamt"}\n{"time":6.0,"kind":"io.begun","serial":3,"mood":1,"size":"big"}\n'
    assert read_recording(written(tmp_path, HEADER + newer)).events == (Event(6.0, EventKind.IO_BEGUN, serial=3),)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is not a recording"),
        (HEADER[:-1], "is not a recording"),
        (b"root:x:0:0\n", "is not a recording"),
        (b"[" * 100_000 + b"\n", "is not a recording"),
        (b"\x80\xff\n", "is not a recording"),
        (b"[1]\n", "is not a recording"),
        (LINE, "is not a recording"),
        (HEADER.replace(b'"version":1', b'"version":2'), "is of version 2"),
        (HEADER.replace(b'"pid":1', b'"pid":null'), "line 1 "),
        (HEADER.replace(b"9.0", b"1e300"), "line 1 "),
        (HEADER + b"{}\n" + LINE, "line 2 "),
        (HEADER + LINE + b'{"time":true,"kind":"io.begun"}\n', "line 3 "),
        (HEADER + b'{"time":NaN,"kind":"io.begun"}\n', "line 2 "),
        (HEADER + b'{"time":1,"kind":"io.be\n' + LINE, "line 2 "),
    ],
)
def test_other_files_are_refused(tmp_path: Path, content: bytes, said: str) -> None:
    path = written(tmp_path, content)
    with pytest.raises(LrsError, match=said) as refused:
        read_recording(path)
    assert str(path) in str(refused.value)
