"""A program that was started in a session of its own, with all that it has started itself and that has not left it."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path
from typing import Final

import trio

TERMINATE_S: Final = 4.0
"""How long a group that was given up may take to end by itself, once asked. Seconds."""

KILL_S: Final = 4.0
"""How long the kernel may take to end it after that. Seconds."""

_LOOK_AGAIN_S: Final = 0.1
_ENDED: Final = frozenset(b"ZX")


async def end_group(leader: trio.Process) -> None:
    """End the group of `leader`, which has not been waited for: ask first, then force.

    To be called under a deadline of TERMINATE_S and KILL_S. What outlives even that waits in the kernel for a
    device, and nobody can end it. To let go of `leader` then is all right: Python's subprocess module remembers
    such a process and looks for its end whenever another one is started, so that no zombie stays.
    """
    with trio.move_on_after(TERMINATE_S):
        _signal(leader.pid, signal.SIGTERM)
        await _gone(leader)
        return
    _signal(leader.pid, signal.SIGKILL)
    await _gone(leader)


def members(group: int) -> list[int]:
    """The processes in `group`, a process id of its leader; those that have ended but nobody waited for do not count.

    The number means nothing else as long as anything is in the group.
    """
    found = []
    for name in filter(str.isdecimal, os.listdir("/proc")):
        with suppress(OSError):  # it has just gone
            # After the name of the program, which may contain anything: state, parent, group.
            state, _, number = Path("/proc", name, "stat").read_bytes().rpartition(b") ")[2].split()[:3]
            if int(number) == group and state[0] not in _ENDED:
                found.append(int(name))
    return found


async def _gone(leader: trio.Process) -> None:
    await leader.wait()
    while members(leader.pid):  # noqa: ASYNC110 nothing tells the end of a process group
        await trio.sleep(_LOOK_AGAIN_S)


def _signal(group: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):  # it has gone, or runs as another user
        os.killpg(group, number)
