"""Which locks found at start are left over, and what the kernel says about their owners."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrs_trio.dss.processes import life_of_this_machine, process_start_time
from lrs_trio.dss.recovery import LocksFound, Standing, sort_locks, standing_of
from lrs_trio.model import Lock, LockOwner, LockType

US = LockOwner("store1", 100)
TAKEN = 1_000_000.0
LOCK = Lock(LockType.MEDIA, "/srv/a_legacy", LockOwner("store1", 50), TAKEN)


def processes(**started: float) -> dict[int, float]:
    """Processes by pid: ``p50=...`` says when 50 started."""
    return {int(name[1:]): when for name, when in started.items()}


def test_a_lock_whose_process_is_gone_is_stale() -> None:
    assert standing_of(LOCK, US, processes(p100=TAKEN).get) is Standing.STALE


def test_a_lock_whose_pid_was_given_to_a_later_process_is_stale() -> None:
    assert standing_of(LOCK, US, processes(p50=TAKEN + 60).get) is Standing.STALE


@pytest.mark.parametrize("started", [TAKEN - 3600, TAKEN, TAKEN + 1])
def test_a_lock_of_a_process_that_is_as_old_is_held_by_it(started: float) -> None:
    """A second later counts as old: so much the clock may have been put forward since."""
    assert standing_of(LOCK, US, processes(p50=started).get) is Standing.LIVING


def test_a_lock_of_a_predecessor_that_had_our_pid_is_stale() -> None:
    ours = replace(LOCK, owner=US)
    assert standing_of(ours, US, processes(p100=TAKEN + 60).get) is Standing.STALE
    assert standing_of(ours, US, processes(p100=TAKEN - 60).get) is Standing.OURS


def test_a_weak_lock_is_a_reservation_whoever_made_it() -> None:
    weak = replace(LOCK, is_weak=True)
    assert standing_of(weak, US, processes().get) is Standing.WEAK
    assert standing_of(weak, US, processes(p50=TAKEN - 60).get) is Standing.WEAK


def test_locks_that_clients_hold_on_objects_are_theirs() -> None:
    assert standing_of(replace(LOCK, type=LockType.OBJECT), US, processes().get) is Standing.FOREIGN


locks = st.builds(
    Lock,
    type=st.sampled_from(LockType),
    id=st.text("ab", min_size=1, max_size=2),
    owner=st.builds(LockOwner, st.sampled_from(["store1", "store2"]), st.sampled_from([50, 51, 100])),
    timestamp=st.floats(TAKEN - 100, TAKEN + 100),
    is_weak=st.booleans(),
)


@given(st.lists(locks), st.dictionaries(st.sampled_from([50, 51, 100]), st.floats(TAKEN - 100, TAKEN + 100)))
def test_every_lock_has_one_standing_and_other_hosts_are_never_touched(
    found: list[Lock], started: dict[int, float]
) -> None:
    by_standing = sort_locks(found, US, started.get)
    everything = [*by_standing.ours, *by_standing.stale, *by_standing.living, *by_standing.weak, *by_standing.foreign]
    assert sorted(map(repr, everything)) == sorted(map(repr, found))
    assert all(lock.owner.host == "store1" for lock in set(found) - set(by_standing.foreign))
    assert all(lock.owner.pid not in started or started[lock.owner.pid] > lock.timestamp for lock in by_standing.stale)
    assert not any(lock.is_weak for lock in by_standing.stale + by_standing.living + by_standing.ours)


def test_nothing_found_is_nothing_to_do() -> None:
    assert sort_locks([], US, processes().get) == LocksFound()


# The kernel


def test_our_own_start_lies_in_the_past_and_does_not_move() -> None:
    first = process_start_time(os.getpid())
    second = process_start_time(os.getpid())
    assert first is not None
    assert second is not None
    assert first < time.time()
    assert second == pytest.approx(first, abs=0.05)


def test_a_child_started_between_two_looks_at_the_clock() -> None:
    before = time.time()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        after = time.time()
        started = process_start_time(child.pid)
        child.communicate()
    assert started is not None
    # The kernel counts in hundredths of a second.
    assert before - 0.02 <= started <= after + 0.02


def test_a_process_that_has_ended_is_gone_even_before_its_parent_looks() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""], stdout=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.read()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert process_start_time(child.pid) is None
    child.communicate()
    assert process_start_time(child.pid) is None


@pytest.mark.parametrize("error", [FileNotFoundError, PermissionError], ids=["hidepid=2", "hidepid=1"])
def test_a_process_that_is_hidden_has_always_been_there(monkeypatch: pytest.MonkeyPatch, error: type[OSError]) -> None:
    def refuse(path: Path, *_: object) -> str:
        raise error(path)

    with subprocess.Popen([sys.executable, "-c", ""]) as dead:
        dead.wait()
    monkeypatch.setattr(Path, "read_text", refuse)
    assert process_start_time(os.getppid()) == -math.inf
    assert process_start_time(dead.pid) is None


def test_all_processes_whose_pids_can_be_compared_know_it() -> None:
    program = "from lrs_trio.dss.processes import life_of_this_machine as life; print(life())"
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert said.strip() == life_of_this_machine()
    assert len(life_of_this_machine()) == 8


@pytest.mark.parametrize("pid", [0, -1, 2**31, 2**63])
def test_what_is_no_pid_is_no_process(pid: int) -> None:
    assert process_start_time(pid) is None


def test_a_name_with_parentheses_and_blanks_does_not_confuse() -> None:
    program = "open('/proc/self/comm', 'w').write('a) Z 1 (b'); print(flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        assert process_start_time(child.pid) is not None
        child.communicate()
