"""What no table takes costs its own operation, whoever refuses it: the server, or the driver before it sends any."""

from __future__ import annotations

import errno
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import psycopg
import pytest
import trio

from benchmarks.postgres import Cluster
from lrs_trio.dss.group_commit import GroupCommit
from lrs_trio.dss.operations import (
    AddDevice,
    AddMedia,
    AppendLog,
    LogEntry,
    LoggedOperation,
    MediumRow,
    MediumUpdate,
    Operation,
    ReadDevice,
    ReadDevices,
    ReadHealthLog,
    ReadLog,
    ReadMedium,
    ReadNamedMedia,
    ReleaseLock,
    SetDeviceStatus,
    TakeLock,
    UpdateMedia,
)
from lrs_trio.dss.postgres.home import open_postgres_home
from lrs_trio.dss.postgres.schema import script
from lrs_trio.errors import LrsError
from lrs_trio.model import AdmStatus, Family, LockOwner, LockType, ResourceId
from lrs_trio.settings import DssSettings
from tests.dss.samples import DAEMON, HOST, LIBRARY, device_id, directory, drive, log_entry, medium_id, tape, tape_id

from .daemon import MEDIA, add_one, counted_attempts, open_dss
from .phobos_client import PhobosClient

NULL, HALF, LONG = "nul\0", "half \ud800", "x" * 3000
WRITES: dict[str, Operation[Any]] = {
    "null in a key": UpdateMedia((MediumUpdate(medium_id(NULL), add_objects=1),)),
    "half a character in a key": UpdateMedia((MediumUpdate(medium_id(HALF), add_objects=1),)),
    "null in a tag": UpdateMedia((MediumUpdate(medium_id(), tags=(NULL,)),)),
    "half a character in a grouping": UpdateMedia((MediumUpdate(medium_id(), add_groupings=(HALF,)),)),
    "null in a label": UpdateMedia((MediumUpdate(medium_id(), fs_label=NULL),)),
    "a long label": UpdateMedia(
        (MediumUpdate(medium_id("/srv/b"), add_objects=1), MediumUpdate(medium_id(), fs_label=LONG))
    ),
    "the lock of a long name": TakeLock(LockType.MEDIA, medium_id(LONG), DAEMON),
    "a lock with a null": ReleaseLock(LockType.MEDIA, medium_id(NULL), DAEMON),
    "a process beyond all numbers": TakeLock(LockType.MEDIA, medium_id(), LockOwner(HOST, 2**31)),
    "a long host": TakeLock(LockType.MEDIA, medium_id(), LockOwner(LONG, 1)),
    "an errno beyond all numbers": AppendLog(replace(log_entry(0), errno=-(2**40))),
    "an unknown cause": AppendLog(replace(log_entry(0), cause="coffee")),
    "a message with a null": AppendLog(replace(log_entry(0), message='{"a": "\\u0000"}')),
    "a device with half a character": SetDeviceStatus(device_id(HALF), AdmStatus.FAILED),
    "a long path": directory(LONG),
    "a drive with half a character": AddDevice(replace(drive(), path=HALF)),
    "a long model": AddMedia((tape("P1"), replace(tape("P2"), model=LONG))),
    "a medium with a null": AddMedia((tape("P1"), tape(NULL))),
}
READS: dict[str, Operation[Any]] = {
    "a medium with half a character to be read": ReadMedium(medium_id(HALF)),
    "a medium with half a character to be read with another one": ReadNamedMedia((medium_id(), medium_id(HALF))),
    "a device with half a character to be read": ReadDevice(device_id(HALF)),
    "the devices of a host with half a character": ReadDevices(None, HALF),
    "the log of a device with a null": ReadHealthLog(LIBRARY, medium_id().family, device=NULL),
}


@pytest.fixture
async def dss(settings: DssSettings) -> AsyncIterator[GroupCommit]:
    async with open_dss(settings, media=MEDIA) as running:
        yield running


async def test_what_is_refused_alone_is_an_error_and_changes_nothing(dss: GroupCommit, client: PhobosClient) -> None:
    before = client.execute("SELECT * FROM media ORDER BY id")
    for name, operation in (WRITES | READS).items():
        with pytest.raises(LrsError) as refused:
            await dss.execute(operation)
        assert refused.value.errno == errno.EINVAL, name
        assert "\n" not in str(refused.value), name
        assert [row["state"] for row in client.sessions()] == ["idle"], name
    assert client.execute("SELECT * FROM media ORDER BY id") == before
    assert not client.locks()
    assert client.value("SELECT count(*) FROM logs") == 0
    assert dss.unavailable_since is None


async def test_a_name_that_no_row_can_have_is_one_that_is_not_there(dss: GroupCommit) -> None:
    assert await dss.execute(ReadMedium(medium_id(NULL))) is None
    assert await dss.execute(ReadDevice(device_id(NULL))) is None
    assert await dss.execute(SetDeviceStatus(device_id(NULL), AdmStatus.FAILED)) is False


@pytest.mark.parametrize("kind", [WRITES, READS, WRITES | READS], ids=["writes", "reads", "both"])
async def test_what_is_refused_leaves_the_others_of_its_batch_alone(
    dss: GroupCommit, client: PhobosClient, kind: dict[str, Operation[Any]]
) -> None:
    refused: list[str] = []

    async def refuse(name: str, operation: Operation[Any]) -> None:
        with pytest.raises(LrsError):
            await dss.execute(operation)
        refused.append(name)

    before = dss.transactions
    async with trio.open_nursery() as nursery:
        for name, operation in kind.items():
            nursery.start_soon(refuse, name, operation)
            nursery.start_soon(
                dss.execute, add_one("/srv/c", "/srv/d") if kind is not READS else ReadMedium(medium_id())
            )
    assert dss.transactions == before + 1
    assert sorted(refused) == sorted(kind)
    counted = 0 if kind is READS else len(kind)
    assert client.objects() == {"/srv/a": 0, "/srv/b": 0, "/srv/c": counted, "/srv/d": counted}
    assert not client.locks()
    assert [row["state"] for row in client.sessions()] == ["idle"]


async def test_a_refusal_in_a_large_batch_costs_few_attempts(
    settings: DssSettings, client: PhobosClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each attempt crosses the link to the server several times: one by one a batch would not end before its limit."""
    attempts = counted_attempts(monkeypatch)
    batch: list[Operation[Any]] = [add_one("/srv/a"), ReadMedium(medium_id("/srv/b"))] * 256
    batch[300] = WRITES["null in a tag"]
    async with open_postgres_home(settings, DAEMON) as home:
        await home.commit([directory("/srv/a"), directory("/srv/b")])
        outcomes = await home.commit(batch)
    assert [place for place, outcome in enumerate(outcomes) if isinstance(outcome, LrsError)] == [300]
    assert client.objects() == {"/srv/a": 255, "/srv/b": 0}
    assert len(attempts) <= 1 + 2 * 9


async def test_the_reads_of_a_batch_see_its_writes_though_one_is_refused(settings: DssSettings) -> None:
    async with open_postgres_home(settings, DAEMON) as home:
        await home.commit([directory()])
        row, _, _ = await home.commit([ReadMedium(medium_id()), WRITES["null in a tag"], add_one("/srv/a")])
    assert isinstance(row, MediumRow)
    assert row.medium.stats.nb_obj == 1


async def test_log_rows_of_others_are_read_however_little_they_say(dss: GroupCommit, client: PhobosClient) -> None:
    client.execute("INSERT INTO logs (family, errno, library, time) VALUES ('tape', -5, 'legacy', NULL)")
    await dss.execute(AppendLog(LogEntry(drive().id, "P00001L8", 0, "Device load", "{}")))
    client.execute(
        "INSERT INTO logs (family, device, medium, errno, cause, message, library) "
        "VALUES ('tape', '', '', 0, 'Library scan', '[1]', 'legacy')"
    )
    unsaid = ResourceId(Family.TAPE, "", LIBRARY)
    oldest, own, newest = await dss.execute(ReadLog(Family.TAPE))
    assert oldest == LoggedOperation(unsaid, unsaid, -5, "", "{}", 0.0)
    assert (own.device, own.medium, own.cause) == (drive().id, tape_id(), "Device load")
    assert newest == LoggedOperation(unsaid, unsaid, 0, "Library scan", "[1]", newest.time)


async def test_rights_that_are_missing_cost_what_needs_them(settings: DssSettings, client: PhobosClient) -> None:
    client.execute("CREATE ROLE reader LOGIN")
    try:
        client.execute("GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader")
        async with open_dss(DssSettings(url=settings.url.replace("//lrs@", "//reader@"))) as dss:
            assert await dss.execute(ReadMedium(medium_id())) is None
            with pytest.raises(LrsError, match="permission denied for table lock") as refused:
                await dss.execute(TakeLock(LockType.MEDIA, medium_id(), DAEMON))
            assert refused.value.errno == errno.EINVAL
            assert dss.unavailable_since is None
    finally:
        client.execute("DROP OWNED BY reader; DROP ROLE reader")


async def test_text_that_is_not_in_the_encoding_of_the_database_costs_who_reads_it(cluster: Cluster) -> None:
    """A database without an encoding holds whatever bytes its clients have sent."""
    with psycopg.connect(cluster.url("postgres"), autocommit=True) as connection:
        connection.execute(b"CREATE DATABASE unencoded TEMPLATE template0 ENCODING 'SQL_ASCII'")
    url = cluster.url("unencoded")
    try:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(script().encode())
        async with open_dss(DssSettings(url=url), media=["/srv/a", "/srv/b"]) as dss:
            with psycopg.connect(url, autocommit=True) as connection:
                connection.execute(b"UPDATE media SET tags = '[\"\xe9\"]' WHERE id = '/srv/a'")
            with pytest.raises(LrsError, match="invalid byte sequence") as refused:
                await dss.execute(ReadMedium(medium_id("/srv/a")))
            assert refused.value.errno == errno.EINVAL
            async with trio.open_nursery() as nursery:
                nursery.start_soon(dss.execute, add_one("/srv/b"))
                with pytest.raises(LrsError, match="invalid byte sequence"):
                    await dss.execute(add_one("/srv/a"))
            row = await dss.execute(ReadMedium(medium_id("/srv/b")))
            assert row is not None
            assert row.medium.stats.nb_obj == 1
    finally:
        cluster.drop_database(url)
