"""The file that a trace is: one gzip stream of lines, each a JSON object. docs/trace.md has its format."""

from __future__ import annotations

import errno
import json
import zlib
from collections.abc import Generator, Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Final, Self

from lrs_trio.errors import LrsError
from lrs_trio.events import EVENTS_VERSION, Event, EventKind
from lrs_trio.model import Device, Medium
from lrs_trio.observe.inventory import Inventory, inventory_lines, resource_line

LATEST_S: Final = 1e11
"""No clock shows more seconds: it would not be a date."""

CHUNK: Final = 64 * 1024
"""Bytes that are decompressed at a time."""

_FORMAT: Final = "lrs-trio trace"
_GZIP: Final = 16 + zlib.MAX_WBITS
_FIELDS: Final = tuple((field.name, field.default) for field in fields(Event)[2:])
_KINDS: Final = {kind.value: kind for kind in EventKind}

# json.dumps would make a new encoder for each line.
_encode = json.JSONEncoder(separators=(",", ":")).encode

SAID_BY_MESSAGES: Final = frozenset({EventKind.REQUEST_RECEIVED, EventKind.RELEASE_TO_SYNC, EventKind.RELEASE_NO_SYNC})
"""Events that a trace does not have: they say less than the requests themselves."""


@dataclass(frozen=True, slots=True)
class Header:
    """Where a trace comes from: at `wall_clock` seconds of the epoch the daemon's clock showed `time`.

    `program` is the version of the daemon.
    """

    host: str
    pid: int
    time: float
    wall_clock: float
    program: str


class TraceWriter:
    """Makes the bytes of a trace: what is added comes out of `flush`, all of it, in the order in which it was added."""

    def __init__(self, header: Header) -> None:
        self._gzip = zlib.compressobj(wbits=_GZIP)
        self._ready: list[bytes] = []
        begin = {"format": _FORMAT, "version": EVENTS_VERSION, **asdict(header)}
        self._add({**begin, "time": round(header.time, 6), "wall_clock": round(header.wall_clock, 6)})

    def add_inventory(self, time: float, inventory: Inventory) -> None:
        for line in inventory_lines(inventory):
            self._add({"time": round(time, 6), **line})

    def add_resource(self, time: float, resource: Device | Medium) -> None:
        """Add what was not in the inventory."""
        self._add({"time": round(time, 6), **resource_line(resource)})

    def add_event(self, event: Event) -> None:
        values = {"time": round(event.time, 6), "kind": event.kind.value}
        self._add(values | {name: value for name, empty in _FIELDS if (value := getattr(event, name)) != empty})

    def add_message(self, time: float, connection: int, message: Mapping[str, object]) -> None:
        """Add a `message` of the connection with that number, as plain values with a ``kind``."""
        self._add({"time": round(time, 6), "connection": connection, **message})

    def flush(self) -> bytes:
        """Bytes after which a reader can read everything that was added before, although the trace goes on."""
        return self._taken(self._gzip.flush(zlib.Z_SYNC_FLUSH))

    def finish(self) -> bytes:
        """The end of the file."""
        return self._taken(self._gzip.flush(zlib.Z_FINISH))

    def _add(self, line: Mapping[str, object]) -> None:
        if compressed := self._gzip.compress(_encode(line).encode() + b"\n"):
            self._ready.append(compressed)

    def _taken(self, last: bytes) -> bytes:
        ready, self._ready = b"".join((*self._ready, last)), []
        return ready


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a trace after the header: something of a `kind` at a `time`, in seconds of the daemon's clock."""

    number: int
    time: float
    kind: str
    values: Mapping[str, Any]


class TraceReader:
    """The trace in the file at `path`, line by line, as far as it is whole; a context manager that closes the file.

    What ends within a line ends before it: the daemon was killed, or is just writing it.

    Attributes:
        header: the first line.

    Raises:
        OSError: the file cannot be read.
        LrsError: EINVAL, it is no trace, or one of another version.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lines = _lines(path)
        try:
            self.header = self._read_header()
        except BaseException:
            self._lines.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._lines.close()

    def __iter__(self) -> Iterator[Line]:
        """The lines after the header.

        Raises:
            LrsError: EINVAL, something in the file is damaged; the text says where.
        """
        for number, line in enumerate(self._lines, start=2):
            values = _object(line)
            try:
                kind, time = str(values["kind"]), _seconds(values["time"])
            except (KeyError, ValueError):
                raise self.bad_line(number) from None
            yield Line(number, time, kind, values)

    def bad_line(self, number: int) -> LrsError:
        """The error that says that the line with that number is not what it should be."""
        return LrsError(errno.EINVAL, f"{self._path}: line {number} is damaged")

    def _read_header(self) -> Header:
        values = _object(next(self._lines, b""))
        if values.get("format") != _FORMAT:
            raise LrsError(errno.EINVAL, f"{self._path}: is not a trace of a daemon: it has no header")
        if (version := values.get("version")) != EVENTS_VERSION:
            text = f"{self._path}: is of version {version}; this program reads version {EVENTS_VERSION}"
            raise LrsError(errno.EINVAL, text)
        try:
            return Header(
                str(values["host"]),
                int(values["pid"]),
                _seconds(values["time"]),
                _seconds(values["wall_clock"]),
                str(values["program"]),
            )
        except (KeyError, TypeError, ValueError):
            raise self.bad_line(1) from None


def event_of(line: Line) -> Event | None:
    """The event in `line`; ``None`` if there is something else in it."""
    if line.kind not in _KINDS:
        return None
    given = {name: line.values[name] for name, empty in _FIELDS if type(line.values.get(name)) is type(empty)}
    return Event(line.time, _KINDS[line.kind], **given)


def _lines(path: Path) -> Generator[bytes, None, None]:
    """The complete lines in the file at `path`, decompressed.

    Raises:
        OSError: it cannot be read.
        LrsError: EINVAL, it is no gzip stream, or a damaged one.
    """
    gzip = zlib.decompressobj(wbits=_GZIP)
    number = 0
    rest = b""
    with path.open("rb") as file:
        while not gzip.eof and (data := file.read(CHUNK)):
            try:
                *lines, rest = (rest + gzip.decompress(data)).split(b"\n")
            except zlib.error:
                where = f"damaged after line {number}" if number else "not a trace of a daemon: it is not compressed"
                raise LrsError(errno.EINVAL, f"{path}: is {where}") from None
            number += len(lines)
            yield from lines


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
