"""What the kernel says about the processes of this host. Reads /proc; nothing here decides."""

from __future__ import annotations

import math
import os
import time
import zlib
from functools import cache
from pathlib import Path
from typing import Final

_LARGEST_PID: Final = 2**31 - 1
_STATE, _START_TIME = 0, 19
"""Positions in /proc/PID/stat after the name, which may itself hold blanks and parentheses."""


def process_start_time(pid: int) -> float | None:
    """When the process `pid` started, in seconds since the epoch, to about 10 ms.

    ``None`` if there is no such process or it has ended and only waits for its parent. A process that
    is there but may not be looked at (/proc mounted with any ``hidepid``) has always been there: minus infinity.
    """
    if not 0 < pid <= _LARGEST_PID:
        return None
    try:
        stat = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace")
    except (FileNotFoundError, PermissionError, ProcessLookupError):
        return -math.inf if _exists(pid) else None
    fields = stat.rpartition(")")[2].split()
    if fields[_STATE] in ("Z", "X"):
        return None
    since_boot = int(fields[_START_TIME]) / os.sysconf("SC_CLK_TCK")
    booted = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    return booted + since_boot


@cache
def life_of_this_machine() -> str:
    """Eight letters that all processes have in common whose pids we can tell apart.

    Another machine has others, and so has this one after it was started anew, and each container.
    """
    boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii")
    namespace = os.readlink("/proc/self/ns/pid")
    return f"{zlib.crc32((boot + namespace).encode()):08x}"


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
