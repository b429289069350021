"""One drive under any order of grants, releases, faults, and news: seeded, on virtual time."""

from __future__ import annotations

import errno
from random import Random

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from lrs_trio.devices.grant import Grant, GrantState
from lrs_trio.devices.life import DeviceStatus
from lrs_trio.devices.to_sync import SyncStatus
from lrs_trio.errors import LibraryUnreachableError, LrsError, MediumMissingError
from lrs_trio.model import FsStatus, LockType, RequestKind
from tests.devices.drives import ELSEWHERE, LONG, Asker, FormatOutcome, watch
from tests.fakes.library import FakeDriveState, tape_id
from tests.fakes.site import Waiter, run_virtual, waiter
from tests.fakes.tapes import TapeSite

PHYSICAL = frozenset({"load", "unload", "mount", "unmount", "sync", "format"})
TAKES_AWAY = frozenset({"unload", "unmount", "format"})
FAULTS = (
    OSError(errno.EIO, "broken"),
    OSError(errno.EBUSY, "in use"),
    OSError(errno.ETIMEDOUT, "late"),
    LibraryUnreachableError(errno.ECONNREFUSED, "nobody there"),
    MediumMissingError(errno.ENXIO, "not there", {}),
)
SEED = st.integers(0, 2**32)
"""Hypothesis draws it, and seeds trio's order of tasks with it: every run has the same examples."""
TAPES = [f"T{number:02}" for number in range(4)]


class Story:
    """A drive, its clients, an administrator and bad luck; each step is followed by a look at what must hold."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.site = site = TapeSite(drives=1, tapes=4)
        site.add_tape("BLANK", fs_status=FsStatus.BLANK)
        if self.random.random() < 0.3:
            first = site.library.tapes["T00"]
            site.library.drives["D0"].tape, first.place = first, "D0"
            site.library.drives["D0"].mounted = self.random.random() < 0.5
        self.maximum = self.random.choice((1, 2))
        self.watched = watch(
            site,
            age_ms=self.random.choice((1_000, 100_000)),
            requests=self.random.choice((1, 3)),
            max_concurrent_io=self.maximum,
            mix_reads_and_writes=self.random.random() < 0.5,
        )
        self.drive = self.watched.drive
        self.grants: list[tuple[Grant, Asker]] = []
        self.formats: list[FormatOutcome] = []
        self.withdrawn = 0
        self.releases: list[Waiter] = []
        self.settled = 0
        self._do = site.library.do
        site.library.do = self.do  # type: ignore[method-assign]
        site.library.jitter = lambda: self.random.choice((0.0, 3.0))
        site.dss.delay = lambda: self.random.choice((0.0, 0.0, 0.1, 7.0))

    async def do(self, operation: str, drive: FakeDriveState, tape: str) -> None:
        state = self.drive.state
        if operation in PHYSICAL:
            assert not any(drive.running.get(name) for name in PHYSICAL), f"{operation} while {drive.running}"
            assert state.error is None
        if operation in TAKES_AWAY:
            assert state.at_rest
            assert not state.to_sync.pending
        await self._do(operation, drive, tape)

    # What happens.

    def step(self) -> None:
        happens = self.random.choices(
            [self.ask, self.format, self.depart, self.release, self.take_back, self.cancel, self.settle, self.fault],
            [6, 1, 6, 5, 2, 1, 4, 1.5],
        )[0]
        happens()
        if self.random.random() < 0.04:
            self.random.choice((self.clean_locks, self.lose_lock, self.library_goes, self.dss_goes))()
        self.library_comes(0.1)
        self.dss_comes(0.3)
        if self.random.random() < 0.3 and self.drive.medium is not None:
            self.watched.read(self.drive.medium.id.name)

    def ask(self) -> None:
        """What the family does: the same medium if there is room, another one only if the drive is idle."""
        state, kind = self.drive.state, self.random.choice((RequestKind.READ, RequestKind.WRITE))
        if state.free_slots(trio.current_time()) < 1 or not state.accepts(kind):
            return
        bound = self.drive.bound
        other = state.idle and trio.current_time() >= self.drive.busy_until
        tape = self.random.choice(TAPES) if other else bound.id.name if bound is not None else ""
        if tape in TAPES and tape_id(tape) in self.site.dss.media:
            self.grants.append(self.watched.grant(tape, kind, self.random.randrange(1000)))

    def format(self) -> None:
        state = self.drive.state
        if state.idle and state.free_slots(trio.current_time()) > 0:
            self.formats.append(self.watched.format(self.random.choice(["BLANK", *TAPES])))

    def depart(self) -> None:
        for grant, _ in self.grants:
            if grant.state is GrantState.READY and not self.drive.state.excludes_io:
                assert self.drive.medium_id == grant.medium
                assert self.site.library.drives["D0"].mounted or self.drive.state.error
                self.drive.move_grant(grant, GrantState.ONGOING)

    def release(self) -> None:
        ongoing = [grant for grant, _ in self.grants if grant.state is GrantState.ONGOING]
        if not ongoing:
            return
        grant = self.random.choice(ongoing)
        if self.random.random() < 0.2:
            self.drive.end_grant(grant, dirty=grant.kind is RequestKind.WRITE)
            return
        one = waiter(self.random.randrange(100))
        partial = self.random.random() < 0.2
        if partial:
            self.drive.move_grant(grant, GrantState.RESERVED)
            self.watch_reserved(grant, one)
        else:
            self.drive.end_grant(grant, dirty=False)
        self.releases.append(one)
        self.drive.add_release(one.sub, at_once=partial)

    def watch_reserved(self, grant: Grant, one: Waiter) -> None:
        told = one.sub.on_settled

        def settled() -> None:
            assert told is not None
            told()
            self.drive.move_grant(grant, GrantState.ONGOING)

        one.sub.on_settled = settled

    def take_back(self) -> None:
        promised = [grant for grant, _ in self.grants if grant.state in (GrantState.PLANNED, GrantState.READY)]
        if promised:
            self.drive.end_grant(self.random.choice(promised), dirty=False)

    def cancel(self) -> None:
        waiting = [one for one in self.releases if one.sub.status is SyncStatus.TODO]
        if waiting:
            self.drive.cancel_release(self.random.choice(waiting).sub)

    def settle(self) -> None:
        """The books of a release are written, or given up."""
        if self.settled < sum(one.sub.status is SyncStatus.DONE for one in self.releases):
            self.drive.figures()
            self.settled += 1
            self.drive.release_settled(counted=self.random.random() < 0.8)

    def fault(self) -> None:
        operation = self.random.choice([*sorted(PHYSICAL), "sync", "sync", "lookup", "space"])
        self.site.library.fail(operation, self.random.choice(FAULTS))

    def clean_locks(self) -> None:
        self.site.dss.locks.clear()

    def lose_lock(self) -> None:
        if self.drive.medium_id is not None:
            self.site.dss.add_lock(LockType.MEDIA, self.drive.medium_id, ELSEWHERE)

    def library_goes(self) -> None:
        self.site.library.unreachable = True

    def library_comes(self, chance: float) -> None:
        if self.random.random() < chance:
            self.site.library.unreachable = False

    def dss_goes(self) -> None:
        if self.site.dss.unavailable_since is None:
            self.site.dss.go_away()

    def dss_comes(self, chance: float) -> None:
        if self.random.random() < chance:
            self.site.dss.come_back()

    # What must hold.

    def look(self) -> None:
        state, drive = self.drive.state, self.drive
        live = [grant for grant, _ in self.grants if grant.state is not GrantState.ENDED]
        assert state.grants == set(live)
        assert len(live) <= self.maximum
        for name in self.site.library.tapes:
            volume = self.site.volumes.get(str(tape_id(name)))
            promised = sum(grant.size for grant in live if grant.medium.name == name)
            assert (volume.reserved if volume is not None else 0) == promised
        for grant, asker in self.grants:
            assert len(asker.failed) <= 1
            assert grant.state is GrantState.ENDED or not asker.failed
        assert all(len(one.settled) <= 1 for one in self.releases)
        assert all(len(outcome.said) <= 1 for outcome in self.formats)
        coming = {drive.bound.id.name} if drive.bound is not None else set()
        present = {drive.medium.id.name} if drive.medium is not None else set()
        finding = state.status in (DeviceStatus.ADOPTING, DeviceStatus.WAITING)
        if not (finding or state.stopping):
            assert self.watched.held <= coming | present
        if state.status is DeviceStatus.MOUNTED:
            tape = self.site.library.drives["D0"].tape
            assert tape is not None
            assert present == {tape.name}

    async def end(self) -> None:
        """Whatever has happened: once everybody has let go and everything answers, the drive ends."""
        self.drive.stop()
        self.site.library.unreachable = False
        self.site.dss.come_back()
        while not self.drive.ended.is_set():
            for grant, _ in self.grants:
                self.drive.end_grant(grant, dirty=grant.state is GrantState.ONGOING)
            job = self.drive.state.formatting
            self.withdrawn += job is not None and self.drive.state.withdraw_format(job)
            self.settle()
            self.look()
            with trio.move_on_after(5):
                await self.drive.ended.wait()
            assert trio.current_time() < LONG
        self.look()
        assert [lock for lock in self.site.dss.locks.values() if lock.owner != ELSEWHERE] == []
        for one in self.releases:
            assert len(one.settled) == (0 if one.sub.status is SyncStatus.CANCELLED else 1)
        assert sum(len(outcome.said) for outcome in self.formats) + self.withdrawn == len(self.formats)
        assert self.drive.state.unsettled == 0


def live(seed: int, *, steps: int) -> Story:
    async def scenario() -> Story:
        story = Story(seed)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(story.drive.run)
            for _ in range(story.random.randrange(steps)):
                await trio.sleep(story.random.choice((0.0, 1.0, 10.0, 50.0)))
                story.step()
                story.look()
                if story.random.random() < 0.01:
                    story.drive.condemn(LrsError(errno.EIO, "proven broken"))
            await story.end()
        return story

    return run_virtual(scenario)


@pytest.mark.note("2.5f", "4.2", "4.3", "4.4", "11")
@settings(max_examples=200)
@given(SEED)
def test_a_drive_keeps_its_rules_whatever_happens_in_whatever_order(seed: int) -> None:
    live(seed, steps=80)


def test_in_these_stories_everything_happens() -> None:
    stories = [live(seed, steps=80) for seed in range(60)]
    calls = {name for story in stories for _, name, _ in story.site.library.drives["D0"].calls}
    assert calls >= PHYSICAL
    outcomes = {one.sub.status for story in stories for one in story.releases}
    assert outcomes == {SyncStatus.DONE, SyncStatus.ERROR, SyncStatus.CANCELLED}
    ends = {story.drive.state.status for story in stories}
    assert ends == {DeviceStatus.STOPPED, DeviceStatus.FAILED, DeviceStatus.QUARANTINED}
    assert any(("formatted", None) in outcome.said for story in stories for outcome in story.formats)
