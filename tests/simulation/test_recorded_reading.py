"""From a trace to the workload that it tells."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from lrs_trio.errors import LrsError
from lrs_trio.model import Family, FsType, NotifyOperation, RequestKind, ResourceId
from lrs_trio.observe.inventory import Inventory
from lrs_trio.simulation.replay.recorded import Answer, Asked, Held, Place, Workload
from lrs_trio.simulation.replay.recorded_reading import read_workload
from lrs_trio.wire.messages import (
    Failed,
    Format,
    Formatted,
    Notified,
    Notify,
    Ping,
    Pong,
    ReadAllocation,
    Release,
    Released,
    ReleasedMedium,
    Request,
    RequestBody,
    Response,
    ResponseBody,
    WriteAllocation,
    WriteMedium,
)
from tests.simulation.traces import (
    LIBRARY,
    RECORDED_HOST,
    TraceMaker,
    device_of,
    directory,
    inventory_of,
    medium_of,
    read_granted,
    write_granted,
)

A, B = "/data/a", "/data/b"
WRITE = WriteAllocation((WriteMedium(10),), Family.DIR)


def release(*paths: str, kind: RequestKind = RequestKind.RELEASE_WRITE, partial: bool = False) -> Release:
    media = tuple(ReleasedMedium(directory(path), size_written=10, extents_written=1, to_sync=True) for path in paths)
    return Release(media, kind, partial)


def released(*paths: str) -> Released:
    return Released(tuple(map(directory, paths)), RequestKind.RELEASE_WRITE)


def read(tmp_path: Path, trace: TraceMaker) -> Workload:
    return read_workload(trace.write_to(tmp_path / "trace"))


def talk(tmp_path: Path, *messages: RequestBody | ResponseBody, ids: tuple[int, ...] = ()) -> tuple[Asked, ...]:
    """What is read of one connection with these messages, one a second; their `ids` are all 1 by default."""
    trace = TraceMaker(inventory_of(A, B))
    trace.opened(0, 1)
    for time, (body, id_) in enumerate(zip(messages, ids or (1,) * len(messages), strict=True), start=1):
        message = Request(id_, body) if isinstance(body, RequestBody) else Response(id_, body)
        trace.passed(time, 1, message)
    (conversation,) = read(tmp_path, trace).conversations
    return conversation.asked


def test_connections_have_their_times_and_requests(tmp_path: Path) -> None:
    trace = TraceMaker(inventory_of(A, B))
    trace.opened(1, 3)
    trace.opened(2, 4)
    trace.passed(2.5, 3, Request(7, WRITE, 1, 2))
    trace.passed(3, 4, Request(7, Ping()))
    trace.passed(3.5, 4, Response(7, Pong()))
    trace.closed(4, 4)
    trace.passed(5, 3, Response(7, write_granted(A)))
    workload = read(tmp_path, trace)
    first, second = workload.conversations
    assert (first.number, first.opened, first.closed) == (3, 1, None)
    assert first.asked == (Asked(2.5, Request(7, WRITE, 1, 2), Answer(5, write_granted(A))),)
    assert (second.number, second.opened, second.closed) == (4, 2, 4)
    assert second.asked == (Asked(3, Request(7, Ping()), Answer(3.5, Pong())),)
    assert (workload.requests, workload.seconds) == (2, 5)


def test_what_was_there_is_read(tmp_path: Path) -> None:
    inventory = inventory_of(A, B)
    read_back = read(tmp_path, TraceMaker(inventory)).inventory
    assert (read_back.devices, read_back.media) == (inventory.devices, inventory.media)
    assert read_back.settings.families == inventory.settings.families


def test_a_release_knows_its_grants(tmp_path: Path) -> None:
    _, _, give_back = talk(
        tmp_path,
        WRITE,
        write_granted(A),
        WRITE,
        write_granted(B),
        release(B, A),
        released(B, A),
        ids=(1, 1, 2, 2, 3, 3),
    )
    assert give_back.gives_back == (Held(1, 0), Held(0, 0))


def test_two_grants_on_one_medium_are_given_back_oldest_first(tmp_path: Path) -> None:
    *_, first, second = talk(
        tmp_path, WRITE, write_granted(A), WRITE, write_granted(A), release(A), release(A), ids=(1, 1, 2, 2, 3, 4)
    )
    assert (first.gives_back, second.gives_back) == ((Held(0, 0),), (Held(1, 0),))


def test_one_release_gives_two_grants_on_one_medium_back(tmp_path: Path) -> None:
    *_, both = talk(tmp_path, WRITE, write_granted(A), WRITE, write_granted(A), release(A, A), ids=(1, 1, 2, 2, 3))
    assert both.gives_back == (Held(0, 0), Held(1, 0))


def test_a_grant_of_the_same_kind_goes_first(tmp_path: Path) -> None:
    wanted = ReadAllocation(1, (directory(A),))
    *_, give_back = talk(
        tmp_path, WRITE, write_granted(A), wanted, read_granted(A), release(A, kind=RequestKind.RELEASE_READ)
    )
    assert give_back.gives_back == (Held(1, 0),)


def test_a_partial_release_keeps_what_it_names(tmp_path: Path) -> None:
    *_, partial, last, twice = talk(
        tmp_path, WRITE, write_granted(A), release(A, partial=True), released(A), release(A), released(A), release(A)
    )
    assert [asked.gives_back for asked in (partial, last, twice)] == [(Held(0, 0),), (Held(0, 0),), (None,)]


def test_requests_with_one_id_are_answered_in_order_and_by_kind(tmp_path: Path) -> None:
    asked = talk(
        tmp_path,
        WRITE,
        Ping(),
        WRITE,
        Pong(True),
        write_granted(A),
        write_granted(B),
    )
    assert [one.answer for one in asked] == [
        Answer(5, write_granted(A)),
        Answer(4, Pong(True)),
        Answer(6, write_granted(B)),
    ]


def test_an_error_is_for_what_it_says(tmp_path: Path) -> None:
    refused, failed = Failed(-28, RequestKind.WRITE), Failed(-5, RequestKind.RELEASE_WRITE)
    *_, again, give_back = talk(tmp_path, WRITE, write_granted(A), WRITE, release(A), failed, refused)
    assert again.answer == Answer(6, refused)
    assert give_back.answer == Answer(5, failed)


def test_what_is_never_answered_gets_no_answer(tmp_path: Path) -> None:
    notify = Notify(directory(A), NotifyOperation.MEDIA_UPDATE, wait=False)
    waiting = Notify(directory(A), NotifyOperation.MEDIA_UPDATE)
    asked = talk(tmp_path, notify, waiting, Notified(directory(A)))
    assert [one.answer for one in asked] == [None, Answer(3, Notified(directory(A)))]


def test_an_answer_to_nothing_is_left_out(tmp_path: Path) -> None:
    assert talk(tmp_path, Ping(), Formatted(directory(A)), Pong()) == (Asked(1, Request(1, Ping()), Answer(3, Pong())),)


def test_bytes_that_are_no_request_are_left_out(tmp_path: Path) -> None:
    trace = TraceMaker(inventory_of(A))
    trace.passed(1, 1, b"\xff", Request(2, Ping()))
    (conversation,) = read(tmp_path, trace).conversations
    assert [asked.request.id for asked in conversation.asked] == [2]


def test_who_got_what_was_formatted_before_knows_it(tmp_path: Path) -> None:
    trace = TraceMaker(inventory_of(A, B))
    trace.passed(1, 1, Request(1, WRITE))
    trace.passed(2, 2, Request(1, Ping()), Response(1, Pong()), Request(2, Format(directory(A), FsType.POSIX)))
    trace.passed(3, 2, Response(2, Formatted(directory(A))))
    trace.passed(4, 1, Response(1, write_granted(A)))
    trace.passed(5, 1, Request(2, WRITE), Request(3, WRITE))
    trace.passed(6, 1, Response(2, write_granted(B)), Response(3, write_granted(A)))
    first, _ = read(tmp_path, trace).conversations
    assert [asked.formats for asked in first.asked] == [(), (), (Place(2, 1),)]


def test_what_was_added_later_is_there(tmp_path: Path) -> None:
    trace = TraceMaker(inventory_of(A))
    trace.passed(1, 1, Request(1, Ping()))
    for resource in (device_of(B), medium_of(B)):
        trace.added(2, resource)
    inventory = read(tmp_path, trace).inventory
    assert inventory.devices == (device_of(A), device_of(B))
    assert inventory.media == (medium_of(A), medium_of(B))


def test_another_host_has_other_devices(tmp_path: Path) -> None:
    trace = TraceMaker(inventory_of(A))
    lock = Notify(device_of(A).id, NotifyOperation.DEVICE_LOCK)
    update = Notify(directory(A), NotifyOperation.MEDIA_UPDATE)
    drive = Notify(ResourceId(Family.TAPE, f"{RECORDED_HOST}:x", LIBRARY), NotifyOperation.DEVICE_LOCK)
    trace.passed(1, 1, *(Request(1, body) for body in (lock, update, drive, WRITE)))
    moved = read(tmp_path, trace).on_host("store1")
    assert moved.inventory.settings.host == "store1"
    assert moved.inventory.devices == (device_of(A, "store1"),)
    (conversation,) = moved.conversations
    assert [asked.request.body for asked in conversation.asked] == [
        Notify(device_of(A, "store1").id, NotifyOperation.DEVICE_LOCK),
        update,
        drive,
        WRITE,
    ]


def test_a_trace_without_inventory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LrsError, match="has no inventory"):
        read(tmp_path, TraceMaker())


def test_damaged_lines_are_refused(tmp_path: Path) -> None:
    trace = TraceMaker(inventory_of(A))
    trace.opened(1, 1)
    path = trace.write_to(tmp_path / "trace")
    damaged = gzip.decompress(path.read_bytes()).replace(b'"serial":1', b'"serial":"x"')
    path.write_bytes(gzip.compress(damaged))
    with pytest.raises(LrsError, match="line 5 is damaged"):
        read_workload(path)


def test_an_empty_trace_is_an_empty_workload(tmp_path: Path) -> None:
    workload = read(tmp_path, TraceMaker(Inventory(inventory_of().settings, (), ())))
    assert (workload.conversations, workload.requests) == ((), 0)
