"""dir add, lock, unlock, del: the device's part."""

from __future__ import annotations

import errno

import pytest

from lrs_trio.model import RequestKind
from tests.interop.captured import assert_as_captured
from tests.interop.conftest import MakeDirectory, until
from tests.interop.database import LockError
from tests.interop.phobos import BusyError, Phobos
from tests.interop.tables import expected_rows
from tests.interop.transfers import Target, put, putting, run
from tests.interop.wire import RefusedError


def test_dir_add(phobos: Phobos, directory: MakeDirectory) -> None:
    d1 = directory("1")
    with expected_rows(phobos.database.connection) as rows:
        phobos.dir_add(d1, tags=["foo", "bar"])
        rows.add_device(d1, adm_status="unlocked")
        rows.add_medium(d1, adm_status="locked", tags=["foo", "bar"])
        rows.serve(d1, phobos.host.owner)
    assert_as_captured(phobos.said, "03_dir_add_tags_locked", phobos.host.name)


def test_dir_add_unlock(phobos: Phobos, directory: MakeDirectory) -> None:
    both = directory("1"), directory("2")
    with expected_rows(phobos.database.connection) as rows:
        phobos.dir_add(*both, unlock=True)
        for added in both:
            rows.add_device(added)
            rows.add_medium(added, adm_status="unlocked")
            rows.serve(added, phobos.host.owner)
    assert_as_captured(phobos.said, "02_dir_add_unlock", phobos.host.name)


def test_dir_add_that_the_daemon_refuses_leaves_nothing(phobos: Phobos, directory: MakeDirectory) -> None:
    d1 = directory("1")
    d1.path.rmdir()
    d1.path.write_text("no directory\n")
    with expected_rows(phobos.database.connection), pytest.raises(RefusedError) as refused:
        phobos.dir_add(d1)
    assert (refused.value.rc, refused.value.kind) == (-errno.ENOTDIR, RequestKind.NOTIFY)


def test_dir_add_of_a_device_of_another_host(phobos: Phobos, directory: MakeDirectory) -> None:
    d1 = directory("1")
    with phobos.command() as command, expected_rows(phobos.database.connection) as rows:
        phobos.database.insert_device(d1, host="store2")
        with pytest.raises(RefusedError) as refused:
            phobos.notify_add(command.connect(), d1)
        phobos.database.delete_device(d1)
    assert (refused.value.rc, refused.value.kind) == (-errno.ENXIO, RequestKind.NOTIFY)
    assert not rows.tables["device"]


def test_dir_add_twice_changes_nothing(phobos: Phobos, directory: MakeDirectory) -> None:
    """An administrator whose command was interrupted tells the daemon again."""
    d1 = directory("1")
    phobos.dir_add(d1)
    with phobos.command() as command, expected_rows(phobos.database.connection):
        phobos.notify_add(command.connect(), d1)


def test_dir_lock(phobos: Phobos, directory: MakeDirectory) -> None:
    d1 = directory("1")
    phobos.dir_ready(d1)
    with expected_rows(phobos.database.connection) as rows:
        phobos.dir_lock(d1)
        until(lambda: not phobos.database.locks(), "the daemon lets go of the directory")
        rows.device(d1, adm_status="locked")
        rows.medium(d1, adm_status="locked")
        rows.release(d1)
    assert_as_captured(phobos.said, "27_dir_lock", phobos.host.name)
    until(lambda: phobos.monitor() == [], "the daemon forgets it")


def test_dir_lock_without_wait_is_never_answered(phobos: Phobos, directory: MakeDirectory) -> None:
    d1 = directory("1")
    phobos.dir_ready(d1)
    with phobos.command() as command:
        admin = command.connect()
        phobos.notify_lock(admin, d1, wait=False)
        until(lambda: not phobos.database.locks(), "the daemon lets go of the directory")
        admin.assert_silent()
        phobos.notify_lock(admin, d1, wait=False)  # unknown by now
        admin.assert_silent()


def test_dir_lock_by_a_command_that_ends_at_once(phobos: Phobos, directory: MakeDirectory) -> None:
    """Its connection ends right behind its notify, which holds all the same."""
    directories = [directory(str(number)) for number in range(10)]
    phobos.dir_add(*directories)
    for one in directories:
        with phobos.command() as command:
            phobos.notify_lock(command.connect(), one, wait=False)
    until(lambda: not phobos.database.locks(), "the daemon lets go of the directories")


def test_dir_lock_waits_for_whoever_uses_the_directory(phobos: Phobos, directory: MakeDirectory) -> None:
    d1 = directory("1")
    phobos.dir_ready(d1)
    writing = putting(phobos, [Target("object", b"content")])
    assert next(writing) == "granted"
    with phobos.command() as command, expected_rows(phobos.database.connection) as rows:
        admin = command.connect()
        phobos.database.set_device(d1, "locked")
        phobos.notify_lock(admin, d1, wait=True)
        admin.assert_silent()
        assert len(phobos.database.locks(phobos.host.owner)) == 2
        run(writing)
        phobos.locked(admin, d1)
        # The answer comes when both locks are gone: the administrator takes them next.
        rows.device(d1, adm_status="locked")
        rows.count(d1, 1, len(b"content"))
        rows.release(d1)


def test_dir_unlock(phobos: Phobos, directory: MakeDirectory) -> None:
    d1 = directory("1")
    phobos.dir_ready(d1)
    phobos.dir_lock(d1)
    until(lambda: not phobos.database.locks(), "the daemon lets go of the directory")
    with expected_rows(phobos.database.connection) as rows:
        phobos.dir_unlock(d1)
        rows.device(d1, adm_status="unlocked")
        rows.medium(d1, adm_status="unlocked")
        rows.serve(d1, phobos.host.owner)
    assert_as_captured(phobos.said, "28_dir_unlock", phobos.host.name)
    put(phobos, "object", b"content")


def test_dir_unlock_of_what_is_served(phobos: Phobos, directory: MakeDirectory) -> None:
    """The command itself refuses while the row of the lock is there."""
    d1 = directory("1")
    phobos.dir_ready(d1)
    with expected_rows(phobos.database.connection), pytest.raises(BusyError):
        phobos.dir_unlock(d1)


def test_dir_del_while_it_is_served(phobos: Phobos, directory: MakeDirectory) -> None:
    d1 = directory("1")
    phobos.dir_ready(d1)
    with expected_rows(phobos.database.connection), pytest.raises(LockError) as refused:
        phobos.dir_del(d1)
    assert refused.value.errno == errno.EEXIST


def test_dir_del_after_dir_lock(phobos: Phobos, directory: MakeDirectory) -> None:
    d1 = directory("1")
    d2 = directory("2")
    phobos.dir_ready(d1, d2)
    put(phobos, "object", b"content")
    with expected_rows(phobos.database.connection) as rows:
        phobos.dir_lock(d1)
        until(lambda: not phobos.database.lock_of("device", d1.device), "the daemon lets go of the directory")
        phobos.dir_del(d1)
        rows.delete_directory(d1)
        rows.release(d1)
