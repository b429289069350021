"""The connection is lost at the COMMIT, before, while or after the server does it: each count is made exactly once."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import psycopg
import pytest
import trio
from structlog.testing import capture_logs

from benchmarks.postgres import Cluster
from lrs_trio.dss.books import updated_medium
from lrs_trio.dss.group_commit import GroupCommit
from lrs_trio.dss.homes import open_command_home
from lrs_trio.dss.operations import MediumUpdate, ReadMedium, ReleaseLock, TakeLock
from lrs_trio.dss.postgres.bridge import asyncio_loop, cross
from lrs_trio.dss.postgres.connection import Limits
from lrs_trio.dss.postgres.doubt import Doubt, ServerState
from lrs_trio.dss.postgres.session import Session
from lrs_trio.dss.postgres.transaction import Change, Number
from lrs_trio.dss.processes import process_start_time
from lrs_trio.errors import CommitInDoubtError, DssUnavailableError
from lrs_trio.model import LockOwner, LockType, Medium
from lrs_trio.settings import DssSettings
from tests.dss.samples import COMMAND, DAEMON, directory, medium_id

from .daemon import add_one, counting, open_dss, until
from .phobos_client import PhobosClient
from .proxy import COMMIT, Link, Proxy, open_proxy

SLOW_COMMIT = """
CREATE FUNCTION wait_for_the_test() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock_shared(42);
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER slow AFTER UPDATE ON media DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION wait_for_the_test();
"""
"""A COMMIT of changed media goes on for as long as somebody holds the advisory lock 42."""


@pytest.fixture
async def proxy(cluster: Cluster, postgres_url: str, tmp_path: Path) -> AsyncIterator[Proxy]:
    async with open_proxy(cluster, postgres_url, tmp_path) as running:
        yield running


async def cut_before(link: Link) -> None:
    """The server never hears of the COMMIT, and notices at once that we are gone."""
    await link.hang_up()


async def cut_before_unnoticed(link: Link) -> None:
    """The server never hears of the COMMIT: the transaction stays open until somebody ends it."""
    link.muted = link.unnoticed = True
    await link.home.aclose()


async def cut_after(link: Link) -> None:
    """The server has done it, and its answer is lost."""
    link.muted = True
    await link.server.send_all(COMMIT)
    await link.answered.wait()
    await link.hang_up()


async def cut_during(link: Link) -> None:
    """The server gets the COMMIT and goes on with it while we are gone already."""
    link.muted = link.unnoticed = True
    await link.server.send_all(COMMIT)
    await link.home.aclose()


Cut = Callable[[Link], Awaitable[None]]


@pytest.fixture
async def dss(proxy: Proxy) -> AsyncIterator[GroupCommit]:
    async with open_dss(DssSettings(url=proxy.url), media=["/srv/a"]) as running:
        yield running


@contextmanager
def standby_away(client: PhobosClient) -> Iterator[None]:
    """Every COMMIT of others is to be confirmed by a standby that there is not."""
    client.execute("SET synchronous_commit = local")
    client.execute("ALTER SYSTEM SET synchronous_standby_names = 'away'")
    client.execute("SELECT pg_reload_conf()")
    try:
        yield
    finally:
        client.execute("ALTER SYSTEM RESET synchronous_standby_names")
        client.execute("SELECT pg_reload_conf()")


def waiting_for_standby(client: PhobosClient) -> list[int]:
    rows = client.execute("SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep'")
    return [row["pid"] for row in rows]


def looked_up(lines: list[dict[str, object]]) -> list[tuple[object, object, object]]:
    events = [line for line in lines if line["event"] == "a COMMIT without an answer was looked up"]
    return [(line["server"], line["rows"], line["committed"]) for line in events]


# A daemon whose connection is cut


@pytest.mark.parametrize(
    ("cut", "found"),
    [
        (cut_before, ("aborted", "not done", False)),
        (cut_before_unnoticed, ("aborted", "not done", False)),
        (cut_after, ("committed", "done", True)),
    ],
    ids=["before", "before, unnoticed", "after"],
)
async def test_a_count_is_made_once(
    dss: GroupCommit, proxy: Proxy, client: PhobosClient, cut: Cut, found: tuple[object, ...]
) -> None:
    with capture_logs() as lines:
        for count in range(1, 4):
            proxy.on_commit = cut
            await dss.execute(add_one("/srv/a"))
            assert client.objects() == {"/srv/a": count}
    assert looked_up([dict(line) for line in lines]) == [found] * 3
    assert dss.unavailable_since is None
    assert not client.locks()
    await until(lambda: [row["state"] for row in client.sessions()] == ["idle"])


async def test_a_commit_that_is_still_going_on_is_ended_and_done_again(
    dss: GroupCommit, proxy: Proxy, client: PhobosClient
) -> None:
    client.execute(SLOW_COMMIT)
    client.execute("SELECT pg_advisory_lock(42)")
    proxy.on_commit = cut_during
    with capture_logs() as lines:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(dss.execute, add_one("/srv/a"))
            # Again at the same place, and again in the way of the test.
            await until(lambda: proxy.commits == 3)
            assert client.objects() == {"/srv/a": 0}
            client.execute("SELECT pg_advisory_unlock(42)")
    assert client.objects() == {"/srv/a": 1}
    assert ("aborted", "not done", False) in looked_up([dict(line) for line in lines])


async def test_of_many_cut_commits_each_count_is_made_once(proxy: Proxy, client: PhobosClient) -> None:
    cuts: list[Cut] = [cut_before, cut_after, cut_before_unnoticed, cut_during]
    async with open_dss(DssSettings(url=proxy.url), media=["/srv/a", "/srv/b", "/srv/c", "/srv/d"]) as dss:
        async with counting(dss) as tally:
            for number in range(16):
                await tally.more(1)
                proxy.on_commit = cuts[number % len(cuts)]
                await until(lambda: proxy.on_commit is None)
        assert client.objects() == tally.objects
        assert dss.unavailable_since is None
        assert not client.locks()


@pytest.mark.parametrize("done", [False, True])
async def test_a_server_that_crashes_at_a_commit(
    cluster: Cluster, dss: GroupCommit, proxy: Proxy, postgres_url: str, done: bool
) -> None:
    """It loses what it has not committed, and keeps what it has."""
    crashed = trio.Event()

    async def crash(link: Link) -> None:
        if done:
            link.muted = True
            await link.server.send_all(COMMIT)
            await link.answered.wait()
        await trio.to_thread.run_sync(cluster.restart, "immediate")
        crashed.set()
        await link.hang_up()

    proxy.on_commit = crash
    with capture_logs() as lines:
        await dss.execute(add_one("/srv/a"))
    assert crashed.is_set()
    row = await dss.execute(ReadMedium(medium_id()))
    assert row is not None
    assert row.medium.stats.nb_obj == 1
    assert looked_up([dict(line) for line in lines]) == [
        ("committed", "done", True) if done else ("aborted", "not done", False)
    ]


@pytest.mark.parametrize("end", ["our limit", "cancel", "terminate"])
async def test_what_no_standby_has_is_not_acknowledged_however_the_wait_for_it_ends(
    settings: DssSettings, client: PhobosClient, end: str
) -> None:
    """The server says committed then, and a failover would lose it."""
    limits = Limits(transaction=0.3 if end == "our limit" else 40.0)
    acknowledged = 0

    async def add(running: GroupCommit) -> None:
        nonlocal acknowledged
        await running.execute(add_one("/srv/a"))
        acknowledged += 1

    async with open_dss(settings, media=["/srv/a"], limits=limits) as running, trio.open_nursery() as nursery:
        with standby_away(client):
            # The server takes a moment to be told.
            while not waiting_for_standby(client):
                nursery.start_soon(add, running)
                await trio.sleep(0.01)
            before = acknowledged
            for _ in range(3):
                await until(lambda: waiting_for_standby(client))
                (process,) = waiting_for_standby(client)
                if end != "our limit":
                    client.execute(f"SELECT pg_{end}_backend(%s)", process)
                await until(lambda: process not in waiting_for_standby(client))  # noqa: B023 called before the next
            assert running.unavailable_since is not None
            assert client.objects()["/srv/a"] > before == acknowledged
    assert client.objects() == {"/srv/a": acknowledged}


async def test_a_lock_taken_or_given_back_in_doubt_is_so_in_the_end(
    dss: GroupCommit, proxy: Proxy, client: PhobosClient
) -> None:
    for cut in (cut_before, cut_after, cut_before_unnoticed):
        proxy.on_commit = cut
        assert await dss.execute(TakeLock(LockType.MEDIA, medium_id(), DAEMON)) is None
        assert [row["owner"] for row in client.locks().values()] == [DAEMON.pid]
        proxy.on_commit = cut
        await dss.execute(ReleaseLock(LockType.MEDIA, medium_id(), DAEMON))
        assert not client.locks()


# A command, which has no presence: the process that it leaves behind is found by its transaction


async def test_a_command_ends_its_own_transaction_that_is_left_behind(proxy: Proxy, client: PhobosClient) -> None:
    def change() -> object:
        with open_command_home(DssSettings(url=proxy.url)) as home:
            return home.execute(add_one("/srv/a"))

    async with open_dss(DssSettings(url=proxy.url), media=["/srv/a"]):
        pass
    proxy.on_commit = cut_before_unnoticed
    with pytest.raises(DssUnavailableError, match="nothing was written"):
        await trio.to_thread.run_sync(change)
    assert client.objects() == {"/srv/a": 0}
    proxy.on_commit = cut_after
    await trio.to_thread.run_sync(change)
    assert client.objects() == {"/srv/a": 1}
    await until(lambda: not client.sessions())


async def test_a_command_that_cannot_look_says_so(
    proxy: Proxy, settings: DssSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def cut_for_good(link: Link) -> None:
        proxy.closed = True
        await cut_after(link)

    def change() -> object:
        with open_command_home(DssSettings(url=proxy.url)) as home:
            return home.execute(directory())

    monkeypatch.setattr("lrs_trio.dss.postgres.home.PATIENCE_S", 0.05)
    proxy.on_commit = cut_for_good
    with pytest.raises(DssUnavailableError, match="whether the change was written has to be looked at"):
        await trio.to_thread.run_sync(change)


# Sessions: what the server says of a number, and what else it can mean


@asynccontextmanager
async def open_session(settings: DssSettings) -> AsyncIterator[Session]:
    """One that ends nobody by its mere presence, with a directory added."""
    limits = Limits(ending=0.1)
    session = Session(settings.url, settings.shown, COMMAND, process_start_time, present=False, limits=limits)
    async with asyncio_loop():
        await cross(session.open)
        await cross(session.commit, [directory()])
        yield session
        await cross(session.close)


@pytest.fixture
async def session(settings: DssSettings) -> AsyncIterator[Session]:
    async with open_session(settings) as session:
        yield session


async def now(session: Session) -> Medium:
    (row,) = await cross(session.commit, [ReadMedium(medium_id())])
    medium: Medium = row.medium  # type: ignore[attr-defined]
    return medium


def state_of(client: PhobosClient) -> ServerState:
    """The life of the server that every session has now."""
    (row,) = client.execute(
        "SELECT pg_postmaster_start_time()::text AS started, pg_last_wal_replay_lsn()::text AS recovered_to"
    )
    return ServerState("00000001", **row)


EARLIER = ServerState("00000001", "yesterday", None)
FAILED_OVER = ServerState("0000000A", "yesterday", None)
FAR_BEHIND = "0/0"


def doubt_about(
    xid: str, server: ServerState, change: Change, *, backend: int = 0, position: str = FAR_BEHIND
) -> Doubt:
    number = Number(xid, position)
    return Doubt(number, server, backend, {change.before.id: change}, ["done"], repeatable=False)


def with_one_more(medium: Medium) -> Medium:
    return updated_medium(medium, MediumUpdate(medium.id, add_objects=1))


def committed_number(client: PhobosClient) -> str:
    return str(client.value("SELECT pg_current_xact_id()::text"))


def aborted_number(client: PhobosClient) -> str:
    client.execute("BEGIN")
    number = committed_number(client)
    client.execute("ROLLBACK")
    return number


async def test_a_number_that_somebody_else_got_after_a_crash_does_not_mislead(
    session: Session, client: PhobosClient
) -> None:
    """The server says committed; but the row is still as our transaction found it."""
    before = await now(session)
    change, number = Change(before, with_one_more(before)), committed_number(client)
    assert await cross(session.resolve, doubt_about(number, EARLIER, change)) is None
    # As long as the server lives it is to be believed.
    assert await cross(session.resolve, doubt_about(number, state_of(client), change)) == ["done"]


async def test_a_number_that_was_never_seen_is_one_that_was_lost_in_a_crash(
    session: Session, client: PhobosClient
) -> None:
    row = await now(session)
    number = str(int(committed_number(client)) + 1_000_000)
    # As if somebody had changed the row since: it says nothing.
    doubt = doubt_about(number, state_of(client), Change(with_one_more(row), with_one_more(with_one_more(row))))
    assert await cross(session.resolve, doubt) is None


async def test_how_far_the_log_got_tells_where_the_rows_say_nothing(cluster: Cluster, settings: DssSettings) -> None:
    """The number has been given out again, and its new owner has committed."""
    await trio.to_thread.run_sync(cluster.restart, "immediate")
    with psycopg.connect(settings.url, autocommit=True) as connection:
        client = PhobosClient(connection)
        async with open_session(settings) as session:
            row = await now(session)
            unknown = Change(with_one_more(row), with_one_more(with_one_more(row)))
            number, got_to = committed_number(client), state_of(client).recovered_to
            assert got_to is not None
            kept = doubt_about(number, EARLIER, unknown, position=got_to)
            assert await cross(session.resolve, kept) == ["done"]
            lost = doubt_about(number, EARLIER, unknown, position="FFFF/0")
            assert await cross(session.resolve, lost) is None
            # Not that crash: it was before the transaction.
            later = doubt_about(number, state_of(client), unknown, position="FFFF/0")
            assert await cross(session.resolve, later) == ["done"]


async def test_on_another_timeline_the_rows_decide(session: Session, client: PhobosClient) -> None:
    """After a failover: numbers that the old server gave out may be anybody's on the new one."""
    row = await now(session)
    for number in (aborted_number(client), committed_number(client)):
        not_done = doubt_about(number, FAILED_OVER, Change(row, with_one_more(row)))
        assert await cross(session.resolve, not_done) is None
        # The row is as a transaction left it that took away one.
        done = doubt_about(number, FAILED_OVER, Change(with_one_more(row), row))
        assert await cross(session.resolve, done) == ["done"]


async def test_where_nobody_knows_nothing_is_added_twice(session: Session, client: PhobosClient) -> None:
    row = await now(session)
    unknown = Change(with_one_more(row), with_one_more(with_one_more(row)))
    doubt = doubt_about(aborted_number(client), FAILED_OVER, unknown)
    with capture_logs() as lines:
        assert await cross(session.resolve, doubt) == ["done"]
    assert lines[-1]["log_level"] == "error"


async def test_a_transaction_in_progress_is_ended_if_it_is_the_very_one(session: Session, client: PhobosClient) -> None:
    before = await now(session)
    change, server = Change(before, with_one_more(before)), state_of(client)
    client.execute("BEGIN")
    number = committed_number(client)

    # Somebody else's process is left alone, whatever its number.
    with pytest.raises(DssUnavailableError, match="still in progress"):
        await cross(session.resolve, doubt_about(number, server, change, backend=client.backend + 1))
    assert client.value("SELECT 1") == 1

    assert await cross(session.resolve, doubt_about(number, server, change, backend=client.backend)) is None
    with pytest.raises(psycopg.OperationalError, match="terminating connection"):
        client.value("SELECT 1")


async def test_a_commit_that_ends_while_one_looks_counts(proxy: Proxy, client: PhobosClient, session: Session) -> None:
    client.execute(SLOW_COMMIT)
    client.execute("SELECT pg_advisory_lock(42)")
    through = Session(proxy.url, "proxy", LockOwner("store1", 4713), process_start_time, present=False)
    await cross(through.open)
    proxy.on_commit = cut_during
    with pytest.raises(CommitInDoubtError) as doubt:
        await cross(through.commit, [add_one("/srv/a")])
    client.execute("SELECT pg_advisory_unlock(42)")
    await until(lambda: client.objects() == {"/srv/a": 1})
    outcomes = await cross(doubt.value.resolve)
    assert outcomes is not None
    assert client.objects() == {"/srv/a": 1}
    await cross(through.close)


async def test_a_commit_that_says_nothing_is_given_up(proxy: Proxy, client: PhobosClient, session: Session) -> None:
    client.execute(SLOW_COMMIT)
    client.execute("SELECT pg_advisory_lock(42)")
    limits = Limits(transaction=0.1)
    through = Session(proxy.url, "proxy", LockOwner("store1", 4713), process_start_time, present=False, limits=limits)
    await cross(through.open)
    with pytest.raises(CommitInDoubtError, match="no answer in time") as doubt:
        await cross(through.commit, [add_one("/srv/a")])
    assert await cross(doubt.value.resolve) is None
    assert client.objects() == {"/srv/a": 0}
    await cross(through.close)


async def test_looking_up_can_be_cancelled_and_done_again(proxy: Proxy, client: PhobosClient, session: Session) -> None:
    through = Session(proxy.url, "proxy", LockOwner("store1", 4713), process_start_time, present=False)
    await cross(through.open)
    proxy.on_commit = cut_after
    with pytest.raises(CommitInDoubtError) as doubt:
        await cross(through.commit, [add_one("/srv/a")])
    proxy.deaf = True
    with trio.move_on_after(0.05) as scope:
        await cross(doubt.value.resolve)
    assert scope.cancelled_caught
    proxy.deaf = False
    assert await cross(doubt.value.resolve) is not None
    assert client.objects() == {"/srv/a": 1}
    await cross(through.close)
