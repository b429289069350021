"""The demo's own site: a temporary directory with a DSS, directories to write in, and a real daemon."""

from __future__ import annotations

import errno
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import click
import tomli_w

from lrs_trio.cli.site import Site
from lrs_trio.errors import LrsError
from lrs_trio.location import read_toml

LRSD: Final = """
import sys
from lrs_trio.cli.child import die_with_parent
from lrs_trio.cli.lrsd import main
die_with_parent(int(sys.argv.pop(1)))
main()
"""
"""What `lrsd` is, and gone with the demo even if that is killed."""

LOG_LINES: Final = 20
START_S: Final = 20.0
DRAIN_S: Final = 20.0
"""How long the daemon may take to be ready, and to drain. Seconds."""


@dataclass(frozen=True, slots=True)
class DemoSite:
    """Where everything of one demo is."""

    base: Path
    directories: tuple[Path, ...]

    @property
    def config(self) -> Path:
        return self.base / "demo.toml"

    @property
    def socket(self) -> Path:
        return self.base / "lrs"

    @property
    def dss(self) -> Path:
        return self.base / "dss.sqlite"

    @property
    def log(self) -> Path:
        return self.base / "lrsd.log"

    @property
    def library(self) -> Path:
        """Where its virtual tape library is, if it has one."""
        return self.base / "library"

    @property
    def trace(self) -> Path:
        return self.base / "trace.gz"

    @property
    def site(self) -> Site:
        """The demo's site as the commands know one; the environment has no say in it."""
        return Site(self.config, None, {})

    def configure(self, settings: Mapping[str, object]) -> None:
        """Write the settings file, with the places of this site."""
        places = {"server": {"socket": str(self.socket)}, "dss": {"url": f"sqlite://{self.dss}"}}
        self.config.write_text(tomli_w.dumps({**settings, **places}))


@contextmanager
def demo_site(parent: Path | None, directories: int, *, keep: bool) -> Iterator[DemoSite]:
    """Make a site in a new directory below `parent` (default: the system's); removed at the end unless `keep`.

    Raises:
        OSError: it cannot be made there.
    """
    with new_base(parent, keep=keep) as base:
        site = DemoSite(base, tuple(base / f"directory-{number}" for number in range(1, directories + 1)))
        for directory in site.directories:
            directory.mkdir()
        site.configure(read_toml(shipped_settings("demo.toml")))
        yield site


@contextmanager
def new_base(parent: Path | None, *, keep: bool) -> Iterator[Path]:
    """A new directory below `parent` (default: the system's); removed at the end unless `keep`."""
    base = Path(tempfile.mkdtemp(prefix="lrs-demo-", dir=parent)).resolve()
    try:
        yield base
    finally:
        if not keep:
            shutil.rmtree(base)


def shipped_settings(name: str) -> Path:
    """The settings file `name`: in the source tree, or where the installed package has put it."""
    source = Path(__file__).resolve().parents[4] / "settings" / name
    return source if source.exists() else Path(sys.prefix, "share", "lrs-trio", "settings", name)


class DemoDaemon:
    """`lrsd` as a child process, in a process group of its own so that Ctrl-C is ours to handle."""

    def __init__(self, site: DemoSite) -> None:
        self._site = site
        environment = {name: value for name, value in os.environ.items() if not name.startswith("LRS_")}
        with (
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as manager,
            site.log.open("wb") as log,
        ):
            address = site.base / "notify"
            manager.bind(str(address))
            self._process = subprocess.Popen(
                [sys.executable, "-c", LRSD, str(os.getpid()), "--config", str(site.config)],
                env=environment | {"NOTIFY_SOCKET": str(address)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                process_group=0,
            )
            try:
                self._wait_ready(manager)
            except BaseException:
                self.end()
                raise

    @property
    def pid(self) -> int:
        return self._process.pid

    def interrupt(self) -> None:
        """Ask for the drain, as Ctrl-C does."""
        self._process.send_signal(signal.SIGINT)

    def wait(self, seconds: float = DRAIN_S) -> int | None:
        """The exit status; ``None`` if the daemon has not ended in time."""
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    def end(self) -> None:
        """Make sure that the daemon is gone."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def failure(self, what: str) -> LrsError:
        """An error to be raised; the last lines of the daemon's log, which say why, are shown at once."""
        click.echo("\nthe last lines of the daemon's log:", err=True)
        click.echo("\n".join(self._site.log.read_text(errors="replace").splitlines()[-LOG_LINES:]), err=True)
        return LrsError(errno.EIO, what)

    def _wait_ready(self, manager: socket.socket) -> None:
        """Wait for the message that a service manager would wait for, or for the end of the process."""
        deadline = time.monotonic() + START_S
        ended = os.pidfd_open(self._process.pid)
        watched = select.poll()
        watched.register(manager, select.POLLIN)
        watched.register(ended, select.POLLIN)
        try:
            while (left := deadline - time.monotonic()) > 0:
                readable = [descriptor for descriptor, _ in watched.poll(left * 1000)]
                if manager.fileno() in readable and b"READY=1" in manager.recv(4096).splitlines():
                    return
                if ended in readable:
                    raise self.failure(f"lrsd ended with status {self._process.wait()} instead of being ready")
        finally:
            os.close(ended)
        raise self.failure(f"lrsd was not ready after {START_S:g} s")
