"""What `make bench` measures: blocks of cases, each block on a site and with a daemon of its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from benchmarks.sites import NAMES, DssKind

CLIENTS: Final = (1, 8, 64)
DIRECTORIES: Final = (1, 4, 16, 64)

WITH_EVERYTHING: Final = 4
"""So many directories also see writes of two copies, and reads."""

AS_PHOBOSD: Final = {"dir": {"max_concurrent_io": 1, "sync_while_io": False}}
"""How directories are served under a Phobos configuration; the thresholds are the same by default."""


@dataclass(frozen=True, slots=True)
class Case:
    """Cycles of one kind; 0 copies: reads of what was written before."""

    name: str
    clients: int
    copies: int


@dataclass(frozen=True, slots=True)
class Block:
    """Cases that follow each other on one site, which has this `families` table in its settings."""

    dss: DssKind
    directories: int
    cases: tuple[Case, ...]
    families: Mapping[str, object] = field(default_factory=dict)

    def __str__(self) -> str:
        way = ", one client at a time on each as with phobosd" if self.families else ""
        return f"{NAMES[self.dss]}, {self.directories} {'directories' if self.directories > 1 else 'directory'}{way}"


def plan(dss: DssKind, directories: Sequence[int]) -> Iterator[Block]:
    """The blocks with such a DSS and so many directories."""
    for count in directories:
        yield Block(dss, count, _cases(count))
    if dss == "postgres":
        for count, clients in ((1, 1), (4, 64), (64, 64)):
            if count in directories:
                yield Block(dss, count, (Case("write", clients, 1),), AS_PHOBOSD)


def _cases(directories: int) -> tuple[Case, ...]:
    kinds = [("write", 1), *([("write two copies", 2), ("read", 0)] if directories == WITH_EVERYTHING else [])]
    return tuple(Case(name, clients, copies) for name, copies in kinds for clients in CLIENTS)
