"""Media, grants, and a daemon that only says what it was told to say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from lrs_trio.model import AddressType, Family, FsType, RequestKind, ResourceId
from lrs_trio.wire.codec import decode_request, encode_response
from lrs_trio.wire.framing import FrameDecoder, encode_frame
from lrs_trio.wire.messages import (
    Failed,
    GrantedMedium,
    Ping,
    Pong,
    ReadAllocation,
    ReadGranted,
    Release,
    Released,
    Request,
    RequestBody,
    Response,
    ResponseBody,
    WriteAllocation,
    WriteGranted,
)

A = ResourceId(Family.DIR, "/media/a", "legacy")
B = ResourceId(Family.DIR, "/media/b", "legacy")


def granted(medium: ResourceId, available: int = 0) -> GrantedMedium:
    return GrantedMedium(medium, f"/mnt{medium.name}", FsType.POSIX, AddressType.HASH1, available)


def frame(request_id: int, body: ResponseBody) -> bytes:
    return encode_frame(encode_response(Response(request_id, body)))


def usual_answer(body: RequestBody) -> ResponseBody | None:
    """What a daemon with two free media says; ``None`` where it says nothing."""
    match body:
        case Ping(value):
            return Pong(value)
        case WriteAllocation(media=wanted):
            return WriteGranted(tuple(granted(medium, 500) for medium, _ in zip((A, B), wanted, strict=False)))
        case ReadAllocation(media=media, n_required=required):
            return ReadGranted(tuple(map(granted, media[:required])))
        case Release(media=elements, kind=kind, partial=partial):
            synced = tuple(element.medium for element in elements if element.to_sync)
            return Released(synced, kind, partial) if synced else None
        case _:
            return Failed(-22, RequestKind.WRITE)


@dataclass(slots=True)
class Script:
    """Takes the client's bytes and gives the daemon's; remembers every request."""

    answer: Callable[[RequestBody], ResponseBody | None] = usual_answer
    requests: list[Request] = field(default_factory=list)
    _decoder: FrameDecoder = field(default_factory=FrameDecoder)

    @property
    def bodies(self) -> list[RequestBody]:
        return [request.body for request in self.requests]

    @property
    def releases(self) -> list[Release]:
        return [body for body in self.bodies if isinstance(body, Release)]

    def hear(self, data: bytes) -> bytes:
        said = b""
        for payload in self._decoder.feed(data):
            request = decode_request(payload)
            self.requests.append(request)
            body = self.answer(request.body)
            if body is not None:
                said += frame(request.id, body)
        return said
