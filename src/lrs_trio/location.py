"""Where the settings are and where the daemon listens, for those who must know quickly.

A client command only needs the socket, so nothing heavier than a TOML parser is imported here.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path

from lrs_trio.errors import SettingsError

DEFAULT_CONFIG = Path("/etc/lrs-trio/lrs.toml")
"""The settings file of commands and daemon when neither --config nor LRS_CONFIG names one; it need not exist."""

DEFAULT_SOCKET = Path("/run/lrs-trio/lrs")

SOCKET_PATH_BYTES = 107
"""The longest path that the kernel takes as the address of a Unix socket."""

SOCKET_ALLOWED = f"an absolute path of at most {SOCKET_PATH_BYTES} bytes"

_PREFIX = "LRS_"


def config_file(path: Path | None, environ: Mapping[str, str]) -> Path | None:
    """The settings file to use: `path` (--config), else LRS_CONFIG, else the default one if it exists."""
    if path is not None:
        return path
    if named := environ.get("LRS_CONFIG"):
        return Path(named)
    return DEFAULT_CONFIG if DEFAULT_CONFIG.exists() else None


def read_toml(file: Path) -> dict[str, object]:
    """The content of a settings file.

    Raises:
        SettingsError: it cannot be read or is not TOML.
    """
    try:
        with file.open("rb") as stream:
            return tomllib.load(stream)
    except OSError as error:
        raise SettingsError(f"{file}: cannot be read: {error.strerror}") from error
    except ValueError as error:  # of the TOML, or of its UTF-8
        raise SettingsError(f"{file}: is not TOML: {error}") from error


def settings_in(environ: Mapping[str, str]) -> Iterator[tuple[str, tuple[str, ...], str]]:
    """Each setting of the environment, as (variable, key, text): LRS_SERVER__SOCKET is ("SERVER", "SOCKET").

    LRS_CONFIG names the settings file, and LRS_ROOT, LRS_ROOT_1... are what `lrs exec` tells the command
    that it runs: those are no settings.
    """
    for name in sorted(environ):
        upper = name.upper()
        if not upper.startswith(_PREFIX) or upper in ("LRS_CONFIG", "LRS_ROOT") or upper.startswith("LRS_ROOT_"):
            continue
        yield name, tuple(name[len(_PREFIX) :].split("__")), environ[name]


def checked_socket(value: object) -> Path:
    """`value` as the path of a Unix socket.

    Raises:
        ValueError: no socket can have that path.
    """
    if not isinstance(value, str | Path):
        raise ValueError(SOCKET_ALLOWED)
    path = Path(value)
    if not path.is_absolute() or b"\0" in os.fsencode(path) or len(os.fsencode(path)) > SOCKET_PATH_BYTES:
        raise ValueError(SOCKET_ALLOWED)
    return path


def socket_path(path: Path | None, environ: Mapping[str, str]) -> Path:
    """Where the daemon listens, found as the daemon itself finds it, but without checking other settings.

    Args:
        path: the settings file given on the command line, if any.
        environ: the environment; LRS_SERVER__SOCKET wins over the file.

    Raises:
        SettingsError: the settings file cannot be read, or what it or the environment names cannot be a socket.
    """
    source, value = "", None
    for variable, key, text in settings_in(environ):
        if tuple(map(str.lower, key)) == ("server", "socket"):
            source, value = variable, text
    if value is None and (file := config_file(path, environ)) is not None:
        server = read_toml(file).get("server")
        if isinstance(server, dict):
            source, value = str(file), server.get("socket")
    if value is None:
        return DEFAULT_SOCKET
    try:
        return checked_socket(value)
    except ValueError as error:
        raise SettingsError(f"{source}: server.socket = {value!r}: must be {error}") from error
