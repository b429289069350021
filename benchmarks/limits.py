"""What this machine can do at best, measured in the same minute as the daemon."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from random import Random
from time import monotonic
from typing import Final

import apsw

from benchmarks.harness import Site
from benchmarks.load import Ledger, orders, read_all, run_load, until, write_all
from lrs_trio.storage.syncfs import syncfs

ECHO_CLIENTS: Final = 64
PATIENCE_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Limits:
    """Per second: syncfs calls of one thread, commits of one thread in a DSS of that kind, and cycles of 64 clients
    without files with a server that only answers: what remains when there is nothing but the frames.
    """

    syncfs: float
    commits: float
    echo_writes: float
    echo_reads: float


def measure_limits(site: Site, seconds: float) -> Limits:
    """What is possible here, now; about `seconds` for each. Not for a thread that runs trio."""
    return Limits(syncfs_rate(site.directories[0], seconds), commit_rate(site, seconds), *echo_rates(site, seconds))


def echo_rates(site: Site, seconds: float) -> tuple[float, float]:
    """Write and read cycles per second with a server that only answers."""
    writes, reads = Ledger(), Ledger()
    with echo_server(site) as path:
        wanted = until(monotonic() + seconds, orders(Random(1), copies=[1]))
        write_s = run_load(
            path,
            writes,
            ECHO_CLIENTS,
            lambda client: write_all(client, wanted, files=False),
            seconds=seconds + PATIENCE_S,
        )
        again = until(monotonic() + seconds, cycle(writes.acknowledged))
        read_s = run_load(
            path, reads, ECHO_CLIENTS, lambda client: read_all(client, again, files=False), seconds=seconds + PATIENCE_S
        )
    return len(writes.acknowledged) / write_s, reads.reads / read_s


def syncfs_rate(directory: Path, seconds: float) -> float:
    """Calls of syncfs per second by one thread, each after one small file was written."""
    file = directory / "syncfs-rate"
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)

    def write_and_sync() -> None:
        file.write_bytes(bytes(4096))
        syncfs(descriptor)

    try:
        return _rate(write_and_sync, seconds)
    finally:
        os.close(descriptor)
        file.unlink()


def commit_rate(site: Site, seconds: float) -> float:
    """Transactions of one small update per second, one after the other, where the DSS of `site` is."""
    if site.dss.is_postgres:
        return _postgres_commit_rate(site.dss_url, seconds)
    return _sqlite_commit_rate(site.base / "commit-rate.sqlite", seconds)


def _sqlite_commit_rate(file: Path, seconds: float) -> float:
    """On a file of its own, WAL with synchronous=FULL."""
    db = apsw.Connection(str(file))
    try:
        db.pragma("journal_mode", "wal")
        db.pragma("synchronous", "full")
        db.execute("CREATE TABLE t (n); INSERT INTO t VALUES (0)")
        return _rate(lambda: db.execute("UPDATE t SET n = n + 1"), seconds)
    finally:
        db.close()
        file.unlink()


def _postgres_commit_rate(url: str, seconds: float) -> float:
    """In a table of its own."""
    import psycopg

    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE TABLE commit_rate AS SELECT 0 AS n")
        try:
            return _rate(lambda: connection.execute("UPDATE commit_rate SET n = n + 1", prepare=True), seconds)
        finally:
            connection.execute("DROP TABLE commit_rate")


def _rate(act: Callable[[], object], seconds: float) -> float:
    """How often per second it can be done."""
    count = 0
    begun = monotonic()
    while (passed := monotonic() - begun) < seconds:
        act()
        count += 1
    return count / passed


@contextmanager
def echo_server(site: Site) -> Iterator[Path]:
    """The socket of a server that only answers."""
    path = site.base / "echo"
    command = [sys.executable, "-m", "benchmarks.echo", str(path), *map(str, site.directories)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) as server:
        try:
            if server.stdout is None or server.stdout.readline() != b"ready\n":
                raise RuntimeError("the echo server did not start")
            yield path
        finally:
            server.kill()
    path.unlink()
