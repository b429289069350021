"""What a daemon finds when it starts, and what it makes of it."""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from benchmarks.books import expected_locks, read_books
from benchmarks.harness import ANSWER_S, Site, format_media
from benchmarks.harness import running as lrsd_on
from benchmarks.postgres import Cluster
from benchmarks.sites import Sites
from lrs_trio.client import connect
from lrs_trio.dss.operations import ReadDevices, ReadLocks, ReleaseLock, SetDeviceStatus, TakeLock
from lrs_trio.model import AdmStatus, LockOwner, LockType, NotifyOperation
from lrs_trio.storage.root import LABEL_FILE
from lrs_trio.wire.messages import Notified, Notify
from tests.daemon.conftest import (
    books_of,
    change_dss,
    configure,
    device_of,
    logged,
    mounted,
    read,
    read_dss,
    serving,
    write,
)
from tests.processes import child

ELSEWHERE = LockOwner("elsewhere", 1)


def lrsd(site: Site, *settings: str) -> subprocess.CompletedProcess[str]:
    """Start `lrsd` where it cannot stay."""
    options = [option for setting in settings for option in ("--set", setting)]
    return subprocess.run(
        [sys.executable, "-m", "lrs_trio.cli.lrsd", "--config", str(site.config), *options],
        env={name: value for name, value in os.environ.items() if not name.startswith("LRS_")}
        | {"PYTHONPATH": os.pathsep.join(sys.path)},
        check=False,
        capture_output=True,
        text=True,
        timeout=ANSWER_S,
    )


def weaken(site: Site) -> None:
    """Make reservations of all locks, as clients make them when they want a medium soon."""
    weaken = "UPDATE lock SET is_weak = true"
    if site.dss.is_postgres:
        with psycopg.connect(site.dss_url) as database:
            database.execute(weaken)
    else:
        with closing(sqlite3.connect(site.dss.path, isolation_level=None)) as file:
            file.execute(weaken)


@contextmanager
def somebody() -> Iterator[subprocess.Popen[bytes]]:
    """A process that lives until it is killed."""
    with child(["sleep", "1000"]) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("other", ["nothing", "socket", "dss"])
def test_a_second_daemon_is_told_who_is_there(site: Site, other: str) -> None:
    changed = {
        "nothing": "log.level=debug",
        "socket": f"server.socket={site.base}/another",
        "dss": f"dss.url=sqlite://{site.base}/another.sqlite",
    }
    with lrsd_on(site) as daemon:
        second = lrsd(site, changed[other])
        assert second.returncode == errno.EEXIST == 17
        assert f"pid {daemon.pid} " in second.stderr
        assert "Traceback" not in second.stderr
        with connect(site.socket) as client:
            client.ping()
        daemon.terminate()
        assert daemon.wait() == 0
    assert not (site.base / "another").exists()


@pytest.mark.parametrize("kind", ["user", "group"])
def test_rights_of_somebody_whom_the_host_does_not_know_are_an_error(sqlite_site: Site, kind: str) -> None:
    done = lrsd(sqlite_site, f"access.{kind}s.none-of-that-name=admin")
    assert done.returncode == errno.EINVAL
    assert f"access.{kind}s.none-of-that-name: there is no such {kind} on this host" in done.stderr
    assert "Traceback" not in done.stderr
    assert not sqlite_site.socket.exists()


def test_a_daemon_of_another_host_may_use_the_same_dss(site: Site) -> None:
    with lrsd_on(site):
        other = Site(site.base / "other", (), "other", site.dss_url)
        other.base.mkdir()
        other.config.write_text(site.config.read_text())
        configure(other, server={"socket": str(other.socket)})
        other.config.write_text(other.config.read_text().replace('host = "bench"', 'host = "other"'))
        with lrsd_on(other) as daemon:
            daemon.terminate()
            assert daemon.wait() == 0


@pytest.mark.note("11")
def test_what_a_killed_daemon_leaves_never_blocks_the_next(site: Site) -> None:
    with lrsd_on(site) as killed:
        format_media(site)
        with connect(site.socket) as client:
            client.request(write(copies=2))
            killed.kill()
            killed.wait()
    assert stat.S_ISSOCK(site.socket.lstat().st_mode)
    assert read_books(site).locks == expected_locks(site, killed.pid)
    with lrsd_on(site) as daemon:
        books = read_books(site)
        assert books.locks == expected_locks(site, daemon.pid)
        assert books.not_unlocked == ()
        assert books.totals == dict.fromkeys(site.media, (0, 0))
        with connect(site.socket) as client, client.write(1000, copies=2) as allocation:
            assert {held.medium for held in allocation.media} == set(site.media)
        daemon.terminate()
        assert daemon.wait() == 0
    assert read_books(site).locks == frozenset()


def test_lock_files_with_any_content_do_not_matter(site: Site) -> None:
    (site.base / "lrs.lock").write_text(f"{os.getpid()}\n")
    if not site.dss.is_postgres:
        Path(f"{site.dss.path}.{site.host}.lock").write_bytes(b"\xff\0garbage" * 1000)
    with lrsd_on(site) as daemon:
        daemon.terminate()
        assert daemon.wait() == 0


@pytest.mark.parametrize("kind", ["file", "directory", "link"])
def test_what_is_no_socket_is_not_deleted(site: Site, kind: str) -> None:
    precious = site.base / "precious"
    precious.write_text("data")
    match kind:
        case "file":
            precious.rename(site.socket)
        case "directory":
            site.socket.mkdir()
        case "link":
            site.socket.symlink_to(precious)
    done = lrsd(site)
    assert done.returncode == errno.ENOTSOCK
    assert f"socket {site.socket}" in done.stderr
    assert "move it away" in done.stderr
    assert site.socket.is_dir() if kind == "directory" else site.socket.read_text() == "data"


@pytest.mark.parametrize(
    ("setting", "status", "says"),
    [
        ("server.socket={base}/missing/lrs", errno.ENOENT, "{base}/missing does not exist"),
        ("server.socket={base}/lrs.toml/lrs", errno.ENOTDIR, "is not a directory"),
        ("server.socket_group=no-such-group", errno.EINVAL, "no-such-group"),
    ],
)
def test_a_start_that_fails_says_why_in_a_line(site: Site, setting: str, status: int, says: str) -> None:
    refused(site, setting.format(base=site.base), status, says.format(base=site.base))


@pytest.mark.parametrize(
    ("file", "status", "says"),
    [("garbage", errno.EINVAL, "not an SQLite database"), ("d1", errno.EISDIR, "/d1: this is a directory")],
)
def test_a_start_without_an_sqlite_file_says_why(sqlite_site: Site, file: str, status: int, says: str) -> None:
    (sqlite_site.base / "garbage").write_bytes(b"this is no database\n" * 1000)
    refused(sqlite_site, f"dss.url=sqlite://{sqlite_site.base}/{file}", status, says)


def test_a_start_without_a_postgresql_database_says_why(sqlite_site: Site, cluster: Cluster) -> None:
    empty = cluster.create_database()
    refused(sqlite_site, f"dss.url={empty}", errno.EINVAL, "lrs dss init")
    cluster.drop_database(empty)
    refused(sqlite_site, f"dss.url={empty}", errno.ENOENT, "does not exist")
    nowhere = f"postgresql://somebody:secret@/phobos?host={sqlite_site.base}"
    refused(sqlite_site, f"dss.url={nowhere}", errno.ENOTCONN, "check that PostgreSQL runs there")


def refused(site: Site, setting: str, status: int, says: str) -> None:
    """A daemon with `setting` cannot start and `says` so in a line."""
    done = lrsd(site, setting)
    assert done.returncode == status
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert "secret" not in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not site.socket.exists()


async def test_the_service_manager_hears_of_start_and_end(site: Site) -> None:
    # `serving` itself waits for READY=1.
    async with serving(site) as running:
        running.interrupt()
        await running.told("STOPPING=1")
        assert await running.wait_ended() == 0


@pytest.fixture
def site_of_six(sites: Sites) -> Iterator[Site]:
    with sites.temporary(6) as made:
        yield made


async def test_directories_that_cannot_be_used_leave_the_others_alone(site_of_six: Site) -> None:
    site = site_of_six
    good, gone, unlabelled, foreign, replaced, locked = site.media
    async with serving(site) as running:
        await running.unharmed()
    shutil.rmtree(gone.name)
    Path(unlabelled.name, LABEL_FILE).unlink()
    Path(foreign.name, LABEL_FILE).write_text("/somewhere/else")
    shutil.rmtree(replaced.name)
    Path(replaced.name).symlink_to(good.name)
    await change_dss(site, SetDeviceStatus(device_of(site, locked), AdmStatus.LOCKED))
    async with serving(site, format=False) as running:
        found = {device["path"]: device for device in (await running.family())["devices"]}
        assert {path: device["status"] for path, device in found.items()} == {
            good.name: "mounted",
            gone.name: "failed",
            unlabelled.name: "failed",
            foreign.name: "failed",
            replaced.name: "failed",
        }
        assert "No such file" in found[gone.name]["reason"]
        assert "has no label; format it first" in found[unlabelled.name]["reason"]
        assert "/somewhere/else" in found[foreign.name]["reason"]
        assert good.name in found[replaced.name]["reason"]
        # Nothing is proven broken, so nothing is recorded as failed.
        assert set((await books_of(site)).not_unlocked) == {device_of(site, locked)}
        for _ in range(3):
            assert await running.write_cycle() == (good,)
        async with running.connect() as client:
            assert await client.refused(write(copies=2)) == errno.ENODEV
            assert await client.refused(read(gone)) == errno.ENODEV
        await running.unharmed()
        # Put right and told so, a directory is used without a restart.
        Path(unlabelled.name, LABEL_FILE).write_text(unlabelled.name)
        mended = device_of(site, unlabelled)
        await running.ask(Notify(mended, NotifyOperation.DEVICE_UNLOCK, wait=True), Notified)
        await running.until(lambda family: mounted(family) == 2)
        assert set(await running.write_cycle(copies=2)) == {good, unlabelled}


async def test_a_lock_of_a_living_process_is_waited_for(site: Site, lines: list[Any]) -> None:
    taken, free = site.media
    async with serving(site) as running:
        await running.unharmed()
    with somebody() as holder:
        owner = LockOwner(site.host, holder.pid)
        await change_dss(site, TakeLock(LockType.DEVICE, device_of(site, taken), owner))
        async with serving(site, format=False) as running:
            device = await running.device(taken)
            assert device["status"] == "waiting"
            assert str(owner) in device["reason"]
            assert await running.write_cycle() == (free,)
            line = await logged(lines, lambda line: line["event"] == "device waits for a lock")
            assert line["holder"] == str(owner)
            async with running.connect() as client:
                assert await client.refused(write(copies=2)) in (errno.ENODEV, errno.ENOSPC)
            holder.kill()
            await running.until(lambda family: mounted(family) == 2)
            assert set(await running.write_cycle(copies=2)) == {taken, free}
            assert (await books_of(site)).locks == expected_locks(site, os.getpid())


async def test_a_daemon_that_waits_for_a_lock_can_be_drained(site: Site) -> None:
    with somebody() as holder:
        owner = LockOwner(site.host, holder.pid)
        await change_dss(site, TakeLock(LockType.MEDIA, site.media[0], owner))
        async with serving(site, format=False) as running:
            assert (await running.device(site.media[0]))["status"] == "waiting"
        # The lock of the living one stays, ours on the device is gone.
        assert {lock[2] for lock in (await books_of(site)).locks} == {holder.pid}


@pytest.mark.parametrize("weak", [False, True])
@pytest.mark.parametrize("kind", [LockType.DEVICE, LockType.MEDIA])
async def test_a_lock_of_another_host_stays_and_keeps_the_device_waiting(
    site: Site, kind: LockType, weak: bool
) -> None:
    theirs, ours = site.media
    async with serving(site) as running:
        await running.unharmed()
    resource = device_of(site, theirs) if kind is LockType.DEVICE else theirs
    await change_dss(site, TakeLock(kind, resource, ELSEWHERE))
    if weak:
        weaken(site)
    async with serving(site, format=False) as running:
        device = await running.device(theirs)
        assert device["status"] == "waiting"
        assert str(ELSEWHERE) in device["reason"]
        assert await running.write_cycle() == (ours,)
        assert (await books_of(site)).not_unlocked == ()
    (lock,) = await read_dss(site, ReadLocks())
    assert (lock.owner, lock.type, lock.is_weak) == (ELSEWHERE, kind, weak)
    await change_dss(site, ReleaseLock(kind, resource, ELSEWHERE))
    async with serving(site, format=False) as running:
        assert set(await running.write_cycle(copies=2)) == {theirs, ours}


async def test_devices_of_another_host_are_not_touched(site: Site) -> None:
    async with serving(site, "host=neighbour", format=False) as running:
        assert (await running.family())["devices"] == []
        async with running.connect() as client:
            assert await client.refused(write()) == errno.ENOSPC
            assert (
                await client.refused(Notify(device_of(site, site.media[0]), NotifyOperation.DEVICE_ADD)) == errno.ENXIO
            )
    assert all(row.lock is None for row in await read_dss(site, ReadDevices()))
