"""Which media in which drives for a write, where media come and go: pure decisions (note 7, decisions 3 and 7)."""

from __future__ import annotations

import errno
from collections.abc import Collection, Container, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain, islice

from lrs_trio.errors import LrsError
from lrs_trio.model import Medium, RequestKind, ResourceId
from lrs_trio.scheduling.assignment import assign
from lrs_trio.scheduling.library_offers import FROM_SHELF, DriveClaim, DriveOffer, DriveTake, Stock
from lrs_trio.scheduling.piles import Fit, Wish, room_of
from lrs_trio.scheduling.placement import Never, Outcome, Placed, Waits
from lrs_trio.scheduling.ways import Ways
from lrs_trio.wire.messages import WriteAllocation

BY_EXCHANGE = FROM_SHELF + 1
"""What a drive that serves other kinds of requests comes after: nothing is put into disorder without need."""


def place_write(
    request: WriteAllocation, stock: Stock, *, excluded: frozenset[ResourceId], first_fit: bool, groupings: bool
) -> Outcome:
    """Choose one medium for each of the request's, all different and in different drives.

    What is mounted comes before what is loaded, and that before what has to be fetched; among equals the medium with
    the least room that is enough, with `first_fit` the first. `groupings` tells whether a grouping counts; it is a
    wish that gives way when no medium that bears it can be had now. `excluded` names drives that may not be chosen.
    """
    make = partial(_Write, request, stock, Ways(stock, RequestKind.WRITE, excluded=excluded), excluded, first_fit)
    if groupings and request.grouping:
        outcome = make(request.grouping).place()
        if isinstance(outcome, Placed):
            return outcome
    return make(None).place()


def write_refusal(
    request: WriteAllocation, stock: Stock, *, excluded: frozenset[ResourceId], first_fit: bool
) -> Never | None:
    """Why a write can never be served, if so; as for `place_write`."""
    ways = Ways(stock, RequestKind.WRITE, excluded=excluded)
    prospects = _Write(request, stock, ways, excluded, first_fit, None).prospects()
    return prospects if isinstance(prospects, Never) else None


def drives_for_write(
    request: WriteAllocation, stock: Stock, *, excluded: frozenset[ResourceId], first_fit: bool
) -> tuple[ResourceId, ...]:
    """As `Ways.suited`; as for `place_write`."""
    ways = Ways(stock, RequestKind.WRITE, excluded=excluded)
    return _Write(request, stock, ways, excluded, first_fit, None).suited()


def writers_full(client: object, grouping: str, writers: Mapping[str, Collection[object]], limit: int) -> bool:
    """Whether `client` has to wait because `limit` others write `grouping` already; 0 is no limit.

    `writers` are the clients that write, by grouping. One that is among them adds nobody.
    """
    present = set(writers.get(grouping, ()))
    return limit > 0 and client not in present and len(present) >= limit


Found = list[tuple[Medium, DriveOffer] | None]
"""What each part of a write gets."""


class _Write:
    """The placement of one write, on media that bear `grouping` if that is given."""

    def __init__(
        self,
        request: WriteAllocation,
        stock: Stock,
        ways: Ways,
        excluded: frozenset[ResourceId],
        first_fit: bool,
        grouping: str | None,
    ) -> None:
        self._request = request
        self._stock = stock
        self._ways = ways
        self._excluded = excluded
        self._wishes = [Wish(m.tags, m.empty_medium, request.library, grouping) for m in request.media]
        self._any = [Fit(0, largest=True) for _ in request.media]
        self._parts = [Fit(1, largest=True) for _ in request.media]
        self._whole = [Fit(max(m.size, 1), first=first_fit) for m in request.media]

    def place(self) -> Outcome:
        slots = self._have(self._whole)
        found = self._find(slots)
        if None not in found:
            return self._placed(found)
        whole = self.prospects()
        if isinstance(whole, Never):
            return whole
        if whole:
            return self._waits(slots, self._whole, found)
        slots = self._have(self._parts)
        found = self._find(slots)
        return self._waits(slots, self._parts, found) if None in found else self._placed(found)

    def prospects(self) -> Never | bool:
        """Whether the write could be served in whole parts if nothing else went on, or why it can never be."""
        if self._is_surely_whole():
            return True
        error = self._no_media() or self._no_room()
        if error is not None:
            return Never(error)
        if not self._possible(self._any):
            return Never(LrsError(errno.ENODEV, "there are not enough usable drives for the media of this write"))
        # A write is only split if no medium has room for all of it, once what others have reserved is released.
        if self._possible(self._whole):
            return True
        if self._request.no_split or not self._possible(self._parts):
            return Never(LrsError(errno.ENOSPC, "no usable medium has room for all of this write"))
        return False

    def suited(self) -> tuple[ResourceId, ...]:
        """The drives for all parts, if those that are there for writes were exchanged for others."""
        fits = self._whole if self._possible(self._whole) else self._parts
        return self._ways.suited(self._all(fits))

    def _find(self, slots: Sequence[Sequence[Medium]]) -> Found:
        """The best for each part.

        Where some of it is mounted and the rest has to be brought, what needs not be brought comes first: or what is
        brought could take the place of what is chosen once it is there, and the other way round, for ever.
        """
        found = assign(slots, self._ways)
        steps = {self._stock.steps(pair[0].id) for pair in found if pair is not None}
        if None in found or 0 not in steps or steps == {0}:
            return found
        for farthest in (0, FROM_SHELF - 1):
            near = [[medium for medium in media if self._stock.steps(medium.id) <= farthest] for media in slots]
            at_hand = assign(near, self._ways)
            if None not in at_hand:
                return at_hand
        return found

    def _placed(self, found: Found) -> Placed:
        pairs = zip(self._request.media, found, strict=True)
        return Placed(
            tuple(self._take(pair, min(wanted.size, self._room(pair[0]))) for wanted, pair in pairs if pair is not None)
        )

    def _take(self, pair: tuple[Medium, DriveOffer], reserve: int) -> DriveTake:
        return self._ways.take(*pair, reserve)

    def _is_surely_whole(self) -> bool:
        """Whether it is plain that all parts could be written at once, each in one piece, if nothing else went on.

        It is if each part has as many media to choose from as there are parts, and these as many drives.
        """
        needed = len(self._wishes)
        for wish, fit in dict.fromkeys(zip(self._wishes, self._whole, strict=True)):
            candidates = chain(self._shelved(wish, fit, gone=()), self._elsewhere(wish, fit))
            if sum(1 for _ in islice(filter(self._is_well_served, candidates), needed)) < needed:
                return False
        return True

    def _elsewhere(self, wish: Wish, fit: Fit) -> Iterator[Medium]:
        """Those that were not on the shelf when the pass began. Nothing is looked at before anybody asks for one."""
        for medium, room in self._stock.elsewhere(wish):
            if room >= fit.least:
                yield medium

    def _is_well_served(self, medium: Medium) -> bool:
        """Whether there are as many drives for `medium` as there are parts."""
        drives = (drive for drive in self._stock.ever(medium) if drive.device not in self._excluded)
        return sum(1 for _ in islice(drives, len(self._wishes))) == len(self._wishes)

    # What there is now.

    def _have(self, fits: Sequence[Fit]) -> list[list[Medium]]:
        """For each part the media that fit it and are not taken, the best first."""
        return [
            sorted(self._fitting(wish, fit), key=self._by_size if fit.largest else partial(self._by_effort, fit))
            for wish, fit in zip(self._wishes, fits, strict=True)
        ]

    def _fitting(self, wish: Wish, fit: Fit) -> list[Medium]:
        here = [
            drive.medium
            for drive in self._stock.opened
            if drive.medium is not None and drive.volume.available >= fit.least and _allows(wish, drive, drive.medium)
        ]
        return here + self._shelved(wish, fit)

    def _shelved(self, wish: Wish, fit: Fit, *, gone: Container[ResourceId] | None = None) -> list[Medium]:
        """Of each pile as many as there are parts: no part needs another one."""
        skipped = self._stock.gone if gone is None else gone
        return [m for pile in self._stock.piles(wish) for m in pile.best(len(self._wishes), fit, skipped)]

    def _by_effort(self, fit: Fit, medium: Medium) -> tuple[int, int, int]:
        home = self._stock.home(medium.id)
        room = 0 if fit.first else self._room(medium)
        if home is None:
            return FROM_SHELF, 0, room
        return BY_EXCHANGE if self._ways.is_foreign(home) else home.steps, home.load, room

    def _by_size(self, medium: Medium) -> tuple[int, int]:
        return -self._room(medium), self._stock.steps(medium.id)

    def _room(self, medium: Medium) -> int:
        home = self._stock.home(medium.id)
        return room_of(medium) if home is None else home.volume.available

    # What there could ever be.

    def _no_media(self) -> LrsError | None:
        if None not in assign(self._all(self._any), lambda medium: [medium]):
            return None
        text = "there are not enough unlocked, formatted media that fit this write and are not full"
        return LrsError(errno.ENOSPC, text)

    def _no_room(self) -> LrsError | None:
        demands = [
            (max(wanted.size, 1), {wish}) for wanted, wish in zip(self._request.media, self._wishes, strict=True)
        ]
        for size, wishes in (*demands, (sum(wanted.size for wanted in self._request.media), set(self._wishes))):
            free = self._total(wishes)
            if free < size:
                return LrsError(errno.ENOSPC, f"{size} bytes are wanted, {free} bytes are free on the media that fit")
        return None

    def _total(self, wishes: set[Wish]) -> int:
        """The free bytes of all media that any of `wishes` allows."""
        here = {medium.id: room for wish in wishes for medium, room in self._stock.elsewhere(wish)}
        elsewhere = sum(here.values())
        piles = [pile for wish in wishes for pile in self._stock.piles(wish)]
        if len(wishes) == 1:
            return elsewhere + sum(pile.room for pile in piles)
        return elsewhere + sum(map(room_of, {medium.id: medium for pile in piles for medium in pile.media}.values()))

    def _possible(self, fits: Sequence[Fit]) -> bool:
        """Whether all parts could be written at once, if nothing else went on."""
        return None not in assign(self._all(fits), self._drives)

    def _all(self, fits: Sequence[Fit]) -> list[list[Medium]]:
        """For each part the media that fit it, whoever has them now."""
        return [
            [*self._elsewhere(wish, fit), *self._shelved(wish, fit, gone=())]
            for wish, fit in zip(self._wishes, fits, strict=True)
        ]

    def _drives(self, medium: Medium) -> list[DriveOffer]:
        return [drive for drive in self._stock.ever(medium) if drive.device not in self._excluded]

    # Waiting.

    def _waits(self, slots: Sequence[Sequence[Medium]], fits: Sequence[Fit], found: Found) -> Waits:
        """Keep what is found, with room for the largest part that could go there, and what may come to serve."""
        if not self._stock.opened:
            return Waits(())
        if not self._ways.suffice(self._all(fits)):
            return Waits((), in_turn=False)
        rearranged = self._ways.rearrange(slots)
        if rearranged is not None:
            return rearranged
        open_parts = self._open_parts(slots, found)
        chosen = [self._take(pair, self._largest(pair[0], range(len(found)))) for pair in found if pair is not None]
        picked = {take.medium.id for take in chosen}
        lacking = {medium.id: medium for part in open_parts for medium in self._hoped_for(part, fits[part])}
        return self._ways.waits(
            chosen,
            [medium for name, medium in lacking.items() if name not in picked],
            len(found),
            lambda drive: DriveClaim(drive, 0 if drive.medium is None else self._largest(drive.medium, open_parts)),
        )

    def _open_parts(self, slots: Sequence[Sequence[Medium]], found: Found) -> set[int]:
        """The parts that have nothing, and those whose medium or drive could go to such a part in the end."""
        open_parts = {part for part, pair in enumerate(found) if pair is None}
        settled = {part: pair for part, pair in enumerate(found) if pair is not None}
        while True:
            media = {medium.id: medium for part in open_parts for medium in slots[part]}
            drives = {drive for medium in media.values() for drive in self._ways(medium)}
            more = {part for part, (medium, drive) in settled.items() if medium.id in media or drive in drives}
            if more <= open_parts:
                return open_parts
            open_parts |= more

    def _hoped_for(self, part: int, fit: Fit) -> list[Medium]:
        """The media that could come to serve `part`, once what goes on has ended."""
        wish = self._wishes[part]
        here = [
            drive.medium
            for drive in self._stock.drives
            if drive.medium is not None and drive.volume.free >= fit.least and _allows(wish, drive, drive.medium)
        ]
        leaving = [m for m in self._stock.evicted.values() if room_of(m) >= fit.least and wish.allows(m)]
        return here + leaving + self._shelved(wish, fit)

    def _largest(self, medium: Medium, parts: Iterable[int]) -> int:
        """As much of the largest of `parts` that could go there as there is room for."""
        sizes = [self._request.media[part].size for part in parts if self._wishes[part].allows(medium)]
        return min(max(sizes, default=0), max(self._room(medium), 0))


def _allows(wish: Wish, drive: DriveOffer, medium: Medium) -> bool:
    """Whether `medium`, which is in `drive`, is as wished, also with what the DSS does not know of yet."""
    return wish.allows(medium) and not (wish.empty and drive.written)
