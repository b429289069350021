"""The files of a simulated DSS: the real SQLite home, on a disk that can lose what was not synced."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Final

import apsw

from lrs_trio.dss.operations import (
    DeviceRow,
    MediumRow,
    Operation,
    Outcome,
    ReadDevices,
    ReadLocks,
    ReadLog,
    ReadMedia,
)
from lrs_trio.dss.sqlite import SqliteHome
from lrs_trio.model import Family, Lock, LockType, ResourceId
from lrs_trio.simulation.host.disk import Disk, DiskVfs

PATH: Final = "/simulated/dss.sqlite"


@dataclass(frozen=True, slots=True)
class DssContent:
    """What is in the DSS at one moment, the operation log aside; all in the order of the keys."""

    media: Mapping[ResourceId, MediumRow]
    devices: Mapping[ResourceId, DeviceRow]
    locks: Mapping[tuple[LockType, str], Lock]
    """By type and id."""


class DssFiles:
    """The files of one DSS; to be closed at the end of the run.

    SQLite has them open for one user at a time, and anew when another one wants them: who has files for itself alone
    would not see what others write. `clock` is the time of the rows that are written, in seconds since the epoch;
    `random` is what SQLite draws by lot.
    """

    def __init__(self, clock: Callable[[], float], random: Random) -> None:
        self._vfs = DiskVfs(_free_vfs_name(), Disk(), clock, random)
        self._home: SqliteHome | None = None
        self._user: object = None
        self._content: DssContent | None = None

    def commit(self, user: object, batch: Sequence[Operation[Any]]) -> list[Outcome]:
        """Commit `batch` on behalf of `user`: as `SqliteHome.commit`, which has no reason to fail here."""
        self._content = None
        return self._open(user).commit(batch)

    def read(self) -> DssContent:
        """What is in them now."""
        if self._content is None:
            home = self._open(self._user)
            self._content = DssContent(
                {row.medium.id: row for row in home.execute(ReadMedia())},
                {row.device.id: row for row in home.execute(ReadDevices())},
                {(lock.type, lock.id): lock for lock in home.execute(ReadLocks())},
            )
        return self._content

    def shut(self) -> None:
        """Nobody has them open any more; SQLite folds its log away."""
        if self._home is not None:
            self._home.close()
        self._home = self._user = None

    def close(self) -> None:
        """The run is over."""
        self.shut()
        self._vfs.unregister()
        # Whatever else uses SQLite in this process wants other random numbers than ours.
        apsw.randomness(0)

    def kill(self) -> None:
        """Who has them open dies; what was written is in the system's memory."""
        self._go_on_with(self._vfs.disk.copy())

    def cut_power(self, random: Random, user: object, batch: Sequence[Operation[Any]]) -> tuple[list[Outcome], bool]:
        """The power fails while `user` commits `batch`, which may be empty.

        The result is the outcomes if the batch is durable, none if it is not, and whether all the rest is as it was.
        """
        disk = self._vfs.disk
        before = self._rows()
        disk.record()
        outcomes = self.commit(user, batch) if batch else []
        after = self._rows()
        self._go_on_with(Disk(disk.cut_after(random.randint(0, len(disk.events)), random)))
        found = self._rows()
        return outcomes if found != before else [], found in (before, after)

    def _go_on_with(self, disk: Disk) -> None:
        # What SQLite still writes when it closes its files goes to the disk that is left behind.
        self.shut()
        self._vfs.disk = disk
        self._content = None

    def _open(self, user: object) -> SqliteHome:
        if self._home is None or self._user is not user:
            self.shut()
            self._vfs.seed()
            self._home = SqliteHome.open(PATH, vfs=self._vfs.name, exclusive=True)
            self._user = user
        return self._home

    def _rows(self) -> list[Outcome]:
        logs = (ReadLog(family) for family in Family)
        return self._open(self._user).commit([ReadMedia(), ReadDevices(), ReadLocks(), *logs])


def _free_vfs_name() -> str:
    """All VFS of a process have names of their own; no name gets into what a run tells."""
    number, taken = 1, apsw.vfs_names()
    while f"simulated {number}" in taken:
        number += 1
    return f"simulated {number}"
