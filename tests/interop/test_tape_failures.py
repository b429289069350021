"""What clients are told when drives and tapes fail, what the database says then, and who has which lock."""

from __future__ import annotations

import errno

from lrs_trio.model import Family, RequestKind
from tests.interop.conftest import refusal, until
from tests.interop.tapes import (
    Drive,
    Tape,
    TapeLibrary,
    TapePhobos,
    TapeRows,
    drives_of,
    holder,
    tape_get,
    tape_put,
    tape_rows,
)
from tests.interop.transfers import Target, Wishes, putting, raid1, run

CONTENT = b"c" * 1000
OFTEN = 1000


def status_of(tapes: TapePhobos, one: Drive | Tape) -> str:
    row = tapes.database.device(one) if isinstance(one, Drive) else tapes.database.medium(one.medium)
    found = row["adm_status"]
    assert isinstance(found, str)
    return found


def on_shelf(tapes: TapePhobos, library: TapeLibrary, *labels: str) -> list[Tape]:
    """Formatted tapes that are in no drive, with one object each, which is called like the tape."""
    all_ = library.tapes(len(labels) or 1)
    tapes.tape_add(*all_)
    for tape in all_:
        tapes.format(tape, unlock=True)
        tapes.tape_update(tape, tags=[tape.label])
        tape_put(tapes, tape.label, CONTENT, tags=(tape.label,))
    empty_drives(tapes, library)
    return all_


def empty_drives(tapes: TapePhobos, library: TapeLibrary) -> None:
    for status in tapes.drive_status():
        if "media" in status:
            drive = library.drive(status["address"], tapes.host.name)
            tapes.unload(drive, Tape(status["media"]), library)


def failed(rows: TapeRows, tape: Tape) -> None:
    """The tape is proven broken."""
    rows.tape(tape, adm_status="failed")
    rows.stats(tape, nb_errors=1)


def test_a_tape_that_is_mounted_nowhere(tapes: TapePhobos, tape_library: TapeLibrary) -> None:
    """A read is told when no drive is left to be tried. Who it was shows when a drive works with another tape."""
    drives = drives_of(tapes, tape_library, 2)
    broken, good = on_shelf(tapes, tape_library, "broken", "good")
    with tape_library.faults({"kind": "mount", "cartridge": broken.label, "count": OFTEN}):
        with tape_rows(tapes.database.connection) as rows:
            assert refusal(tape_get, tapes, broken.label) == (errno.EIO, RequestKind.READ)
            until(lambda: not tapes.database.lock_of("media", broken.medium), "the tape is given back")
            for drive in drives:
                rows.loaded(drive, broken, tapes.host.owner)
                rows.log("LTFS mount", drive, broken, errno.EIO, "mount")
                rows.unloaded(drive, broken)
        with tape_rows(tapes.database.connection) as rows:
            assert tape_get(tapes, good.label) == CONTENT
            until(lambda: status_of(tapes, broken) == "failed", "the tape is failed")
            drive = holder(drives, good, tape_library)
            rows.loaded(drive, good, tapes.host.owner)
            rows.log("LTFS mount", drive, good, key="mount")
            failed(rows, broken)
        with tape_rows(tapes.database.connection):
            assert refusal(tape_get, tapes, broken.label) == (errno.EPERM, RequestKind.READ)
    # An administrator gives it a fresh start.
    with tape_rows(tapes.database.connection) as rows:
        tapes.tape_update(broken, adm_status="unlocked")
        rows.tape(broken, adm_status="unlocked")
    assert tape_get(tapes, broken.label) == CONTENT


def test_a_drive_that_mounts_nothing(tapes: TapePhobos, tape_library: TapeLibrary) -> None:
    """The read is served by the other drive, and the first is failed: both its locks are gone."""
    bad, good = drives_of(tapes, tape_library, 2)
    (tape,) = on_shelf(tapes, tape_library, "tape")
    tapes.drive_lock(good)
    fault = {"kind": "mount", "drive": bad.serial, "cartridge": tape.label, "count": OFTEN}
    with tape_library.faults(fault), tape_rows(tapes.database.connection) as rows:
        assert refusal(tape_get, tapes, tape.label) == (errno.EIO, RequestKind.READ)
        until(lambda: not tapes.database.lock_of("media", tape.medium), "the tape is given back")
        tapes.drive_unlock(good)
        assert tape_get(tapes, tape.label) == CONTENT
        until(lambda: not tapes.database.lock_of("device", bad.device), "the drive is let go")
        rows.loaded(bad, tape, tapes.host.owner)
        rows.log("LTFS mount", bad, tape, errno.EIO, "mount")
        rows.unloaded(bad, tape)
        rows.drive(good, adm_status="unlocked")
        rows.lock("device", good.lock, tapes.host.owner)
        rows.loaded(good, tape, tapes.host.owner)
        rows.log("LTFS mount", good, tape, key="mount")
        rows.drive(bad, adm_status="failed")
        rows.unlock("device", bad.lock)
    assert [(status["serial"], status["adm_status"]) for status in tapes.drive_status()] == [
        (bad.serial, "failed"),
        (good.serial, "unlocked"),
    ]
    # As `drive unlock` after a repair.
    with tape_rows(tapes.database.connection) as rows:
        tapes.drive_unlock(bad)
        rows.drive(bad, adm_status="unlocked")
        rows.lock("device", bad.lock, tapes.host.owner)
        rows.forgotten(bad)


def test_a_load_that_fails_once(tapes: TapePhobos, tape_library: TapeLibrary) -> None:
    """The other drive is tried, and the client knows of nothing."""
    drives = drives_of(tapes, tape_library, 2)
    (tape,) = on_shelf(tapes, tape_library, "tape")
    with (
        tape_library.faults({"kind": "load", "cartridge": tape.label}),
        tape_rows(tapes.database.connection) as rows,
    ):
        assert tape_get(tapes, tape.label) == CONTENT
        good = holder(drives, tape, tape_library)
        (bad,) = [drive for drive in drives if drive is not good]
        until(lambda: status_of(tapes, bad) == "failed", "the drive is failed")
        until(lambda: not tapes.database.lock_of("device", bad.device), "the drive is let go")
        rows.log("Device load", bad, tape, errno.EIO, "scsi_execute")
        rows.loaded(good, tape, tapes.host.owner)
        rows.log("LTFS mount", good, tape, key="mount")
        rows.drive(bad, adm_status="failed")
        rows.unlock("device", bad.lock)


def test_a_put_goes_to_another_tape(tapes: TapePhobos, tape_library: TapeLibrary) -> None:
    """There is one drive: what it works with shows that it was the tape."""
    (drive,) = drives_of(tapes, tape_library, 1)
    both = on_shelf(tapes, tape_library, "one", "two")
    faults = [{"kind": "mount", "cartridge": both[0].label, "count": OFTEN}]
    tapes.tape_update(both[1], put=False)
    with tape_library.faults(*faults), tape_rows(tapes.database.connection) as rows:
        assert refusal(tape_put, tapes, "object", CONTENT) == (errno.EIO, RequestKind.WRITE)
        until(lambda: not tapes.database.lock_of("media", both[0].medium), "the tape is given back")
        tapes.tape_update(both[1], put=True)
        tape_put(tapes, "object", CONTENT)
        until(lambda: status_of(tapes, both[0]) == "failed", "the tape is failed")
        rows.loaded(drive, both[0], tapes.host.owner)
        rows.log("LTFS mount", drive, both[0], errno.EIO, "mount")
        rows.unloaded(drive, both[0])
        rows.loaded(drive, both[1], tapes.host.owner)
        rows.log("LTFS mount", drive, both[1], key="mount")
        failed(rows, both[0])
        rows.tape(both[1], put=True)
        rows.written(both[1], 1, len(CONTENT))


def test_a_sync_that_fails(tapes: TapePhobos, tape_library: TapeLibrary) -> None:
    """All that waited for it are told; nothing is counted. The tape leaves the drive, and is not failed for that."""
    (drive,) = drives_of(tapes, tape_library, 1)
    (tape,) = on_shelf(tapes, tape_library, "tape")
    with (
        tape_library.faults({"kind": "sync", "cartridge": tape.label}),
        tape_rows(tapes.database.connection) as rows,
    ):
        assert refusal(tape_put, tapes, "object", CONTENT) == (errno.EIO, RequestKind.RELEASE_WRITE)
        until(lambda: not tapes.database.lock_of("media", tape.medium), "the tape leaves the drive")
        rows.loaded(drive, tape, tapes.host.owner)
        rows.log("LTFS sync", drive, tape, errno.EIO, "sync")
        rows.unloaded(drive, tape)
        # What was written before its sync is there, and takes room.
        rows.stats(tape, phys_spc_free=tapes.database.medium(tape.medium)["stats"]["phys_spc_free"])
    assert (status_of(tapes, drive), status_of(tapes, tape)) == ("unlocked", "unlocked")


def test_a_sync_of_two_copies_of_which_one_fails(tapes: TapePhobos, tape_library: TapeLibrary) -> None:
    """One error, of the kind of the release; neither copy counts in the end."""
    drives_of(tapes, tape_library, 2)
    one, two = on_shelf(tapes, tape_library, "one", "two")
    before = {tape: tapes.database.medium(tape.medium)["stats"]["nb_obj"] for tape in (one, two)}
    with tape_library.faults({"kind": "sync", "cartridge": one.label}):
        found = refusal(tape_put, tapes, "object", CONTENT, layout=raid1(2))
        assert found == (errno.EIO, RequestKind.RELEASE_WRITE)
        until(lambda: not tapes.database.lock_of("media", one.medium), "the tape leaves the drive")
    assert {tape: tapes.database.medium(tape.medium)["stats"]["nb_obj"] for tape in (one, two)} == before


def test_a_format_that_fails(tapes: TapePhobos, tape_library: TapeLibrary) -> None:
    (drive,) = drives_of(tapes, tape_library, 1)
    (tape,) = tape_library.tapes(1)
    tapes.tape_add(tape)
    with (
        tape_library.faults({"kind": "format", "cartridge": tape.label}),
        tape_rows(tapes.database.connection) as rows,
    ):
        assert refusal(tapes.format, tape, unlock=True) == (errno.EIO, RequestKind.FORMAT)
        until(lambda: not tapes.database.lock_of("media", tape.medium), "the tape leaves the drive")
        rows.loaded(drive, tape, tapes.host.owner)
        rows.log("LTFS format", drive, tape, errno.EIO, "format")
        rows.unloaded(drive, tape)
    row = tapes.database.medium(tape.medium)
    assert (row["fs_status"], row["adm_status"]) == ("blank", "locked")


def test_a_tape_that_does_not_come_out(tapes: TapePhobos, tape_library: TapeLibrary) -> None:
    """The drive is failed and keeps the lock of its tape; reads of that are told, others are served."""
    bad, good = drives_of(tapes, tape_library, 2)
    tapes.drive_lock(good)
    stuck, other = on_shelf(tapes, tape_library, "stuck", "other")
    assert tape_get(tapes, stuck.label) == CONTENT
    with tape_library.faults({"kind": "stuck_unload", "cartridge": stuck.label, "count": OFTEN}):
        with tape_rows(tapes.database.connection) as rows:
            assert refusal(tape_get, tapes, other.label) == (errno.EIO, RequestKind.READ)
            until(lambda: status_of(tapes, bad) == "failed", "the drive is failed")
            until(lambda: not tapes.database.lock_of("media", other.medium), "the other tape is given back")
            rows.log("Device unload", bad, stuck, errno.EIO, "scsi_execute")
            rows.drive(bad, adm_status="failed")
        tapes.drive_unlock(good)
        with tape_rows(tapes.database.connection) as rows:
            assert refusal(tape_get, tapes, stuck.label) == (errno.EIO, RequestKind.READ)
            assert tape_get(tapes, other.label) == CONTENT
            rows.loaded(good, other, tapes.host.owner)
            lock = tapes.database.lock_of("media", stuck.medium)
            assert lock is not None
            assert lock["owner"] == tapes.host.owner.pid


def test_a_tape_with_the_label_of_another(tapes: TapePhobos, tape_library: TapeLibrary) -> None:
    """It is failed at once, the drive has nothing to do with that."""
    (drive,) = drives_of(tapes, tape_library, 1)
    (tape,) = on_shelf(tapes, tape_library, "tape")
    with (
        tape_library.faults({"kind": "wrong_cartridge", "cartridge": tape.label}),
        tape_rows(tapes.database.connection) as rows,
    ):
        found, kind = refusal(tape_get, tapes, tape.label)
        assert kind is RequestKind.READ
        assert found in (errno.EINVAL, errno.EPERM)
        until(lambda: status_of(tapes, tape) == "failed", "the tape is failed")
        until(lambda: not tapes.database.lock_of("media", tape.medium), "the tape leaves the drive")
        rows.loaded(drive, tape, tapes.host.owner)
        key = [row for row in tapes.database.rows("SELECT * FROM logs WHERE cause = 'LTFS mount'") if row["errno"]]
        rows.log("LTFS mount", drive, tape, -key[-1]["errno"], next(iter(key[-1]["message"])))
        rows.unloaded(drive, tape)
        failed(rows, tape)
    assert status_of(tapes, drive) == "unlocked"


def test_a_drive_that_dies_while_somebody_writes(tapes: TapePhobos, tape_library: TapeLibrary) -> None:
    """The release is told, and the other drive goes on. The tape in the dead one stays locked."""
    bad, good = drives_of(tapes, tape_library, 2)
    (tape,) = on_shelf(tapes, tape_library, "tape")
    writing = putting(tapes, [Target("object", CONTENT)], Wishes(family=Family.TAPE))
    assert next(writing) == "granted"
    dying = holder((bad, good), tape, tape_library)
    with tape_library.faults({"kind": "drive_death", "drive": dying.serial, "cartridge": tape.label}):
        assert refusal(run, writing) == (errno.EIO, RequestKind.RELEASE_WRITE)
        until(lambda: status_of(tapes, dying) == "failed", "the drive is failed")
    assert status_of(tapes, tape) == "unlocked"
    (other,) = tape_library.tapes(1)
    tapes.tape_ready(other, tags=["other"])
    tape_put(tapes, "another", CONTENT, tags=("other",))
    assert tape_get(tapes, "another") == CONTENT
    found = {status["serial"]: status["adm_status"] for status in tapes.drive_status()}
    assert found[dying.serial] == "failed"


def test_a_tape_that_is_write_protected(tapes: TapePhobos, tape_library: TapeLibrary) -> None:
    """A put goes to another one; from then on its row says that it takes no more, and it is read as before."""
    (drive,) = drives_of(tapes, tape_library, 1)
    protected, other = on_shelf(tapes, tape_library, "protected", "other")
    tapes.tape_update(protected, tags=["foo", "preferred"])
    tapes.tape_update(other, tags=["foo"], put=False)
    with tape_library.faults({"kind": "write_protected", "cartridge": protected.label}):
        with tape_rows(tapes.database.connection) as rows:
            assert refusal(tape_put, tapes, "object", CONTENT, tags=("foo",)) == (errno.ENOSPC, RequestKind.WRITE)
            rows.loaded(drive, protected, tapes.host.owner)
            rows.tape(protected, put=False)
        tapes.tape_update(other, put=True)
        with tape_rows(tapes.database.connection) as rows:
            assert tape_get(tapes, protected.label) == CONTENT
            tape_put(tapes, "object", CONTENT, tags=("foo",))
            rows.unloaded(drive, protected)
            rows.loaded(drive, other, tapes.host.owner)
            rows.written(other, 1, len(CONTENT))


def test_a_tape_that_ends_early(tapes: TapePhobos, tape_library: TapeLibrary) -> None:
    """What is written there is safe, and nothing more is."""
    (drive,) = drives_of(tapes, tape_library, 1)
    (tape,) = on_shelf(tapes, tape_library, "tape")
    with (
        tape_library.faults({"kind": "end_of_medium", "cartridge": tape.label}),
        tape_rows(tapes.database.connection) as rows,
    ):
        tape_put(tapes, "object", CONTENT)
        rows.loaded(drive, tape, tapes.host.owner)
        rows.written(tape, 1, len(CONTENT), fs_status="full")
        rows.stats(tape, phys_spc_free=0)
        assert refusal(tape_put, tapes, "another", CONTENT) == (errno.ENOSPC, RequestKind.WRITE)
    assert tape_get(tapes, "object") == CONTENT
