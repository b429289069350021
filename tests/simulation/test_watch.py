from __future__ import annotations

import math

import pytest
import trio

from lrs_trio.devices.grant import Grant, GrantState
from lrs_trio.devices.state import FormatJob, Prepare
from lrs_trio.devices.to_sync import SubRequest
from lrs_trio.devices.volume import Volume
from lrs_trio.dss.operations import ReadDevices, ReleaseLock, SetDeviceStatus, TakeLock
from lrs_trio.events import EventKind
from lrs_trio.model import AdmStatus, Family, LockOwner, LockType, RequestKind
from lrs_trio.scheduling.requests import RequestState
from lrs_trio.simulation.faults import FaultKind
from lrs_trio.simulation.host.dss import THIEF
from tests.simulation.stage import A, B, Stage, device, play
from tests.simulation.test_interleavings import holding, writing

LONG_S = 300.0
"""Long enough for the watch to have looked at everything, as `stir` makes it do."""


async def stir(stage: Stage) -> None:
    """Keep the daemon awake until everything was looked at while nothing could go on, and the DSS was read."""
    looks, rests = stage.watch.looks, stage.watch.rests
    caller = await holding(stage, B)
    for _ in range(1000):
        await caller.release(B, to_sync=False)
        await caller.read(B)
        await caller.answer()
        await trio.sleep(1)
        if stage.watch.looks > looks and stage.watch.rests > rests + 10:
            break
    else:
        raise AssertionError("the watch does not look")
    await caller.leave()


def family(stage: Stage):  # type: ignore[no-untyped-def]
    return stage.daemon.families[Family.DIR]


def test_an_honest_daemon_is_left_alone() -> None:
    async def story(stage: Stage) -> None:
        for _ in range(10):
            writer = await writing(stage)
            await writer.release(A, B)
            await writer.answer()
            await writer.leave()
        await stir(stage)

    play(story)


@pytest.mark.parametrize("how", ["silently", "with an event"])
def test_a_wrong_count_is_found(how: str) -> None:
    async def story(stage: Stage) -> None:
        state = family(stage).devices[device(A)].state
        state._counts[GrantState.RESERVED] += 1
        if how == "silently":
            await stir(stage)
        else:
            stage.daemon.events.emit(EventKind.MOUNTED, family="dir", device=device(A).name)
            await trio.lowlevel.checkpoint()
        state._counts[GrantState.RESERVED] -= 1

    play(story, expected="counts 0 planned, 0 ongoing, 1 reserved; there are 0, 0, 0")


def test_a_wrong_reservation_is_found() -> None:
    async def story(stage: Stage) -> None:
        family(stage).devices[device(A)].state.volume.reserved += 5
        await stir(stage)

    play(story, expected=f"{A}: 5 bytes are reserved, the grants there have reserved 0")


# Locks.


def test_a_lock_of_which_nobody_knows_is_found() -> None:
    async def story(stage: Stage) -> None:
        locks = family(stage).devices[device(A)]._ownership._locks._held
        taken = locks.pop((LockType.MEDIA, A))
        await stir(stage)
        locks[LockType.MEDIA, A] = taken

    play(story, expected=f"{A.name}_legacy: its media lock is ours, and no device knows of it")


def test_a_lock_that_is_not_there_is_found() -> None:
    async def story(stage: Stage) -> None:
        owner = LockOwner("store1", stage.process.pid)
        stage.dss.administer(ReleaseLock(LockType.DEVICE, device(A), owner))
        await stir(stage)

    play(story, expected="believes to hold the device lock of store1:/data/000_legacy, but nobody has it")


def test_a_stolen_lock_is_not_the_daemons_fault() -> None:
    async def story(stage: Stage) -> None:
        stage.dss.steal_from(LockOwner("store1", stage.process.pid))
        assert {lock.owner for lock in stage.dss.stolen.values()} == {THIEF}
        await stir(stage)

    play(story)


def test_a_lock_that_two_devices_hold_is_found() -> None:
    async def story(stage: Stage) -> None:
        held = family(stage).devices[device(B)]._ownership._locks._held
        held[LockType.MEDIA, A] = True
        await stir(stage)
        del held[LockType.MEDIA, A]

    play(story, expected=f"{A}: {device(A)} and {device(B)} both hold its media lock")


def test_a_lock_of_a_dead_process_is_found() -> None:
    async def story(stage: Stage) -> None:
        stage.dss.administer(TakeLock(LockType.MEDIA, A._replace(name="other"), LockOwner("store1", 7)))
        await stir(stage)

    play(story, expected="other_legacy: its media lock is still held by pid 7 on store1, which is dead")


def test_a_failed_device_that_is_used_is_found() -> None:
    async def story(stage: Stage) -> None:
        stage.dss.administer(SetDeviceStatus(device(A), AdmStatus.FAILED))
        await stir(stage)

    play(story, expected=f"{device(A)}: has failed, as the DSS says, and is used")


def test_a_lock_that_is_left_after_the_drain_is_found() -> None:
    async def story(stage: Stage) -> None:
        owner = LockOwner("store1", stage.process.pid)
        stage.dss.administer(TakeLock(LockType.MEDIA, A._replace(name="other"), owner))

    play(story, expected="other_legacy: its media lock is still held after an ordered drain")


# Tables and tasks.


def test_a_grant_of_which_its_holder_does_not_know_is_found() -> None:
    async def story(stage: Stage) -> None:
        holder = await holding(stage)
        (grant,) = family(stage).devices[device(A)].state.grants
        client = grant.holder.client
        client.holdings.remove(grant)
        await stir(stage)
        client.holdings.add(grant)
        await holder.leave()

    play(story, expected=f"holds {A} and does not know it")


def test_a_grant_of_a_client_that_has_left_is_found() -> None:
    async def story(stage: Stage) -> None:
        holder = await holding(stage)
        a = family(stage).devices[device(A)]
        (grant,) = a.state.grants
        grant.holder.client.holdings.remove(grant)
        await holder.leave()
        await stir(stage)
        a.end_grant(grant, dirty=False)

    play(story, expected="and has left")


def test_a_request_that_is_not_forgotten_is_found() -> None:
    async def story(stage: Stage) -> None:
        await family_with_waiting_request(stage)
        (request,) = [request for request in family(stage).live if request.state is RequestState.QUEUED]
        request.on_end = lambda _: None
        request.refuse(OSError(5, "planted"))
        await stir(stage)
        family(stage)._forget(request)

    play(story, expected="is refused and not forgotten", max_concurrent_io=1, mix_reads_and_writes=False)


async def family_with_waiting_request(stage: Stage) -> None:
    """A reader of A waits for another one."""
    await holding(stage)
    waiting = await stage.connect()
    await waiting.read(A)
    await stage.heard(EventKind.ALLOCATION_QUEUED, nth=2)
    await trio.sleep(1)


def test_a_volume_that_is_kept_for_nobody_is_found() -> None:
    async def story(stage: Stage) -> None:
        kept = [Volume() for _ in range(8)]
        for number, volume in enumerate(kept):
            family(stage).volumes[f"kept {number}"] = volume
        await stir(stage)

    play(story, expected="family dir: keeps 11 volumes")


def test_a_release_that_is_forgotten_in_a_device_is_found() -> None:
    async def story(stage: Stage) -> None:
        state = family(stage).devices[device(A)].state
        waiting = SubRequest(1, 1)
        state.to_sync.add(waiting, trio.current_time())
        await stir(stage)
        state.to_sync.discard(waiting, trio.current_time())

    play(story, expected="keeps what belongs to a release, and there is none", thresholds=(10**6, 9, 10**9))


def test_a_task_too_many_is_found() -> None:
    async def story(stage: Stage) -> None:
        (root,) = (task for task in stage.watch._tasks._tasks if task.name == "dss writer")  # type: ignore[union-attr]
        assert root.parent_nursery is not None
        for _ in range(3):
            root.parent_nursery.start_soon(trio.sleep_forever, name="leak")
        await stir(stage)

    play(story, expected="have something to do: accepting, bookkeeper")


def test_two_tasks_of_one_device_are_found() -> None:
    async def story(stage: Stage) -> None:
        (task,) = (task for task in stage.watch._tasks._tasks if task.name == "device /data/000")  # type: ignore[union-attr]
        assert task.parent_nursery is not None
        task.parent_nursery.start_soon(trio.sleep, 1, name=task.name)
        await trio.sleep(2)

    play(story, expected="device /data/000 has two tasks")


def test_a_task_that_outlives_the_daemon_is_found() -> None:
    async def story(stage: Stage) -> None:
        tasks = stage.watch._tasks
        assert tasks is not None
        tasks._tasks[trio.lowlevel.current_task()] = None

    play(story, expected="main outlives the daemon")


def test_a_system_task_is_found() -> None:
    async def story(stage: Stage) -> None:
        trio.lowlevel.spawn_system_task(trio.lowlevel.checkpoint, name="stray")
        await trio.sleep(1)

    play(story, expected="the task stray is started where nobody waits for its end")


# Who sleeps through what it waits for.


def test_a_sync_that_is_slept_through_is_found() -> None:
    async def story(stage: Stage) -> None:
        a = family(stage).devices[device(A)]
        a.state.to_sync.mark_dirty(trio.current_time() - 1)
        await stir(stage)
        a.ring()

    play(story, expected="a sync is due, nothing holds it back, and it has not begun")


def test_a_promise_that_is_slept_through_is_found() -> None:
    async def story(stage: Stage) -> None:
        a = family(stage).devices[device(A)]
        a.state.scheduled.append(Prepare(Grant(a, A, RequestKind.READ, None), a.medium))  # type: ignore[arg-type]
        await stir(stage)
        a.state.scheduled.clear()

    play(story, expected="request 0 was promised its medium, and nothing is done for it")


def test_a_place_that_is_slept_through_is_found() -> None:
    async def story(stage: Stage) -> None:
        await family_with_waiting_request(stage)
        family(stage).devices[device(A)].state.max_concurrent_io = 2
        await stir_quietly(stage)

    play(story, expected="could be placed, and is not", max_concurrent_io=1)


async def stir_quietly(stage: Stage) -> None:
    """Keep trio awake without anything that the daemon would have to look at."""
    rests = stage.watch.rests
    for _ in range(10_000):
        await trio.sleep(1)
        if stage.watch.rests > rests + 10:
            return


# The drain.


def test_a_drain_that_takes_too_long_is_found() -> None:
    async def story(stage: Stage) -> None:
        await holding(stage)
        stage.signal()
        await stage.heard(EventKind.DRAIN_BEGUN)
        stage.daemon._forced.deadline = math.inf
        await trio.sleep(2 * LONG_S)
        await stir_quietly(stage)
        stage.daemon._forced.cancel()

    play(story, expected="the drain has not ended in time; store1:/data/000 had not ended")


def test_a_second_signal_that_is_not_heeded_is_found() -> None:
    async def story(stage: Stage) -> None:
        await holding(stage)
        stage.signal()
        await stage.heard(EventKind.DRAIN_BEGUN)
        stage.world.faults.hit(FaultKind.SECOND_SIGTERM)
        await trio.sleep(50)
        await stir_quietly(stage)
        stage.daemon._forced.cancel()

    play(story, expected="the drain has not ended in time; store1:/data/000 had not ended")


@pytest.mark.parametrize("kind", [EventKind.MOUNTED, EventKind.LOADED, EventKind.FORMATTED, EventKind.IO_BEGUN])
def test_what_begins_during_the_drain_is_found(kind: EventKind) -> None:
    async def story(stage: Stage) -> None:
        await holding(stage)
        stage.signal()
        await stage.heard(EventKind.DRAIN_BEGUN)
        stage.daemon.events.emit(kind, family="dir", device=device(B).name, medium=B.name, serial=99)
        stage.daemon._forced.cancel()

    play(story, expected="although the drain has begun")


def test_a_request_that_goes_on_during_the_drain_is_found() -> None:
    async def story(stage: Stage) -> None:
        await holding(stage)
        stage.signal()
        await stage.heard(EventKind.DRAIN_BEGUN)
        stage.daemon.events.emit(
            EventKind.ALLOCATION_PLACED, family="dir", client="client 9", serial=99, detail=device(B).name
        )
        stage.daemon._forced.cancel()

    play(story, expected="client 9: its request 99 goes on although the drain has begun")


def test_a_release_without_an_answer_is_found() -> None:
    async def story(stage: Stage) -> None:
        stage.daemon.events.emit(EventKind.RELEASE_BEGUN, client="client 9", serial=99)

    play(story, expected="client 9: its release 99 is not answered at the end of the drain")


def test_a_release_that_is_answered_twice_is_found() -> None:
    async def story(stage: Stage) -> None:
        stage.daemon.events.emit(EventKind.RELEASE_FINISHED, client="client 9", serial=99)

    play(story, expected="client 9: its release 99 is answered a second time")


def test_a_device_that_does_not_end_is_found() -> None:
    async def story(stage: Stage) -> None:
        stage.daemon.events.emit(EventKind.DEVICE_STATUS, family="dir", device="ghost", detail="mounted")

    play(story, expected="ghost: had not ended at the end of an ordered drain")


def test_what_is_left_after_an_ordered_drain_is_found() -> None:
    async def story(stage: Stage) -> None:
        await holding(stage)
        a = family(stage).devices[device(A)]
        stage.signal()
        await stage.heard(EventKind.DRAIN_BEGUN)
        (grant,) = a.state.grants
        a.end_grant(grant, dirty=False)
        grant.holder.client.holdings.remove(grant)
        await stage.heard(EventKind.DEVICE_REMOVED, device=device(A).name)
        a.state.formatting = FormatJob(a.medium, False, None)  # type: ignore[arg-type]

    play(story, expected=f"{device(A)}: has a format after the drain")


def test_a_watch_that_fails_says_so() -> None:
    async def story(stage: Stage) -> None:
        stage.watch._tables.look = None  # type: ignore[method-assign,assignment]
        for _ in range(1000):
            await trio.sleep(1)

    play(story, expected="the watch has failed: TypeError")


def test_a_killed_process_is_not_looked_at() -> None:
    async def story(stage: Stage) -> None:
        stage.process.alive = False
        family(stage).devices[device(A)].state._counts[GrantState.ONGOING] += 1
        for _ in range(100):
            await trio.sleep(1)
        family(stage).devices[device(A)].state._counts[GrantState.ONGOING] -= 1
        stage.process.alive = True

    play(story)


def test_the_dss_is_only_read() -> None:
    async def story(stage: Stage) -> None:
        steps = stage.dss.steps
        for _ in range(20):
            stage.watch._rows.look()
        assert stage.dss.steps == steps
        assert stage.dss.administer(ReadDevices())

    play(story)
