"""How one request can come to media now, and what it keeps for itself if it cannot."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property

from lrs_trio.model import Medium, RequestKind, ResourceId
from lrs_trio.scheduling.assignment import assign
from lrs_trio.scheduling.library_offers import DriveClaim, DriveOffer, DriveTake, MediumClaim, Stock
from lrs_trio.scheduling.placement import Claim, Waits


class Ways:
    """What a request of one kind can do with a stock; made anew for each request.

    Called with a medium it gives the drives that could have it now, the best first. A medium that is in a drive is
    only used there. If that drive is dedicated to other kinds it is had by giving another drive for it: then each
    drive that could be given is one way.
    """

    def __init__(
        self,
        stock: Stock,
        kind: RequestKind,
        *,
        excluded: frozenset[ResourceId] = frozenset(),
        considerate: bool = False,
    ) -> None:
        """Look at `stock` for a request of `kind`.

        Args:
            stock: what there is.
            kind: for what.
            excluded: drives that may not be used.
            considerate: whether tapes that queued reads want are left where they are.
        """
        self._stock = stock
        self._kind = kind
        self._excluded = excluded
        self._considerate = considerate
        self._found: dict[int, list[DriveOffer]] = {}

    @cached_property
    def _victims(self) -> list[DriveOffer]:
        """The drives that another medium can be put into now, the cheapest first."""
        return sorted((d for d in self._stock.opened if d.at_rest and self._may_exchange(d)), key=self._cost)

    def __call__(self, medium: Medium) -> list[DriveOffer]:
        found = self._found.get(id(medium))
        if found is None:
            found = self._found[id(medium)] = self._find(medium)
        return found

    def is_foreign(self, drive: DriveOffer) -> bool:
        """Whether `drive` is there for other kinds of requests."""
        return self._kind not in drive.dedicated

    def take(self, medium: Medium, way: DriveOffer, reserve: int = 0) -> DriveTake:
        """`medium` by one of its ways."""
        home = self._stock.home(medium.id)
        if home is None or home is way:
            return DriveTake(self._stock, way, medium, reserve)
        return DriveTake(self._stock, home, medium, reserve, partner=way)

    def suffice(self, slots: Sequence[Sequence[Medium]]) -> bool:
        """Whether the drives that are there for this kind of requests could serve all `slots` at once, once at rest.

        If not, that is so until drives are shared out anew: who keeps things until then may keep it from happening.
        """
        return None not in assign(slots, self._own)

    def suited(self, slots: Sequence[Sequence[Medium]]) -> tuple[ResourceId, ...]:
        """The drives that could serve all `slots` at once, if this kind of requests had them instead of others.

        None if it has fewer drives of a technology than are needed: then other ones would not help.
        """
        has = Counter(drive.technology for drive in self._stock.drives if drive.serving and not self.is_foreign(drive))
        if has.total() < len(slots):
            return ()
        found = [drive for _, drive in filter(None, assign(slots, self._own_first))]
        needed = Counter(drive.technology for drive in found)
        return tuple(drive.device for drive in found) if len(found) == len(slots) and needed <= has else ()

    def waits(
        self,
        chosen: Sequence[DriveTake],
        lacking: Sequence[Medium],
        required: int,
        in_place: Callable[[DriveOffer], DriveClaim],
    ) -> Waits:
        """Wait for `required` media, and keep what is `chosen` and all that could come to serve of those `lacking`.

        Which will be the first is not known. `in_place` makes the claim on a drive that has one of them. Drives that
        are there for other kinds of requests are only held up where nothing else will do.
        """
        homes = [(medium, self._stock.home(medium.id)) for medium in lacking]
        own = sum(home is None or not self.is_foreign(home) for _, home in homes)
        own += sum(take.partner is None for take in chosen)
        claims: dict[DriveOffer, DriveClaim] = {}
        # Those that need a drive, and those that are in one they can be used in.
        loose, settled = [], [(take.medium, take.drive) for take in chosen if take.partner is None]
        for medium, home in homes:
            if home is None or not self._stock.fits(medium, home):
                loose.append(medium)
            elif not self.is_foreign(home):
                settled.append((medium, home))
                if self._is_of_use(home):
                    claims[home] = in_place(home)
            elif own < required and home.open and not self._gives_reads_away(home):
                partners = self._partners(home)
                # Without any to be given for it, those that have the drive would be held up for nothing.
                if partners or not home.dedicated:
                    claims |= _all_of(home, *(drive for drive in partners if drive.open))
        # Those that lie in one pile fit the same drives.
        rivals = {self._stock.pile_of(medium): medium for medium in loose}
        for medium, home in settled:
            if self._is_in_the_way(medium, home, rivals.values()):
                claims |= _all_of(home)
                loose.append(medium)
                rivals[self._stock.pile_of(medium)] = medium
        held = {drive for take in chosen for drive in (take.drive, take.partner)} | set(claims)
        claims |= _all_of(
            *(drive for drive in self._stock.opened if drive not in held and self._may_take(drive, loose))
        )
        media: list[Claim] = [MediumClaim(self._stock, medium.id) for medium, home in homes if home is None]
        return Waits((*chosen, *claims.values(), *media))

    def rearrange(self, slots: Sequence[Sequence[Medium]]) -> Waits | None:
        """See whether it is only that media are in the wrong drives; then wait until those have been taken out."""
        found = [pair for pair in assign(slots, self._moves) if pair is not None]
        if len(found) < len(slots):
            return None
        homes = [self._stock.home(medium.id) for medium, _ in found]
        moved = [
            home
            for home, (_, drive) in zip(homes, found, strict=True)
            if home is not None and home is not drive and not self.is_foreign(home)
        ]
        drives = [drive for _, drive in found] + [home for home in homes if home is not None]
        media: list[Claim] = [MediumClaim(self._stock, medium.id) for medium, _ in found]
        return Waits((*_all_of(*drives).values(), *media), unload=tuple(drive.device for drive in moved))

    def _find(self, medium: Medium) -> list[DriveOffer]:
        home = self._stock.home(medium.id)
        if home is None:
            fitting = self._victims if self._stock.on_shelf(medium.id) else []
            return [drive for drive in fitting if self._stock.fits(medium, drive)]
        if home.device in self._excluded or not home.admits(self._kind) or not self._stock.fits(medium, home):
            return []
        if not self.is_foreign(home):
            return [home]
        if not home.at_rest or self._gives_reads_away(home):
            return []
        return [drive for drive in self._partners(home) if drive.at_rest] if home.dedicated else [home]

    def _moves(self, medium: Medium) -> list[DriveOffer]:
        """The ways of `medium`, if it could also be brought from one drive to another."""
        home = self._stock.home(medium.id)
        if home not in self._victims:
            return self(medium)
        others = [drive for drive in self._victims if drive is not home and self._stock.fits(medium, drive)]
        return self(medium) + others

    def _own(self, medium: Medium) -> list[DriveOffer]:
        """The drives of this kind of requests in which `medium` could be used, or that could be given for it."""
        if self._stock.shared and not self._excluded:
            return self._stock.ever(medium)
        home = self._stock.home(medium.id)
        own = [d for d in self._stock.ever(medium) if not self.is_foreign(d) and d.device not in self._excluded]
        if home is None or not self.is_foreign(home) or not self._may_serve(home, medium):
            return own
        return own + ([drive for drive in self._stock.drives if self._pairs(drive, home)] if home.dedicated else [home])

    def _own_first(self, medium: Medium) -> list[DriveOffer]:
        """All drives in which `medium` could be used, or that could be given for it; of others the idle ones first."""
        others = [drive for drive in self._stock.ever(medium) if drive.device not in self._excluded]
        return list(dict.fromkeys((*self._own(medium), *sorted(others, key=lambda drive: not drive.idle))))

    def _may_serve(self, home: DriveOffer, medium: Medium) -> bool:
        """Whether `medium` could be used where it is, once `home` is at rest."""
        return home.serving and home.device not in self._excluded and self._stock.fits(medium, home)

    def _pairs(self, drive: DriveOffer, home: DriveOffer) -> bool:
        """Whether `drive` may be given for `home`."""
        ours = drive.serving and self._kind in drive.dedicated and drive.device not in self._excluded
        return ours and drive.technology == home.technology

    def _partners(self, home: DriveOffer) -> list[DriveOffer]:
        """The drives that those who have `home` could get for it, once they are at rest."""
        return [d for d in self._stock.drives if self._pairs(d, home) and not self._gives_reads_away(d)]

    def _may_exchange(self, drive: DriveOffer) -> bool:
        """Whether another medium may be put into `drive`, once it is at rest."""
        kept = self._considerate and self._stock.is_wanted(drive)
        return drive.exchangeable and not self.is_foreign(drive) and drive.device not in self._excluded and not kept

    def _may_take(self, drive: DriveOffer, media: Sequence[Medium]) -> bool:
        return self._may_exchange(drive) and any(self._stock.fits(medium, drive) for medium in media)

    def _gives_reads_away(self, drive: DriveOffer) -> bool:
        """Whether reads would lose the drive that they wait for."""
        return RequestKind.READ in drive.dedicated and self._stock.grouped and self._stock.is_wanted(drive)

    def _is_of_use(self, drive: DriveOffer) -> bool:
        """Whether it helps to keep slots of `drive`, which has a medium that is lacking.

        A located medium is kept for readers: newcomers may read there, so that no write holds it up.
        """
        located = drive.located and self._kind is RequestKind.WRITE
        return drive.open and not located and drive.device not in self._excluded

    def _is_in_the_way(self, medium: Medium, home: DriveOffer, loose: Iterable[Medium]) -> bool:
        """Whether `medium` may have to leave `home` to one of `loose`, because only `medium` fits elsewhere too."""
        return any(self._stock.fits(rival, home) and self._stock.fits_elsewhere(medium, rival) for rival in loose)

    def _cost(self, drive: DriveOffer) -> tuple[bool, bool, bool, bool, float]:
        """What it costs to put another medium into `drive`: the cheapest comes first."""
        if drive.medium is None:
            return False, False, False, False, drive.used
        return True, self._stock.is_wanted(drive), drive.pending > 0, drive.mounted, drive.used


def _all_of(*drives: DriveOffer) -> dict[DriveOffer, DriveClaim]:
    return {drive: DriveClaim(drive, exclusive=True) for drive in drives}
