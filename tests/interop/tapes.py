"""Tapes as a site of Phobos has them: drives and media of a virtual library, and the commands for those."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

import tomli_w
import trio

from lrs_trio.model import Family, LockOwner, NotifyOperation, ResourceId, lock_id
from lrs_trio.storage.virtual.description import FIRST_DRIVE
from lrs_trio.storage.virtual.library import VirtualLibrary, create
from lrs_trio.wire.messages import Notified, Notify
from tests.interop import tables
from tests.interop.database import LockError
from tests.interop.host import LIBRARY, HasMedium, StorageHost
from tests.interop.phobos import BusyError, Phobos
from tests.interop.tables import Expected, Row, Since, blank_medium, database_clock, differences, read_tables
from tests.interop.transfers import SOURCE, get, put
from tests.interop.wire import Command, Connection, RefusedError

DRIVE_MODEL: Final = "ULT3580-TD8"
TAPE_MODEL: Final = "LTO8"
CAPACITY: Final = 64 * 2**20
"""Bytes of a tape."""

SPEED: Final = 20_000
"""Times as fast as a real library."""

DRIVES: Final = 4
TAPES: Final = 300

AGE_MS: Final = 10
"""How long a release waits for others, at most. Milliseconds."""


@dataclass(frozen=True, slots=True)
class Drive:
    """A drive of a library, which is, or will be, a device of `host`."""

    serial: str
    host: str
    path: Path
    address: int

    @property
    def device(self) -> ResourceId:
        return ResourceId(Family.TAPE, self.serial, LIBRARY)

    @property
    def lock(self) -> str:
        return lock_id(self.device)

    @property
    def key(self) -> tuple[str, str, str]:
        return "tape", self.serial, LIBRARY


@dataclass(frozen=True, slots=True)
class Tape:
    """A cartridge of a library, which is, or will be, a medium."""

    label: str

    @property
    def medium(self) -> ResourceId:
        return ResourceId(Family.TAPE, self.label, LIBRARY)

    @property
    def lock(self) -> str:
        return lock_id(self.medium)

    @property
    def key(self) -> tuple[str, str, str]:
        return "tape", self.label, LIBRARY


class TapeLibrary:
    """A virtual library; each test takes tapes of its own from it, which are blank."""

    def __init__(self, base: Path, *, tapes: int = TAPES, speed: float = SPEED) -> None:
        self.directory = base / "library"
        self.speed = speed
        description = base / "library.toml"
        description.write_text(
            tomli_w.dumps(
                {
                    "slots": tapes + 10,
                    "durable": False,
                    "drives": [{"generation": "lto8", "count": DRIVES}],
                    "cartridges": [{"generation": "lto8", "count": tapes, "capacity": CAPACITY}],
                }
            )
        )
        create(self.directory, description)
        self._library = VirtualLibrary.open(self.directory, speed=10**6)
        self._fresh = iter(self._library.cartridges)

    def tapes(self, count: int) -> list[Tape]:
        """Tapes that nobody has used."""
        return [Tape(next(self._fresh).label) for _ in range(count)]

    def drive(self, number: int, host: str) -> Drive:
        """The drive of that number, from 0, for `host`."""
        found = self._library.drives[number]
        return Drive(found.serial, host, Path(found.path), found.address)

    def inside(self, drive: Drive) -> str | None:
        """The label of the tape in `drive`."""
        return next(element.label for element in self._library.elements() if element.address == drive.address)

    def load(self, drive: Drive, tape: Tape) -> None:
        """As by hand."""
        self._move(next(e.address for e in self._library.elements() if e.label == tape.label), drive.address)

    def unload(self, drive: Drive) -> None:
        """As by hand, to any slot."""
        slots = (e.address for e in self._library.elements() if e.address > FIRST_DRIVE + DRIVES and not e.full)
        self._move(drive.address, next(slots))

    def _move(self, source: int, target: int) -> None:
        trio.run(self._library.move, source, target)

    def content(self, tape: Tape) -> list[int]:
        """The sizes of the files of clients on `tape`."""
        below = self.directory / "cartridges" / tape.label / "content"
        return sorted(path.stat().st_size for path in below.glob("*/*/*") if path.is_file())

    @contextmanager
    def faults(self, *faults: dict[str, object]) -> Iterator[None]:
        """Let these things go wrong."""
        self.set_faults(*faults)
        try:
            yield
        finally:
            self.set_faults()

    def set_faults(self, *faults: dict[str, object]) -> None:
        fresh = self.directory / "faults.new"
        fresh.write_text(tomli_w.dumps({"faults": faults} if faults else {}))
        os.replace(fresh, self.directory / "faults.toml")

    def mend(self, drive: Drive) -> None:
        self._library.mend(drive.serial)


def tape_configuration(base: Path, **more: Mapping[str, object]) -> dict[str, dict[str, object]]:
    """The keys of a host that serves tapes only."""
    keys: dict[str, dict[str, object]] = {
        "lrs": {
            "families": "tape",
            "mount_prefix": base / "mnt-",
            "sync_time_ms": f"tape={AGE_MS}",
        },
        "io_sched_tape": {"read_algo": "grouped_read"},
        f'tape_type "{TAPE_MODEL}"': {"drive_rw": "LTO8_drive"},
        'drive_type "LTO8_drive"': {"models": DRIVE_MODEL},
    }
    for section, values in more.items():
        keys[section] = keys.get(section, {}) | dict(values)
    return keys


def begin_with_tapes(host: StorageHost, library: TapeLibrary, *overrides: str, **keys: Mapping[str, object]) -> None:
    """Begin to start a daemon whose drives, and whose robot if `overrides` do not say otherwise, are of `library`."""
    virtual = {"robot": "virtual", "drives": "virtual", "directory": library.directory, "speed": library.speed}
    given = [f"libraries.{LIBRARY}.{key}={value}" for key, value in virtual.items()]
    host.begin_start(*given, *overrides, **tape_configuration(host.base, **keys))


def start_with_tapes(host: StorageHost, library: TapeLibrary, *overrides: str, **keys: Mapping[str, object]) -> None:
    """As `begin_with_tapes`; the daemon serves when this returns."""
    begin_with_tapes(host, library, *overrides, **keys)
    host.daemon.wait_ready()


class TapePhobos(Phobos):
    """The commands for drives and tapes."""

    def drive_add(self, *drives: Drive, unlock: bool = False) -> None:
        with self.command() as command:
            admin = command.connect()
            for drive in drives:
                status = "unlocked" if unlock else "locked"
                self.database.insert_device(drive, model=DRIVE_MODEL, adm_status=status)
                if not unlock:
                    continue
                try:
                    self.notify_add(admin, drive)
                except RefusedError:
                    self.database.delete_device(drive)
                    raise

    def drive_lock(self, drive: Drive, *, wait: bool = True) -> None:
        with self.command() as command:
            self._device_lock(command.connect(), drive, wait=wait)

    def drive_unlock(self, drive: Drive) -> None:
        with self.command() as command:
            self._drive_unlock(command, drive)

    def drive_delete(self, drive: Drive) -> None:
        """Raises `LockError` EEXIST where somebody serves the drive."""
        with self.database.locked("device", drive.lock):
            self.database.delete_device(drive)

    def drive_status(self) -> list[dict[str, Any]]:
        """What the command prints: sorted by address, which is all that it relies on."""
        found = self.monitor(Family.TAPE)
        for one in found:
            assert type(one["address"]) is int
        return sorted(found, key=lambda one: one["address"])

    def tape_add(self, *tapes: Tape, unlock: bool = False, tags: Sequence[str] = ()) -> None:
        for tape in tapes:
            self.database.insert_medium(
                tape, model=TAPE_MODEL, adm_status="unlocked" if unlock else "locked", tags=tags
            )

    def tape_update(self, tape: HasMedium, **columns: Any) -> None:
        """As `tape lock`, `unlock`, `update` and `set-access`."""
        with self.command() as command:
            command.connect()
            self._media_update(command, tape, **columns)

    def tape_ready(self, *tapes: Tape, tags: Sequence[str] = ()) -> None:
        self.tape_add(*tapes, tags=tags)
        self.format(*tapes, unlock=True)

    def load(self, drive: Drive, tape: Tape, library: TapeLibrary) -> None:
        """`drive load`: the tape stays locked, weakly, for the daemon to take over."""
        with self.command() as command:
            admin = self._take_drive(command, drive)
            with self.database.locked("device", drive.lock):
                self.database.take_ownership("media", tape.lock)
                library.load(drive, tape)
                self.database.weaken("media", tape.lock)
            self._drive_unlock(command, drive, admin)

    def unload(self, drive: Drive, tape: Tape, library: TapeLibrary) -> None:
        """`drive unload`."""
        with self.command() as command:
            admin = self._take_drive(command, drive)
            with self.database.locked("device", drive.lock):
                self.database.take_ownership("media", tape.lock)
                library.unload(drive)
                self.database.unlock("media", tape.lock)
            self._drive_unlock(command, drive, admin)

    def _take_drive(self, command: Command, drive: Drive) -> Connection:
        admin = command.connect()
        if self.database.device(drive)["adm_status"] == "unlocked":
            self._device_lock(admin, drive, wait=True)
        return admin

    def _drive_unlock(self, command: Command, drive: Drive, admin: Connection | None = None) -> None:
        if self.database.lock_of("device", drive.device):
            raise BusyError(f"{drive.device} is in use")
        self.database.set_device(drive, "unlocked")
        connection = admin or command.connect()
        answer = connection.ask(1, Notify(drive.device, NotifyOperation.DEVICE_UNLOCK, wait=True), Notified)
        assert answer.resource == drive.device

    def locate_tape(self, oid: str, host: str) -> None:
        """`locate` that chooses `host`: its media are kept for it, those that nobody has by a weak lock."""
        _, extents = self.database.copy(oid, SOURCE)
        for extent in extents:
            id_ = f"{extent['medium_id']}_{extent['medium_library']}"
            try:
                self.database.refresh_locate("media", id_)
            except LockError:
                self.database.lock("media", id_, host=host, weak=True, located=True)

    def clear(self, library: TapeLibrary) -> None:
        """Let nothing of drives, tapes and objects be left, whatever has become of them."""
        library.set_faults()
        for row in self.database.rows("SELECT id FROM device WHERE family = 'tape' AND host = %s", self.host.name):
            number = int(row["id"].removeprefix("VD")) - 1
            drive = library.drive(number, self.host.name)
            self.drive_lock(drive)
            self.drive_delete(drive)
            library.mend(drive)
            # What was in a drive that has died is mounted still.
            (self.host.base / f"mnt-{drive.path.name}").unlink(missing_ok=True)
            if library.inside(drive):
                library.unload(drive)
        self.database.forget_objects()


def drives_of(tapes: TapePhobos, library: TapeLibrary, count: int) -> list[Drive]:
    """The first drives of the library, in service."""
    drives = [library.drive(number, tapes.host.name) for number in range(count)]
    tapes.drive_add(*drives, unlock=True)
    return drives


def holder(drives: Sequence[Drive], tape: Tape, library: TapeLibrary) -> Drive:
    """The drive that has `tape`."""
    (found,) = [drive for drive in drives if library.inside(drive) == tape.label]
    return found


def queued(tapes: TapePhobos) -> int:
    """How many requests wait."""
    (metric,) = tapes.stats("sched", "incoming_qsize")
    found = metric["value"]
    assert isinstance(found, int)
    return found


tape_put = partial(put, family=Family.TAPE)
tape_get = get


@dataclass(slots=True)
class TapeRows(Expected):
    """In terms of drives and tapes."""

    said: list[tuple[str, str, str, int, str]] = field(default_factory=list)
    """New rows of the log: cause, drive, tape, errno, key of the message."""

    def add_drive(self, drive: Drive, **columns: Any) -> None:
        row: Row = {"model": DRIVE_MODEL, "host": drive.host, "adm_status": "unlocked", "path": str(drive.path)}
        self.insert("device", family="tape", id=drive.serial, library=LIBRARY, **(row | columns))

    def add_tape(self, tape: Tape, **columns: Any) -> None:
        row = blank_medium("LTFS", TAPE_MODEL)
        self.insert("media", family="tape", id=tape.label, library=LIBRARY, **(row | columns))

    def drive(self, drive: Drive, **columns: Any) -> None:
        self.update("device", drive.key, **columns)

    def tape(self, tape: Tape, **columns: Any) -> None:
        self.update("media", tape.key, **columns)

    def stats(self, tape: Tape, **figures: Any) -> None:
        self.tables["media"][tape.key]["stats"].update(figures)

    def log(self, cause: str, drive: Drive | None, tape: Tape | None, errno: int = 0, key: str = "") -> None:
        self.said.append((cause, drive.serial if drive else "", tape.label if tape else "", -errno, key))

    def forgotten(self, drive: Drive | None = None, tape: Tape | None = None) -> None:
        """Its past is forgotten, as the log keeps it."""
        self.log("Device lookup" if drive else "Medium lookup", drive, tape, key="unlock")

    def loaded(self, drive: Drive, tape: Tape, owner: LockOwner) -> None:
        """A tape from the shelf comes into a drive."""
        self.lock("media", tape.lock, owner)
        stats = self.tables["media"][tape.key]["stats"]
        self.stats(tape, nb_load=stats["nb_load"] + 1, last_load=Recent())
        self.log("Device load", drive, tape, key="load")

    def unloaded(self, drive: Drive, tape: Tape) -> None:
        self.unlock("media", tape.lock)
        self.log("Device unload", drive, tape, key="unload")

    def formatted(self, tape: Tape, **columns: Any) -> None:
        self.tape(tape, fs_status="empty", fs_label=tape.label[:32], **columns)
        self.stats(tape, nb_obj=0, logc_spc_used=0, phys_spc_used=0, phys_spc_free=CAPACITY)

    def written(self, tape: Tape, objects: int, size: int, **columns: Any) -> None:
        """What a synced release adds."""
        stats = self.tables["media"][tape.key]["stats"]
        self.stats(
            tape,
            nb_obj=stats["nb_obj"] + objects,
            logc_spc_used=stats["logc_spc_used"] + size,
            phys_spc_used=stats["phys_spc_used"] + size,
            phys_spc_free=stats["phys_spc_free"] - size,
        )
        self.tape(tape, **({"fs_status": "used"} | columns))


class Recent:
    """Equal to a time, in seconds since the epoch, of the last minute."""

    def __eq__(self, other: object) -> bool:
        return type(other) is int and abs(time.time() - other) < 60

    def __repr__(self) -> str:
        return "the time now"


@contextmanager
def tape_rows(connection: tables.Connection) -> Iterator[TapeRows]:
    """As `expected_rows`; the rows of the log that are new are compared without the time."""
    expected = TapeRows(deepcopy(read_tables(connection)), database_clock(connection))
    yield expected
    found = read_tables(connection)
    new = {key: row for key, row in found["logs"].items() if key not in expected.tables["logs"]}
    said = []
    for row in sorted(new.values(), key=lambda row: row["time"]):
        assert (row["family"], row["library"]) == ("tape", LIBRARY)
        assert row["time"] == Since(expected.since)
        (message,) = row["message"].items()
        assert isinstance(message[1], str)
        said.append((row["cause"], row["device"], row["medium"], row["errno"], message[0]))
    assert sorted(said) == sorted(expected.said)
    expected.tables["logs"] |= new
    assert differences(found, expected.tables) == []
