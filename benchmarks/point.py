"""One point by itself: ``python -m benchmarks.point --cycle write --clients 64 --devices 4 --dss sqlite --seconds 5``.

A profiler can be attached: ``--attach 'perf record -g -o lrsd.perf -p {pid}'``.
"""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from signal import SIGINT
from typing import Final

import click

from benchmarks.cases import WAYS, Place, Point, Way
from benchmarks.conclusion import conclude
from benchmarks.driver.crew import PROCESSES, crew_of
from benchmarks.driver.scripts import KINDS, Kind
from benchmarks.measuring import Schedule, served
from benchmarks.sites import DssKind, dss_option, temporary_sites
from benchmarks.table import HEADER, line

ATTACH_S: Final = 60.0
"""How long what was attached may take to its end. Seconds."""


@click.command()
@click.option("--cycle", "kind", type=click.Choice(KINDS), default="write", show_default=True)
@click.option("--clients", type=click.IntRange(1), default=64, show_default=True)
@click.option("--devices", type=click.IntRange(1), default=4, show_default=True)
@dss_option
@click.option(
    "--way", type=click.Choice(WAYS), default="default", show_default=True, help="How directories are served."
)
@click.option("--seconds", type=click.FloatRange(0.1), default=5.0, show_default=True, help="Of the daemon under load.")
@click.option("--rounds", type=click.IntRange(1), default=1, show_default=True, help="To divide these seconds into.")
@click.option("--limits", is_flag=True, help="Measure also what is possible here.")
@click.option("--files", is_flag=True, help="Write a file on each medium that is granted, or look what is there.")
@click.option("--processes", type=click.IntRange(1), default=PROCESSES, show_default=True, help="Of the clients.")
@click.option("--attach", metavar="COMMAND", help="Run it beside the load, with the daemon's pid for {pid}.")
@click.option("--base", type=click.Path(path_type=Path, exists=True, file_okay=False), help="Where to make the site.")
def main(
    kind: Kind,
    clients: int,
    devices: int,
    dss: DssKind,
    way: Way,
    seconds: float,
    rounds: int,
    limits: bool,
    files: bool,
    processes: int,
    attach: str | None,
    base: Path | None,
) -> None:
    """Measure cycles of one kind, and print one line."""
    with (
        crew_of(processes) as crew,
        temporary_sites(dss, parent=base) as sites,
        served(Place(dss, devices, way), sites, crew, parent=base, with_limits=limits, files=files) as place,
    ):
        print(f"lrsd is process {place.daemon.pid}", flush=True)
        with attached(attach, place.daemon.pid):
            figures = place.measuring.run(Point(kind, clients), Schedule(seconds, rounds))
        print(f"{HEADER}\n{line(figures)}", flush=True)
    conclude(place.problems, "the counters of the DSS equal the releases")


@contextmanager
def attached(command: str | None, pid: int) -> Iterator[None]:
    """Run `command` beside the block, with `pid` for {pid}; it is interrupted at the end and may take its time."""
    if command is None:
        yield
        return
    with subprocess.Popen([word.replace("{pid}", str(pid)) for word in shlex.split(command)]) as process:
        try:
            yield
        finally:
            process.send_signal(SIGINT)
            process.wait(ATTACH_S)


if __name__ == "__main__":
    main()
