"""The scheduler of one family: it takes requests in and hands promises to its devices (notes 10.1 to 10.4).

The task is thin: requests arrive on a bounded channel, a change anywhere sets an event, and each time
one pass over the queue decides. Between two steps of a pass things may change: what it chooses it looks at once more.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Mapping, MutableMapping
from contextlib import suppress
from math import inf
from weakref import WeakValueDictionary

import structlog
import trio

from lrs_trio.devices.device import DeviceContext, DeviceTask
from lrs_trio.devices.volume import Volume
from lrs_trio.dss.operations import Dss
from lrs_trio.dss.processes import process_start_time
from lrs_trio.dss.recovery import StartTimeOf
from lrs_trio.errors import LrsError, describe
from lrs_trio.events import EventKind, Events
from lrs_trio.model import Family, LockOwner, RequestKind, ResourceId
from lrs_trio.ordered import OrderedSet
from lrs_trio.scheduling.pace import Pace
from lrs_trio.scheduling.placement import Never, Placed
from lrs_trio.scheduling.queue import RequestQueue
from lrs_trio.scheduling.recheck import Recheck
from lrs_trio.scheduling.requests import (
    Allocation,
    Choice,
    FamilyRequest,
    FormatRequest,
    NotifyRequest,
    PlaceableRequest,
    RequestState,
    shutting_down,
)
from lrs_trio.scheduling.roster import Roster
from lrs_trio.scheduling.supply import Pass, Supply, Surroundings
from lrs_trio.scheduling.sweep import Sweep
from lrs_trio.settings import FamilySettings, TapeSettings

log = structlog.get_logger()

INBOX_CAPACITY = 256
"""Requests handed over and not yet taken in. The family takes them in without waiting for anything, so
this only absorbs bursts; when it is full, the task that hands over waits, and no reader does."""

SWEPT_AT_ONCE = 100
"""How many lines or requests are looked at in one pass to see whether they can still be served."""

REFUSED_PER_STEP = 16
"""How many of them may be refused in one step: each is told to its client, and to the log."""

Looks = tuple[int, int | None]
"""How many looks had begun at what is attached, and at what else the supply has."""

ENDINGS = {
    RequestState.ANSWERED: EventKind.ALLOCATION_GRANTED,
    RequestState.REFUSED: EventKind.ALLOCATION_REFUSED,
    RequestState.WITHDRAWN: EventKind.ALLOCATION_WITHDRAWN,
}


class FamilyScheduler:
    """One family: its devices, its queue, and who waits for what."""

    def __init__(
        self,
        family: Family,
        settings: FamilySettings,
        *,
        dss: Dss,
        owner: LockOwner,
        make_supply: Callable[[Surroundings], Supply],
        events: Events,
        recheck_s: float,
        wall_clock: Callable[[], float] = time.time,
        start_of: StartTimeOf = process_start_time,
        on_settings: Callable[[FamilySettings], None] | None = None,
    ) -> None:
        """Make the scheduler of `family`; `run` starts it.

        Args:
            family: what it serves.
            settings: how; those of placement may change later.
            dss: the DSS.
            owner: who holds the locks of its devices and media.
            make_supply: makes what its requests are placed on.
            events: where everything that happens is told.
            recheck_s: how old may be what is known of a medium when it is granted, in seconds.
            wall_clock: seconds since the epoch, as the DSS records them.
            start_of: when a process of this host started.
            on_settings: called with the new settings when they change.
        """
        self.family = family
        self.settings = settings
        self.queue = RequestQueue(_by_arrival(settings), keeps_heads=isinstance(settings, TapeSettings))
        self.live = OrderedSet[FamilyRequest]()
        self.draining = False
        # A volume is forgotten when no device and no grant has anything to do with it.
        self.volumes: MutableMapping[str, Volume] = WeakValueDictionary()
        self._dss = dss
        self._owner = owner
        self._events = events
        self._changed = trio.Event()
        self._arriving = OrderedSet[FamilyRequest]()
        self._until_taken_in = OrderedSet[Callable[[], None]]()
        self._until_decided = OrderedSet[Callable[[], None]]()
        self._passing = False
        self._world: object = None
        # Those that no pass has decided yet, with the look-ups of media that had begun when they came.
        self._undecided: dict[PlaceableRequest, Looks] = {}
        self._sweep = Sweep(self.queue)
        self._hopeful: list[Allocation] = []
        self._recheck = Recheck(dss, owner, recheck_s, wall_clock)
        self._on_settings = on_settings
        devices: dict[ResourceId, DeviceTask] = {}
        context = DeviceContext(
            settings, dss, owner, self.volumes, events, self.look, start_of=start_of, newcomers=self._newcomers
        )
        self._around = Surroundings(context, devices, self._recheck, lambda: self.settings, self._replan)
        self.supply = make_supply(self._around)
        self._roster = Roster(family, devices, self.supply, context, self._replan, self._look_anew)
        self._hand_over, self._inbox = trio.open_memory_channel[FamilyRequest](INBOX_CAPACITY)

    @property
    def devices(self) -> Mapping[ResourceId, DeviceTask]:
        """By their names, those that serve, those that cannot, and those that come and go at this moment."""
        return self._roster.devices

    @property
    def held(self) -> list[DeviceTask]:
        """The devices, and those that have failed and gone while clients still hold grants on them."""
        return self._roster.held

    # What the server asks for.

    def submit(self, request: FamilyRequest) -> bool:
        """Hand a request over; ``False`` if the channel is full and `wait_submit` has to be awaited."""
        if self.draining:
            self._turn_away(request)
            return True
        try:
            self._hand_over.send_nowait(request)
        except trio.WouldBlock:
            return False
        self._arriving.add(request)
        return True

    async def wait_submit(self, request: FamilyRequest) -> None:
        """Hand a request over once there is room."""
        try:
            await self._hand_over.send(request)
        except (trio.ClosedResourceError, trio.BrokenResourceError):
            self._turn_away(request)

    def is_attached(self, medium: ResourceId) -> bool:
        return self._around.is_attached(medium)

    def change_settings(self, settings: FamilySettings) -> None:
        """Go on with `settings`: what decides where writes go takes effect at once, the rest where it is read again."""
        self.settings = settings
        if self._on_settings is not None:
            self._on_settings(settings)
        self.supply.settings_changed()
        self._look_anew()

    def look(self) -> None:
        """Something has changed that may let a request go on: look at the queue again soon."""
        self._changed.set()

    @property
    def undecided(self) -> bool:
        """Whether requests wait that a pass will look at, or just does, and may place anywhere."""
        return bool(self._arriving) or ((self._passing or self._changed.is_set()) and len(self.queue) > 0)

    def unfinished(self) -> list[str]:
        """Each device that has not ended, with what keeps it, for people to read."""
        return self._roster.unfinished()

    # Life.

    async def run(
        self, devices: trio.Nursery, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Start the family's devices in `devices`, then serve until `close`.

        Started once every device is adopted, refused or waiting for a lock; one that hangs is not waited
        for and joins when it is ready.
        """
        await self.supply.start()
        await self._roster.start(devices)
        task_status.started()
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._schedule_on_change, nursery, name=f"placement of {self.family.label}")
                with self._inbox:
                    async for request in self._inbox:
                        self._take_in(request, nursery, devices)
                        # What else is there comes in the same step: one pass then looks at all of it.
                        with suppress(trio.WouldBlock, trio.EndOfChannel):
                            while True:
                                self._take_in(self._inbox.receive_nowait(), nursery, devices)
                        self._all_taken_in()
                nursery.cancel_scope.cancel(reason="the family's channel is closed")
        finally:
            # Only a forced end leaves any.
            for request in (*self.live, *self._arriving):
                request.abandon()

    def drain(self) -> None:
        """Refuse whatever has no answer on its way, and let the devices end in order (note 11)."""
        self.draining = True
        for request in tuple(self.live):
            request.refuse(shutting_down())
        self._roster.stop()

    def close(self) -> None:
        """Take nothing more in; `run` ends when what was handed over is refused."""
        self._hand_over.close()

    # Taking in.

    def _take_in(self, request: FamilyRequest, nursery: trio.Nursery, devices: trio.Nursery) -> None:
        self._arriving.discard(request)
        if request.ended:
            return
        if self.draining:
            self._turn_away(request)
            return
        self.live.add(request)
        request.on_end = self._forget
        request.on_requeue = self._requeue
        if isinstance(request, NotifyRequest):
            nursery.start_soon(self._notify, request, devices, name=f"notify of {request.body.resource}")
        elif isinstance(request, PlaceableRequest):
            unknown = self._around.unattached(request.media)
            if unknown:
                nursery.start_soon(self._look_up, request, unknown, name="look-up of media")
            else:
                self._admit(request)

    def _all_taken_in(self) -> None:
        """Nobody is on the way in any more: who has asked for newcomers has to wait for one pass only."""
        if self._until_taken_in:
            self._until_decided |= self._until_taken_in
            self._until_taken_in.clear()
            self.look()

    async def _look_up(self, request: PlaceableRequest, media: list[ResourceId]) -> None:
        await self._roster.look_again(frozenset(media).__contains__)
        await self.supply.look_up(request, media)
        self._admit(request)

    def _admit(self, request: PlaceableRequest) -> None:
        """Queue a request; the next pass places it, lets it wait, or refuses what can never be served."""
        if request.ended:
            return
        if isinstance(request, Allocation):
            self._tell(EventKind.ALLOCATION_QUEUED, request)
        self.queue.add(request)
        self._undecided[request] = self._recheck.looks, self.supply.looks
        self.look()

    def _turn_away(self, request: FamilyRequest) -> None:
        """Refuse what comes too late to be taken in."""
        request.on_end = self._forget
        request.refuse(shutting_down())

    def _requeue(self, request: FamilyRequest) -> None:
        if self.draining:
            request.refuse(shutting_down())
        elif isinstance(request, PlaceableRequest):
            self._admit(request)

    def _forget(self, request: FamilyRequest) -> None:
        kind = ENDINGS.get(request.state)
        if kind is not None and isinstance(request, Allocation):
            self._tell(kind, request)
        self.live.discard(request)
        if isinstance(request, PlaceableRequest):
            self.queue.discard(request)
            self._undecided.pop(request, None)
            if not len(self.queue):
                # What was to be decided is, though the pass that was to do it may still wait for the DSS.
                self._tell_decided()
        self.look()

    def _tell(self, kind: EventKind, request: Allocation, detail: str = "") -> None:
        if not self._events.wants(kind):
            return
        self._events.emit(
            kind,
            family=self.family.label,
            request=request.kind.name,
            client=str(request.client),
            errno=request.answered,
            detail=detail,
            serial=request.serial,
        )

    # Placing.

    async def _schedule_on_change(self, nursery: trio.Nursery) -> None:
        while True:
            with trio.move_on_at(self._next_change()):
                await self._changed.wait()
            await self._recheck_media()
            # What has come while the media were looked up is decided with what that has found.
            self._changed = trio.Event()
            asked, self._until_decided = self._until_decided, OrderedSet()
            if len(self.queue):
                self._passing = True
                await self._schedule()
                self._passing = False
            for decided in asked:
                decided()
            while self._hopeful:
                nursery.start_soon(self._seek_devices, self._hopeful.pop(), name="look at locks of other hosts")

    def _newcomers(self, decided: Callable[[], None]) -> bool:
        """Whether anything is `undecided`; if so, `decided` is called after a pass that has looked at all of it."""
        if not self.undecided:
            return False
        (self._until_taken_in if self._arriving else self._until_decided).add(decided)
        self.look()
        return True

    def _tell_decided(self) -> None:
        asked, self._until_decided = self._until_decided, OrderedSet()
        for decided in asked:
            decided()

    def _next_change(self) -> float:
        """When the passing of time alone lets somebody go on; never while nobody waits."""
        return min(self._recheck.next_expiry(), self.supply.next_change()) if len(self.queue) else inf

    def _look_anew(self) -> None:
        """What has changed may matter to all who wait, also where nothing has come free."""
        self.supply.look_anew()
        self.look()

    async def _recheck_media(self) -> None:
        """See that nothing is decided on what somebody else has changed meanwhile."""
        if not len(self.queue):
            self._recheck.rest()
            return
        locate_expiry = self.settings.locate_expiry_ms / 1000 if self.supply.heeds_locates(self.queue) else 0.0
        for device in await self._recheck.look(self.devices.values(), locate_expiry):
            self._replan(device)
            self.supply.look_anew()
        await self.supply.refresh(self.queue)

    async def _seek_devices(self, request: Allocation) -> None:
        """Before a write is refused for want of a medium: see whether another host has given one back."""
        await self._roster.look_again(lambda awaited: True)
        self._admit(request)

    async def _schedule(self) -> None:
        """One pass: every waiting request takes, claims, or is refused, in order (decision 3).

        However many they are, no step takes long.
        """
        made = self.supply.begin(self.queue)
        if made.world != self._world:
            self._world = made.world
            self._sweep.begin()
        pace = Pace(made.looks_per_step)
        for request in made.turns():
            if request is not None:
                self._settle(request, made)
            await pace.step()
        # Nothing is free for those that are left, but the new ones may ask for what can never be.
        for request in tuple(self._undecided):
            if request in self._undecided:
                self._judge(request, made)
                await pace.step()
        pace = Pace(min(made.looks_per_step, REFUSED_PER_STEP))
        for request in self._sweep.some(made, SWEPT_AT_ONCE):
            self._judge(request, made)
            await pace.step()
        if self._sweep:
            self.look()
        self.supply.end(made)

    def _settle(self, request: PlaceableRequest, made: Pass) -> None:
        """Let one request take, claim or be refused."""
        if request.client.is_gone:
            # Its turn to be withdrawn has not come yet: nothing is fetched for it any more.
            request.withdraw()
            return
        looks = self._undecided.pop(request, None)
        outcome = made.decide(request)
        if isinstance(outcome, Never):
            self._turn_down(request, outcome.error, looks)
            return
        made.apply(request, outcome)
        if isinstance(outcome, Placed):
            self.queue.discard(request)
            self._place(request, outcome)

    def _judge(self, request: PlaceableRequest, made: Pass) -> None:
        """Let one request be refused if it can never be served."""
        looks = self._undecided.pop(request, None)
        never = made.judge(request)
        if never is not None:
            self._turn_down(request, never.error, looks)

    def _turn_down(self, request: PlaceableRequest, error: LrsError, looks: Looks | None) -> None:
        """Refuse one that can never be served, unless a look may find that it can.

        `looks` had begun when it came, if no pass has decided it before.
        """
        if looks is not None and self._looks_again(request, *looks):
            # What it needs may have been made usable since it was looked up.
            self._undecided[request] = looks
            self.look()
        elif isinstance(request, Allocation) and self._has_hope(request):
            request.hoped = True
            self.queue.discard(request)
            self._hopeful.append(request)
        else:
            # What a device has met with says more than that nothing is left to be tried.
            self._refuse(request, request.error or error)

    def _looks_again(self, request: PlaceableRequest, attached: int, supplied: int | None) -> bool:
        """Have everything looked up that was not since `request` came; ``False`` if all was.

        Then so many looks had begun at what is `attached`, and at what else the supply has.
        """
        again = attached == self._recheck.looks
        if again:
            self._recheck.expire()
        # Those that name their media have had them looked up.
        if request.kind is RequestKind.WRITE and supplied is not None and supplied == self.supply.looks:
            self.supply.expire()
            again = True
        return again

    def _has_hope(self, request: Allocation) -> bool:
        """Whether a write that finds no medium may find one when devices that wait for another host have looked."""
        unasked = request.kind is RequestKind.WRITE and not request.hoped
        return unasked and any(device.awaited is not None for device in self.devices.values())

    def _place(self, request: PlaceableRequest, placed: Placed) -> None:
        choices = [Choice(self.devices[take.device], take.medium, take.reserve) for take in placed.takes]
        if isinstance(request, Allocation):
            self._tell(EventKind.ALLOCATION_PLACED, request, ", ".join(choice.device.id.name for choice in choices))
            request.place(choices)
        else:
            request.place(choices[0])

    def _refuse(self, request: FamilyRequest, error: OSError) -> None:
        log.info(
            "request refused", client=str(request.client), request=request.kind.name.lower(), error=describe(error)
        )
        request.refuse(error)

    # Devices and media that change while the daemon runs.

    async def _notify(self, request: NotifyRequest, devices: trio.Nursery) -> None:
        try:
            await self._roster.heed(request.body, devices)
        except OSError as error:
            self._refuse(request, LrsError(error.errno or errno.EIO, describe(error)))
        else:
            request.done()

    def _replan(self, device: DeviceTask) -> None:
        """Let the requests that were promised this device, and not yet answered, be decided anew."""
        self.supply.touch(device)
        holders = (grant.holder for grant in device.state.grants)
        promised = dict.fromkeys(holder for holder in holders if isinstance(holder, Allocation))
        for allocation in sorted(promised, key=lambda request: request.serial):
            allocation.replan()
        formatting = device.state.formatting
        if formatting is not None and isinstance(formatting.holder, FormatRequest):
            formatting.holder.replan()


def _by_arrival(settings: FamilySettings) -> frozenset[RequestKind]:
    """The kinds of requests that are served as they came, whatever their priorities."""
    if isinstance(settings, TapeSettings) and settings.read_algorithm == "grouped_read":
        return frozenset() if settings.ordered_grouped_read else frozenset({RequestKind.READ})
    return frozenset()
