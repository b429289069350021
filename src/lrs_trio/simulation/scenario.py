"""What a seed stands for: a storage host, its settings, what its clients do, and what goes wrong. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from random import Random
from typing import TypeVar

from lrs_trio.observe.inventory import Inventory
from lrs_trio.settings import (
    AccessSettings,
    DirectorySettings,
    DrainSettings,
    DssSettings,
    FairShareSettings,
    FamiliesSettings,
    LibrarySettings,
    ServerSettings,
    Settings,
    SyncSettings,
    TapeSettings,
    TapeSyncSettings,
)
from lrs_trio.simulation.faults import FaultKind

T = TypeVar("T")

HOST = "store1"
LIBRARY = "legacy"
HOUR = 3600.0

GROUP = 100
"""Of the honest clients: they may format, and tell the daemon of changes."""

MIB = 2**20
GIB = 2**30


class End(Enum):
    """How one life of the daemon ends."""

    DRAIN = "drain"
    """SIGTERM; the clients stay connected and finish what they hold."""

    FORCED = "forced"
    """SIGTERM, and another one during the drain."""

    KILL = "kill"
    """SIGKILL: what the system has in memory stays."""

    POWER = "power"
    """The host loses its power: what was not synced may be lost, nothing is mounted any more."""


@dataclass(frozen=True, slots=True)
class Life:
    """One life of the daemon before the last: how long it serves, in seconds, and how it ends."""

    seconds: float
    end: End


@dataclass(frozen=True, slots=True)
class Interrupt:
    """The end of a life at one step of the run: after so many steps of trio's tasks, counted from 1."""

    step: int
    end: End
    again: int = 0
    """For `End.FORCED`: so many steps later comes the second signal."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """One run, wholly decided by its values. Sizes are bytes, times seconds unless they say hours."""

    seed: int
    directories: int = 4
    drives: int = 0
    tapes: int = 0
    blank: int = 0
    """Media of each family that have to be formatted first."""

    volumes: int = 4
    """Filesystems that the directories share."""

    clients: int = 8
    requests: int = 400
    """What all clients ask for together: writes, reads, formats and deletes."""

    hours: float = 1.0
    """Over which the requests are spread, if nothing holds them up."""

    directory_capacity: int = 64 * GIB
    tape_capacity: int = 100 * GIB
    largest: int = GIB
    """Of what is written at a time."""

    lives: tuple[Life, ...] = ()
    """Those before the last one, which ends in order once all is done."""

    interrupt: Interrupt | None = None
    """What cuts the life short that goes on at that step."""

    meddling: bool = True
    """Whether an administrator changes things meanwhile."""

    hostile: bool = True
    """Whether there are clients that break the protocol."""

    rates: Mapping[FaultKind, float] = field(default_factory=dict)
    """The probability of each fault at each of its opportunities."""

    settings: Settings = field(default_factory=Settings)
    inventory: Inventory | None = None
    """What there is instead of so many directories, drives and tapes: that of a recorded workload."""

    @property
    def devices(self) -> int:
        return self.directories + self.drives

    @property
    def command(self) -> str:
        """What runs the very same, as far as a seed and options say it."""
        return f"lrs simulate --seed {self.seed}"


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the command line decides instead of the seed."""

    hours: float | None = None
    drives: int | None = None
    directories: int | None = None
    clients: int | None = None
    requests: int | None = None
    faults: bool = True
    lives: bool = True


SOME: Mapping[FaultKind, float] = {
    FaultKind.CLIENT_KILLED_ASKING: 0.004,
    FaultKind.CLIENT_KILLED_WAITING: 0.008,
    FaultKind.CLIENT_KILLED_GRANTED: 0.008,
    FaultKind.CLIENT_KILLED_IN_IO: 0.008,
    FaultKind.CLIENT_KILLED_RELEASING: 0.008,
    FaultKind.CLIENT_KILLED_SYNCING: 0.008,
    FaultKind.SYNC_ERROR: 0.004,
    FaultKind.SYNC_LIE: 0.004,
    FaultKind.SYNC_HANG: 0.001,
    FaultKind.STATVFS_ERROR: 0.003,
    FaultKind.EARLY_END: 0.003,
    FaultKind.LABEL_MISMATCH: 0.01,
    FaultKind.FORMAT_FAILURE: 0.1,
    FaultKind.MOUNT_FAILURE: 0.01,
    FaultKind.MOUNT_HANG: 0.004,
    FaultKind.UNMOUNT_FAILURE: 0.01,
    FaultKind.UNMOUNT_HANG: 0.004,
    FaultKind.UNMOUNT_BUSY: 0.05,
    FaultKind.WRITE_PROTECTED: 0.005,
    FaultKind.LOAD_FAILURE: 0.01,
    FaultKind.LOAD_HANG: 0.004,
    FaultKind.UNLOAD_FAILURE: 0.01,
    FaultKind.UNLOAD_HANG: 0.004,
    FaultKind.ROBOT_STALL: 0.02,
    FaultKind.ROBOT_UNREACHABLE: 0.01,
    FaultKind.WRONG_CARTRIDGE: 0.004,
    FaultKind.DRIVE_DEATH: 0.001,
    FaultKind.DSS_SLOW: 0.01,
    FaultKind.DSS_AWAY: 0.002,
    FaultKind.COMMIT_ANSWER_LOST: 0.005,
    FaultKind.COMMIT_LOST: 0.005,
    FaultKind.LOCK_STOLEN: 0.001,
}
"""How often what may go wrong does so on a bad day."""

_MODES = ("thresholds", "adaptive")
"""Who decides when a group is synced."""

NONE, BAD, TERRIBLE = 0.0, 1.0, 4.0
"""Factors of these rates."""

OF_DISKS = frozenset({FaultKind.SYNC_ERROR, FaultKind.SYNC_HANG})
WEAK = 10.0
"""The factor of these where the disks are weak: others have released when a sync fails that lasts long."""


def scenario_for(seed: int, wishes: Wishes = Wishes()) -> Scenario:
    """What `seed` stands for, with what the person wishes in place of what the seed decides."""
    random = Random(f"{seed} scenario")
    directories, drives = _devices(random, wishes)
    dense = random.random() < 0.6
    requests = _wished(wishes.requests, random.randint(200, 400) if dense else random.randint(100, 200))
    hours = _wished(wishes.hours, _hours(random, dense=dense, drives=drives))
    tapes = max(2 * drives, 4) + random.randint(0, 12) if drives else 0
    factor = random.choice((NONE, BAD, BAD, BAD, TERRIBLE)) if wishes.faults else NONE
    return Scenario(
        seed=seed,
        directories=directories,
        drives=drives,
        tapes=tapes,
        blank=random.randint(0, 3),
        volumes=max(1, directories // random.choice((1, 1, 2, 4))),
        clients=_wished(wishes.clients, random.choice((1, 2, 4, 8, 16, 32, 64))),
        requests=requests,
        hours=hours,
        directory_capacity=random.choice((MIB, 8 * GIB, 1024 * GIB)),
        tape_capacity=random.choice((20 * GIB, 100 * GIB, 1000 * GIB)),
        largest=random.choice((100 * MIB, GIB, 4 * GIB)),
        lives=_lives(random, hours) if wishes.lives else (),
        meddling=factor != NONE,
        hostile=factor != NONE,
        settings=_settings(random, directories, drives),
        rates=_rates(random, factor),
    )


def small_scenario(seed: int, *, tapes: bool) -> Scenario:
    """One that is over after few steps: for a run for each moment at which it may be cut short."""
    drives = 2 if tapes else 0
    settings = _settings(Random(f"{seed} small"), 0 if tapes else 2, drives)
    return Scenario(
        seed=seed,
        directories=0 if tapes else 2,
        drives=drives,
        tapes=3 if tapes else 0,
        blank=1,
        volumes=2,
        clients=3,
        requests=12,
        hours=1.0 if tapes else 0.001,
        meddling=False,
        hostile=False,
        settings=settings,
    )


def _rates(random: Random, factor: float) -> dict[FaultKind, float]:
    """How often what may go wrong does so on a day that is bad by `factor`; in some places the disks are worst."""
    of_disks = random.choice((1, 1, 1, WEAK))
    factors = {kind: factor * (of_disks if kind in OF_DISKS else 1) for kind in SOME}
    return {kind: min(rate * factors[kind], 0.5) for kind, rate in SOME.items() if factor}


def _wished(wish: T | None, otherwise: T) -> T:
    return otherwise if wish is None else wish


def _devices(random: Random, wishes: Wishes) -> tuple[int, int]:
    """How many directories and drives: one of them, or both."""
    counts = (1, 1, 2, 3, 4, 8, 16, 32, 64)
    directories, drives = random.choice(counts), random.choice(counts[:-1])
    match random.randrange(5):
        case 0 | 1:
            drives = 0
        case 2 | 3:
            directories = 0
        case _:
            directories, drives = min(directories, 32), min(drives, 32)
    if wishes.directories is not None or wishes.drives is not None:
        return wishes.directories or 0, wishes.drives or 0
    return directories, drives


def _hours(random: Random, *, dense: bool, drives: int) -> float:
    if dense:
        return random.uniform(0.5, 5) if drives else random.uniform(0.01, 0.5)
    return random.uniform(5, 60)


def _lives(random: Random, hours: float) -> tuple[Life, ...]:
    """Some lives that together take less time than the requests."""
    count = random.choice((0, 0, 1, 1, 2, 3))
    return tuple(Life(random.random() * hours * HOUR / (count + 1), random.choice(tuple(End))) for _ in range(count))


def _settings(random: Random, directories: int, drives: int) -> Settings:
    settings = Settings(
        host=HOST,
        server=ServerSettings(
            max_requests_per_connection=random.choice((16, 64, 1024)),
            response_channel=random.choice((8, 64, 1024)),
            slow_client_s=random.choice((5.0, 30.0)),
        ),
        access=AccessSettings(groups={str(GROUP): ("format", "admin")}),
        dss=DssSettings(url="sqlite:///simulated/dss.sqlite", recheck_s=random.choice((0.0, 1.0, 10.0))),
        families=FamiliesSettings(
            dir=_directory_settings(random).model_copy(update={"enabled": directories > 0}),
            tape=_tape_settings(random).model_copy(update={"enabled": drives > 0}),
        ),
        libraries={LIBRARY: LibrarySettings(robot="virtual", drives="virtual", directory=Path("/simulated"))},
        drain=DrainSettings(deadline_s=random.choice((300.0, 3600.0, 14_400.0))),
    )
    families = settings.families
    dir_sync = families.dir.sync.model_copy(update={"mode": random.choice(_MODES)})
    tape_sync = families.tape.sync.model_copy(
        update={"mode": random.choice(_MODES), "streaming_share": random.choice((0.5, 0.9))}
    )
    families = families.model_copy(
        update={
            "dir": families.dir.model_copy(update={"sync": dir_sync}),
            "tape": families.tape.model_copy(update={"sync": tape_sync}),
        }
    )
    return settings.model_copy(update={"families": families})


def _directory_settings(random: Random) -> DirectorySettings:
    thresholds = random.choice(((0, 1, 1), (10, 5, GIB), (1000, 50, 10 * GIB)))
    return DirectorySettings(
        max_concurrent_io=random.choice((1, 2, 8, 32)),
        sync_while_io=random.random() < 0.7,
        mix_reads_and_writes=random.random() < 0.7,
        max_health=random.choice((1, 1, 3)),
        groupings=random.random() < 0.3,
        policy=random.choice(("best_fit", "first_fit")),
        operation_timeout_s=random.choice((30.0, 300.0)),
        sync=SyncSettings(time_ms=thresholds[0], requests=thresholds[1], bytes=thresholds[2]),
    )


def _tape_settings(random: Random) -> TapeSettings:
    thresholds = random.choice(((0, 1, 1), (10_000, 5, GIB), (600_000, 1000, 30 * GIB)))
    return TapeSettings(
        max_concurrent_io=random.choice((1, 1, 1, 2, 4)),
        sync_while_io=random.random() < 0.2,
        mix_reads_and_writes=random.random() < 0.2,
        max_health=random.choice((1, 2)),
        groupings=random.random() < 0.5,
        policy=random.choice(("best_fit", "first_fit")),
        read_algorithm=random.choice(("fifo", "grouped_read")),
        dispatch=random.choice(("none", "none", "fair_share")),
        fair_share={"LTO8": FairShareSettings(min=(1, 1, 0), max=(64, 64, 2))},
        sync=TapeSyncSettings(time_ms=thresholds[0], requests=thresholds[1], bytes=thresholds[2]),
    )
