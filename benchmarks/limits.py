"""What this machine can do at best, measured in the same minute as the daemon."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from time import perf_counter
from typing import Final

import apsw

from benchmarks.driver.crew import Crew
from benchmarks.driver.frames import WRITTEN
from benchmarks.driver.scripts import Kind
from benchmarks.harness import Site
from lrs_trio.storage.syncfs import syncfs

ROWS: Final = 4096
"""Of the table for bare commits: as many as one transaction is asked to update at most."""

Commit = Callable[[int], object]
"""Updates so many rows in one transaction that is on the disk when it returns."""


class Limits:
    """What can be measured at one site, each for so many seconds. Not for a thread that runs trio."""

    def __init__(self, site: Site, echo: Path, commit: Commit, *, files: bool) -> None:
        self._site = site
        self._echo = echo
        self._commit = commit
        self._files = files
        self._media = tuple(medium.name for medium in site.media)

    def cycles(self, crew: Crew, kind: Kind, clients: int, seconds: float) -> float:
        """Cycles per second of a server that only answers, with the clients that the daemon has."""
        done, _, _ = crew.drive(self._echo, kind, clients, self._media, seconds, files=self._files, probe=lambda: None)
        return done.rate

    def syncs(self, seconds: float) -> float:
        """Calls of syncfs per second by one thread, each after a file was written if the clients write files."""
        directory = self._site.directories[0]
        file = directory / "written-for-syncfs"
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)

        def write_and_sync() -> None:
            if self._files:
                file.write_bytes(bytes(WRITTEN))
            syncfs(descriptor)

        try:
            return _rate(write_and_sync, seconds)
        finally:
            os.close(descriptor)
            file.unlink(missing_ok=True)

    def commits(self, updates: int, seconds: float) -> float:
        """Transactions per second of one connection, each of so many updates of one row."""
        return _rate(lambda: self._commit(updates), seconds)


@contextmanager
def limits_of(site: Site, *, files: bool) -> Iterator[Limits]:
    """The limits at `site`, for clients that write and read files or not."""
    commits = _postgres_commits(site.dss_url) if site.dss.is_postgres else _sqlite_commits(site.base / "bare.sqlite")
    with echo_server(site) as echo, commits as commit:
        yield Limits(site, echo, commit, files=files)


@contextmanager
def _sqlite_commits(file: Path) -> Iterator[Commit]:
    """On a file of its own, with the write-ahead log, synchronous=FULL."""
    with closing(apsw.Connection(str(file))) as db:
        db.pragma("journal_mode", "wal")
        db.pragma("synchronous", "full")
        db.execute("CREATE TABLE bare (id INTEGER PRIMARY KEY, n INTEGER)")
        db.executemany("INSERT INTO bare VALUES (?, 0)", [(row,) for row in range(ROWS)])

        def commit(updates: int) -> None:
            with db:
                db.executemany("UPDATE bare SET n = n + 1 WHERE id = ?", ((row,) for row in range(updates)))

        yield commit
    file.unlink()


@contextmanager
def _postgres_commits(url: str) -> Iterator[Commit]:
    """In a table of its own; each transaction is one statement."""
    import psycopg

    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE TABLE bare AS SELECT id, 0 AS n FROM generate_series(0, %s) AS id", (ROWS - 1,))
        connection.execute("ALTER TABLE bare ADD PRIMARY KEY (id)")

        def commit(updates: int) -> None:
            rows = list(range(updates))
            connection.execute("UPDATE bare SET n = n + 1 WHERE id = ANY(%s)", (rows,), prepare=True)

        try:
            yield commit
        finally:
            connection.execute("DROP TABLE bare")


def _rate(act: Callable[[], object], seconds: float) -> float:
    """How often per second it can be done."""
    count = 0
    begun = perf_counter()
    while (passed := perf_counter() - begun) < seconds:
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
