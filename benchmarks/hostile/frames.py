"""Frames for fuzzing: requests of every kind, the same ones changed, and what never was a request."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Final, TypeVar

from benchmarks.harness import LIBRARY
from benchmarks.hostile.site import OTHER_TAG
from lrs_trio.errors import ProtocolError
from lrs_trio.model import ConfigureOperation, Family, FsType, NotifyOperation, ReadOperation, RequestKind, ResourceId
from lrs_trio.wire.codec import MalformedRequestError, decode_request, encode_request
from lrs_trio.wire.framing import MAX_FRAME_BYTES, PROTOCOL_VERSION, encode_frame
from lrs_trio.wire.messages import (
    Configure,
    Format,
    Monitor,
    Notify,
    Ping,
    ReadAllocation,
    Release,
    ReleasedMedium,
    Request,
    RequestBody,
    Revoke,
    Stat,
    Status,
    WriteAllocation,
    WriteMedium,
)

T = TypeVar("T")

FATAL_PART: Final = 100
"""One frame of so many ends its connection: a new connection costs more than many frames."""

MANY_PART: Final = 200
"""One frame of so many is large."""

MANY: Final = 2000
DEPTH: Final = 50_000
SIZES: Final = (0, 1, 1000, 2**31, 2**63 - 1, 2**63, 2**64 - 1)
SIGNED: Final = (-(2**63), -1000, -1, 0, 1, 1000, 2**63 - 1)
NAMES: Final = ("", "/", "/nowhere", "/nowhere/\N{SNOWMAN}", "/a\0b", "/" + "x" * 5000, "\N{PILE OF POO}\u202e")
RANKS: Final = (None, None, 0, -(2**63), 2**63 - 1)
NOBODY: Final = 10**9
"""The number of a connection that there never is."""


@dataclass(frozen=True, slots=True)
class Frame:
    """`is_fatal` frames are not of the protocol: the daemon closes the connection. After a half one nothing follows."""

    data: bytes
    is_fatal: bool = False
    is_half: bool = False


class FrameMaker:
    """Makes frames without end, the same ones from the same `random`.

    What would take or change the `honest` media is left out: whoever has a right to do that needs no bad frames. So
    are most of the frames that are fatal.
    """

    def __init__(self, random: Random, honest: Sequence[ResourceId], others: Sequence[ResourceId]) -> None:
        self._random = random
        self._honest = {medium.name for medium in honest}
        self._others = tuple(others)
        self._kinds: Sequence[Callable[[], RequestBody]] = (
            self._write,
            self._write,
            self._read,
            self._read,
            self._release,
            self._release,
            self._release,
            self._format,
            self._notify,
            self._configure,
            self._report,
            self._revoke,
            Ping,
        )
        self._changes: Sequence[Callable[[bytes], bytes]] = (
            *[lambda message: message] * 6,
            self._flip_bits,
            self._flip_bits,
            self._flip_bits,
            self._cut,
            self._insert,
            self._repeat,
            self._add_unknown_field,
            self._spoil_text,
            lambda _: self._random.randbytes(self._random.randrange(60)),
        )

    def pool(self, count: int) -> tuple[list[Frame], list[Frame]]:
        """So many frames, and apart from them the fatal ones, of which there is one for `FATAL_PART` others at most."""
        frames: list[Frame] = []
        fatal: list[Frame] = []
        while len(frames) < count:
            frame = self._make()
            if frame is None:
                continue
            if not frame.is_fatal:
                frames.append(frame)
            elif len(fatal) * FATAL_PART <= len(frames):
                fatal.append(frame)
        return frames, fatal

    def _make(self) -> Frame | None:
        if self._one_in(10 * FATAL_PART):
            return self._no_frame()
        body = self._large() if self._one_in(MANY_PART) else self._any(self._kinds)()
        request = Request(self._random.randrange(2**32), body, self._any(RANKS), self._any(RANKS))
        message = self._any(self._changes)(encode_request(request))
        frame = encode_frame(message)
        try:
            return Frame(frame) if self._spares_the_honest(decode_request(message).body) else None
        except MalformedRequestError:
            return Frame(frame)
        except ProtocolError:
            return Frame(frame, is_fatal=True)

    # Requests.

    def _medium(self) -> ResourceId:
        if self._one_in(4):
            return ResourceId(self._any(tuple(Family)), self._any(NAMES), self._any((LIBRARY, "", "elsewhere")))
        return self._any(self._others)

    def _media(self) -> tuple[ResourceId, ...]:
        return tuple(self._medium() for _ in range(self._random.randrange(4)))

    def _write(self) -> RequestBody:
        media = tuple(WriteMedium(self._any(SIZES), (OTHER_TAG,)) for _ in range(self._random.randrange(4)))
        return WriteAllocation(media, Family.DIR)

    def _read(self) -> RequestBody:
        return ReadAllocation(self._random.randrange(4), self._media(), self._any(tuple(ReadOperation)))

    def _release(self) -> RequestBody:
        media = tuple(
            ReleasedMedium(medium, self._any((0, 0, 0, 5, -5)), self._any(SIGNED), self._any(SIGNED), self._one_in(4))
            for medium in self._media()
        )
        kinds = (RequestKind.RELEASE_WRITE, RequestKind.RELEASE_READ)
        return Release(media, self._any(kinds), partial=self._one_in(4))

    def _format(self) -> RequestBody:
        return Format(self._medium(), self._any(tuple(FsType)), self._one_in(2), self._one_in(2))

    def _notify(self) -> RequestBody:
        return Notify(self._medium(), self._any(tuple(NotifyOperation)), self._one_in(2))

    def _configure(self) -> RequestBody:
        item = {"section": self._any(NAMES), "key": self._any(NAMES), "value": self._any(NAMES)}
        text = self._any((json.dumps([item]), json.dumps(item), "[{", "", "[1, null]", '[{"section": 1}]'))
        return Configure(self._any(tuple(ConfigureOperation)), text)

    def _report(self) -> RequestBody:
        reports: Sequence[RequestBody] = (Status(), Stat(), Stat(tags="request"), Stat(name=self._any(NAMES)))
        return self._any(reports) if self._one_in(8) else Monitor(self._any(tuple(Family)))

    def _revoke(self) -> RequestBody:
        return Revoke(self._any(((), ("/nowhere",))), self._any((None, LIBRARY)), self._any((None, NOBODY)))

    def _large(self) -> RequestBody:
        many = [ResourceId(Family.DIR, f"/nowhere/{number}", LIBRARY) for number in range(self._random.randrange(MANY))]
        makers: Sequence[Callable[[], RequestBody]] = (
            lambda: ReadAllocation(len(many), tuple(many)),
            lambda: Release(tuple(map(ReleasedMedium, many)), RequestKind.RELEASE_WRITE),
            lambda: WriteAllocation((WriteMedium(1, (OTHER_TAG,)),) * len(many), Family.DIR),
            lambda: WriteAllocation((WriteMedium(1, tuple(medium.name for medium in many)),), Family.DIR),
            lambda: Configure(ConfigureOperation.GET, self._any(("[", '[{"a":')) * self._random.randrange(DEPTH)),
            lambda: Stat(tags="x" * self._random.randrange(DEPTH)),
        )
        return self._any(makers)()

    # What becomes of them.

    def _flip_bits(self, message: bytes) -> bytes:
        changed = bytearray(message)
        for _ in range(self._random.randrange(1, 5)):
            changed[self._place(message)] ^= 1 << self._random.randrange(8)
        return bytes(changed)

    def _cut(self, message: bytes) -> bytes:
        return message[: self._place(message)]

    def _insert(self, message: bytes) -> bytes:
        place = self._place(message)
        return message[:place] + self._random.randbytes(self._random.randrange(1, 9)) + message[place:]

    def _repeat(self, message: bytes) -> bytes:
        begin, end = sorted((self._place(message), self._place(message)))
        return message[:end] + message[begin:end] * self._random.randrange(1, 4) + message[end:]

    def _add_unknown_field(self, message: bytes) -> bytes:
        # Field 900 or 2000 with bytes; once in a while many of them.
        key = self._any((b"\xa2\x38", b"\x82\x7d"))
        value = self._random.randbytes(self._random.randrange(100))
        times = self._random.randrange(1000) if self._one_in(50) else 1
        return message + (key + bytes([len(value)]) + value) * times

    def _spoil_text(self, message: bytes) -> bytes:
        return message.replace(b"/", b"\xff").replace(b"\xe2\x98\x83", b"\xed\xa0\x80")

    def _no_frame(self) -> Frame:
        if self._one_in(4):
            whole = encode_frame(encode_request(Request(1, self._write())))
            return Frame(whole[: self._random.randrange(1, len(whole))], is_fatal=True, is_half=True)
        data = self._any(
            (
                struct.pack(">IB", 0, PROTOCOL_VERSION),
                struct.pack(">IB", MAX_FRAME_BYTES + 1, PROTOCOL_VERSION),
                struct.pack(">IB", 2**32 - 1, PROTOCOL_VERSION),
                struct.pack(">IB", 5, self._random.randrange(PROTOCOL_VERSION)) + b"abcd",
                b"GET / HTTP/1.1\r\n\r\n",
                self._random.randbytes(40).replace(b"\0", b"\1"),
            )
        )
        return Frame(data, is_fatal=True)

    def _spares_the_honest(self, body: RequestBody) -> bool:
        match body:
            case WriteAllocation():
                return body.family is not Family.DIR or all(OTHER_TAG in medium.tags for medium in body.media)
            case ReadAllocation():
                return not any(medium.name in self._honest for medium in body.media)
            case Format():
                return body.medium.name not in self._honest
            case Notify():
                return not any(body.resource.name.endswith(name) for name in self._honest)
            case Revoke():
                return body.client == NOBODY or body.media == ("/nowhere",)
            case _:
                return True

    def _place(self, message: bytes) -> int:
        return self._random.randrange(len(message))

    def _one_in(self, count: int) -> bool:
        return self._random.randrange(count) == 0

    def _any(self, choices: Sequence[T]) -> T:
        return self._random.choice(choices)
