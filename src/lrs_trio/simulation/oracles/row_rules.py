"""Whether the rows in the DSS are what the devices of the daemon go by: their locks, and who has failed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from lrs_trio.dss.operations import DeviceRow
from lrs_trio.model import AdmStatus, Lock, LockOwner, LockType, ResourceId, lock_id
from lrs_trio.simulation.oracles.device_rules import Families, Report

LockKey = tuple[LockType, str]

_OF_DEVICES = (LockType.DEVICE, LockType.MEDIA)
"""What is locked for as long as a device has it."""


class Rows(Protocol):
    """What is in the DSS at one moment."""

    @property
    def locks(self) -> Mapping[LockKey, Lock]:
        """By type and id."""
        ...

    @property
    def devices(self) -> Mapping[ResourceId, DeviceRow]: ...


class WatchedDss(Protocol):
    """The DSS, as far as devices go."""

    @property
    def stolen(self) -> Mapping[str, Lock]:
        """By id: what another host has taken, as long as the daemon may not know that."""
        ...

    def read(self) -> Rows: ...


class RowRules:
    """The devices and the locks of `owner`, compared when nothing is on its way to `dss`.

    There is no other process on its host.
    """

    def __init__(self, families: Families, dss: WatchedDss, owner: LockOwner, report: Report) -> None:
        self._families = families
        self._dss = dss
        self._owner = owner
        self._report = report

    def look(self) -> None:
        """Compare; no operation of the daemon may be on its way."""
        self._look_at_failed()
        certain, perhaps = self._believed()
        rows, stolen = self._dss.read().locks, self._dss.stolen
        for key, device in certain.items():
            row = rows.get(key)
            if (row is None or row.owner != self._owner) and key[1] not in stolen:
                there = f"it is held by {row.owner}" if row is not None else "nobody has it"
                self._report(f"{device}: believes to hold the {key[0].value} lock of {key[1]}, but {there}")
        for key, row in rows.items():
            if row.owner.host != self._owner.host or row.is_weak or key[0] not in _OF_DEVICES:
                continue
            if row.owner != self._owner:
                self._report(f"{key[1]}: its {key[0].value} lock is still held by {row.owner}, which is dead")
            elif key not in certain and key not in perhaps:
                self._report(f"{key[1]}: its {key[0].value} lock is ours, and no device knows of it")

    def _look_at_failed(self) -> None:
        rows = self._dss.read().devices
        for family in self._families().values():
            for device in family.devices.values():
                row = rows.get(device.id)
                if device.state.serving and row is not None and row.device.adm_status is AdmStatus.FAILED:
                    self._report(f"{device.id}: has failed, as the DSS says, and is used")

    def _believed(self) -> tuple[dict[LockKey, ResourceId], set[LockKey]]:
        """What devices hold for sure, by whom, and what they may hold."""
        certain: dict[LockKey, ResourceId] = {}
        perhaps: set[LockKey] = set()
        for family in self._families().values():
            for device in family.devices.values():
                for (kind, resource), is_certain in device.locks.items():
                    key = kind, lock_id(resource)
                    if not is_certain:
                        perhaps.add(key)
                    elif key in certain:
                        self._report(f"{resource}: {certain[key]} and {device.id} both hold its {kind.value} lock")
                    else:
                        certain[key] = device.id
        return certain, perhaps

    def look_at_end(self) -> None:
        """Check that nothing is held any more after an ordered drain."""
        for key, row in self._dss.read().locks.items():
            if row.owner == self._owner:
                self._report(f"{key[1]}: its {key[0].value} lock is still held after an ordered drain")
