"""One daemon per DSS and host."""

from __future__ import annotations

from pathlib import Path

import pytest

from lrs_trio.dss.presence import daemon_presence
from lrs_trio.errors import AlreadyRunningError


def test_one_daemon_per_dss_and_host_however_the_path_is_spelled(tmp_path: Path) -> None:
    (tmp_path / "dss.sqlite").touch()
    (tmp_path / "link").symlink_to("dss.sqlite")
    again = daemon_presence(tmp_path / "link", "store1")
    with daemon_presence(tmp_path / "dss.sqlite", "store1"), pytest.raises(AlreadyRunningError, match="on host store1"):
        again.acquire()


def test_daemons_of_other_hosts_and_other_files_are_in_nobodys_way(tmp_path: Path) -> None:
    with (
        daemon_presence(tmp_path / "a", "store1"),
        daemon_presence(tmp_path / "a", "store2"),
        daemon_presence(tmp_path / "b", "store1"),
    ):
        assert {file.name for file in tmp_path.iterdir()} == {"a.store1.lock", "a.store2.lock", "b.store1.lock"}
