"""Two hosts, each with a daemon of its own, share one database."""

from __future__ import annotations

import errno
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lrs_trio.model import RequestKind
from lrs_trio.wire.messages import ReadAllocation, ReadGranted
from tests.interop.conftest import MakePhobos, new_directory, refusal, remove_everything, start
from tests.interop.host import Directory, StorageHost
from tests.interop.phobos import Phobos
from tests.interop.tables import expected_rows
from tests.interop.transfers import delete_hard, get, put, raid1
from tests.interop.wire import RefusedError

CONTENT = b"c" * 1000


class Pair:
    """Two hosts that serve, and a client on each; a test that ends a daemon need not start it again."""

    def __init__(self, hosts: tuple[StorageHost, StorageHost], below: Path, make_phobos: MakePhobos) -> None:
        self.hosts = hosts
        self.clients = make_phobos(hosts[0]), make_phobos(hosts[1])
        self.connection = self.clients[0].database.connection
        self._below = below

    def directory(self, number: int, name: str = "1") -> Directory:
        """A new one of the first host (0) or the second (1)."""
        host = self.hosts[number]
        return host.directory(f"{name}-of-{host.name}", below=self._below)

    def ready(self, *names: str) -> list[list[Directory]]:
        """New ones on both hosts, which can be written."""
        own = [[self.directory(number, name) for name in names or ("1",)] for number in range(2)]
        for client, directories in zip(self.clients, own, strict=True):
            client.dir_ready(*directories)
        return own


@pytest.fixture
def pair(shared_host: StorageHost, second_host: StorageHost, make_phobos: MakePhobos) -> Iterator[Pair]:
    hosts = shared_host, second_host
    with new_directory() as below:
        start(*hosts)
        yield Pair(hosts, below, make_phobos)
        remove_everything(*hosts)


def test_each_uses_its_own(pair: Pair) -> None:
    """A write goes to a directory of the host where it is asked for, or nowhere: at once, not after a long search."""
    own = [directory for (directory,) in pair.ready()]
    for number in range(3):
        for client, directory in zip(pair.clients, own, strict=True):
            with expected_rows(pair.connection) as rows:
                put(client, f"{directory.host} {number}", CONTENT)
                rows.count(directory, 1, len(CONTENT))
    with expected_rows(pair.connection):
        for client, directory in zip(pair.clients, own, strict=True):
            assert [device["serial"] for device in client.monitor()] == [directory.device.name]
            assert refusal(put, client, "both", CONTENT, layout=raid1(2)) == (errno.ENOSPC, RequestKind.WRITE)
    first, second = pair.clients
    first.device_lock(own[0])
    with expected_rows(pair.connection):
        assert refusal(put, first, "elsewhere", CONTENT) == (errno.ENOSPC, RequestKind.WRITE)
    put(second, "here", CONTENT)


def test_a_medium_of_the_other_host(pair: Pair) -> None:
    """As long as it is locked there, a read is told so. Nobody else's row changes for that."""
    first, second = pair.clients
    d2 = pair.directory(1)
    second.dir_ready(d2)
    put(second, "object", CONTENT)
    with expected_rows(pair.connection):
        assert refusal(get, first, "object") == (errno.EALREADY, RequestKind.READ)
        assert refusal(delete_hard, first, "object") == (errno.EALREADY, RequestKind.READ)
        assert refusal(first.format, d2) == (errno.EBUSY, RequestKind.FORMAT)
        assert refusal(put, first, "another", CONTENT) == (errno.ENOSPC, RequestKind.WRITE)
        assert get(second, "object") == CONTENT
    pair.hosts[1].drain()
    with expected_rows(pair.connection):
        assert refusal(get, first, "object") == (errno.ENODEV, RequestKind.READ)


def test_a_copy_on_each_host(pair: Pair) -> None:
    """What is locked there is no candidate here; one that is left is enough."""
    own = [directory for (directory,) in pair.ready()]
    media = tuple(directory.medium for directory in own)
    for client, directory in zip(pair.clients, own, strict=True):
        with client.command() as command, expected_rows(pair.connection):
            connection = command.connect()
            granted = connection.ask(0, ReadAllocation(1, media), ReadGranted)
            assert [medium.medium for medium in granted.media] == [directory.medium]
            found = refusal(connection.ask, 0, ReadAllocation(2, media), ReadGranted)
            assert found == (errno.EALREADY, RequestKind.READ)


def shared_directory(pair: Pair) -> tuple[Directory, Directory]:
    """One path that is a device of both hosts, and one medium; the first one has been first."""
    first, second = pair.clients
    here = pair.directory(0, "shared")
    first.dir_ready(here)
    there = Directory(here.path, pair.hosts[1].name)
    pair.hosts[1].drain()
    second.database.insert_device(there)
    with expected_rows(pair.connection) as rows:
        start(pair.hosts[1])
        rows.lock("device", there.locks["device"], pair.hosts[1].owner)
    return here, there


def test_the_same_directory_on_both_hosts(pair: Pair) -> None:
    """Whoever has the medium serves it; the other takes it as soon as it is asked for it afterwards."""
    first, second = pair.clients
    here, there = shared_directory(pair)
    put(first, "object", CONTENT)
    with expected_rows(pair.connection):
        assert refusal(get, second, "object") == (errno.EALREADY, RequestKind.READ)
        assert refusal(put, second, "another", CONTENT) == (errno.ENOSPC, RequestKind.WRITE)
    with expected_rows(pair.connection) as rows:
        pair.hosts[0].drain()
        rows.release(here)
        assert get(second, "object") == CONTENT
        rows.lock("media", there.locks["media"], pair.hosts[1].owner)
    with expected_rows(pair.connection) as rows:
        put(second, "another", CONTENT)
        rows.count(there, 1, len(CONTENT))
    with expected_rows(pair.connection) as rows:
        start(pair.hosts[0])
        rows.lock("device", here.locks["device"], pair.hosts[0].owner)
    with expected_rows(pair.connection) as rows:
        second.device_lock(there)
        rows.device(there, adm_status="locked")
        rows.release(there)
        put(first, "back again", CONTENT)
        rows.count(here, 1, len(CONTENT))
        rows.lock("media", here.locks["media"], pair.hosts[0].owner)


def test_dir_add_of_a_directory_that_the_other_host_serves(pair: Pair) -> None:
    """The daemon refuses it, and the command deletes the row of the device that it has made."""
    first, second = pair.clients
    here = pair.directory(0, "shared")
    first.dir_ready(here)
    there = Directory(here.path, pair.hosts[1].name)
    with second.command() as command, expected_rows(pair.connection), pytest.raises(RefusedError) as refused:
        second.device_add(command.connect(), there)
    assert (refused.value.rc, refused.value.kind) == (-errno.EALREADY, RequestKind.NOTIFY)


def test_one_that_is_killed_takes_nothing_from_the_other(pair: Pair) -> None:
    own = [directory for (directory,) in pair.ready()]
    killed = pair.hosts[0]
    with expected_rows(pair.connection) as rows:
        killed.kill()
        put(pair.clients[1], "object", CONTENT)
        rows.count(own[1], 1, len(CONTENT))
    with expected_rows(pair.connection):
        # Its locks are still there: whether it comes back is not for the other to decide.
        found = refusal(ask_to_read, pair.clients[1], own[0])
        assert found == (errno.EALREADY, RequestKind.READ)
    with expected_rows(pair.connection) as rows:
        start(killed)
        rows.serve(own[0], killed.owner)
    put(pair.clients[0], "another", CONTENT)


def ask_to_read(client: Phobos, directory: Directory) -> None:
    with client.command() as command:
        command.connect().ask(0, ReadAllocation(1, (directory.medium,)), ReadGranted)


CLIENTS = 3
OBJECTS = 8


def test_both_under_load(pair: Pair, make_phobos: MakePhobos) -> None:
    """Whatever the clients of both hosts put and delete, the figures are the sums."""
    own = pair.ready("1", "2")

    def work(host: StorageHost, client: int) -> None:
        phobos = make_phobos(host)
        for number in range(OBJECTS):
            oid = f"{host.name} {client} {number}"
            put(phobos, oid, CONTENT, layout=raid1(1 + number % 2))
            assert get(phobos, oid) == CONTENT
            if number % 4 == 3:
                delete_hard(phobos, oid)

    with expected_rows(pair.connection) as rows:
        with ThreadPoolExecutor(2 * CLIENTS) as threads:
            running = [threads.submit(work, host, client) for host in pair.hosts for client in range(CLIENTS)]
            for thread in running:
                thread.result()
        for directories in own:
            counted = extents(pair.clients[0], directories)
            assert sum(counted.values()) == CLIENTS * (OBJECTS * 3 // 2 - OBJECTS // 4 * 2)
            for directory in directories:
                rows.count(directory, counted[directory], counted[directory] * len(CONTENT))


def extents(client: Phobos, directories: Sequence[Directory]) -> Counter[Directory]:
    """How many extents the clients have noted in each."""
    rows = client.database.rows("SELECT medium_id FROM extent")
    by_path = {str(directory.path): directory for directory in directories}
    return Counter(by_path[row["medium_id"]] for row in rows if row["medium_id"] in by_path)
