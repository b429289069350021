"""What goes wrong on purpose: when, by schedule or by rate. Pure, and the same for the same seed.

What is counted is counted from the opening of the library on, in each process for itself.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from lrs_trio.settings import Age, Seconds, Table, Whole
from lrs_trio.storage.virtual.tables import ARRAY

FaultKind = Literal[
    "load",
    "mount_hang",
    "mount",
    "sync",
    "end_of_medium",
    "wrong_cartridge",
    "robot_stall",
    "drive_death",
    "stuck_unload",
    "unmount_busy",
    "write_protected",
    "format",
]
"""Each is counted by the operation that it belongs to: loads for load and wrong_cartridge, mounts for mount_hang, mount
and write_protected, syncs for sync and end_of_medium, moves for robot_stall, unloads for stuck_unload, unmounts for
unmount_busy, formats for format, and whatever a drive does for drive_death."""


class Fault(Table):
    """One thing that goes wrong: with `drive` or `cartridge`, or with any if neither is named.

    It does so at the `at`-th operation that is concerned, and at the next ones up to `count` (once each is the
    default), or at any with a probability of `rate`, at most `count` times.
    """

    kind: FaultKind
    drive: str | None = None
    """A serial."""

    cartridge: str | None = None
    """A barcode."""

    at: Whole | None = Field(default=None, ge=1)
    rate: float | None = Field(default=None, gt=0, le=1)
    after_s: Age | None = None
    """For drive_death: so many seconds of the clock after the fault became known."""

    count: Whole | None = Field(default=None, ge=1)
    stall_s: Seconds = 300.0
    """For robot_stall: how long a real robot would stall; 60 to 600 s are seen."""

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if sum(way is not None for way in (self.at, self.rate, self.after_s)) > 1:
            raise ValueError("at, rate and after_s exclude each other")
        if self.after_s is not None and self.kind != "drive_death":
            raise ValueError("after_s is for drive_death only")
        if self.after_s is not None and self.cartridge is not None:
            raise ValueError("after_s goes with a drive, not with a cartridge")
        return self

    def concerns(self, kind: FaultKind, drive: str, cartridge: str) -> bool:
        return self.kind == kind and self.drive in (None, drive) and self.cartridge in (None, cartridge)


FaultList = Annotated[tuple[Fault, ...], ARRAY]


class FaultTable(Table):
    """A file of faults."""

    faults: FaultList = ()


@dataclass(eq=False, slots=True)
class _Armed:
    fault: Fault
    since: float | None
    met: int = 0
    fired: int = 0
    killed: set[str] = field(default_factory=set)


class Faults:
    """The faults of one library in one process, and how often each has been met.

    Args:
        seed: decides what faults with a rate do; the same one gives the same run, whatever order the drives work in.
        faults: those that the library comes with.
        now: the time, in seconds, or ``None`` while there is none: what is to happen later waits for its beginning.
    """

    def __init__(self, seed: int, faults: Sequence[Fault], now: Callable[[], float | None]) -> None:
        self._seed = seed
        self._now = now
        self._own = [_Armed(fault, now()) for fault in faults]
        self._listed: list[_Armed] = []
        self._operations: Counter[tuple[str, str, str]] = Counter()

    def inject(self, fault: Fault) -> None:
        """Let `fault` happen from now on; it counts from here."""
        self._own.append(_Armed(fault, self._now()))

    def list_anew(self, faults: Sequence[Fault]) -> None:
        """These take the place of those that were listed before; one that stays goes on counting."""
        before = self._listed
        self._listed = []
        for fault in faults:
            kept = next((armed for armed in before if armed.fault == fault), None)
            if kept is not None:
                before.remove(kept)
            self._listed.append(kept or _Armed(fault, self._now()))

    def fires(self, kind: FaultKind, *, drive: str = "", cartridge: str = "") -> Fault | None:
        """Count one operation of `drive` on `cartridge`, and return what goes wrong with it."""
        operation = (kind, drive, cartridge)
        self._operations[operation] += 1
        firing = None
        for armed in self._all():
            if armed.fault.concerns(kind, drive, cartridge) and armed.fault.after_s is None:
                armed.met += 1
                if self._strikes(armed, operation):
                    armed.fired += 1
                    firing = firing or armed.fault
        return firing

    def death_at(self, drive: str) -> float:
        """When `drive` dies by schedule, as far as is known; infinite if it does not, or has done so already."""
        return min((at for _, at in self._deaths(drive)), default=math.inf)

    def died(self, drive: str) -> None:
        """`drive` is dead: when it has been mended, what killed it does not do so again."""
        for armed, at in self._deaths(drive):
            if at <= (self._now() or 0.0):
                armed.killed.add(drive)

    def _all(self) -> Iterator[_Armed]:
        yield from self._own
        yield from self._listed

    def _deaths(self, drive: str) -> Iterator[tuple[_Armed, float]]:
        for armed in self._all():
            fault = armed.fault
            if fault.after_s is None or fault.drive not in (None, drive) or drive in armed.killed:
                continue
            if armed.since is None:
                armed.since = self._now()
            if armed.since is not None:
                yield armed, armed.since + fault.after_s

    def _strikes(self, armed: _Armed, operation: tuple[str, str, str]) -> bool:
        fault = armed.fault
        if fault.rate is None:
            first = fault.at or 1
            return first <= armed.met < first + (fault.count or 1)
        if fault.count is not None and armed.fired >= fault.count:
            return False
        # By name and number instead of one sequence of draws: which of two drives is first does not matter.
        draw = random.Random(f"{self._seed} {fault!r} {operation} {self._operations[operation]}")
        return draw.random() < fault.rate
