"""A batch in which something cannot be done: it is tried in halves, and all but that is done. Asyncio-flavoured.

What the database refuses is an error of that operation. Whose rows somebody keeps, in a transaction that stays open,
is `Blocked`: whoever has forgotten a transaction on one medium must not keep the books of the others from us.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import asyncpg

from lrs_trio.dss.operations import (
    Blocked,
    DeleteDevice,
    DeleteDirectory,
    DeleteLocks,
    DeleteMedium,
    Operation,
    Outcome,
    ReleaseLock,
    ReplaceLock,
    SetDeviceStatus,
    TakeLock,
    UpdateMedia,
)
from lrs_trio.dss.postgres.connection import is_refusal, reason
from lrs_trio.dss.postgres.locks import Key
from lrs_trio.dss.postgres.operations import READS, execute
from lrs_trio.dss.postgres.rows import IS_WANTED, id_from_row, key_columns
from lrs_trio.dss.postgres.transaction import Transaction
from lrs_trio.dss.refusals import not_accepted
from lrs_trio.model import Lock, LockOwner, LockType, ResourceId, lock_id

SOMEBODY: Final = "the server of the DSS (an open transaction)"
"""Where the owner is of a row that somebody keeps."""

_SHORT_WAIT_MS: Final = 5
_SHORTEST_WAIT_MS: Final = 1
"""For each row that may be kept, and for one that was when it was wanted last: a whole batch has waited for it
already. There may be as many of them as there are devices."""


def keys_of(operation: Operation[Any]) -> tuple[Key, ...]:
    """Which rows `operation` may have to wait for; those on media by the lock that protects their figures."""
    match operation:
        case UpdateMedia():
            return tuple((LockType.MEDIA_UPDATE, lock_id(update.id)) for update in operation.updates)
        case TakeLock() | ReleaseLock():
            return ((operation.type, lock_id(operation.resource)),)
        case ReplaceLock():
            return ((operation.expected.type, operation.expected.id),)
        case DeleteLocks():
            return tuple((lock.type, lock.id) for lock in operation.locks)
        case SetDeviceStatus() | DeleteDevice():
            return ((LockType.DEVICE, lock_id(operation.id)),)
        case DeleteMedium():
            return ((LockType.MEDIA, lock_id(operation.id)),)
        case DeleteDirectory():
            return (LockType.DEVICE, lock_id(operation.device)), (LockType.MEDIA, lock_id(operation.medium))
        case _:
            return ()


@dataclass(slots=True)
class Parts:
    """`batch` within `transaction`, part by part; `shown` is the DSS as people see it."""

    transaction: Transaction
    batch: Sequence[Operation[Any]]
    shown: str
    suspected: Collection[Key] = ()
    """Rows that somebody has kept from us before."""
    waiting: set[Key] = field(default_factory=set)
    """Rows of the operations that somebody's transaction blocks."""
    _outcomes: dict[int, Outcome] = field(default_factory=dict)
    _kept: dict[Key, Lock] = field(default_factory=dict)

    async def wait_briefly(self, milliseconds: int = _SHORT_WAIT_MS) -> None:
        """From now on wait for no row as long as a batch does."""
        await self.transaction.connection.execute(f"SET LOCAL lock_timeout = {milliseconds}")

    async def look_for_kept_media(self) -> None:
        """Take the rows of all media of the batch that nobody keeps: one that somebody keeps costs no wait then."""
        named = {
            update.id for operation in self.batch if isinstance(operation, UpdateMedia) for update in operation.updates
        }
        for medium, pid in await _kept_media(self.transaction, [medium for medium in named if _is_text(medium)]):
            key = (LockType.MEDIA_UPDATE, lock_id(medium))
            self._kept[key] = _held(key, pid)

    async def execute(self) -> list[Outcome]:
        """Do what can be done, writes first, so that reads see them; the outcomes are in the order of the batch.

        What needs rows that are suspected to be kept is tried alone: it would spoil the attempts at the others.
        """
        reads, doubtful, others = [], [], []
        for place, operation in enumerate(self.batch):
            if type(operation) in READS:
                reads.append(place)
            elif any(key in self.suspected for key in keys_of(operation)):
                doubtful.append(place)
            else:
                others.append(place)
        await self._do(others)
        if doubtful:
            await self.wait_briefly(_SHORTEST_WAIT_MS)
            for place in doubtful:
                await self._do([place])
        await self._do(reads)
        return [self._outcomes[place] for place in range(len(self.batch))]

    async def _do(self, places: Sequence[int]) -> None:
        places = [place for place in places if not self._is_kept(place)]
        if not places:
            return
        connection, attempt = self.transaction.connection, self.transaction.attempt()
        await connection.execute("SAVEPOINT part")
        try:
            found = await execute(attempt, [self.batch[place] for place in places])
        except asyncpg.PostgresError as error:
            if not is_refusal(error) and not isinstance(error, asyncpg.LockNotAvailableError):
                raise
            await connection.execute("ROLLBACK TO part; RELEASE part")
            if len(places) == 1:
                self._set_aside(places[0], error)
                return
            middle = len(places) // 2
            await self._do(places[:middle])
            await self._do(places[middle:])
        else:
            await connection.execute("RELEASE part")
            self.transaction.keep(attempt)
            self._outcomes.update(zip(places, found, strict=True))

    def _is_kept(self, place: int) -> bool:
        """Whether somebody is known to keep what an operation needs: it is blocked then."""
        keys = keys_of(self.batch[place])
        holder = next((self._kept[key] for key in keys if key in self._kept), None)
        if holder is None:
            return False
        self._block(place, holder)
        return True

    def _set_aside(self, place: int, error: asyncpg.PostgresError) -> None:
        operation = self.batch[place]
        if is_refusal(error):
            self._outcomes[place] = not_accepted(self.shown, operation, reason(error))
            return
        keys = keys_of(operation)
        if not keys:
            raise error
        holder = _held(keys[0], 0)
        if len(set(keys)) == 1:
            # Else it is not known which: others that need one of them have to be tried.
            self._kept[keys[0]] = holder
        self._block(place, holder)

    def _block(self, place: int, holder: Lock) -> None:
        self._outcomes[place] = Blocked(holder)
        self.waiting.update(keys_of(self.batch[place]))


def _held(key: Key, pid: int) -> Lock:
    type_, id_ = key
    return Lock(type_, id_, LockOwner(SOMEBODY, pid), 0.0)


def _is_text(medium: ResourceId) -> bool:
    """Whether the driver can send its name; who names another one is told so by the operation itself."""
    try:
        f"{medium.name}{medium.library}".encode()
    except UnicodeEncodeError:
        return False
    return True


async def _kept_media(transaction: Transaction, media: Sequence[ResourceId]) -> list[tuple[ResourceId, int]]:
    """Those of `media` whose rows somebody keeps, and that one's process on the server, 0 where that is not known.

    The others are kept for us. A transaction leaves its number in a row that it changes or locks, and holds a lock on
    that number as long as it lives.
    """
    rows = await transaction.connection.fetch(
        f"""
        WITH wanted AS (
            SELECT * FROM unnest($1::text[], $2::text[], $3::text[]) AS wanted (family, id, library)
        ), taken AS (
            SELECT media.family, media.id, media.library
            FROM media JOIN wanted ON {IS_WANTED}
            FOR UPDATE OF media SKIP LOCKED
        )
        SELECT media.family::text, media.id, media.library, coalesce(holder.pid, 0) AS pid
        FROM media
             JOIN wanted ON {IS_WANTED}
             LEFT JOIN pg_locks AS holder
             ON holder.locktype = 'transactionid' AND holder.granted AND holder.transactionid = media.xmax
        WHERE NOT EXISTS (
            SELECT FROM taken
            WHERE taken.family = media.family AND taken.id = media.id AND taken.library = media.library
        )
        """,
        *key_columns(media),
    )
    return [(id_from_row(row), row["pid"]) for row in rows]
