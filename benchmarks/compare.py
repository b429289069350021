"""Two runs side by side: ``python -m benchmarks.compare BEFORE.json AFTER.json``. All figures are after / before."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from statistics import geometric_mean
from typing import Final

import click

from benchmarks.measuring import Figures
from benchmarks.results import Results, load

TITLES: Final = ("cycles/s", "share", "p50", "p99", "lrsd CPU")
_WIDTH: Final = 9


def ratios(before: Figures, after: Figures) -> tuple[float | None, ...]:
    """After / before, in the order of `TITLES`; ``None`` where there is nothing to divide."""
    pairs = (
        (before.cycles_per_s, after.cycles_per_s),
        (before.echo_share, after.echo_share),
        (before.p50, after.p50),
        (before.p99, after.p99),
        (before.daemon_cpu, after.daemon_cpu),
    )
    return tuple(new / old if old and new else None for old, new in pairs)


def comparison(before: Results, after: Results) -> list[str]:
    """A row for each point that both have, by place, and one for the means of each kind of cycle."""
    known = {(place, point): figures for place, point, figures in before.points()}
    lines, of_kind, last = [], defaultdict(list), None
    for place, point, figures in after.points():
        if (place, point) not in known:
            continue
        if place != last:
            lines.append(str(place))
            last = place
        found = ratios(known[place, point], figures)
        of_kind[point.kind].append(found)
        lines.append(_row(f"  {point.kind}, {point.clients} client{'s' if point.clients > 1 else ''}", found))
    if lines:
        lines.append("geometric means")
    for kind, rows in of_kind.items():
        columns = [[value for value in column if value is not None] for column in zip(*rows, strict=True)]
        lines.append(_row(f"  {kind}", tuple(geometric_mean(column) if column else None for column in columns)))
    return lines


def _row(name: str, values: tuple[float | None, ...]) -> str:
    cells = "".join(f"{'' if value is None else f'{value:.2f}':>{_WIDTH}}" for value in values)
    return f"{name:32}{cells}".rstrip()


@click.command()
@click.argument("before", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.argument("after", type=click.Path(path_type=Path, exists=True, dir_okay=False))
def main(before: Path, after: Path) -> None:
    """Print how the figures of the run AFTER relate to those of BEFORE."""
    try:
        old, new = load(before), load(after)
    except ValueError as error:
        raise click.ClickException(str(error)) from error
    lines = comparison(old, new)
    if not lines:
        raise click.ClickException(f"{before} and {after} have no point in common")
    print(f"{new.commit} / {old.commit}\n{'':32}{''.join(f'{title:>{_WIDTH}}' for title in TITLES)}")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
