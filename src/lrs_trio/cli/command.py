"""Runs a command that belongs to us: it gets our signals, and it does not outlive us."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Mapping, Sequence
from typing import Final

from lrs_trio.cli.child import die_with_parent

PASSED_ON: Final = frozenset({signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT})

SI_KERNEL: Final = 0x80
"""Marks a signal that the terminal has sent: to the whole foreground group, so the command has it too."""

_PLACEHOLDER: Final = re.compile(r"\{root([0-9]*)\}")


def fill_in(arguments: Sequence[str], roots: Sequence[str]) -> list[str]:
    """`arguments` with ``{root}`` (the first) and ``{root1}``, ``{root2}``... replaced by `roots`.

    Raises:
        ValueError: a placeholder has a number without a root.
    """

    def root(found: re.Match[str]) -> str:
        number = int(found[1] or "1")
        if not 1 <= number <= len(roots):
            raise ValueError(f"{found[0]}: the roots are numbered from 1 to {len(roots)}")
        return roots[number - 1]

    return [_PLACEHOLDER.sub(root, argument) for argument in arguments]


def root_variables(roots: Sequence[str]) -> dict[str, str]:
    """What the environment says of `roots`: LRS_ROOT (the first) and LRS_ROOT_1, LRS_ROOT_2..."""
    numbered = {f"LRS_ROOT_{number}": root for number, root in enumerate(roots, start=1)}
    return {"LRS_ROOT": roots[0], **numbered}


def run_command(arguments: Sequence[str], environment: Mapping[str, str]) -> int:
    """Run a command to its end and return its status, 128 + the signal's number if one has ended it.

    Signals that arrive meanwhile go to the command and leave us alive: what it has written still has to be
    released. Those of the terminal (Ctrl-C) it gets by itself.

    Raises:
        OSError: it cannot be run; FileNotFoundError: there is no such command.
    """
    held = PASSED_ON | {signal.SIGCHLD}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, held)
    us = os.getpid()

    def prepare() -> None:
        die_with_parent(us)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)

    try:
        with subprocess.Popen(arguments, env=environment, preexec_fn=prepare) as process:  # noqa: PLW1509 we have no threads
            while process.poll() is None:
                arrived = signal.sigwaitinfo(held)
                if arrived.si_signo in PASSED_ON and arrived.si_code != SI_KERNEL:
                    process.send_signal(arrived.si_signo)
        while signal.sigtimedwait(held, 0) is not None:
            pass  # meant for the command, and too late for it
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return process.returncode if process.returncode >= 0 else 128 - process.returncode
