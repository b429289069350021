"""Who gets what, where each needs two things: a medium that suits it, and a drive that takes the medium. Pure."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Generic, TypeVar

M = TypeVar("M")
D = TypeVar("D", bound=Hashable)


def assign(slots: Sequence[Sequence[M]], drives: Callable[[M], Sequence[D]]) -> list[tuple[M, D] | None]:
    """Give every slot a medium of its own in a drive of its own, as many slots as possible.

    `slots` are the media that suit each slot, `drives` those that take a medium, both with the best first. Slots are
    filled in order. Each gets the first of its media that can be had while those before keep theirs, in other drives
    if need be. Only if there is none do those before change their media: an assignment that exists is found.

    A medium is known by being the same object: to compare all that is known of media would take longer than the rest.
    """
    made = _Assignment(slots, drives)
    for slot in range(len(slots)):
        if not made.add(slot):
            made.make_room(slot)
    return made.result()


class _Assignment(Generic[M, D]):
    def __init__(self, slots: Sequence[Sequence[M]], drives: Callable[[M], Sequence[D]]) -> None:
        self._slots = slots
        self._drives = drives
        self._medium_of: dict[int, M] = {}
        self._slot_of: dict[int, int] = {}
        self._drive_of: dict[int, D] = {}
        self._medium_in: dict[D, M] = {}
        # What one search has tried already: it does not get better by trying again.
        self._tried: set[int] = set()
        self._tried_drives: set[D] = set()

    def result(self) -> list[tuple[M, D] | None]:
        media = [self._medium_of.get(slot) for slot in range(len(self._slots))]
        return [None if medium is None else (medium, self._drive_of[id(medium)]) for medium in media]

    def add(self, slot: int) -> bool:
        """Fill `slot` without changing any other's medium."""
        self._tried_drives = set()
        for medium in self._slots[slot]:
            if id(medium) not in self._slot_of and self._carry(medium):
                return self._give(slot, medium)
        return False

    def _carry(self, medium: M) -> bool:
        """Find a free drive for `medium`, else one whose medium can move to another drive."""
        drives = self._drives(medium)
        for drive in drives:
            if drive not in self._medium_in:
                return self._put(medium, drive)
        for drive in drives:
            if drive not in self._tried_drives:
                self._tried_drives.add(drive)
                if self._carry(self._medium_in[drive]):
                    return self._put(medium, drive)
        return False

    def make_room(self, slot: int) -> bool:
        """Fill `slot`, whatever other slots have to change for that; all of them stay filled.

        Together with what it calls this looks for one augmenting path, through slots, media and drives.
        """
        self._tried, self._tried_drives = set(), set()
        return self._find_medium(slot)

    def _find_medium(self, slot: int) -> bool:
        for medium in self._slots[slot]:
            if id(medium) in self._tried:
                continue
            self._tried.add(id(medium))
            holder = self._slot_of.get(id(medium))
            if self._find_drive(medium) if holder is None else self._find_medium(holder):
                return self._give(slot, medium)
        return False

    def _find_drive(self, medium: M) -> bool:
        for drive in self._drives(medium):
            if drive in self._tried_drives:
                continue
            self._tried_drives.add(drive)
            other = self._medium_in.get(drive)
            if other is None or self._find_drive(other) or self._drop(other):
                return self._put(medium, drive)
        return False

    def _drop(self, medium: M) -> bool:
        """Find another medium for the slot that has `medium`, so that nobody needs it any more."""
        if id(medium) in self._tried:
            return False
        self._tried.add(id(medium))
        if not self._find_medium(self._slot_of[id(medium)]):
            return False
        del self._slot_of[id(medium)], self._drive_of[id(medium)]
        return True

    def _give(self, slot: int, medium: M) -> bool:
        self._medium_of[slot] = medium
        self._slot_of[id(medium)] = slot
        return True

    def _put(self, medium: M, drive: D) -> bool:
        self._drive_of[id(medium)] = drive
        self._medium_in[drive] = medium
        return True
