"""What `make bench` measures: points, in places that each have a site and a daemon of their own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Literal, get_args

from benchmarks.driver.scripts import Kind
from benchmarks.sites import DSS_KINDS, NAMES, DssKind

CLIENTS: Final = (1, 8, 64, 512)
DEVICES: Final = (1, 4, 16, 64)

MOST_CASES: Final = 4
"""So many devices also see pings, and the other ways of syncing."""

Way = Literal["default", "thresholds", "off", "phobosd"]
WAYS: Final[tuple[Way, ...]] = get_args(Way)
"""How directories are served: by default; with syncs by the default thresholds alone; with a threshold of one release;
or as phobosd serves them."""

FAMILIES: Final[Mapping[Way, Mapping[str, object]]] = {
    "default": {},
    "thresholds": {"dir": {"sync": {"mode": "thresholds"}}},
    "off": {"dir": {"sync": {"mode": "thresholds", "requests": 1}}},
    "phobosd": {"dir": {"max_concurrent_io": 1, "sync_while_io": False, "sync": {"mode": "thresholds"}}},
}
"""That table of the settings."""

_WAY_WORDS: Final[Mapping[Way, str]] = {
    "default": "",
    "thresholds": ", syncs by thresholds alone",
    "off": ", no release waits for others",
    "phobosd": ", one client at a time on each as with phobosd",
}


@dataclass(frozen=True, slots=True)
class Point:
    """Cycles of one kind by so many clients."""

    kind: Kind
    clients: int


@dataclass(frozen=True, slots=True)
class Place:
    """What kind of site there is, and how its daemon serves it."""

    dss: DssKind
    devices: int
    way: Way = "default"

    def __str__(self) -> str:
        return f"{NAMES[self.dss]}, {self.devices} device{'s' if self.devices > 1 else ''}{_WAY_WORDS[self.way]}"


Part = tuple[Place, tuple[Point, ...]]


def full_plan() -> Iterator[Part]:
    """Writes and reads everywhere, the rest where clients and devices grow together."""
    for dss in DSS_KINDS:
        for devices, diagonal in zip(DEVICES, CLIENTS, strict=True):
            kinds: list[Kind] = ["write two copies", "mixed"] if devices > 1 else ["mixed"]
            points = [Point(kind, clients) for kind in ("write", "read") for clients in CLIENTS]
            points += [Point(kind, diagonal) for kind in kinds]
            if devices == MOST_CASES and dss == "sqlite":
                points += [Point("ping", clients) for clients in CLIENTS]
            yield Place(dss, devices), tuple(points)
        for way in ("thresholds", "off"):
            yield Place(dss, MOST_CASES, way), tuple(Point("write", clients) for clients in CLIENTS)
    for devices, clients in ((1, 1), (4, 64), (64, 64)):
        yield Place("postgres", devices, "phobosd"), (Point("write", clients),)


def quick_plan() -> Iterator[Part]:
    """Something of everything."""
    kinds: tuple[Kind, ...] = ("ping", "write", "write two copies", "read", "mixed")
    yield Place("sqlite", 4), (Point("write", 1), *(Point(kind, 64) for kind in kinds))
    yield Place("sqlite", 4, "off"), (Point("write", 64),)
    yield Place("sqlite", 64), (Point("write", 512), Point("read", 512))
    yield Place("postgres", 4), (Point("write", 1), Point("write", 64), Point("read", 64))
