"""One pass over the queue of a family whose media come and go: what the drives offer, and what becomes of it."""

from __future__ import annotations

import errno
from collections.abc import Iterable
from dataclasses import dataclass, field

import trio

from lrs_trio.devices.drive import DriveTask
from lrs_trio.devices.life import DeviceStatus
from lrs_trio.devices.volume import Volume
from lrs_trio.errors import LrsError, describe
from lrs_trio.model import Medium, RequestKind, ResourceId
from lrs_trio.scheduling.compatibility import technology
from lrs_trio.scheduling.dispatch import dedicate
from lrs_trio.scheduling.library_offers import DriveOffer, Stock, all_at_once
from lrs_trio.scheduling.library_placement import place_format, place_read
from lrs_trio.scheduling.library_write import place_write, writers_full
from lrs_trio.scheduling.placement import Never, Outcome, Placed, VolumeOffer, Waits
from lrs_trio.scheduling.queue import RequestQueue
from lrs_trio.scheduling.requests import PlaceableRequest
from lrs_trio.scheduling.supply import Surroundings
from lrs_trio.settings import TapeSettings
from lrs_trio.wire.messages import ReadAllocation, WriteAllocation


@dataclass(slots=True)
class LibraryPass:
    """The stock of one pass."""

    stock: Stock
    around: Surroundings
    settings: TapeSettings
    version: int
    writers: dict[str, set[object]]
    suspects: Iterable[tuple[ResourceId, ResourceId, str]]
    out_of_turn: dict[RequestKind, None] = field(default_factory=dict)
    """The kinds of requests that wait for more drives than are there for them, in the order of the queue."""
    exchanges: dict[ResourceId, Medium | None] = field(default_factory=dict)
    """By drive: the medium that is to be brought there before anybody is promised it, or that none is to be there."""

    @property
    def world(self) -> object:
        drives = tuple((d.device, d.serving, d.medium.id if d.medium else None, d.dedicated) for d in self.stock.drives)
        return drives, self.version, frozenset(self.stock.barred)

    @property
    def gives(self) -> bool:
        return any(drive.slots for drive in self.stock.drives)

    def decide(self, request: PlaceableRequest) -> Outcome:
        outcome = self._place(request)
        if isinstance(outcome, Waits) and not outcome.in_turn:
            self.out_of_turn.setdefault(request.kind)
        if isinstance(outcome, Placed):
            outcome = all_at_once(outcome)
        if isinstance(outcome, Waits):
            self.exchanges |= dict.fromkeys(outcome.unload) | dict(outcome.fetch)
        return outcome

    def _place(self, request: PlaceableRequest) -> Outcome:
        body = request.body
        if isinstance(body, WriteAllocation):
            limit = self.settings.max_writers_per_grouping
            if body.grouping and writers_full(request.client, body.grouping, self.writers, limit):
                return Waits(())
            excluded = self.around.held_by(request.client) if body.prevent_duplicate else frozenset[ResourceId]()
            outcome = place_write(
                body,
                self.stock,
                excluded=excluded,
                first_fit=self.settings.policy == "first_fit",
                groupings=self.settings.groupings,
            )
            if body.grouping and (isinstance(outcome, Placed) or (isinstance(outcome, Waits) and outcome.in_turn)):
                # One that waits for its turn is a writer before those behind it.
                self.writers.setdefault(body.grouping, set()).add(request.client)
            return outcome
        self.stock.absent = request.absent
        outcome = place_read(body, self.stock) if isinstance(body, ReadAllocation) else place_format(body, self.stock)
        return self._explained(outcome, request) if isinstance(outcome, Never) else outcome

    def _explained(self, never: Never, request: PlaceableRequest) -> Never:
        """A medium that no drive is left for because it has failed in them is more than absent."""
        failures = [f"{what} in {drive.name}" for drive, medium, what in self.suspects if medium in request.media]
        if never.error.errno != errno.ENODEV or not failures:
            return never
        return Never(LrsError(errno.EIO, f"{never.error.strerror}; failed so far: {', '.join(failures)}"))


def drive_offer(
    drive: DriveTask, around: Surroundings, settings: TapeSettings, dedicated: frozenset[RequestKind]
) -> DriveOffer:
    """What `drive` can give in a pass."""
    now, state, medium = trio.current_time(), drive.state, drive.bound
    volume = around.context.volumes.get(str(medium.id)) if medium is not None else None
    present = medium is not None and drive.medium_id == medium.id
    return DriveOffer(
        device=drive.id,
        model=drive_model(drive),
        technology=technology(drive_model(drive), settings),
        medium=medium,
        volume=_room(volume, medium),
        mounted=present and state.status is DeviceStatus.MOUNTED,
        loaded=present and state.status is DeviceStatus.LOADED,
        # One that has lost track of its medium, or has to get rid of it, will serve again.
        serving=state.error is None and not state.stopping and state.status is not DeviceStatus.WAITING,
        idle=state.idle,
        slots=state.free_slots(now),
        kinds=frozenset(kind for kind in (RequestKind.READ, RequestKind.WRITE) if state.accepts(kind)),
        mixes=state.mix_reads_and_writes,
        load=len(state.grants),
        pending=len(state.to_sync),
        used=drive.used,
        formatting=state.formatting is not None,
        located=medium is not None and medium.id in around.recheck.located,
        stays=now < drive.busy_until,
        dedicated=dedicated,
        refusal=_refusal(drive, medium),
    )


def share_out(
    offers: list[DriveOffer], queue: RequestQueue, settings: TapeSettings, in_favour: RequestKind | None
) -> None:
    """Decide anew which drives are there for which kinds of requests; while one is `in_favour` only that one counts."""
    reads, writes, formats = (
        queue.count(kind) if in_favour in (None, kind) else 0
        for kind in (RequestKind.READ, RequestKind.WRITE, RequestKind.FORMAT)
    )
    queued = reads, writes, formats
    dedication = dedicate(offers, queued, settings.fair_share)
    for offer in offers:
        offer.dedicated = dedication[offer.device]


def _room(volume: Volume | None, medium: Medium | None) -> VolumeOffer:
    """The space of a drive's medium. Of one that nobody has used yet only the DSS knows."""
    if volume is not None:
        return VolumeOffer(volume.measured, volume.available)
    free = medium.stats.phys_spc_free if medium is not None else 0
    return VolumeOffer(free, free)


def leaves(drive: DriveTask) -> bool:
    """Whether the medium in the drive has to make room for another one."""
    return drive.bound is not None and drive.bound.id != drive.medium_id


def drive_model(drive: DriveTask) -> str | None:
    return drive.row.model or (drive.identity.model if drive.identity is not None else None)


def _refusal(drive: DriveTask, medium: Medium | None) -> LrsError | None:
    """Why nobody gets the medium in this drive, if that is for longer."""
    if drive.state.error is None or medium is None:
        return None
    text = f"{medium.id}: is stuck in drive {drive.row.path}, which is {drive.state.status.value}"
    return LrsError(errno.EIO, f"{text}: {describe(drive.state.error)}")


def writers_of(drives: Iterable[DriveTask]) -> dict[str, set[object]]:
    """By grouping: the clients that write it, or have been promised to."""
    writers: dict[str, set[object]] = {}
    for drive in drives:
        for grant in drive.state.grants:
            if grant.grouping is not None:
                writers.setdefault(grant.grouping, set()).add(grant.holder.client)
    return writers
