"""The media of a family as the DSS has them: what stands on the shelves of the libraries and could be loaded."""

from __future__ import annotations

import errno
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from math import inf

import structlog
import trio

from lrs_trio.dss.operations import Dss, MediumRow, ReadMedia, ReadMedium
from lrs_trio.dss.processes import process_start_time
from lrs_trio.dss.recovery import Standing, StartTimeOf, standing_of
from lrs_trio.errors import LrsError, MediumMissingError, describe
from lrs_trio.model import AdmStatus, Family, Lock, LockOwner, Medium, ResourceId

log = structlog.get_logger()

MISSING_S = 300.0
"""How long a medium that its library did not have is not asked for again. Seconds."""

SHARE_OF_TIME = 20
"""A catalog that takes long to read is read so much less often: reading takes at most this part of the time."""


@dataclass(frozen=True, slots=True)
class Shelved:
    """One medium, and why it cannot be had now, if so; `until` is in trio's time."""

    medium: Medium
    refusal: LrsError | None = None
    until: float = inf

    @property
    def essence(self) -> tuple[object, ...]:
        """Equal if nothing is new: an error that says the same again is none."""
        return self.medium, None if self.refusal is None else self.refusal.args, self.until


class Catalog:
    """What is known of the media of `family`; a look is repeated when it is older than `recheck_s` seconds.

    `start_of` tells when a process of this host started.
    """

    def __init__(
        self,
        family: Family,
        dss: Dss,
        owner: LockOwner,
        recheck_s: float,
        start_of: StartTimeOf = process_start_time,
    ) -> None:
        self._family = family
        self._dss = dss
        self._owner = owner
        self._recheck_s = recheck_s
        self._start_of = start_of
        self._rows: dict[ResourceId, Shelved] = {}
        self._expires = -inf
        self.looks = 0
        """How often it has begun to read them all."""
        self.version = 0
        """Another one whenever anything has changed."""

    @property
    def rows(self) -> Mapping[ResourceId, Shelved]:
        return self._rows

    def is_unlocked(self, medium: ResourceId) -> bool:
        known = self._rows.get(medium)
        return known is not None and known.medium.adm_status is AdmStatus.UNLOCKED

    async def refresh(self) -> bool:
        """Read all media again if what is known is old; ``True`` if anything is new."""
        began = trio.current_time()
        if began < self._expires:
            return False
        self.looks += 1
        try:
            found = await self._dss.execute(ReadMedia(self._family))
        except LrsError as error:
            log.error("media not looked up", error=describe(error))
            self._expires = began + self._recheck_s
            return False
        rows = {row.medium.id: self._shelved(row, trio.current_time()) for row in found}
        # Of what is in our drives we know more than the rows say.
        ours = {row.medium.id for row in found if row.lock is not None and row.lock.owner == self._owner}
        news = any(_differ(rows.get(id), self._rows.get(id)) for id in (rows.keys() | self._rows.keys()) - ours)
        self._rows = rows
        self.version += news
        now = trio.current_time()
        self._expires = now + max(self._recheck_s, SHARE_OF_TIME * (now - began))
        return news

    async def look_up(self, medium: ResourceId) -> LrsError | None:
        """Read one medium again; the result says that the DSS does not know it."""
        try:
            row = await self._dss.execute(ReadMedium(medium))
        except LrsError as error:
            return error
        if row is None:
            self.version += self._rows.pop(medium, None) is not None
            return LrsError(errno.ENXIO, f"{medium}: the DSS does not know this medium")
        self._put(self._shelved(row, trio.current_time()))
        return None

    def put_back(self, medium: Medium, error: LrsError | None) -> None:
        """`medium` is in no drive any more; `error` says why it cannot be used."""
        missing = isinstance(error, MediumMissingError)
        until = trio.current_time() + (MISSING_S if missing else self._recheck_s)
        self._put(Shelved(medium, error, until if error is not None else inf))

    def updated(self, medium: Medium) -> None:
        """The row of `medium` is this now; whether it can be had is as before."""
        known = self._rows.get(medium.id)
        self._put(replace(known, medium=medium) if known is not None else Shelved(medium))

    def forget(self, medium: ResourceId) -> None:
        """Believe nothing that was said against `medium`."""
        known = self._rows.get(medium)
        if known is not None:
            self._put(Shelved(known.medium))

    def expire(self, now: float) -> None:
        """Let go of what was true only for a while."""
        for medium, known in tuple(self._rows.items()):
            if known.until <= now:
                self.forget(medium)

    def read_again(self) -> None:
        """Let the next `refresh` read, however recent what is known is."""
        self._expires = -inf

    def next_expiry(self) -> float:
        """When a medium that cannot be had now is to be tried again."""
        return min((known.until for known in self._rows.values()), default=inf)

    def _put(self, entry: Shelved) -> None:
        if _differ(self._rows.get(entry.medium.id), entry):
            self._rows[entry.medium.id] = entry
            self.version += 1

    def _shelved(self, row: MediumRow, now: float) -> Shelved:
        known = self._rows.get(row.medium.id)
        if known is not None and isinstance(known.refusal, MediumMissingError) and known.until > now:
            return Shelved(row.medium, known.refusal, known.until)
        return Shelved(row.medium, self._refusal(row.medium.id, row.lock))

    def _refusal(self, medium: ResourceId, lock: Lock | None) -> LrsError | None:
        if lock is None or lock.owner == self._owner:
            return None
        standing = standing_of(lock, self._owner, self._start_of)
        if standing in (Standing.FOREIGN, Standing.LIVING):
            return LrsError(errno.EALREADY, f"{medium}: is in use by {lock.owner}")
        return None


def _differ(one: Shelved | None, other: Shelved | None) -> bool:
    if one is None or other is None:
        return one is not other
    return one.essence != other.essence


def shelf_of(rows: Mapping[ResourceId, Shelved], in_drives: Iterable[ResourceId]) -> dict[ResourceId, Shelved]:
    """Those that are in no drive."""
    taken = frozenset(in_drives)
    return {medium: shelved for medium, shelved in rows.items() if medium not in taken}
