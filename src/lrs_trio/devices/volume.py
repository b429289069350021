"""The free space of what a medium is on, and what is promised of it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True, weakref_slot=True)
class Volume:
    """Free space that may be shared: directories of one filesystem have one volume. Sizes are bytes.

    `measured` is what statvfs said last, `written` what clients have said to have written since, and
    `reserved` what writes that are granted may still take.
    """

    measured: int = 0
    written: int = 0
    reserved: int = 0

    @property
    def free(self) -> int:
        return max(self.measured - self.written, 0)

    @property
    def available(self) -> int:
        """What a new write may count on: free space less what other writes have reserved."""
        return max(self.free - self.reserved, 0)

    def measure(self, free: int) -> None:
        self.measured = free
        self.written = 0

    def estimate(self, written: int) -> None:
        """Account for `written` bytes until the next statvfs says better; deletions only show there."""
        self.written += max(written, 0)
