"""What a daemon sets in its process: little memory, and no search for garbage where everything stays."""

from __future__ import annotations

import ctypes
import gc
import sys

_M_ARENA_MAX = -8
"""The number of this option of the C library's mallopt."""

ARENAS = 2
"""Heaps of the C library. By default every thread that syncs a directory would get one of its own, and keep it."""

NEW_OBJECTS = 3_000
"""How many more objects than went away make Python look for garbage. With the default of 700 a look comes every few
requests; with many more than this, what waits for a look is megabytes."""

YOUNG_LOOKS = 2
"""After how many such looks one goes over what has outlived them too. With the default of 10, and thousands of requests
that wait, that look holds everything up for milliseconds."""

OLD_LOOKS = 50
"""After how many of those one goes over all, if a quarter has come since the last of this kind."""


def do_without_displays() -> None:
    """To be called before anything that logs is imported: it would load what draws coloured tables, 5 MB of it."""
    sys.modules.setdefault("rich", None)  # type: ignore[arg-type]


def share_heaps() -> None:
    """Let all threads allocate from a few heaps; to be called before there are threads. Other C libraries have one."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, ARENAS)


def settle() -> None:
    """What is there at the end of the start stays: do not look at it again, and give back what was used meanwhile."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(NEW_OBJECTS, YOUNG_LOOKS, OLD_LOOKS)
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
