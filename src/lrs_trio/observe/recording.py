"""Everything that happens in the daemon, written to a trace while it happens, and its events read back."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from io import BufferedWriter
from pathlib import Path
from typing import Final

import structlog
import trio

from lrs_trio import __version__
from lrs_trio.errors import describe
from lrs_trio.events import Event, Events
from lrs_trio.model import Device, Medium
from lrs_trio.observe.inventory import Inventory
from lrs_trio.observe.tracefile import SAID_BY_MESSAGES, Header, TraceReader, TraceWriter, event_of

log = structlog.get_logger()

FLUSH_S: Final = 1.0
"""What has happened is in the file so many seconds later."""

LAST_FLUSH_S: Final = 5.0
"""How long the end of the daemon waits for the disk."""

MOST_WAITING: Final = 100_000
"""Events and messages that wait to be written; a disk that leaves more behind is too slow for a trace."""


@dataclass(frozen=True, slots=True)
class Recording:
    """What happened in one run of a daemon, as far as it was recorded."""

    header: Header
    events: tuple[Event, ...]


class Recorder:
    """Writes all events from now on to the trace at `path`, and what it is told; `run` does that as long as it runs.

    `plain` makes plain values of a message. `started` is the time of the events' clock now. What an earlier run has
    left there is kept beside it, with ``.1`` after its name. A file that cannot be written costs a warning and the
    trace, nothing else.
    """

    def __init__(
        self,
        path: Path,
        events: Events,
        plain: Callable[[object], Mapping[str, object]],
        *,
        host: str,
        started: float,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._path = path
        self._now = events.now
        self._plain = plain
        self._header = Header(host, os.getpid(), started, wall_clock(), __version__)
        # What waits is how it is written: the work is the thread's. It takes from the left what is added on the
        # right; neither needs a lock for that.
        self._waiting: deque[Callable[[TraceWriter], None]] = deque()
        self._news = trio.Event()
        self._taking = True
        self._writable = True
        self._trace: tuple[BufferedWriter, TraceWriter] | None = None
        self._disk = trio.CapacityLimiter(1)
        self._unsubscribe = events.subscribe(self._note_event)

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
            self._taking = False
            # The last events are those that somebody will look for; a disk that hangs holds up nobody for long.
            with trio.move_on_after(LAST_FLUSH_S, shield=True):
                await self._flush()
                await self._in_thread(self._close)

    def note_inventory(self, inventory: Inventory) -> None:
        """Write down what the daemon has now."""
        now = self._now()
        self._note(lambda writer: writer.add_inventory(now, inventory))

    def note_resource(self, resource: Device | Medium) -> None:
        """Write down what the daemon has besides from now on."""
        now = self._now()
        self._note(lambda writer: writer.add_resource(now, resource))

    def note_message(self, connection: int, message: object) -> None:
        """Write down a message of the connection with that number."""
        now = self._now()
        self._note(lambda writer: writer.add_message(now, connection, self._plain(message)))

    def _note_event(self, event: Event) -> None:
        if event.kind not in SAID_BY_MESSAGES:
            self._note(lambda writer: writer.add_event(event))

    def _note(self, add: Callable[[TraceWriter], None]) -> None:
        if not self._taking:
            return
        if len(self._waiting) < MOST_WAITING:
            self._waiting.append(add)
        else:
            # A trace with a hole would tell lies: it ends here, with what waits.
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
        if self._trace is None:
            self._trace = _open(self._path), TraceWriter(self._header)
        file, writer = self._trace
        # What is added meanwhile is for the next time: this ends even if the daemon is busy.
        for _ in range(len(self._waiting)):
            self._waiting.popleft()(writer)
        file.write(writer.flush())
        file.flush()

    def _close(self) -> None:
        if self._trace is not None:
            (file, writer), self._trace = self._trace, None
            # It would try again to write what it could not, which has been told.
            with suppress(OSError), file:
                file.write(writer.finish())


def read_recording(path: Path) -> Recording:
    """The events in the trace at `path`, without those of kinds that are not known here.

    Raises:
        OSError: the file cannot be read.
        LrsError: EINVAL, it is no trace, one of another version, or damaged.
    """
    with TraceReader(path) as reader:
        events = map(event_of, reader)
        return Recording(reader.header, tuple(event for event in events if event is not None))


def _open(path: Path) -> BufferedWriter:
    if path.is_file():
        path.replace(path.with_name(f"{path.name}.1"))
    return path.open("wb")
