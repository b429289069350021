"""Who of a family's drives and media is suspected, who is proven broken, and what follows from that."""

from __future__ import annotations

import errno
from collections.abc import Iterable

import structlog

from lrs_trio.devices.drive import DriveTask
from lrs_trio.devices.evidence import Evidence, Verdict, fresh_start, replay
from lrs_trio.dss.operations import AppendLog, MediumUpdate, ReadLog, SetDeviceStatus, UpdateMedia
from lrs_trio.errors import LrsError, describe
from lrs_trio.model import AdmStatus, Device, Family, ResourceId
from lrs_trio.scheduling.catalog import Catalog
from lrs_trio.scheduling.supply import Surroundings

log = structlog.get_logger()


class Suspicions:
    """The evidence of one family, and the administrators' word against it."""

    def __init__(self, family: Family, around: Surroundings, catalog: Catalog) -> None:
        self._family = family
        self._around = around
        self._catalog = catalog
        self.evidence = Evidence(around.context.settings.max_health)

    async def read_log(self) -> None:
        """Begin with what the operation log tells; drives are made after that."""
        entries = await self._around.context.dss.execute(ReadLog(self._family))
        self.evidence = replay(entries, self._around.context.settings.max_health)

    async def judge(self, verdicts: list[Verdict]) -> None:
        """Fail what is proven broken. A drive lets end what goes on in it before."""
        for verdict in verdicts:
            who = {"drive" if verdict.is_drive else "medium": verdict.resource.name}
            log.error("proven broken", **who, reason=verdict.reason)
            try:
                if verdict.is_drive:
                    await self._fail_drive(verdict)
                else:
                    await self._fail_medium(verdict)
            except LrsError as refusal:
                log.error("failure not recorded in the DSS", name=verdict.resource.name, error=describe(refusal))
        self._around.context.changed()

    async def _fail_drive(self, verdict: Verdict) -> None:
        drive = self._around.devices.get(verdict.resource)
        if isinstance(drive, DriveTask) and drive.state.error is None:
            drive.condemn(LrsError(errno.EIO, f"drive {drive.row.path} is broken: {verdict.reason}"))
        else:
            await self._around.context.dss.execute(SetDeviceStatus(verdict.resource, AdmStatus.FAILED))

    async def _fail_medium(self, verdict: Verdict) -> None:
        update = MediumUpdate(verdict.resource, adm_status=AdmStatus.FAILED, add_errors=1)
        (row,) = await self._around.context.dss.execute(UpdateMedia((update,)))
        if row is None:
            return
        self._catalog.updated(row)
        for drive in self._around.devices.values():
            if drive.medium_id == row.id:
                drive.medium_changed(row)
                self._around.replan(drive)

    async def forget_unlocked(self, drives: Iterable[Device]) -> None:
        """Who had failed and is unlocked now is to be tried again: an administrator has seen to it."""
        unlocked = {drive.id for drive in drives if drive.adm_status is AdmStatus.UNLOCKED}
        shelved = self._catalog.rows.values()
        unlocked |= {entry.medium.id for entry in shelved if entry.medium.adm_status is AdmStatus.UNLOCKED}
        for verdict in self.evidence.failed_resources():
            if verdict.resource in unlocked:
                await self.forget(verdict.resource, is_drive=verdict.is_drive)

    def media(self) -> list[ResourceId]:
        """The media that anything is held against, by their names."""
        failed = (verdict.resource for verdict in self.evidence.failed_resources() if not verdict.is_drive)
        return sorted({*failed, *(medium for _, medium in self.evidence.barred())})

    def _is_held_against(self, resource: ResourceId, *, is_drive: bool) -> bool:
        """Whether anything is."""
        whole = self.evidence.health(resource, is_drive=is_drive) == self._around.context.settings.max_health
        return not whole or any(pair[0 if is_drive else 1] == resource for pair in self.evidence.barred())

    async def forget(self, resource: ResourceId, *, is_drive: bool) -> None:
        """Hold nothing against `resource` any more, also after the next start."""
        if not self._is_held_against(resource, is_drive=is_drive):
            return
        self.evidence.forget(resource, is_drive=is_drive)
        try:
            await self._around.context.dss.execute(AppendLog(fresh_start(resource, is_drive=is_drive)))
        except LrsError as refusal:
            log.error("fresh start not logged in the DSS", name=resource.name, error=describe(refusal))
