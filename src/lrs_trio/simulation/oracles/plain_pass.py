"""What a family of directories could give, found out anew and asked one request after the other.

The family itself keeps what it knows from pass to pass, and looks at few. It has to come to the same.
"""

from __future__ import annotations

import trio

from lrs_trio.model import ResourceId
from lrs_trio.scheduling.attached import AttachedSupply
from lrs_trio.scheduling.family import FamilyScheduler
from lrs_trio.scheduling.offers import offers_of
from lrs_trio.scheduling.placement import Outcome, place_format, place_read, place_write
from lrs_trio.scheduling.requests import PlaceableRequest
from lrs_trio.wire.messages import ReadAllocation, WriteAllocation


class PlainPass:
    """One look at everything that `family` has now, through its `supply`."""

    def __init__(self, family: FamilyScheduler, supply: AttachedSupply) -> None:
        self._around = supply.around
        devices, located = family.devices.values(), self._around.recheck.located
        self._offers = offers_of(devices, family.volumes.values(), located, trio.current_time())
        self._by_medium = {offer.medium.id: offer for offer in self._offers}

    @property
    def gives(self) -> bool:
        """Whether anything is left to be given."""
        return any(offer.slots for offer in self._offers)

    def decide(self, request: PlaceableRequest) -> Outcome:
        """What `request` would get; the caller takes it out of what there is for later ones."""
        body = request.body
        if isinstance(body, WriteAllocation):
            excluded = self._around.held_by(request.client) if body.prevent_duplicate else frozenset[ResourceId]()
            settings = self._around.settings()
            first_fit = settings.policy == "first_fit"
            return place_write(body, self._offers, groupings=settings.groupings, excluded=excluded, first_fit=first_fit)
        if isinstance(body, ReadAllocation):
            return place_read(body, self._by_medium, request.absent)
        return place_format(body, self._by_medium, request.absent)
