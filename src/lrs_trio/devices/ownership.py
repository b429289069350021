"""Taking a lock of the DSS: at once, over from a dead owner, or after a living one (decision 15)."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

import trio

from lrs_trio.dss.operations import Dss, ReplaceLock, TakeLock
from lrs_trio.dss.processes import process_start_time
from lrs_trio.dss.recovery import Standing, standing_of
from lrs_trio.errors import LrsError
from lrs_trio.model import LockOwner, LockType, ResourceId


async def take_lock(
    dss: Dss, kind: LockType, resource: ResourceId, owner: LockOwner, waiting: Callable[[str], None]
) -> None:
    """Make `owner` hold the lock of `resource`.

    A row that a dead process of this host left is replaced. For a living one it waits until that process
    ends, after a call of `waiting` that names it.

    Raises:
        LrsError: EALREADY, another host holds it.
    """
    while (holder := await dss.execute(TakeLock(kind, resource, owner))) is not None:
        standing = standing_of(holder, owner, process_start_time)
        if standing is Standing.FOREIGN:
            raise LrsError(errno.EALREADY, f"{resource}: its {kind.value} lock is held by {holder.owner}")
        if standing is Standing.LIVING:
            waiting(str(holder.owner))
            await wait_process_end(holder.owner.pid)
        elif await dss.execute(ReplaceLock(holder, owner)):
            return


async def wait_process_end(pid: int) -> None:
    """Return once the process `pid` has ended, without polling."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        await trio.lowlevel.checkpoint()
        return
    try:
        await trio.lowlevel.wait_readable(descriptor)
    finally:
        os.close(descriptor)
