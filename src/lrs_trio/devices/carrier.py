"""The drive to which a robot brings media, one at a time, and what it means if it cannot."""

from __future__ import annotations

import errno
from abc import abstractmethod
from collections.abc import Awaitable, Callable
from functools import partial

import structlog
import trio

from lrs_trio.devices.adoption import LONGEST_PAUSE_S, AdoptingDrive
from lrs_trio.devices.blame import DriveContext
from lrs_trio.devices.life import DeviceStatus
from lrs_trio.dss.operations import MediumUpdate, ReadMedium, UpdateMedia
from lrs_trio.errors import LibraryUnreachableError, LrsError, MediumMissingError, describe
from lrs_trio.events import EventKind
from lrs_trio.model import Device, LockType, Medium, Phase
from lrs_trio.storage.protocols import Content, DriveUnit

log = structlog.get_logger()

UNREACHABLE_S = 5.0
"""How long a drive is left alone at first when its library could not be asked to move anything, or would not do it."""


class Carrier(AdoptingDrive):
    """A drive and the robot. What is done with a medium once it is there is for `drive`."""

    def __init__(self, row: Device, unit: DriveUnit, context: DriveContext) -> None:
        super().__init__(row, unit, context)
        self._next_rest_s = UNREACHABLE_S

    @abstractmethod
    async def _unmount(self) -> None:
        """Unmount the medium.

        Raises:
            OSError: EBUSY, it stays mounted because somebody uses it; `HostError`, it does because this host could not
                even begin; else the drive is out of service now.
        """

    @abstractmethod
    async def _went_wrong(self, phase: Phase, error: OSError) -> None:
        """An operation with the medium that is in the drive has failed: it has to leave, one of the two is broken."""

    @abstractmethod
    async def _stuck(self, phase: Phase, error: OSError) -> None:
        """The medium does not come out again: nothing else can be done with this drive."""

    async def _bring(self, medium: Medium, wanted: Callable[[], bool]) -> None:
        """Have `medium` in the drive; nothing moves for it once it is not `wanted` any more.

        Raises:
            OSError: it is not there, or is not what it was when it was chosen; all that follows from that is done.
        """
        if self.medium_id == medium.id:
            return
        locked = await self._lock(medium)
        failure = await self._make_room(medium, wanted)
        if failure is not None:
            await self._ownership.release(LockType.MEDIA, medium.id)
            raise failure
        await self._load(locked)

    async def _make_room(self, medium: Medium, wanted: Callable[[], bool]) -> OSError | None:
        """Empty the drive for `medium`; the result is why it is not to be loaded."""

        def see_wanted() -> None:
            if self.state.stopping or not wanted():
                raise LrsError(errno.ECANCELED, f"{medium.id}: nobody wants it in {self.row.path} any more")

        try:
            see_wanted()
            await self._empty()
            see_wanted()
        except OSError as error:
            return error
        return None

    async def _lock(self, medium: Medium) -> Medium:
        """Lock `medium` and return its row as it is now.

        Raises:
            LrsError: somebody else has it, or it is not what it was when it was chosen.
        """
        holder = await self._ownership.try_take(LockType.MEDIA, medium.id)
        if holder is not None:
            taken = LrsError(errno.EALREADY, f"{medium.id}: is in use by {holder.owner}")
            self._drives.put_back(medium, taken)
            raise taken
        fresh, refusal = await self._read_again(medium)
        if refusal is not None:
            await self._ownership.release(LockType.MEDIA, medium.id)
            raise refusal
        return fresh

    async def _read_again(self, medium: Medium) -> tuple[Medium, LrsError | None]:
        """The row of `medium` as it is now, and why it is not to be loaded, if so."""
        try:
            row = await self._context.dss.execute(ReadMedium(medium.id))
        except LrsError as error:
            return medium, error
        if row is None:
            deleted = LrsError(errno.ENXIO, f"{medium.id}: was deleted from the DSS")
            self._drives.put_back(medium, deleted)
            return medium, deleted
        if row.medium.use != medium.use:
            self._drives.put_back(row.medium, None)
            return row.medium, _changed(medium)
        return row.medium, None

    async def _empty(self) -> None:
        """Take out what is in the drive; nothing waits for a sync or for its books any more."""
        if self.state.status is DeviceStatus.MOUNTED:
            await self._unmount()
        if self.medium is not None:
            await self._unload()

    async def _load(self, medium: Medium) -> None:
        self._present(medium)
        self.state.become(DeviceStatus.LOADING, trio.current_time())
        failure = await self._move(Phase.LOAD, self._unit.library.load, medium)
        if failure is not None:
            self._emit(EventKind.LOAD_FAILED, errno=failure.errno or 0, detail=describe(failure))
            await self._load_failed(medium, failure)
            raise failure
        self.state.become(DeviceStatus.LOADED, trio.current_time())
        self._emit(EventKind.LOADED)
        await self._blame.moved(Phase.LOAD, medium)
        await self._count_load(medium)
        if self._loaded().use != medium.use:
            raise _changed(medium)

    async def _load_failed(self, medium: Medium, error: OSError) -> None:
        if isinstance(error, LibraryUnreachableError):
            self._rest()
            if error.asked:
                self._lose_track(error)
            else:
                await self._emptied()
            return
        if isinstance(error, MediumMissingError):
            await self._emptied(error)
            return
        content = await self._content() if error.errno != errno.ETIMEDOUT else None
        if content is None or content.medium == medium.id.name:
            self.state.become(DeviceStatus.LOADED, trio.current_time())
            await self._went_wrong(Phase.LOAD, error)
        elif content.medium is None:
            await self._blame.failed(Phase.LOAD, medium, error)
            await self._emptied()
        else:
            self._find_another(content, error)

    async def _unload(self) -> None:
        medium = self._loaded()
        self.state.become(DeviceStatus.UNLOADING, trio.current_time())
        failure = await self._move(Phase.UNLOAD, self._unit.library.unload, medium)
        if failure is None:
            self._emit(EventKind.UNLOADED)
            await self._blame.moved(Phase.UNLOAD, medium)
        else:
            self._emit(EventKind.UNLOAD_FAILED, errno=failure.errno or 0, detail=describe(failure))
            await self._unload_failed(medium, failure)
        await self._emptied()

    async def _unload_failed(self, medium: Medium, error: OSError) -> None:
        """Find out what that means; raises `error` unless the drive is empty all the same."""
        if isinstance(error, LibraryUnreachableError):
            self._rest()
            if error.asked:
                self._lose_track(error)
            else:
                self.state.become(DeviceStatus.LOADED, trio.current_time())
            raise error
        content = await self._content()
        if content is None or content.medium == medium.id.name:
            await self._stuck(Phase.UNLOAD, error)
            raise error
        if content.medium is not None:
            self._find_another(content, error)
            raise error
        log.warning("the drive is empty although its unload failed", device=self.row.path, error=describe(error))

    async def _move(
        self, phase: Phase, operation: Callable[[Device, str], Awaitable[None]], medium: Medium
    ) -> OSError | None:
        """Have the robot move `medium`; the result is what went wrong."""
        failure = await self._attempt(phase, partial(operation, self.row, medium.id.name))
        if failure is None:
            self._next_rest_s = UNREACHABLE_S
        return failure

    def _rest(self) -> None:
        """Ask for no move for a while, each time for a longer one until something has moved.

        A library that is full, or about to shut down, says at once what is in the drive and refuses again.
        """
        self.busy_until = trio.current_time() + self._next_rest_s
        self._next_rest_s = min(2 * self._next_rest_s, LONGEST_PAUSE_S)

    def _find_another(self, content: Content, error: OSError) -> None:
        """Somebody has put another medium into the drive, which nobody here is to blame for."""
        log.error("another medium is in the drive", device=self.row.path, found=content.medium, error=describe(error))
        self._lose_track(error)

    async def _content(self) -> Content | None:
        """What is in the drive; ``None`` if nobody can say."""
        try:
            with self._deadline(Phase.LOOK_UP):
                return await self._unit.library.lookup(self.row)
        except OSError:
            return None

    async def _count_load(self, medium: Medium) -> None:
        update = MediumUpdate(medium.id, add_loads=1, last_load=int(self._drives.wall_clock()))
        try:
            (row,) = await self._context.dss.execute(UpdateMedia((update,)))
        except LrsError as refusal:
            log.error("load not counted in the DSS", medium=medium.id.name, error=describe(refusal))
        else:
            self.medium_changed(row)

    async def _attempt(self, phase: Phase, operation: Callable[[], Awaitable[None]]) -> OSError | None:
        """Do something physical within the deadline of `phase`; the result is what went wrong."""
        try:
            with self._deadline(phase):
                await operation()
        except OSError as error:
            return error
        return None

    async def _emptied(self, error: LrsError | None = None) -> None:
        await self._gone(error)
        self.state.become(DeviceStatus.EMPTY, trio.current_time())


def _changed(medium: Medium) -> LrsError:
    return LrsError(errno.EAGAIN, f"{medium.id}: has been changed by an administrator")
