from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
import structlog

from lrs_trio.logs import configure_logging


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class FullDisk(io.StringIO):
    def write(self, text: str) -> int:
        raise OSError(28, "No space left on device")


@pytest.fixture(autouse=True)
def restore() -> Iterator[None]:
    root = logging.getLogger()
    before = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = before
    structlog.reset_defaults()


def test_json_is_one_object_per_line() -> None:
    stream = io.StringIO()
    configure_logging("info", "json", stream)
    structlog.get_logger().bind(pid=7).warning("sync failed", device="/d é", waiting=3)
    structlog.get_logger().info("ready")
    first, second = (json.loads(line) for line in stream.getvalue().splitlines())
    stamp = datetime.fromisoformat(first.pop("timestamp"))
    assert stamp.tzinfo == UTC
    assert first == {"event": "sync failed", "level": "warning", "pid": 7, "device": "/d é", "waiting": 3}
    assert second["event"] == "ready"


def test_json_holds_a_traceback_in_its_line() -> None:
    stream = io.StringIO()
    configure_logging("info", "json", stream)
    try:
        raise ValueError("broken")
    except ValueError:
        structlog.get_logger().exception("defect")
    (line,) = stream.getvalue().splitlines()
    assert "ValueError: broken" in json.loads(line)["exception"]


def test_long_values_are_clipped() -> None:
    stream = io.StringIO()
    configure_logging("info", "json", stream)
    structlog.get_logger().info("request refused", error="x" * 5000)
    line = json.loads(stream.getvalue())
    assert line["error"] == "x" * 1000 + "... (5000 characters)"


def test_console_is_plain_away_from_a_terminal() -> None:
    stream = io.StringIO()
    configure_logging("info", "console", stream)
    structlog.get_logger().info("device ready", device="/d", medium="m 1")
    line = stream.getvalue()
    assert "device ready" in line
    assert "device=/d medium='m 1'" in line
    assert "\x1b" not in line


def test_console_has_colours_on_a_terminal() -> None:
    stream = Terminal()
    configure_logging("info", "console", stream)
    structlog.get_logger().info("device ready")
    assert "\x1b[" in stream.getvalue()


@pytest.mark.parametrize("format", ["console", "json"])
def test_lines_below_the_level_are_not_written(format: str) -> None:
    stream = io.StringIO()
    configure_logging("warning", "json" if format == "json" else "console", stream)
    log = structlog.get_logger()
    log.debug("no")
    log.info("no")
    log.error("yes")
    assert stream.getvalue().count("\n") == 1
    assert "yes" in stream.getvalue()


def test_libraries_lines_look_the_same() -> None:
    stream = io.StringIO()
    configure_logging("info", "json", stream)
    logging.getLogger("trio.serve_listeners").error("accept failed: %s", "too many open files")
    logging.getLogger("some.library").info("chatter")
    (line,) = stream.getvalue().splitlines()
    assert json.loads(line)["event"] == "accept failed: too many open files"


def test_the_last_configuration_is_the_one() -> None:
    first, second = io.StringIO(), io.StringIO()
    configure_logging("info", "json", first)
    configure_logging("info", "json", second)
    structlog.get_logger().info("ready")
    logging.getLogger("some.library").warning("odd")
    assert first.getvalue() == ""
    assert second.getvalue().count("\n") == 2


def test_a_log_that_cannot_be_written_is_no_error_of_the_caller() -> None:
    configure_logging("info", "json", FullDisk())
    structlog.get_logger().info("ready")
    closed = io.StringIO()
    configure_logging("info", "json", closed)
    closed.close()
    structlog.get_logger().info("ready")
