"""Rows of the DSS as commands show them."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lrs_trio.dss.operations import MediumRow
    from lrs_trio.model import Lock


def shown_medium(row: MediumRow) -> dict[str, Any]:
    """A medium with all that the DSS says of it. Sizes are bytes."""
    medium = row.medium
    return {
        "name": medium.id.name,
        "adm_status": medium.adm_status.value,
        "fs_type": medium.fs_type.label,
        "fs_status": medium.fs_status.value,
        "fs_label": medium.fs_label,
        "address_type": medium.address_type.label,
        "stats": asdict(medium.stats),
        "tags": list(medium.tags),
        "groupings": list(medium.groupings),
        "put": medium.put,
        "get": medium.get,
        "delete": medium.delete,
        "lock": shown_lock(row.lock),
    }


def shown_lock(lock: Lock | None) -> dict[str, Any] | None:
    if lock is None:
        return None
    return {"host": lock.owner.host, "pid": lock.owner.pid, "since": lock.timestamp}


def used_by(lock: dict[str, Any] | None) -> str:
    """Who has a shown `lock`, for a table."""
    return f"pid {lock['pid']} on {lock['host']}" if lock else ""
