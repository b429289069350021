"""A site of its own for each test, with a real daemon where the test wants one."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from lrs_trio.cli.administration import open_administration
from lrs_trio.cli.demo.daemon import DemoDaemon, DemoSite, demo_site
from lrs_trio.cli.directory_administration import DirectoryAdministration
from tests.cli.tape_site import TapeSite
from tests.tlc.conftest import FakeMtx

ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith(("LRS_", "PHOBOS_"))}
TIMEOUT_S = 60
"""Only so that a defect ends a test instead of holding it up."""

Lrs = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(autouse=True)
def unchanged_logging(monkeypatch: pytest.MonkeyPatch) -> None:
    """Logging is set up once for a process, and this one has other tests to run."""
    monkeypatch.setattr("lrs_trio.cli.administration.configure_logging", lambda *args: None)


@pytest.fixture
def site() -> Iterator[DemoSite]:
    """Settings, and two directories that nobody knows yet. Not below pytest's own: a socket's path is short."""
    with tempfile.TemporaryDirectory(prefix="lrs-test-") as parent, demo_site(Path(parent), 2, keep=True) as made:
        yield made


@pytest.fixture
def daemon(site: DemoSite) -> Iterator[DemoDaemon]:
    """lrsd, running, with a site without directories."""
    running = DemoDaemon(site)
    try:
        yield running
    finally:
        running.end()


def command_line(site: DemoSite, *args: str | Path) -> list[str]:
    return [sys.executable, "-m", "lrs_trio.cli.lrs", "--config", str(site.config), *map(str, args)]


@pytest.fixture
def lrs(site: DemoSite) -> Lrs:
    """Run `lrs` on the site to its end."""

    def run(*args: str | Path, stdin: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command_line(site, *args),
            input=stdin,
            check=False,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            env=ENVIRONMENT | environment,
        )

    return run


@pytest.fixture
def directories(site: DemoSite, daemon: DemoDaemon) -> tuple[Path, ...]:
    """The site's two directories, added, formatted and unlocked."""
    add_directories(site)
    return site.directories


def add_directories(site: DemoSite) -> None:
    with open_administration(DirectoryAdministration, site.site) as admin:
        for directory in site.directories:
            admin.add(directory)
            admin.format(directory, unlock=True)


@pytest.fixture
def tape_site(monkeypatch: pytest.MonkeyPatch) -> Iterator[TapeSite]:
    """A site with the tape library "legacy", an empty DSS, and no daemon."""
    for name in os.environ.keys() - ENVIRONMENT.keys():
        monkeypatch.delenv(name)
    with capture_logs(), tempfile.TemporaryDirectory(prefix="lrs-test-") as base:
        site = TapeSite(Path(base))
        site.configure()
        yield site


@pytest.fixture
def mtx(tmp_path: Path) -> FakeMtx:
    directory = tmp_path / "mtx"
    directory.mkdir()
    return FakeMtx(directory)
