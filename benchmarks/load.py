"""Clients as light as they can be: many connections in one thread, so that the daemon is what is measured.

Each client is a generator that sends requests and is resumed with their answers. Files are real.
"""

from __future__ import annotations

import errno
import selectors
import socket
from bisect import insort
from collections import Counter, defaultdict
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import cycle, pairwise, takewhile
from math import inf
from pathlib import Path
from random import Random
from time import monotonic
from typing import Final, TypeVar

from benchmarks.harness import LIBRARY, READ_SIZE
from lrs_trio.errors import ProtocolError
from lrs_trio.model import Family, RequestKind, ResourceId
from lrs_trio.wire.codec import decode_response, encode_request
from lrs_trio.wire.framing import FrameDecoder, encode_frame
from lrs_trio.wire.messages import (
    Failed,
    Ping,
    Pong,
    Release,
    Released,
    ReleasedMedium,
    Request,
    RequestBody,
    ResponseBody,
    WriteAllocation,
    WriteGranted,
    WriteMedium,
)

LARGEST_FILE: Final = 8 * 1024
CONTENT: Final = Random(0).randbytes(LARGEST_FILE)
MARK_BITS: Final = 60

T = TypeVar("T")
Script = Generator[None, ResponseBody, None]


@dataclass(frozen=True, slots=True)
class Order:
    """One file to be written."""

    number: int
    size: int
    copies: int


def orders(random: Random, *, copies: Iterable[int], start: int = 0) -> Iterator[Order]:
    """Files without end, numbered from `start`; `copies` is gone through again and again."""
    for number, count in enumerate(cycle(copies), start):
        yield Order(number, random.randrange(LARGEST_FILE + 1), count)


def until(ends: float, wanted: Iterator[T]) -> Iterator[T]:
    """What is `wanted` and taken before the monotonic time `ends`."""
    return takewhile(lambda _: monotonic() < ends, wanted)


@dataclass(frozen=True, slots=True, eq=False)
class Written:
    """A file that is on its media, and the release of it that was sent. `extents` is what it counted on each."""

    order: Order
    media: tuple[ResourceId, ...]
    paths: tuple[Path, ...]
    extents: tuple[int, ...]


@dataclass(slots=True)
class Ledger:
    """What the clients have seen. Times are seconds."""

    acknowledged: list[Written] = field(default_factory=list)
    unacknowledged: dict[Written, None] = field(default_factory=dict)
    """Releases that were sent and have no answer (yet)."""
    failures: Counter[tuple[RequestKind, int]] = field(default_factory=Counter)
    """Error answers, by the kind of the request and errno."""
    failed: list[Written] = field(default_factory=list)
    """Releases that were answered with an error."""
    problems: list[str] = field(default_factory=list)
    """What must not happen, whatever becomes of the daemon."""
    lost_connections: int = 0
    cycle_s: list[float] = field(default_factory=list)
    ended: list[float] = field(default_factory=list)
    """When each of these cycles ended, in monotonic time."""

    def longest_pause(self) -> float:
        """The longest time between the ends of two cycles."""
        return max((after - before for before, after in pairwise(self.ended)), default=0.0)

    def totals(self) -> dict[ResourceId, tuple[int, int]]:
        """Objects and bytes of the acknowledged releases, by medium."""
        return totals(self.acknowledged)


def totals(written: Iterable[Written]) -> dict[ResourceId, tuple[int, int]]:
    """Objects and bytes of `written`, by medium."""
    sums: dict[ResourceId, tuple[int, int]] = defaultdict(lambda: (0, 0))
    for file in written:
        for medium, extents in zip(file.media, file.extents, strict=True):
            objects, size = sums[medium]
            sums[medium] = objects + extents, size + file.order.size
    return sums


class Marks:
    """Gives each release under way on a medium a bit of its own to count as its extents.

    What a crash leaves in the medium's count, beyond what was acknowledged, then names the releases that
    were committed without an answer.
    """

    def __init__(self) -> None:
        self._free: dict[ResourceId, list[int]] = defaultdict(lambda: list(range(MARK_BITS)))

    def take(self, medium: ResourceId) -> int:
        # The lowest: the counts of a long run must stay below 63 bits.
        return 1 << self._free[medium].pop(0)

    def give_back(self, medium: ResourceId, mark: int) -> None:
        insort(self._free[medium], mark.bit_length() - 1)


class Client:
    """One connection and the script that runs on it."""

    def __init__(self, number: int, connection: socket.socket, ledger: Ledger, marks: Marks | None = None) -> None:
        self.number = number
        self.connection = connection
        self.ledger = ledger
        self.marks = marks
        self.decoder = FrameDecoder()
        self._serial = 0
        self._script: Script | None = None

    def __str__(self) -> str:
        return f"client {self.number}"

    def send(self, body: RequestBody) -> None:
        self._serial += 1
        self.connection.sendall(encode_frame(encode_request(Request(self._serial, body))))

    def start(self, script: Script) -> bool:
        """Run `script` to its first request; ``False`` if it has none."""
        self._script = script
        return next(script, script) is None

    def receive(self) -> bool:
        """Go on with what has arrived; ``False`` once the script has ended.

        Raises:
            ConnectionError: the daemon has closed the connection.
        """
        data = self.connection.recv(READ_SIZE)
        if not data:
            raise ConnectionResetError(errno.ECONNRESET, "closed by the daemon")
        for message in self.decoder.feed(data):
            self._answered(message)
        return self._script is not None

    def _answered(self, message: bytes) -> None:
        response = decode_response(message)
        if response.request_id != self._serial or self._script is None:
            self.ledger.problems.append(f"{self}: an answer that nobody waits for: {response}")
            return
        try:
            self._script.send(response.body)
        except StopIteration:
            self._script = None


def finishing(client: Client, script: Script) -> Script:
    """`script`, then a ping: answers keep their order, so one that came twice would come before the pong."""
    yield from script
    client.send(Ping())
    answer = yield
    if not isinstance(answer, Pong):
        client.ledger.problems.append(f"{client}: {answer} instead of the answer to a ping")


def write_all(client: Client, wanted: Iterator[Order]) -> Script:
    """Write cycle after write cycle, until there are no more orders or the daemon shuts down."""
    for order in wanted:
        shutting_down = yield from write_cycle(client, order)
        if shutting_down:
            return


def write_cycle(client: Client, order: Order) -> Generator[None, ResponseBody, bool]:
    """Allocate, write the file on each medium, release with sync; ``True`` if the daemon shuts down."""
    ledger = client.ledger
    begun = monotonic()
    client.send(WriteAllocation((WriteMedium(order.size),) * order.copies, Family.DIR, library=LIBRARY))
    answer = yield
    if not isinstance(answer, WriteGranted):
        return _refused(client, answer, RequestKind.WRITE)
    if len({medium.medium for medium in answer.media}) != order.copies:
        ledger.problems.append(f"{client}: {answer} for {order}")
    paths = tuple(Path(medium.root, f"{order.number:08}") for medium in answer.media)
    for path in paths:
        path.write_bytes(CONTENT[: order.size])
    media = tuple(medium.medium for medium in answer.media)
    marks = client.marks
    extents = tuple(1 if marks is None else marks.take(medium) for medium in media)
    written = Written(order, media, paths, extents)
    ledger.unacknowledged[written] = None
    client.send(
        Release(
            tuple(
                ReleasedMedium(medium, size_written=order.size, extents_written=count, to_sync=True)
                for medium, count in zip(media, extents, strict=True)
            ),
            RequestKind.RELEASE_WRITE,
        )
    )
    answer = yield
    ended = monotonic()
    del ledger.unacknowledged[written]
    if marks is not None:
        for medium, count in zip(media, extents, strict=True):
            marks.give_back(medium, count)
    if not isinstance(answer, Released):
        ledger.failed.append(written)
        return _refused(client, answer, RequestKind.RELEASE_WRITE)
    if answer.media != media:
        ledger.problems.append(f"{client}: {answer} for a release of {media}")
    ledger.acknowledged.append(written)
    ledger.cycle_s.append(ended - begun)
    ledger.ended.append(ended)
    return False


def _refused(client: Client, answer: ResponseBody, kind: RequestKind) -> bool:
    if not isinstance(answer, Failed) or answer.kind is not kind:
        client.ledger.problems.append(f"{client}: {answer} for a request of kind {kind.name}")
        return False
    client.ledger.failures[kind, -answer.rc] += 1
    return answer.rc == -errno.ESHUTDOWN


@dataclass(frozen=True, slots=True)
class Interruption:
    """Something to be done `after` so many seconds of the load, while it goes on."""

    after: float
    action: Callable[[], None]


def run_load(
    path: Path,
    ledger: Ledger,
    clients: int,
    script: Callable[[Client], Script],
    *,
    seconds: float,
    marks: Marks | None = None,
    interruptions: Iterable[Interruption] = (),
) -> float:
    """Connect `clients` and let each run its script; the seconds until the last of them has ended.

    A client ends with its script, or when the daemon closes its connection: the ledger counts those. One
    that has not ended in `seconds` is a problem in the ledger.
    """
    coming = sorted(interruptions, key=lambda interruption: interruption.after)
    with selectors.EpollSelector() as selector:
        begun = monotonic()
        for number in range(clients):
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            connection.connect(str(path))
            client = Client(number, connection, ledger, marks)
            selector.register(connection, selectors.EVENT_READ, client)
        for key in tuple(selector.get_map().values()):
            _step(selector, key.data, lambda client: client.start(script(client)))
        while selector.get_map():
            passed = monotonic() - begun
            while coming and coming[0].after <= passed:
                coming.pop(0).action()
            if passed >= seconds:
                break
            until = min(seconds, coming[0].after if coming else inf)
            for key, _ in selector.select(max(until - passed, 0)):
                _step(selector, key.data, Client.receive)
        passed = monotonic() - begun
        for key in tuple(selector.get_map().values()):
            ledger.problems.append(f"{key.data}: not at its end after {seconds:g} s")
            _leave(selector, key.data)
    return passed


def _step(selector: selectors.BaseSelector, client: Client, step: Callable[[Client], bool]) -> None:
    try:
        goes_on = step(client)
    except ConnectionError:
        client.ledger.lost_connections += 1
        goes_on = False
    except ProtocolError as error:
        client.ledger.problems.append(f"{client}: {error}")
        goes_on = False
    if not goes_on:
        _leave(selector, client)


def _leave(selector: selectors.BaseSelector, client: Client) -> None:
    selector.unregister(client.connection)
    client.connection.close()
