"""What is in a drive: found at the start, after a move that was lost track of, and known in between."""

from __future__ import annotations

import errno
from collections.abc import Callable
from functools import partial

import structlog
import trio

from lrs_trio.devices.blame import Blame, DriveContext
from lrs_trio.devices.device import DeviceTask
from lrs_trio.devices.life import DeviceStatus
from lrs_trio.devices.volume import Volume
from lrs_trio.dss.operations import ReadMedium
from lrs_trio.errors import LibraryUnreachableError, LrsError, describe
from lrs_trio.events import EventKind
from lrs_trio.model import Device, LockType, Medium, Phase, ResourceId
from lrs_trio.storage.ltfs import check_label
from lrs_trio.storage.protocols import Content, DriveUnit

log = structlog.get_logger()

SHORTEST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 30.0
"""Between two attempts at what somebody else has to make possible: a library that answers, a tape that nobody uses."""

RIVAL_S = 5.0
"""How often to look whether another drive of ours has taken a medium out of here, or wants it no more. It takes minutes
to do the one or the other."""


class AdoptingDrive(DeviceTask):
    """A drive that knows what is in it. What is done there is for those that stand on it: `carrier` and `drive`.

    A medium counts as the drive's from the begin of its load to the end of its unload, and as long as it is not known
    what came of a move. All that time we have its lock.

    In the DSS the locks of all drives are the daemon's: it does not keep them from each other. No drive is promised a
    medium that another one is `bound` to, and none adopts one that another one `holds`.
    """

    def __init__(self, row: Device, unit: DriveUnit, context: DriveContext) -> None:
        super().__init__(row, unit.filesystem, context)
        self.hindrance = ""
        """What the drive waits for before it can be used, for people."""
        self.busy_until = 0.0
        """Until then nobody tries to take its medium out or to bring another. Trio's time."""
        self.state.movable = True
        self._unit = unit
        self._drives = context
        self._blame = Blame(row, context)
        self._coming: Medium | None = None
        """What is about to be the drive's: it is loaded, or was found here."""
        self._rival = ""
        """The path of another drive of ours that has to be done with the medium that was found here."""

    @property
    def bound(self) -> Medium | None:
        coming = self.state.scheduled[-1].medium if self.state.scheduled else self._coming or self.medium
        here = self.medium
        # What was scheduled does not know what has been found out about the medium since.
        return here if here is not None and coming is not None and coming.id == here.id else coming

    def holds(self, medium: ResourceId) -> bool:
        promised = (*(action.medium for action in self.state.scheduled), self._coming)
        if any(coming is not None and coming.id == medium for coming in promised):
            return not self.ended.is_set()
        return super().holds(medium)

    @property
    def waiting_for(self) -> str:
        rival = f"its tape is also with {self._rival}, which has to be done with it first" if self._rival else ""
        return self.hindrance or rival or super().waiting_for

    async def _adopt(self, task_status: trio.TaskStatus[None]) -> None:
        """Take the drive's lock and find out what is in it, also what a predecessor has left mounted."""
        waiting = partial(self._tell_started, task_status)
        await self._ownership.take(LockType.DEVICE, self.id, waiting)
        with self._deadline(Phase.LOOK_UP):
            self.identity = await self._unit.drive.query(self.row)
        content = await self._wait_library(waiting)
        self.address = content.address
        with self._deadline(Phase.OPEN):
            await self._filesystem.open(self.identity.path)
        await self._adopt_content(content, waiting)
        log.info("drive ready", device=self.row.path, medium=content.medium, status=self.state.status.value)
        self._emit(EventKind.DEVICE_ADDED)

    async def _adopt_content(self, content: Content, waiting: Callable[[], None]) -> None:
        try:
            while content.medium is not None:
                found = ResourceId(self.id.family, content.medium, self.id.library)
                claimed = await self._claim(await self._read(found), waiting)
                # Whoever had it until now may have moved it.
                content = await self._wait_library(waiting)
                if claimed and content.medium == found.name:
                    await self._adopt_medium(found)
                    return
                if claimed:
                    await self._ownership.release(LockType.MEDIA, found)
                    self._coming = None
        finally:
            self._rival = ""
        self.state.become(DeviceStatus.EMPTY, trio.current_time())

    async def _claim(self, medium: Medium, waiting: Callable[[], None]) -> bool:
        """Have `medium` for this drive, however long others have it locked.

        ``False`` after a while if another drive of ours has it: that is likely to take it out of here.
        """
        while (rival := self._other_holder(medium.id)) is None:
            self._coming = medium
            self._drives.found(medium)
            holder = await self._ownership.try_take(LockType.MEDIA, medium.id)
            if holder is None:
                self._ownership.outlasted()
                return True
            self._coming = None
            await self._ownership.outlast(holder, medium.id, waiting)
        if rival != self._rival:
            self._rival = rival
            log.warning("drive waits for another one", device=self.row.path, medium=medium.id.name, other=rival)
        self._ownership.outlasted()
        self._ownership.tell_looked()
        waiting()
        await trio.sleep(RIVAL_S)
        return False

    def _other_holder(self, medium: ResourceId) -> str | None:
        """The path of another drive of ours that holds `medium`."""
        drives = self._drives.drives()
        return next((drive.row.path for drive in drives if drive is not self and drive.holds(medium)), None)

    async def _read(self, found: ResourceId) -> Medium:
        row = await self._context.dss.execute(ReadMedium(found))
        if row is None:
            raise LrsError(
                errno.ENXIO,
                f"{self.row.path} holds {found.name}, which the DSS does not know; add that tape or take it out",
            )
        return row.medium

    async def _adopt_medium(self, found: ResourceId) -> None:
        medium = await self._read(found)
        # It is here, whether it can be used or not.
        self._present(medium)
        self._coming = None
        with self._deadline(Phase.MOUNT):
            root, space = await self._unit.filesystem.adopt(), self.space
            if root is not None:
                await check_label(self._filesystem, medium, self.row.path, root)
                space = await self._filesystem.space()
        if root is None:
            self.state.become(DeviceStatus.LOADED, trio.current_time())
            return
        self.root, self.space = root, space
        self.state.volume.measure(space.free)
        self.state.become(DeviceStatus.MOUNTED, trio.current_time())

    async def _wait_library(self, waiting: Callable[[], None]) -> Content:
        """What is in the drive, as soon as the library can be asked."""
        pause = SHORTEST_PAUSE_S
        try:
            while True:
                try:
                    with self._deadline(Phase.LOOK_UP):
                        return await self._unit.library.lookup(self.row)
                except OSError as error:
                    if not (isinstance(error, LibraryUnreachableError) or error.errno == errno.ETIMEDOUT):
                        raise
                    if not self.hindrance:
                        log.warning("library unreachable", device=self.row.path, error=describe(error))
                    self.hindrance = f"its library: {describe(error)}"
                    waiting()
                    await trio.sleep(pause)
                    pause = min(pause * 2, LONGEST_PAUSE_S)
        finally:
            self.hindrance = ""

    # A move that was lost track of.

    def _lose_track(self, error: OSError) -> None:
        """Nobody knows whether the medium is in the drive now: nothing is done here before that is found out."""
        self.state.lost = True
        self.state.become(DeviceStatus.ADOPTING, trio.current_time())
        self._end_promises(error)
        self._context.changed()

    async def _find_out(self) -> None:
        expected = self._loaded()
        self._adoption = trio.CancelScope()
        try:
            with self._adoption:
                content = await self._wait_library(self._context.changed)
                if content.medium == expected.id.name:
                    self.state.become(DeviceStatus.LOADED, trio.current_time())
                else:
                    await self._gone()
                    await self._adopt_content(content, self._context.changed)
                self.state.lost = False
        except OSError as error:
            self._refuse(error)
        self._ownership.stop_waiting()
        self._context.changed()

    # What is in it.

    def _volume_of(self, medium: Medium) -> Volume:
        return self._context.volumes.setdefault(str(medium.id), Volume(medium.stats.phys_spc_free))

    def _present(self, medium: Medium) -> None:
        self.medium = medium
        self.state.present = medium.id
        self.state.volume = self._volume_of(medium)

    async def _gone(self, error: LrsError | None = None) -> None:
        """The medium is not in the drive; `error` says why it cannot be used at all, if so."""
        # As long as we have its lock no other drive may have it: it would lose the lock with us.
        await self._ownership.release(LockType.MEDIA, self._loaded().id)
        medium = self._loaded()
        self.medium = self.state.present = None
        self.root = ""
        self.state.volume = Volume()
        self.state.tainted = self.state.withheld = None
        self._drives.put_back(medium, error)
