"""Locks found at start: which of them are left over from a dead predecessor. Pure decisions."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Final

from lrs_trio.model import Lock, LockOwner, LockType

StartTimeOf = Callable[[int], float | None]
"""When the process with a pid started, in seconds since the epoch; ``None`` if there is none."""

CLOCK_STEP_S: Final = 2.0
"""The time of a process's start moves with every step of the clock, the time in a row does not. A leap
second or a small correction must not make a living owner look younger than its lock."""

_DAEMON_TYPES: Final = frozenset({LockType.DEVICE, LockType.MEDIA, LockType.MEDIA_UPDATE})


class Standing(Enum):
    """What a lock row is to the daemon that starts.

    OURS: held by this process already. STALE: its owner is gone; it may be replaced or deleted.
    LIVING: held by a living process of this host; what it is on has to wait. WEAK: a reservation for
    this host, which taking the lock takes over. FOREIGN: of another host, or of a type that clients
    hold among themselves; never touched.
    """

    OURS = "ours"
    STALE = "stale"
    LIVING = "living"
    WEAK = "weak"
    FOREIGN = "foreign"


@dataclass(frozen=True, slots=True)
class LocksFound:
    """The rows found at start by their standing, each in the order given."""

    ours: tuple[Lock, ...] = ()
    stale: tuple[Lock, ...] = ()
    living: tuple[Lock, ...] = ()
    weak: tuple[Lock, ...] = ()
    foreign: tuple[Lock, ...] = ()


def standing_of(lock: Lock, us: LockOwner, start_time_of: StartTimeOf) -> Standing:
    """What `lock` is to the daemon `us`.

    A strong row of our host is stale only if no process has its pid, or the one that has it started
    after the row was written: then the pid was given anew. That holds for our own pid as well. The pid
    of a weak row is not looked at: a client on another host may have reserved the medium for us.
    """
    if lock.owner.host != us.host or lock.type not in _DAEMON_TYPES:
        return Standing.FOREIGN
    if lock.is_weak:
        return Standing.WEAK
    started = start_time_of(lock.owner.pid)
    if started is None or started > lock.timestamp + CLOCK_STEP_S:
        return Standing.STALE
    return Standing.OURS if lock.owner == us else Standing.LIVING


def sort_locks(locks: Iterable[Lock], us: LockOwner, start_time_of: StartTimeOf) -> LocksFound:
    """All of `locks` by their standing."""
    found: dict[Standing, list[Lock]] = {standing: [] for standing in Standing}
    for lock in locks:
        found[standing_of(lock, us, start_time_of)].append(lock)
    return LocksFound(**{standing.value: tuple(rows) for standing, rows in found.items()})
