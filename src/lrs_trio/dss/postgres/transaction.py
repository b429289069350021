"""What one transaction knows while it is under way, and what it leaves behind once it is committed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Self

import asyncpg

from lrs_trio.dss.recovery import StartTimeOf
from lrs_trio.model import LockOwner, Medium, ResourceId


@dataclass(frozen=True, slots=True)
class Change:
    """One medium's row as the transaction found it, and as it leaves it."""

    before: Medium
    after: Medium


@dataclass(frozen=True, slots=True)
class Number:
    """By which a transaction's fate can be asked for, and a place in the server's log.

    A server that crashed may give the number out again, if its log did not get as far as to that place.
    """

    xid: str
    position: str


NUMBER_COLUMNS: Final = "pg_current_xact_id()::text AS xid, pg_current_wal_insert_lsn()::text AS position"
"""To be asked for after something has been written: the place in the log has to be behind that."""


@dataclass(slots=True)
class Transaction:
    """`us` takes the short locks around changes of figures; `versions` are those of rows as `ReadChangedMedia` answered
    them before.

    `clock_offset` is what has to be added to the server's time to get this host's, in seconds.
    """

    connection: asyncpg.Connection
    us: LockOwner
    start_time_of: StartTimeOf
    clock_offset: float
    versions: Mapping[ResourceId, str]
    number: Number | None = None
    """Known once it may be needed."""
    seen: dict[ResourceId, str] = field(default_factory=dict)
    """Versions of the rows that it answered so, and of those known ones that it wrote."""
    changes: dict[ResourceId, Change] = field(default_factory=dict)

    def attempt(self) -> Self:
        """A part of this transaction that may still be undone."""
        return replace(self, versions={**self.versions, **self.seen}, seen={}, changes={})

    def keep(self, attempt: Self) -> None:
        """The attempt is done for good, as far as the transaction is."""
        self.number = attempt.number
        self.seen |= attempt.seen
        for medium, change in attempt.changes.items():
            self.change(medium, change.before, change.after)

    def version_of(self, medium: ResourceId) -> str | None:
        """That of the row as it was answered last, ``None`` if it never was."""
        return self.seen.get(medium) or self.versions.get(medium)

    def change(self, medium: ResourceId, before: Medium, after: Medium) -> None:
        """Note a row's change; a second one of the same row continues the first."""
        known = self.changes.get(medium)
        self.changes[medium] = Change(before if known is None else known.before, after)
