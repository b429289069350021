"""Locks as section 2.2 of the facts has them, beside a client of Phobos that makes and deletes rows by itself."""

from __future__ import annotations

from collections.abc import AsyncIterator

import psycopg
import pytest
import trio

from lrs_trio.dss.group_commit import GroupCommit
from lrs_trio.dss.operations import (
    AddMedia,
    DeleteDirectory,
    DeleteLocks,
    DeleteMedium,
    ReadDevices,
    ReadLocks,
    ReadMedium,
    ReleaseLock,
    ReplaceLock,
    TakeLock,
)
from lrs_trio.errors import LrsError
from lrs_trio.model import Family, Lock, LockOwner, LockType, ResourceId
from lrs_trio.settings import DssSettings
from tests.dss.samples import COMMAND, DAEMON, ELSEWHERE, HOST, device_id, directory, medium_id, tape, tape_id

from .daemon import open_dss, until
from .phobos_client import PhobosClient, media_key

KEY = media_key()
TAKE = TakeLock(LockType.MEDIA, medium_id(), DAEMON)
RELEASE = ReleaseLock(LockType.MEDIA, medium_id(), DAEMON)


@pytest.fixture
async def dss(settings: DssSettings) -> AsyncIterator[GroupCommit]:
    async with open_dss(settings) as running:
        yield running


# Keys and owners


@pytest.mark.parametrize("time", ["infinity", "-infinity"])
async def test_a_lock_taken_at_no_time_that_ever_was_can_be_replaced_and_deleted(
    dss: GroupCommit, client: PhobosClient, time: str
) -> None:
    client.lock(LockType.MEDIA, KEY, COMMAND)
    client.execute("UPDATE lock SET timestamp = %s", time)
    (lock,) = await dss.execute(ReadLocks())
    assert await dss.execute(ReplaceLock(lock, DAEMON)) is True
    assert client.locks()[LockType.MEDIA.value, KEY]["owner"] == DAEMON.pid
    client.execute("UPDATE lock SET timestamp = %s", time)
    (lock,) = await dss.execute(ReadLocks())
    assert await dss.execute(DeleteLocks((lock,))) == 1


@pytest.mark.parametrize(
    ("type_", "resource", "key"),
    [
        (LockType.DEVICE, device_id(), "store1:/srv/a_legacy"),
        (LockType.MEDIA, medium_id(), "/srv/a_legacy"),
        (LockType.MEDIA_UPDATE, medium_id(), "/srv/a_legacy"),
        (LockType.MEDIA, ResourceId(Family.TAPE, "P00001L8", "lib_0"), "P00001L8_lib_0"),
    ],
)
async def test_a_lock_is_the_row_that_phobos_would_make(
    dss: GroupCommit, client: PhobosClient, type_: LockType, resource: ResourceId, key: str
) -> None:
    assert await dss.execute(TakeLock(type_, resource, DAEMON)) is None

    ((found, row),) = client.locks().items()
    assert found == (type_.value, key)
    assert (row["hostname"], row["owner"]) == ("store1", 4711)
    assert (row["is_weak"], row["last_locate"]) == (False, None)
    assert 0 <= row["age"].total_seconds() < 60


# Plain locks of clients


@pytest.mark.parametrize("owner", [COMMAND, ELSEWHERE])
async def test_a_strong_lock_of_somebody_else_stays(dss: GroupCommit, client: PhobosClient, owner: LockOwner) -> None:
    client.lock(LockType.MEDIA, KEY, owner)
    before = client.locks()[("media", KEY)]

    holder = await dss.execute(TAKE)

    assert holder is not None
    assert (holder.owner, holder.is_weak, holder.id) == (owner, False, KEY)
    assert await dss.execute(RELEASE) is False
    after = client.locks()[("media", KEY)]
    assert {**after, "age": None} == {**before, "age": None}


async def test_a_client_cannot_take_what_we_hold(dss: GroupCommit, client: PhobosClient) -> None:
    await dss.execute(TAKE)
    with pytest.raises(psycopg.errors.UniqueViolation):
        client.lock(LockType.MEDIA, KEY, COMMAND)
    assert client.unlock(LockType.MEDIA, KEY, COMMAND) is False
    assert await dss.execute(RELEASE) is True
    client.lock(LockType.MEDIA, KEY, COMMAND)


async def test_a_client_may_clean_by_force_and_we_find_nothing(dss: GroupCommit, client: PhobosClient) -> None:
    await dss.execute(TAKE)
    client.execute("DELETE FROM lock")
    assert await dss.execute(RELEASE) is False


async def test_a_lock_that_a_client_gives_up_while_we_take_it_is_ours(
    dss: GroupCommit, client: PhobosClient, postgres_url: str
) -> None:
    """Its DELETE has begun and is not committed when we come."""
    client.lock(LockType.MEDIA, KEY, COMMAND)
    client.execute("BEGIN")
    client.unlock(LockType.MEDIA, KEY, COMMAND)
    with psycopg.connect(postgres_url, autocommit=True) as second:
        watcher = PhobosClient(second)
        async with trio.open_nursery() as nursery:
            taken: list[Lock | None] = []

            async def take() -> None:
                taken.append(await dss.execute(TAKE))

            nursery.start_soon(take)
            await until(lambda: [row["waits_for"] for row in watcher.sessions()] == ["Lock"])
            client.execute("COMMIT")
    assert taken == [None]
    assert client.locks()[("media", KEY)]["owner"] == DAEMON.pid


# Weak locks


async def test_a_weak_lock_of_our_host_is_taken_over_and_its_locate_is_kept(
    dss: GroupCommit, client: PhobosClient
) -> None:
    client.lock(LockType.MEDIA, KEY, COMMAND, weak=True, located=True)
    client.execute("UPDATE lock SET timestamp = timestamp - interval '1 hour'")
    located = client.locks()[("media", KEY)]["last_locate"]
    assert located is not None

    assert await dss.execute(TAKE) is None

    row = client.locks()[("media", KEY)]
    assert (row["owner"], row["hostname"], row["is_weak"], row["last_locate"]) == (DAEMON.pid, HOST, False, located)
    assert row["age"].total_seconds() < 60


async def test_a_weak_lock_of_another_host_is_not_taken_over(dss: GroupCommit, client: PhobosClient) -> None:
    client.lock(LockType.MEDIA, KEY, ELSEWHERE, weak=True)

    holder = await dss.execute(TAKE)

    assert holder is not None
    assert (holder.owner, holder.is_weak) == (ELSEWHERE, True)


@pytest.mark.parametrize("owner", [DAEMON, COMMAND, ELSEWHERE])
async def test_anybody_may_unlock_a_weak_lock(dss: GroupCommit, client: PhobosClient, owner: LockOwner) -> None:
    client.lock(LockType.MEDIA, KEY, owner, weak=True)
    assert await dss.execute(RELEASE) is True
    assert not client.locks()


async def test_our_own_lock_made_weak_by_us_is_strong_when_taken_again(dss: GroupCommit, client: PhobosClient) -> None:
    client.lock(LockType.MEDIA, KEY, DAEMON, weak=True)
    assert await dss.execute(TAKE) is None
    assert client.locks()[("media", KEY)]["is_weak"] is False


async def test_a_locate_is_read(dss: GroupCommit, client: PhobosClient) -> None:
    await dss.execute(directory())
    await dss.execute(TAKE)
    client.execute("UPDATE lock SET last_locate = timestamp + interval '90 seconds'")
    row = await dss.execute(ReadMedium(medium_id()))
    assert row is not None
    assert row.lock is not None
    assert row.lock.last_locate is not None
    assert round(row.lock.last_locate - row.lock.timestamp, 3) == 90


# Rows that are replaced or deleted only if they are the very ones


async def test_a_row_made_anew_by_the_same_owner_is_another(dss: GroupCommit, client: PhobosClient) -> None:
    client.lock(LockType.MEDIA, KEY, COMMAND)
    (seen,) = await dss.execute(ReadLocks())
    client.execute("DELETE FROM lock")
    client.lock(LockType.MEDIA, KEY, COMMAND)

    assert await dss.execute(ReplaceLock(seen, DAEMON)) is False
    assert await dss.execute(DeleteLocks((seen,))) == 0

    (seen,) = await dss.execute(ReadLocks())
    assert await dss.execute(ReplaceLock(seen, DAEMON)) is True
    row = client.locks()[("media", KEY)]
    assert (row["owner"], row["is_weak"], row["last_locate"]) == (DAEMON.pid, False, None)
    assert row["age"].total_seconds() < 60


async def test_a_row_without_a_time_or_with_nulls_is_one_like_others(dss: GroupCommit, client: PhobosClient) -> None:
    client.lock(LockType.MEDIA, KEY, COMMAND)
    client.execute("UPDATE lock SET timestamp = NULL, is_weak = NULL")

    (seen,) = await dss.execute(ReadLocks())
    assert (seen.owner, seen.is_weak) == (COMMAND, False)
    assert await dss.execute(TAKE) == seen
    assert await dss.execute(RELEASE) is False
    assert await dss.execute(ReplaceLock(seen, DAEMON)) is True
    client.execute("UPDATE lock SET timestamp = NULL")
    assert await dss.execute(DeleteLocks(tuple(await dss.execute(ReadLocks())))) == 1


async def test_the_zone_of_the_database_makes_no_difference(settings: DssSettings, client: PhobosClient) -> None:
    """The columns have none: what is there is what a session's zone made of the time."""
    client.execute(f"ALTER DATABASE {client.connection.info.dbname} SET timezone = 'Asia/Kathmandu'")
    with psycopg.connect(settings.url, autocommit=True) as connection:
        there = PhobosClient(connection)
        there.lock(LockType.MEDIA, KEY, COMMAND)
        now = float(there.value("SELECT extract(epoch FROM clock_timestamp())"))
        async with open_dss(settings) as dss:
            (seen,) = await dss.execute(ReadLocks())
            assert abs(seen.timestamp - now) < 60
            assert await dss.execute(ReplaceLock(seen, DAEMON)) is True
        assert there.locks()[("media", KEY)]["age"].total_seconds() < 60


# Types that are not ours


async def test_locks_of_clients_among_themselves_are_left_alone(dss: GroupCommit, client: PhobosClient) -> None:
    client.execute("INSERT INTO lock (type, id, hostname, owner) VALUES ('extent', 'x', 'store1', 1)")
    client.lock(LockType.OBJECT, "an object", COMMAND)
    (seen,) = await dss.execute(ReadLocks())
    assert (seen.type, seen.id) == (LockType.OBJECT, "an object")
    assert len(client.locks()) == 2


# Directories that are deleted


@pytest.mark.parametrize(
    ("type_", "key"), [(LockType.DEVICE, "store1:/srv/a_legacy"), (LockType.MEDIA, "/srv/a_legacy")]
)
async def test_a_directory_that_a_client_has_locked_is_not_deleted(
    dss: GroupCommit, client: PhobosClient, type_: LockType, key: str
) -> None:
    await dss.execute(directory())
    client.lock(type_, key, ELSEWHERE)
    with pytest.raises(LrsError, match="pid 4711 on store2 holds a lock"):
        await dss.execute(DeleteDirectory(device_id(), medium_id()))
    assert list(client.locks()) == [(type_.value, key)]
    client.execute("DELETE FROM lock")
    await dss.execute(DeleteDirectory(device_id(), medium_id()))
    assert await dss.execute(ReadDevices()) == ()
    assert not client.locks()


@pytest.mark.parametrize("weak", [False, True])
@pytest.mark.parametrize("owner", [COMMAND, ELSEWHERE])
async def test_a_medium_that_a_client_has_locked_or_reserved_is_not_deleted(
    dss: GroupCommit, client: PhobosClient, owner: LockOwner, weak: bool
) -> None:
    await dss.execute(AddMedia((tape(),)))
    client.lock(LockType.MEDIA, "P00001L8_legacy", owner, weak=weak)
    with pytest.raises(LrsError, match=f"{owner} holds a lock"):
        await dss.execute(DeleteMedium(tape_id()))
    assert list(client.locks()) == [("media", "P00001L8_legacy")]
    client.execute("DELETE FROM lock")
    await dss.execute(DeleteMedium(tape_id()))
    assert client.execute("SELECT * FROM media") == []
    assert not client.locks()


# Two daemons


async def test_two_hosts_that_want_everything_at_once_share_it_out(settings: DssSettings) -> None:
    resources = [medium_id(f"/srv/{number}") for number in range(40)]
    got: dict[LockOwner, set[ResourceId]] = {DAEMON: set(), ELSEWHERE: set()}

    async def take(dss: GroupCommit, resource: ResourceId, owner: LockOwner) -> None:
        if await dss.execute(TakeLock(LockType.MEDIA, resource, owner)) is None:
            got[owner].add(resource)

    async with open_dss(settings) as here, open_dss(settings, ELSEWHERE) as there:
        async with trio.open_nursery() as nursery:
            for forwards, backwards in zip(resources, reversed(resources), strict=True):
                nursery.start_soon(take, here, forwards, DAEMON)
                nursery.start_soon(take, there, backwards, ELSEWHERE)
        locks = await here.execute(ReadLocks())
    assert got[DAEMON].isdisjoint(got[ELSEWHERE])
    assert got[DAEMON] | got[ELSEWHERE] == set(resources)
    assert {lock.owner for lock in locks} == {owner for owner, mine in got.items() if mine}
