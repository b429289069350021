"""What clients asked of a daemon once: who connected when, and asked, was answered and left when. Pure.

Times are seconds since the beginning of the trace that tells it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from lrs_trio.model import Family, ResourceId
from lrs_trio.observe.inventory import Inventory
from lrs_trio.wire.messages import Notify, Request, ResponseBody


@dataclass(frozen=True, slots=True)
class Held:
    """One medium of a grant: the number of the request, counted from 0 in its connection, and of the medium in it."""

    request: int
    medium: int


@dataclass(frozen=True, slots=True)
class Place:
    """Where a request is found: the number of its connection, and its own in there, counted from 0."""

    connection: int
    request: int


@dataclass(frozen=True, slots=True)
class Answer:
    time: float
    body: ResponseBody


@dataclass(frozen=True, slots=True)
class Asked:
    """One request.

    Attributes:
        time: when it came.
        request: what came.
        answer: ``None`` if the client did not get one.
        gives_back: for each medium of a release what it gives back, ``None`` where it held no such thing.
        formats: those by which the media that it got were formatted; they were done when it came.
    """

    time: float
    request: Request
    answer: Answer | None = None
    gives_back: tuple[Held | None, ...] = ()
    formats: tuple[Place, ...] = ()


@dataclass(frozen=True, slots=True)
class Conversation:
    """One connection; `closed` is ``None`` if it outlived the trace."""

    number: int
    opened: float
    closed: float | None
    asked: tuple[Asked, ...]


@dataclass(frozen=True, slots=True)
class Workload:
    """Everything that one daemon was asked, what it had at its start, and how long the trace is."""

    inventory: Inventory
    conversations: tuple[Conversation, ...]
    seconds: float

    @property
    def requests(self) -> int:
        return sum(len(conversation.asked) for conversation in self.conversations)

    def on_host(self, host: str) -> Workload:
        """The same on a host that has another name, which is part of the names of its directories' devices."""
        before = self.inventory.settings.host
        settings = self.inventory.settings.model_copy(update={"host": host})
        devices = tuple(
            replace(device, id=_moved(device.id, before, host), host=host) for device in self.inventory.devices
        )
        return replace(
            self,
            inventory=replace(self.inventory, settings=settings, devices=devices),
            conversations=tuple(
                replace(conversation, asked=tuple(_asked_of(asked, before, host) for asked in conversation.asked))
                for conversation in self.conversations
            ),
        )


def _asked_of(asked: Asked, before: str, host: str) -> Asked:
    """`asked` of a daemon on another host: only notifications name devices."""
    body = asked.request.body
    if not isinstance(body, Notify):
        return asked
    return replace(
        asked, request=replace(asked.request, body=replace(body, resource=_moved(body.resource, before, host)))
    )


def _moved(resource: ResourceId, before: str, host: str) -> ResourceId:
    prefix = f"{before}:"
    if resource.family is not Family.DIR or not resource.name.startswith(prefix):
        return resource
    return resource._replace(name=f"{host}:{resource.name.removeprefix(prefix)}")
