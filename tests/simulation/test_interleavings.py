"""The interleavings of which the design notes speak, each held in its order, with the whole daemon."""

from __future__ import annotations

import errno

import pytest
import trio

from lrs_trio.daemon import EXIT_DRAINED, EXIT_FORCED
from lrs_trio.devices.device import DeviceTask
from lrs_trio.events import EventKind
from lrs_trio.model import AdmStatus, Family, LockType, RequestKind, ResourceId
from lrs_trio.wire.messages import (
    Failed,
    Formatted,
    Notified,
    ReadGranted,
    Released,
    ResponseBody,
    WriteGranted,
)
from tests.simulation.stage import BLANK, A, B, Caller, Stage, device, play

SOON_S = 1.0
"""Longer than anything takes that is not held up."""


async def holding(stage: Stage, medium: ResourceId = A) -> Caller:
    """A client whose I/O on `medium` is under way."""
    caller = await stage.connect()
    await caller.read(medium)
    assert isinstance(await caller.answer(), ReadGranted)
    return caller


async def writing(stage: Stage) -> Caller:
    """A client that writes to A and B."""
    caller = await stage.connect()
    await caller.write(2)
    granted = await caller.answer()
    assert isinstance(granted, WriteGranted)
    assert {grant.medium for grant in granted.media} == {A, B}
    return caller


async def mountable(stage: Stage) -> None:
    """Format the blank medium: it is mounted when it is asked for."""
    caller = await stage.connect()
    await caller.format(BLANK)
    assert isinstance(await caller.answer(), Formatted)
    await caller.leave()


def failed(body: ResponseBody, number: int) -> bool:
    return isinstance(body, Failed) and body.rc == -number


def order(stage: Stage, *kinds: EventKind, device: str = "") -> list[EventKind]:
    return [event.kind for event in stage.events if event.kind in kinds and device in ("", event.device)]


@pytest.mark.note("2.5b", "2.5d", "4.4")
def test_a_release_that_arrives_during_the_sync_waits_for_the_next_one() -> None:
    async def story(stage: Stage) -> None:
        first, second = await holding(stage), await holding(stage)
        gate = stage.gates.add(A.name, "sync")
        await first.release(A)
        await gate.reached.wait()
        await second.release(A)
        await stage.heard(EventKind.SYNC_REQUESTED, nth=2)
        gate.open()
        assert isinstance(await first.answer(), Released)
        assert stage.figures(A) == (1, 1000)
        assert isinstance(await second.answer(), Released)
        assert stage.figures(A) == (2, 2000)
        kinds = EventKind.SYNC_STARTED, EventKind.SYNC_FINISHED, EventKind.RELEASE_FINISHED
        started, finished, answered = kinds
        assert order(stage, *kinds)[:3] in ([started, finished, answered], [started, finished, started])
        assert [event.count for event in stage.all_heard(started)] == [1, 1]

    play(story)


@pytest.mark.note("2.5d", "4.4")
@pytest.mark.parametrize("sibling_ends", ["before", "after"])
def test_an_error_during_the_siblings_sync_leaves_nothing_counted(sibling_ends: str) -> None:
    async def story(stage: Stage) -> None:
        writer, bystander = await writing(stage), await holding(stage, B)
        failing, sibling = stage.gates.add(A.name, "sync"), stage.gates.add(B.name, "sync")
        await writer.release(A, B, id=7)
        await failing.reached.wait()
        await sibling.reached.wait()
        if sibling_ends == "before":
            sibling.open()
            await stage.heard(EventKind.SYNC_FINISHED, device=device(B).name)
        failing.open(errno.EIO)
        assert failed(await writer.answer(id=7), errno.EIO)
        sibling.open()
        await bystander.release(B, size=50, id=8)
        assert isinstance(await bystander.answer(id=8), Released)
        assert stage.figures(A) == (0, 0)
        assert stage.figures(B) == (1, 50)
        rows = stage.dss.read()
        assert rows.media[A].medium.adm_status is AdmStatus.FAILED
        assert rows.devices[device(A)].device.adm_status is AdmStatus.FAILED
        assert rows.media[B].medium.adm_status is AdmStatus.UNLOCKED
        await writer.leave()
        assert len(stage.all_heard(EventKind.RELEASE_FAILED)) == 1

    play(story)


@pytest.mark.note("4.1", "6")
def test_a_device_that_is_locked_during_a_mount_ends_and_its_request_is_decided_anew() -> None:
    async def story(stage: Stage) -> None:
        await mountable(stage)
        mount = stage.gates.add(BLANK.name, "mount")
        reader, administrator = await stage.connect(), await stage.connect()
        await reader.read(BLANK, id=3)
        await mount.reached.wait()
        await administrator.lock_device(device(BLANK), id=4)
        assert failed(await reader.answer(id=3), errno.ENODEV)
        await trio.sleep(SOON_S)
        assert stage.all_heard(EventKind.DEVICE_REMOVED) == []
        mount.open()
        assert isinstance(await administrator.answer(id=4), Notified)
        assert stage.all_heard(EventKind.IO_BEGUN) == []
        assert device(BLANK) not in stage.daemon.families[BLANK.family].devices
        assert {id for _, id in stage.dss.read().locks} == {
            f"{resource.name}_legacy" for medium in (A, B) for resource in (medium, device(medium))
        }

    play(story)


@pytest.mark.note("0", "6", "9")
def test_a_client_that_goes_between_grant_and_response_has_had_nothing() -> None:
    async def story(stage: Stage) -> None:
        await mountable(stage)
        mount = stage.gates.add(BLANK.name, "mount")
        reader = await stage.connect()
        await reader.read(A, BLANK)
        await mount.reached.wait()
        (ready,) = stage.daemon.families[A.family].devices[device(A)].state.grants
        assert ready.state.value == "ready"
        await reader.leave()
        await stage.heard(EventKind.ALLOCATION_WITHDRAWN)
        mount.open()
        await stage.heard(EventKind.MOUNTED, device=device(BLANK).name)
        await trio.sleep(SOON_S)
        assert stage.all_heard(EventKind.IO_BEGUN) == []
        assert stage.all_heard(EventKind.SYNC_STARTED) == []

    play(story)


@pytest.mark.note("0", "9", "2.5d")
def test_a_client_that_goes_as_its_response_leaves_is_synced_and_not_counted() -> None:
    async def story(stage: Stage) -> None:
        writer = await stage.connect()
        await writer.write(2)
        await stage.heard(EventKind.ALLOCATION_GRANTED)
        await writer.leave()
        await stage.heard(EventKind.SYNC_FINISHED, nth=2)
        assert len(stage.all_heard(EventKind.IO_ENDED)) == 2
        assert stage.figures(A) == stage.figures(B) == (0, 0)

    play(story)


@pytest.mark.note("11")
def test_a_second_signal_during_the_drain_answers_whoever_waits_and_ends() -> None:
    async def story(stage: Stage) -> None:
        holder, releaser = await holding(stage, A), await holding(stage, B)
        sync = stage.gates.add(B.name, "sync")
        await releaser.release(B, id=5)
        await sync.reached.wait()
        stage.signal()
        begun = await stage.heard(EventKind.DRAIN_BEGUN)
        await trio.sleep(10)
        assert stage.all_heard(EventKind.DRAIN_ENDED) == []
        stage.signal()
        assert failed(await releaser.answer(id=5), errno.ESHUTDOWN)
        assert await holder.rest() == []
        await stage.ended.wait()
        assert stage.status == EXIT_FORCED
        ended = await stage.heard(EventKind.DRAIN_ENDED)
        assert ended.time == begun.time + 10
        assert stage.figures(B) == (0, 0)

    play(story)


@pytest.mark.note("2.5f", "4.5", "8", "9")
def test_a_sync_that_excludes_io_waits_for_what_goes_on_and_goes_before_what_comes() -> None:
    async def story(stage: Stage) -> None:
        first, second = await holding(stage), await holding(stage)
        await first.release(A, id=5)
        await stage.heard(EventKind.SYNC_REQUESTED)
        late = await stage.connect()
        await late.read(A, id=6)
        await trio.sleep(SOON_S)
        assert stage.all_heard(EventKind.SYNC_STARTED) == []
        assert len(stage.all_heard(EventKind.IO_BEGUN)) == 2
        sync = stage.gates.add(A.name, "sync")
        await second.release(A, id=7)
        await sync.reached.wait()
        await trio.sleep(SOON_S)
        assert len(stage.all_heard(EventKind.IO_BEGUN)) == 2
        sync.open()
        assert isinstance(await first.answer(id=5), Released)
        assert isinstance(await second.answer(id=7), Released)
        assert isinstance(await late.answer(id=6), ReadGranted)
        assert [event.count for event in stage.all_heard(EventKind.SYNC_STARTED)] == [2]
        kinds = EventKind.SYNC_STARTED, EventKind.SYNC_FINISHED, EventKind.IO_BEGUN
        begun = EventKind.IO_BEGUN
        assert order(stage, *kinds) == [begun, begun, EventKind.SYNC_STARTED, EventKind.SYNC_FINISHED, begun]
        await late.leave()

    play(story, sync_while_io=False)


@pytest.mark.note("2.1", "2.5d", "2.5e")
def test_two_releases_of_one_client_cross_and_each_has_its_own_answer() -> None:
    async def story(stage: Stage) -> None:
        writer = await stage.connect()
        for number in (1, 2):
            await writer.write(2, id=number)
            assert isinstance(await writer.answer(id=number), WriteGranted)
        slow_a, slow_b = stage.gates.add(A.name, "sync"), stage.gates.add(B.name, "sync")
        # The first sync of A serves the first release, the first sync of B the second one.
        await writer.release(A, id=11)
        await writer.release(B, size=20, id=12)
        await slow_a.reached.wait()
        await slow_b.reached.wait()
        slow_b.open()
        assert await writer.answer(id=12) == Released((B,), RequestKind.RELEASE_WRITE, False)
        assert stage.figures(B) == (1, 20)
        assert stage.figures(A) == (0, 0)
        await writer.release(B, A, size=300, id=13)
        await stage.heard(EventKind.SYNC_FINISHED, nth=2, device=device(B).name)
        slow_a.open()
        assert await writer.answer(id=11) == Released((A,), RequestKind.RELEASE_WRITE, False)
        assert await writer.answer(id=13) == Released((B, A), RequestKind.RELEASE_WRITE, False)
        assert stage.figures(A) == (2, 1300)
        assert stage.figures(B) == (2, 320)

    play(story)


@pytest.mark.note("5.3", "11")
@pytest.mark.parametrize("error", [0, errno.EIO])
def test_a_drain_waits_for_the_format_that_is_under_way(error: int) -> None:
    async def story(stage: Stage) -> None:
        administrator = await stage.connect()
        gate = stage.gates.add(BLANK.name, "format")
        await administrator.format(BLANK, id=9)
        await gate.reached.wait()
        stage.signal()
        await stage.heard(EventKind.DRAIN_BEGUN)
        await stage.heard(EventKind.DEVICE_REMOVED, nth=2)
        await trio.sleep(SOON_S)
        assert len(stage.all_heard(EventKind.DEVICE_REMOVED)) == 2
        late = await stage.connect()
        await late.format(BLANK, id=10)
        assert failed(await late.answer(id=10), errno.ESHUTDOWN)
        gate.open(error)
        answer = await administrator.answer(id=9)
        assert failed(answer, error) if error else answer == Formatted(BLANK)
        await stage.ended.wait()
        assert stage.status == EXIT_DRAINED
        row = stage.dss.read().media[BLANK].medium
        assert row.adm_status is (AdmStatus.FAILED if error else AdmStatus.UNLOCKED)

    play(story)


@pytest.mark.note("11", "2.5a")
def test_a_release_during_the_drain_is_synced_and_answered_before_it_ends() -> None:
    async def story(stage: Stage) -> None:
        holder, waiting = await holding(stage), await stage.connect()
        stage.signal()
        await stage.heard(EventKind.DRAIN_BEGUN)
        await waiting.write(id=2)
        assert failed(await waiting.answer(id=2), errno.ESHUTDOWN)
        await trio.sleep(SOON_S)
        await holder.release(A, id=3)
        assert isinstance(await holder.answer(id=3), Released)
        await stage.ended.wait()
        assert stage.status == EXIT_DRAINED
        assert stage.figures(A) == (1, 1000)

    play(story)


# Tapes.


def tapes(stage: Stage) -> list[ResourceId]:
    return list(stage.dss.read().media)


def drives(stage: Stage) -> list[DeviceTask]:
    return list(stage.daemon.families[Family.TAPE].devices.values())


@pytest.mark.note("4.1", "6")
def test_a_drive_that_is_locked_during_a_mount_ends_and_its_request_goes_elsewhere() -> None:
    async def story(stage: Stage) -> None:
        first, second = drives(stage)
        mounts = [stage.gates.add(drive.row.path, "mount") for drive in (first, second)]
        writer, administrator = await stage.connect(), await stage.connect()
        await writer.write(family=Family.TAPE, id=3)
        loaded = await stage.heard(EventKind.LOADED)
        locked, other = (first, second) if loaded.device == first.id.name else (second, first)
        under_way, later = mounts if locked is first else mounts[::-1]
        await under_way.reached.wait()
        await administrator.lock_device(locked.id, id=4)
        await later.reached.wait()
        later.open()
        granted = await writer.answer(id=3)
        assert isinstance(granted, WriteGranted)
        assert [event.device for event in stage.all_heard(EventKind.IO_BEGUN)] == [other.id.name]
        assert granted.media[0].medium.name != loaded.medium
        assert stage.all_heard(EventKind.DEVICE_REMOVED) == []
        under_way.open()
        assert isinstance(await administrator.answer(id=4), Notified)
        assert drives(stage) == [other]
        assert (LockType.DEVICE, f"{locked.id.name}_legacy") not in stage.dss.read().locks
        await writer.leave()

    play(story, drives=2)


@pytest.mark.note("2.5f", "4.4")
def test_a_tape_that_has_to_leave_is_synced_and_in_the_books_before_it_is_unmounted() -> None:
    async def story(stage: Stage) -> None:
        writer, reader = await stage.connect(), await stage.connect()
        await writer.write(family=Family.TAPE, id=3)
        granted = await writer.answer(id=3)
        assert isinstance(granted, WriteGranted)
        written = granted.media[0].medium
        await writer.release(written, id=4)
        await trio.sleep(SOON_S)
        assert stage.all_heard(EventKind.SYNC_STARTED) == []
        await reader.read(next(tape for tape in tapes(stage) if tape != written), id=5)
        assert isinstance(await writer.answer(id=4), Released)
        assert stage.figures(written) == (1, 1000)
        assert stage.all_heard(EventKind.UNMOUNTED) == []
        assert isinstance(await reader.answer(id=5), ReadGranted)
        kinds = EventKind.SYNC_FINISHED, EventKind.RELEASE_FINISHED, EventKind.UNMOUNTED, EventKind.UNLOADED
        assert order(stage, *kinds) == list(kinds)
        await reader.leave()

    play(story, drives=1, thresholds=(10**8, 1000, 10**12))
