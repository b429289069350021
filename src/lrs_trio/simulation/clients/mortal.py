"""A client's process that can die at any moment: nothing that it still does while trio unwinds it reaches anybody."""

from __future__ import annotations

from random import Random

import trio


class MortalStream(trio.abc.Stream):
    """The only way from a client's process to the daemon. `random` decides how much of its last words leaves."""

    def __init__(self, stream: trio.abc.Stream, random: Random) -> None:
        self.life = trio.CancelScope()
        """What the process does is to be done in here."""
        self._stream = stream
        self._random = random
        self._doomed = False
        self._dead = False

    def kill(self) -> None:
        """The process is no more."""
        self._dead = True
        self.life.cancel(reason="killed")

    def kill_in(self, seconds: float) -> None:
        """The process is no more after so many seconds, if it lives so long."""
        self.life.deadline = min(self.life.deadline, trio.current_time() + seconds)

    def doom(self) -> None:
        """The process dies the next time that it sends something, most of the time in the middle of that."""
        self._doomed = True

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        if self._doomed:
            self._dead = True
            try:
                await self._stream.send_all(data[: self._random.randrange(len(data))])
            finally:
                self.kill()
        await self._check_alive()
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        await self._check_alive()
        return await self._stream.receive_some(max_bytes)

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def _check_alive(self) -> None:
        if self._dead:
            await trio.lowlevel.checkpoint()
            raise trio.BrokenResourceError("the process is dead")
