"""When a group has grown enough for its sync to be worth its time. Plain data without I/O."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import inf


@dataclass(slots=True)
class Streaming:
    """Keeps a drive with its clients for a `share` of its time, and with syncs for no more than the rest.

    A sync has been earned when clients have done I/O for long enough since the last one: then the group is the
    smallest that keeps the share. `cost` tells how many seconds a sync takes that serves so many more files. While that
    is not known (``None``) there is no need to earn one, for it is how to learn it.
    """

    share: float
    cost: Callable[[int], float | None]
    _io_s: float = 0.0
    """How long I/O has gone on since the last sync, before `_since`."""
    _since: float | None = None

    def io(self, goes_on: bool, now: float) -> None:
        """From `now` on a client does I/O, or none does any more."""
        if goes_on and self._since is None:
            self._since = now
        elif not goes_on and self._since is not None:
            self._io_s += now - self._since
            self._since = None

    def begin_sync(self, now: float) -> None:
        """What has been earned is spent."""
        self._io_s = 0.0
        if self._since is not None:
            self._since = now

    def deadline(self, files: int) -> float:
        """When a sync for `files` is earned if the I/O goes on as now: -inf for already, +inf if there is none."""
        cost = self.cost(files)
        if cost is None:
            return -inf
        missing = cost * self.share / (1 - self.share) - self._io_s
        if missing <= 0:
            return -inf
        return inf if self._since is None else self._since + missing
