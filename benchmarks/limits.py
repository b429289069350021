"""What this machine can do at best, measured in the same minute as the daemon."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic

import apsw

from benchmarks.harness import Site
from lrs_trio.storage.syncfs import syncfs


def syncfs_rate(directory: Path, seconds: float) -> float:
    """Calls of syncfs per second by one thread, each after one small file was written."""
    file = directory / "syncfs-rate"
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        calls = 0
        begun = monotonic()
        while (passed := monotonic() - begun) < seconds:
            file.write_bytes(calls.to_bytes(4096, "big"))
            syncfs(descriptor)
            calls += 1
    finally:
        os.close(descriptor)
        file.unlink()
    return calls / passed


def commit_rate(directory: Path, seconds: float) -> float:
    """Transactions of one small update per second on an SQLite file, WAL with synchronous=FULL."""
    file = directory / "commit-rate.sqlite"
    db = apsw.Connection(str(file))
    try:
        db.pragma("journal_mode", "wal")
        db.pragma("synchronous", "full")
        db.execute("CREATE TABLE t (n); INSERT INTO t VALUES (0)")
        commits = 0
        begun = monotonic()
        while (passed := monotonic() - begun) < seconds:
            db.execute("UPDATE t SET n = n + 1")
            commits += 1
    finally:
        db.close()
        file.unlink()
    return commits / passed


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
