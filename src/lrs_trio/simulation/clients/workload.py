"""What the clients of a run ask for, one order after the other, and what they know of what is stored. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Final, TypeVar

from lrs_trio.model import Family, FsType, ResourceId
from lrs_trio.simulation.scenario import LIBRARY, Scenario

T = TypeVar("T")

TAGS: Final = ("blue", "green")
"""Those that media may have and writes may ask for."""

UNKNOWN_LIBRARY: Final = "elsewhere"

GROUPINGS: Final = ("alpha", "beta", "gamma")

MOST_COPIES: Final = 3
MOST_FILES: Final = 4
"""That one write brings."""

WRITES, READS, DELETES, FORMATS = 60, 25, 8, 7
"""How often each is asked for, of 100 requests."""

FULLNESS: Final = (0.2, 0.6, 1.5)
"""How many times what is written fills all that there is, if every write succeeds."""

BOUND_BY_MEAN: Final = 16
"""How much the largest size is above the mean, about, if there are as many of each order of magnitude."""


@dataclass(frozen=True, slots=True)
class Stored:
    """An object whose release was acknowledged. `size` is in bytes."""

    medium: ResourceId
    size: int
    extents: int = 1


@dataclass(frozen=True, slots=True)
class WriteOrder:
    """Files of `sizes` (bytes), each written to `copies` media."""

    family: Family
    sizes: tuple[int, ...]
    copies: int = 1
    tags: tuple[str, ...] = ()
    grouping: str | None = None
    prevent_duplicate: bool = False
    empty: bool = False
    no_split: bool = False
    library: str | None = None
    in_parts: bool = False
    """Whether every file but the last is synced before the next one is written."""

    @property
    def size(self) -> int:
        return sum(self.sizes)


@dataclass(frozen=True, slots=True)
class ReadOrder:
    """`size` bytes of each of `n_required` of `media`."""

    media: tuple[ResourceId, ...]
    n_required: int
    size: int


@dataclass(frozen=True, slots=True)
class DeleteOrder:
    objects: tuple[Stored, ...]

    @property
    def media(self) -> tuple[ResourceId, ...]:
        return tuple(dict.fromkeys(stored.medium for stored in self.objects))


@dataclass(frozen=True, slots=True)
class FormatOrder:
    medium: ResourceId

    @property
    def fs_type(self) -> FsType:
        return FsType.LTFS if self.medium.family is Family.TAPE else FsType.POSIX


Order = WriteOrder | ReadOrder | DeleteOrder | FormatOrder


class Stock:
    """What all clients together know: the acknowledged objects of each medium, and the media that are blank."""

    def __init__(self, blank: Sequence[ResourceId] = ()) -> None:
        self._objects: dict[ResourceId, list[Stored]] = {}
        self._blank = list(blank)

    def add(self, stored: Stored) -> None:
        self._objects.setdefault(stored.medium, []).append(stored)

    def some(self, random: Random, count: int) -> list[Stored]:
        """Objects on at most `count` different media of one family; none if there are none."""
        media = [medium for medium, objects in self._objects.items() if objects]
        if not media:
            return []
        family = random.choice(media).family
        of_family = [medium for medium in media if medium.family is family]
        chosen = random.sample(of_family, min(count, len(of_family)))
        return [random.choice(self._objects[medium]) for medium in chosen]

    def take(self, stored: Stored) -> None:
        """Nobody is told of `stored` any more: somebody deletes it, and may succeed without knowing it."""
        self._objects[stored.medium].remove(stored)

    def take_blank(self, random: Random) -> ResourceId | None:
        """A medium to be formatted, if there is one; it comes back by `put_back` if that fails."""
        return self._blank.pop(random.randrange(len(self._blank))) if self._blank else None

    def put_back(self, blank: ResourceId) -> None:
        self._blank.append(blank)


class Workload:
    """Makes up the orders of one client with `random`, on what is in `stock`."""

    def __init__(self, scenario: Scenario, random: Random, stock: Stock, fullness: float) -> None:
        self._scenario = scenario
        self._random = random
        self._stock = stock
        self._usual_largest = _usual_largest(scenario, fullness)
        self._families = [family for family, count in _devices(scenario).items() if count]

    def order(self) -> Order:
        """The next one: what there is nothing for becomes a write."""
        kind = self._random.choices((self._read, self._delete, self._format, self._write), _WEIGHTS)[0]
        return kind() or self._write()

    def _write(self) -> WriteOrder:
        random = self._random
        family = random.choice(self._families)
        files = random.choice((1, 1, 1, random.randint(1, MOST_FILES)))
        return WriteOrder(
            family,
            tuple(self._size() // files for _ in range(files)),
            self._copies(family),
            tags=(random.choice(TAGS),) if self._rarely(0.02) else (),
            grouping=random.choice(GROUPINGS) if self._rarely(0.1) else None,
            prevent_duplicate=self._rarely(0.05),
            empty=self._rarely(0.01),
            no_split=self._rarely(0.1),
            library=random.choice((None, None, LIBRARY, UNKNOWN_LIBRARY if self._rarely(0.02) else LIBRARY)),
            in_parts=self._rarely(0.3),
        )

    def _read(self) -> ReadOrder | None:
        found = self._stock.some(self._random, self._random.choice((1, 1, 2, 3, 5)))
        if not found:
            return None
        media = tuple(stored.medium for stored in found)
        return ReadOrder(media, self._random.choice((1, self._random.randint(1, len(media)))), found[0].size)

    def _delete(self) -> DeleteOrder | None:
        objects = tuple(self._stock.some(self._random, self._random.choice((1, 1, 2))))
        for stored in objects:
            self._stock.take(stored)
        return DeleteOrder(objects) if objects else None

    def _format(self) -> FormatOrder | None:
        medium = self._stock.take_blank(self._random)
        return None if medium is None else FormatOrder(medium)

    def _size(self) -> int:
        """Of each order of magnitude as many, some without content, and few that are larger than the media like."""
        if self._rarely(0.05):
            return 0
        largest = self._scenario.largest if self._rarely(0.01) else self._usual_largest
        return int(largest ** self._random.random())

    def _copies(self, family: Family) -> int:
        """Seldom more than there can be."""
        most = MOST_COPIES if self._rarely(0.02) else min(MOST_COPIES, _devices(self._scenario)[family])
        return self._random.choice((1, 1, self._random.randint(1, most)))

    def _rarely(self, probability: float) -> bool:
        return self._random.random() < probability


_WEIGHTS: Final = (READS, DELETES, FORMATS, WRITES)


def shares(whole: int, parts: int) -> list[int]:
    """`whole` in `parts` that differ by 1 at most."""
    share, more = divmod(whole, parts)
    return [share + (number < more) for number in range(parts)]


def _devices(scenario: Scenario) -> dict[Family, int]:
    return {Family.DIR: scenario.directories, Family.TAPE: scenario.drives}


def _usual_largest(scenario: Scenario, fullness: float) -> float:
    """What bounds most sizes, so that all writes together fill the media so many times."""
    families = _devices(scenario)
    room = scenario.volumes * scenario.directory_capacity if families[Family.DIR] else 0
    room += scenario.tapes * scenario.tape_capacity
    mean = fullness * room / max(scenario.requests, 1)
    return min(float(scenario.largest), max(mean * BOUND_BY_MEAN, 1.0))
