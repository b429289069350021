from __future__ import annotations

import errno
import json
import subprocess
import sys
from typing import Any

import pytest

from lrs_trio.dss.operations import ReadLocks
from lrs_trio.errors import LrsError
from lrs_trio.model import LockType, NotifyOperation
from lrs_trio.storage.protocols import DriveIdentity
from lrs_trio.wire.messages import RequestBody, ResponseBody, StatusReport
from tests.cli.conftest import ENVIRONMENT, TIMEOUT_S
from tests.cli.samples import drive_report, family_report
from tests.cli.tape_site import DAEMON, ELSEWHERE, TapeSite, drive, notified, refusing

DRIVES = {
    "/dev/st0": DriveIdentity("/dev/sg3", "AAA1", "ULT3580-TD8"),
    "/dev/sg3": DriveIdentity("/dev/sg3", "AAA1", "ULT3580-TD8"),
    "/dev/st1": DriveIdentity("/dev/sg4", "BBB2", "ULT3580-TD9"),
}


@pytest.fixture(autouse=True)
def hardware(monkeypatch: pytest.MonkeyPatch) -> None:
    """The two tape drives of this host."""

    def identify(path: str) -> DriveIdentity:
        if path not in DRIVES:
            raise LrsError(errno.ENOENT, f"{path} is no tape drive of this host")
        return DRIVES[path]

    for module in ("hardware", "drive_administration"):
        monkeypatch.setattr(f"lrs_trio.cli.{module}.identify", identify)
    monkeypatch.setattr("lrs_trio.cli.hardware.scan", lambda: list(DRIVES.values()))


def status_of(site: TapeSite, serial: str) -> str:
    (row,) = [row for row in site.listed("drive") if row["serial"] == serial]
    status: str = row["adm_status"]
    return status


def test_a_drive_is_added_locked(tape_site: TapeSite) -> None:
    result = tape_site.run("drive", "add", "/dev/st0")
    assert result.exit_code == 0
    assert result.stdout == "/dev/st0: added; serial AAA1, model ULT3580-TD8\n"
    assert "lrs drive unlock" in result.stderr
    assert tape_site.listed("drive") == [
        {
            "path": "/dev/st0",
            "serial": "AAA1",
            "model": "ULT3580-TD8",
            "host": "here",
            "library": "legacy",
            "adm_status": "locked",
            "lock": None,
        }
    ]


def test_a_locked_drive_is_no_news_for_the_daemon(tape_site: TapeSite) -> None:
    with tape_site.daemon() as script:
        tape_site.done("drive", "add", "/dev/st0")
    assert script.bodies == []


def test_an_unlocked_one_is(tape_site: TapeSite) -> None:
    with tape_site.daemon() as script:
        assert tape_site.run("drive", "add", "--unlock", "/dev/st0").stderr == ""
    assert notified(script) == [(NotifyOperation.DEVICE_ADD, drive("AAA1"), True)]
    assert status_of(tape_site, "AAA1") == "unlocked"


def test_what_the_daemon_refuses_is_not_added(tape_site: TapeSite) -> None:
    with tape_site.daemon(refusing(errno.ENXIO)):
        result = tape_site.run("drive", "add", "--unlock", "/dev/st0")
    assert result.exit_code == errno.ENXIO
    assert "/dev/st0: not added, the daemon cannot use it" in result.stderr
    assert tape_site.listed("drive") == []


def test_each_drive_has_its_own_result(tape_site: TapeSite) -> None:
    result = tape_site.run("drive", "add", "/dev/null", "/dev/st0", "/dev/sg3", "/dev/st1")
    assert result.exit_code == errno.ENOENT
    assert [line.partition(":")[0] for line in result.stdout.splitlines()] == ["/dev/st0", "/dev/st1"]
    missing, twice, *_ = result.stderr.splitlines()
    assert missing.endswith("[ENOENT]")
    assert twice.startswith("lrs: /dev/sg3: ")
    assert twice.endswith("[EEXIST]")


def test_the_library_must_be_known_and_unambiguous(tape_site: TapeSite) -> None:
    unknown = tape_site.run("drive", "add", "--library", "other", "/dev/st0")
    assert unknown.exit_code == 1
    assert "libraries.other" in unknown.stderr
    tape_site.configure({"north": {}})
    tape_site.done("drive", "add", "/dev/st0")
    assert [row["library"] for row in tape_site.listed("drive")] == ["north"]
    tape_site.configure({"north": {}, "south": {}})
    choice = tape_site.run("drive", "add", "/dev/st1")
    assert choice.exit_code == errno.EINVAL
    assert "north, south; say which with --library" in choice.stderr
    tape_site.done("drive", "add", "--library", "south", "/dev/st0")
    ambiguous = tape_site.run("drive", "unlock", "AAA1")
    assert ambiguous.exit_code == errno.EINVAL
    tape_site.done("drive", "unlock", "--library", "south", "AAA1")
    assert [row["serial"] for row in tape_site.listed("drive", "--library", "north")] == ["AAA1"]
    assert [(row["library"], row["adm_status"]) for row in tape_site.listed("drive")] == [
        ("north", "locked"),
        ("south", "unlocked"),
    ]


def test_drives_of_a_virtual_library(tape_site: TapeSite) -> None:
    tape_site.make_virtual_library()
    tape_site.done("drive", "add", "VD0001", "/dev/virtual-virtual-2")
    rows = tape_site.listed("drive")
    assert [(row["serial"], row["path"]) for row in rows] == [
        ("VD0001", "/dev/virtual-virtual-1"),
        ("VD0002", "/dev/virtual-virtual-2"),
    ]
    assert all(row["model"] for row in rows)
    missing = tape_site.run("drive", "add", "/dev/st0")
    assert missing.exit_code == errno.ENOENT
    assert "/dev/virtual-virtual-1 (VD0001)" in missing.stderr
    released = tape_site.run("drive", "release", "VD0001")
    assert released.exit_code == errno.EINVAL
    assert "no host reserves" in released.stderr


def test_a_virtual_library_has_a_directory(tape_site: TapeSite) -> None:
    tape_site.configure({"legacy": {"drives": "virtual"}})
    result = tape_site.run("drive", "add", "VD0001")
    assert result.exit_code == 1
    assert "libraries.legacy.directory" in result.stderr


@pytest.mark.parametrize("name", ["AAA1", "/dev/st0", "/dev/sg3"])
def test_a_drive_goes_by_its_serial_and_all_its_paths(tape_site: TapeSite, name: str) -> None:
    tape_site.done("drive", "add", "/dev/st0")
    result = tape_site.run("drive", "unlock", name)
    assert (result.exit_code, result.stdout) == (0, f"{name}: unlocked\n")
    assert "the daemon does not run" in result.stderr
    assert status_of(tape_site, "AAA1") == "unlocked"
    tape_site.done("drive", "lock", name)
    assert status_of(tape_site, "AAA1") == "locked"
    tape_site.done("drive", "delete", name)
    assert tape_site.listed("drive") == []


@pytest.mark.parametrize("command", ["lock", "unlock", "delete", "release"])
def test_unknown_drives(tape_site: TapeSite, command: str) -> None:
    tape_site.done("drive", "add", "/dev/st0")
    result = tape_site.run("drive", command, "/dev/st1")
    assert result.exit_code == errno.ENOENT
    assert "lrs drive list" in result.stderr


def test_the_daemon_is_told_after_the_dss(tape_site: TapeSite) -> None:
    tape_site.done("drive", "add", "/dev/st0")
    with tape_site.daemon() as script:
        tape_site.done("drive", "unlock", "AAA1")
        tape_site.done("drive", "lock", "AAA1")
        tape_site.done("drive", "lock", "--no-wait", "AAA1")
        tape_site.done("drive", "delete", "AAA1")
    assert notified(script) == [
        (NotifyOperation.DEVICE_UNLOCK, drive("AAA1"), True),
        (NotifyOperation.DEVICE_LOCK, drive("AAA1"), True),
        (NotifyOperation.DEVICE_LOCK, drive("AAA1"), False),
        (NotifyOperation.DEVICE_LOCK, drive("AAA1"), True),
    ]


def test_a_daemon_that_serves_no_tapes_is_not_asked(tape_site: TapeSite) -> None:
    tape_site.configure(enabled=False)
    with tape_site.daemon() as script:
        result = tape_site.run("drive", "add", "--unlock", "/dev/st0")
    assert result.exit_code == 0
    assert "families.tape.enabled" in result.stderr
    assert script.bodies == []


def test_an_unlock_that_the_daemon_refuses_changes_nothing(tape_site: TapeSite) -> None:
    tape_site.done("drive", "add", "/dev/st0")
    with tape_site.daemon(refusing(errno.EALREADY)):
        result = tape_site.run("drive", "unlock", "/dev/st0")
    assert result.exit_code == errno.EALREADY
    assert "not unlocked" in result.stderr
    assert status_of(tape_site, "AAA1") == "locked"


def test_a_drive_in_use_is_not_deleted(tape_site: TapeSite) -> None:
    tape_site.done("drive", "add", "/dev/st0")
    tape_site.lock(LockType.DEVICE, drive("AAA1"))
    result = tape_site.run("drive", "delete", "/dev/st0")
    assert result.exit_code == errno.EBUSY
    assert "lrs drive lock /dev/st0" in result.stderr
    assert [row["lock"]["pid"] for row in tape_site.listed("drive")] == [DAEMON.pid]


def test_a_drive_in_service_is_not_deleted_either_where_no_daemon_runs(tape_site: TapeSite) -> None:
    tape_site.done("drive", "add", "--unlock", "/dev/st0")
    result = tape_site.run("drive", "delete", "AAA1")
    assert (result.exit_code, result.stdout) == (errno.EBUSY, "")
    assert "AAA1: is in service" in result.stderr
    assert "lock it first: lrs drive lock AAA1 [EBUSY]" in result.stderr
    assert status_of(tape_site, "AAA1") == "unlocked"


def test_a_lock_that_a_daemon_in_its_drain_is_told_of(tape_site: TapeSite) -> None:
    tape_site.done("drive", "add", "--unlock", "/dev/st0")
    with tape_site.daemon(refusing(errno.ESHUTDOWN)):
        result = tape_site.run("drive", "lock", "AAA1")
    assert result.exit_code == errno.ESHUTDOWN
    assert "AAA1: locked in the DSS; the daemon is ending, and will leave it alone from its next start" in result.stderr
    assert status_of(tape_site, "AAA1") == "locked"


@pytest.mark.parametrize("command", ["lock", "unlock"])
def test_a_drive_in_use_on_another_host_is_left_to_it(tape_site: TapeSite, command: str) -> None:
    tape_site.done("drive", "add", "/dev/st0")
    tape_site.lock(LockType.DEVICE, drive("AAA1"), ELSEWHERE)
    result = tape_site.run("drive", command, "AAA1")
    assert result.exit_code == errno.EBUSY
    assert "on host elsewhere" in result.stderr
    assert status_of(tape_site, "AAA1") == "locked"


def test_an_idle_drive_of_another_host_is_changed_in_the_dss_alone(tape_site: TapeSite) -> None:
    tape_site.done("drive", "add", "/dev/st0")
    config = tape_site.config.read_text()
    tape_site.config.write_text(config.replace('"here"', '"there"'))
    with tape_site.daemon() as script:
        (line,) = tape_site.done("drive", "unlock", "AAA1")
    assert line == "AAA1: unlocked; the daemon of host here will know when it starts"
    assert script.bodies == []
    # Its path says nothing here.
    assert tape_site.run("drive", "unlock", "/dev/st0").exit_code == errno.ENOENT


def test_release_runs_the_command_under_the_lock(tape_site: TapeSite) -> None:
    written = tape_site.base / "released"
    tape_site.configure(ltfs={"release": f"sh -c 'echo %s > {written}'"})
    tape_site.done("drive", "add", "/dev/st0")
    assert tape_site.done("drive", "release", "/dev/st0") == ["/dev/st0: released"]
    assert written.read_text() == "/dev/sg3\n"
    with tape_site.home() as home:
        assert home.execute(ReadLocks()) == ()


def test_a_release_that_fails_gives_the_lock_back(tape_site: TapeSite) -> None:
    tape_site.configure(ltfs={"release": "sh -c 'echo no such device; exit 3' %s"})
    tape_site.done("drive", "add", "/dev/st0")
    result = tape_site.run("drive", "release", "AAA1")
    assert result.exit_code == errno.EIO
    assert "no such device" in result.stderr
    with tape_site.home() as home:
        assert home.execute(ReadLocks()) == ()


def test_a_drive_in_use_is_not_released(tape_site: TapeSite) -> None:
    tape_site.configure(ltfs={"release": f"touch {tape_site.base}/released-%s"})
    tape_site.done("drive", "add", "/dev/st0")
    tape_site.lock(LockType.DEVICE, drive("AAA1"))
    result = tape_site.run("drive", "release", "AAA1")
    assert result.exit_code == errno.EBUSY
    assert "lrs drive lock AAA1" in result.stderr
    assert list(tape_site.base.glob("released*")) == []
    with tape_site.home() as home:
        assert [lock.owner for lock in home.execute(ReadLocks())] == [DAEMON]


def test_a_real_daemon_takes_drives_and_lets_go_of_them(tape_site: TapeSite) -> None:
    tape_site.make_virtual_library()
    with tape_site.real_daemon() as daemon:
        tape_site.done("drive", "add", "VD0001")
        tape_site.done("drive", "add", "--unlock", "VD0002")
        tape_site.done("drive", "unlock", "VD0001")
        assert [row["lock"]["pid"] for row in tape_site.listed("drive")] == [daemon.pid] * 2
        shown = json.loads("\n".join(tape_site.done("drive", "status", "--json")))
        assert [(found["name"], found["status"]) for found in shown] == [("VD0001", "empty"), ("VD0002", "empty")]
        busy = tape_site.run("drive", "delete", "VD0002")
        assert busy.exit_code == errno.EBUSY
        tape_site.done("drive", "lock", "VD0001")
        tape_site.done("drive", "delete", "VD0001")
        assert [row["serial"] for row in tape_site.listed("drive")] == ["VD0002"]
        assert len(tape_site.done("drive", "status")) == 2


def test_what_the_daemon_cannot_find_is_not_added(tape_site: TapeSite) -> None:
    """The daemon has other settings than the command."""
    tape_site.make_virtual_library()
    with tape_site.real_daemon():
        text = tape_site.config.read_text()
        tape_site.config.write_text(text.replace('host = "here"', 'host = "there"'))
        result = tape_site.run("drive", "add", "--unlock", "VD0001")
    assert result.exit_code == errno.ENXIO
    assert "not added" in result.stderr
    assert tape_site.listed("drive") == []


def test_what_is_logged_is_no_result(tape_site: TapeSite) -> None:
    tape_site.configure(ltfs={"release": "true %s"})
    tape_site.done("drive", "add", "/dev/st0")
    code = (
        "from lrs_trio.cli import hardware, lrs; from lrs_trio.storage.protocols import DriveIdentity;"
        'hardware.scan = lambda: [DriveIdentity("/dev/sg3", "AAA1", None)]; lrs.main()'
    )
    line = [sys.executable, "-c", code, "--config", str(tape_site.config), "drive", "release", "AAA1"]
    done = subprocess.run(line, capture_output=True, check=False, text=True, env=ENVIRONMENT, timeout=TIMEOUT_S)
    assert (done.returncode, done.stdout, done.stderr) == (0, "AAA1: released\n", "")


def test_the_table_has_a_line_for_each_drive(tape_site: TapeSite) -> None:
    tape_site.done("drive", "add", "/dev/st0", "/dev/st1")
    tape_site.lock(LockType.DEVICE, drive("AAA1"))
    heading, first, second = tape_site.done("drive", "list")
    assert heading.split()[:4] == ["drive", "serial", "model", "host"]
    assert first.split()[:2] == ["/dev/st0", "AAA1"]
    assert first.endswith("pid 4711 on here")
    assert second.split() == ["/dev/st1", "BBB2", "ULT3580-TD9", "here", "legacy", "locked"]


def reporting(*families: dict[str, Any]) -> Any:
    def answer(body: RequestBody) -> ResponseBody:
        return StatusReport(json.dumps({"version": 1, "families": families}))

    return answer


def test_status_shows_the_drives_in_the_order_of_their_addresses(tape_site: TapeSite) -> None:
    drives = [
        drive_report("/dev/st1", "BBB2", address=257, status="empty", since_s=12.0, dedicated_to="R"),
        drive_report(
            "/dev/st0",
            "AAA1",
            address=256,
            status="mounted",
            since_s=3.5,
            medium="P00001L8",
            fs_status="used",
            ongoing=1,
        ),
    ]
    with tape_site.daemon(reporting({"family": "dir"}, family_report("tape", drives))):
        heading, first, second = tape_site.done("drive", "status")
        shown = json.loads("\n".join(tape_site.done("drive", "status", "--json")))
    assert heading.split()[:5] == ["drive", "serial", "library", "status", "for"]
    assert first.split()[:8] == ["/dev/st0", "AAA1", "legacy", "mounted", "3.5", "s", "P00001L8", "used"]
    assert second.split()[:7] == ["/dev/st1", "BBB2", "legacy", "empty", "12.0", "s", "none"]
    assert second.split()[-3:] == ["0", "R", "-"]
    assert [found["path"] for found in shown] == ["/dev/st0", "/dev/st1"]


def test_status_of_a_daemon_without_tapes(tape_site: TapeSite) -> None:
    with tape_site.daemon(reporting({"family": "dir"})):
        result = tape_site.run("drive", "status")
    assert result.exit_code == errno.EINVAL
    assert "families.tape.enabled" in result.stderr


def test_status_needs_a_daemon(tape_site: TapeSite) -> None:
    assert tape_site.run("drive", "status").exit_code == errno.ENOENT
