"""copy create and delete, and hard delete."""

from __future__ import annotations

import pytest

from tests.interop.captured import assert_as_captured
from tests.interop.conftest import MakeDirectory
from tests.interop.phobos import Phobos
from tests.interop.tables import expected_rows
from tests.interop.transfers import RAID4, Layout, copy_create, delete_hard, get, getting, put, raid1, run

CONTENT = b"c" * 1000


def test_copy_create(phobos: Phobos, directory: MakeDirectory) -> None:
    """A read and a write are outstanding on one connection with one id."""
    d1, d2 = directory("1"), directory("2")
    phobos.dir_ready(d1)
    put(phobos, "object", CONTENT)
    phobos.dir_ready(d2)
    with expected_rows(phobos.database.connection) as rows:
        copy_create(phobos, "object", "c2")
        rows.count(d2, 1, len(CONTENT))
    assert_as_captured(phobos.said, "34_copy_create", phobos.host.name)
    assert run(getting(phobos, "object", "c2")) == CONTENT


def test_copy_delete(phobos: Phobos, directory: MakeDirectory) -> None:
    d1, d2 = directory("1"), directory("2")
    phobos.dir_ready(d1)
    put(phobos, "object", CONTENT)
    phobos.dir_ready(d2)
    copy_create(phobos, "object", "c2")
    with expected_rows(phobos.database.connection) as rows:
        delete_hard(phobos, "object", "c2", with_object=False)
        rows.count(d2, -1, -len(CONTENT))
        assert rows.tables["media"]["dir", str(d2.path), d2.library]["stats"]["nb_obj"] == 0
    assert_as_captured(phobos.said, "35_copy_delete", phobos.host.name)
    assert get(phobos, "object") == CONTENT


@pytest.mark.parametrize("layout", [raid1(1), raid1(2), RAID4], ids=["one", "raid1", "raid4"])
def test_delete_hard(phobos: Phobos, directory: MakeDirectory, layout: Layout) -> None:
    """Negative sizes and counts; the medium stays used."""
    directories = [directory(str(number)) for number in range(layout.media)]
    phobos.dir_ready(*directories)
    put(phobos, "object", CONTENT, layout=layout)
    put(phobos, "another", CONTENT, layout=layout)
    with expected_rows(phobos.database.connection) as rows:
        delete_hard(phobos, "object")
        for one in directories:
            rows.count(one, -1, -layout.piece_size(len(CONTENT)))
    if layout.media == 1:
        assert_as_captured(phobos.said, "21_delete_hard", phobos.host.name)
    assert get(phobos, "another") == CONTENT


def test_delete_hard_of_more_than_was_counted(phobos: Phobos, directory: MakeDirectory) -> None:
    """Figures that somebody has set to 0 meanwhile do not become negative."""
    d1 = directory("1")
    phobos.dir_ready(d1)
    put(phobos, "object", CONTENT)
    phobos.database.update_medium(d1, nb_obj=0, logc_spc_used=10)
    with expected_rows(phobos.database.connection) as rows:
        delete_hard(phobos, "object")
        rows.figures(d1, nb_obj=0, logc_spc_used=0)
