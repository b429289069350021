"""put: one object or several, on one medium or several, in one split or several."""

from __future__ import annotations

import errno
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

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
from tests.interop.captured import assert_as_captured
from tests.interop.conftest import MakeDirectory, MakeHost, MakePhobos, on_another_filesystem, refusal, until
from tests.interop.host import LIBRARY
from tests.interop.phobos import Phobos
from tests.interop.tables import expected_rows
from tests.interop.transfers import ONE, RAID4, Layout, Target, Wishes, Writer, get, put, putting, raid1, run

A = b"a" * 300_000
B = b"b" * 1000

WRITE = WriteAllocation((WriteMedium(4096),), Family.DIR, library=LIBRARY)


def extents_on(directory: Path) -> list[int]:
    """The sizes of the files of clients there."""
    return sorted(path.stat().st_size for path in directory.glob("*/*/*") if path.is_file())


@pytest.mark.parametrize(
    ("layout", "content", "case"),
    [(ONE, A, "07_put"), (raid1(2), B, "08_put_raid1_x2"), (RAID4, A, "09_put_raid4")],
    ids=["one", "raid1", "raid4"],
)
def test_put(phobos: Phobos, directory: MakeDirectory, layout: Layout, content: bytes, case: str) -> None:
    """Each medium gets one extent, is counted for it, and is used from then on."""
    directories = [directory(str(number)) for number in range(layout.media)]
    phobos.dir_ready(*directories)
    size = layout.piece_size(len(content))
    with expected_rows(phobos.database.connection) as rows:
        put(phobos, "object", content, layout=layout)
        for written in directories:
            rows.count(written, 1, size)
            assert extents_on(written.path) == [size]
    assert_as_captured(phobos.said, case, phobos.host.name)
    assert get(phobos, "object") == content


def test_put_of_more_copies_than_there_are_media(phobos: Phobos, directory: MakeDirectory) -> None:
    phobos.dir_ready(directory("1"), directory("2"))
    with expected_rows(phobos.database.connection):
        assert refusal(put, phobos, "object", B, layout=raid1(3)) == (errno.ENOSPC, RequestKind.WRITE)


def test_put_overwrite(phobos: Phobos, directory: MakeDirectory) -> None:
    """The old version stays where it is, and counted."""
    d1 = directory("1")
    phobos.dir_ready(d1)
    put(phobos, "object", A)
    with expected_rows(phobos.database.connection) as rows:
        put(phobos, "object", B, overwrite=True)
        rows.count(d1, 1, len(B))
    assert_as_captured(phobos.said, "14_put_overwrite", phobos.host.name)
    assert extents_on(d1.path) == [len(B), len(A)]


def test_avail_size_is_what_the_database_says_is_free(phobos: Phobos, directory: MakeDirectory) -> None:
    """And the thresholds come with it, the volume in bytes although its name on the wire ends in kb."""
    d1 = directory("1")
    phobos.dir_ready(d1)
    put(phobos, "object", A)
    free = phobos.database.medium(d1.medium)["stats"]["phys_spc_free"]
    with phobos.command() as command:
        granted = command.connect().ask(0, WRITE, WriteGranted)
    assert granted.media[0].avail_size == free
    assert granted.thresholds == SyncThresholds(age=0.01, requests=5, size=2**30)


def test_put_with_tags(phobos: Phobos, directory: MakeDirectory) -> None:
    d1, d2 = directory("1"), directory("2")
    phobos.dir_ready(d1)
    phobos.dir_ready(d2, tags=["foo", "bar"])
    with expected_rows(phobos.database.connection) as rows:
        put(phobos, "object", B, tags=("foo",))
        rows.count(d2, 1, len(B))
    assert_as_captured(phobos.said, "10_put_tag", phobos.host.name)


def test_put_with_tags_that_no_medium_has(phobos: Phobos, directory: MakeDirectory) -> None:
    phobos.dir_ready(directory("1"), tags=["foo"])
    with expected_rows(phobos.database.connection):
        found = refusal(put, phobos, "object", B, tags=("nosuch",))
    assert found == (errno.ENOSPC, RequestKind.WRITE)
    assert_as_captured(phobos.said, "11_put_nospace_error", phobos.host.name)


def test_put_to_a_library(phobos: Phobos, directory: MakeDirectory) -> None:
    phobos.dir_ready(directory("1"))
    other = directory("2", library="other")
    phobos.dir_ready(other)
    with expected_rows(phobos.database.connection) as rows:
        put(phobos, "object", B, library="other")
        rows.count(other, 1, len(B))
    with expected_rows(phobos.database.connection):
        found = refusal(put, phobos, "another", B, library="unknown")
    assert found == (errno.ENOSPC, RequestKind.WRITE)
    put(phobos, "anywhere", B, library=None)


def test_put_with_a_grouping_which_directories_ignore(phobos: Phobos, directory: MakeDirectory) -> None:
    d1 = directory("1")
    phobos.dir_ready(d1)
    with expected_rows(phobos.database.connection) as rows:
        put(phobos, "object", B, grouping="g1")
        rows.count(d1, 1, len(B))
    assert_as_captured(phobos.said, "12_put_grouping_library", phobos.host.name)


def test_put_with_a_grouping(make_host: MakeHost, make_phobos: MakePhobos) -> None:
    """With grouping_on_dir: a medium bears the groupings that were written there, and is preferred for them."""
    host = make_host("store1")
    host.start(lrs={"grouping_on_dir": "true"})
    phobos = make_phobos(host)
    both = [host.directory("1"), host.directory("2")]
    phobos.dir_ready(*both)
    database = phobos.database
    put(phobos, "first", B, grouping="g1")
    (one,) = [directory for directory in both if database.medium(directory.medium)["groupings"] == ["g1"]]
    (other,) = [directory for directory in both if directory is not one]
    with expected_rows(database.connection) as rows:
        put(phobos, "second", B, grouping="g1")
        rows.count(one, 1, len(B))
    # It is a wish: while that medium is written by somebody, another one is taken, and bears it too.
    with expected_rows(database.connection) as rows:
        writing = putting(phobos, [Target("third", B)], Wishes(grouping="g1"))
        assert next(writing) == "granted"
        put(make_phobos(host), "fourth", B, grouping="g1")
        rows.count(other, 1, len(B))
        rows.medium(other, groupings=["g1"])
        run(writing)
        rows.count(one, 1, len(B))
    with expected_rows(database.connection) as rows:
        put(phobos, "fifth", A, grouping="g2", layout=raid1(2))
        for directory in both:
            rows.count(directory, 1, len(A))
            rows.medium(directory, groupings=["g1", "g2"])
    # A format forgets them no more than the tags.
    assert all(database.medium(directory.medium)["groupings"] == ["g1", "g2"] for directory in both)


def test_put_no_split(phobos: Phobos, directory: MakeDirectory) -> None:
    d1 = directory("1")
    phobos.dir_ready(d1)
    with expected_rows(phobos.database.connection) as rows:
        put(phobos, "object", B, no_split=True)
        rows.count(d1, 1, len(B))
    assert_as_captured(phobos.said, "13_put_nosplit", phobos.host.name)


@pytest.mark.parametrize("no_split", [False, True])
def test_put_of_more_than_there_is(phobos: Phobos, directory: MakeDirectory, no_split: bool) -> None:
    """Directories of one filesystem do not have its space twice."""
    both = directory("1"), directory("2")
    phobos.dir_ready(*both)
    size = max(phobos.database.medium(one.medium)["stats"]["phys_spc_free"] for one in both) + 2**30
    with expected_rows(phobos.database.connection):
        found = refusal(run, putting(phobos, [Target("object", hole=size)], Wishes(no_split=no_split)))
    assert found == (errno.ENOSPC, RequestKind.WRITE)


def test_put_in_splits(phobos: Phobos, directory: MakeDirectory) -> None:
    """Larger than any medium: what one has room for, then a release and the next allocation together.

    The directories are on two filesystems, and what is written is a hole.
    """
    d1 = directory("1")
    with on_another_filesystem(d1.path) as below:
        d2 = directory("2", below=below)
        phobos.dir_ready(d1, d2)
        put(phobos, "on both", B, layout=raid1(2))
        free = {one: phobos.database.medium(one.medium)["stats"]["phys_spc_free"] for one in (d1, d2)}
        small, large = sorted(free, key=lambda one: free[one])
        rest = min(free[small] // 2, 10_000_000)
        with expected_rows(phobos.database.connection) as rows:
            target = Target("object", hole=free[large] + rest)
            assert refusal(run, putting(phobos, [Target("whole", hole=target.hole)], Wishes(no_split=True))) == (
                errno.ENOSPC,
                RequestKind.WRITE,
            )
            steps = list(putting(phobos, [target]))
            assert steps == ["granted", "granted", "released"]
            rows.count(large, 1, free[large])
            rows.count(small, 1, rest)
        assert [(extent["medium"], extent["size"], extent["offset"]) for extent in target.extents] == [
            (str(large.path), free[large], 0),
            (str(small.path), rest, free[large]),
        ]
        sequence = [said.direction for said in phobos.said]
        assert sequence[:4] == ["request", "response", "request", "request"]
        assert sequence.count("response") == 4
        phobos.remove(d1, d2)


def targets(*contents: bytes) -> list[Target]:
    return [Target(f"object{number}", content) for number, content in enumerate(contents, 1)]


@pytest.mark.parametrize(("no_split", "case"), [(False, "15_mput"), (True, "16_mput_nosplit")])
def test_put_of_several_objects(phobos: Phobos, directory: MakeDirectory, no_split: bool, case: str) -> None:
    """One allocation for all of them, and one release."""
    d1 = directory("1")
    phobos.dir_ready(d1)
    with expected_rows(phobos.database.connection) as rows:
        steps = list(putting(phobos, targets(A, B, A), Wishes(no_split=no_split)))
        assert steps == ["granted", "written", "written", "released"]
        rows.count(d1, 3, 2 * len(A) + len(B))
    assert_as_captured(phobos.said, case, phobos.host.name)


def test_put_with_partial_releases(make_host: MakeHost, make_phobos: MakePhobos) -> None:
    """A threshold is reached between two objects: what was written is synced, and the media stay the client's."""
    host = make_host("store1")
    host.start(lrs={"sync_nb_req": "dir=2", "sync_wsize_kb": "dir=200"})
    phobos, other = make_phobos(host), make_phobos(host)
    both = [host.directory("1"), host.directory("2")]
    phobos.dir_ready(*both)
    writing = putting(phobos, targets(A, B, B, B), Wishes(layout=raid1(2)))
    with other.command() as command:
        assert next(writing) == "granted"
        connection = command.connect()
        connection.send(Request(0, WRITE))
        # By the volume of the first, then by the number of those after it.
        for objects, size, step in ((1, len(A), "partial"), (0, 0, "written"), (2, 2 * len(B), "partial")):
            with expected_rows(phobos.database.connection) as rows:
                assert next(writing) == step
                for directory in both if objects else ():
                    rows.count(directory, objects, size)
            # Nobody else gets them meanwhile, and nothing is unmounted.
            connection.assert_silent()
            found = other.monitor()
            assert [(device["ongoing_io"], device["mount_path"] != "") for device in found] == [(True, True)] * 2
        with expected_rows(phobos.database.connection) as rows, ThreadPoolExecutor() as threads:
            released = threads.submit(run, writing)
            granted = connection.expect(0, WriteGranted)
            assert granted.thresholds == SyncThresholds(0.01, 2, 200 * 1024)
            connection.close()
            released.result()
            for directory in both:
                rows.count(directory, 1, len(B))
    assert [get(phobos, f"object{number}") for number in (1, 2, 3, 4)] == [A, B, B, B]


def test_put_when_time_passes_between_objects(phobos: Phobos, directory: MakeDirectory) -> None:
    """A client whose last sync is longer ago than the threshold has a partial release synced too."""
    d1 = directory("1")
    phobos.dir_ready(d1)
    ticks = iter(range(100))
    with expected_rows(phobos.database.connection) as rows:
        steps = list(putting(phobos, targets(A, B, B), clock=lambda: float(next(ticks))))
        assert steps == ["granted", "partial", "partial", "released"]
        rows.count(d1, 3, len(A) + 2 * len(B))


def test_put_with_an_error_of_the_client(phobos: Phobos, directory: MakeDirectory) -> None:
    """It says so in a release that is not answered. Nothing is counted; what may have been written is synced."""
    d1 = directory("1")
    phobos.dir_ready(d1)
    with expected_rows(phobos.database.connection) as rows:
        writing = putting(phobos, targets(A, B))
        assert [next(writing), next(writing)] == ["granted", "written"]
        with pytest.raises(OSError, match="No space left"):
            writing.throw(OSError(errno.ENOSPC, "No space left on device"))
        until(lambda: phobos.database.medium(d1.medium)["fs_status"] == "used", "the directory is synced")
        rows.count(d1, 0, 0)
    assert [said.direction for said in phobos.said] == ["request", "response", "request"]
    put(phobos, "another", B)


def test_an_error_of_the_client_is_never_answered(phobos: Phobos, directory: MakeDirectory) -> None:
    d1 = directory("1")
    phobos.dir_ready(d1)
    with phobos.command() as command:
        connection = command.connect()
        writing = Writer(connection, targets(A), Wishes(), lambda: 0.0).steps()
        assert next(writing) == "granted"
        with pytest.raises(OSError, match="Input/output"):
            writing.throw(OSError(errno.EIO, "Input/output error"))
        until(lambda: phobos.database.medium(d1.medium)["fs_status"] == "used", "the directory is synced")
        connection.assert_silent()


def test_put_by_a_client_that_dies(phobos: Phobos, directory: MakeDirectory) -> None:
    d1 = directory("1")
    phobos.dir_ready(d1)
    with expected_rows(phobos.database.connection) as rows:
        writing = putting(phobos, targets(A, B))
        assert [next(writing), next(writing)] == ["granted", "written"]
        writing.close()
        until(lambda: phobos.database.medium(d1.medium)["fs_status"] == "used", "the directory is synced")
        rows.count(d1, 0, 0)
    put(phobos, "another", B)


def test_put_while_another_client_writes(phobos: Phobos, directory: MakeDirectory, make_phobos: MakePhobos) -> None:
    """One client at a time: the other waits, and then holds up the sync of the first, which was not due yet."""
    d1 = directory("1")
    phobos.dir_ready(d1)
    with (
        expected_rows(phobos.database.connection) as rows,
        make_phobos(phobos.host).command() as command,
        ThreadPoolExecutor() as threads,
    ):
        writing = putting(phobos, targets(A))
        assert next(writing) == "granted"
        connection = command.connect()
        connection.send(Request(0, WRITE))
        connection.assert_silent()
        first = threads.submit(run, writing)
        granted = connection.expect(0, WriteGranted)
        assert [medium.medium for medium in granted.media] == [d1.medium]
        element = ReleasedMedium(d1.medium, 0, len(B), 1, to_sync=True)
        connection.ask(0, Release((element,), RequestKind.RELEASE_WRITE), Released)
        first.result()
        rows.count(d1, 2, len(A) + len(B))
