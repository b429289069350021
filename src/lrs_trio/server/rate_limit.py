"""A limit for how often something is done, which lets a crowd through and slows down a flood."""

from __future__ import annotations

from math import inf


class RateLimit:
    """`per_s` times a second in the long run, and `at_once` times without any wait after a pause."""

    def __init__(self, per_s: float, at_once: int) -> None:
        self._period = 1 / per_s
        self._tolerance = at_once * self._period
        self._due = -inf

    def step(self, now: float) -> float:
        """It has been done once more: the seconds until it may be done again."""
        self._due = max(self._due, now - self._tolerance) + self._period
        return max(self._due - now, 0)
