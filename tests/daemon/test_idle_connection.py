"""A database that goes away while nobody asks it for anything."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from typing import LiteralString

import psycopg
import pytest
import trio
from psycopg.sql import SQL, Identifier, Literal

from benchmarks.harness import Site
from benchmarks.postgres import Cluster
from benchmarks.sites import Sites

from .conftest import LOOK_AGAIN_S, PATIENCE_S, serving

OURS = "SELECT pid FROM pg_stat_activity WHERE datname = %s AND application_name LIKE 'lrsd %%'"
PRESENT = f"SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND pid IN ({OURS})"


class Server:
    """The database server, asked from another database than the daemon's."""

    def __init__(self, cluster: Cluster, site: Site) -> None:
        self._url = cluster.url("postgres")
        self._limiter = trio.CapacityLimiter(1)
        self.name = site.dss_url.partition("?")[0].rpartition("/")[2]

    async def present(self) -> set[int]:
        """The server's processes that hold the presence of a daemon in the database."""
        return await trio.to_thread.run_sync(self._pids, limiter=self._limiter)

    async def run(self, statement: LiteralString, **names: str) -> None:
        await trio.to_thread.run_sync(partial(self._run, statement, **names), limiter=self._limiter)

    async def cut(self) -> None:
        """End the daemon's connection."""
        for pid in await self.present():
            await self.run("SELECT pg_terminate_backend({pid})", pid=str(pid))

    def _pids(self) -> set[int]:
        with psycopg.connect(self._url, autocommit=True) as connection:
            return {pid for (pid,) in connection.execute(PRESENT, [self.name]).fetchall()}

    def _run(self, statement: LiteralString, **names: str) -> None:
        with psycopg.connect(self._url, autocommit=True) as connection:
            parts = {name: Literal(int(v)) if v.isdecimal() else Identifier(v) for name, v in names.items()}
            connection.execute(SQL(statement).format(**parts))


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    with trio.fail_after(PATIENCE_S):
        # Neither a database nor a daemon tells a bystander that it has changed.
        while not await holds():  # noqa: ASYNC110
            await trio.sleep(LOOK_AGAIN_S)


@pytest.fixture
def one_directory(cluster: Cluster) -> Iterator[Site]:
    with Sites(cluster).temporary(1) as site:
        yield site


async def test_an_idle_daemon_is_present_again_without_being_asked_for_anything(
    cluster: Cluster, one_directory: Site
) -> None:
    server = Server(cluster, one_directory)
    async with serving(one_directory) as running:
        before = await server.present()
        assert len(before) == 1

        await server.cut()

        async def is_back() -> bool:
            return bool(await server.present() - before)

        await until(is_back)
        await running.write_cycle()


async def test_an_idle_daemon_says_since_when_its_database_has_been_away(cluster: Cluster, one_directory: Site) -> None:
    server = Server(cluster, one_directory)
    async with serving(one_directory) as running:
        await server.run("ALTER DATABASE {name} ALLOW_CONNECTIONS false", name=server.name)
        await server.cut()

        async def is_away() -> bool:
            return (await running.status())["daemon"]["dss"]["unavailable_s"] is not None

        async def is_there() -> bool:
            return not await is_away()

        await until(is_away)
        await server.run("ALTER DATABASE {name} ALLOW_CONNECTIONS true", name=server.name)
        await until(is_there)
        await running.write_cycle()
