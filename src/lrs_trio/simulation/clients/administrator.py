"""The person who looks after a simulated storage host: locks, changes, adds, deletes and repairs at any moment."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

import trio

from lrs_trio.dss.operations import (
    AddDirectory,
    AddMedia,
    DeleteDirectory,
    DeleteLocks,
    DeleteMedium,
    MediumUpdate,
    SetDeviceStatus,
    UpdateMedia,
)
from lrs_trio.model import AdmStatus, Device, Family, FsStatus, NotifyOperation, ResourceId
from lrs_trio.simulation.clients.commands import Commands, News
from lrs_trio.simulation.clients.workload import TAGS
from lrs_trio.simulation.faults import FaultKind
from lrs_trio.simulation.host.site import Site, directory_device, directory_medium
from lrs_trio.simulation.oracles.ledger import Ledger
from lrs_trio.simulation.scenario import HOUR, Scenario

FEWEST: Final = 8
DEVICES_FOR_EACH: Final = 4
"""How often something is meddled with: at least so often, and once more for every so many devices."""

LONGEST_MEAN_S: Final = 900.0
"""The average time until what was meddled with is as before, and between two repairs; a short run has less."""

HELD_LONG_S: Final = 1.0

PARTS: Final = 10
"""A run has room for so many of these times."""

ATTEMPTS: Final = 12
PAUSE_S: Final = 120.0
"""How often the daemon is told of a repair that it refuses, and the pause before the next time: what another host has
stolen has come back by then."""


class Administrator:
    """Meddles in `run`, until that is cancelled; `repair_everything` undoes it all."""

    def __init__(self, site: Site, scenario: Scenario, ledger: Ledger) -> None:
        self._site = site
        self._dss = site.dss
        self._world = site.world
        self._scenario = scenario
        self._commands = Commands(site, ledger)
        self._random = site.world.chance.of("administrator")
        seconds = scenario.hours * HOUR
        self._mean_s = min(LONGEST_MEAN_S, seconds / PARTS)
        self._pause_s = seconds / (FEWEST + scenario.devices // DEVICES_FOR_EACH)
        self._added = 0

    async def run(self) -> None:
        """Meddle now and then, put right what was meddled with, and repair what has failed."""
        acts = self._acts()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._repair_now_and_then, name="repairs")
            while True:
                self._random.shuffle(acts)
                for act in acts:
                    await self._wait(self._pause_s)
                    nursery.start_soon(act, name="administrator at work")

    async def repair_everything(self) -> None:
        """Put all devices and all formatted media into service, as they were in the beginning.

        Returns when the daemon has heeded that, refuses it again and again, or is not there.
        """
        content = self._dss.read()
        media = [row.medium.id for row in content.media.values() if row.medium.fs_status is not FsStatus.BLANK]
        self._commands.write(
            *(SetDeviceStatus(device, AdmStatus.UNLOCKED) for device in content.devices),
            *(UpdateMedia((_as_in_the_beginning(medium),)) for medium in media),
        )
        news: list[News] = [(NotifyOperation.MEDIA_UPDATE, medium) for medium in media]
        news += [(NotifyOperation.DEVICE_UNLOCK, device) for device in content.devices]
        for _ in range(ATTEMPTS):
            news = list(await self._commands.tell(*news))
            if not news:
                break
            await trio.sleep(PAUSE_S)

    def _acts(self) -> list[Callable[[], Awaitable[None]]]:
        acts = [self._lock_a_device, self._lock_a_device, self._change_a_medium, self._change_a_medium]
        acts += [self._clean_locks, self._revoke, self._revoke]
        if self._scenario.directories:
            acts += [self._add_a_directory]
        if self._scenario.drives:
            acts += [self._delete_a_tape]
        return list(acts)

    # What is meddled with.

    async def _lock_a_device(self) -> None:
        """Take a device out of service for a while, and the medium with it if that stays there."""
        devices = [row.device for row in self._dss.read().devices.values()]
        device = self._random.choice(devices)
        if device.adm_status is AdmStatus.UNLOCKED:
            self._world.faults.hit(FaultKind.DEVICE_LOCKED, device.id.name)
            await self._lock(device, wait=self._random.random() < 0.7)
            await self._wait(self._mean_s)
            await self._unlock(device)

    async def _change_a_medium(self) -> None:
        """Change what a medium may be used for, or its tags, and tell the daemon or not; change it back later."""
        rows = self._dss.read().media.values()
        media = [row.medium.id for row in rows if row.medium.fs_status is not FsStatus.BLANK]
        if not media:
            return
        medium = self._random.choice(media)
        change = self._random.choice(
            (
                MediumUpdate(medium, tags=(self._random.choice(TAGS),)),
                MediumUpdate(medium, put=False),
                MediumUpdate(medium, get=False),
                MediumUpdate(medium, delete=False),
                MediumUpdate(medium, adm_status=AdmStatus.LOCKED),
            )
        )
        self._world.faults.hit(FaultKind.MEDIUM_CHANGED, medium.name)
        await self._update(change)
        await self._wait(self._mean_s)
        await self._update(_as_in_the_beginning(medium))

    async def _add_a_directory(self) -> None:
        """Bring a new directory into service, and take it away later if nothing has been written there."""
        self._added += 1
        path = f"/data/added-{self._added:02}"
        volume, capacity = self._scenario.volumes + self._added, self._scenario.directory_capacity
        self._site.directories.add(path, volume=volume, capacity=capacity, label=None)
        device, medium = directory_device(path), directory_medium(path, blank=True)
        self._commands.write(AddDirectory(device, medium))
        if await self._commands.tell((NotifyOperation.DEVICE_ADD, device.id)):
            self._commands.write(DeleteDirectory(device.id, medium.id, in_service=True))
            return
        await self._commands.format(medium.id)
        await self._wait(self._mean_s)
        await self._delete_directory(device, medium.id)

    async def _delete_directory(self, device: Device, medium: ResourceId) -> None:
        await self._lock(device)
        row = self._dss.read().media.get(medium)
        unused = row is not None and not row.medium.stats.nb_obj
        if unused and self._commands.write(DeleteDirectory(device.id, medium)):
            self._world.faults.hit(FaultKind.MEDIUM_DELETED, medium.name)
            await self._commands.tell((NotifyOperation.DEVICE_LOCK, device.id))
        else:
            await self._unlock(device)

    async def _delete_a_tape(self) -> None:
        """Have the DSS forget an unused tape that nobody has locked, and know it again later."""
        unused = [
            row.medium
            for row in self._dss.read().media.values()
            if row.medium.id.family is Family.TAPE and not row.medium.stats.nb_obj and row.lock is None
        ]
        if not unused:
            return
        tape = self._random.choice(unused)
        if self._commands.write(DeleteMedium(tape.id)):
            self._world.faults.hit(FaultKind.MEDIUM_DELETED, tape.id.name)
            try:
                await self._wait(self._mean_s)
            finally:
                self._commands.write(AddMedia((tape,)))

    async def _clean_locks(self) -> None:
        """Delete the locks that dead daemons of this host have left."""
        alive = [pid for pid, process in self._world.processes.items() if process.alive]
        ours = [lock for lock in self._dss.read().locks.values() if lock.owner.host == self._world.host]
        dead = tuple(lock for lock in ours if lock.owner.pid not in alive)
        if dead:
            self._commands.write(DeleteLocks(dead))
        await trio.lowlevel.checkpoint()

    async def _revoke(self) -> None:
        """Take away what somebody has held for longer than others, in one of the ways in which that can be said."""
        held = await self._commands.held_long(HELD_LONG_S)
        if not held:
            return
        grant = self._random.choice(held)
        # Before it is done: who has held it may be told at once.
        self._world.faults.hit(FaultKind.GRANT_REVOKED, grant["medium"])
        match self._random.randrange(3):
            case 0:
                await self._commands.revoke(grant["medium"])
            case 1:
                await self._commands.revoke(client=grant["client"])
            case _:
                await self._commands.revoke(grant["medium"], pid=grant["pid"])

    # What is repaired.

    async def _repair_now_and_then(self) -> None:
        """Mend the hardware, and put into service again what has failed."""
        while True:
            await self._wait(self._mean_s)
            self._site.directories.mend()
            self._site.library.mend()
            content = self._dss.read()
            media = [row.medium.id for row in content.media.values() if row.medium.adm_status is AdmStatus.FAILED]
            failed = [row.device.id for row in content.devices.values() if row.device.adm_status is AdmStatus.FAILED]
            self._commands.write(
                *(SetDeviceStatus(device, AdmStatus.UNLOCKED) for device in failed),
                *(UpdateMedia((MediumUpdate(medium, adm_status=AdmStatus.UNLOCKED),)) for medium in media),
            )
            await self._commands.tell(
                *((NotifyOperation.MEDIA_UPDATE, medium) for medium in media),
                *((NotifyOperation.DEVICE_UNLOCK, device) for device in await self._out_of_service(failed)),
            )

    async def _out_of_service(self, failed: list[ResourceId]) -> list[ResourceId]:
        """`failed`, and what the daemon has given up although it is to be used."""
        given_up = await self._commands.given_up()
        rows = self._dss.read().devices
        usable = [id_ for id_ in given_up if id_ in rows and rows[id_].device.adm_status is AdmStatus.UNLOCKED]
        return list(dict.fromkeys(failed + usable))

    # Parts of that.

    async def _lock(self, device: Device, *, wait: bool = True) -> None:
        self._set_status(device, AdmStatus.LOCKED)
        await self._commands.tell(*_news_of_medium(device))
        await self._commands.tell((NotifyOperation.DEVICE_LOCK, device.id), wait=wait)

    async def _unlock(self, device: Device) -> None:
        self._set_status(device, AdmStatus.UNLOCKED)
        await self._commands.tell(*_news_of_medium(device))
        await self._commands.tell((NotifyOperation.DEVICE_UNLOCK, device.id))

    def _set_status(self, device: Device, status: AdmStatus) -> None:
        medium = _medium_in(device)
        self._commands.write(
            SetDeviceStatus(device.id, status),
            *([UpdateMedia((MediumUpdate(medium, adm_status=status),))] if medium is not None else []),
        )

    async def _update(self, update: MediumUpdate) -> None:
        self._commands.write(UpdateMedia((update,)))
        if self._random.random() < 0.6:
            await self._commands.tell((NotifyOperation.MEDIA_UPDATE, update.id), wait=self._random.random() < 0.7)

    async def _wait(self, mean_s: float) -> None:
        await trio.sleep(self._random.expovariate(1 / mean_s))


def _as_in_the_beginning(medium: ResourceId) -> MediumUpdate:
    return MediumUpdate(medium, adm_status=AdmStatus.UNLOCKED, tags=(), put=True, get=True, delete=True)


def _medium_in(device: Device) -> ResourceId | None:
    """The medium that never leaves `device`, if it is one of that kind."""
    if device.id.family is not Family.DIR:
        return None
    return ResourceId(Family.DIR, device.path, device.id.library)


def _news_of_medium(device: Device) -> list[News]:
    medium = _medium_in(device)
    return [] if medium is None else [(NotifyOperation.MEDIA_UPDATE, medium)]
