"""The demo's clients: a crowd that writes and reads real files, and the few that meet the drain."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, Final

import trio

from lrs_trio.cli.demo.ledger import Ledger, Order, Written
from lrs_trio.client.asynchronous import open_client
from lrs_trio.errors import LrsError
from lrs_trio.model import Family, ResourceId

if TYPE_CHECKING:
    from lrs_trio.cli.demo.daemon import DemoSite
    from lrs_trio.client.asynchronous import Allocation, Client

LIBRARY: Final = "legacy"
PROGRESS_S: Final = 0.2
KILLED_S: Final = 5.0
"""How long a process may take to be gone after SIGKILL. Seconds."""
DISK_THREADS: Final = 8
ATTEMPTS: Final = 3
"""How often a client asks for a file to be written, if that goes wrong."""


@dataclass(frozen=True, slots=True)
class Syncs:
    """What the daemon has counted: releases that asked for a sync, by medium, and physical syncs."""

    requested: int
    physical: int


class Pace:
    """How long clients take for their I/O besides what the disk takes; here nothing. Times are seconds."""

    pause_s = 0.0
    """Between two reads of a reader."""

    def write_s(self, size: int) -> float:
        """Writing `size` bytes, on all media of a request at the same time."""
        return 0.0

    def read_s(self, size: int, place: int) -> float:
        """Reading `size` bytes that lie behind `place` others on a medium."""
        return 0.0


class Crowd:
    """Clients that share one list of files to write in `family`, and start none later than after `seconds`."""

    def __init__(
        self, socket: Path, orders: list[Order], seconds: float, family: Family = Family.DIR, pace: Pace | None = None
    ) -> None:
        self.ledger = Ledger()
        self.syncs = Syncs(0, 0)
        self.family = family
        self._socket = socket
        self._orders = orders
        self._seconds = seconds
        self._pace = pace or Pace()
        self._half = trio.Event()
        self._all_written = trio.Event()
        # How many bytes this crowd has written to a medium, and how many of them lie before a file.
        self._filled: defaultdict[str, int] = defaultdict(int)
        self._places: dict[tuple[str, int], int] = {}
        # Its own, so that writing files never keeps other users of threads waiting.
        self._disk_limiter = trio.CapacityLimiter(DISK_THREADS)

    async def run(self, clients: int, progress: Callable[[Ledger, Syncs], None], readers: int = 0) -> None:
        """Write and read until all files are written or the time is up; `progress` is called now and then.

        Args:
            clients: so many write files, each one after the other.
            progress: gets what has been done so far.
            readers: so many more read what others have written, with a pause after each file.
        """
        orders = self._until(trio.current_time() + self._seconds)
        async with trio.open_nursery() as watching:
            watching.start_soon(self._watch, progress, name="demo progress")
            async with trio.open_nursery() as working:
                for number in range(readers):
                    working.start_soon(self._reader, Random(number), name=f"demo reader {number}")
                async with trio.open_nursery() as writing:
                    for number in range(clients):
                        # One after the other: the socket's queue of new connections is shorter than a crowd.
                        await writing.start(self._client, orders, name=f"demo client {number}")
                self._half.set()
                self._all_written.set()
            watching.cancel_scope.cancel(reason="all files are written")
        self.syncs = await self._count_syncs()
        progress(self.ledger, self.syncs)

    @property
    def all_written(self) -> bool:
        """Whether all has been written that will be."""
        return self._all_written.is_set()

    async def wait_half(self) -> None:
        """Return when half of the files are written, or half of the time is over."""
        with trio.move_on_after(self._seconds / 2):
            await self._half.wait()

    def ask(self, client: Client, order: Order) -> AbstractAsyncContextManager[Allocation]:
        """Media for a file, held as long as the block lasts."""
        return client.write(order.size, copies=order.copies, family=self.family, library=LIBRARY)

    async def store(self, allocation: Allocation, order: Order) -> tuple[Path, ...]:
        """Write the file once on every medium of the allocation."""
        paths = tuple(Path(medium.root, "files", f"{order.number:06}") for medium in allocation.media)
        for medium in allocation.media:
            self._places[medium.medium.name, order.number] = self._filled[medium.medium.name]
            self._filled[medium.medium.name] += order.size
        await trio.sleep(self._pace.write_s(order.size))
        await trio.to_thread.run_sync(_store, order, paths, limiter=self._disk_limiter)
        for medium in allocation.media:
            medium.wrote(order.size, 1)
        return paths

    def _until(self, deadline: float) -> Iterator[Order]:
        for order in self._orders:
            yield order
            if trio.current_time() >= deadline:
                return

    async def _client(
        self, orders: Iterator[Order], *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Started once the daemon has answered; an error that is no answer of the daemon ends this client only."""
        async with open_client(self._socket) as client:
            await client.ping()
            task_status.started()
            try:
                for order in orders:
                    written = await self._write_somehow(client, order)
                    if written is not None and order.read_back:
                        await self._read(client, written)
            except OSError as error:
                self.ledger.fail(trio.current_time(), error)

    async def _write_somehow(self, client: Client, order: Order) -> Written | None:
        """Write the file; once more if the daemon says that it went wrong. ``None``: no attempt was good."""
        for _ in range(ATTEMPTS):
            written = await self._write(client, order)
            if written is not None:
                return written
        self.ledger.given_up += 1
        return None

    async def _write(self, client: Client, order: Order) -> Written | None:
        """One attempt; ``None`` if the daemon says that it went wrong."""
        asked = trio.current_time()
        media: tuple[str, ...] = ()
        try:
            async with self.ask(client, order) as allocation:
                granted = trio.current_time()
                media = names(allocation)
                paths = await self.store(allocation, order)
                stored = trio.current_time()
        except LrsError as error:
            self.ledger.fail(trio.current_time(), error, media)
            return None
        self.ledger.release_times.append(trio.current_time() - stored)
        self.ledger.allocate_times.append(granted - asked)
        written = Written(order, paths, media)
        self.ledger.written.append(written)
        if len(self.ledger.written) * 2 >= len(self._orders):
            self._half.set()
        return written

    async def _reader(self, random: Random) -> None:
        """Read files that have been written, any of them, until no more are written."""
        async with open_client(self._socket) as client:
            while not self._all_written.is_set():
                if self.ledger.written:
                    try:
                        await self._read(client, random.choice(self.ledger.written))
                    except OSError as error:
                        self.ledger.fail(trio.current_time(), error)
                with trio.move_on_after(self._pace.pause_s):
                    await self._all_written.wait()

    async def _read(self, client: Client, written: Written) -> None:
        media = [ResourceId(self.family, name, LIBRARY) for name in written.media]
        async with client.read(media, n_required=1) as allocation:
            held = allocation.media[0]
            path = Path(held.root, "files", written.paths[0].name)
            place = self._places[held.medium.name, written.order.number]
            await trio.sleep(self._pace.read_s(written.order.size, place))
            content = await trio.to_thread.run_sync(path.read_bytes, limiter=self._disk_limiter)
        self.ledger.read += 1
        if content != written.order.content:
            self.ledger.spoilt.append(f"{path}: read back other content than was written")

    async def _watch(self, progress: Callable[[Ledger, Syncs], None]) -> None:
        async with open_client(self._socket) as client:
            while True:
                progress(self.ledger, syncs_in(await client.stats("dev")))
                await trio.sleep(PROGRESS_S)

    async def _count_syncs(self) -> Syncs:
        async with open_client(self._socket) as client:
            return syncs_in(await client.stats("dev"))


def names(allocation: Allocation) -> tuple[str, ...]:
    return tuple(held.medium.name for held in allocation.media)


def syncs_in(stats: list[dict[str, Any]]) -> Syncs:
    """The sums over all devices in the daemon's answer to a stat request."""
    sums = {"dev.requested_sync": 0, "dev.effective_sync": 0}
    for metric in stats:
        if metric["name"] in sums:
            sums[metric["name"]] += metric["value"]
    return Syncs(sums["dev.requested_sync"], sums["dev.effective_sync"])


def _store(order: Order, paths: tuple[Path, ...]) -> None:
    content = order.content
    for path in paths:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)


@dataclass(slots=True)
class DrainSeen:
    """How the drain looked to the clients."""

    under_way: int = 0
    refused: bool = False
    answered: int = 0


class DrainCrowd:
    """Clients in the middle of their I/O when the daemon is told to end (note 11)."""

    def __init__(self, socket: Path, crowd: Crowd, interrupt: Callable[[], None]) -> None:
        self.seen = DrainSeen()
        self._socket = socket
        self._crowd = crowd
        self._interrupt = interrupt
        self._refused = trio.Event()
        self._all_writing = trio.Event()

    async def run(self, orders: list[Order]) -> None:
        """Start the I/O of `orders`, interrupt the daemon, see that it takes no more, then let the I/O end."""
        async with trio.open_nursery() as nursery:
            for order in orders:
                nursery.start_soon(self._write_slowly, order, len(orders), name=f"demo client of file {order.number}")
            await self._all_writing.wait()
            async with open_client(self._socket) as client:
                self._interrupt()
                self.seen.refused = await self._see_refusal(client)
            self._refused.set()

    async def _write_slowly(self, order: Order, count: int) -> None:
        ledger = self._crowd.ledger
        media: tuple[str, ...] = ()
        try:
            async with open_client(self._socket) as client, self._crowd.ask(client, order) as allocation:
                media = names(allocation)
                self.seen.under_way += 1
                if self.seen.under_way == count:
                    self._all_writing.set()
                await self._refused.wait()
                paths = await self._crowd.store(allocation, order)
            self.seen.answered += 1
            ledger.written.append(Written(order, paths, media))
        except OSError as error:
            self.seen.answered += isinstance(error, LrsError) and bool(media)
            ledger.fail(trio.current_time(), error, media)
            self._all_writing.set()

    async def _see_refusal(self, client: Client) -> bool:
        """Ask until the signal has arrived and the daemon says ESHUTDOWN; bounded by the caller's time."""
        while True:
            try:
                async with client.read([self._any_medium()], n_required=1):
                    pass
            except OSError as error:
                if error.errno == errno.ESHUTDOWN:
                    return True
                self._crowd.ledger.fail(trio.current_time(), error)
                return False

    def _any_medium(self) -> ResourceId:
        """One that could be used just now."""
        return ResourceId(self._crowd.family, self._crowd.ledger.written[-1].media[0], LIBRARY)


async def kill_a_client(site: DemoSite) -> int:
    """Kill `lrs exec` in the middle of its I/O; its process id, or 0 if it did not get so far."""
    lrs = [sys.executable, "-m", "lrs_trio.cli.lrs", "--config", str(site.config)]
    command = ["sh", "-c", "echo half a file > {root}/half; echo writing; exec sleep 60"]
    process = await trio.lowlevel.open_process(
        [*lrs, "exec", "--write", "1MiB", "--copies", "2", "--", *command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        env={name: value for name, value in os.environ.items() if not name.startswith("LRS_")},
    )
    if process.stdout is None:
        raise RuntimeError("a pipe was asked for")
    try:
        async with process.stdout:
            writing = await process.stdout.receive_some()
    finally:
        process.kill()
        with trio.move_on_after(KILLED_S, shield=True):  # it is killed: this leaves no zombie behind
            await process.wait()
    return process.pid if writing else 0


async def holders(socket: Path) -> set[int]:
    """The processes that have been granted something."""
    async with open_client(socket) as client:
        report = await client.status()
    devices = [device for family in report["families"] for device in family["devices"]]
    return {grant["pid"] for device in devices for grant in device["grants"]}
