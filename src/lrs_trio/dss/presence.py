"""One daemon per DSS and host (decided so that a lock row of this host has one possible owner: us)."""

from __future__ import annotations

import os

from lrs_trio.lockfile import FileLock


def daemon_presence(dss_path: str | os.PathLike[str], host: str) -> FileLock:
    """The lock that the daemon of `host` holds while it uses the DSS file at `dss_path`.

    It lies beside the file that the path leads to, so that two spellings of one path meet.
    """
    path = os.path.realpath(dss_path)
    return FileLock(f"{path}.{host}.lock", f"DSS {path} on host {host}")
