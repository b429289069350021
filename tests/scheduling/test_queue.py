"""The order in which waiting requests are looked at."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrs_trio.model import Family, FsType, RequestKind, SyncThresholds
from lrs_trio.scheduling.client import Client
from lrs_trio.scheduling.queue import RequestQueue
from lrs_trio.scheduling.requests import Allocation, FormatRequest, PlaceableRequest
from lrs_trio.wire.messages import Format, ReadAllocation, Request, RequestBody, WriteAllocation, WriteMedium
from tests.fakes.outbox import RecordingOutbox
from tests.fakes.site import medium_id

W, R, F = RequestKind.WRITE, RequestKind.READ, RequestKind.FORMAT
BODIES: dict[RequestKind, RequestBody] = {
    W: WriteAllocation((WriteMedium(1),), Family.DIR),
    R: ReadAllocation(1, (medium_id("/srv/a"),)),
    F: Format(medium_id("/srv/a"), FsType.POSIX),
}
CLIENT = Client(1, RecordingOutbox(), pid=1, uid=1)


def make(kind: RequestKind, serial: int, qos: int | None = None, priority: int | None = None) -> PlaceableRequest:
    request = Request(0, BODIES[kind], qos, priority)
    if isinstance(request.body, Format):
        return FormatRequest(CLIENT, request, request.body, serial, 0.0)
    assert isinstance(request.body, WriteAllocation | ReadAllocation)
    return Allocation(CLIENT, request, request.body, serial, 0.0, SyncThresholds(1, 1, 1))


def order(*requests: PlaceableRequest, by_arrival: frozenset[RequestKind] = frozenset()) -> list[int]:
    queue = RequestQueue(by_arrival)
    for request in requests:
        queue.add(request)
    return [request.serial for request in queue.in_order()]


def test_qos_goes_before_priority_and_priority_before_arrival() -> None:
    assert order(make(W, 1), make(W, 2, 0, 7), make(W, 3, 1, -9), make(W, 4), make(W, 5, None, 7)) == [3, 2, 5, 1, 4]


def test_kinds_that_go_by_arrival_do_so_whatever_is_asked() -> None:
    asked = make(R, 1), make(R, 2, 5, 7), make(R, 3, 0, 7), make(W, 4), make(W, 5, 1)
    assert order(*asked, by_arrival=frozenset({R})) == [1, 2, 3, 5, 4]
    # Also one that comes back later, to be placed anew.
    assert order(*reversed(asked), by_arrival=frozenset({R})) == [1, 2, 3, 5, 4]


def test_between_the_kinds_the_head_that_came_first_goes_first() -> None:
    assert order(make(R, 1, priority=-(10**15)), make(W, 2), make(F, 3), make(R, 4), make(W, 5)) == [2, 3, 4, 1, 5]


def test_large_negative_priorities_starve_no_kind() -> None:
    reads = [make(R, serial, priority=-(10**15) - serial) for serial in range(1, 11)]
    writes = [make(W, serial) for serial in range(11, 21)]
    assert order(*writes, *reads)[:10] == list(range(1, 11))


def test_discarding_takes_out_one_and_forgives_strangers() -> None:
    queue = RequestQueue()
    first, second = make(W, 1), make(W, 2)
    queue.add(first)
    queue.add(second)
    queue.discard(first)
    queue.discard(make(R, 3))
    queue.discard(first)
    assert (len(queue), queue.count(W), list(queue.in_order())) == (1, 1, [second])


def test_doubts_are_about_those_who_wait_for_a_medium_and_about_all_writes() -> None:
    queue = RequestQueue()
    for kind in (W, R, F):
        queue.add(make(kind, int(kind)))
    queue.doubt([])
    assert queue.take_doubtful() == {}
    queue.doubt([medium_id("/srv/b")])
    assert [line.kind for line in queue.take_doubtful()] == [W]
    queue.doubt([medium_id("/srv/b"), medium_id("/srv/a")])
    queue.doubt([medium_id("/srv/a")])
    assert sorted(line.kind for line in queue.take_doubtful()) == [W, R, F]
    assert queue.take_doubtful() == {}


def test_as_many_drives_are_needed_as_one_needs_at_once() -> None:
    queue, several = RequestQueue(), ReadAllocation(2, tuple(map(medium_id, ("/srv/a", "/srv/b", "/srv/c"))))
    first = Allocation(CLIENT, Request(0, several), several, 1, 0.0, SyncThresholds(1, 1, 1))
    queue.add(make(R, 2))
    assert queue.most_drives == 1
    queue.add(first)
    queue.add(make(F, 3))
    assert queue.most_drives == 2
    for request in tuple(queue.in_order()):
        queue.discard(request)
    queue.add(make(W, 4))
    assert queue.most_drives == 1


def test_changes_during_a_pass_do_not_show() -> None:
    queue = RequestQueue()
    for serial in range(4):
        queue.add(make(W, serial))
    seen = []
    for request in queue.in_order():
        seen.append(request.serial)
        queue.discard(request)
        queue.add(make(W, 10 + request.serial, priority=99))
    assert seen == [0, 1, 2, 3]


@pytest.mark.note("10.2")
@given(
    st.lists(
        st.tuples(st.sampled_from([W, R, F]), st.none() | st.integers(-3, 3), st.none() | st.integers(-3, 3)),
        max_size=30,
    )
)
def test_the_order_is_that_of_taking_the_earliest_best_head_each_time(
    drawn: list[tuple[RequestKind, int | None, int | None]],
) -> None:
    requests = [make(kind, serial, qos, priority) for serial, (kind, qos, priority) in enumerate(drawn)]
    left, expected = list(requests), []
    while left:
        heads = []
        for kind in (W, R, F):
            same = [request for request in left if request.kind is kind]
            if same:
                heads.append(max(same, key=lambda r: (r.request.qos or 0, r.request.priority or 0, -r.serial)))
        first = min(heads, key=lambda request: request.serial)
        expected.append(first.serial)
        left.remove(first)
    assert order(*requests) == expected
