"""The controller's TCP server: connections come, ask, are answered, and cannot harm anybody else."""

from __future__ import annotations

import errno
from functools import partial
from typing import Final

import structlog
import trio

from lrs_trio.errors import LrsError, ProtocolError
from lrs_trio.storage.tlc import keep_alive
from lrs_trio.tlc.controller import Controller, failed
from lrs_trio.wire import tlc
from lrs_trio.wire.framing import MAX_FRAME_BYTES

log = structlog.get_logger()

MOST_CONNECTIONS: Final = 1024
"""Each request of ours has a connection of its own, so this many may be asked at once."""

MOST_REQUESTS: Final = 64
"""Requests of one connection that are not answered yet; further ones are not read before."""

SLOW_PEER_SECONDS: Final = 30.0
"""How long a peer may take to read an answer."""

FLUSH_SECONDS: Final = 5.0
"""How long peers have, at the very end, to read the answers that are on their way."""

READ_SIZE: Final = 64 * 1024


class Server:
    """Accepts until `finish`; each connection is served in the server's own nursery."""

    def __init__(self, controller: Controller) -> None:
        self._controller = controller
        self._connections: set[Connection] = set()
        self._finishing = trio.Event()

    def finish(self) -> None:
        """Accept and read no more; `run` ends once everything is answered, or given up."""
        self._finishing.set()

    async def run(
        self, listeners: list[trio.SocketListener], *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        async with trio.open_nursery() as connections:
            async with trio.open_nursery() as accepting:
                await accepting.start(
                    partial(trio.serve_listeners, handler_nursery=connections), self._accept, listeners
                )
                task_status.started()
                await self._finishing.wait()
                accepting.cancel_scope.cancel(reason="the server stops")
            connections.cancel_scope.deadline = trio.current_time() + FLUSH_SECONDS
            for connection in self._connections:
                connection.stop()

    async def _accept(self, stream: trio.SocketStream) -> None:
        if len(self._connections) >= MOST_CONNECTIONS:
            log.warning("connection refused: there are too many", limit=MOST_CONNECTIONS)
            await trio.aclose_forcefully(stream)
            return
        try:
            peer = shown_address(stream.socket.getpeername())
            keep_alive(stream)
        except OSError:  # it has gone already
            await trio.aclose_forcefully(stream)
            return
        await self.serve(stream, peer)

    async def serve(self, stream: trio.abc.Stream, peer: str) -> None:
        """Serve one peer on any stream until it leaves."""
        connection = Connection(stream, peer, self._controller)
        self._connections.add(connection)
        try:
            await connection.run()
        finally:
            self._connections.discard(connection)


class Connection:
    """Runs until the peer leaves, misbehaves, or the server stops it."""

    def __init__(self, stream: trio.abc.Stream, peer: str, controller: Controller) -> None:
        self._stream = stream
        self._peer = peer
        self._controller = controller
        self._reading = trio.CancelScope()
        self._room = trio.Semaphore(MOST_REQUESTS)
        self._sending = trio.Lock()

    def stop(self) -> None:
        """Read no more; the connection ends when everything is answered."""
        self._reading.cancel(reason="the server stops")

    async def run(self) -> None:
        try:
            async with self._stream, trio.open_nursery() as requests:
                try:
                    with self._reading:
                        await self._read(requests)
                        # Nobody waits any more: what has not begun is not done.
                        requests.cancel_scope.cancel(reason="the peer has gone")
                except ProtocolError as error:
                    # What was asked before in order is still answered, then the connection ends.
                    log.warning("connection closed", peer=self._peer, error=str(error))
        except* (trio.BrokenResourceError, trio.ClosedResourceError):
            log.debug("connection broken", peer=self._peer)
        except* trio.TooSlowError:
            log.warning("connection closed: the peer does not read its answers", peer=self._peer)

    async def _read(self, requests: trio.Nursery) -> None:
        decoder = tlc.frame_decoder()
        while data := await self._stream.receive_some(READ_SIZE):
            for message in decoder.feed(data):
                await self._handle(message, requests)
        if not decoder.at_boundary():
            log.warning("connection closed", peer=self._peer, error="it ended inside a frame")

    async def _handle(self, message: bytes, requests: trio.Nursery) -> None:
        await self._room.acquire()
        try:
            request = tlc.decode_request(message)
        except tlc.MalformedRequestError as malformed:
            log.info("malformed request", peer=self._peer, error=str(malformed))
            refusal = failed(LrsError(errno.EINVAL, str(malformed)))
            requests.start_soon(self._respond, tlc.Response(malformed.request_id, refusal))
            return
        requests.start_soon(self._answer, request, name=f"{type(request.body).__name__} for {self._peer}")

    async def _answer(self, request: tlc.Request) -> None:
        await self._respond(tlc.Response(request.id, await self._controller.answer(request.body)))

    async def _respond(self, response: tlc.Response) -> None:
        frame = tlc.response_frame(response)
        if len(frame) > MAX_FRAME_BYTES:
            text = f"the answer has {len(frame)} bytes; {MAX_FRAME_BYTES} are allowed"
            frame = tlc.response_frame(tlc.Response(response.request_id, failed(LrsError(errno.EMSGSIZE, text))))
        async with self._sending:
            with trio.fail_after(SLOW_PEER_SECONDS):
                await self._stream.send_all(frame)
        self._room.release()


async def open_listeners(host: str, port: int) -> list[trio.SocketListener]:
    """Listen on every address that `host` has here.

    Raises:
        LrsError: EADDRNOTAVAIL, this host has no such address; EADDRINUSE, somebody listens there already.
        OSError: it cannot be listened to.
    """
    where = shown_address((host, port))
    try:
        found = await trio.socket.getaddrinfo(host, port, type=trio.socket.SOCK_STREAM, flags=trio.socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        raise LrsError(errno.EADDRNOTAVAIL, f"{where} is no address to listen on: {error}") from error
    listeners: list[trio.SocketListener] = []
    missing: OSError | None = None
    try:
        for address in dict.fromkeys(str(entry[4][0]) for entry in found):
            try:
                listeners += await trio.open_tcp_listeners(port, host=address)
            except OSError as error:
                # A host without IPv6 may have a name with an address of that kind.
                if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                    raise
                missing = error
        if missing is not None and not listeners:
            raise missing
    except OSError as error:
        close_listeners(listeners)
        number = error.errno or errno.EADDRNOTAVAIL
        advice = {
            errno.EADDRINUSE: "somebody listens there already, perhaps another controller of this library",
            errno.EADDRNOTAVAIL: "this host has no such address; give one with --listen",
        }.get(number, str(error))
        raise LrsError(number, f"cannot listen on {where}: {advice}") from error
    return listeners


def close_listeners(listeners: list[trio.SocketListener]) -> None:
    for listener in listeners:
        listener.socket.close()


def shown_address(address: tuple[object, ...]) -> str:
    """The address of a TCP socket for a person."""
    host, port = str(address[0]), address[1]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
