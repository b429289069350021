"""The schema of the SQLite home: numbered SQL scripts, applied in order, each in one transaction.

`schema_info` holds one row for each script that has been applied; the highest number is the version of
the schema.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources

import apsw

from lrs_trio.errors import LrsError

_SCHEMA_INFO = """
CREATE TABLE schema_info (
    version INTEGER PRIMARY KEY,
    name    TEXT NOT NULL,
    applied TEXT NOT NULL DEFAULT (strftime('%Y-%m-%d %H:%M:%f', 'now'))
) STRICT
"""


@dataclass(frozen=True, slots=True)
class Migration:
    """One step of the schema: brings it from version - 1 to `version`."""

    version: int
    name: str
    sql: str


def bundled_migrations() -> tuple[Migration, ...]:
    """The steps that come with this program, in order; the files are called ``0001_name.sql``."""
    scripts = (file for file in resources.files("lrs_trio.dss").joinpath("schema").iterdir())
    return tuple(
        Migration(int(file.name[:4]), file.name.removesuffix(".sql")[5:], file.read_text("utf-8"))
        for file in sorted(scripts, key=lambda file: file.name)
        if file.name.endswith(".sql")
    )


def migrate(db: apsw.Connection, migrations: Sequence[Migration]) -> tuple[Migration, ...]:
    """Bring the schema of `db` up to the last of `migrations` and return the steps that were needed.

    A step that fails leaves the schema at the step before it.
    """
    applied = []
    for migration in migrations:
        db.execute("BEGIN IMMEDIATE")
        try:
            # Looked up inside the transaction: another process may have done the step meanwhile.
            version = schema_version(db)
            if version < migration.version:
                if version == 0:
                    db.execute(_SCHEMA_INFO)
                db.execute(migration.sql)
                row = (migration.version, migration.name)
                db.execute("INSERT INTO schema_info (version, name) VALUES (?, ?)", row)
                applied.append(migration)
            db.execute("COMMIT")
        except BaseException:
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise
    return tuple(applied)


def refuse_unknown_schema(db: apsw.Connection, path: str, migrations: Sequence[Migration]) -> None:
    """Check that the tables in `db` are ours and not newer than `migrations`.

    Raises:
        LrsError: EINVAL, they are not.
    """
    found, tables = _look(db)
    known = migrations[-1].version
    if found > known:
        raise LrsError(
            errno.EINVAL,
            f"DSS {path}: its schema has version {found}, this lrs-trio knows versions up to {known}; "
            "upgrade lrs-trio on this host, or put back the copy of the DSS made before it was upgraded",
        )
    if found == 0 and tables:
        raise LrsError(
            errno.EINVAL,
            f"DSS {path}: this SQLite database holds tables of another program and no schema_info; "
            "name the DSS file of lrs-trio, or a file that does not exist yet",
        )


def _look(db: apsw.Connection) -> tuple[int, int]:
    """The version of the schema and the number of tables, both of one moment.

    Another process may be making the schema: without a transaction around them, the version could be
    that of before and the tables those of after.
    """
    db.execute("BEGIN")
    try:
        tables: int = db.execute("SELECT count(*) FROM sqlite_schema").get
        return schema_version(db), tables
    finally:
        db.execute("ROLLBACK")


def schema_version(db: apsw.Connection) -> int:
    """The version of the schema in `db`, 0 for an empty database."""
    if not db.execute("SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = 'schema_info'").get:
        return 0
    version: int = db.execute("SELECT coalesce(max(version), 0) FROM schema_info").get
    return version
