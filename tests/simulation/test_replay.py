"""A recorded workload, played against a simulated daemon."""

from __future__ import annotations

import errno
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from benchmarks.harness import temporary_site
from lrs_trio.daemon import EXIT_DRAINED
from lrs_trio.events import Event, EventKind
from lrs_trio.model import (
    AdmStatus,
    Device,
    Family,
    FsStatus,
    FsType,
    Medium,
    MediumStats,
    NotifyOperation,
    ReadOperation,
    RequestKind,
    ResourceId,
)
from lrs_trio.observe.inventory import Inventory
from lrs_trio.settings import FamiliesSettings, Settings, TapeSettings
from lrs_trio.simulation.faults import FaultKind
from lrs_trio.simulation.replay.player import read_workload, scenario_of
from lrs_trio.simulation.replay.recorded import Workload
from lrs_trio.simulation.scenario import HOST
from lrs_trio.wire.messages import (
    Failed,
    Format,
    Formatted,
    Notified,
    Notify,
    Ping,
    Pong,
    ReadAllocation,
    ReadGranted,
    Release,
    Released,
    ReleasedMedium,
    Request,
    RequestBody,
    Response,
    ResponseBody,
    Status,
    StatusReport,
    WriteAllocation,
    WriteGranted,
    WriteMedium,
)
from tests.daemon.conftest import release as release_of
from tests.daemon.conftest import serving
from tests.simulation.replaying import Played, play
from tests.simulation.traces import (
    GIB,
    LIBRARY,
    RECORDED_HOST,
    TraceMaker,
    device_of,
    directory,
    inventory_of,
    medium_of,
    read_granted,
    tape_granted,
    write_granted,
)

A, B = "/data/a", "/data/b"
MIB = 2**20


@pytest.fixture
def trace() -> TraceMaker:
    return TraceMaker(inventory_of(A, B))


@pytest.fixture
def read(tmp_path: Path) -> Callable[[TraceMaker], Workload]:
    return lambda trace: read_workload(trace.write_to(tmp_path / "trace"))


def write(*sizes: int) -> WriteAllocation:
    return WriteAllocation(tuple(map(WriteMedium, sizes)), Family.DIR)


def back(path: str, size: int = MIB, *, rc: int = 0, to_sync: bool = True, extents: int = 1) -> ReleasedMedium:
    return ReleasedMedium(directory(path), rc, size, extents, to_sync)


def release(*media: ReleasedMedium, partial: bool = False) -> Release:
    return Release(media, RequestKind.RELEASE_WRITE, partial)


def released(*paths: str, partial: bool = False) -> Released:
    return Released(tuple(map(directory, paths)), RequestKind.RELEASE_WRITE, partial)


class Client:
    """One connection of a trace. Each request has its answer half a second later."""

    def __init__(self, trace: TraceMaker, number: int, opened: float) -> None:
        self._trace = trace
        self._number = number
        self._requests = 0
        trace.opened(opened, number)

    def ask(self, time: float, body: RequestBody, answer: ResponseBody | None = None) -> None:
        self._requests += 1
        self._trace.passed(time, self._number, Request(self._requests, body))
        if answer is not None:
            self._trace.passed(time + 0.5, self._number, Response(self._requests, answer))

    def leave(self, time: float) -> None:
        self._trace.closed(time, self._number)


def heard(played: Played, kind: EventKind, **about: object) -> list[Event]:
    return [
        event
        for event in played.events
        if event.kind is kind and all(getattr(event, name) == value for name, value in about.items())
    ]


def expect_well(played: Played) -> None:
    assert played.violations == ()
    assert played.status == EXIT_DRAINED


def all_sorts(trace: TraceMaker) -> None:
    """Something of everything."""
    first, second = Client(trace, 1, 1), Client(trace, 2, 1.5)
    first.ask(2, write(MIB, MIB), write_granted(A, B))
    second.ask(2, Ping(True), Pong(True))
    first.ask(5, release(back(A, 2 * MIB), back(B, 3 * MIB)), released(A, B))
    second.ask(6, ReadAllocation(1, (directory(A), directory(B))), read_granted(B))
    second.ask(9, Release((back(B, 0, to_sync=False, extents=0),), RequestKind.RELEASE_READ))
    first.ask(10, write(MIB), write_granted(A))
    first.ask(11, release(back(A), partial=True), released(A, partial=True))
    first.ask(12, release(back(A)), released(A))
    second.ask(13, Status(), StatusReport("{}"))
    second.ask(14, Notify(directory(A), NotifyOperation.MEDIA_UPDATE), Notified(directory(A)))
    second.ask(15, Notify(directory(A), NotifyOperation.MEDIA_UPDATE, wait=False))
    second.ask(16, ReadAllocation(1, (directory(A),), ReadOperation.DELETE), read_granted(A))
    second.ask(17, release(back(A, -MIB, extents=-1)), released(A))
    first.leave(20)
    second.leave(21)


ALL_SORTS = Counter(
    {
        "WriteAllocation": 2,
        "ReadAllocation": 2,
        "Release": 5,
        "Ping": 1,
        "Status": 1,
        "Notify": 2,
    }
)


def test_as_many_requests_of_each_kind_as_recorded(trace: TraceMaker, read: Callable[[TraceMaker], Workload]) -> None:
    all_sorts(trace)
    played = play(read(trace))
    expect_well(played)
    assert played.replayed.sent == ALL_SORTS
    assert (played.replayed.dropped, played.replayed.surplus) == (0, 0)
    assert 21 < played.seconds < 30


def test_what_was_released_is_written_and_counted(trace: TraceMaker, read: Callable[[TraceMaker], Workload]) -> None:
    all_sorts(trace)
    stats = [row.medium.stats for row in play(read(trace)).content.media.values()]
    assert sum(figures.logc_spc_used for figures in stats) == 6 * MIB
    assert sum(figures.nb_obj for figures in stats) == 3
    assert sum(figures.phys_spc_used for figures in stats) == 6 * MIB


def test_a_seed_gives_one_replay(trace: TraceMaker, read: Callable[[TraceMaker], Workload]) -> None:
    all_sorts(trace)
    workload = read(trace)
    digests = [play(workload, seed).digest for seed in (1, 1, 2)]
    assert digests[0] == digests[1] != digests[2]


def test_a_replay_can_be_recorded_and_replayed(
    trace: TraceMaker, read: Callable[[TraceMaker], Workload], tmp_path: Path
) -> None:
    all_sorts(trace)
    workload = read(trace)
    played = play(workload, record_to=tmp_path / "again")
    again = read_workload(tmp_path / "again")
    assert again.requests == workload.requests
    assert play(again).replayed.sent == played.replayed.sent == ALL_SORTS


def test_requests_come_at_their_times(trace: TraceMaker, read: Callable[[TraceMaker], Workload]) -> None:
    client = Client(trace, 1, 5)
    for time in (6, 8.25, 100):
        client.ask(time, Ping(), Pong())
    client.leave(200)
    played = play(read(trace))
    times = [event.time for event in heard(played, EventKind.REQUEST_RECEIVED)]
    assert times == pytest.approx([6, 8.25, 100], abs=0.1)
    (closed,) = heard(played, EventKind.CONNECTION_CLOSED)
    assert closed.time == pytest.approx(200, abs=0.1)


def test_media_are_held_as_long_as_recorded_whatever_is_granted_when(
    trace: TraceMaker, read: Callable[[TraceMaker], Workload]
) -> None:
    """Of two clients there, one held A and one held B; here there is only one medium with room, for one at a time."""
    for number, path in enumerate((A, B), start=1):
        client = Client(trace, number, 1)
        client.ask(2, write(MIB), write_granted(path))
        client.ask(62.5, release(back(path)), released(path))
        client.leave(70)
    workload = read(trace)
    one = workload.inventory.settings.families.dir.model_copy(update={"max_concurrent_io": 1})
    inventory = replace(
        workload.inventory,
        media=(medium_of(A, used=64 * GIB, free=0), medium_of(B)),
        settings=workload.inventory.settings.model_copy(
            update={"families": workload.inventory.settings.families.model_copy(update={"dir": one})}
        ),
    )
    played = play(replace(workload, inventory=inventory))
    expect_well(played)
    assert played.replayed.dropped == 0
    begun, ended = heard(played, EventKind.IO_BEGUN), heard(played, EventKind.IO_ENDED)
    assert [event.medium for event in begun] == [B, B]
    assert [end.time - begin.time for begin, end in zip(begun, ended, strict=True)] == pytest.approx([60, 60], abs=0.2)
    assert len(heard(played, EventKind.RELEASE_FINISHED)) == 2


def test_who_left_without_an_answer_leaves_again(read: Callable[[TraceMaker], Workload]) -> None:
    """And with what it held, on which the daemon then does a sync that nobody's I/O may disturb."""
    settings = inventory_of().settings
    excluding = settings.families.dir.model_copy(update={"sync_while_io": False})
    families = settings.families.model_copy(update={"dir": excluding})
    trace = TraceMaker(inventory_of(A, B, settings=settings.model_copy(update={"families": families})))
    client = Client(trace, 1, 1)
    client.ask(2, write(MIB), write_granted(A))
    client.ask(2.6, write(MIB), write_granted(B))
    client.ask(3, write(1000 * GIB))
    client.leave(4)
    played = play(read(trace))
    expect_well(played)
    assert played.replayed.sent == {"WriteAllocation": 3}
    assert [event.time for event in heard(played, EventKind.IO_ENDED)] == pytest.approx([4, 4], abs=0.1)
    assert heard(played, EventKind.SYNC_FINISHED)


def test_what_was_refused_then_and_is_granted_here_is_given_back(
    trace: TraceMaker, read: Callable[[TraceMaker], Workload]
) -> None:
    client = Client(trace, 1, 1)
    client.ask(2, write(MIB), Failed(-errno.ENOSPC, RequestKind.WRITE))
    client.leave(50)
    played = play(read(trace))
    expect_well(played)
    assert (played.replayed.surplus, played.replayed.dropped) == (1, 0)
    assert played.replayed.sent == {"WriteAllocation": 1}
    (ended,) = heard(played, EventKind.IO_ENDED)
    assert ended.time == pytest.approx(2, abs=0.5)


def test_what_was_granted_then_and_is_refused_here_is_not_released(
    trace: TraceMaker, read: Callable[[TraceMaker], Workload]
) -> None:
    client = Client(trace, 1, 1)
    client.ask(2, write(1000 * GIB), write_granted(A))
    client.ask(4, release(back(A), partial=True), released(A, partial=True))
    client.ask(5, release(back(A)), released(A))
    client.leave(6)
    played = play(read(trace))
    expect_well(played)
    assert played.replayed.dropped == 2
    assert played.replayed.sent == {"WriteAllocation": 1}


def test_a_release_waits_for_the_partial_one_before(trace: TraceMaker, read: Callable[[TraceMaker], Workload]) -> None:
    client = Client(trace, 1, 1001)
    client.ask(1002, write(MIB), write_granted(A))
    client.ask(1007, release(back(A), partial=True), released(A, partial=True))
    client.ask(1008, release(back(A)), released(A))
    client.leave(1010)
    # The books that were quickly committed there take their time here.
    played = play(read(trace), change=lambda scenario: replace(scenario, rates={FaultKind.DSS_SLOW: 1.0}))
    expect_well(played)
    assert not heard(played, EventKind.RELEASE_FAILED)
    first, second = heard(played, EventKind.RELEASE_BEGUN)
    (done, _) = heard(played, EventKind.RELEASE_FINISHED)
    assert done.time - first.time > 1
    assert second.time - done.time == pytest.approx(0.5, abs=0.1)


def test_who_got_what_was_formatted_waits_for_the_format(read: Callable[[TraceMaker], Workload]) -> None:
    blank = tuple(Medium(directory(path), FsType.POSIX) for path in (A, B))
    trace = TraceMaker(Inventory(inventory_of().settings, (device_of(A), device_of(B)), blank))
    administrator, client = Client(trace, 1, 1001), Client(trace, 2, 1001)
    administrator.ask(1002, Format(directory(A), FsType.POSIX, unlock=True), Formatted(directory(A)))
    client.ask(1002.6, write(MIB), write_granted(A))
    client.ask(1003, release(back(A)), released(A))
    administrator.leave(1004)
    client.leave(1004)
    played = play(read(trace), change=lambda scenario: replace(scenario, rates={FaultKind.DSS_SLOW: 1.0}))
    expect_well(played)
    assert played.replayed.dropped == 0
    (formatted,) = heard(played, EventKind.FORMATTED)
    (queued,) = heard(played, EventKind.ALLOCATION_QUEUED)
    assert queued.time >= formatted.time > 1003


def test_who_is_told_to_finish_gives_back_what_is_held(
    trace: TraceMaker, read: Callable[[TraceMaker], Workload]
) -> None:
    early, late = Client(trace, 1, 1), Client(trace, 2, 5000)
    early.ask(2, write(MIB), write_granted(A))
    early.ask(100, release(back(A)), released(A))
    early.ask(200, write(MIB), write_granted(A))
    early.ask(300, release(back(A)), released(A))
    early.leave(10_000)
    late.ask(6000, Ping(), Pong())
    late.leave(10_000)
    played = play(read(trace), finish_after=50)
    expect_well(played)
    assert played.replayed.sent == {"WriteAllocation": 1, "Release": 1}
    assert played.replayed.dropped == 3
    (ended,) = heard(played, EventKind.IO_ENDED)
    assert ended.time == pytest.approx(100, abs=1)
    assert played.seconds < 200


def test_a_mistake_is_made_again(trace: TraceMaker, read: Callable[[TraceMaker], Workload]) -> None:
    client = Client(trace, 1, 1)
    client.ask(2, release(back(A)), Failed(-errno.EINVAL, RequestKind.RELEASE_WRITE))
    client.ask(3, ReadAllocation(3, (directory(A),)), Failed(-errno.EINVAL, RequestKind.READ))
    client.ask(4, write(MIB), write_granted(A))
    client.ask(5, release(back(A)), released(A))
    client.ask(6, release(back(A)), Failed(-errno.EINVAL, RequestKind.RELEASE_WRITE))
    client.leave(7)
    played = play(read(trace))
    expect_well(played)
    assert played.replayed.sent == {"Release": 3, "ReadAllocation": 1, "WriteAllocation": 1}
    assert [event.errno for event in heard(played, EventKind.RELEASE_FAILED)] == [errno.EINVAL] * 2


def test_no_room_is_told_with_the_release(trace: TraceMaker, read: Callable[[TraceMaker], Workload]) -> None:
    client = Client(trace, 1, 1)
    client.ask(2, write(MIB), write_granted(A))
    client.ask(4, release(back(A, 1000 * GIB)), released(A))
    client.leave(6)
    played = play(read(trace))
    expect_well(played)
    (failed,) = heard(played, EventKind.RELEASE_FAILED)
    assert failed.errno == errno.ENOSPC


def test_a_device_is_locked_and_unlocked_as_recorded(trace: TraceMaker, read: Callable[[TraceMaker], Workload]) -> None:
    device = device_of(A).id
    administrator = Client(trace, 1, 1)
    administrator.ask(2, Notify(device, NotifyOperation.DEVICE_LOCK), Notified(device))
    administrator.ask(10, Notify(device, NotifyOperation.DEVICE_UNLOCK), Notified(device))
    administrator.ask(20, Notify(device_of(B).id, NotifyOperation.DEVICE_LOCK), Notified(device_of(B).id))
    administrator.leave(30)
    played = play(read(trace))
    expect_well(played)
    assert [event.device for event in heard(played, EventKind.DEVICE_LOCKED)] == [
        device_of(path, HOST).id.name for path in (A, B)
    ]
    rows = played.content.devices
    assert rows[device_of(A, HOST).id].device.adm_status is AdmStatus.UNLOCKED
    assert rows[device_of(B, HOST).id].device.adm_status is AdmStatus.LOCKED


def test_blank_media_are_formatted(read: Callable[[TraceMaker], Workload]) -> None:
    blank = Medium(directory(A), FsType.POSIX)
    inventory = inventory_of()
    trace = TraceMaker(Inventory(inventory.settings, (device_of(A),), (blank,)))
    client = Client(trace, 1, 1)
    client.ask(2, Format(directory(A), FsType.POSIX, unlock=True), Formatted(directory(A)))
    client.ask(4, write(MIB), write_granted(A))
    client.ask(5, release(back(A)), released(A))
    client.leave(6)
    played = play(read(trace))
    expect_well(played)
    assert played.replayed.dropped == 0
    assert played.content.media[directory(A)].medium.stats.logc_spc_used == MIB


def tape_id(name: str) -> ResourceId:
    return ResourceId(Family.TAPE, name, LIBRARY)


def tape_inventory() -> Inventory:
    tape = TapeSettings(
        enabled=True,
        drive_types={"LTO8_drive": ("ULT3580-TD8",)},
        tape_types={"LTO8": ("LTO8_drive",)},
    )
    families = FamiliesSettings(tape=tape)
    families = families.model_copy(update={"dir": families.dir.model_copy(update={"enabled": False})})
    drives = tuple(
        Device(tape_id(serial), RECORDED_HOST, f"/dev/sg{number}", AdmStatus.UNLOCKED, "ULT3580-TD8")
        for number, serial in enumerate(("1013005381", "1014005381"))
    )
    stats = MediumStats(nb_obj=5, logc_spc_used=GIB, phys_spc_used=GIB, phys_spc_free=99 * GIB)
    used, blank = (tape_id(name) for name in ("P00001L8", "P00002L8"))
    return Inventory(
        Settings(host=RECORDED_HOST, families=families),
        drives,
        (
            Medium(used, FsType.LTFS, AdmStatus.UNLOCKED, FsStatus.USED, "P00001L8", model="LTO8", stats=stats),
            Medium(blank, FsType.LTFS, model="LTO8"),
        ),
    )


def test_tapes_have_their_names_and_contents(read: Callable[[TraceMaker], Workload]) -> None:
    used, blank = tape_id("P00001L8"), tape_id("P00002L8")
    trace = TraceMaker(tape_inventory())
    client, administrator = Client(trace, 1, 1), Client(trace, 2, 1)
    client.ask(2, ReadAllocation(1, (used,)), tape_granted(ReadGranted, used))
    client.ask(100, Release((ReleasedMedium(used),), RequestKind.RELEASE_READ))
    administrator.ask(3, Format(blank, FsType.LTFS, unlock=True), Formatted(blank))
    client.ask(200, WriteAllocation((WriteMedium(GIB),), Family.TAPE), tape_granted(WriteGranted, used))
    given = ReleasedMedium(used, size_written=GIB, extents_written=1, to_sync=True)
    client.ask(300, release(given), Released((used,), RequestKind.RELEASE_WRITE))
    client.leave(400)
    administrator.leave(401)
    played = play(read(trace))
    expect_well(played)
    assert played.replayed.sent == {"ReadAllocation": 1, "WriteAllocation": 1, "Release": 2, "Format": 1}
    assert played.replayed.dropped == 0
    stats = {id_.name: row.medium.stats for id_, row in played.content.media.items()}
    assert sum(figures.logc_spc_used for figures in stats.values()) == 2 * GIB
    assert {event.medium for event in heard(played, EventKind.LOADED)} == {"P00001L8", "P00002L8"}
    assert {event.device for event in heard(played, EventKind.DEVICE_ADDED)} == {"1013005381", "1014005381"}


def test_the_scenario_is_the_recorded_host(trace: TraceMaker, read: Callable[[TraceMaker], Workload]) -> None:
    all_sorts(trace)
    scenario = scenario_of(read(trace), 7)
    assert (scenario.seed, scenario.directories, scenario.drives, scenario.tapes) == (7, 2, 0, 0)
    assert (scenario.clients, scenario.requests) == (2, sum(ALL_SORTS.values()))
    assert scenario.settings.host == HOST
    assert scenario.hours * 3600 == pytest.approx(21)
    assert scenario.rates == {}


def test_the_trace_of_a_real_daemon_is_replayed(tmp_path: Path) -> None:
    async def record() -> None:
        async with serving(site, f"events.trace={tmp_path / 'trace'}") as running:
            async with running.connect() as caller:
                media = await caller.hold(MIB, copies=2)
                await caller.ask(release_of(*media, size=MIB), Released)
            running.count(*media, size=MIB)
            for _ in range(5):
                await running.write_cycle(size=10)

    with temporary_site(2) as site:
        trio.run(record)
    workload = read_workload(tmp_path / "trace")
    played = play(workload)
    expect_well(played)
    asked = Counter(
        type(asked.request.body).__name__ for conversation in workload.conversations for asked in conversation.asked
    )
    assert played.replayed.sent == asked
    assert asked["Release"] == 6
    assert played.replayed.dropped == 0
    stats = [row.medium.stats for row in played.content.media.values()]
    assert sum(figures.logc_spc_used for figures in stats) == 2 * MIB + 50
