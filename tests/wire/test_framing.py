from __future__ import annotations

import struct
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrs_trio.errors import ProtocolError
from lrs_trio.wire.framing import MAX_FRAME_BYTES, FrameDecoder, encode_frame


def frames_and_error(stream: bytes, cuts: list[int], limit: int = MAX_FRAME_BYTES) -> tuple[list[bytes], bool]:
    """What a decoder makes of `stream` cut at `cuts`: its payloads, and whether it refused to go on."""
    decoder = FrameDecoder(limit)
    edges = [0, *sorted(cut % (len(stream) + 1) for cut in cuts), len(stream)]
    payloads: list[bytes] = []
    try:
        for start, end in pairwise(edges):
            payloads.extend(decoder.feed(stream[start:end]))
    except ProtocolError:
        return payloads, True
    return payloads, False


@given(st.lists(st.binary(max_size=40), max_size=20), st.lists(st.integers(0, 2000), max_size=30))
def test_any_chunking_gives_the_same_frames(payloads: list[bytes], cuts: list[int]) -> None:
    assert frames_and_error(b"".join(map(encode_frame, payloads)), cuts) == (payloads, False)


@given(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=10))
def test_any_bytes_give_frames_or_a_protocol_error_wherever_they_are_cut(stream: bytes, cuts: list[int]) -> None:
    whole, refused = frames_and_error(stream, [], limit=64)
    pieces, refused_too = frames_and_error(stream, cuts, limit=64)
    assert refused_too == refused
    # An error that shows early may keep back frames only of its own piece, and there it comes after them.
    assert pieces == whole


@pytest.mark.parametrize(
    "bad",
    [struct.pack(">I", 0), struct.pack(">I", 101), b"\xff\xff\xff\xff", struct.pack(">IB", 5, 13), b"\0\0\0\1\0"],
    ids=["zero length", "one byte too long", "longest length", "version before the message", "version alone"],
)
def test_bad_frame_is_refused_after_the_good_ones_before_it(bad: bytes) -> None:
    decoder = FrameDecoder(100)
    arriving = decoder.feed(encode_frame(b"first") + encode_frame(b"second") + bad)
    assert next(arriving) == b"first"
    assert next(arriving) == b"second"
    with pytest.raises(ProtocolError):
        next(arriving)


def test_limits_are_inclusive_and_count_the_version_byte() -> None:
    assert list(FrameDecoder(100).feed(encode_frame(b"x" * 99))) == [b"x" * 99]
    assert list(FrameDecoder().feed(encode_frame(b""))) == [b""]
    largest = b"y" * (2 * 1024 * 1024 - 1)
    assert list(FrameDecoder().feed(encode_frame(largest))) == [largest]
    with pytest.raises(ProtocolError):
        list(FrameDecoder().feed(encode_frame(largest + b"y")))


def test_large_frame_in_small_pieces() -> None:
    frame = encode_frame(b"z" * (MAX_FRAME_BYTES - 1))
    decoder = FrameDecoder()
    arrived = [payload for at in range(0, len(frame), 512) for payload in decoder.feed(frame[at : at + 512])]
    assert arrived == [frame[5:]]


def test_boundary_is_where_a_frame_ends() -> None:
    decoder = FrameDecoder()
    frame = encode_frame(b"abc")
    assert decoder.at_boundary()
    for at in range(len(frame) - 1):
        assert list(decoder.feed(frame[at : at + 1])) == []
        assert not decoder.at_boundary()
    assert list(decoder.feed(frame[-1:])) == [b"abc"]
    assert decoder.at_boundary()


def test_frames_that_nobody_took_stay_for_the_next_call() -> None:
    decoder = FrameDecoder()
    arriving = decoder.feed(encode_frame(b"a") + encode_frame(b"b"))
    assert next(arriving) == b"a"
    del arriving
    assert list(decoder.feed(b"")) == [b"b"]


def test_what_a_frame_lacks_is_known_from_its_length() -> None:
    decoder, stream = FrameDecoder(), encode_frame(b"x" * 100) + encode_frame(b"y" * 300)
    lacking = []
    for start in range(0, len(stream), 3):
        list(decoder.feed(stream[start : start + 3]))
        lacking.append(decoder.missing)
    # Nothing is known before the four bytes of a length are there.
    assert lacking[:3] == [0, 105 - 6, 105 - 9]
    assert lacking[34:37] == [0, 0, 410 - 111]
    assert lacking[-1] == 0
