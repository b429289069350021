"""One daemon per host and database: who is refused, who is taken for dead, and that a lost connection loses nothing."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from signal import SIGTERM

import psycopg
import pytest
import trio
from structlog.testing import capture_logs

from lrs_trio.daemon import EXIT_DRAINED, Daemon
from lrs_trio.dss.homes import open_command_home, open_daemon_home
from lrs_trio.dss.operations import ReadMedia
from lrs_trio.dss.postgres import presence
from lrs_trio.dss.postgres.connection import LIMITS, Limits
from lrs_trio.dss.postgres.home import open_postgres_home
from lrs_trio.dss.postgres.presence import session_name
from lrs_trio.errors import AlreadyRunningError
from lrs_trio.model import LockOwner
from lrs_trio.settings import DssSettings, ServerSettings, Settings
from tests.dss.samples import HOST

from .daemon import add_one, open_dss, until
from .phobos_client import PhobosClient

US = LockOwner(HOST, os.getpid())
LIVING = LockOwner(HOST, os.getppid())
"""Another process of our host."""


@pytest.fixture
def dead() -> LockOwner:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    return LockOwner(HOST, process.pid)


async def presence_of(settings: DssSettings, owner: LockOwner) -> str:
    """The two numbers that the daemon of that host locks."""
    async with open_daemon_home(settings, owner):
        with psycopg.connect(settings.url, autocommit=True) as connection:
            (row,) = PhobosClient(connection).execute(
                "SELECT classid, objid::bigint FROM pg_locks WHERE locktype = 'advisory'"
            )
    return f"{row['classid']}, {row['objid'] - 2**32 if row['objid'] >= 2**31 else row['objid']}"


@contextmanager
def session_of(settings: DssSettings, name: str, numbers: str) -> Iterator[PhobosClient]:
    """A session that holds somebody's presence."""
    with psycopg.connect(settings.url, autocommit=True, application_name=name) as connection:
        session = PhobosClient(connection)
        session.execute(f"SELECT pg_advisory_lock({numbers})")
        yield session


async def refusal(settings: DssSettings, owner: LockOwner = US) -> AlreadyRunningError:
    with pytest.raises(AlreadyRunningError) as refused:
        async with open_daemon_home(settings, owner):
            pass
    return refused.value


async def test_a_second_daemon_of_a_host_is_refused(settings: DssSettings, client: PhobosClient) -> None:
    async with open_dss(settings, LIVING, media=["/srv/a"]) as dss:
        error = await refusal(settings)
        assert error.errno == errno.EEXIST
        assert f"pid {LIVING.pid} on {HOST}" in str(error)
        assert f"server process {client.sessions()[0]['pid']}" in str(error)
        await dss.execute(add_one("/srv/a"))
        await until(lambda: len(client.sessions()) == 1)
    async with open_daemon_home(settings, US):
        pass


async def test_daemons_of_other_hosts_and_commands_are_not(settings: DssSettings) -> None:
    def look() -> object:
        with open_command_home(settings, host=HOST) as home:
            return home.execute(ReadMedia())

    async with open_daemon_home(settings, LIVING), open_daemon_home(settings, LockOwner("store2", LIVING.pid)):
        assert await trio.to_thread.run_sync(look) == ()


async def test_other_databases_of_the_server_are_other_sites(settings: DssSettings, postgres_url: str) -> None:
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(b"CREATE DATABASE another TEMPLATE template0")
        try:
            with psycopg.connect(postgres_url, dbname="another", autocommit=True) as there:
                there.execute(b"CREATE TABLE schema_info (version text); INSERT INTO schema_info VALUES ('3.3')")
            another = DssSettings(url=postgres_url.replace(f"/{connection.info.dbname}?", "/another?"))
            async with open_daemon_home(settings, LIVING), open_daemon_home(another, US):
                pass
        finally:
            connection.execute(b"DROP DATABASE another WITH (FORCE)")


async def test_a_session_left_behind_by_a_dead_daemon_is_ended(settings: DssSettings, dead: LockOwner) -> None:
    numbers = await presence_of(settings, US)
    with session_of(settings, session_name(dead), numbers) as left_behind:
        async with open_daemon_home(settings, US):
            with pytest.raises(psycopg.OperationalError, match="terminating connection"):
                left_behind.value("SELECT 1")


async def test_a_session_left_behind_by_an_earlier_connection_of_ours_is_ended(settings: DssSettings) -> None:
    numbers = await presence_of(settings, US)
    with session_of(settings, session_name(US), numbers):
        async with open_daemon_home(settings, US):
            pass


@pytest.mark.parametrize("name", ["", "psql", "lrsd pid 1 on", "lrsd pid 999999999 on store10"])
async def test_a_session_that_nobody_knows_is_respected(settings: DssSettings, name: str) -> None:
    numbers = await presence_of(settings, US)
    with session_of(settings, name, numbers) as somebody:
        assert (name or "a session of another role") in str(await refusal(settings))
        assert somebody.value("SELECT 1") == 1


def named_elsewhere(owner: LockOwner, monkeypatch: pytest.MonkeyPatch, mark: str = "0123abcd") -> str:
    """The session of a daemon whose processes we cannot see, under our host's name."""
    with monkeypatch.context() as there:
        there.setattr(presence, "life_of_this_machine", lambda: mark)
        return session_name(owner)


@pytest.mark.parametrize("host", [HOST, "a-very-long-name-of-a-host-" * 4])
async def test_a_daemon_of_another_machine_with_our_name_is_respected(
    settings: DssSettings, dead: LockOwner, monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    """That there is no such process here says nothing of it; and so it is with one that does not say where it runs."""
    us = LockOwner(host, US.pid)
    numbers = await presence_of(settings, us)
    elsewhere = named_elsewhere(LockOwner(host, dead.pid), monkeypatch)
    for name in (elsewhere, f"lrsd pid {dead.pid} on {host}"[:63]):
        with session_of(settings, name, numbers) as somebody:
            with pytest.raises(AlreadyRunningError) as refused:
                async with open_postgres_home(settings, us, Limits(left_behind=0.0)):
                    pass
            # Not as for a daemon that is known to run: systemd tries again.
            assert refused.value.errno == errno.EBUSY
            assert "another machine or container" in str(refused.value)
            assert name in str(refused.value)
            assert somebody.value("SELECT 1") == 1


async def test_a_pid_that_is_ours_here_is_somebody_elses_there(
    settings: DssSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Daemons of containers all have the same."""
    numbers = await presence_of(settings, US)
    with session_of(settings, named_elsewhere(US, monkeypatch), numbers) as somebody:
        with pytest.raises(AlreadyRunningError):
            async with open_postgres_home(settings, US, Limits(left_behind=0.0)):
                pass
        assert somebody.value("SELECT 1") == 1


async def test_a_session_from_before_the_machine_was_started_anew_is_waited_for(
    settings: DssSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server finds out by itself that nobody is there any more."""
    numbers = await presence_of(settings, US)
    with session_of(settings, named_elsewhere(US, monkeypatch), numbers) as left_behind, capture_logs() as lines:
        async with trio.open_nursery() as nursery:

            async def end() -> None:
                await until(lambda: [line for line in lines if "may have been left behind" in line["event"]])
                left_behind.connection.close()

            nursery.start_soon(end)
            async with open_daemon_home(settings, US):
                pass


@pytest.mark.note("11")
async def test_a_daemon_that_waits_for_such_a_session_ends_when_it_is_told_to(
    settings: DssSettings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    given = Settings(dss=settings, host=HOST, server=ServerSettings(socket=tmp_path / "lrs"))
    numbers, elsewhere = await presence_of(settings, US), named_elsewhere(US, monkeypatch)
    with session_of(settings, elsewhere, numbers) as somebody, capture_logs() as lines:
        async with trio.open_nursery() as nursery:

            async def end() -> None:
                await until(lambda: [line for line in lines if "may have been left behind" in line["event"]])
                os.kill(os.getpid(), SIGTERM)

            nursery.start_soon(end)
            with trio.fail_after(LIMITS.left_behind / 2):
                assert await Daemon(given).run() == EXIT_DRAINED
        assert [row["name"] for row in somebody.sessions()] == [elsewhere]


@pytest.mark.parametrize("host", ["a-very-long-name-of-a-host-" * 4, "hôte"])
async def test_any_name_of_a_host_is_recognised(settings: DssSettings, client: PhobosClient, host: str) -> None:
    """A server keeps 63 bytes of a session's name, and no letters but those of English."""
    dead = LockOwner(host, 999_999_999)
    numbers = await presence_of(settings, LockOwner(host, US.pid))
    with session_of(settings, session_name(dead), numbers):
        async with open_daemon_home(settings, LockOwner(host, US.pid)):
            assert [row["name"] for row in client.sessions()] == [session_name(LockOwner(host, US.pid))]


async def test_the_presence_is_taken_again_with_a_new_connection(settings: DssSettings, client: PhobosClient) -> None:
    async with open_dss(settings, LIVING, media=["/srv/a"]) as dss:
        for _ in range(3):
            client.cut()
            await dss.execute(add_one("/srv/a"))
            assert (await refusal(settings)).errno == errno.EEXIST
    assert client.objects() == {"/srv/a": 3}


async def test_a_presence_that_somebody_has_stolen_is_waited_for(settings: DssSettings, client: PhobosClient) -> None:
    numbers = await presence_of(settings, US)
    async with open_dss(settings, US, media=["/srv/a"]) as dss:
        with psycopg.connect(settings.url, autocommit=True, application_name=session_name(LIVING)) as connection:
            thief = PhobosClient(connection)
            with capture_logs() as lines:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(trio.to_thread.run_sync, thief.execute, f"SELECT pg_advisory_lock({numbers})")
                    await until(lambda: len(client.sessions()) == 2)
                    await until(lambda: "Lock" in {row["waits_for"] for row in client.sessions()})
                    client.execute(
                        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = %s",
                        session_name(US),
                    )
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(dss.execute, add_one("/srv/a"))
                    await until(lambda: any(f"by lrsd pid {LIVING.pid}" in line.get("error", "") for line in lines))
                    assert dss.unavailable_since is not None
                    assert client.objects() == {"/srv/a": 0}
                    connection.close()
        assert dss.unavailable_since is None
        assert client.objects() == {"/srv/a": 1}
