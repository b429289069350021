"""The embedded home: its file, its schema, its transactions, and what SQLite says when it cannot."""

from __future__ import annotations

import errno
import json
import os
import re
import stat
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import apsw
import pytest

from lrs_trio.dss.migrations import Migration, bundled_migrations
from lrs_trio.dss.operations import (
    AppendLog,
    DeleteLocks,
    MediumRow,
    MediumUpdate,
    ReadDevices,
    ReadLocks,
    ReadMedia,
    ReadMedium,
    ReadNamedMedia,
    ReleaseLock,
    ReplaceLock,
    SetDeviceStatus,
    TakeLock,
    UpdateMedia,
)
from lrs_trio.dss.sqlite import SqliteHome
from lrs_trio.errors import DssUnavailableError, LrsError
from lrs_trio.model import Family, LockType

from .samples import COMMAND, DAEMON, ELSEWHERE, HOST, device_id, directory, log_entry, medium_id


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "dss.sqlite"


@pytest.fixture
def home(path: Path) -> Iterator[SqliteHome]:
    with SqliteHome.open(path) as home:
        yield home


@pytest.fixture
def raw(path: Path, home: SqliteHome) -> Iterator[apsw.Connection]:
    """A second connection, to do what no operation of ours would."""
    db = apsw.Connection(str(path))
    yield db
    db.close()


def add_one(path: str = "/srv/a") -> UpdateMedia:
    return UpdateMedia((MediumUpdate(medium_id(path), add_objects=1),))


# The file


def test_a_new_file_and_those_beside_it_are_open_to_the_group_whatever_the_umask(path: Path) -> None:
    before = os.umask(0o077)
    try:
        with SqliteHome.open(path) as home:
            home.execute(directory())
            modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    finally:
        os.umask(before)
    assert modes == {"dss.sqlite": 0o660, "dss.sqlite-wal": 0o660, "dss.sqlite-shm": 0o660}


def test_the_mode_of_a_file_that_is_there_is_left_alone(path: Path) -> None:
    SqliteHome.open(path).close()
    path.chmod(0o600)
    SqliteHome.open(path).close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(LrsError, match=re.escape(f"its directory {tmp_path}/none does not exist")) as missing:
        SqliteHome.open(tmp_path / "none" / "dss.sqlite")
    assert missing.value.errno == errno.ENOENT


def test_a_directory_is_no_dss(tmp_path: Path) -> None:
    with pytest.raises(LrsError, match="this is a directory") as wrong:
        SqliteHome.open(tmp_path)
    assert wrong.value.errno == errno.EISDIR


def test_a_file_that_cannot_be_used_says_what_has_to_be_writable(path: Path) -> None:
    Path(f"{path}-shm").mkdir()
    with pytest.raises(LrsError, match="the file and its directory must be writable") as unusable:
        SqliteHome.open(path)
    assert unusable.value.errno == errno.EACCES


def test_a_file_of_something_else_is_refused_and_left_as_it_is(path: Path) -> None:
    path.write_text("Dear diary, " * 1000)
    with pytest.raises(LrsError, match="not an SQLite database"):
        SqliteHome.open(path)
    assert path.read_text().startswith("Dear diary, ")


def test_a_database_of_another_program_is_refused_and_left_as_it_is(path: Path) -> None:
    other = apsw.Connection(str(path))
    other.execute("CREATE TABLE recipes (name TEXT)")
    other.close()
    before = path.read_bytes()

    with pytest.raises(LrsError, match="tables of another program") as wrong:
        SqliteHome.open(path)

    assert wrong.value.errno == errno.EINVAL
    assert path.read_bytes() == before


def test_a_commit_is_synced_to_the_write_ahead_log(home: SqliteHome, raw: apsw.Connection) -> None:
    assert raw.execute("PRAGMA journal_mode").get == "wal"
    assert home._db.execute("PRAGMA synchronous").get == 2


def test_what_was_committed_is_there_after_reopening(path: Path) -> None:
    with SqliteHome.open(path) as home:
        home.execute(directory())
    with SqliteHome.open(path) as home:
        assert [row.medium for row in home.execute(ReadMedia())] == [directory().medium]


def test_many_may_open_a_new_file_at_once(path: Path) -> None:
    start = threading.Barrier(8)

    def open_and_write(number: int) -> None:
        start.wait()
        with SqliteHome.open(path) as home:
            home.execute(directory(f"/srv/{number}"))

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(open_and_write, range(8)))

    with SqliteHome.open(path) as home:
        assert len(home.execute(ReadMedia())) == 8


# The schema


def test_every_step_is_recorded(home: SqliteHome, raw: apsw.Connection) -> None:
    rows = raw.execute("SELECT version, name FROM schema_info ORDER BY version").fetchall()
    assert rows == [(step.version, step.name) for step in bundled_migrations()]
    assert [step.version for step in bundled_migrations()] == list(range(1, len(rows) + 1))


COMMENTS = Migration(
    len(bundled_migrations()) + 1, "comments", "ALTER TABLE media ADD COLUMN comment TEXT NOT NULL DEFAULT ''"
)


def test_an_older_schema_is_brought_up_to_date_with_its_rows(path: Path) -> None:
    with SqliteHome.open(path) as home:
        home.execute(directory())

    with SqliteHome.open(path, migrations=(*bundled_migrations(), COMMENTS)) as home:
        assert home.execute(ReadMedia())[0].medium == directory().medium
        assert home._db.execute("SELECT comment FROM media").fetchall() == [("",)]
        assert home._db.execute("SELECT max(version) FROM schema_info").get == COMMENTS.version


def test_a_newer_schema_is_refused(path: Path) -> None:
    SqliteHome.open(path, migrations=(*bundled_migrations(), COMMENTS)).close()

    known = len(bundled_migrations())
    with pytest.raises(LrsError, match=f"version {known + 1}, .* up to {known}; upgrade lrs-trio") as newer:
        SqliteHome.open(path)
    assert newer.value.errno == errno.EINVAL


def test_a_step_that_fails_leaves_the_schema_at_the_step_before(path: Path) -> None:
    broken = Migration(COMMENTS.version + 1, "broken", "CREATE TABLE half (a TEXT); INSERT INTO nowhere VALUES (1)")

    with pytest.raises(apsw.SQLError, match="nowhere"):
        SqliteHome.open(path, migrations=(*bundled_migrations(), COMMENTS, broken))

    with SqliteHome.open(path, migrations=(*bundled_migrations(), COMMENTS)) as home:
        assert home._db.execute("SELECT max(version) FROM schema_info").get == COMMENTS.version
        assert not home._db.execute("SELECT count(*) FROM sqlite_schema WHERE name = 'half'").get


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE device SET adm_status = 'broken'",
        "UPDATE device SET family = 'floppy'",
        "UPDATE media SET fs_status = 'odd'",
        "UPDATE media SET fs_type = 'ext4'",
        "UPDATE media SET address_type = 'x'",
        "UPDATE media SET put = 2",
        "UPDATE media SET tags = '{}'",
        "UPDATE media SET groupings = 'null'",
        "UPDATE media SET stats = json_remove(stats, '$.nb_load')",
        "UPDATE media SET stats = json_set(stats, '$.nb_obj', -1)",
        "UPDATE media SET stats = json_set(stats, '$.phys_spc_free', '1')",
        "UPDATE lock SET type = 'extent'",
        "UPDATE lock SET timestamp = '2026-01-01'",
    ],
)
def test_the_tables_themselves_refuse_what_readers_would_choke_on(
    home: SqliteHome, raw: apsw.Connection, change: str
) -> None:
    home.commit([directory(), TakeLock(LockType.DEVICE, device_id(), DAEMON)])
    with pytest.raises(apsw.ConstraintError):
        raw.execute(change)


# Batches


def test_a_refused_operation_fails_alone_and_wholly(home: SqliteHome) -> None:
    outcomes = home.commit(
        [
            directory("/srv/a"),
            replace(directory("/srv/a"), medium=directory("/srv/b").medium),
            UpdateMedia((*add_one("/srv/a").updates, MediumUpdate(medium_id("/srv/a"), fs_label="x" * 33))),
            add_one("/srv/a"),
            ReadMedium(medium_id("/srv/a")),
        ]
    )

    assert [type(outcome) for outcome in outcomes[1:3]] == [LrsError, LrsError]
    assert [row.medium.stats.nb_obj for row in home.execute(ReadMedia())] == [1]
    assert outcomes[3] == (home.execute(ReadMedia())[0].medium,)
    assert outcomes[4] == home.execute(ReadMedium(medium_id("/srv/a")))


def test_a_bug_undoes_the_whole_batch_and_stays_a_bug(home: SqliteHome) -> None:
    home.execute(directory())
    nonsense = SetDeviceStatus(device_id(), "failed")  # type: ignore[arg-type]

    with pytest.raises(AttributeError):
        home.commit([add_one(), nonsense])

    home.execute(add_one())
    assert home.execute(ReadMedia())[0].medium.stats.nb_obj == 1


def test_reads_do_not_wait_for_somebody_who_writes(home: SqliteHome, raw: apsw.Connection) -> None:
    home.execute(directory())
    raw.execute("BEGIN IMMEDIATE; DELETE FROM media")
    (rows,) = home.commit([ReadMedia()])
    raw.execute("ROLLBACK")
    assert rows == home.execute(ReadMedia())


def test_a_batch_that_finds_the_database_busy_does_nothing_and_may_be_tried_again(
    path: Path, raw: apsw.Connection
) -> None:
    with SqliteHome.open(path, busy_timeout=0.01) as hasty:
        hasty.execute(directory())
        raw.execute("BEGIN IMMEDIATE")
        with pytest.raises(DssUnavailableError, match="BusyError"):
            hasty.commit([add_one()])
        raw.execute("ROLLBACK")
        hasty.commit([add_one()])
        assert hasty.execute(ReadMedia())[0].medium.stats.nb_obj == 1


def test_opening_a_database_that_stays_busy_says_not_now(path: Path, raw: apsw.Connection) -> None:
    raw.execute("BEGIN IMMEDIATE")
    with pytest.raises(DssUnavailableError):
        SqliteHome.open(path, busy_timeout=0.01, migrations=(*bundled_migrations(), COMMENTS))


def test_a_full_disk_stops_commits_until_there_is_room(home: SqliteHome) -> None:
    home.execute(directory())
    pages = home._db.execute("PRAGMA page_count").get
    home._db.execute(f"PRAGMA max_page_count = {pages}")
    too_much = AppendLog(log_entry(-1, text="x" * 100_000))

    with pytest.raises(DssUnavailableError, match="FullError"):
        home.commit([add_one(), too_much])
    assert home.execute(ReadMedia())[0].medium.stats.nb_obj == 0

    home._db.execute("PRAGMA max_page_count = 1000000")
    home.commit([add_one(), too_much])
    assert home.execute(ReadMedia())[0].medium.stats.nb_obj == 1


def test_a_damaged_file_is_no_unavailability(path: Path) -> None:
    with SqliteHome.open(path) as home:
        page = home._db.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'media'").get
        page_size = home._db.execute("PRAGMA page_size").get
    content = bytearray(path.read_bytes())
    content[(page - 1) * page_size : page * page_size] = b"\xff" * page_size
    path.write_bytes(content)

    with SqliteHome.open(path) as home:
        with pytest.raises(LrsError, match=f"DSS {path}: it is damaged") as found:
            home.execute(ReadMedia())
        assert found.value.errno == errno.EIO


def test_a_file_of_which_half_is_gone_is_damaged(path: Path) -> None:
    SqliteHome.open(path).close()
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(LrsError, match=f"DSS {path}: it is damaged") as found:
        SqliteHome.open(path)
    assert found.value.errno == errno.EIO


# Rows


def test_tags_that_cannot_be_read_refuse_the_update_and_name_the_medium(home: SqliteHome, raw: apsw.Connection) -> None:
    home.commit([directory("/srv/a"), directory("/srv/b")])
    raw.execute("UPDATE media SET tags = ? WHERE id = '/srv/a'", (f"[{'1' * 5000}]",))

    refused, done = home.commit(
        [UpdateMedia((MediumUpdate(medium_id(path), add_objects=1),)) for path in ("/srv/a", "/srv/b")]
    )

    assert isinstance(refused, LrsError)
    assert refused.errno == errno.EINVAL
    assert "medium dir:legacy:/srv/a: its tags or groupings" in str(refused)
    assert isinstance(done, tuple)
    assert [row.medium.id for row in home.execute(ReadMedia())] == [medium_id("/srv/b")]


def test_malformed_stats_refuse_the_update_and_name_the_medium(home: SqliteHome, raw: apsw.Connection) -> None:
    home.commit([directory("/srv/a"), directory("/srv/b")])
    raw.execute("PRAGMA ignore_check_constraints = ON")
    raw.execute("""UPDATE media SET stats = '{"nb_obj":"many"}' WHERE id = '/srv/a'""")

    refused, done = home.commit([add_one("/srv/a"), add_one("/srv/b")])

    assert isinstance(refused, LrsError)
    assert refused.errno == errno.EINVAL
    assert "dir:legacy:/srv/a" in str(refused)
    assert done == (home.execute(ReadMedium(medium_id("/srv/b"))).medium,)  # type: ignore[union-attr]
    malformed, row = home.execute(ReadNamedMedia((medium_id("/srv/a"), medium_id("/srv/b"))))
    assert isinstance(malformed, LrsError)
    assert (malformed.errno, row) == (errno.EINVAL, home.execute(ReadMedium(medium_id("/srv/b"))))


def test_an_update_keeps_the_keys_that_others_put_into_the_stats(home: SqliteHome, raw: apsw.Connection) -> None:
    home.execute(directory())
    raw.execute("UPDATE media SET stats = json_set(stats, '$.site', json('[1]'))")

    home.execute(add_one())

    stats = json.loads(raw.execute("SELECT stats FROM media").get)
    assert (stats["site"], stats["nb_obj"], len(stats)) == ([1], 1, 8)


def test_text_that_no_database_holds_is_refused(home: SqliteHome) -> None:
    with pytest.raises(LrsError) as refused:
        home.execute(directory("/srv/\udcff"))
    assert refused.value.errno == errno.EINVAL


def test_a_row_that_is_no_text_refuses_the_reading_and_ends_nothing(home: SqliteHome, raw: apsw.Connection) -> None:
    home.execute(directory("/srv/a"))
    raw.execute("UPDATE device SET path = CAST(x'2f737276ff' AS TEXT)")
    refused, found = home.commit([ReadDevices(Family.DIR, HOST), ReadMedium(medium_id("/srv/a"))])
    assert isinstance(refused, LrsError)
    assert isinstance(found, MediumRow)


def test_a_text_that_is_too_long_for_the_database_is_refused(home: SqliteHome, raw: apsw.Connection) -> None:
    home.execute(directory("/srv/a"))
    home._db.limit(apsw.SQLITE_LIMIT_LENGTH, 10_000)
    longest = MediumUpdate(medium_id("/srv/a"), tags=("x" * 20_000,))
    refused, added = home.commit([UpdateMedia((longest,)), add_one()])
    assert isinstance(refused, LrsError)
    assert not isinstance(added, LrsError)


@pytest.mark.parametrize("milliseconds", [0, 1, 123, 500, 999])
def test_the_time_of_a_lock_reads_back_to_the_millisecond_and_compares_equal(
    home: SqliteHome, raw: apsw.Connection, milliseconds: int
) -> None:
    home.execute(TakeLock(LockType.MEDIA, medium_id(), COMMAND))
    raw.execute("UPDATE lock SET timestamp = ?", (f"2026-07-01 12:00:00.{milliseconds:03}",))

    (lock,) = home.execute(ReadLocks())

    assert lock.timestamp == pytest.approx(1782907200 + milliseconds / 1000, abs=1e-6)
    assert home.execute(DeleteLocks((lock,))) == 1


def test_a_weak_lock_of_our_host_is_taken_over_and_its_locate_time_kept(home: SqliteHome, raw: apsw.Connection) -> None:
    home.execute(TakeLock(LockType.MEDIA, medium_id(), COMMAND))
    located = "2026-07-01 12:00:00.000"
    raw.execute("UPDATE lock SET is_weak = 1, last_locate = ?1, timestamp = ?1", (located,))
    (weak,) = home.execute(ReadLocks())

    assert home.execute(TakeLock(LockType.MEDIA, medium_id(), ELSEWHERE)) == weak
    assert home.execute(TakeLock(LockType.MEDIA, medium_id(), DAEMON)) is None

    (taken,) = home.execute(ReadLocks())
    assert (taken.owner, taken.is_weak, taken.last_locate) == (DAEMON, False, weak.timestamp)
    assert taken.timestamp > weak.timestamp


def test_a_weak_lock_may_be_released_by_anybody(home: SqliteHome, raw: apsw.Connection) -> None:
    home.execute(TakeLock(LockType.MEDIA, medium_id(), COMMAND))
    raw.execute("UPDATE lock SET is_weak = 1")

    assert home.execute(ReleaseLock(LockType.MEDIA, medium_id(), ELSEWHERE)) is True
    assert home.execute(ReadLocks()) == ()


def test_a_replaced_lock_has_a_new_time(home: SqliteHome, raw: apsw.Connection) -> None:
    home.execute(TakeLock(LockType.MEDIA, medium_id(), COMMAND))
    raw.execute("UPDATE lock SET timestamp = '2026-07-01 12:00:00.000'")
    (before,) = home.execute(ReadLocks())

    assert home.execute(ReplaceLock(before, DAEMON)) is True

    (after,) = home.execute(ReadLocks())
    assert after.timestamp > before.timestamp
