"""A PostgreSQL server for tests and benchmarks: temporary, on a Unix socket only, run by no privileged user."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib import resources
from itertools import count
from pathlib import Path
from signal import SIGINT, SIGQUIT
from typing import IO, TYPE_CHECKING, Final, Literal
from urllib.parse import quote, unquote, urlsplit

from benchmarks.postgres_keeper import working_below

if TYPE_CHECKING:
    from psycopg.sql import Composed

StopMode = Literal["fast", "immediate"]
"""Fast rolls back what is under way and writes everything down. Immediate is a crash that leaves no process."""

ROLE: Final = "lrs"
"""Owner of the databases, and superuser."""

START_S: Final = 60.0
STOP_S: Final = 60.0
"""How long a server may take to be ready, and to end. Seconds."""

PORT: Final = 5432
"""Part of the socket's name, and the default of all clients unless a PG* variable says otherwise."""

INSTALLED: Final = Path("/usr/lib/postgresql")
"""Where Debian keeps the programs of servers, by version."""

MEMORY: Final = Path("/dev/shm")
ROOM_IN_MEMORY: Final = 2**30
"""A filesystem that is no disk, and how much has to be free there if a server is to use it. Bytes."""

_LOOK_AGAIN_S: Final = 0.002
_LONGEST_SOCKET: Final = 107
"""Bytes of a Unix socket's path that the kernel takes."""

_TEMPLATE: Final = "phobos_template"
_KEEPER: Final = Path(__file__).with_name("postgres_keeper.py")
_WITHOUT_SYNCS: Final = {"fsync": "off", "full_page_writes": "off"}


class Cluster:
    """A PostgreSQL server in a directory of its own, made by `temporary_cluster`.

    Its data outlive `stop` in either mode, only a crash of the machine would be too much for it. It asks nobody
    for a password: the directory lets in its owner, and root.
    """

    def __init__(self, base: Path, programs: Path, settings: Mapping[str, object]) -> None:
        self.base = base
        self._programs = programs
        self._settings = {"listen_addresses": "", "unix_socket_directories": base, "port": PORT, **settings}
        self._process: subprocess.Popen[bytes] | None = None
        self._numbers = count(1)
        self._has_template = False

    @property
    def data(self) -> Path:
        return self.base / "data"

    @property
    def log(self) -> Path:
        return self.base / "log"

    @property
    def pid(self) -> int:
        return self._running.pid

    @property
    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise RuntimeError(f"the PostgreSQL server in {self.base} is not running; start it first")
        return self._process

    def create(self) -> None:
        """Make the server's files, in an empty directory. Locale C, encoding UTF-8.

        Raises:
            RuntimeError: they cannot be made there, and why.
        """
        path = f"{self.base}/.s.PGSQL.{PORT}"
        if len(os.fsencode(path)) > _LONGEST_SOCKET:
            raise RuntimeError(f"{path} is too long for a socket; set TMPDIR to a directory with a shorter path")
        if owner := _unprivileged_user():
            os.chown(self.base, owner.pw_uid, owner.pw_gid)
        access = ("--username", ROLE, "--auth-local", "trust", "--auth-host", "reject")
        options = ("--pgdata", str(self.data), "--locale", "C", "--encoding", "UTF8", "--no-sync", *access)
        with self._run("initdb", options, subprocess.PIPE) as initdb:
            said, _ = initdb.communicate()
        if initdb.returncode != 0:
            raise RuntimeError(f"initdb in {self.base} failed: {said.decode(errors='replace').strip()}")

    def start(self) -> None:
        """Start the server; it takes connections when this returns.

        Raises:
            RuntimeError: it is running already; it ended instead, or took too long: the text has the end of its log.
        """
        if self._process is not None:
            raise RuntimeError(f"the PostgreSQL server in {self.base} is running; stop it first")
        options = ["-D", str(self.data), *(f"--{name}={value}" for name, value in self._settings.items())]
        with self.log.open("ab") as log:
            process = self._process = self._run("postgres", options, log)
        deadline = time.monotonic() + START_S
        while not self._is_ready():
            with suppress(subprocess.TimeoutExpired):
                status = process.wait(_LOOK_AGAIN_S)
                self._process = None
                raise RuntimeError(f"PostgreSQL ended with {status} instead of being ready:{self._said()}")
            if time.monotonic() > deadline:
                self.stop("immediate")
                raise RuntimeError(f"PostgreSQL was not ready after {START_S:g} s:{self._said()}")

    def stop(self, mode: StopMode = "fast") -> None:
        """End the server and all connections to it.

        Raises:
            RuntimeError: it is not running.
            TimeoutExpired: it has not ended in time.
        """
        process = self._running
        process.send_signal(SIGINT if mode == "fast" else SIGQUIT)
        process.wait(STOP_S)
        self._process = None

    def kill(self) -> None:
        """End the server's first process without a word: the others notice by themselves, and are gone on return.

        Raises:
            RuntimeError: it is not running, or some process of it does not end.
        """
        process = self._running
        process.kill()
        process.wait()
        self._process = None
        deadline = time.monotonic() + STOP_S
        while left := list(working_below(self.data)):
            if time.monotonic() > deadline:
                raise RuntimeError(f"processes of the PostgreSQL server in {self.base} do not end: {left}")
            time.sleep(_LOOK_AGAIN_S)

    def processes(self) -> dict[int, str]:
        """The server's processes but the first one, by pid, as they call themselves."""
        found = {}
        for pid in working_below(self.data):
            if pid != self.pid:
                with suppress(OSError):  # it has ended
                    found[pid] = Path(f"/proc/{pid}/cmdline").read_text().rstrip("\0 ")
        return found

    def connections(self) -> list[int]:
        """Those of `processes` that serve a connection each."""
        return [pid for pid, title in self.processes().items() if title.startswith(f"postgres: {ROLE} ")]

    def restart(self, mode: StopMode = "fast") -> None:
        self.stop(mode)
        self.start()

    def create_database(self, name: str | None = None, template: str | None = None) -> str:
        """Make a database and return its URL.

        Args:
            name: what to call it; one that is not taken if not given.
            template: the name of the database that it shall be a copy of, which nobody may be connected to.
        """
        from psycopg.sql import SQL, Identifier

        name = name or f"db{next(self._numbers)}"
        source = Identifier(template or "template0")
        self._execute(SQL("CREATE DATABASE {} TEMPLATE {}").format(Identifier(name), source))
        return self.url(name)

    def phobos_database(self) -> str:
        """Make a database with the tables of Phobos, which are empty, and return its URL."""
        import psycopg

        if not self._has_template:
            schema = resources.files("lrs_trio.dss.postgres").joinpath("schema.sql").read_bytes()
            with psycopg.connect(self.create_database(_TEMPLATE)) as connection:
                connection.execute(schema)
            self._has_template = True
        return self.create_database(template=_TEMPLATE)

    def drop_database(self, url: str) -> None:
        """Delete a database of this server, whoever is connected to it."""
        from psycopg.sql import SQL, Identifier

        name = unquote(urlsplit(url).path.removeprefix("/"))
        self._execute(SQL("DROP DATABASE {} WITH (FORCE)").format(Identifier(name)))

    def url(self, name: str) -> str:
        """The URL of the database called `name`. It holds whatever the PG* variables of a client say."""
        return f"postgresql://{ROLE}@/{quote(name, safe='')}?host={quote(str(self.base))}&port={PORT}"

    def _execute(self, statement: Composed) -> None:
        import psycopg

        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(statement)

    def _is_ready(self) -> bool:
        """Whether the server says so beside its data, where seven lines about itself come before."""
        try:
            lines = (self.data / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        # After a crash the file may be that of the one before.
        return len(lines) >= 8 and lines[0] == str(self.pid) and lines[7].strip() == "ready"

    def _run(self, program: str, options: Sequence[str], output: int | IO[bytes]) -> subprocess.Popen[bytes]:
        """Start one of the server's programs: as nobody special, and out of the reach of a terminal's Ctrl-C."""
        user = _unprivileged_user()
        ours = {name: value for name, value in os.environ.items() if not name.startswith(("LANG", "LC_", "PG"))}
        return subprocess.Popen(
            [self._programs / program, *options],
            cwd=self.base,
            env=ours | {"LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            user=user.pw_uid if user else None,
            group=user.pw_gid if user else None,
            extra_groups=[] if user else None,
        )

    def _said(self) -> str:
        """The end of its log, for the text of an error."""
        lines = self.log.read_text(errors="replace").splitlines()[-20:]
        return "".join(f"\n  {line}" for line in lines)


@contextmanager
def temporary_cluster(
    *,
    parent: Path | None = None,
    fsync: bool = False,
    max_connections: int = 100,
    settings: Mapping[str, object] | None = None,
) -> Iterator[Cluster]:
    """A running server in a directory of its own; nothing of it is left afterwards, also if this process is killed.

    Args:
        parent: where to make the directory; everybody must be able to enter it, and its path must be short. By
            default the system's place for temporary files, or memory, if nothing has to wait for a disk anyway.
        fsync: whether commits wait for the disk. Without it they survive everything but a crash of the machine, and
            are much faster.
        max_connections: how many clients may be connected at once.
        settings: more parameters of the server, as in postgresql.conf.

    Raises:
        RuntimeError: there is no PostgreSQL here, or it cannot be started; the text says why.
    """
    programs = find_programs()
    given = {"max_connections": max_connections, **({} if fsync else _WITHOUT_SYNCS), **(settings or {})}
    with _kept_directory(parent or (None if fsync else _memory())) as base:
        cluster = Cluster(base, programs, given)
        cluster.create()
        cluster.start()
        try:
            yield cluster
        finally:
            if cluster._process is not None:
                cluster.stop("immediate")


def _memory() -> Path | None:
    """Where files are in memory, if there is room for a server there. A disk can be slow to make so many of them."""
    try:
        free = os.statvfs(MEMORY)
    except OSError:
        return None
    roomy = free.f_bavail * free.f_frsize >= ROOM_IN_MEMORY
    return MEMORY if roomy and os.access(MEMORY, os.W_OK | os.X_OK) else None


@contextmanager
def _kept_directory(parent: Path | None) -> Iterator[Path]:
    """A new directory; after the block, or our death, the keeper ends whoever works in it and removes it."""
    base = Path(tempfile.mkdtemp(prefix="lrs-pg-", dir=parent)).resolve()
    command = (sys.executable, "-I", "-S", str(_KEEPER), str(base))
    with subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True) as keeper:
        yield base
    if keeper.returncode != 0:
        raise RuntimeError(f"{base} could not be removed")


def find_programs(installed: Path = INSTALLED) -> Path:
    """The directory of the newest PostgreSQL server's programs: below `installed`, else in PATH.

    Raises:
        RuntimeError: there is none; the text says how to install one.
    """
    found = {path.parent for path in installed.glob("*/bin/postgres") if path.with_name("initdb").exists()}
    if found:
        return max(found, key=lambda programs: [int(part) for part in programs.parent.name.split(".")])
    program = shutil.which("postgres")
    if program is not None and shutil.which("initdb") is not None:
        # It looks for its files beside itself: what PATH has may be a link.
        return Path(program).resolve().parent
    raise RuntimeError(
        "no PostgreSQL server is installed: run requirements/postgresql.sh, or apt-get install postgresql,"
        " or put the directory of postgres and initdb into PATH"
    )


def _unprivileged_user() -> pwd.struct_passwd | None:
    """Who runs the server in place of root, for whom it refuses to run; ``None`` if we are not root."""
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam("postgres")
    except KeyError:
        return pwd.getpwnam("nobody")
