"""A daemon's DSS over PostgreSQL, and what many tasks count in it."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from random import Random
from typing import Any

import pytest
import trio

from lrs_trio.dss.group_commit import GroupCommit
from lrs_trio.dss.operations import Dss, MediumUpdate, Operation, Outcome, UpdateMedia
from lrs_trio.dss.postgres.connection import LIMITS, Limits
from lrs_trio.dss.postgres.home import open_postgres_home
from lrs_trio.dss.postgres.operations import execute
from lrs_trio.dss.postgres.transaction import Transaction
from lrs_trio.model import LockOwner
from lrs_trio.settings import DssSettings
from tests.dss.samples import DAEMON, directory, medium_id
from tests.processes import PATIENCE_S

MEDIA = ("/srv/a", "/srv/b", "/srv/c", "/srv/d")


@asynccontextmanager
async def open_dss(
    settings: DssSettings,
    owner: LockOwner = DAEMON,
    *,
    media: Sequence[str] = (),
    limits: Limits = LIMITS,
) -> AsyncIterator[GroupCommit]:
    """As the daemon has it, with these directories added."""
    with trio.fail_after(PATIENCE_S):
        async with open_postgres_home(settings, owner, limits) as home, trio.open_nursery() as nursery:
            dss = GroupCommit(home, random=Random(1))
            await nursery.start(dss.run)
            for path in media:
                await dss.execute(directory(path))
            yield dss
            nursery.cancel_scope.cancel()


def add_one(*paths: str) -> UpdateMedia:
    """What a release does to each of its media."""
    return UpdateMedia(tuple(MediumUpdate(medium_id(path), add_objects=1, add_logical=10) for path in paths))


@dataclass
class Tally:
    """What was acknowledged, by medium."""

    objects: Counter[str] = field(default_factory=Counter)
    _changed: trio.Event = field(default_factory=trio.Event)

    def acknowledged(self, *paths: str) -> None:
        self.objects.update(paths)
        self._changed.set()
        self._changed = trio.Event()

    async def more(self, count: int) -> None:
        """Return once `count` more are acknowledged."""
        enough = self.objects.total() + count
        with trio.fail_after(PATIENCE_S):
            while self.objects.total() < enough:
                await self._changed.wait()


@asynccontextmanager
async def counting(dss: Dss, *, tasks: int = 16) -> AsyncIterator[Tally]:
    """Many tasks that release one medium or two, again and again, until the block ends; all they began is done then."""
    tally = Tally()
    ends = False

    async def release(number: int) -> None:
        paths = sorted({MEDIA[number % len(MEDIA)], MEDIA[number // 2 % len(MEDIA)]})
        while not ends:
            await dss.execute(add_one(*paths))
            tally.acknowledged(*paths)

    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            for number in range(tasks):
                nursery.start_soon(release, number)
            yield tally
            ends = True


async def until(holds: Callable[[], object]) -> None:
    """Return once something is so that tells nobody when it changes."""
    with trio.fail_after(PATIENCE_S):
        while not holds():  # noqa: ASYNC110 there is no event
            await trio.sleep(0.002)


def counted_attempts(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many operations each attempt at a part of a batch has, from now on."""
    attempts: list[int] = []

    async def attempt(transaction: Transaction, batch: Sequence[Operation[Any]]) -> list[Outcome]:
        attempts.append(len(batch))
        return await execute(transaction, batch)

    monkeypatch.setattr("lrs_trio.dss.postgres.parts.execute", attempt)
    return attempts
