"""Cleans up after a temporary PostgreSQL server, however the program that wanted it has ended.

``python -I benchmarks/postgres_keeper.py BASE``: waits until its standard input ends, which it does with the program
at the other side; then ends every process that works below BASE, and removes BASE.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

PATIENCE_S: Final = 10.0
"""How long processes may take to end by themselves. Seconds."""

LOOK_AGAIN_S: Final = 0.01


def working_below(base: Path) -> Iterator[int]:
    """The processes whose working directory is `base` or below."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            directory = (process / "cwd").readlink()
        except OSError:  # it has ended, or is none of ours
            continue
        if directory.is_relative_to(base):
            yield int(process.name)


def end_all(base: Path) -> None:
    """End every process below `base`; for PostgreSQL's, SIGQUIT means an immediate shutdown that leaves no memory."""
    asked: set[int] = set()
    deadline = time.monotonic() + PATIENCE_S
    while pids := set(working_below(base)):
        late = time.monotonic() > deadline
        for pid in pids if late else pids - asked:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL if late else signal.SIGQUIT)
        asked |= pids
        time.sleep(LOOK_AGAIN_S)


def main() -> None:
    base = Path(sys.argv[1]).resolve(strict=True)
    sys.stdin.buffer.read()
    end_all(base)
    shutil.rmtree(base)


if __name__ == "__main__":
    main()
