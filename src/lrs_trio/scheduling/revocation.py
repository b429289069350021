"""Grants that an administrator takes away from whoever holds them: as if the client had gone (decision 9)."""

from __future__ import annotations

import errno
import json
from collections.abc import Iterable, Iterator
from typing import Final

import structlog
import trio

from lrs_trio.devices.grant import Grant, GrantState
from lrs_trio.errors import LrsError
from lrs_trio.events import EventKind, Events
from lrs_trio.scheduling.client import Client
from lrs_trio.scheduling.family import FamilyScheduler
from lrs_trio.scheduling.requests import Allocation
from lrs_trio.wire.messages import Revoke

log = structlog.get_logger()

MOST_GRANTS: Final = 1000
MOST_CHARACTERS: Final = 1024 * 1024
"""With so many no further grant is taken away at once: the answer fits into a frame, however long the paths are."""

_REVOCABLE: Final = (GrantState.READY, GrantState.ONGOING)


def revoke(families: Iterable[FamilyScheduler], wanted: Revoke, by: Client, events: Events) -> dict[str, object]:
    """Take away the grants that are as `wanted`, the oldest first; the result is what the answer says, ages in seconds.

    ``revoked`` describes each, ``more`` is how many are left because the answer would be too long. What a device has
    still to be made ready for, and what is being synced for a partial release, is not touched; ``untouched`` is how
    many of these there are.

    A client that has been told of its grant learns of it when it releases what it has not any more; until then it may
    still use the medium. One that has not is refused the allocation, with all its media.

    Raises:
        LrsError: EINVAL, neither media nor a holder is named.
    """
    if not wanted.media and wanted.client is None and wanted.pid is None:
        raise LrsError(errno.EINVAL, "a revocation names neither media nor a client nor a process")
    found = list(_find(families, wanted))
    left = [(client, grant) for client, grant in found if grant.state in _REVOCABLE]
    untouched = len(found) - len(left)
    left.sort(key=lambda pair: pair[1].since, reverse=True)
    now = trio.current_time()
    revoked: list[dict[str, object]] = []
    length = 0
    while left and len(revoked) < MOST_GRANTS and length < MOST_CHARACTERS:
        revoked.append(_revoke(*left.pop(), now, by, events))
        length += len(json.dumps(revoked[-1]))
    # Some may have gone with others of their allocation.
    more = sum(grant.state is not GrantState.ENDED for _, grant in left)
    return {"revoked": revoked, "more": more, "untouched": untouched}


def _find(families: Iterable[FamilyScheduler], wanted: Revoke) -> Iterator[tuple[Client, Grant]]:
    for family in families:
        for device in family.held:
            for grant in device.state.grants:
                client = grant.holder.client
                if isinstance(client, Client) and _is_wanted(grant, client, wanted):
                    yield client, grant


def _is_wanted(grant: Grant, client: Client, wanted: Revoke) -> bool:
    return (
        (not wanted.media or grant.medium.name in wanted.media)
        and wanted.library in (None, grant.medium.library)
        and wanted.client in (None, client.serial)
        and wanted.pid in (None, client.pid)
    )


def _revoke(client: Client, grant: Grant, now: float, by: Client, events: Events) -> dict[str, object]:
    medium, held_s = grant.medium, round(now - grant.since, 3)
    promised = grant.holder if isinstance(grant.holder, Allocation) else None
    state = (GrantState.ONGOING if promised is None else GrantState.READY).value
    # Not with the key `client`, for the limit of lines about clients: this is what an administrator does.
    log.warning(
        "grant revoked",
        medium=str(medium),
        kind=grant.kind.name.lower(),
        state=state,
        holder=str(client),
        held_s=held_s,
        by=str(by),
    )
    if promised is not None:
        promised.refuse(LrsError(errno.ECANCELED, f"{medium}: was revoked by an administrator"))
    else:
        _tell(client, grant, by, events)
        client.revoke(grant)
    return {
        "family": medium.family.label,
        "medium": medium.name,
        "library": medium.library,
        "device": grant.device.id.name,
        "kind": grant.kind.name.lower(),
        "state": state,
        "client": client.serial,
        "pid": client.pid,
        "uid": client.uid,
        "held_s": held_s,
    }


def _tell(client: Client, grant: Grant, by: Client, events: Events) -> None:
    events.emit(
        EventKind.GRANT_REVOKED,
        family=grant.medium.family.label,
        device=grant.device.id.name,
        medium=grant.medium.name,
        request=grant.kind.name,
        client=str(client),
        detail=str(by),
        serial=grant.serial,
    )
