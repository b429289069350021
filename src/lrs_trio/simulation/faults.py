"""What goes wrong in a simulated world: kinds, how often each strikes, and a count of each that did."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lrs_trio.simulation.determinism import Chance
    from lrs_trio.simulation.trace import Trace


class FaultKind(Enum):
    """The values are what a person reads in the summary."""

    CLIENT_KILLED_ASKING = "client killed before its request has left"
    CLIENT_KILLED_WAITING = "client killed while its request waits"
    CLIENT_KILLED_GRANTED = "client killed between grant and I/O"
    CLIENT_KILLED_IN_IO = "client killed during its I/O"
    CLIENT_KILLED_RELEASING = "client killed before its release has left"
    CLIENT_KILLED_SYNCING = "client killed while its release waits"
    HALF_FRAME = "half a frame"
    GARBAGE = "bytes that are not the protocol"
    RELEASE_TWICE = "release twice"
    CHANNEL_FULL = "response channel full"
    SLOW_READER = "client reads slowly"
    MALFORMED = "malformed request"
    TOO_MANY_REQUESTS = "more requests than a client may have"
    NEVER_GRANTED = "release of what was never granted"
    NOT_PERMITTED = "request without the right to it"

    SYNC_ERROR = "sync error"
    SYNC_LIE = "sync reports success and loses the data"
    SYNC_HANG = "sync hangs"
    STATVFS_ERROR = "statvfs error"
    EARLY_END = "ENOSPC early"
    LABEL_MISMATCH = "label mismatch"
    FORMAT_FAILURE = "format fails"
    MOUNT_FAILURE = "mount fails"
    MOUNT_HANG = "mount hangs"
    UNMOUNT_FAILURE = "unmount fails"
    UNMOUNT_HANG = "unmount hangs"
    UNMOUNT_BUSY = "unmount busy"
    WRITE_PROTECTED = "write-protected"

    LOAD_FAILURE = "load fails"
    LOAD_HANG = "load hangs"
    UNLOAD_FAILURE = "unload fails"
    UNLOAD_HANG = "unload hangs"
    ROBOT_STALL = "robot stalls"
    ROBOT_UNREACHABLE = "robot unreachable"
    WRONG_CARTRIDGE = "wrong cartridge"
    DRIVE_DEATH = "drive dies"

    DEVICE_LOCKED = "device locked by the administrator"
    MEDIUM_CHANGED = "medium changed by the administrator"
    MEDIUM_DELETED = "medium deleted by the administrator"
    GRANT_REVOKED = "grant revoked by the administrator"

    DSS_SLOW = "DSS slow"
    DSS_AWAY = "DSS unreachable"
    COMMIT_ANSWER_LOST = "commit applied, answer lost"
    COMMIT_LOST = "commit not applied, answer lost"
    LOCK_STOLEN = "lock stolen"

    SIGTERM = "SIGTERM"
    SECOND_SIGTERM = "second SIGTERM"
    SIGKILL = "SIGKILL"
    POWER_CUT = "power cut"


class Faults:
    """Decides where faults strike, and counts those that did.

    `rates` has the probability of each kind at each of its opportunities; a kind without one strikes only where the
    run's plan says so.
    """

    def __init__(self, chance: Chance, rates: Mapping[FaultKind, float], trace: Trace) -> None:
        self.hits: Counter[FaultKind] = Counter()
        self._chance = chance
        self._rates = rates
        self._trace = trace
        self._active = True

    def strikes(self, kind: FaultKind, about: str = "") -> bool:
        """Whether `kind` goes wrong here and now; if so, it counts as hit. `about` is what it concerns."""
        rate = self._rates.get(kind, 0.0)
        if not rate or not self._active or self._chance.of(kind.name).random() >= rate:
            return False
        self.hit(kind, about)
        return True

    def hit(self, kind: FaultKind, about: str = "") -> None:
        """Count a fault that strikes by plan."""
        self.hits[kind] += 1
        self._trace.note("fault", kind=kind.name, about=about)

    def stop(self) -> None:
        """No fault strikes any more."""
        self._active = False
