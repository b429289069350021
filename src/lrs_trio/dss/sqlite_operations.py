"""Each operation of the DSS as SQL on the SQLite tables: one small function each, found by type.

All run inside a transaction that the caller opened. One that raises `LrsError` may have written; the
caller undoes it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, cast

import apsw
import structlog

from lrs_trio.dss.books import stats_to_json, strings_to_json
from lrs_trio.dss.operations import (
    AddDevice,
    AddDirectory,
    AddMedia,
    AppendLog,
    DeleteDevice,
    DeleteDirectory,
    DeleteLocks,
    DeleteMedium,
    DeviceRow,
    LoggedOperation,
    MediumRow,
    Operation,
    ReadDevice,
    ReadDevices,
    ReadHealthLog,
    ReadLocks,
    ReadLog,
    ReadMedia,
    ReadMedium,
    ReadNamedMedia,
    ReleaseLock,
    ReplaceLock,
    SetDeviceStatus,
    TakeLock,
    UpdateMedia,
)
from lrs_trio.dss.refusals import already_known, given_twice, in_use, not_empty, not_locked, unknown
from lrs_trio.dss.sqlite_books import update_media_together
from lrs_trio.dss.sqlite_rows import (
    LOCK_COLUMNS,
    LOG_COLUMNS,
    SELECT_DEVICES,
    SELECT_MEDIA,
    WHERE_DEVICE,
    WHERE_MEDIUM,
    device_from_row,
    id_columns,
    lock_from_row,
    logged_from_row,
    medium_row_from_row,
)
from lrs_trio.errors import LrsError, describe
from lrs_trio.model import AdmStatus, Device, Lock, LockOwner, LockType, Medium, ResourceId, lock_id

log: structlog.typing.FilteringBoundLogger = structlog.get_logger(__name__)

_NOW: Final = "strftime('%Y-%m-%d %H:%M:%f', 'now')"


# Devices and media


def _read_devices(db: apsw.Connection, operation: ReadDevices) -> tuple[DeviceRow, ...]:
    family = None if operation.family is None else operation.family.label
    sql = f"{SELECT_DEVICES} WHERE (?1 IS NULL OR family = ?1) AND (?2 IS NULL OR host = ?2)"
    rows = map(device_from_row, db.execute(sql, (family, operation.host)).fetchall())
    return tuple(sorted(rows, key=lambda row: row.device.id))


def _read_device(db: apsw.Connection, operation: ReadDevice) -> DeviceRow | None:
    rows = db.execute(SELECT_DEVICES + WHERE_DEVICE, id_columns(operation.id)).fetchall()
    return device_from_row(rows[0]) if rows else None


def _read_media(db: apsw.Connection, operation: ReadMedia) -> tuple[MediumRow, ...]:
    family = None if operation.family is None else operation.family.label
    sql = f"{SELECT_MEDIA} WHERE (?1 IS NULL OR family = ?1)"
    found = []
    for row in db.execute(sql, (family,)).fetchall():
        try:
            found.append(medium_row_from_row(row))
        except LrsError as error:
            log.error("row left out", error=describe(error))
    return tuple(sorted(found, key=lambda row: row.medium.id))


def _read_medium(db: apsw.Connection, operation: ReadMedium) -> MediumRow | None:
    rows = db.execute(SELECT_MEDIA + WHERE_MEDIUM, id_columns(operation.id)).fetchall()
    return medium_row_from_row(rows[0]) if rows else None


def _read_named_media(db: apsw.Connection, operation: ReadNamedMedia) -> tuple[MediumRow | LrsError | None, ...]:
    found: list[MediumRow | LrsError | None] = []
    for medium in operation.media:
        try:
            found.append(_read_medium(db, ReadMedium(medium)))
        except LrsError as error:
            found.append(error)
    return tuple(found)


def read_readable_media(db: apsw.Connection, media: Iterable[ResourceId]) -> tuple[MediumRow, ...]:
    """Those of `media` that are there and can be understood, in the order of their id."""
    found = []
    for medium in sorted(media):
        try:
            row = _read_medium(db, ReadMedium(medium))
        except LrsError as error:
            log.error("row left out", error=describe(error))
        else:
            found += [row] if row else []
    return tuple(found)


def _update_media(db: apsw.Connection, operation: UpdateMedia) -> tuple[Medium | None, ...]:
    (outcome,) = update_media_together(db, (operation,))
    if isinstance(outcome, LrsError):
        raise outcome
    return outcome


def _set_device_status(db: apsw.Connection, operation: SetDeviceStatus) -> bool:
    bindings = (operation.adm_status.value, *id_columns(operation.id))
    db.execute("UPDATE device SET adm_status = ?" + WHERE_DEVICE, bindings)
    return db.changes() > 0


def _add_directory(db: apsw.Connection, operation: AddDirectory) -> None:
    _insert_device(db, operation.device)
    _insert_media(db, (operation.medium,))


def _add_device(db: apsw.Connection, operation: AddDevice) -> None:
    _insert_device(db, operation.device)


def _add_media(db: apsw.Connection, operation: AddMedia) -> None:
    if refusal := given_twice(medium.id for medium in operation.media):
        raise refusal
    _insert_media(db, operation.media)


def _insert_device(db: apsw.Connection, device: Device) -> None:
    if _is_known(db, LockType.DEVICE, device.id):
        raise already_known(LockType.DEVICE, device.id)
    db.execute(
        "INSERT INTO device (family, model, id, host, adm_status, path, library) VALUES (?, ?, ?, ?, ?, ?, ?)",
        (
            device.id.family.label,
            device.model,
            device.id.name,
            device.host,
            device.adm_status.value,
            device.path,
            device.id.library,
        ),
    )


def _insert_media(db: apsw.Connection, media: Sequence[Medium]) -> None:
    for medium in media:
        if _is_known(db, LockType.MEDIA, medium.id):
            raise already_known(LockType.MEDIA, medium.id)
    db.executemany(
        """
        INSERT INTO media (family, model, id, adm_status, fs_type, fs_label, address_type, fs_status, stats, tags,
                           put, get, "delete", library, groupings)
        VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
        """,
        (
            (
                medium.id.family.label,
                medium.model,
                medium.id.name,
                medium.adm_status.value,
                medium.fs_type.label,
                medium.fs_label,
                medium.address_type.label,
                medium.fs_status.value,
                stats_to_json(medium.stats, "{}", medium.id),
                strings_to_json(medium.tags),
                medium.put,
                medium.get,
                medium.delete,
                medium.id.library,
                strings_to_json(medium.groupings),
            )
            for medium in media
        ),
    )


def _delete_directory(db: apsw.Connection, operation: DeleteDirectory) -> None:
    resources = {LockType.DEVICE: operation.device, LockType.MEDIA: operation.medium}
    _check_unused(db, resources)
    if _is_known(db, LockType.MEDIA, operation.medium):
        if not operation.in_service:
            _check_locked(db, operation.device)
        if not operation.with_objects:
            _check_empty(db, operation.medium)
    _delete(db, resources)


def _delete_device(db: apsw.Connection, operation: DeleteDevice) -> None:
    resources = {LockType.DEVICE: operation.id}
    _check_unused(db, resources)
    if not operation.in_service:
        _check_locked(db, operation.id)
    _delete(db, resources)


def _delete_medium(db: apsw.Connection, operation: DeleteMedium) -> None:
    resources = {LockType.MEDIA: operation.id}
    _check_unused(db, resources)
    _delete(db, resources)


def _check_unused(db: apsw.Connection, resources: Mapping[LockType, ResourceId]) -> None:
    """See that the first of `resources` is there, and that nobody holds a lock of its type on any."""
    first, resource = next(iter(resources.items()))
    if not _is_known(db, first, resource):
        raise unknown(first, resource)
    for type_, resource in resources.items():
        holder = _lock_on(db, type_, lock_id(resource))
        if holder is not None:
            raise in_use(resource, holder)


def _check_locked(db: apsw.Connection, device: ResourceId) -> None:
    sql = f"SELECT 1 FROM device {WHERE_DEVICE} AND adm_status = ?"
    if db.execute(sql, (*id_columns(device), AdmStatus.UNLOCKED.value)).fetchall():
        raise not_locked(device)


def _check_empty(db: apsw.Connection, medium: ResourceId) -> None:
    row = _read_medium(db, ReadMedium(medium))
    if row is not None and row.medium.stats.nb_obj:
        raise not_empty(medium)


def _delete(db: apsw.Connection, resources: Mapping[LockType, ResourceId]) -> None:
    """Delete what a lock of each type would be on."""
    for type_, resource in resources.items():
        db.execute(f"DELETE FROM {_TABLES[type_]}", id_columns(resource))


def _is_known(db: apsw.Connection, type_: LockType, resource: ResourceId) -> bool:
    return bool(db.execute(f"SELECT 1 FROM {_TABLES[type_]}", id_columns(resource)).fetchall())


_TABLES: Final = {LockType.DEVICE: f"device {WHERE_DEVICE}", LockType.MEDIA: f"media {WHERE_MEDIUM}"}
"""The row that a lock of a type is on."""


# Locks


def _lock_on(db: apsw.Connection, type_: LockType, id_: str) -> Lock | None:
    sql = f"SELECT {LOCK_COLUMNS} FROM lock WHERE type = ? AND id = ?"
    rows = db.execute(sql, (type_.value, id_)).fetchall()
    return lock_from_row(rows[0]) if rows else None


def _same_row(found: Lock | None, expected: Lock) -> bool:
    """A lock is known by its key, its owner and when it was taken: a new one of the same owner differs."""
    return found is not None and (found.owner, found.timestamp) == (expected.owner, expected.timestamp)


def _read_locks(db: apsw.Connection, operation: ReadLocks) -> tuple[Lock, ...]:
    sql = f"SELECT {LOCK_COLUMNS} FROM lock WHERE ?1 IS NULL OR hostname = ?1 ORDER BY type, id"
    return tuple(map(lock_from_row, db.execute(sql, (operation.host,)).fetchall()))


def _take_lock(db: apsw.Connection, operation: TakeLock) -> Lock | None:
    id_, owner = lock_id(operation.resource), operation.owner
    holder = _lock_on(db, operation.type, id_)
    if holder is None:
        db.execute(
            "INSERT INTO lock (type, id, hostname, owner) VALUES (?, ?, ?, ?)",
            (operation.type.value, id_, owner.host, owner.pid),
        )
        return None
    if holder.is_weak and holder.owner.host == owner.host:
        _change_owner(db, holder, operation.owner)
        return None
    return None if holder.owner == owner else holder


def _change_owner(db: apsw.Connection, lock: Lock, owner: LockOwner) -> None:
    db.execute(
        f"UPDATE lock SET hostname = ?, owner = ?, timestamp = {_NOW}, is_weak = 0 WHERE type = ? AND id = ?",
        (owner.host, owner.pid, lock.type.value, lock.id),
    )


def _replace_lock(db: apsw.Connection, operation: ReplaceLock) -> bool:
    expected = operation.expected
    if not _same_row(_lock_on(db, expected.type, expected.id), expected):
        return False
    _change_owner(db, expected, operation.owner)
    return True


def _release_lock(db: apsw.Connection, operation: ReleaseLock) -> bool:
    owner = operation.owner
    db.execute(
        "DELETE FROM lock WHERE type = ? AND id = ? AND (is_weak OR (hostname = ? AND owner = ?))",
        (operation.type.value, lock_id(operation.resource), owner.host, owner.pid),
    )
    return db.changes() > 0


def _delete_locks(db: apsw.Connection, operation: DeleteLocks) -> int:
    deleted = 0
    for lock in operation.locks:
        if _same_row(_lock_on(db, lock.type, lock.id), lock):
            db.execute("DELETE FROM lock WHERE type = ? AND id = ?", (lock.type.value, lock.id))
            deleted += 1
    return deleted


# The operation log


def _append_log(db: apsw.Connection, operation: AppendLog) -> None:
    entry = operation.entry
    db.execute(
        "INSERT INTO logs (family, device, medium, errno, cause, message, library) VALUES (?, ?, ?, ?, ?, ?, ?)",
        (
            entry.device.family.label,
            entry.device.name,
            entry.medium,
            entry.errno,
            entry.cause,
            entry.message,
            entry.device.library,
        ),
    )


def _read_health_log(db: apsw.Connection, operation: ReadHealthLog) -> tuple[int, ...]:
    columns: dict[str, str | None] = {"device": operation.device, "medium": operation.medium}
    asked = {column: name for column, name in columns.items() if name is not None}
    conditions = "".join(f" AND {column} = ?" for column in asked)
    # By rowid, the order of insertion: times may step backwards with the clock of the host.
    sql = f"SELECT errno FROM logs WHERE family = ? AND library = ?{conditions} ORDER BY rowid"
    bindings = (operation.family.label, operation.library, *asked.values())
    rows = cast("list[tuple[int]]", db.execute(sql, bindings).fetchall())
    return tuple(number for (number,) in rows)


def _read_log(db: apsw.Connection, operation: ReadLog) -> tuple[LoggedOperation, ...]:
    # What has the same time, to the millisecond, is in the order of insertion.
    sql = f"SELECT {LOG_COLUMNS} FROM logs WHERE family = ? ORDER BY time DESC, rowid DESC LIMIT ?"
    rows = db.execute(sql, (operation.family.label, operation.limit)).fetchall()
    return tuple(map(logged_from_row, reversed(rows)))


Handler = Callable[[apsw.Connection, Any], object]

READS: Final[Mapping[type[Operation[Any]], Handler]] = {
    ReadDevices: _read_devices,
    ReadDevice: _read_device,
    ReadMedia: _read_media,
    ReadMedium: _read_medium,
    ReadNamedMedia: _read_named_media,
    ReadLocks: _read_locks,
    ReadHealthLog: _read_health_log,
    ReadLog: _read_log,
}
WRITES: Final[Mapping[type[Operation[Any]], Handler]] = {
    TakeLock: _take_lock,
    ReplaceLock: _replace_lock,
    ReleaseLock: _release_lock,
    DeleteLocks: _delete_locks,
    UpdateMedia: _update_media,
    SetDeviceStatus: _set_device_status,
    AddDirectory: _add_directory,
    AddDevice: _add_device,
    AddMedia: _add_media,
    DeleteDirectory: _delete_directory,
    DeleteDevice: _delete_device,
    DeleteMedium: _delete_medium,
    AppendLog: _append_log,
}
