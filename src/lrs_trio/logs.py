"""How log lines look and where they go.

Loggers come from ``structlog.get_logger()``. A line is an event in plain words and key-value pairs with
fixed names: ``connection``, ``pid``, ``uid``, ``device``, ``medium``, ``error``...
"""

from __future__ import annotations

import logging
import syslog
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final, Literal, TextIO

import structlog
from structlog.typing import EventDict, Processor

from lrs_trio.log_flood import LineLimit

LogFormat = Literal["console", "json", "phobos"]
LogLevel = Literal["debug", "verbose", "info", "warning", "error", "off"]

LONGEST_VALUE = 1000
"""Characters of one value in a log line."""

_Write = Callable[[int, str], None]
"""Takes a level of `logging` and what is to be written: one line, or several with a traceback."""

_OFF: Final = logging.CRITICAL + 10

_THRESHOLDS: Final[dict[LogLevel, int]] = {
    "debug": logging.DEBUG,
    "verbose": logging.INFO,  # phobosd has this level; no line of ours does
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
    "off": _OFF,
}

_PHOBOS_LABELS: Final = {"debug": "DEBUG", "info": "INFO", "warning": "WARNING"}
"""Everything else is an ERROR."""

_SYSLOG_PRIORITIES: Final = {
    logging.DEBUG: syslog.LOG_DEBUG,
    logging.INFO: syslog.LOG_NOTICE,  # as phobosd: its verbose lines are those of priority "info"
    logging.WARNING: syslog.LOG_WARNING,
}


_WALL_CLOCK: Final[Processor] = structlog.processors.TimeStamper(fmt="iso", utc=True)


def configure_logging(
    level: LogLevel,
    format: LogFormat,
    stream: TextIO,
    *,
    to_syslog: bool = False,
    stamp: Processor = _WALL_CLOCK,
    limited: bool = False,
) -> None:
    """Send all log lines of at least `level` to `stream`, or to syslog.

    Times are UTC unless `stamp` gives others, in the phobos format local; lines for syslog have none, it adds its
    own. The console format has colours only on a terminal; the json format is one object per line; the phobos
    format is that of phobosd, the key-value pairs after the event. `limited` leaves out lines about clients when
    there are too many, as `LineLimit` does. Lines of libraries that use the standard
    `logging` go the same way, from warnings up. To be called once, before the first line: a logger that has been
    used keeps what it found, which makes a line below `level` nearly free.
    """
    threshold = _THRESHOLDS[level]
    common: list[Processor] = [_clip, structlog.processors.add_log_level]
    if format != "phobos" and not to_syslog:
        common.append(stamp)
    final: list[Processor]
    match format:
        case "json":
            final = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
        case "phobos":
            final = [structlog.processors.format_exc_info, _phobos_line if to_syslog else _stamped_phobos_line]
        case "console":
            final = [
                structlog.dev.ConsoleRenderer(
                    colors=stream.isatty() and not to_syslog,
                    exception_formatter=structlog.dev.plain_traceback,
                    sort_keys=False,
                )
            ]
    write = _syslog_writer() if to_syslog else _stream_writer(stream)
    structlog.configure(
        processors=[
            *([_drop] if threshold == _OFF else []),
            *([LineLimit()] if limited else []),
            *common,
            *final,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(min(threshold, logging.CRITICAL)),
        logger_factory=lambda *_: _Lines(write),
        cache_logger_on_first_use=True,
    )
    handler = _LibraryHandler(write)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *final],
            foreign_pre_chain=common,
        )
    )
    root = logging.getLogger()
    root.handlers = [other for other in root.handlers if not isinstance(other, _LibraryHandler)] + [handler]
    root.setLevel(max(threshold, logging.WARNING))


def _drop(_logger: object, _method: str, line: EventDict) -> EventDict:
    raise structlog.DropEvent


def _clip(_logger: object, _method: str, line: EventDict) -> EventDict:
    """Keep lines short: much of what is logged are names that clients made up."""
    for key, value in line.items():
        if isinstance(value, str) and len(value) > LONGEST_VALUE:
            line[key] = f"{value[:LONGEST_VALUE]}... ({len(value)} characters)"
    return line


def _stamped_phobos_line(logger: object, method: str, line: EventDict) -> str:
    label = _PHOBOS_LABELS.get(line["level"], "ERROR")
    seconds, nanoseconds = divmod(time.time_ns(), 10**9)
    now = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))
    return f"{now}.{nanoseconds:09d} <{label}> {_phobos_line(logger, method, line)}"


def _phobos_line(_logger: object, _method: str, line: EventDict) -> str:
    line.pop("level")
    exception = line.pop("exception", None)
    event = str(line.pop("event"))
    words = [event if event.isprintable() else repr(event), *(f"{key}={_shown(value)}" for key, value in line.items())]
    return "\n".join([" ".join(words), *([exception] if exception else [])])


def _shown(value: object) -> str:
    """`value` such that it cannot be taken for another pair or another line."""
    if isinstance(value, str) and value.isprintable() and value and not set(value) & set(" ='\""):
        return value
    return repr(value)


def _stream_writer(stream: TextIO) -> _Write:
    def write(_level: int, line: str) -> None:
        with suppress(OSError, ValueError):
            stream.write(line + "\n")
            stream.flush()

    return write


def _syslog_writer() -> _Write:
    """Under the name of the program; the system drops lines that nobody takes."""
    syslog.openlog(logoption=syslog.LOG_PID, facility=syslog.LOG_DAEMON)

    def write(level: int, line: str) -> None:
        priority = _SYSLOG_PRIORITIES.get(level, syslog.LOG_ERR)
        for part in line.encode(errors="backslashreplace").decode().splitlines():
            with suppress(ValueError):  # a null character
                syslog.syslog(priority, part)

    return write


class _LibraryHandler(logging.Handler):
    """Ours, so that it can be told from a handler that somebody else has installed."""

    def __init__(self, write: _Write) -> None:
        super().__init__()
        self._write = write

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._write(record.levelno, self.format(record))
        except Exception:  # noqa: BLE001 a line that cannot be put together is no error of who wanted it written
            self.handleError(record)


class _Lines:
    """Writes one line per call.

    A line that cannot be written is dropped: there is nowhere left to say so, and an error of the log
    stream, raised in the middle of a sync, would be taken for one of the medium.
    """

    def __init__(self, write: _Write) -> None:
        self._write = write

    def debug(self, line: str) -> None:
        self._write(logging.DEBUG, line)

    def info(self, line: str) -> None:
        self._write(logging.INFO, line)

    def warning(self, line: str) -> None:
        self._write(logging.WARNING, line)

    def error(self, line: str) -> None:
        self._write(logging.ERROR, line)

    def critical(self, line: str) -> None:
        self._write(logging.CRITICAL, line)
