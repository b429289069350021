from __future__ import annotations

import os
import subprocess
import sys

import pytest

from lrs_trio.cli.command import fill_in, root_variables
from tests.cli.conftest import ENVIRONMENT, TIMEOUT_S
from tests.processes import child

RUNNER = """
import fcntl, os, sys, termios
from lrs_trio.cli.command import run_command
if sys.argv[1] == "--terminal":
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    del sys.argv[1]
sys.exit(run_command(sys.argv[1:], os.environ))
"""


def runner(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a process of its own, which has no threads."""
    return subprocess.run(
        [sys.executable, "-c", RUNNER, *arguments],
        check=False,
        capture_output=True,
        text=True,
        env=ENVIRONMENT,
        timeout=TIMEOUT_S,
    )


def test_placeholders_become_roots() -> None:
    arguments = ["cp", "{root}", "{root1}/x", "{root2}:{root2}", "{Root}", "{ root}"]
    assert fill_in(arguments, ["/a", "/b"]) == ["cp", "/a", "/a/x", "/b:/b", "{Root}", "{ root}"]


@pytest.mark.parametrize("argument", ["{root0}", "x{root3}"])
def test_a_placeholder_without_a_root_is_refused(argument: str) -> None:
    with pytest.raises(ValueError, match="numbered from 1 to 2"):
        fill_in(["cp", argument], ["/a", "/b"])


def test_a_root_with_braces_is_not_filled_in_again() -> None:
    assert fill_in(["{root1}"], ["/{root2}", "/b"]) == ["/{root2}"]


def test_the_environment_names_every_root() -> None:
    assert root_variables(["/a", "/b"]) == {"LRS_ROOT": "/a", "LRS_ROOT_1": "/a", "LRS_ROOT_2": "/b"}


@pytest.mark.parametrize(
    ("script", "status"), [("exit 0", 0), ("exit 3", 3), ("kill -TERM $$", 143), ("kill -KILL $$", 137)]
)
def test_the_status_is_as_a_shell_gives_it(script: str, status: int) -> None:
    assert runner("sh", "-c", script).returncode == status


def test_a_command_that_is_not_there() -> None:
    assert "FileNotFoundError" in runner("/no/such/command").stderr


def test_a_signal_goes_to_the_command_and_leaves_us_alive() -> None:
    script = "trap 'exit 7' TERM; echo ready; while :; do sleep 0.05; done"
    with child(
        [sys.executable, "-c", RUNNER, "sh", "-c", script], stdout=subprocess.PIPE, env=ENVIRONMENT, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.terminate()
        assert process.wait(TIMEOUT_S) == 7


def test_ctrl_c_reaches_the_command_once() -> None:
    script = (
        "import signal, sys, time\n"
        "count = []\n"
        "signal.signal(signal.SIGINT, lambda *_: count.append(1))\n"
        "print('ready', flush=True)\n"
        "while not count: time.sleep(0.02)\n"
        "time.sleep(0.3)\n"
        "sys.exit(10 + len(count))\n"
    )
    master, slave = os.openpty()
    try:
        with child(
            [sys.executable, "-c", RUNNER, "--terminal", sys.executable, "-c", script],
            stdin=slave,
            stdout=subprocess.PIPE,
            env=ENVIRONMENT,
            start_new_session=True,
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            os.write(master, b"\x03")
            assert process.wait(TIMEOUT_S) == 11
    finally:
        os.close(master)
        os.close(slave)


def test_the_command_dies_with_us() -> None:
    with child(
        [sys.executable, "-c", RUNNER, "sh", "-c", "echo ready; exec sleep 600"],
        stdout=subprocess.PIPE,
        env=ENVIRONMENT,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.kill()
        # The pipe ends when the last process that holds it has ended.
        assert process.stdout.read() == b""
