"""The schema of the PostgreSQL home, which is that of Phobos 3.3: made, recognised, compared. Asyncio-flavoured.

``schema.sql`` makes it. ``schema.json`` describes what that makes, so that a database can be compared by
a role that may only read; ``make schema`` writes it.
"""

from __future__ import annotations

import errno
import json
from dataclasses import asdict
from importlib import resources
from typing import Final

import asyncpg

from lrs_trio.dss.description import Comparison, Description, Table, compare
from lrs_trio.errors import LrsError

VERSION: Final = "3.3"

# Whatever an unqualified name of a client could mean, that is: not only what is in one schema.
_VISIBLE: Final = """
    c.relkind IN ('r', 'p') AND pg_table_is_visible(c.oid)
    AND n.nspname <> 'information_schema' AND n.nspname NOT LIKE 'pg\\_%'
"""

_COLUMNS: Final = f"""
SELECT c.relname::text AS name, a.attname::text AS column,
       format_type(a.atttypid, a.atttypmod)
       || CASE WHEN a.attnotnull THEN ' NOT NULL' ELSE '' END
       || coalesce(' DEFAULT ' || regexp_replace(
              pg_get_expr(d.adbin, d.adrelid), '^(''[^'']*'')::[a-z_ ]+$', '\\1'
          ), '') AS definition
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
WHERE {_VISIBLE}
ORDER BY c.relname, a.attnum
"""

# The names of keys are nobody's business, and a unique index does what a unique constraint does.
_KEYS: Final = f"""
SELECT c.relname::text AS name,
       CASE WHEN i.indisprimary THEN 'primary key ' WHEN i.indisunique THEN 'unique ' ELSE 'index ' END
       || regexp_replace(substring(pg_get_indexdef(i.indexrelid) FROM ' USING (.*)$'), '^btree ', '')
       || CASE WHEN i.indimmediate THEN '' ELSE ' DEFERRABLE' END AS key
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_index i ON i.indrelid = c.oid AND i.indisvalid AND NOT i.indisexclusion
WHERE {_VISIBLE}
UNION ALL
SELECT c.relname::text, pg_get_constraintdef(k.oid)
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_constraint k ON k.conrelid = c.oid AND k.contype IN ('c', 'f', 'x')
WHERE {_VISIBLE}
ORDER BY name
"""

_TYPES: Final = """
SELECT t.typname::text AS name, array_agg(e.enumlabel::text ORDER BY e.enumsortorder) AS labels
FROM pg_type t JOIN pg_enum e ON e.enumtypid = t.oid
WHERE pg_type_is_visible(t.oid)
GROUP BY t.typname
ORDER BY t.typname
"""

_EXTENSIONS: Final = "SELECT extname::text AS name FROM pg_extension WHERE extname <> 'plpgsql' ORDER BY extname"

_SCHEMA_INFO: Final = """
SELECT has_column_privilege(c.oid, a.attnum, 'SELECT') AS readable, quote_ident(current_user) AS role
FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'version'
WHERE c.oid = to_regclass('schema_info')
"""

_IN_THE_WAY: Final = """
SELECT 'table ' || relname AS name FROM pg_class WHERE relname = ANY ($1::text[]) AND pg_table_is_visible(oid)
UNION ALL
SELECT 'type ' || typname FROM pg_type WHERE typname = ANY ($2::text[]) AND pg_type_is_visible(oid)
ORDER BY name
"""


def script() -> str:
    """The SQL that makes the schema, in one transaction."""
    return resources.files(__package__).joinpath("schema.sql").read_text("utf-8")


async def create_schema(connection: asyncpg.Connection, shown: str) -> None:
    """Make the schema in a database that has nothing of that name yet; all of it or, on an error, nothing.

    Args:
        shown: the database's URL for people.

    Raises:
        LrsError: EEXIST, tables or types of these names are there; EACCES, the role may not make them;
            ENOPKG, the server lacks an extension.
    """
    expected = expected_description()
    role = await connection.fetchval("SELECT quote_ident(current_user)")
    database = await connection.fetchval("SELECT quote_ident(current_database())")
    try:
        async with connection.transaction():
            found = await connection.fetch(_IN_THE_WAY, list(expected.tables), list(expected.types))
            if found:
                raise _exists(shown, ", ".join(row["name"] for row in found))
            await connection.execute(script())
    except (asyncpg.DuplicateTableError, asyncpg.DuplicateObjectError, asyncpg.UniqueViolationError) as error:
        raise _exists(shown, f"something of one of its names, maybe only just ({error.message})") from error
    except asyncpg.InsufficientPrivilegeError as error:
        raise LrsError(
            errno.EACCES,
            f"DSS {shown}: {error.message}; nothing was made. Let an administrator of the server make the role the"
            f" owner (ALTER DATABASE {database} OWNER TO {role}), or grant it what it needs"
            f" (GRANT CREATE ON DATABASE {database} TO {role}; GRANT CREATE ON SCHEMA public TO {role})",
        ) from error
    except (asyncpg.FeatureNotSupportedError, asyncpg.UndefinedFileError) as error:
        raise LrsError(
            errno.ENOPKG,
            f"DSS {shown}: {error.message}; nothing was made. Install PostgreSQL's contrib package on its host",
        ) from error


async def check_version(connection: asyncpg.Connection, shown: str) -> None:
    """Check that the schema is the one we know.

    Args:
        shown: the database's URL for people.

    Raises:
        LrsError: EINVAL, it is not; EACCES, the role may not look.
    """
    table = await connection.fetchrow(_SCHEMA_INFO)
    if table is None:
        raise LrsError(
            errno.EINVAL,
            f"DSS {shown}: it has no schema_info, so it is no DSS; lrs dss init makes one in an empty database,"
            " or name the right one in dss.url",
        )
    if not table["readable"]:
        raise LrsError(
            errno.EACCES,
            f"DSS {shown}: the role may not read schema_info; let the owner of the tables grant it what it needs"
            f" (GRANT SELECT ON schema_info TO {table['role']})",
        )
    versions = [row["version"] for row in await connection.fetch("SELECT version::text FROM schema_info ORDER BY 1")]
    if versions != [VERSION]:
        said = f"says {', '.join(versions)}" if versions else "is empty"
        raise LrsError(
            errno.EINVAL,
            f"DSS {shown}: its schema_info {said}, and must have one row, which says {VERSION}; bring the database to"
            f" the schema of Phobos {VERSION} with the tools of Phobos, or name another one in dss.url",
        )


async def compare_schema(connection: asyncpg.Connection) -> Comparison:
    """How the database differs from what `create_schema` makes; changes nothing and needs no rights."""
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        return compare(expected_description(), await describe(connection))


def expected_description() -> Description:
    """What `create_schema` makes."""
    content = json.loads(resources.files(__package__).joinpath("schema.json").read_text("utf-8"))
    tables = {name: Table(**table) for name, table in content["tables"].items()}
    return Description(tables, content["types"], content["extensions"])


def to_json(description: Description) -> str:
    """The text of ``schema.json`` that says `description`."""
    return json.dumps(asdict(description), indent=1) + "\n"


async def describe(connection: asyncpg.Connection) -> Description:
    """What the clients of the database find there; to be called in one transaction, for one state of it."""
    columns: dict[str, dict[str, str]] = {}
    for row in await connection.fetch(_COLUMNS):
        columns.setdefault(row["name"], {})[row["column"]] = row["definition"]
    keys: dict[str, list[str]] = {}
    for row in await connection.fetch(_KEYS):
        keys.setdefault(row["name"], []).append(row["key"])
    return Description(
        {name: Table(found, sorted(keys.get(name, []))) for name, found in columns.items()},
        {row["name"]: row["labels"] for row in await connection.fetch(_TYPES)},
        [row["name"] for row in await connection.fetch(_EXTENSIONS)],
    )


def _exists(shown: str, found: str) -> LrsError:
    return LrsError(
        errno.EEXIST,
        f"DSS {shown}: there is already: {found}; nothing was made."
        " If that is the DSS, use it (lrs dss check); if not, name an empty database in dss.url",
    )
