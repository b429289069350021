"""The database side of client commands: what they write themselves, in statements like theirs."""

from __future__ import annotations

import errno
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final, Literal, LiteralString

import psycopg
from psycopg.rows import dict_row
from psycopg.sql import SQL, Identifier
from psycopg.types.json import Jsonb

from lrs_trio.model import Family, LockOwner, ResourceId, lock_id
from tests.interop.host import HasDevice, HasMedium
from tests.interop.tables import NO_STATS, Connection, Row

ATTEMPTS: Final = 5
BETWEEN_ATTEMPTS_S: Final = 0.005
"""How often a command asks for a lock of type media_update, and how long it waits in between."""

FILESYSTEMS: Final = {Family.DIR: "POSIX", Family.TAPE: "LTFS"}
"""What the database calls the filesystem of a family."""

_ADDED: Final = {"nb_obj_add": "nb_obj", "logc_spc_used_add": "logc_spc_used"}
_FIGURES: Final = frozenset({"nb_obj", "logc_spc_used", "phys_spc_used", "phys_spc_free"})

LockType = Literal["device", "media", "media_update", "object"]


class LockError(OSError):
    """EEXIST: a lock is held. ENOLCK: there is none, or it is somebody else's."""


class Database:
    """One connection of a command, which runs as `owner`."""

    def __init__(self, url: str, owner: LockOwner) -> None:
        self.connection: Connection = psycopg.connect(url, autocommit=True, row_factory=dict_row)
        self.owner = owner

    def close(self) -> None:
        self.connection.close()

    def rows(self, query: LiteralString, *values: object) -> list[Row]:
        return self.connection.execute(query, values).fetchall()

    def write(self, statement: LiteralString, *values: object) -> list[Row]:
        """One statement between BEGIN and COMMIT, and the rows that it returns."""
        with self.connection.transaction():
            cursor = self.connection.execute(statement, values)
            return cursor.fetchall() if cursor.description else []

    # Locks: single statements, committed at once.

    def lock(
        self, type_: LockType, id_: str, *, host: str | None = None, weak: bool = False, located: bool = False
    ) -> None:
        """Raises `LockError` EEXIST."""
        try:
            self.connection.execute(
                "INSERT INTO lock (type, id, is_weak, owner, hostname, last_locate)"
                " VALUES (%s, %s, %s, %s, %s, CASE WHEN %s THEN now() END)",
                (type_, id_, weak, self.owner.pid, host or self.owner.host, located),
            )
        except psycopg.errors.UniqueViolation as error:
            raise LockError(errno.EEXIST, f"{type_} {id_} is locked") from error

    def unlock(self, type_: LockType, id_: str) -> None:
        """Raises `LockError` ENOLCK."""
        deleted = self.connection.execute(
            "DELETE FROM lock WHERE type = %s AND id = %s AND ((owner = %s AND hostname = %s) OR is_weak)",
            (type_, id_, self.owner.pid, self.owner.host),
        )
        if deleted.rowcount == 0:
            raise LockError(errno.ENOLCK, f"{type_} {id_} is not ours")

    def refresh_locate(self, type_: LockType, id_: str) -> None:
        """Note that a client has located it, whoever has the lock. Raises `LockError` ENOLCK."""
        updated = self.connection.execute(
            "UPDATE lock SET last_locate = now() WHERE type = %s AND id = %s", (type_, id_)
        )
        if updated.rowcount == 0:
            raise LockError(errno.ENOLCK, f"{type_} {id_} is not locked")

    def unlock_by_force(self, type_: LockType, id_: str) -> None:
        """Whoever has the lock, there is none afterwards."""
        self.connection.execute("DELETE FROM lock WHERE type = %s AND id = %s", (type_, id_))

    def take_ownership(self, type_: LockType, id_: str) -> None:
        """A lock of our own, also in place of a weak one of this host. Raises `LockError` ENOLCK."""
        taken = self.connection.execute(
            "INSERT INTO lock AS held (type, id, owner, hostname, is_weak) VALUES (%s, %s, %s, %s, false)"
            " ON CONFLICT (type, id) DO UPDATE SET owner = excluded.owner, timestamp = now(), is_weak = false"
            " WHERE held.is_weak AND held.hostname = excluded.hostname",
            (type_, id_, self.owner.pid, self.owner.host),
        )
        if taken.rowcount == 0:
            raise LockError(errno.ENOLCK, f"{type_} {id_} is not to be had")

    def weaken(self, type_: LockType, id_: str) -> None:
        """Leave our lock to whoever of this host wants it. Raises `LockError` ENOLCK."""
        updated = self.connection.execute(
            "UPDATE lock SET is_weak = true WHERE type = %s AND id = %s AND owner = %s AND hostname = %s",
            (type_, id_, self.owner.pid, self.owner.host),
        )
        if updated.rowcount == 0:
            raise LockError(errno.ENOLCK, f"{type_} {id_} is not ours")

    def lock_of(self, type_: LockType, resource: ResourceId) -> Row | None:
        rows = self.rows("SELECT * FROM lock WHERE type = %s AND id = %s", type_, lock_id(resource))
        return rows[0] if rows else None

    def locks(self, owner: LockOwner | None = None) -> list[Row]:
        """All lock rows, or those of one owner."""
        found = self.rows("SELECT * FROM lock ORDER BY type, id")
        return [row for row in found if owner is None or (row["hostname"], row["owner"]) == (owner.host, owner.pid)]

    @contextmanager
    def locked(self, type_: LockType, id_: str) -> Iterator[None]:
        self.lock(type_, id_)
        try:
            yield
        finally:
            self.unlock(type_, id_)

    # Devices and media.

    def insert_device(
        self, one: HasDevice, *, model: str | None = None, host: str | None = None, adm_status: str = "unlocked"
    ) -> None:
        self.write(
            "INSERT INTO device (family, model, id, host, adm_status, path, library)"
            " VALUES (%s, %s, %s, %s, %s, %s, %s)",
            one.device.family.label,
            model,
            one.device.name,
            host or one.host,
            adm_status,
            str(one.path),
            one.device.library,
        )

    def delete_device(self, one: HasDevice) -> None:
        self.write("DELETE FROM device WHERE family = %s AND id = %s AND library = %s", *_key(one.device))

    def set_device(self, one: HasDevice, adm_status: str) -> None:
        """Nothing is written if that is its status already."""
        if self.device(one)["adm_status"] != adm_status:
            self.write(
                "UPDATE device SET adm_status = %s WHERE family = %s AND id = %s AND library = %s",
                adm_status,
                *_key(one.device),
            )

    def device(self, one: HasDevice) -> Row:
        (row,) = self.rows("SELECT * FROM device WHERE family = %s AND id = %s AND library = %s", *_key(one.device))
        return row

    def insert_medium(
        self,
        one: HasMedium,
        *,
        model: str | None = None,
        adm_status: str = "locked",
        fs_status: str = "blank",
        tags: Sequence[str] = (),
    ) -> None:
        """As 3.3 clients do: a label that is empty becomes the text NULL."""
        self.write(
            "INSERT INTO media (family, id, library, model, adm_status, fs_type, address_type, fs_status, fs_label,"
            " stats, tags, put, get, delete, groupings)"
            " VALUES (%s, %s, %s, %s, %s, %s, 'HASH1', %s, 'NULL', %s, %s, true, true, true, '[]')",
            *_key(one.medium),
            model,
            adm_status,
            FILESYSTEMS[one.medium.family],
            fs_status,
            Jsonb(NO_STATS),
            Jsonb(list(tags)),
        )

    def delete_medium(self, one: HasMedium) -> None:
        self.write("DELETE FROM media WHERE family = %s AND id = %s AND library = %s", *_key(one.medium))

    def medium(self, medium: ResourceId) -> Row:
        """Raises `LookupError` where there is none."""
        rows = self.rows(
            "SELECT * FROM media WHERE family = %s AND id = %s AND library = %s",
            *_key(medium),
        )
        if not rows:
            raise LookupError(str(medium))
        return rows[0]

    def update_medium(self, one: HasMedium, **columns: Any) -> None:
        """Set `columns`; figures are set, or with `_add` added, under the lock for that, the others kept."""
        figures = {name: columns.pop(name) for name in [*columns] if name in _FIGURES or name in _ADDED}
        if not figures:
            self._update_medium(one, columns)
            return
        with self._media_update(lock_id(one.medium)):
            stats = dict(self.medium(one.medium)["stats"])
            for name, figure in figures.items():
                key = _ADDED.get(name, name)
                stats[key] = max((stats[key] if name in _ADDED else 0) + figure, 0)
            self._update_medium(one, columns | {"stats": stats})

    def _update_medium(self, one: HasMedium, columns: Mapping[str, Any]) -> None:
        assignments = SQL(", ").join(SQL("{} = %s").format(Identifier(column)) for column in columns)
        values = [Jsonb(value) if isinstance(value, dict | list) else value for value in columns.values()]
        with self.connection.transaction():
            self.connection.execute(
                SQL("UPDATE media SET {} WHERE family = %s AND id = %s AND library = %s").format(assignments),
                (*values, *_key(one.medium)),
            )

    @contextmanager
    def _media_update(self, id_: str) -> Iterator[None]:
        for attempt in range(ATTEMPTS):
            try:
                self.lock("media_update", id_)
                break
            except LockError:
                if attempt == ATTEMPTS - 1:
                    raise
                time.sleep(BETWEEN_ATTEMPTS_S)
        try:
            yield
        finally:
            self.unlock("media_update", id_)

    # Objects: the daemon has nothing to do with them.

    def begin_object(self, oid: str, size: int, grouping: str | None, *, overwrite: bool) -> Row:
        """Make the row of an object, or of a new version of it, and of its first copy."""
        with self.locked("object", oid):
            version = 1
            uuid: str | None = None
            if overwrite:
                (old,) = self.connection.execute(
                    "WITH moved AS (DELETE FROM object WHERE oid = %s RETURNING *)"
                    " INSERT INTO deprecated_object (oid, user_md, object_uuid, version, creation_time, _grouping,"
                    " size) SELECT oid, user_md, object_uuid, version, creation_time, _grouping, size FROM moved"
                    " RETURNING object_uuid, version",
                    (oid,),
                ).fetchall()
                uuid, version = old["object_uuid"], old["version"] + 1
            (row,) = self.write(
                "INSERT INTO object (oid, user_md, object_uuid, version, _grouping, size)"
                " VALUES (%s, '{}', coalesce(%s, uuid_generate_v4()::text), %s, %s, %s) RETURNING *",
                oid,
                uuid,
                version,
                grouping,
                size,
            )
            self.begin_copy(row, "source")
        return row

    def begin_copy(self, row: Row, name: str) -> None:
        self.write(
            "INSERT INTO copy (object_uuid, version, copy_name, lyt_info, copy_status)"
            " VALUES (%s, %s, %s, '{}', 'incomplete')",
            row["object_uuid"],
            row["version"],
            name,
        )

    def complete_copy(self, row: Row, name: str, layout: Mapping[str, object], extents: Sequence[Row]) -> None:
        """Note where the pieces of a copy are, which is complete with that."""
        with self.connection.transaction():
            for extent in extents:
                self.connection.execute(
                    "INSERT INTO extent (extent_uuid, state, size, medium_family, medium_id, address, hash, info,"
                    " offsetof, medium_library, creation_time)"
                    " VALUES (%(uuid)s, 'sync', %(size)s, %(family)s, %(medium)s, %(address)s, '{}', '{}', %(offset)s,"
                    " %(library)s, now())",
                    extent,
                )
        with self.connection.transaction():
            for index, extent in enumerate(extents):
                self.connection.execute(
                    "INSERT INTO layout (object_uuid, version, extent_uuid, layout_index, copy_name)"
                    " VALUES (%s, %s, %s, %s, %s)",
                    (row["object_uuid"], row["version"], extent["uuid"], index, name),
                )
            self.connection.execute(
                "UPDATE copy SET lyt_info = %s WHERE object_uuid = %s AND version = %s AND copy_name = %s",
                (Jsonb(dict(layout)), row["object_uuid"], row["version"], name),
            )
        self.write(
            "UPDATE copy SET copy_status = 'complete' WHERE object_uuid = %s AND version = %s AND copy_name = %s",
            row["object_uuid"],
            row["version"],
            name,
        )

    def roll_back(self, row: Row) -> None:
        """A put has failed."""
        for table in ("copy", "object"):
            self._delete_of(table, row)

    def copy(self, oid: str, name: str) -> tuple[Row, list[Row]]:
        """A copy with the columns of its object, and its extents in the order of its layout."""
        (row,) = self.rows(
            "SELECT copy.*, object.oid, object.size, extract(epoch FROM copy.creation_time"
            " AT TIME ZONE current_setting('TimeZone')) AS created"
            " FROM object JOIN copy USING (object_uuid, version) WHERE oid = %s AND copy_name = %s",
            oid,
            name,
        )
        extents = self.rows(
            "SELECT extent.* FROM layout JOIN extent USING (extent_uuid)"
            " WHERE object_uuid = %s AND version = %s AND copy_name = %s ORDER BY layout_index",
            row["object_uuid"],
            row["version"],
            name,
        )
        return row, extents

    def touch_copy(self, row: Row) -> None:
        self.write(
            "UPDATE copy SET access_time = now() WHERE object_uuid = %s AND version = %s AND copy_name = %s",
            row["object_uuid"],
            row["version"],
            row["copy_name"],
        )

    def delete_copy(self, row: Row, extents: Sequence[Row], *, with_object: bool) -> None:
        """Forget a copy whose extents are gone."""
        with self.connection.transaction():
            self.connection.execute(
                "DELETE FROM layout WHERE object_uuid = %s AND version = %s AND copy_name = %s",
                (row["object_uuid"], row["version"], row["copy_name"]),
            )
            for extent in extents:
                self.connection.execute("DELETE FROM extent WHERE extent_uuid = %s", (extent["extent_uuid"],))
            self.connection.execute(
                "DELETE FROM copy WHERE object_uuid = %s AND version = %s AND copy_name = %s",
                (row["object_uuid"], row["version"], row["copy_name"]),
            )
        if with_object:
            self._delete_of("object", row)

    def orphan_copy(self, row: Row, extents: Sequence[Row], *, with_object: bool) -> None:
        """Forget a copy whose extents stay where they are, as on a tape."""
        with self.connection.transaction():
            self.connection.execute(
                "DELETE FROM layout WHERE object_uuid = %s AND version = %s AND copy_name = %s",
                (row["object_uuid"], row["version"], row["copy_name"]),
            )
            for extent in extents:
                self.connection.execute(
                    "UPDATE extent SET state = 'orphan' WHERE extent_uuid = %s", (extent["extent_uuid"],)
                )
            self.connection.execute(
                "DELETE FROM copy WHERE object_uuid = %s AND version = %s AND copy_name = %s",
                (row["object_uuid"], row["version"], row["copy_name"]),
            )
        if with_object:
            self._delete_of("object", row)

    def _delete_of(self, table: str, row: Row) -> None:
        statement = SQL("DELETE FROM {} WHERE object_uuid = %s AND version = %s").format(Identifier(table))
        with self.connection.transaction():
            self.connection.execute(statement, (row["object_uuid"], row["version"]))

    def forget_objects(self) -> None:
        """Empty the tables that only clients use."""
        for table in ("object", "deprecated_object", "extent", "layout", "copy"):
            with self.connection.transaction():
                self.connection.execute(SQL("DELETE FROM {}").format(Identifier(table)))


def _key(resource: ResourceId) -> tuple[str, str, str]:
    return resource.family.label, resource.name, resource.library
