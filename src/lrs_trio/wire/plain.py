"""Messages as plain values that JSON has, and back: how a trace keeps them.

The names of the bodies are those of the protocol. What reports say is not kept, only how long it was: it is long, and
no request depends on it.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from typing import Any

from lrs_trio.plain import from_plain, to_plain
from lrs_trio.wire import messages as m

REQUEST = "request"
RESPONSE = "response"

_REQUESTS: dict[str, type[m.RequestBody]] = {
    "write": m.WriteAllocation,
    "read": m.ReadAllocation,
    "release": m.Release,
    "format": m.Format,
    "notify": m.Notify,
    "ping": m.Ping,
    "monitor": m.Monitor,
    "configure": m.Configure,
    "stat": m.Stat,
    "status": m.Status,
    "revoke": m.Revoke,
}

_RESPONSES: dict[str, type[m.ResponseBody]] = {
    "write": m.WriteGranted,
    "read": m.ReadGranted,
    "release": m.Released,
    "format": m.Formatted,
    "notify": m.Notified,
    "error": m.Failed,
    "ping": m.Pong,
    "monitor": m.Monitored,
    "configure": m.Configured,
    "stat": m.Statistics,
    "status": m.StatusReport,
    "revoke": m.Revoked,
}

_NAMES: dict[type, str] = {kind: name for names in (_REQUESTS, _RESPONSES) for name, kind in names.items()}
# What a configuration answers is short, and says what clients go by.
_REPORTS = {kind: field for kind, field in m.REPORTS.items() if kind is not m.Configured}


def plain_message(message: object) -> dict[str, object]:
    """`message` with its ``kind``: a `Request`, a `Response`, or the bytes of a request that cannot be understood."""
    if isinstance(message, m.Request):
        plain: dict[str, object] = {"kind": REQUEST, "id": message.id}
        if message.qos is not None:
            plain["qos"] = message.qos
        if message.priority is not None:
            plain["priority"] = message.priority
        return plain | {_NAMES[type(message.body)]: to_plain(message.body)}
    if isinstance(message, m.Response):
        return {"kind": RESPONSE, "id": message.request_id, _NAMES[type(message.body)]: _plain_answer(message.body)}
    assert isinstance(message, bytes)
    return {"kind": REQUEST, "raw": b64encode(message).decode()}


def request_of(plain: Mapping[str, Any]) -> m.Request:
    """The request in `plain`, which has no ``raw`` bytes.

    Raises:
        ValueError: there is none.
    """
    name, kind = _body(plain, _REQUESTS)
    qos, priority = (from_plain(int, plain[key]) if key in plain else None for key in ("qos", "priority"))
    return m.Request(from_plain(int, plain.get("id")), from_plain(kind, plain[name]), qos, priority)


def response_of(plain: Mapping[str, Any]) -> m.Response:
    """The response in `plain`; the text of a report is empty.

    Raises:
        ValueError: there is none.
    """
    name, kind = _body(plain, _RESPONSES)
    body = from_plain(kind, {_REPORTS[kind]: ""} if kind in _REPORTS else plain[name])
    return m.Response(from_plain(int, plain.get("id")), body)


def _plain_answer(body: m.ResponseBody) -> object:
    if (text := _REPORTS.get(type(body))) is not None:
        return {"length": len(getattr(body, text))}
    return to_plain(body)


def _body(plain: Mapping[str, Any], kinds: Mapping[str, Any]) -> tuple[str, Any]:
    names = [name for name in plain if name in kinds]
    if len(names) != 1:
        raise ValueError("a message without a body that is known")
    return names[0], kinds[names[0]]
