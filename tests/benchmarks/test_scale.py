"""The scale benchmark works, at a size at which it says nothing."""

from __future__ import annotations

import resource
from collections.abc import Iterator

import pytest

from benchmarks.scale import daemon
from benchmarks.scale.decisions import measure_directories, measure_tapes
from benchmarks.scale.families import MIXES
from benchmarks.scale.growth import Series, grow
from benchmarks.sites import Sites


@pytest.mark.parametrize("mix", MIXES)
def test_decisions_for_directories_are_measured(mix: str) -> None:
    costs = {cost.event: cost for cost in measure_directories(5, 30, mix)}
    assert set(costs) == {"filling the queue", "a release", "an arrival", "a medium changes", "a device fails"}
    assert all(cost.steps and cost.per_event > 0 for cost in costs.values())
    assert "steps" in str(costs["a release"])


def test_decisions_for_tapes_are_measured() -> None:
    costs = {cost.event: cost for cost in measure_tapes(4, 12, 10, "reads")}
    assert costs["a release"].steps


def test_the_slope_is_the_power_with_which_a_cost_grows() -> None:
    sizes = [10, 20, 40]
    assert Series("flat", sizes, [1e-3] * 3).slope == pytest.approx(0)
    assert Series("quadratic", sizes, [size**2 * 1e-6 for size in sizes]).slope == pytest.approx(2)
    title, *rows = Series("linear", sizes, [1e-6 * size for size in sizes]).lines()
    assert (title, len(rows)) == ("linear: slope 1.00", 3)
    assert rows[-1].endswith("#" * 40)


def test_growth_is_shown_for_each_kind_of_event() -> None:
    found = grow([5, 10], lambda size: measure_directories(5, size, "writes"), "requests")
    assert "a release, by requests" in [series.what for series in found]


@pytest.fixture
def descriptors() -> Iterator[None]:
    """What the benchmark takes for its connections is given back."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.usefixtures("descriptors")
def test_a_daemon_with_a_crowd_is_asked_for_both_kinds_of_reports(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(daemon, "SETTLE_S", 0)
    *_, status, stat = daemon.measure_crowd(Sites(), 2, 3, 20)
    assert status.startswith("status with 2 devices and 20 requests: p50 ")
    assert stat.startswith("stat with 2 devices and 20 requests: p50 ")
    assert stat.endswith(" bytes")
