"""The vocabulary: families, media, devices, locks, and the figures that are kept about them.

Plain frozen data, shared by every floor. Enumerations that travel on the wire carry the wire's
numbers as values and the database's labels as ``label``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, IntEnum, StrEnum
from functools import cached_property
from typing import NamedTuple

from lrs_trio.record import record


class Family(IntEnum):
    """A kind of storage; each family served has one scheduler."""

    TAPE = 0
    DIR = 1
    RADOS_POOL = 2

    @cached_property
    def label(self) -> str:
        return self.name.lower()

    @classmethod
    def from_label(cls, label: str) -> Family:
        """The family called `label` in the database and the settings.

        Raises:
            KeyError: no family has that label.
        """
        return cls[label.upper()]


class FsType(IntEnum):
    POSIX = 0
    LTFS = 1
    RADOS = 2

    @property
    def label(self) -> str:
        return self.name


class AddressType(IntEnum):
    """How clients derive the path of an extent under a medium's root."""

    PATH = 0
    HASH1 = 1
    OPAQUE = 2

    @property
    def label(self) -> str:
        return self.name


class AdmStatus(Enum):
    """What the administrator, or a failure, decided about a medium or a device."""

    LOCKED = "locked"
    UNLOCKED = "unlocked"
    FAILED = "failed"


class FsStatus(Enum):
    """How far the filesystem of a medium has got in its life."""

    BLANK = "blank"
    EMPTY = "empty"
    USED = "used"
    FULL = "full"
    IMPORTING = "importing"


class LockType(Enum):
    DEVICE = "device"
    MEDIA = "media"
    MEDIA_UPDATE = "media_update"
    OBJECT = "object"


class Phase(Enum):
    """The physical operations that have a deadline each. The values are what a person reads."""

    LOOK_UP = "look-up"
    OPEN = "open"
    LOAD = "load"
    UNLOAD = "unload"
    MOUNT = "mount"
    UNMOUNT = "unmount"
    FORMAT = "format"
    SYNC = "sync"


class RequestKind(IntEnum):
    """Names the request that an error response or a release belongs to."""

    WRITE = 0
    READ = 1
    RELEASE_READ = 2
    RELEASE_WRITE = 3
    FORMAT = 4
    NOTIFY = 5
    MONITOR = 6
    CONFIGURE = 7
    STAT = 8


class NotifyOperation(IntEnum):
    DEVICE_ADD = 0
    DEVICE_LOCK = 1
    DEVICE_UNLOCK = 2
    MEDIA_UPDATE = 3


class Right(StrEnum):
    """What a client may be allowed to do; the values are what the settings call it. None implies another."""

    READ = "read"
    """Hold media to read from them."""
    WRITE = "write"
    """Hold media to write on them, or to delete from them."""
    FORMAT = "format"
    ADMIN = "admin"
    """Tell the daemon of changes, change its configuration, take grants away from others."""


class ReadOperation(IntEnum):
    READ = 0
    DELETE = 1


class ConfigureOperation(IntEnum):
    SET = 0
    GET = 1


class ResourceId(NamedTuple):
    """Names a medium or a device: (family, name, library).

    A tuple, because it is the key of nearly everything: that one is hashed and compared without a Python call.
    """

    family: Family
    name: str
    library: str

    def __str__(self) -> str:
        return f"{self.family.label}:{self.library}:{self.name}"


LABEL_LENGTH = 32
"""Characters of a medium's name that the DSS keeps as the label of its filesystem."""


@record(frozen=True, slots=True)
class MediumStats:
    """The figures kept about a medium. Sizes are bytes; none is ever negative."""

    nb_obj: int = 0
    logc_spc_used: int = 0
    phys_spc_used: int = 0
    phys_spc_free: int = 0
    nb_load: int = 0
    nb_errors: int = 0
    last_load: int = 0


@record(frozen=True, slots=True)
class Medium:
    """A medium as the DSS knows it."""

    id: ResourceId
    fs_type: FsType
    adm_status: AdmStatus = AdmStatus.LOCKED
    fs_status: FsStatus = FsStatus.BLANK
    fs_label: str = ""
    address_type: AddressType = AddressType.HASH1
    model: str | None = None
    stats: MediumStats = field(default=MediumStats())
    tags: tuple[str, ...] = ()
    groupings: tuple[str, ...] = ()
    put: bool = True
    get: bool = True
    delete: bool = True

    @property
    def use(self) -> tuple[object, ...]:
        """What decides whether and for what the medium may be used; its figures change all the time."""
        return (
            self.adm_status,
            self.fs_status,
            self.fs_label,
            self.tags,
            self.groupings,
            self.put,
            self.get,
            self.delete,
        )


@dataclass(frozen=True, slots=True)
class Device:
    """A device as the DSS knows it; `host` is the short name of the node that owns it."""

    id: ResourceId
    host: str
    path: str
    adm_status: AdmStatus = AdmStatus.LOCKED
    model: str | None = None


@dataclass(frozen=True, slots=True)
class LockOwner:
    """Who holds locks: the short name of a host and a process id on it."""

    host: str
    pid: int

    def __str__(self) -> str:
        return f"pid {self.pid} on {self.host}"


@dataclass(frozen=True, slots=True)
class Lock:
    """One row of the DSS's lock table.

    `timestamp` is in seconds since the epoch, as recorded by the DSS when the lock was taken.
    A weak lock is a reservation: any process of the same host may take it over.
    """

    type: LockType
    id: str
    owner: LockOwner
    timestamp: float
    is_weak: bool = False
    last_locate: float | None = None


def lock_id(resource: ResourceId) -> str:
    """The key under which `resource` is locked: the family is not part of it."""
    return f"{resource.name}_{resource.library}"


@dataclass(frozen=True, slots=True)
class Space:
    """What a filesystem says about itself, in bytes. `free` is 0 once the full threshold is reached.

    `read_only` means that nothing can be written there although there may be space: a write-protected cartridge,
    or one whose drive can only read it.
    """

    used: int
    free: int
    read_only: bool = False


@dataclass(frozen=True, slots=True)
class SyncThresholds:
    """When pending releases become due (notes 3.0 to 3.2): the first threshold reached decides.

    `age` is in seconds since the oldest pending release, `size` in bytes written.
    """

    age: float
    requests: int
    size: int
