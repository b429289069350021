"""How the daemon bears size: decisions, start, memory, reports, and how each cost grows.

``python -m benchmarks.scale [--quick] [--dss postgres]``. Prints figures and asserts nothing.
"""

from __future__ import annotations

import logging
from typing import Final

import click
import structlog

from benchmarks.percentiles import percentile
from benchmarks.scale.daemon import measure_crowd, measure_start
from benchmarks.scale.decisions import Cost, measure_directories, measure_tapes
from benchmarks.scale.families import MIXES
from benchmarks.scale.growth import grow
from benchmarks.sites import NAMES, DssKind, dss_option, temporary_sites

TARGET_MS: Final = 5.0
"""What a decision may take at the 99th percentile."""


@click.command()
@dss_option
@click.option("--quick", is_flag=True, help="A twentieth of the size, to see that it works.")
def main(dss: DssKind, quick: bool) -> None:
    """Show what a large site costs: 1,000 devices, 20,000 media, 100,000 requests that wait, 10,000 connections."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    part = 20 if quick else 1
    devices, media, queued, connections = 1000 // part, 20_000 // part, 100_000 // part, 10_000 // part
    _show_decisions(devices, media, queued)
    _show_growth(devices, media, queued)
    _show_daemon(dss, devices, media, queued, connections)


def _show_decisions(devices: int, media: int, queued: int) -> None:
    for mix in MIXES:
        print(f"{devices} directories, {queued} requests that wait ({mix}):")
        _show(measure_directories(devices, queued, mix))
    for mix in ("writes", "reads"):
        print(f"{devices} drives, {media} tapes, {queued} requests that wait ({mix}):")
        _show(measure_tapes(devices, media, queued, mix))


def _show(costs: list[Cost]) -> None:
    for cost in costs:
        if cost.steps:
            print(f"  {cost}")
    steps = [seconds for cost in costs for seconds in cost.steps]
    within = sum(seconds <= TARGET_MS / 1000 for seconds in steps) / len(steps)
    print(f"  all steps: p99 {1000 * percentile(steps, 99):.3f} ms, {100 * within:.2f} % within {TARGET_MS:g} ms")


def _show_growth(devices: int, media: int, queued: int) -> None:
    print("how costs grow (microseconds of CPU for one event, all steps):")
    several = grow(_sizes(queued), lambda size: measure_directories(max(devices // 10, 2), size, "mixed"), "requests")
    several += grow(_sizes(devices), lambda size: measure_directories(size, max(queued // 50, 20), "mixed"), "devices")
    several += grow(
        _sizes(media), lambda size: measure_tapes(max(devices // 20, 2), size, max(queued // 100, 20), "reads"), "tapes"
    )
    for series in several:
        for line in series.lines():
            print(f"  {line}")


def _sizes(most: int) -> list[int]:
    return [max(most // share, 2) for share in (8, 4, 2, 1)]


def _show_daemon(dss: DssKind, devices: int, media: int, queued: int, connections: int) -> None:
    print(f"a daemon with {NAMES[dss]}:")
    with temporary_sites(dss) as sites:
        for directories, tapes in ((1, 0), (devices, 0), (0, 1), (0, media)):
            seconds, resident = measure_start(sites, directories, tapes)
            what = f"{directories} directories" if directories else f"{tapes} tapes"
            print(f"  start with {what}: {seconds:.2f} s, then {resident / 2**20:.1f} MiB in memory")
        for line in measure_crowd(sites, devices, connections, queued):
            print(f"  {line}")


if __name__ == "__main__":
    main()
