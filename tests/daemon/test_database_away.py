"""A daemon whose database is away, or back and not as it should be, ends when it is asked to, and no sooner."""

from __future__ import annotations

import errno
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from signal import SIGTERM
from typing import Any

import pytest
import trio

from benchmarks.harness import ANSWER_S
from lrs_trio.daemon import EXIT_DRAINED, EXIT_FORCED, Daemon
from lrs_trio.dss.home import DaemonHome
from lrs_trio.dss.operations import Operation, Outcome, ReadLocks
from lrs_trio.errors import DssUnavailableError, LrsError
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


class RefusingHome:
    """A database that has been away for a moment, and then refuses to tell its locks."""

    def __init__(self) -> None:
        self._is_back = False

    async def commit(self, batch: Sequence[Operation[Any]]) -> list[Outcome]:
        await trio.lowlevel.checkpoint()
        refusal = LrsError(errno.EACCES, "permission denied for table lock")
        return [refusal if self._is_back and isinstance(operation, ReadLocks) else () for operation in batch]

    async def wait_lost(self) -> None:
        if self._is_back:
            await trio.sleep_forever()
        self._is_back = True


class Signalled(ThisMachine):
    """One with this database, or one that cannot be connected to yet, that is told to end after a moment."""

    def __init__(self, home: DaemonHome | None) -> None:
        super().__init__()
        self._home = home

    @asynccontextmanager
    async def open_home(self, settings: DssSettings, owner: LockOwner) -> AsyncIterator[DaemonHome]:
        if self._home is None:
            await trio.sleep_forever()
        else:
            yield self._home

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
    for home in (None, AwayHome(answers=0)):
        daemon = Daemon(settings, Signalled(home))
        with trio.fail_after(ANSWER_S):
            assert await daemon.run() == EXIT_DRAINED
        assert not daemon.started


@pytest.mark.note("11")
async def test_a_database_that_goes_away_during_the_start_keeps_it_for_no_longer_than_a_drain(tmp_path: Path) -> None:
    given = {"server": {"socket": str(tmp_path / "lrs")}, "drain": {"deadline_s": 0.5}}
    daemon = Daemon(Settings.model_validate(given), Signalled(AwayHome(answers=1)))
    with trio.fail_after(ANSWER_S):
        assert await daemon.run() == EXIT_FORCED
    assert not daemon.started


async def test_a_database_that_is_back_and_refuses_what_the_daemon_asks_first_does_not_end_it(tmp_path: Path) -> None:
    daemon = Daemon(Settings.model_validate({"server": {"socket": str(tmp_path / "lrs")}}), Signalled(RefusingHome()))
    with trio.fail_after(ANSWER_S):
        assert await daemon.run() == EXIT_DRAINED
    assert daemon.started
