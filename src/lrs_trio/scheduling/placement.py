"""Which medium and which device for which request: pure decisions over plain data (notes 2.5f, 6, 7, 8).

One pass looks at the waiting requests in their order. Each either takes what it needs from the offers,
or waits and claims the slots that it could use, so that nobody behind it takes them (decision 3), or can
never be served and is refused. Nothing is held between two passes: a request that waits holds no device,
so two requests can never wait for each other.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from lrs_trio.errors import LrsError
from lrs_trio.model import AdmStatus, Family, FsStatus, FsType, Medium, ReadOperation, RequestKind, ResourceId
from lrs_trio.record import record
from lrs_trio.wire.messages import Format, ReadAllocation, WriteAllocation, WriteMedium

FILESYSTEM_OF_FAMILY = (FsType.LTFS, FsType.POSIX, FsType.RADOS)
"""By family number: the one filesystem that the family's adapters know."""

ALL_KINDS = frozenset({RequestKind.READ, RequestKind.WRITE, RequestKind.FORMAT})

SEARCH_STEPS = 2000
"""How long to look for media on other volumes, when those that come to mind share one that is too small."""


@dataclass(slots=True, eq=False)
class VolumeOffer:
    """Bytes of one volume: `free` as last measured, `available` less what is written since, reserved or claimed.

    Only what was measured may decide that a request can never be served: the rest is what clients say.
    """

    free: int
    available: int


@dataclass(slots=True, eq=False)
class Offer:
    """What one device can give in this pass; taking and claiming lower it.

    `slots` is how many grants may be added now, `load` how many there are. `kinds` says which kinds may be
    added; both, unless kinds do not mix. `located` keeps writes away for now, because a client has been told
    that this medium is here to be read. A `written` medium is not empty any more, or will not be: the DSS learns that
    when it is synced. `refusal` says why a device does not serve, where that is known. `place` is its
    place among the offers of a family: the first one goes first where nothing else decides.
    """

    device: ResourceId
    medium: Medium
    volume: VolumeOffer
    serving: bool
    idle: bool
    slots: int
    load: int
    mixes: bool = True
    kinds: frozenset[RequestKind] = frozenset({RequestKind.READ, RequestKind.WRITE})
    formatting: bool = False
    located: bool = False
    refusal: LrsError | None = None
    place: int = 0
    written: bool = False

    def open_to(self, kind: RequestKind) -> bool:
        return self.slots > 0 and kind in self.kinds and not (self.located and kind is RequestKind.WRITE)

    def takes_write(self, *, empty: bool) -> bool:
        """Whether a write may have the medium now, also one that wants it `empty`."""
        return self.open_to(RequestKind.WRITE) and not (empty and self.written)

    def take(self, kind: RequestKind, reserve: int) -> None:
        self.written = self.written or kind is RequestKind.WRITE
        self.slots -= 1
        self.load += 1
        self.idle = False
        self.volume.available -= reserve
        if not self.mixes:
            self.kinds = frozenset({kind})

    def claim(self, reserve: int, *, exclusive: bool = False) -> None:
        """Keep one slot for an earlier request; all of them where any newcomer could delay it."""
        self.slots = max(self.slots - 1, 0) if self.mixes and not exclusive else 0
        self.idle = False
        self.volume.available -= reserve


class Take(Protocol):
    """One medium chosen, and the device that is to have it; `reserve` bytes are set aside on it."""

    @property
    def device(self) -> ResourceId: ...

    @property
    def medium(self) -> Medium: ...

    @property
    def reserve(self) -> int: ...

    def take(self, kind: RequestKind) -> None:
        """Take it out of what there is for later requests of this pass."""
        ...


class Claim(Protocol):
    """Something that a request which waits keeps from those behind it."""

    def claim(self) -> None:
        """Take it out of what there is for later requests of this pass."""
        ...


@record(frozen=True, slots=True)
class OfferTake:
    """The medium of one offer, taken or claimed; `exclusive` claims all slots of its device."""

    offer: Offer
    reserve: int = 0
    exclusive: bool = False

    @property
    def device(self) -> ResourceId:
        return self.offer.device

    @property
    def medium(self) -> Medium:
        return self.offer.medium

    def take(self, kind: RequestKind) -> None:
        self.offer.take(kind, self.reserve)

    def claim(self) -> None:
        self.offer.claim(self.reserve, exclusive=self.exclusive)


@record(frozen=True, slots=True)
class SpaceClaim:
    """Bytes of a volume, kept without a slot."""

    volume: VolumeOffer
    size: int

    def claim(self) -> None:
        self.volume.available -= self.size


@record(frozen=True, slots=True)
class Placed:
    takes: tuple[Take, ...]

    def take(self, kind: RequestKind) -> None:
        """Take the media out of what there is for later requests."""
        for take in self.takes:
            take.take(kind)


@record(frozen=True, slots=True)
class Waits:
    """Not now. The claims are what must not be given to later requests.

    `unload` names idle drives whose medium has to be taken out for that one to be served: nothing else that ends
    will help. `fetch` names media to be brought into idle drives meanwhile. One that is not `in_turn` waits for drives
    to be shared out anew, and those behind need not wait for it.
    """

    claims: tuple[Claim, ...]
    unload: tuple[ResourceId, ...] = ()
    fetch: tuple[tuple[ResourceId, Medium], ...] = ()
    in_turn: bool = True

    def keep(self) -> None:
        """Take the claims out of what there is for later requests."""
        for claim in self.claims:
            claim.claim()


@record(frozen=True, slots=True)
class Never:
    error: LrsError


Outcome = Placed | Waits | Never

Absent = Mapping[ResourceId, LrsError]
"""Of media that are in no device here: why they cannot be had."""


def place_write(
    request: WriteAllocation,
    offers: Sequence[Offer],
    *,
    groupings: bool = False,
    excluded: frozenset[ResourceId] = frozenset(),
    first_fit: bool = False,
) -> Outcome:
    """Choose one medium for each of the request's, all different (note 7, decision 7).

    `groupings` tells whether the family honours them; a grouping is a wish that gives way when no
    medium that bears it can be had now. `excluded` names devices that may not be chosen. Among equally busy media
    that have room for all of a write the one with the least is taken, with `first_fit` the first in the order of
    `offers`.
    """
    if groupings and request.grouping:
        grouped = [offer for offer in offers if request.grouping in offer.medium.groupings]
        outcome = _place_write(request, grouped, excluded, first_fit)
        if isinstance(outcome, Placed):
            return outcome
    return _place_write(request, offers, excluded, first_fit)


def _place_write(
    request: WriteAllocation, offers: Sequence[Offer], excluded: frozenset[ResourceId], first_fit: bool
) -> Outcome:
    prospects = prospects_of(request, offers, excluded, first_fit=first_fit)
    return prospects if isinstance(prospects, Never) else prospects.choose(request.media, first_fit=first_fit)


@dataclass(frozen=True, slots=True)
class Prospects:
    """What a write can hope for: for each medium wanted the offers that could serve it, and whether in one piece.

    Offers without a slot may be left out, unless their volume has to be kept from others.
    """

    served: Sequence[Sequence[Offer]]
    whole: bool

    def choose(self, wanted: Sequence[WriteMedium], *, first_fit: bool) -> Placed | Waits:
        """The best there is now, or what is kept until there is more."""
        open_now = [
            [offer for offer in candidates if offer.takes_write(empty=medium.empty_medium)]
            for candidates, medium in zip(self.served, wanted, strict=True)
        ]
        takes = _assign(open_now, wanted, _Fit(_available, whole=self.whole, first=first_fit))
        chosen = tuple(take for take in takes if take is not None)
        if len(chosen) == len(wanted):
            return Placed(chosen)
        missing = [slot for slot, take in enumerate(takes) if take is None]
        return _wait_with(chosen, missing, self.served, wanted, whole=self.whole)


def prospects_of(
    request: WriteAllocation, offers: Sequence[Offer], excluded: frozenset[ResourceId], *, first_fit: bool
) -> Prospects | Never:
    """Whether a write could be served if nothing else went on, and then how."""
    wanted = request.media
    if len(wanted) > len(offers):
        return Never(LrsError(errno.ENOSPC, f"{len(wanted)} media are wanted, this host has {len(offers)}"))
    suitable = [[offer for offer in offers if may_write(offer.medium, medium, request.library)] for medium in wanted]
    refusal = _no_medium(suitable) or _no_space(request, suitable)
    if refusal is not None:
        return Never(refusal)
    served = [[o for o in candidates if o.serving and o.device not in excluded] for candidates in suitable]
    if None in match(served, lambda offers, _: offers):
        return Never(LrsError(errno.ENODEV, "no usable device holds a medium that this write could go to"))
    # A write is only split if no medium has room for all of it, once what others have reserved is released.
    whole = None not in _assign(served, wanted, _Fit(_free, whole=True, first=first_fit))
    if request.no_split and not whole:
        return Never(LrsError(errno.ENOSPC, "no medium in a usable device has room for all of this write"))
    # What would not fit if nothing else went on need not wait for anything to end.
    if not whole and None in _assign(served, wanted, _Fit(_free, whole=False, first=first_fit)):
        return Never(LrsError(errno.ENOSPC, "not enough media in usable devices have room for a part of this write"))
    return Prospects(served, whole)


def _wait_with(
    chosen: Sequence[OfferTake],
    missing: Sequence[int],
    served: Sequence[Sequence[Offer]],
    wanted: Sequence[WriteMedium],
    *,
    whole: bool,
) -> Waits:
    """What a write that waits keeps from those behind it.

    That is what it has chosen, with room for the largest part that could go there in the end, and for the
    slots in `missing` every device that could come to serve them: which will be the first is not known.
    Space is claimed once a volume, also where a device has no slot to claim but shares its volume.
    """
    claims = {take.device: OfferTake(take.offer, _largest(take.offer, served, wanted)) for take in chosen}
    volumes = {id(take.offer.volume) for take in chosen}
    space: list[SpaceClaim] = []
    for slot in missing:
        size, empty = wanted[slot].size, wanted[slot].empty_medium
        for offer in served[slot]:
            useful = offer.volume.free >= size if whole else offer.volume.free > 0
            # What is kept for readers is claimed by no writer: newcomers may read there.
            if offer.device in claims or not useful or offer.located or (empty and offer.written):
                continue
            if offer.slots > 0:
                claims[offer.device] = OfferTake(offer)
            if id(offer.volume) not in volumes:
                volumes.add(id(offer.volume))
                space.append(SpaceClaim(offer.volume, min(size, max(offer.volume.available, 0))))
    return Waits((*claims.values(), *space))


def _largest(offer: Offer, served: Sequence[Sequence[Offer]], wanted: Sequence[WriteMedium]) -> int:
    sizes = [medium.size for medium, candidates in zip(wanted, served, strict=True) if offer in candidates]
    return min(max(sizes, default=0), max(offer.volume.available, 0))


def place_read(request: ReadAllocation, offers: Mapping[ResourceId, Offer], absent: Absent) -> Outcome:
    """Choose `n_required` of the media, in the client's order as far as they are free (note 6).

    `offers` are those of the media in devices; `absent` says of others why they cannot be read.
    """
    refusal, usable = _readable(request, offers, absent)
    if refusal is not None:
        return Never(refusal)
    ready = [offer for offer in usable if offer.open_to(RequestKind.READ)][: request.n_required]
    takes = tuple(OfferTake(offer) for offer in ready)
    if len(takes) == request.n_required:
        return Placed(takes)
    # Which of the others will be the first to come free for a read is not known.
    return Waits(takes + tuple(OfferTake(offer) for offer in usable if offer.slots > 0 and offer not in ready))


def read_refusal(request: ReadAllocation, offers: Mapping[ResourceId, Offer], absent: Absent) -> LrsError | None:
    """Why a read can never be served, if so; as for `place_read`."""
    return _readable(request, offers, absent)[0]


def _readable(
    request: ReadAllocation, offers: Mapping[ResourceId, Offer], absent: Absent
) -> tuple[LrsError | None, list[Offer]]:
    """Why a read can never be served, if so, and the offers that it could be served with."""
    usable: list[Offer] = []
    first_error: LrsError | None = None
    for medium in request.media:
        offer = offers.get(medium)
        error = absent.get(medium, no_device(medium)) if offer is None else _read_error(request.operation, offer)
        if error is None and offer is not None:
            usable.append(offer)
        first_error = first_error or error
    if len(usable) < request.n_required:
        return first_error or LrsError(errno.EINVAL, "more media are required than were named"), usable
    return None, usable


def place_format(request: Format, offers: Mapping[ResourceId, Offer], absent: Absent) -> Outcome:
    """The device that holds the medium, once nothing else goes on there (note 5); `absent` as for `place_read`."""
    refusal = format_refusal(request, offers, absent)
    if refusal is not None:
        return Never(refusal)
    offer = offers[request.medium]
    if offer.idle and offer.slots > 0:
        return Placed((OfferTake(offer),))
    return Waits((OfferTake(offer, exclusive=True),))


def format_refusal(request: Format, offers: Mapping[ResourceId, Offer], absent: Absent) -> LrsError | None:
    """Why a format can never be done, if so; as for `place_format`."""
    offer = offers.get(request.medium)
    if offer is None:
        return absent.get(request.medium) or no_device(request.medium)
    error = format_error(request, offer.medium)
    if error is None and offer.formatting:
        error = being_formatted(request.medium)
    if error is None and not offer.serving:
        error = busy_error(offer.refusal) or no_device(request.medium)
    return error


def read_error(operation: ReadOperation, medium: Medium) -> LrsError | None:
    """Why `medium` may not be read or deleted from, if so."""
    if medium.fs_status is FsStatus.IMPORTING and operation is ReadOperation.READ:
        return None
    allowed = medium.get if operation is ReadOperation.READ else medium.delete
    if not allowed:
        flag = "get" if operation is ReadOperation.READ else "delete"
        return LrsError(errno.EPERM, f"{medium.id}: its access flags do not allow {flag}")
    if medium.fs_status is FsStatus.BLANK:
        return LrsError(errno.EINVAL, f"{medium.id}: is blank; format it first")
    if medium.adm_status is not AdmStatus.UNLOCKED:
        return LrsError(errno.EPERM, f"{medium.id}: is {medium.adm_status.value}; unlock it first")
    return None


def is_readable(medium: Medium) -> bool:
    """Whether nobody is refused who wants to read or to delete what is on `medium`."""
    return all(read_error(operation, medium) is None for operation in ReadOperation)


def format_error(request: Format, medium: Medium) -> LrsError | None:
    """Why `medium` may not be formatted as `request` says, if so. Only tapes can be forced."""
    if request.fs_type is not FILESYSTEM_OF_FAMILY[medium.id.family]:
        return LrsError(errno.EINVAL, f"{medium.id}: this family cannot be formatted as {request.fs_type.label}")
    forced = request.force and medium.id.family is Family.TAPE and medium.fs_status is not FsStatus.IMPORTING
    if medium.fs_status is not FsStatus.BLANK and not forced:
        return LrsError(errno.EINVAL, f"{medium.id}: is {medium.fs_status.value}, only a blank medium is formatted")
    return None


def being_formatted(medium: ResourceId) -> LrsError:
    return LrsError(errno.EINVAL, f"{medium}: is being formatted already")


def may_write(medium: Medium, wanted: WriteMedium, library: str | None) -> bool:
    """Whether `medium` is one that was `wanted`, however much room it has."""
    return suits(medium, wanted.tags, wanted.empty_medium, library)


def suits(medium: Medium, tags: tuple[str, ...], empty: bool, library: str | None) -> bool:
    """Whether `medium` can be written, bears all `tags`, is `empty` and in `library` if that is asked for."""
    return (
        medium.put
        and medium.adm_status is AdmStatus.UNLOCKED
        and (medium.fs_status is FsStatus.EMPTY or (medium.fs_status is FsStatus.USED and not empty))
        and (library is None or medium.id.library == library)
        and (not tags or set(tags) <= set(medium.tags))
    )


def match(
    candidates: Sequence[Sequence[Offer]], order: Callable[[Sequence[Offer], int], Iterable[Offer]]
) -> list[Offer | None]:
    """Give every slot an offer of its own, as many as possible, each the best in `order` that this leaves.

    Augmenting paths: taking the best for one slot after the other can fail where an assignment exists,
    and a request that looks unservable would wait for ever.
    """
    taken: dict[ResourceId, int] = {}
    chosen: list[Offer | None] = [None] * len(candidates)
    ordered = [list(order(offers, slot)) for slot, offers in enumerate(candidates)]

    def assign(slot: int, seen: set[ResourceId]) -> bool:
        """Take a free offer, else one whose slot can move to another that this search has not seen."""
        for offer in ordered[slot]:
            if offer.device not in taken:
                return take(slot, offer)
        for offer in ordered[slot]:
            if offer.device not in seen:
                seen.add(offer.device)
                if assign(taken[offer.device], seen):
                    return take(slot, offer)
        return False

    def take(slot: int, offer: Offer) -> bool:
        taken[offer.device] = slot
        chosen[slot] = offer
        return True

    for slot in range(len(candidates)):
        assign(slot, set())
    return chosen


def _no_medium(suitable: Sequence[Sequence[Offer]]) -> LrsError | None:
    if None not in match(suitable, lambda offers, _: offers):
        return None
    return LrsError(errno.ENOSPC, "there are not enough unlocked, formatted media that fit this write and are not full")


def _no_space(request: WriteAllocation, suitable: Sequence[Sequence[Offer]]) -> LrsError | None:
    """Volumes count once, however many directories share them."""
    everywhere = {id(offer.volume): offer.volume.free for candidates in suitable for offer in candidates}
    shortages = [(sum(medium.size for medium in request.media), sum(everywhere.values()))]
    for medium, candidates in zip(request.media, suitable, strict=True):
        volumes = {id(offer.volume): offer.volume.free for offer in candidates}
        free = max(volumes.values(), default=0) if request.no_split else sum(volumes.values())
        shortages.append((max(medium.size, 1), free))
    for size, free in shortages:
        if free < size:
            return LrsError(errno.ENOSPC, f"{size} bytes are wanted, {free} bytes are free on the media that fit")
    return None


def _free(offer: Offer) -> int:
    return offer.volume.free


def _available(offer: Offer) -> int:
    return offer.volume.available


@dataclass(frozen=True, slots=True)
class _Fit:
    """What fits, and what fits best: `room` tells the bytes that an offer has for one more write.

    If `whole`, a slot needs room for all its bytes; else it takes what there is. `first` prefers the first offer
    to the one with the least room.
    """

    room: Callable[[Offer], int]
    whole: bool
    first: bool

    def order(self, candidates: Sequence[Offer], wanted: WriteMedium) -> list[Offer]:
        """The least busy device first, then the best fit; of parts, the largest."""
        free = [offer for offer in candidates if self.room(offer) > 0]
        fits = [offer for offer in free if self.room(offer) >= wanted.size]
        best = sorted(fits, key=lambda offer: (offer.load, 0 if self.first else self.room(offer)))
        if self.whole:
            return best
        # Those that fit may all be needed for other slots.
        parts = [offer for offer in free if self.room(offer) < wanted.size]
        return best + sorted(parts, key=lambda offer: -self.room(offer))


def _assign(candidates: Sequence[Sequence[Offer]], wanted: Sequence[WriteMedium], fit: _Fit) -> list[OfferTake | None]:
    """A medium with room for each slot, all different, and no volume promised beyond its room.

    Slots that cannot be filled together with the others are ``None``.
    """
    preferred = match(candidates, lambda offers, slot: fit.order(offers, wanted[slot]))
    takes = _reserve(preferred, wanted, fit)
    if None not in preferred and None in takes:
        # Distinct devices were found, but they share a volume that is too small: look for another way.
        search = _Search(candidates, wanted, fit)
        if search.fill(0):
            return _reserve(search.chosen, wanted, fit)
    return takes


def _reserve(chosen: Sequence[Offer | None], wanted: Sequence[WriteMedium], fit: _Fit) -> list[OfferTake | None]:
    """What each slot sets aside, in order, as far as the room of its volume goes."""
    left: dict[int, int] = {}
    takes: list[OfferTake | None] = []
    for offer, medium in zip(chosen, wanted, strict=True):
        if offer is None:
            takes.append(None)
            continue
        volume = id(offer.volume)
        rest = left.setdefault(volume, fit.room(offer))
        if rest <= 0 or (fit.whole and rest < medium.size):
            takes.append(None)
            continue
        left[volume] = rest - min(medium.size, rest)
        takes.append(OfferTake(offer, min(medium.size, rest)))
    return takes


@dataclass(slots=True)
class _Search:
    """Tries one slot after the other, with what is left of every volume; bounded, because that can take for ever."""

    candidates: Sequence[Sequence[Offer]]
    wanted: Sequence[WriteMedium]
    fit: _Fit
    steps: int = SEARCH_STEPS
    chosen: list[Offer | None] = field(default_factory=list)
    left: dict[int, int] = field(default_factory=dict)

    def fill(self, slot: int) -> bool:
        if slot == len(self.wanted):
            return True
        size = self.wanted[slot].size
        for offer in self.fit.order(self.candidates[slot], self.wanted[slot]):
            volume = id(offer.volume)
            rest = self.left.setdefault(volume, self.fit.room(offer))
            if offer in self.chosen or rest <= 0 or (self.fit.whole and rest < size):
                continue
            if self.steps == 0:
                return False
            self.steps -= 1
            self.chosen.append(offer)
            self.left[volume] = rest - min(size, rest)
            if self.fill(slot + 1):
                return True
            self.chosen.pop()
            self.left[volume] = rest
        return False


def _read_error(operation: ReadOperation, offer: Offer) -> LrsError | None:
    error = read_error(operation, offer.medium)
    return error or (None if offer.serving else offer.refusal or no_device(offer.medium.id))


def busy_error(refusal: LrsError | None) -> LrsError | None:
    """What a format is told where a read is told that another host has the medium."""
    if refusal is not None and refusal.errno == errno.EALREADY:
        return LrsError(errno.EBUSY, str(refusal.strerror))
    return refusal


def no_device(medium: ResourceId) -> LrsError:
    """What is known of `medium` when nothing is: no device here has it."""
    return LrsError(errno.ENODEV, f"{medium}: is in no usable device of this host")
