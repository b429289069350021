"""Families whose media come and go: the drives, the shelf, who is suspected, and who gets which drives."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields
from functools import partial
from math import inf

import structlog
import trio

from lrs_trio.devices.blame import DriveContext
from lrs_trio.devices.device import DeviceContext, DeviceTask
from lrs_trio.devices.drive import DriveTask
from lrs_trio.dss.operations import ReadDevices
from lrs_trio.errors import LrsError
from lrs_trio.model import AdmStatus, Device, Family, FsStatus, Medium, RequestKind, ResourceId
from lrs_trio.scheduling.catalog import Catalog, shelf_of
from lrs_trio.scheduling.compatibility import compatible, gaps
from lrs_trio.scheduling.dispatch import Attempts
from lrs_trio.scheduling.drive_offers import DriveOffers
from lrs_trio.scheduling.library_offers import DriveOffer, Stock
from lrs_trio.scheduling.library_pass import LibraryPass, drive_model, drive_offer, share_out, writers_of
from lrs_trio.scheduling.placement import ALL_KINDS
from lrs_trio.scheduling.queue import KINDS, RequestQueue
from lrs_trio.scheduling.queued_reads import QueuedReads
from lrs_trio.scheduling.requests import PlaceableRequest
from lrs_trio.scheduling.shelf import Shelf
from lrs_trio.scheduling.supply import Pass, Surroundings
from lrs_trio.scheduling.suspicions import Suspicions
from lrs_trio.settings import TapeSettings
from lrs_trio.storage.protocols import DriveUnit

log = structlog.get_logger()

RESTOCKED_AT_ONCE = 500
"""How many media that have changed are put in their places in one step."""


class LibrarySupply:
    """The drives of this host and the media of their libraries."""

    def __init__(
        self,
        family: Family,
        around: Surroundings,
        make_unit: Callable[[Device], DriveUnit],
        *,
        recheck_s: float,
        wall_clock: Callable[[], float],
        logs_moves: Callable[[str], bool],
    ) -> None:
        """Make the supply of `family`.

        Args:
            family: whose media.
            around: what the family lends.
            make_unit: makes the adapters of one adoption of a drive.
            recheck_s: how old may be what is known of media on the shelf, in seconds.
            wall_clock: seconds since the epoch, as the DSS records them.
            logs_moves: whether the loads and unloads of a library are ours to log.
        """
        context = around.context
        self._family = family
        self._around = around
        self._make_unit = make_unit
        self._dedicated: dict[ResourceId, frozenset[RequestKind]] = {}
        self._attempts = Attempts()
        self._latest = 0
        """The latest arrival that any pass has decided."""
        self.catalog = Catalog(family, context.dss, context.owner, recheck_s, context.start_of)
        self.suspicions = Suspicions(family, around, self.catalog)
        self._gaps: frozenset[str] = frozenset()
        self._news = 0
        self._shelf = Shelf()
        self._drive_offers = DriveOffers(self._offer)
        self._found_since: dict[ResourceId, None] = {}
        """The media that drives have found inside since the last pass began."""
        self._located: Mapping[ResourceId, float] = {}
        self._make_context = partial(
            DriveContext,
            **{field.name: getattr(context, field.name) for field in fields(DeviceContext)},
            wall_clock=wall_clock,
            judge=self.suspicions.judge,
            logs_moves=logs_moves,
            drives=lambda: self.drives,
        )

    @property
    def settings(self) -> TapeSettings:
        """As they are now."""
        settings = self._around.settings()
        if not isinstance(settings, TapeSettings):
            raise TypeError(f"family {self._family.label} has the settings of another family")
        return settings

    @property
    def drives(self) -> list[DriveTask]:
        return [device for device in self._around.devices.values() if isinstance(device, DriveTask)]

    def make_device(self, row: Device) -> DeviceTask:
        context = self._make_context(
            evidence=self.suspicions.evidence,
            changed=partial(self._drive_changed, row.id),
            put_back=partial(self._put_back, row.id),
            found=partial(self._found, row.id),
        )
        return DriveTask(row, self._make_unit(row), context)

    async def start(self) -> None:
        """Read the media, and what the log says of them and of the drives."""
        await self.suspicions.read_log()
        await self.catalog.refresh()
        rows = [row.device for row in await self._around.context.dss.execute(ReadDevices(self._family))]
        await self.suspicions.forget_unlocked(rows)
        self._tell_gaps(row.model for row in rows if row.host == self._around.context.owner.host)

    async def look_up(self, request: PlaceableRequest, media: Sequence[ResourceId]) -> None:
        """Read the media anew that a request names, so that nothing is loaded or refused on old knowledge."""
        request.absent.update(await self.catalog.look_up(media))

    async def refresh(self, queue: RequestQueue) -> None:
        self.catalog.expire(trio.current_time())
        locked = [medium for medium in self.suspicions.media() if not self.catalog.is_unlocked(medium)]
        if len(queue):
            await self.catalog.refresh()
        for medium in filter(self.catalog.is_unlocked, locked):
            await self.suspicions.forget(medium, is_drive=False)
        # What is left is taken in when the pass begins. At first that would be all media in one step.
        while self.catalog.changes > RESTOCKED_AT_ONCE:
            self._take_in(self.catalog.take_changed(RESTOCKED_AT_ONCE), (), queue)
            await trio.lowlevel.checkpoint()

    def _take_in(self, changed: Iterable[ResourceId], moved: Iterable[ResourceId], queue: RequestQueue) -> None:
        """Know the shelf as it is: the rows of some media have `changed`, and some have `moved` (`take_moved`).

        Who waits for any of them may do so in vain by now. Of what is in drives we know more than the rows say.
        """
        touched, in_drives = dict.fromkeys((*changed, *moved)), self._drive_offers.in_drives
        if touched:
            self._attempts.forget()
        alone = dict.fromkeys(medium for _, medium in self.suspicions.evidence.barred())
        self._shelf.update(self.catalog.rows, touched, in_drives, alone)
        queue.sort_by(self._shelf.classes, touched)
        queue.doubt([medium for medium in touched if medium not in in_drives])
        queue.doubt(list(moved))

    @property
    def looks(self) -> int | None:
        return self.catalog.looks

    def expire(self) -> None:
        self.catalog.read_again()

    def heeds_locates(self, queue: RequestQueue) -> bool:
        # Whatever waits may put another medium into the drive.
        return len(queue) > 0

    def settings_changed(self) -> None:
        self._drive_offers.touch_all()
        self._tell_gaps(map(drive_model, self.drives))

    def touch(self, device: DeviceTask) -> None:
        self._touch(device.id)

    def look_anew(self) -> None:
        self._news += 1

    def next_change(self) -> float:
        now = trio.current_time()
        busy = (drive.busy_until for drive in self._drive_offers.staying if drive.busy_until > now)
        return min(self.catalog.next_expiry(), min(busy, default=inf))

    def begin(self, queue: RequestQueue) -> LibraryPass:
        settings, known = self.settings, self._drive_offers
        if settings.dispatch == "none":
            self._dedicated.clear()
        known.touch_media(self._located)
        self._located = dict(self._around.recheck.located)
        known.touch_media(self._located)
        barred = self.suspicions.evidence.barred()
        known.renew(self.drives, queue.most_drives + len(barred))
        known.known.shared = settings.dispatch == "none"
        if not known.known.shared:
            kinds = tuple(queue.count(kind) for kind in KINDS)
            staying = tuple(offer.device for offer in known.offers if offer.stays)
            self._attempts.look((kinds, staying, tuple(self._located), frozenset(barred), self._news))
            share_out(known.offers, queue, settings, self._attempts)
        self._take_in(self.catalog.take_changed(), known.take_moved(), queue)
        self._found_since = {}
        stock = Stock(
            drives=known.offers,
            shelf=self._shelf.media,
            compatible=lambda medium, model: compatible(medium.model, model, settings),
            barred=barred,
            wanted=QueuedReads(queue, known.offers),
            absent={},
            grouped=settings.read_algorithm == "grouped_read",
            leaving=known.leaving,
            known_piles=self._shelf.piles,
            known_drives=known.known,
        )
        return LibraryPass(
            stock,
            queue,
            self._around,
            settings,
            (known.version, self._news),
            writers_of(self.drives) if settings.max_writers_per_grouping else {},
            self.suspicions.evidence.suspects(),
            self._found_since,
        )

    def end(self, made: Pass) -> None:
        """Keep which drive is there for which kinds of requests, and begin the exchanges of media."""
        if not isinstance(made, LibraryPass):
            return
        if self.settings.dispatch != "none":
            self._dedicated |= {offer.device: offer.dedicated for offer in made.stock.drives}
        now = trio.current_time()
        for name, (medium, failed) in made.exchanges.items():
            drive = self._around.devices.get(name)
            is_elsewhere = medium is not None and medium.id in self._found_since
            if not isinstance(drive, DriveTask) or is_elsewhere:
                continue
            # It may have failed, or begun anew, since this was decided.
            if drive.state.idle and drive.state.free_slots(now) > 0:
                drive.exchange(medium, failed)
                self._drive_offers.touch(name)
        if made.latest > self._latest:
            self._latest = made.latest
            self._attempts.forget()
        at_rest = all(drive.state.idle for drive in self.drives)
        if self._attempts.go_on(made.out_of_turn, made.stock.drives, at_rest=at_rest):
            self._around.context.changed()

    def dedicated(self, device: ResourceId) -> frozenset[RequestKind]:
        """Which kinds of requests a drive serves now."""
        return self._dedicated.get(device, ALL_KINDS)

    async def device_added(self, device: ResourceId) -> None:
        await self.suspicions.forget(device, is_drive=True)

    async def medium_updated(self, medium: ResourceId) -> None:
        self.catalog.forget(medium)
        if not await self.catalog.look_up([medium]) and self.catalog.is_unlocked(medium):
            await self.suspicions.forget(medium, is_drive=False)

    def report(self) -> Mapping[str, object]:
        in_drives = [(drive.medium, drive.state.volume.free) for drive in self.drives if drive.medium is not None]
        shelf = shelf_of(self.catalog.rows, (medium.id for medium, _ in in_drives)).values()
        media = [*in_drives, *((shelved.medium, shelved.medium.stats.phys_spc_free) for shelved in shelf)]
        writable = [free for medium, free in media if _writable(medium)]
        return {
            "volumes": len(writable),
            "free": sum(writable),
            "media": {"drives": len(in_drives), "shelf": len(shelf)},
            "suspects": [
                {"drive": drive.name, "medium": medium.name, "what": what}
                for drive, medium, what in self.suspicions.evidence.suspects()
            ],
        }

    # What drives tell.

    def _touch(self, drive: ResourceId) -> None:
        self._drive_offers.touch(drive)
        self._attempts.forget()

    def _drive_changed(self, drive: ResourceId) -> None:
        self._touch(drive)
        self._around.context.changed()

    def _put_back(self, drive: ResourceId, medium: Medium, error: LrsError | None) -> None:
        self._touch(drive)
        self.catalog.put_back(medium, error)
        self._around.context.changed()

    def _found(self, drive: ResourceId, medium: Medium) -> None:
        self._found_since[medium.id] = None
        self._drive_changed(drive)

    def _tell_gaps(self, drive_models: Iterable[str | None]) -> None:
        """Say once what the tables of the settings leave out. A drive that has no model in the DSS tells it itself."""
        models = [model for model in drive_models if model is not None]
        media = (shelved.medium.model for shelved in self.catalog.rows.values())
        found = gaps(media, models, self.settings)
        for gap in found:
            if gap not in self._gaps:
                log.warning("a gap in the tables of the settings", gap=gap)
        self._gaps = frozenset(found)

    # What a pass begins with.

    def _offer(self, drive: DriveTask) -> DriveOffer:
        return drive_offer(drive, self._around, self.settings, self.dedicated(drive.id))


def _writable(medium: Medium) -> bool:
    return (
        medium.put and medium.adm_status is AdmStatus.UNLOCKED and medium.fs_status in (FsStatus.EMPTY, FsStatus.USED)
    )
