"""Commands as real processes: what they print, how they end, and how they are ended."""

from __future__ import annotations

import errno
import os
import shlex
import signal
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from lrs_trio.storage.command import Finished, Lifeline, Lines, run_command
from lrs_trio.storage.process_group import TERMINATE_S
from tests.processes import PATIENCE_S, Descendants, child, descendants, wait_gone


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Iterator[Descendants]:
    """Whatever the test starts; it is gone afterwards."""
    with descendants() as found:
        for name, value in found.environment.items():
            monkeypatch.setenv(name, value)
        yield found


@pytest.fixture
def hurried_clock() -> trio.testing.MockClock:
    """For what waits in earnest for processes, and for seconds that nobody wants to wait for."""
    return trio.testing.MockClock(rate=40)


def shell(script: str) -> list[str]:
    return ["sh", "-c", script]


async def run(argv: list[str]) -> tuple[Finished, list[str]]:
    said: list[str] = []
    with trio.fail_after(PATIENCE_S):
        finished = await run_command(argv, on_line=said.append)
    return finished, said


class Running:
    """A command in the background that has said its first line, which is ``ready`` and its process id."""

    def __init__(self) -> None:
        self.pid = 0
        self.scope = trio.CancelScope()
        self._ready = trio.Event()

    async def run(self, script: str) -> None:
        with self.scope:
            await run_command(shell(script), on_line=self._heard)

    def _heard(self, line: str) -> None:
        self.pid = int(line.removeprefix("ready "))
        self._ready.set()

    async def start(self, nursery: trio.Nursery, script: str) -> None:
        nursery.start_soon(self.run, script)
        await self._ready.wait()


# Lines.


@given(st.binary(max_size=3000), st.integers(1, 700))
def test_lines_do_not_depend_on_how_the_bytes_come(data: bytes, chunk: int) -> None:
    whole, pieces = Lines(), Lines()
    at_once = [*whole.feed(data), *whole.end()]
    one_by_one = [line for i in range(0, len(data), chunk) for line in pieces.feed(data[i : i + chunk])]
    one_by_one += pieces.end()
    assert one_by_one == at_once
    assert len(at_once) == len(data.removesuffix(b"\n").split(b"\n")) if data else not at_once
    assert all(line.isprintable() for line in at_once)


def test_what_is_no_text_is_shown_as_escapes() -> None:
    assert list(Lines().feed(b"\xff\xfea\0b\x1b[2J\xc3\xa9\tc \r\n")) == [r"\xff\xfea\x00b\x1b[2Jé\tc"]


# Ends.


async def test_a_command_that_does_its_work(tmp_path: Path) -> None:
    finished, said = await run(shell("echo one; echo two >&2; sleep 0.02; echo three"))
    assert (finished.status, finished.ok) == (0, True)
    assert said == ["one", "two", "three"]
    assert finished.last_lines == ("one", "two", "three")


async def test_one_that_fails_is_quoted() -> None:
    argv = shell("echo 'LTFS11006E cannot mount'; exit 3")
    finished, _ = await run(argv)
    assert (finished.status, finished.ok) == (3, False)
    assert finished.how == f"{shlex.join(argv)} exited with status 3"
    assert str(finished) == f"{finished.how}; its last words: LTFS11006E cannot mount"


async def test_one_that_dies_is_told_by_the_signal() -> None:
    finished, _ = await run(shell("kill -SEGV $$"))
    assert not finished.ok
    assert str(finished).endswith(" was ended by SIGSEGV and said nothing")


def test_a_signal_without_a_name_has_a_number() -> None:
    assert Finished("x", -40, ()).how == "x was ended by signal 40"


async def test_it_gets_no_input_and_a_session_of_its_own() -> None:
    program = "import os, sys; print(os.getsid(0) == os.getpid(), repr(sys.stdin.read()), os.environ['LC_ALL'])"
    _, said = await run([sys.executable, "-c", program])
    assert said == ["True '' C.UTF-8"]


@pytest.mark.parametrize(("mode", "number"), [(None, errno.ENOENT), (0o600, errno.EACCES), (0o700, errno.ENOEXEC)])
async def test_what_cannot_be_started_is_an_error_of_the_system(tmp_path: Path, mode: int | None, number: int) -> None:
    program = tmp_path / "ltfs"
    if mode is not None:
        program.write_bytes(b"\0 no program")
        program.chmod(mode)
    with pytest.raises(OSError, match="ltfs") as caught:
        await run([str(program)])
    assert caught.value.errno == number


async def test_nothing_is_left_open() -> None:
    await run(shell("true"))  # what trio keeps for itself is there from now on
    before = len(os.listdir("/proc/self/fd"))
    await run(shell("echo x"))
    with pytest.raises(FileNotFoundError):
        await run(["/nowhere/ltfs"])
    assert len(os.listdir("/proc/self/fd")) == before


# Output.


async def test_the_last_lines_of_a_command_that_ended_are_not_lost() -> None:
    _, said = await run(shell("seq 2000"))
    assert said == [str(number) for number in range(1, 2001)]


async def test_rubbish_without_end_takes_no_memory() -> None:
    size = 8 * 2**20
    tracemalloc.start()
    try:
        finished, said = await run(shell(f"head -c {size} /dev/zero | tr '\\0' '\\377'; exit 1"))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert finished.status == 1
    assert said == ["\\xff" * 500]
    assert peak < size / 8


async def test_only_the_end_of_many_lines_is_kept_and_quoted() -> None:
    finished, _ = await run(shell("seq 1000; exit 1"))
    assert finished.last_lines == tuple(str(number) for number in range(991, 1001))
    long, _ = await run(shell("seq -s . 100; seq -s . 100; seq -s . 100; echo end; exit 1"))
    assert str(long).startswith(f"{long.how}; its last words: ...")
    assert str(long).endswith(".99.100 | end")
    assert len(str(long)) < len(long.how) + 750


async def test_a_filesystem_that_keeps_the_output_open_is_not_waited_for(started: Descendants) -> None:
    finished, said = await run(shell("echo mounting; setsid sleep 1000 & echo mounted"))
    assert finished.ok
    assert sorted(said) == ["mounted", "mounting"]
    assert len(started.pids()) == 1


async def test_one_that_never_stops_talking_is_not_listened_to_for_ever(started: Descendants) -> None:
    finished, _ = await run(shell("tr '\\0' y < /dev/zero & sleep 0.05; echo mounted"))
    assert finished.ok
    for pid in started.pids():
        wait_gone(pid)


# Cancellation.


async def test_a_cancelled_command_ends_with_all_its_group(started: Descendants) -> None:
    running = Running()
    async with trio.open_nursery() as nursery:
        await running.start(nursery, 'sleep 1000 & sleep 1000 & echo "ready $$"; wait')
        assert len(started.pids()) == 3
        running.scope.cancel()
    assert running.scope.cancelled_caught
    assert not started.pids()
    assert not Path(f"/proc/{running.pid}").exists(), "it is a zombie"


async def test_one_that_does_not_obey_is_killed(started: Descendants, mock_clock: trio.testing.MockClock) -> None:
    running = Running()
    async with trio.open_nursery() as nursery:
        await running.start(nursery, "trap '' TERM; echo \"ready $$\"; exec sleep 1000")
        running.scope.cancel()
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert started.pids() == [running.pid]
        mock_clock.jump(TERMINATE_S)
    assert running.scope.cancelled_caught
    assert not Path(f"/proc/{running.pid}").exists()


async def test_what_a_command_that_obeys_has_started_is_killed_too(
    started: Descendants, hurried_clock: trio.testing.MockClock
) -> None:
    running = Running()
    async with trio.open_nursery() as nursery:
        await running.start(nursery, "(trap '' TERM; echo \"ready $$\"; exec sleep 1000) & wait")
        running.scope.cancel()
    for pid in started.pids():
        wait_gone(pid)


async def test_one_that_wants_to_tidy_up_may(tmp_path: Path, started: Descendants) -> None:
    running = Running()
    async with trio.open_nursery() as nursery:
        await running.start(
            nursery, f"trap 'touch {tmp_path}/tidy; exit 1' TERM; echo \"ready $$\"; while :; do sleep 0.01; done"
        )
        running.scope.cancel()
    assert (tmp_path / "tidy").exists()


async def test_a_cancellation_before_the_start_starts_nothing(tmp_path: Path) -> None:
    with trio.move_on_after(0) as scope:
        await run_command(["touch", str(tmp_path / "started")])
    assert scope.cancelled_caught
    assert not (tmp_path / "started").exists()


async def test_what_is_started_while_it_is_cancelled_ends(tmp_path: Path, started: Descendants) -> None:
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run_command, ["sleep", "1000"])
            await trio.lowlevel.checkpoint()
            scope.cancel()
    assert not started.pids()


async def test_a_listener_that_fails_ends_the_command(started: Descendants) -> None:
    def fail(line: str) -> None:
        raise ValueError(line)

    with pytest.RaisesGroup(ValueError):
        await run_command(shell("echo x; exec sleep 1000"), on_line=fail)
    assert not started.pids()


# What a daemon that is killed leaves behind.


RUNS_A_COMMAND = """
import sys, trio
from lrs_trio.storage.command import Lifeline, run_command
async def main(path, script):
    descriptor = Lifeline(path).take()
    await run_command(["sh", "-c", script], on_line=lambda line: print(line, file=sys.stderr), pass_fds=[descriptor])
trio.run(main, *sys.argv[1:])
"""


def killed_daemon(lifeline: Lifeline, script: str) -> list[int]:
    """Have a daemon run `script` and kill it once that has said ``ready`` and process ids, which are returned."""
    program = [sys.executable, "-c", RUNS_A_COMMAND, lifeline.path, script]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with child(program, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment, text=True) as daemon:
        assert daemon.stderr is not None
        ready, *pids = daemon.stderr.readline().split()
    assert ready == "ready"
    return [int(pid) for pid in pids]


def test_a_lifeline_that_nobody_has_taken_is_not_held(tmp_path: Path) -> None:
    lifeline = Lifeline(f"{tmp_path}/sg3")
    assert not lifeline.is_held()
    assert not any(tmp_path.iterdir())
    assert not Lifeline(f"{tmp_path}/nowhere/sg3").is_held()


def test_it_is_held_until_the_last_that_took_it_lets_go(tmp_path: Path) -> None:
    lifeline = Lifeline(f"{tmp_path}/sg3")
    one, other = lifeline.take(), lifeline.take()
    os.close(one)
    assert lifeline.is_held()
    os.close(other)
    assert not lifeline.is_held()


def test_one_that_cannot_be_made_is_an_error_of_the_system(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Lifeline(f"{tmp_path}/nowhere/sg3").take()


@pytest.mark.usefixtures("started")
def test_a_command_that_outlives_its_daemon_is_known_by_its_lifeline(tmp_path: Path) -> None:
    lifeline = Lifeline(f"{tmp_path}/sg3")
    go = tmp_path / "go"
    os.mkfifo(go)
    (command,) = killed_daemon(lifeline, f'echo "ready $$"; read line < {go}')
    assert lifeline.is_held()
    go.write_text("\n")
    wait_gone(command)
    assert not lifeline.is_held()


@pytest.mark.usefixtures("started")
def test_a_server_in_the_background_holds_it_too(tmp_path: Path) -> None:
    lifeline = Lifeline(f"{tmp_path}/sg3")
    told = tmp_path / "told"
    os.mkfifo(told)
    serve = f"setsid sh -c 'echo $$ > {told}; exec sleep 1000'"
    command, server = killed_daemon(lifeline, f'{serve} & read server < {told}; echo "ready $$ $server"')
    wait_gone(command)
    assert lifeline.is_held()
    os.kill(server, signal.SIGKILL)
    wait_gone(server)
    assert not lifeline.is_held()


async def test_nobody_holds_it_after_the_end_of_a_command(tmp_path: Path) -> None:
    lifeline = Lifeline(f"{tmp_path}/sg3")
    descriptor = lifeline.take()
    try:
        finished = await run_command(shell("true"), pass_fds=[descriptor])
    finally:
        os.close(descriptor)
    assert finished.ok
    assert not lifeline.is_held()
