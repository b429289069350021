"""What the administration of directories does, one directory at a time. The command line and the demo use it."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from lrs_trio.cli.administration import Administration, holds_objects
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


class DirectoryAdministration(Administration):
    """Adds, formats, locks, unlocks and deletes directories of one host.

    All methods raise `OSError` when the DSS or the daemon refuses; what then stays in the DSS is said there.
    """

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
        with self._undone_on_refusal(
            f"{path}: not added", lambda: self._home.execute(DeleteDirectory(device.id, medium.id, in_service=True))
        ):
            self._tell(NotifyOperation.DEVICE_ADD, device.id)

    def format(self, path: Path, *, unlock: bool = False) -> None:
        """Have the daemon label a blank directory; its medium is unlocked with it if `unlock`."""
        client = self._formatter()
        try:
            client.format(self.medium_id(path), unlock=unlock)
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
        with self._done_all_the_same(str(path), "locked", "will leave it alone"):
            self._tell(NotifyOperation.MEDIA_UPDATE, self.medium_id(path))
            self._tell(NotifyOperation.DEVICE_LOCK, self.device_id(path), wait=wait)

    def unlock(self, path: Path) -> None:
        """Put a directory into service, one that had failed included; if the daemon refuses, it stays as it was."""
        device, medium = self._rows(path)
        self._set_status(path, AdmStatus.UNLOCKED, AdmStatus.UNLOCKED)
        with self._undone_on_refusal(
            f"{path}: not unlocked",
            lambda: self._set_status(path, device.device.adm_status, medium.medium.adm_status),
        ):
            self._tell(NotifyOperation.MEDIA_UPDATE, self.medium_id(path))
            self._tell(NotifyOperation.DEVICE_UNLOCK, self.device_id(path))

    def delete(self, path: Path, *, force: bool = False) -> None:
        """Forget a directory that is locked, one with objects only by `force`; its files stay where they are."""
        try:
            self._home.execute(DeleteDirectory(self.device_id(path), self.medium_id(path), with_objects=force))
        except LrsError as error:
            match error.errno:
                case errno.EBUSY:
                    text = f"{path}: is in service, or still in use; lock it first: lrs dir lock {path}"
                    raise LrsError(errno.EBUSY, text) from error
                case errno.ENOTEMPTY:
                    raise holds_objects(str(path)) from error
            raise
        # One that the daemon could not use stays in its reports until it is told to let go.
        self._tell(NotifyOperation.DEVICE_LOCK, self.device_id(path))

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
    """`path` without symbolic links, as directories are known; it need not exist (any more).

    Raises:
        LrsError: EINVAL, neither the DSS nor the daemon can have a name like that.
    """
    found = os.path.realpath(path)
    try:
        found.encode()
    except UnicodeEncodeError as error:
        raise LrsError(errno.EINVAL, f"{path}: its path is not UTF-8; give it another name") from error
    return Path(found)
