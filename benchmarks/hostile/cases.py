"""The hostile cases, and what each of them may do to an honest client."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from benchmarks.hostile import attacks
from benchmarks.hostile.attacks import Attack
from benchmarks.hostile.honest import PERIODS_S
from benchmarks.hostile.site import DIRECTORIES


@dataclass(frozen=True, slots=True)
class Case:
    """An attack by so many processes.

    `spared` are the waits of the honest client that may no more than double. The others are longer by what the order
    of requests promises: docs/hostile.md says why.
    """

    name: str
    attack: Attack
    processes: int = 1
    spared: tuple[str, ...] = tuple(PERIODS_S)
    descriptors: int | None = None
    """The daemon's limit, where it is the case."""
    directories: int = DIRECTORIES
    """Of the daemon: reports are as long as it has many."""


CASES: Final = (
    Case("flood of pings", attacks.flood_with_pings, 2),
    Case("flood of allocations", attacks.flood_with_allocations, 2),
    Case("never reads", attacks.never_read),
    Case("reads a byte a second", attacks.read_slowly),
    Case("comes and goes", attacks.come_and_go, 2),
    Case("uses up descriptors", attacks.use_up_descriptors, descriptors=256),
    Case("100,000 outstanding", attacks.have_much_outstanding),
    Case("highest priority", attacks.abuse_priorities, spared=("ping",)),
    Case("holds for ever", attacks.hold_for_ever),
    Case("reports", attacks.ask_for_reports, 4, directories=64),
)
