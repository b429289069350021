"""dir format."""

from __future__ import annotations

import errno

import pytest

from lrs_trio.model import FsType, RequestKind
from lrs_trio.wire.messages import Format, Formatted
from tests.interop.captured import assert_as_captured
from tests.interop.conftest import MakeDirectory
from tests.interop.host import Directory
from tests.interop.phobos import LABEL_FILE, Phobos
from tests.interop.tables import Expected, expected_rows
from tests.interop.transfers import put
from tests.interop.wire import RefusedError


def formatted(rows: Expected, directory: Directory, **columns: object) -> None:
    """What a format changes of the medium of `directory`."""
    rows.medium(directory, fs_status="empty", fs_label=str(directory.path)[:32], **columns)
    rows.figures(directory, nb_obj=0, logc_spc_used=0)
    assert (directory.path / LABEL_FILE).read_text() == str(directory.path)


def test_format(phobos: Phobos, directory: MakeDirectory) -> None:
    both = directory("1"), directory("2")
    phobos.dir_add(*both)
    with expected_rows(phobos.database.connection) as rows:
        phobos.format(*both)
        for done in both:
            formatted(rows, done)
    assert_as_captured(phobos.said, "04_format", phobos.host.name)


def test_format_unlock(phobos: Phobos, directory: MakeDirectory) -> None:
    d1 = directory("1")
    phobos.dir_add(d1)
    with expected_rows(phobos.database.connection) as rows:
        phobos.format(d1, unlock=True)
        formatted(rows, d1, adm_status="unlocked")
    assert_as_captured(phobos.said, "05_format_unlock", phobos.host.name)
    put(phobos, "object", b"content")


@pytest.mark.parametrize("streams", [1, 2, 5])
def test_format_with_a_window_of_requests(phobos: Phobos, directory: MakeDirectory, streams: int) -> None:
    """Each answer lets the next request go; ids are those of the media, from 0."""
    all_ = [directory(str(number)) for number in range(5)]
    phobos.dir_add(*all_)
    windows: list[int] = []
    with phobos.command() as command, expected_rows(phobos.database.connection) as rows:
        phobos.format_all(command.connect(), all_, unlock=False, streams=streams, on_window=windows.append)
        for done in all_:
            formatted(rows, done)
    assert windows == [min(streams, left) for left in range(5, 0, -1)]


def test_format_again(phobos: Phobos, directory: MakeDirectory) -> None:
    d1 = directory("1")
    phobos.dir_ready(d1)
    with expected_rows(phobos.database.connection), pytest.raises(RefusedError) as refused:
        phobos.format(d1)
    assert (refused.value.rc, refused.value.kind) == (-errno.EINVAL, RequestKind.FORMAT)
    assert_as_captured(phobos.said, "06_format_already_error", phobos.host.name)


def test_format_of_one_that_is_formatted_among_others(phobos: Phobos, directory: MakeDirectory) -> None:
    """The others are formatted all the same."""
    d1, d2, d3 = (directory(str(number)) for number in range(3))
    phobos.dir_add(d1, d2, d3)
    phobos.format(d2)
    with expected_rows(phobos.database.connection) as rows:
        with pytest.raises(RefusedError) as refused:
            phobos.format(d1, d2, d3, streams=2)
        formatted(rows, d1)
        formatted(rows, d3)
    assert (refused.value.rc, refused.value.kind) == (-errno.EINVAL, RequestKind.FORMAT)


def test_format_of_what_is_labelled_for_another_site(phobos: Phobos, directory: MakeDirectory) -> None:
    d1 = directory("1")
    (d1.path / LABEL_FILE).write_text("/srv/of/another/site")
    (d1.path / "object").write_text("content")
    phobos.dir_add(d1)
    with expected_rows(phobos.database.connection), pytest.raises(RefusedError) as refused:
        phobos.format(d1)
    assert (refused.value.rc, refused.value.kind) == (-errno.EEXIST, RequestKind.FORMAT)


@pytest.mark.parametrize("fs_type", [FsType.LTFS, FsType.RADOS])
def test_format_with_a_filesystem_of_another_family(phobos: Phobos, directory: MakeDirectory, fs_type: FsType) -> None:
    d1 = directory("1")
    phobos.dir_add(d1)
    with phobos.command() as command:
        admin = command.connect()
        with expected_rows(phobos.database.connection), pytest.raises(RefusedError) as refused:
            admin.ask(0, Format(d1.medium, fs_type), Formatted)
    assert (refused.value.rc, refused.value.kind) == (-errno.EINVAL, RequestKind.FORMAT)


def test_format_of_what_nobody_knows_or_serves(phobos: Phobos, directory: MakeDirectory) -> None:
    unknown, elsewhere, unserved = directory("1"), directory("2"), directory("3")
    database = phobos.database
    database.insert_medium(elsewhere)
    database.lock("media", elsewhere.locks["media"], host="store2")
    database.insert_medium(unserved)
    with phobos.command() as command, expected_rows(database.connection):
        admin = command.connect()
        found = []
        for asked in (unknown, elsewhere, unserved):
            with pytest.raises(RefusedError) as refused:
                admin.ask(0, Format(asked.medium, FsType.POSIX), Formatted)
            found.append((refused.value.rc, refused.value.kind))
    assert found == [(-number, RequestKind.FORMAT) for number in (errno.ENXIO, errno.EBUSY, errno.ENODEV)]
    database.write("DELETE FROM lock")
    database.write("DELETE FROM media")
