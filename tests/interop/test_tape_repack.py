"""tape repack, to the end and not."""

from __future__ import annotations

import errno
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lrs_trio.model import RequestKind
from lrs_trio.wire.messages import ReadAllocation, ReadGranted, Release, ReleasedMedium, Request
from tests.interop.conftest import MakeTapePhobos, refusal, until
from tests.interop.repack import repacking
from tests.interop.tapes import (
    CAPACITY,
    TapeLibrary,
    TapePhobos,
    drives_of,
    holder,
    queued,
    tape_get,
    tape_put,
    tape_rows,
)
from tests.interop.transfers import delete_from_tape, run

A = b"a" * 100_000
B = b"b" * 1000


def test_repack(tapes: TapePhobos, tape_library: TapeLibrary) -> None:
    """Source and target are used at once; then the source, which is still in its drive, is formatted."""
    drives_of(tapes, tape_library, 2)
    source, target = tape_library.tapes(2)
    tapes.tape_ready(source, tags=["foo"])
    for oid, content in {"dead": B, "one": A, "two": B}.items():
        tape_put(tapes, oid, content, tags=("foo",), grouping="g1")
    tapes.tape_ready(target, tags=["foo"])
    delete_from_tape(tapes, "dead")
    with tape_rows(tapes.database.connection) as rows:
        run(repacking(tapes, source))
        rows.written(target, 2, len(A) + len(B))
        rows.formatted(source, adm_status="unlocked")
    row = tapes.database.medium(source.medium)
    assert (row["tags"], row["groupings"]) == (["foo"], ["g1"])
    assert tape_library.content(target) == [len(B), len(A)]
    assert tape_library.content(source) == []
    assert [tape_get(tapes, "one"), tape_get(tapes, "two")] == [A, B]
    assert tapes.database.rows("SELECT * FROM extent WHERE state <> 'sync'") == []


def test_repack_to_a_tape_on_the_shelf(tapes: TapePhobos, tape_library: TapeLibrary) -> None:
    """It is fetched for that, in place of the one that is not the source."""
    drives = drives_of(tapes, tape_library, 2)
    target, source, used = tape_library.tapes(3)
    tapes.tape_ready(target, tags=["foo"])
    for tape in (source, used):
        tapes.tape_ready(tape, tags=[tape.label])
        tape_put(tapes, tape.label, A, tags=(tape.label,))
    assert {tape_library.inside(drive) for drive in drives} == {source.label, used.label}
    drive = holder(drives, used, tape_library)
    with tape_rows(tapes.database.connection) as rows:
        run(repacking(tapes, source, tags=["foo"]))
        rows.unloaded(drive, used)
        rows.loaded(drive, target, tapes.host.owner)
        rows.written(target, 1, len(A))
        rows.formatted(source, adm_status="unlocked")
    assert tape_get(tapes, source.label) == A


def test_what_is_said(tapes: TapePhobos, tape_library: TapeLibrary) -> None:
    drives_of(tapes, tape_library, 2)
    source, target = tape_library.tapes(2)
    tapes.tape_ready(source)
    tape_put(tapes, "object", A)
    tapes.tape_ready(target)
    assert list(repacking(tapes, source)) == ["read", "written", "released", "formatted"]
    assert [said.direction for said in tapes.said] == ["request", "response"] * 4


def test_repack_of_a_tape_with_garbage_only(tapes: TapePhobos, tape_library: TapeLibrary) -> None:
    drives_of(tapes, tape_library, 1)
    (source,) = tape_library.tapes(1)
    tapes.tape_ready(source)
    tape_put(tapes, "dead", A)
    delete_from_tape(tapes, "dead")
    with tape_rows(tapes.database.connection) as rows:
        assert list(repacking(tapes, source)) == ["formatted"]
        rows.formatted(source, adm_status="unlocked")
    assert tapes.database.rows("SELECT * FROM extent") == []


@pytest.mark.parametrize("drives", [1, 2])
def test_repack_without_an_empty_tape(tapes: TapePhobos, tape_library: TapeLibrary, drives: int) -> None:
    """One that is used does not do. The source is given back, and is as it was."""
    drives_of(tapes, tape_library, drives)
    source, used = tape_library.tapes(2)
    tapes.tape_ready(used)
    tape_put(tapes, "other", B)
    tapes.tape_update(used, put=False)
    tapes.tape_ready(source)
    tape_put(tapes, "object", A)
    tapes.tape_update(used, put=True)
    before = tapes.database.medium(source.medium)
    with tape_rows(tapes.database.connection):
        assert refusal(run, repacking(tapes, source)) == (errno.ENOSPC, RequestKind.WRITE)
    until(lambda: not any(status["ongoing_io"] for status in tapes.drive_status()), "the source is given back")
    assert tapes.database.medium(source.medium) == before
    assert tape_get(tapes, "object") == A


def test_repack_with_one_drive(tapes: TapePhobos, tape_library: TapeLibrary) -> None:
    """The client that holds it would wait for itself: it is told at once that there is no second one."""
    drives_of(tapes, tape_library, 1)
    source, target = tape_library.tapes(2)
    tapes.tape_ready(source)
    tape_put(tapes, "object", A)
    tapes.tape_ready(target)
    with tapes.command() as command:
        command.connect()
    assert refusal(run, repacking(tapes, source)) == (errno.ENODEV, RequestKind.WRITE)
    assert tape_get(tapes, "object") == A


def test_repack_by_a_client_that_dies_while_it_copies(tapes: TapePhobos, tape_library: TapeLibrary) -> None:
    """Both tapes are given back; what has been copied was synced and counts for nothing."""
    drives_of(tapes, tape_library, 2)
    source, target = tape_library.tapes(2)
    tapes.tape_ready(source)
    tape_put(tapes, "object", A)
    tapes.tape_ready(target)
    with tape_rows(tapes.database.connection) as rows:
        steps = repacking(tapes, source)
        assert [next(steps), next(steps)] == ["read", "written"]
        assert sum(status["ongoing_io"] for status in tapes.drive_status()) == 2
        steps.close()
        until(lambda: tapes.database.medium(target.medium)["fs_status"] == "used", "the target is synced")
        rows.written(target, 0, 0)
    until(lambda: not any(status["ongoing_io"] for status in tapes.drive_status()), "both are given back")
    assert tape_get(tapes, "object") == A


def test_repack_whose_target_cannot_be_synced(tapes: TapePhobos, tape_library: TapeLibrary) -> None:
    """The client is told, and the source is not formatted."""
    drives_of(tapes, tape_library, 2)
    source, target = tape_library.tapes(2)
    tapes.tape_ready(source)
    tape_put(tapes, "object", A)
    tapes.tape_ready(target)
    with tape_library.faults({"kind": "sync", "cartridge": target.label}):
        assert refusal(run, repacking(tapes, source)) == (errno.EIO, RequestKind.RELEASE_WRITE)
    row = tapes.database.medium(source.medium)
    assert (row["fs_status"], row["stats"]["nb_obj"]) == ("used", 1)
    assert tape_get(tapes, "object") == A


def test_repack_whose_source_cannot_be_formatted(tapes: TapePhobos, tape_library: TapeLibrary) -> None:
    """What was on it is on the target all the same."""
    drives_of(tapes, tape_library, 2)
    source, target = tape_library.tapes(2)
    tapes.tape_ready(source)
    tape_put(tapes, "object", A)
    tapes.tape_ready(target)
    with tape_library.faults({"kind": "format", "cartridge": source.label}):
        assert refusal(run, repacking(tapes, source)) == (errno.EIO, RequestKind.FORMAT)
    assert tape_get(tapes, "object") == A
    row = tapes.database.medium(target.medium)
    assert (row["fs_status"], row["stats"]["logc_spc_used"]) == ("used", len(A))
    assert row["stats"]["phys_spc_free"] == CAPACITY - len(A)


def test_repack_while_somebody_reads_the_source(
    tapes: TapePhobos, tape_library: TapeLibrary, make_tape_phobos: MakeTapePhobos
) -> None:
    """Whoever has read where the copy was before may still do so: the format waits for them."""
    drives_of(tapes, tape_library, 2)
    source, target = tape_library.tapes(2)
    tapes.tape_ready(source)
    tape_put(tapes, "object", A)
    tapes.tape_ready(target)
    _, (before,) = tapes.database.copy("object", "source")
    steps = repacking(tapes, source)
    assert [next(steps), next(steps), next(steps)] == ["read", "written", "released"]
    with make_tape_phobos(tapes.host).command() as command, ThreadPoolExecutor() as threads:
        reader = command.connect()
        (granted,) = reader.ask(0, ReadAllocation(1, (source.medium,)), ReadGranted).media
        rest = threads.submit(run, steps)
        until(lambda: queued(tapes) == 1, "the format waits")
        assert Path(granted.root, before["address"]).read_bytes() == A
        reader.send(Request(0, Release((ReleasedMedium(source.medium, 0, 0, 0),), RequestKind.RELEASE_READ)))
        rest.result()
    assert tape_get(tapes, "object") == A
