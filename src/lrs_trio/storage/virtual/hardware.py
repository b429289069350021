"""What robot and drives of one virtual library have in common: the state, the faults, and that things take time."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from dataclasses import dataclass, replace

import trio

from lrs_trio.errors import LrsError, OperationError
from lrs_trio.storage.virtual.description import LibraryDrive, Plan
from lrs_trio.storage.virtual.faults import Fault, FaultKind, Faults
from lrs_trio.storage.virtual.keeping import Keeping


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


class Hardware:
    """One library as one process sees it.

    Args:
        keeping: what it is kept in.
        plan: what it consists of.
        faults: what goes wrong.
        speed: how much faster than a real one it is.
    """

    def __init__(self, keeping: Keeping, plan: Plan, faults: Faults, speed: float = 1.0) -> None:
        self.place = keeping.place
        self.plan = plan
        self.state = keeping.state
        self.contents = keeping.contents
        self.faults = faults
        self.arm = trio.Lock()
        """Whoever has the robot's arm. There is one for each process: two that move at once are not kept from it, but
        each of their moves is checked against the state that it changes."""
        self.drives = {drive.serial: drive for drive in plan.drives(keeping.name)}
        self.drives_by_address = {drive.address: drive for drive in self.drives.values()}
        self._speed = speed
        self._keeping = keeping
        self.look_at_faults()

    def drive(self, serial: str) -> LibraryDrive:
        """The drive with that serial.

        Raises:
            LrsError: ENOENT, there is none.
        """
        if serial not in self.drives:
            raise LrsError(errno.ENOENT, f"{self.place}: this virtual library has no drive {serial}")
        return self.drives[serial]

    def look_at_faults(self) -> None:
        """Learn of the faults that people have written down since the last look."""
        listed = self._keeping.listed_faults()
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


def now() -> float | None:
    """Trio's time, if there is one."""
    return trio.current_time() if trio.lowlevel.in_trio_run() else None
