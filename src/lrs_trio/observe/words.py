"""Figures in words that people read."""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from lrs_trio.events import EventKind
from lrs_trio.model import Family
from lrs_trio.observe.timeline import MICROSECONDS

MILLISECOND: Final = MICROSECONDS // 1000
MINUTE: Final = 60 * MICROSECONDS
HOUR: Final = 60 * MINUTE

_STEPS: Final = (
    *(MILLISECOND * step for step in (1, 2, 5, 10, 20, 50, 100, 200, 500)),
    *(MICROSECONDS * step for step in (1, 2, 5, 10, 15, 30)),
    *(MINUTE * step for step in (1, 2, 5, 10, 15, 30)),
    *(HOUR * step for step in (1, 2, 3, 6, 12)),
)
"""Distances that the marks of a scale may have; beyond them, whole days."""


@dataclass(frozen=True, slots=True)
class Scale:
    """The marks of an axis of time, with what is written at each, to be read in `unit`.

    `fine` are those for whoever looks more closely, besides the others.
    """

    unit: str
    marks: Mapping[int, str]
    fine: Mapping[int, str]


def time_scale(begin: int, end: int, most: int = 12, most_fine: int = 80) -> Scale:
    """Round times from `begin` up to `end`: at most `most`, and `most_fine` fine ones."""
    step, fine_step = _step(end - begin, most), _step(end - begin, most_fine)
    unit, write = _writing(fine_step, end)
    marks = {time: write(time) for time in range(-(-begin // step) * step, end + 1, step)}
    fine = {time: write(time) for time in range(-(-begin // fine_step) * fine_step, end + 1, fine_step)}
    return Scale(unit, marks, {time: written for time, written in fine.items() if time not in marks})


def duration(time: int) -> str:
    """`time` microseconds to three digits or so."""
    seconds = time / MICROSECONDS
    if seconds < 0.9995:
        return f"{seconds * 1000:.3g} ms"
    if seconds < 59.95:
        return f"{seconds:.3g} s"
    minutes, whole_seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if not hours:
        return f"{minutes} min {whole_seconds} s" if whole_seconds else f"{minutes} min"
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"


def clock(time: int) -> str:
    """A time since the beginning, to the hundredth of a second: ``0:07.25``."""
    minutes, hundredths = divmod(round(time / MILLISECOND / 10), 6000)
    hours, minutes = divmod(minutes, 60)
    seconds = f"{hundredths / 100:05.2f}"
    return f"{hours}:{minutes:02}:{seconds}" if hours else f"{minutes}:{seconds}"


def percent(share: float) -> str:
    return f"{share:.1f} %"


def counted(number: int, singular: str, plural: str = "") -> str:
    return f"{number:,} {singular if number == 1 else plural or singular + 's'}"


def devices_of(family: str) -> tuple[str, str]:
    """What a device of `family` is called, and what several are."""
    if family == Family.DIR.label:
        return "directory", "directories"
    kind = "tape drive" if family == Family.TAPE.label else f"{family} device"
    return kind, f"{kind}s"


def fault_of(kind: EventKind, family: str) -> str:
    """What went wrong with a device of `family`: ``sync failed``."""
    if kind is EventKind.DEVICE_FAILED:
        return f"{devices_of(family)[0]} taken out of service"
    name: str = kind.value
    return name.removeprefix("medium.").replace(".", " ").replace("_", " ")


def errno_name(number: int) -> str:
    """The name of an errno; its number if it has none, nothing if it is 0."""
    return errno.errorcode.get(number, str(number)) if number else ""


def listed(counts: Mapping[str, int]) -> str:
    """What there is of each, the most first: ``3 ENOSPC, 1 EIO``."""
    return ", ".join(f"{count:,} {name}" for name, count in sorted(counts.items(), key=lambda item: -item[1]))


def _step(length: int, most: int) -> int:
    whole_days = 24 * HOUR * max(1, -(-length // (24 * HOUR * (most - 1))))
    return next((step for step in _STEPS if length <= step * (most - 1)), whole_days)


def _writing(step: int, end: int) -> tuple[str, Callable[[int], str]]:
    """The unit of a scale with marks at every `step` up to `end`, and what writes a time in it."""
    if step < MICROSECONDS or end < 2 * MINUTE:
        decimals = next(digits for digits in range(4) if step * 10**digits >= MICROSECONDS)
        return "seconds", lambda time: f"{time / MICROSECONDS:.{decimals}f}"
    if end < 2 * HOUR:
        if step % MINUTE == 0:
            return "minutes", lambda time: f"{time // MINUTE}"
        return "min:s", lambda time: f"{time // MINUTE}:{_two(time, MICROSECONDS)}"
    if step % MINUTE == 0:
        return "h:min", lambda time: f"{time // HOUR}:{_two(time, MINUTE)}"
    return "h:min:s", lambda time: f"{time // HOUR}:{_two(time, MINUTE)}:{_two(time, MICROSECONDS)}"


def _two(time: int, unit: int) -> str:
    """The two digits of `time` for a unit of which sixty make the next one."""
    return f"{time // unit % 60:02}"
