"""One direction of a connection: messages become frames, arrive cut anyhow, and become messages again."""

from __future__ import annotations

import struct

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from lrs_trio.errors import ProtocolError
from lrs_trio.wire.codec import decode_request, decode_response, encode_request, encode_response
from lrs_trio.wire.framing import FrameDecoder, encode_frame
from lrs_trio.wire.messages import Request, Response

from .strategies import requests, responses

LIMIT = 4096
HEADER = 5
"""Of a frame, in bytes: length and version."""

BAD_HEADERS = (struct.pack(">I", 0), struct.pack(">I", LIMIT + 1), struct.pack(">IB", 7, 13))

Message = Request | Response


class Connection(RuleBasedStateMachine):
    """The decoder against a list of what was sent, with the number of bytes at which each frame ends."""

    def __init__(self) -> None:
        super().__init__()
        self.decoder = FrameDecoder(LIMIT)
        self.way = bytearray()
        """What was sent and has not arrived."""
        self.sent: list[tuple[Message, int]] = []
        self.total = self.arrived = self.taken = 0
        self.bad_from: int | None = None
        """After so many bytes of the stream comes what is not the protocol."""

    @precondition(lambda self: self.bad_from is None)
    @rule(message=requests | responses)
    def send(self, message: Message) -> None:
        payload = encode_request(message) if isinstance(message, Request) else encode_response(message)
        self._put(encode_frame(payload))
        self.sent.append((message, self.total))

    @precondition(lambda self: self.bad_from is None)
    @rule(header=st.sampled_from(BAD_HEADERS))
    def send_what_is_not_the_protocol(self, header: bytes) -> None:
        self.bad_from = self.total + len(header)
        self._put(header)

    @rule(count=st.integers(0, 40) | st.just(LIMIT), patience=st.integers(0, 3) | st.just(1000))
    def arrive(self, count: int, patience: int) -> None:
        """Some bytes arrive, and the reader takes no more than `patience` messages before it looks away."""
        piece = bytes(self.way[:count])
        del self.way[:count]
        self.arrived += len(piece)
        messages = self.decoder.feed(piece)
        try:
            for _ in range(patience):
                payload = next(messages, None)
                if payload is None:
                    assert self.taken == self._complete()
                    break
                self._take(payload)
        except ProtocolError:
            assert self.bad_from is not None
            assert self.arrived >= self.bad_from
            assert self.taken == len(self.sent)
        else:
            assert patience < 1000 or self.bad_from is None or self.arrived < self.bad_from

    @invariant()
    def a_boundary_is_where_everything_was_taken(self) -> None:
        ends = self.sent[self.taken - 1][1] if self.taken else 0
        assert self.decoder.at_boundary() == (self.arrived == ends)

    def teardown(self) -> None:
        """All the rest arrives, and nothing that was sent is missing."""
        self.arrive(len(self.way), 1000)
        assert self.taken == len(self.sent)

    def _put(self, data: bytes) -> None:
        self.way += data
        self.total += len(data)

    def _take(self, payload: bytes) -> None:
        message, end = self.sent[self.taken]
        assert self.arrived >= end
        assert (decode_request if isinstance(message, Request) else decode_response)(payload) == message
        self.taken += 1

    def _complete(self) -> int:
        """How many frames have arrived as a whole."""
        return sum(end <= self.arrived for _, end in self.sent)


TestConnection = Connection.TestCase


@pytest.mark.parametrize("header", BAD_HEADERS)
def test_what_is_not_the_protocol_is_refused_again_and_again(header: bytes) -> None:
    decoder = FrameDecoder(LIMIT)
    for piece in (header, b"", encode_frame(b"too late")):
        with pytest.raises(ProtocolError):
            list(decoder.feed(piece))
    assert not decoder.at_boundary()
