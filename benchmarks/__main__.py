"""Figures of the daemon under load: ``python -m benchmarks [--quick] [--dss postgres] [--json FILE]``.

A real daemon on real directories and a real DSS; the clients are one lean thread of this process. Nothing is
asserted about time, but wrong counters, and answers that are missing or come twice, end it with status 1.
"""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import click

from benchmarks.books import wrong_after_drain
from benchmarks.cases import DIRECTORIES, Block, plan
from benchmarks.conclusion import conclude
from benchmarks.harness import format_media, running
from benchmarks.limits import measure_limits
from benchmarks.measuring import Measuring
from benchmarks.sites import DSS_KINDS, DssKind, Sites, temporary_sites
from benchmarks.table import HEADER, best, line

CASE_S: Final = 4.0
LIMIT_S: Final = 0.5
"""How long each case, and each limit, is measured. Seconds."""

QUICK_PART: Final = 10
QUICK_DIRECTORIES: Final = (1, 4)
"""`--quick` measures for so much less, and only on so many directories."""


class Bench:
    """Blocks of cases one after the other, with a table as they come; `records` is all that was measured."""

    def __init__(self, part: int, parent: Path | None) -> None:
        self.problems: list[str] = []
        self.records: list[dict[str, Any]] = []
        self.releases = 0
        self._part = part
        self._parent = parent

    def run(self, block: Block, sites: Sites) -> None:
        with sites.temporary(block.directories, parent=self._parent, families=block.families) as site:
            limits = measure_limits(site, LIMIT_S / self._part)
            print(f"\n{block}; {best(limits)}", flush=True)
            measured = []
            with running(site) as daemon:
                format_media(site)
                measuring = Measuring(site, daemon)
                for case in block.cases:
                    figures = measuring.run(case, CASE_S / self._part)
                    measured.append(figures)
                    print(line(figures, limits), flush=True)
                daemon.terminate()
                problems = measuring.problems + wrong_after_drain(site, daemon)
        self.problems += [f"{block}: {problem}" for problem in problems]
        self.releases += sum(figures.cycles for figures in measured if figures.syncs)
        self.records.append(
            {
                "dss": block.dss,
                "directories": block.directories,
                "families": block.families,
                "limits": asdict(limits),
                "cases": [asdict(figures) for figures in measured],
            }
        )


def commit() -> str:
    """The project's commit, with a plus if files differ from it."""
    described = subprocess.run(
        ["git", "describe", "--always", "--abbrev=40", "--dirty=+"],
        cwd=Path(__file__).parent,
        check=False,
        capture_output=True,
        text=True,
    )
    return described.stdout.strip() or "unknown"


@click.command()
@click.option("--quick", is_flag=True, help="A tenth of the time, for machines that have others to serve.")
@click.option("--json", "results", type=click.Path(path_type=Path), help="File to append the figures to, as one line.")
@click.option("--dss", "kinds", type=click.Choice(DSS_KINDS), multiple=True, help="Only with the DSS there.")
@click.option("--directories", type=click.IntRange(1), multiple=True, help="Only on so many; may be repeated.")
@click.option("--base", type=click.Path(path_type=Path, exists=True, file_okay=False), help="Where to make the sites.")
def main(
    quick: bool, results: Path | None, kinds: tuple[DssKind, ...], directories: tuple[int, ...], base: Path | None
) -> None:
    """Measure write and read cycles against a real daemon, beside what this machine can do at best."""
    print(f"{os.cpu_count()} processors, load average {os.getloadavg()[0]:.1f}\n\n{HEADER}", flush=True)
    bench = Bench(QUICK_PART if quick else 1, base)
    for kind in kinds or DSS_KINDS:
        with temporary_sites(kind, parent=base) as sites:
            for block in plan(kind, directories or (QUICK_DIRECTORIES if quick else DIRECTORIES)):
                bench.run(block, sites)
    if results is not None:
        record = {
            "commit": commit(),
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
            "quick": quick,
            "processors": os.cpu_count(),
            "load_average": os.getloadavg()[0],
            "blocks": bench.records,
            "problems": bench.problems,
        }
        with results.open("a") as file:
            file.write(json.dumps(record) + "\n")
    print()
    conclude(bench.problems, f"{bench.releases} releases answered once each; the counters of the DSS equal their sums")


if __name__ == "__main__":
    main()
