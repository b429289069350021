"""Who is in a process group; how one is ended is tried in test_command."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from lrs_trio.storage.process_group import KILL_S, TERMINATE_S, members
from tests.processes import child


@pytest.mark.parametrize("name", ["ltfs", ") Z 1 2", "a b) X"])
def test_the_living_count_whatever_they_are_called_and_the_dead_do_not(tmp_path: Path, name: str) -> None:
    program = tmp_path / name
    program.write_text("#!/bin/sh\nread line\n")
    program.chmod(0o700)
    with child([program], stdin=subprocess.PIPE, start_new_session=True) as process:
        assert members(process.pid) == [process.pid]
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert members(process.pid) == []


def test_a_group_without_members_has_none() -> None:
    assert members(2**22 + 1) == []


def test_an_end_takes_a_few_seconds_at_most() -> None:
    assert TERMINATE_S + KILL_S <= 10
