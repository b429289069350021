"""The machine that a daemon runs on, as far as the daemon can see it: process, clock, signals, sockets, DSS, storage.

The simulation puts another one in its place; everything above this seam is the same.
"""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AbstractContextManager, nullcontext
from random import Random
from typing import Any, Protocol

import trio

from lrs_trio.dss.home import DaemonHome
from lrs_trio.dss.homes import open_daemon_home
from lrs_trio.dss.processes import process_start_time
from lrs_trio.lockfile import FileLock
from lrs_trio.model import Device, LockOwner
from lrs_trio.server.credentials import PeerCredentials, peer_credentials
from lrs_trio.server.listener import open_unix_listener
from lrs_trio.settings import DssSettings, LibrarySettings, ServerSettings, TapeSettings
from lrs_trio.signals import drain_signals
from lrs_trio.storage.directory import DirectoryStorage
from lrs_trio.storage.protocols import DriveUnit, Unit


class Directories(Protocol):
    """Makes the adapters of directories."""

    full_threshold_percent: int

    def unit(self, device: Device) -> Unit: ...


class Tapes(Protocol):
    """Makes the adapters of tape drives."""

    def unit(self, device: Device) -> DriveUnit: ...

    def change(self, settings: TapeSettings) -> None:
        """Go on with `settings`."""
        ...

    def logs_moves(self, library: str) -> bool:
        """Whether the loads and unloads of `library` are the daemon's to log."""
        ...


class Machine(Protocol):
    """What a daemon asks of its machine."""

    @property
    def pid(self) -> int: ...

    @property
    def uid(self) -> int:
        """The user that the daemon runs as."""
        ...

    @property
    def random(self) -> Random:
        """Spreads what several daemons do at the same moment."""
        ...

    @property
    def credentials(self) -> Callable[[Any], PeerCredentials]:
        """Tells who is at the other end of a stream that was accepted."""
        ...

    def wall_clock(self) -> float:
        """Seconds since the epoch."""
        ...

    def start_of(self, pid: int) -> float | None:
        """When the process `pid` started, in seconds since the epoch; ``None`` if there is none."""
        ...

    def signals(self) -> AbstractContextManager[AsyncIterator[int]]:
        """The signals that ask for the end, while the block lasts."""
        ...

    def lock_file(self, settings: ServerSettings, host: str) -> AbstractContextManager[object]:
        """Hold the lock file of the settings, if they name one.

        Raises:
            AlreadyRunningError: another process holds it.
        """
        ...

    def open_home(self, settings: DssSettings, owner: LockOwner) -> AbstractAsyncContextManager[DaemonHome]:
        """The DSS; raises as `open_daemon_home`."""
        ...

    def listen(self, settings: ServerSettings) -> AbstractAsyncContextManager[trio.abc.Listener[Any]]:
        """What clients connect to; raises as `open_unix_listener`."""
        ...

    def directories(self, host: str, full_threshold_percent: int) -> Directories:
        """The adapters of the directories of `host`, full when less than that is left."""
        ...

    def tapes(self, settings: TapeSettings, libraries: Mapping[str, LibrarySettings]) -> Tapes: ...


class ThisMachine:
    """The machine that this process runs on."""

    credentials = staticmethod(peer_credentials)

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.uid = os.geteuid()
        self.random = Random()

    def wall_clock(self) -> float:
        return time.time()

    def start_of(self, pid: int) -> float | None:
        return process_start_time(pid)

    def signals(self) -> AbstractContextManager[AsyncIterator[int]]:
        return trio.open_signal_receiver(*drain_signals())

    def lock_file(self, settings: ServerSettings, host: str) -> AbstractContextManager[object]:
        path = settings.lock_file
        return nullcontext() if path is None else FileLock(path, f"host {host}", remove=True)

    def open_home(self, settings: DssSettings, owner: LockOwner) -> AbstractAsyncContextManager[DaemonHome]:
        return open_daemon_home(settings, owner)

    def listen(self, settings: ServerSettings) -> AbstractAsyncContextManager[trio.abc.Listener[Any]]:
        return open_unix_listener(settings.socket, mode=settings.mode, group=settings.socket_group)

    def directories(self, host: str, full_threshold_percent: int) -> Directories:
        return DirectoryStorage(host, full_threshold_percent)

    def tapes(self, settings: TapeSettings, libraries: Mapping[str, LibrarySettings]) -> Tapes:
        # Not at import: a host without drives has no use for them, and they are a megabyte.
        from lrs_trio.storage.tape import TapeStorage

        return TapeStorage(settings, libraries)
