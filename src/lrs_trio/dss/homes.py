"""Which home the settings name, opened for the daemon or for a command.

What only one home needs (asyncpg and its event loop take a tenth of a second to import, SQLite 3 MB) is imported here
when that home is opened.
"""

from __future__ import annotations

import errno
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from lrs_trio.dss.home import DaemonHome, ThreadedHome
from lrs_trio.dss.operations import Operation, Outcome
from lrs_trio.dss.presence import daemon_presence
from lrs_trio.errors import LrsError
from lrs_trio.model import LockOwner
from lrs_trio.settings import DssSettings, short_host_name

if TYPE_CHECKING:
    from lrs_trio.dss.sqlite import SqliteHome

T = TypeVar("T")


class CommandHome(Protocol):
    """A home as a command uses it: synchronous, in a thread that runs no trio."""

    def commit(self, batch: Sequence[Operation[Any]]) -> list[Outcome]:
        """As `Home.commit`."""
        ...

    def execute(self, operation: Operation[T]) -> T:
        """Commit one operation and return its result; raises also the `LrsError` that refused it."""
        ...


def open_daemon_home(settings: DssSettings, owner: LockOwner) -> AbstractAsyncContextManager[DaemonHome]:
    """The home for the daemon `owner`; to be opened outside every nursery that uses it.

    Raises:
        AlreadyRunningError: another daemon serves this host in this DSS.
        LrsError: the DSS cannot be used; the text says why.
        DssUnavailableError: not now.
    """
    if settings.is_postgres:
        with postgres_extra():
            from lrs_trio.dss.postgres.home import open_postgres_home
        return open_postgres_home(settings, owner)
    return _open_sqlite(settings, owner)


@contextmanager
def open_command_home(settings: DssSettings, *, host: str | None = None, create: bool = False) -> Iterator[CommandHome]:
    """The home for a command; `create` makes an SQLite file that is not there yet.

    `host` is the short name under which the command takes locks, this host's by default.

    Raises:
        LrsError: the DSS cannot be used; the text says why.
        DssUnavailableError: not now.
    """
    if settings.is_postgres:
        with postgres_extra():
            from lrs_trio.dss.postgres.home import PostgresCommandHome
        yield PostgresCommandHome(settings, host or short_host_name())
        return
    if not create and not settings.path.exists():
        raise LrsError(
            errno.ENOENT,
            f"DSS {settings.path}: does not exist; check dss.url in the settings (lrsd --check shows them),"
            " or make it by starting lrsd or by adding a directory",
        )
    with _sqlite_home(settings) as home:
        yield home


@asynccontextmanager
async def _open_sqlite(settings: DssSettings, owner: LockOwner) -> AsyncIterator[DaemonHome]:
    with daemon_presence(settings.path, owner.host), _sqlite_home(settings) as home:
        yield ThreadedHome(home)


def _sqlite_home(settings: DssSettings) -> SqliteHome:
    from lrs_trio.dss.sqlite import SqliteHome

    return SqliteHome.open(settings.path)


@contextmanager
def postgres_extra() -> Iterator[None]:
    """Say which package is missing, where the extra is not installed."""
    try:
        yield
    except ImportError as error:
        raise LrsError(
            errno.ENOPKG,
            f"PostgreSQL as the DSS needs the package {error.name}, which is not installed; "
            "install lrs-trio with its extra: lrs-trio[postgres]",
        ) from error
