"""One pass over the queue of a family whose media come and go: what the drives offer, and what becomes of it."""

from __future__ import annotations

import errno
from collections.abc import Callable, Container, Hashable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from typing import NamedTuple

import trio

from lrs_trio.devices.drive import DriveTask
from lrs_trio.devices.life import DeviceStatus
from lrs_trio.devices.volume import Volume
from lrs_trio.errors import HostError, LibraryUnreachableError, LrsError, describe
from lrs_trio.model import Family, Medium, RequestKind, ResourceId
from lrs_trio.scheduling.compatibility import technology
from lrs_trio.scheduling.dispatch import Attempts, dedicate
from lrs_trio.scheduling.library_offers import DriveOffer, DriveTake, Stock, all_at_once
from lrs_trio.scheduling.library_placement import (
    drives_for_format,
    drives_for_read,
    format_refusal,
    place_format,
    place_read,
    read_refusal,
)
from lrs_trio.scheduling.library_turns import turns
from lrs_trio.scheduling.library_write import drives_for_write, place_write, write_refusal, writers_full
from lrs_trio.scheduling.piles import class_of
from lrs_trio.scheduling.placement import Never, Outcome, Placed, VolumeOffer, Waits, is_readable
from lrs_trio.scheduling.queue import Demand, Line, RequestQueue
from lrs_trio.scheduling.ranked import Rank
from lrs_trio.scheduling.requests import PlaceableRequest, RequestState
from lrs_trio.scheduling.supply import Surroundings
from lrs_trio.settings import TapeSettings
from lrs_trio.wire.messages import ReadAllocation, WriteAllocation, WriteMedium

LOOKS_PER_STEP = 16
"""How many requests are decided in one step where few drives are open; where many are each takes longer."""

MOST_IN_VAIN = 16
"""How many writes of a line are looked at in one pass that find nothing."""


_BOTH_KINDS = frozenset({RequestKind.READ, RequestKind.WRITE})

_UNSETTLED = frozenset({DeviceStatus.WAITING, DeviceStatus.ADOPTING})


class PlannedExchange(NamedTuple):
    """`medium` is to be brought to a drive, or none is to be there; `failed` is told if that does not work."""

    medium: Medium | None
    failed: Callable[[OSError], None]


@dataclass(slots=True)
class LibraryPass:
    """The stock of one pass."""

    stock: Stock
    queue: RequestQueue
    around: Surroundings
    settings: TapeSettings
    version: object
    writers: dict[str, set[object]]
    suspects: Iterable[tuple[ResourceId, ResourceId, str]]
    found: Container[ResourceId] = ()
    """The media that drives have found inside meanwhile: they are not on the shelf any more."""
    out_of_turn: dict[RequestKind, tuple[ResourceId, ...]] = field(default_factory=dict)
    """The kinds of requests that wait for more drives than are there for them, or for others; as in the queue.

    With each go the drives that would do for the first request that needs no more than its kind has.
    """
    latest: int = 0
    """The latest arrival that has been decided."""
    exchanges: dict[ResourceId, PlannedExchange] = field(default_factory=dict)
    """By drive: what is to be done there before anybody is promised it."""
    _line: Line | None = None
    _closed: dict[Line, None] = field(default_factory=dict)
    _in_vain: dict[Line, int] = field(default_factory=dict)
    """By line: how many of its writes have found nothing."""
    _fruitless: dict[tuple[RequestKind, Hashable], None] = field(default_factory=dict)
    """For which kinds of requests nothing is there that one could have for which kinds of media on the shelf."""

    @property
    def world(self) -> object:
        dedicated = None if self.stock.shared else tuple(drive.dedicated for drive in self.stock.drives)
        return dedicated, self.version, frozenset(self.stock.barred)

    @property
    def looks_per_step(self) -> float:
        return max(LOOKS_PER_STEP * 16 // (16 + len(self.stock.opened)), 1)

    def turns(self) -> Iterator[PlaceableRequest | None]:
        for line, request in turns(self.queue, self._is_open, lambda: bool(self.stock.opened), self._ahead):
            self._line = line
            yield request

    def apply(self, request: PlaceableRequest, outcome: Placed | Waits) -> None:
        if isinstance(outcome, Placed):
            outcome.take(request.kind)
        else:
            outcome.keep()
            if not outcome.claims and self._line is not None:
                self._found_nothing(self._line, request, outcome)

    def judge(self, request: PlaceableRequest) -> Never | None:
        body = request.body
        if isinstance(body, WriteAllocation):
            return self._refusal_of(body, self._excluded(request, body))
        self.stock.absent = request.absent
        error = read_refusal(body, self.stock) if isinstance(body, ReadAllocation) else format_refusal(body, self.stock)
        return None if error is None else self._explained(Never(error), request)

    def is_fine(self, line: Line) -> bool:
        wanted = line.wants
        if isinstance(wanted, Demand):
            return wanted.client is None and self._refusal_of(_hardest(line, wanted), frozenset()) is None
        medium = self.stock.known(wanted)
        if medium is None or line.kind is not RequestKind.READ or not is_readable(medium):
            return False
        # Who needs several media needs as many drives.
        return self.stock.refusal(wanted) is None and len(self.stock.ever(medium)) >= self.queue.most_drives

    def _ahead(self, kind: RequestKind, after: Rank | None) -> tuple[Rank, Line] | None:
        """The line of `kind` that stands next behind `after`, of those that could be open.

        There are about as many lines as tapes, and most of them wait for one that is in a busy drive, or that no drive
        can be had for. So the drives that are open are asked for what is in them.
        """
        stock, lines = self.stock, self.queue.lines[kind]
        if kind is RequestKind.WRITE or not stock.shared:
            return self.queue.next_line(kind, after)
        nearest = self.queue.next_line(kind, after, self._giving(kind))
        inside = [drive.medium.id for drive in stock.opened if drive.medium is not None]
        for medium in chain(inside, stock.evicted):
            line = lines.get(medium)
            head = line.head if line is not None else None
            if line is None or head is None or (after is not None and head <= after):
                continue
            if nearest is None or head < nearest[0]:
                nearest = head, line
        return nearest

    def _giving(self, kind: RequestKind) -> list[Hashable]:
        """The kinds of media on the shelf of which one could be had by a request of `kind`."""
        giving = []
        for place, lines in self.queue.heads[kind].items():
            first = lines.first()
            mark = kind, place
            if place is None or mark in self._fruitless or first is None or isinstance(first[1].wants, Demand):
                continue
            medium = self.stock.known(first[1].wants)
            if medium is not None and any(self.stock.takes(medium, drive) for drive in self.stock.opened):
                giving.append(place)
            else:
                self._fruitless[mark] = None
        return giving

    def _is_open(self, line: Line) -> bool:
        """Whether any request of `line` could take or keep anything."""
        stock, wanted = self.stock, line.wants
        if not stock.opened or line in self._closed:
            return False
        if isinstance(wanted, Demand) or not stock.shared:
            return True
        home = stock.home(wanted)
        if home is not None:
            return home.open
        medium = stock.known(wanted)
        if medium is None or (line.kind, class_of(medium)) in self._fruitless:
            return False
        return any(stock.fits(medium, drive) for drive in stock.opened)

    def _found_nothing(self, line: Line, request: PlaceableRequest, outcome: Waits) -> None:
        """A request waits and has found nothing to keep: those like it need not be looked at in this pass."""
        if isinstance(line.wants, Demand):
            body = request.body
            if isinstance(body, WriteAllocation) and body.grouping and self.settings.max_writers_per_grouping:
                return  # it may be that only its grouping is in its way
            self._in_vain[line] = self._in_vain.get(line, 0) + 1
            if not outcome.in_turn or self._in_vain[line] >= MOST_IN_VAIN:
                self._closed[line] = None
        elif not outcome.unload and not outcome.fetch:
            if len(request.media) == 1:
                self._closed[line] = None
            if request.kind is RequestKind.READ:
                left = self._left_to_others(request)
                self._fruitless |= dict.fromkeys([(RequestKind.READ, class_of(medium)) for medium in left])

    def _left_to_others(self, request: PlaceableRequest) -> Iterator[Medium]:
        """The media of a read that it could have if it took drives whose media other reads want, as none does.

        So it is with all media of their kinds.
        """
        victims = [drive for drive in self.stock.opened if drive.at_rest and drive.exchangeable]
        for name in request.media:
            medium = self.stock.known(name)
            if medium is None or not self.stock.on_shelf(name) or self.stock.lies_alone(medium):
                continue
            if any(self.stock.takes(medium, drive) for drive in victims):
                yield medium

    def decide(self, request: PlaceableRequest) -> Outcome:
        outcome = self._place(request)
        self.latest = max(self.latest, request.serial)
        if isinstance(outcome, Waits) and not outcome.in_turn and not self.stock.shared:
            self.out_of_turn[request.kind] = self.out_of_turn.get(request.kind) or self._suited(request)
        if isinstance(outcome, Placed):
            stale = [take for take in outcome.takes if isinstance(take, DriveTake) and self._is_stale(take)]
            if stale:
                for take in stale:
                    take.drive.slots, take.drive.untouched = 0, False
                    if take.medium.id in self.found:
                        self.stock.gone.add(take.medium.id)
                # What they can do now is for the next pass to find out.
                self.around.context.changed()
                return self.decide(request)
            outcome = all_at_once(outcome)
        if isinstance(outcome, Waits):
            failed = partial(_not_exchanged, request)
            wanted = dict.fromkeys(outcome.unload) | dict(outcome.fetch)
            self.exchanges |= {drive: PlannedExchange(medium, failed) for drive, medium in wanted.items()}
        return outcome

    def _place(self, request: PlaceableRequest) -> Outcome:
        body = request.body
        if isinstance(body, WriteAllocation):
            limit = self.settings.max_writers_per_grouping
            if body.grouping and writers_full(request.client, body.grouping, self.writers, limit):
                return Waits(())
            outcome = place_write(
                body,
                self.stock,
                excluded=self._excluded(request, body),
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

    def _suited(self, request: PlaceableRequest) -> tuple[ResourceId, ...]:
        """The drives that would do for `request`, if its kind had them instead of others."""
        body = request.body
        if isinstance(body, WriteAllocation):
            first_fit = self.settings.policy == "first_fit"
            return drives_for_write(body, self.stock, excluded=self._excluded(request, body), first_fit=first_fit)
        if isinstance(body, ReadAllocation):
            return drives_for_read(body, self.stock)
        return drives_for_format(body, self.stock)

    def _refusal_of(self, body: WriteAllocation, excluded: frozenset[ResourceId]) -> Never | None:
        return write_refusal(body, self.stock, excluded=excluded, first_fit=self.settings.policy == "first_fit")

    def _excluded(self, request: PlaceableRequest, body: WriteAllocation) -> frozenset[ResourceId]:
        return self.around.held_by(request.client) if body.prevent_duplicate else frozenset()

    def _is_stale(self, take: DriveTake) -> bool:
        """Whether by now the drive can do less than its offer says, has another medium, or another has this one."""
        if not take.in_place and take.medium.id in self.found:
            return True
        drive, medium = self.around.devices.get(take.device), take.drive.medium
        if not isinstance(drive, DriveTask) or drive.state.free_slots(trio.current_time()) <= 0:
            return True
        bound = drive.bound
        if bound is None or medium is None:
            return bound is not medium
        return (bound.id, bound.use) != (medium.id, medium.use)

    def _explained(self, never: Never, request: PlaceableRequest) -> Never:
        """A medium that no drive is left for because it has failed in them is more than absent."""
        failures = [f"{what} in {drive.name}" for drive, medium, what in self.suspects if medium in request.media]
        if never.error.errno != errno.ENODEV or not failures:
            return never
        return Never(LrsError(errno.EIO, f"{never.error.strerror}; failed so far: {', '.join(failures)}"))


def _not_exchanged(request: PlaceableRequest, error: OSError) -> None:
    """Media could not be moved for `request`, which is promised nothing yet: let it fare as if it were.

    Where the library could not be reached, or the host could not even begin, no other drive would do better, and with
    nobody to blame the next pass would have it tried again for ever. Whatever else fails is seen by that pass.
    """
    if request.state is RequestState.QUEUED and isinstance(error, LibraryUnreachableError | HostError):
        request.refuse(error)


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
        kinds=_BOTH_KINDS if state.mix_reads_and_writes else frozenset(filter(state.accepts, _BOTH_KINDS)),
        mixes=state.mix_reads_and_writes,
        load=len(state.grants),
        pending=len(state.to_sync),
        used=drive.used,
        formatting=state.formatting is not None,
        located=medium is not None and medium.id in around.recheck.located,
        stays=now < drive.busy_until,
        written=state.writes or (present and state.unrecorded),
        # These are to be looked at in every pass: it stays for a time only, or does not tell yet what is in it.
        untouched=now >= drive.busy_until and state.status not in _UNSETTLED,
        dedicated=dedicated,
        refusal=_refusal(drive, medium),
    )


def share_out(offers: list[DriveOffer], queue: RequestQueue, settings: TapeSettings, attempts: Attempts) -> None:
    """Decide anew which drives are there for which kinds of requests; while one is in favour only that one counts."""
    in_favour = attempts.in_favour
    reads, writes, formats = (
        queue.count(kind) if in_favour in (None, kind) else 0
        for kind in (RequestKind.READ, RequestKind.WRITE, RequestKind.FORMAT)
    )
    queued = reads, writes, formats
    dedication = dedicate(offers, queued, settings.fair_share, attempts.suited)
    for offer in offers:
        offer.dedicated = dedication[offer.device]


def _room(volume: Volume | None, medium: Medium | None) -> VolumeOffer:
    """The space of a drive's medium. Of one that nobody has used yet only the DSS knows."""
    if volume is not None:
        return VolumeOffer(volume.measured, volume.available)
    free = medium.stats.phys_spc_free if medium is not None else 0
    return VolumeOffer(free, free)


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


def _hardest(line: Line, wanted: Demand) -> WriteAllocation:
    """A write that is at least as hard to serve as all those in `line`."""
    sizes = zip(line.largest, wanted.parts, strict=True)
    media = tuple(WriteMedium(size, tags, empty) for size, (tags, empty) in sizes)
    return WriteAllocation(media, Family.TAPE, library=wanted.library, no_split=True)
