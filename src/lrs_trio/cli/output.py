"""How commands speak: errors with their errno, tables for people, JSON for programs."""

from __future__ import annotations

import errno
import json
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final

import click

from lrs_trio.errors import DssUnavailableError, SettingsError, describe

if TYPE_CHECKING:
    from rich.console import Console

HIGHEST_STATUS: Final = 125
"""From 126 on the shell gives exit statuses a meaning of its own."""

EXIT_INTERRUPTED: Final = 130
"""After Ctrl-C, as shells have it."""

REPORTED: Final = (OSError, SettingsError, DssUnavailableError, UnicodeEncodeError)
"""What a command tells in one line; anything else is a defect and shows a traceback.

A word of the command line that is not UTF-8 shows itself only when it is encoded: for the wire, for the DSS, or to be
printed.
"""

EXIT_STATUS_HELP: Final = """
Exit status: 0 if all went well; else the number of the first error, whose name stands in brackets at the
end of its line on the standard error (2 ENOENT, 16 EBUSY, 28 ENOSPC, 111 ECONNREFUSED...); 1 for bad
settings and for errors without a number from 1 to 125; 2 also for a wrong command line, 130 after Ctrl-C.
"""


def exit_status(error: BaseException) -> int:
    """The exit status that stands for `error`: its errno where that is one, else 1."""
    number = _errno(error)
    return number if 0 < number <= HIGHEST_STATUS else 1


def error_lines(error: BaseException, about: str = "") -> list[str]:
    """`error` for a person, each line with its errno's name; `about` says what it is about, if it does not itself."""
    name = errno.errorcode.get(_errno(error))
    text = _inexpressible(error) if isinstance(error, UnicodeEncodeError) else describe(error)
    lines = text.splitlines()
    if about and about not in lines[0]:
        lines[0] = f"{about}: {lines[0]}"
    return [f"{line} [{name}]" if name else line for line in lines]


def say_error(error: BaseException, about: str = "") -> int:
    """Write `error` to the standard error and return the exit status that stands for it."""
    for line in error_lines(error, about):
        say(line)
    return exit_status(error)


def say(text: str) -> None:
    """Tell the person something that is not the command's result."""
    click.echo(f"lrs: {text}", err=True)


def print_json(value: object) -> None:
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def human_age(seconds: float) -> str:
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 120:
        return f"{seconds:.1f} s"
    minutes = int(seconds // 60)
    if minutes < 120:
        return f"{minutes} min"
    hours = minutes // 60
    return f"{hours} h" if hours < 48 else f"{hours // 24} d"


def counted(number: int, singular: str, plural: str = "") -> str:
    return f"{number} {singular if number == 1 else plural or singular + 's'}"


def print_table(
    columns: Sequence[str], rows: Iterable[Sequence[str]], *, right: frozenset[str] = frozenset(), title: str = ""
) -> None:
    """Print a table; `right` names the columns of figures.

    A terminal gets bold headings and lines that fit; elsewhere a row is always one line of plain text.
    """
    from rich.table import Table
    from rich.text import Text

    if title:
        click.echo(click.style(title, bold=True))
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(one_line(cell)) for cell in row))
    console = stdout_console()
    with console.capture() as captured:
        console.print(table)
    click.echo("\n".join(line.rstrip() for line in captured.get().splitlines()))


def stdout_console() -> Console:
    """The standard output as rich sees it: colours and the width of the window only on a terminal."""
    from rich.console import Console

    # None if we were started without one.
    if sys.stdout is not None and sys.stdout.isatty():
        return Console(file=sys.stdout)
    return Console(file=sys.stdout, width=10_000, no_color=True, force_terminal=False)


def one_line(text: str) -> str:
    """`text` as it can be printed in a line: what would end that, or is no character, is escaped."""
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in text)


def _errno(error: BaseException) -> int:
    if isinstance(error, DssUnavailableError):
        return errno.EAGAIN
    if isinstance(error, UnicodeEncodeError):
        return errno.EINVAL
    return (error.errno or 0) if isinstance(error, OSError) else 0


def _inexpressible(error: UnicodeEncodeError) -> str:
    """What could not be encoded: the word, or of a longer text the line."""
    before, after = error.object[: error.end], error.object[error.end :]
    line = before.rpartition("\n")[2] + after.partition("\n")[0]
    return f"{line}: cannot be expressed in {error.encoding}"
