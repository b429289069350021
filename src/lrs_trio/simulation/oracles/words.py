"""What passes between clients and the daemon, in a few words for the trace."""

from __future__ import annotations

import errno
from collections.abc import Iterable

from lrs_trio.wire.messages import (
    Failed,
    Format,
    Formatted,
    GrantedMedium,
    Notified,
    Notify,
    ReadAllocation,
    ReadGranted,
    Release,
    Released,
    ReleasedMedium,
    RequestBody,
    ResponseBody,
    WriteAllocation,
    WriteGranted,
)


def in_words(body: RequestBody | ResponseBody) -> str:
    """`body` without what is long and says little."""
    name = type(body).__name__
    match body:
        case WriteAllocation(media=wanted, family=family):
            return f"{name} {family.label} {','.join(str(medium.size) for medium in wanted)}"
        case ReadAllocation(n_required=n_required, media=media):
            return f"{name} {n_required} of {_list(media)}"
        case Release(media=elements, partial=partial):
            return f"{name}{' partial' * partial} {_list(map(_element, elements))}"
        case WriteGranted(media=granted) | ReadGranted(media=granted):
            return f"{name} {_list(map(_granted, granted))}"
        case Released(media=media, partial=partial):
            return f"{name}{' partial' * partial} {_list(media)}"
        case Format(medium=resource) | Formatted(medium=resource) | Notified(resource=resource):
            return f"{name} {resource}"
        case Notify(resource=resource, operation=operation):
            return f"{name} {operation.name} {resource}"
        case Failed(rc=rc, kind=kind):
            return f"{name} {kind.name} {errno_name(-rc)}"
    return name


def errno_name(number: int) -> str:
    """What C calls it."""
    return errno.errorcode.get(number, f"errno {number}")


def _element(element: ReleasedMedium) -> str:
    told = f"{element.medium}{element.extents_written:+}/{element.size_written:+}"
    return told + " sync" * element.to_sync + (f" rc={element.rc}" if element.rc else "")


def _granted(granted: GrantedMedium) -> str:
    return f"{granted.medium} at {granted.root}"


def _list(items: Iterable[object]) -> str:
    return ", ".join(map(str, items)) or "nothing"
