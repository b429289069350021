"""Typed requests and responses, one class per message body.

What the wire marks as optional is ``None`` when it was absent, so that every message can be encoded
again byte for byte. Sizes are bytes; the sizes and counts of a release are signed (a deletion is
negative) although the wire carries them as unsigned 64-bit numbers.
"""

from __future__ import annotations

from dataclasses import dataclass

from lrs_trio.model import (
    AddressType,
    ConfigureOperation,
    Family,
    FsType,
    NotifyOperation,
    ReadOperation,
    RequestKind,
    ResourceId,
    SyncThresholds,
)


@dataclass(frozen=True, slots=True)
class WriteMedium:
    """One medium wanted by a write allocation."""

    size: int
    tags: tuple[str, ...] = ()
    empty_medium: bool = False


@dataclass(frozen=True, slots=True)
class WriteAllocation:
    media: tuple[WriteMedium, ...]
    family: Family
    prevent_duplicate: bool = False
    library: str | None = None
    no_split: bool = False
    grouping: str | None = None


@dataclass(frozen=True, slots=True)
class ReadAllocation:
    """`n_required` of `media`, tried in the order given."""

    n_required: int
    media: tuple[ResourceId, ...]
    operation: ReadOperation = ReadOperation.READ


@dataclass(frozen=True, slots=True)
class ReleasedMedium:
    """One medium given back (note 1): `rc` is the client's own result, 0 or an errno of either sign."""

    medium: ResourceId
    rc: int = 0
    size_written: int = 0
    extents_written: int = 0
    to_sync: bool = False
    grouping: str | None = None


@dataclass(frozen=True, slots=True)
class Release:
    media: tuple[ReleasedMedium, ...]
    kind: RequestKind
    partial: bool = False


@dataclass(frozen=True, slots=True)
class Format:
    medium: ResourceId
    fs_type: FsType
    unlock: bool = False
    force: bool = False


@dataclass(frozen=True, slots=True)
class Notify:
    resource: ResourceId
    operation: NotifyOperation
    wait: bool = True


@dataclass(frozen=True, slots=True)
class Ping:
    value: bool = False


@dataclass(frozen=True, slots=True)
class Monitor:
    family: Family


@dataclass(frozen=True, slots=True)
class Configure:
    operation: ConfigureOperation
    configuration: str


@dataclass(frozen=True, slots=True)
class Stat:
    ns: str | None = None
    name: str | None = None
    tags: str | None = None


@dataclass(frozen=True, slots=True)
class Status:
    """Ours: asks for what the daemon alone knows, as JSON with a ``version`` field."""


RequestBody = WriteAllocation | ReadAllocation | Release | Format | Notify | Ping | Monitor | Configure | Stat | Status


@dataclass(frozen=True, slots=True)
class Request:
    """`id` is the client's own and only echoed: clients repeat it, so it is never a key (note 0)."""

    id: int
    body: RequestBody
    qos: int | None = None
    priority: int | None = None


@dataclass(frozen=True, slots=True)
class GrantedMedium:
    """A medium that the client may use under `root`; `avail_size` (bytes) comes with writes only."""

    medium: ResourceId
    root: str
    fs_type: FsType
    address_type: AddressType
    avail_size: int = 0


@dataclass(frozen=True, slots=True)
class WriteGranted:
    media: tuple[GrantedMedium, ...]
    thresholds: SyncThresholds | None = None


@dataclass(frozen=True, slots=True)
class ReadGranted:
    media: tuple[GrantedMedium, ...]


@dataclass(frozen=True, slots=True)
class Released:
    """The synced media of a release, after their books are committed."""

    media: tuple[ResourceId, ...]
    kind: RequestKind
    partial: bool = False


@dataclass(frozen=True, slots=True)
class Formatted:
    medium: ResourceId


@dataclass(frozen=True, slots=True)
class Notified:
    resource: ResourceId


@dataclass(frozen=True, slots=True)
class Failed:
    """The one error of a request: `rc` is a negative errno."""

    rc: int
    kind: RequestKind


@dataclass(frozen=True, slots=True)
class Pong:
    value: bool = False


@dataclass(frozen=True, slots=True)
class Monitored:
    status: str


@dataclass(frozen=True, slots=True)
class Configured:
    configuration: str | None = None


@dataclass(frozen=True, slots=True)
class Statistics:
    stats: str


@dataclass(frozen=True, slots=True)
class StatusReport:
    """Ours: the answer to `Status`, a JSON object."""

    status: str


ResponseBody = (
    WriteGranted
    | ReadGranted
    | Released
    | Formatted
    | Notified
    | Failed
    | Pong
    | Monitored
    | Configured
    | Statistics
    | StatusReport
)


@dataclass(frozen=True, slots=True)
class Response:
    """`request_id` is the id of the request it answers."""

    request_id: int
    body: ResponseBody
