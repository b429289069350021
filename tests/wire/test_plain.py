"""Messages as a trace keeps them."""

from __future__ import annotations

import json
from base64 import b64decode
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrs_trio.model import Family, FsType, RequestKind, ResourceId
from lrs_trio.wire.messages import (
    Configured,
    Failed,
    Format,
    Monitored,
    Ping,
    Release,
    ReleasedMedium,
    Request,
    Response,
    Revoke,
    Revoked,
    Statistics,
    StatusReport,
    WriteAllocation,
    WriteMedium,
)
from lrs_trio.wire.plain import plain_message, request_of, response_of
from tests.wire.strategies import requests, responses

MEDIUM = ResourceId(Family.DIR, "/a", "legacy")


def through_json(message: object) -> dict[str, Any]:
    read: dict[str, Any] = json.loads(json.dumps(plain_message(message)))
    return read


@given(requests)
def test_every_request_comes_back(request: Request) -> None:
    assert request_of(through_json(request)) == request


@given(responses)
def test_every_response_comes_back_without_the_texts_of_reports(response: Response) -> None:
    match response.body:
        case Monitored() | StatusReport():
            response = replace(response, body=replace(response.body, status=""))
        case Statistics():
            response = replace(response, body=Statistics(""))
        case Revoked():
            response = replace(response, body=Revoked(""))
    assert response_of(through_json(response)) == response


@given(st.binary())
def test_bytes_that_nobody_understands_are_kept(payload: bytes) -> None:
    plain = through_json(payload)
    assert (plain["kind"], b64decode(plain["raw"])) == ("request", payload)


# What is written here is in files: it changes only with the version of the format.
@pytest.mark.parametrize(
    ("message", "plain"),
    [
        (Request(1, Ping()), {"kind": "request", "id": 1, "ping": {}}),
        (
            Request(2, WriteAllocation((WriteMedium(10, ("blue",)), WriteMedium(10)), Family.TAPE, grouping="g"), 3, 4),
            {
                "kind": "request",
                "id": 2,
                "qos": 3,
                "priority": 4,
                "write": {"media": [{"size": 10, "tags": ["blue"]}, {"size": 10}], "family": "tape", "grouping": "g"},
            },
        ),
        (
            Request(3, Release((ReleasedMedium(MEDIUM, -5, 10, 1, True),), RequestKind.RELEASE_WRITE, partial=True)),
            {
                "kind": "request",
                "id": 3,
                "release": {
                    "media": [
                        {
                            "medium": {"family": "dir", "name": "/a", "library": "legacy"},
                            "rc": -5,
                            "size_written": 10,
                            "extents_written": 1,
                            "to_sync": True,
                        }
                    ],
                    "kind": "release_write",
                    "partial": True,
                },
            },
        ),
        (
            Request(4, Format(MEDIUM, FsType.POSIX, unlock=True)),
            {
                "kind": "request",
                "id": 4,
                "format": {
                    "medium": {"family": "dir", "name": "/a", "library": "legacy"},
                    "fs_type": "posix",
                    "unlock": True,
                },
            },
        ),
        (
            Response(5, Failed(-28, RequestKind.READ)),
            {"kind": "response", "id": 5, "error": {"rc": -28, "kind": "read"}},
        ),
        (Response(6, StatusReport("12345")), {"kind": "response", "id": 6, "status": {"length": 5}}),
        (Request(8, Revoke(("A",), pid=7)), {"kind": "request", "id": 8, "revoke": {"media": ["A"], "pid": 7}}),
        (Response(8, Revoked("12345")), {"kind": "response", "id": 8, "revoke": {"length": 5}}),
        (Response(7, Configured()), {"kind": "response", "id": 7, "configure": {}}),
    ],
)
def test_how_messages_are_written(message: Request | Response, plain: dict[str, object]) -> None:
    assert through_json(message) == plain


@pytest.mark.parametrize(
    "plain",
    [
        {},
        {"id": 1},
        {"id": 1, "dream": {}},
        {"id": 1, "ping": {}, "stat": {}},
        {"ping": {}},
        {"id": "1", "ping": {}},
        {"id": 1, "qos": None, "ping": {}},
        {"id": 1, "ping": []},
    ],
)
def test_what_is_no_request_is_refused(plain: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"."):
        request_of(plain)


def test_what_is_no_response_is_refused() -> None:
    with pytest.raises(ValueError, match=r"."):
        response_of({"id": 1, "notify": {}})
