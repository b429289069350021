"""What real clients and the C daemon have said, to be compared frame by frame with what is said here."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Final

from lrs_trio.model import ResourceId
from lrs_trio.wire.codec import decode_request, decode_response, encode_request, encode_response
from lrs_trio.wire.framing import FrameDecoder, encode_frame
from lrs_trio.wire.messages import GrantedMedium, Request
from tests.interop.wire import Said

VECTORS: Final = Path(__file__).parent.parent / "vectors" / "phobos-3.3-frames.jsonl"

_FRAMES: Final = [json.loads(line) for line in VECTORS.read_text().splitlines()]
_HOST: Final = "vm"


def captured(case: str) -> list[Said]:
    """All that was said when the command of `case` ran."""
    return [
        Said(frame["connection"], frame["direction"], bytes.fromhex(frame["frame"]))
        for frame in _FRAMES
        if frame["case"] == case
    ]


def assert_as_captured(said: Sequence[Said], case: str, host: str, directories: Iterable[Path] = ()) -> None:
    """The same frames, but for the names of host and directories, free space and the age of an object.

    Directories are matched in the order in which they are named; where a request names none, `directories` are
    those that stand for d1, d2 and so on. Responses may come in another order.
    """
    assert said, "nothing was said"
    theirs = captured(case)
    stand_ins = {str(path): f"/mnt/arch/dirs/cap/d{number}" for number, path in enumerate(directories, 1)}
    ours = _comparable(said, stand_ins or _numbered(said, host), host)
    reference = _comparable(theirs, {} if stand_ins else _numbered(theirs, _HOST), _HOST)
    for direction in ("request", "response"):
        found = [frame.hex() for _, name, frame in ours if name == direction]
        expected = [frame.hex() for _, name, frame in reference if name == direction]
        if direction == "response":
            found.sort()
            expected.sort()
        assert found == expected, f"{case}: {direction}s"
    assert [number for number, *_ in ours] == [number for number, *_ in reference], f"{case}: connections"


def _numbered(said: Iterable[Said], host: str) -> dict[str, str]:
    """A name for each directory, by the order in which they are first mentioned."""
    names: dict[str, str] = {}
    for frame in said:
        for resource in _resources(_decoded(frame)):
            path = resource.name.removeprefix(f"{host}:")
            names.setdefault(path, f"/directory{len(names) + 1}")
    return names


def _resources(value: object) -> Iterable[ResourceId]:
    if isinstance(value, ResourceId):
        yield value
    elif isinstance(value, tuple):
        for item in value:
            yield from _resources(item)
    elif is_dataclass(value):
        for field in fields(value):
            yield from _resources(getattr(value, field.name))


def _comparable(said: Iterable[Said], names: Mapping[str, str], host: str) -> list[tuple[int, str, bytes]]:
    return [(frame.connection, frame.direction, _renamed_frame(frame, names, host)) for frame in said]


def _renamed_frame(said: Said, names: Mapping[str, str], host: str) -> bytes:
    message = _decoded(said)
    assert _encoded(message) == said.frame
    return _encoded(_renamed(message, {f"{host}:": "host:", **names}))


def _decoded(said: Said) -> Any:
    (payload,) = FrameDecoder().feed(said.frame)
    return decode_request(payload) if said.direction == "request" else decode_response(payload)


def _encoded(message: Any) -> bytes:
    return encode_frame(encode_request(message) if isinstance(message, Request) else encode_response(message))


def _renamed(value: Any, names: Mapping[str, str]) -> Any:
    if isinstance(value, str):
        # The longest first: one name may be the beginning of another.
        for name in sorted(names, key=len, reverse=True):
            value = value.replace(name, names[name])
        return value
    if isinstance(value, ResourceId):
        return ResourceId(value.family, _renamed(value.name, names), _renamed(value.library, names))
    if isinstance(value, tuple):
        return tuple(_renamed(item, names) for item in value)
    if not is_dataclass(value) or isinstance(value, type):
        return value
    if isinstance(value, GrantedMedium):
        value = replace(value, avail_size=0)
    if isinstance(value, Request) and value.priority is not None:
        value = replace(value, priority=0)
    return replace(value, **{field.name: _renamed(getattr(value, field.name), names) for field in fields(value)})
