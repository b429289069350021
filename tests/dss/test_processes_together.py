"""One DSS file and several processes: commands beside the daemon, and processes that are killed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest
import trio

from lrs_trio.dss.group_commit import GroupCommit
from lrs_trio.dss.home import ThreadedHome
from lrs_trio.dss.operations import MediumUpdate, ReadHealthLog, ReadMedium, UpdateMedia
from lrs_trio.dss.sqlite import SqliteHome
from lrs_trio.model import Family

from . import commit_numbers
from .samples import LIBRARY, directory, medium_id

ENDLESS = 1_000_000


def start_committing(path: Path, name: str, count: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(commit_numbers.__file__), str(path), name, str(count)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )


def counted(home: SqliteHome, name: str) -> int:
    row = home.execute(ReadMedium(medium_id(name)))
    assert row is not None
    return row.medium.stats.nb_obj


@pytest.mark.note("2.5d")
async def test_commands_write_while_the_daemon_does(tmp_path: Path) -> None:
    path = tmp_path / "dss.sqlite"
    with SqliteHome.open(path) as home:
        home.commit([directory("/srv/a"), directory("/srv/b")])
        commands = [start_committing(path, "/srv/a", 50) for _ in range(2)]
        group = GroupCommit(ThreadedHome(home), random=Random(1))
        done = 0

        async def release_until_commands_end() -> None:
            nonlocal done
            while any(command.poll() is None for command in commands):
                for name in ("/srv/a", "/srv/b"):
                    await group.execute(UpdateMedia((MediumUpdate(medium_id(name), add_objects=1),)))
                done += 1

        async with trio.open_nursery() as writer:
            await writer.start(group.run)
            async with trio.open_nursery() as releases:
                for _ in range(4):
                    releases.start_soon(release_until_commands_end)
            group.close()

        assert [len(command.communicate()[0].split()) for command in commands] == [50, 50]
        assert [command.returncode for command in commands] == [0, 0]
        assert counted(home, "/srv/a") == done + 100
        assert counted(home, "/srv/b") == done


def test_what_a_killed_process_had_acknowledged_is_there(tmp_path: Path) -> None:
    path = tmp_path / "dss.sqlite"
    with SqliteHome.open(path) as home:
        home.execute(directory("/srv/a"))
    random = Random(1)

    before = 0
    for _ in range(5):
        child = start_committing(path, "/srv/a", ENDLESS)
        assert child.stdout is not None
        heard = [child.stdout.readline() for _ in range(random.randint(1, 200))]
        child.kill()
        heard += child.communicate()[0].splitlines()
        acknowledged = len([line for line in heard if line.strip()])

        with SqliteHome.open(path) as home:
            now = counted(home, "/srv/a")
            logged = home.execute(ReadHealthLog(LIBRARY, Family.DIR, medium="/srv/a"))
        assert before + acknowledged <= now <= before + acknowledged + 1
        assert logged[before:] == tuple(range(-1, before - now - 1, -1))
        before = now
