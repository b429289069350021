"""What hostile and unlucky clients do. Each attack is the work of one process, in rounds."""

from __future__ import annotations

import errno
import select
import socket
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from itertools import cycle
from time import monotonic, sleep
from typing import Final

from benchmarks.hostile.processes import Findings, Pipe, rounds
from benchmarks.hostile.site import HONEST_TAG, OTHER_TAG, write
from lrs_trio.model import RequestKind, ResourceId
from lrs_trio.wire.codec import decode_response, encode_request
from lrs_trio.wire.framing import FrameDecoder, encode_frame
from lrs_trio.wire.messages import (
    Failed,
    Ping,
    ReadAllocation,
    ReadGranted,
    Release,
    ReleasedMedium,
    Request,
    RequestBody,
    Response,
    Stat,
    Status,
    WriteGranted,
)

READ_SIZE: Final = 64 * 1024
LOOK_AGAIN_S: Final = 0.05
"""How long an attack waits at most before it looks whether it is over. Seconds."""

CONNECTIONS: Final = 4
"""Of one process."""

REPORTERS: Final = 64
"""The same, of those that wait for reports."""

BURST: Final = 500
HIGHEST: Final = 2**63 - 1
OUTSTANDING: Final = 100_000
"""Requests that one client tries to have unanswered."""

HELD: Final = 12
"""Grants that are held for ever, of the slots that the media with that tag have."""


def framed(body: RequestBody, *, id: int = 1, rank: int | None = None) -> bytes:
    """The frame of a request, whose qos and priority are `rank`."""
    return encode_frame(encode_request(Request(id, body, rank, rank)))


class Hostile:
    """One connection that sends without waiting, and counts what it gets."""

    def __init__(self, path: str, seen: Findings) -> None:
        self.seen = seen
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(path)
        self._socket.setblocking(False)
        self._decoder = FrameDecoder()
        self._unsent = b""

    @property
    def is_idle(self) -> bool:
        """Whether the daemon has taken everything."""
        return not self._unsent

    def fileno(self) -> int:
        return self._socket.fileno()

    def send(self, data: bytes) -> None:
        """Send as much as the daemon takes; the rest goes with the next call."""
        self._unsent += data
        with suppress(BlockingIOError):
            self._unsent = self._unsent[self._socket.send(self._unsent) :]

    def receive(self) -> Iterator[Response]:
        """What has come, counted.

        Raises:
            ConnectionError: the daemon has closed the connection.
        """
        try:
            data = self._socket.recv(READ_SIZE)
        except BlockingIOError:
            return
        if not data:
            raise ConnectionResetError(errno.ECONNRESET, "closed by the daemon")
        for message in self._decoder.feed(data):
            answer = decode_response(message)
            self.seen[outcome(answer)] += 1
            yield answer

    def discard(self) -> None:
        """Count the bytes that have come, and do not look at them."""
        with suppress(BlockingIOError):
            self.seen["bytes"] += len(self._socket.recv(READ_SIZE))

    def receive_byte(self) -> int:
        """Read one byte; how many there were."""
        try:
            return len(self._socket.recv(1))
        except BlockingIOError:
            return 0

    def close(self) -> None:
        self._socket.close()


def outcome(answer: Response) -> str:
    """What kind of an answer it is, in a word."""
    body = answer.body
    return errno.errorcode.get(-body.rc, str(body.rc)) if isinstance(body, Failed) else type(body).__name__.lower()


@dataclass(slots=True)
class Scene:
    """Where an attack takes place, and what it has seen."""

    path: str
    media: tuple[ResourceId, ...]
    """Those that are not the honest client's."""
    pipe: Pipe
    seen: Findings = field(default_factory=Counter)

    @property
    def is_over(self) -> bool:
        return self.pipe.poll()

    def connections(self, stack: ExitStack, count: int = CONNECTIONS) -> list[Hostile]:
        """Open until `stack` is closed."""
        made = [Hostile(self.path, self.seen) for _ in range(count)]
        for connection in made:
            stack.callback(connection.close)
        return made


Attack = Callable[[Scene], None]


def run(attack: Attack, path: str, media: tuple[ResourceId, ...], pipe: Pipe) -> None:
    """The work of the process of an attack."""
    scene = Scene(path, media, pipe)
    for _ in rounds(pipe):
        try:
            attack(scene)
        except OSError as error:
            scene.seen[f"ended by {errno.errorcode.get(error.errno or 0, str(error))}"] += 1
    pipe.send(scene.seen)


def flood_with_pings(scene: Scene) -> None:
    """Pings without waiting for pongs, as fast as the daemon takes them."""
    burst = framed(Ping()) * BURST
    with ExitStack() as stack:
        connections = scene.connections(stack)
        while not scene.is_over:
            _wait(connections)
            for connection in connections:
                connection.discard()
                if connection.is_idle:
                    scene.seen["pings"] += BURST
                connection.send(burst if connection.is_idle else b"")


def flood_with_allocations(scene: Scene) -> None:
    """Writes without waiting for grants, as fast as the daemon takes them; each grant is given back at once."""
    _allocate(scene, None)


def abuse_priorities(scene: Scene) -> None:
    """The same with the highest qos and priority there are, and on the honest client's media."""
    _allocate(scene, HIGHEST)


def _allocate(scene: Scene, rank: int | None) -> None:
    tag = OTHER_TAG if rank is None else HONEST_TAG
    burst = framed(write(tag), rank=rank) * BURST
    with ExitStack() as stack:
        connections = scene.connections(stack)
        while not scene.is_over:
            _wait(connections)
            for connection in connections:
                connection.send(b"".join(map(_given_back, connection.receive())))
                if connection.is_idle:
                    connection.send(burst)
                    scene.seen["allocations"] += BURST


def _given_back(answer: Response) -> bytes:
    """The release of what was granted, which has no answer."""
    if not isinstance(answer.body, WriteGranted | ReadGranted):
        return b""
    media = tuple(ReleasedMedium(medium.medium) for medium in answer.body.media)
    return framed(Release(media, RequestKind.RELEASE_WRITE))


def never_read(scene: Scene) -> None:
    """Ask for reports until the daemon takes no more, and read none; again when it has had enough of that."""
    question = framed(Status()) * BURST
    while not scene.is_over:
        with ExitStack() as stack:
            connections = scene.connections(stack, 4 * CONNECTIONS)
            scene.seen["connections"] += len(connections)
            with suppress(ConnectionError):
                while not scene.is_over:
                    for connection in connections:
                        connection.send(question if connection.is_idle else b"")
                    sleep(0.01)


def read_slowly(scene: Scene) -> None:
    """The same, but read one byte a second."""
    question = framed(Status()) * BURST
    with ExitStack() as stack:
        connections = scene.connections(stack, 4 * CONNECTIONS)
        next_byte = monotonic()
        while not scene.is_over:
            for connection in connections:
                connection.send(question if connection.is_idle else b"")
            if monotonic() >= next_byte:
                next_byte += 1
                for connection in connections:
                    scene.seen["bytes"] += connection.receive_byte()
            sleep(0.01)


def come_and_go(scene: Scene) -> None:
    """Connect and leave as fast as possible: without a word, in the middle of one, and with a question unanswered."""
    said = b"", framed(Ping())[:3], framed(Ping())
    while not scene.is_over:
        for words in said:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.connect(scene.path)
                connection.sendall(words)
            scene.seen["connections"] += 1


def use_up_descriptors(scene: Scene) -> None:
    """Connect until nobody can any more, keep what there is, and go on trying."""
    with ExitStack() as stack:
        while not scene.is_over:
            connection = stack.enter_context(socket.socket(socket.AF_UNIX))
            connection.connect(scene.path)
            try:
                connection.sendall(framed(Ping()))
                is_served = connection.recv(100) != b""
            except ConnectionError:
                is_served = False
            scene.seen["served" if is_served else "closed"] += 1
            if not is_served:
                connection.close()


def have_much_outstanding(scene: Scene) -> None:
    """Take all slots of a medium, and ask for it again and again on one connection."""
    (medium, *_) = scene.media
    read = framed(ReadAllocation(1, (medium,)))
    with ExitStack() as stack:
        holder, greedy = scene.connections(stack, 2)
        holder.send(read * 100)
        sleep(0.2)
        for _ in range(OUTSTANDING // BURST):
            greedy.send(read * BURST)
            while not (greedy.is_idle or scene.is_over):
                _wait([greedy])
                _count(greedy)
                greedy.send(b"")
            scene.seen["asked"] += BURST
        while not scene.is_over:
            _count(greedy)
            sleep(0.01)


def hold_for_ever(scene: Scene) -> None:
    """Take grants on the honest client's media and give none of them back."""
    with ExitStack() as stack:
        (connection,) = scene.connections(stack, 1)
        connection.send(framed(write(HONEST_TAG)) * HELD)
        while not scene.is_over:
            _count(connection)
            sleep(0.01)


def ask_for_reports(scene: Scene) -> None:
    """Many connections, each of which waits for one report and then asks for the next: half of them for each kind."""
    questions = framed(Stat()), framed(Status())
    with ExitStack() as stack:
        asking = dict(zip(scene.connections(stack, REPORTERS), cycle(questions), strict=False))
        for connection, question in asking.items():
            connection.send(question)
        while not scene.is_over:
            for connection in _readable(asking):
                for _ in connection.receive():
                    connection.send(asking[connection])


def _count(connection: Hostile) -> None:
    for _ in connection.receive():
        pass


def _wait(connections: Sequence[Hostile]) -> None:
    """Wait, not for long, until one of them can go on."""
    select.select(connections, connections, [], LOOK_AGAIN_S)


def _readable(connections: Iterable[Hostile]) -> list[Hostile]:
    """Wait, not for long, until something has come; those that have got it."""
    ready, _, _ = select.select(list(connections), [], [], LOOK_AGAIN_S)
    return ready
