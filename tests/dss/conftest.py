"""The DSS as the daemon has it, over each home there is."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from random import Random

import pytest
import trio

from lrs_trio.dss.group_commit import GroupCommit
from lrs_trio.dss.homes import open_daemon_home
from lrs_trio.dss.operations import Dss
from lrs_trio.settings import DssSettings

from .samples import DAEMON


@pytest.fixture(params=["sqlite", "postgres"])
def dss_settings(request: pytest.FixtureRequest, tmp_path: Path) -> DssSettings:
    """Where an empty DSS is; a further home joins the contract by a parameter here."""
    if request.param == "postgres":
        return DssSettings(url=request.getfixturevalue("postgres_url"))
    return DssSettings(url=f"sqlite://{tmp_path / 'dss.sqlite'}")


@pytest.fixture
async def dss(dss_settings: DssSettings) -> AsyncIterator[Dss]:
    async with open_daemon_home(dss_settings, DAEMON) as home, trio.open_nursery() as nursery:
        group_commit = GroupCommit(home, random=Random(1))
        await nursery.start(group_commit.run)
        yield group_commit
        nursery.cancel_scope.cancel()
