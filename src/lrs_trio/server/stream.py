"""A client's socket with as few system calls and task switches as there can be.

What is to be read is waited for first: a request is hardly ever there when the last one is done, and asking in vain is
a system call. What is to be sent is sent at once: there is nearly always room, and a client that reads its answers
needs neither a deadline nor another turn of the loop.
"""

from __future__ import annotations

import fcntl
import os
import struct
import termios

import trio

_COUNT = struct.Struct("i")


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

    async def send_patiently(self, data: memoryview, seconds: float) -> None:
        """Send all of `data`, for as long as the client takes some of what waits for it in any `seconds`.

        That can be told of what was sent at a time: who takes as much as the longest of that is seen to take some.

        Raises:
            TooSlowError: it did not.
            ClosedResourceError: it is closed.
            BrokenResourceError: the client has gone.
        """
        await trio.lowlevel.checkpoint()
        while data := data[self.send_now(data) :]:
            await self._wait_taken(seconds)

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

    async def _wait_taken(self, seconds: float) -> None:
        untaken = self._untaken()
        # Linux calls a Unix socket writable again only when three quarters of its buffer are free, 160 KB by default.
        # It takes more before that, and who takes little at a time makes room for it all the same.
        with trio.move_on_after(seconds) as waiting:
            await trio.lowlevel.wait_writable(self._opened())
        if waiting.cancelled_caught and self._untaken() >= untaken:
            raise trio.TooSlowError

    def _untaken(self) -> int:
        """Bytes of the buffer that are in use. What was sent at a time is in there until the last of it is taken."""
        (count,) = _COUNT.unpack(fcntl.ioctl(self._opened(), termios.TIOCOUTQ, bytes(_COUNT.size)))
        assert isinstance(count, int)
        return count

    def _opened(self) -> int:
        if self._descriptor < 0:
            raise trio.ClosedResourceError("this stream is closed")
        return self._descriptor


def _broken(error: OSError) -> trio.BrokenResourceError:
    return trio.BrokenResourceError(f"the client cannot be reached any more: {error.strerror}")
