from __future__ import annotations

import errno
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
import trio
from hypothesis import settings
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, rule
from trio.testing import MockClock, wait_all_tasks_blocked

from lrs_trio.storage.shared_calls import SharedCall
from lrs_trio.storage.shared_sync import PATIENCE_S, ErrorEpochs, Member, SharedSync, Syncfs, VolumeSync

DEVICE = 7
SECONDS = 1.0


@dataclass
class Disk:
    """A filesystem whose syncs take a second each and which notes who called when."""

    log: list[tuple[str, float]] = field(default_factory=list)
    errors: dict[str, OSError] = field(default_factory=dict)

    def syncfs_of(self, name: str) -> Syncfs:
        async def syncfs(looks: Sequence[SharedCall[Any]]) -> None:
            self.log.append((name, trio.current_time()))
            await trio.sleep(SECONDS)
            if name in self.errors:
                raise self.errors[name]
            for look in looks:
                look.make()

        return syncfs


class Directory:
    def __init__(self, name: str, volume: VolumeSync, disk: Disk) -> None:
        self.name = name
        self.volume = volume
        self.member = Member()
        self.disk = disk
        self.seen: list[float] = []
        self.look = SharedCall(lambda: self.seen.append(trio.current_time()))

    async def sync(self) -> None:
        await self.volume.sync(self.member, self.disk.syncfs_of(self.name), self.look)


async def directories(names: str, disk: Disk) -> list[Directory]:
    """Directories on one filesystem that have all done their first sync."""
    shared = SharedSync()
    joined = [Directory(name, shared.join(DEVICE), disk) for name in names]
    async with trio.open_nursery() as nursery:
        for directory in joined:
            nursery.start_soon(directory.sync)
    disk.log.clear()
    return joined


@pytest.mark.note("2.5d")
async def begin(nursery: trio.Nursery, *directories: Directory) -> None:
    """Let them begin to sync, one after the other."""
    for directory in directories:
        nursery.start_soon(directory.sync)
        await wait_all_tasks_blocked()


async def test_callers_that_gather_during_a_sync_share_the_next_one(autojump_clock: MockClock) -> None:
    disk = Disk()
    a, *others = await directories("abcd", disk)
    start = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(a.sync)
        await wait_all_tasks_blocked()
        for other in others:
            nursery.start_soon(other.sync)
    assert [at - start for _, at in disk.log] == [0, SECONDS]
    assert trio.current_time() - start == 2 * SECONDS


async def test_whoever_syncs_looks_for_those_it_serves_and_for_nobody_else(autojump_clock: MockClock) -> None:
    disk = Disk()
    a, b = await directories("ab", disk)
    newcomer, other = Directory("n", a.volume, disk), Directory("o", a.volume, disk)
    start = trio.current_time()
    async with trio.open_nursery() as nursery:
        await begin(nursery, a, b)
        # Nothing is known of these two: they wait for nobody, and nobody looks for them.
        await begin(nursery, newcomer, other)
    assert {at - start for at in b.seen} == {SECONDS}
    assert [directory.look.made for directory in (a, newcomer, other)] == [False] * 3


async def test_nobody_looks_again_for_one_that_is_served(autojump_clock: MockClock) -> None:
    disk = Disk()
    a, b, c = await directories("abc", disk)
    newcomer = Directory("n", a.volume, disk)
    # Which task comes first in a turn of the loop is left to chance.
    for _ in range(20):
        newcomer.member, before = Member(), len(b.seen)
        async with trio.open_nursery() as nursery:
            await begin(nursery, a, b, newcomer)
            # It comes too late for those, and syncs as soon as they have ended.
            await begin(nursery, c)
        assert len({*b.seen[before:]}) == 1
        for directory in (a, b, c):
            await directory.sync()


async def test_a_sync_that_started_before_the_call_does_not_serve_it(autojump_clock: MockClock) -> None:
    disk = Disk()
    a, b = await directories("ab", disk)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(a.sync)
        await trio.sleep(SECONDS / 2)
        nursery.start_soon(b.sync)
    assert [name for name, _ in disk.log] == ["a", "b"]


async def test_a_newcomer_makes_everybody_sync_for_itself_once(autojump_clock: MockClock) -> None:
    disk = Disk()
    a, b = await directories("ab", disk)
    c = Directory("c", a.volume, disk)
    a.volume.epochs.joined()
    async with trio.open_nursery() as nursery:
        for directory in (a, b, c):
            nursery.start_soon(directory.sync)
    assert sorted(name for name, _ in disk.log) == ["a", "b", "c"]


@pytest.mark.parametrize("failing", [False, True])
async def test_only_a_success_serves_those_who_wait_for_it(autojump_clock: MockClock, failing: bool) -> None:
    disk = Disk()
    a, b, c = await directories("abc", disk)
    newcomer = Directory("n", a.volume, disk)
    if failing:
        disk.errors["n"] = OSError(errno.EIO, "of n")
    start = trio.current_time()
    outcomes: dict[str, str] = {}

    async def sync(directory: Directory) -> None:
        try:
            await directory.sync()
        except OSError as error:
            outcomes[directory.name] = str(error.strerror)
        else:
            outcomes[directory.name] = "durable"

    async with trio.open_nursery() as nursery:
        nursery.start_soon(sync, a)
        await wait_all_tasks_blocked()
        nursery.start_soon(sync, b)
        nursery.start_soon(sync, c)
        await trio.sleep(SECONDS / 2)
        # Nothing is known about the newcomer, so that it waits for nobody: its sync starts with two waiting.
        nursery.start_soon(sync, newcomer)
    calls = sorted((at - start, name) for name, at in disk.log)
    if failing:
        assert outcomes == {"a": "durable", "b": "durable", "c": "durable", "n": "of n"}
        assert calls == [(0, "a"), (0.5, "n"), (1.5, "b"), (1.5, "c")]
    else:
        assert outcomes == dict.fromkeys("abcn", "durable")
        assert calls == [(0, "a"), (0.5, "n")]


async def test_a_leader_that_hangs_is_not_waited_for_long(autojump_clock: MockClock) -> None:
    volume = VolumeSync()
    members = {name: Member() for name in "abc"}
    synced: dict[str, list[float]] = {name: [] for name in members}

    async def well(looks: Sequence[SharedCall[Any]]) -> None:
        await trio.sleep(1)

    async def hanging(looks: Sequence[SharedCall[Any]]) -> None:
        await trio.sleep_forever()

    async def sync(name: str, syncfs: Syncfs) -> None:
        with trio.move_on_after(300) as limit:
            await volume.sync(members[name], syncfs)
        synced[name].append(trio.current_time() - begins)
        assert limit.cancelled_caught == (syncfs is hanging)

    for member in members.values():
        await volume.sync(member, well)
    begins = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(sync, "a", hanging)
        await trio.sleep(1)
        nursery.start_soon(sync, "b", well)
        nursery.start_soon(sync, "c", well)
        await trio.sleep(100)
        nursery.start_soon(sync, "c", well)
    # The one that goes on serves the other, too.
    assert synced == {"a": [300], "b": [PATIENCE_S + 1], "c": [PATIENCE_S + 1, 102]}


async def test_a_slow_sync_is_made_once_and_serves_those_who_went_on_waiting(autojump_clock: MockClock) -> None:
    shared = SharedSync()
    names = [f"d{number}" for number in range(50)]
    members = {name: Member() for name in names}
    volume = shared.join(DEVICE)
    took_s = 0.0
    calls: Counter[str] = Counter()
    synced: list[float] = []

    async def sync(name: str) -> None:
        async def slow(looks: Sequence[SharedCall[Any]]) -> None:
            calls[name] += 1
            await trio.sleep(took_s)

        await volume.sync(members[name], slow)
        synced.append(trio.current_time())

    async def sync_all() -> None:
        async with trio.open_nursery() as nursery:
            for name in names:
                nursery.start_soon(sync, name)

    await sync_all()
    calls.clear()
    synced.clear()
    took_s = 1.5 * PATIENCE_S
    begins = trio.current_time()
    await sync_all()
    assert set(calls.values()) == {1}
    assert calls.total() < 5
    assert max(synced) - begins <= 3 * took_s


async def test_a_cancelled_leader_hands_over(autojump_clock: MockClock) -> None:
    disk = Disk()
    a, b, c = await directories("abc", disk)
    start = trio.current_time()
    done: dict[str, float] = {}

    async def sync(directory: Directory) -> None:
        await directory.sync()
        done[directory.name] = trio.current_time() - start

    scope = trio.CancelScope()

    async def lead() -> None:
        with scope:
            await a.sync()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(lead)
        await wait_all_tasks_blocked()
        nursery.start_soon(sync, b)
        nursery.start_soon(sync, c)
        await trio.sleep(SECONDS / 2)
        scope.cancel(reason="test")
    assert scope.cancelled_caught
    assert done == {"b": 1.5 * SECONDS, "c": 1.5 * SECONDS}
    assert len(disk.log) == 2


async def test_a_cancelled_follower_leaves_the_others_alone(autojump_clock: MockClock) -> None:
    disk = Disk()
    a, b, c = await directories("abc", disk)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(a.sync)
        await wait_all_tasks_blocked()
        nursery.start_soon(c.sync)
        with trio.move_on_after(SECONDS / 2) as scope:
            await b.sync()
    assert scope.cancelled_caught
    assert [name for name, _ in disk.log] == ["a", "c"]


async def test_who_is_woken_to_go_on_and_goes_away_hands_over(autojump_clock: MockClock) -> None:
    disk = Disk()
    a, b, c = await directories("abc", disk)
    scope = trio.CancelScope()
    done: dict[str, float] = {}
    start = trio.current_time()

    async def sync(directory: Directory) -> None:
        await directory.sync()
        done[directory.name] = trio.current_time() - start

    async def give_up() -> None:
        with scope:
            await b.sync()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(sync, a)
        await wait_all_tasks_blocked()
        # b is the first that waits: when a has been synced it is woken, and at the same moment it gives up.
        nursery.start_soon(give_up)
        await wait_all_tasks_blocked()
        nursery.start_soon(sync, c)
        scope.deadline = start + SECONDS
    assert done == {"a": SECONDS, "c": 2 * SECONDS}


async def test_those_who_came_during_a_sync_sleep_until_one_of_them_has_synced(autojump_clock: MockClock) -> None:
    disk = Disk()
    a, *others = await directories("abcdefgh", disk)
    steps: Counter[str] = Counter()

    class Steps(trio.abc.Instrument):
        def before_task_step(self, task: trio.lowlevel.Task) -> None:
            steps[task.name] += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(a.sync)
        await wait_all_tasks_blocked()
        for directory in others:
            nursery.start_soon(directory.sync, name=directory.name)
        await wait_all_tasks_blocked()
        trio.lowlevel.add_instrument(counting := Steps())
    trio.lowlevel.remove_instrument(counting)
    # Who syncs is woken for it, and when it has; all others only then.
    assert sorted(steps[directory.name] for directory in others) == [1] * 6 + [2]


async def test_a_leader_that_gave_up_is_not_served_before_a_success_of_its_own(autojump_clock: MockClock) -> None:
    disk = Disk()
    a, b = await directories("ab", disk)
    with trio.move_on_after(SECONDS / 2):
        await a.sync()
    disk.log.clear()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(b.sync)
        await wait_all_tasks_blocked()
        nursery.start_soon(b.sync)
        nursery.start_soon(a.sync)
    assert "a" in {name for name, _ in disk.log}


def test_filesystems_are_apart_and_forgotten_with_their_last_directory() -> None:
    shared = SharedSync()
    first, second, other = shared.join(1), shared.join(1), shared.join(2)
    assert first is second
    assert first is not other
    shared.leave(1)
    assert shared.join(1) is first
    shared.leave(1)
    shared.leave(1)
    assert shared.join(1) is not first


@dataclass(eq=False)
class Descriptor:
    """A descriptor as Linux has it: it is told once of each write-back error since it was opened."""

    told: int
    spoilt: bool = False
    """A call that was given up has been told of an error: the adapter lets no later one succeed."""
    member: Member = field(default_factory=Member)


@dataclass(eq=False)
class Running:
    descriptor: Descriptor
    began: int
    waiting: tuple[Descriptor, ...]


class NobodyIsServedOverAnError(RuleBasedStateMachine):
    """Against a model of the kernel: whoever is served would have had a success of its own as well."""

    descriptors = Bundle("descriptors")
    running = Bundle("running")

    @initialize()
    def start(self) -> None:
        self.epochs = ErrorEpochs()
        self.errors = 0
        self.opened: list[Descriptor] = []

    @rule(target=descriptors)
    def join(self) -> Descriptor:
        descriptor = Descriptor(self.errors)
        self.opened.append(descriptor)
        self.epochs.joined()
        return descriptor

    @rule()
    def write_back_error(self) -> None:
        self.errors += 1

    @rule(target=running, descriptor=descriptors)
    def begin(self, descriptor: Descriptor) -> Running:
        return Running(descriptor, self.epochs.begin(descriptor.member), tuple(self.opened))

    @rule(sync=consumes(running))
    def end(self, sync: Running) -> None:
        self.finish(sync)

    @rule(sync=consumes(running))
    def give_up(self, sync: Running) -> None:
        sync.descriptor.spoilt = sync.descriptor.spoilt or sync.descriptor.told < self.errors
        sync.descriptor.told = self.errors

    @rule(descriptor=descriptors)
    def sync_at_once(self, descriptor: Descriptor) -> None:
        self.finish(Running(descriptor, self.epochs.begin(descriptor.member), tuple(self.opened)))

    def finish(self, sync: Running) -> None:
        descriptor = sync.descriptor
        if descriptor.spoilt or descriptor.told < self.errors:
            descriptor.told = self.errors
            self.epochs.failed()
            return
        self.epochs.succeeded(descriptor.member, sync.began)
        for other in sync.waiting:
            if self.epochs.knows(other.member):
                assert other.told == self.errors
                assert not other.spoilt


NobodyIsServedOverAnError.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestNobodyIsServedOverAnError = NobodyIsServedOverAnError.TestCase
