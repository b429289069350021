"""A drive of a tape site for tests, and what it has told its family."""

from __future__ import annotations

import errno
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import trio
from trio.testing import wait_all_tasks_blocked

from lrs_trio.devices.blame import DriveContext
from lrs_trio.devices.drive import DriveTask
from lrs_trio.devices.evidence import Evidence, Verdict
from lrs_trio.devices.grant import Grant, GrantState
from lrs_trio.devices.state import FormatJob
from lrs_trio.dss.operations import MediumRow
from lrs_trio.errors import HostError, LrsError
from lrs_trio.model import LockOwner, LockType, Medium, RequestKind, lock_id
from tests.fakes.library import tape_id
from tests.fakes.site import DAEMON, Holder, Waiter, waiter
from tests.fakes.tapes import TapeSite, tape_settings

LONG = 100_000.0
ELSEWHERE = LockOwner("store2", 4711)
NO_PROCESS = HostError(errno.EAGAIN, "no process can be started", {"umount": "no process"})


class Asker(Holder):
    """A request that can be waited for."""

    def __init__(self) -> None:
        super().__init__()
        self.told = trio.Event()

    def grant_ready(self, grant: Grant) -> None:
        super().grant_ready(grant)
        self.told.set()

    def grant_failed(self, grant: Grant, error: OSError) -> None:
        super().grant_failed(grant, error)
        self.told.set()


class FormatOutcome:
    """A request for a format that writes down what it is told."""

    def __init__(self) -> None:
        self.said: list[tuple[str, int | None]] = []

    def formatted(self) -> None:
        self.said.append(("formatted", None))

    def format_failed(self, error: OSError) -> None:
        self.said.append(("failed", error.errno))

    def format_displaced(self, error: OSError) -> None:
        self.said.append(("displaced", error.errno))


@dataclass
class Watched:
    """A drive of a site, and what it has told its family."""

    site: TapeSite
    drive: DriveTask
    evidence: Evidence
    verdicts: list[Verdict] = field(default_factory=list)
    put_back: list[tuple[str, int | None]] = field(default_factory=list)
    found: list[str] = field(default_factory=list)

    def grant(self, tape: str, kind: RequestKind = RequestKind.WRITE, size: int = 0) -> tuple[Grant, Asker]:
        """A grant that the drive has been asked for."""
        holder = Asker()
        made = Grant(self.drive, tape_id(tape), kind, holder, size)
        self.drive.plan(made, self.site.medium(tape))
        return made, holder

    async def granted(self, tape: str, kind: RequestKind = RequestKind.WRITE) -> Grant:
        """A grant whose client does its I/O."""
        made, holder = self.grant(tape, kind)
        with trio.fail_after(LONG):
            await holder.told.wait()
        assert holder.failed == []
        self.drive.move_grant(made, GrantState.ONGOING)
        return made

    async def mounted(self, tape: str) -> None:
        """Have `tape` mounted, and nobody there who uses it."""
        self.drive.end_grant(await self.granted(tape, RequestKind.READ), dirty=False)

    def format(self, tape: str) -> FormatOutcome:
        outcome = FormatOutcome()
        self.drive.plan_format(FormatJob(self.site.medium(tape), unlock=False, holder=outcome))
        return outcome

    async def release(self, grant: Grant, *, size: int = 0) -> Waiter:
        """Give a grant back and let what was written wait for its sync."""
        one = waiter(size)
        self.drive.end_grant(grant, dirty=False)
        self.drive.add_release(one.sub, at_once=False)
        await wait_all_tasks_blocked()
        return one

    def read(self, tape: str) -> bool:
        """What the family does with what it has read of `tape`."""
        row = self.site.dss.media.get(tape_id(tape))
        lock = self.site.dss.locks.get((LockType.MEDIA, lock_id(tape_id(tape))))
        return self.drive.medium_read(MediumRow(row, lock) if row is not None else None)

    @property
    def held(self) -> set[str]:
        """The tapes that the daemon has locked."""
        locks = self.site.dss.locks.values()
        media = {lock_id(medium): medium.name for medium in self.site.dss.media}
        return {media[lock.id] for lock in locks if lock.type is LockType.MEDIA and lock.owner == DAEMON}


def watch(site: TapeSite, serial: str = "D0", *, beside: Sequence[Watched] = (), **settings: object) -> Watched:
    """A drive that is not running yet, of a daemon that has those `beside` it too."""
    evidence = Evidence(1)
    verdicts: list[Verdict] = []
    put_back: list[tuple[str, int | None]] = []
    found: list[str] = []

    async def judge(found: list[Verdict]) -> None:
        verdicts.extend(found)
        for verdict in found:
            if verdict.resource == watched.drive.id:
                watched.drive.condemn(LrsError(5, verdict.reason))
        await trio.lowlevel.checkpoint()

    def note(medium: Medium, error: LrsError | None) -> None:
        put_back.append((medium.id.name, error.errno if error else None))

    context = DriveContext(
        tape_settings(**settings),  # type: ignore[arg-type]
        site.dss,
        DAEMON,
        site.volumes,
        site.events,
        lambda: None,
        evidence,
        lambda: 1_700_000_000.0,
        judge,
        note,
        lambda medium: found.append(medium.id.name),
        lambda library: True,
        lambda: [other.drive for other in beside],
    )
    row = site.drive_row(serial)
    watched = Watched(site, DriveTask(row, site.library.unit(row), context), evidence, verdicts, put_back, found)
    return watched


@asynccontextmanager
async def running(
    site: TapeSite, serial: str = "D0", *, beside: Sequence[Watched] = (), **settings: object
) -> AsyncIterator[Watched]:
    """A drive that runs, and is stopped and has ended when the block is left."""
    watched = watch(site, serial, beside=beside, **settings)
    async with trio.open_nursery() as nursery:
        await nursery.start(watched.drive.run)
        yield watched
        watched.drive.stop()
        with trio.fail_after(LONG):
            await watched.drive.ended.wait()


def statuses(site: TapeSite) -> list[str]:
    return [event.detail for event in site.seen if event.kind.value == "device.status"]
