"""The lock table: what a daemon takes, takes over and leaves alone."""

from __future__ import annotations

import errno
import json
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import pytest

from lrs_trio.model import LockOwner, RequestKind
from lrs_trio.wire.messages import Status, StatusReport
from tests.interop.conftest import MakeDirectory, MakeHost, MakePhobos, refusal, until
from tests.interop.host import Directory, StorageHost
from tests.interop.phobos import Phobos
from tests.interop.tables import expected_rows
from tests.interop.transfers import Target, get, put, putting, raid1, run
from tests.interop.wire import Connection

CONTENT = b"c" * 1000

NO_PROCESS: Final = 2_000_000_000
"""Larger than any process id."""


@pytest.fixture
def host(make_host: MakeHost) -> StorageHost:
    return make_host("store1")


@pytest.fixture
def client(host: StorageHost, make_phobos: MakePhobos) -> Phobos:
    return make_phobos(host)


def known(client: Phobos, *names: str) -> list[Directory]:
    """Directories that an earlier daemon has formatted."""
    directories = [client.host.directory(name) for name in names]
    client.dir_known(*directories)
    return directories


def test_what_a_daemon_holds_while_it_serves(host: StorageHost, client: Phobos) -> None:
    """Only devices that are unlocked, and of this host. Start and end of a daemon change nothing but the locks.

    A failure in the log does not fail anything by itself.
    """
    d1, blank, locked, elsewhere = known(client, "1", "2", "3", "4")
    client.database.update_medium(blank, fs_status="blank")
    client.database.set_device(locked, "locked")
    client.database.write("UPDATE device SET host = 'store2' WHERE id = %s", elsewhere.device.name)
    client.database.write(
        "INSERT INTO logs (family, device, medium, errno, cause, message, library)"
        " VALUES ('dir', %s, %s, -5, 'LTFS sync', '{}', 'legacy')",
        d1.device.name,
        d1.medium.name,
    )
    with expected_rows(client.database.connection) as rows:
        host.start()
        assert d1.locks == {"device": f"store1:{d1.path}_legacy", "media": f"{d1.path}_legacy"}
        rows.serve(d1, host.owner)
        rows.serve(blank, host.owner)
    with expected_rows(client.database.connection) as rows:
        host.drain()
        rows.release(d1)
        rows.release(blank)


def strong(client: Phobos, type_: str, id_: str, owner: LockOwner, **columns: object) -> None:
    """A row as another process would have left it an hour ago."""
    client.database.write(
        "INSERT INTO lock (type, id, hostname, owner, timestamp, is_weak, last_locate)"
        " VALUES (%s, %s, %s, %s, localtimestamp - interval '1 hour', %s, %s)",
        type_,
        id_,
        owner.host,
        owner.pid,
        columns.get("is_weak", False),
        columns.get("last_locate"),
    )


def test_what_a_dead_daemon_of_this_host_has_left_is_replaced(host: StorageHost, client: Phobos) -> None:
    """Also of what is served no more. Other hosts' rows, and those of objects, stay."""
    (d1,) = known(client, "1")
    dead, other = LockOwner("store1", NO_PROCESS), LockOwner("store2", NO_PROCESS)
    for type_, id_ in [*d1.locks.items(), ("media_update", d1.locks["media"])]:
        strong(client, type_, id_, dead)
    for type_ in ("device", "media", "media_update"):
        strong(client, type_, "gone_legacy", dead)
        strong(client, type_, "of another host_legacy", other)
    strong(client, "object", "put by somebody", dead)
    with expected_rows(client.database.connection) as rows:
        host.start()
        rows.serve(d1, host.owner)
        rows.unlock("media_update", d1.locks["media"])
        for type_ in ("device", "media", "media_update"):
            rows.unlock(type_, "gone_legacy")
    with expected_rows(client.database.connection) as rows:
        host.drain()
        rows.release(d1)


def test_a_daemon_that_was_killed_is_succeeded(host: StorageHost, client: Phobos) -> None:
    (d1,) = known(client, "1")
    host.start()
    put(client, "before", CONTENT)
    writing = putting(client, [Target("never released", CONTENT)])
    assert next(writing) == "granted"
    killed = host.owner
    host.kill()
    writing.close()
    assert len(client.database.locks(killed)) == 2
    with expected_rows(client.database.connection) as rows:
        host.start()
        rows.serve(d1, host.owner)
    assert client.database.device(d1)["adm_status"] == "unlocked"
    assert get(client, "before") == CONTENT
    put(client, "after", CONTENT)


def test_weak_locks_for_this_host_are_adopted(host: StorageHost, client: Phobos) -> None:
    """Whoever has made them: a client on another host may have reserved the medium for this one."""
    d1, d2 = known(client, "1", "2")
    (clock,) = client.database.rows("SELECT localtimestamp AS now")
    owner = LockOwner("store1", NO_PROCESS)
    strong(client, "media", d1.locks["media"], owner, is_weak=True, last_locate=clock["now"])
    strong(client, "media", d2.locks["media"], client.database.owner, is_weak=True)
    with expected_rows(client.database.connection) as rows:
        host.start()
        rows.serve(d1, host.owner)
        rows.lock("media", d1.locks["media"], host.owner, last_locate=clock["now"])
        rows.serve(d2, host.owner)


def test_a_weak_lock_is_adopted_when_a_device_is_unlocked(phobos: Phobos, directory: MakeDirectory) -> None:
    d1 = directory("1")
    phobos.dir_ready(d1)
    phobos.device_lock(d1)
    phobos.database.lock("media", d1.locks["media"], weak=True)
    with expected_rows(phobos.database.connection) as rows:
        phobos.dir_unlock(d1)
        rows.device(d1, adm_status="unlocked")
        rows.serve(d1, phobos.host.owner)


def test_locks_of_another_host_are_in_the_way(host: StorageHost, client: Phobos) -> None:
    """Weak or not. The others are served, and the end of this daemon takes none of them away."""
    d1, d2, d3 = known(client, "1", "2", "3")
    other = LockOwner("store2", NO_PROCESS)
    strong(client, "media", d1.locks["media"], other)
    strong(client, "media", d2.locks["media"], other, is_weak=True)
    with expected_rows(client.database.connection) as rows:
        host.start()
        rows.serve(d3, host.owner)
        for waits in (d1, d2):
            rows.lock("device", waits.locks["device"], host.owner)
    put(client, "object", CONTENT)
    assert refusal(put, client, "two of them", CONTENT, layout=raid1(2)) == (errno.ENOSPC, RequestKind.WRITE)
    with expected_rows(client.database.connection) as rows:
        host.drain()
        rows.release(d3)
        for waits in (d1, d2):
            rows.unlock("device", waits.locks["device"])


def test_locate_keeps_writers_away(host: StorageHost, client: Phobos) -> None:
    """For as long as locate_lock_expirancy says; last_locate is the only column that locate writes."""
    host.start(lrs={"locate_lock_expirancy": 3_600_000})
    d1, d2 = host.directory("1"), host.directory("2")
    client.dir_ready(d1)
    put(client, "object", CONTENT)
    client.dir_ready(d2)
    with expected_rows(client.database.connection) as rows:
        assert client.locate("object") == "store1"
        rows.lock("media", d1.locks["media"], host.owner)
        lock = client.database.lock_of("media", d1.medium)
        assert lock is not None
        rows.update("lock", ("media", d1.locks["media"]), timestamp=lock["timestamp"], last_locate=lock["last_locate"])
        assert lock["last_locate"] >= rows.since > lock["timestamp"]
    with expected_rows(client.database.connection) as rows:
        for number in range(3):
            put(client, f"another {number}", CONTENT)
            rows.count(d2, 1, len(CONTENT))
        # Whoever has located it reads it.
        assert get(client, "object") == CONTENT
    client.configure(("lrs", "locate_lock_expirancy", "0"))
    put(client, "on both", CONTENT, layout=raid1(2))


def waits_for(connection: Connection) -> list[str]:
    """The types of the locks that the daemon says it waits for."""
    report = json.loads(connection.ask(1, Status(), StatusReport).status)
    return [blockade["lock"] for blockade in report["daemon"]["dss"]["waits_for"]]


def test_a_lock_of_type_media_update_is_waited_for(
    phobos: Phobos, directory: MakeDirectory, make_phobos: MakePhobos
) -> None:
    """A client changes figures meanwhile: nothing is lost of what either writes. The daemon's own is never seen."""
    d1 = directory("1")
    phobos.dir_ready(d1)
    writing = putting(phobos, [Target("object", CONTENT)])
    assert next(writing) == "granted"
    id_ = d1.locks["media"]
    phobos.database.lock("media_update", id_)
    with expected_rows(phobos.database.connection) as rows, ThreadPoolExecutor() as threads:
        released = threads.submit(run, writing)
        with make_phobos(phobos.host).command() as command:
            report = command.connect()
            until(lambda: waits_for(report) == ["media_update"], "the daemon waits for the lock")
        phobos.database.update_medium(d1, tags=["changed"])
        phobos.database.unlock("media_update", id_)
        released.result()
        rows.unlock("media_update", id_)
        rows.medium(d1, tags=["changed"])
        rows.count(d1, 1, len(CONTENT))
