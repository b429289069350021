"""What a client of Phobos does to the database, over a driver that is not ours."""

from __future__ import annotations

import json
from typing import Any

import psycopg
from psycopg.rows import dict_row

from lrs_trio.model import LockOwner, LockType
from tests.dss.samples import LIBRARY


class PhobosClient:
    """One session, in which each statement is a transaction unless one is begun."""

    def __init__(self, connection: psycopg.Connection) -> None:
        self.connection = connection

    @property
    def backend(self) -> int:
        return self.connection.info.backend_pid

    def execute(self, statement: str, *values: object) -> list[dict[str, Any]]:
        cursor = self.connection.cursor(row_factory=dict_row)
        cursor.execute(statement.encode(), values)
        return cursor.fetchall() if cursor.description else []

    def value(self, statement: str, *values: object) -> Any:
        (row,) = self.execute(statement, *values)
        (value,) = row.values()
        return value

    # Locks: always one row of `lock` by its key.

    def lock(self, type_: LockType, key: str, owner: LockOwner, *, weak: bool = False, located: bool = False) -> None:
        """Raises psycopg.errors.UniqueViolation where there is one."""
        self.execute(
            "INSERT INTO lock (type, id, hostname, owner, is_weak, last_locate) "
            "VALUES (%s, %s, %s, %s, %s, CASE WHEN %s THEN now()::timestamp END)",
            type_.value,
            key,
            owner.host,
            owner.pid,
            weak,
            located,
        )

    def unlock(self, type_: LockType, key: str, owner: LockOwner) -> bool:
        return bool(
            self.execute(
                "DELETE FROM lock WHERE type = %s AND id = %s AND ((hostname = %s AND owner = %s) OR is_weak) "
                "RETURNING 1",
                type_.value,
                key,
                owner.host,
                owner.pid,
            )
        )

    def locks(self) -> dict[tuple[str, str], dict[str, Any]]:
        rows = self.execute("SELECT *, type::text, now()::timestamp - timestamp AS age FROM lock")
        return {(row["type"], row["id"]): row for row in rows}

    # Media.

    def medium(self, path: str = "/srv/a") -> dict[str, Any]:
        (row,) = self.execute("SELECT * FROM media WHERE id = %s", path)
        return row

    def stats(self, path: str = "/srv/a") -> dict[str, Any]:
        stats: dict[str, Any] = self.medium(path)["stats"]
        return stats

    def set_stats(self, stats: dict[str, Any], path: str = "/srv/a") -> None:
        self.execute("UPDATE media SET stats = %s WHERE id = %s", json.dumps(stats), path)

    def objects(self) -> dict[str, int]:
        """How many objects each medium is said to hold."""
        return {row["id"]: row["n"] for row in self.execute("SELECT id, (stats->>'nb_obj')::int AS n FROM media")}

    # Sessions of ours on the server.

    def sessions(self) -> list[dict[str, Any]]:
        return self.execute(
            "SELECT pid, state, application_name AS name, backend_xid::text AS xid, wait_event_type AS waits_for "
            "FROM pg_stat_activity "
            "WHERE datname = current_database() AND application_name LIKE 'lrs%%' AND backend_type = 'client backend'"
        )

    def cut(self) -> int:
        """End all sessions of ours, and count them."""
        rows = self.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND application_name LIKE 'lrs%%'"
        )
        return len(rows)


def media_key(path: str = "/srv/a", library: str = LIBRARY) -> str:
    """The key of a lock, in Phobos's own words: the name, and the library."""
    return f"{path}_{library}"
