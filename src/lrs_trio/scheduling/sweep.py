"""Those who wait are judged anew when what they wait for may have become impossible, a few at a time."""

from __future__ import annotations

from collections.abc import Iterator

from lrs_trio.scheduling.queue import Line, RequestQueue
from lrs_trio.scheduling.ranked import Rank
from lrs_trio.scheduling.requests import PlaceableRequest
from lrs_trio.scheduling.supply import Pass


class Sweep:
    """Goes through those who wait in `queue`: the lines that it doubts, or all."""

    def __init__(self, queue: RequestQueue) -> None:
        self._queue = queue
        self._due: dict[Line, None] = {}
        self._line: Line | None = None
        self._after: Rank | None = None

    def __bool__(self) -> bool:
        """Whether anybody is still to be judged."""
        return self._line is not None or bool(self._due)

    def begin(self) -> None:
        """Judge everybody anew, first those whose turn had not come yet.

        So all have theirs, however often this happens.
        """
        self._due |= dict.fromkeys(self._queue.all_lines())

    def some(self, made: Pass, count: int) -> Iterator[PlaceableRequest]:
        """The next ones to be judged; at most `count` lines or requests are looked at."""
        self._due |= self._queue.take_doubtful()
        for _ in range(count):
            line = self._line
            if line is None:
                if not self._due:
                    return
                line = next(iter(self._due))
                del self._due[line]
                if not made.is_fine(line):
                    self._line, self._after = line, None
                continue
            found = line.requests.first(self._after)
            if found is None:
                self._line = None
                continue
            self._after, request = found
            yield request
