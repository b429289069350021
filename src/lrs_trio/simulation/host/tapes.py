"""The tape library of a simulated world: the virtual library, in memory, with the faults of the world.

The robot works on whatever becomes of the daemon. Mounts, unmounts, syncs and formats are commands of the daemon's
process and end with it: what they have not changed by then stays as it was.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Final

from lrs_trio.errors import OperationError
from lrs_trio.model import Device, Medium, Space
from lrs_trio.settings import TapeSettings
from lrs_trio.simulation.faults import FaultKind
from lrs_trio.simulation.host.cartridges import Cartridge, Cartridges, KeptInMemory, Reach, ReachedState
from lrs_trio.simulation.host.changer import Changer, Doing, works_on
from lrs_trio.simulation.host.content import Content, File
from lrs_trio.simulation.host.tape_faults import COMMANDS, FaultyHardware, Hangs, Labels
from lrs_trio.simulation.world import Process, World
from lrs_trio.storage.protocols import Content as Found
from lrs_trio.storage.protocols import DriveUnit
from lrs_trio.storage.space import FullThreshold
from lrs_trio.storage.virtual.description import LibraryCartridge, LibraryDrive, Plan
from lrs_trio.storage.virtual.filesystem import VirtualFilesystem
from lrs_trio.storage.virtual.memory import MemoryState
from lrs_trio.storage.virtual.robot import VirtualDrive
from lrs_trio.storage.virtual.state import first_state

NAME: Final = "simulated"
"""Part of the names of drives and mount points."""


class SimulatedLibrary:
    """Drives, cartridges and a robot.

    Args:
        world: what it is part of.
        plan: what it consists of.
        settings: those of the daemons; they say whether it must never sync a cartridge while a client does I/O on it.
    """

    def __init__(self, world: World, plan: Plan, settings: TapeSettings) -> None:
        self.drives: tuple[LibraryDrive, ...] = tuple(plan.drives(NAME))
        self.cartridges: tuple[LibraryCartridge, ...] = tuple(cartridge for cartridge, _ in plan.cartridges())
        self.world = world
        self.excludes_io = not settings.sync_while_io
        self._plan = plan
        self._state = MemoryState(first_state(plan))
        self._cartridges = Cartridges(world, plan)
        self._labels = Labels()
        self._hangs = Hangs()
        self._changer = Changer(world, self._kept_for(None), plan, self._labels)

    def adapters(self, process: Process, settings: TapeSettings) -> SimulatedTapes:
        """What `process` has to reach the library."""
        for cartridge in self._cartridges:
            cartridge.orphan()
        hardware = FaultyHardware(
            self._kept_for(process),
            self._plan,
            self.world,
            check=process.check,
            mishap=lambda operation: COMMANDS.get(operation.key),
            hang=self._hangs.hang,
            labels=self._labels,
        )
        return SimulatedTapes(self, process, settings, hardware, self._changer)

    def content_at(self, root: str) -> Content | None:
        """What a client finds at `root`; ``None`` if nothing is mounted there."""
        cartridge = self._cartridges.at(root)
        return None if cartridge is None else cartridge.content

    def content(self, barcode: str) -> Content:
        return self._cartridges[barcode].content

    def inside(self, address: int) -> Cartridge | None:
        """What is really in the drive at `address`."""
        barcode = self._state.read().inside(address)
        return None if barcode is None else self._cartridges[barcode]

    def kill(self) -> None:
        """The daemon's process is gone: what is mounted stays so."""
        for cartridge in self._cartridges:
            cartridge.orphan()

    def cut_power(self) -> None:
        """The host goes down, and its mounts with it. The library has its own power: the robot works on."""
        self._cartridges.cut_power()
        self.kill()

    def mend(self) -> None:
        """Everything works again: drives, labels, and what hangs; wrong cartridges are back where they belong."""
        with self._state.change() as state:
            for address, bay in state.bays.items():
                state.bays[address] = replace(bay, dead=False)
                inside = self.inside(address)
                if inside is not None and inside.root is None:
                    state.set_right(address)
        self._labels.mend(self._state)
        self._hangs.mend()
        self._changer.mend()

    def check_unused(self, doing: str, cartridge: Cartridge) -> None:
        """See that no client does I/O on what must not be touched now."""
        users = cartridge.users
        self.world.violations.check(not users, f"{doing} of {cartridge.barcode} while {users} clients do I/O on it")

    def _kept_for(self, process: Process | None) -> KeptInMemory:
        check = works_on if process is None else process.check
        return KeptInMemory(NAME, ReachedState(self._state, check), Reach(self._cartridges, check))


class SimulatedTapes:
    """The library as one life of the daemon reaches it."""

    def __init__(
        self,
        library: SimulatedLibrary,
        process: Process,
        settings: TapeSettings,
        hardware: FaultyHardware,
        changer: Changer,
    ) -> None:
        self._library = library
        self._process = process
        self._settings = settings
        self._full_threshold = FullThreshold(settings.full_threshold_percent)
        self._hardware = hardware
        self._robot = SimulatedRobot(library, process, changer, hardware)

    def unit(self, device: Device) -> DriveUnit:
        filesystem = SimulatedFilesystem(
            self._library, self._process, self._hardware, device, self._settings.mount_prefix, self._full_threshold
        )
        return DriveUnit(self._robot, VirtualDrive(self._hardware), filesystem)

    def change(self, settings: TapeSettings) -> None:
        self._settings = settings
        self._full_threshold.percent = settings.full_threshold_percent

    def logs_moves(self, library: str) -> bool:
        return True


class SimulatedRobot:
    """The robot, by its controller, for one life of the daemon."""

    def __init__(self, library: SimulatedLibrary, process: Process, changer: Changer, hardware: FaultyHardware) -> None:
        self._library = library
        self._process = process
        self._changer = changer
        self._hardware = hardware

    async def lookup(self, device: Device) -> Found:
        return await self._changer.look_up(self._process, device)

    async def load(self, device: Device, medium: str) -> None:
        await self._changer.move(self._process, Doing.LOAD, device, medium)

    async def unload(self, device: Device, medium: str) -> None:
        self._process.check()
        inside = self._library.inside(self._hardware.drive(device.id.name).address)
        if inside is not None:
            self._library.check_unused("unload", inside)
        await self._changer.move(self._process, Doing.UNLOAD, device, medium)


class SimulatedFilesystem(VirtualFilesystem):
    """LTFS in one drive: what a command of the daemon makes durable, loses, or must not do now."""

    def __init__(
        self,
        library: SimulatedLibrary,
        process: Process,
        hardware: FaultyHardware,
        device: Device,
        mount_prefix: str,
        full_threshold: FullThreshold,
    ) -> None:
        super().__init__(hardware, device.id.name, mount_prefix, full_threshold)
        self._library = library
        self._process = process
        self._syncs = 0

    async def unmount(self) -> None:
        cartridge = self._begin("unmount")
        if cartridge is None:
            await super().unmount()
            return
        if cartridge.content.users:
            raise OperationError(errno.EBUSY, f"somebody uses {cartridge.root}", {"umount": "busy"})
        with self._writing_back(cartridge) as begun:
            await super().unmount()
            cartridge.content.end_sync(begun)

    async def format(self, medium: Medium) -> Space:
        self._begin("format")
        return await super().format(medium)

    async def sync(self) -> Space:
        self._process.check()
        cartridge = self._mounted_here()
        if cartridge is None:
            return await super().sync()
        with self._watched(cartridge), self._writing_back(cartridge) as begun:
            space = await super().sync()
            self._process.check()
            return self._synced(cartridge, begun, space)

    def _begin(self, doing: str) -> Cartridge | None:
        """The cartridge if it is mounted; nobody uses it."""
        self._process.check()
        cartridge = self._library.inside(self._drive.address)
        if cartridge is not None:
            self._library.check_unused(doing, cartridge)
        return self._mounted_here()

    def _mounted_here(self) -> Cartridge | None:
        cartridge = self._library.inside(self._drive.address)
        return None if cartridge is None or cartridge.root is None else cartridge

    def _synced(self, cartridge: Cartridge, begun: tuple[File, ...], space: Space) -> Space:
        """What the drive says that it has done, and what it has really done."""
        strikes, content, barcode = self._library.world.faults.strikes, cartridge.content, cartridge.barcode
        if begun and strikes(FaultKind.SYNC_LIE, barcode):
            content.betray(begun)
        else:
            content.end_sync(begun)
        if not space.free or not strikes(FaultKind.EARLY_END, barcode):
            return space
        with self._hardware.state.change() as state:
            state.cartridges[barcode] = replace(state.cartridges[barcode], ended=True)
        cartridge.end()
        return replace(space, free=0)

    @contextmanager
    def _writing_back(self, cartridge: Cartridge) -> Iterator[tuple[File, ...]]:
        """What is written by now is written back; when that fails it is lost."""
        begun = cartridge.content.begin_sync()
        try:
            yield begun
        except OSError as error:
            self._process.check()
            if error.errno != errno.EBUSY:
                cartridge.content.fail_sync(begun)
            raise

    @contextmanager
    def _watched(self, cartridge: Cartridge) -> Iterator[None]:
        """One sync at a time, and no I/O meanwhile where that is promised."""
        self._library.world.violations.check(not self._syncs, f"two syncs at once in {self._serial}")
        self._check_no_io(cartridge)
        self._syncs += 1
        try:
            yield
            self._check_no_io(cartridge)
        finally:
            self._syncs -= 1

    def _check_no_io(self, cartridge: Cartridge) -> None:
        if self._library.excludes_io:
            self._library.check_unused("sync", cartridge)
