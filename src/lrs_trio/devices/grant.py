"""A grant: one medium of one allocation, on one device, from the promise to the release."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

from lrs_trio.devices.volume import Volume
from lrs_trio.model import RequestKind, ResourceId

if TYPE_CHECKING:
    from lrs_trio.devices.device import DeviceTask


class GrantState(StrEnum):
    """The two states of note 9, planned and ongoing, with what lies between and beside them.

    PLANNED: promised to a request, the device has work to do first. READY: usable, waiting for the
    siblings and for the response to leave. ONGOING: the client does its I/O. RESERVED: a partial
    release is being synced; the place is kept but holds up no sync. ENDED: released or taken back.
    """

    PLANNED = "planned"
    READY = "ready"
    ONGOING = "ongoing"
    RESERVED = "reserved"
    ENDED = "ended"


class GrantHolder(Protocol):
    """The request that a grant belongs to, as the device sees it. Both calls return at once."""

    @property
    def client(self) -> object:
        """Identifies the client's connection; its text names it to a person."""
        ...

    def grant_ready(self, grant: Grant) -> None:
        """The medium is usable now, or its device may be used again after a sync that excluded I/O."""
        ...

    def grant_failed(self, grant: Grant, error: OSError) -> None:
        """The device could not make the medium usable; the grant is ended."""
        ...


@dataclass(slots=True, eq=False)
class Grant:
    """`size` is what a write reserves on the medium, in bytes, until its final release."""

    device: DeviceTask
    medium: ResourceId
    kind: RequestKind
    holder: GrantHolder
    size: int = 0
    grouping: str | None = None
    volume: Volume = field(default_factory=Volume)
    """The free space of the medium, from which `size` is taken while the grant lives."""
    state: GrantState = GrantState.ENDED
    since: float = 0.0
    serial: int = 0
    """The number of the request."""
