"""File descriptors of this process: what connections may have of them, and the one that is kept for refusing."""

from __future__ import annotations

import os
import resource
from contextlib import suppress

LEAST_RESERVE = 16
MOST_RESERVE = 1024
RESERVED_PART = 8


def descriptor_limit() -> int:
    """How many descriptors this process may have at once; the system may change that while it runs."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def room_for_connections(limit: int) -> int:
    """How many of `limit` descriptors connections may use up.

    The rest is for the daemon's own work: a DSS that is opened anew, a directory that is added, the pipes of a command
    that mounts. None of that may fail because too many clients have come.
    """
    return limit - max(LEAST_RESERVE, min(limit // RESERVED_PART, MOST_RESERVE))


class SpareDescriptor:
    """A descriptor that is good for nothing but being given up when there is no other.

    Who accepts a client with it, and cannot have it again, had no room for that client.
    """

    def __init__(self) -> None:
        self._number: int | None = None
        self.refill()

    def refill(self) -> bool:
        """Have it again, if it was given up; ``False`` if there is no other descriptor for it."""
        if self._number is None:
            with suppress(OSError):
                self._number = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        return self._number is not None

    def close(self) -> None:
        """Give it up."""
        if self._number is not None:
            os.close(self._number)
            self._number = None
