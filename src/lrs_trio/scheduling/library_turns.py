"""Who is looked at in a pass over drives and shelves, and in which order (decision 2).

That is the order of the queue, less those that can get nothing. They are left out by whole lines: as many drives there
are, as many lines may have to be passed over, however long they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from heapq import heappop, heappush, merge

from lrs_trio.model import RequestKind
from lrs_trio.scheduling.queue import KINDS, MOST_LINES, Line, RequestQueue
from lrs_trio.scheduling.ranked import Rank
from lrs_trio.scheduling.requests import PlaceableRequest

Ahead = Callable[[RequestKind, Rank | None], tuple[Rank, Line] | None]
"""Finds the line of a kind that stands next behind a rank and could be open, with the rank at which it stands."""

_Turn = tuple[int, int, Line, PlaceableRequest]


def turns(
    queue: RequestQueue, is_open: Callable[[Line], bool], gives: Callable[[], bool], ahead: Ahead
) -> Iterator[tuple[Line, PlaceableRequest]]:
    """Those in `queue` whose line `is_open`, each with that line, as long as anything `gives`.

    `ahead` may leave out lines that are not open. One that is not open is not asked again. A request that stands in
    several lines may come several times.
    """
    for _, _, line, request in merge(
        *(_of_kind(queue, kind, number, is_open, gives, ahead) for number, kind in enumerate(KINDS))
    ):
        if request in queue and is_open(line):
            yield line, request


def _of_kind(
    queue: RequestQueue,
    kind: RequestKind,
    number: int,
    is_open: Callable[[Line], bool],
    gives: Callable[[], bool],
    ahead: Ahead,
) -> Iterator[_Turn]:
    begun: dict[Line, None] = {}
    heap: list[tuple[Rank, int, Line, PlaceableRequest]] = []
    latest = 0
    following = ahead(kind, None)
    while gives() and (heap or following is not None):
        # Lines join once it is the turn of their first requests.
        while following is not None and (not heap or _rank_of(following[0]) <= heap[0][0]):
            head, line = following
            if line not in begun:
                begun[line] = None
                first = line.requests.first()
                if first is not None and is_open(line):
                    heappush(heap, (first[0], len(begun), line, first[1]))
            following = ahead(kind, head)
        if not heap:
            return
        rank, position, line, request = heappop(heap)
        latest = max(queue.turn(kind, rank), latest)
        yield latest, number, line, request
        if is_open(line):
            behind = line.requests.first(rank)
            if behind is not None:
                heappush(heap, (behind[0], position, line, behind[1]))


def _rank_of(head: Rank) -> Rank:
    """The rank of the first request of a line that stands at `head`."""
    return head[0], head[1], head[2] // MOST_LINES
