"""put on tapes, and what becomes of it when it is deleted."""

from __future__ import annotations

import errno
from concurrent.futures import ThreadPoolExecutor

import pytest

from lrs_trio.model import Family, RequestKind, SyncThresholds
from lrs_trio.wire.messages import (
    Release,
    Released,
    ReleasedMedium,
    Request,
    WriteAllocation,
    WriteGranted,
    WriteMedium,
)
from tests.interop.conftest import MakeHost, MakeTapePhobos, refusal, until
from tests.interop.host import LIBRARY
from tests.interop.tapes import (
    AGE_MS,
    CAPACITY,
    TapeLibrary,
    TapePhobos,
    drives_of,
    holder,
    start_with_tapes,
    tape_get,
    tape_put,
    tape_rows,
)
from tests.interop.transfers import Target, Wishes, delete_from_tape, putting, raid1, run

CONTENT = bytes(range(256)) * 100
ON_TAPE = Wishes(family=Family.TAPE)
WRITE = WriteAllocation((WriteMedium(4096),), Family.TAPE, library=LIBRARY)


@pytest.mark.parametrize("copies", [1, 2])
def test_put(tapes: TapePhobos, tape_library: TapeLibrary, copies: int) -> None:
    """Each copy on a tape of its own, in a drive of its own; the tapes stay mounted."""
    drives, written = drives_of(tapes, tape_library, 3), tape_library.tapes(copies)
    tapes.tape_ready(*written)
    with tape_rows(tapes.database.connection) as rows:
        tape_put(tapes, "object", CONTENT, layout=raid1(copies))
        for tape in written:
            rows.written(tape, 1, len(CONTENT))
            assert tape_library.content(tape) == [len(CONTENT)]
    mounted = {status["media"]: status["mount_path"] for status in tapes.drive_status() if "media" in status}
    assert mounted == {
        tape.label: f"{tapes.host.base}/mnt-{holder(drives, tape, tape_library).path.name}" for tape in written
    }
    with tape_rows(tapes.database.connection):
        assert tape_get(tapes, "object") == CONTENT


def test_the_thresholds_and_the_space_that_are_granted(tapes: TapePhobos, tape_library: TapeLibrary) -> None:
    """The volume in bytes, although its name on the wire ends in kb."""
    drives_of(tapes, tape_library, 1)
    (tape,) = tape_library.tapes(1)
    tapes.tape_ready(tape)
    tape_put(tapes, "object", CONTENT)
    with tapes.command() as command:
        granted = command.connect().ask(0, WRITE, WriteGranted)
    assert granted.thresholds == SyncThresholds(age=AGE_MS / 1000, requests=5, size=2**30)
    assert [medium.avail_size for medium in granted.media] == [CAPACITY - len(CONTENT)]


def test_put_from_the_shelf(tapes: TapePhobos, tape_library: TapeLibrary) -> None:
    """A tape is fetched, another one makes room for it: the one that is not written any more."""
    (drive,) = drives_of(tapes, tape_library, 1)
    full, fresh = tape_library.tapes(2)
    tapes.tape_ready(full, fresh)
    tapes.tape_update(fresh, tags=["fresh"])
    tape_put(tapes, "first", CONTENT, tags=("fresh",))
    tapes.tape_update(full, tags=["full"])
    with tape_rows(tapes.database.connection) as rows:
        tape_put(tapes, "second", CONTENT, tags=("full",))
        rows.unloaded(drive, fresh)
        rows.loaded(drive, full, tapes.host.owner)
        rows.written(full, 1, len(CONTENT))


def test_put_of_more_copies_than_there_are_drives(tapes: TapePhobos, tape_library: TapeLibrary) -> None:
    drives_of(tapes, tape_library, 1)
    tapes.tape_ready(*tape_library.tapes(2))
    with tape_rows(tapes.database.connection):
        assert refusal(tape_put, tapes, "object", CONTENT, layout=raid1(2)) == (errno.ENODEV, RequestKind.WRITE)


def test_put_of_more_copies_than_there_are_tapes(tapes: TapePhobos, tape_library: TapeLibrary) -> None:
    drives_of(tapes, tape_library, 2)
    tapes.tape_ready(*tape_library.tapes(1))
    with tape_rows(tapes.database.connection):
        assert refusal(tape_put, tapes, "object", CONTENT, layout=raid1(2)) == (errno.ENOSPC, RequestKind.WRITE)


def test_put_right_after_the_tape_was_unlocked(tapes: TapePhobos, tape_library: TapeLibrary) -> None:
    """No host has it, so no daemon is told: it is seen all the same."""
    (drive,) = drives_of(tapes, tape_library, 1)
    (tape,) = tape_library.tapes(1)
    tapes.tape_ready(tape)
    tapes.tape_update(tape, adm_status="locked")
    tapes.drive_lock(drive)
    tape_library.unload(drive)
    tapes.drive_unlock(drive)
    with tape_rows(tapes.database.connection):
        assert refusal(tape_put, tapes, "object", CONTENT) == (errno.ENOSPC, RequestKind.WRITE)
    tapes.tape_update(tape, adm_status="unlocked")
    assert [said.direction for said in tapes.said] == []
    tape_put(tapes, "object", CONTENT)


def targets(*contents: bytes) -> list[Target]:
    return [Target(f"object{number}", content) for number, content in enumerate(contents, 1)]


def test_put_with_partial_releases(
    make_host: MakeHost, make_tape_phobos: MakeTapePhobos, tape_library: TapeLibrary
) -> None:
    """A threshold is reached between two objects: what was written is synced, and the tapes stay the client's."""
    host = make_host("tape2")
    start_with_tapes(host, tape_library, lrs={"sync_nb_req": "tape=2", "sync_wsize_kb": "tape=200"})
    phobos, other = make_tape_phobos(host), make_tape_phobos(host)
    drives_of(phobos, tape_library, 2)
    both = tape_library.tapes(2)
    phobos.tape_ready(*both)
    large, small = b"a" * 300_000, b"b" * 1000
    wishes = Wishes(family=Family.TAPE, layout=raid1(2), grouping="g1")
    writing = putting(phobos, targets(large, small, small, small), wishes)
    with other.command() as command:
        assert next(writing) == "granted"
        connection = command.connect()
        connection.send(Request(0, WRITE))
        # By the volume of the first, then by the number of those after it.
        for objects, size, step in ((1, 300_000, "partial"), (0, 0, "written"), (2, 2000, "partial")):
            with tape_rows(phobos.database.connection) as rows:
                assert next(writing) == step
                for tape in both if objects else ():
                    rows.written(tape, objects, size, groupings=["g1"])
            # Nobody else gets them meanwhile, and nothing is unmounted.
            connection.assert_silent()
            found = other.drive_status()
            assert [(device["ongoing_io"], device["mount_path"] != "") for device in found] == [(True, True)] * 2
        with tape_rows(phobos.database.connection) as rows, ThreadPoolExecutor() as threads:
            released = threads.submit(run, writing)
            granted = connection.expect(0, WriteGranted)
            assert granted.thresholds == SyncThresholds(AGE_MS / 1000, 2, 200 * 1024)
            connection.close()
            released.result()
            for tape in both:
                rows.written(tape, 1, 1000)
    assert [tape_get(phobos, f"object{number}") for number in (1, 2, 3, 4)] == [large, small, small, small]
    phobos.clear(tape_library)


def test_put_in_splits(tapes: TapePhobos, tape_library: TapeLibrary) -> None:
    """Larger than any tape: what one has room for, then a release and the next allocation together."""
    drives_of(tapes, tape_library, 1)
    both = tape_library.tapes(2)
    tapes.tape_ready(*both)
    size = CAPACITY + 2**20
    steps = list(putting(tapes, [Target("object", hole=size)], ON_TAPE))
    assert steps == ["granted", "granted", "released"]
    first, second = sorted(
        (tapes.database.medium(tape.medium) for tape in both), key=lambda row: -row["stats"]["logc_spc_used"]
    )
    assert (first["fs_status"], first["stats"]["phys_spc_free"]) == ("full", 0)
    assert (first["stats"]["logc_spc_used"], first["stats"]["nb_obj"]) == (CAPACITY, 1)
    assert (second["fs_status"], second["stats"]["logc_spc_used"]) == ("used", 2**20)


def test_a_tape_that_is_nearly_full_is_full(tapes: TapePhobos, tape_library: TapeLibrary) -> None:
    """tape_full_threshold: with less than 5 per cent left."""
    drives_of(tapes, tape_library, 1)
    (tape,) = tape_library.tapes(1)
    tapes.tape_ready(tape)
    size = CAPACITY * 96 // 100
    with tape_rows(tapes.database.connection) as rows:
        assert list(putting(tapes, [Target("object", hole=size)], ON_TAPE)) == ["granted", "released"]
        rows.written(tape, 1, size, fs_status="full")
        rows.stats(tape, phys_spc_free=0)
    with tape_rows(tapes.database.connection):
        assert refusal(tape_put, tapes, "another", CONTENT) == (errno.ENOSPC, RequestKind.WRITE)
    with tape_rows(tapes.database.connection) as rows:
        tapes.format(tape, force=True)
        rows.formatted(tape)


def test_put_with_a_grouping(tapes: TapePhobos, tape_library: TapeLibrary, make_tape_phobos: MakeTapePhobos) -> None:
    """A tape bears the groupings that were written there, is preferred for them, and another one does if it is busy."""
    drives_of(tapes, tape_library, 2)
    both = tape_library.tapes(2)
    tapes.tape_ready(*both)
    database = tapes.database
    tape_put(tapes, "first", CONTENT, grouping="g1")
    (one,) = [tape for tape in both if database.medium(tape.medium)["groupings"] == ["g1"]]
    (other,) = [tape for tape in both if tape is not one]
    with tape_rows(database.connection) as rows:
        tape_put(tapes, "second", CONTENT, grouping="g1")
        rows.written(one, 1, len(CONTENT))
    with tape_rows(database.connection) as rows:
        writing = putting(tapes, [Target("third", CONTENT)], Wishes(family=Family.TAPE, grouping="g1"))
        assert next(writing) == "granted"
        tape_put(make_tape_phobos(tapes.host), "fourth", CONTENT, grouping="g1")
        rows.written(other, 1, len(CONTENT), groupings=["g1"])
        run(writing)
        rows.written(one, 1, len(CONTENT))
    with tape_rows(database.connection) as rows:
        tape_put(tapes, "fifth", CONTENT, grouping="g2", layout=raid1(2))
        for tape in both:
            rows.written(tape, 1, len(CONTENT), groupings=["g1", "g2"])


def test_put_with_a_grouping_that_is_on_the_shelf(tapes: TapePhobos, tape_library: TapeLibrary) -> None:
    """It is fetched rather than another tape be written that is mounted."""
    (drive,) = drives_of(tapes, tape_library, 1)
    one, other = tape_library.tapes(2)
    tapes.tape_ready(one)
    tape_put(tapes, "first", CONTENT, grouping="g1")
    tapes.tape_ready(other)
    tape_put(tapes, "second", CONTENT, grouping="g2")
    assert tapes.database.medium(other.medium)["groupings"] == ["g2"]
    with tape_rows(tapes.database.connection) as rows:
        tape_put(tapes, "third", CONTENT, grouping="g1")
        rows.unloaded(drive, other)
        rows.loaded(drive, one, tapes.host.owner)
        rows.written(one, 1, len(CONTENT))


def test_put_with_an_error_of_the_client(tapes: TapePhobos, tape_library: TapeLibrary) -> None:
    """It says so in a release that is not answered. Nothing is counted; what may have been written is synced."""
    drives_of(tapes, tape_library, 1)
    (tape,) = tape_library.tapes(1)
    tapes.tape_ready(tape)
    with tape_rows(tapes.database.connection) as rows:
        writing = putting(tapes, targets(CONTENT, CONTENT), ON_TAPE)
        assert [next(writing), next(writing)] == ["granted", "written"]
        with pytest.raises(OSError, match="No space left"):
            writing.throw(OSError(errno.ENOSPC, "No space left on device"))
        until(lambda: tapes.database.medium(tape.medium)["fs_status"] == "used", "the tape is synced")
        rows.written(tape, 0, 0)
        rows.stats(tape, phys_spc_used=len(CONTENT), phys_spc_free=CAPACITY - len(CONTENT))
    assert [said.direction for said in tapes.said] == ["request", "response", "request"]
    tape_put(tapes, "another", CONTENT)


def test_put_by_a_client_that_dies(tapes: TapePhobos, tape_library: TapeLibrary) -> None:
    drives_of(tapes, tape_library, 1)
    (tape,) = tape_library.tapes(1)
    tapes.tape_ready(tape)
    writing = putting(tapes, targets(CONTENT, CONTENT), ON_TAPE)
    assert [next(writing), next(writing)] == ["granted", "written"]
    writing.close()
    tape_put(tapes, "another", CONTENT)
    assert tapes.database.medium(tape.medium)["stats"]["nb_obj"] == 1


def test_releases_of_several_clients_are_synced_together(
    make_host: MakeHost, make_tape_phobos: MakeTapePhobos, tape_library: TapeLibrary
) -> None:
    """The first waits for the second; no sync comes between, as none is due."""
    host = make_host("tape2")
    start_with_tapes(host, tape_library, lrs={"sync_time_ms": "tape=100000", "sync_nb_req": "tape=2"})
    first, second = make_tape_phobos(host), make_tape_phobos(host)
    drives_of(first, tape_library, 1)
    (tape,) = tape_library.tapes(1)
    first.tape_ready(tape)
    with tape_rows(first.database.connection) as rows, ThreadPoolExecutor() as threads:
        one = threads.submit(tape_put, first, "one", CONTENT)
        until(lambda: tape_library.content(tape) == [len(CONTENT)], "the first has written")
        until(lambda: second.stats("dev", "tosync_count")[0]["value"] == 1, "the first waits for the sync")
        assert not one.done()
        tape_put(second, "two", CONTENT)
        one.result()
        rows.written(tape, 2, 2 * len(CONTENT))
    assert [metric["value"] for metric in second.stats("dev", "effective_sync")] == [1]
    first.clear(tape_library)


def test_hard_delete(tapes: TapePhobos, tape_library: TapeLibrary) -> None:
    """Nothing is said to the daemon; what is left on the tape is an orphan, which is in nobody's way."""
    drives_of(tapes, tape_library, 1)
    (tape,) = tape_library.tapes(1)
    tapes.tape_ready(tape)
    tape_put(tapes, "object", CONTENT)
    tape_put(tapes, "kept", CONTENT)
    with tape_rows(tapes.database.connection):
        delete_from_tape(tapes, "object")
        assert tapes.said == []
        assert [row["state"] for row in tapes.database.rows("SELECT state FROM extent ORDER BY 1")] == [
            "sync",
            "orphan",
        ]
        assert tape_get(tapes, "kept") == CONTENT
    assert tape_library.content(tape) == [len(CONTENT)] * 2
    with tape_rows(tapes.database.connection) as rows:
        tape_put(tapes, "object", CONTENT)
        rows.written(tape, 1, len(CONTENT))


def test_release_of_a_tape_that_is_in_no_drive(tapes: TapePhobos, tape_library: TapeLibrary) -> None:
    drives_of(tapes, tape_library, 1)
    (tape,) = tape_library.tapes(1)
    tapes.tape_add(tape)
    with tapes.command() as command, tape_rows(tapes.database.connection):
        connection = command.connect()
        element = ReleasedMedium(tape.medium, 0, 0, 0, to_sync=True)
        found = refusal(connection.ask, 0, Release((element,), RequestKind.RELEASE_WRITE), Released)
        assert found == (errno.ENODEV, RequestKind.RELEASE_WRITE)
        connection.send(
            Request(0, Release((ReleasedMedium(tape.medium, 0, 0, 0, to_sync=False),), RequestKind.RELEASE_READ))
        )
        connection.assert_silent()
