"""Child processes of tests."""

from __future__ import annotations

import os
import select
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from signal import SIGKILL
from typing import Any
from uuid import uuid4

PATIENCE_S = 60
"""Only so that a defect ends a test instead of holding it up."""


@contextmanager
def child(arguments: Sequence[Any], **options: Any) -> Iterator[subprocess.Popen[Any]]:
    """A process that is gone after the block, so that a test that fails does not wait for what never ends."""
    with subprocess.Popen(arguments, **options) as process:
        try:
            yield process
        finally:
            process.kill()


class Descendants:
    """Whatever is started with `environment`, also what has left its parent and its session."""

    def __init__(self) -> None:
        self.environment = {"TEST_MARK": uuid4().hex}

    def pids(self) -> list[int]:
        """Those that live. A process that has ended and not been waited for has no environment."""
        mark = "=".join(*self.environment.items()).encode()
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with suppress(OSError):  # it has ended, or is none of ours
                    if mark in _environment(entry).split(b"\0"):
                        found.append(int(entry.name))
        return found


def _environment(process: Path) -> bytes:
    """What one that is just becoming another program was started with, too: for a moment it seems to have nothing.

    Raises:
        OSError: it has ended, is the kernel's, or belongs to somebody else.
    """
    while not (environment := (process / "environ").read_bytes()):
        (process / "exe").readlink()
        start, end = (process / "stat").read_text().rpartition(")")[2].split()[47:49]
        if start == end != "0":
            break
    return environment


@contextmanager
def descendants() -> Iterator[Descendants]:
    """All of them are gone after the block, as with `child`."""
    found = Descendants()
    try:
        yield found
    finally:
        for pid in found.pids():
            with suppress(ProcessLookupError):
                os.kill(pid, SIGKILL)
            wait_gone(pid)


def wait_gone(pid: int) -> None:
    """Wait for the end of a process that need not be a child of ours."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        assert select.select([descriptor], [], [], PATIENCE_S)[0], f"process {pid} has not ended"
    finally:
        os.close(descriptor)
