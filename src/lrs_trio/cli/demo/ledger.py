"""What the demo's clients have done, to be compared with what is there afterwards."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from lrs_trio.dss.operations import ReadLocks, ReadMedia
from lrs_trio.dss.sqlite import SqliteHome
from lrs_trio.errors import describe
from lrs_trio.model import Family

LARGEST = 128 * 1024
TAPE_FILE = 128 * 1024
"""The size of a file on tape, on average. Bytes."""


@dataclass(frozen=True, slots=True)
class Order:
    """One file to be written: its content follows from `number`, so that it need not be kept."""

    number: int
    size: int
    copies: int
    read_back: bool = False

    @property
    def content(self) -> bytes:
        return Random(self.number).randbytes(self.size)


def make_orders(count: int) -> list[Order]:
    """Files of all sizes from none to `LARGEST` bytes, most of them small, a third with two copies."""
    random = Random(count)
    orders = []
    for number in range(count):
        size = 0 if number % 50 == 0 else int(LARGEST * random.random() ** 3)
        orders.append(Order(number, size, 2 if random.random() < 1 / 3 else 1, random.random() < 1 / 4))
    return orders


def make_tape_orders(count: int) -> list[Order]:
    """Files around `TAPE_FILE` bytes, all with two copies."""
    random = Random(count)
    return [Order(number, int(TAPE_FILE * random.uniform(0.25, 1.75)), 2) for number in range(count)]


@dataclass(frozen=True, slots=True)
class Written:
    """A file whose release was answered: it is promised to be there."""

    order: Order
    paths: tuple[Path, ...]
    media: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Failure:
    """A request that failed at `time`, in seconds of the crowd's clock; `errno` is 0 if it had none.

    `media` are those that the client had been granted, if it got so far.
    """

    time: float
    errno: int
    text: str
    media: tuple[str, ...] = ()


@dataclass(slots=True)
class Ledger:
    """Grows while the crowd works. Times are seconds; `given_up` counts files that no attempt has written."""

    written: list[Written] = field(default_factory=list)
    read: int = 0
    failures: list[Failure] = field(default_factory=list)
    spoilt: list[str] = field(default_factory=list)
    """What was read back with other content than was written."""

    given_up: int = 0
    allocate_times: list[float] = field(default_factory=list)
    release_times: list[float] = field(default_factory=list)

    def fail(self, time: float, error: OSError, media: tuple[str, ...] = ()) -> None:
        self.failures.append(Failure(time, error.errno or 0, describe(error), media))

    @property
    def stored_bytes(self) -> int:
        return sum(written.order.size * written.order.copies for written in self.written)


def unsound_files(written: list[Written]) -> list[str]:
    """What is wrong with the files that were promised to be there."""
    problems = []
    for file in written:
        content = file.order.content
        for path in file.paths:
            try:
                if path.read_bytes() != content:
                    problems.append(f"{path}: other content than was written")
            except OSError as error:
                problems.append(f"{path}: {error.strerror}")
    return problems


def wrong_books(written: list[Written], dss: Path, family: Family) -> list[str]:
    """Where the DSS counts other objects or bytes than were acknowledged."""
    objects: defaultdict[str, int] = defaultdict(int)
    sizes: defaultdict[str, int] = defaultdict(int)
    for file in written:
        for medium in file.media:
            objects[medium] += 1
            sizes[medium] += file.order.size
    problems = []
    with SqliteHome.open(dss) as home:
        rows = home.execute(ReadMedia(family))
    for row in rows:
        name, stats = row.medium.id.name, row.medium.stats
        wanted = (objects.pop(name, 0), sizes.pop(name, 0))
        if (stats.nb_obj, stats.logc_spc_used) != wanted:
            problems.append(
                f"{name}: the DSS counts {stats.nb_obj} objects and {stats.logc_spc_used} bytes,"
                f" {wanted[0]} and {wanted[1]} were acknowledged"
            )
    return problems + [f"{name}: not in the DSS" for name in objects]


def locks_left(dss: Path) -> list[str]:
    with SqliteHome.open(dss) as home:
        return [f"{lock.type.value} {lock.id}: held by {lock.owner}" for lock in home.execute(ReadLocks())]
