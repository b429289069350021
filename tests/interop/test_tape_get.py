"""get and locate, and which of the reads that wait is served first."""

from __future__ import annotations

import errno
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lrs_trio.model import Family, RequestKind
from lrs_trio.wire.messages import ReadAllocation, ReadGranted, Release, ReleasedMedium, Request
from tests.interop.conftest import MakeTapePhobos, refusal, until
from tests.interop.tapes import Tape, TapeLibrary, TapePhobos, drives_of, queued, tape_get, tape_put, tape_rows
from tests.interop.transfers import Target, Wishes, getting, putting, raid1, run
from tests.interop.wire import Connection

CONTENT = bytes(range(256)) * 100
ON_TAPE = Wishes(family=Family.TAPE)


def filled(tapes: TapePhobos, library: TapeLibrary, count: int) -> list[Tape]:
    """Tapes with one object each, which is called like the tape; the last one is in a drive, if there is only one."""
    all_ = library.tapes(count)
    tapes.tape_add(*all_)
    for tape in all_:
        tapes.format(tape, unlock=True)
        tapes.tape_update(tape, tags=[tape.label])
        tape_put(tapes, tape.label, CONTENT, tags=(tape.label,))
    return all_


def test_get_from_the_shelf(tapes: TapePhobos, tape_library: TapeLibrary) -> None:
    """The release is not answered, and the client ends when it has sent it."""
    (drive,) = drives_of(tapes, tape_library, 1)
    one, other = filled(tapes, tape_library, 2)
    with tape_rows(tapes.database.connection) as rows:
        assert tape_get(tapes, one.label) == CONTENT
        rows.unloaded(drive, other)
        rows.loaded(drive, one, tapes.host.owner)
    assert [said.direction for said in tapes.said] == ["request", "response", "request"]
    with tape_rows(tapes.database.connection):
        assert tape_get(tapes, one.label) == CONTENT


def test_get_while_another_tape_is_written(
    tapes: TapePhobos, tape_library: TapeLibrary, make_tape_phobos: MakeTapePhobos
) -> None:
    drives_of(tapes, tape_library, 2)
    one, other = filled(tapes, tape_library, 2)
    writing = putting(
        make_tape_phobos(tapes.host), [Target("object", CONTENT)], Wishes(family=Family.TAPE, tags=(other.label,))
    )
    assert next(writing) == "granted"
    with tape_rows(tapes.database.connection) as rows:
        assert tape_get(tapes, one.label) == CONTENT
        run(writing)
        rows.written(other, 1, len(CONTENT))


def test_get_waits_for_whoever_writes_the_tape(
    tapes: TapePhobos, tape_library: TapeLibrary, make_tape_phobos: MakeTapePhobos
) -> None:
    drives_of(tapes, tape_library, 1)
    (tape,) = filled(tapes, tape_library, 1)
    writing = putting(tapes, [Target("object", CONTENT)], ON_TAPE)
    assert next(writing) == "granted"
    with make_tape_phobos(tapes.host).command() as command, ThreadPoolExecutor() as threads:
        connection = command.connect()
        connection.send(Request(0, ReadAllocation(1, (tape.medium,))))
        connection.assert_silent()
        written = threads.submit(run, writing)
        assert connection.expect(0, ReadGranted).media[0].medium == tape.medium
        # No sync goes on while somebody reads.
        connection.send(release(tape, 0))
        written.result()


def test_get_of_the_copy_that_is_mounted(tapes: TapePhobos, tape_library: TapeLibrary) -> None:
    """One of two copies is on the shelf: nothing is moved for it."""
    drives = drives_of(tapes, tape_library, 2)
    both = tape_library.tapes(2)
    tapes.tape_ready(*both)
    tape_put(tapes, "object", CONTENT, layout=raid1(2))
    _, extents = tapes.database.copy("object", "source")
    first = Tape(extents[0]["medium_id"])
    (drive,) = [drive for drive in drives if tape_library.inside(drive) == first.label]
    tapes.drive_lock(drive)
    with tape_rows(tapes.database.connection):
        assert tape_get(tapes, "object") == CONTENT


@pytest.mark.parametrize("located_by", ["another client", "a daemon that is no more"])
def test_get_of_what_was_located(tapes: TapePhobos, tape_library: TapeLibrary, located_by: str) -> None:
    """A weak lock of this host is the daemon's for the taking, whoever has it; when it was located stays there."""
    (drive,) = drives_of(tapes, tape_library, 1)
    one, other = filled(tapes, tape_library, 2)
    if located_by == "another client":
        tapes.locate_tape(one.label, tapes.host.name)
    else:
        tapes.database.write(
            "INSERT INTO lock (type, id, hostname, owner, is_weak, last_locate)"
            " VALUES ('media', %s, %s, 4000000, true, now())",
            one.lock,
            tapes.host.name,
        )
    located = tapes.database.lock_of("media", one.medium)
    assert located is not None
    with tape_rows(tapes.database.connection) as rows:
        assert tape_get(tapes, one.label) == CONTENT
        rows.unloaded(drive, other)
        rows.loaded(drive, one, tapes.host.owner)
        rows.lock("media", one.lock, tapes.host.owner, last_locate=located["last_locate"])


def test_locate_of_what_is_in_a_drive(tapes: TapePhobos, tape_library: TapeLibrary) -> None:
    """The client only notes the time in the daemon's own lock."""
    drives_of(tapes, tape_library, 1)
    (tape,) = filled(tapes, tape_library, 1)
    tapes.locate_tape(tape.label, tapes.host.name)
    lock = tapes.database.lock_of("media", tape.medium)
    assert lock is not None
    with tape_rows(tapes.database.connection):
        assert lock["last_locate"] is not None
        assert (lock["owner"], lock["is_weak"]) == (tapes.host.owner.pid, False)
        assert tape_get(tapes, tape.label) == CONTENT


def test_what_was_located_on_another_host(tapes: TapePhobos, tape_library: TapeLibrary) -> None:
    """It is that host's: no read takes it, and a write goes elsewhere or nowhere."""
    drives_of(tapes, tape_library, 1)
    one, other = filled(tapes, tape_library, 2)
    tapes.locate_tape(one.label, "tape2")
    with tape_rows(tapes.database.connection):
        assert refusal(tape_get, tapes, one.label) == (errno.EALREADY, RequestKind.READ)
        assert refusal(tapes.format, one, force=True) == (errno.EBUSY, RequestKind.FORMAT)
        found = refusal(tape_put, tapes, "object", CONTENT, tags=(one.label,))
        assert found == (errno.ENOSPC, RequestKind.WRITE)
    with tape_rows(tapes.database.connection) as rows:
        tape_put(tapes, "object", CONTENT)
        rows.written(other, 1, len(CONTENT))
    tapes.database.unlock("media", one.lock)
    assert tape_get(tapes, one.label) == CONTENT


def test_get_of_what_cannot_be_had(tapes: TapePhobos, tape_library: TapeLibrary) -> None:
    drives_of(tapes, tape_library, 1)
    locked, failed, forbidden = filled(tapes, tape_library, 3)
    unknown, blank = tape_library.tapes(2)
    tapes.tape_add(blank, unlock=True)
    tapes.tape_update(locked, adm_status="locked")
    tapes.tape_update(failed, adm_status="failed")
    tapes.tape_update(forbidden, get=False)
    missing = Tape("V99999L8")
    tapes.database.insert_medium(missing, model="LTO8", adm_status="unlocked", fs_status="used")
    with tapes.command() as command, tape_rows(tapes.database.connection):
        connection = command.connect()
        for tape, number in {
            locked: errno.EPERM,
            failed: errno.EPERM,
            forbidden: errno.EPERM,
            unknown: errno.ENXIO,
            blank: errno.EINVAL,
        }.items():
            found = refusal(connection.ask, 0, ReadAllocation(1, (tape.medium,)), ReadGranted)
            assert found == (number, RequestKind.READ)
    with tapes.command() as command:
        found = refusal(command.connect().ask, 0, ReadAllocation(1, (missing.medium,)), ReadGranted)
        assert found == (errno.ENXIO, RequestKind.READ)
    # It is not the drive's fault.
    assert {row["adm_status"] for row in tapes.database.rows("SELECT adm_status FROM device")} == {"unlocked"}
    assert tapes.database.medium(missing.medium)["adm_status"] == "unlocked"


def test_reads_of_one_tape_are_served_without_a_swap(
    tapes: TapePhobos, tape_library: TapeLibrary, make_tape_phobos: MakeTapePhobos
) -> None:
    """grouped_read: one that comes first, and whose copy is older, waits for another tape meanwhile."""
    (drive,) = drives_of(tapes, tape_library, 1)
    other, here = filled(tapes, tape_library, 2)
    client = make_tape_phobos(tapes.host)
    reading = getting(tapes, here.label)
    assert next(reading) == "granted"
    with client.command() as of_other, client.command() as of_here, tape_rows(tapes.database.connection) as rows:
        elsewhere, waiting = of_other.connect(), of_here.connect()
        elsewhere.send(Request(0, ReadAllocation(1, (other.medium,)), qos=0, priority=-1))
        elsewhere.assert_silent()
        waiting.send(*(Request(id_, ReadAllocation(1, (here.medium,)), qos=0, priority=-id_) for id_ in (4, 3, 2, 5)))
        until(lambda: queued(tapes) == 5, "all of them wait")
        run(reading)
        # The older the copy, the earlier; the other tape's turn comes when nobody wants this one any more.
        for id_ in (2, 3, 4, 5):
            elsewhere.assert_silent()
            assert waiting.expect(id_, ReadGranted).media[0].medium == here.medium
            waiting.send(release(here, id_))
        assert elsewhere.expect(0, ReadGranted).media[0].medium == other.medium
        rows.unloaded(drive, here)
        rows.loaded(drive, other, tapes.host.owner)


def release(tape: Tape, id_: int) -> Request:
    return Request(id_, Release((ReleasedMedium(tape.medium, 0, 0, 0, to_sync=False),), RequestKind.RELEASE_READ))


def test_quality_of_service_before_priority(tapes: TapePhobos, tape_library: TapeLibrary) -> None:
    drives_of(tapes, tape_library, 1)
    (tape,) = filled(tapes, tape_library, 1)
    with tapes.command() as command:
        connection: Connection = command.connect()
        connection.ask(0, ReadAllocation(1, (tape.medium,)), ReadGranted)
        for id_, qos, priority in ((1, 0, -5), (2, 0, -1), (3, 1, -9), (4, 0, -1)):
            connection.send(Request(id_, ReadAllocation(1, (tape.medium,)), qos=qos, priority=priority))
        until(lambda: queued(tapes) == 4, "all of them wait")
        order = []
        for _ in range(4):
            connection.send(release(tape, 0))
            response = connection.receive()
            assert isinstance(response.body, ReadGranted)
            order.append(response.request_id)
        assert order == [3, 2, 4, 1]


def test_import_of_a_tape(tapes: TapePhobos, tape_library: TapeLibrary) -> None:
    """Read while its row says that it is being imported, whatever else that says; its label is what is in the row."""
    drives_of(tapes, tape_library, 1)
    (tape,) = filled(tapes, tape_library, 1)
    (size,) = tape_library.content(tape)
    tapes.tape_update(tape, fs_status="importing", adm_status="locked", get=False)
    with tapes.command() as command, tape_rows(tapes.database.connection) as rows:
        admin = command.connect()
        (granted,) = admin.ask(0, ReadAllocation(1, (tape.medium,)), ReadGranted).media
        found = [path.stat().st_size for path in Path(granted.root).glob("*/*/*")]
        assert found == [size]
        tapes.database.update_medium(tape, fs_status="used", nb_obj=1, logc_spc_used=size)
        admin.send(release(tape, 1))
        admin.assert_silent()
        rows.tape(tape, fs_status="used")
