"""What a drive tells of its operations: to the log of the DSS, and to the evidence of who is broken."""

from __future__ import annotations

import errno
import json
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

import structlog

from lrs_trio.devices.device import DeviceContext, DeviceTask
from lrs_trio.devices.evidence import CAUSES, Evidence, Verdict
from lrs_trio.dss.operations import AppendLog, LogEntry
from lrs_trio.errors import HostError, LabelError, LrsError, OperationError, describe
from lrs_trio.model import Device, Medium, Phase

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class DriveContext(DeviceContext):
    """What all drives of a family share, beside `evidence` of what is broken.

    `judge` sees to it that what the evidence has proven broken is failed. `put_back` is told of each medium that is in
    no drive any more, with the error that keeps it from being used, if there is one. `found` is told of each one that a
    drive has found inside, from when on no other drive may be promised it. `logs_moves` tells of a library whether its
    loads and unloads are ours to log. `drives` are all of them: they have the locks of media in common, for in the DSS
    those are the daemon's.
    """

    evidence: Evidence
    wall_clock: Callable[[], float]
    judge: Callable[[list[Verdict]], Awaitable[None]]
    put_back: Callable[[Medium, LrsError | None], None]
    found: Callable[[Medium], None]
    logs_moves: Callable[[str], bool]
    drives: Callable[[], Iterable[DeviceTask]]


class Blame:
    """Finds who is to blame for what fails in the drive of `row`. That the log cannot be written changes nothing."""

    def __init__(self, row: Device, context: DriveContext) -> None:
        self._drive = row.id
        self._path = row.path
        self._context = context

    async def failed(self, phase: Phase, medium: Medium, error: OSError) -> None:
        """`medium` and the drive could not do that together."""
        self._tell("operation failed", phase, medium, error)
        await self._write_error(phase, medium, error)
        await self._context.judge(self._verdicts(medium, error, f"{phase.value}: {describe(error)}"))

    async def stuck(self, phase: Phase, medium: Medium, error: OSError) -> None:
        """`medium` does not come out of the drive, which is out of service already because of that."""
        self._tell("medium stuck", phase, medium, error)
        self._context.evidence.blame_drive(self._drive, f"{phase.value}: {describe(error)}")
        await self._write_error(phase, medium, error)

    async def moved(self, phase: Phase, medium: Medium) -> None:
        """The robot has brought or taken `medium`. That it moves does not tell that it can be used."""
        if self._moves_are_ours:
            await self._write(phase, medium, 0, {phase.value: "done"})

    async def worked(self, medium: Medium) -> None:
        """`medium` could be used in the drive. Only where that tells anything it is written down."""
        evidence = self._context.evidence
        if evidence.telling(self._drive, medium.id):
            await self._write(Phase.MOUNT, medium, 0, {Phase.MOUNT.value: "done"})
        verdicts = evidence.worked(self._drive, medium.id)
        if verdicts:
            await self._context.judge(verdicts)

    @property
    def _moves_are_ours(self) -> bool:
        return self._context.logs_moves(self._drive.library)

    def _verdicts(self, medium: Medium, error: OSError, what: str) -> list[Verdict]:
        evidence = self._context.evidence
        if isinstance(error, HostError):
            return []
        if isinstance(error, LabelError):
            return evidence.blame_medium(medium.id, what)
        if error.errno == errno.ETIMEDOUT:
            return evidence.blame_drive(self._drive, what)
        return evidence.failed(self._drive, medium.id, what)

    def _tell(self, what: str, phase: Phase, medium: Medium, error: OSError) -> None:
        log.error(what, device=self._path, medium=medium.id.name, phase=phase.value, error=describe(error))

    async def _write_error(self, phase: Phase, medium: Medium, error: OSError) -> None:
        if phase in (Phase.LOAD, Phase.UNLOAD) and not self._moves_are_ours:
            return
        record = error.record if isinstance(error, OperationError) else {phase.value: describe(error)}
        await self._write(phase, medium, -(error.errno or errno.EIO), dict(record))

    async def _write(self, phase: Phase, medium: Medium, number: int, record: dict[str, str]) -> None:
        entry = LogEntry(self._drive, medium.id.name, number, CAUSES[phase], json.dumps(record))
        try:
            await self._context.dss.execute(AppendLog(entry))
        except LrsError as refusal:
            log.error("operation not logged in the DSS", device=self._path, error=describe(refusal))
