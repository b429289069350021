"""Each kind of operation as set-wise SQL: all of a kind in a batch are one statement or a few.

Operations of one batch come from tasks that wait at the same moment, so none depends on another and
they may be done kind by kind. A handler gets the operations of its kind in their order and returns their
outcomes in it. What the database refuses ends the transaction: the caller then tries one by one.
"""

from __future__ import annotations

import errno
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from itertools import chain
from typing import Any, Final

import structlog

from lrs_trio.dss.books import stats_from_json, stats_to_json, strings_to_json
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
    LogEntry,
    LoggedOperation,
    MediumRow,
    Operation,
    Outcome,
    ReadChangedMedia,
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
    IS_WANTED,
    JOIN_WANTED_MEDIA,
    LOG_COLUMNS,
    MEDIA_WITH_LOCKS,
    device_from_row,
    id_from_row,
    key_columns,
    logged_from_row,
    medium_row_from_row,
)
from lrs_trio.dss.postgres.transaction import Transaction
from lrs_trio.dss.postgres.updates import update_media
from lrs_trio.dss.refusals import already_known, given_twice, in_use, not_empty, not_locked, unknown
from lrs_trio.errors import LrsError, describe
from lrs_trio.model import AdmStatus, Device, LockType, Medium, ResourceId

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
    found = await _named_media(transaction, [operation.id for operation in operations])
    return [found.get(operation.id) for operation in operations]


async def _read_named_media(transaction: Transaction, operations: Sequence[ReadNamedMedia]) -> list[Outcome]:
    found = await _named_media(transaction, list(chain.from_iterable(operation.media for operation in operations)))
    return [tuple([found.get(medium) for medium in operation.media]) for operation in operations]


async def _named_media(transaction: Transaction, media: Sequence[ResourceId]) -> dict[ResourceId, Outcome]:
    """Those of `media` that are there, or why they cannot be understood."""
    rows = await transaction.connection.fetch(f"{MEDIA_WITH_LOCKS} {JOIN_WANTED_MEDIA}", *key_columns(media))
    by_id = {id_from_row(row): row for row in rows}
    return {id_: _attempt(medium_row_from_row, row, transaction) for id_, row in by_id.items()}


async def _read_changed_media(transaction: Transaction, operations: Sequence[ReadChangedMedia]) -> list[Outcome]:
    return [await _changed_media(transaction, operation) for operation in operations]


async def _changed_media(transaction: Transaction, operation: ReadChangedMedia) -> tuple[MediumRow, ...]:
    """A row's version is the number of the transaction that wrote it last.

    Only what is answered here is known to whoever asks here: who reads the same rows in between tells nobody of it.
    """
    rows = await transaction.connection.fetch(
        f"""
        {MEDIA_WITH_LOCKS}
        JOIN unnest($1::text[], $2::text[], $3::text[], $4::text[]) AS wanted (family, id, library, version)
             ON {IS_WANTED}
        WHERE media.xmin::text IS DISTINCT FROM wanted.version
              OR lock.hostname IS DISTINCT FROM $5 OR lock.owner IS DISTINCT FROM $6
        """,
        *key_columns(operation.media),
        [transaction.version_of(medium) for medium in operation.media],
        operation.owner.host,
        operation.owner.pid,
    )
    found = _readable_media(transaction, rows)
    versions = {id_from_row(row): row["version"] for row in rows}
    transaction.seen |= {row.medium.id: versions[row.medium.id] for row in found}
    return found


def _readable_media(transaction: Transaction, rows: Sequence[Any]) -> tuple[MediumRow, ...]:
    readable = []
    for row in rows:
        medium = _attempt(medium_row_from_row, row, transaction)
        if isinstance(medium, MediumRow):
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


async def _read_log(transaction: Transaction, operations: Sequence[ReadLog]) -> list[Outcome]:
    return [await _log(transaction, operation) for operation in operations]


async def _log(transaction: Transaction, operation: ReadLog) -> tuple[LoggedOperation, ...]:
    rows = await transaction.connection.fetch(
        f"""
        SELECT {LOG_COLUMNS} FROM logs WHERE family = $1::text::dev_family
        ORDER BY time DESC NULLS LAST, uuid DESC LIMIT $2
        """,
        operation.family.label,
        operation.limit,
    )
    return tuple(logged_from_row(row, transaction.clock_offset) for row in reversed(rows))


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
        SELECT new.family::dev_family, new.device, new.library, new.medium, new.errno::int, new.cause::operation_type,
               new.message::jsonb, clock_timestamp()
        FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[])
             AS new (family, device, library, medium, errno, cause, message)
        """,
        *key_columns(entry.device for entry in entries),
        [entry.medium for entry in entries],
        [str(entry.errno) for entry in entries],
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


async def _add_devices(transaction: Transaction, operations: Sequence[AddDevice]) -> list[Outcome]:
    return [await _add(transaction, (operation.device,), ()) for operation in operations]


async def _add_media(transaction: Transaction, operations: Sequence[AddMedia]) -> list[Outcome]:
    return [await _add(transaction, (), operation.media) for operation in operations]


async def _add_directories(transaction: Transaction, operations: Sequence[AddDirectory]) -> list[Outcome]:
    return [await _add(transaction, (operation.device,), (operation.medium,)) for operation in operations]


async def _add(transaction: Transaction, devices: Sequence[Device], media: Sequence[Medium]) -> LrsError | None:
    """All of them or, if one is known, none."""
    if refusal := given_twice(medium.id for medium in media):
        return refusal
    for type_, additions in ((LockType.DEVICE, devices), (LockType.MEDIA, media)):
        if known := await _known(transaction, type_, [addition.id for addition in additions]):
            return already_known(type_, known[0])
    await _insert_devices(transaction, devices)
    await _insert_media(transaction, media)
    return None


async def _known(transaction: Transaction, type_: LockType, wanted: Sequence[ResourceId]) -> list[ResourceId]:
    """Those of `wanted` that are there, in their order."""
    rows = await transaction.connection.fetch(
        f"""
        SELECT known.family::text, known.id, known.library
        FROM {_TABLES[type_]} AS known
             JOIN unnest($1::text[], $2::text[], $3::text[]) AS wanted (family, id, library)
             ON known.family = wanted.family::dev_family AND known.id = wanted.id AND known.library = wanted.library
        """,
        *key_columns(wanted),
    )
    known = set(map(id_from_row, rows))
    return [resource for resource in wanted if resource in known]


async def _insert_devices(transaction: Transaction, devices: Sequence[Device]) -> None:
    await transaction.connection.execute(
        """
        INSERT INTO device (family, id, library, model, host, adm_status, path)
        SELECT new.family::dev_family, new.id, new.library, new.model, new.host, new.adm_status::adm_status, new.path
        FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[])
             AS new (family, id, library, model, host, adm_status, path)
        """,
        *key_columns(device.id for device in devices),
        [device.model for device in devices],
        [device.host for device in devices],
        [device.adm_status.value for device in devices],
        [device.path for device in devices],
    )


async def _insert_media(transaction: Transaction, media: Sequence[Medium]) -> None:
    await transaction.connection.execute(
        """
        INSERT INTO media (family, id, library, model, adm_status, fs_type, fs_label, address_type, fs_status,
                           stats, tags, groupings, put, get, delete)
        SELECT new.family::dev_family, new.id, new.library, new.model, new.adm_status::adm_status,
               new.fs_type::fs_type, new.fs_label, new.address_type::address_type, new.fs_status::fs_status,
               new.stats::jsonb, new.tags::jsonb, new.groupings::jsonb, new.put::bool, new.get::bool, new.delete::bool
        FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[],
                    $9::text[], $10::text[], $11::text[], $12::text[], $13::text[], $14::text[], $15::text[])
             AS new (family, id, library, model, adm_status, fs_type, fs_label, address_type, fs_status, stats, tags,
                     groupings, put, get, delete)
        """,
        *key_columns(medium.id for medium in media),
        [medium.model for medium in media],
        [medium.adm_status.value for medium in media],
        [medium.fs_type.label for medium in media],
        [medium.fs_label for medium in media],
        [medium.address_type.label for medium in media],
        [medium.fs_status.value for medium in media],
        [stats_to_json(medium.stats, "{}", medium.id) for medium in media],
        [strings_to_json(medium.tags) for medium in media],
        [strings_to_json(medium.groupings) for medium in media],
        [str(medium.put) for medium in media],
        [str(medium.get) for medium in media],
        [str(medium.delete) for medium in media],
    )


async def _delete_devices(transaction: Transaction, operations: Sequence[DeleteDevice]) -> list[Outcome]:
    return [
        await _delete(transaction, {LockType.DEVICE: operation.id}, in_service=operation.in_service)
        for operation in operations
    ]


async def _delete_media(transaction: Transaction, operations: Sequence[DeleteMedium]) -> list[Outcome]:
    return [await _delete(transaction, {LockType.MEDIA: operation.id}, with_objects=True) for operation in operations]


async def _delete_directories(transaction: Transaction, operations: Sequence[DeleteDirectory]) -> list[Outcome]:
    return [
        await _delete(
            transaction,
            {LockType.DEVICE: operation.device, LockType.MEDIA: operation.medium},
            in_service=operation.in_service,
            with_objects=operation.with_objects,
        )
        for operation in operations
    ]


async def _delete(
    transaction: Transaction,
    resources: Mapping[LockType, ResourceId],
    *,
    in_service: bool = False,
    with_objects: bool = False,
) -> LrsError | None:
    """Delete what a lock of each type would be on, if the first is there; see `DeleteDirectory` for what is refused.

    The locks are taken while the rows go: no daemon can adopt what is being deleted.
    """
    first, resource = next(iter(resources.items()))
    if not await _known(transaction, first, [resource]):
        return unknown(first, resource)
    held: list[tuple[LockType, ResourceId]] = []
    for type_, resource in resources.items():
        holder = await hold(transaction, type_, resource)
        if holder is not None:
            await let_go(transaction, held)
            return in_use(resource, holder)
        held.append((type_, resource))
    refusal = await _reason_to_keep(transaction, resources, in_service=in_service, with_objects=with_objects)
    if refusal is None:
        for type_, resource in held:
            await transaction.connection.execute(
                f"DELETE FROM {_TABLES[type_]} WHERE {_IS_ROW}",
                resource.family.label,
                resource.name,
                resource.library,
            )
    await let_go(transaction, held)
    return refusal


async def _reason_to_keep(
    transaction: Transaction, resources: Mapping[LockType, ResourceId], *, in_service: bool, with_objects: bool
) -> LrsError | None:
    """Why something of what nobody uses is not to be deleted. The rows stay as they are until the transaction ends."""
    said: dict[LockType, str | None] = {}
    for type_, resource in resources.items():
        row = await transaction.connection.fetchrow(
            f"SELECT {_SAYS[type_]} AS said FROM {_TABLES[type_]} WHERE {_IS_ROW} FOR UPDATE",
            resource.family.label,
            resource.name,
            resource.library,
        )
        if row is None:
            return None
        said[type_] = row["said"]
    if not in_service and said.get(LockType.DEVICE) == AdmStatus.UNLOCKED.value:
        return not_locked(resources[LockType.DEVICE])
    if not with_objects and LockType.MEDIA in said:
        return _holds_objects(resources[LockType.MEDIA], said[LockType.MEDIA])
    return None


def _holds_objects(medium: ResourceId, stats: str | None) -> LrsError | None:
    try:
        objects = stats_from_json(stats or "null", medium).nb_obj
    except LrsError as error:
        return error
    return not_empty(medium) if objects else None


_TABLES: Final = {LockType.DEVICE: "device", LockType.MEDIA: "media"}
"""Where that is which a lock of a type is on."""

_SAYS: Final = {LockType.DEVICE: "adm_status::text", LockType.MEDIA: "stats::text"}
"""What there says whether it may be deleted."""

_IS_ROW: Final = "family = $1::text::dev_family AND id = $2 AND library = $3"

HANDLERS: Final[Mapping[type[Operation[Any]], Handler]] = {
    TakeLock: take_locks,
    ReplaceLock: replace_locks,
    UpdateMedia: update_media,
    SetDeviceStatus: _set_device_status,
    AppendLog: _append_log,
    AddDirectory: _add_directories,
    AddDevice: _add_devices,
    AddMedia: _add_media,
    DeleteDirectory: _delete_directories,
    DeleteDevice: _delete_devices,
    DeleteMedium: _delete_media,
    ReleaseLock: release_locks,
    DeleteLocks: delete_locks,
    ReadDevices: _read_devices,
    ReadDevice: _read_device,
    ReadMedia: _read_media,
    ReadMedium: _read_medium,
    ReadNamedMedia: _read_named_media,
    ReadChangedMedia: _read_changed_media,
    ReadLocks: read_locks,
    ReadHealthLog: _read_health_log,
    ReadLog: _read_log,
}
"""In the order in which the kinds are done: writes first, so that reads see them."""

READS: Final = frozenset(
    {
        ReadDevices,
        ReadDevice,
        ReadMedia,
        ReadMedium,
        ReadNamedMedia,
        ReadChangedMedia,
        ReadLocks,
        ReadHealthLog,
        ReadLog,
    }
)
