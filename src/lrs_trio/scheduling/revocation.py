"""Grants that an administrator takes away from whoever holds them: as if the client had gone (decision 9)."""

from __future__ import annotations

import errno
from collections.abc import Iterable
from typing import Final

import structlog
import trio

from lrs_trio.devices.grant import Grant, GrantState
from lrs_trio.errors import LrsError
from lrs_trio.events import EventKind, Events
from lrs_trio.scheduling.client import Client
from lrs_trio.scheduling.family import FamilyScheduler
from lrs_trio.wire.messages import Revoke

log = structlog.get_logger()

MOST_GRANTS: Final = 1000


def revoke(families: Iterable[FamilyScheduler], wanted: Revoke, by: Client, events: Events) -> list[dict[str, object]]:
    """Take away the grants that are as `wanted`, the oldest first, and describe each; ages are seconds.

    At most `MOST_GRANTS` are taken away, so that the answer fits into a frame. What a client is still promised, and
    what it has synced just now by a partial release, is not touched. The client is told when it releases what it has
    not any more; until then it may still use the medium.

    Raises:
        LrsError: EINVAL, neither media nor a holder is named.
    """
    if not wanted.media and wanted.client is None and wanted.pid is None:
        raise LrsError(errno.EINVAL, "a revocation names neither media nor a client nor a process")
    now = trio.current_time()
    found = [
        (client, grant)
        for family in families
        for device in family.devices.values()
        for grant in device.state.grants
        if isinstance(client := grant.holder.client, Client) and _is_wanted(grant, client, wanted)
    ]
    found.sort(key=lambda pair: pair[1].since)
    return [_revoke(client, grant, now, by, events) for client, grant in found[:MOST_GRANTS]]


def _is_wanted(grant: Grant, client: Client, wanted: Revoke) -> bool:
    return (
        grant.state is GrantState.ONGOING
        and (not wanted.media or grant.medium.name in wanted.media)
        and wanted.library in (None, grant.medium.library)
        and wanted.client in (None, client.serial)
        and wanted.pid in (None, client.pid)
    )


def _revoke(client: Client, grant: Grant, now: float, by: Client, events: Events) -> dict[str, object]:
    medium, held_s = grant.medium, round(now - grant.since, 3)
    log.warning(
        "grant revoked",
        medium=str(medium),
        kind=grant.kind.name.lower(),
        client=str(client),
        held_s=held_s,
        by=str(by),
    )
    events.emit(
        EventKind.GRANT_REVOKED,
        family=medium.family.label,
        device=grant.device.id.name,
        medium=medium.name,
        request=grant.kind.name,
        client=str(client),
        detail=str(by),
        serial=grant.serial,
    )
    client.revoke(grant)
    return {
        "family": medium.family.label,
        "medium": medium.name,
        "library": medium.library,
        "device": grant.device.id.name,
        "kind": grant.kind.name.lower(),
        "client": client.serial,
        "pid": client.pid,
        "uid": client.uid,
        "held_s": held_s,
    }
