"""Frozen data as values that JSON has, and back: for files that others read, and that outlive this program.

A dataclass or a named tuple becomes an object of those of its fields that are not at their defaults, a member of an
enumeration its name in small letters, a tuple an array.
"""

from __future__ import annotations

from dataclasses import MISSING, fields, is_dataclass
from enum import Enum
from functools import cache
from types import UnionType
from typing import Any, TypeVar, Union, cast, get_args, get_origin, get_type_hints

T = TypeVar("T")

_PLAIN = frozenset({str, int, float, bool, type(None)})


def to_plain(value: object) -> Any:
    """`value`, made of dataclasses, named tuples, enumerations, tuples, texts, numbers and ``None``, as JSON has it."""
    kind: Any = type(value)
    if kind in _PLAIN:
        return value
    if isinstance(value, Enum):
        return value.name.lower()
    if kind is tuple:
        return [to_plain(part) for part in cast("tuple[object, ...]", value)]
    return {name: to_plain(part) for name, default in _fields(kind) if (part := getattr(value, name)) != default}


def from_plain(kind: type[T], plain: object) -> T:
    """The value of `kind` that `to_plain` has made `plain` of. What a newer program says besides is left out.

    Raises:
        ValueError: `plain` is nothing of that kind.
    """
    return cast("T", _value(kind, plain))


def _value(kind: Any, plain: Any) -> object:
    if get_origin(kind) in (Union, UnionType):
        (present,) = (choice for choice in get_args(kind) if choice is not type(None))
        return None if plain is None else _value(present, plain)
    if get_origin(kind) is tuple:
        return tuple(_value(get_args(kind)[0], part) for part in _checked(list, plain))
    if issubclass(kind, Enum):
        return _member(kind, plain)
    if is_dataclass(kind) or issubclass(kind, tuple):
        return _record(kind, _checked(dict, plain))
    if kind is float and type(plain) is int:
        return float(plain)
    return _checked(kind, plain)


def _member(kind: type[Enum], plain: object) -> Enum:
    try:
        return kind[_checked(str, plain).upper()]
    except KeyError:
        raise ValueError(f"{plain!r} is no {kind.__name__}") from None


def _record(kind: Any, plain: dict[str, Any]) -> object:
    hints = _hints(kind)
    given = {name: _value(hints[name], plain[name]) for name, _ in _fields(kind) if name in plain}
    missing = [name for name, default in _fields(kind) if default is MISSING and name not in given]
    if missing:
        raise ValueError(f"a {kind.__name__} without {', '.join(missing)}")
    return kind(**given)


def _checked(kind: type[T], plain: Any) -> T:
    # Not isinstance: True is an int.
    if type(plain) is not kind:
        raise ValueError(f"{plain!r} is no {kind.__name__}")
    return plain


@cache
def _fields(kind: Any) -> tuple[tuple[str, object], ...]:
    if is_dataclass(kind):
        return tuple((field.name, field.default) for field in fields(kind))
    return tuple((name, kind._field_defaults.get(name, MISSING)) for name in kind._fields)


@cache
def _hints(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind)
