"""What the drives of a family can give, kept from pass to pass: only what has changed is looked at again."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields

from lrs_trio.devices.drive import DriveTask
from lrs_trio.model import Medium, ResourceId
from lrs_trio.scheduling.library_offers import DriveOffer, KnownDrives

RENEWED_IN_TURN = 64
"""How many drives are looked at again in each pass although nothing is known to have changed there."""

_FIELDS = tuple(field.name for field in fields(DriveOffer))


@dataclass(slots=True, eq=False)
class _Known:
    """What is known of one drive: what it offers, what is in it, and what of that has to make room for another.

    `home` and `serving` are as when it was looked at last; a pass may have promised its offer something else.
    """

    drive: DriveTask
    offer: DriveOffer
    home: ResourceId | None = None
    serving: bool = False
    inside: tuple[ResourceId, ...] = ()
    leaving: Medium | None = None


class DriveOffers:
    """One offer for each drive; `make` makes them.

    Looked at again are drives that have told of a change (`touch`), those of which a pass has given anything, and a few
    in turn: so what nobody has told is not missed for long. A drive that can do less than before need not say so at
    once, so whatever is chosen has to be looked at once more.
    """

    def __init__(self, make: Callable[[DriveTask], DriveOffer]) -> None:
        self.version = 0
        """Another one whenever a drive serves or does not, or has another medium."""
        self.offers: list[DriveOffer] = []
        """In the order of the drives."""
        self.known = KnownDrives()
        self.leaving: dict[ResourceId, Medium] = {}
        """Those that are still in a drive which is promised to another one."""
        self.in_drives: dict[ResourceId, None] = {}
        """All that are in drives or promised to them."""
        self._make = make
        self._drives: dict[ResourceId, _Known] = {}
        self._touched: dict[ResourceId, None] = {}
        self._turn = 0

    def touch(self, drive: ResourceId) -> None:
        """Something about `drive` may have changed."""
        self._touched[drive] = None

    def touch_all(self) -> None:
        """Anything may have changed about any of them."""
        self._touched |= dict.fromkeys(self._drives)
        self.known.takers.clear()

    def renew(self, drives: Iterable[DriveTask]) -> None:
        """Be as `drives` are now."""
        now = list(drives)
        if now != [known.drive for known in self._drives.values()]:
            self._begin_anew(now)
            return
        turn, self._turn = self._turn, self._turn + RENEWED_IN_TURN
        if self._turn >= len(now):
            self._turn = 0
        touched, self._touched = self._touched, {}
        touched |= dict.fromkeys(drive.id for drive in now[turn : turn + RENEWED_IN_TURN])
        touched |= dict.fromkeys(offer.device for offer in self.offers if not offer.untouched)
        for name in touched:
            if name in self._drives:
                self._renew(self._drives[name])

    def _begin_anew(self, drives: list[DriveTask]) -> None:
        self.version += 1
        self._touched.clear()
        self.known = KnownDrives()
        self.leaving.clear()
        self.in_drives.clear()
        self._drives = {drive.id: _Known(drive, self._make(drive)) for drive in drives}
        self.offers = [known.offer for known in self._drives.values()]
        for known in self._drives.values():
            self._enter(known)

    def _renew(self, known: _Known) -> None:
        """Look at one drive again. Its offer stays the same object."""
        for name in known.inside:
            self.in_drives.pop(name, None)
        if known.leaving is not None:
            self.leaving.pop(known.leaving.id, None)
        offer, made = known.offer, self._make(known.drive)
        if known.home is not None and self.known.homes.get(known.home) is offer:
            del self.known.homes[known.home]
        self.known.usable.pop(offer.device, None)
        if (known.home, known.serving) != (_name_of(made.medium), made.serving):
            self.version += 1
            self.known.takers.clear()
        for what in _FIELDS:
            setattr(offer, what, getattr(made, what))
        self._enter(known)

    def _enter(self, known: _Known) -> None:
        drive, offer = known.drive, known.offer
        medium, present = offer.medium, drive.medium
        media = (medium, present) if present is not None and present is not medium else (medium,)
        known.inside = tuple(dict.fromkeys(m.id for m in media if m is not None))
        self.in_drives |= dict.fromkeys(known.inside)
        leaves = present is not None and medium is not None and present.id != medium.id
        known.leaving = present if leaves else None
        if known.leaving is not None:
            self.leaving[known.leaving.id] = known.leaving
        known.home, known.serving = _name_of(medium), offer.serving
        self.known.add(offer)


def _name_of(medium: Medium | None) -> ResourceId | None:
    return None if medium is None else medium.id
