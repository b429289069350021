"""The state of a virtual library that nobody else sees and that ends with the process."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import replace

from lrs_trio.storage.virtual.description import FIRST_SLOT
from lrs_trio.storage.virtual.state import State


class IndexedState(State):
    """A state that lives long: what is asked of it at every move is found without a search."""

    __slots__ = ("_astray", "_free", "_where")

    def __init__(self, state: State) -> None:
        super().__init__(state.places, state.bays, state.cartridges)
        self._where = {barcode: address for address, barcode in self.places.items() if barcode is not None}
        self._free = set(super()._free_slots())
        self._astray = {bay.instead for bay in self.bays.values() if bay.instead is not None}

    def place_of(self, barcode: str) -> int | None:
        return self._where.get(barcode)

    def is_astray(self, barcode: str) -> bool:
        return barcode in self._astray

    def move(self, source: int, target: int, *, instead: str | None = None) -> None:
        if source in self.bays:
            self.set_right(source)
        super().move(source, target, instead=instead)
        moved = self.places[target]
        if moved is not None:
            self._where[moved] = target
        if source >= FIRST_SLOT:
            self._free.add(source)
        self._free.discard(target)
        if instead is not None:
            self._astray.add(instead)

    def set_right(self, drive: int) -> None:
        """Whatever the robot has mistaken for it, in the drive is now what the library believes to be there."""
        bay = self.bays[drive]
        if bay.instead is not None:
            self._astray.discard(bay.instead)
            self.bays[drive] = replace(bay, instead=None)

    def _free_slots(self) -> Collection[int]:
        return self._free


class MemoryState:
    """Keeps one state, which is changed in place."""

    def __init__(self, state: State) -> None:
        self._state = IndexedState(state)

    def read(self) -> IndexedState:
        return self._state

    @contextmanager
    def change(self) -> Iterator[IndexedState]:
        yield self._state
