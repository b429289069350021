"""LTFS on whatever cartridge is in one drive of a virtual library: its content directory, shown by a link."""

from __future__ import annotations

import errno
import os
from dataclasses import replace

import trio

from lrs_trio.errors import LabelError, LrsError, OperationError, describe
from lrs_trio.model import LABEL_LENGTH, FsStatus, Medium, Space
from lrs_trio.storage.root import label_names, label_recorded
from lrs_trio.storage.space import FullThreshold, with_full_threshold
from lrs_trio.storage.virtual.description import LibraryDrive
from lrs_trio.storage.virtual.hardware import Hardware, Operation
from lrs_trio.storage.virtual.state import Cartridge, State

WRITE_BITS = 0o222


class VirtualFilesystem:
    """The cartridge in the drive called `serial`.

    What is written to the state comes before what is done to the link and to permission bits on the way in, and after
    it on the way out: so wherever a process dies, a link is never there without being known.
    """

    def __init__(self, hardware: Hardware, serial: str, mount_prefix: str, full_threshold: FullThreshold) -> None:
        self._hardware = hardware
        self._serial = serial
        self._mount_prefix = mount_prefix
        self._full_threshold = full_threshold
        self._files = hardware.contents.of_drive()

    @property
    def volume(self) -> str:
        """The drive: no two cartridges are in it at a time."""
        return self._drive.path

    async def open(self, path: str) -> None:
        """Get ready to work with the drive at `path`.

        Raises:
            LrsError: ENOENT, the drive is not there; EIO, it is dead.
        """
        await trio.lowlevel.checkpoint()
        drive = self._drive
        if path != drive.path:
            raise LrsError(errno.ENOENT, f"{path}: the drive {drive.serial} of this virtual library is {drive.path}")
        if self._hardware.is_dead(drive):
            raise LrsError(errno.EIO, f"{path}: the drive {drive.serial} is dead; a person has to mend it")

    async def close(self) -> None:
        """Let go of the cartridge; what is mounted stays so."""
        self._files.let_go()
        await trio.lowlevel.checkpoint()

    async def adopt(self) -> str | None:
        """Where the cartridge is mounted already, ``None`` if it is not.

        Raises:
            OperationError: EIO, the drive is dead; ENOMEDIUM, it is empty.
        """
        await trio.lowlevel.checkpoint()
        operation = self._operation("mount", "adoption of")
        self._hardware.check_alive(operation)
        mounted = self._found_mounted(operation)
        if mounted is not None:
            self._files.hold(operation.cartridge)
        return mounted

    async def read_label(self) -> str | None:
        """The label that LTFS finds.

        Raises:
            OperationError: EIO, the drive is dead; ENOMEDIUM, it is empty.
        """
        await trio.lowlevel.checkpoint()
        operation = self._operation("get_label", "label of")
        self._hardware.check_alive(operation)
        return self._state().cartridges[operation.cartridge].label

    async def mount(self, medium: Medium) -> str:
        """Make the link `mount_prefix` with the last part of the drive's path.

        Raises:
            LabelError: EINVAL, the label is another medium's; nothing stays mounted.
            OperationError: EINVAL, there is no label; EBUSY, it is mounted already; ENOMEDIUM, the drive is empty; EIO,
                something failed; others, the link cannot be made.
        """
        root = self._mount_prefix + os.path.basename(self._drive.path)
        operation = self._operation("mount", f"mount at {root} of")
        hardware = self._hardware
        hardware.begin(operation)
        mounted = self._found_mounted(operation)
        if mounted is not None:
            raise operation.error(errno.EBUSY, f"it is mounted already, at {mounted}")
        hanging, failing = hardware.fires("mount_hang", operation), hardware.fires("mount", operation)
        protected = hardware.fires("write_protected", operation)
        if hanging:
            await trio.sleep_forever()
        files = (await self._files.measure(operation.cartridge)).files
        await hardware.spend(operation, self._drive.generation.mount_s(files))
        if failing:
            raise operation.error(errno.EIO, "the index cannot be read")
        self._check_label(operation, medium)
        self._take_in(operation, root, protected=protected is not None)
        return root

    async def unmount(self) -> None:
        """Sync, write the index to the other partition and take the link away.

        Raises:
            OperationError: EBUSY, somebody uses it, and it stays mounted; EINVAL, nothing is mounted; EIO, something
                failed.
        """
        operation = self._operation("umount", "unmount of")
        hardware = self._hardware
        hardware.begin(operation)
        root = self._mounted(operation)
        if hardware.fires("unmount_busy", operation):
            await trio.lowlevel.checkpoint()
            raise operation.error(errno.EBUSY, f"somebody uses {root}")
        found = await self._files.measure(operation.cartridge)
        state = self._state()
        grown = state.cartridges[operation.cartridge].grown(found.size)
        fresh = grown.used - state.cartridges[operation.cartridge].used
        written = state.bays[self._drive.address].written + fresh
        seconds = self._drive.generation.unmount_s(found.files, written) + self._streaming_s(fresh)
        await hardware.spend(operation, seconds)
        await self._make_durable(operation)
        with hardware.state.change() as state:
            state.write(self._drive.address, found.size)
        hardware.contents.hide(root)
        self._put_back(operation)

    async def format(self, medium: Medium) -> Space:
        """Erase the cartridge and label it with `medium`'s name, whatever it was before.

        Raises:
            OperationError: EBUSY, it is mounted; EROFS, it is write-protected, or the drive only reads its kind;
                ENOMEDIUM, the drive is empty; EIO, something failed, and the cartridge has no label now.
        """
        operation = self._operation("format", f"format as {medium.id.name} of")
        hardware = self._hardware
        hardware.begin(operation)
        mounted = self._found_mounted(operation)
        if mounted is not None:
            raise operation.error(errno.EBUSY, f"it is mounted at {mounted}")
        if self._is_read_only(self._state().cartridges[operation.cartridge]):
            raise operation.error(errno.EROFS, "it is write-protected, or this drive only reads such cartridges")
        failing = hardware.fires("format", operation)
        # Without label from the first moment on: what is half erased must not be mounted.
        with hardware.state.change() as state:
            state.cartridges[operation.cartridge] = state.cartridges[operation.cartridge].erased()
        await self._files.erase(operation.cartridge)
        await hardware.spend(operation, self._drive.generation.format_s())
        if failing:
            raise operation.error(errno.EIO, "the cartridge cannot be partitioned")
        with hardware.state.change() as state:
            cartridge = replace(state.cartridges[operation.cartridge].erased(), label=medium.id.name[:LABEL_LENGTH])
            state.cartridges[operation.cartridge] = cartridge
        return Space(used=0, free=cartridge.capacity)

    async def sync(self) -> Space:
        """Stream what was written since the last sync, write the index, and measure.

        Raises:
            OperationError: EINVAL, nothing is mounted; EIO, something failed.
        """
        operation = self._operation("sync", "sync of")
        hardware = self._hardware
        hardware.begin(operation)
        self._mounted(operation)
        failing, ends = hardware.fires("sync", operation), hardware.fires("end_of_medium", operation)
        found = await self._files.measure(operation.cartridge)
        cartridge = self._state().cartridges[operation.cartridge]
        fresh = cartridge.grown(found.size).used - cartridge.used
        await hardware.spend(operation, self._streaming_s(fresh) + self._drive.generation.sync_s(found.files))
        if failing:
            raise operation.error(errno.EIO, "the index cannot be written")
        await self._make_durable(operation)
        with hardware.state.change() as state:
            state.write(self._drive.address, found.size)
            if ends:
                state.cartridges[operation.cartridge] = replace(state.cartridges[operation.cartridge], ended=True)
        return await self._measured_space(operation)

    async def space(self) -> Space:
        """What is used and free, as statvfs would tell of LTFS; read-only is what nothing can be written to.

        Raises:
            OperationError: EINVAL, nothing is mounted; EIO, the drive is dead.
        """
        operation = self._operation("df", "space of")
        self._hardware.check_alive(operation)
        self._mounted(operation)
        return await self._measured_space(operation)

    # What is there.

    @property
    def _drive(self) -> LibraryDrive:
        return self._hardware.drive(self._serial)

    def _state(self) -> State:
        return self._hardware.state.read()

    def _operation(self, key: str, doing: str) -> Operation:
        """Something with whatever is in the drive."""
        drive = self._drive
        state = self._state()
        barcode = state.places[drive.address]
        what = f"{doing} {barcode or 'nothing'} in {drive.serial}"
        return Operation(drive, state.inside(drive.address) or "", key, what)

    def _mounted(self, operation: Operation) -> str:
        """Where it is mounted."""
        root = self._shown_at(operation)
        if root is None:
            raise operation.error(errno.EINVAL, "it is not mounted")
        return root

    def _shown_at(self, operation: Operation) -> str | None:
        """Where it is mounted, ``None`` if it is not."""
        if not operation.cartridge:
            raise operation.error(errno.ENOMEDIUM, "the drive is empty")
        mounted = self._state().bays[self._drive.address].mounted
        shown = mounted is not None and self._hardware.contents.is_shown(operation.cartridge, mounted)
        return mounted if shown else None

    def _check_label(self, operation: Operation, medium: Medium) -> None:
        label = self._state().cartridges[operation.cartridge].label
        if label is None:
            raise operation.error(errno.EINVAL, "it has no label; format it first")
        name = medium.id.name
        if medium.fs_status is FsStatus.IMPORTING or label_names(label, name) or label_recorded(label, medium):
            return
        why = f"it bears the label {label}, not that of {name}; it may be another cartridge"
        raise LabelError(
            errno.EINVAL, f"{operation.what}: {why}", {"label mismatch": f"found: {label}, expected: {name}"}
        )

    def _is_read_only(self, cartridge: Cartridge) -> bool:
        return cartridge.write_protected or cartridge.model not in self._drive.generation.writes

    async def _measured_space(self, operation: Operation) -> Space:
        found = await self._files.measure(operation.cartridge)
        cartridge = self._state().cartridges[operation.cartridge]
        used = cartridge.grown(found.size).used
        free = 0 if cartridge.ended else max(cartridge.capacity - used, 0)
        space = with_full_threshold(Space(used, free), self._full_threshold.percent)
        return replace(space, read_only=self._is_read_only(cartridge))

    # What changes.

    def _take_in(self, operation: Operation, root: str, *, protected: bool) -> None:
        """Show the content at `root`; a cartridge that is found `protected` is so from now on."""
        address, barcode = self._drive.address, operation.cartridge
        contents = self._hardware.contents
        mode = contents.mode(barcode)
        read_only = protected or self._is_read_only(self._state().cartridges[barcode])
        with self._hardware.state.change() as state:
            state.mount(address, root, mode, protected=protected, read_only=read_only)
        try:
            contents.show(barcode, root)
            if read_only:
                contents.set_mode(barcode, mode & ~WRITE_BITS)
            self._files.hold(barcode)
        except OSError as error:
            if contents.is_shown(barcode, root):
                contents.hide(root)
            self._put_back(operation)
            why = f"no link can be made there: {describe(error)}"
            raise OperationError(error.errno or errno.EIO, f"{operation.what}: {why}", {"mkdir": root}) from error

    def _found_mounted(self, operation: Operation) -> str | None:
        """Where it is mounted; a mount that the end of the host, or of a process, has left half undone is undone."""
        mounted = self._shown_at(operation)
        state = self._state()
        if mounted is None and (
            state.bays[self._drive.address].mounted is not None
            or state.cartridges[operation.cartridge].mode is not None
        ):
            self._put_back(operation)
        return mounted

    def _put_back(self, operation: Operation) -> None:
        """Forget that it is mounted, the link being gone; its permission bits are what they were."""
        mode = self._state().cartridges[operation.cartridge].mode
        if mode is not None:
            self._hardware.contents.set_mode(operation.cartridge, mode)
        with self._hardware.state.change() as state:
            state.unmount(self._drive.address)
        self._files.let_go()

    def _streaming_s(self, size: int) -> float:
        return self._drive.generation.transfer_s(size) if self._hardware.plan.description.stream_at_sync else 0.0

    async def _make_durable(self, operation: Operation) -> None:
        try:
            await self._files.make_durable(operation.cartridge)
        except OSError as error:
            raise operation.error(error.errno or errno.EIO, f"the disk below fails: {describe(error)}") from error
