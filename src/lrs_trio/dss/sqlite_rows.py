"""Rows of the SQLite tables as values of the model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from lrs_trio.dss.books import stats_from_json, strings_from_json
from lrs_trio.dss.operations import DeviceRow, LoggedOperation, MediumRow
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

Row = Sequence[Any]

LOCK_COLUMNS: Final = "lock.type, lock.id, hostname, owner, timestamp, is_weak, last_locate"

# Ending in the columns of the lock, NULL where there is none.
SELECT_DEVICES: Final = f"""
SELECT family, device.id, library, host, path, adm_status, model, {LOCK_COLUMNS}
FROM device LEFT JOIN lock ON lock.type = 'device' AND lock.id = device.id || '_' || library
"""
MEDIUM_COLUMNS: Final = """family, media.id, library, fs_type, adm_status, fs_status, fs_label, address_type, model,
       stats, tags, groupings, put, get, "delete"
"""
SELECT_MEDIA: Final = f"""
SELECT {MEDIUM_COLUMNS}, {LOCK_COLUMNS}
FROM media LEFT JOIN lock ON lock.type = 'media' AND lock.id = media.id || '_' || library
"""
LOG_COLUMNS: Final = "family, device, medium, library, errno, cause, message, time"

WHERE_DEVICE: Final = " WHERE family = ? AND device.id = ? AND library = ?"
WHERE_MEDIUM: Final = " WHERE family = ? AND media.id = ? AND library = ?"


def id_columns(resource: ResourceId) -> tuple[str, str, str]:
    """The key of `resource`'s row, as `WHERE_DEVICE` and `WHERE_MEDIUM` ask for it."""
    return resource.family.label, resource.name, resource.library


def seconds_from_text(text: str) -> float:
    """A time as the DSS stores it, UTC text, in seconds since the epoch."""
    return datetime.fromisoformat(f"{text}+00:00").timestamp()


def lock_from_row(row: Row) -> Lock:
    type_, id_, hostname, owner, timestamp, is_weak, last_locate = row
    return Lock(
        LockType(type_),
        id_,
        LockOwner(hostname, owner),
        seconds_from_text(timestamp),
        bool(is_weak),
        None if last_locate is None else seconds_from_text(last_locate),
    )


def device_from_row(row: Row) -> DeviceRow:
    family, name, library, host, path, adm_status, model, *lock = row
    id_ = ResourceId(Family.from_label(family), name, library)
    device = Device(id_, host, path, AdmStatus(adm_status), model)
    return DeviceRow(device, None if lock[0] is None else lock_from_row(lock))


def medium_row_from_row(row: Row) -> MediumRow:
    """Raises `LrsError` EINVAL where the JSON in the row is malformed."""
    lock = row[15:]
    return MediumRow(medium_from_row(row), None if lock[0] is None else lock_from_row(lock))


def medium_from_row(row: Row) -> Medium:
    """Raises `LrsError` EINVAL where the JSON in the row is malformed."""
    family, name, library, fs_type, adm_status, fs_status, fs_label, address_type, model = row[:9]
    stats, tags, groupings, put, get, delete = row[9:15]
    id_ = ResourceId(Family.from_label(family), name, library)
    return Medium(
        id_,
        FsType[fs_type],
        AdmStatus(adm_status),
        FsStatus(fs_status),
        fs_label,
        AddressType[address_type],
        model,
        stats_from_json(stats, id_),
        strings_from_json(tags, id_),
        strings_from_json(groupings, id_),
        bool(put),
        bool(get),
        bool(delete),
    )


def logged_from_row(row: Row) -> LoggedOperation:
    label, device, medium, library, errno, cause, message, time = row
    family = Family.from_label(label)
    return LoggedOperation(
        ResourceId(family, device, library),
        ResourceId(family, medium, library),
        errno,
        cause,
        message,
        seconds_from_text(time),
    )


@dataclass(frozen=True, slots=True)
class Texts:
    """What a row of a medium keeps as JSON, as it is."""

    stats: str
    tags: str
    groupings: str


def texts_of(row: Row) -> Texts:
    """Of a row that begins with `MEDIUM_COLUMNS`."""
    return Texts(*row[9:12])
