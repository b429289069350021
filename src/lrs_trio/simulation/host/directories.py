"""The directories of a simulated host: their adapters behave like those of `storage.directory` on real ones."""

from __future__ import annotations

import errno
import os
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

import trio

from lrs_trio.errors import LrsError
from lrs_trio.model import Device, FsStatus, Medium, Space
from lrs_trio.simulation.faults import FaultKind
from lrs_trio.simulation.host.content import Content
from lrs_trio.simulation.host.volumes import Descriptor, Repair, SharedContent, Volume, duration
from lrs_trio.simulation.world import Process, World
from lrs_trio.storage.directory import DirectoryLibrary
from lrs_trio.storage.protocols import DriveIdentity, Unit
from lrs_trio.storage.root import label_names, label_recorded
from lrs_trio.storage.shared_calls import SharedCall
from lrs_trio.storage.shared_sync import Member, SharedSync, VolumeSync
from lrs_trio.storage.space import FullThreshold, with_full_threshold

WRONG_LABEL = "/data/elsewhere"
"""What somebody has put in the place of a directory's own label."""


@dataclass(slots=True, eq=False)
class Directory:
    """One directory, whoever uses it.

    `proper_label` is the one that it had before somebody has put another one there, ``None`` if nobody has.
    `syncs` counts the syncs of it that somebody waits for.
    """

    path: str
    volume: Volume
    content: Content
    label: str | None
    proper_label: str | None = None
    syncs: int = 0
    _strangers: int = 0
    """How many, at most, of those at work here were told to by a daemon that has gone."""

    def has_io(self) -> bool:
        """Whether anybody surely does I/O here whom the daemon of today knows."""
        self._strangers = min(self._strangers, self.content.users)
        return self.content.users > self._strangers + self.content.intruders

    def orphan(self) -> None:
        """The daemon has gone: whoever is at work here goes on, and the next daemon cannot know."""
        self._strangers = self.content.users

    @property
    def properly_labelled(self) -> bool:
        return self.label is not None and self.proper_label is None

    def mislabel(self) -> None:
        self.proper_label, self.label = self.label, WRONG_LABEL

    def relabel(self) -> None:
        """Put the proper label back."""
        if self.proper_label is not None:
            self.label, self.proper_label = self.proper_label, None


class SimulatedDirectories:
    """All directories of a host, and what is in them.

    `excludes_io` says that the daemon promises never to sync a directory while a client does I/O there.
    """

    def __init__(self, world: World, *, excludes_io: bool) -> None:
        self.world = world
        self.repair = Repair()
        self._excludes_io = excludes_io
        self._directories: dict[str, Directory] = {}
        self._volumes: dict[int, Volume] = {}

    def add(self, path: str, *, volume: int, capacity: int, label: str | None) -> None:
        """Make a directory on the filesystem `volume` of `capacity` bytes.

        Raises:
            ValueError: the directory is there already, or the filesystem has another capacity.
        """
        filesystem = self._volumes.setdefault(volume, Volume(self.world, volume, capacity, self.repair))
        if path in self._directories or filesystem.capacity != capacity:
            raise ValueError(f"{path} on volume {volume} of {capacity} bytes does not go with what is there")
        content = SharedContent(capacity, volume=filesystem)
        filesystem.contents.append(content)
        self._directories[path] = Directory(path, filesystem, content, label)

    def adapters(self, process: Process, full_threshold_percent: int) -> SimulatedDirectoryStorage:
        """What `process` has to reach them."""
        for directory in self._directories.values():
            directory.orphan()
        return SimulatedDirectoryStorage(self, process, full_threshold_percent)

    def content_at(self, root: str) -> Content | None:
        """What a client finds at `root`; ``None`` if that is no directory of these."""
        directory = self._directories.get(root)
        return None if directory is None else directory.content

    def content(self, path: str) -> Content:
        return self._directories[path].content

    def find(self, path: str) -> Directory:
        """The directory at `path`.

        Raises:
            FileNotFoundError: there is none.
        """
        try:
            return self._directories[path]
        except KeyError:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path) from None

    def kill(self) -> None:
        """The daemon's process is gone; the system still has what was written."""
        for volume in self._volumes.values():
            volume.close_all()
        for directory in self._directories.values():
            directory.orphan()

    def cut_power(self) -> None:
        """The host goes down; what was not synced may be lost."""
        random = self.world.chance.of("power cut of directories")
        for volume in self._volumes.values():
            volume.cut_power(random)
        for directory in self._directories.values():
            directory.orphan()

    def mend(self) -> None:
        """Whatever is broken works again: what hangs ends, full volumes have room, labels are right."""
        self.repair.mend()
        for volume in self._volumes.values():
            volume.full = False
        for directory in self._directories.values():
            directory.relabel()

    @contextmanager
    def syncing(self, directory: Directory) -> Iterator[None]:
        """Watch over a sync that the daemon has one directory do."""
        self.world.violations.check(not directory.syncs, f"{directory.path}: two syncs at once")
        self._check_io(directory)
        directory.syncs += 1
        try:
            yield
            self._check_io(directory)
        finally:
            directory.syncs -= 1

    def _check_io(self, directory: Directory) -> None:
        broken = self._excludes_io and directory.has_io()
        self.world.violations.check(not broken, f"{directory.path}: a sync during I/O, which it should exclude")


class SimulatedDirectoryStorage:
    """Makes the adapters of directories for one process."""

    def __init__(self, directories: SimulatedDirectories, process: Process, full_threshold_percent: int) -> None:
        self._directories = directories
        self._process = process
        self._full_threshold = FullThreshold(full_threshold_percent)
        self._shared_sync = SharedSync()

    @property
    def full_threshold_percent(self) -> int:
        """Of every filesystem; what is set counts from the next time that one is measured."""
        return self._full_threshold.percent

    @full_threshold_percent.setter
    def full_threshold_percent(self, percent: int) -> None:
        self._full_threshold.percent = percent

    def unit(self, device: Device) -> Unit:
        """The adapters of one adoption of `device`."""
        calls = _Calls(self._directories.world, self._process)
        return Unit(
            library=DirectoryLibrary(),
            drive=_Drive(self._directories, calls),
            filesystem=_Filesystem(self._directories, calls, self._full_threshold, self._shared_sync),
        )


class _Calls:
    """The calls of one device, one after the other, each of which takes its time."""

    def __init__(self, world: World, process: Process) -> None:
        self._process = process
        self._random = world.chance.of("directories")
        self._limiter = trio.CapacityLimiter(1)

    @asynccontextmanager
    async def one(self) -> AsyncIterator[None]:
        """The block is what the call does in the end."""
        async with self._limiter:
            await trio.sleep(duration(self._random))
            self.check()
            yield

    def check(self) -> None:
        """See that the process that calls is still there."""
        self._process.check()


class _Drive:
    def __init__(self, directories: SimulatedDirectories, calls: _Calls) -> None:
        self._directories = directories
        self._calls = calls

    async def query(self, device: Device) -> DriveIdentity:
        """Find the directory of `device`.

        Raises:
            OSError: there is none.
            LrsError: EINVAL, it belongs to another host.
        """
        host, _, path = device.id.name.partition(":")
        async with self._calls.one():
            directory = self._directories.find(path)
        if host != self._directories.world.host:
            raise LrsError(errno.EINVAL, f"{device.id.name} is not on {self._directories.world.host}")
        return DriveIdentity(path=directory.path, serial=device.id.name, model=None)


@dataclass(slots=True)
class _Held:
    """`error` is the errno of the last write-back error that was reported here: from then on every sync fails."""

    directory: Directory
    descriptor: Descriptor
    volume: VolumeSync
    member: Member
    error: int = 0


class _Filesystem:
    def __init__(
        self,
        directories: SimulatedDirectories,
        calls: _Calls,
        full_threshold: FullThreshold,
        shared_sync: SharedSync,
    ) -> None:
        self._directories = directories
        self._strikes = directories.world.faults.strikes
        self._calls = calls
        self._full_threshold = full_threshold
        self._shared_sync = shared_sync
        self._held: _Held | None = None

    async def open(self, path: str) -> None:
        async with self._calls.one():
            directory = self._directories.find(path)
            volume = self._shared_sync.join(directory.volume.number)
            self._held = _Held(directory, directory.volume.open(), volume, Member())

    async def close(self) -> None:
        held, self._held = self._held, None
        if held is not None:
            self._shared_sync.leave(held.directory.volume.number)
            held.directory.volume.close(held.descriptor)
        await trio.lowlevel.checkpoint()

    async def read_label(self) -> str | None:
        directory = self._opened().directory
        async with self._calls.one():
            return directory.label

    async def mount(self, medium: Medium) -> str:
        """See that `medium` is really here, and return its path.

        Raises:
            LrsError: ENOENT, the directory has no label; EINVAL, it has another medium's.
            OSError: EIO, it cannot be read.
        """
        directory = self._opened().directory
        async with self._calls.one():
            if self._strikes(FaultKind.MOUNT_HANG, directory.path):
                await self._directories.repair.wait()
                self._calls.check()
            self._may_fail(FaultKind.MOUNT_FAILURE, directory)
            if directory.properly_labelled and self._strikes(FaultKind.LABEL_MISMATCH, directory.path):
                directory.mislabel()
            label = directory.label
        if label is None:
            raise LrsError(errno.ENOENT, f"{directory.path} has no label")
        importing = medium.fs_status is FsStatus.IMPORTING
        if not (importing or label_names(label, medium.id.name) or label_recorded(label, medium)):
            raise LrsError(errno.EINVAL, f"{directory.path} is labelled {label!r}, not {medium.id.name!r}")
        return directory.path

    async def unmount(self) -> None:
        directory = self._opened().directory
        async with self._calls.one():
            self._may_fail(FaultKind.UNMOUNT_FAILURE, directory)

    async def format(self, medium: Medium) -> Space:
        """Label the directory with `medium`'s name and return its space; files in it stay.

        A failure may leave the label there; then the format succeeds again.

        Raises:
            LrsError: EEXIST, it is labelled already.
            OSError: EIO, it cannot be written.
        """
        directory, name = self._opened().directory, medium.id.name
        async with self._calls.one():
            if directory.label and not (directory.label == name and not directory.content.files):
                raise LrsError(errno.EEXIST, f"{directory.path} is labelled {directory.label!r} already")
            fails = self._strikes(FaultKind.FORMAT_FAILURE, directory.path)
            if not fails or self._directories.world.chance.of("half a format").random() < 0.5:
                directory.label = name
            if fails:
                raise OSError(errno.EIO, os.strerror(errno.EIO), directory.path)
        return await self._measure()

    async def sync(self) -> Space:
        """Make durable all that was written before the call, and measure.

        Raises:
            OSError: not all could be written; it fails from now on until the directory is opened again.
        """
        held = self._opened()
        found: Space | None = None

        async def sync_own(others: Sequence[SharedCall[Any]]) -> None:
            nonlocal found
            await self._sync_own(held)
            found = await self._measure()

        self._calls.check()
        with self._directories.syncing(held.directory):
            await held.volume.sync(held.member, sync_own)
            if found is None:
                found = await self._measure()
        return self._with_threshold(found)

    async def space(self) -> Space:
        return self._with_threshold(await self._measure())

    @property
    def volume(self) -> str:
        return str(self._opened().directory.volume.number)

    async def _sync_own(self, held: _Held) -> None:
        path = held.directory.path
        async with self._calls.one():
            if not held.error:
                try:
                    await held.directory.volume.sync(held.descriptor, path)
                except OSError as error:
                    held.error = error.errno or errno.EIO
            if held.error:
                raise OSError(held.error, os.strerror(held.error), path)
            self._calls.check()
            if self._strikes(FaultKind.EARLY_END, path):
                held.directory.volume.full = True

    async def _measure(self) -> Space:
        directory = self._opened().directory
        async with self._calls.one():
            self._may_fail(FaultKind.STATVFS_ERROR, directory)
            return directory.volume.space

    def _may_fail(self, kind: FaultKind, directory: Directory) -> None:
        if self._strikes(kind, directory.path):
            raise OSError(errno.EIO, os.strerror(errno.EIO), directory.path)

    def _with_threshold(self, space: Space) -> Space:
        return with_full_threshold(space, self._full_threshold.percent)

    def _opened(self) -> _Held:
        if self._held is None:
            raise RuntimeError("this filesystem is not open")
        return self._held
