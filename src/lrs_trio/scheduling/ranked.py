"""Waiting requests by rank: however many they are, one comes, goes and is found in about the same time.

They are kept in blocks of bounded length, so that nothing ever moves more than a block.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator
from itertools import islice
from typing import Generic, TypeVar

R = TypeVar("R")

Rank = tuple[int, int, int]
"""Smaller goes first. The last number is the order of arrival, which nobody shares with anybody."""

BLOCK = 256
"""How many there are in a block on average, at most: a full one is twice as long and is cut in two."""

_Entry = tuple[int, int, int, R]


class Ranked(Generic[R]):
    """Requests in the order of their ranks."""

    __slots__ = ("_blocks", "_latest", "_length")

    def __init__(self) -> None:
        self._blocks: list[list[_Entry[R]]] = []
        self._latest: list[int] = []
        """For each block the latest arrival in it."""
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[R]:
        """All of them; nothing may come or go meanwhile."""
        return (entry[3] for block in self._blocks for entry in block)

    def add(self, rank: Rank, request: R) -> None:
        """Add a request whose rank nobody here has."""
        self._length += 1
        if not self._blocks:
            self._blocks.append([(*rank, request)])
            self._latest.append(rank[2])
            return
        last = len(self._blocks) - 1
        place = last if self._blocks[last][0] <= rank else min(self._block_of(rank), last)
        block = self._blocks[place]
        insort(block, (*rank, request))
        if rank[2] > self._latest[place]:
            self._latest[place] = rank[2]
        if len(block) >= 2 * BLOCK:
            self._blocks[place : place + 1] = block[:BLOCK], block[BLOCK:]
            self._latest[place : place + 1] = _latest_of(block[:BLOCK]), _latest_of(block[BLOCK:])

    def discard(self, rank: Rank) -> None:
        """Remove the request of that rank; nothing happens if there is none."""
        place = self._block_of(rank)
        if place == len(self._blocks):
            return
        block = self._blocks[place]
        position = bisect_left(block, rank)
        if block[position][:3] != rank:
            return
        del block[position]
        self._length -= 1
        if not block:
            del self._blocks[place], self._latest[place]
        elif rank[2] == self._latest[place]:
            self._latest[place] = _latest_of(block)

    def first(self, after: Rank | None = None) -> tuple[Rank, R] | None:
        """The one that goes first, of those behind the rank `after` if that is given."""
        if after is None:
            return _pair(self._blocks[0][0]) if self._blocks else None
        behind = after[0], after[1], after[2] + 1
        place = self._block_of(behind)
        if place == len(self._blocks):
            return None
        block = self._blocks[place]
        return _pair(block[bisect_left(block, behind)])

    def latest_up_to(self, rank: Rank) -> int:
        """The latest arrival of those that go first, down to the one of that rank; 0 if there are none."""
        behind = rank[0], rank[1], rank[2] + 1
        place = self._block_of(behind)
        latest = max(islice(self._latest, place), default=0)
        if place < len(self._blocks):
            block = self._blocks[place]
            latest = max(latest, max((entry[2] for entry in islice(block, bisect_left(block, behind))), default=0))
        return latest

    def _block_of(self, rank: Rank) -> int:
        """The number of the block in which `rank` would stand, or of the one behind the last."""
        if len(self._blocks) == 1:
            return 0 if self._blocks[0][-1] >= rank else 1
        return bisect_left(self._blocks, rank, key=lambda block: block[-1][:3])


def _latest_of(block: list[_Entry[R]]) -> int:
    return max(entry[2] for entry in block)


def _pair(entry: _Entry[R]) -> tuple[Rank, R]:
    return entry[:3], entry[3]
