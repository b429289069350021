"""The database goes away, in every way there is, while many tasks count: nothing is lost, nothing is counted twice."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import count
from signal import SIGCONT, SIGSTOP
from typing import Any

import psycopg
import pytest
import trio
from structlog.testing import capture_logs

from benchmarks.postgres import Cluster, StopMode, temporary_cluster
from lrs_trio.dss.operations import (
    AppendLog,
    Blocked,
    DeleteDirectory,
    DeleteMedium,
    MediumRow,
    Operation,
    ReadChangedMedia,
    ReadMedium,
    ReleaseLock,
    SetDeviceStatus,
    TakeLock,
)
from lrs_trio.dss.postgres.connection import Limits
from lrs_trio.dss.postgres.home import open_postgres_home
from lrs_trio.errors import LrsError
from lrs_trio.model import AdmStatus, LockType
from lrs_trio.settings import DssSettings
from tests.dss.samples import DAEMON, ELSEWHERE, device_id, directory, log_entry, medium_id

from .daemon import MEDIA, add_one, counted_attempts, counting, open_dss, until
from .phobos_client import PhobosClient, media_key

TAKE = TakeLock(LockType.MEDIA, medium_id("/srv/a"), DAEMON)
QUICK = Limits(connect=2.0, transaction=2.0, statement=1.0, lock=0.1, close=1.0)
"""For what a server does not answer, so that a test need not wait for it as long as a daemon."""


def assert_no_transaction_is_open(client: PhobosClient) -> None:
    assert {row["state"] for row in client.sessions()} <= {"idle"}


async def settled(client: PhobosClient) -> None:
    """Return once the sessions that have ended for us have ended on the server, too."""
    await until(lambda: len(client.sessions()) <= 1)
    assert_no_transaction_is_open(client)


# Connections that are lost


async def test_a_connection_cut_between_batches_costs_nobody_anything(
    settings: DssSettings, client: PhobosClient
) -> None:
    async with open_dss(settings, media=MEDIA) as dss:
        for number in range(1, 6):
            assert client.cut() == 1
            await dss.execute(add_one("/srv/a"))
            assert client.objects()["/srv/a"] == number
            assert dss.unavailable_since is None
        assert_no_transaction_is_open(client)


async def test_what_was_seen_over_an_earlier_connection_is_not_known_any_more(
    settings: DssSettings, client: PhobosClient
) -> None:
    """The server may be another one now."""
    look = ReadChangedMedia((medium_id("/srv/a"),), DAEMON)
    async with open_dss(settings, media=["/srv/a"]) as dss:
        await dss.execute(TakeLock(LockType.MEDIA, medium_id("/srv/a"), DAEMON))
        assert len(await dss.execute(look)) == 1
        assert await dss.execute(look) == ()
        client.cut()
        assert len(await dss.execute(look)) == 1
        assert await dss.execute(look) == ()


async def test_connections_cut_during_batches_lose_and_double_nothing(
    settings: DssSettings, client: PhobosClient
) -> None:
    cuts = 0
    async with open_dss(settings, media=MEDIA) as dss:
        async with counting(dss) as tally:
            while cuts < 15:
                await tally.more(1)
                cuts += client.cut()
        assert client.objects() == tally.objects
        assert dss.unavailable_since is None
        await settled(client)


@pytest.mark.parametrize("mode", ["fast", "immediate"])
async def test_a_server_that_restarts_is_waited_for(cluster: Cluster, settings: DssSettings, mode: StopMode) -> None:
    with capture_logs() as lines:
        async with open_dss(settings, media=MEDIA) as dss:
            async with counting(dss, tasks=64) as tally:
                for _ in range(3):
                    await tally.more(50)
                    await trio.to_thread.run_sync(cluster.stop, mode)
                    await until(lambda: dss.unavailable_since is not None)
                    await trio.to_thread.run_sync(cluster.start)
            assert dss.unavailable_since is None
            with psycopg.connect(settings.url, autocommit=True) as connection:
                client = PhobosClient(connection)
                assert client.objects() == tally.objects
                await settled(client)
    events = [line["event"] for line in lines]
    assert events.count("dss unavailable, operations wait") == events.count("dss available again") >= 3
    assert "error in the driver of the dss" not in events


async def test_a_server_with_too_many_clients_is_waited_for() -> None:
    few = {"superuser_reserved_connections": 0, "max_wal_senders": 0}
    with temporary_cluster(max_connections=3, settings=few) as small, ExitStack() as others:
        settings = DssSettings(url=small.phobos_database())

        def connect() -> psycopg.Connection:
            return others.enter_context(psycopg.connect(settings.url, autocommit=True))

        client = PhobosClient(connect())
        async with open_dss(settings, media=["/srv/a"]) as dss:
            client.cut()
            for _ in range(2):
                await until_connected(connect)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(dss.execute, add_one("/srv/a"))
                await until(lambda: dss.unavailable_since is not None)
                with pytest.raises(psycopg.OperationalError, match="too many clients"):
                    connect()
                assert client.objects() == {"/srv/a": 0}
                others.close()
            assert dss.unavailable_since is None
        with psycopg.connect(settings.url) as connection:
            assert PhobosClient(connection).objects() == {"/srv/a": 1}


async def until_connected(connect: object) -> None:
    """A place that has been given up is free a moment later."""
    assert callable(connect)

    def connected() -> bool:
        try:
            connect()
        except psycopg.OperationalError:
            return False
        return True

    await until(connected)


# Errors of transactions

FAILING = """
CREATE OR REPLACE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF nextval('attempts') <= 2 THEN
        RAISE EXCEPTION 'not now' USING ERRCODE = '%s';
    END IF;
    RETURN NEW;
END $$
"""
AT_THE_UPDATE = "CREATE TRIGGER fail BEFORE UPDATE ON media FOR EACH ROW EXECUTE FUNCTION fail()"
AT_THE_COMMIT = (
    "CREATE CONSTRAINT TRIGGER fail AFTER UPDATE ON media DEFERRABLE INITIALLY DEFERRED "
    "FOR EACH ROW EXECUTE FUNCTION fail()"
)
CODES = (
    "40001",  # serialization failure
    "40P01",  # deadlock
    "53100",  # disk full
    "25006",  # read-only
    "57014",  # cancelled
    "58030",  # I/O error
    "XX000",  # a defect of the server
)


@pytest.mark.parametrize("place", [AT_THE_UPDATE, AT_THE_COMMIT], ids=["update", "commit"])
async def test_a_transaction_that_fails_is_done_again(settings: DssSettings, client: PhobosClient, place: str) -> None:
    async with open_dss(settings, media=["/srv/a"]) as dss:
        client.execute("CREATE SEQUENCE attempts")
        client.execute(FAILING % "40001")
        client.execute(place)
        for number, code in enumerate(CODES, 1):
            client.execute(FAILING % code)
            client.execute("ALTER SEQUENCE attempts RESTART")
            with capture_logs() as lines:
                await dss.execute(add_one("/srv/a"))
            assert client.objects() == {"/srv/a": number}, code
            assert client.value("SELECT last_value FROM attempts") == 3, code
            assert lines[0]["event"] == "dss unavailable, operations wait", code
            assert dss.unavailable_since is None, code
        await settled(client)


async def test_another_default_isolation_changes_nothing(settings: DssSettings, client: PhobosClient) -> None:
    """Two hosts that count on the same media, in a database whose transactions are serializable by default."""
    client.execute(f"ALTER DATABASE {client.connection.info.dbname} SET default_transaction_isolation = serializable")
    with capture_logs() as lines:
        async with open_dss(settings, media=MEDIA) as here, open_dss(settings, ELSEWHERE) as there:
            async with counting(here) as ours, counting(there) as theirs:
                await ours.more(100)
                await theirs.more(100)
            assert client.objects() == ours.objects + theirs.objects
    assert "dss unavailable, operations wait" not in [line["event"] for line in lines]


async def test_a_deadlock_with_somebody_else_ends_and_loses_nothing(
    settings: DssSettings, client: PhobosClient
) -> None:
    """We take rows in the order of their names; who does not, and takes several, runs into us."""
    database = client.connection.info.dbname
    client.execute(f"ALTER DATABASE {database} SET deadlock_timeout = '20ms'")

    def deadlocks() -> int:
        found: int = client.value("SELECT deadlocks FROM pg_stat_database WHERE datname = %s", database)
        return found

    with psycopg.connect(settings.url) as other:
        async with open_dss(settings, media=MEDIA) as dss:
            async with counting(dss) as tally:
                for _ in range(1000):
                    await tally.more(1)
                    await trio.to_thread.run_sync(touch, other, "/srv/d", "/srv/a")
                    if deadlocks() > 1:
                        break
            assert deadlocks()
            assert client.objects() == tally.objects
            await settled(client)


def touch(connection: psycopg.Connection, *paths: str) -> None:
    try:
        for path in paths:
            connection.execute("UPDATE media SET tags = tags WHERE id = %s", (path,))
        connection.commit()
    except psycopg.errors.DeadlockDetected:
        connection.rollback()


async def test_a_row_that_somebody_keeps_is_waited_for(settings: DssSettings, client: PhobosClient) -> None:
    async with open_dss(settings, media=["/srv/a"], limits=QUICK) as dss:
        client.execute("BEGIN")
        client.execute("UPDATE media SET tags = '[\"new\"]'")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(dss.execute, add_one("/srv/a"))
            await until(lambda: dss.blockades)
            (blockade,) = dss.blockades
            assert (blockade.lock.type, blockade.lock.id) == (LockType.MEDIA_UPDATE, media_key())
            assert str(blockade.lock.owner) == f"pid {client.backend} on the server of the DSS (an open transaction)"
            assert dss.unavailable_since is None
            client.execute("COMMIT")
        assert not dss.blockades
        assert client.objects() == {"/srv/a": 1}
        assert client.medium()["tags"] == ["new"]
        await settled(client)


@pytest.mark.parametrize(
    "keep",
    [
        "UPDATE media SET tags = '[]' WHERE id = '/srv/a'",
        "SELECT 1 FROM media WHERE id = '/srv/a' FOR SHARE",
        "INSERT INTO lock (type, id, hostname, owner) VALUES ('media_update', '/srv/a_legacy', 'store2', 1)",
    ],
    ids=["row", "shared row", "lock"],
)
async def test_a_row_that_somebody_keeps_holds_up_only_who_needs_it(
    settings: DssSettings, client: PhobosClient, keep: str
) -> None:
    """Everybody waits for it once, and from then on nobody does."""
    kept, free = add_one("/srv/a"), add_one("/srv/b")
    async with open_postgres_home(settings, DAEMON, Limits(lock=1.0)) as home:
        await home.commit([directory("/srv/a"), directory("/srv/b")])
        (session,) = client.sessions()
        client.execute("BEGIN")
        client.execute(keep)
        with trio.fail_after(5):
            for _ in range(6):
                blocked, both, *others = await home.commit([kept, add_one("/srv/a", "/srv/b"), free, free, TAKE])
                assert isinstance(blocked, Blocked)
                assert isinstance(both, Blocked)
                assert not [other for other in others if isinstance(other, Blocked)]
                (row,) = await home.commit([ReadMedium(medium_id("/srv/a"))])
                assert isinstance(row, MediumRow)
        client.execute("ROLLBACK")
        assert client.sessions()[0]["pid"] == session["pid"]
        assert not [outcome for outcome in await home.commit([kept, free]) if isinstance(outcome, Blocked)]
    assert client.objects() == {"/srv/a": 1, "/srv/b": 13}
    assert list(client.locks()) == [("media", media_key())]


async def test_rows_that_were_kept_before_cost_an_attempt_each(
    settings: DssSettings, client: PhobosClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else each of them would have the others of its batch tried in halves, time and again."""
    attempts = counted_attempts(monkeypatch)
    paths = [f"/srv/{number}" for number in range(20)]
    async with open_postgres_home(settings, DAEMON, QUICK) as home:
        await home.commit([directory(path) for path in paths])
        await home.commit([TakeLock(LockType.MEDIA, medium_id(path), DAEMON) for path in paths])
        client.execute("BEGIN")
        client.execute("UPDATE lock SET timestamp = timestamp")
        releases = [ReleaseLock(LockType.MEDIA, medium_id(path), DAEMON) for path in paths]
        books = [add_one(path) for path in paths] * 10
        batch = [*books[:100], *releases, *books[100:]]
        await home.commit(batch)
        attempts.clear()
        outcomes = await home.commit(batch)
        assert [place for place, outcome in enumerate(outcomes) if isinstance(outcome, Blocked)] == [
            *range(100, 100 + len(releases))
        ]
        assert len(attempts) == 1 + len(releases)
        client.execute("ROLLBACK")
        assert await home.commit(releases) == [True] * len(releases)
    assert set(client.objects().values()) == {20}


@pytest.mark.parametrize(
    ("keep", "wanted"),
    [
        ("UPDATE device SET path = path", SetDeviceStatus(device_id("/srv/a"), AdmStatus.LOCKED)),
        ("INSERT INTO lock (type, id, hostname, owner) VALUES ('media', '/srv/a_legacy', 'x', 1)", TAKE),
        ("UPDATE media SET put = false", DeleteMedium(medium_id("/srv/a"))),
        ("UPDATE media SET put = false", DeleteDirectory(device_id("/srv/a"), medium_id("/srv/a"))),
    ],
    ids=["device", "lock", "medium", "directory"],
)
async def test_whoever_needs_a_row_that_somebody_keeps_is_told_that(
    settings: DssSettings, client: PhobosClient, keep: str, wanted: Operation[Any]
) -> None:
    async with open_postgres_home(settings, DAEMON, QUICK) as home:
        await home.commit([directory("/srv/a")])
        client.execute("BEGIN")
        client.execute(keep)
        blocked, logged = await home.commit([wanted, AppendLog(log_entry(0))])
        assert isinstance(blocked, Blocked)
        assert "an open transaction" in str(blocked.holder.owner)
        assert logged is None
        client.execute("ROLLBACK")
        (done,) = await home.commit([wanted])
        assert not isinstance(done, Blocked)


@pytest.mark.parametrize(
    ("change", "number"),
    [
        ("UPDATE device SET adm_status = 'unlocked'", errno.EBUSY),
        ("UPDATE media SET stats = jsonb_set(stats, '{nb_obj}', '1')", errno.ENOTEMPTY),
    ],
    ids=["device", "medium"],
)
async def test_what_is_about_to_be_put_into_service_or_written_is_not_deleted(
    settings: DssSettings, client: PhobosClient, change: str, number: int
) -> None:
    deletion = DeleteDirectory(device_id("/srv/a"), medium_id("/srv/a"))
    async with open_postgres_home(settings, DAEMON, QUICK) as home:
        await home.commit([directory("/srv/a")])
        client.execute("BEGIN")
        client.execute(change)
        (blocked,) = await home.commit([deletion])
        assert isinstance(blocked, Blocked)
        client.execute("COMMIT")
        (refused,) = await home.commit([deletion])
        assert isinstance(refused, LrsError)
        assert refused.errno == number


async def test_a_table_that_somebody_keeps_is_waited_for(settings: DssSettings, client: PhobosClient) -> None:
    async with open_dss(settings, media=["/srv/a"], limits=QUICK) as dss:
        client.execute("BEGIN")
        client.execute("LOCK TABLE media")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(dss.execute, add_one("/srv/a"))
            nursery.start_soon(dss.execute, ReadMedium(medium_id("/srv/a")))
            await until(lambda: dss.unavailable_since is not None)
            client.execute("COMMIT")
        assert client.objects() == {"/srv/a": 1}


# Servers that say nothing


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """A process that does nothing, and does not know it."""
    os.kill(pid, SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, SIGCONT)


async def test_a_server_that_hangs_is_given_up_and_waited_for(settings: DssSettings, client: PhobosClient) -> None:
    limits = Limits(connect=0.2, transaction=0.2, statement=0.1, lock=0.1, close=0.1)
    async with open_dss(settings, media=MEDIA, limits=limits) as dss:
        async with counting(dss) as tally:
            await tally.more(20)
            (session,) = client.sessions()
            with stopped(session["pid"]):
                await until(lambda: dss.unavailable_since is not None)
                before = tally.objects.copy()
                # The session that hangs holds our presence: no other one is taken in its place.
                await trio.sleep(0.5)
                assert tally.objects == before
            await tally.more(20)
        assert client.objects() == tally.objects
        assert dss.unavailable_since is None
        await settled(client)


async def test_a_home_can_be_left_while_its_server_hangs(settings: DssSettings, client: PhobosClient) -> None:
    limits = Limits(connect=0.2, transaction=30.0, close=0.1)
    async with open_dss(settings, media=["/srv/a"], limits=limits) as dss:
        (session,) = client.sessions()
        with stopped(session["pid"]):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(dss.execute, add_one("/srv/a"))
                await trio.sleep(0.05)
                nursery.cancel_scope.cancel()
    assert client.objects()["/srv/a"] in (0, 1)


# Servers that take no writes


async def test_a_server_that_takes_no_writes_is_waited_for(settings: DssSettings, client: PhobosClient) -> None:
    database = client.connection.info.dbname
    async with open_dss(settings, media=["/srv/a"]) as dss:
        client.execute(f"ALTER DATABASE {database} SET default_transaction_read_only = on")
        client.cut()
        with capture_logs() as lines:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(dss.execute, add_one("/srv/a"))
                await until(lambda: any("no server there takes writes" in line.get("error", "") for line in lines))
                assert dss.unavailable_since is not None
                client.execute(f"ALTER DATABASE {database} RESET default_transaction_read_only")
        assert client.objects() == {"/srv/a": 1}
        assert dss.unavailable_since is None


# Cancellation


async def test_a_batch_that_is_cancelled_anywhere_is_done_or_not_as_a_whole(
    settings: DssSettings, client: PhobosClient
) -> None:
    """A little later each time, until it is done: then from the beginning."""
    done = cancelled = 0
    async with open_postgres_home(settings, DAEMON) as home:
        await home.commit([directory("/srv/a"), directory("/srv/b")])
        for _ in range(3):
            for delay in count(0, 0.001):
                with trio.move_on_after(delay) as scope:
                    await home.commit([add_one("/srv/a"), add_one("/srv/b")])
                if not scope.cancelled_caught:
                    done += 1
                    break
                cancelled += 1
        await settled(client)
        a, b = client.objects().values()
        assert done <= a == b <= done + cancelled
        # It is good for more.
        assert await home.commit([ReadMedium(medium_id("/srv/c"))]) == [None]
    await until(lambda: not client.sessions())
    assert not client.locks()


async def test_a_home_that_is_left_by_a_cancellation_is_gone_from_the_server(
    settings: DssSettings, client: PhobosClient
) -> None:
    with trio.CancelScope() as scope:
        async with open_dss(settings, media=["/srv/a"]):
            assert len(client.sessions()) == 1
            scope.cancel()
            await trio.sleep_forever()
    assert scope.cancelled_caught
    assert not client.sessions()
