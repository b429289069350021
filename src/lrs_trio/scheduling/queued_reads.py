"""Which media in drives are wanted by reads that wait for nothing but their turn there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lrs_trio.model import Medium, RequestKind, ResourceId
from lrs_trio.scheduling.library_offers import DriveOffer
from lrs_trio.scheduling.placement import read_error
from lrs_trio.scheduling.queue import RequestQueue
from lrs_trio.wire.messages import ReadAllocation


class QueuedReads:
    """What the reads in `queue` want of the media that `drives` have; found out when it is asked for."""

    def __init__(self, queue: RequestQueue, drives: Sequence[DriveOffer]) -> None:
        self._lines = queue.lines[RequestKind.READ]
        self._drives = drives
        self._held: Mapping[ResourceId, Medium] | None = None
        self._known: dict[ResourceId, bool] = {}

    def __contains__(self, medium: object) -> bool:
        """Whether any of them wants `medium` and needs nothing but media in drives that serve reads."""
        if not isinstance(medium, ResourceId):
            return False
        known = self._known.get(medium)
        if known is None:
            known = self._known[medium] = self._is_wanted(medium)
        return known

    def _is_wanted(self, medium: ResourceId) -> bool:
        line = self._lines.get(medium)
        if line is None:
            return False
        if self._held is None:
            self._held = held_for_reads(self._drives)
        held = self._held
        bodies = (request.body for request in line.requests)
        return any(isinstance(body, ReadAllocation) and medium in wanted_here(body, held) for body in bodies)


def held_for_reads(drives: Sequence[DriveOffer]) -> Mapping[ResourceId, Medium]:
    """The media in drives that serve reads."""
    return {
        drive.medium.id: drive.medium
        for drive in drives
        if drive.medium is not None and drive.serving and RequestKind.READ in drive.dedicated
    }


def wanted_here(request: ReadAllocation, held: Mapping[ResourceId, Medium]) -> list[ResourceId]:
    """The media that `request` wants of those `held`, if it needs no others."""
    named = [held[name] for name in request.media if name in held]
    here = [medium.id for medium in named if read_error(request.operation, medium) is None]
    return here if len(here) >= request.n_required else []
