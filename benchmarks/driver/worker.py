"""One process of clients: many connections, one thread, and one look at what can be read after the other."""

from __future__ import annotations

import select
import socket
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from time import perf_counter, process_time
from typing import Any, Final

from benchmarks.driver.frames import FIRST_ID, HEADER, ID_FIELDS, IDS, Body, ping
from benchmarks.driver.scripts import Book, Kind, Performer, Requests, Script, WrongAnswerError
from lrs_trio.wire.lrs_pb2 import Response

READ_SIZE: Final = 16 * 1024
PATIENCE_S: Final = 30.0
"""How long answers may take after the last cycle has begun. Seconds."""

CONNECT_S: Final = 30.0
_LENGTH_SIZE: Final = 4


@dataclass(frozen=True, slots=True)
class Load:
    """What one process is to do, as one of several that differ in the numbers of their clients."""

    socket: str
    kind: Kind
    numbers: range
    media: tuple[str, ...]
    files: bool


@dataclass(frozen=True, slots=True)
class Window:
    """When cycles are counted. Seconds of `perf_counter`, which is the same in all processes."""

    begins: float
    ends: float


@dataclass(frozen=True, slots=True)
class Findings:
    """What the clients have seen. Times are seconds."""

    all_cycles: int
    """Before, in and after the window."""
    cycles: int
    """That ended in the window."""
    took: list[float]
    """By each cycle of which some part was in the window."""
    cpu_s: float
    """Of the clients, in the window."""
    released: Counter[tuple[str, ...]]
    """Acknowledged releases of all cycles, by their media."""


class Client:
    """One connection, and the script that runs on it."""

    _script: Script
    """From `start` on."""

    def __init__(self, path: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(CONNECT_S)
        self.socket.connect(path)
        self._serial = 0
        self._begun = b""
        """Of an answer that has not arrived as a whole."""

    def greet(self) -> None:
        """Wait until the daemon has taken the connection, and wait for nothing from then on.

        A connection that is only in the queue of the socket would make its first cycle look slow.

        Raises:
            OSError: the daemon does not answer.
            WrongAnswerError: its answer is not that to a ping.
        """
        self.send(ping())
        while (answer := self._take()) is None:
            pass
        if not answer.ping:
            raise WrongAnswerError(f"a ping was answered with: {answer}")
        self.socket.setblocking(False)

    def send(self, body: Body) -> None:
        """Send a request with the next id.

        Raises:
            WrongAnswerError: the daemon takes no more of them.
        """
        self._serial = serial = (self._serial + 1) % IDS
        frame = body.before + ID_FIELDS[serial] + body.after
        if self.socket.send(frame) != len(frame):
            raise WrongAnswerError("the daemon does not read what it is sent")

    def start(self, script: Script) -> None:
        """Run `script` to its first request."""
        next(script)
        self._script = script

    def receive(self) -> bool:
        """Go on with what has arrived; ``False`` once the script has ended.

        Raises:
            WrongAnswerError: something arrived that nobody waits for, or the connection was closed.
        """
        answer = self._take()
        if answer is None:
            return True
        try:
            self._script.send(answer)
        except StopIteration:
            return False
        return True

    def _take(self) -> Response | None:
        """Read once; the answer if it is whole now."""
        data = self.socket.recv(READ_SIZE)
        if not data:
            raise WrongAnswerError("the daemon has closed the connection")
        if self._begun:
            data = self._begun + data
        missing = _LENGTH_SIZE + int.from_bytes(data[:_LENGTH_SIZE]) - len(data)
        if missing > 0 or len(data) < HEADER.size:
            self._begun = data
            return None
        if missing:
            raise WrongAnswerError(f"{-missing} bytes more than the answer that was waited for: {data!r}")
        self._begun = b""
        answer = Response.FromString(data[HEADER.size :])
        if answer.request_id != FIRST_ID + self._serial:
            raise WrongAnswerError(f"nobody waits for: {answer}")
        return answer


def work(pipe: Connection[Any, Any]) -> None:
    """Take a `Load`, connect, take a `Window`, send the `Findings` or an exception; until the pipe is closed."""
    with suppress(EOFError, BrokenPipeError):
        while True:
            load: Load = pipe.recv()
            answer: Findings | Exception
            try:
                with connected(load) as clients:
                    pipe.send(None)
                    answer = drive(load, clients, pipe.recv())
            except (OSError, WrongAnswerError) as error:
                answer = error
            pipe.send(answer)


@contextmanager
def connected(load: Load) -> Iterator[list[Client]]:
    """The clients of `load`, each with a connection that the daemon has taken."""
    with ExitStack() as stack:
        clients = []
        for _ in load.numbers:
            clients.append(Client(load.socket))
            stack.callback(clients[-1].socket.close)
        for client in clients:
            client.greet()
        yield clients


def drive(load: Load, clients: list[Client], window: Window) -> Findings:
    """Run cycles until the window ends, and each to its end.

    Raises:
        WrongAnswerError: by any client; the others are left where they are.
    """
    book = Book(window.begins, window.ends)
    requests = Requests(load.media)
    with select.epoll() as poll:
        waiting = {}
        for number, client in zip(load.numbers, clients, strict=True):
            waiting[client.socket.fileno()] = client
            poll.register(client.socket, select.EPOLLIN)
            performer = Performer(number, requests, book, client.send, files=load.files)
            client.start(performer.script(load.kind))
        _until(window.begins, poll, waiting)
        cpu = process_time()
        _until(window.ends, poll, waiting)
        cpu = process_time() - cpu
        _until(window.ends + PATIENCE_S, poll, waiting)
    if waiting:
        raise WrongAnswerError(f"{len(waiting)} clients have no answer after {PATIENCE_S:g} s")
    return Findings(book.all_cycles, book.cycles, book.took, cpu, book.released)


def _until(moment: float, poll: select.epoll, waiting: dict[int, Client]) -> None:
    """Serve the clients until then, or until none is left."""
    while waiting and (left := moment - perf_counter()) > 0:
        for descriptor, _ in poll.poll(left):
            client = waiting[descriptor]
            if not client.receive():
                poll.unregister(descriptor)
                del waiting[descriptor]
