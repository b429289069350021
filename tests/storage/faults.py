"""A filesystem that fails or hangs where a test says so."""

from __future__ import annotations

import os

import trio

from lrs_trio.model import Medium, Space
from lrs_trio.storage.protocols import Filesystem, Unit


class FaultyFilesystem:
    """Passes everything on to `inner`, except what it was told to fail or to hold.

    Operations go by the name of their method: ``"sync"``, ``"mount"``...
    """

    def __init__(self, inner: Filesystem) -> None:
        self.inner = inner
        self.calls: list[str] = []
        self._failing: dict[str, int] = {}
        self._held: dict[str, trio.Event] = {}

    def fail(self, operation: str, errno: int) -> None:
        """Let `operation` raise `errno` from now on."""
        self._failing[operation] = errno

    def heal(self, operation: str) -> None:
        del self._failing[operation]

    def hold(self, operation: str) -> trio.Event:
        """Let `operation` hang, before it does anything, until the event is set."""
        return self._held.setdefault(operation, trio.Event())

    async def open(self, path: str) -> None:
        await self._meet("open")
        await self.inner.open(path)

    async def close(self) -> None:
        await self._meet("close")
        await self.inner.close()

    async def read_label(self) -> str | None:
        await self._meet("read_label")
        return await self.inner.read_label()

    async def mount(self, medium: Medium) -> str:
        await self._meet("mount")
        return await self.inner.mount(medium)

    async def unmount(self) -> None:
        await self._meet("unmount")
        await self.inner.unmount()

    async def format(self, medium: Medium) -> Space:
        await self._meet("format")
        return await self.inner.format(medium)

    async def sync(self) -> Space:
        await self._meet("sync")
        await self.inner.sync()
        return await self.space()

    async def space(self) -> Space:
        await self._meet("space")
        return await self.inner.space()

    @property
    def volume(self) -> str:
        return self.inner.volume

    async def _meet(self, operation: str) -> None:
        self.calls.append(operation)
        if operation in self._held:
            await self._held[operation].wait()
        if operation in self._failing:
            number = self._failing[operation]
            raise OSError(number, os.strerror(number), f"<{operation}>")


def faulty(unit: Unit) -> tuple[Unit, FaultyFilesystem]:
    """`unit` with a filesystem that can be made to fail, and that filesystem."""
    filesystem = FaultyFilesystem(unit.filesystem)
    return Unit(library=unit.library, drive=unit.drive, filesystem=filesystem), filesystem
