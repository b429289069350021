"""A tape library that takes virtual time and fails when told to, behind the protocols of floor 4."""

from __future__ import annotations

import errno
import os
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import trio

from lrs_trio.errors import LabelError, LibraryUnreachableError, MediumMissingError, OperationError
from lrs_trio.model import Device, Family, Medium, ResourceId, Space
from lrs_trio.storage.protocols import Content, DriveIdentity, DriveUnit

SECONDS = {"load": 20.0, "unload": 30.0, "mount": 10.0, "unmount": 60.0, "sync": 5.0, "format": 120.0}


@dataclass(slots=True, eq=False)
class FakeTape:
    """One cartridge. Sizes are bytes."""

    name: str
    capacity: int
    label: str | None = None
    used: int = 0
    synced: int = 0
    read_only: bool = False
    place: str = ""
    """The serial of the drive that it is in, "" on its shelf."""

    @property
    def space(self) -> Space:
        return Space(self.used, max(self.capacity - self.used, 0), self.read_only)


@dataclass(slots=True, eq=False)
class FakeDriveState:
    """One drive. `calls` lists (time of the begin, operation, medium)."""

    serial: str
    address: int
    tape: FakeTape | None = None
    mounted: bool = False
    dead: bool = False
    calls: list[tuple[float, str, str]] = field(default_factory=list)
    running: dict[str, int] = field(default_factory=dict)


class FakeLibrary:
    """Drives, tapes and one robot.

    `seconds` are by operation. `errors` are by (operation, drive or "", tape or ""): each entry is used up by one
    call, ``None`` lets one succeed. `broken_drives` and `broken_tapes` fail whatever is tried with them.
    """

    def __init__(self) -> None:
        self.drives: dict[str, FakeDriveState] = {}
        self.tapes: dict[str, FakeTape] = {}
        self.seconds = dict(SECONDS)
        self.errors: dict[tuple[str, str, str], deque[OSError | None]] = {}
        self.hanging: set[tuple[str, str]] = set()
        """(operation, drive) that never end by themselves."""
        self.broken_drives: set[str] = set()
        self.broken_tapes: set[str] = set()
        self.unreachable = False
        self.refuses = False
        """Whether nobody even takes requests to move anything."""
        self.jitter: Callable[[], float] = lambda: 0.0
        self._robot = trio.Lock()

    def fail(self, operation: str, *errors: OSError | int | None, drive: str = "", tape: str = "") -> None:
        made = [OSError(e, os.strerror(e)) if isinstance(e, int) else e for e in errors]
        self.errors.setdefault((operation, drive, tape), deque()).extend(made)

    def calls(self, operation: str) -> list[tuple[float, str, str]]:
        """(time, drive, tape) of every call of `operation`, in the order of time."""
        return sorted(
            (time, drive.serial, tape)
            for drive in self.drives.values()
            for time, name, tape in drive.calls
            if name == operation
        )

    def unit(self, device: Device) -> DriveUnit:
        drive = self.drives[device.id.name]
        return DriveUnit(FakeRobot(self, drive), FakeTapeDrive(self, drive), FakeTapeFilesystem(self, drive))

    async def do(self, operation: str, drive: FakeDriveState, tape: str) -> None:
        """Take the time of `operation`, and fail if it is its turn."""
        drive.calls.append((trio.current_time(), operation, tape))
        drive.running[operation] = drive.running.get(operation, 0) + 1
        try:
            if (operation, drive.serial) in self.hanging:
                await trio.sleep_forever()
            await trio.sleep(self.seconds.get(operation, 0.0) + self.jitter())
        finally:
            drive.running[operation] -= 1
        if self.refuses and operation in ("load", "unload"):
            raise LibraryUnreachableError(errno.ECONNREFUSED, "nobody listens there", asked=False)
        if self.unreachable and operation in ("lookup", "load", "unload"):
            raise LibraryUnreachableError(errno.ECONNREFUSED, "the library does not answer")
        for key in ((operation, d, t) for d in (drive.serial, "") for t in (tape, "")):
            pending = self.errors.get(key)
            if pending and (error := pending.popleft()) is not None:
                raise error
        on_tape = operation in ("mount", "sync", "format")
        if (drive.dead and operation in SECONDS) or (drive.serial in self.broken_drives and on_tape):
            raise OperationError(errno.EIO, f"{drive.serial}: {operation} failed", {operation: "input/output error"})
        if tape in self.broken_tapes and on_tape:
            raise OperationError(errno.EIO, f"{tape}: {operation} failed", {operation: "medium error"})


@dataclass(slots=True)
class FakeRobot:
    library: FakeLibrary
    drive: FakeDriveState

    async def lookup(self, device: Device) -> Content:
        tape = self.drive.tape
        await self.library.do("lookup", self.drive, tape.name if tape else "")
        return Content(self.drive.tape.name if self.drive.tape else None, self.drive.address)

    async def load(self, device: Device, medium: str) -> None:
        tape = self.library.tapes.get(medium)
        if tape is None:
            raise MediumMissingError(errno.ENXIO, f"the library has no {medium}", {})
        async with self.library._robot:
            await self.library.do("load", self.drive, medium)
            if self.drive.tape is not None:
                raise OperationError(errno.EBUSY, f"{self.drive.serial} is full", {"load": "full"})
            if tape.place:
                raise OperationError(errno.EBUSY, f"{medium} is in {tape.place}", {"load": "elsewhere"})
            self.drive.tape, tape.place = tape, self.drive.serial

    async def unload(self, device: Device, medium: str) -> None:
        async with self.library._robot:
            await self.library.do("unload", self.drive, medium)
            tape = self.drive.tape
            if tape is None or tape.name != medium:
                raise OperationError(errno.EINVAL, f"{self.drive.serial} does not hold {medium}", {"unload": "other"})
            if self.drive.mounted:
                raise OperationError(errno.EBUSY, f"{self.drive.serial} is mounted", {"unload": "mounted"})
            self.drive.tape, tape.place = None, ""


@dataclass(slots=True)
class FakeTapeDrive:
    library: FakeLibrary
    drive: FakeDriveState

    async def query(self, device: Device) -> DriveIdentity:
        await self.library.do("query", self.drive, "")
        return DriveIdentity(f"/dev/{self.drive.serial}", self.drive.serial, device.model)


@dataclass(slots=True)
class FakeTapeFilesystem:
    library: FakeLibrary
    drive: FakeDriveState

    @property
    def tape(self) -> FakeTape:
        if self.drive.tape is None:
            raise OSError(errno.ENOMEDIUM, "no tape in the drive")
        return self.drive.tape

    async def open(self, path: str) -> None:
        await self.library.do("open", self.drive, "")

    async def close(self) -> None:
        await self.library.do("close", self.drive, "")

    async def adopt(self) -> str | None:
        await self.library.do("adopt", self.drive, "")
        return self.root if self.drive.mounted else None

    @property
    def root(self) -> str:
        return f"/mnt/{self.drive.serial}"

    async def read_label(self) -> str | None:
        await self.library.do("read_label", self.drive, self.tape.name)
        return self.tape.label

    async def mount(self, medium: Medium) -> str:
        await self.library.do("mount", self.drive, self.tape.name)
        if self.tape.label is None:
            raise OperationError(errno.EINVAL, f"{self.tape.name} is blank", {"mount": "blank"})
        self.drive.mounted = True
        if medium.fs_label and self.tape.label != medium.fs_label:
            found = f"found: {self.tape.label}, expected: {medium.fs_label}"
            raise LabelError(errno.EINVAL, f"{self.tape.name}: {found}", {"label mismatch": found})
        return self.root

    async def unmount(self) -> None:
        await self.library.do("unmount", self.drive, self.tape.name)
        self.drive.mounted = False

    async def format(self, medium: Medium) -> Space:
        await self.library.do("format", self.drive, self.tape.name)
        self.tape.label, self.tape.used, self.tape.synced = medium.id.name, 0, 0
        return self.tape.space

    async def sync(self) -> Space:
        tape = self.tape
        await self.library.do("sync", self.drive, tape.name)
        tape.synced = tape.used
        return tape.space

    async def space(self) -> Space:
        await self.library.do("space", self.drive, self.tape.name)
        return self.tape.space

    @property
    def volume(self) -> str:
        return self.drive.serial


def tape_id(name: str, library: str = "legacy") -> ResourceId:
    """A tape's or a drive's name in full."""
    return ResourceId(Family.TAPE, name, library)
