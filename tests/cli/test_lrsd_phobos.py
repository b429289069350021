"""`lrsd-phobos` as sites start it: the installed command, in real processes, with the database of Phobos."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from getopt import GetoptError
from pathlib import Path

import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from benchmarks.harness import LIBRARY, ask
from lrs_trio.cli.lrsd_phobos import LEVELS, Options, read_options
from lrs_trio.client import connect
from lrs_trio.dss.homes import open_command_home
from lrs_trio.dss.operations import AddDirectory
from lrs_trio.model import AdmStatus, Device, Family, FsType, Medium, ResourceId
from lrs_trio.settings import DssSettings, Settings, short_host_name
from lrs_trio.wire.messages import Format, Formatted
from tests.processes import PATIENCE_S, Descendants, child, descendants, wait_gone

ROOT = Path(__file__).parents[2]
COMMAND = Path(sys.executable).with_name("lrsd-phobos")
STAMP = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{9} "


# The command line, as getopt_long of phobosd reads it.


@pytest.mark.parametrize(
    ("arguments", "level"),
    [
        ("", "info"),
        ("-v", "verbose"),
        ("-vv", "debug"),
        ("-vvvvv", "debug"),
        ("--verbose --verbose", "debug"),
        ("-q", "warning"),
        ("-qq", "error"),
        ("--quiet -qq", "off"),
        ("-qqqqqqqqq", "off"),
        ("-v -q", "info"),
        ("-qqqqqqqqq -v", "error"),
        ("-vvvvvvvvv -q", "verbose"),
    ],
)
def test_each_v_and_each_q_is_one_level_between_off_and_debug(arguments: str, level: str) -> None:
    assert LEVELS[read_options(arguments.split()).level] == level


@pytest.mark.parametrize(
    "arguments",
    [
        "-i -s -c /a/p.conf",
        "-isc/a/p.conf",
        "--interactive --syslog --config /a/p.conf",
        "--i --s --c=/a/p.conf",
    ],
)
def test_options_may_be_spelled_as_getopt_long_has_it(arguments: str) -> None:
    assert read_options(arguments.split()) == Options(interactive=True, syslog=True, config=Path("/a/p.conf"))


def test_what_is_ignored_is_named() -> None:
    options = read_options(["-l", "lib1", "start", "-i", "--library=lib2"])
    assert options.interactive
    assert len(options.ignored) == 3
    assert all(any(word in line for line in options.ignored) for word in ("-l lib1", "--library lib2", "'start'"))


@pytest.mark.parametrize("arguments", ["-x", "--nothing", "-c", "--config", "-i -l", "--interactive=yes"])
def test_a_wrong_command_line_is_refused(arguments: str) -> None:
    with pytest.raises(GetoptError):
        read_options(arguments.split())


# The command.


@dataclass(frozen=True, slots=True)
class PhobosSite:
    """A site that has run phobosd on one host, without a medium."""

    base: Path
    url: str
    started: Descendants

    @property
    def config(self) -> Path:
        return self.base / "phobos.conf"

    @property
    def socket(self) -> Path:
        return self.base / "lrs"

    @property
    def lock_file(self) -> Path:
        return self.base / "phobosd.lock"

    @property
    def pid_file(self) -> Path:
        return self.base / "phobosd.pid"

    @property
    def said(self) -> Path:
        """What the last command and its daemon have said, on the standard error."""
        return self.base / "said"

    @property
    def environment(self) -> dict[str, str]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("LRS_", "PHOBOS_"))}
        ours = {"DAEMON_PID_FILEPATH": str(self.pid_file), "PHOBOS_CFG_FILE": str(self.config)}
        return inherited | self.started.environment | ours

    def configure(self, lrs: str = "", connect_string: str | None = None) -> None:
        """Write the configuration, with more keys of its section lrs, or another database."""
        if connect_string is None:
            connect_string = make_conninfo(**{key: str(value) for key, value in conninfo_to_dict(self.url).items()})
        self.config.write_text(
            f"[lrs]\nfamilies = dir\nserver_socket = {self.socket}\nlock_file = {self.lock_file}\n{lrs}\n"
            f"[dss]\nconnect_string = {connect_string}\n"
        )

    def run(self, *arguments: str | Path, command: Path = COMMAND, **environment: str) -> int:
        """The exit status of the command; in the background, that of the start."""
        with self.said.open("wb") as said:
            return subprocess.run(
                [command, *arguments],
                check=False,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                timeout=PATIENCE_S,
                env=self.environment | environment,
            ).returncode

    def daemon(self) -> int:
        """The only process there is, and the one that the pid file names."""
        pid = int(self.pid_file.read_bytes())
        assert self.started.pids() == [pid]
        return pid

    def stop(self) -> None:
        """Let the daemon in the background drain."""
        pid = self.daemon()
        os.kill(pid, signal.SIGTERM)
        wait_gone(pid)

    def serves(self) -> bool:
        with connect(self.socket) as client:
            return client.configure_get([{"section": "lrs", "key": "lock_file"}]) == [str(self.lock_file)]

    def left(self) -> list[str]:
        """What there must not be without a daemon."""
        there = [path.name for path in (self.socket, self.lock_file) if path.exists()]
        return [*there, *map(str, self.started.pids())]


@pytest.fixture
def site(postgres_url: str) -> Iterator[PhobosSite]:
    # Not below pytest's own: a socket's path is short.
    with tempfile.TemporaryDirectory(prefix="lrs-test-") as base, descendants() as started:
        made = PhobosSite(Path(base).resolve(), postgres_url, started)
        made.configure()
        yield made


@pytest.fixture
def phobosd(site: PhobosSite) -> Path:
    """The command under the name that the site calls it by."""
    link = site.base / "sbin" / "phobosd"
    link.parent.mkdir()
    link.symlink_to(COMMAND)
    return link


def is_locked(path: Path) -> bool:
    with path.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False


def wait_for(text: str, lines: Iterable[str]) -> None:
    assert any(text in line for line in lines)


def test_help(site: PhobosSite) -> None:
    for option in ("-h", "--help"):
        assert site.run(option) == 0
        said = site.said.read_text()
        assert said.startswith("usage: lrsd-phobos ")
        assert "DAEMON_PID_FILEPATH" in said
    assert site.left() == []


def test_an_unknown_option_is_answered_with_the_usage(site: PhobosSite, phobosd: Path) -> None:
    assert site.run("--daemonize", command=phobosd) == 1
    assert re.fullmatch(r"phobosd: option --daemonize .*\nusage: phobosd .*\n", site.said.read_text())
    assert site.left() == []


def test_interactive_it_serves_in_the_foreground_and_ends_in_order(site: PhobosSite, phobosd: Path) -> None:
    with child(
        [phobosd, "--interactive", "-l", "lib1"],
        env={name: value for name, value in site.environment.items() if name != "DAEMON_PID_FILEPATH"},
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        ignored, ready = process.stderr.readline(), process.stderr.readline()
        assert re.match(STAMP + "<WARNING> option -l lib1 is ignored", ignored)
        assert re.match(STAMP + "<INFO> ready .*", ready)
        assert site.started.pids() == [process.pid]
        assert Path(f"/proc/{process.pid}/comm").read_text() == "phobosd\n"
        assert is_locked(site.lock_file)
        assert stat.S_IMODE(site.socket.stat().st_mode) == 0o666
        assert site.serves()
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE_S) == 0
    assert site.left() == []
    assert not site.pid_file.exists()


def test_a_second_signal_forces_the_end_and_removes_the_lock_file_too(site: PhobosSite) -> None:
    medium = add_directory(site)
    with child([COMMAND, "-i"], env=site.environment, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        wait_for("<INFO> ready ", process.stderr)
        ask(site.socket, Format(medium, FsType.POSIX, unlock=True), Formatted)
        # Nobody is there any more for the release.
        with connect(site.socket) as client, suppress(OSError), client.write(size=1000):
            process.terminate()
            wait_for("<INFO> draining", process.stderr)
            assert is_locked(site.lock_file)
            process.terminate()
            assert process.wait(PATIENCE_S) == 3
    assert site.left() == []


def test_in_the_background_the_parent_ends_when_the_daemon_serves(site: PhobosSite, phobosd: Path) -> None:
    assert site.run(command=phobosd) == 0
    assert site.serves()
    pid = site.daemon()
    assert site.pid_file.read_bytes() == str(pid).encode()
    assert Path(f"/proc/{pid}/comm").read_text() == "phobosd\n"
    assert os.getsid(pid) == pid
    assert is_locked(site.lock_file)
    site.stop()
    assert site.left() == []
    assert site.pid_file.exists()
    assert re.search(STAMP + "<INFO> drained", site.said.read_text())


def test_a_second_one_says_17_and_leaves_the_first_alone(site: PhobosSite) -> None:
    assert site.run() == 0
    pid = site.daemon()
    for arguments in ((), ("-i",)):
        assert site.run(*arguments) == errno.EEXIST
        assert f"pid {pid} holds the lock on {site.lock_file}" in site.said.read_text()
        assert site.daemon() == pid
        assert site.serves()
    # The lock file is for those who look for it. The database knows better.
    site.lock_file.unlink()
    assert site.run() == errno.EEXIST
    site.stop()
    assert site.left() == []


def test_what_a_killed_daemon_leaves_does_not_block_the_next(site: PhobosSite) -> None:
    assert site.run() == 0
    pid = site.daemon()
    os.kill(pid, signal.SIGKILL)
    wait_gone(pid)
    assert site.left() == [site.socket.name, site.lock_file.name]
    assert site.run() == 0
    assert site.daemon() != pid
    assert site.serves()
    site.stop()
    assert site.left() == []


def test_a_lock_file_of_phobosd_does_not_block(site: PhobosSite) -> None:
    site.lock_file.touch()
    assert site.run() == 0
    site.stop()
    assert site.left() == []


def test_without_a_place_for_its_lock_file_it_does_not_start(site: PhobosSite) -> None:
    for arguments in ((), ("-i",)):
        assert site.run(*arguments, PHOBOS_LRS_lock_file=f"{site.base}/missing/phobosd.lock") == errno.ENOENT
        assert f"lock file {site.base}/missing/phobosd.lock" in site.said.read_text()
    assert site.left() == []


def test_without_a_pid_file_there_is_no_background(site: PhobosSite) -> None:
    environment = dict(site.environment)
    del environment["DAEMON_PID_FILEPATH"]
    done = subprocess.run([COMMAND], check=False, capture_output=True, text=True, env=environment, timeout=PATIENCE_S)
    assert done.returncode == 1
    assert "DAEMON_PID_FILEPATH is not set" in done.stderr
    assert site.left() == []


@pytest.mark.parametrize("pid_file", ["missing/phobosd.pid", "/dev/full"])
def test_a_pid_file_that_cannot_be_written_leaves_no_daemon(site: PhobosSite, pid_file: str) -> None:
    assert site.run(DAEMON_PID_FILEPATH=str(site.base / pid_file)) == 1
    assert f"pid file {site.base / pid_file}: " in site.said.read_text()
    assert site.left() == []


def test_ctrl_c_ends_who_waits_for_the_daemon(site: PhobosSite) -> None:
    site.config.unlink()
    os.mkfifo(site.config)
    with child([COMMAND], env=site.environment, stderr=subprocess.PIPE) as process:
        with site.config.open("w") as read_by_the_daemon:
            process.send_signal(signal.SIGINT)
            assert process.wait(PATIENCE_S) == 130
            (daemon,) = site.started.pids()
            read_by_the_daemon.write("no configuration")
        wait_gone(daemon)
        assert process.stderr is not None
        assert b"Traceback" not in process.stderr.read()
    assert site.left() == []


@pytest.mark.parametrize("arguments", [(), ("-i",)])
def test_bad_settings_are_told_and_are_status_1(site: PhobosSite, arguments: tuple[str, ...]) -> None:
    site.configure("sync_nb_req = dir=many")
    assert site.run(*arguments) == 1
    (line,) = site.said.read_text().splitlines()
    assert line.startswith("lrsd-phobos: ")
    assert "sync_nb_req" in line
    assert site.left() == []


@pytest.mark.parametrize("option", ["-c", "--config"])
def test_a_configuration_on_the_command_line_wins(site: PhobosSite, option: str) -> None:
    missing = site.base / "other.conf"
    assert site.run("-i", option, missing) == 1
    assert f"lrsd-phobos: {missing}" in site.said.read_text()


@pytest.mark.parametrize("arguments", [(), ("-i",)])
def test_a_database_that_cannot_be_reached_is_enotconn(site: PhobosSite, arguments: tuple[str, ...]) -> None:
    site.configure(connect_string=f"dbname=phobos host={site.base}")
    assert site.run(*arguments) == errno.ENOTCONN
    assert "Traceback" not in site.said.read_text()
    assert site.left() == []


def test_what_has_no_meaning_is_warned_of(site: PhobosSite) -> None:
    site.configure("mount_prefix = /mnt/phobos-")
    assert site.run("-q") == 0
    site.stop()
    (line,) = site.said.read_text().splitlines()
    assert re.match(STAMP + "<WARNING> .*mount_prefix", line)


def test_off_is_silent(site: PhobosSite) -> None:
    assert site.run("-qqq", "-l", "lib1") == 0
    site.stop()
    assert site.said.read_text() == ""


def test_with_syslog_nothing_goes_to_the_standard_error(site: PhobosSite) -> None:
    assert site.run("-svv") == 0
    site.stop()
    assert site.said.read_text() == ""


@pytest.mark.parametrize(("verbosity", "lines"), [("-vv", 1), ("-v", 0)])
def test_each_sync_is_a_line_for_those_who_debug(site: PhobosSite, verbosity: str, lines: int) -> None:
    medium = add_directory(site)
    assert site.run(verbosity) == 0
    ask(site.socket, Format(medium, FsType.POSIX, unlock=True), Formatted)
    with connect(site.socket) as client, client.write(size=1000) as allocation:
        allocation.media[0].wrote(1000)
    line = re.compile(f"^{STAMP}.*sync: medium={medium.name} rc=0", re.MULTILINE)
    assert len(line.findall(site.said.read_text())) == lines
    site.stop()


def add_directory(site: PhobosSite) -> ResourceId:
    directory = site.base / "d1"
    directory.mkdir()
    medium = ResourceId(Family.DIR, str(directory), LIBRARY)
    host = short_host_name()
    device = Device(ResourceId(Family.DIR, f"{host}:{directory}", LIBRARY), host, str(directory), AdmStatus.UNLOCKED)
    with open_command_home(DssSettings(url=site.url)) as home:
        home.execute(AddDirectory(device, Medium(medium, FsType.POSIX, AdmStatus.LOCKED)))
    return medium


def test_what_a_caller_has_in_pythonpath_does_not_matter(site: PhobosSite, phobosd: Path) -> None:
    strange = site.base / "strange"
    for name in ("encodings", "click", "google", "lrs_trio"):
        (strange / name).mkdir(parents=True)
        (strange / name / "__init__.py").write_text("raise ImportError('broken')\n")
    for name in ("re.py", "sitecustomize.py", "usercustomize.py"):
        (strange / name).write_text("raise SystemExit('broken')\n")
    assert site.run(command=phobosd, PYTHONPATH=str(strange), PYTHONHOME=str(strange)) == 0
    assert site.serves()
    assert Path(f"/proc/{site.daemon()}/comm").read_text() == "phobosd\n"
    site.stop()


def test_pgrep_finds_it_by_the_name_that_it_was_called_by(site: PhobosSite, phobosd: Path) -> None:
    assert site.run(command=phobosd) == 0
    pid = site.daemon()
    for command in (["pgrep", "phobosd"], ["pgrep", "-x", "phobosd"], ["pgrep", "-f", str(phobosd)]):
        found = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
        assert str(pid) in found
    site.stop()


def test_streams_that_the_caller_has_closed_are_in_nobodys_way(site: PhobosSite) -> None:
    closed = f'exec "{COMMAND}" -vv <&- >&- 2>&-'
    assert subprocess.run(["sh", "-c", closed], check=False, env=site.environment, timeout=PATIENCE_S).returncode == 0
    pid = site.daemon()
    assert {os.readlink(f"/proc/{pid}/fd/{number}") for number in range(3)} == {os.devnull}
    site.stop()


def test_the_unit_says_where_the_pid_is_once() -> None:
    unit = (ROOT / "settings" / "systemd" / "lrsd-phobos.service").read_text()
    (told,) = re.findall(r"^Environment=DAEMON_PID_FILEPATH=(.*)$", unit, flags=re.MULTILINE)
    (read,) = re.findall(r"^PIDFile=(.*)$", unit, flags=re.MULTILINE)
    assert told == read == "/run/phobosd/phobosd.pid"
    (descriptors,) = re.findall(r"^LimitNOFILE=([0-9]+)$", unit, flags=re.MULTILINE)
    assert int(descriptors) > Settings().server.max_connections
