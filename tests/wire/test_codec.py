from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrs_trio.errors import ProtocolError
from lrs_trio.model import Family, RequestKind, ResourceId
from lrs_trio.wire.codec import (
    LONGEST_KEPT,
    MalformedRequestError,
    decode_request,
    decode_response,
    encode_request,
    encode_response,
)
from lrs_trio.wire.messages import (
    Ping,
    ReadAllocation,
    Release,
    ReleasedMedium,
    Request,
    Response,
    ResponseBody,
    WriteAllocation,
    WriteGranted,
)
from tests.wire.strategies import requests, responses

MEDIUM = ResourceId(Family.DIR, "/a", "legacy")


def number(field: int, value: int) -> bytes:
    """A field that holds a number below 128."""
    return bytes([field << 3, value])


def part(field: int, content: bytes) -> bytes:
    """A field that holds a text or a message of less than 128 bytes."""
    return bytes([field << 3 | 2, len(content)]) + content


def resource(name: bytes = b"/a", family: int = 1) -> bytes:
    return number(1, family) + part(2, name) + part(3, b"legacy")


ID = number(1, 42)
FORMAT = number(2, 0) + number(3, 0) + number(4, 0)
ELEMENT = part(1, resource()) + number(2, 0) + number(3, 0) + number(4, 0) + number(5, 1)


@given(requests)
def test_every_request_comes_back(request: Request) -> None:
    assert decode_request(encode_request(request)) == request


@given(responses)
def test_every_response_comes_back(response: Response) -> None:
    assert decode_response(encode_response(response)) == response


@pytest.mark.note("0")
@given(st.integers(0, 2**32 - 1))
def test_the_id_is_carried_as_it_is(request_id: int) -> None:
    assert decode_request(encode_request(Request(request_id, Ping()))).id == request_id


@pytest.mark.note("1")
@pytest.mark.parametrize("to_sync", [True, False])
def test_each_medium_has_its_own_to_sync(to_sync: bool) -> None:
    release = Release(
        (ReleasedMedium(MEDIUM, to_sync=to_sync), ReleasedMedium(MEDIUM, to_sync=not to_sync)),
        RequestKind.RELEASE_WRITE,
    )
    assert decode_request(encode_request(Request(1, release))).body == release


@pytest.mark.note("1")
def test_a_release_of_size_zero_still_asks_for_a_sync() -> None:
    body = decode_request(ID + part(6, part(1, ELEMENT) + number(2, 0) + number(3, 3))).body
    assert body == Release((ReleasedMedium(MEDIUM, to_sync=True),), RequestKind.RELEASE_WRITE)


def test_empty_and_repeated_media_are_left_to_the_scheduler() -> None:
    for body in (
        WriteAllocation((), Family.DIR),
        ReadAllocation(0, ()),
        ReadAllocation(9, (MEDIUM, MEDIUM)),
        Release((), RequestKind.RELEASE_READ),
    ):
        assert decode_request(encode_request(Request(0, body))).body == body


@pytest.mark.parametrize(
    ("bytes_", "kind"),
    [
        pytest.param(b"", None, id="no body"),
        pytest.param(number(15, 1), None, id="a body that nobody knows"),
        pytest.param(part(4, number(3, 0) + number(5, 0)), RequestKind.WRITE, id="write without a family"),
        pytest.param(part(4, number(2, 9) + number(3, 0) + number(5, 0)), RequestKind.WRITE, id="unknown family"),
        pytest.param(part(5, number(1, 1)), RequestKind.READ, id="read without an operation"),
        pytest.param(part(5, number(1, 1) + number(3, 7)), RequestKind.READ, id="unknown operation"),
        pytest.param(part(6, number(2, 0)), RequestKind.RELEASE_WRITE, id="release without a kind"),
        pytest.param(part(7, FORMAT), RequestKind.FORMAT, id="format without a medium"),
        pytest.param(part(7, part(1, resource(family=5)) + FORMAT), RequestKind.FORMAT, id="medium of unknown family"),
        pytest.param(part(8, part(1, resource()) + number(3, 1)), RequestKind.NOTIFY, id="notify without an operation"),
        pytest.param(part(10, b""), RequestKind.MONITOR, id="monitor without a family"),
        pytest.param(part(11, number(1, 1)), RequestKind.CONFIGURE, id="configure without a text"),
    ],
)
def test_malformed_request_can_be_answered_with_its_id(bytes_: bytes, kind: RequestKind | None) -> None:
    with pytest.raises(MalformedRequestError) as caught:
        decode_request(ID + bytes_)
    assert (caught.value.request_id, caught.value.kind) == (42, kind)


@pytest.mark.parametrize(
    ("missing", "name"), [(1, "medium"), (2, "rc"), (3, "size_written"), (4, "extents_written"), (5, "to_sync")]
)
def test_release_of_a_medium_needs_all_its_parts(missing: int, name: str) -> None:
    fields = {1: part(1, resource()), **{n: number(n, 0) for n in range(2, 6)}}
    del fields[missing]
    with pytest.raises(MalformedRequestError, match=rf"^release: {name} is missing or unknown$"):
        decode_request(ID + part(6, part(1, b"".join(fields.values())) + number(2, 0) + number(3, 3)))


@pytest.mark.parametrize(
    ("body", "name"),
    [
        pytest.param(part(4, number(3, 0) + number(5, 0)), "write: family", id="write"),
        pytest.param(part(4, number(2, 1) + number(5, 0)), "write: prevent_duplicate", id="write of copies"),
        pytest.param(part(4, number(2, 1) + number(3, 0)), "write: no_split", id="write in one piece"),
        pytest.param(
            part(4, part(1, number(3, 0)) + number(2, 1) + number(3, 0) + number(5, 0)), "write: size", id="size"
        ),
        pytest.param(
            part(4, part(1, number(1, 0)) + number(2, 1) + number(3, 0) + number(5, 0)),
            "write: empty_medium",
            id="empty",
        ),
        pytest.param(part(5, number(3, 0)), "read: n_required", id="read"),
        pytest.param(part(5, number(1, 1) + part(2, resource(family=9)) + number(3, 0)), "read: family", id="family"),
        pytest.param(part(5, number(1, 1) + part(2, number(1, 1)) + number(3, 0)), "read: name", id="name"),
        pytest.param(part(6, number(3, 3)), "release: partial", id="release"),
        pytest.param(part(6, part(1, b"") + number(2, 0)), "release: kind", id="what is missing outside goes first"),
        pytest.param(part(6, part(1, part(1, b"")) + number(2, 0) + number(3, 3)), "release: rc", id="and so inside"),
    ],
)
def test_the_first_part_that_is_missing_is_named(body: bytes, name: str) -> None:
    with pytest.raises(MalformedRequestError, match=rf"^{name} is missing or unknown$"):
        decode_request(ID + body)


@pytest.mark.parametrize(("bodies", "what"), [((9, 12), "ping and stat"), ((), "nothing that this daemon knows")])
def test_a_request_without_its_one_body_is_told_what_it_asks_for(bodies: tuple[int, ...], what: str) -> None:
    parts = {9: number(9, 0), 12: part(12, b"")}
    with pytest.raises(MalformedRequestError, match=rf"^the request asks for {what}$") as caught:
        decode_request(ID + number(2, 1) + number(3, 1) + b"".join(parts[body] for body in bodies))
    assert caught.value.kind is None


def test_a_name_that_is_too_long_to_be_kept_is_a_name() -> None:
    medium = ResourceId(Family.TAPE, "n" * LONGEST_KEPT, "legacy")
    body = ReadAllocation(1, (medium,))
    assert decode_request(encode_request(Request(1, body))).body == body


@given(st.lists(st.tuples(responses, st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1)), max_size=4))
def test_answers_that_differ_only_in_numbers_stay_apart(drawn: list[tuple[Response, int, int]]) -> None:
    """One after the other, and again: nothing of one shows in another."""
    told = [
        Response(number_, _with_room(response.body, room) if turn else response.body)
        for response, number_, room in drawn
        for turn in range(3)
    ]
    assert [decode_response(encode_response(response)) for response in told] == told


def _with_room(body: ResponseBody, room: int) -> ResponseBody:
    if not isinstance(body, WriteGranted):
        return body
    return replace(body, media=tuple(replace(medium, avail_size=room) for medium in body.media))


def test_two_bodies_contradict_each_other() -> None:
    with pytest.raises(MalformedRequestError) as caught:
        decode_request(ID + number(9, 0) + part(12, b""))
    assert caught.value.request_id == 42


@pytest.mark.parametrize("decode", [decode_request, decode_response])
@pytest.mark.parametrize(
    "payload", [b"", number(9, 0), b"\xff", b"\x0a\x7f"], ids=["empty", "no id", "half", "cut off"]
)
def test_what_has_no_id_cannot_be_answered(decode: Callable[[bytes], object], payload: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode(payload)


@pytest.mark.parametrize("payload", [ID, ID + part(8, number(1, 1)), ID + part(3, part(1, b""))])
def test_incomplete_response_is_refused(payload: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode_response(payload)


@given(st.binary(max_size=200) | requests.map(encode_request).flatmap(lambda b: st.binary(max_size=8).map(b.__add__)))
def test_any_bytes_give_a_request_or_one_of_two_errors(payload: bytes) -> None:
    try:
        decode_request(payload)
    except (ProtocolError, MalformedRequestError):
        return


@given(st.binary(max_size=200))
def test_any_bytes_give_a_response_or_a_protocol_error(payload: bytes) -> None:
    try:
        decode_response(payload)
    except ProtocolError:
        return
