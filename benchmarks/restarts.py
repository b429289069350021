"""The long run with a DSS that goes away again and again: the daemon stays, and its clients are not told.

``python -m benchmarks.restarts [--seconds 60] [--seed N] [--vary]``; ends with status 1 if anything was wrong.
"""

from __future__ import annotations

import json
import os
import signal
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum
from functools import partial
from pathlib import Path
from random import Random, SystemRandom
from time import monotonic
from typing import Any, Final

import click
import trio

from benchmarks.books import differences, read_books, unsound_files, wrong_after_drain, wrong_while_serving
from benchmarks.conclusion import conclude
from benchmarks.harness import Lrsd, Site, counters, format_media, running
from benchmarks.load import Ledger, finishing, orders, run_load, until, write_all
from benchmarks.postgres import Cluster, temporary_cluster
from benchmarks.sites import Sites

COPIES: Final = (1, 1, 2)
INTERVAL_S: Final = 1.0
"""From one blow to the next. Seconds."""

SPREAD: Final = 0.8
"""How much longer or shorter an interval may be where moments are random, as a part of it."""

SERVER: Final = {"recovery_init_sync_method": "syncfs"}
"""Settings of PostgreSQL: it looks for what a crash may have left unsynced by one call instead of file by file, which
takes longer than the time between two blows."""

PATIENCE_S: Final = 60.0
"""How long clients may take to their end after the last order. Seconds."""


class Blow(Enum):
    """What happens to the server."""

    RESTARTED = "restarted (immediate mode)"
    KILLED = "killed and started again"
    CRASHED = "one process killed"
    CUT = "connections cut"


@dataclass(slots=True)
class Totals:
    """What one run has seen."""

    blows: Counter[Blow] = field(default_factory=Counter)
    load_s: float = 0.0
    ledger: Ledger = field(default_factory=Ledger)
    outages: int = 0
    """How often the daemon found the DSS away."""
    looked_up: Counter[str] = field(default_factory=Counter)
    """COMMITs without an answer, by what was found out."""
    transactions: int = 0
    operations: int = 0
    problems: list[str] = field(default_factory=list)


class Restarts:
    """One daemon on one site under load, and a server that is given blows meanwhile.

    Args:
        site: its DSS must be in `cluster`.
        blows: what happens to the server: one after the other, each time around in another order.
        vary: whether the intervals are random too.
    """

    def __init__(
        self,
        site: Site,
        cluster: Cluster,
        clients: int,
        random: Random,
        *,
        blows: Sequence[Blow] = (Blow.RESTARTED,),
        vary: bool = False,
    ) -> None:
        self.totals = Totals()
        self._site = site
        self._cluster = cluster
        self._clients = clients
        self._random = random
        self._blows = blows
        self._vary = vary

    def run(self, seconds: float) -> None:
        """Load and blows for so long, then a look at everything. Not for a thread that runs trio."""
        totals = self.totals
        with running(self._site) as daemon:
            format_media(self._site)
            before = counters(self._site)
            trio.run(self._under_load, seconds)
            if (status := daemon.status()) is not None:
                totals.problems.append(f"the daemon ended with status {status}{daemon.said()}")
                return
            seen = counters(self._site) - before
            totals.transactions, totals.operations = seen["dss.transactions"], seen["dss.operations"]
            self._see_books(daemon)
            daemon.terminate()
            totals.problems += wrong_after_drain(self._site, daemon)
        totals.problems += differences(read_books(self._site).totals, totals.ledger.totals())
        self._read_log()

    async def _under_load(self, seconds: float) -> None:
        totals, ends = self.totals, monotonic() + seconds
        wanted = until(ends, orders(self._random, copies=COPIES))
        load = partial(
            run_load,
            self._site.socket,
            totals.ledger,
            self._clients,
            lambda client: finishing(client, write_all(client, wanted)),
            seconds=seconds + PATIENCE_S,
        )
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._deal_blows, seconds)
            # The clients must go on while the server is away.
            totals.load_s = await trio.to_thread.run_sync(load, limiter=trio.CapacityLimiter(1))

    async def _deal_blows(self, seconds: float) -> None:
        # The load draws from the other one in its own thread.
        random = Random(self._random.random())
        server = trio.CapacityLimiter(1)
        begun = due = trio.current_time()
        for blow in _shuffled_again_and_again(self._blows, random):
            interval = INTERVAL_S * (random.uniform(1 - SPREAD, 1 + SPREAD) if self._vary else 1.0)
            # A server that has taken longer to start gets some time to serve.
            due = max(due, trio.current_time() - INTERVAL_S / 2) + interval
            if due > begun + seconds:
                return
            await trio.sleep_until(due)
            await trio.to_thread.run_sync(self._deal, blow, random, limiter=server)
            self.totals.blows[blow] += 1

    def _deal(self, blow: Blow, random: Random) -> None:
        cluster = self._cluster
        match blow:
            case Blow.RESTARTED:
                cluster.restart("immediate")
            case Blow.KILLED:
                cluster.kill()
                cluster.start()
            case Blow.CRASHED:
                with suppress(ProcessLookupError):
                    os.kill(random.choice(sorted(cluster.processes())), signal.SIGKILL)
            case Blow.CUT:
                for pid in cluster.connections():
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGTERM)

    def _see_books(self, daemon: Lrsd) -> None:
        totals, ledger = self.totals, self.totals.ledger
        totals.problems += ledger.problems
        if ledger.failures or ledger.unacknowledged or ledger.lost_connections:
            totals.problems.append(
                f"clients were told: {dict(ledger.failures)}, connections lost: {ledger.lost_connections},"
                f" releases without an answer: {list(ledger.unacknowledged)}"
            )
        books = read_books(self._site)
        totals.problems += differences(books.totals, ledger.totals())
        totals.problems += wrong_while_serving(self._site, daemon, books)
        totals.problems += unsound_files(ledger.acknowledged)

    def _read_log(self) -> None:
        for text in self._site.log.read_text().splitlines():
            line: dict[str, Any] = json.loads(text)
            match line["event"]:
                case "dss unavailable, operations wait":
                    self.totals.outages += 1
                case "a COMMIT without an answer was looked up":
                    self.totals.looked_up["committed" if line["committed"] else "not committed"] += 1


def _shuffled_again_and_again(blows: Sequence[Blow], random: Random) -> Iterator[Blow]:
    while True:
        yield from random.sample(blows, len(blows))


@click.command()
@click.option("--seconds", type=click.FloatRange(1), default=60.0, show_default=True, help="How long the load goes on.")
@click.option("--seed", type=int, help="Of the moments and the files; another one each time if not given.")
@click.option("--vary", is_flag=True, help="Also kill the server or single processes of it, all at random moments.")
@click.option("--clients", type=click.IntRange(1, 64), default=64, show_default=True)
@click.option("--directories", type=click.IntRange(2), default=8, show_default=True)
@click.option("--base", type=click.Path(path_type=Path, exists=True, file_okay=False), help="Where to make everything.")
@click.option("--keep", is_flag=True, help="Leave the site there, with the daemon's log.")
def main(
    seconds: float, seed: int | None, vary: bool, clients: int, directories: int, base: Path | None, keep: bool
) -> None:
    """Restart PostgreSQL every second under load, and see that no client notices and nothing is lost or doubled."""
    seed = SystemRandom().randrange(1 << 32) if seed is None else seed
    blows = tuple(Blow) if vary else (Blow.RESTARTED,)
    print(f"seed {seed}: {clients} clients on {directories} directories, PostgreSQL as the DSS", flush=True)
    with (
        temporary_cluster(parent=base, fsync=True, settings=SERVER) as cluster,
        Sites(cluster).temporary(directories, parent=base, keep=keep) as site,
    ):
        restarts = Restarts(site, cluster, clients, Random(seed), blows=blows, vary=vary)
        restarts.run(seconds)
    totals, ledger = restarts.totals, restarts.totals.ledger
    dealt = ", ".join(f"{count} times {blow.value}" for blow, count in totals.blows.items())
    acknowledged = len(ledger.acknowledged)
    print(
        f"the server in {totals.load_s:.0f} s: {dealt}; the daemon found it away {totals.outages} times\n"
        f"{acknowledged} releases acknowledged ({acknowledged / totals.load_s:.0f} cycles/s), longest time without"
        f" one {ledger.longest_pause():.2f} s, slowest cycle {max(ledger.cycle_s, default=0):.2f} s;"
        f" {totals.operations / max(totals.transactions, 1):.1f} operations per transaction\n"
        f"COMMITs without an answer: {totals.looked_up.total()} looked up, of these"
        f" {totals.looked_up['committed']} were done"
    )
    if keep:
        print(f"left in {site.base}")
    conclude(totals.problems)


if __name__ == "__main__":
    main()
