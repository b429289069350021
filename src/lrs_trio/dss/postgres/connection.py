"""One connection to PostgreSQL, and what its errors mean. Asyncio-flavoured."""

from __future__ import annotations

import asyncio
import errno
import os
from dataclasses import dataclass
from typing import Final

import asyncpg
from asyncpg.connect_utils import SessionAttribute

from lrs_trio.dss.postgres.target import Server, Target, read_target
from lrs_trio.errors import DssUnavailableError, LrsError, describe


@dataclass(frozen=True, slots=True)
class Limits:
    """How long the database may take over something before we do without it. Seconds."""

    connect: float = 10.0
    """One attempt to connect to one server, until the session is set up."""
    transaction: float = 40.0
    """Everything before a COMMIT, and the COMMIT: a server that says nothing must not hold us for ever. Longer than
    the server's own limits below, which give better errors."""
    statement: float = 30.0
    """One statement, as the server counts it."""
    lock: float = 5.0
    """Waiting for a row. Whoever keeps one for so long has a problem that waiting does not solve; we try again."""
    silence: float = 60.0
    """Within a transaction: a host that freezes there must not keep the others from their rows."""
    ending: float = 2.0
    """A session that was told to end: it is gone within milliseconds, if its server is not overloaded."""
    left_behind: float = 35.0
    """A session whose host has gone, or was started anew: the server notices by itself, see `_OURS`."""
    close: float = 5.0
    """Saying goodbye."""


LIMITS: Final = Limits()

OLDEST_VERSION: Final = 13
"""Of PostgreSQL: the first whose transactions can be asked for by the number that we note."""

LOST: Final = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, UnicodeError)
"""What a connection may raise, and is of no more use then, unless it `is_refusal`. A server that does not know yet
which encoding we want may speak in another one.
"""

_OURS: Final = {
    # A COMMIT that does all that it should says nothing; one that does not warns.
    "client_min_messages": "warning",
    # What a statement sees does not depend on what a site finds good for others: all of ours are written for this.
    "default_transaction_isolation": "read committed",
    # The server notices within half a minute that this host has gone, and gives up its locks; also where it has sent
    # something that is not acknowledged, for which keepalives are not used.
    "tcp_user_timeout": "30000",
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "4",
}

_REFUSED_CLASSES: Final = ("22", "23", "42")
"""What is wrong with the values, with the rows that are there, or with our rights: trying again will not help."""

_NEXT_SERVER: Final = (
    OSError,
    asyncpg.CannotConnectNowError,
    asyncpg.TooManyConnectionsError,
    asyncpg.TargetServerAttributeNotMatched,
)
"""Of several servers the next one is tried then."""

_NOT_LET_IN: Final = (asyncpg.InvalidAuthorizationSpecificationError, asyncpg.InsufficientPrivilegeError)


async def connect(url: str, application_name: str = "lrs", limits: Limits = LIMITS) -> asyncpg.Connection:
    """Connect to the database that `url` names, on the first of its servers that is good for it.

    Raises:
        LrsError: EINVAL, `url` is none that libpq would take; the text does not show it.
        asyncpg.PostgresError, asyncpg.InterfaceError, OSError, UnicodeError: it did not work out.
    """
    try:
        target = read_target(url, os.environ)
    except ValueError as error:
        raise LrsError(errno.EINVAL, f"dss.url, or a PG* variable: {error}") from error
    settings = target.settings | _OURS | _limits_of_server(limits) | {"application_name": application_name}
    # One by one: the driver has one limit for all servers, and the first that says nothing would use it up.
    *others, last = target.servers
    for server in others:
        try:
            return await _connect(target, server, settings, limits)
        except _NEXT_SERVER:
            continue
    return await _connect(target, last, settings, limits)


def _limits_of_server(limits: Limits) -> dict[str, str]:
    seconds = {
        "lock_timeout": limits.lock,
        "statement_timeout": limits.statement,
        "idle_in_transaction_session_timeout": limits.silence,
    }
    return {name: f"{1000 * limit:.0f}" for name, limit in seconds.items()}


async def _connect(target: Target, server: Server, settings: dict[str, str], limits: Limits) -> asyncpg.Connection:
    try:
        async with asyncio.timeout(limits.connect):
            connection: asyncpg.Connection = await asyncpg.connect(
                target.url,
                # Without a host the driver tries the usual directories of sockets, and this machine.
                host=server.host or None,
                port=server.port if server.host else None,
                password=target.password(server),
                service=target.service,
                timeout=limits.connect,
                # Each statement would have a timer, which wakes up an idle daemon, and would be prepared anew.
                max_cached_statement_lifetime=0,
                server_settings=settings,
                # After a failover one of several servers takes writes, the others only answer.
                target_session_attrs=None if target.any_server else SessionAttribute.read_write,
            )
            try:
                # What we acknowledge is on the disk, whatever the site finds good enough for others.
                await connection.execute(
                    "SELECT set_config('synchronous_commit', 'on', false)"
                    " WHERE current_setting('synchronous_commit') = 'off'"
                )
            except BaseException:
                connection.terminate()
                raise
            return connection
    except (KeyError, ValueError) as error:
        if isinstance(error, LOST):
            raise
        # The driver's words for a user without a name, or a variable or a file of the user that cannot be read.
        raise asyncpg.ClientConfigurationError(f"{type(error).__name__}: {error}") from error


def is_refusal(error: asyncpg.PostgresError) -> bool:
    """Whether what was asked is refused, as against: cannot be done now. The driver, too, refuses values like that."""
    return str(error.sqlstate)[:2] in _REFUSED_CLASSES


def unavailable(shown: str, error: BaseException) -> DssUnavailableError:
    """The DSS `shown` could not do it this time: `error` says why."""
    said = str(error.strerror) if isinstance(error, LrsError) else f"DSS {shown}: {reason(error)}"
    return DssUnavailableError(f"{said} ({type(error).__name__}); nothing was written, try again")


def start_error(shown: str, error: BaseException) -> LrsError:
    """Why a daemon or a command cannot begin to use the DSS `shown`.

    EINVAL: its URL or a variable is wrong; EACCES: we are not let in; ENOENT: there is no such database; ENOTCONN: no
    connection. An `LrsError` says so already.
    """
    if isinstance(error, LrsError):
        return error
    said = f"DSS {shown}: {reason(error)}"
    if isinstance(error, asyncpg.InvalidCatalogNameError):
        return LrsError(errno.ENOENT, f"{said}; create the database, then: lrs dss init")
    if isinstance(error, _NOT_LET_IN):
        return LrsError(errno.EACCES, f"{said}; check user, password, rights and pg_hba.conf")
    if isinstance(error, asyncpg.ClientConfigurationError):
        return LrsError(errno.EINVAL, f"{said}; check dss.url and the PG* variables")
    return LrsError(
        errno.ENOTCONN, f"{said}; no connection: check that PostgreSQL runs there and that dss.url names it"
    )


def reason(error: BaseException) -> str:
    """What `error` says, in one line."""
    if isinstance(error, TimeoutError) and not str(error):
        return "no answer in time"
    if isinstance(error, asyncpg.TargetServerAttributeNotMatched):
        return "no server there takes writes"
    said = " ".join(describe(error).split())
    # When a server ends a session that does nothing, the driver only says that it is confused.
    return f"the session has ended: {said}" if isinstance(error, asyncpg.InternalClientError) else said
