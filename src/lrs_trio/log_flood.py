"""A limit for the log lines that clients cause: whoever floods the daemon must not fill its disk."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from math import inf

import structlog
from structlog.typing import EventDict

LINES = 20
WINDOW_S = 10.0
"""So many lines of one event are written in so many seconds."""


class LineLimit:
    """A processor of structlog that leaves out lines about clients when there are too many of an event.

    They are known by their key ``client``. What is left out is counted, and the next line that is written, whatever it
    is about, has the counts as ``left_out``. Lines for debugging are all written: who wants them has asked for them.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._window_ends = -inf
        self._seen: Counter[str] = Counter()
        self._left_out: Counter[str] = Counter()

    def __call__(self, _logger: object, method: str, line: EventDict) -> EventDict:
        if "client" in line and method != "debug" and self._is_too_much(line["event"]):
            raise structlog.DropEvent
        if self._left_out:
            line["left_out"] = ", ".join(f"{count} of {event!r}" for event, count in self._left_out.items())
            self._left_out.clear()
        return line

    def _is_too_much(self, event: str) -> bool:
        now = self._clock()
        if now >= self._window_ends:
            self._window_ends = now + WINDOW_S
            self._seen.clear()
        self._seen[event] += 1
        if self._seen[event] <= LINES:
            return False
        self._left_out[event] += 1
        return True
