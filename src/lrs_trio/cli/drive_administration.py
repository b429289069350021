"""What the administration of tape drives does, one drive at a time. The command line and the demo use it."""

from __future__ import annotations

import errno
import os
from contextlib import suppress

from lrs_trio.cli.administration import LibraryAdministration
from lrs_trio.cli.hardware import identify_drive, release_reservation
from lrs_trio.cli.tlc import library_settings
from lrs_trio.dss.operations import (
    AddDevice,
    DeleteDevice,
    DeviceRow,
    ReadDevices,
    ReleaseLock,
    SetDeviceStatus,
    TakeLock,
)
from lrs_trio.errors import LrsError
from lrs_trio.model import AdmStatus, Device, Family, LockOwner, LockType, NotifyOperation, ResourceId
from lrs_trio.storage.scsi_tape import identify


class DriveAdministration(LibraryAdministration):
    """Adds, locks, unlocks and deletes tape drives; a drive is named by its serial, or by its path on this host.

    All methods raise `OSError` when the DSS or the daemon refuses; what then stays in the DSS is said there.
    """

    def add(self, path: str, *, unlock: bool = False) -> str:
        """Make the drive at `path` known; locked, or in service at once if `unlock`. Returns what it is.

        If the daemon does not want it, the DSS is as before.
        """
        found = identify_drive(path, self._library, self._settings)
        status = AdmStatus.UNLOCKED if unlock else AdmStatus.LOCKED
        id = ResourceId(Family.TAPE, found.serial, self._library)
        self._home.execute(AddDevice(Device(id, self._host, found.path, status, found.model)))
        if unlock:
            with self._undone_on_refusal(
                f"{path}: not added", lambda: self._home.execute(DeleteDevice(id, in_service=True))
            ):
                self._tell(NotifyOperation.DEVICE_ADD, id)
        return f"serial {found.serial}" + (f", model {found.model}" if found.model else "")

    def lock(self, name: str, *, wait: bool = True) -> str:
        """Take a drive out of service; `wait` until what is going on there has ended. May return a remark.

        If the daemon cannot be told, the drive is locked in the DSS all the same.
        """
        row = self._row(name)
        self._check_nobody_elsewhere(name, row)
        self._set_status(row, AdmStatus.LOCKED)
        with self._done_all_the_same(name, "locked", "will leave it alone"):
            return self._tell_here(NotifyOperation.DEVICE_LOCK, row, wait=wait)

    def unlock(self, name: str) -> str:
        """Put a drive into service, one that had failed included; may return a remark.

        If the daemon refuses, the drive stays as it was.
        """
        row = self._row(name)
        self._check_nobody_elsewhere(name, row)
        self._set_status(row, AdmStatus.UNLOCKED)
        with self._undone_on_refusal(f"{name}: not unlocked", lambda: self._set_status(row, row.device.adm_status)):
            return self._tell_here(NotifyOperation.DEVICE_UNLOCK, row)

    def delete(self, name: str) -> None:
        """Forget a drive that is locked."""
        row = self._row(name)
        try:
            self._home.execute(DeleteDevice(row.device.id))
        except LrsError as error:
            if error.errno != errno.EBUSY:
                raise
            text = f"{name}: is in service, or still in use; lock it first: lrs drive lock {name}"
            raise LrsError(errno.EBUSY, text) from error
        # One that the daemon could not use stays in its reports until it is told to let go.
        self._tell_here(NotifyOperation.DEVICE_LOCK, row)

    def release(self, name: str) -> None:
        """Make a drive forget the reservation of a host that is dead, with the command that the settings have for it.

        Nobody else can use the drive meanwhile: its lock is ours.
        """
        row = self._row(name)
        id = row.device.id
        if row.device.host != self._host:
            raise LrsError(errno.EINVAL, f"{name}: is a drive of host {row.device.host}; release it there")
        if library_settings(self._settings, id.library).drives == "virtual":
            raise LrsError(errno.EINVAL, f"{name}: is a drive of a virtual library, which no host reserves")
        owner = LockOwner(self._host, os.getpid())
        holder = self._home.execute(TakeLock(LockType.DEVICE, id, owner))
        if holder is not None:
            raise LrsError(
                errno.EBUSY, f"{name}: is in use, {holder.owner} has it locked; lock it first: lrs drive lock {name}"
            )
        try:
            release_reservation(id.name, self._settings)
        finally:
            self._home.execute(ReleaseLock(LockType.DEVICE, id, owner))

    def drives(self) -> tuple[DeviceRow, ...]:
        """All drives in the DSS, of all hosts and libraries."""
        return self._home.execute(ReadDevices(Family.TAPE))

    def _row(self, name: str) -> DeviceRow:
        rows = [row for row in self.drives() if self._named_library in (None, row.device.id.library)]
        ours = [row for row in rows if row.device.host == self._host]
        found = [row for row in rows if row.device.id.name == name] or [row for row in ours if row.device.path == name]
        if not found:
            serial = _serial_at(name)
            found = [row for row in ours if row.device.id.name == serial]
        if not found:
            raise LrsError(
                errno.ENOENT,
                f"{name}: the DSS knows no such drive; lrs drive list shows those it knows",
            )
        if len(found) > 1:
            libraries = ", ".join(row.device.id.library for row in found)
            raise LrsError(errno.EINVAL, f"{name}: is in the libraries {libraries}; say which with --library")
        return found[0]

    def _check_nobody_elsewhere(self, name: str, row: DeviceRow) -> None:
        if row.lock is not None and row.lock.owner.host != self._host:
            raise LrsError(errno.EBUSY, f"{name}: is in use on host {row.lock.owner.host}; do this there")

    def _set_status(self, row: DeviceRow, status: AdmStatus) -> None:
        if not self._home.execute(SetDeviceStatus(row.device.id, status)):
            raise LrsError(errno.ENOENT, f"{row.device.id.name}: somebody has deleted this drive from the DSS")

    def _tell_here(self, operation: NotifyOperation, row: DeviceRow, *, wait: bool = True) -> str:
        """Tell the daemon of a drive of this host; the remark that another host's daemon is not told."""
        if row.device.host != self._host:
            return f"the daemon of host {row.device.host} will know when it starts"
        self._tell(operation, row.device.id, wait=wait)
        return ""


def _serial_at(path: str) -> str | None:
    """The serial of the drive that has `path` among its names now, if there is one."""
    with suppress(OSError):
        return identify(path).serial if path.startswith("/") else None
    return None
