"""What is said of an SQLite file that is not quite, or not at all, the DSS."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import apsw
import pytest

from lrs_trio.dss import sqlite_check
from lrs_trio.dss.description import Comparison
from lrs_trio.dss.migrations import Migration, bundled_migrations
from lrs_trio.dss.sqlite import SqliteHome
from lrs_trio.dss.sqlite_check import check_sqlite
from lrs_trio.errors import LrsError

from .samples import directory

NOBODY = 65534


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A DSS in which one directory is."""
    path = tmp_path / "dss.sqlite"
    with SqliteHome.open(path) as home:
        home.execute(directory())
    return path


def alter(path: Path, *statements: str) -> None:
    with closing(apsw.Connection(str(path))) as db:
        for statement in statements:
            db.execute(statement)


def test_what_the_daemon_makes_is_as_it_should_be(path: Path) -> None:
    assert check_sqlite(path) == (len(bundled_migrations()), Comparison((), ()))


def test_it_is_looked_at_while_somebody_writes(path: Path) -> None:
    with closing(apsw.Connection(str(path))) as db:
        db.execute("BEGIN IMMEDIATE; DROP TABLE logs")
        assert check_sqlite(path)[1] == Comparison((), ())


@pytest.mark.parametrize(
    ("statement", "line"),
    [
        ("DROP TABLE logs", "table logs is missing"),
        ("ALTER TABLE media DROP fs_label", "table media: column fs_label is missing"),
        ("DROP INDEX device_host", "table device: index (host) is missing"),
        ("CREATE UNIQUE INDEX one ON lock (owner)", "table lock: unique (owner) is not expected"),
    ],
)
def test_every_difference_is_told_and_nothing_changed(path: Path, statement: str, line: str) -> None:
    alter(path, statement)
    before = path.read_bytes()

    assert line in check_sqlite(path)[1].differences

    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]


@pytest.mark.parametrize(
    ("definition", "line"),
    [
        ("owner INTEGER NOT NULL CHECK (owner > 0)", "table lock: its constraints are not the expected ones"),
        ("owner TEXT NOT NULL", "table lock: column owner is TEXT NOT NULL, expected INTEGER NOT NULL"),
        (
            "owner INTEGER NOT NULL DEFAULT 0",
            "table lock: column owner is INTEGER NOT NULL DEFAULT 0, expected INTEGER NOT NULL",
        ),
    ],
)
def test_definitions_are_compared(path: Path, definition: str, line: str) -> None:
    with closing(apsw.Connection(str(path))) as db:
        text = db.execute("SELECT sql FROM sqlite_schema WHERE name = 'lock'").get
        db.execute("DROP TABLE lock")
        db.execute(text.replace("owner       INTEGER NOT NULL", definition))

    assert check_sqlite(path)[1] == Comparison((line,), ())


@pytest.mark.parametrize(
    ("statement", "line"),
    [
        ("ALTER TABLE device ADD rack TEXT", "table device: column rack is not of this schema"),
        ("CREATE TABLE site_notes (note TEXT)", "table site_notes is not of this schema"),
    ],
)
def test_what_does_no_harm_is_only_noted(path: Path, statement: str, line: str) -> None:
    alter(path, statement)
    assert check_sqlite(path)[1] == Comparison((), (line,))


def test_an_older_schema_is_compared_with_what_it_was(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    later = (*bundled_migrations(), Migration(1000, "later", "CREATE TABLE later (x)"))
    monkeypatch.setattr(sqlite_check, "bundled_migrations", lambda: later)
    note = "lrsd brings the schema to version 1000 when it starts"
    assert check_sqlite(path) == (len(bundled_migrations()), Comparison((), (note,)))


def test_damage_is_found(path: Path) -> None:
    # An index on something else than what it holds.
    alter(
        path,
        "PRAGMA writable_schema = ON",
        "UPDATE sqlite_schema SET sql = replace(sql, '(host)', '(path)') WHERE name = 'device_host'",
    )
    assert any("missing from index device_host" in line for line in check_sqlite(path)[1].differences)


def refusal(path: Path) -> LrsError:
    with pytest.raises(LrsError) as refused:
        check_sqlite(path)
    assert str(path) in str(refused.value)
    return refused.value


def test_a_torn_file(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: 3 * 4096])
    error = refusal(path)
    assert error.errno == errno.EIO
    assert "put back a copy" in str(error)


@pytest.mark.parametrize(
    ("content", "said"), [(b"", "it is empty"), (b"not a database, " * 100, "not an SQLite database")]
)
def test_a_file_that_is_no_dss(path: Path, content: bytes, said: str) -> None:
    path.write_bytes(content)
    error = refusal(path)
    assert error.errno == errno.EINVAL
    assert said in str(error)
    assert path.read_bytes() == content


def test_tables_of_another_program(path: Path) -> None:
    alter(path, "DROP TABLE schema_info")
    error = refusal(path)
    assert error.errno == errno.EINVAL
    assert "tables of another program" in str(error)


def test_a_newer_schema(path: Path) -> None:
    alter(path, "INSERT INTO schema_info (version, name) VALUES (1000, 'later')")
    error = refusal(path)
    assert error.errno == errno.EINVAL
    assert "upgrade lrs-trio" in str(error)


@pytest.fixture
def somebody_else() -> Iterator[Path]:
    """A DSS that we may not read."""
    with tempfile.TemporaryDirectory() as base:
        path = Path(base, "dss.sqlite")
        SqliteHome.open(path).close()
        path.chmod(0)
        us = os.geteuid()
        if us == 0:  # who may read everything
            Path(base).chmod(0o755)
            os.seteuid(NOBODY)
        yield path
        os.seteuid(us)


def test_a_file_that_may_not_be_read(somebody_else: Path) -> None:
    error = refusal(somebody_else)
    assert error.errno == errno.EACCES
    assert f"user id {os.geteuid()}" in str(error)
