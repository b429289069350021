"""A site with a tape library for commands that run in this process, and somebody who plays the daemon."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomli_w
from click.testing import CliRunner, Result

from lrs_trio.cli.demo.daemon import DemoDaemon, DemoSite
from lrs_trio.cli.lrs import lrs
from lrs_trio.dss.operations import TakeLock
from lrs_trio.dss.sqlite import SqliteHome
from lrs_trio.model import Family, LockOwner, LockType, NotifyOperation, RequestKind, ResourceId
from lrs_trio.storage.virtual.library import create
from lrs_trio.wire.messages import Failed, Format, Formatted, Notified, Notify, RequestBody, ResponseBody
from tests.client.samples import Script

SETTINGS = Path(__file__).parents[2] / "settings"

SPEED = 100_000
"""How much faster than a real library is one that nobody looks at."""

HOST = "here"
DAEMON = LockOwner(HOST, 4711)
ELSEWHERE = LockOwner("elsewhere", 4712)

Answer = Callable[[RequestBody], ResponseBody | None]


def willing(body: RequestBody) -> ResponseBody | None:
    """What a daemon says that does everything."""
    match body:
        case Notify(resource, _, wait):
            return Notified(resource) if wait else None
        case Format(medium):
            return Formatted(medium)
    raise AssertionError(body)


def refusing(number: int) -> Answer:
    return lambda body: Failed(-number, RequestKind.NOTIFY)


def medium(label: str, library: str = "legacy") -> ResourceId:
    return ResourceId(Family.TAPE, label, library)


def drive(serial: str, library: str = "legacy") -> ResourceId:
    return ResourceId(Family.TAPE, serial, library)


@dataclass(frozen=True, slots=True)
class TapeSite:
    base: Path

    @property
    def config(self) -> Path:
        return DemoSite(self.base, ()).config

    @property
    def socket(self) -> Path:
        return self.base / "lrs"

    def configure(self, libraries: dict[str, dict[str, Any]] | None = None, **tape: Any) -> None:
        settings = {
            "host": HOST,
            "server": {"socket": str(self.socket)},
            "dss": {"url": f"sqlite://{self.base}/dss.sqlite"},
            "families": {"tape": {"enabled": True, **tape}},
            "libraries": {"legacy": {}} if libraries is None else libraries,
        }
        self.config.write_text(tomli_w.dumps(settings))

    def make_virtual_library(self) -> None:
        """Make the library "legacy" one of two drives and eight tapes of LTO-8, in a directory."""
        directory = self.base / "virtual"
        create(directory, SETTINGS / "virtual" / "small.toml")
        library = {"robot": "virtual", "drives": "virtual", "directory": str(directory), "speed": SPEED}
        self.configure({"legacy": library}, mount_prefix=f"{self.base}/mnt-")

    def run(self, *args: str) -> Result:
        """`lrs` on this site; a defect of the command is raised."""
        result = CliRunner().invoke(lrs, ["--config", str(self.config), *args], prog_name="lrs")
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    def done(self, *args: str) -> list[str]:
        """The lines that `lrs` prints, which does it all."""
        result = self.run(*args)
        assert result.exit_code == 0, result.output
        return result.stdout.splitlines()

    def listed(self, kind: str, *args: str) -> Any:
        return json.loads("\n".join(self.done(kind, "list", "--json", *args)))

    @contextmanager
    def home(self) -> Iterator[SqliteHome]:
        with SqliteHome.open(self.base / "dss.sqlite") as home:
            yield home

    def lock(self, type: LockType, resource: ResourceId, owner: LockOwner = DAEMON) -> None:
        with self.home() as home:
            assert home.execute(TakeLock(type, resource, owner)) is None

    @contextmanager
    def real_daemon(self) -> Iterator[DemoDaemon]:
        """lrsd, running."""
        daemon = DemoDaemon(DemoSite(self.base, ()))
        try:
            yield daemon
        finally:
            daemon.end()

    @contextmanager
    def daemon(self, answer: Answer = willing) -> Iterator[Script]:
        """Somebody who answers on the daemon's socket, one connection after the other."""
        script = Script(answer)
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(self.socket))
            listener.listen()

            def serve() -> None:
                # Closed also if the script has no answer: whoever connects then must not wait for one.
                with listener:
                    while True:
                        try:
                            connection, _ = listener.accept()
                        except OSError:
                            return
                        # Who wants no answer may have gone before there is none.
                        with connection, suppress(OSError):
                            while data := connection.recv(65536):
                                connection.sendall(script.hear(data))

            server = threading.Thread(target=serve)
            server.start()
            try:
                yield script
            finally:
                with suppress(OSError):
                    listener.shutdown(socket.SHUT_RDWR)
                server.join()
        self.socket.unlink()


def notified(script: Script) -> list[tuple[NotifyOperation, ResourceId, bool]]:
    """What the daemon was told: of what, and whether that was waited for."""
    return [(body.operation, body.resource, body.wait) for body in script.bodies if isinstance(body, Notify)]
