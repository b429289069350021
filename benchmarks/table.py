"""Figures as the rows of a table, beside what is possible."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from benchmarks.limits import Limits
from benchmarks.measuring import Figures


@dataclass(frozen=True, slots=True)
class Column:
    """A column with a title of two lines. One `of_writes` is empty for reads, which neither sync nor commit."""

    above: str
    title: str
    width: int
    shown: Callable[[Figures, Limits], str]
    of_writes: bool = False

    def cell(self, figures: Figures, limits: Limits) -> str:
        empty = self.of_writes and not figures.syncs
        return "" if empty else self.shown(figures, limits)


def _times(p50: float, p99: float) -> str:
    return f"{p50 * 1000:.1f} / {p99 * 1000:.0f}"


def _of_echo(figures: Figures, limits: Limits) -> str:
    return f"{figures.cycles_per_s / (limits.echo_writes if figures.syncs else limits.echo_reads):.0%}"


_COLUMNS: Final = (
    Column("", "clients", 7, lambda figures, _: f"{figures.clients}"),
    Column("", "cycles/s", 8, lambda figures, _: f"{figures.cycles_per_s:.0f}"),
    Column("of", "echo", 5, _of_echo),
    Column("cycle ms", "p50 / p99", 12, lambda figures, _: _times(figures.cycle_p50, figures.cycle_p99)),
    Column("allocation ms", "p50 / p99", 13, lambda figures, _: _times(figures.allocation_p50, figures.allocation_p99)),
    Column("release ms", "p50 / p99", 12, lambda figures, _: _times(figures.release_p50, figures.release_p99), True),
    Column("releases", "per sync", 8, lambda figures, _: f"{figures.releases_per_sync:.1f}", True),
    Column("", "syncs/s", 7, lambda figures, _: f"{figures.syncs_per_s:.0f}", True),
    Column("of", "syncfs", 6, lambda figures, limits: f"{figures.syncs_per_s / limits.syncfs:.0%}", True),
    Column("operations", "per commit", 10, lambda figures, _: f"{figures.operations_per_transaction:.1f}", True),
    Column("", "commits/s", 9, lambda figures, _: f"{figures.transactions_per_s:.0f}", True),
    Column("of", "commits", 7, lambda figures, limits: f"{figures.transactions_per_s / limits.commits:.0%}", True),
    Column("lrsd CPU", "us/cycle", 8, lambda figures, _: f"{figures.daemon_cpu_per_cycle * 1e6:.0f}"),
    Column("clients'", "CPU", 8, lambda figures, _: f"{figures.clients_cpu_share:.0%}"),
    Column("", "file I/O", 8, lambda figures, _: f"{figures.clients_file_io_share:.0%}"),
)
_NAME_WIDTH: Final = 16

HEADER: Final = (
    " ".join([" " * _NAME_WIDTH, *(f"{column.above:>{column.width}}" for column in _COLUMNS)])
    + "\n"
    + " ".join([f"{'case':{_NAME_WIDTH}}", *(f"{column.title:>{column.width}}" for column in _COLUMNS)])
)


def line(figures: Figures, limits: Limits) -> str:
    """One row below `HEADER`."""
    cells = [f"{column.cell(figures, limits):>{column.width}}" for column in _COLUMNS]
    return " ".join([f"{figures.name:{_NAME_WIDTH}}", *cells])


def best(limits: Limits) -> str:
    """What is possible, in words."""
    return (
        f"per second at best: {limits.syncfs:.0f} syncfs, {limits.commits:.0f} commits one by one;"
        f" a server that only answers: {limits.echo_writes:.0f} write cycles, {limits.echo_reads:.0f} read cycles"
    )
