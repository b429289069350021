"""What the administration of directories does, one directory at a time (decision 21).

The DSS is written first, in one short transaction; then the daemon is told, if it runs. The command line
and the demo both use this.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from lrs_trio.dss.homes import CommandHome, open_command_home
from lrs_trio.dss.operations import (
    AddDirectory,
    DeleteDirectory,
    DeviceRow,
    MediumRow,
    MediumUpdate,
    ReadDevice,
    ReadDevices,
    ReadMedia,
    ReadMedium,
    SetDeviceStatus,
    UpdateMedia,
)
from lrs_trio.errors import LrsError, describe
from lrs_trio.model import AdmStatus, Device, Family, FsStatus, FsType, Medium, NotifyOperation, ResourceId

if TYPE_CHECKING:
    from lrs_trio.cli.site import Site
    from lrs_trio.client import Client

DEFAULT_LIBRARY: Final = "legacy"

NOBODY_LISTENS: Final = frozenset({errno.ENOENT, errno.ECONNREFUSED})


def connect_if_running(site: Site) -> Client | None:
    """A connection to the daemon, ``None`` if there is no daemon.

    Raises:
        OSError: there may be one, but this user cannot talk to it.
    """
    try:
        return site.connect()
    except OSError as error:
        if error.errno in NOBODY_LISTENS:
            return None
        raise


@contextmanager
def open_administration(
    site: Site, library: str = DEFAULT_LIBRARY, *, create: bool = False
) -> Iterator[DirectoryAdministration]:
    """The administration of the site's directories; `create` makes a DSS that is not there yet.

    Raises:
        OSError: the DSS cannot be used, or the daemon runs and cannot be reached.
        SettingsError: the settings cannot be used.
        DssUnavailableError: somebody else is writing the DSS for too long.
    """
    settings = site.settings()
    with open_command_home(settings.dss, host=settings.host, create=create) as home:
        client = connect_if_running(site)
        try:
            yield DirectoryAdministration(home, settings.host, library, client)
        finally:
            if client is not None:
                client.close()


class DirectoryAdministration:
    """Adds, formats, locks, unlocks and deletes directories of one host.

    All methods raise `OSError` when the DSS or the daemon refuses; what then stays in the DSS is said there.
    """

    def __init__(self, home: CommandHome, host: str, library: str, client: Client | None) -> None:
        self._home = home
        self._host = host
        self._library = library
        self._client = client

    @property
    def daemon_runs(self) -> bool:
        return self._client is not None

    def device_id(self, path: Path) -> ResourceId:
        return ResourceId(Family.DIR, f"{self._host}:{real(path)}", self._library)

    def medium_id(self, path: Path) -> ResourceId:
        return ResourceId(Family.DIR, str(real(path)), self._library)

    def add(self, path: Path, *, unlock: bool = False, tags: tuple[str, ...] = ()) -> None:
        """Make `path` known: an unlocked device, and in it a blank medium that is locked unless `unlock`.

        If the daemon does not want it, the DSS is as before.
        """
        if not real(path).is_dir():
            what = errno.ENOTDIR if path.exists() else errno.ENOENT
            raise LrsError(what, f"{path}: {os.strerror(what)}; name a directory of this host")
        device = Device(self.device_id(path), self._host, str(real(path)), AdmStatus.UNLOCKED)
        medium = Medium(
            self.medium_id(path),
            FsType.POSIX,
            AdmStatus.UNLOCKED if unlock else AdmStatus.LOCKED,
            tags=tags,
        )
        self._home.execute(AddDirectory(device, medium))
        if self._client is None:
            return
        try:
            self._client.notify(NotifyOperation.DEVICE_ADD, device.id)
        except OSError as error:
            self._home.execute(DeleteDirectory(device.id, medium.id))
            raise LrsError(
                error.errno or errno.EIO,
                f"{path}: not added, the daemon cannot use it: {describe(error)}; its log says more",
            ) from error

    def format(self, path: Path, *, unlock: bool = False) -> None:
        """Have the daemon label a blank directory; its medium is unlocked with it if `unlock`."""
        if self._client is None:
            raise LrsError(
                errno.ECONNREFUSED, f"{path}: only the daemon formats, and it does not run; start lrsd first"
            )
        try:
            self._client.format(self.medium_id(path), unlock=unlock)
        except OSError as error:
            raise LrsError(
                error.errno or errno.EIO, f"{path}: not formatted: {self._why_not_formatted(path, error)}"
            ) from error

    def is_formatted_but_locked(self, path: Path) -> bool:
        """Whether the medium of `path` only needs to be unlocked."""
        row = self._home.execute(ReadMedium(self.medium_id(path)))
        return (
            row is not None and row.medium.fs_status is not FsStatus.BLANK and row.medium.adm_status is AdmStatus.LOCKED
        )

    def lock(self, path: Path, *, wait: bool = True) -> None:
        """Take a directory out of service; `wait` until what is going on there has ended.

        If the daemon cannot be told, it is locked in the DSS all the same.
        """
        self._set_status(path, AdmStatus.LOCKED, AdmStatus.LOCKED)
        if self._client is not None:
            self._client.notify(NotifyOperation.MEDIA_UPDATE, self.medium_id(path))
            self._client.notify(NotifyOperation.DEVICE_LOCK, self.device_id(path), wait=wait)

    def unlock(self, path: Path) -> None:
        """Put a directory into service, one that had failed included; if the daemon refuses, it stays as it was."""
        before = self._rows(path)
        self._set_status(path, AdmStatus.UNLOCKED, AdmStatus.UNLOCKED)
        if self._client is None:
            return
        try:
            self._client.notify(NotifyOperation.MEDIA_UPDATE, self.medium_id(path))
            self._client.notify(NotifyOperation.DEVICE_UNLOCK, self.device_id(path))
        except OSError as error:
            device, medium = before
            self._set_status(path, device.device.adm_status, medium.medium.adm_status)
            raise LrsError(
                error.errno or errno.EIO,
                f"{path}: not unlocked, the daemon cannot use it: {describe(error)}; its log says more",
            ) from error

    def delete(self, path: Path) -> None:
        """Forget a directory that nobody uses; its files stay where they are."""
        try:
            self._home.execute(DeleteDirectory(self.device_id(path), self.medium_id(path)))
        except LrsError as error:
            if error.errno != errno.EBUSY:
                raise
            raise LrsError(errno.EBUSY, f"{path}: is in use; lock it first: lrs dir lock {path}") from error
        if self._client is not None:
            # One that the daemon could not use stays in its reports until it is told to let go.
            self._client.notify(NotifyOperation.DEVICE_LOCK, self.device_id(path))

    def list(self) -> list[tuple[DeviceRow | None, MediumRow | None]]:
        """All directories in the DSS, of all hosts and libraries; half of one may be missing."""
        devices = self._home.execute(ReadDevices(Family.DIR))
        media = {row.medium.id: row for row in self._home.execute(ReadMedia(Family.DIR))}
        pairs: list[tuple[DeviceRow | None, MediumRow | None]] = []
        found = set()
        for row in devices:
            id_ = row.device.id
            medium = ResourceId(id_.family, id_.name.partition(":")[2], id_.library)
            found.add(medium)
            pairs.append((row, media.get(medium)))
        return pairs + [(None, row) for medium, row in media.items() if medium not in found]

    def _rows(self, path: Path) -> tuple[DeviceRow, MediumRow]:
        device = self._home.execute(ReadDevice(self.device_id(path)))
        medium = self._home.execute(ReadMedium(self.medium_id(path)))
        if device is None or medium is None:
            raise LrsError(
                errno.ENOENT,
                f"{path}: the DSS knows no such directory of host {self._host} in library {self._library};"
                " lrs dir list shows those it knows",
            )
        return device, medium

    def _set_status(self, path: Path, device: AdmStatus, medium: AdmStatus) -> None:
        self._rows(path)
        outcomes = self._home.commit(
            [
                SetDeviceStatus(self.device_id(path), device),
                UpdateMedia((MediumUpdate(self.medium_id(path), adm_status=medium),)),
            ]
        )
        for outcome in outcomes:
            if isinstance(outcome, LrsError):
                raise outcome

    def _why_not_formatted(self, path: Path, error: OSError) -> str:
        """The daemon answers with a number; what it means here is in the DSS and on the disk."""
        device, medium = self._rows(path)
        if medium.medium.fs_status is not FsStatus.BLANK:
            return f"it is formatted already (its filesystem status is {medium.medium.fs_status.value})"
        if error.errno == errno.EEXIST:
            return "it bears the label of another medium; remove the label file if its content may be taken over"
        if device.device.adm_status is not AdmStatus.UNLOCKED:
            return (
                f"its device is {device.device.adm_status.value} (the daemon's log may say why);"
                f" put it into service, then try again: lrs dir unlock {path}"
            )
        if error.errno in (errno.ENODEV, errno.ENXIO):
            return "the daemon could not take it into service; lrs status says why"
        return describe(error)


def real(path: Path) -> Path:
    """`path` without symbolic links, as directories are known; it need not exist (any more)."""
    return Path(os.path.realpath(path))
