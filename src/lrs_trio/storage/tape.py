"""The adapters of family tape, as the settings of each library choose them."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from dataclasses import replace

import trio

from lrs_trio.errors import LrsError
from lrs_trio.model import Device
from lrs_trio.settings import LibrarySettings, TapeSettings
from lrs_trio.storage.ltfs import LtfsFilesystem
from lrs_trio.storage.protocols import Content, DriveIdentity, DriveUnit
from lrs_trio.storage.scsi_tape import ScsiTapeDrive
from lrs_trio.storage.space import FullThreshold
from lrs_trio.storage.tlc import TlcClient, TlcLibrary
from lrs_trio.storage.virtual.library import VirtualLibrary


class TapeStorage:
    """Makes the adapters of all drives of one process.

    `libraries` are those of the settings by their names; a virtual one is opened when its first drive is.
    """

    def __init__(self, settings: TapeSettings, libraries: Mapping[str, LibrarySettings]) -> None:
        self._settings = settings
        self._libraries = libraries
        self._full_threshold = FullThreshold(settings.full_threshold_percent)
        self._virtual: dict[str, VirtualLibrary] = {}

    def change(self, settings: TapeSettings) -> None:
        """Go on with `settings`: the full threshold at once, commands and mount points with the next adoption."""
        self._settings = settings
        self._full_threshold.percent = settings.full_threshold_percent

    def logs_moves(self, library: str) -> bool:
        """Whether the loads and unloads of `library` are ours to log."""
        found = self._libraries.get(library)
        return found is not None and found.log_moves

    def unit(self, device: Device) -> DriveUnit:
        """The adapters of one adoption of `device`; if they cannot be made, its adoption says why."""
        try:
            return self._unit(device)
        except LrsError as error:
            missing = _NoLibrary(error)
            return DriveUnit(missing, missing, self._ltfs())

    def _unit(self, device: Device) -> DriveUnit:
        name = device.id.library
        settings = self._libraries.get(name)
        if settings is None:
            raise LrsError(
                errno.ENODEV, f"{device.id}: the settings know no library {name}; describe it in [libraries.{name}]"
            )
        controller = TlcLibrary(TlcClient(settings.host, settings.port))
        if settings.drives == "ltfs":
            return DriveUnit(controller, ScsiTapeDrive(), self._ltfs())
        unit = self._open(name, settings).unit(device, self._settings.mount_prefix, self._full_threshold)
        return unit if settings.robot == "virtual" else replace(unit, library=controller)

    def _open(self, name: str, settings: LibrarySettings) -> VirtualLibrary:
        if settings.directory is None:
            raise LrsError(errno.EINVAL, f"library {name} is virtual but has no directory in the settings")
        if name not in self._virtual:
            self._virtual[name] = VirtualLibrary.open(settings.directory, speed=settings.speed)
        return self._virtual[name]

    def _ltfs(self) -> LtfsFilesystem:
        return LtfsFilesystem(self._settings.ltfs, self._settings.mount_prefix, self._full_threshold)


class _NoLibrary:
    """Stands for a library that cannot be used, and for a drive of it, and says why."""

    def __init__(self, error: LrsError) -> None:
        self._error = error

    async def query(self, device: Device) -> DriveIdentity:
        await trio.lowlevel.checkpoint()
        raise self._error

    async def lookup(self, device: Device) -> Content:
        await trio.lowlevel.checkpoint()
        raise self._error

    async def load(self, device: Device, medium: str) -> None:
        await self.lookup(device)

    async def unload(self, device: Device, medium: str) -> None:
        await self.lookup(device)
