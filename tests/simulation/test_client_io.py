"""What clients do with the media that they hold."""

from __future__ import annotations

import errno
from collections.abc import Awaitable, Callable
from random import Random
from typing import Any, cast

import pytest
import trio

from lrs_trio.client.common import HeldMedium
from lrs_trio.model import Family, ResourceId
from lrs_trio.simulation.clients.client_io import FORGETFUL_S, ClientIo
from lrs_trio.simulation.clients.workload import Stored
from tests.simulation.hosts import run_patiently

GIB = 2**30
DISKS = (ResourceId(Family.DIR, "/data/000", "legacy"), ResourceId(Family.DIR, "/data/001", "legacy"))
TAPE = ResourceId(Family.TAPE, "P00000L8", "legacy")


class Books:
    """A ledger that writes down what it is told."""

    def __init__(self, full: str = "") -> None:
        self.told: list[str] = []
        self._full = full

    def begin_io(self, name: str, root: str) -> None:
        self.told.append(f"{name} begins {root}")

    def end_io(self, name: str, root: str) -> None:
        self.told.append(f"{name} ends {root}")

    def wrote(self, name: str, root: str, size: int) -> None:
        if root == self._full:
            raise OSError(errno.ENOSPC, "full")
        self.told.append(f"{name} wrote {size} to {root}")

    def deleted(self, name: str, root: str, size: int) -> None:
        self.told.append(f"{name} deleted {size} from {root}")


def held(*media: ResourceId) -> tuple[HeldMedium, ...]:
    return tuple(HeldMedium(medium, medium.name, GIB) for medium in media)


def io_with(books: Books, main: Callable[[ClientIo], Awaitable[None]], seed: int = 1) -> None:
    run_patiently(main, ClientIo(cast(Any, books), "client", Random(seed)))


async def nothing() -> None:
    await trio.lowlevel.checkpoint()


def test_a_file_is_written_to_every_medium_once_it_is_complete() -> None:
    books = Books()
    media = held(*DISKS)

    async def midway() -> None:
        assert books.told == ["client begins /data/000", "client begins /data/001"]
        assert media[0].size == 0
        await trio.lowlevel.checkpoint()

    async def main(io: ClientIo) -> None:
        await io.write(media, 1000, midway)

    io_with(books, main)
    assert books.told[2:] == [
        "client wrote 1000 to /data/000",
        "client wrote 1000 to /data/001",
        "client ends /data/000",
        "client ends /data/001",
    ]
    assert [(medium.size, medium.extents) for medium in media] == [(1000, 1), (1000, 1)]


def test_a_medium_without_room_is_not_written_and_its_io_ends() -> None:
    books = Books(full="/data/000")
    media = held(*DISKS)

    async def main(io: ClientIo) -> None:
        with pytest.raises(OSError, match="full"):
            await io.write(media, 1000, nothing)

    io_with(books, main)
    assert books.told[2:] == ["client ends /data/000", "client ends /data/001"]
    assert media[0].size == 0


def test_what_is_cut_short_midway_ends_without_having_written() -> None:
    books = Books()

    async def main(io: ClientIo) -> None:
        with trio.CancelScope() as scope:

            async def midway() -> None:
                scope.cancel()
                await trio.lowlevel.checkpoint()

            await io.write(held(TAPE), 1000, midway)

    io_with(books, main)
    assert books.told == ["client begins P00000L8", "client ends P00000L8"]


def test_a_deletion_counts_below_zero() -> None:
    books = Books()
    (medium,) = held(TAPE)

    async def main(io: ClientIo) -> None:
        await io.delete(medium, Stored(TAPE, 300, 2), nothing)

    io_with(books, main)
    assert books.told[1] == "client deleted 300 from P00000L8"
    assert (medium.size, medium.extents) == (-300, -2)


@pytest.mark.parametrize(("medium", "seconds"), [(DISKS[0], 10 * GIB / 1e9), (TAPE, 10 * GIB / 300e6)])
def test_io_takes_as_long_as_its_size_says_and_seldom_much_longer(medium: ResourceId, seconds: float) -> None:
    taken = []

    async def main(io: ClientIo) -> None:
        for _ in range(5000):
            begin = trio.current_time()
            await io.read(held(medium), 10 * GIB, nothing)
            taken.append(trio.current_time() - begin)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tests.simulation.hosts.PATIENCE_S", 10**9)
        patch.setattr("lrs_trio.simulation.clients.client_io.LEAST_S", {medium.family: (0.005,)})
        io_with(Books(), main)
    assert min(taken) >= seconds
    assert sum(second < seconds + 1 for second in taken) > 4900
    assert sum(seconds + 1 < second < FORGETFUL_S for second in taken) > 20
    assert 0 < sum(second > FORGETFUL_S for second in taken) < 10
