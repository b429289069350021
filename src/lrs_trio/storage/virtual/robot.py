"""The robot of a virtual library, and the drives as far as they take cartridges in and give them back."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from dataclasses import replace

import trio

from lrs_trio.errors import LrsError, MediumMissingError, OperationError
from lrs_trio.model import Device
from lrs_trio.storage.elements import Element, ElementKind
from lrs_trio.storage.protocols import Content, DriveIdentity
from lrs_trio.storage.virtual.description import ARM, FIRST_DRIVE, FIRST_SLOT, LibraryDrive
from lrs_trio.storage.virtual.hardware import Hardware, Operation
from lrs_trio.storage.virtual.state import State

KEY = "scsi_execute"
"""Of what the operation log keeps of a move."""


class VirtualDrive:
    """Finds the drives of a virtual library."""

    def __init__(self, hardware: Hardware) -> None:
        self._hardware = hardware

    async def query(self, device: Device) -> DriveIdentity:
        """Find the drive whose serial is the name of `device`.

        Raises:
            LrsError: ENOENT, there is none; EIO, it is dead.
        """
        await trio.lowlevel.checkpoint()
        drive = self._hardware.drive(device.id.name)
        if self._hardware.is_dead(drive):
            raise LrsError(errno.EIO, f"{drive.path}: the drive {drive.serial} is dead; a person has to mend it")
        return DriveIdentity(drive.path, drive.serial, drive.model)


class VirtualRobot:
    """Moves cartridges.

    A move is done or not, whenever it is given up: the cartridge is in the one place or in the other. One that has
    arrived in a drive counts as loaded, though the drive has not got it ready.
    """

    def __init__(self, hardware: Hardware) -> None:
        self._hardware = hardware

    def elements(self) -> tuple[Element, ...]:
        """All places with what the library believes to be in them. A drive that is dead cannot be reached."""
        state = self._hardware.state.read()
        return tuple(self._element(state, address) for address in sorted(state.places))

    async def lookup(self, device: Device) -> Content:
        await trio.lowlevel.checkpoint()
        drive = self._hardware.drive(device.id.name)
        return Content(self._hardware.state.read().places[drive.address], drive.address - FIRST_DRIVE)

    async def load(self, device: Device, medium: str) -> None:
        """Bring `medium` into `device`'s drive; it comes from a slot, or from another drive where it is not mounted.

        A drive that cannot load it gives it back, and it goes home.

        Raises:
            MediumMissingError: ENXIO, the library has no such medium; EBUSY, it is mounted in another drive, or that
                one is dead.
            LrsError: ENOENT, there is no such drive.
            OperationError: EINVAL, the drive is not empty; EMEDIUMTYPE, the medium is of a kind that the drive cannot
                read; EIO, something failed.
        """
        await trio.lowlevel.checkpoint()
        drive = self._hardware.drive(device.id.name)
        source = self._hardware.state.read().place_of(medium)
        if source is None:
            text = f"{self._hardware.place}: there is no cartridge {medium} in this virtual library"
            raise MediumMissingError(errno.ENXIO, text, {"MEDIA_LABEL_UNKNOWN": medium})
        self._check_free(source, medium)
        await self._carry(source, lambda _: drive.address)

    async def unload(self, device: Device, medium: str) -> None:
        """Take `medium` out of `device`'s drive, to the slot it came from if that is free, else to the first free one.

        Raises:
            LrsError: ENOENT, there is no such drive.
            OperationError: EINVAL, the drive holds something else or nothing; EBUSY, the medium is mounted; EIO,
                something failed.
        """
        await trio.lowlevel.checkpoint()
        drive = self._hardware.drive(device.id.name)
        found = self._hardware.state.read().places[drive.address]
        if found != medium:
            holds = f"holds {found}" if found else "is empty"
            what = f"unload of {medium} from {drive.serial}"
            raise Operation(drive, medium, KEY, what).error(errno.EINVAL, f"the drive {holds}")
        await self._carry(drive.address, lambda state: state.home(drive.address))

    async def move(self, source: int, target: int) -> None:
        """Take a cartridge from one element to another, out of a drive and into one as that needs.

        Raises:
            OperationError: as with load and unload; EINVAL, there is no such element, or nothing in the one or
                something in the other.
        """
        await trio.lowlevel.checkpoint()
        await self._carry(source, lambda _: target)

    async def _carry(self, source: int, choose: Callable[[State], int]) -> None:
        """A whole move to wherever `choose` says when the arm is free: eject, move, load."""
        state = self._hardware.state.read()
        barcode = self._check(state, source, choose(state))
        giver = self._hardware.drives_by_address.get(source)
        taker = self._hardware.drives_by_address.get(choose(state))
        if taker is not None:
            self._hardware.check_alive(Operation(taker, barcode, KEY, f"load of {barcode} into {taker.serial}"))
        if giver is not None:
            await self._eject(giver, barcode)
        await self._swing(source, choose, pick_wrong=True)
        if taker is not None:
            await self._thread(taker, barcode)

    async def _eject(self, drive: LibraryDrive, barcode: str) -> None:
        """Let the drive rewind and give its cartridge out; it is the robot's to take as long as nobody else does."""
        hardware = self._hardware
        state = hardware.state.read()
        operation = Operation(
            drive, state.inside(drive.address) or barcode, KEY, f"unload of {barcode} from {drive.serial}"
        )
        hardware.begin(operation)
        stuck = hardware.fires("stuck_unload", operation)
        await hardware.spend(operation, drive.generation.unload_s(state.bays[drive.address].moved))
        if stuck:
            raise operation.error(errno.EIO, "the cartridge does not come out")

    async def _swing(self, source: int, choose: Callable[[State], int], *, pick_wrong: bool = False) -> None:
        """One move of the arm; `pick_wrong` if that may go wrong."""
        hardware = self._hardware
        async with hardware.arm:
            state = hardware.state.read()
            target = choose(state)
            barcode = self._check(state, source, target)
            drive = hardware.drives_by_address.get(target) or hardware.drives_by_address.get(source)
            serial = drive.serial if drive else ""
            stall = hardware.faults.fires("robot_stall", drive=serial, cartridge=barcode)
            if stall is not None:
                await hardware.wait(stall.stall_s)
            await hardware.wait((drive or next(iter(hardware.drives.values()))).generation.move_s())
            with hardware.state.change() as state:
                # Another process may have moved something meanwhile.
                self._check(state, source, target)
                loads = pick_wrong and target in state.bays
                wrong = loads and hardware.faults.fires("wrong_cartridge", drive=serial, cartridge=barcode)
                state.move(source, target, instead=_other(state, barcode) if wrong else None)

    async def _thread(self, drive: LibraryDrive, barcode: str) -> None:
        """Let the drive make the cartridge ready that it has got, or refuse it."""
        hardware = self._hardware
        state = hardware.state.read()
        inside = state.inside(drive.address) or barcode
        operation = Operation(drive, inside, KEY, f"load of {barcode} into {drive.serial}")
        hardware.begin(operation)
        failing = hardware.fires("load", operation)
        cartridge = state.cartridges[inside]
        generation = drive.generation
        await hardware.spend(operation, generation.load_s(new=cartridge.new))
        if cartridge.model not in (*generation.writes, *generation.reads):
            refusal = operation.error(
                errno.EMEDIUMTYPE, f"a {drive.model} cannot read a cartridge of the kind {cartridge.model}"
            )
        elif failing:
            refusal = operation.error(errno.EIO, "the drive cannot load the cartridge and gives it back")
        else:
            with hardware.state.change() as state:
                cartridge = state.cartridges[inside]
                state.cartridges[inside] = replace(cartridge, loads=cartridge.loads + 1, new=False)
            return
        await self._swing(drive.address, lambda state: state.home(drive.address))
        raise refusal

    def _check(self, state: State, source: int, target: int) -> str:
        """The barcode of what is at `source`, if it can be moved to `target`.

        Raises:
            OperationError: it cannot be.
        """
        what = f"move from {source} to {target} in {self._hardware.place}"
        barcode = state.places.get(source)
        if target not in state.places or source not in state.places or ARM in (source, target):
            raise _refusal(errno.EINVAL, what, "there is no such place for cartridges")
        if barcode is None:
            raise _refusal(errno.EINVAL, what, "there is no cartridge to move")
        if state.places[target] is not None:
            raise _refusal(errno.EINVAL, what, f"{state.places[target]} is where it should go")
        if source in state.bays and self._mount_point(state, source):
            raise _refusal(errno.EBUSY, what, f"{barcode} is mounted at {self._mount_point(state, source)}")
        if state.is_astray(barcode):
            raise _refusal(errno.EIO, what, f"{barcode} is not where it should be; the robot may have mistaken it")
        return barcode

    def _check_free(self, source: int, barcode: str) -> None:
        """That a cartridge can be had for another drive.

        Raises:
            MediumMissingError: the drive that it is in does not give it out.
        """
        holder = self._hardware.drives_by_address.get(source)
        if holder is None:
            return
        state = self._hardware.state.read()
        mount_point = self._mount_point(state, source)
        if mount_point is None and not state.bays[source].dead:
            return
        why = "is dead" if mount_point is None else f"has it mounted at {mount_point}"
        text = f"{barcode} is in drive {holder.serial}, which {why}"
        raise MediumMissingError(errno.EBUSY, text, {"MEDIUM_IN_DRIVE": holder.serial})

    def _mount_point(self, state: State, drive: int) -> str | None:
        """Where what is in the drive is mounted; a link that a restart of the host has removed is no mount."""
        mounted, inside = state.bays[drive].mounted, state.inside(drive)
        if mounted is None or inside is None or not self._hardware.contents.is_shown(inside, mounted):
            return None
        return mounted

    def _element(self, state: State, address: int) -> Element:
        barcode = state.places[address]
        drive = self._hardware.drives_by_address.get(address)
        if drive is None:
            return Element(_kind(address), address, barcode is not None, barcode)
        bay = state.bays[address]
        return Element(
            ElementKind.DRIVE,
            address,
            barcode is not None,
            barcode,
            bay.source if barcode else None,
            drive.device_id,
            accessible=not bay.dead,
        )


def _kind(address: int) -> ElementKind:
    if address == ARM:
        return ElementKind.ARM
    return ElementKind.SLOT if address >= FIRST_SLOT else ElementKind.IMPORT_EXPORT


def _refusal(number: int, what: str, why: str) -> OperationError:
    return OperationError(number, f"{what}: {why}", {KEY: f"{what}: {why}"})


def mistakable(state: State, barcode: str) -> Iterator[str]:
    """The cartridges that may be taken for `barcode`: those of its kind that are in slots."""
    return (
        found
        for address, found in state.places.items()
        if address >= FIRST_SLOT and found is not None and found != barcode and not state.is_astray(found)
        if state.cartridges[found].model == state.cartridges[barcode].model
    )


def _other(state: State, barcode: str) -> str | None:
    """The cartridge that is taken for `barcode`: one with a label if there is one, the next one."""
    return min(
        mistakable(state, barcode),
        key=lambda found: (state.cartridges[found].label is None, found < barcode, found),
        default=None,
    )
