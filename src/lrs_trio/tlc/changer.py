"""What the controller asks of a library's robot."""

from __future__ import annotations

from typing import Protocol

from lrs_trio.storage.elements import Element


class Changer(Protocol):
    """One robot. Its methods raise `OSError`, and nobody calls two of them at once.

    `elements` and `move` have deadlines of their own: they end, however long the robot is stalled.
    """

    async def elements(self) -> tuple[Element, ...]:
        """All elements of the library, as they are now."""
        ...

    async def move(self, source: int, target: int) -> None:
        """Carry the medium at address `source` to the empty element at `target`.

        Raises:
            OperationError: the robot could not; its record says what it has told.
        """
        ...

    async def check(self) -> bool:
        """Whether the library answers."""
        ...
