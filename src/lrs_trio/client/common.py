"""What both clients share: requests put together, responses taken apart. No I/O."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from lrs_trio.errors import LrsError, ProtocolError
from lrs_trio.model import ConfigureOperation, Family, ReadOperation, RequestKind, ResourceId
from lrs_trio.wire.messages import (
    Configure,
    Configured,
    Failed,
    Format,
    GrantedMedium,
    Notify,
    ReadAllocation,
    ReadGranted,
    Release,
    Released,
    ReleasedMedium,
    RequestBody,
    ResponseBody,
    Revoke,
    WriteAllocation,
    WriteGranted,
    WriteMedium,
)

R = TypeVar("R")


@dataclass(slots=True)
class HeldMedium:
    """A medium that the client may use under `root` until it is released. Sizes are bytes.

    `avail_size` is what may be written there; the daemon learns from `wrote` and `deleted` what was done.
    """

    medium: ResourceId
    root: str
    avail_size: int
    size: int = 0
    extents: int = 0

    def wrote(self, size: int, extents: int = 1) -> None:
        """Account for `extents` files or parts of files of `size` bytes together."""
        self.size += size
        self.extents += extents

    def deleted(self, size: int, extents: int = 1) -> None:
        self.size -= size
        self.extents -= extents


@dataclass(slots=True)
class Held:
    """All media of one allocation, and the releases that may end it."""

    media: tuple[HeldMedium, ...]
    kind: RequestKind
    syncs: bool
    grouping: str | None = None
    released: bool = False
    partial: int | None = None
    """The request of a partial release that is not answered yet: the daemon refuses any other release until then."""
    _reported: tuple[ReleasedMedium, ...] = ()
    _last: Callable[[], Release] | None = None
    """The last release, where it has to wait for the answer to the partial one."""

    def finish(self) -> Release:
        """Give everything back; what was written is synced before the daemon answers."""
        self.released = True
        return self._release(to_sync=self.syncs)

    def abandon(self, error: BaseException) -> Release:
        """Give everything back after a failure: nothing is counted, and nothing is answered."""
        self.released = True
        number = error.errno if isinstance(error, OSError) and error.errno else errno.EIO
        for held in self.media:
            held.size = held.extents = 0
        return self._release(to_sync=False, rc=-number)

    def end(self, last: Callable[[], Release]) -> Release | None:
        """The last release, to be sent now; ``None`` if there was one, or if `answered` will give it."""
        if self.released:
            return None
        if self.partial is None:
            return last()
        self.released = True
        self._last = last
        return None

    def checkpoint(self) -> Release:
        """Have synced and counted what was written so far, and go on.

        Raises:
            LrsError: EINVAL, all is given back already. The daemon might find another grant on the same medium.
        """
        if self.released:
            raise LrsError(errno.EINVAL, f"{_names(held.medium for held in self.media)}: was released already")
        release = self._release(to_sync=True, partial=True)
        self._reported = release.media
        return release

    @property
    def waits_to_end(self) -> bool:
        """Whether the last release waits for the answer to the partial one."""
        return self._last is not None

    def answered(self, partial: int, body: ResponseBody | None) -> Release | None:
        """The partial release was answered with `body`; the last release, if that has waited for it.

        An error counts none of its media, so only a success takes away what was reported: the rest,
        and what was written meanwhile, is left to the next release. Harmless if it is told once more.
        """
        if partial != self.partial:
            return None
        self.partial = None
        if isinstance(body, Released):
            for held, reported in zip(self.media, self._reported, strict=True):
                held.size -= reported.size_written
                held.extents -= reported.extents_written
        last, self._last = self._last, None
        return None if last is None else last()

    def _release(self, *, to_sync: bool, rc: int = 0, partial: bool = False) -> Release:
        elements = tuple(
            ReleasedMedium(held.medium, rc, held.size, held.extents, to_sync, self.grouping) for held in self.media
        )
        return Release(elements, self.kind, partial)


def write_body(
    size: int,
    *,
    copies: int = 1,
    family: Family = Family.DIR,
    tags: Iterable[str] = (),
    library: str | None = None,
    grouping: str | None = None,
    no_split: bool = False,
    empty: bool = False,
    prevent_duplicate: bool = False,
) -> WriteAllocation:
    """Ask for `copies` different media with room for `size` bytes each."""
    medium = WriteMedium(size, tuple(tags), empty)
    return WriteAllocation((medium,) * copies, family, prevent_duplicate, library, no_split, grouping)


def read_body(media: Sequence[ResourceId], n_required: int, operation: ReadOperation) -> ReadAllocation:
    return ReadAllocation(n_required, tuple(media), operation)


def held_by(body: ResponseBody, *, deletes: bool = False, grouping: str | None = None) -> Held:
    """What a grant gives to the client.

    Raises:
        LrsError: EPROTO, the response is no grant.
    """
    if isinstance(body, WriteGranted):
        return Held(tuple(map(_held, body.media)), RequestKind.RELEASE_WRITE, True, grouping)
    granted = expect(body, ReadGranted)
    return Held(tuple(map(_held, granted.media)), RequestKind.RELEASE_READ, deletes)


def release_unwanted(body: ResponseBody) -> Release | None:
    """The release of a grant that nobody waits for any more, so that it does not stay taken."""
    if isinstance(body, WriteGranted | ReadGranted):
        return held_by(body).abandon(OSError(errno.ECANCELED, "cancelled"))
    return None


def next_id(last: int) -> int:
    """The id of the next request; the wire has 32 bits for it."""
    return (last + 1) % 2**32


def expect(body: ResponseBody, kind: type[R]) -> R:
    """`body`, which must be of `kind`.

    Raises:
        LrsError: EPROTO, it is another one.
    """
    if not isinstance(body, kind):
        raise LrsError(errno.EPROTO, f"the daemon answered with {type(body).__name__} instead of {kind.__name__}")
    return body


def checked(request: RequestBody, body: ResponseBody) -> ResponseBody:
    """`body`, unless it is an error.

    Raises:
        LrsError: with the daemon's errno, naming the request and its resource.
    """
    if isinstance(body, Failed):
        number = abs(body.rc) or errno.EIO
        raise LrsError(number, f"{_described(request)}: {os.strerror(number)}")
    return body


def configure_body(operation: ConfigureOperation, items: Sequence[Mapping[str, str]]) -> Configure:
    return Configure(operation, json.dumps(list(items)))


def configured_values(body: ResponseBody) -> list[str]:
    return cast(list[str], json.loads(expect(body, Configured).configuration or "[]"))


def parsed(text: str) -> Any:
    return json.loads(text)


def connection_lost(error: ProtocolError | None = None) -> ConnectionError:
    """What everybody who waits gets; `error` is what the daemon did wrong, if it did not just leave."""
    if error is not None:
        return ConnectionAbortedError(errno.EPROTO, f"the daemon does not speak this protocol: {error}")
    return ConnectionResetError(
        errno.ECONNRESET,
        "the daemon closed the connection: it has ended, or has too many clients (server.max_connections);"
        " its log says more",
    )


def no_answer(address: str, seconds: float) -> TimeoutError:
    """For what the daemon on `address` answers at once as a rule."""
    text = f"the daemon has not answered within {seconds:g} s; see whether its process is stopped or overloaded"
    return TimeoutError(errno.ETIMEDOUT, text, address)


def _held(granted: GrantedMedium) -> HeldMedium:
    return HeldMedium(granted.medium, granted.root, granted.avail_size)


def _described(request: RequestBody) -> str:
    match request:
        case WriteAllocation(media=media, family=family):
            sizes = ", ".join(str(medium.size) for medium in media)
            return f"write of {sizes} bytes on {family.label}"
        case ReadAllocation(media=named, n_required=n_required):
            return f"read of {n_required} of {_names(named)}"
        case Release(media=elements):
            return f"release of {_names(element.medium for element in elements)}"
        case Format(medium=medium):
            return f"format of {medium}"
        case Notify(resource=resource, operation=operation):
            return f"{operation.name.lower().replace('_', ' ')} of {resource}"
        case Revoke(media=texts, client=client, pid=pid):
            holders = [f"{what} {number}" for what, number in (("client", client), ("pid", pid)) if number is not None]
            return f"revocation of grants ({', '.join([*texts, *holders])})"
    return type(request).__name__.lower()


def _names(media: Iterable[ResourceId]) -> str:
    return ", ".join(map(str, media)) or "no medium"
