"""Programs of ours whose caller ignores SIGCHLD: how their own children end must not get lost."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from lrs_trio.cli.demo.daemon import DemoSite
from lrs_trio.errors import OperationError
from lrs_trio.storage.tlc import TlcClient
from tests.cli.conftest import ENVIRONMENT, TIMEOUT_S, command_line
from tests.cli.robots import behind_mtx, controller, write_settings
from tests.processes import child
from tests.tlc.conftest import FakeMtx

DEAF = ("bash", "-c", 'trap "" CHLD; exec "$@"', "bash")
"""Followed by a command line: it runs with SIGCHLD ignored."""


def run_deaf(command: Sequence[str | Path], **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*DEAF, *command],
        check=False,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        env=ENVIRONMENT | environment,
    )


def ignores_the_end_of_children(status: str) -> bool:
    """What the kernel says of a process, in its file ``status``."""
    (ignored,) = (line.partition(":")[2] for line in status.splitlines() if line.startswith("SigIgn:"))
    return bool(int(ignored, 16) >> signal.SIGCHLD - 1 & 1)


def test_the_caller_of_these_tests_does_ignore_it() -> None:
    assert ignores_the_end_of_children(run_deaf(["cat", "/proc/self/status"]).stdout)


@pytest.mark.parametrize(("script", "status"), [("exit 0", 0), ("sleep 0.2; exit 3", 3), ("kill -KILL $$", 137)])
def test_exec_gives_the_status_of_its_command(
    directories: tuple[Path, ...], site: DemoSite, script: str, status: int
) -> None:
    done = run_deaf(command_line(site, "exec", "--write", "1KiB", "--", "sh", "-c", f"echo x > {{root}}/x; {script}"))
    assert done.returncode == status
    assert ("not accounted for" in done.stderr) == (status != 0)


async def test_a_move_that_failed_is_not_told_as_done(tmp_path: Path, mtx: FakeMtx) -> None:
    mtx.fail("load", "1", "mtx: Request Sense: Sense Key=Hardware Error\n")
    config = write_settings(tmp_path / "lrs.toml", main=behind_mtx(mtx))
    with controller(config, "main", within=DEAF) as running:
        with pytest.raises(OperationError, match="Hardware Error"):
            await TlcClient("127.0.0.1", running.port).load("S2", "P00001L5")
        assert not ignores_the_end_of_children(Path(f"/proc/{running.process.pid}/status").read_text())


def test_a_daemon_hears_of_the_end_of_its_commands(site: DemoSite) -> None:
    lrsd = [sys.executable, "-m", "lrs_trio.cli.lrsd", "--config", str(site.config)]
    with child([*DEAF, *lrsd], stderr=subprocess.PIPE, env=ENVIRONMENT, text=True) as process:
        assert process.stderr is not None
        assert any("ready" in line for line in process.stderr)
        assert not ignores_the_end_of_children(Path(f"/proc/{process.pid}/status").read_text())


def test_a_start_in_the_background_that_failed_is_told_as_such(tmp_path: Path) -> None:
    command = Path(sys.executable).with_name("lrsd-phobos")
    missing = tmp_path / "phobos.conf"
    done = run_deaf([command, "-c", missing], DAEMON_PID_FILEPATH=str(tmp_path / "pid"))
    assert done.returncode == 1
    assert str(missing) in done.stderr
    assert "Traceback" not in done.stderr
