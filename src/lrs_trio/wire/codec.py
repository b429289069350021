"""Messages to bytes and back: protobuf outside, typed requests and responses inside."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import IntEnum
from functools import lru_cache
from typing import Any, TypeVar

from google.protobuf.message import DecodeError

from lrs_trio.errors import ProtocolError
from lrs_trio.model import (
    AddressType,
    ConfigureOperation,
    Family,
    FsType,
    NotifyOperation,
    ReadOperation,
    RequestKind,
    ResourceId,
    SyncThresholds,
)
from lrs_trio.wire import lrs_pb2 as pb
from lrs_trio.wire import messages as m
from lrs_trio.wire.fields import MissingError, checked_text, no_message, optional, parse, require

T = TypeVar("T")

MOST_MEDIA = 1024
"""Media that one request may name: each costs time of the only loop, from here on."""

MOST_TAGS = 1024
"""Tags that one write may ask for, of all its media together: each is looked for on every medium."""

LONGEST_GROUPING = 1024
"""Characters of a grouping: a medium remembers the groupings of all that was written on it."""

KEPT_NAMES = 4096
LONGEST_KEPT = 512
"""How many names of media are kept, and how many bytes of a name: bounded, for anybody may send names."""
KEPT_THRESHOLDS = 8
KEPT_ANSWERS = 1024
"""Of each kind: about as many as there are media in use at a time."""

# Faster than to call an enumeration; a number that is none of it has been set aside by the parser.
_FAMILY_OF: dict[int, Family] = {member.value: member for member in Family}
_KIND_OF: dict[int, RequestKind] = {member.value: member for member in RequestKind}
_OPERATION_OF: dict[int, ReadOperation] = {member.value: member for member in ReadOperation}

_TWO_64 = 1 << 64
_TWO_63 = 1 << 63
_NANOSECONDS = 1_000_000_000


class MalformedRequestError(Exception):
    """A request that can be parsed but lacks a part or contradicts itself; its sender gets EINVAL.

    `kind` names the request in the error response, ``None`` if it cannot be told. `silent` says that no
    response is waited for, not even this one.
    """

    def __init__(self, request_id: int, kind: RequestKind | None, message: str, *, silent: bool = False) -> None:
        super().__init__(message)
        self.request_id = request_id
        self.kind = kind
        self.silent = silent


def decode_request(message: bytes) -> m.Request:
    """The request in `message`.

    Raises:
        ProtocolError: it is no request, or has no id, so that nobody could be answered.
        MalformedRequestError: it is one, but cannot be understood.
    """
    try:
        parsed = pb.Request.FromString(message)
    except DecodeError as error:
        raise no_message(error) from None
    # In the order of their numbers: the id, what the order of service depends on, the bodies.
    fields = parsed.ListFields()
    if not fields or fields[0][0] is not _ID:
        raise ProtocolError("a request without an id")
    field, value = fields[-1]
    decode = _REQUEST_FIELDS.get(field)
    if decode is None or fields[-2][0] in _REQUEST_FIELDS:
        raise _contradictory(parsed)
    # A medium, a tag or a character takes a byte at least.
    if len(message) > MOST_MEDIA and (excess := _excess(value)):
        silent = field.name == "release" and not any(medium.to_sync for medium in value.media[:MOST_MEDIA])
        text = f"{field.name}: {excess} are allowed"
        raise MalformedRequestError(parsed.id, _kind(field.name, parsed), text, silent=silent)
    try:
        body = decode(value)
    except MissingError as error:
        name = field.name
        silent = name == "notify" and parsed.notify.HasField("wait") and not parsed.notify.wait
        raise MalformedRequestError(parsed.id, _kind(name, parsed), f"{name}: {error}", silent=silent) from None
    if len(fields) == 2:
        return m.Request(parsed.id, body)
    return m.Request(
        parsed.id,
        body,
        parsed.qos if parsed.HasField("qos") else None,
        parsed.priority if parsed.HasField("priority") else None,
    )


def _excess(body: Any) -> str:
    """What a request has too much of; empty if nothing."""
    media = getattr(body, "media", ())
    if len(media) > MOST_MEDIA:
        return f"{len(media)} media are named; {MOST_MEDIA}"
    tags = sum(len(medium.tags) for medium in media) if isinstance(body, pb.WriteAllocation) else 0
    if tags > MOST_TAGS:
        return f"{tags} tags are named; {MOST_TAGS}"
    named = media if isinstance(body, pb.Release) else (body,)
    longest = max((len(getattr(part, "grouping", "")) for part in named), default=0)
    return f"a grouping has {longest} characters; {LONGEST_GROUPING}" if longest > LONGEST_GROUPING else ""


def may_be_release(message: bytes) -> bool:
    """``False`` if it is plain, without a look at its parts, that `message` is no release."""
    return _RELEASE in message


def _contradictory(request: pb.Request) -> MalformedRequestError:
    """What becomes of a request with no body, or with several."""
    names = [field.name for field, _ in request.ListFields() if field in _REQUEST_FIELDS]
    what = " and ".join(names) or "nothing that this daemon knows"
    return MalformedRequestError(request.id, _KINDS.get(names[0]) if names else None, f"the request asks for {what}")


def _kind(name: str, request: pb.Request) -> RequestKind | None:
    """What an error response calls the request whose body has that name."""
    if name == "release" and RequestKind(request.release.kind) is RequestKind.RELEASE_READ:
        return RequestKind.RELEASE_READ
    return _KINDS.get(name)


def decode_response(message: bytes) -> m.Response:
    """The response in `message`.

    Raises:
        ProtocolError: it is no response, or an incomplete one.
    """
    parsed = parse(pb.Response(), message)
    bodies = [(field.name, value) for field, value in parsed.ListFields() if field.name in _RESPONSE_BODIES]
    if not parsed.HasField("request_id") or len(bodies) != 1:
        raise ProtocolError("a response without an id or with other than one body")
    name, value = bodies[0]
    try:
        return m.Response(parsed.request_id, _RESPONSE_BODIES[name](value))
    except MissingError as error:
        raise ProtocolError(f"a response that lacks a part: {error}") from None


def encode_request(request: m.Request) -> bytes:
    message = pb.Request(id=request.id, qos=request.qos, priority=request.priority)
    _ENCODERS[type(request.body)](message, request.body)
    return message.SerializeToString()


def encode_response(response: m.Response) -> bytes:
    body = response.body
    message = _ANSWERS.get(type(body), _answer)(body)
    message.request_id = response.request_id
    return message.SerializeToString()


def _answer(body: m.ResponseBody) -> pb.Response:
    """A response without an id."""
    message = pb.Response()
    _ENCODERS[type(body)](message, body)
    return message


def _unsigned(number: int) -> int:
    return number % _TWO_64


# Parts that several messages have.


def _resource(message: pb.ResourceId) -> ResourceId:
    # To have its bytes is faster than to look at each of its fields.
    data = message.SerializeToString()
    return _known(data) if len(data) <= LONGEST_KEPT else _named(data)


def _named(data: bytes) -> ResourceId:
    message = pb.ResourceId.FromString(data)
    require(message, "family", "name", "library")
    return ResourceId(_FAMILY_OF[message.family], checked_text(message.name), checked_text(message.library))


_known = lru_cache(KEPT_NAMES)(_named)
"""The same media are named again and again: each is one object, which is found faster than it is made."""


def _resources(messages: Sequence[pb.ResourceId]) -> tuple[ResourceId, ...]:
    return _each(messages, _resource)


def _each(messages: Sequence[Any], decode: Callable[[Any], T]) -> tuple[T, ...]:
    # Mostly it is one; a part of the sequence is made at once, while one to iterate over looks for its end in vain.
    return (decode(messages[0]),) if len(messages) == 1 else tuple(map(decode, messages[:]))


def _pb_resource(resource: ResourceId) -> pb.ResourceId:
    return _put_resource(pb.ResourceId(), resource)


def _put_resource(message: pb.ResourceId, resource: ResourceId) -> pb.ResourceId:
    message.family, message.name, message.library = _number(resource.family), resource.name, resource.library
    return message


def _thresholds(message: pb.SyncThreshold) -> SyncThresholds:
    require(message, "requests", "bytes", "seconds", "nanoseconds")
    age = message.seconds + message.nanoseconds / _NANOSECONDS
    return SyncThresholds(age=age, requests=message.requests, size=message.bytes)


@lru_cache(KEPT_THRESHOLDS)
def _pb_thresholds(thresholds: SyncThresholds) -> pb.SyncThreshold:
    seconds, nanoseconds = divmod(round(thresholds.age * _NANOSECONDS), _NANOSECONDS)
    return pb.SyncThreshold(
        requests=thresholds.requests, bytes=thresholds.size, seconds=seconds, nanoseconds=nanoseconds
    )


def _number(member: IntEnum) -> Any:
    """The model's enumerations carry the wire's numbers; the generated code has types of its own for them."""
    return member


# Requests. Of those that come all the time each field is looked for here: `require`, which costs more, finds out which
# one is missing.


def _write(message: pb.WriteAllocation) -> m.WriteAllocation:
    has = message.HasField
    if not (has("family") and has("prevent_duplicate") and has("no_split")):
        require(message, "family", "prevent_duplicate", "no_split")
    return m.WriteAllocation(
        _each(message.media, _write_medium),
        _FAMILY_OF[message.family],
        message.prevent_duplicate,
        checked_text(message.library) if has("library") else None,
        message.no_split,
        _grouping(message.grouping) if has("grouping") else None,
    )


def _grouping(text: str) -> str:
    if "\0" in checked_text(text):
        raise MissingError("a grouping has a NUL character, which the state database cannot keep")
    return text


def _write_medium(message: pb.WriteAllocation.Medium) -> m.WriteMedium:
    if not (message.HasField("size") and message.HasField("empty_medium")):
        require(message, "size", "empty_medium")
    tags = message.tags
    return m.WriteMedium(message.size, tuple(map(checked_text, tags)) if tags else (), message.empty_medium)


def _read(message: pb.ReadAllocation) -> m.ReadAllocation:
    if not (message.HasField("n_required") and message.HasField("operation")):
        require(message, "n_required", "operation")
    return m.ReadAllocation(message.n_required, _resources(message.media), _OPERATION_OF[message.operation])


def _release(message: pb.Release) -> m.Release:
    if not (message.HasField("partial") and message.HasField("kind")):
        require(message, "partial", "kind")
    return m.Release(_each(message.media, _released_medium), _KIND_OF[message.kind], message.partial)


def _released_medium(message: pb.Release.Medium) -> m.ReleasedMedium:
    has = message.HasField
    if not (has("medium") and has("rc") and has("size_written") and has("extents_written") and has("to_sync")):
        require(message, "medium", "rc", "size_written", "extents_written", "to_sync")
    size, extents = message.size_written, message.extents_written
    return m.ReleasedMedium(
        _resource(message.medium),
        message.rc,
        size if size < _TWO_63 else size - _TWO_64,
        extents if extents < _TWO_63 else extents - _TWO_64,
        message.to_sync,
        _grouping(message.grouping) if has("grouping") else None,
    )


def _format(message: pb.Format) -> m.Format:
    require(message, "medium", "fs_type", "unlock", "force")
    return m.Format(_resource(message.medium), FsType(message.fs_type), message.unlock, message.force)


def _notify(message: pb.Notify) -> m.Notify:
    require(message, "resource", "operation", "wait")
    return m.Notify(_resource(message.resource), NotifyOperation(message.operation), message.wait)


def _monitor(message: pb.Monitor) -> m.Monitor:
    require(message, "family")
    return m.Monitor(Family(message.family))


def _configure(message: pb.Configure) -> m.Configure:
    require(message, "operation", "configuration")
    return m.Configure(ConfigureOperation(message.operation), checked_text(message.configuration))


def _stat(message: pb.Stat) -> m.Stat:
    return m.Stat(optional(message, "ns"), optional(message, "name"), optional(message, "tags"))


def _revoke(message: pb.Revoke) -> m.Revoke:
    return m.Revoke(
        tuple(map(checked_text, message.media)),
        optional(message, "library"),
        message.client if message.HasField("client") else None,
        message.pid if message.HasField("pid") else None,
    )


_REQUEST_BODIES: dict[str, Callable[..., m.RequestBody]] = {
    "write": _write,
    "read": _read,
    "release": _release,
    "format": _format,
    "notify": _notify,
    "ping": m.Ping,
    "monitor": _monitor,
    "configure": _configure,
    "stat": _stat,
    "status": lambda message: m.Status(),
    "revoke": _revoke,
}

_FIELDS: tuple[Any, ...] = tuple(pb.Request.DESCRIPTOR.fields)
"""All of them, held here: a description that nobody holds is made anew whenever a message is asked for its fields."""
_ID = pb.Request.DESCRIPTOR.fields_by_name["id"]
_RELEASE = bytes([pb.Request.DESCRIPTOR.fields_by_name["release"].number << 3 | 2])
"""With what a release begins in a message: its number and how it is encoded, in a byte."""
_REQUEST_FIELDS = {field: _REQUEST_BODIES[field.name] for field in _FIELDS if field.name in _REQUEST_BODIES}
"""How to decode the body in that field."""

_KINDS = {
    "write": RequestKind.WRITE,
    "read": RequestKind.READ,
    "release": RequestKind.RELEASE_WRITE,
    "format": RequestKind.FORMAT,
    "notify": RequestKind.NOTIFY,
    "monitor": RequestKind.MONITOR,
    "configure": RequestKind.CONFIGURE,
    "stat": RequestKind.STAT,
}


def _put_write(request: pb.Request, body: m.WriteAllocation) -> None:
    request.write.CopyFrom(
        pb.WriteAllocation(
            media=[
                pb.WriteAllocation.Medium(size=medium.size, tags=medium.tags, empty_medium=medium.empty_medium)
                for medium in body.media
            ],
            family=_number(body.family),
            prevent_duplicate=body.prevent_duplicate,
            library=body.library,
            no_split=body.no_split,
            grouping=body.grouping,
        )
    )


def _put_read(request: pb.Request, body: m.ReadAllocation) -> None:
    request.read.CopyFrom(
        pb.ReadAllocation(
            n_required=body.n_required, media=map(_pb_resource, body.media), operation=_number(body.operation)
        )
    )


def _put_release(request: pb.Request, body: m.Release) -> None:
    request.release.CopyFrom(
        pb.Release(
            media=[
                pb.Release.Medium(
                    medium=_pb_resource(medium.medium),
                    rc=medium.rc,
                    size_written=_unsigned(medium.size_written),
                    extents_written=_unsigned(medium.extents_written),
                    to_sync=medium.to_sync,
                    grouping=medium.grouping,
                )
                for medium in body.media
            ],
            partial=body.partial,
            kind=_number(body.kind),
        )
    )


def _put_format(request: pb.Request, body: m.Format) -> None:
    request.format.CopyFrom(
        pb.Format(medium=_pb_resource(body.medium), fs_type=_number(body.fs_type), unlock=body.unlock, force=body.force)
    )


def _put_notify(request: pb.Request, body: m.Notify) -> None:
    request.notify.CopyFrom(
        pb.Notify(resource=_pb_resource(body.resource), operation=_number(body.operation), wait=body.wait)
    )


def _put_ping(message: pb.Request | pb.Response, body: m.Ping | m.Pong) -> None:
    message.ping = body.value


def _put_monitor(request: pb.Request, body: m.Monitor) -> None:
    request.monitor.family = _number(body.family)


def _put_configure(request: pb.Request, body: m.Configure) -> None:
    request.configure.CopyFrom(pb.Configure(operation=_number(body.operation), configuration=body.configuration))


def _put_stat(request: pb.Request, body: m.Stat) -> None:
    request.stat.CopyFrom(pb.Stat(ns=body.ns, name=body.name, tags=body.tags))


def _put_status(request: pb.Request, body: m.Status) -> None:
    request.status.SetInParent()


def _put_revoke(request: pb.Request, body: m.Revoke) -> None:
    request.revoke.CopyFrom(pb.Revoke(media=body.media, library=body.library, client=body.client, pid=body.pid))


# Responses.


def _write_granted(message: pb.WriteGranted) -> m.WriteGranted:
    thresholds = _thresholds(message.threshold) if message.HasField("threshold") else None
    return m.WriteGranted(tuple(map(_write_granted_medium, message.media)), thresholds)


def _write_granted_medium(message: pb.WriteGranted.Medium) -> m.GrantedMedium:
    require(message, "medium", "avail_size", "root", "fs_type", "address_type")
    return m.GrantedMedium(
        _resource(message.medium),
        checked_text(message.root),
        FsType(message.fs_type),
        AddressType(message.address_type),
        message.avail_size,
    )


def _read_granted(message: pb.ReadGranted) -> m.ReadGranted:
    return m.ReadGranted(tuple(map(_read_granted_medium, message.media)))


def _read_granted_medium(message: pb.ReadGranted.Medium) -> m.GrantedMedium:
    require(message, "medium", "root", "fs_type", "address_type")
    return m.GrantedMedium(
        _resource(message.medium),
        checked_text(message.root),
        FsType(message.fs_type),
        AddressType(message.address_type),
    )


def _released(message: pb.Released) -> m.Released:
    require(message, "partial", "kind")
    return m.Released(_resources(message.media), RequestKind(message.kind), message.partial)


def _formatted(message: pb.Formatted) -> m.Formatted:
    require(message, "medium")
    return m.Formatted(_resource(message.medium))


def _notified(message: pb.Notified) -> m.Notified:
    require(message, "resource")
    return m.Notified(_resource(message.resource))


def _failed(message: pb.Error) -> m.Failed:
    require(message, "rc", "kind")
    return m.Failed(message.rc, RequestKind(message.kind))


def _monitored(message: pb.Monitored) -> m.Monitored:
    require(message, "status")
    return m.Monitored(checked_text(message.status))


def _configured(message: pb.Configured) -> m.Configured:
    return m.Configured(optional(message, "configuration"))


def _statistics(message: pb.Statistics) -> m.Statistics:
    require(message, "stats")
    return m.Statistics(checked_text(message.stats))


def _status_report(message: pb.StatusReport) -> m.StatusReport:
    require(message, "status")
    return m.StatusReport(checked_text(message.status))


def _revoked(message: pb.Revoked) -> m.Revoked:
    require(message, "revoked")
    return m.Revoked(checked_text(message.revoked))


_RESPONSE_BODIES: dict[str, Callable[..., m.ResponseBody]] = {
    "write": _write_granted,
    "read": _read_granted,
    "release": _released,
    "format": _formatted,
    "notify": _notified,
    "error": _failed,
    "ping": m.Pong,
    "monitor": _monitored,
    "configure": _configured,
    "stat": _statistics,
    "status": _status_report,
    "revoke": _revoked,
}


def _put_write_granted(response: pb.Response, body: m.WriteGranted) -> None:
    message = response.write
    message.SetInParent()
    for granted in body.media:
        medium = message.media.add()
        _put_granted_medium(medium, granted)
        medium.avail_size = granted.avail_size
    if body.thresholds is not None:
        message.threshold.CopyFrom(_pb_thresholds(body.thresholds))


def _put_granted_medium(medium: pb.WriteGranted.Medium | pb.ReadGranted.Medium, granted: m.GrantedMedium) -> None:
    _put_resource(medium.medium, granted.medium)
    medium.root = granted.root
    medium.fs_type, medium.address_type = _number(granted.fs_type), _number(granted.address_type)


def _put_read_granted(response: pb.Response, body: m.ReadGranted) -> None:
    message = response.read
    message.SetInParent()
    for granted in body.media:
        _put_granted_medium(message.media.add(), granted)


def _put_released(response: pb.Response, body: m.Released) -> None:
    message = response.release
    for medium in body.media:
        _put_resource(message.media.add(), medium)
    message.partial, message.kind = body.partial, _number(body.kind)


# What is answered all the time, for one medium, is kept apart from its numbers: to set these is faster than to make it.
# They are what differs from answer to answer, and take no more room however often they are set. Between that and its
# bytes nobody else may set them: only the one thread of a loop answers.


def _write_answer(body: m.WriteGranted) -> pb.Response:
    if len(body.media) != 1:
        return _answer(body)
    (granted,) = body.media
    answer, medium = _write_kept(granted.medium, granted.root, granted.fs_type, granted.address_type, body.thresholds)
    medium.avail_size = granted.avail_size
    return answer


@lru_cache(KEPT_ANSWERS)
def _write_kept(
    medium: ResourceId, root: str, fs_type: FsType, address_type: AddressType, thresholds: SyncThresholds | None
) -> tuple[pb.Response, pb.WriteGranted.Medium]:
    answer = _answer(m.WriteGranted((m.GrantedMedium(medium, root, fs_type, address_type),), thresholds))
    return answer, answer.write.media[0]


def _read_answer(body: m.ReadGranted) -> pb.Response:
    if len(body.media) != 1:
        return _answer(body)
    (granted,) = body.media
    return _read_kept(granted.medium, granted.root, granted.fs_type, granted.address_type)


@lru_cache(KEPT_ANSWERS)
def _read_kept(medium: ResourceId, root: str, fs_type: FsType, address_type: AddressType) -> pb.Response:
    return _answer(m.ReadGranted((m.GrantedMedium(medium, root, fs_type, address_type),)))


def _release_answer(body: m.Released) -> pb.Response:
    return _release_kept(body.media[0], body.kind, body.partial) if len(body.media) == 1 else _answer(body)


@lru_cache(KEPT_ANSWERS)
def _release_kept(medium: ResourceId, kind: RequestKind, partial: bool) -> pb.Response:
    return _answer(m.Released((medium,), kind, partial))


_ANSWERS: dict[type, Callable[..., pb.Response]] = {
    m.WriteGranted: _write_answer,
    m.ReadGranted: _read_answer,
    m.Released: _release_answer,
}


def _put_formatted(response: pb.Response, body: m.Formatted) -> None:
    response.format.medium.CopyFrom(_pb_resource(body.medium))


def _put_notified(response: pb.Response, body: m.Notified) -> None:
    response.notify.resource.CopyFrom(_pb_resource(body.resource))


def _put_failed(response: pb.Response, body: m.Failed) -> None:
    response.error.CopyFrom(pb.Error(rc=body.rc, kind=_number(body.kind)))


def _put_monitored(response: pb.Response, body: m.Monitored) -> None:
    response.monitor.status = body.status


def _put_configured(response: pb.Response, body: m.Configured) -> None:
    response.configure.CopyFrom(pb.Configured(configuration=body.configuration))


def _put_statistics(response: pb.Response, body: m.Statistics) -> None:
    response.stat.stats = body.stats


def _put_status_report(response: pb.Response, body: m.StatusReport) -> None:
    response.status.status = body.status


def _put_revoked(response: pb.Response, body: m.Revoked) -> None:
    response.revoke.revoked = body.revoked


_ENCODERS: dict[type, Callable[..., None]] = {
    m.WriteAllocation: _put_write,
    m.ReadAllocation: _put_read,
    m.Release: _put_release,
    m.Format: _put_format,
    m.Notify: _put_notify,
    m.Ping: _put_ping,
    m.Monitor: _put_monitor,
    m.Configure: _put_configure,
    m.Stat: _put_stat,
    m.Status: _put_status,
    m.Revoke: _put_revoke,
    m.WriteGranted: _put_write_granted,
    m.ReadGranted: _put_read_granted,
    m.Released: _put_released,
    m.Formatted: _put_formatted,
    m.Notified: _put_notified,
    m.Failed: _put_failed,
    m.Pong: _put_ping,
    m.Monitored: _put_monitored,
    m.Configured: _put_configured,
    m.Statistics: _put_statistics,
    m.StatusReport: _put_status_report,
    m.Revoked: _put_revoked,
}
