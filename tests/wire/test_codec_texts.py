"""Texts that are not UTF-8, and the kind that names a malformed release."""

from __future__ import annotations

import pytest

from lrs_trio.errors import ProtocolError
from lrs_trio.model import RequestKind
from lrs_trio.wire.codec import MalformedRequestError, decode_request, decode_response
from tests.wire.test_codec import ELEMENT, FORMAT, ID, number, part, resource

BAD = b"\xff\xfe"
READ_ELEMENT = part(1, resource(BAD)) + number(2, 0) + number(3, 0) + number(4, 0) + number(5, 0)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(part(7, part(1, resource(BAD)) + FORMAT), id="name"),
        pytest.param(part(4, number(2, 1) + number(3, 0) + number(5, 0) + part(4, BAD)), id="library wanted"),
        pytest.param(part(4, number(2, 1) + number(3, 0) + number(5, 0) + part(6, BAD)), id="grouping"),
        pytest.param(
            part(4, part(1, number(1, 1) + part(2, BAD) + number(3, 0)) + number(2, 1) + number(3, 0) + number(5, 0)),
            id="tag",
        ),
        pytest.param(part(11, number(1, 0) + part(2, BAD)), id="configuration"),
        pytest.param(part(12, part(3, BAD)), id="filter"),
    ],
)
def test_text_that_is_not_utf8_makes_a_request_malformed(body: bytes) -> None:
    with pytest.raises(MalformedRequestError) as caught:
        decode_request(ID + body)
    assert caught.value.request_id == 42


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(part(4, number(2, 1) + number(3, 0) + number(5, 0) + part(6, b"a\0b")), id="write"),
        pytest.param(part(6, part(1, ELEMENT + part(6, b"a\0b")) + number(2, 0) + number(3, 3)), id="release"),
    ],
)
def test_a_grouping_that_postgresql_could_not_keep_is_refused_before_anything_is_written(body: bytes) -> None:
    with pytest.raises(MalformedRequestError, match="NUL"):
        decode_request(ID + body)


def test_text_that_is_not_utf8_makes_a_response_unusable() -> None:
    with pytest.raises(ProtocolError):
        decode_response(ID + part(10, part(1, BAD)))


@pytest.mark.parametrize(
    ("number_", "kind"), [(2, RequestKind.RELEASE_READ), (3, RequestKind.RELEASE_WRITE)], ids=["read", "write"]
)
def test_malformed_release_is_named_by_its_own_kind(number_: int, kind: RequestKind) -> None:
    with pytest.raises(MalformedRequestError) as caught:
        decode_request(ID + part(6, part(1, READ_ELEMENT) + number(2, 0) + number(3, number_)))
    assert caught.value.kind is kind
