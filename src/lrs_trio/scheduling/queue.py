"""The order in which a family looks at its waiting requests (decision 2)."""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterator

from lrs_trio.model import RequestKind
from lrs_trio.scheduling.requests import PlaceableRequest

KINDS = (RequestKind.WRITE, RequestKind.READ, RequestKind.FORMAT)


class RequestQueue:
    """Three queues, one a kind, each by qos, priority and arrival; between the heads the earliest goes first."""

    def __init__(self) -> None:
        self._queues: dict[RequestKind, list[PlaceableRequest]] = {kind: [] for kind in KINDS}

    def __len__(self) -> int:
        return sum(map(len, self._queues.values()))

    def count(self, kind: RequestKind) -> int:
        return len(self._queues[kind])

    def add(self, request: PlaceableRequest) -> None:
        insort(self._queues[request.kind], request, key=_rank)

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


def _rank(request: PlaceableRequest) -> tuple[int, int, int]:
    return request.rank
