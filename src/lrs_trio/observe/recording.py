"""Everything that happens in the daemon, written to a file and read back.

A recording is text: a header, then one JSON object for each event with those of its fields that are not
empty. Times are seconds of the daemon's clock; the header says what time it was when that clock was read.
"""

from __future__ import annotations

import errno
import json
import os
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, fields
from io import BufferedWriter
from pathlib import Path
from typing import Any, Final

import structlog
import trio

from lrs_trio.errors import LrsError, describe
from lrs_trio.events import EVENTS_VERSION, Event, EventKind, Events

log = structlog.get_logger()

FLUSH_S: Final = 1.0
"""What has happened is in the file so many seconds later."""

LAST_FLUSH_S: Final = 5.0
"""How long the end of the daemon waits for the disk."""

MOST_WAITING: Final = 100_000
"""Events that wait to be written; a disk that leaves more behind is too slow for a recording."""

LATEST_S: Final = 1e11
"""No clock shows more seconds: it would not be a date."""

_FORMAT: Final = "lrs-trio events"
_FIELDS: Final = tuple((field.name, field.default) for field in fields(Event)[2:])
_KINDS: Final = {kind.value: kind for kind in EventKind}


@dataclass(frozen=True, slots=True)
class Header:
    """Where a recording comes from: at `wall_clock` seconds of the epoch the daemon's clock showed `time`."""

    host: str
    pid: int
    time: float
    wall_clock: float


@dataclass(frozen=True, slots=True)
class Recording:
    """One run of a daemon, as far as it was recorded."""

    header: Header
    events: tuple[Event, ...]


class Recorder:
    """Writes all events from now on to the file at `path`, which `run` does as long as it runs.

    `started` is the time of the events' clock now. What an earlier run has left there is kept beside it, with
    ``.1`` after its name. A file that cannot be written costs a warning and the recording, nothing else.
    """

    def __init__(
        self, path: Path, events: Events, *, host: str, started: float, wall_clock: Callable[[], float] = time.time
    ) -> None:
        self._path = path
        self._header = Header(host, os.getpid(), started, wall_clock())
        # The thread that writes takes from the left what is added on the right; neither needs a lock for that.
        self._waiting: deque[Event] = deque()
        self._news = trio.Event()
        self._taking = True
        self._writable = True
        self._file: BufferedWriter | None = None
        self._disk = trio.CapacityLimiter(1)
        self._unsubscribe = events.subscribe(self._note)

    async def run(self) -> None:
        """Write, at most every second and only when there is something new; to be cancelled in the end."""
        try:
            await self._flush()
            while self._taking:
                await self._news.wait()
                await trio.sleep(FLUSH_S)
                await self._flush()
        finally:
            self._unsubscribe()
            # The last events are those that somebody will look for; a disk that hangs holds up nobody for long.
            with trio.move_on_after(LAST_FLUSH_S, shield=True):
                await self._flush()
                await self._in_thread(self._close)

    def _note(self, event: Event) -> None:
        if len(self._waiting) < MOST_WAITING:
            self._waiting.append(event)
        else:
            # A recording with a hole would tell lies: it ends here, with what waits.
            self._end("the disk does not keep up")
        self._news.set()

    async def _flush(self) -> None:
        self._news = trio.Event()
        if not self._writable:
            return
        try:
            await self._in_thread(self._write)
        except OSError as error:
            self._writable = False
            self._waiting.clear()
            self._end(describe(error))

    def _end(self, reason: str) -> None:
        self._unsubscribe()
        if self._taking:
            log.warning("nothing is recorded any more", path=str(self._path), error=reason)
        self._taking = False

    async def _in_thread(self, function: Callable[[], None]) -> None:
        """One at a time, also after one that was abandoned: it keeps its place until it ends."""
        await trio.to_thread.run_sync(function, abandon_on_cancel=True, limiter=self._disk)

    def _write(self) -> None:
        if self._file is None:
            self._file = _open(self._path)
            self._file.write(_line(_header_fields(self._header)))
        # What is added meanwhile is for the next time: this ends even if the daemon is busy.
        for _ in range(len(self._waiting)):
            self._file.write(_line(_event_fields(self._waiting.popleft())))
        self._file.flush()

    def _close(self) -> None:
        if self._file is not None:
            # It would try again to write what it could not, which has been told.
            with suppress(OSError):
                self._file.close()


def read_recording(path: Path) -> Recording:
    """The recording in the file at `path`.

    A last line that is not complete is left out: the daemon was killed, or is just writing it. Events of kinds
    that are not known here are left out too.

    Raises:
        OSError: the file cannot be read.
        LrsError: EINVAL, it is no recording, or one of another version; the text says in which line.
    """
    lines = path.read_bytes().splitlines(keepends=True)
    if lines and not lines[-1].endswith(b"\n"):
        del lines[-1]
    if not lines:
        raise LrsError(errno.EINVAL, f"{path}: is not a recording of a daemon's events: it has no complete line")
    header = _read_header(path, lines[0])
    events = [_read_event(path, number, line) for number, line in enumerate(lines[1:], start=2)]
    return Recording(header, tuple(event for event in events if event is not None))


def _open(path: Path) -> BufferedWriter:
    if path.is_file():
        path.replace(path.with_name(f"{path.name}.1"))
    return path.open("wb")


def _line(value: Mapping[str, object]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode() + b"\n"


def _header_fields(header: Header) -> dict[str, object]:
    return {
        "format": _FORMAT,
        "version": EVENTS_VERSION,
        "host": header.host,
        "pid": header.pid,
        "time": round(header.time, 6),
        "wall_clock": round(header.wall_clock, 6),
    }


def _event_fields(event: Event) -> dict[str, object]:
    values = {"time": round(event.time, 6), "kind": event.kind.value}
    return values | {name: value for name, empty in _FIELDS if (value := getattr(event, name)) != empty}


def _read_header(path: Path, line: bytes) -> Header:
    header = _object(line)
    if header.get("format") != _FORMAT:
        raise LrsError(errno.EINVAL, f"{path}: is not a recording of a daemon's events: it has no header")
    if (version := header.get("version")) != EVENTS_VERSION:
        raise LrsError(errno.EINVAL, f"{path}: is of version {version}; this program reads version {EVENTS_VERSION}")
    try:
        return Header(str(header["host"]), int(header["pid"]), _seconds(header["time"]), _seconds(header["wall_clock"]))
    except (KeyError, TypeError, ValueError):
        raise _bad_line(path, 1) from None


def _read_event(path: Path, number: int, line: bytes) -> Event | None:
    values = _object(line)
    try:
        kind, when = str(values["kind"]), _seconds(values["time"])
    except (KeyError, ValueError):
        raise _bad_line(path, number) from None
    if kind not in _KINDS:
        return None
    given = {name: values[name] for name, empty in _FIELDS if type(values.get(name)) is type(empty)}
    return Event(when, _KINDS[kind], **given)


def _object(line: bytes) -> dict[str, Any]:
    """The object in `line`; without anything in it if there is none."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _seconds(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < LATEST_S:
        raise ValueError(value)
    return float(value)


def _bad_line(path: Path, number: int) -> LrsError:
    return LrsError(errno.EINVAL, f"{path}: line {number} is not an event")
