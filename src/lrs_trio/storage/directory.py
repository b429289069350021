"""The adapters of family dir: a directory is the drive, the library's only slot, and the medium in it."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, TypeVar

import trio

from lrs_trio.errors import LrsError
from lrs_trio.model import Device, FsStatus, Medium, Space
from lrs_trio.storage.protocols import Content, DriveIdentity, Unit
from lrs_trio.storage.root import Root, label_names, label_recorded
from lrs_trio.storage.shared_calls import SharedCall, call_with
from lrs_trio.storage.shared_sync import Member, SharedSync, VolumeSync
from lrs_trio.storage.space import FullThreshold, measured_space, with_full_threshold
from lrs_trio.storage.syncfs import syncfs

T = TypeVar("T")


class DirectoryStorage:
    """Makes the adapters of all directories of one process.

    `host` is our short host name. `full_threshold_percent` of a filesystem must be left, or it counts
    as full.
    """

    def __init__(self, host: str, full_threshold_percent: int) -> None:
        self._host = host
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
        """The adapters of one adoption of `device`; its threads wait for each other, and little for others."""
        limiter = trio.CapacityLimiter(1)
        return Unit(
            library=DirectoryLibrary(),
            drive=DirectoryDrive(self._host, limiter),
            filesystem=DirectoryFilesystem(limiter, self._full_threshold, self._shared_sync),
        )


class DirectoryDrive:
    """Finds directories on this host."""

    def __init__(self, host: str, limiter: trio.CapacityLimiter) -> None:
        self._host = host
        self._limiter = limiter

    async def query(self, device: Device) -> DriveIdentity:
        """Find the directory of `device`, which is called ``<short host name>:<real path>``.

        Raises:
            OSError: there is no directory at that path.
            LrsError: EINVAL, the device is not called what it is.
        """
        found = await _in_thread(self._limiter, _real_directory, _path_of(device))
        serial = f"{self._host}:{found}"
        if serial != device.id.name:
            raise LrsError(
                errno.EINVAL,
                f"the device is called {device.id.name} in the DSS, but what is found there is {serial};"
                " delete it and add it again by its real path on its own host",
            )
        return DriveIdentity(path=found, serial=serial, model=None)


class DirectoryLibrary:
    """A directory always holds its medium, which is called like its path."""

    async def lookup(self, device: Device) -> Content:
        """The path in `device`'s name.

        Raises:
            LrsError: EINVAL, there is none in it.
        """
        await trio.lowlevel.checkpoint()
        return Content(_path_of(device))


@dataclass(frozen=True, slots=True)
class _Held:
    root: Root
    volume: VolumeSync
    member: Member


class DirectoryFilesystem:
    """The directory's files. Labelled means formatted, and nothing has to be mounted.

    `limiter` is the device's own and has one token, so that a disk that hangs holds up nobody else, and
    a call waits for the end of one that was given up before. `sync` is the system call, given its
    descriptor.
    """

    def __init__(
        self,
        limiter: trio.CapacityLimiter,
        full_threshold: FullThreshold,
        shared_sync: SharedSync,
        *,
        sync: Callable[[int], None] = syncfs,
    ) -> None:
        self._limiter = limiter
        self._full_threshold = full_threshold
        self._shared_sync = shared_sync
        self._sync = sync
        self._held: _Held | None = None

    async def open(self, path: str) -> None:
        root = Root(path, self._sync)
        with ExitStack() as undo:
            undo.callback(root.release)
            await self._call(root.open)
            undo.pop_all()
        self._held = _Held(root, self._shared_sync.join(root.device), Member())

    async def close(self) -> None:
        """Let go of the directory; does nothing if it is not open."""
        held, self._held = self._held, None
        if held is not None:
            self._shared_sync.leave(held.root.device)
            held.root.release()
        await trio.lowlevel.checkpoint()

    async def read_label(self) -> str | None:
        return await self._call(self._opened().root.read_label)

    async def mount(self, medium: Medium) -> str:
        """See that `medium` is really here, and return its path.

        A medium that is being imported was labelled elsewhere, under another name; what its label is, is in the
        DSS from then on.

        Raises:
            LrsError: ENOENT, the directory has no label; EINVAL, it has another medium's; ESTALE, its
                path names another directory by now.
        """
        root = self._opened().root
        await self._call(root.check_in_place)
        label = await self._call(root.read_label)
        if label is None:
            raise LrsError(errno.ENOENT, f"{root.path} has no label; format it first")
        importing = medium.fs_status is FsStatus.IMPORTING
        if not (importing or label_names(label, medium.id.name) or label_recorded(label, medium)):
            raise LrsError(
                errno.EINVAL,
                f"{root.path} is labelled {label!r} but should hold the medium {medium.id.name!r};"
                " the wrong filesystem may be mounted there",
            )
        return root.path

    async def unmount(self) -> None:
        await trio.lowlevel.checkpoint()

    async def format(self, medium: Medium) -> Space:
        """Label the directory with `medium`'s name and return its space; files in it stay.

        A format that was done before, but whose end was not recorded, succeeds again.

        Raises:
            LrsError: EEXIST, it is labelled already; ESTALE, its path names another directory by now.
        """
        root = self._opened().root
        await self._call(root.check_in_place)
        await self._call(root.write_label, medium.id.name)
        return measured_space(await self._call(root.statvfs), root.path)

    async def sync(self) -> Space:
        """Make durable all that was written before the call, and measure (decision 13).

        Raises:
            LrsError: ESTALE, the path names another directory by now, so that what clients wrote may be elsewhere.
            OSError: not all could be written; it fails from now on until the directory is opened again.
        """
        held = self._opened()
        look = SharedCall(held.root.measure_in_place)
        found: os.statvfs_result | None = None

        async def sync_own(others: Sequence[SharedCall[Any]]) -> None:
            nonlocal found
            found, have_ended = await call_with(held.root.sync_and_measure, others, self._limiter)
            if not have_ended:
                # What hangs in that thread is not ours to wait for.
                self._limiter = trio.CapacityLimiter(1)

        await held.volume.sync(held.member, sync_own, look)
        if found is None:
            found = look.result() if look.made else await self._call(held.root.measure_in_place)
        return self._space(found)

    async def space(self) -> Space:
        return self._space(await self._call(self._opened().root.statvfs))

    def _space(self, found: os.statvfs_result) -> Space:
        space = measured_space(found, self._opened().root.path)
        return with_full_threshold(space, self._full_threshold.percent)

    @property
    def volume(self) -> str:
        return str(self._opened().root.device)

    def _opened(self) -> _Held:
        if self._held is None:
            raise RuntimeError("this filesystem is not open")
        return self._held

    async def _call(self, function: Callable[..., T], *args: object) -> T:
        return await _in_thread(self._limiter, function, *args)


async def _in_thread(limiter: trio.CapacityLimiter, function: Callable[..., T], *args: object) -> T:
    """Run a call that blocks for as long as the disk does, and give up on it when cancelled.

    Giving up is harmless: the thread goes on by itself, holding the device's only token. What it does is
    read, or sync (whose error is remembered), or label (which can be done again).
    """
    return await trio.to_thread.run_sync(function, *args, abandon_on_cancel=True, limiter=limiter)


def _path_of(device: Device) -> str:
    _, colon, path = device.id.name.partition(":")
    if not colon or "\0" in path:
        raise LrsError(errno.EINVAL, f"{device.id.name!r} names no directory; it should be <short host name>:<path>")
    return path


def _real_directory(path: str) -> str:
    found = os.path.realpath(path, strict=True)
    if not os.path.isdir(found):
        raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
    return found
