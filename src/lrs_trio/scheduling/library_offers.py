"""What the drives and the shelves of libraries can give in one pass of placement.

Here a medium can be brought to a drive: what a request takes is a pair of both. Taking and claiming lower the stock
for the requests behind (decision 3); nothing of it is held between two passes.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Container, Mapping, Sequence
from dataclasses import dataclass, field

from lrs_trio.errors import LrsError
from lrs_trio.model import Medium, RequestKind, ResourceId
from lrs_trio.scheduling.piles import Pile, PileName, ShelfMedium, Wish, pile_of, piled, room_of
from lrs_trio.scheduling.placement import ALL_KINDS, Placed, VolumeOffer, Waits

FROM_SHELF = 3
"""How many steps a medium is away that is in no drive; see `DriveOffer.steps`."""


@dataclass(slots=True, eq=False)
class DriveOffer:
    """What one drive can give in this pass.

    `medium` is in it, or promised to it. `mounted` and `loaded` say what has to be done first: nothing, a mount, and
    without either a load. `serving` drives take work, though not always at once; of others `refusal` says what
    keeps their medium from being used for good, where that is known. `idle` means that nothing is granted, planned or
    being formatted, `slots` how many grants may be added to `medium` now, `load` how many there are, and `kinds` which
    may be added; both, unless they do not mix. `pending` counts releases that wait for a sync, `used` is when the
    drive was last used. A `located` medium is kept for readers, one that `stays` cannot be taken out for now. A
    `written` one is not empty any more, or will not be: the DSS learns that when it is synced.
    `dedicated` are the kinds of requests that the drive is there for; drives are exchanged within one `technology`.
    """

    device: ResourceId
    model: str | None
    medium: Medium | None
    volume: VolumeOffer
    mounted: bool
    loaded: bool
    serving: bool
    idle: bool
    slots: int
    kinds: frozenset[RequestKind]
    mixes: bool
    load: int
    pending: int
    used: float
    formatting: bool = False
    located: bool = False
    stays: bool = False
    written: bool = False
    dedicated: frozenset[RequestKind] = ALL_KINDS
    refusal: LrsError | None = None
    technology: str | None = None
    untouched: bool = True
    """Whether no pass has given or kept anything of it."""

    @property
    def open(self) -> bool:
        """Whether anything can be given here now."""
        return self.serving and self.slots > 0

    @property
    def at_rest(self) -> bool:
        """Whether it could change hands: nothing goes on here that would have to end first."""
        return self.open and self.idle

    @property
    def steps(self) -> int:
        """How far its medium is from being used: 0 mounted, 1 loaded, 2 on its way."""
        return 0 if self.mounted else 1 if self.loaded else 2

    def admits(self, kind: RequestKind) -> bool:
        """Whether its medium may be given now to a request of `kind`, whatever the drive is dedicated to."""
        if kind is RequestKind.FORMAT:
            return self.at_rest and not self.stays
        return self.open and kind in self.kinds and not (self.located and kind is RequestKind.WRITE)

    def busy_with(self, medium: Medium) -> bool:
        """Whether `medium` is on its way to being mounted here without anybody asking again."""
        return not self.idle and self.medium is not None and self.medium.id == medium.id

    @property
    def exchangeable(self) -> bool:
        """Whether its medium could make room for another, once the drive is at rest."""
        return self.open and not self.stays and not self.located

    def take(self, kind: RequestKind, reserve: int) -> None:
        """Give one slot, and `reserve` bytes, to a request of `kind`."""
        self.untouched = False
        self.written = self.written or kind is RequestKind.WRITE
        self.formatting = kind is RequestKind.FORMAT
        self.slots = 0 if self.formatting else self.slots - 1
        self.load += 1
        self.idle = False
        self.volume.available -= reserve
        if not self.mixes:
            self.kinds = frozenset({kind})

    def claim(self, reserve: int, *, exclusive: bool) -> None:
        """Keep one slot for an earlier request; all of them where any newcomer could delay it."""
        self.untouched = False
        self.slots = max(self.slots - 1, 0) if self.mixes and not exclusive else 0
        self.idle = False
        self.volume.available -= reserve

    def hold(self, medium: Medium) -> None:
        """From now on `medium` is promised to this drive."""
        self.untouched = False
        self.medium = medium
        self.volume = VolumeOffer(room_of(medium), room_of(medium))
        self.mounted = self.loaded = self.written = False


@dataclass(slots=True, eq=False)
class KnownDrives:
    """What is known of all drives when a pass begins.

    By medium: the drive that has it, or is promised it. By drive: the medium and its free bytes, unless it is stuck
    there. By library and model of media: the drives that take them; whoever needs others adds them. `shared` tells
    whether all drives are there for all kinds of requests.
    """

    homes: dict[ResourceId, DriveOffer] = field(default_factory=dict)
    usable: dict[ResourceId, tuple[Medium, int]] = field(default_factory=dict)
    takers: dict[tuple[str, str | None], list[DriveOffer]] = field(default_factory=dict)
    shared: bool = True

    def add(self, offer: DriveOffer) -> None:
        medium = offer.medium
        if medium is not None:
            self.homes[medium.id] = offer
            if offer.serving or offer.refusal is None:
                self.usable[offer.device] = medium, offer.volume.free


def _known_of(drives: Sequence[DriveOffer]) -> KnownDrives:
    known = KnownDrives(shared=all(drive.dedicated == ALL_KINDS for drive in drives))
    for drive in drives:
        known.add(drive)
    return known


@dataclass(slots=True)
class Stock:
    """All that one pass has to give.

    Args:
        drives: those of this host, in any state.
        shelf: media that are in no drive here and promised to none.
        compatible: whether a drive of the model given can read and write a medium; asked once for each pair of models.
        barred: drives and media that have failed together and are not tried together again.
        wanted: the media in drives that queued reads want, and with which they could be served.
        absent: of media that are in none of these, why they cannot be had.
        grouped: whether a read leaves a drive alone whose medium other reads want.
        leaving: media that are still in a drive which is promised to another one, or to be emptied: for them one waits.
        known_drives: what is known of all the drives from passes before.
        known_piles: what passes with this shelf and the same media in `barred` have sorted already.
    """

    drives: list[DriveOffer]
    shelf: Mapping[ResourceId, ShelfMedium]
    compatible: Callable[[Medium, str | None], bool]
    barred: Collection[tuple[ResourceId, ResourceId]]
    wanted: Container[ResourceId]
    absent: Mapping[ResourceId, LrsError]
    grouped: bool
    leaving: Mapping[ResourceId, Medium] = field(default_factory=dict)
    known_piles: dict[Wish, dict[PileName, Pile]] = field(default_factory=dict)
    known_drives: KnownDrives | None = None
    gone: set[ResourceId] = field(default_factory=set, init=False)
    """What this pass has taken or claimed of the shelf."""
    shared: bool = field(init=False)
    """Whether all drives are there for all kinds of requests."""
    evicted: dict[ResourceId, Medium] = field(default_factory=dict, init=False)
    """What leaves its drive because of this pass, or does so already."""
    began_elsewhere: list[tuple[Medium, int]] = field(default_factory=list, init=False)
    """The media that were not on the shelf when the pass began, with their free bytes; not those that are stuck."""
    _homes: dict[ResourceId, DriveOffer] = field(init=False)
    _takers: dict[tuple[str, str | None], list[DriveOffer]] = field(init=False)
    _pairs: dict[tuple[str | None, str | None], bool] = field(default_factory=dict, init=False)
    _alone: frozenset[ResourceId] = field(default=frozenset(), init=False)
    _open: list[DriveOffer] = field(default_factory=list, init=False)
    _elsewhere_fit: dict[tuple[PileName, PileName], bool] = field(default_factory=dict, init=False)
    _elsewhere: dict[Wish, list[tuple[Medium, int]]] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        known = self.known_drives or _known_of(self.drives)
        self._alone = frozenset(medium for _, medium in self.barred)
        self._open = [drive for drive in self.drives if drive.slots > 0 and drive.serving]
        self._homes = dict(known.homes)
        self._takers = known.takers
        self.shared = known.shared
        self.evicted.update(self.leaving)
        self.began_elsewhere += known.usable.values()
        self.began_elsewhere += [(medium, room_of(medium)) for medium in self.leaving.values()]

    def home(self, medium: ResourceId) -> DriveOffer | None:
        """The drive that has `medium`, or is promised it."""
        return self._homes.get(medium)

    def steps(self, medium: ResourceId) -> int:
        """How far `medium` is from being used: as `DriveOffer.steps`, or from the shelf."""
        home = self._homes.get(medium)
        return FROM_SHELF if home is None else home.steps

    def known(self, medium: ResourceId) -> Medium | None:
        """`medium`, wherever it is."""
        home = self._homes.get(medium)
        if home is not None:
            return home.medium
        shelved = self.shelf.get(medium)
        return shelved.medium if shelved is not None else self.evicted.get(medium)

    def on_shelf(self, medium: ResourceId) -> bool:
        """Whether `medium` can be taken from the shelf now."""
        shelved = self.shelf.get(medium)
        return shelved is not None and shelved.refusal is None and medium not in self.gone

    def piles(self, wish: Wish) -> list[Pile]:
        """The media that stood on the shelf when the pass began and that `wish` allows; sorted once for each wish."""
        piles = self.known_piles.get(wish)
        if piles is None:
            # Those that come back to the shelf keep their places.
            media = sorted(self.shelf.values(), key=lambda shelved: shelved.place)
            piles = self.known_piles[wish] = piled(media, wish, self._alone)
        return list(piles.values())

    def refusal(self, medium: ResourceId) -> LrsError | None:
        """Why `medium` cannot be had for longer than anybody should wait, if so."""
        home = self._homes.get(medium)
        if home is not None:
            return None if home.serving else home.refusal
        shelved = self.shelf.get(medium)
        return shelved.refusal if shelved is not None else None

    @property
    def opened(self) -> list[DriveOffer]:
        """The drives of which anything can be given now, in their order."""
        if not all(drive.open for drive in self._open):
            self._open = [drive for drive in self._open if drive.open]
        return self._open

    def elsewhere(self, wish: Wish) -> list[tuple[Medium, int]]:
        """Of the media that were not on the shelf when the pass began those that `wish` allows, with their bytes."""
        found = self._elsewhere.get(wish)
        if found is None:
            found = self._elsewhere[wish] = [entry for entry in self.began_elsewhere if wish.allows(entry[0])]
        return found

    def fits(self, medium: Medium, drive: DriveOffer) -> bool:
        """Whether `medium` can be used in `drive`, as far as anybody knows."""
        if medium.id in self._alone and (drive.device, medium.id) in self.barred:
            return False
        return self.takes(medium, drive)

    def lies_alone(self, medium: Medium) -> bool:
        """Whether `medium` does not fit all drives that others like it fit."""
        return medium.id in self._alone

    def pile_of(self, medium: Medium) -> PileName:
        """Media of which this is the same fit the same drives."""
        return pile_of(medium, self._alone)

    def fits_elsewhere(self, medium: Medium, other: Medium) -> bool:
        """Whether there is a drive for `medium`, once nothing goes on there, that is none for `other`."""
        piles = self.pile_of(medium), self.pile_of(other)
        known = self._elsewhere_fit.get(piles)
        if known is None:
            drives = (drive for drive in self.drives if drive.serving)
            known = any(self.fits(medium, drive) and not self.fits(other, drive) for drive in drives)
            self._elsewhere_fit[piles] = known
        return known

    def takes(self, medium: Medium, drive: DriveOffer) -> bool:
        """Whether `drive` takes media like `medium`."""
        return medium.id.library == drive.device.library and self._is_compatible(medium, drive)

    def _is_compatible(self, medium: Medium, drive: DriveOffer) -> bool:
        pair = medium.model, drive.model
        if pair not in self._pairs:
            self._pairs[pair] = self.compatible(medium, drive.model)
        return self._pairs[pair]

    def ever(self, medium: Medium) -> list[DriveOffer]:
        """The drives that `medium` could be used in, if nothing went on anywhere."""
        library, model = medium.id.library, medium.model
        takers = self._takers.get((library, model))
        if takers is None:
            takers = self._takers[library, model] = [
                drive
                for drive in self.drives
                if drive.serving and drive.device.library == library and self._is_compatible(medium, drive)
            ]
        if medium.id in self._alone:
            return [drive for drive in takers if self.fits(medium, drive)]
        return takers

    def is_wanted(self, drive: DriveOffer) -> bool:
        """Whether a queued read waits for nothing but its turn in `drive`."""
        medium = drive.medium
        return medium is not None and medium.id in self.wanted and self.fits(medium, drive)

    def put(self, medium: Medium, drive: DriveOffer) -> None:
        """Promise `drive` to `medium`; the one that is in it leaves, and nobody can have that in this pass."""
        if drive.medium is not None:
            self.evicted[drive.medium.id] = drive.medium
            del self._homes[drive.medium.id]
        drive.hold(medium)
        self._homes[medium.id] = drive
        self.gone.add(medium.id)


@dataclass(frozen=True, slots=True)
class DriveTake:
    """A medium and the drive for it; `partner` is what those get to whom that drive is dedicated."""

    stock: Stock
    drive: DriveOffer
    medium: Medium
    reserve: int = 0
    partner: DriveOffer | None = None

    @property
    def device(self) -> ResourceId:
        return self.drive.device

    @property
    def in_place(self) -> bool:
        """Whether the medium is where it is to be used."""
        return self.stock.home(self.medium.id) is self.drive

    def take(self, kind: RequestKind) -> None:
        if self.partner is not None:
            self.drive.dedicated, self.partner.dedicated = self.partner.dedicated, self.drive.dedicated
            self.partner.untouched = False
        elif not self.drive.dedicated:
            self.drive.dedicated = frozenset({kind})
        if not self.in_place:
            self.stock.put(self.medium, self.drive)
        self.drive.take(kind, self.reserve)

    def claim(self) -> None:
        taken_over = self.partner is not None or not self.drive.dedicated
        self.drive.claim(self.reserve if self.in_place else 0, exclusive=taken_over or not self.in_place)
        if self.partner is not None:
            self.partner.claim(0, exclusive=True)
        self.stock.gone.add(self.medium.id)


@dataclass(frozen=True, slots=True)
class DriveClaim:
    """Slots of a drive, and bytes of its medium, that are kept; `exclusive` keeps all slots."""

    drive: DriveOffer
    reserve: int = 0
    exclusive: bool = False

    def claim(self) -> None:
        self.drive.claim(self.reserve, exclusive=self.exclusive)


@dataclass(frozen=True, slots=True)
class MediumClaim:
    """A medium that stays on the shelf for the one who waits."""

    stock: Stock
    medium: ResourceId

    def claim(self) -> None:
        self.stock.gone.add(self.medium)


@dataclass(frozen=True, slots=True)
class StayClaim:
    """The medium of a drive stays there; meanwhile others can use it."""

    drive: DriveOffer

    def claim(self) -> None:
        self.drive.stays, self.drive.untouched = True, False


def all_at_once(placed: Placed) -> Placed | Waits:
    """Fetch first what has to be fetched, if the request has media that are mounted as well.

    Those would stand idle for minutes until the others are there, while others could use them. Nobody behind may have
    them taken out meanwhile, or two could do that to each other for ever.
    """
    takes = [take for take in placed.takes if isinstance(take, DriveTake)]
    coming = [take for take in takes if not (take.in_place and take.drive.mounted)]
    if not coming or len(coming) == len(takes):
        return placed
    fetch = [(take.device, take.medium) for take in coming if not take.drive.busy_with(take.medium)]
    stay = (StayClaim(take.drive) for take in takes if take not in coming)
    return Waits((*coming, *stay), fetch=tuple(fetch))
