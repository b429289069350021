"""A Phobos configuration for `lrsd`, for the commands, and as a settings file of ours."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from benchmarks.harness import ask
from lrs_trio.cli.site import Site
from lrs_trio.model import ConfigureOperation
from lrs_trio.phobos.settings import load_phobos_settings
from lrs_trio.settings_sources import load_settings
from lrs_trio.wire.messages import Configure, Configured
from tests.cli.conftest import ENVIRONMENT, TIMEOUT_S
from tests.cli.test_status import HEAVY, TELLS_MODULES
from tests.processes import child

SHIPPED = Path(__file__).parent.parent.parent / "settings" / "phobos.conf"

TEXT = """\
[lrs]
families = tape,dir
policy = first_fit
mount_prefix = /mnt/phobos-
[store]
default_dir_library = legacy
default_tape_library = legacy
"""
WARNINGS = [
    '[lrs] families: tape: no section [tlc "..."] has a hostname, so that no tape can be moved',
    "[store] default_dir_library, default_tape_library: read by clients, not by the daemon",
]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "phobos.conf"
    path.write_text(TEXT)
    return path


def run(command: str, *args: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", f"lrs_trio.cli.{command}", *map(str, args)],
        check=False,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        env=ENVIRONMENT | environment,
    )


# lrsd


def test_check_prints_the_settings_and_what_has_no_effect(file: Path) -> None:
    done = run("lrsd", "--phobos-config", file, "--set", "drain.deadline_s=77", "--check", PHOBOS_LRS_max_health="3")
    assert done.returncode == 0
    settings = tomllib.loads(done.stdout)
    assert settings["server"]["socket"] == "/run/phobosd/lrs"
    assert settings["drain"]["deadline_s"] == 77
    assert settings["families"]["dir"]["policy"] == "first_fit"
    assert settings["families"]["dir"]["max_health"] == 3
    assert done.stderr.splitlines() == [f"lrsd: {warning}" for warning in WARNINGS]


@pytest.mark.parametrize("words", [["--phobos-config", "--check"], ["--check", "--phobos-config"]])
def test_without_a_name_it_is_the_file_that_the_environment_names(file: Path, words: list[str]) -> None:
    done = run("lrsd", *words, PHOBOS_CFG_FILE=str(file))
    assert done.returncode == 0
    assert done.stdout == run("lrsd", "--phobos-config", file, "--check").stdout


def test_bad_configurations_start_no_daemon(file: Path) -> None:
    file.write_text(TEXT + "[dir]\ndir_full_threshold = 0\n")
    done = run("lrsd", "--phobos-config", file, PHOBOS_LRS_sync_nb_req="dir=1")
    assert (done.returncode, done.stdout) == (1, "")
    told = done.stderr.splitlines()
    assert len(told) == 2
    assert f"lrsd: {file}: [dir] dir_full_threshold = '0': must be a whole number from 1 to 99" in told
    assert any(line.startswith("lrsd: PHOBOS_LRS_sync_nb_req: [lrs] sync_nb_req = 'dir=1': must be ") for line in told)


@pytest.mark.parametrize(("command", "words"), [("lrsd", ["--check"]), ("lrs", ["ping"])])
def test_settings_are_either_ours_or_those_of_phobos(file: Path, command: str, words: list[str]) -> None:
    done = run(command, "--config", file, "--phobos-config", file, *words)
    assert done.returncode == 2
    assert "--config and --phobos-config exclude each other" in done.stderr


# lrs config


@pytest.mark.parametrize("words", [["FILE"], [], ["--phobos-config", "FILE"]])
def test_the_printed_file_is_the_same_settings(file: Path, tmp_path: Path, words: list[str]) -> None:
    command = ["config", "from-phobos"]
    command = words + command if len(words) > 1 else command + words
    arguments = [file if word == "FILE" else word for word in command]
    done = run("lrs", *arguments, **({} if words else {"PHOBOS_CFG_FILE": str(file)}))
    assert done.returncode == 0
    assert done.stderr.splitlines() == [f"lrs: {warning}" for warning in WARNINGS]
    ours = tmp_path / "lrs.toml"
    ours.write_text(done.stdout)
    assert load_settings(ours, {}) == load_phobos_settings(file, {}).settings
    assert "response_channel" not in done.stdout  # the default


def test_the_shipped_file_can_be_had_as_ours(tmp_path: Path) -> None:
    done = run("lrs", "config", "from-phobos", SHIPPED, PHOBOS_LRS_max_concurrent_io="dir=8")
    assert done.returncode == 0
    ours = tmp_path / "lrs.toml"
    ours.write_text(done.stdout)
    settings = load_settings(ours, {})
    assert settings == load_phobos_settings(SHIPPED, {"PHOBOS_LRS_max_concurrent_io": "dir=8"}).settings
    assert "keep it secret" not in settings.dss.shown


def test_the_password_goes_into_the_file(file: Path) -> None:
    done = run("lrs", "config", "from-phobos", file, PHOBOS_DSS_connect_string="dbname=d user=u password=s3cret")
    assert tomllib.loads(done.stdout)["dss"]["url"] == "postgresql://u:s3cret@/d"


def test_what_no_settings_file_can_say_makes_none(file: Path) -> None:
    file.write_bytes(b"[lrs]\nfamilies = dir\nlock_file = /run/caf\xe9\n")
    done = run("lrs", "config", "from-phobos", file, PYTHONIOENCODING="utf-8:strict")
    assert (done.returncode, done.stdout) == (1, "")
    allowed = "a settings file is UTF-8 and cannot say this; give it another name first"
    assert done.stderr == f'lrs: lock_file = "/run/caf\\udce9": {allowed}\n'


def test_what_is_wrong_is_told_line_by_line(file: Path) -> None:
    file.write_text("[lrs]\nfamilies = disk\npolicy = best\n")
    done = run("lrs", "config", "from-phobos", file)
    assert (done.returncode, done.stdout) == (1, "")
    assert len(done.stderr.splitlines()) == 2
    absent = file.with_name("absent")
    done = run("lrs", "config", "from-phobos", absent)
    assert (done.returncode, done.stderr) == (1, f"lrs: {absent}: cannot be read: No such file or directory\n")


# The commands


def test_a_command_finds_its_socket_and_its_settings_there(file: Path) -> None:
    site = Site(None, None, {"PHOBOS_LRS_server_socket": "/run/here"}, phobos_config=file)
    assert site.socket_path == Path("/run/here")
    assert site.settings() == load_phobos_settings(file, site.environ).settings
    elsewhere = Site(None, Path("/run/elsewhere"), {}, phobos_config=file)
    assert elsewhere.socket_path == elsewhere.settings().server.socket == Path("/run/elsewhere")


@pytest.fixture
def base() -> Iterator[Path]:
    """Not below pytest's own: a socket's path is short."""
    with tempfile.TemporaryDirectory(prefix="lrs-test-") as directory:
        yield Path(directory)


@pytest.fixture
def served(base: Path, postgres_url: str) -> Iterator[dict[str, str]]:
    """lrsd runs with the shipped file; what differs here is in the environment, for the commands as well."""
    environment = {
        "PHOBOS_LRS_server_socket": f"{base}/lrs",
        "PHOBOS_LRS_lock_file": f"{base}/lock",
        "PHOBOS_DSS_connect_string": make_conninfo("", **conninfo_to_dict(postgres_url)),
    }
    warnings = load_phobos_settings(SHIPPED, environment).warnings
    command = [sys.executable, "-m", "lrs_trio.cli.lrsd", "--phobos-config", SHIPPED]
    with child(command, env=ENVIRONMENT | environment, stderr=subprocess.PIPE, text=True) as daemon:
        assert daemon.stderr is not None
        said = []
        for line in daemon.stderr:
            said.append(line)
            if "<INFO> ready" in line:
                break
        else:
            pytest.fail("".join(said))
        yield environment
        daemon.send_signal(signal.SIGINT)
        said += daemon.stderr
        assert daemon.wait(TIMEOUT_S) == 0, "".join(said)
    assert [line.partition("<WARNING> ")[2].rstrip() for line in said if "<WARNING>" in line] == list(warnings)


def test_commands_work_at_such_a_site(base: Path, served: dict[str, str]) -> None:
    directory = base / "directory"
    directory.mkdir()
    for words in (
        ["ping"],
        ["dir", "add", "--unlock", directory],
        ["dir", "format", directory],
        ["exec", "--write", "10", "--", "sh", "-c", "echo hello > {root}/file"],
    ):
        done = run("lrs", "--phobos-config", SHIPPED, *words, **served)
        assert done.returncode == 0, done.stderr
    for words, shown in ((["status"], "DSS postgresql://"), (["dir", "list"], str(directory))):
        done = run("lrs", "--phobos-config", SHIPPED, *words, **served)
        assert done.returncode == 0, done.stderr
        assert shown in done.stdout
    assert (base / "lrs").stat().st_mode & 0o777 == 0o666


def test_the_daemon_knows_what_the_file_says(base: Path, served: dict[str, str]) -> None:
    asked = '[{"section": "io_sched_tape", "key": "fair_share_LTO8_min"}, {"section": "lrs", "key": "server_socket"}]'
    answer = ask(base / "lrs", Configure(ConfigureOperation.GET, asked), Configured)
    assert answer == Configured(f'["1,1,0","{base}/lrs"]')


def test_ping_imports_little_there_too(served: dict[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", TELLS_MODULES, "--phobos-config", SHIPPED, "ping"],
        check=False,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        env=ENVIRONMENT | served,
    )
    assert done.returncode == 0, done.stderr
    modules = set(done.stderr.split())
    assert "configparser" in modules
    assert not modules & (HEAVY | {"asyncpg", "asyncio"})
