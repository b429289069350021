"""Two hosts with drives of their own share the tapes of one library."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from lrs_trio.model import Family, RequestKind
from lrs_trio.wire.messages import ReadAllocation, ReadGranted
from tests.interop.conftest import MakeTapePhobos, refusal, remove_tapes
from tests.interop.host import StorageHost
from tests.interop.tapes import (
    Drive,
    TapeLibrary,
    TapePhobos,
    begin_with_tapes,
    start_with_tapes,
    tape_get,
    tape_put,
    tape_rows,
)
from tests.interop.transfers import Target, Wishes, putting, raid1, run
from tests.interop.wire import RefusedError

CONTENT = b"c" * 1000


class Pair:
    """Two clients on two hosts, each with one drive."""

    def __init__(self, clients: tuple[TapePhobos, TapePhobos], library: TapeLibrary) -> None:
        self.clients = clients
        self.library = library
        self.drives: list[Drive] = []
        for number, client in enumerate(clients):
            self.drives.append(library.drive(number, client.host.name))
            client.drive_add(self.drives[number], unlock=True)


@pytest.fixture
def pair(
    tape_host: StorageHost,
    second_tape_host: StorageHost,
    make_tape_phobos: MakeTapePhobos,
    tape_library: TapeLibrary,
) -> Iterator[Pair]:
    hosts = tape_host, second_tape_host
    starting = [host for host in hosts if not host.runs]
    for host in starting:
        begin_with_tapes(host, tape_library)
    for host in starting:
        host.daemon.wait_ready()
    yield Pair((make_tape_phobos(hosts[0]), make_tape_phobos(hosts[1])), tape_library)
    remove_tapes(tape_library, *hosts)


def test_a_tape_is_for_one_of_them(pair: Pair) -> None:
    """As long as it is in the drive of the one, the other is told so, or takes another tape."""
    first, second = pair.clients
    tape, other = pair.library.tapes(2)
    first.tape_ready(tape)
    tape_put(first, "object", CONTENT)
    with tape_rows(first.database.connection):
        assert refusal(tape_get, second, "object") == (errno.EALREADY, RequestKind.READ)
        assert refusal(second.format, tape, force=True) == (errno.EBUSY, RequestKind.FORMAT)
        assert refusal(tape_put, second, "another", CONTENT) == (errno.ENOSPC, RequestKind.WRITE)
    second.tape_ready(other)
    with tape_rows(first.database.connection) as rows:
        tape_put(second, "another", CONTENT)
        rows.written(other, 1, len(CONTENT))
        tape_put(first, "third", CONTENT)
        rows.written(tape, 1, len(CONTENT))
        assert refusal(tape_get, first, "another") == (errno.EALREADY, RequestKind.READ)


def test_a_tape_that_was_unloaded_is_for_both(pair: Pair) -> None:
    """At once, whatever the other daemon has seen before."""
    first, second = pair.clients
    tape, other = pair.library.tapes(2)
    first.tape_ready(tape)
    tape_put(first, "object", CONTENT)
    with tape_rows(first.database.connection):
        assert refusal(tape_get, second, "object") == (errno.EALREADY, RequestKind.READ)
    first.tape_ready(other)
    assert pair.library.inside(pair.drives[0]) == other.label
    with tape_rows(first.database.connection) as rows:
        assert tape_get(second, "object") == CONTENT
        rows.loaded(pair.drives[1], tape, second.host.owner)
    with tape_rows(first.database.connection) as rows:
        assert refusal(tape_get, first, "object") == (errno.EALREADY, RequestKind.READ)
        tape_put(second, "another", CONTENT)
        rows.written(tape, 1, len(CONTENT))


def test_a_write_finds_a_tape_that_was_just_unloaded(pair: Pair) -> None:
    first, second = pair.clients
    (tape,) = pair.library.tapes(1)
    first.tape_ready(tape)
    with tape_rows(first.database.connection):
        assert refusal(tape_put, second, "object", CONTENT) == (errno.ENOSPC, RequestKind.WRITE)
    first.unload(pair.drives[0], tape, pair.library)
    with tape_rows(first.database.connection) as rows:
        tape_put(second, "object", CONTENT)
        rows.loaded(pair.drives[1], tape, second.host.owner)
        rows.written(tape, 1, len(CONTENT))


def test_a_copy_on_each_host(pair: Pair) -> None:
    """What is locked there is no candidate here; one that is left is enough."""
    first, second = pair.clients
    own = pair.library.tapes(2)
    for client, tape in zip(pair.clients, own, strict=True):
        client.tape_ready(tape)
        tape_put(client, tape.label, CONTENT)
    media = tuple(tape.medium for tape in own)
    for client, tape in zip(pair.clients, own, strict=True):
        with client.command() as command, tape_rows(first.database.connection):
            connection = command.connect()
            granted = connection.ask(0, ReadAllocation(1, media), ReadGranted)
            assert [medium.medium for medium in granted.media] == [tape.medium]
            found = refusal(connection.ask, 0, ReadAllocation(2, media), ReadGranted)
            assert found == (errno.EALREADY, RequestKind.READ)
    with tape_rows(first.database.connection):
        found = refusal(tape_put, second, "object", CONTENT, layout=raid1(2))
        assert found == (errno.ENOSPC, RequestKind.WRITE)


def test_both_want_the_same_tapes(pair: Pair, make_tape_phobos: MakeTapePhobos) -> None:
    """Whoever comes too late for a tape is told, or served with another; the figures are the sums."""
    tapes = pair.library.tapes(3)
    pair.clients[0].tape_ready(*tapes)
    done: list[str] = []

    errors: set[int] = set()

    def work(number: int) -> None:
        client = make_tape_phobos(pair.clients[number % 2].host)
        for each in range(5):
            oid = f"{number} {each}"
            try:
                tape_put(client, oid, CONTENT)
                done.append(oid)
                assert tape_get(client, oid) == CONTENT
            except RefusedError as error:
                errors.add(-error.rc)

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(work, range(4)))
    assert errors <= {errno.EALREADY, errno.ENOSPC}
    rows = [pair.clients[0].database.medium(tape.medium) for tape in tapes]
    assert sum(row["stats"]["nb_obj"] for row in rows) == len(done) > 0
    assert {row["adm_status"] for row in rows} == {"unlocked"}
    drives = pair.clients[0].database.rows("SELECT adm_status FROM device")
    assert [row["adm_status"] for row in drives] == ["unlocked"] * 2


def test_one_that_is_killed_keeps_its_tape(pair: Pair) -> None:
    """Until it comes back: the other neither takes the tape nor the locks."""
    first, second = pair.clients
    (tape,) = pair.library.tapes(1)
    first.tape_ready(tape)
    tape_put(first, "object", CONTENT)
    writing = putting(second, [Target("never", CONTENT)], Wishes(family=Family.TAPE))
    first.host.kill()
    with tape_rows(first.database.connection):
        assert refusal(tape_get, second, "object") == (errno.EALREADY, RequestKind.READ)
        assert refusal(run, writing) == (errno.ENOSPC, RequestKind.WRITE)
    with tape_rows(first.database.connection) as rows:
        start_with_tapes(first.host, pair.library)
        rows.lock("device", pair.drives[0].lock, first.host.owner)
        rows.lock("media", tape.lock, first.host.owner)
        assert tape_get(first, "object") == CONTENT
