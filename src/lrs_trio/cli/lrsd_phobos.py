"""`lrsd-phobos`: the daemon for a site that has started phobosd, with the options and the configuration of that.

The options are read as getopt_long does it: one after the other, long ones may be shortened.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from getopt import GetoptError, gnu_getopt
from pathlib import Path
from typing import Final, NoReturn

from lrs_trio.cli.inherited import heed_children

EXIT_FAILED: Final = 1
EXIT_INTERRUPTED: Final = 130

PID_FILE: Final = "DAEMON_PID_FILEPATH"
"""The environment variable that names the file for the process id."""

LEVELS: Final = ("off", "error", "warning", "info", "verbose", "debug")
"""The log levels, by phobosd's numbers."""

USAGE: Final = "usage: {name} [-hivqs] [-c FILE] [-l NAME]"

HELP: Final = f"""\
{USAGE}

Schedule the storage resources of this host with the configuration of Phobos, in the background, until SIGINT or
SIGTERM. The first signal drains: what is going on ends in order. A second one ends at once.

  -h, --help          show this text
  -i, --interactive   stay in the foreground
  -c, --config FILE   the configuration; else PHOBOS_CFG_FILE names it, else /etc/phobos.conf
  -l, --library NAME  ignored
  -v, --verbose       one log level more: off, error, warning, info (the default), verbose, debug
  -q, --quiet         one log level less
  -s, --syslog        log to syslog instead of the standard error

In the background, the environment variable DAEMON_PID_FILEPATH has to name a file. The process id is written there
when the daemon serves.

Exit status: 0 if the daemon serves (in the foreground: after a clean drain, 3 after a forced one), 17 if another
daemon runs here already, 1 for bad options or settings or a defect; if the daemon cannot start for another reason, the
number of that error.
"""


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line asks for."""

    help: bool = False
    interactive: bool = False
    config: Path | None = None
    level: int = LEVELS.index("info")
    syslog: bool = False
    ignored: tuple[str, ...] = ()
    """What it asks for in vain, in words for a warning each."""


def read_options(arguments: Sequence[str]) -> Options:
    """The options in `arguments`.

    Raises:
        GetoptError: one is unknown, or lacks its value.
    """
    given, operands = gnu_getopt(
        arguments, "hic:l:vqs", ["help", "interactive", "config=", "library=", "verbose", "quiet", "syslog"]
    )
    options = Options(ignored=tuple(f"argument {operand!r} is ignored" for operand in operands))
    for option, value in given:
        match option:
            case "-h" | "--help":
                options = replace(options, help=True)
            case "-i" | "--interactive":
                options = replace(options, interactive=True)
            case "-c" | "--config":
                options = replace(options, config=Path(value))
            case "-l" | "--library":
                ignored = f"option {option} {value} is ignored: it is for daemons of libraries"
                options = replace(options, ignored=(*options.ignored, ignored))
            case "-v" | "--verbose":
                options = replace(options, level=min(options.level + 1, len(LEVELS) - 1))
            case "-q" | "--quiet":
                options = replace(options, level=max(options.level - 1, 0))
            case "-s" | "--syslog":
                options = replace(options, syslog=True)
    return options


def run(name: str, arguments: Sequence[str]) -> int:
    """Do what the command line asks of the program called `name`, and return the exit status."""
    try:
        options = read_options(arguments)
    except GetoptError as error:
        print(f"{name}: {error}\n{USAGE.format(name=name)}", file=sys.stderr)
        return EXIT_FAILED
    if options.help:
        print(HELP.format(name=name), end="")
        return 0
    if options.interactive:
        return serve(name, options)
    pid_file = os.environ.get(PID_FILE)
    if not pid_file:
        print(f"{name}: {PID_FILE} is not set; let it name the file for the process id, or use -i", file=sys.stderr)
        return EXIT_FAILED
    from lrs_trio.cli.background import run_in_background
    from lrs_trio.errors import LrsError

    try:
        return run_in_background(lambda ready: serve(name, options, ready), pid_file)
    except LrsError as error:
        print(f"{name}: {error.strerror}", file=sys.stderr)
        return EXIT_FAILED
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED


def serve(name: str, options: Options, on_ready: Callable[[], None] | None = None) -> int:
    """Run the daemon in this process, and return its exit status."""
    from lrs_trio import tuning

    tuning.do_without_displays()
    from lrs_trio.errors import SettingsError
    from lrs_trio.phobos.settings import load_phobos_settings

    overrides = [f"log.level={LEVELS[options.level]}", *(["log.syslog=true"] if options.syslog else [])]
    try:
        loaded = load_phobos_settings(options.config, os.environ, overrides)
    except SettingsError as error:
        for line in str(error).splitlines():
            print(f"{name}: {line}", file=sys.stderr)
        return EXIT_FAILED
    from lrs_trio.daemon import run_daemon

    return run_daemon(
        loaded.settings,
        warnings=(*options.ignored, *loaded.warnings),
        on_ready=on_ready,
        configuration=loaded.configuration,
    )


def main() -> NoReturn:
    heed_children()
    name = os.path.basename(sys.argv[0])
    _bear(name)
    _open_standard_streams()
    sys.exit(run(name, sys.argv[1:]))


def _bear(name: str) -> None:
    """Let `name` be that of the process, for whoever looks for it there; the kernel keeps 15 bytes of it."""
    with suppress(OSError):
        Path("/proc/self/comm").write_bytes(os.fsencode(name)[:15])


def _open_standard_streams() -> None:
    """Put nothing in place of the standard streams that the caller has closed: another file would get their number."""
    for stream, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, stream) is None:
            setattr(sys, stream, open(os.devnull, mode))  # noqa: SIM115 until the end
