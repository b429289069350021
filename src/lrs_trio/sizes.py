"""Sizes in bytes as people write and read them: 4096, 64KiB, 1GiB, 20TB."""

from __future__ import annotations

import re

UNITS = {
    "": 1,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "KIB": 2**10,
    "MIB": 2**20,
    "GIB": 2**30,
    "TIB": 2**40,
}

SIZE_ALLOWED = "a number of bytes, plain or with KiB, MiB, GiB, TiB, KB, MB, GB or TB"

_SIZE = re.compile(r"([0-9]{1,19}) ?([KMGT]I?B)?", re.IGNORECASE | re.ASCII)


def parse_size(text: str) -> int:
    """The number of bytes that `text` means.

    Raises:
        ValueError: `text` is not a size; the error says what one looks like.
    """
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        raise ValueError(SIZE_ALLOWED)
    number, unit = found.groups(default="")
    return int(number) * UNITS[unit.upper()]


def exact_size(size: int) -> str:
    """`size` in the largest binary unit that expresses it exactly; `parse_size` gives it back."""
    for unit in ("TiB", "GiB", "MiB", "KiB"):
        scale = UNITS[unit.upper()]
        if size and size % scale == 0:
            return f"{size // scale}{unit}"
    return str(size)


def human_size(size: int) -> str:
    """`size` bytes to three digits or so, in binary units."""
    if abs(size) < 1024:
        return f"{size} B"
    units = iter(("KiB", "MiB", "GiB", "TiB", "PiB", "EiB"))
    value, unit = size / 1024, next(units)
    while abs(value) >= 999.5:
        value, unit = value / 1024, next(units)
    return f"{value:.1f} {unit}" if abs(value) < 99.95 else f"{value:.0f} {unit}"
