"""What must hold of the devices of a running daemon, looked at from outside their own code.

Nothing that decides in the daemon is asked here: the counts are counted anew, and what excludes what is said again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from lrs_trio.devices.device import DeviceTask
from lrs_trio.devices.grant import Grant, GrantState
from lrs_trio.devices.life import DeviceStatus
from lrs_trio.devices.state import DeviceState
from lrs_trio.devices.volume import Volume
from lrs_trio.events import Event, EventKind
from lrs_trio.model import Family, ResourceId
from lrs_trio.scheduling.family import FamilyScheduler

Families = Callable[[], Mapping[Family, FamilyScheduler]]
"""The families of the daemon as they are now: it has none before it has begun."""

Report = Callable[[str], None]
"""Takes one sentence about what is wrong."""

_USABLE = (GrantState.READY, GrantState.ONGOING, GrantState.RESERVED)
"""The medium of such a grant is in the device and stays there."""

_NEEDS_REST = frozenset(
    {DeviceStatus.LOADING, DeviceStatus.UNMOUNTING, DeviceStatus.UNLOADING, DeviceStatus.FORMATTING}
)
"""What a device does only when nobody uses its medium and nothing on it waits for a sync (note 2.5f)."""


class DeviceRules:
    """Hears what is told of the devices of `families`, and looks at them."""

    def __init__(self, families: Families, report: Report) -> None:
        self._families = families
        self._report = report
        self._devices: dict[tuple[str, str], DeviceTask] = {}
        self._syncing: set[DeviceTask] = set()
        self._holder: dict[ResourceId, DeviceTask] = {}
        self._failed: dict[DeviceTask, None] = {}
        """Devices that have ended while clients still have grants on them, which their releases give back."""
        self._placed_now: dict[DeviceTask, list[int]] = {}
        """Requests that the step of a task that has not ended yet has placed on each device."""
        self._rules: dict[EventKind, Callable[[Event, DeviceTask], None]] = {
            EventKind.IO_BEGUN: self._io_begins,
            EventKind.SYNC_STARTED: self._sync_starts,
            EventKind.SYNC_FINISHED: self._sync_ends,
            EventKind.SYNC_FAILED: self._sync_ends,
            EventKind.DEVICE_STATUS: self._becomes,
            EventKind.UNMOUNTED: self._unmounted,
            EventKind.DEVICE_REMOVED: self._leaves,
        }

    # What is told.

    def tell(self, event: Event) -> tuple[DeviceTask, ...]:
        """Check what `event` tells at this very moment; the result is which devices it is about."""
        if event.kind is EventKind.ALLOCATION_PLACED:
            return self._placed(event)
        device = self._find(event.family, event.device) if event.device else None
        if device is None:
            return ()
        rule = self._rules.get(event.kind)
        if rule is not None:
            rule(event, device)
        return (device,)

    def _find(self, family: str, name: str) -> DeviceTask | None:
        """The device of that name that serves now, if there is one."""
        devices = self._families()[Family.from_label(family)].devices
        found = self._devices.get((family, name))
        if found is None or devices.get(found.id) is not found:
            self._devices |= {(family, device.id.name): device for device in devices.values()}
            found = self._devices.get((family, name))
        return found if found is not None and devices.get(found.id) is found else None

    def _placed(self, event: Event) -> tuple[DeviceTask, ...]:
        chosen = [self._find(event.family, name) for name in event.detail.split(", ")]
        devices = tuple(device for device in chosen if device is not None)
        if len(set(devices)) < len(chosen):
            self._report(f"request {event.serial} is placed on {event.detail}, which are not devices of their own each")
        for device in devices:
            self._placed_now.setdefault(device, []).append(event.serial)
            if device.state.stopping or device.state.error is not None:
                self._report(f"{device.id}: request {event.serial} is placed on a device that serves no more")
            if device.state.formatting is not None:
                self._report(f"{device.id}: request {event.serial} is placed on a device that is to format")
        return devices

    def _io_begins(self, event: Event, device: DeviceTask) -> None:
        state = device.state
        if device in self._syncing and not state.sync_while_io:
            self._report(f"{device.id}: the I/O of request {event.serial} begins during a sync that excludes it")
        if _formats(state):
            self._report(f"{device.id}: the I/O of request {event.serial} begins during a format")
        grant = next((grant for grant in self._grants_on(device) if _is_of(grant, event)), None)
        if grant is None:
            self._report(f"{device.id}: the I/O of request {event.serial} begins without a grant")
        elif grant.state not in (GrantState.READY, GrantState.RESERVED):
            self._report(f"{device.id}: the I/O of request {event.serial} begins when its grant is {grant.state.value}")

    def _sync_starts(self, event: Event, device: DeviceTask) -> None:
        state = device.state
        if device in self._syncing:
            self._report(f"{device.id}: a sync begins while another one is under way")
        if _formats(state):
            self._report(f"{device.id}: a sync begins during a format")
        if not state.sync_while_io and any(grant.state is GrantState.ONGOING for grant in state.grants):
            self._report(f"{device.id}: a sync that excludes I/O begins while I/O goes on")
        self._syncing.add(device)

    def _sync_ends(self, event: Event, device: DeviceTask) -> None:
        self._syncing.discard(device)

    def _becomes(self, event: Event, device: DeviceTask) -> None:
        status = DeviceStatus(event.detail)
        if status in _NEEDS_REST:
            self._check_rest(device, f"is {status.value}")

    def _unmounted(self, event: Event, device: DeviceTask) -> None:
        self._check_rest(device, "is unmounted")

    def _check_rest(self, device: DeviceTask, what: str) -> None:
        """A medium that cannot be trusted any more leaves without what waits there."""
        state = device.state
        if state.error is not None or state.tainted is not None:
            return
        for grant in state.grants:
            if grant.state in _USABLE:
                self._report(f"{device.id}: {what} while request {grant.serial} uses {grant.medium}")
        if state.syncing is not None or state.to_sync.pending or state.unsettled:
            self._report(f"{device.id}: {what} before what was written there is synced and in the books")

    def _leaves(self, event: Event, device: DeviceTask) -> None:
        self._check_rest(device, "has ended")
        if not device.state.grants:
            return
        if device.state.error is None:
            self._report(f"{device.id}: has ended with grants on it")
        self._failed[device] = None

    # What is so.

    def look(self, device: DeviceTask) -> None:
        """Check one device between two steps of tasks."""
        state = device.state
        if state.grants or state.planned or state.ongoing or state.reserved:
            self._look_at_grants(device)
        if state.stopping or state.error is not None:
            self._look_at_promises(device)
        for serial in self._placed_now.pop(device, ()):
            self._look_at_room(device, serial)
        volume = state.volume
        if volume.reserved < 0 or volume.measured < 0 or volume.written < 0:
            self._report(
                f"{device.id}: has negative space: measured {volume.measured}, written {volume.written}, "
                f"reserved {volume.reserved}"
            )
        if state.unsettled < 0:
            self._report(f"{device.id}: more releases have settled than were synced")
        if not len(state.to_sync) and state.to_sync.size:
            self._report(f"{device.id}: {state.to_sync.size} bytes wait for a sync of which no release is left")
        self._look_at_medium(device)

    def _look_at_grants(self, device: DeviceTask) -> None:
        state = device.state
        counted = dict.fromkeys(GrantState, 0)
        for grant in state.grants:
            counted[grant.state] += 1
        promised = counted[GrantState.PLANNED] + counted[GrantState.READY]
        found = promised, counted[GrantState.ONGOING], counted[GrantState.RESERVED]
        if found != (state.planned, state.ongoing, state.reserved):
            self._report(
                f"{device.id}: counts {state.planned} planned, {state.ongoing} ongoing, {state.reserved} reserved; "
                f"there are {found[0]}, {found[1]}, {found[2]}"
            )
        if counted[GrantState.ENDED]:
            self._report(f"{device.id}: keeps a grant that has ended")
        if len(state.grants) > state.max_concurrent_io:
            self._report(f"{device.id}: has {len(state.grants)} grants, {state.max_concurrent_io} are allowed")
        if not state.mix_reads_and_writes and len({grant.kind for grant in state.grants}) > 1:
            self._report(f"{device.id}: reads and writes are mixed")
        if counted[GrantState.ONGOING] and not state.sync_while_io and state.syncing is not None:
            self._report(f"{device.id}: I/O goes on during a sync that excludes it")
        if state.grants and state.formatting is not None:
            self._report(f"{device.id}: has grants and a format")
        for grant in state.grants:
            self._look_at_place(device, grant)

    def _look_at_room(self, device: DeviceTask, serial: int) -> None:
        """What a write was just promised was there, beside all that others were promised."""
        for grant in device.state.grants:
            volume = grant.volume
            if grant.serial == serial and grant.size and volume.reserved > volume.free:
                self._report(
                    f"{device.id}: request {serial} is promised {grant.size} bytes, which makes {volume.reserved} "
                    f"of the {volume.free} that are free"
                )

    def _look_at_place(self, device: DeviceTask, grant: Grant) -> None:
        """A medium that may be used is where its grant says, and mounted."""
        if grant.device is not device:
            self._report(f"{device.id}: has a grant of request {grant.serial} on {grant.device.id}")
        if grant.state not in _USABLE:
            return
        if grant.medium != device.medium_id:
            self._report(f"{device.id}: request {grant.serial} uses {grant.medium}, which is not in it")
        if device.state.error is None and device.state.status is not DeviceStatus.MOUNTED:
            self._report(
                f"{device.id}: request {grant.serial} uses {grant.medium} although it is {device.state.status.value}"
            )

    def _look_at_promises(self, device: DeviceTask) -> None:
        state = device.state
        why = "has failed" if state.error is not None else "is to stop"
        for grant in state.grants:
            if grant.state in (GrantState.PLANNED, GrantState.READY):
                self._report(f"{device.id}: {why} and is promised to request {grant.serial}")
        if state.formatting is not None and not _formats(state):
            self._report(f"{device.id}: {why} and is promised to a format")

    def _look_at_medium(self, device: DeviceTask) -> None:
        medium = device.medium_id
        if medium is None or device.ended.is_set():
            return
        other = self._holder.get(medium)
        if other is not None and other is not device and other.medium_id == medium and not other.ended.is_set():
            self._report(f"{medium}: is in {other.id} and in {device.id}")
        self._holder[medium] = device

    def look_at_space(self, family: FamilyScheduler) -> None:
        """Check that each volume is of use, and that what is reserved there is what grants have reserved."""
        grants = (*grants_of(family), *self._grants_left(family))
        if len(family.volumes) > len(family.devices) + len(grants):
            needed = len(family.devices) + len(grants)
            self._report(f"family {family.family.label}: keeps {len(family.volumes)} volumes, {needed} are of use")
        promised: dict[int, int] = {}
        volumes: dict[int, Volume] = {id(volume): volume for volume in family.volumes.values()}
        for grant in grants:
            volumes[id(grant.volume)] = grant.volume
            promised[id(grant.volume)] = promised.get(id(grant.volume), 0) + grant.size
        for key, volume in volumes.items():
            if volume.reserved != promised.get(key, 0):
                media = sorted(str(device.medium_id) for device in family.devices.values() if _is_on(device, volume))
                self._report(
                    f"{', '.join(media) or 'a volume of no device'}: {volume.reserved} bytes are reserved, "
                    f"the grants there have reserved {promised.get(key, 0)}"
                )

    def _grants_left(self, family: FamilyScheduler) -> list[Grant]:
        """The grants on devices of `family` that have failed and made room for others."""
        self._failed = {device: None for device in self._failed if device.state.grants}
        gone = (device for device in self._failed if family.devices.get(device.id) is not device)
        return [grant for device in gone if device.id.family is family.family for grant in device.state.grants]

    def _grants_on(self, device: DeviceTask) -> list[Grant]:
        """Those on `device`, and on the ones before it that have failed."""
        failed = (other for other in self._failed if other.id == device.id and other is not device)
        return [grant for task in (device, *failed) for grant in task.state.grants]


def grants_of(family: FamilyScheduler) -> Iterable[Grant]:
    """All grants of `family`, in no order."""
    return (grant for device in family.devices.values() for grant in device.state.grants)


def _formats(state: DeviceState) -> bool:
    """Whether a format is under way, and not only scheduled."""
    return state.formatting is not None and state.formatting not in state.scheduled


def _is_of(grant: Grant, event: Event) -> bool:
    return grant.serial == event.serial and grant.medium.name == event.medium


def _is_on(device: DeviceTask, volume: Volume) -> bool:
    return device.state.volume is volume
