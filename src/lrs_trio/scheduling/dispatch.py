"""Which drive serves which kinds of requests, where a site shares its drives out (Phobos's `fair_share`). Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from lrs_trio.model import RequestKind, ResourceId
from lrs_trio.scheduling.fair_share import SHARED_UP_TO, Triple, shares
from lrs_trio.scheduling.library_offers import DriveOffer
from lrs_trio.scheduling.placement import ALL_KINDS
from lrs_trio.settings import FairShareSettings

KINDS = (RequestKind.READ, RequestKind.WRITE, RequestKind.FORMAT)
"""In the order of a `Triple`."""

Dedication = dict[ResourceId, frozenset[RequestKind]]

Suited = Mapping[RequestKind, Collection[ResourceId]]
"""By kind of requests: the drives that would do for one that waits for others than its kind has."""


def dedicate(
    drives: Sequence[DriveOffer], queued: Triple, limits: Mapping[str, FairShareSettings], suited: Suited
) -> Dedication:
    """The kinds of requests that each of `drives` serves from now on.

    Args:
        drives: all of the family, with what they are dedicated to now. As much of that stays as can.
        queued: how many reads, writes and formats wait.
        limits: by technology; drives of others, and drives of none, serve all kinds.
        suited: which drives those kinds get instead of others of theirs that are at rest.

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
        _exchange(made, ours, suited)
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


def _exchange(made: Dedication, drives: Sequence[DriveOffer], suited: Suited) -> None:
    """Let drives of one technology change roles, so that kinds have those that are `suited`, and as many as before."""
    for kind, wanted in suited.items():
        lacking = [drive.device for drive in drives if drive.device in wanted and kind not in made[drive.device]]
        given = [d.device for d in drives if d.idle and kind in made[d.device] and d.device not in wanted]
        for theirs, ours in zip(lacking, given, strict=False):
            made[theirs], made[ours] = made[ours], made[theirs]


def _can_give(drives: Sequence[DriveOffer], kind: RequestKind, wanted: Collection[ResourceId]) -> bool:
    """Whether `kind` has a drive to give for one of those `wanted`."""
    return bool(wanted) and any(d.idle and kind in d.dedicated and d.device not in wanted for d in drives)


def _strangeness(drive: DriveOffer, kind: RequestKind) -> int:
    """How little it suits `drive` to serve `kind`: 0 where that goes on there, 2 where something else does."""
    if drive.idle:
        return 1
    at_work = {RequestKind.FORMAT} if drive.formatting else drive.kinds
    return 0 if kind in at_work else 2


@dataclass(slots=True)
class Attempts:
    """What is tried for those who wait for more drives than are there for their kinds, or for others.

    What does not help is not tried again before anything has changed: a kind may be limited by the settings, or what it
    needs be kept for somebody else.
    """

    in_favour: RequestKind | None = None
    """The kind that has all drives for now."""
    suited: Suited = field(default_factory=dict)
    """What is to be exchanged."""
    _in_vain: set[object] = field(default_factory=set)
    _world: object = None

    def forget(self) -> None:
        """Something has changed: what was in vain may not be so any more."""
        self._in_vain.clear()

    def look(self, world: object) -> None:
        """Forget if `world` is another one than before."""
        if world != self._world:
            self._world = world
            self.forget()

    def go_on(
        self, waiting: Mapping[RequestKind, tuple[ResourceId, ...]], drives: Sequence[DriveOffer], *, at_rest: bool
    ) -> bool:
        """Decide what is tried next, and return whether that is anything else than before.

        First it is other drives of the same number. If those do not help, and all drives are `at_rest`, one kind after
        the other gets all of them. `waiting` are the kinds for which somebody waits, the first in the queue first, with
        the drives that would do for one of them, where there are as many for its kind. `drives` are all of them, as a
        pass has left them.
        """
        exchanges = {wish for wish in waiting.items() if wish not in self._in_vain and _can_give(drives, *wish)}
        self._in_vain |= exchanges
        before = self.in_favour
        if not at_rest:
            self.in_favour = None
        elif not exchanges:
            self.in_favour = next((kind for kind in waiting if kind not in self._in_vain), None)
            self._in_vain |= {self.in_favour}
        self.suited = {kind: wanted for kind, wanted in waiting.items() if wanted and self.in_favour in (None, kind)}
        return bool(exchanges) or self.in_favour is not before
