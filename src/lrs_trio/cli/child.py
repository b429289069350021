"""Processes that do not outlive the one that started them."""

from __future__ import annotations

import ctypes
import os
import signal
from typing import Final

_PR_SET_PDEATHSIG: Final = 1
_LIBC: Final = ctypes.CDLL(None, use_errno=True)


def die_with_parent(parent: int) -> None:
    """Called in a new process, also before it becomes another program: it is killed when its `parent` ends.

    It holds for this process, not for its own children, and ends if it becomes another user. The kernel goes by
    the thread that has started us: that has to be the parent's main thread.

    Raises:
        OSError: the kernel does not know how.
    """
    if _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")
    if os.getppid() != parent:  # it ended before the call
        os.kill(os.getpid(), signal.SIGKILL)
