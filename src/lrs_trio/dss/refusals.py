"""Why an operation is refused, in the same words whichever home refuses it."""

from __future__ import annotations

import errno
from collections.abc import Iterable
from typing import Any, Final

from lrs_trio.dss.operations import Operation
from lrs_trio.errors import LrsError
from lrs_trio.model import Lock, LockType, ResourceId

NAMES: Final = {LockType.DEVICE: "device", LockType.MEDIA: "medium"}
"""What a person calls that which a lock of a type is on."""

_SHOWN: Final = 500
"""As many characters of an operation say which one it was: one may add thousands of media."""


def already_known(type_: LockType, resource: ResourceId) -> LrsError:
    text = f"{NAMES[type_]} {resource} is in the DSS already; delete it first to add it anew"
    return LrsError(errno.EEXIST, text)


def given_twice(resources: Iterable[ResourceId]) -> LrsError | None:
    """The refusal of the first medium that is among `resources` more than once, if there is one."""
    seen: set[ResourceId] = set()
    for resource in resources:
        if resource in seen:
            return LrsError(errno.EEXIST, f"medium {resource} is given twice; nothing was added")
        seen.add(resource)
    return None


def unknown(type_: LockType, resource: ResourceId) -> LrsError:
    return LrsError(errno.ENOENT, f"{NAMES[type_]} {resource} is not in the DSS; nothing was deleted")


def in_use(resource: ResourceId, holder: Lock) -> LrsError:
    return LrsError(
        errno.EBUSY,
        f"{NAMES[holder.type]} {resource} is in use, {holder.owner} holds a lock on it; "
        "lock the device so that the daemon lets go of it, then delete it",
    )


def not_locked(device: ResourceId) -> LrsError:
    return LrsError(errno.EBUSY, f"device {device} is in service; lock it first, then delete it")


def not_empty(medium: ResourceId) -> LrsError:
    return LrsError(
        errno.ENOTEMPTY,
        f"medium {medium} holds objects, which nobody finds any more without it; nothing was deleted",
    )


def not_accepted(dss: str, operation: Operation[Any], why: str) -> LrsError:
    """The database `dss` cannot hold a value of `operation`."""
    shown = str(operation)
    if len(shown) > _SHOWN:
        shown = f"{shown[:_SHOWN]}..."
    return LrsError(errno.EINVAL, f"DSS {dss} does not accept {shown}: {why}")
