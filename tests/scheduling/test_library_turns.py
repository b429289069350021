"""Who is looked at in a pass over drives and shelves: the order of the queue, less whole lines."""

from __future__ import annotations

from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st

from lrs_trio.model import Family, FsType, RequestKind, ResourceId, SyncThresholds
from lrs_trio.scheduling.client import Client
from lrs_trio.scheduling.library_turns import turns
from lrs_trio.scheduling.queue import Line, RequestQueue
from lrs_trio.scheduling.requests import Allocation, FormatRequest, PlaceableRequest
from lrs_trio.wire.messages import Format, ReadAllocation, Request, WriteAllocation, WriteMedium
from tests.fakes.outbox import RecordingOutbox
from tests.fakes.stock import tape_id

CLIENT = Client(1, RecordingOutbox(lambda: 0.0), pid=1, uid=1)

names = st.sampled_from("abcd")
bodies = st.one_of(
    st.builds(lambda tag: WriteAllocation((WriteMedium(1, tag),), Family.TAPE), st.sampled_from([(), ("x",)])),
    st.builds(
        lambda named: ReadAllocation(1, tuple(map(tape_id, named))),
        st.lists(names, unique=True, min_size=1, max_size=3),
    ),
    st.builds(lambda name: Format(tape_id(name), FsType.LTFS), names),
)
asked = st.lists(st.tuples(bodies, st.sampled_from([0, 0, 1]), st.sampled_from([0, 0, -3, 5])), max_size=12)


def queue_of(drawn: list[tuple[WriteAllocation | ReadAllocation | Format, int, int]]) -> RequestQueue:
    queue = RequestQueue(keeps_heads=True)
    for serial, (body, qos, priority) in enumerate(drawn, 1):
        request = Request(serial, body, qos, priority)
        made: PlaceableRequest
        if isinstance(body, Format):
            made = FormatRequest(CLIENT, request, body, serial, 0.0)
        else:
            made = Allocation(CLIENT, request, body, serial, 0.0, SyncThresholds(1, 1, 1))
        queue.add(made)
    return queue


def once(found: Iterator[tuple[Line, PlaceableRequest]]) -> list[int]:
    return list(dict.fromkeys(request.serial for _, request in found))


@given(asked)
def test_law_if_all_is_open_the_order_is_that_of_the_queue(
    drawn: list[tuple[WriteAllocation | ReadAllocation | Format, int, int]],
) -> None:
    queue = queue_of(drawn)
    expected = [request.serial for request in queue.in_order()]
    assert once(turns(queue, lambda line: True, lambda: True, queue.next_line)) == expected


@given(asked, st.sets(st.sampled_from("abcd")))
def test_law_who_stands_in_no_open_line_is_left_out_and_the_others_keep_their_order(
    drawn: list[tuple[WriteAllocation | ReadAllocation | Format, int, int]], closed: set[str]
) -> None:
    queue = queue_of(drawn)

    def is_open(line: Line) -> bool:
        return line.kind is RequestKind.WRITE or line.wants not in {tape_id(name) for name in closed}

    def has_open_line(request: PlaceableRequest) -> bool:
        return request.kind is RequestKind.WRITE or any(medium.name not in closed for medium in request.media)

    expected = [request.serial for request in queue.in_order() if has_open_line(request)]
    assert once(turns(queue, is_open, lambda: True, queue.next_line)) == expected


@given(asked, st.randoms(use_true_random=False))
def test_law_those_behind_are_found_when_others_are_taken_out_meanwhile(
    drawn: list[tuple[WriteAllocation | ReadAllocation | Format, int, int]], random: object
) -> None:
    queue = queue_of(drawn)
    expected = [request.serial for request in queue.in_order()]
    seen = []
    for _, request in turns(queue, lambda line: True, lambda: True, queue.next_line):
        seen.append(request.serial)
        queue.discard(request)
    assert seen == expected
    assert (len(queue), queue.all_lines(), [len(heads) for heads in queue.heads.values()]) == (0, [], [0, 0, 0])


@given(asked, st.dictionaries(st.sampled_from("abcd"), st.sampled_from(["here", "there"])), st.data())
def test_law_lines_stand_in_the_same_order_wherever_their_media_are(
    drawn: list[tuple[WriteAllocation | ReadAllocation | Format, int, int]], places: dict[str, str], data: st.DataObject
) -> None:
    queue, plain = queue_of(drawn), queue_of(drawn)
    for chosen in (places, dict.fromkeys(data.draw(st.sets(st.sampled_from("abcd"))), "there")):
        queue.sort_by({tape_id(name): place for name, place in chosen.items()}, [tape_id(name) for name in "abcd"])
        expected = once(turns(plain, lambda line: True, lambda: True, plain.next_line))
        assert once(turns(queue, lambda line: True, lambda: True, queue.next_line)) == expected
        for kind in RequestKind.READ, RequestKind.FORMAT:
            for place, lines in queue.heads[kind].items():
                assert {chosen.get(line.wants.name) for line in lines if isinstance(line.wants, ResourceId)} == {place}


def test_nothing_more_is_looked_at_once_there_is_nothing_to_give() -> None:
    queue = queue_of([(ReadAllocation(1, (tape_id("a"),)), 0, 0)] * 5)
    given: list[int] = []
    for _, request in turns(queue, lambda line: True, lambda: len(given) < 2, queue.next_line):
        given.append(request.serial)
    assert given == [1, 2]
