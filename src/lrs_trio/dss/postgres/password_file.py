"""The password file, as libpq reads it: the driver knows no escapes there, and no directories of sockets."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import structlog

log: structlog.typing.FilteringBoundLogger = structlog.get_logger(__name__)

DEFAULT_PLACE: Final = "~/.pgpass"

_FIELD: Final = r"((?:[^:\\]|\\.)*)"
_LINE: Final = re.compile(":".join([_FIELD] * 5))
"""Host, port, database, user, and the password, which ends at the next colon."""
_ESCAPE: Final = re.compile(r"\\(.)")


def read_password(path: str, host: str, port: str, database: str, user: str) -> str | None:
    """The password that the file at `path` has for `user`; ``None``: none, or there is no such file.

    A file that others than its owner may look into is not used.
    """
    place = Path(os.path.expanduser(path))
    try:
        mode = place.stat().st_mode
        if not stat.S_ISREG(mode):
            return None
        if mode & (stat.S_IRWXG | stat.S_IRWXO):
            log.warning("password file not used, others may look into it; chmod 0600", path=str(place))
            return None
        text = os.fsdecode(place.read_bytes())
    except OSError:
        return None
    return find_password(text.split("\n"), host, port, database, user)


def find_password(lines: Iterable[str], host: str, port: str, database: str, user: str) -> str | None:
    """The password of the first of `lines` that fits. No host, and a directory of sockets, is ``localhost``, too."""
    hosts = {host, "localhost"} if not host or host.startswith("/") else {host}
    wanted = (hosts, {port}, {database}, {user})
    for line in lines:
        found = None if line.startswith("#") else _LINE.match(line.rstrip("\r"))
        if found is None:
            continue
        *fields, password = found.groups()
        if all(field == "*" or _plain(field) in names for field, names in zip(fields, wanted, strict=True)):
            return _plain(password)
    return None


def _plain(field: str) -> str:
    return _ESCAPE.sub(r"\1", field)
