"""What a program of ours may inherit from whoever starts it, and cannot work with."""

from __future__ import annotations

import signal


def heed_children() -> None:
    """Be told how children end; called first in each program of ours.

    An ignored SIGCHLD is handed down over exec, as a shell's ``trap "" CHLD`` and some supervisors do. The kernel then
    forgets a child when it ends, and Python's subprocess module takes every such end for a success.
    """
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
