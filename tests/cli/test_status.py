from __future__ import annotations

import errno
import json
import subprocess
import sys
from pathlib import Path

import pytest

from lrs_trio import __version__
from lrs_trio.cli.demo_daemon import DemoDaemon, DemoSite
from tests.cli.conftest import ENVIRONMENT, TIMEOUT_S, Lrs

TELLS_MODULES = (
    "import atexit, sys; from lrs_trio.cli.lrs import main; "
    "atexit.register(lambda: print(*sorted(m for m in sys.modules if '.' not in m), file=sys.stderr)); main()"
)
HEAVY = {"trio", "pydantic", "apsw", "rich", "structlog"}


def test_ping(daemon: DemoDaemon, lrs: Lrs) -> None:
    done = lrs("ping")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("words", [["ping"], ["--help"], ["exec", "--help"], ["--version"]])
def test_what_must_be_quick_imports_little(site: DemoSite, daemon: DemoDaemon, words: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", TELLS_MODULES, "--config", str(site.config), *words],
        check=False,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        env=ENVIRONMENT,
    )
    assert done.returncode == 0, done.stderr
    modules = set(done.stderr.split())
    assert "click" in modules
    assert not modules & HEAVY


def test_no_daemon_is_an_error_with_its_errno(site: DemoSite, lrs: Lrs) -> None:
    for command in ("ping", "status", "stats"):
        done = lrs(command)
        assert done.returncode == errno.ENOENT
        assert done.stderr.startswith("lrs: ")
        assert done.stderr.endswith(" [ENOENT]\n")
        assert str(site.socket) in done.stderr


def test_a_dead_daemon_refuses(site: DemoSite, daemon: DemoDaemon, lrs: Lrs) -> None:
    daemon.end()
    assert lrs("ping").returncode == errno.ECONNREFUSED


def test_the_socket_may_be_named(site: DemoSite, daemon: DemoDaemon, lrs: Lrs) -> None:
    site.config.unlink()
    assert lrs("ping").returncode == 1
    quick = [sys.executable, "-m", "lrs_trio.cli.lrs", "--socket", str(site.socket), "ping"]
    assert subprocess.run(quick, check=False, env=ENVIRONMENT, timeout=TIMEOUT_S).returncode == 0


def test_status_of_an_idle_daemon(directories: tuple[Path, ...], daemon: DemoDaemon, lrs: Lrs) -> None:
    shown = lrs("status").stdout
    assert f"pid {daemon.pid}: serving" in shown
    for path in directories:
        (line,) = [line for line in shown.splitlines() if line.startswith(str(path))]
        assert "0/8" in line
        assert "empty" in line
    report = json.loads(lrs("status", "--json").stdout)
    assert report["version"] == 1
    assert report["daemon"]["pid"] == daemon.pid
    assert [device["path"] for device in report["families"][0]["devices"]] == [str(path) for path in directories]


def test_stats_by_name_and_tags(directories: tuple[Path, ...], lrs: Lrs) -> None:
    lrs("exec", "--write", "1KiB", "--copies", "2", "--", "sh", "-c", "echo > {root1}/a; echo > {root2}/a")
    heading, *rows = lrs("stats", "dev.effective_sync").stdout.splitlines()
    assert heading.split() == ["metric", "tags", "value"]
    assert len(rows) == 2
    assert all(row.startswith("dev.effective_sync") for row in rows)
    metrics = json.loads(lrs("stats", "--json", "dev", "--tags", "family=dir").stdout)
    written = [metric["value"] for metric in metrics if metric["name"] == "dev.total_tosync_size"]
    assert written == [1, 1]
    assert lrs("stats", "--tags", "nonsense").returncode == errno.EINVAL


def test_version(lrs: Lrs) -> None:
    assert lrs("--version").stdout == f"lrs, version {__version__}\n"


def test_a_reader_that_leaves_is_no_error(directories: tuple[Path, ...], site: DemoSite) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "lrs_trio.cli.lrs", "--config", str(site.config), "stats"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=ENVIRONMENT,
    ) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        assert b"Traceback" not in process.stderr.read()
