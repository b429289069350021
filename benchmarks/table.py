"""Figures as the rows of a table, beside what is possible."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from benchmarks.measuring import Figures, SyncFigures, SyncLimits


@dataclass(frozen=True, slots=True)
class Column:
    """A column with a title of two lines; what is ``None`` is left empty."""

    above: str
    title: str
    width: int
    shown: Callable[[Figures], str | None]

    def cell(self, figures: Figures) -> str:
        return f"{self.shown(figures) or '':>{self.width}}"


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.2f}" if seconds < 0.1 else f"{seconds * 1e3:.0f}"


def _us(seconds: float) -> str:
    return f"{seconds * 1e6:.0f}"


def _of_syncs(shown: Callable[[SyncFigures], str]) -> Callable[[Figures], str | None]:
    return lambda figures: None if figures.syncs is None else shown(figures.syncs)


def _of_limits(shown: Callable[[SyncLimits], str]) -> Callable[[Figures], str | None]:
    return lambda figures: None if figures.limits is None else shown(figures.limits)


def _count(value: float | None) -> str | None:
    return None if value is None else f"{value:.0f}"


def _share(value: float | None) -> str | None:
    return None if value is None else f"{value:.0%}"


_COLUMNS: Final = (
    Column("", "clients", 7, lambda figures: f"{figures.clients}"),
    Column("", "cycles/s", 8, lambda figures: _count(figures.cycles_per_s)),
    Column("ms", "p50", 6, lambda figures: _ms(figures.p50)),
    Column("ms", "p99", 6, lambda figures: _ms(figures.p99)),
    Column("ms", "max", 6, lambda figures: _ms(figures.longest)),
    Column("lrsd CPU", "us/cycle", 8, lambda figures: _us(figures.daemon_cpu)),
    Column("clients'", "us/cycle", 8, lambda figures: _us(figures.client_cpu)),
    Column("syncs", "/release", 8, _of_syncs(lambda syncs: f"{syncs.syncs_per_release:.2f}")),
    Column("commits", "/release", 8, _of_syncs(lambda syncs: f"{syncs.transactions_per_release:.2f}")),
    Column("updates", "/commit", 7, _of_syncs(lambda syncs: f"{syncs.updates_per_transaction:.1f}")),
    Column("lrsd", "MiB", 5, lambda figures: f"{figures.resident_bytes / 2**20:.1f}"),
    Column("echo", "cycles/s", 8, lambda figures: _count(figures.echo)),
    Column("share", "of it", 5, lambda figures: _share(figures.echo_share)),
    Column("bare", "syncfs/s", 8, _of_limits(lambda limits: f"{limits.syncs:.0f}")),
    Column("share", "of it", 5, _of_limits(lambda limits: f"{limits.syncs_share:.0%}")),
    Column("bare", "commit/s", 8, _of_limits(lambda limits: f"{limits.commits:.0f}")),
    Column("as large", "commit/s", 8, _of_limits(lambda limits: f"{limits.batches:.0f}")),
    Column("share", "of it", 5, _of_limits(lambda limits: f"{limits.batches_share:.0%}")),
)
_KIND_WIDTH: Final = 16

HEADER: Final = (
    " ".join([" " * _KIND_WIDTH, *(f"{column.above:>{column.width}}" for column in _COLUMNS)])
    + "\n"
    + " ".join([f"{'cycle':{_KIND_WIDTH}}", *(f"{column.title:>{column.width}}" for column in _COLUMNS)])
)


def line(figures: Figures) -> str:
    """One row below `HEADER`."""
    return " ".join([f"{figures.kind:{_KIND_WIDTH}}", *(column.cell(figures) for column in _COLUMNS)]).rstrip()
