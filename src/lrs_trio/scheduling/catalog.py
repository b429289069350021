"""The media of a family as the DSS has them: what stands on the shelves of the libraries and could be loaded."""

from __future__ import annotations

import errno
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from math import inf

import structlog
import trio

from lrs_trio.dss.operations import Dss, MediumRow, ReadMedia
from lrs_trio.dss.processes import process_start_time
from lrs_trio.dss.recovery import Standing, StartTimeOf, standing_of
from lrs_trio.errors import LrsError, MediumMissingError, describe
from lrs_trio.model import AdmStatus, Family, Lock, LockOwner, Medium, ResourceId
from lrs_trio.scheduling.media_look_up import in_parts, read_media
from lrs_trio.scheduling.pace import Pace

log = structlog.get_logger()

MISSING_S = 300.0
"""How long a medium that its library did not have is not asked for again. Seconds."""

ROWS_PER_STEP = 500
"""How many of the rows that were read are compared with what is known in one step."""

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
        self._limited: dict[ResourceId, None] = {}
        """Those that cannot be had for a while only."""
        self._changed: dict[ResourceId, None] = {}
        self._put_since: set[ResourceId] | None = None
        """Of which media something has become known since the reading of all of them began."""
        self.looks = 0
        """How often it has begun to read them all."""

    @property
    def rows(self) -> Mapping[ResourceId, Shelved]:
        return self._rows

    def is_unlocked(self, medium: ResourceId) -> bool:
        known = self._rows.get(medium)
        return known is not None and known.medium.adm_status is AdmStatus.UNLOCKED

    async def refresh(self) -> None:
        """Read all media again if what is known is old."""
        began = trio.current_time()
        if began < self._expires:
            return
        self.looks += 1
        self._put_since = set()
        try:
            found = await self._dss.execute(ReadMedia(self._family))
            await self._compare(found, self._put_since)
        except LrsError as error:
            log.error("media not looked up", error=describe(error))
            self._expires = began + self._recheck_s
            return
        finally:
            self._put_since = None
        now = trio.current_time()
        self._expires = now + max(self._recheck_s, SHARE_OF_TIME * (now - began))

    async def _compare(self, found: Sequence[MediumRow], later: Container[ResourceId]) -> None:
        """Take in what is new in `found`, all the rows there are, less those of which something `later` is known."""
        pace = Pace(ROWS_PER_STEP)
        gone = dict.fromkeys(self._rows)
        for row in found:
            name = row.medium.id
            gone.pop(name, None)
            if name not in later:
                self._take(self._shelved(row, trio.current_time()))
            await pace.step()
        for name in gone:
            if name not in later:
                self._drop(name)

    @property
    def changes(self) -> int:
        """How many media `take_changed` would return."""
        return len(self._changed)

    def take_changed(self, most: int | None = None) -> list[ResourceId]:
        """The media of which anything has changed and that no call has returned since, at most so many."""
        taken = list(islice(self._changed, most))
        for medium in taken:
            del self._changed[medium]
        return taken

    async def look_up(self, media: Sequence[ResourceId]) -> dict[ResourceId, LrsError]:
        """Read `media` again; the result says of which the DSS knows nothing, and of which nothing can be read."""
        errors: dict[ResourceId, LrsError] = {}
        for part in in_parts(media):
            rows = await read_media(self._dss, part)
            now = trio.current_time()
            for medium, row in zip(part, rows, strict=True):
                if isinstance(row, LrsError):
                    errors[medium] = row
                elif row is None:
                    if self._put_since is not None:
                        self._put_since.add(medium)
                    self._drop(medium)
                    errors[medium] = LrsError(errno.ENXIO, f"{medium}: the DSS does not know this medium")
                else:
                    self._put(self._shelved(row, now))
        return errors

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
        for medium in tuple(self._limited):
            if self._rows[medium].until <= now:
                self.forget(medium)

    def read_again(self) -> None:
        """Let the next `refresh` read, however recent what is known is."""
        self._expires = -inf

    def next_expiry(self) -> float:
        """When a medium that cannot be had now is to be tried again."""
        return min((self._rows[medium].until for medium in self._limited), default=inf)

    def _put(self, entry: Shelved) -> None:
        if self._put_since is not None:
            self._put_since.add(entry.medium.id)
        self._take(entry)

    def _take(self, entry: Shelved) -> None:
        """Know `entry` from now on; nothing has changed if that is known already."""
        name = entry.medium.id
        if not _differ(self._rows.get(name), entry):
            return
        self._rows[name] = entry
        self._changed[name] = None
        if entry.until < inf:
            self._limited[name] = None
        else:
            self._limited.pop(name, None)

    def _drop(self, medium: ResourceId) -> None:
        """The DSS does not know `medium` any more; nothing has changed if that is known already."""
        if self._rows.pop(medium, None) is None:
            return
        self._changed[medium] = None
        self._limited.pop(medium, None)

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
    if one.refusal is None and other.refusal is None:
        return one.until != other.until or one.medium != other.medium
    return one.essence != other.essence


def shelf_of(rows: Mapping[ResourceId, Shelved], in_drives: Iterable[ResourceId]) -> dict[ResourceId, Shelved]:
    """Those that are in no drive."""
    taken = frozenset(in_drives)
    return {medium: shelved for medium, shelved in rows.items() if medium not in taken}
