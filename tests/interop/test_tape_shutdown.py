"""The daemon ends, in order or not, and what the next one finds."""

from __future__ import annotations

import errno
from collections.abc import Iterator

import pytest

from lrs_trio.model import Family, FsType, LockOwner, RequestKind
from lrs_trio.wire.messages import Failed, Format, ReadAllocation, Request, WriteAllocation, WriteMedium
from tests.interop.conftest import MakeHost, MakeTapePhobos, until
from tests.interop.host import LIBRARY, StorageHost
from tests.interop.tapes import (
    Tape,
    TapeLibrary,
    TapePhobos,
    drives_of,
    start_with_tapes,
    tape_get,
    tape_put,
    tape_rows,
)
from tests.interop.transfers import Target, Wishes, putting, run

CONTENT = b"c" * 1000
ON_TAPE = Wishes(family=Family.TAPE)
WRITE = WriteAllocation((WriteMedium(4096),), Family.TAPE, library=LIBRARY)


@pytest.fixture
def ending(make_host: MakeHost, make_tape_phobos: MakeTapePhobos, tape_library: TapeLibrary) -> Iterator[TapePhobos]:
    """A client of a daemon that may be ended."""
    host = make_host("tape2")
    start_with_tapes(host, tape_library)
    phobos = make_tape_phobos(host)
    yield phobos
    if not host.runs:
        start_with_tapes(host, tape_library)
    phobos.clear(tape_library)


def mounts(host: StorageHost) -> list[str]:
    return sorted(path.name for path in host.base.glob("mnt-*"))


def test_in_order(ending: TapePhobos, tape_library: TapeLibrary, make_tape_phobos: MakeTapePhobos) -> None:
    """Who waits is refused, who writes ends in peace; the tape is unmounted, stays in the drive, and is nobody's."""
    (drive,) = drives_of(ending, tape_library, 1)
    tape, other = tape_library.tapes(2)
    ending.tape_ready(tape)
    ending.tape_add(other)
    writing = putting(ending, [Target("object", CONTENT)], ON_TAPE)
    assert next(writing) == "granted"
    with make_tape_phobos(ending.host).command() as command, tape_rows(ending.database.connection) as rows:
        connection = command.connect()
        connection.send(
            Request(1, WRITE),
            Request(2, ReadAllocation(1, (tape.medium,))),
            Request(3, Format(other.medium, FsType.LTFS)),
        )
        connection.assert_silent()
        ending.host.daemon.terminate()
        refused = sorted((connection.receive() for _ in range(3)), key=lambda response: response.request_id)
        assert [response.body for response in refused] == [
            Failed(-errno.ESHUTDOWN, kind) for kind in (RequestKind.WRITE, RequestKind.READ, RequestKind.FORMAT)
        ]
        run(writing)
        ending.host.wait_drained()
        rows.written(tape, 1, len(CONTENT))
        rows.unlock("device", drive.lock)
        rows.unlock("media", tape.lock)
    assert tape_library.inside(drive) == tape.label
    assert mounts(ending.host) == []
    with tape_rows(ending.database.connection) as rows:
        start_with_tapes(ending.host, tape_library)
        rows.lock("device", drive.lock, ending.host.owner)
        rows.lock("media", tape.lock, ending.host.owner)
        (status,) = ending.drive_status()
        assert (status["media"], status["mount_path"]) == (tape.label, "")
        assert tape_get(ending, "object") == CONTENT


def test_killed_with_a_tape_that_is_mounted(ending: TapePhobos, tape_library: TapeLibrary) -> None:
    """The next daemon takes over locks and mount; what nobody has released counts for nothing."""
    drive, empty = drives_of(ending, tape_library, 2)
    (tape,) = tape_library.tapes(1)
    ending.tape_ready(tape)
    tape_put(ending, "object", CONTENT)
    mounted = mounts(ending.host)
    assert len(mounted) == 1
    writing = putting(ending, [Target("lost", CONTENT)], ON_TAPE)
    assert next(writing) == "granted"
    with tape_rows(ending.database.connection):
        ending.host.kill()
        assert len(ending.database.locks()) == 3
        with pytest.raises((EOFError, OSError)):
            run(writing)
    assert mounts(ending.host) == mounted
    # It was in the middle of an update of the figures.
    ending.database.lock("media_update", tape.lock)
    ending.database.write("UPDATE lock SET owner = 4000000 WHERE type = 'media_update'")
    with tape_rows(ending.database.connection) as rows:
        start_with_tapes(ending.host, tape_library)
        for served in (drive, empty):
            rows.lock("device", served.lock, ending.host.owner)
        rows.lock("media", tape.lock, ending.host.owner)
        rows.unlock("media_update", tape.lock)
    by_media = {status.get("media"): status for status in ending.drive_status()}
    assert by_media[tape.label]["mount_path"] == f"{ending.host.base}/{mounted[0]}"
    assert tape_get(ending, "object") == CONTENT
    with tape_rows(ending.database.connection) as rows:
        tape_put(ending, "another", CONTENT)
        rows.written(tape, 1, len(CONTENT))
        # What the dead daemon's client wrote is there as well, as far as the tape goes.
        rows.stats(tape, **space(ending, tape))


def space(phobos: TapePhobos, tape: Tape) -> dict[str, int]:
    stats = phobos.database.medium(tape.medium)["stats"]
    return {key: stats[key] for key in ("phys_spc_used", "phys_spc_free")}


def test_killed_with_a_tape_that_is_loaded(ending: TapePhobos, tape_library: TapeLibrary) -> None:
    (drive,) = drives_of(ending, tape_library, 1)
    (tape,) = tape_library.tapes(1)
    ending.tape_ready(tape)
    ending.host.kill()
    with tape_rows(ending.database.connection) as rows:
        start_with_tapes(ending.host, tape_library)
        rows.lock("device", drive.lock, ending.host.owner)
        rows.lock("media", tape.lock, ending.host.owner)
    tape_put(ending, "object", CONTENT)
    assert tape_get(ending, "object") == CONTENT


def test_the_locks_of_a_predecessor(ending: TapePhobos, tape_library: TapeLibrary) -> None:
    """Those of this host whose owner is gone go; those of others stay, and what they hold is not touched."""
    first, second = drives_of(ending, tape_library, 2)
    here, elsewhere = tape_library.tapes(2)
    ending.tape_ready(here)
    ending.tape_add(elsewhere)
    ending.host.drain()
    gone = LockOwner("tape2", 4000000)
    for lock, host in ((here.lock, "tape2"), (elsewhere.lock, "tape3")):
        ending.database.write(
            "INSERT INTO lock (type, id, hostname, owner) VALUES ('media', %s, %s, %s)", lock, host, gone.pid
        )
    ending.database.write(
        "INSERT INTO lock (type, id, hostname, owner) VALUES ('device', %s, 'tape2', %s)", first.lock, gone.pid
    )
    with tape_rows(ending.database.connection) as rows:
        start_with_tapes(ending.host, tape_library)
        for drive in (first, second):
            rows.lock("device", drive.lock, ending.host.owner)
        rows.lock("media", here.lock, ending.host.owner)
    ending.database.unlock_by_force("media", elsewhere.lock)


def test_a_client_that_dies_does_not_hold_up_the_end(ending: TapePhobos, tape_library: TapeLibrary) -> None:
    (drive,) = drives_of(ending, tape_library, 1)
    (tape,) = tape_library.tapes(1)
    ending.tape_ready(tape)
    with tape_rows(ending.database.connection) as rows:
        writing = putting(ending, [Target("object", CONTENT)], ON_TAPE)
        assert next(writing) == "granted"
        ending.host.daemon.terminate()
        until(lambda: "draining" in ending.host.daemon.said(), "the drain has begun")
        writing.close()
        ending.host.wait_drained()
        rows.written(tape, 0, 0)
        rows.unlock("device", drive.lock)
        rows.unlock("media", tape.lock)
    assert mounts(ending.host) == []
