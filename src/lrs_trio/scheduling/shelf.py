"""The media that are in no drive, kept from pass to pass: there are thousands, and few change."""

from __future__ import annotations

from collections.abc import Collection, Container, Iterable, Mapping

from lrs_trio.model import ResourceId
from lrs_trio.scheduling.catalog import Shelved
from lrs_trio.scheduling.piles import MediumClass, Pile, PileName, ShelfMedium, Wish, class_of, pile_of

MOST_WISHES = 32
"""For how many different wishes the shelf is kept sorted."""


class Shelf:
    """What stands on the shelves, and the piles in which it lies for the wishes that were asked for so far."""

    def __init__(self) -> None:
        self.media: dict[ResourceId, ShelfMedium] = {}
        self.piles: dict[Wish, dict[PileName, Pile]] = {}
        """Whoever has another wish adds its piles."""
        self.classes: dict[ResourceId, MediumClass] = {}
        """Of each of the media: which drives take it."""
        self._places: dict[ResourceId, int] = {}
        self._alone: dict[ResourceId, None] = {}

    def update(
        self,
        rows: Mapping[ResourceId, Shelved],
        changed: Iterable[ResourceId],
        in_drives: Container[ResourceId],
        alone: Collection[ResourceId],
    ) -> None:
        """Be as `rows` are now, less those `in_drives`.

        Args:
            rows: all media of the family.
            changed: those whose rows have changed, or that have come into a drive or left one, since the last time.
            in_drives: those that are in a drive or promised to one.
            alone: those that not all drives of a kind take: each of them is a pile of its own.
        """
        if len(self.piles) > MOST_WISHES:
            self.piles.clear()
        lonely, touched = dict.fromkeys(sorted(alone)), dict.fromkeys(changed)
        touched |= dict.fromkeys(medium for medium in self._alone if medium not in lonely)
        touched |= dict.fromkeys(medium for medium in lonely if medium not in self._alone)
        for medium in touched:
            self._remove(medium)
        self._alone = lonely
        for medium in touched:
            row = rows.get(medium)
            if row is not None and medium not in in_drives:
                self._add(row)

    def _add(self, row: Shelved) -> None:
        medium = row.medium
        place = self._places.setdefault(medium.id, len(self._places))
        shelved = self.media[medium.id] = ShelfMedium(medium, row.refusal, place)
        self.classes[medium.id] = class_of(medium)
        if shelved.refusal is not None:
            return
        for wish, piles in self.piles.items():
            if wish.allows(medium):
                piles.setdefault(pile_of(medium, self._alone), Pile()).add(shelved)

    def _remove(self, name: ResourceId) -> None:
        shelved = self.media.pop(name, None)
        self.classes.pop(name, None)
        if shelved is None or shelved.refusal is not None:
            return
        lies_in = pile_of(shelved.medium, self._alone)
        for wish, piles in self.piles.items():
            if wish.allows(shelved.medium):
                piles[lies_in].remove(shelved)
                if not piles[lies_in]:
                    del piles[lies_in]
