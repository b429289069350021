"""Frames of real clients and of the C daemon."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lrs_trio.model import ReadOperation, RequestKind
from lrs_trio.wire.codec import decode_request, decode_response, encode_request, encode_response
from lrs_trio.wire.framing import FrameDecoder, encode_frame
from lrs_trio.wire.messages import Failed, Ping, ReadAllocation, Release, Request, Response, WriteGranted

VECTORS = Path(__file__).parent.parent / "vectors" / "phobos-3.3-frames.jsonl"
FRAMES = [json.loads(line) for line in VECTORS.read_text().splitlines()]


def decoded(case: str, direction: str, kind: str) -> Request | Response:
    """The first frame of that case and kind."""
    (frame, *_) = [f for f in FRAMES if (f["case"], f["direction"], f["kind"]) == (case, direction, kind)]
    (payload,) = FrameDecoder().feed(bytes.fromhex(frame["frame"]))
    return decode_request(payload) if direction == "request" else decode_response(payload)


@pytest.mark.parametrize("frame", FRAMES, ids=[f"{i}-{f['case']}-{f['direction']}" for i, f in enumerate(FRAMES)])
def test_captured_frame_comes_back_byte_for_byte(frame: dict[str, str]) -> None:
    captured = bytes.fromhex(frame["frame"])
    (payload,) = FrameDecoder().feed(captured)
    if frame["direction"] == "request":
        again = encode_request(decode_request(payload))
    else:
        again = encode_response(decode_response(payload))
    assert encode_frame(again) == captured


def test_all_captured_frames_in_one_stream() -> None:
    decoder = FrameDecoder()
    stream = b"".join(bytes.fromhex(frame["frame"]) for frame in FRAMES)
    assert len(list(decoder.feed(stream))) == 97
    assert decoder.at_boundary()


def test_ping_with_value_false_is_a_ping() -> None:
    assert decoded("01_ping", "request", "ping") == Request(1, Ping(False))


@pytest.mark.note("1")
def test_release_tells_per_medium_whether_to_sync() -> None:
    put = decoded("07_put", "request", "release").body
    get = decoded("17_get", "request", "release").body
    assert isinstance(put, Release)
    assert isinstance(get, Release)
    assert [(e.to_sync, e.size_written, e.extents_written) for e in put.media] == [(True, 300000, 1)]
    assert put.kind is RequestKind.RELEASE_WRITE
    assert [e.to_sync for e in get.media] == [False]
    assert get.kind is RequestKind.RELEASE_READ


@pytest.mark.note("1")
def test_deletion_is_negative() -> None:
    asked = decoded("35_copy_delete", "request", "ralloc").body
    release = decoded("35_copy_delete", "request", "release").body
    assert isinstance(asked, ReadAllocation)
    assert asked.operation is ReadOperation.DELETE
    assert isinstance(release, Release)
    assert [(e.to_sync, e.size_written, e.extents_written) for e in release.media] == [(True, -1000, -1)]


def test_error_carries_a_negative_errno_and_the_kind() -> None:
    assert decoded("06_format_already_error", "response", "error").body == Failed(-22, RequestKind.FORMAT)


def test_thresholds_are_seconds_and_bytes() -> None:
    granted = decoded("07_put", "response", "walloc").body
    assert isinstance(granted, WriteGranted)
    assert granted.thresholds is not None
    assert granted.thresholds.age == pytest.approx(0.01)
    assert (granted.thresholds.requests, granted.thresholds.size) == (5, 1 << 30)
