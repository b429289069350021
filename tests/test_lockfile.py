"""The lock of a living process is refused and named; that of a dead one is in nobody's way."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lrs_trio.errors import AlreadyRunningError, LrsError
from lrs_trio.lockfile import FileLock

HOLDER = """
import sys
from lrs_trio.lockfile import FileLock
with FileLock(sys.argv[1], "the shed"):
    print("held", flush=True)
    sys.stdin.read()
"""


def start_holder(path: Path, program: str = HOLDER) -> subprocess.Popen[str]:
    child = subprocess.Popen(
        [sys.executable, "-c", program, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "held\n"
    return child


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "shed.lock"


def test_a_lock_held_by_a_living_process_is_refused_and_its_holder_named(path: Path) -> None:
    child = start_holder(path)
    try:
        with pytest.raises(AlreadyRunningError, match=rf"the shed is in use: pid {child.pid} .*{path}") as held:
            FileLock(path, "the shed").acquire()
        assert held.value.errno == errno.EEXIST
    finally:
        child.communicate()

    with FileLock(path, "the shed"):
        assert path.read_text() == f"{os.getpid()}\n"


def test_what_is_no_file_is_said_to_be_what_it_is(path: Path) -> None:
    path.symlink_to("elsewhere")
    with pytest.raises(
        LrsError, match=f"lock file {path} for the shed: this is a symbolic link.*; name a file"
    ) as found:
        FileLock(path, "the shed").acquire()
    assert found.value.errno == errno.ELOOP
    with pytest.raises(LrsError, match=f"lock file {path.parent} for the shed: this is a directory; name a file in it"):
        FileLock(path.parent, "the shed").acquire()
    os.mkfifo(path.with_name("fifo"))
    with pytest.raises(LrsError, match="fifo for the shed: this is no file"):
        FileLock(path.with_name("fifo"), "the shed").acquire()


def test_a_lock_of_a_killed_process_is_in_nobodys_way(path: Path) -> None:
    child = start_holder(path)
    child.send_signal(signal.SIGKILL)
    child.communicate()
    assert path.read_text() == f"{child.pid}\n"

    with FileLock(path, "the shed"):
        assert path.read_text() == f"{os.getpid()}\n"


def test_the_file_outlives_the_lock_and_names_nobody(path: Path) -> None:
    with FileLock(path, "the shed"):
        pass
    assert path.read_text() == ""


def test_a_holder_that_has_not_yet_written_its_pid_is_a_holder(path: Path) -> None:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(AlreadyRunningError, match="just starting"):
            FileLock(path, "the shed").acquire()


def test_a_released_lock_may_be_taken_again(path: Path) -> None:
    lock = FileLock(path, "the shed")
    for _ in range(3):
        with lock, pytest.raises(AlreadyRunningError):
            FileLock(path, "the shed").acquire()


def test_a_refused_attempt_leaves_no_descriptor_open(path: Path) -> None:
    with FileLock(path, "the shed"):
        before = os.listdir("/proc/self/fd")
        with pytest.raises(AlreadyRunningError):
            FileLock(path, "the shed").acquire()
        assert os.listdir("/proc/self/fd") == before


def test_a_program_that_is_started_does_not_get_the_lock(path: Path) -> None:
    with FileLock(path, "the shed"):
        child = subprocess.Popen(["cat"], stdin=subprocess.PIPE, close_fds=False)
    try:
        with FileLock(path, "the shed"):
            pass
    finally:
        child.communicate()


FORKING_HOLDER = """
import os, signal, sys
from lrs_trio.lockfile import FileLock
lock = FileLock(sys.argv[1], "the shed")
lock.acquire()
if os.fork():
    signal.pause()
lock.release()
print("held", flush=True)
sys.stdin.read()
"""


def test_a_fork_neither_holds_the_lock_nor_lets_go_of_it(path: Path) -> None:
    parent = start_holder(path, FORKING_HOLDER)
    with pytest.raises(AlreadyRunningError, match=f"pid {parent.pid} "):
        FileLock(path, "the shed").acquire()

    parent.kill()
    parent.wait()
    # The fork lives on until its input ends.
    with FileLock(path, "the shed"):
        pass
    parent.communicate()


def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(LrsError, match=re.escape(f"lock file {tmp_path}/none/x.lock for the shed")) as missing:
        FileLock(tmp_path / "none" / "x.lock", "the shed").acquire()
    assert missing.value.errno == errno.ENOENT


def test_a_symbolic_link_is_not_followed(tmp_path: Path, path: Path) -> None:
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(LrsError):
        FileLock(path, "the shed").acquire()
    assert not (tmp_path / "elsewhere").exists()


def test_a_file_to_be_removed_is_there_as_long_as_the_lock(path: Path) -> None:
    lock = FileLock(path, "the shed", remove=True)
    for _ in range(2):
        with lock:
            assert path.read_text() == f"{os.getpid()}\n"
            with pytest.raises(AlreadyRunningError):
                FileLock(path, "the shed", remove=True).acquire()
        assert not path.exists()


@pytest.mark.parametrize("replaced", [False, True])
def test_a_file_that_is_removed_between_opening_and_locking_is_not_the_lock(
    path: Path, monkeypatch: pytest.MonkeyPatch, replaced: bool
) -> None:
    flock = fcntl.flock
    removals = iter([True, True])

    def flock_too_late(descriptor: int, operation: int) -> None:
        if next(removals, False):
            path.unlink()
            if replaced:
                path.touch()
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", flock_too_late)
    descriptors = os.listdir("/proc/self/fd")
    with FileLock(path, "the shed", remove=True):
        assert path.read_text() == f"{os.getpid()}\n"
        with pytest.raises(AlreadyRunningError, match=f"pid {os.getpid()} "):
            FileLock(path, "the shed", remove=True).acquire()
    assert not path.exists()
    assert os.listdir("/proc/self/fd") == descriptors


CONTENDER = """
import os, sys
from lrs_trio.errors import AlreadyRunningError
from lrs_trio.lockfile import FileLock
path, wanted = sys.argv[1], 200
print("held", flush=True)
sys.stdin.read(1)
while wanted:
    lock = FileLock(path, "the shed", remove=True)
    try:
        lock.acquire()
    except AlreadyRunningError:
        continue
    os.close(os.open(path + ".inside", os.O_CREAT | os.O_EXCL))  # fails where two are inside
    os.unlink(path + ".inside")
    lock.release()
    wanted -= 1
"""


def test_of_those_who_remove_the_file_one_at_a_time_has_the_lock(path: Path) -> None:
    contenders = [start_holder(path, CONTENDER) for _ in range(3)]
    try:
        for contender in contenders:
            assert contender.stdin is not None
            contender.stdin.write("!")
            contender.stdin.flush()
        for contender in contenders:
            contender.communicate(timeout=60)
        assert [contender.returncode for contender in contenders] == [0, 0, 0]
    finally:
        for contender in contenders:
            contender.kill()
    assert not path.exists()


def test_what_a_killed_process_has_left_is_removed_by_the_next(path: Path) -> None:
    child = start_holder(path, HOLDER.replace('"the shed"', '"the shed", remove=True'))
    child.kill()
    child.communicate()
    assert path.read_text() == f"{child.pid}\n"

    with FileLock(path, "the shed", remove=True):
        assert path.read_text() == f"{os.getpid()}\n"
    assert not path.exists()


def test_somebody_elses_file_is_not_removed(path: Path) -> None:
    with FileLock(path, "the shed", remove=True):
        path.unlink()
        path.write_text("theirs")
    assert path.read_text() == "theirs"


def test_a_file_that_has_gone_already_is_no_error(path: Path) -> None:
    with FileLock(path, "the shed", remove=True):
        path.unlink()
    assert not path.exists()
