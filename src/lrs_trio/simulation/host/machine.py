"""The machine that a simulated daemon runs on: everything that it can reach of its world."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, AbstractContextManager, contextmanager, nullcontext
from typing import Any

import trio

from lrs_trio.dss.home import DaemonHome
from lrs_trio.machine import Directories, Tapes
from lrs_trio.model import LockOwner
from lrs_trio.settings import DssSettings, LibrarySettings, ServerSettings, TapeSettings
from lrs_trio.simulation.host.network import DAEMON_UID
from lrs_trio.simulation.host.site import Site
from lrs_trio.simulation.world import Process, wall_clock

SIGNALS = 8
"""That wait to be looked at; more than a run sends."""


class SimulatedMachine:
    """What one `process` sees of `site`."""

    def __init__(self, site: Site, process: Process) -> None:
        self.pid = process.pid
        self.uid = DAEMON_UID
        self.random = site.world.chance.of("daemon")
        self.credentials = site.network.credentials
        self._site = site
        self._process = process
        self._send, self._signals = trio.open_memory_channel[int](SIGNALS)

    def send(self, signal: int) -> None:
        """The process gets `signal`."""
        self._send.send_nowait(signal)

    def wall_clock(self) -> float:
        return wall_clock()

    def start_of(self, pid: int) -> float | None:
        process = self._site.world.processes.get(pid)
        return process.started if process is not None and process.alive else None

    @contextmanager
    def signals(self) -> Iterator[AsyncIterator[int]]:
        yield self._signals

    def lock_file(self, settings: ServerSettings, host: str) -> AbstractContextManager[object]:
        return nullcontext()

    def open_home(self, settings: DssSettings, owner: LockOwner) -> AbstractAsyncContextManager[DaemonHome]:
        return self._site.dss.open_home(self._process)

    def listen(self, settings: ServerSettings) -> AbstractAsyncContextManager[trio.abc.Listener[Any]]:
        return self._site.network.listen(self._process)

    def directories(self, host: str, full_threshold_percent: int) -> Directories:
        return self._site.directories.adapters(self._process, full_threshold_percent)

    def tapes(self, settings: TapeSettings, libraries: Mapping[str, LibrarySettings]) -> Tapes:
        return self._site.library.adapters(self._process, settings)
