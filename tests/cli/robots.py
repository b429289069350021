"""Tape libraries of tests: settings that name them, and `lrs tlc` as a process in front of them."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomli_w

from tests.cli.conftest import ENVIRONMENT, TIMEOUT_S
from tests.processes import child
from tests.tlc.conftest import FAKE, FakeMtx

DESCRIPTIONS = Path(__file__).parent.parent.parent / "settings" / "virtual"


def write_settings(path: Path, **libraries: Mapping[str, Any]) -> Path:
    path.write_text(tomli_w.dumps({"libraries": libraries}))
    return path


def behind_mtx(mtx: FakeMtx, **more: Any) -> dict[str, Any]:
    """The settings of a library whose changer is driven by the program of a test."""
    program = shlex.join([sys.executable, "-I", "-S", str(FAKE), str(mtx.directory)])
    return {"mtx": f'{program} -f "%s"', "serials": ["S1", "S2"], "retry_s": 0.01} | more


def lrs(config: Path, *args: object) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        command_line(config, *args), check=False, capture_output=True, text=True, timeout=TIMEOUT_S, env=ENVIRONMENT
    )


def command_line(config: Path, *args: object) -> list[str]:
    return [sys.executable, "-m", "lrs_trio.cli.lrs", "--config", str(config), *map(str, args)]


@dataclass
class TlcProcess:
    """A controller that serves."""

    process: subprocess.Popen[str]
    port: int
    log: Path

    def interrupt(self, number: int = signal.SIGTERM) -> None:
        os.kill(self.process.pid, number)

    def wait(self) -> int:
        return self.process.wait(TIMEOUT_S)


@contextmanager
def controller(config: Path, library: str, *args: object, within: Sequence[str] = ()) -> Iterator[TlcProcess]:
    """`lrs tlc`, on a port of its own unless `args` say otherwise. It must end with a status if it has not already.

    `within` is the command line that runs it.
    """
    log = config.with_suffix(".log")
    arguments = args or ("--listen", "127.0.0.1:0")
    with (
        log.open("w") as errors,
        child(
            [*within, *command_line(config, "tlc", library, *arguments)],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=ENVIRONMENT,
        ) as process,
    ):
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.fullmatch(rf"{library} is served on .*?:(\d+)( and .*)?\n", line)
        assert found, f"{line!r}, {log.read_text()}"
        yield TlcProcess(process, int(found[1]), log)
