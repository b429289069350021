from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

from lrs_trio import __version__
from lrs_trio.cli.demo.daemon import DemoDaemon, DemoSite
from tests.cli.conftest import ENVIRONMENT, TIMEOUT_S


def lrsd(*args: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "lrs_trio.cli.lrsd", *map(str, args)],
        check=False,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        env=ENVIRONMENT | environment,
    )


def test_check_prints_settings_that_mean_the_same(site: DemoSite) -> None:
    first = lrsd("--config", site.config, "--set", "drain.deadline_s=77", "--check", LRS_LOG__LEVEL="warning")
    assert first.returncode == 0
    settings = tomllib.loads(first.stdout)
    assert settings["server"]["socket"] == str(site.socket)
    assert settings["drain"]["deadline_s"] == 77
    assert settings["log"]["level"] == "warning"
    site.config.write_text(first.stdout)
    assert lrsd("--config", site.config, "--check").stdout == first.stdout


def test_check_shows_no_password(site: DemoSite, tmp_path: Path) -> None:
    phobos = tmp_path / "phobos.conf"
    phobos.write_text("[lrs]\nfamilies = dir\n[dss]\nconnect_string = dbname=d host=h user=u password=s3cret\n")
    for arguments in (
        ("--config", site.config, "--set", "dss.url=postgresql://u:s3cret@h/d"),
        ("--phobos-config", phobos),
    ):
        done = lrsd(*arguments, "--check")
        assert done.returncode == 0
        assert tomllib.loads(done.stdout)["dss"]["url"] == "postgresql://u@h/d"
        assert done.stderr == "lrsd: the password in dss.url is left out\n"


def test_check_shows_paths_as_they_are(tmp_path: Path) -> None:
    phobos = tmp_path / "phobos.conf"
    phobos.write_bytes(b"[lrs]\nfamilies = dir\nlock_file = /run/caf\xe9\n")
    command = [sys.executable, "-m", "lrs_trio.cli.lrsd", "--phobos-config", str(phobos), "--check"]
    done = subprocess.run(
        command, check=True, capture_output=True, timeout=TIMEOUT_S, env=ENVIRONMENT | {"PYTHONIOENCODING": "utf-8"}
    )
    assert b'lock_file = "/run/caf\xe9"' in done.stdout.splitlines()


def test_every_bad_setting_has_its_line(site: DemoSite) -> None:
    done = lrsd("--config", site.config, "--set", "log.level=loud", "--set", "no.such=1", "--check")
    assert done.returncode == 1
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert len(lines) == 2
    assert all(line.startswith("lrsd: ") for line in lines)
    assert any("log.level" in line and "loud" in line and "debug" in line for line in lines)
    assert any("no.such" in line for line in lines)


def test_bad_settings_start_no_daemon(site: DemoSite) -> None:
    done = lrsd("--config", site.config, "--set", "drain.deadline_s=never")
    assert done.returncode == 1
    assert "drain.deadline_s" in done.stderr
    assert not site.dss.exists()


def test_version() -> None:
    assert lrsd("--version").stdout == f"lrsd, version {__version__}\n"


def test_a_second_daemon_says_who_is_there(site: DemoSite, daemon: DemoDaemon) -> None:
    second = lrsd("--config", site.config)
    assert second.returncode == 17
    assert str(daemon.pid) in second.stderr


def test_a_signal_ends_it_with_status_0(daemon: DemoDaemon) -> None:
    daemon.interrupt()
    assert daemon.wait() == 0


def test_the_reason_of_a_failed_start_is_the_status(site: DemoSite) -> None:
    done = lrsd("--config", site.config, "--set", f"dss.url=sqlite://{site.base}/missing/dss.sqlite")
    assert done.returncode == 2
    assert "missing" in done.stderr
