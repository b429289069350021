"""The socket of a simulated daemon: clients connect by name, and the daemon sees who they are."""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from typing import Final

import trio
from trio.lowlevel import ParkingLot, checkpoint

from lrs_trio.errors import AlreadyRunningError
from lrs_trio.server.credentials import PeerCredentials
from lrs_trio.simulation.host.stream import ROOM, StreamEnd, stream_pair
from lrs_trio.simulation.scenario import GROUP
from lrs_trio.simulation.world import Process, World

BACKLOG: Final = 16
"""Connections that wait to be accepted: few, so that a crowd fills it."""

FIRST_CLIENT_PID: Final = 20_001
USERS: Final = 3
"""That clients run as, one after the other."""

FIRST_UID: Final = 1000
ADMINISTRATOR_UID: Final = 0
DAEMON_UID: Final = 900
HOSTILE_UID: Final = 2000

LOST_WITH_POWER: Final = 0.5
"""The probability that what is on its way over a connection is lost when the power fails."""


class Network:
    """Where one daemon at a time listens."""

    def __init__(self, world: World) -> None:
        self.names: dict[int, str] = {}
        """Of all clients that there were, by pid."""
        self._world = world
        self._random = world.chance.of("network")
        self._pids = count(FIRST_CLIENT_PID)
        self._listener: _Listener | None = None
        self._changed = ParkingLot()
        self._accepted: list[StreamEnd] = []
        """The daemon's ends, also of connections that wait to be accepted."""
        self._credentials: dict[StreamEnd, PeerCredentials] = {}

    async def connect(self, name: str, *, room: int = ROOM, uid: int | None = None) -> StreamEnd:
        """The end of a new connection for the client `name`; it waits while the backlog is full.

        Args:
            name: of the client, for the trace.
            room: bytes that can wait there until the client receives them.
            uid: who the client runs as, in a group of its own; without one, an honest user.

        Raises:
            ConnectionRefusedError: nobody listens.
        """
        await checkpoint()
        while (listener := self._listener) is not None:
            if len(listener.backlog) < BACKLOG:
                return self._connect(listener, name, room, uid)
            await self._changed.park()
        self._world.trace.note("refused", client=name)
        raise ConnectionRefusedError(errno.ECONNREFUSED, "nobody listens")

    @asynccontextmanager
    async def listen(self, process: Process) -> AsyncIterator[_Listener]:
        """Let `process` accept connections while the block lasts.

        Raises:
            AlreadyRunningError: EEXIST, another process does.
        """
        await checkpoint()
        process.check()
        if self._listener is not None:
            raise AlreadyRunningError(errno.EEXIST, "another process listens")
        self._listener = listener = _Listener(self, process)
        try:
            yield listener
        finally:
            listener.close()

    def credentials(self, stream: StreamEnd) -> PeerCredentials:
        """Who is at the other end of a stream that was accepted."""
        return self._credentials[stream]

    def kill(self) -> None:
        """The daemon is gone: clients receive what it has sent, and then find that out."""
        self._end_daemon(lost=0.0)

    def cut_power(self) -> None:
        """As `kill`, but what is on its way may be lost."""
        self._end_daemon(lost=LOST_WITH_POWER)

    def leave(self, listener: _Listener) -> None:
        """`listener` is closed: whoever still waits for it is refused."""
        if self._listener is listener:
            self._listener = None
        self.wake()

    def wake(self) -> None:
        """Let those who wait for room in the backlog look again."""
        self._changed.unpark_all()

    def _connect(self, listener: _Listener, name: str, room: int, uid: int | None) -> StreamEnd:
        ours, theirs = stream_pair(self._random, rooms=(room, ROOM), check=listener.process.check)
        pid = next(self._pids)
        self._forget_closed()
        self._accepted.append(theirs)
        self._credentials[theirs] = (
            PeerCredentials(pid, FIRST_UID + pid % USERS, GROUP) if uid is None else PeerCredentials(pid, uid, uid)
        )
        self.names[pid] = name
        self._world.trace.note("connected", client=name, pid=pid)
        listener.add(theirs)
        return ours

    def _end_daemon(self, *, lost: float) -> None:
        if self._listener is not None:
            self._listener.close()
        for end in self._accepted:
            if self._random.random() < lost:
                end.break_off(loses=True)
            else:
                end.close()
        self._forget_closed()

    def _forget_closed(self) -> None:
        self._accepted = [end for end in self._accepted if not end.closed]
        self._credentials = {end: self._credentials[end] for end in self._accepted}


class _Listener(trio.abc.Listener[StreamEnd]):
    """What `Network.listen` gives to `process`."""

    def __init__(self, network: Network, process: Process) -> None:
        self.process = process
        self.backlog: deque[StreamEnd] = deque()
        self._network = network
        self._arrival = ParkingLot()
        self._closed = False

    def add(self, stream: StreamEnd) -> None:
        self.backlog.append(stream)
        self._arrival.unpark()

    async def accept(self) -> StreamEnd:
        await checkpoint()
        while not (self.backlog or self._closed):
            await self._arrival.park()
        self.process.check()
        if self._closed:
            raise trio.ClosedResourceError("this listener was closed")
        stream = self.backlog.popleft()
        self._network.wake()
        return stream

    async def aclose(self) -> None:
        self.close()
        await checkpoint()

    def close(self) -> None:
        """Nobody is accepted any more: the connections that wait for that are broken."""
        if not self._closed:
            self._closed = True
            for stream in self.backlog:
                stream.break_off(loses=False)
            self.backlog.clear()
            self._arrival.unpark_all()
            self._network.leave(self)
