"""Whether a drain goes in order and ends in time (note 11)."""

from __future__ import annotations

from collections.abc import Callable
from math import inf

from lrs_trio.devices.device import DeviceTask
from lrs_trio.devices.life import DeviceStatus
from lrs_trio.events import Event, EventKind
from lrs_trio.simulation.oracles.device_rules import Families, Report

UNWINDING_S = 30.0
"""How long a drain that is forced may still take: answers are flushed, a commit that is under way ends."""

_BEGINNINGS: dict[EventKind, str] = {
    EventKind.LOADED: "loaded",
    EventKind.LOAD_FAILED: "loaded",
    EventKind.MOUNTED: "mounted",
    EventKind.MOUNT_FAILED: "mounted",
    EventKind.FORMATTED: "formatted",
    EventKind.FORMAT_FAILED: "formatted",
}
_FIND_OUT = (DeviceStatus.ADOPTING, DeviceStatus.WAITING)

DeviceName = tuple[str, str]
"""The label of its family, and its name."""


class DrainOrder:
    """Hears the events of one life.

    `deadline_s` is the time that a drain has, in seconds. `forced` tells whether it was cut short.
    """

    def __init__(self, families: Families, deadline_s: float, forced: Callable[[], bool], report: Report) -> None:
        self.releases: dict[int, Event] = {}
        """The releases that have no answer yet, and what was told when they came."""
        self._families = families
        self._deadline_s = deadline_s
        self._forced = forced
        self._report = report
        self._running: dict[DeviceName, None] = {}
        self._due = inf
        self.begun = self._drained = False
        self._busy: dict[DeviceName, set[str]] = {}
        """Devices that were at something when the drain began, and what each has done of it since."""
        self._used: set[int] = set()
        """The requests whose I/O had begun before."""
        self._rules: dict[EventKind, Callable[[Event], None]] = {
            EventKind.RELEASE_BEGUN: self._release_begins,
            EventKind.RELEASE_FINISHED: self._release_ends,
            EventKind.RELEASE_FAILED: self._release_ends,
            EventKind.DEVICE_STATUS: self._device_lives,
            EventKind.DEVICE_REMOVED: self._device_ends,
            EventKind.DRAIN_BEGUN: self._begin,
            EventKind.DRAIN_ENDED: self._end,
            EventKind.ALLOCATION_PLACED: self._too_late,
            EventKind.ALLOCATION_GRANTED: self._too_late,
            EventKind.IO_BEGUN: self._io_begins,
            **dict.fromkeys(_BEGINNINGS, self._goes_on),
        }

    def tell(self, event: Event) -> None:
        rule = self._rules.get(event.kind)
        if rule is not None:
            rule(event)

    def signalled_again(self, now: float) -> None:
        """There is a second signal: what has not ended does so now."""
        self._due = min(self._due, now + UNWINDING_S)

    def look(self, now: float) -> None:
        """Check that there is still time."""
        if now > self._due:
            waiting = ", ".join(name for _, name in self._running) or "no device"
            self._report(f"the drain has not ended in time; {waiting} had not ended")
            self._due = inf

    # Releases.

    def _release_begins(self, event: Event) -> None:
        if self._drained:
            self._report(f"{event.client}: its release {event.serial} is taken in after the drain")
        self.releases[event.serial] = event

    def _release_ends(self, event: Event) -> None:
        if self.releases.pop(event.serial, None) is None:
            self._report(f"{event.client}: its release {event.serial} is answered a second time")

    # Devices.

    def _device_lives(self, event: Event) -> None:
        if event.detail not in (DeviceStatus.STOPPED.value, DeviceStatus.FAILED.value, DeviceStatus.QUARANTINED.value):
            self._running[event.family, event.device] = None
        if self._drained:
            self._report(f"{event.device}: becomes {event.detail} after the drain")
        elif self.begun and event.detail == DeviceStatus.LOADING.value:
            self._goes_on(event)

    def _device_ends(self, event: Event) -> None:
        self._running.pop((event.family, event.device), None)

    def _goes_on(self, event: Event) -> None:
        """An action has ended, or one that moves a medium begins."""
        if not self.begun:
            return
        what = _BEGINNINGS.get(event.kind, "to be loaded")
        done = self._busy.get((event.family, event.device))
        if done is None or what in done:
            self._report(f"{event.device}: is {what} although the drain has begun")
        else:
            done.add(what)

    # The drain.

    def _begin(self, event: Event) -> None:
        self.begun = True
        self._due = event.time + self._deadline_s + UNWINDING_S
        for family in self._families().values():
            for device in family.devices.values():
                if _is_busy(device):
                    self._busy[family.family.label, device.id.name] = set()

    def _too_late(self, event: Event) -> None:
        if self.begun:
            self._report(f"{event.client}: its request {event.serial} goes on although the drain has begun")

    def _io_begins(self, event: Event) -> None:
        """After a partial release a client goes on with what it has."""
        if not self.begun:
            self._used.add(event.serial)
        elif event.serial not in self._used:
            self._report(f"{event.device}: the I/O of request {event.serial} begins although the drain has begun")

    def _end(self, event: Event) -> None:
        self._drained = True
        for serial, begun in self.releases.items():
            self._report(f"{begun.client}: its release {serial} is not answered at the end of the drain")
        if not self._forced():
            for _, name in self._running:
                self._report(f"{name}: had not ended at the end of an ordered drain")


def _is_busy(device: DeviceTask) -> bool:
    """Whether it is at something that it may bring to its end."""
    return device.state.acting or device.state.lost or device.state.status in _FIND_OUT
