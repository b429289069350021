"""How log lines look and where they go.

Loggers come from ``structlog.get_logger()``. A line is an event in plain words and key-value pairs with
fixed names: ``connection``, ``pid``, ``uid``, ``device``, ``medium``, ``error``...
"""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import Literal, TextIO

import structlog
from structlog.typing import EventDict, Processor

LogFormat = Literal["console", "json"]

LONGEST_VALUE = 1000
"""Characters of one value in a log line."""


def configure_logging(level: str, format: LogFormat, stream: TextIO) -> None:
    """Send all log lines of at least `level` (``debug``, ``info``, ``warning``...) to `stream`.

    Times are UTC. The console format has colours only on a terminal; the json format is one object
    per line. Lines of libraries that use the standard `logging` go the same way, from warnings up.
    To be called once, before the first line: a logger that has been used keeps what it found, which
    makes a line below `level` nearly free.
    """
    number = logging.getLevelNamesMapping()[level.upper()]
    common: list[Processor] = [
        _clip,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    final: list[Processor]
    if format == "json":
        final = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    else:
        final = [
            structlog.dev.ConsoleRenderer(
                colors=stream.isatty(), exception_formatter=structlog.dev.plain_traceback, sort_keys=False
            )
        ]
    structlog.configure(
        processors=[*common, *final],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=lambda *_: _Lines(stream),
        cache_logger_on_first_use=True,
    )
    handler = _LibraryHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *final],
            foreign_pre_chain=common,
        )
    )
    root = logging.getLogger()
    root.handlers = [other for other in root.handlers if not isinstance(other, _LibraryHandler)] + [handler]
    root.setLevel(max(number, logging.WARNING))


def _clip(_logger: object, _method: str, line: EventDict) -> EventDict:
    """Keep lines short: much of what is logged are names that clients made up."""
    for key, value in line.items():
        if isinstance(value, str) and len(value) > LONGEST_VALUE:
            line[key] = f"{value[:LONGEST_VALUE]}... ({len(value)} characters)"
    return line


class _LibraryHandler(logging.StreamHandler[TextIO]):
    """Ours, so that it can be told from a handler that somebody else has installed."""


class _Lines:
    """Writes one line per call.

    A line that cannot be written is dropped: there is nowhere left to say so, and an error of the log
    stream, raised in the middle of a sync, would be taken for one of the medium.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def msg(self, line: str) -> None:
        with suppress(OSError, ValueError):
            self._stream.write(line + "\n")
            self._stream.flush()

    log = debug = info = warning = warn = error = critical = exception = fatal = failure = err = msg
