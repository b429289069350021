"""What can be asked of the DSS, as data, and the protocol that takes it.

An operation is a frozen value that names everything it needs. A home executes a batch of them in one
transaction; each operation succeeds or fails alone. That is the seam between the daemon and its
databases: nothing above this floor writes SQL, and a batch is the unit that is committed, retried, and
(for a database behind another event loop) crosses over.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Generic, Protocol, TypeAlias, TypeVar

from lrs_trio.errors import LrsError
from lrs_trio.model import (
    AdmStatus,
    Device,
    Family,
    FsStatus,
    Lock,
    LockOwner,
    LockType,
    Medium,
    ResourceId,
)
from lrs_trio.record import record

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Operation(Generic[T_co]):
    """Base of all operations; the parameter is the type of its result."""

    __slots__ = ()


Outcome: TypeAlias = object
"""What became of one operation of a batch: its result, the `LrsError` that refused it, or `Blocked`."""


@dataclass(frozen=True, slots=True)
class Blocked:
    """The outcome of an operation that has to wait for a lock that somebody else holds: nothing of it was done.

    Where somebody's open transaction keeps a row, `holder` says so of its owner, whose pid is the server's process.
    """

    holder: Lock


@dataclass(frozen=True, slots=True)
class MediumRow:
    """A medium with the lock that is on it, if any."""

    medium: Medium
    lock: Lock | None


@dataclass(frozen=True, slots=True)
class DeviceRow:
    """A device with the lock that is on it, if any."""

    device: Device
    lock: Lock | None


@dataclass(frozen=True, slots=True)
class ReadDevices(Operation[tuple[DeviceRow, ...]]):
    """Devices in the order of their id; ``None`` matches all."""

    family: Family | None = None
    host: str | None = None


@dataclass(frozen=True, slots=True)
class ReadDevice(Operation["DeviceRow | None"]):
    id: ResourceId


@dataclass(frozen=True, slots=True)
class ReadMedia(Operation[tuple[MediumRow, ...]]):
    """Media in the order of their id; ``None`` matches all."""

    family: Family | None = None


@dataclass(frozen=True, slots=True)
class ReadMedium(Operation["MediumRow | None"]):
    id: ResourceId


@dataclass(frozen=True, slots=True)
class ReadNamedMedia(Operation["tuple[MediumRow | LrsError | None, ...]"]):
    """`media`, in their order: ``None`` for one that is not there, an error for one that cannot be understood."""

    media: tuple[ResourceId, ...]


@dataclass(frozen=True, slots=True)
class ReadChangedMedia(Operation["tuple[MediumRow, ...]"]):
    """Those of `media` that may have changed since this home last answered so with them, in the order of their id.

    A medium whose lock `owner` does not hold counts as changed; one that is gone is left out. Cheap
    where nobody else has changed anything.
    """

    media: tuple[ResourceId, ...]
    owner: LockOwner


@dataclass(frozen=True, slots=True)
class ReadLocks(Operation[tuple[Lock, ...]]):
    """Locks held from `host`; ``None`` matches all."""

    host: str | None = None


@dataclass(frozen=True, slots=True)
class TakeLock(Operation["Lock | None"]):
    """Take a strong lock, or take over a weak one of the same host.

    The result is ``None`` when `owner` holds the lock now (also if it already did), else the row of
    the holder that is in the way.
    """

    type: LockType
    resource: ResourceId
    owner: LockOwner


@dataclass(frozen=True, slots=True)
class ReplaceLock(Operation[bool]):
    """Make `owner` the holder of `expected`, if that very row is still there; ``True`` if so."""

    expected: Lock
    owner: LockOwner


@dataclass(frozen=True, slots=True)
class ReleaseLock(Operation[bool]):
    """Delete a lock that `owner` holds, or a weak one; ``False`` if there was none such."""

    type: LockType
    resource: ResourceId
    owner: LockOwner


@dataclass(frozen=True, slots=True)
class DeleteLocks(Operation[int]):
    """Delete these very rows, where they are still as given; the result counts them."""

    locks: tuple[Lock, ...]


@record(frozen=True, slots=True)
class MediumUpdate:
    """Changes to one medium. ``None`` and zero leave a column alone.

    Sizes are bytes. The additions may be negative (deletions); each figure stops at zero.
    """

    id: ResourceId
    add_objects: int = 0
    add_logical: int = 0
    set_objects: int | None = None
    set_logical: int | None = None
    phys_spc_used: int | None = None
    phys_spc_free: int | None = None
    fs_status: FsStatus | None = None
    mark_used: bool = False
    """Empty becomes used; any other filesystem status stays."""
    mark_full: bool = False
    """Used or empty becomes full; applied after `mark_used`."""
    adm_status: AdmStatus | None = None
    fs_label: str | None = None
    add_groupings: tuple[str, ...] = ()
    add_loads: int = 0
    add_errors: int = 0
    last_load: int | None = None
    """Seconds since the epoch."""
    tags: tuple[str, ...] | None = None
    put: bool | None = None
    get: bool | None = None
    delete: bool | None = None


@record(frozen=True, slots=True)
class UpdateMedia(Operation["tuple[Medium | None, ...]"]):
    """Apply all `updates`, or none. The result is each medium as it is now, ``None`` where it is gone."""

    updates: tuple[MediumUpdate, ...]
    together: bool = False
    """Whether nothing is to be done if a medium is gone; else the others are updated all the same."""

    @property
    def media(self) -> tuple[ResourceId, ...]:
        return tuple(update.id for update in self.updates)

    def overtaken_by(self, later: MediumUpdate) -> UpdateMedia:
        """What is left to be done if `later` was done first: what was found out about that medium is old news now."""
        return UpdateMedia(
            tuple(
                replace(
                    update,
                    phys_spc_used=None,
                    phys_spc_free=None,
                    mark_full=False,
                    # A format says what the medium is from then on, not what was found.
                    fs_status=None if update.set_objects is None else update.fs_status,
                )
                if update.id == later.id
                else update
                for update in self.updates
            ),
            self.together,
        )


@dataclass(frozen=True, slots=True)
class SetDeviceStatus(Operation[bool]):
    """``False`` if the device is not in the DSS."""

    id: ResourceId
    adm_status: AdmStatus


@dataclass(frozen=True, slots=True)
class AddDirectory(Operation[None]):
    """Insert a directory's device and medium, both or neither; `LrsError` EEXIST if either is known."""

    device: Device
    medium: Medium


@dataclass(frozen=True, slots=True)
class DeleteDirectory(Operation[None]):
    """Delete a directory's device and medium.

    Fails with `LrsError` ENOENT if the device is unknown, EBUSY if somebody holds a lock on either or the device is
    in service, ENOTEMPTY if the medium holds objects. A device without its medium is in nobody's service.
    """

    device: ResourceId
    medium: ResourceId
    in_service: bool = False
    """Whether an unlocked device is deleted as well: one that was added in vain."""
    with_objects: bool = False
    """Whether a medium that holds objects is deleted as well."""


@dataclass(frozen=True, slots=True)
class AddDevice(Operation[None]):
    """Insert a device; `LrsError` EEXIST if it is known."""

    device: Device


@dataclass(frozen=True, slots=True)
class DeleteDevice(Operation[None]):
    """Delete a device; `LrsError` ENOENT if it is unknown, EBUSY if somebody holds a lock on it or it is in service."""

    id: ResourceId
    in_service: bool = False
    """Whether an unlocked device is deleted as well: one that was added in vain."""


@dataclass(frozen=True, slots=True)
class AddMedia(Operation[None]):
    """Insert media, all or none; `LrsError` EEXIST if one of them is known."""

    media: tuple[Medium, ...]


@dataclass(frozen=True, slots=True)
class DeleteMedium(Operation[None]):
    """Delete a medium; `LrsError` ENOENT if it is unknown, EBUSY if somebody holds a lock on it."""

    id: ResourceId


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One row of the operation log; `errno` is 0 or negative, `message` a JSON object."""

    device: ResourceId
    medium: str
    errno: int
    cause: str
    message: str


@dataclass(frozen=True, slots=True)
class AppendLog(Operation[None]):
    entry: LogEntry


@dataclass(frozen=True, slots=True)
class ReadHealthLog(Operation[tuple[int, ...]]):
    """The errnos logged for one device (`device`) or one medium (`medium`), oldest first."""

    library: str
    family: Family
    device: str | None = None
    medium: str | None = None


@dataclass(frozen=True, slots=True)
class LoggedOperation:
    """One row of the operation log, as read back; `time` is in seconds since the epoch."""

    device: ResourceId
    medium: ResourceId
    errno: int
    cause: str
    message: str
    time: float


@dataclass(frozen=True, slots=True)
class ReadLog(Operation[tuple[LoggedOperation, ...]]):
    """The newest `limit` rows of the operation log about `family`, oldest first."""

    family: Family
    limit: int = 10_000


class Dss(Protocol):
    """The DSS as the daemon uses it."""

    async def execute(self, operation: Operation[T]) -> T:
        """Commit `operation` and return its result.

        Waits for as long as the DSS is unavailable. Cancelling the caller never tears a transaction:
        an operation that is already under way is committed or not as a whole.

        Raises:
            LrsError: the operation itself was refused; nothing of it was done.
        """
        ...

    async def execute_all(self, operations: Sequence[Operation[T]]) -> list[T | LrsError]:
        """The same for several at once, each by itself: what one of them is refused for is its outcome."""
        ...

    def submit(self, operation: Operation[T], done: Callable[[T | LrsError], None]) -> None:
        """Commit `operation`, and call `done` with its result or why it was refused, in the order of the commits."""
        ...

    @property
    def unavailable_since(self) -> float | None:
        """Trio's time since when the DSS has not answered, ``None`` while it does."""
        ...
