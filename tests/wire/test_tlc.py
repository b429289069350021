from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrs_trio.errors import ProtocolError
from lrs_trio.wire import tlc
from tests.wire.strategies import booleans, i32, maybe_texts, texts, u32, u64

request_bodies: st.SearchStrategy[tlc.RequestBody] = st.one_of(
    st.builds(tlc.Ping, booleans),
    st.builds(tlc.LookUp, texts),
    st.builds(tlc.Load, texts, texts),
    st.builds(tlc.Unload, texts, maybe_texts),
    st.builds(tlc.Status, booleans),
    st.builds(tlc.Refresh, booleans),
    st.builds(tlc.Stat, maybe_texts, maybe_texts, maybe_texts),
)
requests = st.builds(tlc.Request, u32, request_bodies)

response_bodies: st.SearchStrategy[tlc.ResponseBody] = st.one_of(
    st.builds(tlc.Pong, booleans),
    st.builds(tlc.Found, u64, u64, maybe_texts),
    st.builds(tlc.Failed, i32, maybe_texts),
    st.builds(tlc.Loaded, maybe_texts),
    st.builds(tlc.Unloaded, texts, u64, maybe_texts),
    st.builds(tlc.Elements, texts, maybe_texts),
    st.builds(tlc.Refreshed, booleans),
    st.builds(tlc.Statistics, texts),
)
responses = st.builds(tlc.Response, u32, response_bodies)


def payload(frame: bytes) -> bytes:
    (message,) = tlc.frame_decoder().feed(frame)
    return message


@given(requests)
def test_every_request_comes_back(request: tlc.Request) -> None:
    assert tlc.decode_request(payload(tlc.request_frame(request))) == request


@given(responses)
def test_every_response_comes_back(response: tlc.Response) -> None:
    assert tlc.decode_response(payload(tlc.response_frame(response))) == response


# What Phobos 3.3 sends and takes, by the numbers: id, body with its fields.
FRAMES = [
    (tlc.Ping(True), b"\x10\x01"),
    (tlc.LookUp("S1"), b"\x1a\x04\x0a\x02S1"),
    (tlc.Load("S1", "P5"), b"\x22\x08\x0a\x02S1\x12\x02P5"),
    (tlc.Unload("S1"), b"\x2a\x04\x0a\x02S1"),
    (tlc.Unload("S1", "P5"), b"\x2a\x08\x0a\x02S1\x12\x02P5"),
    (tlc.Status(True), b"\x32\x02\x08\x01"),
    (tlc.Refresh(True), b"\x38\x01"),
    (tlc.Stat("req", "count", "a=b"), b"\x42\x11\x0a\x03req\x12\x05count\x1a\x03a=b"),
]
ANSWERS = [
    (tlc.Pong(True), b"\x12\x02\x08\x01"),
    (tlc.Found(258, 256, "P5"), b"\x1a\x0a\x08\x82\x02\x10\x80\x02\x1a\x02P5"),
    (tlc.Failed(-2, "{}"), b"\x22\x0f\x08\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01\x12\x02{}"),
    (tlc.Loaded(), b"\x2a\x00"),
    (tlc.Loaded("{}"), b"\x2a\x04\x0a\x02{}"),
    (tlc.Unloaded("P5", 3), b"\x32\x06\x0a\x02P5\x10\x03"),
    (tlc.Elements("[]"), b"\x3a\x04\x0a\x02[]"),
    (tlc.Refreshed(True), b"\x40\x01"),
    (tlc.Statistics("[]"), b"\x4a\x04\x0a\x02[]"),
]


@pytest.mark.parametrize(("body", "encoded"), FRAMES, ids=[type(body).__name__ for body, _ in FRAMES])
def test_requests_have_the_numbers_that_others_know(body: tlc.RequestBody, encoded: bytes) -> None:
    assert payload(tlc.request_frame(tlc.Request(1, body))) == b"\x08\x01" + encoded


@pytest.mark.parametrize(("body", "encoded"), ANSWERS, ids=[type(body).__name__ for body, _ in ANSWERS])
def test_responses_have_the_numbers_that_others_know(body: tlc.ResponseBody, encoded: bytes) -> None:
    assert payload(tlc.response_frame(tlc.Response(1, body))) == b"\x08\x01" + encoded


def test_frames_have_a_version_of_their_own() -> None:
    frame = tlc.request_frame(tlc.Request(1, tlc.Ping()))
    assert frame == b"\x00\x00\x00\x05\x02\x08\x01\x10\x00"
    with pytest.raises(ProtocolError, match="version 14; this is version 2"):
        list(tlc.frame_decoder().feed(frame[:4] + b"\x0e" + frame[5:]))


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="no body"),
        pytest.param(b"\x98\x06\x01", id="a body that nobody knows"),
        pytest.param(b"\x10\x01\x38\x01", id="two bodies"),
        pytest.param(b"\x1a\x00", id="look-up without a serial"),
        pytest.param(b"\x22\x04\x0a\x02S1", id="load without a label"),
        pytest.param(b"\x2a\x04\x12\x02P5", id="unload without a serial"),
        pytest.param(b"\x32\x00", id="status without refresh"),
        pytest.param(b"\x1a\x04\x0a\x02\xff\xfe", id="a serial that is no text"),
    ],
)
def test_a_request_that_cannot_be_is_told_by_its_id(body: bytes) -> None:
    with pytest.raises(tlc.MalformedRequestError) as caught:
        tlc.decode_request(b"\x08\x2a" + body)
    assert caught.value.request_id == 42


@pytest.mark.parametrize("decode", [tlc.decode_request, tlc.decode_response])
@pytest.mark.parametrize("message", [b"", b"\x10\x01", b"\xff", b"\x0a\x7f"], ids=["empty", "no id", "half", "cut off"])
def test_what_has_no_id_is_no_message(decode: Callable[[bytes], object], message: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode(message)


@pytest.mark.parametrize("body", [b"", b"\x12\x00", b"\x1a\x02\x08\x01", b"\x22\x00", b"\x32\x02\x10\x03", b"\x4a\x00"])
def test_an_incomplete_response_is_refused(body: bytes) -> None:
    with pytest.raises(ProtocolError):
        tlc.decode_response(b"\x08\x01" + body)


@given(st.binary(max_size=100) | requests.map(tlc.request_frame).map(lambda frame: frame[5:-1]))
def test_any_bytes_give_a_request_or_one_of_two_errors(message: bytes) -> None:
    try:
        tlc.decode_request(message)
    except (ProtocolError, tlc.MalformedRequestError):
        return


@given(st.binary(max_size=100) | responses.map(tlc.response_frame).map(lambda frame: frame[5:-1]))
def test_any_bytes_give_a_response_or_a_protocol_error(message: bytes) -> None:
    try:
        tlc.decode_response(message)
    except ProtocolError:
        return
