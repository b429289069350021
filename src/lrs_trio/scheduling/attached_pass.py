"""One pass over the queue of a family whose media never leave their devices.

It does what a look at every request in order would do (decisions 2 and 3), without looking at those that can get
nothing: it goes along the heads of the lines that something is open for. Whether requests can ever be served is asked
apart from that, for it does not depend on what a pass has given.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import count
from math import inf

from lrs_trio.model import RequestKind, ResourceId
from lrs_trio.scheduling.client import Client
from lrs_trio.scheduling.offers import KeptOffers, View
from lrs_trio.scheduling.placement import (
    Never,
    Offer,
    OfferTake,
    Outcome,
    Placed,
    Prospects,
    SpaceClaim,
    VolumeOffer,
    Waits,
    format_refusal,
    is_readable,
    place_format,
    place_read,
    place_write,
    prospects_of,
    read_refusal,
)
from lrs_trio.scheduling.queue import Demand, Line, RequestQueue, sizes_of
from lrs_trio.scheduling.ranked import Rank
from lrs_trio.scheduling.requests import PlaceableRequest
from lrs_trio.scheduling.supply import Surroundings
from lrs_trio.wire.messages import ReadAllocation, WriteAllocation, WriteMedium

MOST_IN_VAIN = 16
"""How many writes of a line are looked at in one pass although something like the first of them has found nothing."""

LOOKS_PER_STEP = 64
"""How many requests are decided in one step where there are few devices; where there are many each takes longer."""

_Excluded = frozenset[ResourceId]


@dataclass(slots=True, eq=False)
class _Standing:
    """How a line fares in this pass."""

    line: Line
    offer: Offer | None = None
    """Of a line for one medium."""
    views: tuple[View, ...] = ()
    """Of a line of writes: whose offers it could use."""
    in_vain: tuple[int, ...] | None = None
    """The bytes of the smallest write that waits and has found nothing open to keep."""
    skipped: int = 0
    closed: bool = False


@dataclass(slots=True)
class AttachedPass:
    """One pass over `queue` with what `offers` has, less what it gives and keeps. `now` tells the time."""

    offers: KeptOffers
    queue: RequestQueue
    around: Surroundings
    now: Callable[[], float]
    _heap: list[tuple[int, Rank, int, _Standing, PlaceableRequest]] = field(default_factory=list)
    _numbers: count[int] = field(default_factory=count)
    _turns: dict[RequestKind, int] = field(default_factory=dict)
    """By kind: the turn of the last one that was looked at; those behind cannot have an earlier one."""
    _current: _Standing | None = None
    _decided: set[PlaceableRequest] = field(default_factory=set)
    """Those that stand in several lines."""

    @property
    def world(self) -> object:
        return self.offers.version

    @property
    def looks_per_step(self) -> float:
        return max(LOOKS_PER_STEP * 64 // (64 + len(self.offers.by_medium)), 4)

    def turns(self) -> Iterator[PlaceableRequest | None]:
        for standing in self._open_lines():
            self._next(standing, None)
            yield None
        while self._heap and self.offers.open:
            turn, rank, _, standing, request = heappop(self._heap)
            self._turns[request.kind] = max(turn, self._turns.get(request.kind, 0))
            if not self._is_open(standing):
                continue
            if request in self.queue and request not in self._decided:
                self._current = standing
                in_vain = self._waits_in_vain(standing, request)
                yield None if in_vain else request
            self._next(standing, rank)

    def decide(self, request: PlaceableRequest) -> Outcome:
        while True:
            outcome = self._decide(request)
            if not isinstance(outcome, Placed):
                return outcome
            stale = [take for take in outcome.takes if isinstance(take, OfferTake) and self._is_stale(take, request)]
            if not stale:
                return outcome
            for take in stale:
                take.offer.slots = 0
                self.offers.lowered(take.offer)
            # What it can do now is for the next pass to find out.
            self.around.context.changed()

    def apply(self, request: PlaceableRequest, outcome: Placed | Waits) -> None:
        if isinstance(outcome, Placed):
            outcome.take(request.kind)
            for take in outcome.takes:
                if isinstance(take, OfferTake):
                    self.offers.lowered(take.offer)
            return
        outcome.keep()
        nothing_kept = True
        for claim in outcome.claims:
            if isinstance(claim, OfferTake):
                nothing_kept = False
                self.offers.lowered(claim.offer)
            elif isinstance(claim, SpaceClaim):
                self.offers.lowered_volume(claim.volume)
        if len(request.media) > 1:
            self._decided.add(request)
        if nothing_kept and isinstance(request.body, WriteAllocation) and self._current is not None:
            self._found_nothing(self._current, request.body)

    def judge(self, request: PlaceableRequest) -> Never | None:
        body = request.body
        if isinstance(body, WriteAllocation):
            excluded = self._excluded(request, body)
            if self._is_surely_whole(self._views(body, None), sizes_of(body), excluded):
                return None
            prospects = prospects_of(body, self.offers.all(), excluded, first_fit=self._first_fit)
            return prospects if isinstance(prospects, Never) else None
        if isinstance(body, ReadAllocation):
            error = read_refusal(body, self.offers.by_medium, request.absent)
        else:
            error = format_refusal(body, self.offers.by_medium, request.absent)
        return None if error is None else Never(error)

    def is_fine(self, line: Line) -> bool:
        wanted = line.wants
        if isinstance(wanted, Demand):
            views = self._views_of(wanted)
            return wanted.client is None and self._is_surely_whole(views, line.largest, _Excluded())
        offer = self.offers.by_medium.get(wanted)
        return line.kind is RequestKind.READ and offer is not None and offer.serving and is_readable(offer.medium)

    # Who is looked at.

    def _open_lines(self) -> Iterator[_Standing]:
        lines, offers = self.queue.lines, self.offers
        for kind in (RequestKind.READ, RequestKind.FORMAT):
            waiting = lines[kind]
            if len(waiting) < len(offers.open):
                for wanted, line in tuple(waiting.items()):
                    offer = offers.by_medium.get(wanted) if isinstance(wanted, ResourceId) else None
                    if offer is not None and offer.slots > 0:
                        yield _Standing(line, offer)
            elif waiting:
                for offer in tuple(offers.open):
                    found = waiting.get(offer.medium.id)
                    if found is not None:
                        yield _Standing(found, offer)
        for wanted, line in tuple(lines[RequestKind.WRITE].items()):
            if isinstance(wanted, Demand):
                yield _Standing(line, views=tuple(dict.fromkeys(self._views_of(wanted))))

    def _is_open(self, standing: _Standing) -> bool:
        """Whether any request of a line could take or keep anything."""
        if standing.closed:
            return False
        if standing.offer is not None:
            return standing.offer.slots > 0
        # Where a write finds no slot it still keeps its bytes, if others could take them.
        return any(offer.volume in view.volumes for view in standing.views for offer in self.offers.open)

    def _next(self, standing: _Standing, after: Rank | None) -> None:
        found = standing.line.requests.first(after)
        if found is not None:
            rank, request = found
            turn = max(self.queue.turn(request.kind, rank), self._turns.get(request.kind, 0))
            heappush(self._heap, (turn, rank, next(self._numbers), standing, request))

    def _waits_in_vain(self, standing: _Standing, request: PlaceableRequest) -> bool:
        """Whether a write finds nothing because a smaller one of its line has not; then it keeps its bytes."""
        body, least = request.body, standing.in_vain
        if least is None or not isinstance(body, WriteAllocation):
            return False
        sizes = sizes_of(body)
        if any(size < bound for size, bound in zip(sizes, least, strict=True)):
            return False
        if any(least) and not self._is_surely_whole(standing.views, sizes, self._excluded_from(standing)):
            return False
        self._pass_by(standing, max(sizes))
        return True

    def _found_nothing(self, standing: _Standing, body: WriteAllocation) -> None:
        """Remember from how many bytes on the writes of a line wait in vain, now that `body` does."""
        sizes, known = sizes_of(body), standing.in_vain
        if any(view.wish.empty for view in standing.views):
            # It may be that a medium is written, of which no bytes are kept from others: the next is looked at, too.
            self._pass_by(standing, 0)
            return
        if self._is_surely_whole(standing.views, sizes, self._excluded_from(standing)):
            standing.in_vain = sizes if known is None else tuple(map(min, sizes, known))
        elif len(sizes) == 1:
            # Not even for a part of it there is anything.
            standing.in_vain = (0,)
        self._pass_by(standing, 0)

    def _pass_by(self, standing: _Standing, size: int) -> None:
        """One more of a line has found nothing; `size` bytes are kept for it where others could take them."""
        standing.skipped += 1
        if standing.skipped >= MOST_IN_VAIN:
            # Nobody looks at those behind any more: all that they ask for is kept.
            standing.closed, size = True, standing.line.total
        for volume in self._contested(standing.views) if size else ():
            if standing.closed or volume.free >= size:
                volume.available -= min(size, max(volume.available, 0))
                self.offers.lowered_volume(volume)

    def _contested(self, views: Sequence[View]) -> dict[VolumeOffer, None]:
        """The volumes that others can still get something of, on devices that are not in `views`."""
        return dict.fromkeys(
            offer.volume
            for offer in self.offers.open
            for view in views
            if offer not in view.members and offer.volume in view.volumes
        )

    # What they get.

    def _decide(self, request: PlaceableRequest) -> Outcome:
        body = request.body
        if isinstance(body, WriteAllocation):
            return self._decide_write(request, body)
        if isinstance(body, ReadAllocation):
            return place_read(body, self.offers.by_medium, request.absent)
        return place_format(body, self.offers.by_medium, request.absent)

    def _decide_write(self, request: PlaceableRequest, body: WriteAllocation) -> Outcome:
        excluded = self._excluded(request, body)
        if body.grouping and self.around.settings().groupings:
            outcome = self._place_write(body, body.grouping, excluded)
            if isinstance(outcome, Placed):
                return outcome
        return self._place_write(body, None, excluded)

    def _place_write(self, body: WriteAllocation, grouping: str | None, excluded: _Excluded) -> Outcome:
        views = self._views(body, grouping)
        takes = self._at_once(body.media, views, excluded)
        if takes is not None:
            return Placed(takes)
        if not self._is_surely_whole(views, sizes_of(body), excluded):
            offers = [o for o in self.offers.all() if grouping is None or grouping in o.medium.groupings]
            return place_write(body, offers, excluded=excluded, first_fit=self._first_fit)
        served = [self._served(view, excluded) for view in views]
        return Prospects(served, whole=True).choose(body.media, first_fit=self._first_fit)

    def _at_once(
        self, wanted: Sequence[WriteMedium], views: Sequence[View], excluded: _Excluded
    ) -> tuple[OfferTake, ...] | None:
        """The best for one medium after the other; ``None`` if it takes more than that to find out what there is."""
        if len(wanted) == 1:
            offer = self._best(views[0], wanted[0].size, (), excluded)
            return None if offer is None else (OfferTake(offer, wanted[0].size),)
        takes: list[OfferTake] = []
        left: dict[VolumeOffer, int] = {}
        for medium, view in zip(wanted, views, strict=True):
            offer = self._best(view, medium.size, [take.offer for take in takes], excluded)
            if offer is None:
                return None
            rest = left.get(offer.volume, offer.volume.available)
            if rest < max(medium.size, 1):
                return None
            left[offer.volume] = rest - medium.size
            takes.append(OfferTake(offer, medium.size))
        return tuple(takes)

    def _best(self, view: View, size: int, taken: Sequence[Offer], excluded: _Excluded) -> Offer | None:
        """The least busy device, of these the one with the least room that is enough, of these the first."""
        members, least, first_fit = view.members, max(size, 1), self._first_fit
        best: Offer | None = None
        load: float = inf
        room = place = 0
        for offer in self.offers.open:
            # Most are not better, and that is the cheapest to see.
            if offer.load > load:
                continue
            available = offer.volume.available
            free = 0 if first_fit else available
            if offer.load == load and (free > room or (free == room and offer.place >= place)):
                continue
            if available < least or offer not in members or not offer.takes_write(empty=view.wish.empty):
                continue
            if offer not in taken and offer.device not in excluded:
                best, load, room, place = offer, offer.load, free, offer.place
        return best

    def _served(self, view: View, excluded: _Excluded) -> list[Offer]:
        """Those of `view` that have slots, and one for each other volume of which bytes have to be kept from others."""
        served = [offer for offer in self.offers.open if offer in view.members and offer.device not in excluded]
        contested = self._contested((view,))
        if contested:
            served += [
                offer
                for offer in view.members
                if offer.slots <= 0 and offer.volume in contested and offer.serving and offer.device not in excluded
            ]
        return sorted(served, key=lambda offer: offer.place)

    def _is_surely_whole(self, views: Sequence[View], sizes: Sequence[int], excluded: _Excluded) -> bool:
        """Whether it is plain that a write of `sizes` could be served in one piece each, if nothing else went on.

        It is if there are enough devices on volumes with room for all of it, or enough volumes with room for one part.
        """
        # Also a part of no bytes goes only where one is left.
        each, room, needed = max(*sizes, 1), sum(max(size, 1) for size in sizes), len(sizes)
        for view in dict.fromkeys(views):
            ample = 0
            volumes: set[VolumeOffer] = set()
            for offer in view.members:
                if offer.volume.free >= each and offer.serving and offer.device not in excluded:
                    ample += offer.volume.free >= room
                    volumes.add(offer.volume)
                    if needed in (ample, len(volumes)):
                        break
            else:
                return False
        return True

    def _is_stale(self, take: OfferTake, request: PlaceableRequest) -> bool:
        """Whether a device can do less by now than its offer says, or its medium may be used for something else."""
        device = self.around.devices.get(take.device)
        if device is None or device.medium is None:
            return True
        medium = device.medium
        if medium is not take.medium and (medium.id, medium.use) != (take.medium.id, take.medium.use):
            return True
        state = device.state
        if state.free_slots(self.now()) <= 0:
            return True
        if request.kind is RequestKind.FORMAT:
            return not state.idle
        if not state.accepts(request.kind):
            return True
        return take.reserve > state.volume.available

    # What is known.

    @property
    def _first_fit(self) -> bool:
        return self.around.settings().policy == "first_fit"

    def _views(self, body: WriteAllocation, grouping: str | None) -> tuple[View, ...]:
        return tuple([self.offers.view(m.tags, m.empty_medium, body.library, grouping) for m in body.media])

    def _views_of(self, demand: Demand) -> tuple[View, ...]:
        return tuple([self.offers.view(tags, empty, demand.library, None) for tags, empty in demand.parts])

    def _excluded_from(self, standing: _Standing) -> _Excluded:
        """The devices on which those of a line of writes must not get anything more."""
        wanted = standing.line.wants
        client = wanted.client if isinstance(wanted, Demand) else None
        return self.around.held_by(client) if isinstance(client, Client) else _Excluded()

    def _excluded(self, request: PlaceableRequest, body: WriteAllocation) -> _Excluded:
        return self.around.held_by(request.client) if body.prevent_duplicate else _Excluded()
