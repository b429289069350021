"""What is in a tape library, for the commands that want to know."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from lrs_trio.errors import LibraryUnreachableError, LrsError
from lrs_trio.storage.elements import Element, in_order

if TYPE_CHECKING:
    from lrs_trio.settings import LibrarySettings


class Robot:
    """Whoever knows what is in a library: its controller, or the virtual library itself.

    `timeout` is how long a controller may take to answer. Seconds.
    """

    def __init__(self, library: str, settings: LibrarySettings, timeout: float) -> None:
        self.library = library
        self._settings = settings
        self._directory = settings.directory if settings.robot == "virtual" else None
        self._timeout = timeout

    def __str__(self) -> str:
        if self._directory is not None:
            return f"virtual library in {self._directory}"
        return f"controller at {self._settings.host} port {self._settings.port}"

    def elements(self, *, refresh: bool = False) -> tuple[Element, ...]:
        """All elements, in the order in which they are shown; with `refresh` the controller looks anew.

        Raises:
            OSError: nobody could be asked, or the library does not work.
        """
        if self._directory is not None:
            from lrs_trio.storage.virtual.library import VirtualLibrary

            found = VirtualLibrary.open(self._directory, speed=self._settings.speed).elements()
        else:
            import trio

            found = trio.run(self._ask, refresh)
        return tuple(in_order(found))

    async def _ask(self, refresh: bool) -> tuple[Element, ...]:
        import trio

        from lrs_trio.storage.tlc import TlcClient

        client = TlcClient(self._settings.host, self._settings.port)
        try:
            with trio.fail_after(self._timeout):
                if not refresh and not await client.ping():
                    raise LibraryUnreachableError(errno.EIO, f"{client} does not reach its library")
                return await client.status(refresh)
        except trio.TooSlowError:
            raise LrsError(errno.ETIMEDOUT, f"{client} has not answered within {self._timeout:g} s") from None
