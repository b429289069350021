"""What the devices of a family can give, kept from pass to pass: only what has changed is looked at again."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from weakref import ReferenceType, ref

from lrs_trio.devices.device import DeviceTask
from lrs_trio.devices.volume import Volume
from lrs_trio.model import Medium, RequestKind, ResourceId
from lrs_trio.scheduling.piles import Wish
from lrs_trio.scheduling.placement import Offer, VolumeOffer

MOST_WISHES = 256
"""For how many different wishes it is remembered which offers fulfil them."""

_BOTH_KINDS = frozenset({RequestKind.READ, RequestKind.WRITE})


def offers_of(
    devices: Iterable[DeviceTask], volumes: Iterable[Volume], located: Collection[ResourceId], now: float
) -> list[Offer]:
    """One offer for each device that has a medium, made anew, in the order of `devices`.

    `located` media are kept for readers, `now` is in trio's time.
    """
    shared = {id(volume): VolumeOffer(volume.measured, volume.available) for volume in volumes}
    offers = []
    for place, device in enumerate(devices):
        if device.medium is not None:
            volume = device.state.volume
            own = shared.setdefault(id(volume), VolumeOffer(volume.measured, volume.available))
            offer = Offer(device.id, device.medium, own, serving=False, idle=False, slots=0, load=0, place=place)
            renew(offer, device, located, now)
            offers.append(offer)
    return offers


def renew(offer: Offer, device: DeviceTask, located: Collection[ResourceId], now: float) -> None:
    """Let `offer` say what `device` can give now; its medium and its volume are as they should be."""
    state = device.state
    offer.slots = state.free_slots(now)
    # A device that has slots serves, and one that has grants is not idle: what is plain is not asked.
    offer.serving = offer.slots > 0 or state.serving
    offer.load = len(state.grants)
    offer.idle = not offer.load and state.idle
    offer.mixes = state.mix_reads_and_writes
    offer.kinds = _BOTH_KINDS if offer.mixes else frozenset(kind for kind in _BOTH_KINDS if state.accepts(kind))
    offer.formatting = state.formatting is not None
    offer.located = offer.medium.id in located
    offer.written = state.writes or state.unrecorded
    offer.refusal = state.withheld


@dataclass(slots=True, eq=False)
class KeptVolume(VolumeOffer):
    """The offer of a volume, which forgets the volume when nobody else needs it."""

    source: ReferenceType[Volume]

    @classmethod
    def of(cls, volume: Volume) -> KeptVolume:
        return cls(volume.measured, volume.available, ref(volume))

    def renew(self, volume: Volume) -> None:
        """Say what there is now; `volume` is its source."""
        self.free, self.available = volume.measured, volume.available


@dataclass(slots=True, eq=False)
class View:
    """The offers whose media fulfil one wish, and how many of them are on which volume."""

    wish: Wish
    members: dict[Offer, None] = field(default_factory=dict)
    volumes: dict[VolumeOffer, int] = field(default_factory=dict)

    def add(self, offer: Offer) -> None:
        """Take `offer` in if its medium fulfils the wish."""
        if self.wish.allows(offer.medium):
            self.members[offer] = None
            self.volumes[offer.volume] = self.volumes.get(offer.volume, 0) + 1

    def discard(self, offer: Offer) -> None:
        if offer not in self.members:
            return
        del self.members[offer]
        self.volumes[offer.volume] -= 1
        if not self.volumes[offer.volume]:
            del self.volumes[offer.volume]


class KeptOffers:
    """One offer for each of `devices` that has a medium.

    Whoever finds a device changed says so (`touch`), and so does a pass of what it has taken or claimed. At the
    beginning of a pass these are looked at again (`renew`), and no others. A device that can do less than before need
    not say so at once, so whatever is chosen has to be looked at once more.
    """

    def __init__(self, devices: Mapping[ResourceId, DeviceTask]) -> None:
        self.by_medium: dict[ResourceId, Offer] = {}
        self.open: dict[Offer, None] = {}
        """Those that have slots, in no particular order."""
        self.version = 0
        """Another one whenever those who wait may have to be refused: a device serves or does not, a medium is used
        for something else."""
        self._devices = devices
        self._offers: dict[ResourceId, Offer] = {}
        self._places: dict[ResourceId, int] = {}
        self._newest = 0
        self._touched: dict[ResourceId, None] = {}
        self._touched_volumes: dict[KeptVolume, None] = {}
        self._volumes: dict[int, KeptVolume] = {}
        self._views: OrderedDict[tuple[tuple[str, ...], bool, str | None, str | None], View] = OrderedDict()

    def enrol(self, device: ResourceId) -> None:
        """A device is made; its place is behind those that were made before."""
        self._newest += 1
        self._places[device] = self._newest
        self.touch(device)

    def touch(self, device: ResourceId) -> None:
        """Something about `device` may have changed."""
        self._touched[device] = None

    def touch_medium(self, medium: ResourceId) -> None:
        """Something about the device that has `medium` may have changed."""
        offer = self.by_medium.get(medium)
        if offer is not None:
            self.touch(offer.device)

    def all(self) -> list[Offer]:
        """In the order of their places."""
        return sorted(self._offers.values(), key=lambda offer: offer.place)

    def view(self, tags: tuple[str, ...], empty: bool, library: str | None, grouping: str | None) -> View:
        """Those that fulfil a `Wish` of these; valid until offers are renewed."""
        wished = tags, empty, library, grouping
        view = self._views.get(wished)
        if view is not None:
            self._views.move_to_end(wished)
            return view
        view = self._views[wished] = View(Wish(*wished))
        for offer in self._offers.values():
            view.add(offer)
        if len(self._views) > MOST_WISHES:
            self._views.popitem(last=False)
        return view

    def renew(self, located: Collection[ResourceId], now: float) -> None:
        """Look again at what has been touched; `located` media are kept for readers."""
        _renew_volumes(self._touched_volumes)
        self._touched_volumes.clear()
        touched, self._touched = self._touched, {}
        for device in touched:
            self._renew(device, located, now)

    def lowered(self, offer: Offer) -> None:
        """A pass has taken or claimed something of `offer`."""
        self.touch(offer.device)
        self.lowered_volume(offer.volume)
        if offer.slots <= 0:
            self.open.pop(offer, None)

    def lowered_volume(self, volume: VolumeOffer) -> None:
        """A pass has claimed bytes of `volume`."""
        if isinstance(volume, KeptVolume):
            self._touched_volumes[volume] = None

    def _renew(self, device: ResourceId, located: Collection[ResourceId], now: float) -> None:
        task, offer = self._devices.get(device), self._offers.get(device)
        if task is None or task.medium is None:
            if task is None:
                self._places.pop(device, None)
                # What was reserved there may have been given back to a volume that others have, too.
                _renew_volumes(self._volumes.values())
            if offer is not None:
                self._remove(offer)
            return
        volume, medium = task.state.volume, task.medium
        kept = self._volume(volume)
        kept.renew(volume)
        if offer is None:
            offer = Offer(device, medium, kept, serving=False, idle=False, slots=0, load=0)
            self._add(offer)
        elif offer.volume is not kept or (offer.medium is not medium and _is_another(offer.medium, medium)):
            self._remove(offer)
            offer.medium, offer.volume = medium, kept
            self._add(offer)
        served, offer.medium, offer.place = offer.serving, medium, self._places[device]
        renew(offer, task, located, now)
        self.version += served is not offer.serving
        if offer.serving and not self.by_medium[medium.id].serving:
            self.by_medium[medium.id] = offer
        if offer.slots > 0:
            self.open[offer] = None
        else:
            self.open.pop(offer, None)

    def _add(self, offer: Offer) -> None:
        self._offers[offer.device] = self.by_medium[offer.medium.id] = offer
        for view in self._views.values():
            view.add(offer)
        self.version += 1

    def _remove(self, offer: Offer) -> None:
        del self._offers[offer.device]
        if self.by_medium.get(offer.medium.id) is offer:
            del self.by_medium[offer.medium.id]
            # Another device may have failed with the same medium, and be back.
            others = (other for other in self._offers.values() if other.medium.id == offer.medium.id)
            self.by_medium |= {other.medium.id: other for other in others}
        self.open.pop(offer, None)
        for view in self._views.values():
            view.discard(offer)
        self.version += 1

    def _volume(self, volume: Volume) -> KeptVolume:
        kept = self._volumes.get(id(volume))
        if kept is None or kept.source() is not volume:
            if len(self._volumes) > 2 * len(self._offers):
                self._volumes = {name: known for name, known in self._volumes.items() if known.source() is not None}
            kept = self._volumes[id(volume)] = KeptVolume.of(volume)
        return kept


def _renew_volumes(volumes: Iterable[KeptVolume]) -> None:
    for kept in volumes:
        volume = kept.source()
        if volume is not None:
            kept.renew(volume)


def _is_another(known: Medium, medium: Medium) -> bool:
    """Whether it is another medium, or is to be used for something else by now."""
    return (known.id, known.use) != (medium.id, medium.use)
