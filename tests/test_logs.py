from __future__ import annotations

import io
import json
import logging
import re
import syslog
import time
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
import structlog

from lrs_trio.log_flood import LINES
from lrs_trio.logs import LogFormat, LogLevel, configure_logging

STAMP = r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)\.\d{9} "


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


@pytest.mark.parametrize("format", ["console", "json", "phobos"])
def test_lines_below_the_level_are_not_written(format: LogFormat) -> None:
    stream = io.StringIO()
    configure_logging("warning", format, stream)
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


@pytest.mark.parametrize(
    ("level", "written"),
    [
        ("off", []),
        ("error", ["critical", "error"]),
        ("warning", ["critical", "error", "warning"]),
        ("info", ["critical", "error", "warning", "info"]),
        ("verbose", ["critical", "error", "warning", "info"]),
        ("debug", ["critical", "error", "warning", "info", "debug"]),
    ],
)
def test_each_level_writes_what_is_at_least_as_bad(level: LogLevel, written: list[str]) -> None:
    stream = io.StringIO()
    configure_logging(level, "json", stream)
    for name in ("critical", "error", "warning", "info", "debug"):
        getattr(structlog.get_logger(), name)("from us")
    assert [json.loads(line)["level"] for line in stream.getvalue().splitlines()] == written


@pytest.mark.parametrize("level", ["off", "error"])
def test_libraries_keep_to_the_level(level: LogLevel) -> None:
    stream = io.StringIO()
    configure_logging(level, "phobos", stream)
    logging.getLogger("some.library").warning("odd")
    logging.getLogger("some.library").critical("odder")
    assert stream.getvalue().count("\n") == (level == "error")


def test_phobos_lines_begin_as_those_of_phobosd() -> None:
    stream = io.StringIO()
    configure_logging("debug", "phobos", stream)
    log = structlog.get_logger()
    before = time.strftime("%Y-%m-%d %H:%M:%S")
    log.bind(pid=7).error("sync failed", device="/d", error="No space left", reason="", note='"a=b"')
    log.warning("late")
    log.info("ready")
    log.debug("sync: medium=%s rc=%d", "/d 1", -5)
    after = time.strftime("%Y-%m-%d %H:%M:%S")
    lines = []
    for line in stream.getvalue().splitlines():
        stamp = re.match(STAMP, line)
        assert stamp is not None, line
        assert before <= stamp[1] <= after
        lines.append(line[stamp.end() :])
    assert lines == [
        "<ERROR> sync failed pid=7 device=/d error='No space left' reason='' note='\"a=b\"'",
        "<WARNING> late",
        "<INFO> ready",
        "<DEBUG> sync: medium=/d 1 rc=-5",
    ]


def test_a_name_cannot_make_a_phobos_line_of_its_own() -> None:
    stream = io.StringIO()
    configure_logging("info", "phobos", stream)
    structlog.get_logger().info("request refused", error="a\n2026-01-01 00:00:00.000000000 <ERROR> b")
    structlog.get_logger().info("medium %s", "c\nd")
    first, second = stream.getvalue().splitlines()
    assert first.endswith(r"error='a\n2026-01-01 00:00:00.000000000 <ERROR> b'")
    assert second.endswith(r"<INFO> 'medium c\nd'")


def test_a_phobos_line_is_followed_by_its_traceback() -> None:
    stream = io.StringIO()
    configure_logging("info", "phobos", stream)
    try:
        raise ValueError("broken")
    except ValueError:
        structlog.get_logger().exception("defect", device="/d")
    first, *_, last = stream.getvalue().splitlines()
    assert first.endswith(" <ERROR> defect device=/d")
    assert last == "ValueError: broken"


def test_libraries_lines_are_phobos_lines_too() -> None:
    stream = io.StringIO()
    configure_logging("info", "phobos", stream)
    logging.getLogger("some.library").log(logging.WARNING + 1, "odd: %s", "x")
    assert re.fullmatch(STAMP + "<ERROR> odd: x\n", stream.getvalue())


@pytest.mark.parametrize("format", ["console", "json", "phobos"])
@pytest.mark.parametrize("terminal", [False, True])
def test_an_event_stays_in_one_piece(format: LogFormat, terminal: bool) -> None:
    stream = Terminal() if terminal else io.StringIO()
    configure_logging("debug", format, stream)
    structlog.get_logger().debug("sync: medium=%s rc=%d", "/srv/archive/1", 0)
    assert "sync: medium=/srv/archive/1 rc=0" in stream.getvalue()


def test_a_library_that_logs_nonsense_is_not_harmed(capsys: pytest.CaptureFixture[str]) -> None:
    stream = io.StringIO()
    logging.getLogger().handlers.clear()  # those of pytest raise
    configure_logging("info", "phobos", stream)
    logging.getLogger("some.library").warning("%d", "no number")
    assert stream.getvalue() == ""
    assert "no number" in capsys.readouterr().err


@pytest.fixture
def system_log(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, str]]:
    """What would go to syslog, with the priorities."""
    lines: list[tuple[int, str]] = []
    monkeypatch.setattr(syslog, "syslog", lambda priority, line: lines.append((priority, line)))
    return lines


def test_syslog_gets_phobosds_priorities_and_no_times(system_log: list[tuple[int, str]]) -> None:
    stream = io.StringIO()
    configure_logging("debug", "phobos", stream, to_syslog=True)
    log = structlog.get_logger()
    log.error("sync failed", device="/d")
    log.warning("late")
    log.info("ready")
    log.debug("sync: medium=%s rc=%d", "/d", 0)
    logging.getLogger("some.library").warning("odd")
    assert system_log == [
        (syslog.LOG_ERR, "sync failed device=/d"),
        (syslog.LOG_WARNING, "late"),
        (syslog.LOG_NOTICE, "ready"),
        (syslog.LOG_DEBUG, "sync: medium=/d rc=0"),
        (syslog.LOG_WARNING, "odd"),
    ]
    assert stream.getvalue() == ""


def test_syslog_gets_every_line_of_a_traceback(system_log: list[tuple[int, str]]) -> None:
    configure_logging("info", "phobos", io.StringIO(), to_syslog=True)
    try:
        raise ValueError("broken")
    except ValueError:
        structlog.get_logger().exception("defect")
    assert system_log[0] == (syslog.LOG_ERR, "defect")
    assert system_log[-1] == (syslog.LOG_ERR, "ValueError: broken")


@pytest.mark.parametrize("format", ["console", "json"])
def test_syslog_gets_the_other_formats_without_times_and_colours(
    format: LogFormat, system_log: list[tuple[int, str]]
) -> None:
    configure_logging("info", format, Terminal(), to_syslog=True)
    structlog.get_logger().warning("late", device="/d")
    ((priority, line),) = system_log
    assert priority == syslog.LOG_WARNING
    if format == "json":
        assert json.loads(line) == {"event": "late", "level": "warning", "device": "/d"}
    else:
        assert re.fullmatch(r"\[warning *\] late *device=/d", line)


def test_syslog_takes_any_text() -> None:
    configure_logging("info", "console", io.StringIO(), to_syslog=True)
    structlog.get_logger().info("request \udc80 \0 \n é")


def test_a_log_that_goes_back_to_a_stream_leaves_syslog_alone(system_log: list[tuple[int, str]]) -> None:
    configure_logging("info", "phobos", io.StringIO(), to_syslog=True)
    stream = io.StringIO()
    configure_logging("info", "phobos", stream)
    structlog.get_logger().info("ready")
    logging.getLogger("some.library").warning("odd")
    assert system_log == []
    assert stream.getvalue().count("\n") == 2


def test_a_daemon_that_is_flooded_writes_few_lines_about_it() -> None:
    stream = io.StringIO()
    configure_logging("info", "json", stream, limited=True)
    for number in range(LINES + 100):
        structlog.get_logger().info("request refused", client=number)
    structlog.get_logger().info("drained")
    written = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [line["event"] for line in written] == ["request refused"] * LINES + ["drained"]
    assert written[-1]["left_out"] == "100 of 'request refused'"
