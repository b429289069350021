"""drive add, lock, unlock, del and status."""

from __future__ import annotations

import errno
from concurrent.futures import ThreadPoolExecutor

import pytest

from lrs_trio.model import Family, RequestKind
from tests.interop.conftest import MakeHost, MakePhobos, MakeTapePhobos, until
from tests.interop.database import LockError
from tests.interop.phobos import BusyError
from tests.interop.tapes import (
    DRIVES,
    TapeLibrary,
    TapePhobos,
    drives_of,
    start_with_tapes,
    tape_get,
    tape_put,
    tape_rows,
)
from tests.interop.transfers import Target, Wishes, putting, run
from tests.interop.wire import RefusedError

CONTENT = b"c" * 1000
ON_TAPE = Wishes(family=Family.TAPE)


def test_add(tapes: TapePhobos, tape_library: TapeLibrary) -> None:
    drives = [tape_library.drive(number, tapes.host.name) for number in range(2)]
    with tape_rows(tapes.database.connection) as rows:
        tapes.drive_add(*drives, unlock=True)
        for drive in drives:
            rows.add_drive(drive)
            rows.lock("device", drive.lock, tapes.host.owner)


def test_add_without_unlock(tapes: TapePhobos, tape_library: TapeLibrary) -> None:
    """The daemon is not told before it is unlocked."""
    drive = tape_library.drive(0, tapes.host.name)
    with tape_rows(tapes.database.connection) as rows:
        tapes.drive_add(drive)
        rows.add_drive(drive, adm_status="locked")
    assert tapes.drive_status() == []
    with tape_rows(tapes.database.connection) as rows:
        tapes.drive_unlock(drive)
        rows.drive(drive, adm_status="unlocked")
        rows.lock("device", drive.lock, tapes.host.owner)


def test_add_of_a_drive_that_is_not_there(tapes: TapePhobos, tape_library: TapeLibrary) -> None:
    """The daemon refuses it, and the command deletes its row."""
    drive = tape_library.drive(0, tapes.host.name)
    unknown = type(drive)("VD0099", drive.host, drive.path, 0)
    with tape_rows(tapes.database.connection), pytest.raises(RefusedError) as refused:
        tapes.drive_add(unknown, unlock=True)
    assert (refused.value.rc, refused.value.kind) == (-errno.ENOENT, RequestKind.NOTIFY)


def test_status(tapes: TapePhobos, tape_library: TapeLibrary, make_phobos: MakePhobos) -> None:
    """By address, whatever the order in which they came; what is in a drive, and how it is used."""
    drives = [tape_library.drive(number, tapes.host.name) for number in range(DRIVES)]
    tapes.drive_add(*reversed(drives), unlock=True)

    def empty(number: int) -> dict[str, object]:
        path = str(drives[number].path)
        return {
            "name": path,
            "library": "legacy",
            "device": path,
            "serial": drives[number].serial,
            "currently_dedicated_to": "RWF",
            "adm_status": "unlocked",
            "address": number,
            "ongoing_io": False,
        }

    assert tapes.drive_status() == [empty(number) for number in range(DRIVES)]
    one, two = tape_library.tapes(2)
    tapes.tape_add(one, two)
    tapes.format(one, two, unlock=True)
    tapes.tape_update(two, put=False)
    writing = putting(tapes, [Target("object", CONTENT)], ON_TAPE)
    assert next(writing) == "granted"
    found = {status["media"]: status for status in make_phobos(tapes.host).monitor(Family.TAPE) if "media" in status}
    number = found[one.label]["address"]
    mounted = f"{tapes.host.base}/mnt-{drives[number].path.name}"
    assert found[one.label] == empty(number) | {"ongoing_io": True, "mount_path": mounted, "media": one.label}
    number = found[two.label]["address"]
    assert found[two.label] == empty(number) | {"mount_path": "", "media": two.label}
    run(writing)
    assert [status["ongoing_io"] for status in tapes.drive_status()] == [False] * DRIVES


def test_lock_of_an_empty_drive(tapes: TapePhobos, tape_library: TapeLibrary) -> None:
    drive = tape_library.drive(0, tapes.host.name)
    tapes.drive_add(drive, unlock=True)
    with tape_rows(tapes.database.connection) as rows:
        tapes.drive_lock(drive)
        rows.drive(drive, adm_status="locked")
        rows.unlock("device", drive.lock)
    assert tapes.drive_status() == []


def test_lock_waits_for_io_and_its_sync(tapes: TapePhobos, tape_library: TapeLibrary) -> None:
    """When the answer comes all is written down, both locks are gone, and the tape is still there, unmounted."""
    drive, (tape,) = tape_library.drive(0, tapes.host.name), tape_library.tapes(1)
    tapes.drive_add(drive, unlock=True)
    tapes.tape_ready(tape)
    tape_put(tapes, "before", CONTENT)
    writing = putting(tapes, [Target("object", CONTENT)], ON_TAPE)
    assert next(writing) == "granted"
    mounted = tapes.host.base / f"mnt-{drive.path.name}"
    assert mounted.is_dir()
    with tapes.command() as command, tape_rows(tapes.database.connection) as rows:
        admin = command.connect()
        tapes.database.set_device(drive, "locked")
        tapes.notify_lock(admin, drive, wait=True)
        admin.assert_silent()
        assert {lock["type"] for lock in tapes.database.locks(tapes.host.owner)} == {"device", "media"}
        run(writing)
        tapes.locked(admin, drive)
        assert tapes.database.locks() == []
        assert not mounted.exists()
        assert tape_library.inside(drive) == tape.label
        rows.drive(drive, adm_status="locked")
        rows.written(tape, 1, len(CONTENT))
        rows.unlock("device", drive.lock)
        rows.unlock("media", tape.lock)
    assert tapes.drive_status() == []
    with tape_rows(tapes.database.connection):
        found = [tapes.database.device(drive)["adm_status"], tape_library.content(tape)]
    assert found == ["locked", [len(CONTENT)] * 2]


def test_lock_flushes_a_sync_that_is_not_due(
    make_host: MakeHost, make_tape_phobos: MakeTapePhobos, tape_library: TapeLibrary
) -> None:
    """A release that waits for others to join it is answered because the drive is to be let go."""
    host = make_host("tape2")
    start_with_tapes(host, tape_library, lrs={"sync_time_ms": "tape=100000"})
    writer, phobos = make_tape_phobos(host), make_tape_phobos(host)
    (drive,), (tape,) = drives_of(phobos, tape_library, 1), tape_library.tapes(1)
    phobos.tape_ready(tape)
    with tape_rows(phobos.database.connection) as rows, ThreadPoolExecutor() as threads:
        written = threads.submit(tape_put, writer, "object", CONTENT)
        until(lambda: phobos.stats("dev", "tosync_count")[0]["value"] == 1, "the release waits for the sync")
        assert not written.done()
        phobos.drive_lock(drive)
        written.result()
        rows.written(tape, 1, len(CONTENT))
        rows.drive(drive, adm_status="locked")
        rows.unlock("device", drive.lock)
        rows.unlock("media", tape.lock)
    phobos.clear(tape_library)


def test_unlock_finds_the_tape_in_the_drive(tapes: TapePhobos, tape_library: TapeLibrary) -> None:
    drive, (tape,) = tape_library.drive(0, tapes.host.name), tape_library.tapes(1)
    tapes.drive_add(drive, unlock=True)
    tapes.tape_ready(tape)
    tape_put(tapes, "object", CONTENT)
    tapes.drive_lock(drive)
    with tape_rows(tapes.database.connection) as rows:
        tapes.drive_unlock(drive)
        rows.drive(drive, adm_status="unlocked")
        rows.lock("device", drive.lock, tapes.host.owner)
        rows.lock("media", tape.lock, tapes.host.owner)
        (status,) = tapes.drive_status()
        assert (status["media"], status["mount_path"]) == (tape.label, "")
        assert tape_get(tapes, "object") == CONTENT


def test_unlock_of_a_drive_that_is_served(tapes: TapePhobos, tape_library: TapeLibrary) -> None:
    """The command itself refuses while the row of the lock is there."""
    drive = tape_library.drive(0, tapes.host.name)
    tapes.drive_add(drive, unlock=True)
    with tape_rows(tapes.database.connection), pytest.raises(BusyError):
        tapes.drive_unlock(drive)


def test_delete(tapes: TapePhobos, tape_library: TapeLibrary) -> None:
    drive, (tape,) = tape_library.drive(0, tapes.host.name), tape_library.tapes(1)
    tapes.drive_add(drive, unlock=True)
    tapes.tape_ready(tape)
    with tape_rows(tapes.database.connection), pytest.raises(LockError) as refused:
        tapes.drive_delete(drive)
    assert refused.value.errno == errno.EEXIST
    tapes.drive_lock(drive)
    with tape_rows(tapes.database.connection) as rows:
        tapes.drive_delete(drive)
        rows.delete("device", drive.key)
    # The tape that stays in there is one that no drive of ours can get at.
    with tape_rows(tapes.database.connection), pytest.raises(RefusedError) as no_drive:
        tape_put(tapes, "object", CONTENT)
    assert (no_drive.value.rc, no_drive.value.kind) == (-errno.ENODEV, RequestKind.WRITE)
    tape_library.unload(drive)
