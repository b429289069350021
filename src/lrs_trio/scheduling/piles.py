"""Media on the shelf, so ordered that the few which matter to a write are found without looking at all of them."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Container, Iterable
from dataclasses import dataclass
from itertools import islice, takewhile

from lrs_trio.model import Medium, ResourceId
from lrs_trio.scheduling.placement import may_write
from lrs_trio.wire.messages import WriteMedium


@dataclass(frozen=True, slots=True)
class Wish:
    """What a medium has to be like for one part of a write, apart from its room."""

    tags: tuple[str, ...]
    empty: bool
    library: str | None
    grouping: str | None

    def allows(self, medium: Medium) -> bool:
        borne = self.grouping is None or self.grouping in medium.groupings
        return borne and may_write(medium, WriteMedium(0, self.tags, self.empty), self.library)


@dataclass(frozen=True, slots=True)
class Fit:
    """How much room a medium has to have, in bytes, and which of those that have it is the best.

    The one with the most if `largest`, the first if `first`, else the one with the least.
    """

    least: int
    largest: bool = False
    first: bool = False


class Pile:
    """Media that the same drives take: they differ in their room only."""

    def __init__(self, media: Iterable[Medium]) -> None:
        self._in_order = list(media)
        self._by_room = sorted(self._in_order, key=room_of)
        self.room = sum(map(room_of, self._in_order))

    def best(self, count: int, fit: Fit, gone: Container[ResourceId]) -> list[Medium]:
        """The best `count` of them by `fit`; the others need not be looked at for a write to that many media."""
        candidates: Iterable[Medium]
        if fit.largest:
            candidates = takewhile(lambda medium: room_of(medium) >= fit.least, reversed(self._by_room))
        elif fit.first:
            candidates = (medium for medium in self._in_order if room_of(medium) >= fit.least)
        else:
            candidates = islice(self._by_room, bisect_left(self._by_room, fit.least, key=room_of), None)
        return list(islice((medium for medium in candidates if medium.id not in gone), count))

    @property
    def media(self) -> list[Medium]:
        return self._in_order


def piled(media: Iterable[Medium], wish: Wish, alone: Container[ResourceId]) -> list[Pile]:
    """Those of `media` that `wish` allows, in piles. Each of those in `alone` makes its own."""
    groups: dict[tuple[object, ...], list[Medium]] = {}
    for medium in media:
        if wish.allows(medium):
            key = medium.id.library, medium.model, medium.id if medium.id in alone else None
            groups.setdefault(key, []).append(medium)
    return [Pile(group) for group in groups.values()]


def room_of(medium: Medium) -> int:
    """The free bytes of a medium that is in no drive."""
    return max(medium.stats.phys_spc_free, 0)
