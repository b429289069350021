"""What one client has asked for and what it may be answered, by the rules of the protocol. Pure."""

from __future__ import annotations

import errno
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from lrs_trio.model import RequestKind, ResourceId
from lrs_trio.wire.codec import MalformedRequestError
from lrs_trio.wire.messages import (
    Configure,
    Configured,
    Failed,
    Format,
    Formatted,
    Monitor,
    Monitored,
    Notified,
    Notify,
    Ping,
    Pong,
    ReadAllocation,
    ReadGranted,
    Release,
    Released,
    RequestBody,
    Response,
    ResponseBody,
    Revoke,
    Revoked,
    Stat,
    Statistics,
    Status,
    StatusReport,
    WriteAllocation,
    WriteGranted,
)


@dataclass(slots=True, eq=False)
class Asked:
    """One request. `since` is when it was sent, in virtual seconds; `body` is missing if it is malformed."""

    id: int
    body: RequestBody | None
    error_kind: RequestKind
    """What an error answer calls it."""

    since: float

    def __str__(self) -> str:
        return f"{name_of(self.body)} {self.id}"


class Exchange:
    """The requests of one connection that still have to be answered, in order."""

    def __init__(self) -> None:
        self._owed: dict[int, list[Asked]] = {}

    def __iter__(self) -> Iterator[Asked]:
        return (asked for all_of_one_id in self._owed.values() for asked in all_of_one_id)

    def ask(self, asked: Asked) -> None:
        """The client waits for an answer to `asked`. Ids may repeat: the oldest that an answer fits gets it."""
        self._owed.setdefault(asked.id, []).append(asked)

    def answer(self, response: Response) -> tuple[Asked | None, str]:
        """What `response` answers, and what is wrong with it: "" if nothing is."""
        candidates = self._owed.get(response.request_id)
        if candidates is None:
            told = f"{name_of(response.body)} {response.request_id}"
            return None, f"{told}: the client does not wait for an answer with that id, or has got it already"
        fitting = (asked for asked in candidates if not _flaw(asked, response.body))
        asked = next(fitting, candidates[0])
        candidates.remove(asked)
        if not candidates:
            del self._owed[response.request_id]
        return asked, _flaw(asked, response.body)


def is_answered(body: RequestBody) -> bool:
    """Whether the daemon has to answer such a request."""
    match body:
        case Release(media=media):
            return any(element.to_sync for element in media)
        case Notify(wait=wait):
            return wait
    return True


def asked_for(id_: int, body: RequestBody, since: float) -> Asked:
    """A request that was understood."""
    kind = body.kind if isinstance(body, Release) else _ERROR_KINDS[type(body)]
    return Asked(id_, body, kind, since)


def misasked(error: MalformedRequestError, since: float) -> Asked:
    """A request that cannot be understood, and has to be answered with EINVAL."""
    return Asked(error.request_id, None, RequestKind.WRITE if error.kind is None else error.kind, since)


def name_of(body: RequestBody | ResponseBody | None) -> str:
    return "Malformed" if body is None else type(body).__name__


_ERROR_KINDS: Final[dict[type, RequestKind]] = {
    WriteAllocation: RequestKind.WRITE,
    ReadAllocation: RequestKind.READ,
    Format: RequestKind.FORMAT,
    Notify: RequestKind.NOTIFY,
    Monitor: RequestKind.MONITOR,
    Configure: RequestKind.CONFIGURE,
    # The wire has no number for these, or Phobos does not use it.
    Ping: RequestKind.WRITE,
    Stat: RequestKind.WRITE,
    Status: RequestKind.WRITE,
    Revoke: RequestKind.WRITE,
}

_PLAIN: Final[dict[type, type]] = {
    Monitor: Monitored,
    Configure: Configured,
    Stat: Statistics,
    Status: StatusReport,
    Revoke: Revoked,
}
"""Requests whose answers say nothing that could be checked here."""


def _flaw(asked: Asked, answer: ResponseBody) -> str:
    """What is wrong with `answer`; "" if nothing is."""
    match asked.body, answer:
        case None, Failed(rc, kind):
            return "" if (rc, kind) == (-errno.EINVAL, asked.error_kind) else f"{asked} was answered with {answer}"
        case _, Failed(rc, kind):
            return "" if rc < 0 and kind is asked.error_kind else f"{asked} was answered with {answer}"
        case WriteAllocation() as wanted, WriteGranted() as granted:
            return _flaw_of_write(asked, wanted, granted)
        case ReadAllocation() as wanted, ReadGranted() as granted:
            return _flaw_of_read(asked, wanted, granted)
        case Release() as release, Released() as released:
            media = tuple(element.medium for element in release.media if element.to_sync)
            fits = released == Released(media, release.kind, release.partial)
            return "" if fits else f"{asked} of {_names(media)} was answered with {released}"
        case (Format(medium=named), Formatted(medium=told)) | (Notify(resource=named), Notified(resource=told)):
            return "" if told == named else f"{asked} of {named} was answered for {told}"
        case Ping(value=sent), Pong(value=back):
            return "" if sent is back else f"{asked} came back with another value"
    if type(answer) is _PLAIN.get(type(asked.body)):
        return ""
    return f"{asked} was answered with {name_of(answer)}"


def _flaw_of_write(asked: Asked, wanted: WriteAllocation, granted: WriteGranted) -> str:
    media = [medium.medium for medium in granted.media]
    if len(media) != len(wanted.media):
        return f"{asked} of {len(wanted.media)} media was granted {len(media)}"
    if len(set(media)) != len(media):
        return f"{asked} was granted the same medium twice: {_names(media)}"
    if any(medium.family is not wanted.family for medium in media):
        return f"{asked} on {wanted.family.label} was granted {_names(media)}"
    if wanted.library is not None and any(medium.library != wanted.library for medium in media):
        return f"{asked} in library {wanted.library} was granted {_names(media)}"
    return ""


def _flaw_of_read(asked: Asked, wanted: ReadAllocation, granted: ReadGranted) -> str:
    media = [medium.medium for medium in granted.media]
    if len(media) != wanted.n_required:
        return f"{asked} of {wanted.n_required} media was granted {len(media)}"
    if Counter(media) - Counter(wanted.media):
        return f"{asked} of {_names(wanted.media)} was granted {_names(media)}"
    return ""


def _names(media: Iterable[ResourceId]) -> str:
    return ", ".join(map(str, media)) or "no medium"
