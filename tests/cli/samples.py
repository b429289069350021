"""Parts of the daemon's own report."""

from __future__ import annotations

from typing import Any


def drive_report(path: str, serial: str, **more: Any) -> dict[str, Any]:
    """A drive that is empty and idle, unless `more` says otherwise."""
    return {
        "name": serial,
        "path": path,
        "library": "legacy",
        "status": "empty",
        "stopping": False,
        "adm_status": "unlocked",
        "reason": "",
        "medium": None,
        "medium_adm_status": "unlocked" if more.get("medium") else None,
        "fs_status": None,
        "root": "",
        "planned": 0,
        "ongoing": 0,
        "reserved": 0,
        "max_concurrent_io": 1,
        "grants": [],
        "to_sync": {"requests": 0, "bytes": 0, "age_s": None},
        "syncing": False,
        "sync_cost": None,
        "free": 0,
        "reserved_bytes": 0,
    } | more


def family_report(name: str, devices: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    return {
        "family": name,
        "volumes": 0,
        "free": 0,
        "queued": {"write": 0, "read": 0, "format": 0},
        "waiting": [],
        "devices": devices,
    } | more
