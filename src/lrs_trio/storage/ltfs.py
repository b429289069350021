"""The filesystem of a cartridge in a drive: LTFS, worked on by the commands of the settings and by its attributes."""

from __future__ import annotations

import errno
import os
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, TypeVar

import structlog
import trio

from lrs_trio.command_line import split_command
from lrs_trio.errors import HostError, LabelError, LrsError, OperationError, describe
from lrs_trio.model import LABEL_LENGTH, Medium, Space
from lrs_trio.settings import LtfsSettings
from lrs_trio.storage.command import Finished, Lifeline, run_command
from lrs_trio.storage.mount_table import MountEntry, find
from lrs_trio.storage.protocols import Filesystem
from lrs_trio.storage.space import FullThreshold, measured_space, with_full_threshold

log = structlog.get_logger()

T = TypeVar("T")

LABEL_ATTRIBUTE: Final = "user.ltfs.volumeName"
SYNC_ATTRIBUTE: Final = "user.ltfs.sync"
SYNC_NOW: Final = (1).to_bytes(4, sys.byteorder)

UNKNOWN_LABELS: Final = frozenset({"", "NULL"})
"""What the DSS has for a medium whose label nobody has recorded."""

_MOUNT_POINT_MODE: Final = 0o750
_CAPACITY = re.compile(r"LTFS\d+I Volume capacity is (\d{1,9}) GB", re.IGNORECASE)
_GIB: Final = 2**30

_SERVER_ENDS_S: Final = 600.0
"""How long a server may take to end when nothing of it is mounted any more. Seconds."""

_LOOK_AGAIN_S: Final = 1.0
"""How often to look whether a predecessor's command has ended. Seconds."""


@dataclass(frozen=True, slots=True)
class System:
    """The calls and the table by which the operating system tells of what is mounted."""

    getxattr: Callable[[str, str], bytes] = os.getxattr
    setxattr: Callable[[str, str, bytes], None] = os.setxattr
    statvfs: Callable[[str], os.statvfs_result] = os.statvfs
    mount_table: Path = Path("/proc/self/mountinfo")


class LtfsFilesystem:
    """LTFS on whatever medium is in one drive.

    Its errors carry what belongs into the operation log of the DSS, under the keys that Phobos uses.

    Args:
        settings: the commands.
        mount_prefix: the media are mounted at this and the last part of the drive's path.
        full_threshold: so much of a medium must be left, or it counts as full.
        system: what asks the operating system.
    """

    def __init__(
        self, settings: LtfsSettings, mount_prefix: str, full_threshold: FullThreshold, system: System | None = None
    ) -> None:
        self._settings = settings
        self._mount_prefix = mount_prefix
        self._full_threshold = full_threshold
        self._system = system or System()
        self._path: str | None = None
        self._root: str | None = None
        # Calls into what is mounted hang with the drive. They wait for each other, and nobody else does.
        self._drive_calls = trio.CapacityLimiter(1)
        self._host_calls = trio.CapacityLimiter(1)

    async def open(self, path: str) -> None:
        self._path, self._root = path, None
        await trio.lowlevel.checkpoint()

    async def close(self) -> None:
        """Forget the drive; what is mounted stays so."""
        self._path = self._root = None
        await trio.lowlevel.checkpoint()

    async def adopt(self) -> str | None:
        """The root, if something is mounted from this drive already, wherever that is; ``None`` if not.

        Commands that a daemon which was killed has left running here are waited for.

        Raises:
            LrsError: EMEDIUMTYPE, it is mounted but not by FUSE.
        """
        entry = await self._settled()
        self._root = None if entry is None else entry.mount_point
        return self._root

    async def read_label(self) -> str | None:
        """The volume name of what is mounted, ``None`` if it has none.

        Raises:
            OperationError: it cannot be read.
        """
        try:
            label = await self._ask("get_label", f"cannot read {LABEL_ATTRIBUTE}", self._get_label)
        except OperationError as error:
            if error.errno == errno.ENODATA:
                return None
            raise
        return label or None

    async def mount(self, medium: Medium) -> str:
        """Mount what is in the drive, see that it is `medium`, and return its root.

        With another label it stays mounted. A medium whose label nobody has recorded is taken as it is.

        Raises:
            LabelError: EINVAL, it bears another label than the DSS has.
            OperationError: it could not be mounted, or its label not read.
        """
        path, mount_point = self._opened, self._mount_point
        await self._make_mount_point(mount_point)
        done = await self._work(self._mounting, "mount", self._settings.mount, path, mount_point, leaves_server=True)
        if not done.ok:
            raise OperationError(errno.EIO, f"{medium.id} cannot be mounted: {done}", {"mount": done.how})
        entry = await self._mounted()
        if entry is None:
            # What clients wrote there would go to the disk below, and be taken for safe on tape.
            raise OperationError(
                errno.EIO,
                f"{medium.id} is not mounted although the command says so: the mount table has no {self.volume};"
                f" {done}",
                {"mount": f"{done.how}, but nothing is mounted from {self.volume}"},
            )
        self._root = entry.mount_point
        await check_label(self, medium, path, self._root)
        return self._root

    async def unmount(self) -> None:
        """Unmount; the cartridge may be moved then. One that turns out not to be mounted any more is fine.

        Raises:
            LrsError: EBUSY, somebody uses it; it stays mounted.
            OperationError: it did not work.
        """
        path, root = self._opened, self._root or self._mount_point
        done = await self._work(self._changing, "umount", self._settings.unmount, path, root)
        entry = await self._mounted()
        if entry is None:
            if not done.ok:
                log.warning("unmounted although the command failed", drive=path, command=done.command, error=str(done))
            self._root = None
            return
        if entry.mount_point == root and any("busy" in line.lower() for line in done.last_lines):
            raise LrsError(errno.EBUSY, f"{root} is in use and stays mounted: {done}")
        raise OperationError(
            errno.EIO, f"{entry.mount_point} is still mounted from {self.volume}: {done}", {"umount": done.how}
        )

    async def format(self, medium: Medium) -> Space:
        """Write a new LTFS labelled with `medium`'s name, whatever was there before, and return its space.

        Nothing is free if the command does not tell the capacity.

        Raises:
            OperationError: it did not work.
        """
        capacity: int | None = None

        def look_for_capacity(line: str) -> None:
            nonlocal capacity
            if told := _CAPACITY.search(line):
                capacity = int(told[1]) * _GIB

        done = await self._work(
            self._changing, "format", self._settings.format, self._opened, medium.id.name, on_line=look_for_capacity
        )
        if not done.ok:
            raise OperationError(errno.EIO, f"{medium.id} cannot be formatted: {done}", {"format": done.how})
        if capacity is None:
            log.warning("the command does not tell the capacity", medium=str(medium.id), said=str(done))
        return Space(used=0, free=capacity or 0)

    async def sync(self) -> Space:
        """Have LTFS write its index, so that all written before the call is safe, and measure.

        Raises:
            OperationError: it did not work.
        """
        await self._ask("sync", f"cannot sync by {SYNC_ATTRIBUTE}", self._set_sync)
        return await self.space()

    async def space(self) -> Space:
        found = await self._ask("df", "cannot measure", self._system.statvfs)
        space = with_full_threshold(measured_space(found, self._mounted_root), self._full_threshold.percent)
        return replace(space, read_only=bool(found.f_flag & os.ST_RDONLY))

    @property
    def volume(self) -> str:
        """What LTFS calls itself in the mount table."""
        return f"ltfs:{self._opened}"

    @property
    def _opened(self) -> str:
        if self._path is None:
            raise RuntimeError("this filesystem is not open")
        return self._path

    @property
    def _mounted_root(self) -> str:
        if self._root is None:
            raise RuntimeError("nothing is mounted here")
        return self._root

    @property
    def _mount_point(self) -> str:
        return self._mount_prefix + os.path.basename(self._opened)

    @property
    def _mounting(self) -> Lifeline:
        """Of the commands that mount. The LTFS servers that they leave behind have it too."""
        return Lifeline(f"{self._mount_point}.mount.lock")

    @property
    def _changing(self) -> Lifeline:
        """Of the commands that unmount or format, which leave nothing behind."""
        return Lifeline(f"{self._mount_point}.lock")

    async def _settled(self) -> MountEntry | None:
        """What is mounted from this drive, once nothing that was started before can change that or uses the drive.

        A server whose filesystem is unmounted has not ended before its index is written. One that does not end
        though nothing of it is mounted is no server, but something else that a mount has left in the background.
        """
        told = False
        patient_until = trio.current_time() + _SERVER_ENDS_S
        while True:
            # Asked before the table is read: the table shows what came of those that have ended.
            changing = await self._is_held(self._changing)
            mounting = await self._is_held(self._mounting)
            entry = await self._mounted()
            if not changing and (entry is not None or not mounting or trio.current_time() >= patient_until):
                return entry
            if not told:
                log.warning(
                    "commands of a daemon that has ended still work on the drive: waiting for them",
                    drive=self._opened,
                    see=f"fuser -v {(self._changing if changing else self._mounting).path}",
                )
                told = True
            await trio.sleep(_LOOK_AGAIN_S)

    async def _is_held(self, lifeline: Lifeline) -> bool:
        # To give up on it is harmless: it only looks.
        return await trio.to_thread.run_sync(lifeline.is_held, abandon_on_cancel=True, limiter=self._host_calls)

    async def _work(
        self,
        lifeline: Lifeline,
        key: str,
        template: str,
        *arguments: str,
        on_line: Callable[[str], None] | None = None,
        leaves_server: bool = False,
    ) -> Finished:
        """As `_run`, and the next daemon will know of the command by `lifeline` if this one is killed.

        What it leaves in the background is of no interest, unless that is the server of what it has mounted.
        """
        try:
            descriptor = await trio.to_thread.run_sync(lifeline.take, limiter=self._host_calls)
        except OSError as error:
            # No reason to do without the drive: it matters only after a daemon was killed.
            log.warning("the next daemon would not know of this command", command=key, error=describe(error))
            return await _run(key, template, *arguments, on_line=on_line)
        try:
            done = await _run(key, template, *arguments, on_line=on_line, pass_fds=[descriptor])
            if not (leaves_server and done.ok):
                lifeline.let_go(descriptor)
            return done
        finally:
            os.close(descriptor)

    async def _make_mount_point(self, mount_point: str) -> None:
        def make() -> None:
            try:
                os.mkdir(mount_point, _MOUNT_POINT_MODE)
            except FileExistsError:
                return

        try:
            # It can be done again, so to give up on it is harmless.
            await trio.to_thread.run_sync(make, abandon_on_cancel=True, limiter=self._host_calls)
        except OSError as error:
            reason = describe(error)
            raise HostError(
                error.errno or errno.EIO, f"cannot make the mount point: {reason}", {"mkdir": reason}
            ) from error

    async def _mounted(self) -> MountEntry | None:
        """What is mounted from this drive."""
        # To give up on it is harmless: it only reads.
        table = await trio.to_thread.run_sync(
            self._system.mount_table.read_bytes, abandon_on_cancel=True, limiter=self._host_calls
        )
        return find(os.fsdecode(table), self.volume)

    async def _ask(self, key: str, failure: str, call: Callable[[str], T]) -> T:
        """The result of `call` on the root, which may take minutes.

        Raises:
            OperationError: it failed, and `key` is what the log knows it by.
        """
        root = self._mounted_root
        try:
            # A cancelled caller gives up on it. That ends nothing: the thread goes on by itself, with the only token,
            # until the drive or its driver gives up too. It reads, or syncs, which harms nobody when it is late.
            return await trio.to_thread.run_sync(call, root, abandon_on_cancel=True, limiter=self._drive_calls)
        except OSError as error:
            reason = os.strerror(error.errno or errno.EIO)
            raise OperationError(
                error.errno or errno.EIO, f"{root}: {failure}: {reason}", {key: f"{root}: {failure}: {reason}"}
            ) from error

    def _get_label(self, root: str) -> str:
        value = self._system.getxattr(root, LABEL_ATTRIBUTE)
        return value.partition(b"\0")[0].decode(errors="backslashreplace")

    def _set_sync(self, root: str) -> None:
        self._system.setxattr(root, SYNC_ATTRIBUTE, SYNC_NOW)


async def check_label(filesystem: Filesystem, medium: Medium, drive: str, root: str) -> None:
    """See that what `filesystem` has mounted at `root` from `drive` bears the label that the DSS has for `medium`.

    Any will do if nobody has recorded one.

    Raises:
        LabelError: EINVAL, it bears another one.
        OperationError: it cannot be read.
    """
    expected = medium.fs_label
    if expected in UNKNOWN_LABELS:
        return
    found = await filesystem.read_label() or ""
    # The DSS keeps the beginning of a label only.
    if expected not in (found, found[:LABEL_LENGTH]):
        raise LabelError(
            errno.EINVAL,
            f"{medium.id} should be in {drive} and have the label {expected!r}, but {root} has {found!r}; find out"
            " which cartridge it is",
            {"label mismatch": f"found: {found}, expected: {expected}"},
        )


async def release_drive(path: str, settings: LtfsSettings) -> None:
    """Take the reservation off the drive at `path` that a host which died has left on it.

    Raises:
        OperationError: it did not work.
    """
    done = await _run("release", settings.release, path)
    if not done.ok:
        raise OperationError(errno.EIO, f"{path} cannot be released: {done}", {"release": done.how})


async def _run(
    key: str,
    template: str,
    *arguments: str,
    on_line: Callable[[str], None] | None = None,
    pass_fds: Sequence[int] = (),
) -> Finished:
    """Run the command of the settings that the log knows as `key`, however it ends.

    Raises:
        LrsError: EINVAL, `template` is no command for these arguments.
        OperationError: it cannot be started.
    """
    argv = split_command(template, *arguments)
    try:
        return await run_command(argv, on_line=on_line, pass_fds=pass_fds)
    except OSError as error:
        reason = f"cannot start {argv[0]}: {os.strerror(error.errno or errno.EIO)}"
        raise HostError(
            error.errno or errno.EIO, f"{reason}; check the settings families.tape.ltfs", {key: reason}
        ) from error
