"""What the drives of a family can give, kept from pass to pass: only what has changed is looked at again."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from itertools import islice

from lrs_trio.devices.drive import DriveTask
from lrs_trio.model import Medium, ResourceId
from lrs_trio.scheduling.library_offers import DriveOffer, KnownDrives

OPEN_AT_ONCE = 64
"""How many of the drives that are open are looked at again in each pass although they have told of no change."""

RENEWED_IN_TURN = 8
"""How many of all drives are looked at again in each pass as well."""

_FIELDS = tuple(field.name for field in fields(DriveOffer))


@dataclass(slots=True, eq=False)
class _Known:
    """What is known of one drive: what it offers, what is in it, and what of that has to make room for another.

    `home`, its `use`, and `serving` are as when it was looked at last; since then a pass may have promised its offer
    something else.
    """

    drive: DriveTask
    offer: DriveOffer
    home: ResourceId | None = None
    use: tuple[object, ...] = ()
    serving: bool = False
    inside: tuple[ResourceId, ...] = ()
    leaving: Medium | None = None

    @property
    def essence(self) -> tuple[object, ...]:
        """What decides whether anybody waits in vain for what is in it."""
        return self.home, self.use, self.serving, self.inside


class DriveOffers:
    """One offer for each drive; `make` makes them.

    Looked at again are drives that have told of a change (`touch`), those whose offers are not untouched, some of those
    that are open, and a few in turn: so what nobody has told is not missed for long. A drive that can do less than
    before need not say so at once, so whatever is chosen has to be looked at once more.
    """

    def __init__(self, make: Callable[[DriveTask], DriveOffer]) -> None:
        self.version = 0
        """Another one whenever so few drives of a kind are left that any who wait may have to be refused."""
        self.offers: list[DriveOffer] = []
        """In the order of the drives."""
        self.known = KnownDrives()
        self.leaving: dict[ResourceId, Medium] = {}
        """Those that are still in a drive which is promised to another one, or to be emptied."""
        self.in_drives: dict[ResourceId, int] = {}
        """All that are in drives or promised to them, and with how many: one may not have told yet that it lost it."""
        self._make = make
        self._tasks: list[DriveTask] = []
        self._drives: dict[ResourceId, _Known] = {}
        self._touched: dict[ResourceId, None] = {}
        self._moved: dict[ResourceId, None] = {}
        self._turn = 0

    def touch(self, drive: ResourceId) -> None:
        """Something about `drive` may have changed."""
        self._touched[drive] = None

    def touch_media(self, media: Iterable[ResourceId]) -> None:
        """Something about the drives that have `media` may have changed."""
        homes = self.known.homes
        self._touched |= dict.fromkeys([homes[medium].device for medium in media if medium in homes])

    def touch_all(self) -> None:
        """Anything may have changed about any of them."""
        self._touched |= dict.fromkeys(self._drives)
        # A pass that is under way goes on with what it began with.
        self.known.takers = {}

    def take_moved(self) -> list[ResourceId]:
        """Media that came into a drive or left one since the last call, or whose drive begins or ceases to serve."""
        moved, self._moved = self._moved, {}
        return list(moved)

    @property
    def staying(self) -> list[DriveTask]:
        """The drives whose media cannot be taken out for now."""
        return [drive for drive, offer in zip(self._tasks, self.offers, strict=True) if offer.stays]

    def renew(self, drives: Iterable[DriveTask], enough: int) -> None:
        """Be as `drives` are now; nobody who waits needs more than `enough` of the same library and model."""
        now = list(drives)
        if now != self._tasks:
            self._begin_anew(now)
            return
        turn, self._turn = self._turn, self._turn + RENEWED_IN_TURN
        if self._turn >= len(now):
            self._turn = 0
        touched, self._touched = self._touched, {}
        touched |= dict.fromkeys([drive.id for drive in now[turn : turn + RENEWED_IN_TURN]])
        touched |= dict.fromkeys([offer.device for offer in self.offers if not offer.untouched])
        are_open = (offer.device for offer in self.offers if offer.slots > 0)
        touched |= dict.fromkeys(islice(are_open, OPEN_AT_ONCE))
        for name in touched:
            if name in self._drives:
                self._renew(self._drives[name], enough)

    def _begin_anew(self, drives: list[DriveTask]) -> None:
        self.version += 1
        self._touched.clear()
        self._moved |= dict.fromkeys(self.in_drives)
        self.known = KnownDrives()
        self.leaving.clear()
        self.in_drives.clear()
        self._tasks = drives
        self._drives = {drive.id: _Known(drive, self._make(drive)) for drive in drives}
        self.offers = [known.offer for known in self._drives.values()]
        for known in self._drives.values():
            self._enter(known)
        self._moved |= dict.fromkeys(self.in_drives)

    def _renew(self, known: _Known, enough: int) -> None:
        """Look at one drive again. Its offer stays the same object."""
        before, inside, served = known.essence, known.inside, known.serving
        for name in inside:
            self.in_drives[name] -= 1
            if not self.in_drives[name]:
                del self.in_drives[name]
        if known.leaving is not None and self.leaving.get(known.leaving.id) is known.leaving:
            del self.leaving[known.leaving.id]
        offer, made = known.offer, self._make(known.drive)
        if known.home is not None and self.known.homes.get(known.home) is offer:
            del self.known.homes[known.home]
        self.known.usable.pop(offer.device, None)
        if (served, offer.model) != (made.serving, made.model):
            self.known.takers = {}
        for what in _FIELDS:
            setattr(offer, what, getattr(made, what))
        self._enter(known)
        if known.essence != before:
            self._moved |= dict.fromkeys((*inside, *known.inside))
        if served and not known.serving and self._like(offer) < enough:
            self.version += 1

    def _like(self, offer: DriveOffer) -> int:
        """How many drives serve that take what `offer` takes."""
        kind = offer.device.library, offer.model
        return sum(other.serving and (other.device.library, other.model) == kind for other in self.offers)

    def _enter(self, known: _Known) -> None:
        drive, offer = known.drive, known.offer
        medium, present = offer.medium, drive.medium
        media = (medium, present) if present is not None and present is not medium else (medium,)
        known.inside = tuple(dict.fromkeys(m.id for m in media if m is not None))
        for name in known.inside:
            self.in_drives[name] = self.in_drives.get(name, 0) + 1
        stays = present is not None and medium is not None and present.id == medium.id
        known.leaving = None if stays else present
        if known.leaving is not None:
            self.leaving[known.leaving.id] = known.leaving
        known.home, known.use, known.serving = None, (), offer.serving
        if medium is not None:
            known.home, known.use = medium.id, medium.use
        self.known.add(offer)
