"""A daemon that does not get as far as to serve anybody ends all the same when it is asked to."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from signal import SIGTERM
from typing import Any

import pytest
import trio

from benchmarks.harness import ANSWER_S
from lrs_trio.daemon import EXIT_DRAINED, EXIT_FORCED, Daemon
from lrs_trio.dss.operations import Operation, Outcome
from lrs_trio.errors import DssUnavailableError
from lrs_trio.machine import ThisMachine
from lrs_trio.model import LockOwner
from lrs_trio.settings import DssSettings, Settings


class AwayHome:
    """A database that has gone away since it was connected to, and has answered so many questions before."""

    def __init__(self, answers: int) -> None:
        self._answers = answers

    async def commit(self, batch: Sequence[Operation[Any]]) -> list[Outcome]:
        await trio.lowlevel.checkpoint()
        if not self._answers:
            raise DssUnavailableError("away")
        self._answers -= 1
        return [() for _ in batch]

    async def wait_lost(self) -> None:
        await trio.sleep_forever()


class Signalled(ThisMachine):
    """One whose database is away after so many answers, and that is told to end after a moment."""

    def __init__(self, answers: int = 0) -> None:
        super().__init__()
        self._answers = answers

    @asynccontextmanager
    async def open_home(self, settings: DssSettings, owner: LockOwner) -> AsyncIterator[AwayHome]:
        yield AwayHome(self._answers)

    @contextmanager
    def signals(self) -> Iterator[AsyncIterator[int]]:
        async def after_a_moment() -> AsyncIterator[int]:
            await trio.sleep(0.1)
            yield SIGTERM
            await trio.sleep_forever()

        yield after_a_moment()


@pytest.mark.note("11")
@pytest.mark.parametrize("traced", [False, True])
async def test_a_database_that_is_away_does_not_keep_it(tmp_path: Path, traced: bool) -> None:
    events = {"trace": str(tmp_path / "trace")} if traced else {}
    settings = Settings.model_validate({"server": {"socket": str(tmp_path / "lrs")}, "events": events})
    with trio.fail_after(ANSWER_S):
        assert await Daemon(settings, Signalled()).run() == EXIT_DRAINED


@pytest.mark.note("11")
async def test_a_database_that_goes_away_during_the_start_keeps_it_for_no_longer_than_a_drain(tmp_path: Path) -> None:
    given = {"server": {"socket": str(tmp_path / "lrs")}, "drain": {"deadline_s": 0.5}}
    daemon = Daemon(Settings.model_validate(given), Signalled(answers=1))
    with trio.fail_after(ANSWER_S):
        assert await daemon.run() == EXIT_FORCED
    assert not daemon.started
