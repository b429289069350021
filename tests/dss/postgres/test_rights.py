"""What docs/dss.md says that a role needs is enough for everything that the daemon and the commands do."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from benchmarks.postgres import Cluster
from lrs_trio.dss.homes import open_daemon_home
from lrs_trio.dss.operations import (
    AddDevice,
    AddMedia,
    AppendLog,
    DeleteDevice,
    DeleteDirectory,
    DeleteLocks,
    DeleteMedium,
    MediumUpdate,
    Operation,
    ReadChangedMedia,
    ReadDevice,
    ReadDevices,
    ReadHealthLog,
    ReadLocks,
    ReadLog,
    ReadMedia,
    ReadMedium,
    ReadNamedMedia,
    ReleaseLock,
    ReplaceLock,
    SetDeviceStatus,
    TakeLock,
    UpdateMedia,
)
from lrs_trio.dss.postgres.operations import HANDLERS
from lrs_trio.model import AdmStatus, Family, Lock, LockOwner, LockType
from lrs_trio.settings import DssSettings
from tests.dss.samples import (
    COMMAND,
    DAEMON,
    HOST,
    LIBRARY,
    device_id,
    directory,
    drive,
    log_entry,
    medium_id,
    tape,
    tape_id,
)

DOCS = Path(__file__).parents[3] / "docs" / "dss.md"


@pytest.fixture
def settings(cluster: Cluster, postgres_url: str) -> Iterator[DssSettings]:
    """A database of somebody else, with the rights for us that the documentation names."""
    (grants,) = re.findall(r"^```sql\n(.*?)^```$", DOCS.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(b"CREATE ROLE limited LOGIN")
        connection.execute(grants.replace("TO lrs;", "TO limited;").encode())
        yield DssSettings(url=postgres_url.replace("//lrs@", "//limited@"))
        connection.execute(b"DROP OWNED BY limited; DROP ROLE limited")


async def test_the_documented_rights_are_enough(settings: DssSettings) -> None:
    done: set[type[Operation[object]]] = set()
    async with open_daemon_home(settings, LockOwner(HOST, DAEMON.pid)) as home:

        async def commit(*operations: Operation[object]) -> list[object]:
            outcomes = await home.commit(operations)
            assert [outcome for outcome in outcomes if isinstance(outcome, Exception)] == []
            done.update(map(type, operations))
            return outcomes

        await commit(directory(), directory("/srv/b"))
        await commit(*(TakeLock(LockType.DEVICE, device_id(path), DAEMON) for path in ("/srv/a", "/srv/b")))
        (locks,) = await commit(ReadLocks())
        assert isinstance(locks, tuple)
        first, second = locks
        assert isinstance(first, Lock)
        await commit(ReplaceLock(first, COMMAND), DeleteLocks((second,)))
        await commit(ReleaseLock(LockType.DEVICE, device_id("/srv/a"), COMMAND))
        await commit(
            UpdateMedia((MediumUpdate(medium_id(), add_objects=1),)),
            SetDeviceStatus(device_id(), AdmStatus.FAILED),
            AppendLog(log_entry(-5)),
        )
        await commit(
            ReadDevices(Family.DIR, HOST),
            ReadDevice(device_id()),
            ReadMedia(Family.DIR),
            ReadMedium(medium_id()),
            ReadNamedMedia((medium_id(),)),
            ReadChangedMedia((medium_id(),), DAEMON),
            ReadHealthLog(LIBRARY, Family.DIR, device=device_id().name),
            ReadLog(Family.DIR),
        )
        await commit(DeleteDirectory(device_id(), medium_id(), with_objects=True))
        await commit(DeleteDirectory(device_id("/srv/b"), medium_id("/srv/b")))
        await commit(AddDevice(drive()), AddMedia((tape(),)))
        await commit(DeleteDevice(drive().id), DeleteMedium(tape_id()))
    assert done == set(HANDLERS)
