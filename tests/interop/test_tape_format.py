"""tape add and format."""

from __future__ import annotations

import errno
from collections.abc import Sequence

import pytest

from lrs_trio.model import Family, FsType, RequestKind, ResourceId
from lrs_trio.wire.messages import Failed, Format, Formatted, Request
from tests.interop.conftest import MakePhobos, refusal
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
from tests.interop.transfers import Target, Wishes, putting, run
from tests.interop.wire import RefusedError

CONTENT = b"c" * 1000
ON_TAPE = Wishes(family=Family.TAPE)


def test_add(tapes: TapePhobos, tape_library: TapeLibrary) -> None:
    """The daemon is told nothing."""
    one, two = tape_library.tapes(2)
    with tape_rows(tapes.database.connection) as rows:
        tapes.tape_add(one, tags=["foo", "bar"])
        tapes.tape_add(two, unlock=True)
        rows.add_tape(one, tags=["foo", "bar"])
        rows.add_tape(two, adm_status="unlocked")


def test_format(tapes: TapePhobos, tape_library: TapeLibrary) -> None:
    """Each in a drive of its own, where it stays, loaded."""
    drives, both = drives_of(tapes, tape_library, 2), tape_library.tapes(2)
    tapes.tape_add(*both, tags=["foo"])
    with tape_rows(tapes.database.connection) as rows:
        tapes.format(*both)
        for tape in both:
            rows.loaded(holder(drives, tape, tape_library), tape, tapes.host.owner)
            rows.formatted(tape)
    assert [said.direction for said in tapes.said] == ["request"] * 2 + ["response"] * 2
    assert sorted(status["media"] for status in tapes.drive_status()) == [tape.label for tape in both]
    assert [status["mount_path"] for status in tapes.drive_status()] == ["", ""]


@pytest.mark.parametrize("streams", [0, 1, 2])
def test_format_of_more_than_there_are_drives(tapes: TapePhobos, tape_library: TapeLibrary, streams: int) -> None:
    """Those that find no drive wait. Ids are those of the media, from 0."""
    drives, all_ = drives_of(tapes, tape_library, 2), tape_library.tapes(5)
    tapes.tape_add(*all_)
    windows: list[int] = []
    with tapes.command() as command, tape_rows(tapes.database.connection) as rows:
        tapes.format_all(command.connect(), all_, unlock=True, streams=streams, on_window=windows.append)
        for tape in all_:
            rows.formatted(tape, adm_status="unlocked")
        moved_anywhere(rows, tapes, drives, all_, tape_library)
    assert windows == [min(streams or 5, left) for left in range(5, 0, -1)]


def moved_anywhere(
    rows: TapeRows, tapes: TapePhobos, drives: Sequence[Drive], all_: Sequence[Tape], library: TapeLibrary
) -> None:
    """Each of `all_` was loaded once, in whatever drive, and those that are in none now were unloaded again."""
    by_serial = {drive.serial: drive for drive in drives}
    loads = tapes.database.rows("SELECT device, medium FROM logs WHERE cause = 'Device load'")
    where = {row["medium"]: by_serial[row["device"]] for row in loads}
    assert len(loads) == len(all_)
    inside = {library.inside(drive) for drive in drives}
    for tape in all_:
        rows.loaded(where[tape.label], tape, tapes.host.owner)
        if tape.label not in inside:
            rows.unloaded(where[tape.label], tape)


def test_format_of_one_that_is_not_blank(tapes: TapePhobos, tape_library: TapeLibrary) -> None:
    drives_of(tapes, tape_library, 1)
    (tape,) = tape_library.tapes(1)
    tapes.tape_ready(tape)
    with tape_rows(tapes.database.connection):
        assert refusal(tapes.format, tape) == (errno.EINVAL, RequestKind.FORMAT)


@pytest.mark.parametrize("status", ["loaded", "mounted", "on the shelf"])
def test_format_with_force(tapes: TapePhobos, tape_library: TapeLibrary, status: str) -> None:
    """Wherever it is; tags, groupings and flags are kept, the figures of its loads too. It stays loaded."""
    (drive,) = drives_of(tapes, tape_library, 1)
    (tape, other) = tape_library.tapes(2)
    tapes.tape_ready(tape, tags=["foo"])
    tape_put(tapes, "object", CONTENT, grouping="g1")
    tapes.tape_update(tape, delete=False)
    match status:
        case "loaded":
            tapes.drive_lock(drive)
            tapes.drive_unlock(drive)
        case "on the shelf":
            tapes.tape_add(other)
            tapes.format(other)
    with tape_rows(tapes.database.connection) as rows:
        tapes.format(tape, force=True)
        if status == "on the shelf":
            rows.unloaded(drive, other)
            rows.loaded(drive, tape, tapes.host.owner)
        rows.formatted(tape)
    row = tapes.database.medium(tape.medium)
    assert (row["tags"], row["groupings"], row["delete"], row["adm_status"]) == (["foo"], ["g1"], False, "unlocked")
    assert tape_library.content(tape) == []
    (found,) = tapes.drive_status()
    assert (found["media"], found["mount_path"]) == (tape.label, "")
    assert not (tapes.host.base / f"mnt-{drive.path.name}").exists()


def test_format_of_a_locked_tape_unlocks_it_only_if_asked(tapes: TapePhobos, tape_library: TapeLibrary) -> None:
    drives_of(tapes, tape_library, 1)
    (tape,) = tape_library.tapes(1)
    tapes.tape_add(tape)
    tapes.format(tape)
    assert tapes.database.medium(tape.medium)["adm_status"] == "locked"
    with tape_rows(tapes.database.connection) as rows:
        tapes.format(tape, force=True, unlock=True)
        rows.formatted(tape, adm_status="unlocked")
    tape_put(tapes, "object", CONTENT)
    assert tape_get(tapes, "object") == CONTENT


def test_format_while_it_is_being_formatted(tapes: TapePhobos, tape_library: TapeLibrary) -> None:
    """By whoever asked first; also if the one that is under way has still to fetch it."""
    (drive,) = drives_of(tapes, tape_library, 1)
    (tape,) = tape_library.tapes(1)
    tapes.tape_add(tape)
    with tapes.command() as command, tape_rows(tapes.database.connection) as rows:
        admin = command.connect()
        admin.send(*(Request(id_, Format(tape.medium, FsType.LTFS)) for id_ in (0, 1)))
        first, second = admin.receive(), admin.receive()
        assert (first.request_id, first.body) == (1, Failed(-errno.EINVAL, RequestKind.FORMAT))
        assert (second.request_id, second.body) == (0, Formatted(tape.medium))
        rows.loaded(drive, tape, tapes.host.owner)
        rows.formatted(tape)


def test_format_while_somebody_writes(tapes: TapePhobos, tape_library: TapeLibrary, make_phobos: MakePhobos) -> None:
    """It waits for the writer's release and its sync; then the tape is formatted, whatever was on it."""
    drives_of(tapes, tape_library, 1)
    (tape,) = tape_library.tapes(1)
    tapes.tape_ready(tape)
    writing = putting(tapes, [Target("object", CONTENT)], ON_TAPE)
    assert next(writing) == "granted"
    with make_phobos(tapes.host).command() as command, tape_rows(tapes.database.connection) as rows:
        admin = command.connect()
        admin.send(Request(0, Format(tape.medium, FsType.LTFS, force=True)))
        admin.assert_silent()
        run(writing)
        assert admin.expect(0, Formatted).medium == tape.medium
        rows.formatted(tape)


@pytest.mark.parametrize("fs_type", [FsType.POSIX, FsType.RADOS])
def test_format_with_a_filesystem_of_another_family(
    tapes: TapePhobos, tape_library: TapeLibrary, fs_type: FsType
) -> None:
    drives_of(tapes, tape_library, 1)
    (tape,) = tape_library.tapes(1)
    tapes.tape_add(tape)
    with tapes.command() as command, tape_rows(tapes.database.connection):
        found = refusal(command.connect().ask, 0, Format(tape.medium, fs_type), Formatted)
        assert found == (errno.EINVAL, RequestKind.FORMAT)


def test_format_of_what_cannot_be_formatted(tapes: TapePhobos, tape_library: TapeLibrary) -> None:
    """Unknown to the DSS, in use elsewhere, of a model for which there is no drive, or not in the library at all."""
    drives_of(tapes, tape_library, 1)
    unknown, elsewhere, importing, other_model = tape_library.tapes(4)
    database = tapes.database
    tapes.tape_add(elsewhere)
    database.lock("media", elsewhere.lock, host="tape2")
    database.insert_medium(importing, model="LTO8", fs_status="importing")
    database.insert_medium(other_model, model="LTO5")
    missing = Tape("V99999L8")
    tapes.tape_add(missing)
    with tape_rows(database.connection):
        for tape, number in {
            unknown: errno.ENXIO,
            elsewhere: errno.EBUSY,
            importing: errno.EINVAL,
            other_model: errno.ENODEV,
            missing: errno.ENXIO,
        }.items():
            assert refusal(tapes.format, tape, force=True) == (number, RequestKind.FORMAT)
    database.unlock_by_force("media", elsewhere.lock)


def test_format_of_a_tape_of_another_library(tapes: TapePhobos, tape_library: TapeLibrary) -> None:
    drives_of(tapes, tape_library, 1)
    database = tapes.database
    (tape,) = tape_library.tapes(1)
    tapes.tape_add(tape)
    elsewhere = ResourceId(Family.TAPE, tape.label, "other")
    with tapes.command() as command, tape_rows(database.connection), pytest.raises(RefusedError) as refused:
        command.connect().ask(0, Format(elsewhere, FsType.LTFS), Formatted)
    assert refused.value.rc == -errno.ENXIO
