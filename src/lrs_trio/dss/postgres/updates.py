"""Changes of media: the books of all releases of a batch in two statements.

Figures change under a lock of type ``media_update``, which Phobos's own programs take too. Ours is made
and deleted in the transaction that it protects, so nobody ever sees it; who wants the same one meanwhile
waits for our commit.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import structlog

from lrs_trio.dss.books import stats_to_json, strings_to_json, updated_medium
from lrs_trio.dss.operations import Blocked, MediumUpdate, Outcome, UpdateMedia
from lrs_trio.dss.postgres.locks import locks_on
from lrs_trio.dss.postgres.rows import IS_WANTED, MEDIUM_COLUMNS, id_from_row, key_columns, medium_from_row
from lrs_trio.dss.postgres.transaction import NUMBER_COLUMNS, Number, Transaction
from lrs_trio.dss.recovery import Standing, standing_of
from lrs_trio.errors import LrsError
from lrs_trio.model import Lock, LockType, Medium, ResourceId, lock_id

log: structlog.typing.FilteringBoundLogger = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Row:
    """A medium's row: as it was found, and as the operations so far leave it."""

    found: Medium
    version: str
    stats_text: str
    medium: Medium


@dataclass(slots=True)
class _Hold:
    """What is ours until the transaction ends. Locks go by their keys."""

    rows: dict[ResourceId, _Row] = field(default_factory=dict)
    malformed: dict[ResourceId, LrsError] = field(default_factory=dict)
    locks: set[str] = field(default_factory=set)
    in_the_way: dict[str, Lock] = field(default_factory=dict)


async def update_media(transaction: Transaction, operations: Sequence[UpdateMedia]) -> list[Outcome]:
    updates = [update for operation in operations for update in operation.updates]
    counted = {update.id for update in updates if _changes_figures(update)}
    hold = _Hold()
    await _take_hold(transaction, hold, list(dict.fromkeys(update.id for update in updates)), counted)
    outcomes = [_blocked(operation, hold) or _apply(operation, hold) for operation in operations]
    changed = [row for row in hold.rows.values() if row.medium != row.found]
    if changed or hold.locks:
        await _write(transaction, changed, hold.locks)
    return outcomes


def _changes_figures(update: MediumUpdate) -> bool:
    added = (update.add_objects, update.add_logical, update.add_loads, update.add_errors)
    figures = (
        update.set_objects,
        update.set_logical,
        update.phys_spc_used,
        update.phys_spc_free,
        update.last_load,
    )
    return any(added) or any(figure is not None for figure in figures)


def _blocked(operation: UpdateMedia, hold: _Hold) -> Blocked | None:
    keys = (lock_id(update.id) for update in operation.updates if _changes_figures(update))
    holder = next((hold.in_the_way[key] for key in keys if key in hold.in_the_way), None)
    return None if holder is None else Blocked(holder)


def _apply(operation: UpdateMedia, hold: _Hold) -> Outcome:
    """All updates of one operation or none; the result has each medium as it is after its update."""
    for update in operation.updates:
        if update.id in hold.malformed:
            return hold.malformed[update.id]
    rows = [hold.rows.get(update.id) for update in operation.updates]
    if operation.together and None in rows:
        return tuple(None if row is None else row.medium for row in rows)
    media: list[Medium | None] = []
    for update, row in zip(operation.updates, rows, strict=True):
        if row is not None:
            row.medium = updated_medium(row.medium, update)
        media.append(None if row is None else row.medium)
    return tuple(media)


async def _take_hold(
    transaction: Transaction, hold: _Hold, media: Sequence[ResourceId], counted: Collection[ResourceId]
) -> None:
    """Take the rows of `media`, and the locks of those that are `counted` before them.

    Where somebody holds a lock who may yet give it back, it is in the way.
    """
    wanted = media
    while wanted:
        await _read(transaction, hold, wanted, counted)
        missing = {lock_id(medium) for medium in wanted if medium in counted} - hold.locks
        holders = await locks_on(transaction, [(LockType.MEDIA_UPDATE, key) for key in missing]) if missing else {}
        for (_, key), holder in holders.items():
            if not await _remove_stale(transaction, holder):
                hold.in_the_way[key] = holder
        # One that has gone between the two statements is tried again, and so is one that we could remove.
        again = missing - hold.in_the_way.keys()
        wanted = [medium for medium in wanted if medium in counted and lock_id(medium) in again]


async def _read(
    transaction: Transaction, hold: _Hold, media: Sequence[ResourceId], counted: Collection[ResourceId]
) -> None:
    """One attempt at the locks, then the rows as they are now, kept from everybody else until we commit.

    Both in one order everywhere: two hosts that want the same ones wait for, not against, each other. The locks are
    counted before the first row is taken: so all are made by then, and none is waited for while a row is held.
    """
    rows = await transaction.connection.fetch(
        f"""
        WITH wanted AS (
            SELECT *
            FROM unnest($1::text[], $2::text[], $3::text[], $4::text[])
                 WITH ORDINALITY AS wanted (family, id, library, lock_id, place)
        ), held AS (
            INSERT INTO lock (type, id, hostname, owner)
            SELECT DISTINCT 'media_update'::lock_type, lock_id, $5, $6::int
            FROM wanted
            WHERE lock_id IS NOT NULL
            ORDER BY lock_id
            ON CONFLICT DO NOTHING
            RETURNING id
        ), found AS (
            SELECT {MEDIUM_COLUMNS}, wanted.place
            FROM wanted
                 JOIN media ON {IS_WANTED}
            WHERE (SELECT count(*) FROM held) >= 0
            ORDER BY media.family, media.id, media.library
            FOR UPDATE OF media
        )
        SELECT held.id AS lock, found.*
        FROM wanted LEFT JOIN held ON held.id = wanted.lock_id LEFT JOIN found ON found.place = wanted.place
        """,
        *key_columns(media),
        [lock_id(medium) if medium in counted else None for medium in media],
        transaction.us.host,
        transaction.us.pid,
    )
    hold.locks |= {row["lock"] for row in rows if row["lock"] is not None}
    for row in rows:
        if row["place"] is not None:
            _keep(hold, row)


def _keep(hold: _Hold, row: Any) -> None:
    id_ = id_from_row(row)
    try:
        medium = medium_from_row(row)
    except LrsError as error:
        hold.malformed[id_] = error
    else:
        hold.rows[id_] = _Row(medium, row["version"], row["stats"], medium)


async def _remove_stale(transaction: Transaction, holder: Lock) -> bool:
    """Whether `holder` protects nothing any more: its process on our host is gone, or it is weak."""
    standing = standing_of(holder, transaction.us, transaction.start_time_of)
    if standing in (Standing.LIVING, Standing.FOREIGN):
        return False
    log.warning("lock of a dead process removed", lock=holder.type.value, resource=holder.id, owner=str(holder.owner))
    await transaction.connection.execute(
        "DELETE FROM lock WHERE type = 'media_update' AND id = $1 AND hostname = $2 AND owner = $3",
        holder.id,
        holder.owner.host,
        holder.owner.pid,
    )
    return True


async def _write(transaction: Transaction, rows: Sequence[_Row], locks: Collection[str]) -> None:
    """Write the rows and give the locks back."""
    written = await transaction.connection.fetch(
        f"""
        WITH given_back AS (
            DELETE FROM lock WHERE type = 'media_update' AND id = ANY ($1::text[])
        )
        UPDATE media
        SET adm_status = coalesce(new.adm_status::adm_status, media.adm_status),
            fs_status = coalesce(new.fs_status::fs_status, media.fs_status),
            fs_label = coalesce(new.fs_label, media.fs_label), stats = coalesce(new.stats::jsonb, media.stats),
            tags = coalesce(new.tags::jsonb, media.tags), groupings = coalesce(new.groupings::jsonb, media.groupings),
            put = coalesce(new.put::bool, media.put), get = coalesce(new.get::bool, media.get),
            delete = coalesce(new.delete::bool, media.delete)
        FROM unnest($2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[],
                    $10::text[], $11::text[], $12::text[], $13::text[])
             AS new (family, id, library, adm_status, fs_status, fs_label, stats, tags, groupings, put, get, delete)
        WHERE media.family = new.family::dev_family AND media.id = new.id AND media.library = new.library
        RETURNING media.family::text, media.id, media.library, media.xmin::text AS version, {NUMBER_COLUMNS}
        """,
        list(locks),
        *_columns(rows),
    )
    for record in written:
        transaction.number = Number(record["xid"], record["position"])
    versions = {id_from_row(record): record["version"] for record in written}
    for row in rows:
        transaction.change(row.medium.id, row.found, row.medium)
        # What somebody else has written in between stays unseen: whoever asks for changes is told.
        if transaction.version_of(row.medium.id) == row.version:
            transaction.seen[row.medium.id] = versions[row.medium.id]


def _columns(rows: Sequence[_Row]) -> tuple[Sequence[object], ...]:
    """What `_write` takes; what did not change is left as the row has it, however it is spelled there.

    A column that no row changes is left empty: ``unnest`` fills it up, and asyncpg need not look at each of its nulls.
    """
    changed = (
        [row.medium.adm_status.value if row.medium.adm_status != row.found.adm_status else None for row in rows],
        [row.medium.fs_status.value if row.medium.fs_status != row.found.fs_status else None for row in rows],
        [row.medium.fs_label if row.medium.fs_label != row.found.fs_label else None for row in rows],
        [_stats(row) if row.medium.stats != row.found.stats else None for row in rows],
        [strings_to_json(row.medium.tags) if row.medium.tags != row.found.tags else None for row in rows],
        [
            strings_to_json(row.medium.groupings) if row.medium.groupings != row.found.groupings else None
            for row in rows
        ],
        [str(row.medium.put) if row.medium.put != row.found.put else None for row in rows],
        [str(row.medium.get) if row.medium.get != row.found.get else None for row in rows],
        [str(row.medium.delete) if row.medium.delete != row.found.delete else None for row in rows],
    )
    return (
        *key_columns(row.medium.id for row in rows),
        *(column if column.count(None) < len(column) else () for column in changed),
    )


def _stats(row: _Row) -> str:
    return stats_to_json(row.medium.stats, row.stats_text, row.medium.id)
