from __future__ import annotations

from collections.abc import Callable

import pytest
import structlog
from structlog.typing import EventDict

from lrs_trio.log_flood import LINES, WINDOW_S, LineLimit


class Lines:
    """What is written of the lines that are logged."""

    def __init__(self) -> None:
        self.now = 0.0
        self.written: list[EventDict] = []
        self._limit = LineLimit(lambda: self.now)

    def log(self, event: str, method: str = "info", **more: object) -> bool:
        """Whether the line is written."""
        try:
            self.written.append(self._limit(None, method, {"event": event} | more))
        except structlog.DropEvent:
            return False
        return True

    def flood(self, count: int, event: str = "refused") -> int:
        """How many of so many lines about a client are written."""
        return sum(self.log(event, client=number) for number in range(count))


@pytest.fixture
def lines() -> Lines:
    return Lines()


def test_of_a_flood_the_first_lines_are_written(lines: Lines) -> None:
    assert lines.flood(LINES) == LINES
    assert lines.flood(1000) == 0


def test_each_event_has_a_limit_of_its_own(lines: Lines) -> None:
    lines.flood(LINES + 5)
    assert lines.flood(LINES + 5, "closed") == LINES


def test_after_the_window_there_is_room_again(lines: Lines) -> None:
    lines.flood(LINES + 5)
    lines.now = WINDOW_S - 0.1
    assert lines.flood(1) == 0
    lines.now = WINDOW_S
    assert lines.flood(LINES + 5) == LINES


def test_the_next_line_tells_what_was_left_out_and_only_that_one(lines: Lines) -> None:
    lines.flood(LINES + 5)
    lines.flood(LINES + 2, "closed")
    assert lines.written[LINES]["left_out"] == "5 of 'refused'"
    lines.log("drained")
    lines.log("ended")
    assert lines.written[-2]["left_out"] == "2 of 'closed'"
    assert "left_out" not in lines.written[-1]


@pytest.mark.parametrize(
    "log",
    [
        pytest.param(lambda lines: lines.log("ready", device="/d"), id="of a device"),
        pytest.param(lambda lines: lines.log("ready", "debug", client=1), id="for debugging"),
    ],
)
def test_all_other_lines_are_written(lines: Lines, log: Callable[[Lines], bool]) -> None:
    assert all(log(lines) for _ in range(10 * LINES))
