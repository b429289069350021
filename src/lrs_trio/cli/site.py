"""Which daemon and which DSS a command is about."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from lrs_trio.errors import LrsError

if TYPE_CHECKING:
    from lrs_trio.client import Client
    from lrs_trio.settings import Settings

ANSWERS_WITHIN_S: Final = 30.0
"""How long a command waits for what the daemon answers at once: the report of a large site that many ask for takes
its time. Seconds."""


@dataclass(frozen=True, slots=True)
class Site:
    """What the command line says: the settings or Phobos's, and the socket, where it names them; the environment."""

    config: Path | None = None
    socket: Path | None = None
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)
    phobos_config: Path | None = None

    @property
    def socket_path(self) -> Path:
        """Where the daemon listens.

        Raises:
            SettingsError: the settings do not say it.
        """
        if self.socket is not None:
            return self.socket
        if self.phobos_config is not None:
            from lrs_trio.phobos.configuration import PhobosConfiguration

            return PhobosConfiguration.load(self.phobos_config, self.environ).socket_path
        from lrs_trio.location import socket_path

        return socket_path(self.config, self.environ)

    def connect(self) -> Client:
        """Connect to the daemon; a context manager. What it should answer at once is not waited for without end.

        Raises:
            OSError: no daemon listens there, or it may not be used by this user.
        """
        from lrs_trio.client import connect

        path = self.socket_path
        try:
            return connect(path, answers_within=ANSWERS_WITHIN_S)
        except OSError as error:
            raise no_connection(path, error) from error

    def settings(self) -> Settings:
        """All settings, checked.

        Raises:
            SettingsError: one line for each thing that is wrong.
        """
        overrides = [f"server.socket={self.socket}"] if self.socket else []
        if self.phobos_config is not None:
            from lrs_trio.phobos.settings import load_phobos_settings

            return load_phobos_settings(self.phobos_config, self.environ, overrides).settings
        from lrs_trio.settings_sources import load_settings

        return load_settings(self.config, self.environ, overrides)


pass_site = click.make_pass_decorator(Site)


def no_connection(path: Path, error: OSError) -> LrsError:
    """`error`, met when connecting to the daemon's socket `path`, with what to do about it."""
    number = error.errno or errno.EIO
    advice = {
        errno.ENOENT: "start lrsd, or name its socket or its settings file",
        errno.ECONNREFUSED: "nobody listens there any more; start lrsd",
        errno.EACCES: "this user is not allowed to; see server.socket_mode and server.socket_group",
    }.get(number, "see whether lrsd runs")
    return LrsError(number, f"no connection to a daemon on {path}: {os.strerror(number)}; {advice}")


def connection_closed(path: Path) -> LrsError:
    """For a connection to the daemon's socket `path` that ended before there was an answer."""
    return LrsError(
        errno.ECONNRESET,
        f"the daemon on {path} closed the connection: it has ended, or has too many clients"
        " (server.max_connections); its log says more",
    )
