"""One daemon per database and host: an advisory lock of the session. Asyncio-flavoured."""

from __future__ import annotations

import asyncio
import errno
import re
import zlib
from dataclasses import dataclass
from enum import Enum
from typing import Final

import asyncpg

from lrs_trio.dss.processes import life_of_this_machine
from lrs_trio.dss.recovery import StartTimeOf
from lrs_trio.errors import AlreadyRunningError
from lrs_trio.model import LockOwner

LOCK_CLASS: Final = 0x4C5253
"""The first of the lock's two numbers, the same for all hosts; the second stands for the host."""

_LOOK_AGAIN_S: Final = 0.05

_NAME: Final = re.compile(r"lrsd pid (\d+) on .*?(?: @([0-9a-f]{8}))?")
_LONGEST_NAME: Final = 63
"""Of a session: bytes that a server keeps."""


class HeldElsewhereError(AlreadyRunningError):
    """By a daemon that calls its host like ours, of which we cannot tell whether it lives."""


class _Holds(Enum):
    """What the holder of our host's lock is to us."""

    LEFT_BEHIND = "left behind"
    SOMEBODY = "somebody"
    ELSEWHERE = "elsewhere"


@dataclass(frozen=True, slots=True)
class _Holder:
    backend: int
    name: str


def session_name(owner: LockOwner) -> str:
    """The application name of a daemon's session, as the server shows it: tells others, and us, whose it is.

    Two machines may bear one short name, and containers of one machine: a pid tells only those something who have the
    same mark at the end.
    """
    return _name(owner, f" @{life_of_this_machine()}")


def _name(owner: LockOwner, mark: str) -> str:
    name = f"lrsd pid {owner.pid} on {owner.host}".encode("ascii", "replace").decode()
    return name[: _LONGEST_NAME - len(mark)] + mark


async def claim_presence(
    connection: asyncpg.Connection, us: LockOwner, start_time_of: StartTimeOf, ending: float
) -> None:
    """Hold the lock of our host for as long as `connection` lives.

    A session that a dead process of this host, or an earlier connection of our own, has left behind on the
    server is ended, which may take `ending` seconds.

    Raises:
        AlreadyRunningError: EEXIST, a living daemon holds it; EBUSY (`HeldElsewhereError`), one that may be alive.
    """
    number = zlib.crc32(us.host.encode()) - 2**31
    ends = asyncio.get_running_loop().time() + ending
    while not await connection.fetchval("SELECT pg_try_advisory_lock($1, $2)", LOCK_CLASS, number):
        holder = await _holder(connection, number)
        if holder is not None:
            holds = _look_at(holder, us, start_time_of)
            if holds is _Holds.ELSEWHERE:
                raise HeldElsewhereError(
                    errno.EBUSY,
                    f"a daemon of another machine or container, or one from before this machine was started, serves "
                    f"host {us.host} in this DSS: {holder.name} (server process {holder.backend}); each needs a host "
                    f"name of its own, see `host` in the settings; if none runs there, look at pg_stat_activity",
                )
            if holds is _Holds.SOMEBODY:
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


def _look_at(holder: _Holder, us: LockOwner, start_time_of: StartTimeOf) -> _Holds:
    name = _NAME.fullmatch(holder.name)
    if name is None:
        return _Holds.SOMEBODY
    owner = LockOwner(us.host, int(name[1]))
    if holder.name == session_name(owner):
        is_left_behind = owner.pid == us.pid or start_time_of(owner.pid) is None
        return _Holds.LEFT_BEHIND if is_left_behind else _Holds.SOMEBODY
    # The names of older daemons have no mark.
    mark = "" if name[2] is None else f" @{name[2]}"
    return _Holds.ELSEWHERE if holder.name == _name(owner, mark) else _Holds.SOMEBODY
