"""The files of a simulated DSS."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from random import Random

import apsw
import pytest

from lrs_trio.dss.operations import AddDirectory, AppendLog, LogEntry, MediumUpdate, UpdateMedia
from lrs_trio.errors import LrsError
from lrs_trio.model import Device, Family, FsType, Medium, ResourceId
from lrs_trio.simulation.host.dss_files import DssFiles

MEDIUM = ResourceId(Family.DIR, "/a", "legacy")
DEVICE = ResourceId(Family.DIR, "store1:/a", "legacy")
ADD = UpdateMedia((MediumUpdate(MEDIUM, add_objects=1),))


def furnished(seed: int = 1) -> DssFiles:
    files = DssFiles(lambda: 1_700_000_000.0, Random(seed))
    files.commit(None, [AddDirectory(Device(DEVICE, "store1", "/a"), Medium(MEDIUM, FsType.POSIX))])
    return files


@pytest.fixture
def files() -> Iterator[DssFiles]:
    with closing(furnished()) as files:
        yield files


def objects(files: DssFiles) -> int:
    return files.read().media[MEDIUM].medium.stats.nb_obj


def test_two_worlds_of_one_process_have_files_of_their_own(files: DssFiles) -> None:
    with closing(furnished()) as others:
        others.commit(None, [ADD])
        assert (objects(files), objects(others)) == (0, 1)


def test_one_seed_gives_the_same_bytes_whatever_else_the_process_does_with_sqlite() -> None:
    """The rows of the operation log have random numbers, and where they are in its index depends on them."""
    images = []
    for drawn in (0, 1000):
        apsw.randomness(drawn)
        with closing(furnished()) as files:
            entry = LogEntry(DEVICE, MEDIUM.name, -5, "LTFS sync", "{}")
            for _ in range(50):
                files.commit("daemon", [AppendLog(entry)])
            disk = files._vfs.disk
            images.append({name: bytes(disk.contents[inode]) for name, inode in disk.names.items()})
    assert images[0] == images[1]


def test_what_a_killed_user_has_committed_stays(files: DssFiles) -> None:
    for number in range(1, 4):
        files.commit("daemon", [ADD])
        files.kill()
        assert objects(files) == number


def test_a_user_never_misses_what_another_one_has_written(files: DssFiles) -> None:
    for number in range(6):
        files.commit(number % 2, [ADD])
        assert objects(files) == number + 1


def test_a_power_cut_leaves_a_commit_or_nothing_of_it(files: DssFiles) -> None:
    done = 0
    durable = []
    for seed in range(60):
        outcomes, intact = files.cut_power(Random(seed), "daemon", [ADD, ADD])
        durable.append(bool(outcomes))
        done += 2 * durable[-1]
        assert intact
        assert objects(files) == done
    assert 5 < sum(durable) < 55


def test_a_refused_operation_is_the_outcome_of_that_one(files: DssFiles) -> None:
    again = AddDirectory(Device(DEVICE, "store1", "/a"), Medium(MEDIUM, FsType.POSIX))
    refused, done = files.commit(None, [again, ADD])
    assert isinstance(refused, LrsError)
    assert not isinstance(done, LrsError)
    assert objects(files) == 1


def test_the_vfs_of_a_run_is_gone_after_it() -> None:
    before = apsw.vfs_names()
    furnished().close()
    assert apsw.vfs_names() == before
