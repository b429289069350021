"""Whether the daemon keeps only what somebody still needs: no table grows beyond what is outstanding."""

from __future__ import annotations

from collections.abc import Callable

from lrs_trio.devices.device import DeviceTask
from lrs_trio.devices.grant import Grant, GrantState
from lrs_trio.events import Event, EventKind
from lrs_trio.scheduling.family import FamilyScheduler
from lrs_trio.scheduling.requests import Allocation, FamilyRequest, Held, NotifyRequest, RequestState
from lrs_trio.simulation.oracles.device_rules import Families, Report, grants_of


class TableRules:
    """Hears who connects and leaves, and looks at the tables of `families`.

    `most_requests` may be unanswered for one connection.
    """

    def __init__(self, families: Families, most_requests: int, report: Report) -> None:
        self.connections: dict[str, None] = {}
        """The names of those that are open."""
        self._families = families
        self._most_requests = most_requests
        self._report = report

    def tell(self, event: Event) -> None:
        if event.kind is EventKind.CONNECTION_OPENED:
            self.connections[event.client] = None
        elif event.kind is EventKind.CONNECTION_CLOSED:
            del self.connections[event.client]

    def look(self) -> None:
        """Check between two steps of tasks."""
        for family in self._families().values():
            for request in family.live:
                self._look_at_request(request)
            for request in family.queue.in_order():
                if request not in family.live or request.state is not RequestState.QUEUED:
                    self._report(f"{request.client}: its request {request.serial} is queued, but {request.state.value}")
            for grant in grants_of(family):
                self._look_at_grant(family, grant)

    def look_at_rest(self, open_releases: int) -> None:
        """Check when nothing runs: then `open_releases` are all that anything waits for."""
        if open_releases:
            return
        for family in self._families().values():
            for device in family.devices.values():
                if len(device.state.to_sync) or device.state.unsettled:
                    self._report(f"{device.id}: keeps what belongs to a release, and there is none")

    def look_at_end(self, waiting_for_dss: int) -> None:
        """Check that nothing is left after a drain in order."""
        for client in self.connections:
            self._report(f"{client}: its connection is not closed at the end")
        if waiting_for_dss:
            self._report(f"{waiting_for_dss} operations still wait for the DSS at the end")
        for family in self._families().values():
            for request in family.live:
                self._report(f"{request.client}: its request {request.serial} is {request.state.value} at the end")
            if len(family.queue):
                self._report(f"family {family.family.label}: {len(family.queue)} requests are queued at the end")
            for device in family.devices.values():
                self._look_at_remains(device)

    def _look_at_request(self, request: FamilyRequest) -> None:
        client = request.client
        if request.ended:
            self._report(f"{client}: its request {request.serial} is {request.state.value} and not forgotten")
        # News stays news when its client has gone.
        elif str(client) not in self.connections and not isinstance(request, NotifyRequest):
            self._report(f"{client}: its request {request.serial} is {request.state.value}, but it has left")
        if len(client.waiting) > self._most_requests:
            self._report(f"{client}: has {len(client.waiting)} requests unanswered, {self._most_requests} are allowed")

    def _look_at_grant(self, family: FamilyScheduler, grant: Grant) -> None:
        holder = grant.holder
        if isinstance(holder, Allocation):
            if holder not in family.live or grant not in holder.grants:
                self._report(f"{grant.device.id}: is promised to request {grant.serial}, which does not know of it")
        elif isinstance(holder, Held):
            if str(holder.client) not in self.connections:
                self._report(f"{grant.device.id}: {holder.client} holds {grant.medium} and has left")
            elif not holder.client.holdings.holds(grant.medium):
                self._report(f"{grant.device.id}: {holder.client} holds {grant.medium} and does not know it")
            elif any(held.state is GrantState.ENDED for held in holder.client.holdings.all()):
                self._report(f"{holder.client}: still counts as the holder of what has ended")

    def _look_at_remains(self, device: DeviceTask) -> None:
        state = device.state
        remains: dict[str, Callable[[], object]] = {
            "is still running": lambda: not device.ended.is_set(),
            "has grants": lambda: state.grants,
            "has space reserved": lambda: state.volume.reserved,
            "has a format": lambda: state.formatting is not None,
            "has releases to sync": lambda: len(state.to_sync),
            "has releases that are not in the books": lambda: state.unsettled,
            "has locks": lambda: device.locks,
        }
        for what, there in remains.items():
            if there():
                self._report(f"{device.id}: {what} after the drain")
