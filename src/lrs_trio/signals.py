"""The signals that end a program of ours in order."""

from __future__ import annotations

import signal


def drain_signals() -> tuple[signal.Signals, ...]:
    """What begins a drain. A terminal that closes is one reason more, unless somebody has arranged otherwise."""
    hangs_up = signal.getsignal(signal.SIGHUP) is signal.SIG_DFL
    return (signal.SIGINT, signal.SIGTERM, *((signal.SIGHUP,) if hangs_up else ()))
