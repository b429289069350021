"""A small tape site, played with a seed: the events that a daemon would tell of it."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import trio

from lrs_trio.events import Event, EventKind, Events
from lrs_trio.observe.recording import Recorder
from lrs_trio.wire.plain import plain_message

START = 1000.0
"""The clock of a daemon begins anywhere."""

GIB = 2**30
LOAD_S, MOUNT_S, UNMOUNT_S, UNLOAD_S, SYNC_S = 15.0, 9.0, 40.0, 28.0, 4.0
RELEASES_PER_SYNC = 5
LONGEST_WAIT_S = 60.0


@dataclass
class Order:
    serial: int
    arrival: float
    request: str
    medium: str
    size: int

    @property
    def client(self) -> str:
        return f"client {self.serial % 40} (pid {4000 + self.serial % 40}, uid 1000)"


@dataclass
class Drive:
    name: str
    medium: str = ""
    syncs: list[tuple[float, Order]] = field(default_factory=list)
    unsynced: int = 0


class PlayedTapeSite:
    """`drives` drives serve `requests` requests for `cartridges` cartridges; the third drive dies at `death_s`."""

    def __init__(
        self, *, drives: int = 8, cartridges: int = 40, requests: int = 300, death_s: float = 500.0, seed: int = 1
    ) -> None:
        self._random = Random(seed)
        self._death = START + death_s
        self._drives = [Drive(f"10WT0{number:05}") for number in range(1, drives + 1)]
        self._dying = self._drives[min(2, drives - 1)]
        self._media = [f"L{number:05}L9" for number in range(1, cartridges + 1)]
        self._told: list[Event] = []
        self._orders = [self._order(number) for number in range(1, requests + 1)]

    def events(self) -> list[Event]:
        for order in self._orders:
            self._tell_of(EventKind.ALLOCATION_QUEUED, order.arrival, order)
        free = [(START, number) for number in range(len(self._drives))]
        for drive in self._drives:
            self._status(START, drive, "adopting")
            self._status(START + self._random.uniform(0.2, 2), drive, "empty")
        waiting = list(self._orders)
        while waiting and free:
            now, number = heapq.heappop(free)
            drive = self._drives[number]
            order = self._choose(waiting, drive, now)
            now = max(now, order.arrival) + 0.01
            if drive is self._dying and now > self._death:
                self._die(drive, order, now)
                continue
            waiting.remove(order)
            heapq.heappush(free, (self._serve(drive, order, now), number))
        end = max(event.time for event in self._told)
        for drive in self._drives:
            if drive is not self._dying or end < self._death:
                self._stop(drive, end)
        self._told.sort(key=lambda event: event.time)
        return self._told

    def _order(self, serial: int) -> Order:
        arrival = START + self._random.triangular(0, 1100, 350)
        request = "WRITE" if self._random.random() < 0.75 else "READ"
        size = int(self._random.lognormvariate(1.2, 0.8) * GIB)
        return Order(serial, arrival, request, self._random.choice(self._media), size)

    def _choose(self, waiting: list[Order], drive: Drive, now: float) -> Order:
        here = [order for order in waiting if order.arrival <= now]
        if not here:
            return min(waiting, key=lambda order: order.arrival)
        taken = {other.medium for other in self._drives if other is not drive}
        for order in here[:12]:
            if drive.medium and order.request == "WRITE":
                order.medium = drive.medium
            if order.medium == drive.medium:
                return order
        return next((order for order in here if order.medium not in taken), here[0])

    def _serve(self, drive: Drive, order: Order, now: float) -> float:
        self._tell_of(EventKind.ALLOCATION_PLACED, now, order, detail=drive.name)
        if drive.medium != order.medium:
            now = self._exchange(drive, order.medium, now)
        self._tell_of(EventKind.ALLOCATION_GRANTED, now, order)
        self._tell_of(EventKind.IO_BEGUN, now, order, drive)
        now += order.size / (380e6 * self._random.uniform(0.7, 1.0))
        if order.request == "READ":
            self._tell_of(EventKind.IO_ENDED, now, order, drive)
            return now
        self._tell_of(EventKind.RELEASE_BEGUN, now, order, serial=10_000 + order.serial, count=1)
        self._tell_of(EventKind.IO_ENDED, now, order, drive)
        drive.syncs.append((now, order))
        if len(drive.syncs) >= RELEASES_PER_SYNC or now - drive.syncs[0][0] > LONGEST_WAIT_S:
            now = self._sync(drive, now)
        return now + self._random.uniform(0.05, 1.5)

    def _exchange(self, drive: Drive, medium: str, now: float) -> float:
        if drive.medium:
            now = self._sync(drive, now)
            self._status(now, drive, "unmounting")
            now += UNMOUNT_S * self._random.uniform(0.8, 1.2)
            self._status(now, drive, "loaded")
            self._status(now, drive, "unloading")
            now += UNLOAD_S * self._random.uniform(0.8, 1.3)
            drive.medium = ""
            self._status(now, drive, "empty")
        drive.medium = medium
        if self._random.random() < 0.04:
            self._status(now, drive, "loading")
            now += 2 * LOAD_S
            self._tell(EventKind.LOAD_FAILED, now, drive, errno=5, detail="the drive did not take the cartridge")
            self._status(now, drive, "empty")
        self._status(now, drive, "loading")
        now += LOAD_S * self._random.uniform(0.9, 1.8)
        self._tell(EventKind.LOADED, now, drive)
        self._status(now, drive, "loaded")
        self._status(now + 0.1, drive, "mounting")
        now += MOUNT_S * self._random.uniform(0.6, 1.8)
        self._tell(EventKind.MOUNTED, now, drive)
        self._status(now, drive, "mounted")
        return now

    def _sync(self, drive: Drive, now: float) -> float:
        if not drive.syncs:
            return now
        self._tell(EventKind.SYNC_STARTED, now, drive, count=len(drive.syncs))
        now += SYNC_S * self._random.uniform(0.7, 1.6)
        size = sum(order.size for _, order in drive.syncs)
        self._tell(EventKind.SYNC_FINISHED, now, drive, size=size, count=len(drive.syncs))
        for _, order in drive.syncs:
            self._tell_of(EventKind.RELEASE_FINISHED, now + 0.01, order, serial=10_000 + order.serial)
        drive.syncs.clear()
        return now

    def _die(self, drive: Drive, order: Order, now: float) -> None:
        self._tell_of(EventKind.ALLOCATION_PLACED, now, order, detail=drive.name)
        self._status(now, drive, "unmounting")
        self._tell(EventKind.UNMOUNT_FAILED, now + 75, drive, errno=110, detail="unmount did not end within 75 s")
        self._status(now + 75, drive, "quarantined")
        self._tell(EventKind.DEVICE_FAILED, now + 75, drive, errno=110, detail="unmount did not end within 75 s")
        self._tell_of(EventKind.ALLOCATION_QUEUED, now + 75, order)
        order.arrival = max(order.arrival, now + 75)
        for _, waiting in drive.syncs:
            self._tell_of(EventKind.RELEASE_FAILED, now + 75, waiting, serial=10_000 + waiting.serial, errno=5)
        self._tell(EventKind.DEVICE_REMOVED, now + 75, drive)

    def _stop(self, drive: Drive, now: float) -> None:
        now = self._sync(drive, now)
        if drive.medium:
            self._status(now, drive, "unmounting")
            now += UNMOUNT_S * self._random.uniform(0.8, 1.2)
            self._status(now, drive, "loaded")
        self._status(now, drive, "stopped")
        self._tell(EventKind.DEVICE_REMOVED, now, drive)

    def _status(self, time: float, drive: Drive, status: str) -> None:
        self._tell(EventKind.DEVICE_STATUS, time, drive, detail=status)

    def _tell(
        self,
        kind: EventKind,
        time: float,
        drive: Drive,
        *,
        size: int = 0,
        count: int = 0,
        errno: int = 0,
        detail: str = "",
    ) -> None:
        self._told.append(
            Event(time, kind, "tape", drive.name, drive.medium, size=size, count=count, errno=errno, detail=detail)
        )

    def _tell_of(
        self,
        kind: EventKind,
        time: float,
        order: Order,
        drive: Drive | None = None,
        *,
        serial: int = 0,
        count: int = 0,
        errno: int = 0,
        detail: str = "",
    ) -> None:
        device, medium = (drive.name, drive.medium) if drive is not None else ("", "")
        serial = serial or order.serial
        self._told.append(
            Event(time, kind, "tape", device, medium, order.request, order.client, 0, count, errno, detail, serial)
        )


def write_recording(path: Path, events: Sequence[Event], *, wall_clock: float = 1_795_000_000.0) -> None:
    """What a recorder leaves that has seen `events`."""

    async def write() -> None:
        now = START
        source = Events(lambda: now)
        recorder = Recorder(path, source, plain_message, host="silo1", started=START, wall_clock=lambda: wall_clock)
        for event in events:
            now = event.time
            fields = {name: getattr(event, name) for name in Event.__slots__ if name not in ("time", "kind")}
            source.emit(event.kind, **fields)
        with trio.CancelScope() as scope:
            scope.cancel()
            await recorder.run()

    trio.run(write)
