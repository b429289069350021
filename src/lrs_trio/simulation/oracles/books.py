"""What is counted of a medium: extents and bytes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Counted:
    """So many extents with so many bytes together; deletions count below zero."""

    objects: int = 0
    size: int = 0

    def __add__(self, other: Counted) -> Counted:
        return Counted(self.objects + other.objects, self.size + other.size)
