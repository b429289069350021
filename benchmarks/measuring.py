"""Points measured on a real daemon, round by round, and what the DSS must say in the end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Final

from benchmarks.books import differences, read_books, wrong_after_drain
from benchmarks.cases import FAMILIES, Place, Point
from benchmarks.driver.crew import Crew, Round
from benchmarks.driver.frames import WRITTEN
from benchmarks.driver.scripts import Kind
from benchmarks.harness import LIBRARY, Lrsd, Site, counters, format_media, running
from benchmarks.limits import Limits, limits_of
from benchmarks.percentiles import percentile
from benchmarks.sites import Sites
from lrs_trio.model import Family, ResourceId

ECHO_PART: Final = 3
LIMIT_PART: Final = 8
"""For each second of the daemon, so small a part of one for the server that only answers, and for each other limit."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """How long a point is measured."""

    seconds: float
    """Of the daemon under load, in all rounds together."""
    rounds: int
    """In each of them the limits are measured as well, so that both have the same neighbours."""


@dataclass(frozen=True, slots=True)
class SyncFigures:
    """What a point has shown that has releases to be synced."""

    syncs_per_release: float
    transactions_per_release: float
    updates_per_transaction: float


@dataclass(frozen=True, slots=True)
class SyncLimits:
    """What is possible of what writes need, per second, and which share of it the daemon has reached."""

    syncs: float
    """Bare calls of syncfs, by one thread."""
    syncs_share: float
    commits: float
    """Transactions of one update."""
    batches: float
    """Transactions of as many updates as the daemon's."""
    batches_share: float


@dataclass(frozen=True, slots=True)
class Figures:
    """What one point has shown: medians of its rounds. Times are seconds."""

    kind: Kind
    clients: int
    cycles_per_s: float
    slowest_round: float
    fastest_round: float
    """Cycles per second too."""
    p50: float
    p99: float
    longest: float
    """Of all cycles of which some part was in the window of a round."""
    daemon_cpu: float
    client_cpu: float
    """Per cycle."""
    resident_bytes: int
    """Of the daemon, at most."""
    syncs: SyncFigures | None
    """``None`` if nothing was synced."""
    echo: float | None
    """Cycles per second of a server that only answers. ``None`` if the limits were not measured, as below."""
    echo_share: float | None
    limits: SyncLimits | None


@dataclass(slots=True)
class _Seen:
    """One round."""

    done: Round
    cpu_s: float
    resident_bytes: int
    counted: Counter[str]
    """What the daemon has counted, before and after the window as well."""
    echo: float | None = None
    limits: SyncLimits | None = None

    def per_release(self, counter: str) -> float:
        return self.counted[counter] / max(self.done.released.total(), 1)

    def per_second(self, counter: str) -> float:
        return self.counted[counter] / max(self.done.all_cycles, 1) * self.done.rate


class Measuring:
    """Points on one site, with one daemon. `released` is how many releases were acknowledged, by their media."""

    def __init__(self, site: Site, daemon: Lrsd, crew: Crew, limits: Limits | None, *, files: bool) -> None:
        self.released: Counter[tuple[str, ...]] = Counter()
        self._site = site
        self._daemon = daemon
        self._crew = crew
        self._limits = limits
        self._files = files
        self._media = tuple(medium.name for medium in site.media)

    def run(self, point: Point, schedule: Schedule) -> Figures:
        """Measure it, and the limits beside it.

        Raises:
            OSError: a connection failed.
            RuntimeError: the clients do not come to their end.
            WrongAnswerError: the daemon said what it must not.
        """
        seconds = schedule.seconds / schedule.rounds
        return _figures(point, [self._round(point, seconds) for _ in range(schedule.rounds)])

    def _round(self, point: Point, seconds: float) -> _Seen:
        limits = self._limits
        if limits is None:
            return self._under_load(point, seconds)
        echo = limits.cycles(self._crew, point.kind, point.clients, seconds / ECHO_PART)
        seen = self._under_load(point, seconds)
        seen.echo = echo
        if seen.done.released:
            seen.limits = _sync_limits(limits, seen, seconds / LIMIT_PART)
        return seen

    def _under_load(self, point: Point, seconds: float) -> _Seen:
        daemon = self._daemon
        before = counters(self._site)
        done, (cpu_s, _), (cpu_end_s, resident) = self._crew.drive(
            self._site.socket,
            point.kind,
            point.clients,
            self._media,
            seconds,
            files=self._files,
            probe=lambda: (daemon.cpu_seconds(), daemon.resident_bytes()),
        )
        self.released += done.released
        return _Seen(done, cpu_end_s - cpu_s, resident, counters(self._site) - before)


def _sync_limits(limits: Limits, seen: _Seen, seconds: float) -> SyncLimits:
    syncs = limits.syncs(seconds)
    batches = limits.commits(round(_updates_per_transaction(seen)), seconds)
    return SyncLimits(
        syncs,
        seen.per_second("dev.effective_sync") / syncs,
        limits.commits(1, seconds),
        batches,
        seen.per_second("dss.transactions") / batches,
    )


def _updates_per_transaction(seen: _Seen) -> float:
    return seen.counted["dss.operations"] / max(seen.counted["dss.transactions"], 1)


def _figures(point: Point, rounds: list[_Seen]) -> Figures:
    took = [took for seen in rounds for took in seen.done.took]
    rates = [seen.done.rate for seen in rounds]
    echoes = [(seen.echo, seen.done.rate / seen.echo) for seen in rounds if seen.echo]
    return Figures(
        point.kind,
        point.clients,
        median(rates),
        min(rates),
        max(rates),
        percentile(took, 50),
        percentile(took, 99),
        percentile(took, 100),
        median(seen.cpu_s / max(seen.done.cycles, 1) for seen in rounds),
        median(seen.done.cpu_s / max(seen.done.cycles, 1) for seen in rounds),
        max(seen.resident_bytes for seen in rounds),
        _sync_figures([seen for seen in rounds if seen.done.released]),
        median(echo for echo, _ in echoes) if echoes else None,
        median(share for _, share in echoes) if echoes else None,
        _median_limits([seen.limits for seen in rounds if seen.limits]),
    )


def _sync_figures(rounds: list[_Seen]) -> SyncFigures | None:
    if not rounds:
        return None
    return SyncFigures(
        median(seen.per_release("dev.effective_sync") for seen in rounds),
        median(seen.per_release("dss.transactions") for seen in rounds),
        median(_updates_per_transaction(seen) for seen in rounds),
    )


def _median_limits(limits: list[SyncLimits]) -> SyncLimits | None:
    if not limits:
        return None
    return SyncLimits(
        median(limit.syncs for limit in limits),
        median(limit.syncs_share for limit in limits),
        median(limit.commits for limit in limits),
        median(limit.batches for limit in limits),
        median(limit.batches_share for limit in limits),
    )


@dataclass(slots=True)
class Served:
    """A place with its daemon; `problems` is complete once the daemon has ended, with the block that made this."""

    site: Site
    daemon: Lrsd
    measuring: Measuring
    problems: list[str] = field(default_factory=list)


@contextmanager
def served(
    place: Place,
    sites: Sites,
    crew: Crew,
    *,
    parent: Path | None = None,
    with_limits: bool = True,
    files: bool = False,
) -> Iterator[Served]:
    """A new site of that kind and a daemon that serves it; drained, and its DSS checked, at the end of the block."""
    with ExitStack() as stack:
        site = stack.enter_context(sites.temporary(place.devices, parent=parent, families=FAMILIES[place.way]))
        limits = stack.enter_context(limits_of(site, files=files)) if with_limits else None
        daemon = stack.enter_context(running(site))
        format_media(site)
        measuring = Measuring(site, daemon, crew, limits, files=files)
        made = Served(site, daemon, measuring)
        yield made
        daemon.terminate()
        made.problems += wrong_after_drain(site, daemon)
        made.problems += differences(read_books(site).totals, _totals(site.media, measuring.released))


def _totals(media: Iterable[ResourceId], released: Counter[tuple[str, ...]]) -> dict[ResourceId, tuple[int, int]]:
    """Objects and bytes by medium, as those releases make them."""
    objects = dict.fromkeys(media, 0)
    for names, count in released.items():
        for name in names:
            objects[ResourceId(Family.DIR, name, LIBRARY)] += count
    return {medium: (count, count * WRITTEN) for medium, count in objects.items()}
