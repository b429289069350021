"""One process of a fuzzer: several connections, each with bursts of frames, and a look at what comes back."""

from __future__ import annotations

import errno
import os
import select
import socket
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from random import Random
from time import monotonic
from typing import Final

from benchmarks.hostile.frames import FATAL_PART, Frame, FrameMaker
from benchmarks.hostile.processes import NICE, Findings, Pipe
from lrs_trio.errors import ProtocolError
from lrs_trio.model import ResourceId
from lrs_trio.wire.codec import decode_response
from lrs_trio.wire.framing import FrameDecoder
from lrs_trio.wire.messages import Failed

CONNECTIONS: Final = 4
BURST: Final = 64
"""Frames that are sent in one go."""

POOL: Final = 2048
POOL_TURNS: Final = 25
"""Distinct frames of a pool, and how often on average each of them is sent before there is another pool."""

LEAVES_AFTER: Final = 32
"""A connection leaves, with all that it has, after so many bursts on average."""

READ_SIZE: Final = 256 * 1024
CLOSED_S: Final = 60.0
"""How long the daemon may take to close a connection. Seconds."""


@dataclass(frozen=True, slots=True)
class Task:
    """What one process is to send, and where."""

    path: str
    seed: str
    frames: int
    honest: tuple[ResourceId, ...]
    others: tuple[ResourceId, ...]


class Answers:
    """Counts answers by what they are, without looking closely at what it has seen before."""

    def __init__(self, seen: Findings) -> None:
        self._seen = seen
        self._known: dict[bytes, str] = {}

    def count(self, message: bytes) -> None:
        """Count one.

        Raises:
            ProtocolError: it is none.
        """
        rest = _without_id(message)
        name = self._known.get(rest)
        if name is None:
            body = decode_response(message).body
            name = errno.errorcode.get(-body.rc, str(body.rc)) if isinstance(body, Failed) else type(body).__name__
            if len(rest) < 100:
                self._known[rest] = name
        self._seen[name] += 1


def _without_id(message: bytes) -> bytes:
    """What is left of a message after its first field, which is the id."""
    end = 1
    while end < len(message) and message[end] & 0x80:
        end += 1
    return message[end + 1 :]


class Conversation:
    """One connection after the other to the daemon, with bursts of frames on each.

    A frame that is not of the protocol is the last of its connection, and no other is.
    """

    def __init__(self, path: str, bursts: Iterator[Sequence[Frame]], random: Random, seen: Findings) -> None:
        self._path = path
        self._bursts = bursts
        self._random = random
        self._seen = seen
        self._answers = Answers(seen)
        self._last = Frame(b"")
        self._closes_before = 0.0
        """When the daemon must have closed the connection, if it must."""
        self._unsent = b""
        self._connect()

    def fileno(self) -> int:
        return self._socket.fileno()

    @property
    def wants_to_send(self) -> bool:
        return not self._closes_before

    def step(self) -> None:
        """Receive and send as much as is possible now.

        Raises:
            RuntimeError: the daemon has closed a connection without a reason, or not closed it though it had one.
        """
        try:
            data = self._exchange()
        except BlockingIOError:
            if self._closes_before and monotonic() > self._closes_before:
                raise RuntimeError(f"a connection was not closed after {self._last!r}") from None
            return
        except ConnectionError:
            data = b""
        if data:
            for message in self._decoder.feed(data):
                self._answers.count(message)
        elif self._closes_before:
            self._seen["connections closed by the daemon"] += 1
            self._reconnect()
        else:
            raise RuntimeError(f"a connection was closed, the last frame was {self._last!r}")

    def close(self) -> None:
        self._socket.close()

    def _exchange(self) -> bytes:
        if self._unsent:
            self._send()
        elif not self._closes_before:
            if self._random.randrange(LEAVES_AFTER) == 0:
                self._reconnect()
            self._begin(next(self._bursts))
        return self._socket.recv(READ_SIZE)

    def _begin(self, burst: Sequence[Frame]) -> None:
        self._last = burst[-1]
        self._unsent = b"".join(frame.data for frame in burst)
        self._seen["frames"] += len(burst)
        if self._random.randrange(4) == 0:
            # A piece first, so that frames are cut anywhere.
            piece = self._random.randrange(len(self._unsent))
            self._unsent = self._unsent[self._socket.send(self._unsent[:piece]) :]
        self._send()

    def _send(self) -> None:
        with suppress(BlockingIOError):
            self._unsent = self._unsent[self._socket.send(self._unsent) :]
        if not self._unsent and self._last.is_fatal and not self._closes_before:
            self._closes_before = monotonic() + CLOSED_S
            if self._last.is_half:
                self._socket.shutdown(socket.SHUT_WR)

    def _reconnect(self) -> None:
        self._socket.close()
        self._connect()

    def _connect(self) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(self._path)
        self._socket.setblocking(False)
        self._decoder = FrameDecoder()
        self._unsent = b""
        self._last = Frame(b"")
        self._closes_before = 0.0
        self._seen["connections"] += 1


def fuzz(task: Task, pipe: Pipe) -> None:
    """The work of one process: until all frames are sent, or something comes by the pipe."""
    os.nice(NICE)
    random = Random(task.seed)
    seen: Findings = Counter()
    bursts = _bursts(FrameMaker(random, task.honest, task.others), random)
    problem = None
    conversations = [Conversation(task.path, bursts, random, seen) for _ in range(CONNECTIONS)]
    try:
        while seen["frames"] < task.frames and not pipe.poll():
            senders = [conversation for conversation in conversations if conversation.wants_to_send]
            ready = select.select(conversations, senders, [], 1)
            for conversation in dict.fromkeys(ready[0] + ready[1]):
                conversation.step()
    except (OSError, ProtocolError, RuntimeError) as error:
        problem = f"{task.seed}: {error!r}"
    for conversation in conversations:
        conversation.close()
    pipe.send((seen, problem))


def _bursts(maker: FrameMaker, random: Random) -> Iterator[Sequence[Frame]]:
    """Frames of one pool after the other; a fatal one ends its burst."""
    while True:
        frames, fatal = maker.pool(POOL)
        for _ in range(POOL * POOL_TURNS // BURST):
            burst = random.choices(frames, k=BURST)
            if fatal and random.randrange(FATAL_PART // BURST + 1) == 0:
                burst.append(random.choice(fatal))
            yield burst
