"""Runs the demo's clients to their end, and shows how far they are."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import trio

from lrs_trio.errors import LrsError

if TYPE_CHECKING:
    from lrs_trio.cli.demo.crowd import Syncs
    from lrs_trio.cli.demo.daemon import DemoDaemon
    from lrs_trio.cli.demo.ledger import Ledger


def run_clients(daemon: DemoDaemon, work: Callable[[], Awaitable[None]], limit_s: float) -> None:
    """Run `work`, for which the daemon is needed, under trio.

    Raises:
        LrsError: EIO, it has not ended after `limit_s` seconds, or the daemon is gone; the end of its log is shown.
    """

    async def bounded() -> None:
        with trio.fail_after(limit_s):
            await work()

    try:
        trio.run(bounded)
    except trio.TooSlowError:
        raise daemon.failure(f"the clients had not ended after {limit_s:g} s") from None
    except (OSError, BaseExceptionGroup) as error:
        if isinstance(error, LrsError):
            raise  # told already
        if isinstance(error, BaseExceptionGroup):
            if error.subgroup(KeyboardInterrupt):
                raise KeyboardInterrupt from None
            if error.split(OSError)[1] is not None:
                raise
        raise daemon.failure("lrsd cannot be reached any more") from None


def require_written(daemon: DemoDaemon, ledger: Ledger) -> None:
    """See that there is something to be checked.

    Raises:
        LrsError: EIO, no file could be written.
    """
    if not ledger.written:
        why = ledger.failures[0].text if ledger.failures else "no time for it"
        raise daemon.failure(f"no file could be written: {why}")


@contextmanager
def progress_bar(total: int) -> Iterator[Callable[[Ledger, Syncs], None]]:
    """A progress bar on a terminal, nothing elsewhere."""
    if not sys.stdout.isatty():
        yield lambda ledger, syncs: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (TextColumn("files"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"))
    # No refreshing thread: each call of `show` draws.
    with Progress(*columns, auto_refresh=False) as bar:
        task = bar.add_task("", total=total)

        def show(ledger: Ledger, syncs: Syncs) -> None:
            text = f"{syncs.physical} syncs for {syncs.requested} releases of media"
            bar.update(task, completed=len(ledger.written), description=text, refresh=True)

        yield show
