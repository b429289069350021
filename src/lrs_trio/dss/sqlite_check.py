"""Looks whether an SQLite DSS is whole and has the tables that it should have; changes nothing."""

from __future__ import annotations

import errno
import os
from contextlib import closing
from pathlib import Path

import apsw

from lrs_trio.dss.description import Comparison, Description, Table, compare
from lrs_trio.dss.migrations import bundled_migrations, migrate, refuse_unknown_schema, schema_version
from lrs_trio.errors import DssUnavailableError, LrsError


def check_sqlite(path: Path) -> tuple[int, Comparison]:
    """Compare the DSS at `path` with one of its version that was made anew, and have SQLite look through all of it.

    Returns:
        the version of its schema, and how it differs.

    Raises:
        LrsError: there is none that we know; EACCES, it may not be read.
        DssUnavailableError: not now.
    """
    if not path.exists():
        raise LrsError(
            errno.ENOENT,
            f"DSS {path}: does not exist; check dss.url in the settings (lrsd --check shows them),"
            " or make it: lrs dss init",
        )
    try:
        # Not for reading only: such a connection leaves files beside this one when it is the last to close.
        db = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
        try:
            db.execute("PRAGMA query_only = ON")
            return _check(db, path)
        finally:
            db.close(True)
    except apsw.NotADBError as error:
        raise LrsError(errno.EINVAL, f"DSS {path}: not an SQLite database; name the DSS file in dss.url") from error
    except (apsw.CantOpenError, apsw.ReadOnlyError) as error:
        raise LrsError(
            errno.EACCES,
            f"DSS {path}: cannot be opened by user id {os.geteuid()} ({error}); try as its owner or one of its group",
        ) from error
    except apsw.CorruptError as error:
        raise LrsError(errno.EIO, f"DSS {path}: it is damaged ({error}); put back a copy") from error
    except apsw.Error as error:
        raise DssUnavailableError(f"DSS {path}: {error} ({type(error).__name__}); try again") from error


def _check(db: apsw.Connection, path: Path) -> tuple[int, Comparison]:
    migrations = bundled_migrations()
    refuse_unknown_schema(db, str(path), migrations)
    db.execute("BEGIN")
    version = schema_version(db)
    if not version:
        raise LrsError(errno.EINVAL, f"DSS {path}: it is empty; lrsd makes the tables when it starts")
    with closing(apsw.Connection(":memory:")) as expected:
        migrate(expected, [migration for migration in migrations if migration.version <= version])
        found = compare(_describe(expected), _describe(db))
        differences = [*found.differences, *_other_constraints(expected, db, found)]
    damages = [str(line) for (line,) in db.execute("PRAGMA integrity_check") if line != "ok"]
    notes = list(found.notes)
    if version < (newest := migrations[-1].version):
        notes.append(f"lrsd brings the schema to version {newest} when it starts")
    return version, Comparison((*differences, *damages), tuple(notes))


def _describe(db: apsw.Connection) -> Description:
    return Description({name: Table(_columns(db, name), _keys(db, name)) for name in _definitions(db)}, {}, ())


def _definitions(db: apsw.Connection) -> dict[str, str]:
    """The SQL text of every table."""
    tables = "SELECT name, sql FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'"
    return {str(name): str(sql) for name, sql in db.execute(tables)}


def _columns(db: apsw.Connection, table: str) -> dict[str, str]:
    columns = db.execute('SELECT name, type, "notnull", dflt_value FROM pragma_table_info(?) ORDER BY cid', (table,))
    return {
        name: type_ + (" NOT NULL" if not_null else "") + ("" if default is None else f" DEFAULT {default}")
        for name, type_, not_null, default in columns
    }


def _keys(db: apsw.Connection, table: str) -> list[str]:
    primary = [name for (name,) in db.execute("SELECT name FROM pragma_table_info(?) WHERE pk ORDER BY pk", (table,))]
    keys = [f"primary key ({', '.join(primary)})"] if primary else []
    indexes = db.execute("SELECT name, \"unique\" FROM pragma_index_list(?) WHERE origin <> 'pk'", (table,)).fetchall()
    for index, unique in indexes:
        columns = db.execute(
            "SELECT coalesce(name, 'an expression') FROM pragma_index_info(?) ORDER BY seqno", (index,)
        )
        keys.append(f"{'unique' if unique else 'index'} ({', '.join(name for (name,) in columns)})")
    return sorted(keys)


def _other_constraints(expected: apsw.Connection, db: apsw.Connection, found: Comparison) -> list[str]:
    """Tables whose text differs although nothing else of them does: what they accept is written only there."""
    texts = _definitions(db)
    return [
        f"table {name}: its constraints are not the expected ones"
        for name, text in _definitions(expected).items()
        if texts.get(name, text) != text
        and not any(line.startswith(f"table {name}: ") for line in found.differences + found.notes)
    ]
