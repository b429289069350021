"""What is made of figures: the file, the comparison, the picture, the table."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from itertools import product
from pathlib import Path

import pytest
from click.testing import CliRunner

from benchmarks import compare, results
from benchmarks.cases import CLIENTS, DEVICES, Part, Place, Point, full_plan, quick_plan
from benchmarks.measuring import Figures, Schedule, SyncFigures, SyncLimits
from benchmarks.memory import Memory
from benchmarks.picture import draw
from benchmarks.results import Block, Machine, Results
from benchmarks.table import HEADER, line

WRITES = Figures(
    "write", 8, 400.0, 390.0, 410.0, 0.0015, 0.02, 0.25, 300e-6, 20e-6, 60 << 20,
    SyncFigures(0.25, 0.125, 8.0), 4000.0, 0.1, SyncLimits(5000.0, 0.02, 2000.0, 1500.0, 0.03),
)  # fmt: skip
PINGS = replace(WRITES, kind="ping", syncs=None, limits=None)
WITHOUT_LIMITS = replace(WRITES, echo=None, echo_share=None, limits=None)


def run(*figures: Figures, commit: str = "0123456789abcdef") -> Results:
    made = Results(
        datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
        commit,
        Machine(2, "6.1", "3.11.7", 0.5),
        Schedule(3.0, 3),
        2,
        files=False,
    )
    made.blocks.append(Block(Place("sqlite", 4), list(figures)))
    made.memory = Memory(64, 100, 60 << 20, 50 << 20, 0.0)
    return made


def test_a_file_keeps_everything(tmp_path: Path) -> None:
    made = run(WRITES, PINGS, WITHOUT_LIMITS)
    file = results.save(made, tmp_path / "new")
    assert file.name == "2026-01-02T030405Z-0123456789.json"
    assert results.load(file) == made


def test_the_name_tells_of_a_tree_that_was_changed(tmp_path: Path) -> None:
    assert results.save(run(commit="0123456789abcdef-dirty"), tmp_path).stem.endswith("-0123456789-dirty")


@pytest.mark.parametrize("content", ["", "{}", '{"time": 1}'])
def test_another_file_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "x.json").write_text(content)
    with pytest.raises(ValueError, match=r"x\.json has no results of this suite: "):
        results.load(tmp_path / "x.json")


def test_runs_are_compared_as_ratios(tmp_path: Path) -> None:
    faster = replace(WRITES, cycles_per_s=800.0, p50=0.003, daemon_cpu=150e-6, echo_share=0.15)
    before = results.save(run(WRITES, PINGS), tmp_path / "before")
    after = results.save(run(faster, replace(PINGS, clients=64)), tmp_path / "after")
    answer = CliRunner().invoke(compare.main, [str(before), str(after)])
    assert answer.exit_code == 0
    rows = [row.split() for row in answer.output.splitlines()]
    expected = ["2.00", "1.50", "2.00", "1.00", "0.50"]
    assert rows[3] == ["write,", "8", "clients", *expected]
    assert rows[-1] == ["write", *expected]
    assert "ping" not in answer.output


def test_runs_without_a_common_point_are_not_compared(tmp_path: Path) -> None:
    before, after = results.save(run(WRITES), tmp_path / "before"), results.save(run(PINGS), tmp_path / "after")
    answer = CliRunner().invoke(compare.main, [str(before), str(after)])
    assert answer.exit_code == 1
    assert "no point in common" in answer.output


@pytest.mark.parametrize("figures", [(), (WRITES,), (WRITES, replace(WRITES, clients=64, p99=0.0)), (WITHOUT_LIMITS,)])
def test_the_picture_is_well_formed(figures: tuple[Figures, ...]) -> None:
    root = ElementTree.fromstring(draw(run(*figures)))
    assert root.tag.endswith("}svg")
    lines = [found for found in root.iter() if found.tag.endswith("}path")]
    # Throughput and latency, these twice, against clients and against devices; and the limit, against clients.
    numbers = {one.clients for one in figures}
    devices = 1 if figures else 0
    assert len(lines) == 3 * devices + 3 * len(numbers) + (devices if WITHOUT_LIMITS not in figures else 0)


def test_a_row_has_a_cell_for_every_figure_there_is() -> None:
    titles = HEADER.splitlines()[1]
    assert len(line(WRITES)) == len(titles)
    assert len(line(PINGS).split()) < len(line(WRITES).split())
    assert "10%" in line(WRITES)
    assert "%" not in line(WITHOUT_LIMITS)


@pytest.mark.parametrize("plan", [full_plan, quick_plan])
def test_no_point_is_measured_twice(plan: Callable[[], Iterator[Part]]) -> None:
    points = [(place, point) for place, points in plan() for point in points]
    assert len(set(points)) == len(points)


def test_writes_and_reads_are_measured_everywhere() -> None:
    points = {(place, point) for place, points in full_plan() for point in points}
    for dss, devices, clients, kind in product(("sqlite", "postgres"), DEVICES, CLIENTS, ("write", "read")):
        assert (Place(dss, devices), Point(kind, clients)) in points  # type: ignore[arg-type]
