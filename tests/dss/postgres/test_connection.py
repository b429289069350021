"""Where the database is said to be, who is let in, what a session is like, and what an error at the start says."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from math import inf
from pathlib import Path
from typing import Any
from urllib.parse import quote

import asyncpg
import psycopg
import pytest
import trio
from asyncpg.types import ServerVersion
from structlog.testing import capture_logs
from trio.testing import wait_all_tasks_blocked

from benchmarks.postgres import PORT, Cluster
from lrs_trio.dss.homes import open_command_home
from lrs_trio.dss.operations import ReadMedia, TakeLock
from lrs_trio.dss.postgres.bridge import run_blocking
from lrs_trio.dss.postgres.connection import LIMITS, Limits, connect
from lrs_trio.dss.postgres.home import open_postgres_home
from lrs_trio.dss.postgres.session import Session
from lrs_trio.dss.processes import process_start_time
from lrs_trio.errors import LrsError
from lrs_trio.model import LockType
from lrs_trio.settings import DssSettings
from tests.dss.samples import DAEMON, directory, medium_id

from .phobos_client import PhobosClient

PASSWORD = "se cret/@:%é"
DEAD_PORT = 1
"""Of this machine: nobody listens there."""


def ask(url: str, question: str = "SELECT current_database()::text", limits: Limits = LIMITS) -> Any:
    async def over_connection() -> Any:
        connection = await connect(url, limits=limits)
        try:
            return await connection.fetchval(question)
        finally:
            await connection.close()

    return run_blocking(over_connection)


def start_error(url: str) -> LrsError:
    """Why a daemon cannot start with that."""
    settings = DssSettings(url=url)
    session = Session(settings.url, settings.shown, DAEMON, process_start_time, present=True)
    with pytest.raises(LrsError) as refused:
        run_blocking(session.open)
    text = str(refused.value)
    assert PASSWORD not in text
    assert quote(PASSWORD, safe="") not in text
    assert "\n" not in text
    return refused.value


@pytest.fixture
def database(client: PhobosClient) -> str:
    return client.connection.info.dbname


@pytest.fixture(scope="module")
def secretive(cluster: Cluster) -> Iterator[str]:
    """A role that has to name its password; others are let in as before."""
    hba = cluster.data / "pg_hba.conf"
    before = hba.read_text()
    with psycopg.connect(cluster.url("postgres"), autocommit=True) as connection:
        connection.execute(f"CREATE ROLE secretive LOGIN PASSWORD '{PASSWORD}'".encode())
        hba.write_text(f"local all secretive scram-sha-256\nlocal all stranger reject\n{before}")
        connection.execute(b"SELECT pg_reload_conf()")
        yield "secretive"
        hba.write_text(before)
        connection.execute(b"SELECT pg_reload_conf()")
        connection.execute(b"DROP ROLE secretive")


# Where it is


def test_a_directory_of_sockets_in_the_url(cluster: Cluster, database: str) -> None:
    assert ask(f"postgresql://lrs@/{database}?host={cluster.base}&port={PORT}") == database
    assert ask(f"postgres://lrs@{quote(str(cluster.base), safe='')}:{PORT}/{database}") == database


def test_what_the_url_leaves_out_comes_from_variables(
    cluster: Cluster, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGHOST", str(cluster.base))
    monkeypatch.setenv("PGPORT", str(PORT))
    monkeypatch.setenv("PGUSER", "lrs")
    monkeypatch.setenv("PGDATABASE", database)
    assert ask("postgresql://") == database
    assert ask("postgresql:///postgres") == "postgres"


def test_names_with_any_character(cluster: Cluster) -> None:
    name = "sp ace/é%@:?#'\""
    url = cluster.create_database(name)
    try:
        assert ask(url) == name
    finally:
        cluster.drop_database(url)


def test_of_several_servers_those_that_refuse_are_passed_over(cluster: Cluster, database: str) -> None:
    base = quote(str(cluster.base), safe="")
    assert ask(f"postgresql://lrs@127.0.0.1:{DEAD_PORT},%2Fnowhere,{base}:{PORT}/{database}") == database
    assert ask(f"postgresql://lrs@127.0.0.1:{DEAD_PORT},{base}:{PORT},%2Fnowhere/{database}") == database
    assert ask(f"postgresql://lrs@/{database}?host=127.0.0.1,{cluster.base}&port={DEAD_PORT},{PORT}") == database


def test_several_servers_in_a_variable(cluster: Cluster, database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGHOST", f"/nowhere,{cluster.base}")
    assert ask(f"postgresql://lrs@/{database}") == database


def test_of_several_servers_one_that_says_nothing_is_passed_over(cluster: Cluster, database: str) -> None:
    """As a host that is switched off: nothing comes back, not even a refusal."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"postgresql://lrs@127.0.0.1:{silent.getsockname()[1]},{quote(str(cluster.base), safe='')}/{database}"
        assert ask(url, limits=Limits(connect=0.1)) == database


def test_of_several_servers_one_that_takes_writes_is_taken(
    cluster: Cluster, client: PhobosClient, database: str
) -> None:
    """Here the same server twice, which tells the two roles different things."""
    both = f"{quote(str(cluster.base), safe='')}:{PORT},{quote(str(cluster.base), safe='')}:{PORT}"
    url = f"postgresql://lrs@{both}/{database}"
    client.execute(f"ALTER DATABASE {database} SET default_transaction_read_only = on")
    error = start_error(url)
    assert error.errno == errno.ENOTCONN
    assert "no server there takes writes" in str(error)
    assert ask(f"{url}?target_session_attrs=any") == database


# Who is let in


def test_a_password_in_the_url_a_variable_or_a_file(
    cluster: Cluster, database: str, secretive: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    at = f"/{database}?host={cluster.base}"
    assert ask(f"postgresql://{secretive}:{quote(PASSWORD, safe='')}@{at}") == database

    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    assert ask(f"postgresql://{secretive}@{at}") == database
    monkeypatch.delenv("PGPASSWORD")

    escaped = PASSWORD.replace(":", "\\:")
    file = tmp_path / "passwords"
    file.touch(0o600)
    file.write_text(f"*:*:other:*:wrong\n{cluster.base}:{PORT}:{database}:{secretive}:{escaped}\n")
    monkeypatch.setenv("PGPASSFILE", str(file))
    assert ask(f"postgresql://{secretive}@{at}") == database

    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("PGPASSFILE")
    file.rename(tmp_path / ".pgpass")
    assert ask(f"postgresql://{secretive}@{at}") == database


def test_a_password_file_that_others_may_read_is_not_used(
    cluster: Cluster, database: str, secretive: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "passwords"
    file.touch(0o644)
    file.write_text(f"*:*:*:*:{PASSWORD}\n".replace("@:", "@\\:"))
    monkeypatch.setenv("PGPASSFILE", str(file))
    url = f"postgresql://{secretive}@/{database}?host={cluster.base}"
    with capture_logs() as lines:
        assert start_error(url).errno == errno.EACCES
    assert "chmod 0600" in lines[0]["event"]
    file.chmod(0o600)
    assert ask(url) == database


def test_a_service_comes_before_variables(
    cluster: Cluster, database: str, secretive: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "services"
    password = PASSWORD.replace("%", "%%")
    file.write_text(f"[dss]\nhost={cluster.base}\nuser={secretive}\npassword={password}\ndbname={database}\n")
    monkeypatch.setenv("PGSERVICEFILE", str(file))
    monkeypatch.setenv("PGHOST", "/nowhere")
    monkeypatch.setenv("PGUSER", "nobody")
    assert ask("postgresql://?service=dss") == database
    monkeypatch.setenv("PGSERVICE", "dss")
    assert ask("postgresql://", "SELECT current_user::text") == secretive


def test_a_wrong_or_missing_password_is_an_error_that_does_not_tell_it(
    cluster: Cluster, database: str, secretive: str
) -> None:
    at = f"/{database}?host={cluster.base}"
    for login in (f"{secretive}:wrong{quote(PASSWORD, safe='')}", secretive):
        error = start_error(f"postgresql://{login}@{at}")
        assert error.errno == errno.EACCES
        assert secretive in str(error)
        assert "check user, password" in str(error)


def test_who_is_not_known_or_not_allowed_gets_eacces(
    cluster: Cluster, client: PhobosClient, database: str, secretive: str
) -> None:
    at = f"/{database}?host={cluster.base}"
    assert start_error(f"postgresql://nobody:{quote(PASSWORD, safe='')}@{at}").errno == errno.EACCES
    assert start_error(f"postgresql://stranger:{quote(PASSWORD, safe='')}@{at}").errno == errno.EACCES
    client.execute(f"REVOKE CONNECT ON DATABASE {database} FROM public")
    assert start_error(f"postgresql://{secretive}:{quote(PASSWORD, safe='')}@{at}").errno == errno.EACCES


# Errors at the start


@pytest.mark.parametrize(
    ("place", "number", "text"),
    [
        ("/nothing?host={base}", errno.ENOENT, 'database "nothing" does not exist; create the database, then: lrs dss'),
        ("/postgres?host={base}", errno.EINVAL, "it has no schema_info"),
        ("/postgres?host=/nowhere", errno.ENOTCONN, "check that PostgreSQL runs there"),
        ("127.0.0.1:1/postgres", errno.ENOTCONN, "check that PostgreSQL runs there"),
        ("no.such.host.invalid/postgres", errno.ENOTCONN, "check that PostgreSQL runs there"),
        ("host:port/postgres", errno.EINVAL, "dss.url"),
        ("a,b:1,c:2/postgres?port=1,2", errno.EINVAL, "dss.url"),
        ("/postgres?host={base}&nonsense=1", errno.EINVAL, "nonsense"),
        ("/postgres?host={base}&sslmode=sometimes", errno.EINVAL, "sslmode"),
        ("/postgres?host={base}&sslmode", errno.EINVAL, "dss.url"),
        ("/post%zzgres?host={base}", errno.EINVAL, "dss.url"),
    ],
)
def test_an_error_at_the_start_says_what_to_do(cluster: Cluster, place: str, number: int, text: str) -> None:
    error = start_error(f"postgresql://lrs:{quote(PASSWORD, safe='')}@{place.format(base=cluster.base)}")
    assert error.errno == number
    assert text in str(error)


@pytest.mark.parametrize(
    ("variable", "value"), [("PGSSLMODE", "sometimes"), ("PGPORT", "many"), ("PGTARGETSESSIONATTRS", "good")]
)
def test_a_variable_that_makes_no_sense_is_an_error_at_the_start(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    assert start_error(f"postgresql://lrs@/postgres?host={cluster.base}").errno == errno.EINVAL


def test_variables_that_do_not_fit_the_url(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGHOST", "a,b")
    monkeypatch.setenv("PGPORT", "1,2,3")
    error = start_error("postgresql:///postgres")
    assert error.errno == errno.EINVAL
    assert "3 ports for 2 hosts" in str(error)


def test_a_user_without_a_name_is_an_error_at_the_start(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    def getuser() -> str:
        raise KeyError("getpwuid(): uid not found: 12345")

    monkeypatch.setattr("getpass.getuser", getuser)
    error = start_error(f"postgresql:///postgres?host={cluster.base}")
    assert error.errno == errno.EINVAL
    assert "uid not found" in str(error)


def test_an_old_server_is_refused(settings: DssSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    old = ServerVersion(12, 22, 0, "final", 0)
    monkeypatch.setattr(asyncpg.Connection, "get_server_version", lambda _: old)
    error = start_error(settings.url)
    assert error.errno == errno.EINVAL
    assert "PostgreSQL 12 is too old; version 13 or newer" in str(error)


def test_another_version_of_the_schema_is_refused(settings: DssSettings, client: PhobosClient) -> None:
    client.execute("UPDATE schema_info SET version = '3.2'")
    error = start_error(settings.url)
    assert error.errno == errno.EINVAL
    assert "3.2" in str(error)


def test_a_command_gets_the_same_errors(cluster: Cluster) -> None:
    settings = DssSettings(url=f"postgresql://lrs:{quote(PASSWORD, safe='')}@/nothing?host={cluster.base}")
    with open_command_home(settings) as home, pytest.raises(LrsError, match="create the database") as refused:
        home.execute(ReadMedia())
    assert refused.value.errno == errno.ENOENT
    assert quote(PASSWORD, safe="") not in str(refused.value)


# What a session is like


def test_commits_wait_for_the_disk_whatever_the_site_finds_good_enough(
    settings: DssSettings, client: PhobosClient
) -> None:
    database = client.connection.info.dbname
    for of_the_site, ours in (("off", "on"), ("local", "local"), ("on", "on")):
        client.execute(f"ALTER DATABASE {database} SET synchronous_commit = {of_the_site}")
        assert ask(settings.url, "SHOW synchronous_commit") == ours


async def test_an_idle_session_wakes_nobody(settings: DssSettings) -> None:
    async with open_postgres_home(settings, DAEMON) as home:
        await home.commit([directory(), TakeLock(LockType.MEDIA, medium_id(), DAEMON)])
        await home.commit([ReadMedia()])
        await wait_all_tasks_blocked()
        assert trio.lowlevel.current_statistics().seconds_to_next_deadline == inf


def test_the_server_has_limits_too(settings: DssSettings) -> None:
    limits = Limits(lock=1.5, statement=2, silence=3)
    names = (
        "lock_timeout",
        "statement_timeout",
        "idle_in_transaction_session_timeout",
        "default_transaction_isolation",
    )
    assert [ask(settings.url, f"SHOW {name}", limits) for name in names] == ["1500ms", "2s", "3s", "read committed"]


def test_settings_for_the_server_come_from_the_url_or_variables(
    settings: DssSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGOPTIONS", "-c work_mem=5MB")
    monkeypatch.setenv("PGTZ", "Asia/Kathmandu")
    assert ask(settings.url, "SHOW work_mem") == "5MB"
    assert ask(settings.url, "SHOW timezone") == "Asia/Kathmandu"
    assert ask(f"{settings.url}&options=-c%20work_mem%3D6MB", "SHOW work_mem") == "6MB"


def test_what_only_libpq_knows_keeps_nobody_out(settings: DssSettings) -> None:
    assert ask(f"{settings.url}&connect_timeout=3&keepalives=1&application_name=mine", "SHOW application_name") == "lrs"
    assert not os.environ.get("PGCONNECT_TIMEOUT")
