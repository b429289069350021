"""How Phobos 3.3 reads the text of a value."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

HIGHEST_INT: Final = 2**31 - 1
HIGHEST_UNSIGNED: Final = 2**32 - 1
HIGHEST_LONG: Final = 2**64 - 1

_SIGNED: Final = re.compile(r"\s*[+-]?[0-9]{1,20}", re.ASCII)
_UNSIGNED: Final = re.compile(r"\s*\+?[0-9]{1,20}", re.ASCII)
_SHARES: Final = re.compile(r"([0-9]{1,10}),([0-9]{1,10}),([0-9]{1,10})", re.ASCII)


def whole_number(text: str) -> int | None:
    """`text` as a C int, ``None`` if it is something else."""
    number = int(text) if _SIGNED.fullmatch(text) else None
    return number if number is not None and -HIGHEST_INT - 1 <= number <= HIGHEST_INT else None


def switch(text: str) -> bool | None:
    """`text` as true or false, ``None`` if it is anything else, such as True or yes."""
    return {"true": True, "false": False}.get(text)


def names(text: str) -> list[str]:
    """The items of a list; blanks belong to them, empty ones do not count."""
    return [name for name in text.split(",") if name]


def by_family(text: str) -> dict[str, str]:
    """The values of a list like ``tape=10000,dir=10``; the first one of a family counts."""
    values: dict[str, str] = {}
    for item in text.split(","):
        family, equals, value = item.partition("=")
        if equals:
            values.setdefault(family, value)
    return values


def within(text: str, lowest: int, highest: int) -> int | None:
    """`text` as a number from `lowest` to `highest`, ``None`` if it is none of those; a minus is an error even at 0."""
    number = int(text) if _UNSIGNED.fullmatch(text) else None
    return number if number is not None and lowest <= number <= highest else None


def shares(text: str) -> tuple[int, int, int] | None:
    """`text` as numbers of drives for reads, writes and formats, ``None`` if it is something else."""
    found = _SHARES.fullmatch(text)
    if found is None:
        return None
    reads, writes, formats = map(int, found.groups())
    return (reads, writes, formats) if max(reads, writes, formats) <= HIGHEST_INT else None


def as_written(name: str, known: Iterable[str]) -> str | None:
    """That of the `known` names that `name` is as it is in a variable, in capitals or small; ``None`` if it is none."""
    same = (other for other in known if in_variable(other) == in_variable(name))
    return next(same, None)


def in_variable(name: str) -> str:
    """What becomes of the name of a section in that of a variable: in capitals, without quotes, `_` for blanks."""
    return name.upper().replace('"', "").replace(" ", "_")
