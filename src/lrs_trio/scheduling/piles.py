"""Media on the shelf, so ordered that the few which matter to a write are found without looking at all of them."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Container, Iterable
from dataclasses import dataclass
from itertools import islice, takewhile

from lrs_trio.errors import LrsError
from lrs_trio.model import Medium, ResourceId
from lrs_trio.scheduling.placement import suits


@dataclass(frozen=True, slots=True)
class Wish:
    """What a medium has to be like for one part of a write, apart from its room."""

    tags: tuple[str, ...]
    empty: bool
    library: str | None
    grouping: str | None

    def allows(self, medium: Medium) -> bool:
        borne = self.grouping is None or self.grouping in medium.groupings
        return borne and suits(medium, self.tags, self.empty, self.library)


@dataclass(frozen=True, slots=True)
class Fit:
    """How much room a medium has to have, in bytes, and which of those that have it is the best.

    The one with the most if `largest`, the first if `first`, else the one with the least.
    """

    least: int
    largest: bool = False
    first: bool = False


@dataclass(frozen=True, slots=True)
class ShelfMedium:
    """A medium of the DSS that is in no drive of this host; `refusal` says why it cannot be had, if so.

    `place` is its place among all media of the DSS: the first one goes first where nothing else decides.
    """

    medium: Medium
    refusal: LrsError | None = None
    place: int = 0


class Pile:
    """Media that the same drives take: they differ in their room only."""

    def __init__(self) -> None:
        self._in_order: list[tuple[int, ResourceId, Medium]] = []
        self._by_room: list[tuple[int, int, ResourceId, Medium]] = []
        self.room = 0
        """The free bytes of all of them."""

    def __bool__(self) -> bool:
        return bool(self._in_order)

    def add(self, shelved: ShelfMedium) -> None:
        medium, room = shelved.medium, room_of(shelved.medium)
        insort(self._in_order, (shelved.place, medium.id, medium))
        insort(self._by_room, (room, shelved.place, medium.id, medium))
        self.room += room

    def remove(self, shelved: ShelfMedium) -> None:
        """Remove one that was added as it is."""
        medium, room = shelved.medium, room_of(shelved.medium)
        del self._in_order[bisect_left(self._in_order, (shelved.place, medium.id))]
        del self._by_room[bisect_left(self._by_room, (room, shelved.place, medium.id))]
        self.room -= room

    def best(self, count: int, fit: Fit, gone: Container[ResourceId]) -> list[Medium]:
        """The best `count` of them by `fit`; the others need not be looked at for a write to that many media."""
        if fit.largest:
            enough = takewhile(lambda entry: entry[0] >= fit.least, reversed(self._by_room))
            candidates = (entry[-1] for entry in enough)
        elif fit.first:
            candidates = (entry[-1] for entry in self._in_order if room_of(entry[-1]) >= fit.least)
        else:
            start = bisect_left(self._by_room, fit.least, key=lambda entry: entry[0])
            candidates = (entry[-1] for entry in islice(self._by_room, start, None))
        return list(islice((medium for medium in candidates if medium.id not in gone), count))

    @property
    def media(self) -> list[Medium]:
        return [entry[-1] for entry in self._in_order]


MediumClass = tuple[str, str | None]
"""The library and the model of media: what decides which drives take them, where nothing has failed."""

PileName = tuple[str, str | None, ResourceId | None]
"""The library and the model of the media in a pile; one that lies alone has its own."""


def class_of(medium: Medium) -> MediumClass:
    return medium.id.library, medium.model


def pile_of(medium: Medium, alone: Container[ResourceId]) -> PileName:
    """The name of the pile in which `medium` lies; those in `alone` lie alone."""
    return medium.id.library, medium.model, medium.id if medium.id in alone else None


def piled(media: Iterable[ShelfMedium], wish: Wish, alone: Container[ResourceId]) -> dict[PileName, Pile]:
    """Those of `media` that can be had and that `wish` allows, in piles."""
    piles: dict[PileName, Pile] = {}
    for shelved in media:
        if shelved.refusal is None and wish.allows(shelved.medium):
            piles.setdefault(pile_of(shelved.medium, alone), Pile()).add(shelved)
    return piles


def room_of(medium: Medium) -> int:
    """The free bytes of a medium that is in no drive."""
    return max(medium.stats.phys_spc_free, 0)
