"""A client's socket with as few system calls and task switches as there can be.

What is to be read is waited for first: a request is hardly ever there when the last one is done, and asking in vain is
a system call. What is to be sent is sent at once: there is nearly always room, and a client that reads its answers
needs neither a deadline nor another turn of the loop.
"""

from __future__ import annotations

import os

import trio


class ClientStream(trio.abc.Stream):
    """The stream of `inner`, which it owns and closes."""

    def __init__(self, inner: trio.SocketStream) -> None:
        self._inner = inner
        self._descriptor = inner.socket.fileno()

    def send_now(self, data: bytes | bytearray | memoryview) -> int:
        """Send what there is room for without waiting, and return how many bytes that was.

        Raises:
            ClosedResourceError: it is closed.
            BrokenResourceError: the client has gone.
        """
        try:
            return os.write(self._opened(), data)
        except BlockingIOError:
            return 0
        except OSError as error:
            raise _broken(error) from error

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._inner.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._inner.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        while True:
            await trio.lowlevel.wait_readable(self._opened())
            try:
                return os.read(self._opened(), max_bytes or 64 * 1024)
            except BlockingIOError:
                continue
            except OSError as error:
                raise _broken(error) from error

    async def aclose(self) -> None:
        self._descriptor = -1
        await self._inner.aclose()

    def _opened(self) -> int:
        if self._descriptor < 0:
            raise trio.ClosedResourceError("this stream is closed")
        return self._descriptor


def _broken(error: OSError) -> trio.BrokenResourceError:
    return trio.BrokenResourceError(f"the client cannot be reached any more: {error.strerror}")
