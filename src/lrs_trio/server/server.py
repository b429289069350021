"""The socket server: connections come, are counted, and are flushed at the end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from operator import itemgetter
from typing import Any, NamedTuple

import structlog
import trio

from lrs_trio.events import Events
from lrs_trio.ordered import OrderedSet
from lrs_trio.server.access import Access
from lrs_trio.server.connection import Connection
from lrs_trio.server.credentials import PeerCredentials
from lrs_trio.server.descriptors import descriptor_limit, room_for_connections
from lrs_trio.server.dispatch import Dispatcher
from lrs_trio.server.long_frames import LongFrames
from lrs_trio.server.postman import Postman
from lrs_trio.server.turnstile import Turnstile
from lrs_trio.settings import ServerSettings

log = structlog.get_logger()

FLUSH_SECONDS = 5.0
"""How long clients have, at the very end, to read the answers that are on their way."""

KEPT_PLACES = 4
"""Connections beyond what all others may have, for administrators: who fills the daemon must not keep out those who can
see that, and end it. Their descriptors are of the reserve, which is four times as large at least."""


class Refusal(NamedTuple):
    """Why somebody is not let in, and the limit that keeps him out."""

    event: str
    limit: int


class Server:
    """Accepts until `finish`; each connection is served in the server's own nursery."""

    def __init__(
        self,
        settings: ServerSettings,
        dispatcher: Dispatcher,
        events: Events,
        credentials: Callable[[Any], PeerCredentials],
        access: Access,
    ) -> None:
        self.postman = Postman()
        self._settings = settings
        self._dispatcher = dispatcher
        self._events = events
        self._credentials = credentials
        self._access = access
        self._connections = OrderedSet[Connection]()
        self._connections_of = Counter[int]()
        """How many each user has, by uid."""
        self._turnstile = Turnstile()
        self._long_frames = LongFrames()
        self._serial = 0
        self._finishing = trio.Event()

    def __len__(self) -> int:
        return len(self._connections)

    @property
    def unsent(self) -> int:
        """Responses that have not left yet, of all connections."""
        return sum(connection.unsent for connection in self._connections)

    def finish(self) -> None:
        """Accept and read no more; `run` ends once the responses are flushed, or given up."""
        self._finishing.set()

    async def run(
        self,
        listener: trio.abc.Listener[Any],
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Serve `listener`."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.postman.run, name="postman")
            nursery.start_soon(self._dispatcher.reports.run, name="reports")
            async with trio.open_nursery() as connections:
                async with trio.open_nursery() as accepting:
                    accepting.start_soon(self._accept, listener, connections, name="accepting")
                    task_status.started()
                    await self._finishing.wait()
                    accepting.cancel_scope.cancel(reason="the server stops")
                connections.cancel_scope.deadline = trio.current_time() + FLUSH_SECONDS
                for connection in self._connections:
                    connection.stop()
            nursery.cancel_scope.cancel(reason="nothing is left to be sent")

    async def _accept(self, listener: trio.abc.Listener[Any], connections: trio.Nursery) -> None:
        """Take one connection after the other; between any two of them everybody else gets a turn."""
        async with listener:
            while True:
                stream = await listener.accept()
                credentials = self._credentials(stream)
                refusal = self._refusal(stream, credentials)
                if refusal is None:
                    self._serial += 1
                    connection = self._open(stream, self._serial, credentials)
                    connections.start_soon(self._run, connection, name=f"reader of {connection.client}")
                    continue
                log.warning(refusal.event, client=str(credentials), limit=refusal.limit, most=self._most())
                await trio.aclose_forcefully(stream)

    def _refusal(self, stream: trio.abc.Stream, peer: PeerCredentials) -> Refusal | None:
        """Why there is no place for `peer`; ``None`` if there is one."""
        kept = KEPT_PLACES if self._access.is_administrator(peer) else 0
        if len(self._connections) >= self._settings.max_connections + kept:
            return Refusal("connection refused: there are too many", self._settings.max_connections)
        limit = descriptor_limit()
        # The kernel gives the lowest number that is free: all below are in use.
        if isinstance(stream, trio.SocketStream) and stream.socket.fileno() >= room_for_connections(limit) + kept:
            return Refusal("connection refused: too few file descriptors are left", limit)
        return None

    def _most(self) -> str:
        """Who has most of the connections, for whoever wonders where they are."""
        if not self._connections_of:
            return "nobody has any"
        uid, count = max(self._connections_of.items(), key=itemgetter(1))
        return f"uid {uid} has {count}"

    async def serve(self, stream: trio.abc.Stream, serial: int, peer: PeerCredentials) -> None:
        """Serve one client on any stream until it leaves."""
        await self._run(self._open(stream, serial, peer))

    def _open(self, stream: trio.abc.Stream, serial: int, peer: PeerCredentials) -> Connection:
        connection = Connection(
            stream,
            serial,
            peer,
            self._access.rights(peer),
            self._dispatcher,
            self._settings,
            self._events,
            self._turnstile,
            self.postman,
            self._long_frames,
        )
        self._connections.add(connection)
        self._connections_of[peer.uid] += 1
        return connection

    async def _run(self, connection: Connection) -> None:
        try:
            await connection.run()
        finally:
            self._close(connection)

    def _close(self, connection: Connection) -> None:
        self._connections.discard(connection)
        uid = connection.client.uid
        self._connections_of[uid] -= 1
        if not self._connections_of[uid]:
            del self._connections_of[uid]
