"""Every acknowledged commit survives a power cut, and the test would notice if it did not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import Literal

import apsw
import pytest

from lrs_trio.dss.operations import AppendLog, MediumUpdate, Operation, ReadHealthLog, ReadMedium, UpdateMedia
from lrs_trio.dss.sqlite import SqliteHome
from lrs_trio.errors import LrsError
from lrs_trio.model import Family
from lrs_trio.simulation.host.disk import Disk, DiskVfs

from .samples import LIBRARY, device_id, directory, log_entry, medium_id

Synchronous = Literal["FULL", "NORMAL", "OFF"]

COMMITS = 150
TEXT = "x" * 30_000
"""Of each log entry: eight pages, so that the log of the database is folded into it during the run."""


@pytest.fixture
def vfs() -> Iterator[DiskVfs]:
    vfs = DiskVfs("power cut", recorded(Disk()), lambda: 0.0, Random(0))
    yield vfs
    vfs.unregister()


def recorded(disk: Disk) -> Disk:
    """`disk`, to be cut at every one of its events."""
    disk.record()
    return disk


def open_home(synchronous: Synchronous = "FULL") -> SqliteHome:
    return SqliteHome.open("dss.sqlite", vfs="power cut", exclusive=True, synchronous=synchronous)


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """After this many events of the disk, this many commits had been acknowledged."""

    events: int
    commits: int


def commits_done(home: SqliteHome) -> int:
    """How many commits are in the DSS; they are the first ones, each whole."""
    row = home.execute(ReadMedium(medium_id()))
    found = home.execute(ReadHealthLog(LIBRARY, Family.DIR, device=device_id().name))
    assert found == tuple(range(-1, -len(found) - 1, -1))
    assert (row.medium.stats.nb_obj if row else 0) == len(found)
    return len(found)


def commit_some(home: SqliteHome, disk: Disk, first: int, count: int) -> list[Acknowledged]:
    """Commit numbered pairs of operations and note what the disk had been told at each acknowledgement."""
    acknowledged = []
    for number in range(first, first + count):
        batch: list[Operation[object]] = [
            UpdateMedia((MediumUpdate(medium_id(), add_objects=1),)),
            AppendLog(log_entry(-number, text=TEXT)),
        ]
        if number == 1:
            batch.insert(0, directory())
        assert not any(isinstance(outcome, LrsError) for outcome in home.commit(batch))
        acknowledged.append(Acknowledged(len(disk.events), number))
    return acknowledged


def live(vfs: DiskVfs, synchronous: Synchronous, first: int = 1, count: int = COMMITS) -> list[Acknowledged]:
    """One life of the DSS on the disk of `vfs`, from opening to closing."""
    with open_home(synchronous) as home:
        return commit_some(home, vfs.disk, first, count)


def certain(acknowledged: list[Acknowledged], cut: int) -> int:
    """How many commits had been acknowledged when the power was cut."""
    return max((mark.commits for mark in acknowledged if mark.events <= cut), default=0)


def lost_after_cuts(
    vfs: DiskVfs, disk: Disk, acknowledged: list[Acknowledged], cuts: list[int], random: Random
) -> list[int]:
    """For each cut how many acknowledged commits are missing; a file that cannot be read has lost them all."""
    lost = []
    for cut in cuts:
        vfs.disk = Disk(disk.cut_after(cut, random))
        try:
            with open_home() as home:
                done = commits_done(home)
        except (apsw.Error, LrsError, AssertionError):
            done = -1
        lost.append(max(certain(acknowledged, cut) - done, 0))
    return lost


def test_no_acknowledged_commit_is_lost_wherever_the_power_is_cut(vfs: DiskVfs) -> None:
    disk, random = vfs.disk, Random(1)
    acknowledged = live(vfs, "FULL")
    everywhere = random.sample(range(len(disk.events) + 1), 60)
    just_after_an_answer = [mark.events for mark in random.sample(acknowledged, 20)]

    for cut in everywhere + just_after_an_answer:
        vfs.disk = Disk(disk.cut_after(cut, random))
        with open_home() as home:
            done = commits_done(home)
        before = certain(acknowledged, cut)
        assert before <= done <= before + 1, f"cut after {cut} of {len(disk.events)} events"


def test_a_dss_that_lost_its_power_goes_on_and_may_lose_it_again(vfs: DiskVfs) -> None:
    random = Random(2)
    done = 0
    for _ in range(12):
        acknowledged = [Acknowledged(0, done), *live(vfs, "FULL", done + 1, 20)]
        cut = random.randint(0, len(vfs.disk.events))
        vfs.disk = recorded(Disk(vfs.disk.cut_after(cut, random)))
        with open_home() as home:
            done = commits_done(home)
        before = certain(acknowledged, cut)
        assert before <= done <= before + 1


@pytest.mark.parametrize("synchronous", ["OFF", "NORMAL"])
def test_without_a_sync_per_commit_acknowledged_commits_are_lost(vfs: DiskVfs, synchronous: Synchronous) -> None:
    """The control: the same disk, the same commits and the same cuts find what is not safe."""
    disk, random = vfs.disk, Random(1)
    acknowledged = live(vfs, synchronous)
    cuts = [mark.events for mark in random.sample(acknowledged, 20)]

    lost = lost_after_cuts(vfs, disk, acknowledged, cuts, random)

    assert sum(count > 0 for count in lost) > len(cuts) // 2


def test_one_seed_is_one_outcome(vfs: DiskVfs) -> None:
    disk = vfs.disk
    live(vfs, "OFF", count=10)
    cut = len(disk.events) // 2

    again = [disk.cut_after(cut, Random(seed)) for seed in (1, *range(20))]

    assert again[0] == again[2]
    assert len({repr(sorted(files.items())) for files in again}) > 1
