"""The PostgreSQL home of the DSS: a database that Phobos 3.3 made, or one like it, shared by many hosts.

A batch crosses to asyncio once and is one transaction there. Everything about connections is below, in
`Session`; here is what the daemon and the commands hold in their hands.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, TypeVar, cast

import trio

from lrs_trio.dss.operations import Blocked, Operation, Outcome
from lrs_trio.dss.postgres.bridge import asyncio_loop, cross, run_blocking
from lrs_trio.dss.postgres.connection import LIMITS, Limits
from lrs_trio.dss.postgres.session import Session
from lrs_trio.dss.processes import process_start_time
from lrs_trio.errors import CommitInDoubtError, DssUnavailableError, LrsError
from lrs_trio.model import LockOwner
from lrs_trio.settings import DssSettings

T = TypeVar("T")

PATIENCE_S: Final = 5.0
"""How long a command waits for somebody else's lock, or for the fate of its own COMMIT."""

_LOOK_AGAIN_S: Final = 0.05


class PostgresHome:
    """The daemon's home (`home.Home`); `open_postgres_home` makes one."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def commit(self, batch: Sequence[Operation[Any]]) -> list[Outcome]:
        """As `Home.commit`. Cancelling it leaves the transaction done or not done as a whole."""
        try:
            return await cross(self._session.commit, batch)
        except CommitInDoubtError as doubt:
            resolve = doubt.resolve

            async def resolve_there() -> list[Outcome] | None:
                return await cross(resolve)

            raise CommitInDoubtError(str(doubt), resolve_there) from doubt

    async def wait_lost(self) -> None:
        """Return when there is no connection, or the one that there is has ended."""
        await cross(self._session.wait_lost)


@asynccontextmanager
async def open_postgres_home(
    settings: DssSettings, owner: LockOwner, limits: Limits = LIMITS
) -> AsyncIterator[PostgresHome]:
    """The home of the daemon `owner`; to be opened outside every nursery that uses it.

    Raises:
        AlreadyRunningError: another daemon serves our host in this DSS.
        LrsError: ENOTCONN, EACCES, ENOENT or EINVAL: no connection, or the schema is not what it should be.
    """
    session = Session(settings.url, settings.shown, owner, process_start_time, present=True, limits=limits)
    async with asyncio_loop():
        await cross(session.open)
        try:
            yield PostgresHome(session)
        finally:
            # Also when we are cancelled: a server that is left in the dark would keep our presence for a while.
            with trio.move_on_after(2 * limits.close, shield=True):
                await cross(session.close)


class PostgresCommandHome:
    """The same for a command: synchronous, with a connection for each batch. Not for a thread that runs trio."""

    def __init__(self, settings: DssSettings, host: str) -> None:
        self._settings = settings
        self._us = LockOwner(host, os.getpid())

    def commit(self, batch: Sequence[Operation[Any]]) -> list[Outcome]:
        """Execute `batch` in one transaction; when this returns it is durable.

        Raises:
            LrsError: there is no connection, or the schema is not what it should be.
            DssUnavailableError: not now; what is said there about a COMMIT in doubt is to be looked at.
        """
        return run_blocking(self._commit, batch)

    def execute(self, operation: Operation[T]) -> T:
        """Commit one operation and return its result; raises also the `LrsError` that refused it."""
        (outcome,) = self.commit([operation])
        if isinstance(outcome, LrsError):
            raise outcome
        return cast(T, outcome)

    async def _commit(self, batch: Sequence[Operation[Any]]) -> list[Outcome]:
        url, shown = self._settings.url, self._settings.shown
        async with Session(url, shown, self._us, process_start_time, present=False) as session:
            return await self._commit_patiently(session, batch)

    async def _commit_patiently(self, session: Session, batch: Sequence[Operation[Any]]) -> list[Outcome]:
        """Do what is `Blocked` again, alone, until it is done or patience ends."""
        outcomes = await _commit_or_resolve(session, batch)
        ends = asyncio.get_running_loop().time() + PATIENCE_S
        while blocked := [place for place, outcome in enumerate(outcomes) if isinstance(outcome, Blocked)]:
            if asyncio.get_running_loop().time() > ends:
                holder = cast(Blocked, outcomes[blocked[0]]).holder
                raise DssUnavailableError(
                    f"DSS {session.shown}: {holder.owner} holds the {holder.type.value} lock on {holder.id};"
                    " try again, or see what that process does"
                )
            await asyncio.sleep(_LOOK_AGAIN_S)
            again = await _commit_or_resolve(session, [batch[place] for place in blocked])
            for place, outcome in zip(blocked, again, strict=True):
                outcomes[place] = outcome
        return outcomes


async def _commit_or_resolve(session: Session, batch: Sequence[Operation[Any]]) -> list[Outcome]:
    try:
        return await session.commit(batch)
    except CommitInDoubtError as doubt:
        outcomes = await _resolve(doubt)
    if outcomes is None:
        raise DssUnavailableError(f"DSS {session.shown}: the connection was lost and nothing was written; try again")
    return outcomes


async def _resolve(doubt: CommitInDoubtError) -> list[Outcome] | None:
    ends = asyncio.get_running_loop().time() + PATIENCE_S
    while True:
        try:
            return await doubt.resolve()
        except DssUnavailableError as error:
            if asyncio.get_running_loop().time() > ends:
                raise DssUnavailableError(
                    f"{doubt}, and since then it does not answer; whether the change was written has to be looked at"
                ) from error
        await asyncio.sleep(_LOOK_AGAIN_S)
