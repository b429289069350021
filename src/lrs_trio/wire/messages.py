"""Typed requests and responses, one class per message body.

What the wire marks as optional is ``None`` when it was absent, so that every message can be encoded
again byte for byte. Sizes are bytes; the sizes and counts of a release are signed (a deletion is
negative) although the wire carries them as unsigned 64-bit numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

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
from lrs_trio.record import record


@record(frozen=True, slots=True)
class WriteMedium:
    """One medium wanted by a write allocation."""

    size: int
    tags: tuple[str, ...] = ()
    empty_medium: bool = False


@record(frozen=True, slots=True)
class WriteAllocation:
    media: tuple[WriteMedium, ...]
    family: Family
    prevent_duplicate: bool = False
    library: str | None = None
    no_split: bool = False
    grouping: str | None = None


@record(frozen=True, slots=True)
class ReadAllocation:
    """`n_required` of `media`, tried in the order given."""

    n_required: int
    media: tuple[ResourceId, ...]
    operation: ReadOperation = ReadOperation.READ


@record(frozen=True, slots=True)
class ReleasedMedium:
    """One medium given back (note 1): `rc` is the client's own result, 0 or an errno of either sign."""

    medium: ResourceId
    rc: int = 0
    size_written: int = 0
    extents_written: int = 0
    to_sync: bool = False
    grouping: str | None = None


@record(frozen=True, slots=True)
class Release:
    media: tuple[ReleasedMedium, ...]
    kind: RequestKind
    partial: bool = False


@record(frozen=True, slots=True)
class Format:
    medium: ResourceId
    fs_type: FsType
    unlock: bool = False
    force: bool = False


@record(frozen=True, slots=True)
class Notify:
    resource: ResourceId
    operation: NotifyOperation
    wait: bool = True


@record(frozen=True, slots=True)
class Ping:
    value: bool = False


@record(frozen=True, slots=True)
class Monitor:
    family: Family


@record(frozen=True, slots=True)
class Configure:
    operation: ConfigureOperation
    configuration: str


@record(frozen=True, slots=True)
class Stat:
    ns: str | None = None
    name: str | None = None
    tags: str | None = None


@record(frozen=True, slots=True)
class Status:
    """Ours: asks for what the daemon alone knows, as JSON with a ``version`` field."""


@record(frozen=True, slots=True)
class Revoke:
    """Ours: takes away the grants on any of the `media`, in a `library`, of a connection and of a process.

    What is absent does not matter, but media, `client` (the number of the connection) or `pid` must be named.
    """

    media: tuple[str, ...] = ()
    library: str | None = None
    client: int | None = None
    pid: int | None = None


RequestBody = (
    WriteAllocation | ReadAllocation | Release | Format | Notify | Ping | Monitor | Configure | Stat | Status | Revoke
)


@record(frozen=True, slots=True)
class Request:
    """`id` is the client's own and only echoed: clients repeat it, so it is never a key (note 0)."""

    id: int
    body: RequestBody
    qos: int | None = None
    priority: int | None = None


@record(frozen=True, slots=True)
class GrantedMedium:
    """A medium that the client may use under `root`; `avail_size` (bytes) comes with writes only."""

    medium: ResourceId
    root: str
    fs_type: FsType
    address_type: AddressType
    avail_size: int = 0


@record(frozen=True, slots=True)
class WriteGranted:
    media: tuple[GrantedMedium, ...]
    thresholds: SyncThresholds | None = None


@record(frozen=True, slots=True)
class ReadGranted:
    media: tuple[GrantedMedium, ...]


@record(frozen=True, slots=True)
class Released:
    """The synced media of a release, after their books are committed."""

    media: tuple[ResourceId, ...]
    kind: RequestKind
    partial: bool = False


@record(frozen=True, slots=True)
class Formatted:
    medium: ResourceId


@record(frozen=True, slots=True)
class Notified:
    resource: ResourceId


@record(frozen=True, slots=True)
class Failed:
    """The one error of a request: `rc` is a negative errno."""

    rc: int
    kind: RequestKind


@record(frozen=True, slots=True)
class Pong:
    value: bool = False


@record(frozen=True, slots=True)
class Monitored:
    status: str


@record(frozen=True, slots=True)
class Configured:
    configuration: str | None = None


@record(frozen=True, slots=True)
class Statistics:
    stats: str


@record(frozen=True, slots=True)
class StatusReport:
    """Ours: the answer to `Status`, a JSON object."""

    status: str


@record(frozen=True, slots=True)
class Revoked:
    """Ours: the answer to `Revoke`, a JSON object that says which grants were taken away."""

    revoked: str


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
    | Revoked
)

REPORTS: Final[Mapping[type[ResponseBody], str]] = {
    Monitored: "status",
    Configured: "configuration",
    Statistics: "stats",
    StatusReport: "status",
    Revoked: "revoked",
}
"""The answers that are as long as the site is large, and the field that has their text."""


def report_text(body: ResponseBody) -> str | None:
    """The text of a report; ``None`` if `body` is none, or an empty one."""
    field = REPORTS.get(type(body))
    text: str | None = None if field is None else getattr(body, field)
    return text


@record(frozen=True, slots=True)
class Response:
    """`request_id` is the id of the request it answers."""

    request_id: int
    body: ResponseBody
