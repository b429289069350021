"""Whether somebody has slept through what it waits for.

All of this is only true when no task can go on before the time does: whatever could be done at once has been done.
"""

from __future__ import annotations

from lrs_trio.devices.device import DeviceTask
from lrs_trio.devices.grant import GrantState
from lrs_trio.devices.life import DeviceStatus
from lrs_trio.devices.state import DeviceState, Prepare
from lrs_trio.model import RequestKind
from lrs_trio.scheduling.attached import AttachedSupply
from lrs_trio.scheduling.family import FamilyScheduler
from lrs_trio.scheduling.placement import Placed, Waits
from lrs_trio.scheduling.requests import Allocation, PlaceableRequest, RequestState
from lrs_trio.server.outbox import ResponseChannel
from lrs_trio.simulation.oracles.device_rules import Report
from lrs_trio.simulation.oracles.plain_pass import PlainPass

_WAITS = (DeviceStatus.EMPTY, DeviceStatus.LOADED, DeviceStatus.MOUNTED)
"""What a device is that may wait for its bell."""


def look_at_waiting_devices(family: FamilyScheduler, now: float, report: Report) -> None:
    """Report each device that does not do what it could do at `now`, in trio's time."""
    for device in family.devices.values():
        if not _may_wait(device):
            continue
        state = device.state
        is_due = _is_due(state, now) or _is_early(family, state, now)
        ongoing = any(grant.state is GrantState.ONGOING for grant in state.grants)
        if is_due and (state.sync_while_io or not ongoing):
            report(f"{device.id}: a sync is due, nothing holds it back, and it has not begun")
        action = state.scheduled[0] if state.scheduled else None
        held_back = state.stopping or (is_due and not state.sync_while_io)
        if isinstance(action, Prepare) and action.medium.id == device.medium_id and not held_back:
            report(f"{device.id}: request {action.grant.serial} was promised its medium, and nothing is done for it")


def look_at_waiting_requests(family: FamilyScheduler, report: Report) -> None:
    """Report each request whose media are all usable and whose response has not been offered to its client."""
    for request in family.live:
        if not isinstance(request, Allocation) or request.state is not RequestState.PLANNED:
            continue
        ready = all(grant.state is GrantState.READY for grant in request.grants)
        excluded = any(_excludes_io(grant.device.state) for grant in request.grants)
        outbox = request.client.outbox
        unsent = len(outbox) if isinstance(outbox, ResponseChannel) else 0
        if ready and not excluded and not unsent:
            report(f"{request.client}: all media of its request {request.serial} are ready, and nothing leaves")


def look_at_queue(family: FamilyScheduler, report: Report) -> None:
    """Report each request that waits although it could be placed; nothing may be on its way to the DSS."""
    queued = frozenset(family.queue.in_order())
    for request in family.live:
        if isinstance(request, PlaceableRequest) and request.state is RequestState.QUEUED and request not in queued:
            report(
                f"{request.client}: its request {request.serial} is in no queue, and nobody looks anything up for it"
            )
    # Where media come and go a pass is more than a look.
    if not queued or not isinstance(family.supply, AttachedSupply):
        return
    plain = PlainPass(family, family.supply)
    for request in family.queue.in_order():
        if not plain.gives:
            return
        outcome = plain.decide(request)
        if isinstance(outcome, Placed):
            report(f"{request.client}: its request {request.serial} could be placed, and is not")
            return
        if isinstance(outcome, Waits):
            outcome.keep()


def _may_wait(device: DeviceTask) -> bool:
    """Whether its task, if there is nothing to do, waits for its bell; it has nothing else to wait for."""
    state = device.state
    broken = state.error or state.tainted or state.withheld or state.lost or state.unlocked
    works = state.acting or state.syncing is not None or state.formatting is not None
    return device.settled.is_set() and state.status in _WAITS and not broken and not works


def _is_due(state: DeviceState, now: float) -> bool:
    pending, thresholds = state.to_sync, state.to_sync.thresholds
    if pending.since is None:
        return False
    reached = len(pending) >= thresholds.requests or pending.size >= thresholds.size
    return reached or now >= pending.since + thresholds.age


def _is_early(family: FamilyScheduler, state: DeviceState, now: float) -> bool:
    """Whether a sync is due although no threshold is reached, because waiting gains nothing (any more)."""
    pending, streaming = state.to_sync, state.streaming
    if not len(pending):
        return False
    if streaming is not None and now >= streaming.deadline(pending.extents):
        return True
    company = any(
        grant.state is not GrantState.RESERVED and (grant.kind is RequestKind.WRITE or not state.sync_while_io)
        for grant in state.grants
    )
    return state.adaptive and not company and not family.undecided


def _excludes_io(state: DeviceState) -> bool:
    return state.syncing is not None and not state.sync_while_io
