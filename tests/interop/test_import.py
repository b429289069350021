"""import: a directory of a site that is no more, whose medium can be read while its rows are made."""

from __future__ import annotations

import errno

import pytest

from lrs_trio.model import RequestKind
from tests.interop.conftest import MakeDirectory, refusal
from tests.interop.phobos import LABEL_FILE, Phobos
from tests.interop.tables import expected_rows
from tests.interop.transfers import delete_hard, get, put

OBJECTS = {"one": b"1" * 1000, "two": b"2" * 2000}


@pytest.mark.parametrize("label", ["whole", "cut", "other"])
def test_import(phobos: Phobos, directory: MakeDirectory, label: str) -> None:
    """The command writes the figures itself and tells nobody: the medium is usable at once all the same."""
    d1 = directory("1")
    path = str(d1.path)
    text = {"whole": path, "cut": path[:32], "other": "/srv/of/the/other/site/with/a/long/name"}[label]
    (d1.path / LABEL_FILE).write_text(text)
    for oid, content in OBJECTS.items():
        (d1.path / oid).write_bytes(content)
    with expected_rows(phobos.database.connection) as rows:
        phobos.import_(d1, OBJECTS)
        rows.add_device(d1)
        rows.add_medium(d1, adm_status="unlocked", fs_status="used", fs_label=text[:32])
        rows.figures(d1, nb_obj=2, logc_spc_used=3000)
        rows.serve(d1, phobos.host.owner)
    assert get(phobos, "one") == OBJECTS["one"]
    with expected_rows(phobos.database.connection) as rows:
        put(phobos, "three", b"333")
        rows.count(d1, 1, 3)
    with expected_rows(phobos.database.connection) as rows:
        delete_hard(phobos, "two")
        rows.count(d1, -1, -2000)


def test_what_is_being_imported_is_only_read(phobos: Phobos, directory: MakeDirectory) -> None:
    d1 = directory("1")
    (d1.path / LABEL_FILE).write_text(str(d1.path))
    (d1.path / "one").write_bytes(OBJECTS["one"])
    phobos.import_(d1, {"one": OBJECTS["one"]})
    phobos.dir_update(d1, fs_status="importing", get=False, adm_status="locked")
    with expected_rows(phobos.database.connection):
        assert refusal(put, phobos, "two", b"2") == (errno.ENOSPC, RequestKind.WRITE)
        assert refusal(phobos.format, d1) == (errno.EINVAL, RequestKind.FORMAT)
        # Whoever imports reads it in any case.
        assert get(phobos, "one") == OBJECTS["one"]
