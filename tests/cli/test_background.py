"""Going to the background, with a service in place of the daemon."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.processes import PATIENCE_S, Descendants, child, descendants, wait_gone

PROGRAM = """
import os, signal, sys
from pathlib import Path
from lrs_trio.cli.background import run_in_background
from lrs_trio.errors import LrsError
here = Path(sys.argv[2])
def serve(ready):
    (here / "served").touch()
    {serve}
try:
    sys.exit(run_in_background(serve, sys.argv[1]))
except LrsError as error:
    sys.exit(f"errno {{error.errno}}: {{error.strerror}}")
"""

SERVES = "ready(); signal.pause()"


@dataclass(frozen=True, slots=True)
class Starter:
    """Runs PROGRAM in a directory of the test's."""

    here: Path
    started: Descendants

    @property
    def pid_file(self) -> Path:
        return self.here / "pid"

    def command(self, serve: str, pid_file: Path | None = None) -> list[str]:
        return [sys.executable, "-c", PROGRAM.format(serve=serve), str(pid_file or self.pid_file), str(self.here)]

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, **self.started.environment, "PYTHONPATH": os.pathsep.join(sys.path)}

    def run(self, serve: str, pid_file: Path | None = None) -> subprocess.CompletedProcess[str]:
        """To the end of the parent. What it says goes to a file: a pipe would not end with it."""
        with (self.here / "said").open("w+") as said:
            done = subprocess.run(
                self.command(serve, pid_file),
                check=False,
                stdin=subprocess.PIPE,
                stdout=said,
                stderr=said,
                timeout=PATIENCE_S,
                env=self.environment,
            )
            said.seek(0)
            return subprocess.CompletedProcess(done.args, done.returncode, said.read())

    def daemon(self) -> int:
        """The only process there is, and the one that the pid file names."""
        pid = int(self.pid_file.read_text())
        assert self.started.pids() == [pid]
        return pid


@pytest.fixture
def starter(tmp_path: Path) -> Iterator[Starter]:
    with descendants() as started:
        yield Starter(tmp_path, started)


def test_the_parent_ends_when_the_service_is_ready_and_its_pid_is_in_the_file(starter: Starter) -> None:
    assert starter.run(SERVES).returncode == 0
    pid = starter.daemon()
    assert starter.pid_file.read_bytes() == str(pid).encode()
    os.kill(pid, signal.SIGTERM)
    wait_gone(pid)
    assert starter.pid_file.exists()


def test_the_service_has_nothing_of_the_terminal_but_the_standard_error(starter: Starter) -> None:
    assert starter.run(SERVES).returncode == 0
    pid = starter.daemon()
    assert os.getsid(pid) == pid
    streams = [os.readlink(f"/proc/{pid}/fd/{number}") for number in range(3)]
    assert streams == [os.devnull, os.devnull, str(starter.here / "said")]


def test_a_pid_file_is_overwritten_and_nothing_of_it_is_left(starter: Starter) -> None:
    starter.pid_file.write_text("12345678901234567890\n")
    assert starter.run(SERVES).returncode == 0
    assert starter.pid_file.read_text() == str(starter.daemon())


def test_a_pid_file_may_be_no_file(starter: Starter) -> None:
    assert starter.run(SERVES, Path(os.devnull)).returncode == 0
    assert len(starter.started.pids()) == 1


@pytest.mark.parametrize(
    ("serve", "status"),
    [
        ("return 17", 17),
        ("return 107", 107),
        ("return 0", 1),
        ("raise ValueError('a defect')", 1),
        ("os.kill(os.getpid(), signal.SIGKILL)", 1),
        ("os._exit(0)", 1),
    ],
)
def test_a_start_that_fails_gives_its_status_and_leaves_the_pid_file_alone(
    starter: Starter, serve: str, status: int
) -> None:
    starter.pid_file.write_text("4711")
    done = starter.run(serve)
    assert done.returncode == status
    assert ("ValueError: a defect" in done.stdout) == ("defect" in serve)
    assert starter.started.pids() == []
    assert starter.pid_file.read_text() == "4711"


def test_a_start_that_a_signal_ends_says_which(starter: Starter) -> None:
    done = starter.run("os.kill(os.getpid(), signal.SIGKILL)")
    assert done.stdout == "errno 5: the daemon was ended by signal 9 (Killed) before it was ready\n"


def test_without_a_place_for_the_pid_file_nothing_is_started(starter: Starter) -> None:
    done = starter.run(SERVES, starter.here / "none" / "pid")
    assert done.returncode == 1
    assert re.fullmatch(rf"errno 2: pid file {starter.here}/none/pid: No such file.*was not started\n", done.stdout)
    assert starter.started.pids() == []
    assert not (starter.here / "served").exists()


def test_a_service_whose_pid_cannot_be_written_ends_in_order(starter: Starter) -> None:
    serve = "signal.signal(signal.SIGTERM, lambda *_: (here / 'in order').touch()); ready(); return 0"
    done = starter.run(serve, Path("/dev/full"))
    assert done.returncode == 1
    assert "errno 28: pid file /dev/full: No space left" in done.stdout
    assert starter.started.pids() == []
    assert (starter.here / "in order").exists()


def test_a_service_that_has_lost_its_parent_ends_in_order_when_it_would_be_ready(starter: Starter) -> None:
    starter.pid_file.write_text("4711")
    go = starter.here / "go"
    os.mkfifo(go)
    serve = (
        "signal.signal(signal.SIGTERM, lambda *_: (here / 'in order').touch()); "
        "print('begun', flush=True, file=sys.stderr); (here / 'go').open().read(); ready(); return 0"
    )
    with child(starter.command(serve), stderr=subprocess.PIPE, env=starter.environment) as parent:
        assert parent.stderr is not None
        assert parent.stderr.readline() == b"begun\n"
        (pid,) = [pid for pid in starter.started.pids() if pid != parent.pid]
        parent.kill()
        parent.wait()
        go.write_text("")
        wait_gone(pid)
    assert (starter.here / "in order").exists()
    assert starter.pid_file.read_text() == "4711"
