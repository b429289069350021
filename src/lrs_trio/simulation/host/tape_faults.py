"""What goes wrong in a simulated tape library: the faults of the world, where robot and drives give them a chance."""

from __future__ import annotations

import errno
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final

import trio

from lrs_trio.simulation.faults import FaultKind
from lrs_trio.simulation.world import World
from lrs_trio.storage.virtual import faults as virtual
from lrs_trio.storage.virtual.description import Plan
from lrs_trio.storage.virtual.faults import Fault
from lrs_trio.storage.virtual.hardware import Hardware, Operation
from lrs_trio.storage.virtual.keeping import Keeping, StateKeeper
from lrs_trio.storage.virtual.memory import MemoryState
from lrs_trio.storage.virtual.robot import mistakable

WRONG_LABEL: Final = "X99999L8"
"""What somebody has written over a cartridge's own label."""

SHORTEST_STALL_S: Final = 60.0
LONGEST_STALL_S: Final = 600.0

_KINDS: Final[Mapping[virtual.FaultKind, FaultKind]] = {
    "load": FaultKind.LOAD_FAILURE,
    "wrong_cartridge": FaultKind.WRONG_CARTRIDGE,
    "robot_stall": FaultKind.ROBOT_STALL,
    "drive_death": FaultKind.DRIVE_DEATH,
    "unmount_busy": FaultKind.UNMOUNT_BUSY,
    "write_protected": FaultKind.WRITE_PROTECTED,
}
"""Those that happen inside the virtual library. What hangs, or fails at its end, does so by `FaultyHardware`."""


class WorldFaults(virtual.Faults):
    """Asks the world whether a fault of the virtual library strikes."""

    def __init__(self, world: World, state: StateKeeper, check: Callable[[], None]) -> None:
        super().__init__(0, (), lambda: None)
        self._world = world
        self._state = state
        self._check = check

    def fires(self, kind: virtual.FaultKind, *, drive: str = "", cartridge: str = "") -> Fault | None:
        self._check()
        struck = _KINDS.get(kind)
        if struck is None or not self._can_strike(struck, cartridge):
            return None
        if not self._world.faults.strikes(struck, f"{cartridge} {drive}".strip()):
            return None
        random = self._world.chance.of("stalls of the robot")
        stall_s = random.uniform(SHORTEST_STALL_S, LONGEST_STALL_S) if kind == "robot_stall" else SHORTEST_STALL_S
        return Fault(kind=kind, stall_s=stall_s)

    def _can_strike(self, kind: FaultKind, cartridge: str) -> bool:
        """Whether it would make a difference.

        No other cartridge is taken for a blank one: a drive formats what it gets, and no daemon could prevent that.
        """
        state = self._state.read()
        match kind:
            case FaultKind.WRONG_CARTRIDGE:
                labelled = state.cartridges[cartridge].label is not None
                return labelled and next(mistakable(state, cartridge), None) is not None
            case FaultKind.WRITE_PROTECTED:
                return not state.cartridges[cartridge].write_protected
        return True


@dataclass(frozen=True, slots=True)
class Mishap:
    """What may befall one kind of operation of a drive while it takes its time."""

    failure: FaultKind | None = None
    why: str = ""
    hang: FaultKind | None = None
    mislabels: bool = False


COMMANDS: Final[Mapping[str, Mishap]] = {
    "mount": Mishap(FaultKind.MOUNT_FAILURE, "the index cannot be read", FaultKind.MOUNT_HANG, mislabels=True),
    "umount": Mishap(FaultKind.UNMOUNT_FAILURE, "the index cannot be written", FaultKind.UNMOUNT_HANG),
    "sync": Mishap(FaultKind.SYNC_ERROR, "the index cannot be written", FaultKind.SYNC_HANG),
    "format": Mishap(FaultKind.FORMAT_FAILURE, "the cartridge cannot be partitioned"),
}
"""By the keys of operations."""

LOADING: Final = Mishap(hang=FaultKind.LOAD_HANG)
UNLOADING: Final = Mishap(FaultKind.UNLOAD_FAILURE, "the cartridge does not come out", FaultKind.UNLOAD_HANG)


class Labels:
    """Which cartridges bear another label than their own, until somebody puts that right."""

    def __init__(self) -> None:
        self._own: dict[str, str] = {}

    def spoil(self, state: StateKeeper, barcode: str) -> None:
        with state.change() as changing:
            cartridge = changing.cartridges[barcode]
            if cartridge.label is not None:
                self._own[barcode] = cartridge.label
                changing.cartridges[barcode] = replace(cartridge, label=WRONG_LABEL)

    def mend(self, state: MemoryState) -> None:
        with state.change() as changing:
            for barcode, label in self._own.items():
                # It may have been formatted since.
                if changing.cartridges[barcode].label == WRONG_LABEL:
                    changing.cartridges[barcode] = replace(changing.cartridges[barcode], label=label)
        self._own.clear()


class Hangs:
    """Whatever hangs, until somebody mends it."""

    def __init__(self) -> None:
        self._mended = trio.Event()

    async def hang(self, operation: Operation) -> None:
        await self._mended.wait()

    def mend(self) -> None:
        self._mended.set()
        self._mended = trio.Event()


class FaultyHardware(Hardware):
    """Drives whose operations hang and fail where the world's faults strike.

    Args:
        keeping: what the library is kept in, for one user.
        plan: what it consists of.
        world: whose faults strike.
        check: comes before any of them does.
        mishap: tells what may befall an operation.
        hang: returns when what hangs does so no more.
        labels: those that are spoilt.
    """

    def __init__(
        self,
        keeping: Keeping,
        plan: Plan,
        world: World,
        *,
        check: Callable[[], None],
        mishap: Callable[[Operation], Mishap | None],
        hang: Callable[[Operation], Awaitable[None]],
        labels: Labels,
    ) -> None:
        super().__init__(keeping, plan, WorldFaults(world, keeping.state, check))
        self._strikes = world.faults.strikes
        self._check = check
        self._mishap = mishap
        self._hang = hang
        self._labels = labels

    async def spend(self, operation: Operation, seconds: float) -> None:
        mishap = self._mishap(operation) or Mishap()
        if self._befalls(mishap.hang, operation):
            await self._hang(operation)
        await super().spend(operation, seconds)
        if self._befalls(mishap.failure, operation):
            raise operation.error(errno.EIO, mishap.why)
        if mishap.mislabels and self._can_be_spoilt(operation) and self._befalls(FaultKind.LABEL_MISMATCH, operation):
            self._labels.spoil(self.state, operation.cartridge)

    def _can_be_spoilt(self, operation: Operation) -> bool:
        return self.state.read().cartridges[operation.cartridge].label not in (None, WRONG_LABEL)

    def _befalls(self, kind: FaultKind | None, operation: Operation) -> bool:
        self._check()
        return kind is not None and self._strikes(kind, f"{operation.cartridge} {operation.drive.serial}")
