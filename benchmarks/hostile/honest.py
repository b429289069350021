"""The honest client: it asks at a moderate, fixed rate, and keeps the time.

It has a process and a connection for each kind of thing that it does: no wait hides another one. What it could not
begin because it waited is counted as well, as if it had been begun when it was due.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil
from time import monotonic, sleep
from typing import Final

from benchmarks.hostile.latency import Latency, latency
from benchmarks.hostile.processes import Pipe
from benchmarks.hostile.site import HONEST_TAG, write
from lrs_trio.model import RequestKind, ResourceId
from lrs_trio.wire.codec import decode_response, encode_request
from lrs_trio.wire.framing import FrameDecoder, encode_frame
from lrs_trio.wire.messages import (
    Ping,
    Pong,
    ReadAllocation,
    ReadGranted,
    Release,
    Released,
    ReleasedMedium,
    Request,
    RequestBody,
    ResponseBody,
    WriteGranted,
)

READ_SIZE: Final = 64 * 1024
PERIODS_S: Final = {"ping": 0.005, "write": 0.02, "read": 0.02}
"""What it does, and the time between the beginnings of two such things, at least. Seconds."""

PATIENCE_S: Final = 60.0
"""An answer that takes so long does not come any more. Seconds."""


class WrongAnswerError(Exception):
    """The honest client did not get what it must get."""


@dataclass(frozen=True, slots=True)
class Wait:
    """For one answer, or for those of a write cycle. Seconds; `begun` is a time of `monotonic`."""

    begun: float
    seconds: float


def waits(begun: float, ended: float, period: float) -> list[Wait]:
    """That for what was begun then, and one for each beginning that was due before it ended.

    Without those a stall would be one wait, beside hundreds of as much time of peace.
    """
    moments = [begun + number * period for number in range(max(ceil((ended - begun) / period), 1))]
    return [Wait(moment, ended - moment) for moment in moments]


Phase = tuple[float, float]
"""From one time of `monotonic` to another."""


def measured(seconds: float) -> Phase:
    """Let so much time pass."""
    begins = monotonic()
    sleep(seconds)
    return begins, monotonic()


@dataclass(slots=True)
class Report:
    """What one of the honest client's processes has seen."""

    waits: list[Wait] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def within(self, phases: Sequence[Phase]) -> Latency:
        """The figures of what began in one of `phases`, or was due there."""
        return latency(
            [wait.seconds for wait in self.waits if any(begins <= wait.begun < ends for begins, ends in phases)]
        )


class HonestClient:
    """One connection, one request at a time."""

    def __init__(self, connection: socket.socket, media: tuple[ResourceId, ...]) -> None:
        """`media` can be read."""
        self._connection = connection
        self._media = media
        self._decoder = FrameDecoder()
        self._serial = 0
        self.acts: Mapping[str, Callable[[], None]] = {"ping": self._ping, "write": self._write, "read": self._read}

    def _ping(self) -> None:
        self._ask(Ping(), Pong)

    def _write(self) -> None:
        """A write cycle, without a file: the daemon is what is watched."""
        granted = self._ask(write(HONEST_TAG), WriteGranted)
        assert isinstance(granted, WriteGranted)
        released = ReleasedMedium(granted.media[0].medium, size_written=1000, extents_written=1, to_sync=True)
        self._ask(Release((released,), RequestKind.RELEASE_WRITE), Released)

    def _read(self) -> None:
        granted = self._ask(ReadAllocation(1, self._media), ReadGranted)
        assert isinstance(granted, ReadGranted)
        self._send(Release((ReleasedMedium(granted.media[0].medium),), RequestKind.RELEASE_READ))

    def _ask(self, body: RequestBody, expected: type[ResponseBody]) -> ResponseBody:
        self._send(body)
        while data := self._connection.recv(READ_SIZE):
            for message in self._decoder.feed(data):
                answer = decode_response(message)
                if answer.request_id != self._serial or not isinstance(answer.body, expected):
                    raise WrongAnswerError(f"{body} was answered with {answer}")
                return answer.body
        raise WrongAnswerError(f"{body}: the daemon has closed the connection")

    def _send(self, body: RequestBody) -> None:
        self._serial += 1
        self._connection.sendall(encode_frame(encode_request(Request(self._serial, body))))


def be_honest(kind: str, path: str, media: tuple[ResourceId, ...], pipe: Pipe) -> None:
    """Do things of one kind until something comes by `pipe`, then send the `Report` there."""
    report, period = Report(), PERIODS_S[kind]
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(PATIENCE_S)
        connection.connect(path)
        act = HonestClient(connection, media).acts[kind]
        try:
            while not pipe.poll():
                begun = monotonic()
                act()
                report.waits += waits(begun, monotonic(), period)
                sleep(max(begun + period - monotonic(), 0))
        except (OSError, WrongAnswerError) as error:
            report.problems.append(f"the honest client: {error!r}")
    pipe.send(report)
