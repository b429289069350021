"""Media that somebody else changes, deletes or locks in the DSS: noticed before anything is granted on them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from math import inf

import structlog
import trio

from lrs_trio.devices.device import DeviceTask
from lrs_trio.dss.operations import Dss, MediumRow, ReadChangedMedia
from lrs_trio.errors import LrsError, describe
from lrs_trio.model import Lock, LockOwner, ResourceId
from lrs_trio.scheduling.media_look_up import in_parts, read_media

log = structlog.get_logger()

READ_AGAIN_S = 10.0
"""How long what has changed is all that is asked for. That does not tell of a row that is gone or cannot be read:
those are found when every row is read again. Nobody deletes a medium that is in use without an effort."""


class Recheck:
    """Looks up the attached media when what is known of them is older than `recheck_s` seconds.

    `wall_clock` gives seconds since the epoch, in which the DSS tells of locates; it decides nothing else.
    """

    def __init__(self, dss: Dss, owner: LockOwner, recheck_s: float, wall_clock: Callable[[], float]) -> None:
        self._dss = dss
        self._owner = owner
        self._recheck_s = recheck_s
        self._wall_clock = wall_clock
        self._looked = -inf
        self._read = -inf
        self.looks = 0
        """How often it has begun to look."""
        self.located: dict[ResourceId, float] = {}
        """Media that are kept from writes, and until when, in trio's time."""

    async def look(self, devices: Iterable[DeviceTask], locate_expiry: float) -> list[DeviceTask]:
        """Look, if that is due; returns the devices of which something is new.

        A `locate_expiry` above 0 is how long a located medium is kept from writes, in seconds. A locate changes
        nothing but a lock row, so then every row is read at every call.
        """
        self.located = {}
        now = trio.current_time()
        if not locate_expiry and now - self._looked < self._recheck_s:
            return []
        self._looked = now
        self.looks += 1
        attached = {device.medium.id: device for device in devices if device.medium is not None and _matters(device)}
        if not attached:
            return []
        if not locate_expiry and now - self._read < READ_AGAIN_S:
            return await self._read_changed(attached)
        self._read = now
        return await self._read_all(attached, locate_expiry)

    def rest(self) -> None:
        """Nobody waits: there is nothing to look for, now or when a locate expires."""
        self.located = {}

    def expire(self) -> None:
        """Let the next call look, however recent the last look is."""
        self._looked = -inf

    def next_expiry(self) -> float:
        """When the first located medium may be written again, in trio's time."""
        return min(self.located.values(), default=inf)

    async def _read_changed(self, attached: Mapping[ResourceId, DeviceTask]) -> list[DeviceTask]:
        try:
            rows = await self._dss.execute(ReadChangedMedia(tuple(attached), self._owner))
        except LrsError as error:
            log.error("media not looked up", error=describe(error))
            return []
        return [device for row in rows if _is_news(device := attached[row.medium.id], row.medium.id, row)]

    async def _read_all(self, attached: Mapping[ResourceId, DeviceTask], locate_expiry: float) -> list[DeviceTask]:
        news: list[DeviceTask] = []
        for part in in_parts(list(attached)):
            rows = await read_media(self._dss, part)
            # At once: what a release learns from a later transaction must not be overwritten with this.
            for medium, row in zip(part, rows, strict=True):
                if _is_news(attached[medium], medium, row):
                    news.append(attached[medium])
                kept = located_for(row.lock, locate_expiry, self._wall_clock()) if isinstance(row, MediumRow) else 0.0
                if kept > 0:
                    self.located[medium] = trio.current_time() + kept
        return news


def located_for(lock: Lock | None, expiry: float, wall_now: float) -> float:
    """How many more seconds a medium with this lock is kept for the client that located it; 0 or less: not any more.

    `wall_now` is in seconds since the epoch, `expiry` in seconds; at 0 nothing is kept, whatever the clocks say.
    """
    if lock is None or lock.last_locate is None or not expiry:
        return 0.0
    return lock.last_locate + expiry - wall_now


def _matters(device: DeviceTask) -> bool:
    """Whether anything could still be granted there."""
    return device.medium is not None and device.state.error is None and not device.state.stopping


def _is_news(device: DeviceTask, medium: ResourceId, row: MediumRow | LrsError | None) -> bool:
    """Whether `row` is news of `medium`, unless that has left the device while it was read."""
    return _matters(device) and device.medium_id == medium and device.medium_read(row)
