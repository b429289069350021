"""The order in which a family looks at its waiting requests (decision 2), and who waits for the same."""

from __future__ import annotations

from collections.abc import Collection, Container, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from lrs_trio.model import RequestKind, ResourceId
from lrs_trio.scheduling.ranked import Rank, Ranked
from lrs_trio.scheduling.requests import PlaceableRequest
from lrs_trio.wire.messages import ReadAllocation, WriteAllocation

MOST_LINES = 1 << 20
"""More than the lines in which one request stands."""

KINDS = (RequestKind.WRITE, RequestKind.READ, RequestKind.FORMAT)


@dataclass(frozen=True, slots=True)
class Demand:
    """What the media of a write have to be like; `parts` are tags and whether it is to be empty.

    Where a line is not looked at to its end, those behind are to be like those before: so sizes are told apart by
    their `magnitudes`, powers of two in bytes. Writes of one `client` that is not to have media on devices which it
    has already are kept apart from others.
    """

    library: str | None
    parts: tuple[tuple[tuple[str, ...], bool], ...]
    magnitudes: tuple[int, ...]
    client: object = None


@dataclass(slots=True, eq=False)
class Line:
    """Requests of one kind that wait for the same: for one medium, or for media of one kind to write on.

    What keeps the first one waiting keeps the others too, or nearly so. A read of several media stands in a line for
    each. `largest` are the bytes of each part that no write here has exceeded since the line began, `total` is the sum
    of all bytes that the writes here ask for.
    """

    kind: RequestKind
    wants: ResourceId | Demand
    requests: Ranked[PlaceableRequest] = field(default_factory=Ranked)
    head: Rank | None = None
    """Where the line stands among those of its kind."""
    place: Hashable = None
    """Where the medium is that it waits for."""
    largest: tuple[int, ...] = ()
    total: int = 0

    def add(self, rank: Rank, request: PlaceableRequest) -> None:
        self.requests.add(rank, request)
        if isinstance(request.body, WriteAllocation):
            sizes = sizes_of(request.body)
            self.total += sum(sizes)
            self.largest = tuple(map(max, self.largest, sizes)) if self.largest else sizes

    def discard(self, rank: Rank, request: PlaceableRequest) -> None:
        self.requests.discard(rank)
        if isinstance(request.body, WriteAllocation):
            self.total -= sum(sizes_of(request.body))


class RequestQueue:
    """Three queues, one a kind, each by qos, priority and arrival; between the heads the earliest goes first.

    Those of the kinds in `by_arrival` go by nothing else. If it `keeps_heads` the lines are kept in the order of their
    first requests as well, apart by the places of the media that they wait for.
    """

    def __init__(self, by_arrival: Container[RequestKind] = (), *, keeps_heads: bool = False) -> None:
        self._by_arrival = by_arrival
        self._queues: dict[RequestKind, Ranked[PlaceableRequest]] = {kind: Ranked() for kind in KINDS}
        self._ranks: dict[PlaceableRequest, Rank] = {}
        self._out_of_order = dict.fromkeys(KINDS, 0)
        """By kind: how many have a rank that is more than their arrival."""
        self.lines: dict[RequestKind, dict[ResourceId | Demand, Line]] = {kind: {} for kind in KINDS}
        """By kind, and by what they wait for."""
        self.heads: dict[RequestKind, dict[Hashable, Ranked[Line]]] = {kind: {} for kind in KINDS}
        """By kind and place: the lines in the order of their first requests, if that is kept."""
        self._keeps_heads = keeps_heads
        self.most_drives = 0
        """Nobody who waits needs more devices at once."""
        self._places: Mapping[ResourceId, Hashable] = {}
        self._doubtful: dict[Line, None] = {}

    def __len__(self) -> int:
        return len(self._ranks)

    def __contains__(self, request: object) -> bool:
        return request in self._ranks

    def count(self, kind: RequestKind) -> int:
        return len(self._queues[kind])

    def add(self, request: PlaceableRequest) -> None:
        """Let a request wait that does not wait here yet."""
        kind = request.kind
        rank = (0, 0, request.serial) if kind in self._by_arrival else request.rank
        self._ranks[request] = rank
        self._out_of_order[kind] += rank[0] != 0 or rank[1] != 0
        self._queues[kind].add(rank, request)
        required = _devices_for(request)
        self.most_drives = max(self.most_drives, required) if len(self) > 1 else required
        lines = self.lines[kind]
        for wanted in wants(request):
            line = lines.get(wanted)
            if line is None:
                line = lines[wanted] = Line(kind, wanted)
            line.add(rank, request)
            if self._keeps_heads:
                self._move(line)

    def discard(self, request: PlaceableRequest) -> None:
        rank = self._ranks.pop(request, None)
        if rank is None:
            return
        kind = request.kind
        self._out_of_order[kind] -= rank[0] != 0 or rank[1] != 0
        self._queues[kind].discard(rank)
        lines = self.lines[kind]
        for wanted in wants(request):
            line = lines[wanted]
            line.discard(rank, request)
            if self._keeps_heads:
                self._move(line)
            if not len(line.requests):
                del lines[wanted]

    def sort_by(self, places: Mapping[ResourceId, Hashable], moved: Iterable[ResourceId]) -> None:
        """Keep lines apart by the `places` of their media; those that have `moved` have another one than before.

        What is in none of the places, and what writes wait for, is at ``None``.
        """
        self._places = places
        if self._keeps_heads:
            for line in self._lines_of(moved):
                self._move(line)

    def next_line(
        self, kind: RequestKind, after: Rank | None, places: Iterable[Hashable] | None = None
    ) -> tuple[Rank, Line] | None:
        """The line of `kind` that stands next behind `after`, of those at `places` if these are given."""
        heads = self.heads[kind]
        found = (heads[place].first(after) for place in (heads if places is None else places))
        return min((one for one in found if one is not None), key=lambda one: one[0], default=None)

    def _move(self, line: Line) -> None:
        """Let `line` stand where its first request does now."""
        first = line.requests.first()
        head = None
        if first is not None:
            # One that is the first in several lines has a place in each of them.
            (qos, priority, serial), request = first
            head = qos, priority, serial * MOST_LINES + wants(request).index(line.wants)
        place = None if isinstance(line.wants, Demand) else self._places.get(line.wants)
        if (head, place) == (line.head, line.place):
            return
        heads = self.heads[line.kind]
        if line.head is not None:
            heads[line.place].discard(line.head)
            if not len(heads[line.place]):
                del heads[line.place]
        line.head, line.place = head, place
        if head is not None:
            heads.setdefault(place, Ranked()).add(head, line)

    def _lines_of(self, media: Iterable[ResourceId]) -> Iterator[Line]:
        for medium in media:
            for lines in self.lines.values():
                line = lines.get(medium)
                if line is not None:
                    yield line

    # Who may have to be refused.

    def doubt(self, media: Collection[ResourceId]) -> None:
        """Something about `media` is new: who waits for one of them, or for any to write on, may do so in vain."""
        if media:
            self._doubtful |= dict.fromkeys(self._lines_of(media))
            self._doubtful |= dict.fromkeys(self.lines[RequestKind.WRITE].values())

    def take_doubtful(self) -> dict[Line, None]:
        """The lines that have become doubtful since the last call."""
        doubtful, self._doubtful = self._doubtful, {}
        return doubtful

    def turn(self, kind: RequestKind, rank: Rank) -> int:
        """Compares one that waits with those of other kinds: the lower one goes first.

        Nobody goes before those of his own kind that are ranked higher, so the latest arrival of all these counts.
        """
        return self._queues[kind].latest_up_to(rank) if self._out_of_order[kind] else rank[2]

    def all_lines(self) -> list[Line]:
        return [line for lines in self.lines.values() for line in lines.values()]

    def in_order(self) -> Iterator[PlaceableRequest]:
        """Every request, as served if each one looked at were taken away. Changes meanwhile do not show."""
        rest = [iter(tuple(queue)) for queue in self._queues.values() if len(queue)]
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


def wants(request: PlaceableRequest) -> tuple[ResourceId | Demand, ...]:
    """The lines in which a request stands."""
    body = request.body
    if not isinstance(body, WriteAllocation):
        return request.media
    parts = tuple([(medium.tags, medium.empty_medium) for medium in body.media])
    magnitudes = tuple([medium.size.bit_length() for medium in body.media])
    return (Demand(body.library, parts, magnitudes, request.client if body.prevent_duplicate else None),)


def _devices_for(request: PlaceableRequest) -> int:
    body = request.body
    if isinstance(body, WriteAllocation):
        return len(body.media)
    return body.n_required if isinstance(body, ReadAllocation) else 1


def sizes_of(body: WriteAllocation) -> tuple[int, ...]:
    return tuple([medium.size for medium in body.media])
