"""Rows of a Phobos database as values of the model.

Times come as seconds since the epoch: the columns have no time zone, and hold what the zone of the
session that wrote them made of the time. Ours is taken to be the same.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable
from functools import lru_cache
from typing import Final

import asyncpg

from lrs_trio.dss.books import stats_from_json, strings_from_json
from lrs_trio.dss.operations import DeviceRow, LoggedOperation, MediumRow
from lrs_trio.errors import LrsError
from lrs_trio.model import (
    AddressType,
    AdmStatus,
    Device,
    Family,
    FsStatus,
    FsType,
    Lock,
    LockOwner,
    LockType,
    Medium,
    ResourceId,
)


def epoch(column: str) -> str:
    """The time in `column`, in seconds since the epoch by the server's clock."""
    return f"extract(epoch FROM {column} AT TIME ZONE current_setting('TimeZone'))::float8"


LOCK_TYPES: Final = [type_.value for type_ in LockType]

TAKEN: Final = f"coalesce({epoch('lock.timestamp')}, 0)"
"""When a lock was taken; one without a time was taken long ago."""

LOCK_COLUMNS: Final = f"""
lock.type::text AS lock_type, lock.id AS lock_id, lock.hostname, lock.owner, {TAKEN} AS taken, lock.is_weak,
{epoch("lock.last_locate")} AS last_locate
"""

# Enumerations and JSON as text, and no arrays but those of text: asyncpg would ask the server about each other type on
# each new connection.
DEVICE_COLUMNS: Final = """
device.family::text, device.id, device.library, device.host, device.path, device.adm_status::text, device.model
"""
MEDIUM_COLUMNS: Final = """
media.family::text, media.id, media.library, media.fs_type::text, media.adm_status::text, media.fs_status::text,
media.fs_label, media.address_type::text, media.model, media.stats::text, media.tags::text, media.groupings::text,
media.put, media.get, media.delete, media.xmin::text AS version
"""
LOG_COLUMNS: Final = f"""
family::text, coalesce(device, '') AS device, coalesce(medium, '') AS medium, library, errno,
coalesce(cause::text, '') AS cause, coalesce(message::text, '{{}}') AS message, {epoch("time")} AS time
"""
IS_WANTED: Final = """
media.family = wanted.family::dev_family AND media.id = wanted.id AND media.library = wanted.library
"""
JOIN_WANTED_MEDIA: Final = f"""
JOIN unnest($1::text[], $2::text[], $3::text[]) AS wanted (family, id, library) ON {IS_WANTED}
"""
"""The media of `key_columns`."""

DEVICES_WITH_LOCKS: Final = f"""
SELECT {DEVICE_COLUMNS}, {LOCK_COLUMNS}
FROM device LEFT JOIN lock ON lock.type = 'device' AND lock.id = device.id || '_' || device.library
"""
MEDIA_WITH_LOCKS: Final = f"""
SELECT {MEDIUM_COLUMNS}, {LOCK_COLUMNS}
FROM media LEFT JOIN lock ON lock.type = 'media' AND lock.id = media.id || '_' || media.library
"""


def key_columns(resources: Iterable[ResourceId]) -> tuple[list[str], list[str | None], list[str | None]]:
    """The keys of `resources`, column by column, as ``unnest`` takes them.

    A text that PostgreSQL cannot hold is no row's key: ``None`` stands for it, which equals nothing.
    """
    keys = list(resources)
    return (
        [key.family.label for key in keys],
        [_text(key.name) for key in keys],
        [_text(key.library) for key in keys],
    )


def _text(text: str) -> str | None:
    return None if "\0" in text else text


def id_from_row(row: asyncpg.Record) -> ResourceId:
    return ResourceId(Family.from_label(row["family"]), row["id"], row["library"])


def lock_from_row(row: asyncpg.Record, clock_offset: float) -> Lock:
    """`clock_offset` is what has to be added to the server's time to get this host's, in seconds."""
    return Lock(
        LockType(row["lock_type"]),
        row["lock_id"],
        LockOwner(row["hostname"], row["owner"]),
        row["taken"] + clock_offset,
        bool(row["is_weak"]),
        None if row["last_locate"] is None else row["last_locate"] + clock_offset,
    )


def device_from_row(row: asyncpg.Record, clock_offset: float) -> DeviceRow:
    """Raises `LrsError` EINVAL where the row lacks something."""
    id_ = id_from_row(row)
    if None in (row["host"], row["path"], row["adm_status"]):
        raise LrsError(errno.EINVAL, f"device {id_}: its row in the DSS lacks its host, path or status; repair the row")
    device = Device(id_, row["host"], row["path"], AdmStatus(row["adm_status"]), row["model"])
    return DeviceRow(device, _lock_beside(row, clock_offset))


def medium_row_from_row(row: asyncpg.Record, clock_offset: float) -> MediumRow:
    """Raises `LrsError` EINVAL where the row lacks something, or its JSON is malformed."""
    return MediumRow(medium_from_row(row), _lock_beside(row, clock_offset))


def medium_from_row(row: asyncpg.Record) -> Medium:
    """Raises `LrsError` EINVAL where the row lacks something, or its JSON is malformed."""
    id_ = id_from_row(row)
    if None in (row["fs_type"], row["adm_status"], row["fs_status"], row["address_type"]):
        raise LrsError(errno.EINVAL, f"medium {id_}: its row in the DSS lacks a status or type; repair the row")
    fs_type, adm_status, fs_status, address_type = _kinds(
        row["fs_type"], row["adm_status"], row["fs_status"], row["address_type"]
    )
    return Medium(
        id_,
        fs_type,
        adm_status,
        fs_status,
        row["fs_label"] or "",
        address_type,
        row["model"],
        stats_from_json(row["stats"] or "null", id_),
        _strings(row["tags"], id_),
        _strings(row["groupings"], id_),
        bool(row["put"]),
        bool(row["get"]),
        bool(row["delete"]),
    )


@lru_cache(256)
def _kinds(
    fs_type: str, adm_status: str, fs_status: str, address_type: str
) -> tuple[FsType, AdmStatus, FsStatus, AddressType]:
    """All rows have one of few combinations, and every release comes by here."""
    return FsType[fs_type], AdmStatus(adm_status), FsStatus(fs_status), AddressType[address_type]


def logged_from_row(row: asyncpg.Record, clock_offset: float) -> LoggedOperation:
    """A row without a time was written long ago."""
    family, library = Family.from_label(row["family"]), row["library"]
    return LoggedOperation(
        ResourceId(family, row["device"], library),
        ResourceId(family, row["medium"], library),
        row["errno"],
        row["cause"],
        row["message"],
        0.0 if row["time"] is None else row["time"] + clock_offset,
    )


def _strings(text: str | None, medium: ResourceId) -> tuple[str, ...]:
    """Nothing, JSON's null, and what is no array at all: no strings, as Phobos reads it."""
    return strings_from_json(text, medium) if text is not None and text.startswith("[") else ()


def _lock_beside(row: asyncpg.Record, clock_offset: float) -> Lock | None:
    return None if row["lock_id"] is None else lock_from_row(row, clock_offset)
