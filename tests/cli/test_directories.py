from __future__ import annotations

import errno
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from lrs_trio.cli.demo.daemon import DemoDaemon, DemoSite
from lrs_trio.dss.operations import MediumUpdate, ReadLocks, UpdateMedia
from lrs_trio.dss.sqlite import SqliteHome
from lrs_trio.model import Family, NotifyOperation, ResourceId
from lrs_trio.wire.messages import RequestBody, ResponseBody
from tests.cli.conftest import ENVIRONMENT, TIMEOUT_S, Lrs, command_line
from tests.cli.tape_site import TapeSite, notified, refusing
from tests.processes import child


def listed(lrs: Lrs, *args: str) -> dict[str, Any]:
    done = lrs("dir", "list", "--json", *args)
    assert done.returncode == 0, done.stderr
    return {Path(row["path"]).name: row for row in json.loads(done.stdout)}


def statuses(lrs: Lrs, name: str) -> tuple[str, str]:
    row = listed(lrs)[name]
    return row["device"]["adm_status"], row["medium"]["adm_status"]


def test_add_without_a_daemon(site: DemoSite, lrs: Lrs) -> None:
    done = lrs("dir", "add", "--tag", "fast", "--tag", "ssd", "--library", "other", site.directories[0])
    assert done.returncode == 0
    assert done.stdout == f"{site.directories[0]}: added\n"
    assert "the daemon does not run" in done.stderr
    row = listed(lrs)["directory-1"]
    assert row["library"] == "other"
    assert row["device"] | {"name": ""} == {"name": "", "adm_status": "unlocked", "lock": None}
    assert row["device"]["name"] == f"{row['host']}:{site.directories[0]}"
    medium = row["medium"]
    assert (medium["adm_status"], medium["fs_status"], medium["tags"]) == ("locked", "blank", ["fast", "ssd"])
    assert set(medium["stats"].values()) == {0}
    assert listed(lrs, "--library", "legacy") == {}


def test_a_directory_is_known_by_its_real_path(site: DemoSite, lrs: Lrs) -> None:
    link = site.base / "link"
    link.symlink_to(site.directories[0])
    assert lrs("dir", "add", link).returncode == 0
    assert listed(lrs)["directory-1"]["path"] == str(site.directories[0])
    assert lrs("dir", "add", site.directories[0]).returncode == errno.EEXIST


def test_every_path_has_its_own_result(site: DemoSite, lrs: Lrs) -> None:
    missing = site.base / "missing"
    site.base.joinpath("file").write_text("")
    done = lrs("dir", "add", missing, site.base / "file", *site.directories)
    assert done.returncode == errno.ENOENT
    assert [line.split()[-1] for line in done.stdout.splitlines()] == ["added", "added"]
    first, second, *_ = done.stderr.splitlines()
    assert first.startswith(f"lrs: {missing}: ")
    assert first.endswith(" [ENOENT]")
    assert second.startswith(f"lrs: {site.base}/file: ")
    assert second.endswith(" [ENOTDIR]")
    assert len(listed(lrs)) == 2


def test_commands_do_not_make_a_dss_by_mistake(site: DemoSite, lrs: Lrs) -> None:
    for command in ("list", "lock", "unlock", "delete", "format"):
        done = lrs("dir", command, *([] if command == "list" else [site.directories[0]]))
        assert done.returncode == errno.ENOENT
        assert "does not exist" in done.stderr
    assert not site.dss.exists()


def test_bad_settings_are_told_line_by_line(site: DemoSite, lrs: Lrs) -> None:
    site.config.write_text(site.config.read_text() + "\n[log]\nlevel = 'loud'\n")
    done = lrs("dir", "list")
    assert done.returncode == 1
    assert done.stderr.startswith("lrs: ")
    assert "log.level" in done.stderr


def test_format_needs_the_daemon(site: DemoSite, lrs: Lrs) -> None:
    lrs("dir", "add", site.directories[0])
    done = lrs("dir", "format", site.directories[0])
    assert done.returncode == errno.ECONNREFUSED
    assert "start lrsd" in done.stderr


def test_lock_unlock_and_delete_without_a_daemon(site: DemoSite, lrs: Lrs) -> None:
    path = site.directories[0]
    lrs("dir", "add", path)
    assert lrs("dir", "unlock", path).returncode == 0
    assert statuses(lrs, path.name) == ("unlocked", "unlocked")
    assert lrs("dir", "lock", path).returncode == 0
    assert statuses(lrs, path.name) == ("locked", "locked")
    path.rmdir()
    assert lrs("dir", "delete", path).returncode == 0
    assert listed(lrs) == {}


@pytest.mark.parametrize("command", ["lock", "unlock", "delete"])
def test_unknown_directories(site: DemoSite, lrs: Lrs, command: str) -> None:
    lrs("dir", "add", site.directories[0])
    lrs("dir", "lock", site.directories[0])
    done = lrs("dir", command, site.directories[1], site.directories[0])
    assert done.returncode == errno.ENOENT
    assert str(site.directories[1]) in done.stderr.splitlines()[0]
    assert done.stdout.startswith(f"{site.directories[0]}: ")


def test_add_takes_the_daemon_along(site: DemoSite, daemon: DemoDaemon, lrs: Lrs) -> None:
    done = lrs("dir", "add", *site.directories)
    assert (done.returncode, done.stderr) == (0, "")
    with SqliteHome.open(site.dss) as home:
        locks = home.execute(ReadLocks())
    assert {lock.owner.pid for lock in locks} == {daemon.pid}
    row = listed(lrs)["directory-1"]
    assert row["device"]["lock"]["pid"] == row["medium"]["lock"]["pid"] == daemon.pid


def test_what_the_daemon_refuses_is_not_added(site: DemoSite, daemon: DemoDaemon, lrs: Lrs) -> None:
    site.base.joinpath("foreign").mkdir()
    # Without a name of this host the daemon cannot serve it.
    done = lrs("dir", "add", site.base / "foreign", LRS_HOST="elsewhere")
    assert done.returncode == errno.ENXIO
    assert "not added" in done.stderr
    assert listed(lrs) == {}


def test_format_unlocks_and_says_why_not_twice(site: DemoSite, daemon: DemoDaemon, lrs: Lrs) -> None:
    path = site.directories[0]
    lrs("dir", "add", path)
    done = lrs("dir", "format", "--unlock", path)
    assert (done.returncode, done.stdout) == (0, f"{path}: formatted\n")
    row = listed(lrs)[path.name]["medium"]
    assert (row["adm_status"], row["fs_status"]) == ("unlocked", "empty")
    assert row["stats"]["phys_spc_free"] > 0
    again = lrs("dir", "format", path)
    assert again.returncode == errno.EINVAL
    assert "formatted already" in again.stderr


def test_a_formatted_medium_stays_locked_unless_asked(site: DemoSite, daemon: DemoDaemon, lrs: Lrs) -> None:
    path = site.directories[0]
    lrs("dir", "add", path)
    done = lrs("dir", "format", path)
    assert done.returncode == 0
    assert f"lrs dir unlock {path}" in done.stderr
    assert statuses(lrs, path.name) == ("unlocked", "locked")


def test_a_labelled_directory_is_not_taken_over(site: DemoSite, daemon: DemoDaemon, lrs: Lrs) -> None:
    path = site.directories[0]
    path.joinpath(".phobos_dir_label").write_text("/somebody/elses")
    lrs("dir", "add", path)
    done = lrs("dir", "format", path)
    assert done.returncode == errno.EEXIST
    assert "label" in done.stderr


def test_delete_needs_a_lock_first(directories: tuple[Path, ...], lrs: Lrs) -> None:
    path = directories[0]
    busy = lrs("dir", "delete", path)
    assert busy.returncode == errno.EBUSY
    assert f"lrs dir lock {path}" in busy.stderr
    assert lrs("dir", "lock", path).returncode == 0
    assert statuses(lrs, path.name) == ("locked", "locked")
    assert lrs("dir", "delete", path).returncode == 0
    assert list(listed(lrs)) == [directories[1].name]


def test_delete_needs_a_lock_also_where_no_daemon_runs(site: DemoSite, lrs: Lrs) -> None:
    path = site.directories[0]
    lrs("dir", "add", "--unlock", path)
    refused = lrs("dir", "delete", "--force", path)
    assert (refused.returncode, refused.stdout) == (errno.EBUSY, "")
    assert f"lrs: {path}: is in service" in refused.stderr
    assert f"lock it first: lrs dir lock {path} [EBUSY]" in refused.stderr
    lrs("dir", "lock", path)
    assert lrs("dir", "delete", path).returncode == 0


def test_a_directory_with_objects_is_deleted_by_force(site: DemoSite, lrs: Lrs) -> None:
    path = site.directories[0]
    lrs("dir", "add", path)
    lrs("dir", "lock", path)
    with SqliteHome.open(site.dss) as home:
        home.execute(UpdateMedia((MediumUpdate(ResourceId(Family.DIR, str(path), "legacy"), add_objects=1),)))
    refused = lrs("dir", "delete", path)
    assert (refused.returncode, refused.stdout) == (errno.ENOTEMPTY, "")
    assert f"{path}: holds objects" in refused.stderr
    assert "--force" in refused.stderr
    assert list(listed(lrs)) == [path.name]
    assert lrs("dir", "delete", "--force", path).returncode == 0
    assert listed(lrs) == {}


def test_the_daemon_is_told_of_a_deletion(tape_site: TapeSite) -> None:
    tape_site.done("dir", "add", str(tape_site.base))
    with tape_site.daemon() as script:
        tape_site.done("dir", "lock", str(tape_site.base))
        tape_site.done("dir", "delete", str(tape_site.base))
    told = [operation for operation, _, _ in notified(script)]
    assert told == [NotifyOperation.MEDIA_UPDATE, NotifyOperation.DEVICE_LOCK, NotifyOperation.DEVICE_LOCK]


def status_of(site: TapeSite) -> list[tuple[str, str]]:
    return [(row["device"]["adm_status"], row["medium"]["adm_status"]) for row in site.listed("dir")]


def hanging_up(body: RequestBody) -> ResponseBody | None:
    """What a daemon says that ends."""
    raise ConnectionResetError


def test_a_lock_that_a_daemon_in_its_drain_is_told_of(tape_site: TapeSite) -> None:
    path = str(tape_site.base)
    tape_site.done("dir", "add", path)
    with tape_site.daemon(refusing(errno.ESHUTDOWN)):
        result = tape_site.run("dir", "lock", path)
    assert result.exit_code == errno.ESHUTDOWN
    text = "locked in the DSS; the daemon is ending, and will leave it alone from its next start on"
    assert result.stderr == f"lrs: {path}: {text} [ESHUTDOWN]\n"
    assert status_of(tape_site) == [("locked", "locked")]


def test_a_lock_that_the_daemon_does_not_heed_is_in_the_dss(tape_site: TapeSite) -> None:
    path = str(tape_site.base)
    tape_site.done("dir", "add", path)
    with tape_site.daemon(hanging_up):
        result = tape_site.run("dir", "lock", path)
    assert result.exit_code == errno.ECONNRESET
    assert f"{path}: locked in the DSS, but the daemon does not heed it: the daemon closed" in result.stderr
    assert status_of(tape_site) == [("locked", "locked")]


@pytest.mark.parametrize("command", ["add", "unlock"])
def test_what_a_daemon_in_its_drain_refuses_is_undone(tape_site: TapeSite, command: str) -> None:
    path = str(tape_site.base)
    if command == "unlock":
        tape_site.done("dir", "add", path)
        tape_site.done("dir", "lock", path)
    before = status_of(tape_site) if command == "unlock" else []
    with tape_site.daemon(refusing(errno.ESHUTDOWN)):
        result = tape_site.run("dir", command, path)
    assert result.exit_code == errno.ESHUTDOWN
    text = "the daemon is ending; try again when it has ended, or runs again"
    assert result.stderr == f"lrs: {path}: not {command}ed, {text} [ESHUTDOWN]\n"
    assert status_of(tape_site) == before


def test_no_answer_is_no_refusal(tape_site: TapeSite) -> None:
    with tape_site.daemon(hanging_up):
        result = tape_site.run("dir", "add", str(tape_site.base))
    assert result.exit_code == errno.ECONNRESET
    assert "not added, the daemon closed the connection" in result.stderr
    assert status_of(tape_site) == []


@pytest.mark.parametrize("command", ["add", "format", "lock", "unlock", "delete"])
def test_an_empty_path_is_not_the_working_directory(site: DemoSite, lrs: Lrs, command: str) -> None:
    lrs("dir", "add", Path())
    done = lrs("dir", command, "")
    assert done.returncode == 2
    assert "an empty path" in done.stderr
    assert len(listed(lrs)) == 1


def test_a_path_that_is_not_utf8_keeps_no_other_from_being_done(site: DemoSite, daemon: DemoDaemon, lrs: Lrs) -> None:
    bad, good = site.base / "bad\udcff", site.directories[0]
    bad.mkdir()
    for command, done in (("add", "added"), ("format", "formatted"), ("lock", "locked"), ("delete", "deleted")):
        result = lrs("dir", command, bad, good)
        assert result.returncode == errno.EINVAL
        assert f"{good}: {done}" in result.stdout
        complaint, *_ = result.stderr.splitlines()
        assert complaint.endswith("its path is not UTF-8; give it another name [EINVAL]")


def test_a_name_with_a_newline_is_in_one_line(site: DemoSite, lrs: Lrs) -> None:
    path = site.base / "two\nlines"
    path.mkdir()
    added = lrs("dir", "add", path)
    assert added.stdout == f"{site.base}/two\\nlines: added\n"
    _, row = lrs("dir", "list").stdout.splitlines()
    assert row.startswith(f"{site.base}/two\\nlines ")
    assert "two\nlines" in listed(lrs)


def test_all_is_done_though_nobody_reads_what_is_told_of_it(site: DemoSite, lrs: Lrs) -> None:
    lrs("dir", "add", *site.directories)
    command = command_line(site, "dir", "lock", *site.directories)
    with child(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == b""
        assert process.wait(TIMEOUT_S) == 1
    assert [statuses(lrs, path.name) for path in site.directories] == [("locked", "locked")] * 2


def test_a_damaged_dss_is_no_traceback(site: DemoSite, lrs: Lrs) -> None:
    lrs("dir", "add", *site.directories)
    site.dss.write_bytes(site.dss.read_bytes()[:5000])
    done = lrs("dir", "list")
    assert (done.returncode, done.stdout) == (errno.EIO, "")
    assert done.stderr.startswith(f"lrs: DSS {site.dss}: it is damaged (")


def test_unlock_puts_back_into_service(directories: tuple[Path, ...], lrs: Lrs) -> None:
    lrs("dir", "lock", *directories)
    refused = lrs("exec", "--write", "1", "--", "true")
    assert refused.returncode == 125
    assert lrs("dir", "unlock", *directories).returncode == 0
    assert lrs("exec", "--write", "1", "--", "true").returncode == 0


def test_unlock_that_the_daemon_refuses_changes_nothing(directories: tuple[Path, ...], lrs: Lrs) -> None:
    path = directories[0]
    lrs("dir", "lock", path)
    path.rename(path.with_name("moved"))
    done = lrs("dir", "unlock", path)
    assert done.returncode == errno.ENOENT
    assert statuses(lrs, path.name) == ("locked", "locked")


def test_the_table_is_plain_text_with_a_line_for_each(directories: tuple[Path, ...], lrs: Lrs) -> None:
    done = lrs("dir", "list")
    heading, *rows = done.stdout.splitlines()
    assert heading.startswith("directory")
    assert [row.split()[0] for row in rows] == [str(path) for path in directories]
    assert all("empty" in row and "unlocked" in row and "pid " in row for row in rows)
    assert "\x1b" not in done.stdout
