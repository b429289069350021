"""The life of a device: what it can be doing, what may follow what, and how long it has done each. Pure."""

from __future__ import annotations

from enum import StrEnum


class DeviceStatus(StrEnum):
    """What a device is doing, as shown to people.

    A drive goes through all of it; a directory, whose medium never leaves it, is loaded or mounted from its
    adoption on. QUARANTINED is a failure that leaves open what the device still does: an operation has outlived
    its deadline, so nobody touches the device before a person has looked at it.
    """

    WAITING = "waiting"
    ADOPTING = "adopting"
    EMPTY = "empty"
    LOADING = "loading"
    LOADED = "loaded"
    MOUNTING = "mounting"
    MOUNTED = "mounted"
    UNMOUNTING = "unmounting"
    UNLOADING = "unloading"
    FORMATTING = "formatting"
    FAILED = "failed"
    QUARANTINED = "quarantined"
    STOPPED = "stopped"


_ENDS = frozenset({DeviceStatus.FAILED, DeviceStatus.QUARANTINED, DeviceStatus.STOPPED})

_FOLLOWS = {
    DeviceStatus.WAITING: {DeviceStatus.ADOPTING},
    DeviceStatus.ADOPTING: {DeviceStatus.WAITING, DeviceStatus.EMPTY, DeviceStatus.LOADED, DeviceStatus.MOUNTED},
    DeviceStatus.EMPTY: {DeviceStatus.LOADING, DeviceStatus.ADOPTING},
    DeviceStatus.LOADING: {DeviceStatus.LOADED, DeviceStatus.EMPTY, DeviceStatus.ADOPTING},
    DeviceStatus.LOADED: {
        DeviceStatus.MOUNTING,
        DeviceStatus.MOUNTED,
        DeviceStatus.UNLOADING,
        DeviceStatus.FORMATTING,
        DeviceStatus.ADOPTING,
    },
    DeviceStatus.MOUNTING: {DeviceStatus.MOUNTED, DeviceStatus.LOADED},
    DeviceStatus.MOUNTED: {DeviceStatus.UNMOUNTING, DeviceStatus.LOADED},
    DeviceStatus.UNMOUNTING: {DeviceStatus.LOADED, DeviceStatus.MOUNTED},
    DeviceStatus.UNLOADING: {DeviceStatus.EMPTY, DeviceStatus.LOADED, DeviceStatus.ADOPTING},
    DeviceStatus.FORMATTING: {DeviceStatus.LOADED},
}


class Life:
    """The status of one device, since when it has it, and the seconds that it has spent in each before.

    A directory is formatted as it is mounted, in one step: that is why LOADED may follow MOUNTED.
    """

    def __init__(self, now: float, status: DeviceStatus = DeviceStatus.ADOPTING) -> None:
        self.status = status
        self.since = now
        self._seconds: dict[DeviceStatus, float] = {}

    def enter(self, status: DeviceStatus, now: float) -> bool:
        """Go on to `status`; ``False`` if it is that already.

        Raises:
            RuntimeError: that cannot follow what is now: a defect of whoever asks for it.
        """
        if status is self.status:
            return False
        if self.status in _ENDS or not (status in _ENDS or status in _FOLLOWS[self.status]):
            raise RuntimeError(f"a device that is {self.status.value} cannot become {status.value}")
        self._seconds[self.status] = self._seconds.get(self.status, 0.0) + (now - self.since)
        self.status, self.since = status, now
        return True

    def seconds(self, now: float) -> dict[DeviceStatus, float]:
        """How long it has been what, up to `now`; what never was is left out."""
        return self._seconds | {self.status: self._seconds.get(self.status, 0.0) + (now - self.since)}
