"""The long run: the daemon is killed again and again under load, and nothing acknowledged may be missing.

``python -m benchmarks.soak [--dss postgres] [--kills 50] [--seed N]``; ends with status 1 if anything was wrong.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from itertools import cycle
from pathlib import Path
from random import Random, SystemRandom
from signal import SIGKILL
from time import monotonic, sleep
from typing import Final

import click

from benchmarks.books import (
    Books,
    committed_unanswered,
    differences,
    read_books,
    sum_of,
    unsound_files,
    wrong_after_drain,
    wrong_while_serving,
)
from benchmarks.conclusion import conclude
from benchmarks.harness import Lrsd, Site, format_media, running
from benchmarks.load import Interruption, Ledger, Marks, Order, Written, orders, run_load, write_all
from benchmarks.load import totals as totals_of
from benchmarks.sites import NAMES, DssKind, dss_option, temporary_sites
from lrs_trio.model import RequestKind

COPIES: Final = (1, 1, 2)
SHORTEST_S: Final = 0.2
LONGEST_S: Final = 2.5
"""Bounds of how long one daemon serves before it is killed. Seconds."""

LOAD_DEADLINE_S: Final = 60.0
LONGEST_DRAIN_S: Final = 0.03
"""A kill that is to meet a drain comes within this time after the signal. Seconds."""


class End(Enum):
    """How one daemon ends."""

    KILLED = "killed"
    KILLED_STARTING = "killed while starting"
    KILLED_DRAINING = "killed while draining"
    DRAINED = "drained"


ENDS: Final = (
    End.KILLED,
    End.KILLED,
    End.DRAINED,
    End.KILLED,
    End.KILLED_DRAINING,
    End.KILLED,
    End.KILLED_STARTING,
)
"""Gone through again and again."""


@dataclass(slots=True)
class Life:
    """One daemon under load, from its start to its end, as its clients have seen it."""

    number: int
    end: End
    seconds: float
    ledger: Ledger = field(default_factory=Ledger)


@dataclass(slots=True)
class Totals:
    """What a soak has seen so far."""

    kills: int = 0
    drains: int = 0
    acknowledged: list[Written] = field(default_factory=list)
    committed_unanswered: int = 0
    not_committed: int = 0
    load_s: float = 0.0
    starts_s: list[float] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


class Soak:
    """Lives of one daemon on one site, each under load, each ended at a random moment.

    What a life has left is looked at when its successor is ready: recovery is the daemon's own work.
    """

    def __init__(self, site: Site, clients: int, random: Random, *, longest_s: float = LONGEST_S) -> None:
        self.totals = Totals()
        self._site = site
        self._clients = clients
        self._random = random
        self._longest_s = longest_s
        self._orders: Iterator[Order] = orders(random, copies=COPIES)
        self._books = dict.fromkeys(site.media, (0, 0))
        """What the DSS has to say: all that was acknowledged, and what was found to be committed besides."""
        self._ended: list[Life] = []
        """Those that no successor has looked at yet."""

    def run(self, kills: int) -> None:
        """End daemons until `kills` of them were killed; each gets a line."""
        with running(self._site) as daemon:
            format_media(self._site)
            self._drain(daemon)
        for number, end in enumerate(cycle(ENDS), 1):
            with Lrsd(self._site) as daemon:
                self._live(daemon, number, end)
            if self.totals.kills == kills:
                break
        with Lrsd(self._site) as daemon:
            self._start(daemon)
            self._drain(daemon)
        self.totals.problems += unsound_files(self.totals.acknowledged)

    def _live(self, daemon: Lrsd, number: int, end: End) -> None:
        totals = self.totals
        if end is End.KILLED_STARTING:
            lived = self._random.uniform(0, max(totals.starts_s))
            sleep(lived)
            daemon.kill()
            totals.kills += 1
            self._ended.append(Life(number, end, lived))
            return
        self._start(daemon)
        life = Life(number, end, self._random.uniform(SHORTEST_S, self._longest_s))
        self._ended.append(life)
        totals.load_s += run_load(
            self._site.socket,
            life.ledger,
            self._clients,
            lambda client: write_all(client, self._orders),
            seconds=LOAD_DEADLINE_S,
            marks=Marks(),
            interruptions=self._interruptions(daemon, life),
        )
        if daemon.wait() == -SIGKILL:
            totals.kills += 1
        else:
            # Perhaps because the drain was faster than the kill.
            totals.problems += wrong_after_drain(self._site, daemon)
            totals.drains += 1
            self._expect(not life.ledger.unacknowledged, f"releases without an answer: {life.ledger.unacknowledged}")

    def _interruptions(self, daemon: Lrsd, life: Life) -> list[Interruption]:
        if life.end is End.KILLED:
            return [Interruption(life.seconds, daemon.kill)]
        drain = Interruption(life.seconds, daemon.terminate)
        if life.end is End.DRAINED:
            return [drain]
        return [drain, Interruption(life.seconds + self._random.uniform(0, LONGEST_DRAIN_S), daemon.kill)]

    def _start(self, daemon: Lrsd) -> None:
        """Wait until it serves, and see what its predecessor has left."""
        begun = monotonic()
        daemon.wait_ready()
        self.totals.starts_s.append(monotonic() - begun)
        books = read_books(self._site)
        self.totals.problems += wrong_while_serving(self._site, daemon, books)
        for life in self._ended:
            self._settle(life, books)
        self._ended.clear()
        self.totals.problems += differences(books.totals, self._books)
        self._books = books.totals

    def _settle(self, life: Life, books: Books) -> None:
        """Acknowledged releases must be in the books, unanswered ones may be, each of them whole."""
        ledger, totals = life.ledger, self.totals
        allowed = set() if life.end is End.KILLED else {(RequestKind.WRITE, errno.ESHUTDOWN)}
        totals.problems += ledger.problems
        self._expect(allowed.issuperset(ledger.failures), f"refused, {life.end.value}: {ledger.failures}")
        self._books = sum_of(self._books, totals_of(ledger.acknowledged))
        committed = committed_unanswered(books.totals, self._books, ledger.unacknowledged)
        self._books = sum_of(self._books, totals_of(committed))
        lost = len(ledger.unacknowledged) - len(committed)
        totals.acknowledged += ledger.acknowledged
        totals.committed_unanswered += len(committed)
        totals.not_committed += lost
        print(
            f"{life.number:3} {life.end.value:22} after {life.seconds:4.2f} s: {len(ledger.acknowledged):5} releases"
            f" acknowledged, {len(committed):2} committed and not answered, {lost:2} not committed;"
            f" ready again in {totals.starts_s[-1]:.2f} s",
            flush=True,
        )

    def _drain(self, daemon: Lrsd) -> None:
        daemon.terminate()
        self.totals.problems += wrong_after_drain(self._site, daemon)

    def _expect(self, true: bool, otherwise: str) -> None:
        if not true:
            self.totals.problems.append(otherwise)


@click.command()
@dss_option
@click.option("--kills", type=click.IntRange(1), default=50, show_default=True, help="How often to kill the daemon.")
@click.option("--seed", type=int, help="Of the moments and the files; another one each time if not given.")
@click.option("--clients", type=click.IntRange(1, 64), default=64, show_default=True)
@click.option("--directories", type=click.IntRange(2), default=4, show_default=True)
@click.option("--base", type=click.Path(path_type=Path, exists=True, file_okay=False), help="Where to make the site.")
@click.option("--keep", is_flag=True, help="Leave the site there, with the daemon's log and the DSS.")
def main(
    dss: DssKind, kills: int, seed: int | None, clients: int, directories: int, base: Path | None, keep: bool
) -> None:
    """Kill the daemon under load, restart it, and see that nothing acknowledged is missing."""
    seed = SystemRandom().randrange(1 << 32) if seed is None else seed
    print(f"seed {seed}: {clients} clients on {directories} directories, {NAMES[dss]} as the DSS", flush=True)
    with temporary_sites(dss, parent=base) as sites, sites.temporary(directories, parent=base, keep=keep) as site:
        soak = Soak(site, clients, Random(seed))
        soak.run(kills)
    totals = soak.totals
    starts = sorted(totals.starts_s)
    print(
        f"\n{totals.kills} kills and {totals.drains} drains under load in {totals.load_s:.0f} s:"
        f" {len(totals.acknowledged)} releases acknowledged ({len(totals.acknowledged) / totals.load_s:.0f}/s),"
        f" {totals.committed_unanswered} committed and not answered, {totals.not_committed} not committed;"
        f" starts: median {starts[len(starts) // 2]:.2f} s, longest {starts[-1]:.2f} s"
    )
    if keep:
        print(f"left in {site.base}")
    conclude(totals.problems)


if __name__ == "__main__":
    main()
