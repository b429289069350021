"""The daemon's, or a command's, one connection to PostgreSQL, over all its losses. Asyncio-flavoured."""

from __future__ import annotations

import asyncio
import errno
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import chain
from typing import Any, Final, Self

import asyncpg
import structlog

from lrs_trio.dss.operations import (
    DeleteLocks,
    Operation,
    Outcome,
    ReleaseLock,
    ReplaceLock,
    SetDeviceStatus,
    TakeLock,
    UpdateMedia,
)
from lrs_trio.dss.postgres.connection import (
    LIMITS,
    LOST,
    OLDEST_VERSION,
    Limits,
    connect,
    is_refusal,
    reason,
    start_error,
    unavailable,
)
from lrs_trio.dss.postgres.doubt import (
    Doubt,
    Evidence,
    Fate,
    ServerState,
    evidence_in,
    lost_in_crash,
    was_committed,
)
from lrs_trio.dss.postgres.locks import Key
from lrs_trio.dss.postgres.operations import READS, execute
from lrs_trio.dss.postgres.parts import Parts, keys_of
from lrs_trio.dss.postgres.presence import HeldElsewhereError, claim_presence, session_name
from lrs_trio.dss.postgres.rows import JOIN_WANTED_MEDIA, MEDIUM_COLUMNS, id_from_row, key_columns, medium_from_row
from lrs_trio.dss.postgres.schema import check_version
from lrs_trio.dss.postgres.transaction import NUMBER_COLUMNS, Number, Transaction
from lrs_trio.dss.recovery import StartTimeOf
from lrs_trio.errors import CommitInDoubtError, DssUnavailableError, LrsError, describe
from lrs_trio.model import LockOwner, LockType, Medium, ResourceId

log: structlog.typing.FilteringBoundLogger = structlog.get_logger(__name__)

_NOT_COMMITTED: Final = (
    asyncpg.IntegrityConstraintViolationError,
    asyncpg.SerializationError,
    asyncpg.DeadlockDetectedError,
)
"""Errors of a COMMIT after which nothing was done."""

_LOOK_AGAIN_S: Final = 0.02
"""Between two looks at a transaction that was told to end."""

_LOOK_AT_START_S: Final = 1.0
"""Between two looks whether another session of our host has ended."""

_REPEATABLE: Final = READS | {TakeLock, ReplaceLock, ReleaseLock, DeleteLocks, SetDeviceStatus, UpdateMedia}
"""Kinds of operations that may be done again, those on media as long as they leave the rows as they are."""


class Session:
    """Commits batches on a connection that is made anew whenever it is lost; open within its block.

    Args:
        url: the database.
        shown: `url` without its password, for errors.
        us: the host and process that take locks here.
        present: whether this is the host's daemon, of which there may be one.
        start_time_of: tells which processes of this host live.
        limits: how long the database may take.
    """

    def __init__(
        self,
        url: str,
        shown: str,
        us: LockOwner,
        start_time_of: StartTimeOf,
        *,
        present: bool,
        limits: Limits = LIMITS,
    ) -> None:
        self.shown = shown
        self._url = url
        self._us = us
        self._present = present
        self._start_time_of = start_time_of
        self._limits = limits
        self._connection: asyncpg.Connection | None = None
        self._server = ServerState("", "", None)
        self._clock_offset: float | None = None
        self._versions: dict[ResourceId, str] = {}
        self._kept: set[Key] = set()
        """Rows that somebody kept from us when we last wanted them: no batch waits for them before it is done."""
        self._warning: str | None = None
        """What the server has said besides its answers."""

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def open(self) -> None:
        """Connect for the first time.

        A session of our host, but of another machine or an earlier life of this one, is waited for: if nobody is
        there any more the server ends it by itself.

        Raises:
            LrsError: no connection, an unknown schema, or (AlreadyRunningError) another daemon of this host.
        """
        ends = asyncio.get_running_loop().time() + self._limits.left_behind
        told = False
        while True:
            try:
                await self._connected()
                return
            except HeldElsewhereError as error:
                if asyncio.get_running_loop().time() > ends:
                    raise
                if not told:
                    log.warning("waiting for a session that may have been left behind", error=describe(error))
                told = True
            except LOST as error:
                raise start_error(self.shown, error) from error
            await asyncio.sleep(_LOOK_AT_START_S)

    async def wait_lost(self) -> None:
        """Return when there is no connection, or the one that there is has ended, from whichever side."""
        connection = self._connection
        if connection is None or connection.is_closed():
            return
        lost = asyncio.Event()

        def note(_: object) -> None:
            lost.set()

        connection.add_termination_listener(note)
        try:
            await lost.wait()
        finally:
            connection.remove_termination_listener(note)

    async def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            try:
                await connection.close(timeout=self._limits.close)
            except LOST:
                connection.terminate()

    async def commit(self, batch: Sequence[Operation[Any]]) -> list[Outcome]:
        """As `Home.commit`; raises `CommitInDoubtError` also."""
        writing = any(type(operation) not in READS for operation in batch)
        async with self._use() as connection:
            transaction, outcomes = await self._execute(connection, batch, writing=writing)
            number = (transaction.number or await _number(connection)) if writing else None
        if number is not None:
            repeatable = all(type(operation) in _REPEATABLE for operation in batch) and not any(
                change.before != change.after for change in transaction.changes.values()
            )
            backend = connection.get_server_pid()
            await self._commit(
                connection, Doubt(number, self._server, backend, transaction.changes, outcomes, repeatable=repeatable)
            )
        self._versions |= transaction.seen
        return outcomes

    async def resolve(self, doubt: Doubt) -> list[Outcome] | None:
        """The outcomes of a transaction whose COMMIT was not answered, ``None`` if nothing of it was done.

        Raises:
            DssUnavailableError: it cannot be told yet.
        """
        async with self._use() as connection:
            fate = await self._fate(connection, doubt)
            found = await _media(connection, doubt.changes)
        evidence = evidence_in(doubt.changes, found)
        same_life = self._server == doubt.server
        committed = was_committed(fate, evidence, same_life=same_life, repeatable=doubt.repeatable)
        if committed:
            await self._confirm(connection)
        guessed = committed and evidence is Evidence.NONE and not same_life
        report = log.error if guessed else log.warning
        report(
            "a COMMIT without an answer was looked up",
            transaction=doubt.number.xid,
            server=fate.value,
            rows=evidence.value,
            committed=committed,
        )
        return doubt.outcomes if committed else None

    # Batches.

    async def _execute(
        self, connection: asyncpg.Connection, batch: Sequence[Operation[Any]], *, writing: bool
    ) -> tuple[Transaction, list[Outcome]]:
        """Everything up to the COMMIT.

        What only reads is no transaction: each statement sees what is committed when it begins, and that is enough.
        """
        transaction = self._begun(connection)
        if writing:
            await connection.execute("BEGIN")
            if self._kept and not self._kept.isdisjoint(chain.from_iterable(map(keys_of, batch))):
                return transaction, await self._execute_in_parts(transaction, batch, look=True)
        try:
            return transaction, await execute(transaction, batch)
        except asyncpg.PostgresError as error:
            kept = writing and isinstance(error, asyncpg.LockNotAvailableError)
            if not kept and not is_refusal(error):
                raise
        # The driver may have left a statement half sent: something has to end it, for reads as well.
        await connection.execute("ROLLBACK; BEGIN" if writing else "BEGIN")
        transaction = self._begun(connection)
        if writing:
            return transaction, await self._execute_in_parts(transaction, batch, look=kept)
        outcomes = await Parts(transaction, batch, self.shown).execute()
        await connection.execute("ROLLBACK")
        return transaction, outcomes

    async def _execute_in_parts(
        self, transaction: Transaction, batch: Sequence[Operation[Any]], *, look: bool
    ) -> list[Outcome]:
        """`look`: somebody keeps rows of media, or has done so."""
        # Those of media are looked for, all at once.
        suspected = frozenset(key for key in self._kept if key[0] is not LockType.MEDIA_UPDATE)
        parts = Parts(transaction, batch, self.shown, suspected)
        await parts.wait_briefly()
        if look:
            await parts.look_for_kept_media()
        try:
            outcomes = await parts.execute()
        except BaseException:
            # The next attempt begins with what is known of this one, should there be more than time allows.
            self._kept |= parts.waiting
            raise
        self._kept = self._kept.difference(*map(keys_of, batch)) | parts.waiting
        return outcomes

    def _begun(self, connection: asyncpg.Connection) -> Transaction:
        return Transaction(connection, self._us, self._start_time_of, self._clock_offset or 0.0, self._versions)

    async def _commit(self, connection: asyncpg.Connection, doubt: Doubt) -> None:
        """Send the COMMIT; `doubt` is what is left if nobody answers."""
        try:
            status = await self._send_commit(connection)
        except _NOT_COMMITTED as error:
            self._lose()
            raise unavailable(self.shown, error) from error
        except LOST as error:
            self._lose()
            raise CommitInDoubtError(
                f"DSS {self.shown}: {reason(error)}, during a COMMIT", lambda: self.resolve(doubt)
            ) from error
        except BaseException:
            self._lose()
            raise
        if status != "COMMIT":
            self._lose()
            raise DssUnavailableError(f"DSS {self.shown}: a COMMIT ended as {status}; nothing was written, try again")

    async def _send_commit(self, connection: asyncpg.Connection) -> str:
        """How the COMMIT ended.

        Raises:
            OSError: the server warns of what it has done. Above all, that somebody has ended its wait for a standby.
        """
        self._warning = None
        async with asyncio.timeout(self._limits.transaction):
            status: str = await connection.execute("COMMIT")
        if self._warning is not None:
            raise OSError(f"the server warns: {self._warning}")
        return status

    def _note(self, _: object, message: Any) -> None:
        """Called by the driver before it hands over the answer that `message` came with."""
        if message.severity_en == "WARNING":
            self._warning = str(message.message)

    # The connection.

    @asynccontextmanager
    async def _use(self) -> AsyncIterator[asyncpg.Connection]:
        """The connection, for as long as a transaction may take; whatever goes wrong meanwhile is the end of it.

        Raises:
            DssUnavailableError: in place of what a connection may raise.
        """
        try:
            connection = await self._connected()
            async with asyncio.timeout(self._limits.transaction):
                yield connection
        except LOST as error:
            self._lose()
            raise unavailable(self.shown, error) from error
        except BaseException:
            self._lose()
            raise

    async def _connected(self) -> asyncpg.Connection:
        if self._connection is not None and not self._connection.is_closed():
            return self._connection
        self._lose()
        name = session_name(self._us) if self._present else "lrs"
        connection = await connect(self._url, name, self._limits)
        try:
            async with asyncio.timeout(self._limits.connect):
                await self._get_to_know(connection)
        except BaseException:
            connection.terminate()
            raise
        # Another server, or one that has crashed, may give the numbers out again by which we know what we have seen.
        self._versions = {}
        connection.add_log_listener(self._note)
        self._connection = connection
        return connection

    async def _get_to_know(self, connection: asyncpg.Connection) -> None:
        version = connection.get_server_version().major
        if version < OLDEST_VERSION:
            raise LrsError(
                errno.EINVAL,
                f"DSS {self.shown}: PostgreSQL {version} is too old; version {OLDEST_VERSION} or newer is needed",
            )
        await check_version(connection, self.shown)
        if self._present:
            await claim_presence(connection, self._us, self._start_time_of, self._limits.ending)
        state = await _one_row(
            connection,
            """
            SELECT substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) AS timeline,
                   pg_postmaster_start_time()::text AS started, pg_last_wal_replay_lsn()::text AS recovered_to
            """,
        )
        self._server = ServerState(**state)
        if self._clock_offset is None:
            now = await connection.fetchval("SELECT extract(epoch FROM clock_timestamp())::float8")
            # Once and for all: a lock's time must read the same as long as its row is the same.
            self._clock_offset = round(time.time() - now, 6)

    def _lose(self) -> None:
        """Never use this connection again: what it was doing is rolled back by the server, or in doubt."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()

    # Transactions in doubt.

    async def _confirm(self, connection: asyncpg.Connection) -> None:
        """Make sure that what was committed is as safe as the site wants a COMMIT to be.

        A COMMIT that waits for a standby counts as done once that wait is ended, by us or by anybody, and a failover
        would lose it. One after it, which writes to the log, is not answered before the standby has both.

        Raises:
            DssUnavailableError: not now.
        """
        try:
            async with asyncio.timeout(self._limits.transaction):
                await connection.execute("BEGIN; SELECT pg_logical_emit_message(true, 'lrs', '')")
            await self._send_commit(connection)
        except LOST as error:
            self._lose()
            raise DssUnavailableError(
                f"DSS {self.shown}: {reason(error)}; what was committed is not known to be safe,"
                " see whether the server's synchronous standbys are there"
            ) from error
        except BaseException:
            self._lose()
            raise

    async def _fate(self, connection: asyncpg.Connection, doubt: Doubt) -> Fate:
        if self._server.timeline != doubt.server.timeline:
            return Fate.UNKNOWN
        if lost_in_crash(doubt, self._server):
            return Fate.ABORTED
        ends = asyncio.get_running_loop().time() + self._limits.ending
        told = False
        while (fate := await _ask_fate(connection, doubt.number.xid)) is Fate.IN_PROGRESS:
            if not told:
                # Its process has not noticed that we are gone. Only if it has this very transaction, it is the one.
                await connection.execute(
                    """
                    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                    WHERE pid = $1 AND backend_xid = $2::text::xid8::xid
                    """,
                    doubt.backend,
                    doubt.number.xid,
                )
                told = True
            elif asyncio.get_running_loop().time() > ends:
                raise TimeoutError(f"transaction {doubt.number.xid} is still in progress on the server")
            await asyncio.sleep(_LOOK_AGAIN_S)
        return fate


async def _number(connection: asyncpg.Connection) -> Number:
    xid, position = await _one_row(connection, f"SELECT {NUMBER_COLUMNS}")
    return Number(xid, position)


async def _one_row(connection: asyncpg.Connection, statement: str) -> asyncpg.Record:
    (row,) = await connection.fetch(statement)
    return row


async def _ask_fate(connection: asyncpg.Connection, xid: str) -> Fate:
    try:
        status = await connection.fetchval("SELECT pg_xact_status($1::text::xid8)", xid)
    except asyncpg.InvalidParameterValueError:
        # Given out before a crash and lost with the end of the log, where a commit would have been.
        return Fate.ABORTED
    return Fate.UNKNOWN if status is None else Fate(status)


async def _media(connection: asyncpg.Connection, media: Any) -> dict[ResourceId, Medium]:
    """The rows of `media` as they are now, those that can be read."""
    rows = await connection.fetch(f"SELECT {MEDIUM_COLUMNS} FROM media {JOIN_WANTED_MEDIA}", *key_columns(media))
    found = {}
    for row in rows:
        try:
            found[id_from_row(row)] = medium_from_row(row)
        except LrsError as error:
            log.error("row left out", error=describe(error))
    return found
