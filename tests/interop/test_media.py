"""What an administrator changes of media: dir lock and unlock, update, set-access, lock clean; and by no command."""

from __future__ import annotations

import errno

from lrs_trio.model import RequestKind
from tests.interop.captured import assert_as_captured
from tests.interop.conftest import MakeDirectory, MakeHost, MakePhobos, refusal
from tests.interop.phobos import Phobos
from tests.interop.tables import expected_rows
from tests.interop.transfers import delete_hard, get, put


def test_dir_update_of_tags(phobos: Phobos, directory: MakeDirectory) -> None:
    d1 = directory("1")
    phobos.dir_ready(d1, tags=["foo"])
    with expected_rows(phobos.database.connection) as rows:
        phobos.dir_update(d1, tags=["t1", "t2"])
        rows.medium(d1, tags=["t1", "t2"])
    assert_as_captured(phobos.said, "30_dir_update_tags", phobos.host.name)
    assert refusal(put, phobos, "old", b"content", tags=("foo",)) == (errno.ENOSPC, RequestKind.WRITE)
    put(phobos, "new", b"content", tags=("t2", "t1"))


def test_dir_set_access(phobos: Phobos, directory: MakeDirectory) -> None:
    d1 = directory("1")
    phobos.dir_ready(d1)
    put(phobos, "object", b"content")
    with expected_rows(phobos.database.connection) as rows:
        phobos.dir_update(d1, put=False)
        rows.medium(d1, put=False)
    assert_as_captured(phobos.said, "29_dir_set_access", phobos.host.name)
    assert refusal(put, phobos, "another", b"content") == (errno.ENOSPC, RequestKind.WRITE)
    assert get(phobos, "object") == b"content"

    with expected_rows(phobos.database.connection) as rows:
        phobos.dir_update(d1, put=True, get=False, delete=False)
        rows.medium(d1, put=True, get=False, delete=False)
    assert refusal(get, phobos, "object") == (errno.EPERM, RequestKind.READ)
    assert refusal(delete_hard, phobos, "object") == (errno.EPERM, RequestKind.READ)
    put(phobos, "another", b"content")

    phobos.dir_update(d1, get=True, delete=True)
    assert get(phobos, "object") == b"content"
    delete_hard(phobos, "object")


def test_media_lock_and_unlock(phobos: Phobos, directory: MakeDirectory) -> None:
    """The medium alone: its device goes on."""
    d1 = directory("1")
    phobos.dir_ready(d1)
    put(phobos, "object", b"content")
    with expected_rows(phobos.database.connection) as rows:
        phobos.dir_update(d1, adm_status="locked")
        rows.medium(d1, adm_status="locked")
    assert refusal(put, phobos, "another", b"content") == (errno.ENOSPC, RequestKind.WRITE)
    assert refusal(get, phobos, "object") == (errno.EPERM, RequestKind.READ)

    with expected_rows(phobos.database.connection) as rows:
        phobos.dir_update(d1, adm_status="unlocked")
        rows.medium(d1, adm_status="unlocked")
    assert get(phobos, "object") == b"content"
    put(phobos, "another", b"content")


def test_figures_that_somebody_else_adds_are_kept(phobos: Phobos, directory: MakeDirectory) -> None:
    """As the Python interface of Phobos does it, under a lock of type media_update; nobody is told."""
    d1 = directory("1")
    phobos.dir_ready(d1)
    put(phobos, "object", b"content")
    phobos.database.update_medium(d1, nb_obj_add=10, logc_spc_used_add=1000)
    phobos.database.write(
        """UPDATE media SET stats = stats || '{"nb_load": 3, "nb_errors": 1, "last_load": 1700000000}'"""
    )
    with expected_rows(phobos.database.connection) as rows:
        put(phobos, "another", b"content")
        rows.figures(d1, nb_obj=12, logc_spc_used=1014, nb_load=3, nb_errors=1, last_load=1_700_000_000)


def test_changes_that_nobody_tells_are_noticed(make_host: MakeHost, make_phobos: MakePhobos) -> None:
    """With a setting of ours, before every grant."""
    host = make_host("store1")
    host.start("dss.recheck_s=0")
    phobos = make_phobos(host)
    d1 = host.directory("1")
    phobos.dir_ready(d1)
    put(phobos, "object", b"content")
    usual = phobos.database.medium(d1.medium)
    changes: dict[str, object] = {"adm_status": "locked", "put": False, "fs_status": "full"}
    for column, value in changes.items():
        phobos.database.update_medium(d1, **{column: value})
        with expected_rows(phobos.database.connection):
            assert refusal(put, phobos, "refused", b"content") == (errno.ENOSPC, RequestKind.WRITE)
        phobos.database.update_medium(d1, **{column: usual[column]})
        put(phobos, f"after {column}", b"content")


def test_lock_clean_takes_nothing_from_who_is_there(make_host: MakeHost, make_phobos: MakePhobos) -> None:
    """`lock clean --force` deletes the locks of the daemon that runs, and tells nobody."""
    host = make_host("store1")
    host.start("dss.recheck_s=0")
    phobos = make_phobos(host)
    d1 = host.directory("1")
    phobos.dir_ready(d1)
    with expected_rows(phobos.database.connection) as rows:
        phobos.database.write("DELETE FROM lock WHERE hostname = %s", host.name)
        put(phobos, "object", b"content")
        rows.count(d1, 1, len(b"content"))
        rows.serve(d1, host.owner)
    phobos.database.write("DELETE FROM lock WHERE hostname = %s", host.name)
    host.drain()
    assert phobos.database.locks() == []
