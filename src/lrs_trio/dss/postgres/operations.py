"""Each kind of operation as set-wise SQL: all of a kind in a batch are one statement or a few.

Operations of one batch come from tasks that wait at the same moment, so none depends on another and
they may be done kind by kind. A handler gets the operations of its kind in their order and returns their
outcomes in it. What the database refuses ends the transaction: the caller then tries one by one.
"""

from __future__ import annotations

import errno
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

import structlog

from lrs_trio.dss.books import stats_to_json, strings_to_json
from lrs_trio.dss.operations import (
    AddDirectory,
    AppendLog,
    DeleteDirectory,
    DeleteLocks,
    DeviceRow,
    LogEntry,
    MediumRow,
    Operation,
    Outcome,
    ReadChangedMedia,
    ReadDevice,
    ReadDevices,
    ReadHealthLog,
    ReadLocks,
    ReadMedia,
    ReadMedium,
    ReleaseLock,
    ReplaceLock,
    SetDeviceStatus,
    TakeLock,
    UpdateMedia,
)
from lrs_trio.dss.postgres.locks import (
    delete_locks,
    hold,
    let_go,
    read_locks,
    release_locks,
    replace_locks,
    take_locks,
)
from lrs_trio.dss.postgres.rows import (
    DEVICES_WITH_LOCKS,
    MEDIA_WITH_LOCKS,
    device_from_row,
    id_from_row,
    key_columns,
    medium_row_from_row,
)
from lrs_trio.dss.postgres.transaction import Transaction
from lrs_trio.dss.postgres.updates import update_media
from lrs_trio.errors import LrsError, describe
from lrs_trio.model import LockType, ResourceId

log: structlog.typing.FilteringBoundLogger = structlog.get_logger(__name__)

Handler = Callable[[Transaction, Sequence[Any]], Awaitable[list[Outcome]]]


async def execute(transaction: Transaction, batch: Sequence[Operation[Any]]) -> list[Outcome]:
    """Do all of `batch`, kind by kind, and return the outcomes in its order."""
    outcomes: dict[int, Outcome] = {}
    kinds = {type(operation) for operation in batch}
    for kind, handler in HANDLERS.items():
        if kind in kinds:
            places = [place for place, operation in enumerate(batch) if type(operation) is kind]
            found = await handler(transaction, [batch[place] for place in places])
            outcomes.update(zip(places, found, strict=True))
    return [outcomes[place] for place in range(len(batch))]


# Reading


async def _read_devices(transaction: Transaction, operations: Sequence[ReadDevices]) -> list[Outcome]:
    return [await _devices(transaction, operation) for operation in operations]


async def _devices(transaction: Transaction, operation: ReadDevices) -> tuple[DeviceRow, ...]:
    rows = await transaction.connection.fetch(
        f"""
        {DEVICES_WITH_LOCKS}
        WHERE ($1::text IS NULL OR device.family = $1::text::dev_family) AND ($2::text IS NULL OR device.host = $2)
        """,
        None if operation.family is None else operation.family.label,
        operation.host,
    )
    readable = []
    for row in rows:
        try:
            readable.append(device_from_row(row, transaction.clock_offset))
        except LrsError as error:
            log.error("row left out", error=describe(error))
    return tuple(sorted(readable, key=lambda row: row.device.id))


async def _read_device(transaction: Transaction, operations: Sequence[ReadDevice]) -> list[Outcome]:
    rows = await transaction.connection.fetch(
        f"""
        {DEVICES_WITH_LOCKS}
        JOIN unnest($1::text[], $2::text[], $3::text[]) AS wanted (family, id, library)
             ON device.family = wanted.family::dev_family AND device.id = wanted.id
                AND device.library = wanted.library
        """,
        *key_columns(operation.id for operation in operations),
    )
    by_id = {id_from_row(row): row for row in rows}
    return [
        _attempt(device_from_row, row, transaction) if (row := by_id.get(operation.id)) is not None else None
        for operation in operations
    ]


async def _read_media(transaction: Transaction, operations: Sequence[ReadMedia]) -> list[Outcome]:
    return [await _media(transaction, operation) for operation in operations]


async def _media(transaction: Transaction, operation: ReadMedia) -> tuple[MediumRow, ...]:
    rows = await transaction.connection.fetch(
        f"{MEDIA_WITH_LOCKS} WHERE $1::text IS NULL OR media.family = $1::text::dev_family",
        None if operation.family is None else operation.family.label,
    )
    return _readable_media(transaction, rows)


async def _read_medium(transaction: Transaction, operations: Sequence[ReadMedium]) -> list[Outcome]:
    rows = await transaction.connection.fetch(
        f"""
        {MEDIA_WITH_LOCKS}
        JOIN unnest($1::text[], $2::text[], $3::text[]) AS wanted (family, id, library)
             ON media.family = wanted.family::dev_family AND media.id = wanted.id AND media.library = wanted.library
        """,
        *key_columns(operation.id for operation in operations),
    )
    by_id = {id_from_row(row): row for row in rows}
    transaction.seen |= {id_: row["version"] for id_, row in by_id.items()}
    return [
        _attempt(medium_row_from_row, row, transaction) if (row := by_id.get(operation.id)) is not None else None
        for operation in operations
    ]


async def _read_changed_media(transaction: Transaction, operations: Sequence[ReadChangedMedia]) -> list[Outcome]:
    return [await _changed_media(transaction, operation) for operation in operations]


async def _changed_media(transaction: Transaction, operation: ReadChangedMedia) -> tuple[MediumRow, ...]:
    """A row's version is the number of the transaction that wrote it last."""
    rows = await transaction.connection.fetch(
        f"""
        {MEDIA_WITH_LOCKS}
        JOIN unnest($1::text[], $2::text[], $3::text[], $4::text[]) AS wanted (family, id, library, version)
             ON media.family = wanted.family::dev_family AND media.id = wanted.id AND media.library = wanted.library
        WHERE media.xmin::text IS DISTINCT FROM wanted.version
              OR lock.hostname IS DISTINCT FROM $5 OR lock.owner IS DISTINCT FROM $6
        """,
        *key_columns(operation.media),
        [transaction.version_of(medium) for medium in operation.media],
        operation.owner.host,
        operation.owner.pid,
    )
    return _readable_media(transaction, rows)


def _readable_media(transaction: Transaction, rows: Sequence[Any]) -> tuple[MediumRow, ...]:
    readable = []
    for row in rows:
        medium = _attempt(medium_row_from_row, row, transaction)
        if isinstance(medium, MediumRow):
            transaction.seen[medium.medium.id] = row["version"]
            readable.append(medium)
        elif isinstance(medium, LrsError):
            log.error("row left out", error=describe(medium))
    return tuple(sorted(readable, key=lambda row: row.medium.id))


def _attempt(convert: Callable[[Any, float], object], row: Any, transaction: Transaction) -> Outcome:
    try:
        return convert(row, transaction.clock_offset)
    except LrsError as error:
        return error


async def _read_health_log(transaction: Transaction, operations: Sequence[ReadHealthLog]) -> list[Outcome]:
    return [await _health_log(transaction, operation) for operation in operations]


async def _health_log(transaction: Transaction, operation: ReadHealthLog) -> tuple[int, ...]:
    rows = await transaction.connection.fetch(
        """
        SELECT errno FROM logs
        WHERE family = $1::text::dev_family AND library = $2 AND ($3::text IS NULL OR device = $3)
              AND ($4::text IS NULL OR medium = $4)
        ORDER BY time
        """,
        operation.family.label,
        operation.library,
        operation.device,
        operation.medium,
    )
    return tuple(row["errno"] for row in rows)


# Writing


async def _set_device_status(transaction: Transaction, operations: Sequence[SetDeviceStatus]) -> list[Outcome]:
    last = {operation.id: operation.adm_status.value for operation in operations}
    rows = await transaction.connection.fetch(
        """
        UPDATE device SET adm_status = new.adm_status::adm_status
        FROM unnest($1::text[], $2::text[], $3::text[], $4::text[]) AS new (family, id, library, adm_status)
        WHERE device.family = new.family::dev_family AND device.id = new.id AND device.library = new.library
        RETURNING device.family::text, device.id, device.library
        """,
        *key_columns(last),
        list(last.values()),
    )
    found = set(map(id_from_row, rows))
    return [operation.id in found for operation in operations]


async def _append_log(transaction: Transaction, operations: Sequence[AppendLog]) -> list[Outcome]:
    outcomes: list[Outcome] = [_choking(operation.entry) for operation in operations]
    entries = [operation.entry for operation, refusal in zip(operations, outcomes, strict=True) if refusal is None]
    await transaction.connection.execute(
        """
        INSERT INTO logs (family, device, library, medium, errno, cause, message, time)
        SELECT new.family::dev_family, new.device, new.library, new.medium, new.errno, new.cause::operation_type,
               new.message::jsonb, clock_timestamp()
        FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::int[], $6::text[], $7::text[])
             AS new (family, device, library, medium, errno, cause, message)
        """,
        *key_columns(entry.device for entry in entries),
        [entry.medium for entry in entries],
        [entry.errno for entry in entries],
        [entry.cause for entry in entries],
        [entry.message for entry in entries],
    )
    return outcomes


def _choking(entry: LogEntry) -> LrsError | None:
    """What the table would take, but no reader of the log."""
    try:
        is_object = isinstance(json.loads(entry.message), dict)
    except ValueError:
        is_object = False
    if is_object and entry.errno <= 0:
        return None
    return LrsError(errno.EINVAL, f"{entry}: its errno must be 0 or negative, its message a JSON object")


async def _add_directories(transaction: Transaction, operations: Sequence[AddDirectory]) -> list[Outcome]:
    return [await _add_directory(transaction, operation) for operation in operations]


async def _add_directory(transaction: Transaction, operation: AddDirectory) -> Outcome:
    device, medium = operation.device, operation.medium
    connection = transaction.connection
    for kind, id_ in (("device", device.id), ("media", medium.id)):
        known = await connection.fetchval(
            f"SELECT 1 FROM {kind} WHERE family = $1::text::dev_family AND id = $2 AND library = $3",
            *_key(id_),
        )
        if known is not None:
            name = "medium" if kind == "media" else kind
            return LrsError(errno.EEXIST, f"{name} {id_} is in the DSS already; delete it first to add it anew")
    await connection.execute(
        """
        INSERT INTO device (family, id, library, model, host, adm_status, path)
        VALUES ($1::text::dev_family, $2, $3, $4, $5, $6::text::adm_status, $7)
        """,
        *_key(device.id),
        device.model,
        device.host,
        device.adm_status.value,
        device.path,
    )
    await connection.execute(
        """
        INSERT INTO media (family, id, library, model, adm_status, fs_type, fs_label, address_type, fs_status,
                           stats, tags, groupings, put, get, delete)
        VALUES ($1::text::dev_family, $2, $3, $4, $5::text::adm_status, $6::text::fs_type, $7,
                $8::text::address_type, $9::text::fs_status, $10::text::jsonb, $11::text::jsonb, $12::text::jsonb,
                $13, $14, $15)
        """,
        *_key(medium.id),
        medium.model,
        medium.adm_status.value,
        medium.fs_type.label,
        medium.fs_label,
        medium.address_type.label,
        medium.fs_status.value,
        stats_to_json(medium.stats, "{}", medium.id),
        strings_to_json(medium.tags),
        strings_to_json(medium.groupings),
        medium.put,
        medium.get,
        medium.delete,
    )
    return None


async def _delete_directories(transaction: Transaction, operations: Sequence[DeleteDirectory]) -> list[Outcome]:
    return [await _delete_directory(transaction, operation) for operation in operations]


async def _delete_directory(transaction: Transaction, operation: DeleteDirectory) -> Outcome:
    """The locks are taken while the rows go: no daemon can adopt what is being deleted."""
    connection = transaction.connection
    known = await connection.fetchval(
        "SELECT 1 FROM device WHERE family = $1::text::dev_family AND id = $2 AND library = $3",
        *_key(operation.device),
    )
    if known is None:
        return LrsError(errno.ENOENT, f"device {operation.device} is not in the DSS; nothing was deleted")
    locks = ((LockType.DEVICE, operation.device), (LockType.MEDIA, operation.medium))
    held: list[tuple[LockType, ResourceId]] = []
    for type_, resource in locks:
        holder = await hold(transaction, type_, resource)
        if holder is not None:
            await let_go(transaction, held)
            return LrsError(
                errno.EBUSY,
                f"{type_.value} {resource} is in use, {holder.owner} holds a lock on it; "
                "lock the directory so that the daemon lets go of it, then delete it",
            )
        held.append((type_, resource))
    for table, resource in (("device", operation.device), ("media", operation.medium)):
        await connection.execute(
            f"DELETE FROM {table} WHERE family = $1::text::dev_family AND id = $2 AND library = $3", *_key(resource)
        )
    await let_go(transaction, held)
    return None


def _key(resource: ResourceId) -> tuple[str, str, str]:
    return resource.family.label, resource.name, resource.library


HANDLERS: Final[Mapping[type[Operation[Any]], Handler]] = {
    TakeLock: take_locks,
    ReplaceLock: replace_locks,
    UpdateMedia: update_media,
    SetDeviceStatus: _set_device_status,
    AppendLog: _append_log,
    AddDirectory: _add_directories,
    DeleteDirectory: _delete_directories,
    ReleaseLock: release_locks,
    DeleteLocks: delete_locks,
    ReadDevices: _read_devices,
    ReadDevice: _read_device,
    ReadMedia: _read_media,
    ReadMedium: _read_medium,
    ReadChangedMedia: _read_changed_media,
    ReadLocks: read_locks,
    ReadHealthLog: _read_health_log,
}
"""In the order in which the kinds are done: writes first, so that reads see them."""

READS: Final = frozenset({ReadDevices, ReadDevice, ReadMedia, ReadMedium, ReadChangedMedia, ReadLocks, ReadHealthLog})
