"""The books of media while clients of Phobos change the same rows: who waits for whom, and nothing is lost."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from typing import Any

import psycopg
import pytest
import trio
from structlog.testing import capture_logs

from lrs_trio.dss.books import LARGEST_FIGURE
from lrs_trio.dss.group_commit import GroupCommit
from lrs_trio.dss.homes import open_command_home
from lrs_trio.dss.operations import (
    AddDirectory,
    Blocked,
    MediumRow,
    MediumUpdate,
    Operation,
    ReadMedia,
    ReadMedium,
    ReadNamedMedia,
    TakeLock,
    UpdateMedia,
)
from lrs_trio.dss.postgres import bridge
from lrs_trio.dss.postgres.home import open_postgres_home
from lrs_trio.errors import DssUnavailableError, LrsError
from lrs_trio.model import AdmStatus, Device, Family, FsStatus, FsType, LockOwner, LockType, Medium, ResourceId
from lrs_trio.settings import DssSettings
from tests.dss.samples import DAEMON, ELSEWHERE, HOST, LIBRARY, directory, medium_id

from .daemon import MEDIA, add_one, counting, open_dss, until
from .phobos_client import PhobosClient, media_key

SEVEN = {"nb_obj", "logc_spc_used", "phys_spc_used", "phys_spc_free", "nb_load", "nb_errors", "last_load"}
UPDATE = LockType.MEDIA_UPDATE
KEY = media_key()
LIVING = LockOwner(HOST, os.getpid())
"""A client on our host whose process lives."""


@pytest.fixture
async def dss(settings: DssSettings) -> AsyncIterator[GroupCommit]:
    async with open_dss(settings, media=MEDIA) as running:
        yield running


@pytest.fixture
def watcher(postgres_url: str) -> Iterator[PhobosClient]:
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        yield PhobosClient(connection)


@pytest.fixture
def dead() -> LockOwner:
    """A process of our host that has ended."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    return LockOwner(HOST, process.pid)


def update(path: str = "/srv/a", **changes: Any) -> UpdateMedia:
    return UpdateMedia((MediumUpdate(medium_id(path), **changes),))


# A client holds the lock


@pytest.mark.parametrize("owner", [LIVING, ELSEWHERE])
async def test_figures_wait_for_a_client_while_the_rest_of_the_batch_goes_on(
    dss: GroupCommit, client: PhobosClient, owner: LockOwner
) -> None:
    client.lock(UPDATE, KEY, owner)
    read = client.stats()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(dss.execute, add_one("/srv/a"))
        nursery.start_soon(dss.execute, add_one("/srv/a", "/srv/b"))
        await dss.execute(add_one("/srv/c"))
        await dss.execute(update("/srv/a", put=False))  # no figures: no lock is needed
        await until(lambda: dss.blockades)

        (blockade,) = dss.blockades
        assert (blockade.lock.type, blockade.lock.id, blockade.lock.owner) == (UPDATE, KEY, owner)
        await until(lambda: dss.blockades[0].waiting == 2)
        assert client.objects() == {"/srv/a": 0, "/srv/b": 0, "/srv/c": 1, "/srv/d": 0}
        assert list(client.locks()) == [(UPDATE.value, KEY)]
        assert dss.unavailable_since is None

        client.set_stats(read | {"nb_obj": read["nb_obj"] + 100, "logc_spc_used": 7})
        assert client.unlock(UPDATE, KEY, owner)
    assert client.objects() == {"/srv/a": 102, "/srv/b": 1, "/srv/c": 1, "/srv/d": 0}
    assert client.stats()["logc_spc_used"] == 27
    assert client.medium()["put"] is False
    assert not client.locks()
    assert not dss.blockades


@pytest.mark.parametrize("change", [{"add_loads": 1}, {"add_errors": 1}, {"last_load": 5}])
async def test_the_counts_of_a_tape_wait_as_well(
    settings: DssSettings, client: PhobosClient, change: dict[str, Any]
) -> None:
    async with open_postgres_home(settings, DAEMON) as home:
        await home.commit([directory()])
        client.lock(UPDATE, KEY, LIVING)
        (blocked,) = await home.commit([update(**change)])
    assert isinstance(blocked, Blocked)
    assert not any(client.stats().values())


async def test_only_the_figures_of_a_medium_wait(settings: DssSettings, client: PhobosClient) -> None:
    async with open_postgres_home(settings, DAEMON) as home:
        await home.commit([directory(path) for path in MEDIA])
        client.lock(UPDATE, KEY, LIVING)
        blocked, flags, both, others = await home.commit(
            [
                add_one("/srv/a"),
                update("/srv/a", put=False),
                UpdateMedia((MediumUpdate(medium_id("/srv/b"), add_objects=1), MediumUpdate(medium_id(), get=False))),
                add_one("/srv/c"),
            ]
        )
    assert isinstance(blocked, Blocked)
    assert blocked.holder.owner == LIVING
    for answer in (flags, both, others):
        assert isinstance(answer, tuple)
        assert all(isinstance(medium, Medium) for medium in answer)
    row = client.medium()
    assert (row["put"], row["get"], row["stats"]["nb_obj"]) == (False, False, 0)
    assert client.objects() == {"/srv/a": 0, "/srv/b": 1, "/srv/c": 1, "/srv/d": 0}
    assert list(client.locks()) == [(UPDATE.value, KEY)]


async def test_a_command_waits_too_but_not_for_ever(
    settings: DssSettings, client: PhobosClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def change(path: str) -> object:
        with open_command_home(settings, host=HOST) as home:
            return home.commit([directory(path), add_one(path)])

    client.lock(UPDATE, media_key("/srv/b"), ELSEWHERE)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.to_thread.run_sync, change, "/srv/b")
        await until(lambda: client.objects() == {"/srv/b": 0})
        client.unlock(UPDATE, media_key("/srv/b"), ELSEWHERE)
    assert client.objects() == {"/srv/b": 1}

    monkeypatch.setattr("lrs_trio.dss.postgres.home.PATIENCE_S", 0.05)
    client.lock(UPDATE, KEY, ELSEWHERE)
    with pytest.raises(DssUnavailableError, match="pid 4711 on store2 holds the media_update lock on /srv/a_legacy"):
        await trio.to_thread.run_sync(change, "/srv/a")


async def test_a_client_and_a_daemon_that_count_at_once_lose_nothing(dss: GroupCommit, settings: DssSettings) -> None:
    """The client tries its lock as Phobos does, changes what it has read, and gives the lock back."""
    theirs = 0

    def count() -> None:
        nonlocal theirs
        with psycopg.connect(settings.url, autocommit=True) as connection:
            client = PhobosClient(connection)
            while theirs < 40:
                try:
                    client.lock(UPDATE, KEY, LIVING)
                except psycopg.errors.UniqueViolation:
                    continue
                read = client.stats()
                client.set_stats(read | {"nb_obj": read["nb_obj"] + 1})
                assert client.unlock(UPDATE, KEY, LIVING)
                theirs += 1

    async with counting(dss) as tally:
        await trio.to_thread.run_sync(count)
    with psycopg.connect(settings.url) as connection:
        objects = PhobosClient(connection).objects()
    assert theirs == 40
    assert objects["/srv/a"] == tally.objects["/srv/a"] + theirs
    assert all(objects[path] == tally.objects[path] for path in MEDIA[1:])


async def test_the_lock_of_a_dead_client_is_removed(dss: GroupCommit, client: PhobosClient, dead: LockOwner) -> None:
    client.lock(UPDATE, KEY, dead)
    with capture_logs() as lines:
        await dss.execute(add_one("/srv/a"))
    assert client.objects()["/srv/a"] == 1
    assert not client.locks()
    (line,) = lines
    assert (line["event"], line["owner"]) == ("lock of a dead process removed", str(dead))


async def test_a_weak_lock_is_none(dss: GroupCommit, client: PhobosClient) -> None:
    client.lock(UPDATE, KEY, LIVING, weak=True)
    await dss.execute(add_one("/srv/a"))
    assert client.objects()["/srv/a"] == 1
    assert not client.locks()


async def test_the_lock_of_an_older_process_with_our_number_is_removed(
    dss: GroupCommit, client: PhobosClient, settings: DssSettings
) -> None:
    ours = LockOwner("store9", os.getpid())
    client.lock(UPDATE, KEY, ours)
    client.execute("UPDATE lock SET timestamp = timestamp - interval '1 day'")
    async with open_dss(settings, ours) as later:
        await later.execute(add_one("/srv/a"))
    assert client.objects()["/srv/a"] == 1
    assert not client.locks()


async def test_media_of_two_families_with_one_name_share_a_lock(dss: GroupCommit, client: PhobosClient) -> None:
    """Their rows are two, the key of their lock is one."""
    tape = ResourceId(Family.TAPE, "/srv/a", LIBRARY)
    device = Device(ResourceId(Family.TAPE, "drive", LIBRARY), HOST, "/dev/st0")
    await dss.execute(AddDirectory(device, Medium(tape, FsType.LTFS)))
    both = UpdateMedia((MediumUpdate(medium_id(), add_objects=1), MediumUpdate(tape, add_objects=1)))

    await dss.execute(both)
    client.lock(UPDATE, KEY, ELSEWHERE)
    async with trio.open_nursery() as nursery:
        for change in both.updates:
            nursery.start_soon(dss.execute, UpdateMedia((change,)))
        await until(lambda: dss.blockades and dss.blockades[0].waiting == 2)
        client.unlock(UPDATE, KEY, ELSEWHERE)

    assert client.value("SELECT stats->>'nb_obj' FROM media WHERE family = 'dir' AND id = '/srv/a'") == "2"
    assert client.value("SELECT stats->>'nb_obj' FROM media WHERE family = 'tape'") == "2"
    assert not client.locks()


# We hold the lock


async def test_a_client_waits_for_our_transaction_and_then_has_its_lock(
    dss: GroupCommit, client: PhobosClient, watcher: PhobosClient, settings: DssSettings
) -> None:
    """It sees our lock only by waiting for it: never a row, never an error."""
    client.execute("BEGIN")
    client.execute("SELECT 1 FROM media WHERE id = '/srv/a' FOR UPDATE")
    with psycopg.connect(settings.url, autocommit=True) as connection:
        second = PhobosClient(connection)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(dss.execute, add_one("/srv/a"))
            await until(lambda: [row["waits_for"] for row in watcher.sessions()] == ["Lock"])
            assert not watcher.locks()
            nursery.start_soon(lock_in_thread, second)
            await until(lambda: waits(watcher, second.backend))
            client.execute("COMMIT")
        assert client.objects()["/srv/a"] == 1
        assert watcher.locks()[(UPDATE.value, KEY)]["owner"] == LIVING.pid


async def lock_in_thread(client: PhobosClient) -> None:
    await trio.to_thread.run_sync(client.lock, UPDATE, KEY, LIVING)


def waits(watcher: PhobosClient, backend: int) -> bool:
    found = watcher.value("SELECT wait_event_type FROM pg_stat_activity WHERE pid = %s", backend)
    return bool(found == "Lock")


# What is written


async def test_the_seven_figures_are_there_and_what_is_unknown_is_kept(dss: GroupCommit, client: PhobosClient) -> None:
    client.execute(
        """
        UPDATE media SET stats = '{"nb_obj": 1, "logc_spc_used": 2, "phys_spc_used": 3, "phys_spc_free": 4,
                                   "nb_errors": 9, "wear": {"a": [1.5]}}' WHERE id = '/srv/a'
        """
    )
    await dss.execute(update(add_objects=1))
    stats = client.stats()
    assert stats.keys() == SEVEN | {"wear"}
    assert stats["wear"] == {"a": [1.5]}
    assert (stats["nb_obj"], stats["nb_errors"], stats["nb_load"], stats["last_load"]) == (2, 9, 0, 0)
    assert all(isinstance(stats[key], int) for key in SEVEN)


async def test_figures_stop_at_zero_and_at_the_largest(dss: GroupCommit, client: PhobosClient) -> None:
    cases: list[tuple[dict[str, int], dict[str, int]]] = [
        ({"add_objects": -1}, {"nb_obj": 0}),
        ({"add_logical": -(2**63)}, {"logc_spc_used": 0}),
        ({"set_objects": -5}, {"nb_obj": 0}),
        ({"phys_spc_free": -1, "phys_spc_used": -1}, {"phys_spc_free": 0, "phys_spc_used": 0}),
        ({"add_logical": 2**63 - 1, "set_logical": 7}, {"logc_spc_used": LARGEST_FIGURE}),
        ({"set_logical": 2**70}, {"logc_spc_used": LARGEST_FIGURE}),
    ]
    for change, figures in cases:
        await dss.execute(update("/srv/a", **change))
        assert client.stats().items() >= figures.items()


async def test_what_is_not_changed_is_left_as_it_is_spelled(dss: GroupCommit, client: PhobosClient) -> None:
    client.execute(
        """
        UPDATE media SET tags = '["a", 1, null]', groupings = 'null', fs_label = NULL, put = NULL, model = 'x',
                         stats = '{"nb_obj": 1, "logc_spc_used": 2, "phys_spc_used": 3, "phys_spc_free": 4}'
        WHERE id = '/srv/a'
        """
    )
    before = client.medium()
    await dss.execute(update(get=False))
    assert client.medium() == before | {"get": False}
    await dss.execute(update(add_objects=1))
    after = client.medium()
    assert {**after, "stats": None} == {**before, "get": False, "stats": None}
    await dss.execute(update(tags=("b",), add_groupings=("g",), fs_label="/srv/a", put=True))
    assert client.medium() == after | {"tags": ["b"], "groupings": ["g"], "fs_label": "/srv/a", "put": True}


async def test_an_administrators_flags_and_tags_survive_our_books(
    dss: GroupCommit, client: PhobosClient, watcher: PhobosClient
) -> None:
    """A command changes the row while we wait for it."""
    client.execute("BEGIN")
    client.execute("UPDATE media SET put = false, adm_status = 'unlocked', tags = '[\"new\"]' WHERE id = '/srv/a'")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(dss.execute, update(add_objects=1, fs_status=FsStatus.EMPTY, mark_used=True))
        await until(lambda: [row["waits_for"] for row in watcher.sessions()] == ["Lock"])
        client.execute("COMMIT")
    row = client.medium()
    assert (row["put"], row["adm_status"], row["tags"], row["fs_status"]) == (False, "unlocked", ["new"], "used")
    assert row["stats"]["nb_obj"] == 1


async def test_a_medium_that_is_deleted_while_we_wait_is_gone(
    dss: GroupCommit, client: PhobosClient, watcher: PhobosClient
) -> None:
    answers: list[tuple[Medium | None, ...]] = []

    async def release() -> None:
        answers.append(await dss.execute(add_one("/srv/a", "/srv/b")))

    client.execute("BEGIN")
    client.execute("DELETE FROM media WHERE id = '/srv/a'")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(release)
        await until(lambda: [row["waits_for"] for row in watcher.sessions()] == ["Lock"])
        client.execute("COMMIT")
    ((gone, there),) = answers
    assert gone is None
    assert there is not None
    assert client.objects() == {"/srv/b": 1, "/srv/c": 0, "/srv/d": 0}
    assert not client.locks()


# Rows that cannot be read


MALFORMED = (
    None,
    "null",
    "[]",
    "{}",
    '{"nb_obj": -1, "logc_spc_used": 0, "phys_spc_used": 0, "phys_spc_free": 0}',
    '{"nb_obj": 1.5, "logc_spc_used": 0, "phys_spc_used": 0, "phys_spc_free": 0}',
    '{"nb_obj": 1, "logc_spc_used": 9223372036854775808, "phys_spc_used": 0, "phys_spc_free": 0}',
    '{"nb_obj": 1e400, "logc_spc_used": 0, "phys_spc_used": 0, "phys_spc_free": 0}',
)


DEPTH = 12_000
"""Of arrays in each other: more than any Python reads, and not too much for the server to keep."""


@pytest.mark.parametrize("tags", [f"[{'1' * 5000}]", "[" * DEPTH + "]" * DEPTH], ids=["long", "deep"])
async def test_tags_that_cannot_be_read_cost_their_own_medium_only(
    dss: GroupCommit, client: PhobosClient, tags: str
) -> None:
    client.execute("UPDATE media SET tags = %s WHERE id = '/srv/a'", tags)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(dss.execute, add_one("/srv/b"))
        with pytest.raises(LrsError, match="medium dir:legacy:/srv/a: its tags or groupings"):
            await dss.execute(add_one("/srv/a"))
    media = await dss.execute(ReadMedia())
    assert medium_id() not in [row.medium.id for row in media]
    assert client.objects() == {"/srv/a": 0, "/srv/b": 1, "/srv/c": 0, "/srv/d": 0}


async def test_a_malformed_row_costs_its_own_operations_only(dss: GroupCommit, client: PhobosClient) -> None:
    for count, stats in enumerate(MALFORMED, 1):
        client.execute("UPDATE media SET stats = %s WHERE id = '/srv/a'", stats)
        await assert_costs_its_own_operations_only(dss, client)
        assert client.value("SELECT stats->>'nb_obj' FROM media WHERE id = '/srv/b'") == str(count), stats


async def assert_costs_its_own_operations_only(dss: GroupCommit, client: PhobosClient) -> None:
    before = client.medium()
    refused = []

    async def refuse(operation: Operation[Any]) -> None:
        with pytest.raises(LrsError, match="malformed") as error:
            await dss.execute(operation)
        refused.append(error.value.errno)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(refuse, add_one("/srv/a"))
        nursery.start_soon(refuse, add_one("/srv/b", "/srv/a"))
        nursery.start_soon(refuse, update("/srv/a", put=False))
        nursery.start_soon(refuse, ReadMedium(medium_id()))
        nursery.start_soon(dss.execute, add_one("/srv/b"))
    assert len(refused) == 4
    malformed, row = await dss.execute(ReadNamedMedia((medium_id(), medium_id("/srv/b"))))
    assert isinstance(malformed, LrsError)
    assert "malformed" in str(malformed)
    assert isinstance(row, MediumRow)
    assert client.medium() == before
    assert not client.locks()


# Two hosts


async def test_two_hosts_that_count_on_the_same_media_agree(settings: DssSettings, client: PhobosClient) -> None:
    with capture_logs() as lines:
        async with (
            open_dss(settings, media=MEDIA) as here,
            open_dss(settings, ELSEWHERE) as there,
            counting(here, tasks=32) as ours,
            counting(there, tasks=32) as theirs,
        ):
            await ours.more(300)
            await theirs.more(300)
    assert client.objects() == ours.objects + theirs.objects
    assert lines == []


# Batches


async def test_a_batch_is_one_transaction_however_large(settings: DssSettings, client: PhobosClient) -> None:
    paths = [f"/srv/{number}" for number in range(100)]
    async with open_postgres_home(settings, DAEMON) as home:
        await home.commit([directory(path) for path in paths])
    async with open_dss(settings) as dss:
        await dss.execute(add_one(paths[0]))
        await dss.execute(update(paths[0], put=False))
        assert (dss.transactions, dss.largest_seen) == (2, 1)
        async with trio.open_nursery() as nursery:
            for path in paths:
                nursery.start_soon(dss.execute, add_one(path))
        assert (dss.transactions, dss.largest_seen, dss.operations) == (3, 100, 102)
    versions = client.execute("SELECT DISTINCT xmin::text AS version FROM media WHERE id <> '/srv/0'")
    assert len(versions) == 1
    assert set(client.objects().values()) == {1, 2}
    assert AdmStatus(client.medium(paths[1])["adm_status"]) is AdmStatus.LOCKED


async def test_a_batch_crosses_to_the_driver_once(settings: DssSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    crossings = 0

    async def cross(function: Any, *values: Any) -> Any:
        nonlocal crossings
        crossings += 1
        return await bridge.cross(function, *values)

    async with open_dss(settings, media=MEDIA) as dss:
        monkeypatch.setattr("lrs_trio.dss.postgres.home.cross", cross)
        async with trio.open_nursery() as nursery:
            for path in MEDIA:
                nursery.start_soon(dss.execute, add_one(path))
                nursery.start_soon(dss.execute, TakeLock(LockType.MEDIA, medium_id(path), DAEMON))
                nursery.start_soon(dss.execute, ReadMedium(medium_id(path)))
        assert crossings == 1
