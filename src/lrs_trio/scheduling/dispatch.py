"""Which drive serves which kinds of requests, where a site shares its drives out (Phobos's `fair_share`). Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lrs_trio.model import RequestKind, ResourceId
from lrs_trio.scheduling.fair_share import SHARED_UP_TO, Triple, shares
from lrs_trio.scheduling.library_offers import DriveOffer
from lrs_trio.scheduling.placement import ALL_KINDS
from lrs_trio.settings import FairShareSettings

KINDS = (RequestKind.READ, RequestKind.WRITE, RequestKind.FORMAT)
"""In the order of a `Triple`."""

Dedication = dict[ResourceId, frozenset[RequestKind]]


def dedicate(drives: Sequence[DriveOffer], queued: Triple, limits: Mapping[str, FairShareSettings]) -> Dedication:
    """The kinds of requests that each of `drives` serves from now on.

    Args:
        drives: all of the family, with what they are dedicated to now. As much of that stays as can.
        queued: how many reads, writes and formats wait.
        limits: by technology; drives of others, and drives of none, serve all kinds.

    Returns:
        One entry for each drive. What goes on in a drive is not looked at for long: it ends in its time.
    """
    made = {drive.device: drive.dedicated if drive.technology in limits else ALL_KINDS for drive in drives}
    if not any(queued):
        return made
    for technology, limit in limits.items():
        ours = [drive for drive in drives if drive.technology == technology and drive.serving]
        parts = shares(len(ours), queued, limit.min, limit.max)
        targets = {kind: part for kind, part, waiting in zip(KINDS, parts, queued, strict=True) if waiting}
        made |= _share(ours, targets) if len(ours) <= SHARED_UP_TO else _divide(ours, targets)
    return made


def _share(drives: Sequence[DriveOffer], targets: Mapping[RequestKind, int]) -> Dedication:
    """A drive may serve several kinds. Kinds without a target keep what they have: nobody is in their way."""
    made = {drive: set(drive.dedicated) for drive in drives}
    for kind, target in targets.items():
        # Those that it may keep first: there it is at work, or alone.
        order = sorted(drives, key=lambda drive: (kind not in made[drive], _strangeness(drive, kind), len(made[drive])))
        for number, drive in enumerate(order):
            (made[drive].add if number < target else made[drive].discard)(kind)
    return {drive.device: frozenset(kinds) for drive, kinds in made.items()}


def _divide(drives: Sequence[DriveOffer], targets: Mapping[RequestKind, int]) -> Dedication:
    """A drive serves one kind. Kinds without a target keep what is not needed elsewhere."""
    owners = {drive: next(iter(drive.dedicated)) if len(drive.dedicated) == 1 else None for drive in drives}
    for kind, target in targets.items():
        own = [drive for drive in drives if owners[drive] is kind]
        for drive in sorted(own, key=lambda drive: _strangeness(drive, kind))[target:]:
            owners[drive] = None
    for kind, target in targets.items():
        lacking = target - list(owners.values()).count(kind)
        spare = [drive for drive in drives if owners[drive] not in targets]
        spare.sort(key=lambda drive: (owners[drive] is not None, _strangeness(drive, kind)))
        for drive in spare[:lacking]:
            owners[drive] = kind
    return {drive.device: frozenset() if owner is None else frozenset({owner}) for drive, owner in owners.items()}


def _strangeness(drive: DriveOffer, kind: RequestKind) -> int:
    """How little it suits `drive` to serve `kind`: 0 where that goes on there, 2 where something else does."""
    if drive.idle:
        return 1
    at_work = {RequestKind.FORMAT} if drive.formatting else drive.kinds
    return 0 if kind in at_work else 2
