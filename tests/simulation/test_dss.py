"""The simulated DSS, with the daemon's own group commit over it."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from random import Random
from typing import Any, Literal

import pytest
import trio

from lrs_trio.dss.group_commit import GroupCommit
from lrs_trio.dss.operations import (
    AddDirectory,
    AppendLog,
    DeleteDirectory,
    DeleteLocks,
    LogEntry,
    MediumUpdate,
    Operation,
    Outcome,
    ReadChangedMedia,
    ReadHealthLog,
    ReadMedium,
    ReleaseLock,
    TakeLock,
    UpdateMedia,
)
from lrs_trio.dss.sqlite import SqliteHome
from lrs_trio.errors import CommitInDoubtError, DssUnavailableError, LrsError
from lrs_trio.model import Device, Family, FsType, LockOwner, LockType, Medium, ResourceId
from lrs_trio.simulation.determinism import Chance, run_seeded
from lrs_trio.simulation.faults import FaultKind, Faults
from lrs_trio.simulation.host.dss import LONGEST_THEFT_S, THIEF, SimulatedDss
from lrs_trio.simulation.oracles.books import Counted
from lrs_trio.simulation.trace import Trace
from lrs_trio.simulation.world import EPOCH, Process, ProcessKilledError, Violations, World

HOST = "store1"
PID = 1001
US = LockOwner(HOST, PID)
MEDIA = [ResourceId(Family.DIR, f"/data/{number}", "legacy") for number in range(3)]
DEVICES = [ResourceId(Family.DIR, f"{HOST}:/data/{number}", "legacy") for number in range(3)]
DOUBTS = (FaultKind.COMMIT_LOST, FaultKind.COMMIT_ANSWER_LOST)


@dataclass(slots=True)
class Site:
    """A world with a DSS that knows the directories of this file."""

    world: World
    dss: SimulatedDss
    process: Process
    observed: list[Operation[Any]] = field(default_factory=list)

    def restart(self) -> None:
        """The next life of the daemon."""
        self.process.alive = False
        self.process = Process(self.process.pid + 1, 0.0)

    @asynccontextmanager
    async def group_commit(self) -> AsyncIterator[GroupCommit]:
        async with self.dss.open_home(self.process) as home, trio.open_nursery() as nursery:
            group_commit = GroupCommit(home, random=Random(1))
            await nursery.start(group_commit.run)
            yield group_commit
            nursery.cancel_scope.cancel()

    def objects(self, medium: ResourceId = MEDIA[0]) -> int:
        return self.dss.read().media[medium].medium.stats.nb_obj


Scenario = Callable[[Site], Awaitable[None]]


def run(scenario: Scenario, seed: int = 1, rates: dict[FaultKind, float] | None = None) -> Site:
    """Run `scenario` in a world of its own; what is left of that is for looking at."""

    async def main() -> Site:
        chance, trace = Chance(seed), Trace()
        async with trio.open_nursery() as nursery:
            world = World(HOST, chance, trace, Faults(chance, rates or {}, trace), Violations(trace), nursery)
            site = Site(world, SimulatedDss(world), Process(PID, EPOCH))
            site.dss.observers.append(lambda operation, _: site.observed.append(operation))
            try:
                for medium, device in zip(MEDIA, DEVICES, strict=True):
                    assert site.dss.administer(directory(medium, device)) == [None]
                await scenario(site)
                site.dss.read()
            finally:
                site.dss.close()
            nursery.cancel_scope.cancel()
        return site

    return run_seeded(seed, main)


def directory(medium: ResourceId, device: ResourceId) -> AddDirectory:
    return AddDirectory(Device(device, HOST, medium.name), Medium(medium, FsType.POSIX))


def add(objects: int = 1, medium: ResourceId = MEDIA[0], size: int = 0) -> UpdateMedia:
    return UpdateMedia((MediumUpdate(medium, add_objects=objects, add_logical=size),))


def log_entry() -> AppendLog:
    return AppendLog(LogEntry(DEVICES[0], MEDIA[0].name, -5, "LTFS sync", "{}"))


async def work(site: Site, commits: int = 30) -> None:
    """Some tasks that commit at the same time."""

    async def commit(number: int) -> None:
        for _ in range(commits):
            await dss.execute(TakeLock(LockType.MEDIA, MEDIA[number], US))
            await dss.execute(add(medium=MEDIA[number], size=10))
            await dss.execute(log_entry())
            await trio.sleep(site.world.chance.of("work").random())

    async with site.group_commit() as dss, trio.open_nursery() as nursery:
        for number in range(len(MEDIA)):
            nursery.start_soon(commit, number)


ALL_FAULTS = {
    FaultKind.DSS_SLOW: 0.1,
    FaultKind.DSS_AWAY: 0.05,
    FaultKind.COMMIT_ANSWER_LOST: 0.1,
    FaultKind.COMMIT_LOST: 0.1,
    FaultKind.LOCK_STOLEN: 0.1,
}


def test_one_seed_is_one_run() -> None:
    first, again, other = (run(work, seed, ALL_FAULTS) for seed in (1, 1, 2))
    assert first.world.trace.digest == again.world.trace.digest != other.world.trace.digest
    assert first.dss.read() == again.dss.read()
    assert set(first.world.faults.hits) == set(ALL_FAULTS)


def test_all_is_done_once_whatever_goes_wrong() -> None:
    for seed in range(5):
        site = run(work, seed, ALL_FAULTS)
        assert [site.objects(medium) for medium in MEDIA] == [30] * 3
        assert site.dss.committed == dict.fromkeys(MEDIA, Counted(30, 300))
        assert Counter(map(type, site.observed)) == {TakeLock: 90, UpdateMedia: 90, AppendLog: 90}
        assert not site.world.violations.found


def test_the_time_of_a_row_is_the_time_of_the_world() -> None:
    async def scenario(site: Site) -> None:
        async with site.group_commit() as dss:
            await trio.sleep(1000)
            await dss.execute(TakeLock(LockType.MEDIA, MEDIA[0], US))
            (lock,) = site.dss.read().locks.values()
            assert lock.timestamp == pytest.approx(EPOCH + trio.current_time(), abs=0.02)

    run(scenario)


# The ends of a daemon


@dataclass(slots=True)
class Tally:
    """How many objects a daemon wanted to add, and was told that it had."""

    asked: int = 0
    acknowledged: int = 0


async def add_until_killed(site: Site, end: Callable[[], None]) -> Tally:
    """A daemon that adds objects until it comes to a sudden `end`, at a moment that the seed decides."""
    tally = Tally()

    async def add_some() -> None:
        while True:
            tally.asked += 1
            await dss.execute(add())
            tally.acknowledged += 1

    async with site.group_commit() as dss, trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(add_some)
        await trio.sleep(site.world.chance.of("end").random() / 10)
        site.process.alive = False
        end()
        nursery.cancel_scope.cancel()
    return tally


def tallies(power: bool, seeds: int) -> list[tuple[Tally, Site]]:
    found: list[tuple[Tally, Site]] = []

    async def scenario(site: Site) -> None:
        tally = await add_until_killed(site, site.dss.cut_power if power else site.dss.kill)
        site.restart()
        found.append((tally, site))

    for seed in range(seeds):
        run(scenario, seed)
    return found


@pytest.mark.parametrize("power", [False, True])
def test_no_acknowledged_commit_is_lost_and_none_is_done_that_was_not_asked_for(power: bool) -> None:
    for tally, site in tallies(power, 40):
        assert tally.acknowledged <= site.objects() <= tally.asked
        assert site.dss.committed_of(MEDIA[0]) == Counted(site.objects(), 0)
        assert site.observed == [add()] * site.objects()
        assert not site.world.violations.found


def test_the_power_is_cut_before_during_and_after_a_commit() -> None:
    cuts = tallies(power=True, seeds=40)
    unanswered = Counter(site.objects() - tally.acknowledged for tally, site in cuts)
    assert unanswered[0] > 5
    assert unanswered.total() - unanswered[0] > 5


def test_a_dss_that_does_not_sync_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: the world notices that commits are lost."""
    real = SqliteHome.open
    synchronous: Literal["NORMAL"] = "NORMAL"
    monkeypatch.setattr(SqliteHome, "open", lambda *args, **more: real(*args, **more, synchronous=synchronous))
    assert sum(bool(site.world.violations.found) for _, site in tallies(power=True, seeds=20)) > 5


def test_a_killed_daemon_changes_nothing_more() -> None:
    async def scenario(site: Site) -> None:
        async with site.dss.open_home(site.process) as home, trio.open_nursery() as nursery:

            async def commit_late() -> None:
                with pytest.raises(ProcessKilledError):
                    await home.commit([add()])

            nursery.start_soon(commit_late)
            await trio.testing.wait_all_tasks_blocked()
            site.restart()
            site.dss.kill()
            async with site.group_commit() as dss:
                await dss.execute(add(5))

    site = run(scenario)
    assert site.objects() == 5


def test_a_killed_daemon_may_let_go_of_its_home_when_the_next_one_has_its_own() -> None:
    async def scenario(site: Site) -> None:
        async with AsyncExitStack() as old:
            home = await old.enter_async_context(site.dss.open_home(site.process))
            await home.commit([add()])
            site.restart()
            site.dss.kill()
            async with site.group_commit() as dss:
                owner = LockOwner(HOST, site.process.pid)
                await dss.execute(TakeLock(LockType.MEDIA, MEDIA[0], owner))
                assert len(await dss.execute(ReadChangedMedia((MEDIA[0],), owner))) == 1
                await old.aclose()
                assert len(await dss.execute(ReadChangedMedia((MEDIA[0],), owner))) == 0
        assert site.objects() == 1

    run(scenario)


def test_a_daemon_that_is_killed_while_it_opens_its_home_has_none() -> None:
    async def scenario(site: Site) -> None:
        site.process.alive = False
        with pytest.raises(ProcessKilledError):
            async with site.dss.open_home(site.process):
                pass

    run(scenario)


# Administrators


def test_what_an_administrator_changes_is_seen_before_and_what_nobody_changes_is_not() -> None:
    async def scenario(site: Site) -> None:
        async with site.group_commit() as dss:

            async def changed() -> list[ResourceId]:
                return [row.medium.id for row in await dss.execute(ReadChangedMedia(tuple(MEDIA), US))]

            for medium in MEDIA:
                await dss.execute(TakeLock(LockType.MEDIA, medium, US))
            assert await changed() == MEDIA
            assert await changed() == []
            tags = UpdateMedia((MediumUpdate(MEDIA[1], tags=("x",)),))
            site.dss.administer(tags)
            assert MEDIA[1] in await changed()
            row = await dss.execute(ReadMedium(MEDIA[1]))
            assert row is not None
            assert row.medium.tags == ("x",)
            assert tags not in site.observed

    run(scenario)


def test_what_an_administrator_asks_for_is_refused_by_the_rules() -> None:
    async def scenario(site: Site) -> None:
        async with site.group_commit() as dss:
            await dss.execute(TakeLock(LockType.MEDIA, MEDIA[0], US))
            refused, done = site.dss.administer(*(DeleteDirectory(DEVICES[n], MEDIA[n]) for n in (0, 1)))
        assert isinstance(refused, LrsError)
        assert done is None
        assert list(site.dss.read().media) == [MEDIA[0], MEDIA[2]]
        assert list(site.dss.read().devices) == [DEVICES[0], DEVICES[2]]

    run(scenario)


def test_figures_are_counted_from_where_they_were_last_set() -> None:
    async def scenario(site: Site) -> None:
        async with site.group_commit() as dss:
            await dss.execute(add(3, size=30))
            await dss.execute(add(-1, size=-10))
            assert site.dss.committed_of(MEDIA[0]) == Counted(2, 20)
            await dss.execute(UpdateMedia((MediumUpdate(MEDIA[0], set_objects=0, add_objects=4),)))
            assert site.dss.committed_of(MEDIA[0]) == Counted(4, 20)
            await dss.execute(UpdateMedia((MediumUpdate(ResourceId(Family.DIR, "/gone", "legacy"), add_objects=1),)))
        assert list(site.dss.committed) == [MEDIA[0]]

    run(scenario)


# The way to the DSS


def test_a_slow_dss_takes_seconds() -> None:
    async def scenario(site: Site) -> None:
        async with site.group_commit() as dss:
            began = trio.current_time()
            await dss.execute(add())
            times.append(trio.current_time() - began)

    times: list[float] = []
    for seed in range(10):
        site = run(scenario, seed, {FaultKind.DSS_SLOW: 1.0})
        assert site.world.faults.hits == {FaultKind.DSS_SLOW: 1}
    run(scenario)
    assert max(times[:-1]) > 10
    assert times[-1] < 0.02


def test_a_dss_that_goes_away_comes_back_and_everything_is_done() -> None:
    async def scenario(site: Site) -> None:
        async with site.group_commit() as dss:
            began = trio.current_time()
            for _ in range(20):
                await dss.execute(add())
            assert trio.current_time() - began > site.world.faults.hits[FaultKind.DSS_AWAY]

    site = run(scenario, rates={FaultKind.DSS_AWAY: 0.3})
    assert site.world.faults.hits[FaultKind.DSS_AWAY] > 3
    assert site.objects() == 20


def test_the_world_decides_when_the_dss_is_away() -> None:
    async def scenario(site: Site) -> None:
        async with site.group_commit() as dss, trio.open_nursery() as nursery:
            site.dss.go_away()
            nursery.start_soon(dss.execute, add())
            await trio.sleep(10_000)
            assert site.objects() == 0
            assert dss.unavailable_since is not None
            site.dss.come_back()
            await trio.sleep(10)
            assert site.objects() == 1
            assert dss.unavailable_since is None

    site = run(scenario)
    assert site.world.faults.hits == {FaultKind.DSS_AWAY: 1}


def test_a_home_tells_that_the_dss_goes_away() -> None:
    async def scenario(site: Site) -> None:
        async with site.dss.open_home(site.process) as home, trio.open_nursery() as nursery:
            for _ in range(2):
                told = trio.Event()

                async def wait(told: trio.Event) -> None:
                    await home.wait_lost()
                    told.set()

                nursery.start_soon(wait, told)
                await trio.sleep(1000)
                assert not told.is_set()
                site.dss.go_away()
                await told.wait()
                site.dss.come_back()

    run(scenario)


def test_no_home_is_opened_while_the_dss_is_away() -> None:
    async def scenario(site: Site) -> None:
        site.dss.go_away()
        with pytest.raises(DssUnavailableError):
            async with site.group_commit():
                pass
        site.dss.come_back()
        async with site.group_commit() as dss:
            await dss.execute(add())

    run(scenario)


@pytest.mark.parametrize("kind", DOUBTS)
def test_the_fate_of_a_commit_without_an_answer_can_be_found_out(kind: FaultKind) -> None:
    async def scenario(site: Site) -> None:
        fates: list[list[Outcome] | None] = []
        unanswered = 0
        async with site.dss.open_home(site.process) as home:
            for number in range(10):
                with pytest.raises(CommitInDoubtError) as doubt:
                    await home.commit([add(), ReadMedium(MEDIA[0])])
                assert site.objects() == (number + 1 if kind is FaultKind.COMMIT_ANSWER_LOST else 0)
                while len(fates) <= number:
                    try:
                        fates.append(await doubt.value.resolve())
                    except DssUnavailableError:
                        unanswered += 1
        assert unanswered > 0
        assert [fate is None for fate in fates] == [kind is FaultKind.COMMIT_LOST] * 10
        if kind is FaultKind.COMMIT_ANSWER_LOST:
            assert fates[-1] is not None
            _, row = fates[-1]
            assert row == site.dss.read().media[MEDIA[0]]

    site = run(scenario, rates={kind: 1.0})
    assert site.world.faults.hits == {kind: 10}
    assert len(site.observed) == (20 if kind is FaultKind.COMMIT_ANSWER_LOST else 0)


@pytest.mark.parametrize("kind", DOUBTS)
def test_group_commit_does_everything_once_although_answers_are_lost(kind: FaultKind) -> None:
    async def scenario(site: Site) -> None:
        async with site.group_commit() as dss:
            for _ in range(30):
                await dss.execute(add())

    site = run(scenario, rates={kind: 0.4})
    assert site.world.faults.hits[kind] > 5
    assert site.objects() == 30
    assert site.dss.committed_of(MEDIA[0]) == Counted(30, 0)
    assert site.observed == [add()] * 30
    assert site.dss.steps == 30


def test_no_fault_strikes_any_more_once_they_have_stopped() -> None:
    async def scenario(site: Site) -> None:
        site.world.faults.stop()
        await work(site, 10)

    site = run(scenario, rates=dict.fromkeys(ALL_FAULTS, 1.0))
    assert not site.world.faults.hits


# Locks


def test_a_stolen_lock_is_the_thiefs_until_it_is_given_back() -> None:
    async def scenario(site: Site) -> None:
        take = TakeLock(LockType.MEDIA, MEDIA[0], US)
        async with site.group_commit() as dss:
            await dss.execute(log_entry())
            assert not site.world.faults.hits
            await dss.execute(take)
            (lock,) = site.dss.read().locks.values()
            assert lock.owner == THIEF
            assert list(site.dss.stolen.values()) == [lock]
            assert await dss.execute(take) == lock
            assert not await dss.execute(ReleaseLock(LockType.MEDIA, MEDIA[0], US))

            await trio.sleep(LONGEST_THEFT_S)
            assert not site.dss.read().locks
            # The daemon knows nothing of all that yet.
            assert list(site.dss.stolen.values()) == [lock]

            site.world.faults.stop()
            assert await dss.execute(take) is None
            assert not site.dss.stolen

    site = run(scenario, rates={FaultKind.LOCK_STOLEN: 1.0})
    assert site.world.faults.hits == {FaultKind.LOCK_STOLEN: 1}
    assert [lock.owner for lock in site.dss.read().locks.values()] == [US]


def test_a_stolen_lock_is_the_thiefs_for_the_next_daemon_as_well() -> None:
    async def scenario(site: Site) -> None:
        async with site.group_commit() as dss:
            await dss.execute(TakeLock(LockType.MEDIA, MEDIA[0], US))
            site.world.faults.stop()
        assert len(site.dss.stolen) == 1
        site.restart()
        async with site.group_commit() as dss:
            assert len(site.dss.stolen) == 1
            await trio.sleep(LONGEST_THEFT_S)
            assert len(site.dss.stolen) == 1
        assert not site.dss.stolen

    run(scenario, rates={FaultKind.LOCK_STOLEN: 1.0})


def test_nothing_is_stolen_from_a_daemon_whose_locks_were_cleaned_away() -> None:
    async def scenario(site: Site) -> None:
        async with site.group_commit() as dss:
            await dss.execute(TakeLock(LockType.MEDIA, MEDIA[0], US))
            assert site.dss.holds_locks(US)
            site.dss.administer(DeleteLocks(tuple(site.dss.read().locks.values())))
            assert not site.dss.holds_locks(US)

    run(scenario)


def test_the_log_is_the_real_one() -> None:
    async def scenario(site: Site) -> None:
        async with site.group_commit() as dss:
            await dss.execute(log_entry())
            assert await dss.execute(ReadHealthLog("legacy", Family.DIR, device=DEVICES[0].name)) == (-5,)

    run(scenario)
