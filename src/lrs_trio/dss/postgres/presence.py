"""One daemon per database and host: an advisory lock of the session. Asyncio-flavoured."""

from __future__ import annotations

import asyncio
import errno
import re
import zlib
from dataclasses import dataclass
from typing import Final

import asyncpg

from lrs_trio.dss.recovery import StartTimeOf
from lrs_trio.errors import AlreadyRunningError
from lrs_trio.model import LockOwner

LOCK_CLASS: Final = 0x4C5253
"""The first of the lock's two numbers, the same for all hosts; the second stands for the host."""

_LOOK_AGAIN_S: Final = 0.05

_NAME: Final = re.compile(r"lrsd pid (\d+) on .*")
_LONGEST_NAME: Final = 63
"""Of a session: bytes that a server keeps."""


@dataclass(frozen=True, slots=True)
class _Holder:
    backend: int
    name: str


def session_name(owner: LockOwner) -> str:
    """The application name of a daemon's session, as the server shows it: tells others, and us, whose it is."""
    return f"lrsd pid {owner.pid} on {owner.host}".encode("ascii", "replace").decode()[:_LONGEST_NAME]


async def claim_presence(
    connection: asyncpg.Connection, us: LockOwner, start_time_of: StartTimeOf, ending: float
) -> None:
    """Hold the lock of our host for as long as `connection` lives.

    A session that a dead process of this host, or an earlier connection of our own, has left behind on the
    server is ended, which may take `ending` seconds.

    Raises:
        AlreadyRunningError: EEXIST, a living daemon holds it.
    """
    number = zlib.crc32(us.host.encode()) - 2**31
    ends = asyncio.get_running_loop().time() + ending
    while not await connection.fetchval("SELECT pg_try_advisory_lock($1, $2)", LOCK_CLASS, number):
        holder = await _holder(connection, number)
        if holder is not None:
            if not _is_left_behind(holder, us, start_time_of):
                raise AlreadyRunningError(
                    errno.EEXIST,
                    f"host {us.host} is served already in this DSS, by {holder.name or 'a session of another role'} "
                    f"(server process {holder.backend}); stop that daemon first",
                )
            await connection.execute("SELECT pg_terminate_backend($1)", holder.backend)
        if asyncio.get_running_loop().time() > ends:
            raise AlreadyRunningError(
                errno.EEXIST,
                f"host {us.host}: an earlier session on the DSS's server does not end; look at pg_stat_activity",
            )
        await asyncio.sleep(_LOOK_AGAIN_S)


async def _holder(connection: asyncpg.Connection, number: int) -> _Holder | None:
    row = await connection.fetchrow(
        """
        SELECT lock.pid, coalesce(session.application_name, '') AS name
        FROM pg_locks AS lock LEFT JOIN pg_stat_activity AS session ON session.pid = lock.pid
        WHERE lock.locktype = 'advisory' AND lock.granted AND lock.objsubid = 2
              AND lock.database = (SELECT oid FROM pg_database WHERE datname = current_database())
              AND lock.classid::bigint = $1 AND lock.objid::bigint = $2::int8 & 4294967295
        """,
        LOCK_CLASS,
        number,
    )
    return None if row is None else _Holder(row["pid"], row["name"])


def _is_left_behind(holder: _Holder, us: LockOwner, start_time_of: StartTimeOf) -> bool:
    name = _NAME.fullmatch(holder.name)
    if name is None:
        return False
    pid = int(name[1])
    if holder.name != session_name(LockOwner(us.host, pid)):
        return False
    return pid == us.pid or start_time_of(pid) is None
