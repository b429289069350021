"""The socket server: connections come, are counted, and are flushed at the end."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import structlog
import trio

from lrs_trio.events import Events
from lrs_trio.ordered import OrderedSet
from lrs_trio.scheduling.client import Client
from lrs_trio.server.connection import Connection
from lrs_trio.server.dispatch import Dispatcher
from lrs_trio.server.listener import PeerCredentials
from lrs_trio.server.outbox import ResponseChannel
from lrs_trio.settings import ServerSettings

log = structlog.get_logger()

FLUSH_SECONDS = 5.0
"""How long clients have, at the very end, to read the answers that are on their way."""


class Server:
    """Accepts until `finish`; each connection is served in the server's own nursery."""

    def __init__(
        self,
        settings: ServerSettings,
        dispatcher: Dispatcher,
        events: Events,
        credentials: Callable[[Any], PeerCredentials],
    ) -> None:
        self._settings = settings
        self._dispatcher = dispatcher
        self._events = events
        self._credentials = credentials
        self._connections = OrderedSet[Connection]()
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
        releases: trio.Nursery,
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Serve `listener`. Release tasks are started in `releases`, which outlives every connection's reader."""
        async with trio.open_nursery() as connections:
            async with trio.open_nursery() as accepting:
                await accepting.start(
                    partial(trio.serve_listeners, handler_nursery=connections),
                    partial(self._accept, releases=releases),
                    [listener],
                )
                task_status.started()
                await self._finishing.wait()
                accepting.cancel_scope.cancel(reason="the server stops")
            connections.cancel_scope.deadline = trio.current_time() + FLUSH_SECONDS
            for connection in self._connections:
                connection.stop()

    async def _accept(self, stream: trio.abc.Stream, *, releases: trio.Nursery) -> None:
        credentials = self._credentials(stream)
        if len(self._connections) >= self._settings.max_connections:
            log.warning(
                "connection refused: there are too many", limit=self._settings.max_connections, pid=credentials.pid
            )
            await trio.aclose_forcefully(stream)
            return
        self._serial += 1
        await self.serve(stream, self._serial, releases, pid=credentials.pid, uid=credentials.uid)

    async def serve(self, stream: trio.abc.Stream, serial: int, releases: trio.Nursery, *, pid: int, uid: int) -> None:
        """Serve one client on any stream until it leaves."""
        outbox = ResponseChannel(self._settings.response_channel)
        client = Client(serial, outbox, pid=pid, uid=uid)
        connection = Connection(stream, client, outbox, self._dispatcher, self._settings, self._events)
        self._connections.add(connection)
        try:
            await connection.run(releases)
        finally:
            self._connections.discard(connection)
