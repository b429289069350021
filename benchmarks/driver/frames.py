"""Requests encoded once: only the id is put into them when they are sent."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from benchmarks.harness import LIBRARY
from lrs_trio.wire import lrs_pb2
from lrs_trio.wire.framing import PROTOCOL_VERSION

IDS: Final = 1024
"""Ids are used again after so many requests of one connection; at most one of them waits for an answer."""

FIRST_ID: Final = 1 << 21
"""From here on all ids take the same number of bytes: the frame's length does not depend on them."""

HEADER: Final = struct.Struct(">IB")

ID_FIELDS: Final = tuple(lrs_pb2.Request(id=FIRST_ID + number).SerializeToString() for number in range(IDS))

WRITTEN: Final = 4096
"""What a write cycle says it wrote on each medium. Bytes."""

_FAMILY: Final = lrs_pb2.DIR


@dataclass(frozen=True, slots=True)
class Body:
    """A request's frame before and after the field of its id."""

    before: bytes
    after: bytes


def _body(request: lrs_pb2.Request) -> Body:
    after = request.SerializeToString()
    return Body(HEADER.pack(1 + len(ID_FIELDS[0]) + len(after), PROTOCOL_VERSION), after)


def ping() -> Body:
    return _body(lrs_pb2.Request(ping=True))


def write(copies: int) -> Body:
    """An allocation of so many media to write on."""
    medium = lrs_pb2.WriteAllocation.Medium(size=WRITTEN, empty_medium=False)
    allocation = lrs_pb2.WriteAllocation(
        media=[medium] * copies, family=_FAMILY, library=LIBRARY, prevent_duplicate=False, no_split=False
    )
    return _body(lrs_pb2.Request(write=allocation))


def read(medium: str) -> Body:
    """An allocation of that medium to read from."""
    allocation = lrs_pb2.ReadAllocation(n_required=1, media=[_medium(medium)], operation=lrs_pb2.READ)
    return _body(lrs_pb2.Request(read=allocation))


def release_written(media: tuple[str, ...]) -> Body:
    """A release of what was written on each of `media`, to be synced and answered."""
    elements = [
        lrs_pb2.Release.Medium(medium=_medium(name), rc=0, size_written=WRITTEN, extents_written=1, to_sync=True)
        for name in media
    ]
    return _body(
        lrs_pb2.Request(release=lrs_pb2.Release(media=elements, partial=False, kind=lrs_pb2.KIND_RELEASE_WRITE))
    )


def release_read(medium: str) -> Body:
    """A release after reading, which is not answered."""
    element = lrs_pb2.Release.Medium(medium=_medium(medium), rc=0, size_written=0, extents_written=0, to_sync=False)
    return _body(
        lrs_pb2.Request(release=lrs_pb2.Release(media=[element], partial=False, kind=lrs_pb2.KIND_RELEASE_READ))
    )


def _medium(name: str) -> lrs_pb2.ResourceId:
    return lrs_pb2.ResourceId(family=_FAMILY, name=name, library=LIBRARY)
