"""The lock table: who holds what, as Phobos's own programs understand it.

A lock is a row that is there. A weak one is a reservation: any process of its host may take it over,
anybody may delete it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, TypeVar

from lrs_trio.dss.operations import DeleteLocks, Outcome, ReadLocks, ReleaseLock, ReplaceLock, TakeLock
from lrs_trio.dss.postgres.rows import LOCK_COLUMNS, LOCK_TYPES, TAKEN, lock_from_row
from lrs_trio.dss.postgres.transaction import Transaction
from lrs_trio.model import Lock, LockOwner, LockType, ResourceId, lock_id

T = TypeVar("T")
Key = tuple[LockType, str]

_SAME_ROW: Final = f"""
lock.type = known.type::lock_type AND lock.id = known.id AND lock.hostname = known.hostname
AND lock.owner = known.owner::int
AND ({TAKEN} = known.taken::float8 OR abs({TAKEN} - known.taken::float8) < 0.0005)
"""
"""A lock is known by its key, its owner and when it was taken: a new one of the same owner differs.

A time without end is equal to itself, and no difference of two of them is small.
"""


async def locks_on(transaction: Transaction, keys: Sequence[Key]) -> dict[Key, Lock]:
    """The rows that are there."""
    rows = await transaction.connection.fetch(
        f"""
        SELECT {LOCK_COLUMNS}
        FROM lock JOIN unnest($1::text[], $2::text[]) AS wanted (type, id)
             ON lock.type = wanted.type::lock_type AND lock.id = wanted.id
        """,
        *_key_columns(keys),
    )
    locks = [lock_from_row(row, transaction.clock_offset) for row in rows]
    return {(lock.type, lock.id): lock for lock in locks}


async def read_locks(transaction: Transaction, operations: Sequence[ReadLocks]) -> list[Outcome]:
    return [await _read(transaction, operation) for operation in operations]


async def _read(transaction: Transaction, operation: ReadLocks) -> tuple[Lock, ...]:
    rows = await transaction.connection.fetch(
        f"""
        SELECT {LOCK_COLUMNS} FROM lock
        WHERE lock.type::text = ANY ($1::text[]) AND ($2::text IS NULL OR lock.hostname = $2)
        ORDER BY lock.type::text, lock.id
        """,
        LOCK_TYPES,
        operation.host,
    )
    return tuple(lock_from_row(row, transaction.clock_offset) for row in rows)


async def take_locks(transaction: Transaction, operations: Sequence[TakeLock]) -> list[Outcome]:
    outcomes: dict[int, Outcome] = {}
    for places in _rounds([(operation.type, lock_id(operation.resource)) for operation in operations]):
        found = await _take(transaction, {key: operations[place].owner for key, place in places.items()})
        outcomes.update({place: found[key] for key, place in places.items()})
    return [outcomes[place] for place in range(len(operations))]


async def _take(transaction: Transaction, wanted: dict[Key, LockOwner]) -> dict[Key, Lock | None]:
    """``None`` for what is held by the owner that wanted it now, else who is in the way."""
    outcomes: dict[Key, Lock | None] = {}
    while open_ := {key: owner for key, owner in wanted.items() if key not in outcomes}:
        rows = await transaction.connection.fetch(
            """
            INSERT INTO lock (type, id, hostname, owner, is_weak)
            SELECT wanted.type::lock_type, wanted.id, wanted.hostname, wanted.owner::int, false
            FROM unnest($1::text[], $2::text[], $3::text[], $4::text[]) AS wanted (type, id, hostname, owner)
            ORDER BY wanted.type, wanted.id
            ON CONFLICT (type, id) DO UPDATE SET timestamp = now(), owner = excluded.owner, is_weak = false
            WHERE lock.is_weak AND lock.hostname = excluded.hostname
            RETURNING type::text, id
            """,
            *_key_columns(list(open_)),
            [owner.host for owner in open_.values()],
            [str(owner.pid) for owner in open_.values()],
        )
        outcomes |= {(LockType(row["type"]), row["id"]): None for row in rows}
        missing = [key for key in open_ if key not in outcomes]
        in_the_way = await locks_on(transaction, missing) if missing else {}
        # One that has gone between the two statements is tried again.
        outcomes |= {key: None if lock.owner == open_[key] else lock for key, lock in in_the_way.items()}
    return outcomes


async def replace_locks(transaction: Transaction, operations: Sequence[ReplaceLock]) -> list[Outcome]:
    outcomes: dict[int, Outcome] = {}
    for places in _rounds([(operation.expected.type, operation.expected.id) for operation in operations]):
        pairs = [(operations[place].expected, operations[place].owner) for place in places.values()]
        replaced = await _replace(transaction, pairs)
        outcomes.update({place: key in replaced for key, place in places.items()})
    return [outcomes[place] for place in range(len(operations))]


async def _replace(transaction: Transaction, pairs: Sequence[tuple[Lock, LockOwner]]) -> set[Key]:
    rows = await transaction.connection.fetch(
        f"""
        UPDATE lock SET hostname = known.new_hostname, owner = known.new_owner::int, timestamp = now(), is_weak = false
        FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[])
             AS known (type, id, hostname, owner, taken, new_hostname, new_owner)
        WHERE {_SAME_ROW}
        RETURNING lock.type::text, lock.id
        """,
        *_row_columns(transaction, [expected for expected, _ in pairs]),
        [owner.host for _, owner in pairs],
        [str(owner.pid) for _, owner in pairs],
    )
    return {(LockType(row["type"]), row["id"]) for row in rows}


async def release_locks(transaction: Transaction, operations: Sequence[ReleaseLock]) -> list[Outcome]:
    outcomes: dict[int, Outcome] = {}
    for places in _rounds([(operation.type, lock_id(operation.resource)) for operation in operations]):
        owners = [operations[place].owner for place in places.values()]
        rows = await transaction.connection.fetch(
            """
            DELETE FROM lock
            USING unnest($1::text[], $2::text[], $3::text[], $4::text[]) AS known (type, id, hostname, owner)
            WHERE lock.type = known.type::lock_type AND lock.id = known.id
                  AND (lock.is_weak OR (lock.hostname = known.hostname AND lock.owner = known.owner::int))
            RETURNING lock.type::text, lock.id
            """,
            *_key_columns(list(places)),
            [owner.host for owner in owners],
            [str(owner.pid) for owner in owners],
        )
        deleted = {(LockType(row["type"]), row["id"]) for row in rows}
        outcomes.update({place: key in deleted for key, place in places.items()})
    return [outcomes[place] for place in range(len(operations))]


async def delete_locks(transaction: Transaction, operations: Sequence[DeleteLocks]) -> list[Outcome]:
    return [await _delete(transaction, operation.locks) for operation in operations]


async def _delete(transaction: Transaction, locks: Sequence[Lock]) -> int:
    rows = await transaction.connection.fetch(
        f"""
        DELETE FROM lock
        USING unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[])
              AS known (type, id, hostname, owner, taken)
        WHERE {_SAME_ROW}
        RETURNING 1
        """,
        *_row_columns(transaction, locks),
    )
    return len(rows)


async def hold(transaction: Transaction, type_: LockType, resource: ResourceId) -> Lock | None:
    """Keep everybody else from a lock until `let_go`; the row of its holder if there is one."""
    while True:
        made = await transaction.connection.fetch(
            """
            INSERT INTO lock (type, id, hostname, owner) VALUES ($1::text::lock_type, $2, $3, $4)
            ON CONFLICT DO NOTHING RETURNING 1
            """,
            type_.value,
            lock_id(resource),
            transaction.us.host,
            transaction.us.pid,
        )
        if made:
            return None
        key = (type_, lock_id(resource))
        holder = (await locks_on(transaction, [key])).get(key)
        if holder is not None:
            return holder


async def let_go(transaction: Transaction, held: Sequence[tuple[LockType, ResourceId]]) -> None:
    """Take back what `hold` has made."""
    await transaction.connection.execute(
        """
        DELETE FROM lock USING unnest($1::text[], $2::text[]) AS held (type, id)
        WHERE lock.type = held.type::lock_type AND lock.id = held.id
        """,
        *_key_columns([(type_, lock_id(resource)) for type_, resource in held]),
    )


def _rounds(keys: Sequence[Key]) -> Iterator[dict[Key, int]]:
    """The places of `keys` in groups without a repetition: one statement changes a row at most once."""
    rounds: list[dict[Key, int]] = []
    depth: dict[Key, int] = {}
    for place, key in enumerate(keys):
        nth = depth.get(key, 0)
        depth[key] = nth + 1
        if nth == len(rounds):
            rounds.append({})
        rounds[nth][key] = place
    return iter(rounds)


def _key_columns(keys: Sequence[Key]) -> tuple[list[str], list[str]]:
    return [type_.value for type_, _ in keys], [id_ for _, id_ in keys]


def _row_columns(transaction: Transaction, locks: Sequence[Lock]) -> tuple[list[str], ...]:
    return (
        [lock.type.value for lock in locks],
        [lock.id for lock in locks],
        [lock.owner.host for lock in locks],
        [str(lock.owner.pid) for lock in locks],
        [str(lock.timestamp - transaction.clock_offset) for lock in locks],
    )
