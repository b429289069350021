"""The disk in memory, and what SQLite gets from it."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

import apsw
import pytest

from lrs_trio.simulation.host.disk import SECTOR, Disk, DiskVfs, Written

NOW = 1_700_000_000.25
PAGE = b"p" * 4096


@pytest.fixture
def vfs() -> Iterator[DiskVfs]:
    vfs = DiskVfs("disk", Disk(), lambda: NOW, Random(7))
    yield vfs
    vfs.unregister()


def connect(vfs: DiskVfs) -> apsw.Connection:
    db = apsw.Connection("a.sqlite", vfs=vfs.name)
    for pragma in ("locking_mode = EXCLUSIVE", "journal_mode = WAL", "synchronous = FULL"):
        db.execute(f"PRAGMA {pragma}")
    return db


def found(disk: Disk) -> dict[str, bytes]:
    """The files as the running system sees them."""
    return {name: bytes(disk.contents[inode]) for name, inode in disk.names.items()}


def outcomes(disk: Disk, seeds: int = 20) -> list[dict[str, bytes]]:
    return [disk.cut(Random(seed)) for seed in range(seeds)]


def test_what_was_synced_survives_and_what_was_not_may_be_lost_in_part() -> None:
    disk = Disk()
    inode = disk.make("a")
    disk.change(Written(inode, 0, b"s" * SECTOR))
    disk.sync(inode)
    disk.change(Written(inode, SECTOR, b"u" * SECTOR * 8))

    contents = [files["a"] for files in outcomes(disk, 50)]

    assert all(content.startswith(b"s" * SECTOR) for content in contents)
    assert {content.count(b"u") % SECTOR for content in contents} == {0}
    assert {content.count(b"u") // SECTOR for content in contents} >= {0, 8}
    assert len(set(contents)) > 3


def test_a_file_that_was_never_synced_may_be_missing() -> None:
    disk = Disk()
    disk.change(Written(disk.make("a"), 0, b"u"))
    assert {tuple(files) for files in outcomes(disk)} == {(), ("a",)}


def test_a_deleted_file_may_come_back_unless_its_directory_was_synced() -> None:
    disk = Disk({"a": b"1", "b": b"2"})
    disk.delete("a", directory_synced=True)
    disk.delete("b", directory_synced=False)
    assert {tuple(files) for files in outcomes(disk)} == {(), ("b",)}


def test_the_system_sees_what_is_not_synced_yet() -> None:
    disk = Disk({"a": b"old"})
    disk.change(Written(disk.names["a"], 0, b"new"))
    disk.make("b")
    assert found(disk) == {"a": b"new", "b": b""}


def test_nothing_is_pending_on_a_disk_whose_files_and_names_are_synced() -> None:
    disk = Disk({"a": b"1"})
    assert not disk.pending
    inode = disk.make("b")
    assert disk.pending
    disk.sync(inode)
    assert not disk.pending
    disk.change(Written(inode, 0, b"2"))
    assert disk.pending
    disk.sync(inode)
    assert not disk.pending
    assert outcomes(disk, 3) == [{"a": b"1", "b": b"2"}] * 3


def test_a_cut_changes_nothing_on_the_disk_that_it_is_asked_of() -> None:
    disk = Disk({"a": b"1" * SECTOR})
    disk.change(Written(disk.names["a"], 0, b"2" * SECTOR))
    assert len({files["a"] for files in outcomes(disk)}) == 2
    assert outcomes(disk) == outcomes(disk)
    assert found(disk) == {"a": b"2" * SECTOR}


def test_a_copy_goes_its_own_way_and_may_still_lose_what_was_not_synced() -> None:
    disk = Disk({"a": b"1" * SECTOR})
    inode = disk.names["a"]
    disk.change(Written(inode, 0, b"2" * SECTOR))
    copy = disk.copy()
    disk.sync(inode)
    copy.make("b")

    assert found(copy) == {"a": b"2" * SECTOR, "b": b""}
    assert {files["a"][:1] for files in outcomes(copy)} == {b"1", b"2"}
    assert found(disk) == {"a": b"2" * SECTOR}
    assert {files["a"][:1] for files in outcomes(disk)} == {b"2"}


def test_only_a_recorded_disk_keeps_what_happened() -> None:
    disk = Disk({"a": b""})
    inode = disk.names["a"]
    disk.change(Written(inode, 0, b"1"))
    disk.sync(inode)
    assert disk.events == []
    disk.record()
    for digit in (b"2", b"3"):
        disk.change(Written(inode, 0, digit))
        disk.sync(inode)
    assert [disk.cut_after(count, Random(1)) for count in (0, 2, 4)] == [{"a": b"1"}, {"a": b"2"}, {"a": b"3"}]


def test_a_long_run_keeps_nothing_but_its_files(vfs: DiskVfs) -> None:
    db = connect(vfs)
    db.execute("CREATE TABLE t (number INTEGER PRIMARY KEY, text TEXT) STRICT")
    sizes = []
    for _ in range(3):
        for number in range(1500):
            db.execute("INSERT OR REPLACE INTO t VALUES (?, ?)", (number % 10, f"{number}"))
            assert not vfs.disk.pending
        sizes.append((len(vfs.disk.names), sum(map(len, vfs.disk.contents.values()))))
    assert sizes[1] == sizes[2]
    assert vfs.disk.events == []
    db.close()
    for _ in range(20):
        db = connect(vfs)
        db.execute("INSERT OR REPLACE INTO t VALUES (1, 'again')")
        db.close()
    assert len(vfs.disk.contents) == 1


def test_sqlite_gets_its_time_from_the_clock(vfs: DiskVfs) -> None:
    with connect(vfs) as db:
        now = db.execute("SELECT strftime('%Y-%m-%d %H:%M:%f', 'now')").get
    db.close()
    assert now == "2023-11-14 22:13:20.250"


def test_what_sqlite_draws_by_lot_depends_on_our_numbers_alone() -> None:
    drawn = []
    for seed in (1, 1, 2):
        vfs = DiskVfs("disk", Disk(), lambda: NOW, Random(seed))
        default = apsw.vfs_names()[0]
        try:
            apsw.randomness(100)
            vfs.seed()
            drawn.append(apsw.randomness(8))
            assert apsw.vfs_names()[0] == default
        finally:
            vfs.unregister()
            apsw.randomness(0)
    assert drawn[0] == drawn[1] != drawn[2]
