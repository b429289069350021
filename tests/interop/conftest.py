"""A storage host with a real daemon, and a client of Phobos on it.

Most tests share one daemon and one database, and leave neither rows nor locks there; those that start or end a
daemon, or configure it in another way, have hosts of their own.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Final

import pytest

from benchmarks.postgres import MEMORY, Cluster
from lrs_trio.model import RequestKind
from tests.interop.host import Directory, StorageHost
from tests.interop.phobos import Phobos
from tests.interop.tables import KEYS, read_tables
from tests.interop.tapes import TapeLibrary, TapePhobos, start_with_tapes
from tests.interop.wire import RefusedError

PATIENCE_S: Final = 20.0
"""Only so that a defect ends a test instead of holding it up."""

LOOK_AGAIN_S: Final = 0.005

MakeHost = Callable[[str], StorageHost]
MakePhobos = Callable[[StorageHost], Phobos]
MakeTapePhobos = Callable[[StorageHost], TapePhobos]
MakeDirectory = Callable[..., Directory]


@contextmanager
def new_directory(parent: Path | None = None) -> Iterator[Path]:
    """A directory that is gone afterwards; its path is short enough for a socket."""
    base = Path(tempfile.mkdtemp(prefix="lrs-", dir=parent)).resolve()
    try:
        yield base
    finally:
        shutil.rmtree(base)


@contextmanager
def on_another_filesystem(than: Path) -> Iterator[Path]:
    """As `new_directory`, on another filesystem than that of `than`, so that its space is its own."""
    for parent in (MEMORY, Path("/var/tmp"), Path.cwd()):
        if parent.is_dir() and os.access(parent, os.W_OK) and parent.stat().st_dev != than.stat().st_dev:
            with new_directory(parent) as base:
                yield base
            return
    raise RuntimeError(f"{than}: no other filesystem was found that can be written; set TMPDIR to one")


@pytest.fixture
def make_host(postgres_url: str) -> Iterator[MakeHost]:
    """Hosts by name, of which the test starts the daemons; all of one database, which is empty."""
    with ExitStack() as ends:

        def make(name: str) -> StorageHost:
            host = StorageHost(name, ends.enter_context(new_directory()), postgres_url)
            ends.callback(host.close)
            return host

        yield make


@pytest.fixture
def make_phobos() -> Iterator[MakePhobos]:
    """Clients on hosts."""
    with ExitStack() as ends:
        yield lambda host: ends.enter_context(closing(Phobos(host)))


@pytest.fixture
def make_tape_phobos() -> Iterator[MakeTapePhobos]:
    """Clients on hosts with tapes."""
    with ExitStack() as ends:
        yield lambda host: ends.enter_context(closing(TapePhobos(host)))


@pytest.fixture(scope="package")
def shared_url(cluster: Cluster) -> Iterator[str]:
    url = cluster.phobos_database()
    yield url
    cluster.drop_database(url)


@pytest.fixture(scope="package")
def shared_host(shared_url: str) -> Iterator[StorageHost]:
    with new_directory() as base, closing(StorageHost("store1", base, shared_url)) as host:
        yield host


@pytest.fixture(scope="package")
def second_host(shared_url: str) -> Iterator[StorageHost]:
    with new_directory() as base, closing(StorageHost("store2", base, shared_url)) as host:
        yield host


@pytest.fixture
def phobos(shared_host: StorageHost, directory: MakeDirectory) -> Iterator[Phobos]:
    """A client on the shared host, where nothing is known and nothing is locked."""
    start(shared_host)
    with closing(Phobos(shared_host)) as client:
        yield client
    remove_everything(shared_host)


def start(*hosts: StorageHost) -> None:
    """Have the daemons of all of them serve."""
    starting = [host for host in hosts if not host.runs]
    for host in starting:
        host.begin_start()
    for host in starting:
        host.daemon.wait_ready()


def remove_everything(*hosts: StorageHost) -> None:
    """As an administrator does it, after whom nothing may be left in the tables."""
    start(*hosts)
    for host in hosts:
        with closing(Phobos(host)) as client:
            rows = client.database.rows("SELECT id, library FROM device WHERE host = %s", host.name)
            paths = [(Path(row["id"].partition(":")[2]), row["library"]) for row in rows]
            client.remove(*(Directory(path, host.name, library) for path, library in paths))
    with closing(Phobos(hosts[0])) as client:
        assert read_tables(client.database.connection) == {table: {} for table in KEYS}


@pytest.fixture
def directory(shared_host: StorageHost) -> Iterator[MakeDirectory]:
    """New directories of the shared host, by name."""
    with new_directory(shared_host.base) as below:
        yield lambda name, **more: shared_host.directory(name, **({"below": below} | more))


def until(holds: Callable[[], object], what: str) -> None:
    """Wait for something that nobody tells."""
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline, f"this never came true: {what}"
        time.sleep(LOOK_AGAIN_S)


def refusal(transfer: Callable[..., object], *arguments: object, **more: object) -> tuple[int, RequestKind]:
    """The errno and the kind with which a transfer is refused."""
    with pytest.raises(RefusedError) as refused:
        transfer(*arguments, **more)
    return -refused.value.rc, refused.value.kind


# Tapes.


@pytest.fixture(scope="package")
def tape_library() -> Iterator[TapeLibrary]:
    with new_directory() as base:
        yield TapeLibrary(base)


@pytest.fixture(scope="package")
def tape_url(cluster: Cluster) -> Iterator[str]:
    url = cluster.phobos_database()
    yield url
    cluster.drop_database(url)


@pytest.fixture(scope="package")
def tape_host(tape_url: str) -> Iterator[StorageHost]:
    with new_directory() as base, closing(StorageHost("tape1", base, tape_url)) as host:
        yield host


@pytest.fixture(scope="package")
def second_tape_host(tape_url: str) -> Iterator[StorageHost]:
    with new_directory() as base, closing(StorageHost("tape2", base, tape_url)) as host:
        yield host


@pytest.fixture
def tapes(tape_host: StorageHost, tape_library: TapeLibrary) -> Iterator[TapePhobos]:
    """A client on the shared host of tapes, where nothing is known and nothing is locked."""
    if not tape_host.runs:
        start_with_tapes(tape_host, tape_library)
    with closing(TapePhobos(tape_host)) as client:
        yield client
    remove_tapes(tape_library, tape_host)


def remove_tapes(library: TapeLibrary, *hosts: StorageHost) -> None:
    """As an administrator does it, after whom nothing may be left but the log."""
    for host in hosts:
        with closing(TapePhobos(host)) as client:
            client.clear(library)
    with closing(TapePhobos(hosts[0])) as client:
        left = client.database.locks()
        client.database.write("DELETE FROM media")
        client.database.write("DELETE FROM logs")
        assert left == []
