"""The robot of a virtual library."""

from __future__ import annotations

from lrs_trio.storage.elements import Element
from lrs_trio.storage.virtual.library import VirtualLibrary


class VirtualChanger:
    """A `Changer` whose library is a directory."""

    def __init__(self, library: VirtualLibrary) -> None:
        self._library = library

    async def elements(self) -> tuple[Element, ...]:
        return self._library.elements()

    async def move(self, source: int, target: int) -> None:
        await self._library.move(source, target)

    async def check(self) -> bool:
        try:
            self._library.elements()
        except OSError:
            return False
        return True
