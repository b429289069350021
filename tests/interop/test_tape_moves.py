"""drive load and drive unload: the daemon lets go of the drive, the client has the tape moved, the daemon adopts it."""

from __future__ import annotations

import errno
from concurrent.futures import ThreadPoolExecutor

import pytest

from lrs_trio.model import Family, RequestKind
from tests.interop.conftest import MakeTapePhobos, refusal, until
from tests.interop.database import LockError
from tests.interop.tapes import TapeLibrary, TapePhobos, drives_of, tape_get, tape_put, tape_rows
from tests.interop.transfers import Target, Wishes, putting, run

CONTENT = b"c" * 1000
ON_TAPE = Wishes(family=Family.TAPE)


def test_load(tapes: TapePhobos, tape_library: TapeLibrary) -> None:
    """The weak lock that the client leaves behind becomes the daemon's."""
    (drive,) = drives_of(tapes, tape_library, 1)
    one, other = tape_library.tapes(2)
    tapes.tape_ready(one)
    tape_put(tapes, "object", CONTENT)
    tapes.tape_ready(other)
    tapes.unload(drive, other, tape_library)
    with tape_rows(tapes.database.connection) as rows:
        tapes.load(drive, one, tape_library)
        rows.lock("device", drive.lock, tapes.host.owner)
        rows.lock("media", one.lock, tapes.host.owner)
        assert [said.direction for said in tapes.said] == ["request", "response"] * 2
        (status,) = tapes.drive_status()
        assert (status["media"], status["mount_path"]) == (one.label, "")
        assert tape_get(tapes, "object") == CONTENT


def test_load_between_the_steps(tapes: TapePhobos, tape_library: TapeLibrary) -> None:
    """While the client has the drive the daemon keeps its hands off it, and serves with the other one."""
    first, second = drives_of(tapes, tape_library, 2)
    one, other = tape_library.tapes(2)
    tapes.drive_lock(second)
    tapes.tape_ready(one)
    tapes.drive_unlock(second)
    tapes.drive_lock(first)
    with tapes.database.locked("device", first.lock):
        tapes.tape_ready(other)
        tapes.database.take_ownership("media", one.lock)
        assert tape_library.inside(second) == other.label
        tape_put(tapes, "object", CONTENT)
        assert tapes.database.medium(other.medium)["stats"]["nb_obj"] == 1
        tape_library.unload(first)
        tape_library.load(first, one)
        tapes.database.weaken("media", one.lock)
        with pytest.raises(LockError):
            tapes.database.take_ownership("media", other.lock)
    with tape_rows(tapes.database.connection) as rows:
        tapes.drive_unlock(first)
        rows.drive(first, adm_status="unlocked")
        rows.lock("device", first.lock, tapes.host.owner)
        rows.lock("media", one.lock, tapes.host.owner)


def test_unload(tapes: TapePhobos, tape_library: TapeLibrary) -> None:
    (drive,) = drives_of(tapes, tape_library, 1)
    (tape,) = tape_library.tapes(1)
    tapes.tape_ready(tape)
    tape_put(tapes, "object", CONTENT)
    with tape_rows(tapes.database.connection) as rows:
        tapes.unload(drive, tape, tape_library)
        rows.lock("device", drive.lock, tapes.host.owner)
        rows.unlock("media", tape.lock)
    (status,) = tapes.drive_status()
    assert "media" not in status
    with tape_rows(tapes.database.connection) as rows:
        assert tape_get(tapes, "object") == CONTENT
        rows.loaded(drive, tape, tapes.host.owner)


def test_unload_waits_for_whoever_writes(
    tapes: TapePhobos, tape_library: TapeLibrary, make_tape_phobos: MakeTapePhobos
) -> None:
    """The wait is the daemon's: the tape is moved when all that was written on it is safe."""
    (drive,) = drives_of(tapes, tape_library, 1)
    (tape,) = tape_library.tapes(1)
    tapes.tape_ready(tape)
    writing = putting(tapes, [Target("object", CONTENT)], ON_TAPE)
    assert next(writing) == "granted"
    with ThreadPoolExecutor() as threads:
        unloading = threads.submit(make_tape_phobos(tapes.host).unload, drive, tape, tape_library)
        until(lambda: tapes.database.device(drive)["adm_status"] == "locked", "the command has begun")
        assert tape_library.inside(drive) == tape.label
        run(writing)
        unloading.result()
    assert tape_library.inside(drive) is None
    assert tapes.database.medium(tape.medium)["stats"]["nb_obj"] == 1


def test_load_of_a_tape_that_the_database_does_not_know(tapes: TapePhobos, tape_library: TapeLibrary) -> None:
    """The drive is not served with it; when it has been taken out again, it is."""
    (drive,) = drives_of(tapes, tape_library, 1)
    (unknown,) = tape_library.tapes(1)
    tapes.drive_lock(drive)
    tape_library.load(drive, unknown)
    assert refusal(tapes.drive_unlock, drive) == (errno.ENXIO, RequestKind.NOTIFY)
    assert tapes.database.locks() == []
    tape_library.unload(drive)
    tapes.drive_unlock(drive)
    assert [status["serial"] for status in tapes.drive_status()] == [drive.serial]


def test_load_of_a_tape_of_another_host(tapes: TapePhobos, tape_library: TapeLibrary) -> None:
    """The client cannot have the lock, and nothing moves."""
    (drive,) = drives_of(tapes, tape_library, 1)
    (tape,) = tape_library.tapes(1)
    tapes.tape_add(tape)
    tapes.database.lock("media", tape.lock, host="tape2", weak=True)
    with pytest.raises(LockError):
        tapes.load(drive, tape, tape_library)
    tapes.drive_unlock(drive)
    assert tape_library.inside(drive) is None
    tapes.database.unlock("media", tape.lock)
