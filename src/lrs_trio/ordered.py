"""Sets with an order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, MutableSet, Set
from typing import TypeVar

T = TypeVar("T")


class OrderedSet(MutableSet[T]):
    """A set that is gone through in the order in which its elements came.

    The order of a plain set depends on hashes, and so on addresses and on the hash seed of the process: nothing that
    is to happen again in the same way may follow from it.
    """

    __slots__ = ("_elements",)

    def __init__(self, elements: Iterable[T] = ()) -> None:
        self._elements: dict[T, None] = dict.fromkeys(elements)

    def __contains__(self, element: object) -> bool:
        return element in self._elements

    def __iter__(self) -> Iterator[T]:
        return iter(self._elements)

    def __len__(self) -> int:
        return len(self._elements)

    def __eq__(self, other: object) -> bool:
        """Whether `other` is any set with the same elements, in whatever order."""
        return isinstance(other, Set) and self._elements.keys() == other

    def __repr__(self) -> str:
        return f"OrderedSet({list(self._elements)})"

    def add(self, element: T) -> None:
        self._elements[element] = None

    def discard(self, element: T) -> None:
        self._elements.pop(element, None)
