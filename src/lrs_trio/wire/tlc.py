"""The protocol of a tape library controller: typed requests and responses, and their frames. Without I/O.

What the wire marks as optional is ``None`` when it was absent. Drives are named by their serials, media by their
labels. A `message` is JSON and says more than an errno can.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from lrs_trio.errors import ProtocolError
from lrs_trio.wire import framing
from lrs_trio.wire import tlc_pb2 as pb
from lrs_trio.wire.fields import MissingError, optional, parse, require, text

PROTOCOL_VERSION = 2


@dataclass(frozen=True, slots=True)
class Ping:
    value: bool = False


@dataclass(frozen=True, slots=True)
class LookUp:
    """Asks where a drive is and what is in it; nothing moves."""

    serial: str


@dataclass(frozen=True, slots=True)
class Load:
    serial: str
    label: str


@dataclass(frozen=True, slots=True)
class Unload:
    """Empties a drive; with a `label` only of that medium."""

    serial: str
    label: str | None = None


@dataclass(frozen=True, slots=True)
class Status:
    """Asks for all elements; with `refresh` after a look at the library."""

    refresh: bool = False


@dataclass(frozen=True, slots=True)
class Refresh:
    value: bool = False


@dataclass(frozen=True, slots=True)
class Stat:
    ns: str | None = None
    name: str | None = None
    tags: str | None = None


RequestBody = Ping | LookUp | Load | Unload | Status | Refresh | Stat


@dataclass(frozen=True, slots=True)
class Request:
    """`id` is the sender's own and only echoed."""

    id: int
    body: RequestBody


@dataclass(frozen=True, slots=True)
class Pong:
    library_is_up: bool


@dataclass(frozen=True, slots=True)
class Found:
    """A drive; `first_address` is that of the library's first one. `label` is ``None`` if the drive is empty."""

    address: int
    first_address: int
    label: str | None = None


@dataclass(frozen=True, slots=True)
class Loaded:
    message: str | None = None


@dataclass(frozen=True, slots=True)
class Unloaded:
    """`address` is where the medium `label` went; if the drive was empty, they are 0 and empty."""

    label: str
    address: int
    message: str | None = None


@dataclass(frozen=True, slots=True)
class Elements:
    """`elements` is a JSON array."""

    elements: str
    message: str | None = None


@dataclass(frozen=True, slots=True)
class Refreshed:
    value: bool = True


@dataclass(frozen=True, slots=True)
class Statistics:
    stats: str


@dataclass(frozen=True, slots=True)
class Failed:
    """`rc` is a negative errno."""

    rc: int
    message: str | None = None


ResponseBody = Pong | Found | Loaded | Unloaded | Elements | Refreshed | Statistics | Failed


@dataclass(frozen=True, slots=True)
class Response:
    """`request_id` is the id of the request it answers."""

    request_id: int
    body: ResponseBody


class MalformedRequestError(Exception):
    """A request that can be parsed but lacks a part or contradicts itself; its sender gets EINVAL."""

    def __init__(self, request_id: int, message: str) -> None:
        super().__init__(message)
        self.request_id = request_id


def frame_decoder() -> framing.FrameDecoder:
    """Takes apart what either side receives; its messages are for `decode_request` and `decode_response`."""
    return framing.FrameDecoder(version=PROTOCOL_VERSION)


def request_frame(request: Request) -> bytes:
    message = pb.Request(id=request.id)
    _ENCODERS[type(request.body)](message, request.body)
    return framing.encode_frame(message.SerializeToString(), PROTOCOL_VERSION)


def response_frame(response: Response) -> bytes:
    message = pb.Response(request_id=response.request_id)
    _ENCODERS[type(response.body)](message, response.body)
    return framing.encode_frame(message.SerializeToString(), PROTOCOL_VERSION)


def decode_request(message: bytes) -> Request:
    """The request in `message`.

    Raises:
        ProtocolError: it is no request, or has no id, so that nobody could be answered.
        MalformedRequestError: it is one, but cannot be understood.
    """
    parsed = parse(pb.Request(), message)
    if not parsed.HasField("id"):
        raise ProtocolError("a request without an id")
    bodies = [(field.name, value) for field, value in parsed.ListFields() if field.name in _REQUESTS]
    if len(bodies) != 1:
        what = " and ".join(name for name, _ in bodies) or "nothing that this controller knows"
        raise MalformedRequestError(parsed.id, f"the request asks for {what}")
    name, value = bodies[0]
    try:
        return Request(parsed.id, _REQUESTS[name](value))
    except MissingError as error:
        raise MalformedRequestError(parsed.id, f"{name}: {error}") from None


def decode_response(message: bytes) -> Response:
    """The response in `message`.

    Raises:
        ProtocolError: it is no response, or an incomplete one.
    """
    parsed = parse(pb.Response(), message)
    bodies = [(field.name, value) for field, value in parsed.ListFields() if field.name in _RESPONSES]
    if not parsed.HasField("request_id") or len(bodies) != 1:
        raise ProtocolError("a response without an id or with other than one body")
    name, value = bodies[0]
    try:
        return Response(parsed.request_id, _RESPONSES[name](value))
    except MissingError as error:
        raise ProtocolError(f"a response that lacks a part: {error}") from None


def _status(message: pb.Status) -> Status:
    require(message, "refresh")
    return Status(message.refresh)


def _pong(message: pb.Pong) -> Pong:
    require(message, "library_is_up")
    return Pong(message.library_is_up)


def _found(message: pb.Found) -> Found:
    require(message, "address", "first_address")
    return Found(message.address, message.first_address, optional(message, "label"))


def _unloaded(message: pb.Unloaded) -> Unloaded:
    require(message, "address")
    return Unloaded(text(message, "label"), message.address, optional(message, "message"))


def _failed(message: pb.Error) -> Failed:
    require(message, "rc")
    return Failed(message.rc, optional(message, "message"))


_REQUESTS: dict[str, Callable[..., RequestBody]] = {
    "ping": Ping,
    "look_up": lambda message: LookUp(text(message, "serial")),
    "load": lambda message: Load(text(message, "serial"), text(message, "label")),
    "unload": lambda message: Unload(text(message, "serial"), optional(message, "label")),
    "status": _status,
    "refresh": Refresh,
    "stat": lambda message: Stat(optional(message, "ns"), optional(message, "name"), optional(message, "tags")),
}

_RESPONSES: dict[str, Callable[..., ResponseBody]] = {
    "ping": _pong,
    "look_up": _found,
    "load": lambda message: Loaded(optional(message, "message")),
    "unload": _unloaded,
    "status": lambda message: Elements(text(message, "elements"), optional(message, "message")),
    "refresh": Refreshed,
    "stat": lambda message: Statistics(text(message, "stats")),
    "error": _failed,
}


def _put_ping(request: pb.Request, body: Ping) -> None:
    request.ping = body.value


def _put_look_up(request: pb.Request, body: LookUp) -> None:
    request.look_up.serial = body.serial


def _put_load(request: pb.Request, body: Load) -> None:
    request.load.CopyFrom(pb.Load(serial=body.serial, label=body.label))


def _put_unload(request: pb.Request, body: Unload) -> None:
    request.unload.CopyFrom(pb.Unload(serial=body.serial, label=body.label))


def _put_status(request: pb.Request, body: Status) -> None:
    request.status.refresh = body.refresh


def _put_refresh(message: pb.Request | pb.Response, body: Refresh | Refreshed) -> None:
    message.refresh = body.value


def _put_stat(request: pb.Request, body: Stat) -> None:
    request.stat.CopyFrom(pb.Stat(ns=body.ns, name=body.name, tags=body.tags))


def _put_pong(response: pb.Response, body: Pong) -> None:
    response.ping.library_is_up = body.library_is_up


def _put_found(response: pb.Response, body: Found) -> None:
    response.look_up.CopyFrom(pb.Found(address=body.address, first_address=body.first_address, label=body.label))


def _put_loaded(response: pb.Response, body: Loaded) -> None:
    response.load.CopyFrom(pb.Loaded(message=body.message))


def _put_unloaded(response: pb.Response, body: Unloaded) -> None:
    response.unload.CopyFrom(pb.Unloaded(label=body.label, address=body.address, message=body.message))


def _put_elements(response: pb.Response, body: Elements) -> None:
    response.status.CopyFrom(pb.Elements(elements=body.elements, message=body.message))


def _put_statistics(response: pb.Response, body: Statistics) -> None:
    response.stat.stats = body.stats


def _put_failed(response: pb.Response, body: Failed) -> None:
    response.error.CopyFrom(pb.Error(rc=body.rc, message=body.message))


_ENCODERS: dict[type, Callable[..., None]] = {
    Ping: _put_ping,
    LookUp: _put_look_up,
    Load: _put_load,
    Unload: _put_unload,
    Status: _put_status,
    Refresh: _put_refresh,
    Stat: _put_stat,
    Pong: _put_pong,
    Found: _put_found,
    Loaded: _put_loaded,
    Unloaded: _put_unloaded,
    Elements: _put_elements,
    Refreshed: _put_refresh,
    Statistics: _put_statistics,
    Failed: _put_failed,
}
