"""What robot and drives of one virtual library have in common: the state, the faults, and that things take time."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import structlog
import trio

from lrs_trio.errors import LrsError, OperationError, describe
from lrs_trio.storage.virtual.description import LibraryDrive, Plan
from lrs_trio.storage.virtual.faults import Fault, FaultKind, Faults, FaultTable
from lrs_trio.storage.virtual.state import StateFile
from lrs_trio.storage.virtual.tables import read_table

log = structlog.get_logger()

FAULTS = "faults.toml"


@dataclass(frozen=True, slots=True)
class Operation:
    """Something that `drive` does with a cartridge, which is known by the barcode of what is really in there.

    `key` and `what` are what the operation log gets to know if it fails.
    """

    drive: LibraryDrive
    cartridge: str
    key: str
    what: str

    def error(self, number: int, why: str) -> OperationError:
        return OperationError(number, f"{self.what}: {why}", self.record(why))

    def record(self, why: str) -> Mapping[str, str]:
        return {self.key: f"{self.what}: {why}"}


class FaultFile:
    """The faults that people write down for a library that runs; the file need not be there."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: tuple[int, int, int] | None = None

    def read_if_changed(self) -> tuple[Fault, ...] | None:
        """What is in the file, if it is another one than before; one that is no good is told of and left alone."""
        try:
            found = self._path.stat()
            signature = found.st_ino, found.st_mtime_ns, found.st_size
        except FileNotFoundError:
            signature = None
        if signature == self._known:
            return None
        self._known = signature
        if signature is None:
            return ()
        try:
            return read_table(self._path, FaultTable).faults
        except LrsError as error:
            log.warning("faults not read", file=str(self._path), error=describe(error))
            return None


class Hardware:
    """One library as one process sees it.

    Args:
        directory: where it is kept.
        plan: what it consists of.
        speed: how much faster than a real one it is.
    """

    def __init__(self, directory: Path, plan: Plan, speed: float) -> None:
        self.directory = directory
        self.plan = plan
        self.state = StateFile(directory, durable=plan.description.durable)
        self.faults = Faults(plan.description.seed, plan.description.faults, _now)
        self.arm = trio.Lock()
        """Whoever has the robot's arm. There is one for each process: two that move at once are not kept from it, but
        each of their moves is checked against the state that it changes."""
        self.drives = {drive.serial: drive for drive in plan.drives(directory.name)}
        self.drives_by_address = {drive.address: drive for drive in self.drives.values()}
        self._speed = speed
        self._fault_file = FaultFile(directory / FAULTS)
        self.look_at_faults()

    def drive(self, serial: str) -> LibraryDrive:
        """The drive with that serial.

        Raises:
            LrsError: ENOENT, there is none.
        """
        if serial not in self.drives:
            raise LrsError(errno.ENOENT, f"{self.directory}: this virtual library has no drive {serial}")
        return self.drives[serial]

    def look_at_faults(self) -> None:
        """Learn of the faults that people have written down since the last look."""
        listed = self._fault_file.read_if_changed()
        if listed is not None:
            self.faults.list_anew(listed)

    def fires(self, kind: FaultKind, operation: Operation) -> Fault | None:
        return self.faults.fires(kind, drive=operation.drive.serial, cartridge=operation.cartridge)

    def begin(self, operation: Operation) -> None:
        """One more operation of a drive; it may be the one that the drive dies of.

        Raises:
            OperationError: EIO, the drive is dead.
        """
        self.check_alive(operation)
        if self.fires("drive_death", operation):
            self._die(operation.drive)
            self.check_alive(operation)

    def check_alive(self, operation: Operation) -> None:
        """See that the drive can do anything at all; that is no operation of its own.

        Raises:
            OperationError: EIO, it is dead.
        """
        if self.is_dead(operation.drive):
            raise operation.error(errno.EIO, "the drive is dead; a person has to mend it")

    def is_dead(self, drive: LibraryDrive) -> bool:
        """Whether `drive` is, or dies now because its time has come."""
        self.look_at_faults()
        if not self.state.read().bays[drive.address].dead:
            if trio.current_time() < self.faults.death_at(drive.serial):
                return False
            self._die(drive)
        self.faults.died(drive.serial)
        return True

    async def spend(self, operation: Operation, seconds: float) -> None:
        """Keep the drive busy for what are `seconds` with a real one.

        Raises:
            OperationError: EIO, it has died meanwhile.
        """
        end = trio.current_time() + seconds / self._speed
        await trio.sleep_until(min(end, self.faults.death_at(operation.drive.serial)))
        self.check_alive(operation)

    async def wait(self, seconds: float) -> None:
        """Let what are `seconds` with a real library pass."""
        await trio.sleep(seconds / self._speed)

    def _die(self, drive: LibraryDrive) -> None:
        with self.state.change() as state:
            state.bays[drive.address] = replace(state.bays[drive.address], dead=True)


def _now() -> float | None:
    return trio.current_time() if trio.lowlevel.in_trio_run() else None
