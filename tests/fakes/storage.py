"""Disks that take virtual time and fail when told to, behind the protocols of floor 4."""

from __future__ import annotations

import errno
import os
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import trio

from lrs_trio.errors import LrsError
from lrs_trio.model import Device, FsStatus, Medium, Space
from lrs_trio.storage.protocols import Content, DriveIdentity, Unit


@dataclass(slots=True)
class Capacity:
    """The space of one volume, which several disks may share. Bytes."""

    total: int
    used: int = 0

    @property
    def space(self) -> Space:
        return Space(self.used, max(self.total - self.used, 0))


@dataclass(slots=True, eq=False)
class FakeDisk:
    """One directory. `seconds` and `errors` are by operation: query, lookup, open, mount, sync, space,
    format, unmount, close. Each entry of `errors` is used up by one call; ``None`` lets one succeed.

    `calls` lists (time of the begin, operation), `ends` the same at the end, failed or not.
    """

    path: str
    capacity: Capacity
    volume: str
    label: str | None
    present: bool = True
    seconds: dict[str, float] = field(default_factory=dict)
    jitter: Callable[[], float] = lambda: 0.0
    errors: dict[str, deque[int | None]] = field(default_factory=dict)
    calls: list[tuple[float, str]] = field(default_factory=list)
    ends: list[tuple[float, str]] = field(default_factory=list)
    running: dict[str, int] = field(default_factory=dict)
    is_open: bool = False
    is_mounted: bool = False

    def fail(self, operation: str, *errnos: int | None) -> None:
        self.errors.setdefault(operation, deque()).extend(errnos)

    def times(self, operation: str) -> list[float]:
        return [time for time, name in self.calls if name == operation]

    def write(self, size: int) -> None:
        """What a client does under the mount point."""
        self.capacity.used += size

    @property
    def unit(self) -> Unit:
        return Unit(FakeLibrary(self), FakeDrive(self), FakeFilesystem(self))

    async def do(self, operation: str) -> None:
        self.calls.append((trio.current_time(), operation))
        self.running[operation] = self.running.get(operation, 0) + 1
        try:
            await trio.sleep(self.seconds.get(operation, 0.0) + self.jitter())
        finally:
            self.running[operation] -= 1
            self.ends.append((trio.current_time(), operation))
        pending = self.errors.get(operation)
        number = pending.popleft() if pending else None
        if number is not None:
            raise OSError(number, os.strerror(number), self.path)


@dataclass(slots=True)
class FakeDrive:
    disk: FakeDisk

    async def query(self, device: Device) -> DriveIdentity:
        await self.disk.do("query")
        return DriveIdentity(self.disk.path, device.id.name, None)


@dataclass(slots=True)
class FakeLibrary:
    disk: FakeDisk

    async def lookup(self, device: Device) -> Content:
        await self.disk.do("lookup")
        return Content(self.disk.path if self.disk.present else None)


@dataclass(slots=True)
class FakeFilesystem:
    disk: FakeDisk

    async def open(self, path: str) -> None:
        await self.disk.do("open")
        self.disk.is_open = True

    async def close(self) -> None:
        await self.disk.do("close")
        self.disk.is_open = False

    async def read_label(self) -> str | None:
        await self.disk.do("read_label")
        return self.disk.label

    async def mount(self, medium: Medium) -> str:
        await self.disk.do("mount")
        if self.disk.label != medium.id.name and medium.fs_status is not FsStatus.IMPORTING:
            raise LrsError(errno.EINVAL, f"{self.disk.path} is labelled {self.disk.label!r}, not {medium.id.name}")
        self.disk.is_mounted = True
        return self.disk.path

    async def unmount(self) -> None:
        await self.disk.do("unmount")
        self.disk.is_mounted = False

    async def format(self, medium: Medium) -> Space:
        await self.disk.do("format")
        if self.disk.label is not None:
            raise LrsError(errno.EEXIST, f"{self.disk.path} is labelled {self.disk.label!r} already")
        self.disk.label = medium.id.name
        return self.disk.capacity.space

    async def sync(self) -> Space:
        await self.disk.do("sync")
        return await self.space()

    async def space(self) -> Space:
        await self.disk.do("space")
        return self.disk.capacity.space

    @property
    def volume(self) -> str:
        return self.disk.volume
