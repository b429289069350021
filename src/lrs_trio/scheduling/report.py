"""What a family looks like from outside: for the monitor request, and for `lrs status`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from heapq import nsmallest
from itertools import islice
from math import inf

import trio

from lrs_trio.devices.device import DeviceTask
from lrs_trio.devices.life import DeviceStatus
from lrs_trio.errors import describe
from lrs_trio.model import RequestKind
from lrs_trio.scheduling.client import Client
from lrs_trio.scheduling.family import FamilyScheduler

LETTERS = {RequestKind.READ: "R", RequestKind.WRITE: "W", RequestKind.FORMAT: "F"}
"""What existing tools call the kinds of requests that a drive serves, in their order."""

LONGEST_LIST = 200
"""Waiting requests that a report names, the oldest first; the others are only counted."""

MOST_GRANTS = 2000
"""Grants of a family that a report names, the oldest; the others are only counted, as ``grants_left_out``."""


def monitor(family: FamilyScheduler) -> Iterator[dict[str, object]]:
    """One object per device, with the keys that existing tools read; each as it is when its turn comes."""
    return (_monitored(device, family.supply.dedicated(device.id)) for device in tuple(family.devices.values()))


def _monitored(device: DeviceTask, dedicated: frozenset[RequestKind]) -> dict[str, object]:
    found = device.identity
    return {
        "name": device.row.path,
        "library": device.id.library,
        "device": found.path if found is not None else "",
        **({"serial": found.serial} if found is not None else {}),
        "currently_dedicated_to": _letters(dedicated),
        "adm_status": device.row.adm_status.value,
        "address": device.address,
        "ongoing_io": device.state.ongoing + device.state.reserved > 0,
        **_monitored_medium(device),
    }


def _letters(dedicated: frozenset[RequestKind]) -> str:
    return "".join(letter for kind, letter in LETTERS.items() if kind in dedicated)


def _monitored_medium(device: DeviceTask) -> dict[str, object]:
    loaded = device.state.status in (DeviceStatus.LOADED, DeviceStatus.MOUNTED)
    return {"mount_path": device.root, "media": device.medium.id.name} if loaded and device.medium else {}


def family_status(family: FamilyScheduler) -> dict[str, object]:
    """The family's part of `lrs status`; ages are seconds, sizes bytes.

    The devices are an iterator, which tells of each as it is when its turn comes.
    """
    now = trio.current_time()
    oldest, left_out = _grants_until(family)
    kinds = (RequestKind.WRITE, RequestKind.READ, RequestKind.FORMAT)
    return {
        "family": family.family.label,
        **family.supply.report(),
        "queued": {kind.name.lower(): family.queue.count(kind) for kind in kinds},
        "waiting": [
            {
                "kind": request.kind.name.lower(),
                "state": request.state.value,
                **_client(request.client),
                "age_s": round(now - request.since, 3),
            }
            for request in islice(family.live, LONGEST_LIST)
        ],
        "unanswered": len(family.live),
        "grants_left_out": left_out,
        "devices": (
            _device_status(device, trio.current_time(), oldest)
            | {"dedicated_to": _letters(family.supply.dedicated(device.id))}
            for device in family.held
        ),
    }


def _grants_until(family: FamilyScheduler) -> tuple[float, int]:
    """When the last of the grants that are named began, in trio's time, and how many are not named."""
    times = [grant.since for device in family.held for grant in device.state.grants]
    if len(times) <= MOST_GRANTS:
        return inf, 0
    until = max(nsmallest(MOST_GRANTS, times))
    return until, sum(since > until for since in times)


def _device_status(device: DeviceTask, now: float, grants_until: float) -> dict[str, object]:
    state, medium = device.state, device.medium
    since = state.to_sync.since
    return {
        "name": device.id.name,
        "path": device.row.path,
        "library": device.id.library,
        "model": device.row.model,
        "address": device.address,
        "status": state.status.value,
        "since_s": round(now - state.life.since, 3),
        "times": {status.value: round(seconds, 3) for status, seconds in state.life.seconds(now).items()},
        "stopping": state.stopping,
        "adm_status": device.row.adm_status.value,
        "reason": _reason(device),
        "medium": medium.id.name if medium else None,
        "medium_adm_status": medium.adm_status.value if medium else None,
        "fs_status": medium.fs_status.value if medium else None,
        "root": device.root,
        "planned": state.planned,
        "ongoing": state.ongoing,
        "reserved": state.reserved,
        "max_concurrent_io": state.max_concurrent_io,
        "grants": [
            {
                "medium": grant.medium.name,
                "kind": grant.kind.name.lower(),
                "state": grant.state.value,
                **_client(grant.holder.client),
                "age_s": round(now - grant.since, 3),
            }
            for grant in sorted(state.grants, key=lambda grant: grant.since)
            if grant.since <= grants_until
        ],
        "to_sync": {
            "requests": len(state.to_sync),
            "bytes": state.to_sync.size,
            "age_s": None if since is None else round(now - since, 3),
        },
        "syncing": state.syncing is not None,
        "sync_cost": _sync_cost(device),
        "free": state.volume.free,
        "reserved_bytes": state.volume.reserved,
    }


def _sync_cost(device: DeviceTask) -> dict[str, object] | None:
    """What a sync of the tape in a drive has been found to take, in seconds: at least, and for each file on it."""
    cost = device.sync_cost
    if cost is None:
        return None
    return {
        "base_s": round(cost.base_s, 3),
        "per_file_s": round(cost.per_file_s, 6),
        "syncs": cost.samples,
    }


def _reason(device: DeviceTask) -> str:
    """Why a device does not serve, or for whom it waits."""
    problem = device.state.error or device.state.tainted or device.state.withheld
    return describe(problem) if problem is not None else device.waiting_for


def _client(client: object) -> Mapping[str, object]:
    if isinstance(client, Client):
        return {"client": client.serial, "pid": client.pid, "uid": client.uid}
    return {"client": str(client), "pid": None, "uid": None}
