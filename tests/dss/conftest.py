"""The DSS as the daemon has it, over each home there is."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from random import Random

import pytest
import trio

from lrs_trio.dss.group_commit import GroupCommit
from lrs_trio.dss.home import ThreadedHome
from lrs_trio.dss.operations import Dss
from lrs_trio.dss.sqlite import SqliteHome


@pytest.fixture(params=["sqlite"])
async def dss(request: pytest.FixtureRequest, tmp_path: Path, nursery: trio.Nursery) -> AsyncIterator[Dss]:
    """An empty DSS; a further home joins the contract by a parameter here."""
    homes = {"sqlite": lambda: SqliteHome.open(tmp_path / "dss.sqlite")}
    with homes[request.param]() as home:
        group_commit = GroupCommit(ThreadedHome(home), random=Random(1))
        await nursery.start(group_commit.run)
        yield group_commit
