"""A site with a tape library controller: drive load and unload through it, and what happens when it is gone."""

from __future__ import annotations

import errno
import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from signal import SIGTERM

import pytest
import tomli_w
import trio

from lrs_trio.model import RequestKind
from lrs_trio.storage.tlc import TlcClient
from tests.interop.conftest import new_directory, refusal, remove_tapes, until
from tests.interop.host import LIBRARY, StorageHost
from tests.interop.tapes import (
    Drive,
    Tape,
    TapeLibrary,
    TapePhobos,
    drives_of,
    start_with_tapes,
    tape_get,
    tape_put,
    tape_rows,
)

CONTENT = b"c" * 1000


class Controller:
    """`lrs tlc` for a virtual library, in a process of its own."""

    def __init__(self, base: Path, library: TapeLibrary) -> None:
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            self.port: int = found.getsockname()[1]
        self._config = base / "tlc.toml"
        table = {"robot": "virtual", "drives": "virtual", "directory": str(library.directory), "speed": library.speed}
        self._config.write_text(tomli_w.dumps({"libraries": {LIBRARY: table}}))
        self.client = TlcClient("127.0.0.1", self.port)
        self._process: subprocess.Popen[str] | None = None
        self.start()

    def start(self) -> None:
        """Start it, unless it runs."""
        if self._process is not None:
            return
        listen = f"--listen=127.0.0.1:{self.port}"
        command = [sys.executable, "-m", "lrs_trio.cli.lrs", f"--config={self._config}", "tlc", LIBRARY, listen]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
        self._process = subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        assert self._process.stdout is not None
        assert re.match(f"{LIBRARY} is served on ", self._process.stdout.readline())

    def kill(self) -> None:
        self._end(lambda process: process.kill())

    def stop(self) -> None:
        if self._process is not None:
            self._end(lambda process: process.send_signal(SIGTERM))

    def _end(self, end: Callable[[subprocess.Popen[str]], None]) -> None:
        assert self._process is not None
        process, self._process = self._process, None
        with process:
            end(process)


class ControlledLibrary(TapeLibrary):
    """As clients of the controller move its tapes."""

    controller: Controller

    def load(self, drive: Drive, tape: Tape) -> None:
        trio.run(self.controller.client.load, drive.serial, tape.label)

    def unload(self, drive: Drive) -> None:
        trio.run(self.controller.client.unload, drive.serial)


@pytest.fixture(scope="module")
def library() -> Iterator[ControlledLibrary]:
    with new_directory() as base:
        made = ControlledLibrary(base, tapes=20)
        made.controller = Controller(base, made)
        yield made
        made.controller.stop()


@pytest.fixture(scope="module")
def host(tape_url: str, library: ControlledLibrary) -> Iterator[StorageHost]:
    keys = {f'tlc "{LIBRARY}"': {"hostname": "127.0.0.1", "port": library.controller.port}}
    with new_directory() as base, closing(StorageHost("tape3", base, tape_url)) as made:
        start_with_tapes(made, library, f"libraries.{LIBRARY}.robot=tlc", **keys)
        yield made


@pytest.fixture
def phobos(host: StorageHost, library: ControlledLibrary) -> Iterator[TapePhobos]:
    with closing(TapePhobos(host)) as client:
        yield client
    library.controller.start()
    remove_tapes(library, host)


def test_drive_load_and_unload(phobos: TapePhobos, library: ControlledLibrary) -> None:
    """The controller moves the tape for the client as it does for the daemon."""
    first, second = drives_of(phobos, library, 2)
    (tape,) = library.tapes(1)
    phobos.drive_lock(second)
    phobos.tape_ready(tape)
    tape_put(phobos, "object", CONTENT)
    phobos.drive_unlock(second)
    phobos.unload(first, tape, library)
    with tape_rows(phobos.database.connection) as rows:
        phobos.load(second, tape, library)
        rows.lock("device", second.lock, phobos.host.owner)
        rows.lock("media", tape.lock, phobos.host.owner)
        assert [(status["address"], status.get("media")) for status in phobos.drive_status()] == [
            (0, None),
            (1, tape.label),
        ]
        assert tape_get(phobos, "object") == CONTENT
    # The controller is Phobos's as far as the configuration goes: it writes the moves down, the daemon does not.
    assert phobos.database.rows("SELECT * FROM logs WHERE cause IN ('Device load', 'Device unload')") == []


def test_the_controller_is_gone(phobos: TapePhobos, library: ControlledLibrary) -> None:
    """Who needs a move is told so, others are served, nobody is blamed; it is asked again when it is back."""
    (drive,) = drives_of(phobos, library, 1)
    here, elsewhere = library.tapes(2)
    phobos.tape_ready(elsewhere, tags=["elsewhere"])
    tape_put(phobos, "there", CONTENT)
    phobos.tape_ready(here, tags=["here"])
    tape_put(phobos, "here", CONTENT, tags=("here",))
    library.controller.kill()
    with tape_rows(phobos.database.connection) as rows:
        tape_put(phobos, "another", CONTENT, tags=("here",))
        rows.written(here, 1, len(CONTENT))
        assert refusal(tape_get, phobos, "there") == (errno.ECONNREFUSED, RequestKind.READ)
        until(lambda: not phobos.database.lock_of("media", elsewhere.medium), "the tape is given back")
    library.controller.start()
    with tape_rows(phobos.database.connection) as rows:
        assert tape_get(phobos, "there") == CONTENT
        rows.unlock("media", here.lock)
        rows.lock("media", elsewhere.lock, phobos.host.owner)
        loads = rows.tables["media"][elsewhere.key]["stats"]["nb_load"]
        found = phobos.database.medium(elsewhere.medium)["stats"]
        assert found["nb_load"] == loads + 1
        rows.stats(elsewhere, nb_load=found["nb_load"], last_load=found["last_load"])
    assert phobos.database.rows("SELECT * FROM logs WHERE errno <> 0") == []
    assert phobos.database.device(drive)["adm_status"] == "unlocked"


@pytest.mark.parametrize("kind", [RequestKind.WRITE, RequestKind.FORMAT])
def test_other_requests_while_it_is_gone(phobos: TapePhobos, library: ControlledLibrary, kind: RequestKind) -> None:
    drives_of(phobos, library, 1)
    one, two = library.tapes(2)
    phobos.tape_ready(one, tags=["one"])
    phobos.tape_ready(two)
    library.controller.kill()
    with tape_rows(phobos.database.connection):
        if kind is RequestKind.WRITE:
            found = refusal(tape_put, phobos, "object", CONTENT, tags=("one",))
        else:
            found = refusal(phobos.format, one, force=True)
        assert found == (errno.ECONNREFUSED, kind)
        until(lambda: not phobos.database.lock_of("media", one.medium), "the tape is given back")
    library.controller.start()
    tape_put(phobos, "object", CONTENT, tags=("one",))


def test_a_drive_that_is_added_while_it_is_gone(phobos: TapePhobos, library: ControlledLibrary) -> None:
    """It joins when the controller answers; the others are not held up."""
    drives_of(phobos, library, 1)
    (tape,) = library.tapes(1)
    phobos.tape_ready(tape)
    library.controller.kill()
    drive = library.drive(1, phobos.host.name)
    phobos.drive_add(drive, unlock=True)
    tape_put(phobos, "object", CONTENT)
    lock = phobos.database.lock_of("device", drive.device)
    assert lock is not None
    library.controller.start()
    until(lambda: len([status for status in phobos.drive_status() if status["address"] == 1]) == 1, "it joins")


def test_a_lock_of_a_drive_while_it_is_gone(phobos: TapePhobos, library: ControlledLibrary) -> None:
    """No move is needed for that: the tape is unmounted and stays."""
    (drive,) = drives_of(phobos, library, 1)
    (tape,) = library.tapes(1)
    phobos.tape_ready(tape)
    tape_put(phobos, "object", CONTENT)
    library.controller.kill()
    phobos.drive_lock(drive)
    assert phobos.database.locks() == []
