"""What a client does, cycle after cycle: a generator that sends a request and is resumed with its answer."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from time import perf_counter
from typing import Final, Literal, get_args

from benchmarks.driver import frames
from benchmarks.driver.frames import WRITTEN, Body
from lrs_trio.wire.lrs_pb2 import Response

Kind = Literal["ping", "write", "write two copies", "read", "mixed"]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
"""Of cycles. Mixed: a write and a read in turn."""

Send = Callable[[Body], None]
Script = Generator[None, Response, None]

_CONTENT: Final = bytes(WRITTEN)


class WrongAnswerError(Exception):
    """What no healthy daemon answers to these requests."""


@dataclass(slots=True)
class Book:
    """What the clients of one process have done. Times are seconds of `perf_counter`."""

    begins: float
    """Cycles that end from here on ..."""
    ends: float
    """... to here are counted, and none begins later."""
    all_cycles: int = 0
    """Before, in and after this window."""
    cycles: int = 0
    """The counted ones."""
    took: list[float] = field(default_factory=list)
    """By each cycle of which some part was in the window: who waits all through it ends no cycle in it."""
    released: Counter[tuple[str, ...]] = field(default_factory=Counter)
    """Acknowledged releases of all cycles, by their media."""

    def note(self, begun: float) -> bool:
        """A cycle that has `begun` then is at its end: whether the next one is to begin."""
        now = perf_counter()
        self.all_cycles += 1
        if now >= self.begins and begun < self.ends:
            self.took.append(now - begun)
            if now < self.ends:
                self.cycles += 1
        return now < self.ends


class Requests:
    """What is asked about these media, encoded at most once."""

    def __init__(self, media: tuple[str, ...]) -> None:
        self.media = media
        self.ping = frames.ping()
        self.writes = {copies: frames.write(copies) for copies in (1, 2)}
        self.reads = {name: frames.read(name) for name in media}
        self.read_releases = {name: frames.release_read(name) for name in media}
        self._written_releases: dict[tuple[str, ...], Body] = {}

    def written_release(self, names: tuple[str, ...]) -> Body:
        body = self._written_releases.get(names)
        if body is None:
            body = self._written_releases[names] = frames.release_written(names)
        return body


class Performer:
    """One client. They differ by their `number`: in what they read first, and in what a mixed one begins with."""

    def __init__(self, number: int, requests: Requests, book: Book, send: Send, *, files: bool) -> None:
        self._number = number
        self._requests = requests
        self._book = book
        self._send = send
        self._files = files
        media = requests.media
        first = number % len(media)
        self._to_read: Iterator[str] = cycle(media[first:] + media[:first])

    def script(self, kind: Kind) -> Script:
        """Cycles of that kind until the book is closed."""
        cycles = self._cycles(kind)
        for one in cycle(cycles):
            begun = perf_counter()
            yield from one()
            if not self._book.note(begun):
                return

    def _cycles(self, kind: Kind) -> tuple[Callable[[], Script], ...]:
        match kind:
            case "ping":
                return (self._ping,)
            case "write":
                return (lambda: self._write(1),)
            case "write two copies":
                return (lambda: self._write(2),)
            case "read":
                return (self._read,)
            case "mixed":
                both = (lambda: self._write(1), self._read)
                return both if self._number % 2 else both[::-1]

    def _ping(self) -> Script:
        self._send(self._requests.ping)
        answer = yield
        if not answer.ping:
            raise WrongAnswerError(f"a ping was answered with: {answer}")

    def _write(self, copies: int) -> Script:
        self._send(self._requests.writes[copies])
        answer = yield
        granted = answer.write.media
        names = tuple([medium.medium.name for medium in granted])
        if len(names) != copies or (copies > 1 and names[0] == names[1]):
            raise WrongAnswerError(f"an allocation of {copies} to write was answered with: {answer}")
        if self._files:
            for medium in granted:
                Path(medium.root, f"client-{self._number}").write_bytes(_CONTENT)
        self._send(self._requests.written_release(names))
        answer = yield
        if len(answer.release.media) != copies:
            raise WrongAnswerError(f"a release of {names} was answered with: {answer}")
        self._book.released[names] += 1

    def _read(self) -> Script:
        name = next(self._to_read)
        self._send(self._requests.reads[name])
        answer = yield
        granted = answer.read.media
        if len(granted) != 1 or granted[0].medium.name != name:
            raise WrongAnswerError(f"an allocation of {name} to read was answered with: {answer}")
        if self._files:
            os.listdir(granted[0].root)
        self._send(self._requests.read_releases[name])
