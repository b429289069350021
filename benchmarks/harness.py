"""A site in a temporary directory and a real `lrsd` on it, for benchmarks and tests."""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import tomli_w

from lrs_trio.dss.homes import open_command_home
from lrs_trio.dss.operations import AddDirectory, Operation
from lrs_trio.errors import LrsError
from lrs_trio.model import AdmStatus, Device, Family, FsType, Medium, ResourceId
from lrs_trio.settings import DssSettings
from lrs_trio.wire.codec import decode_response, encode_request
from lrs_trio.wire.framing import FrameDecoder, encode_frame
from lrs_trio.wire.messages import (
    Format,
    Formatted,
    Request,
    RequestBody,
    ResponseBody,
    Stat,
    Statistics,
)

T = TypeVar("T", bound=ResponseBody)

LIBRARY: Final = "legacy"
START_S: Final = 30.0
ANSWER_S: Final = 30.0
END_S: Final = 60.0
"""How long the daemon may take to be ready, to answer an administrator, and to end. Seconds."""

READ_SIZE: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class Site:
    """Where everything of one site is."""

    base: Path
    directories: tuple[Path, ...]
    host: str
    dss_url: str

    @property
    def config(self) -> Path:
        return self.base / "lrs.toml"

    @property
    def socket(self) -> Path:
        return self.base / "lrs"

    @property
    def dss(self) -> DssSettings:
        return DssSettings(url=self.dss_url)

    @property
    def log(self) -> Path:
        return self.base / "lrsd.log"

    @property
    def media(self) -> tuple[ResourceId, ...]:
        return tuple(ResourceId(Family.DIR, str(directory), LIBRARY) for directory in self.directories)


def make_site(
    base: Path, directories: int, families: Mapping[str, object] | None = None, dss_url: str | None = None
) -> Site:
    """Make `directories` below `base` and make them known, as `lrs dir add` does, to an empty DSS.

    Not for a thread that runs trio.

    Args:
        families: that table of the settings.
        dss_url: an empty database; by default a new SQLite file below `base`.
    """
    host = "bench"
    places = tuple(base / f"d{number}" for number in range(1, directories + 1))
    site = Site(base, places, host, dss_url or f"sqlite://{base / 'dss.sqlite'}")
    settings = {
        "host": host,
        "server": {"socket": str(site.socket)},
        "dss": {"url": site.dss_url},
        "drain": {"deadline_s": END_S / 2},
        "log": {"level": "info", "format": "json"},
        "families": families or {},
    }
    site.config.write_text(tomli_w.dumps(settings))
    additions = []
    for medium in site.media:
        Path(medium.name).mkdir()
        device = Device(ResourceId(Family.DIR, f"{host}:{medium.name}", LIBRARY), host, medium.name, AdmStatus.UNLOCKED)
        additions.append(AddDirectory(device, Medium(medium, FsType.POSIX, AdmStatus.LOCKED)))
    administer(site, *additions, create=True)
    return site


@contextmanager
def temporary_site(
    directories: int,
    *,
    parent: Path | None = None,
    families: Mapping[str, object] | None = None,
    dss_url: str | None = None,
    keep: bool = False,
) -> Iterator[Site]:
    """As `make_site`, in a new directory below `parent` (default: the system's) that is removed unless `keep`."""
    base = Path(tempfile.mkdtemp(prefix="lrs-", dir=parent)).resolve()
    try:
        yield make_site(base, directories, families, dss_url)
    finally:
        if not keep:
            shutil.rmtree(base)


def administer(site: Site, *operations: Operation[Any], create: bool = False) -> list[Any]:
    """Do `operations` in one transaction, as a command does, and return their results. Not for a thread that runs trio.

    `create` makes an SQLite file that is not there yet.

    Raises:
        LrsError: one of them was refused.
    """
    # A connection of its own that is closed again: an open one would keep the daemon from recovering and folding
    # SQLite's write-ahead log by itself.
    with open_command_home(site.dss, host=site.host, create=create) as home:
        outcomes = home.commit(operations)
    for outcome in outcomes:
        if isinstance(outcome, LrsError):
            raise outcome
    return outcomes


class Lrsd:
    """`lrsd` as a child process; a context manager that leaves none behind."""

    def __init__(self, site: Site, options: Sequence[str] | None = None) -> None:
        """Start it with `options`, by default with the settings file of `site`."""
        self._site = site
        # The kernel frees an abstract address with its socket: nothing is left to clear before a restart.
        self._manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._manager.bind("")
        address = self._manager.getsockname().decode().replace("\0", "@", 1)
        given = (f"--config={site.config}",) if options is None else options
        foreign = ("LRS_", "PG", "PHOBOS_")
        environment = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
        with site.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "lrs_trio.cli.lrsd", *given],
                env=environment | {"NOTIFY_SOCKET": address, "PYTHONPATH": os.pathsep.join(sys.path)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, type_: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._process.poll() is None:
            self.kill()
        self._process.wait()
        self._manager.close()

    @property
    def pid(self) -> int:
        return self._process.pid

    def wait_ready(self) -> None:
        """Wait for the message that a service manager would wait for.

        Raises:
            RuntimeError: the daemon ended instead, or took too long; the text has the end of its log.
        """
        deadline = time.monotonic() + START_S
        ended = os.pidfd_open(self.pid)
        try:
            while (left := deadline - time.monotonic()) > 0:
                readable, _, _ = select.select([self._manager.fileno(), ended], [], [], left)
                if self._manager.fileno() in readable and b"READY=1" in self._manager.recv(4096).splitlines():
                    return
                if ended in readable:
                    raise RuntimeError(f"lrsd ended with {self._process.wait()} instead of being ready{self.said()}")
        finally:
            os.close(ended)
        raise RuntimeError(f"lrsd was not ready after {START_S:g} s{self.said()}")

    def kill(self) -> None:
        self._process.kill()

    def terminate(self) -> None:
        """Ask for the drain."""
        self._process.send_signal(signal.SIGTERM)

    def status(self) -> int | None:
        """The exit status if it has ended."""
        return self._process.poll()

    def wait(self) -> int:
        """The exit status.

        Raises:
            TimeoutExpired: it has not ended in time.
        """
        return self._process.wait(END_S)

    def cpu_seconds(self) -> float:
        """What all its threads have used so far, also those that have ended."""
        return cpu_seconds(self.pid)

    def resident_bytes(self) -> int:
        """What it has in memory now."""
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def said(self) -> str:
        """The end of its log, for the text of an error."""
        lines = self._site.log.read_text(errors="replace").splitlines()[-20:]
        return "".join(f"\n  {line}" for line in lines)


def cpu_seconds(pid: int) -> float:
    """What all threads of a process have used so far, also those that have ended."""
    # The kernel's name for that clock, as clock_getcpuclockid makes it: /proc/PID/stat has only hundredths of a second.
    return time.clock_gettime((~pid << 3) | 2)


@contextmanager
def running(site: Site) -> Iterator[Lrsd]:
    """A daemon that is ready."""
    with Lrsd(site) as daemon:
        daemon.wait_ready()
        yield daemon


def ask(path: Path, body: RequestBody, expected: type[T]) -> T:
    """One request on a connection of its own, and its answer.

    Raises:
        RuntimeError: another answer came than `expected`, or none.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(ANSWER_S)
        connection.connect(str(path))
        connection.sendall(encode_frame(encode_request(Request(1, body))))
        decoder = FrameDecoder()
        while data := connection.recv(READ_SIZE):
            for message in decoder.feed(data):
                answer = decode_response(message).body
                if not isinstance(answer, expected):
                    raise RuntimeError(f"{body} was answered with {answer}")
                return answer
    raise RuntimeError(f"{body} was not answered")


def format_media(site: Site) -> None:
    """Label and unlock all media of the site, as `lrs dir format --unlock` does."""
    for medium in site.media:
        ask(site.socket, Format(medium, FsType.POSIX, unlock=True), Formatted)


def counters(site: Site) -> Counter[str]:
    """The daemon's statistics, each summed over its tags."""
    sums: Counter[str] = Counter()
    for metric in json.loads(ask(site.socket, Stat(), Statistics).stats):
        sums[metric["name"]] += metric["value"]
    return sums
