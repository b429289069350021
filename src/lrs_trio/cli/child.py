"""Child processes that do not outlive us."""

from __future__ import annotations

import ctypes
import os
import signal
from collections.abc import Callable
from typing import Final

_PR_SET_PDEATHSIG: Final = 1
_LIBC: Final = ctypes.CDLL(None, use_errno=True)


def dies_with_parent(number: signal.Signals = signal.SIGKILL) -> Callable[[], None]:
    """For `subprocess.Popen(preexec_fn=...)`: the kernel sends the child `number` when we end, however we end.

    It holds for the child itself, not for its own children, and ends if it becomes another user. To be called in
    the main thread, which is also the one that starts the child: the kernel goes by the thread.
    """
    parent = os.getpid()

    def prepare() -> None:
        if _LIBC.prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl")
        if os.getppid() != parent:  # it ended before the call
            os.kill(os.getpid(), signal.SIGKILL)

    return prepare
