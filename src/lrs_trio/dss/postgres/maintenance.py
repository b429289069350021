"""What administrators do to a PostgreSQL DSS as a whole: each over a connection of its own. Asyncio-flavoured."""

from __future__ import annotations

import errno
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg

from lrs_trio.dss.description import Comparison
from lrs_trio.dss.postgres.connection import connect, start_error
from lrs_trio.dss.postgres.schema import check_version, compare_schema, create_schema
from lrs_trio.errors import LrsError


async def make(url: str, shown: str) -> None:
    """Make the schema in the empty database at `url`, which people see as `shown`.

    Raises:
        LrsError: no connection, or see `create_schema`.
    """
    async with _connected(url, shown) as connection:
        await create_schema(connection, shown)


async def check(url: str, shown: str) -> Comparison:
    """How the database at `url` differs from what `make` makes; changes nothing.

    Raises:
        LrsError: no connection, or it has another version, see `check_version`.
    """
    async with _connected(url, shown) as connection:
        await check_version(connection, shown)
        return await compare_schema(connection)


@asynccontextmanager
async def _connected(url: str, shown: str) -> AsyncIterator[asyncpg.Connection]:
    try:
        connection = await connect(url)
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise start_error(shown, error) from error
    try:
        yield connection
        await connection.close()
    except LrsError:
        raise
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise LrsError(errno.EIO, f"DSS {shown}: {error} ({type(error).__name__})") from error
    finally:
        connection.terminate()  # which does nothing to a closed one
