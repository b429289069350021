"""The order in which a family looks at its waiting requests (decision 2)."""

from __future__ import annotations

from bisect import insort
from collections.abc import Container, Iterator

from lrs_trio.model import RequestKind
from lrs_trio.scheduling.requests import PlaceableRequest

KINDS = (RequestKind.WRITE, RequestKind.READ, RequestKind.FORMAT)


class RequestQueue:
    """Three queues, one a kind, each by qos, priority and arrival; between the heads the earliest goes first.

    Those of the kinds in `by_arrival` go by nothing else.
    """

    def __init__(self, by_arrival: Container[RequestKind] = ()) -> None:
        self._by_arrival = by_arrival
        self._queues: dict[RequestKind, list[PlaceableRequest]] = {kind: [] for kind in KINDS}

    def __len__(self) -> int:
        return sum(map(len, self._queues.values()))

    def count(self, kind: RequestKind) -> int:
        return len(self._queues[kind])

    def add(self, request: PlaceableRequest) -> None:
        key = _arrival if request.kind in self._by_arrival else _rank
        insort(self._queues[request.kind], request, key=key)

    def discard(self, request: PlaceableRequest) -> None:
        queue = self._queues.get(request.kind, [])
        if request in queue:
            queue.remove(request)

    def in_order(self) -> Iterator[PlaceableRequest]:
        """Every request, as served if each one looked at were taken away. Changes meanwhile do not show."""
        rest = [iter(tuple(queue)) for queue in self._queues.values() if queue]
        heads = [(next(queue), queue) for queue in rest]
        while heads:
            position = min(range(len(heads)), key=lambda i: heads[i][0].serial)
            request, queue = heads[position]
            yield request
            following = next(queue, None)
            if following is None:
                del heads[position]
            else:
                heads[position] = following, queue


def _arrival(request: PlaceableRequest) -> int:
    return request.serial


def _rank(request: PlaceableRequest) -> tuple[int, int, int]:
    return request.rank
