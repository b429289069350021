"""Whether a device and its medium are ours in the DSS: the locks taken, awaited, lost, and given back (decision 15)."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Mapping

import structlog
import trio

from lrs_trio.devices.life import DeviceStatus
from lrs_trio.devices.state import DeviceState
from lrs_trio.dss.operations import Dss, ReadLocks, ReleaseLock, ReplaceLock, TakeLock
from lrs_trio.dss.recovery import Standing, StartTimeOf, standing_of
from lrs_trio.errors import LrsError, describe
from lrs_trio.model import Lock, LockOwner, LockType, ResourceId, lock_id

log = structlog.get_logger()

LOOK_AGAIN_S = 5.0
"""How often to look whether another host has given a lock back, which no DSS tells: often enough for a directory
that moves from one host to another, and one small transaction in that time is nothing."""


class Ownership:
    """What keeps the device at `path` from being somebody else's, and `state` true to that."""

    def __init__(self, path: str, state: DeviceState, dss: Dss, owner: LockOwner, start_of: StartTimeOf) -> None:
        self.holder = ""
        """Who has the lock that is waited for."""
        self.awaited: ResourceId | None = None
        """The device or medium whose lock another host has; ``None`` when none is waited for."""
        self._path = path
        self._state = state
        self._owner = owner
        self._locks = HeldLocks(dss, owner, start_of)
        self._look_now = trio.Event()
        self._looked = trio.Event()

    @property
    def held(self) -> Mapping[tuple[LockType, ResourceId], bool]:
        """What is locked on behalf of the device; ``False`` while it is not known whether it is."""
        return self._locks.held

    async def take(self, kind: LockType, resource: ResourceId, waiting: Callable[[], None]) -> bool:
        """Lock `resource`, however long that takes; the result is whether somebody else had it before.

        `waiting` is called when it is found to take long.
        The end of a process of this host is awaited; for another host there is a look now and then.
        """
        waited = False
        while (holder := await self.try_take(kind, resource)) is not None:
            waited = True
            await self.outlast(holder, resource, waiting)
        self.outlasted()
        return waited

    async def outlast(self, holder: Lock, resource: ResourceId, waiting: Callable[[], None]) -> None:
        """Return when `holder` may have given the lock on `resource` back; it has to be tried then."""
        self._state.become(DeviceStatus.WAITING, trio.current_time())
        if str(holder.owner) != self.holder:
            self.holder = str(holder.owner)
            log.warning("device waits for a lock", device=self._path, lock=holder.type.value, holder=self.holder)
        waiting()
        self.tell_looked()
        if holder.owner.host == self._owner.host:
            self.awaited = None
            await wait_process_end(holder.owner.pid)
        else:
            self.awaited = resource
            self._look_now, self._looked = trio.Event(), trio.Event()
            with trio.move_on_after(LOOK_AGAIN_S):
                await self._look_now.wait()

    def outlasted(self) -> None:
        """Nobody else is waited for any more."""
        self._state.become(DeviceStatus.ADOPTING, trio.current_time())
        self.holder = ""
        self.awaited = None

    async def try_take(self, kind: LockType, resource: ResourceId) -> Lock | None:
        """Lock `resource` unless somebody else has, whose row is the result."""
        return await self._locks.take(kind, resource)

    async def release(self, kind: LockType, resource: ResourceId) -> None:
        """Give the lock on `resource` back, if it is ours; whether the DSS refuses that changes nothing here."""
        try:
            await self._locks.release(kind, resource)
        except LrsError as refusal:
            self._locks.lost(kind, resource)
            log.error("lock not given back", device=self._path, lock=kind.value, error=describe(refusal))

    async def look_again(self) -> None:
        """If another host's lock is waited for, see now whether that is gone; returns when it is known."""
        if self.awaited is not None:
            self._look_now.set()
            await self._looked.wait()

    def stop_waiting(self) -> None:
        """No lock is waited for any more, whether it was taken or not."""
        self.awaited = None
        self.tell_looked()

    def tell_looked(self) -> None:
        """Whoever asked for a look may go on."""
        self._looked.set()

    def lock_read(self, medium: ResourceId, lock: Lock | None) -> None:
        """The DSS says that `lock` is on `medium`, which ought to be ours.

        Somebody else's withholds the medium. If ours is only missing, it has to be taken again first.
        """
        if lock is not None and lock.owner == self._owner and not lock.is_weak:
            self.grant_again()
        elif (holder := self._locks.other_holder(lock)) is not None:
            self._locks.lost(LockType.MEDIA, medium)
            self.withhold(_refusal(medium, holder, self._owner))
        else:
            self._state.unlocked = True

    async def take_again(self, device: ResourceId, medium: ResourceId | None) -> None:
        """Take the locks again that somebody has removed, as ``lock clean`` does."""
        try:
            for kind, resource in ((LockType.DEVICE, device), (LockType.MEDIA, medium)):
                if resource is None:
                    continue
                holder = await self._locks.take(kind, resource)
                if holder is not None:
                    raise _refusal(resource, holder, self._owner)
        except LrsError as refusal:
            self.withhold(refusal)
        else:
            log.warning("locks had been removed and are taken again", device=self._path)
            self.grant_again()
        self._state.unlocked = False

    def withhold(self, reason: LrsError) -> None:
        """Grant nothing new here, because of `reason`, until the DSS says otherwise."""
        if str(self._state.withheld) != str(reason):
            log.warning("medium withheld", device=self._path, reason=describe(reason))
            self._state.withheld = reason

    def grant_again(self) -> None:
        if self._state.withheld is not None:
            log.info("medium granted again", device=self._path)
            self._state.withheld = None

    async def give_back(self) -> None:
        """Release what is held, the last one taken first."""
        while (held := self._locks.latest) is not None:
            await self.release(*held)


class HeldLocks:
    """What `owner` has locked on behalf of one device; `start_of` tells when a process of this host started."""

    def __init__(self, dss: Dss, owner: LockOwner, start_of: StartTimeOf) -> None:
        self._dss = dss
        self._owner = owner
        self._start_of = start_of
        self._held: dict[tuple[LockType, ResourceId], bool] = {}

    @property
    def held(self) -> Mapping[tuple[LockType, ResourceId], bool]:
        """Oldest first; ``False`` while it is not known whether an attempt has succeeded."""
        return self._held

    async def take(self, kind: LockType, resource: ResourceId) -> Lock | None:
        """Lock `resource` unless somebody else has, whose row is the result.

        A weak row of this host, and one that a dead process of this host left, are taken over. It does no
        harm to take a lock that is held already.

        Raises:
            LrsError: the DSS refuses it.
        """
        self.lost(kind, resource)
        # Noted before, because an attempt that is cancelled may succeed all the same.
        self._held[kind, resource] = False
        try:
            holder = await self._try(kind, resource)
        except LrsError:
            self.lost(kind, resource)
            raise
        if holder is None:
            self._held[kind, resource] = True
        else:
            self.lost(kind, resource)
        return holder

    def lost(self, kind: LockType, resource: ResourceId) -> None:
        """That lock is not ours, or not any more: it is not given back at the end."""
        self._held.pop((kind, resource), None)

    @property
    def latest(self) -> tuple[LockType, ResourceId] | None:
        """The lock that was taken last, of those that are held."""
        return next(reversed(self._held), None)

    async def release(self, kind: LockType, resource: ResourceId) -> None:
        """Give one lock back; does nothing if it is not held, because somebody has removed it."""
        certain = self._held.get((kind, resource))
        if certain is None:
            return
        # An attempt that is cancelled may succeed all the same.
        self._held[kind, resource] = False
        # A release also deletes a weak row, whoever has it: another host's must stay.
        if certain or await self._is_ours(kind, resource):
            await self._dss.execute(ReleaseLock(kind, resource, self._owner))
        self.lost(kind, resource)

    async def _is_ours(self, kind: LockType, resource: ResourceId) -> bool:
        locks = await self._dss.execute(ReadLocks(self._owner.host))
        mine = (lock for lock in locks if lock.owner == self._owner)
        return (kind, lock_id(resource)) in ((lock.type, lock.id) for lock in mine)

    def other_holder(self, lock: Lock | None) -> Lock | None:
        """`lock` if it is somebody's from whom it cannot be taken over."""
        if lock is None or lock.owner == self._owner:
            return None
        standing = standing_of(lock, self._owner, self._start_of)
        return lock if standing in (Standing.FOREIGN, Standing.LIVING) else None

    async def _try(self, kind: LockType, resource: ResourceId) -> Lock | None:
        while (holder := await self._dss.execute(TakeLock(kind, resource, self._owner))) is not None:
            if self.other_holder(holder) is not None:
                return holder
            if await self._dss.execute(ReplaceLock(holder, self._owner)):
                return None
        return None


def _refusal(resource: ResourceId, holder: Lock, owner: LockOwner) -> LrsError:
    """What those are told who want `resource`, which `holder` has locked and not `owner`."""
    text = f"{resource}: its {holder.type.value} lock is held by {holder.owner}"
    return LrsError(errno.ENOLCK if holder.owner.host == owner.host else errno.EALREADY, text)


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
