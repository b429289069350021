"""A short load on a real daemon, with the limits beside it."""

from __future__ import annotations

import pytest

from benchmarks.__main__ import noting
from benchmarks.cases import Place, Point
from benchmarks.driver.crew import crew_of
from benchmarks.driver.scripts import KINDS, WrongAnswerError
from benchmarks.harness import running
from benchmarks.measuring import Schedule, served
from benchmarks.sites import Sites

SHORT = Schedule(0.1, rounds=1)


def test_cycles_of_every_kind_are_measured_and_the_books_are_right() -> None:
    with crew_of(2) as crew, served(Place("sqlite", 2), Sites(), crew) as place:
        found = {kind: place.measuring.run(Point(kind, 3), SHORT) for kind in KINDS}
    assert place.problems == []
    synced = {kind for kind, figures in found.items() if figures.syncs is not None}
    assert synced == {kind for kind, figures in found.items() if figures.limits is not None}
    assert synced == {"write", "write two copies", "mixed"}
    assert all(figures.echo for figures in found.values())
    assert place.measuring.released.total() > 0


def test_releases_that_nobody_made_are_a_problem() -> None:
    with crew_of(1) as crew, served(Place("sqlite", 1), Sites(), crew, with_limits=False) as place:
        place.measuring.run(Point("write", 1), SHORT)
        place.measuring.released[(place.site.media[0].name,)] += 1
    (problem,) = place.problems
    assert "the DSS counts" in problem


def test_an_error_answer_is_loud() -> None:
    with crew_of(2) as crew, Sites().temporary(1) as site, running(site):
        media = tuple(medium.name for medium in site.media)
        with pytest.raises(WrongAnswerError, match="an allocation of 1 to write was answered with"):
            crew.drive(site.socket, "write", 2, media, SHORT.seconds, probe=lambda: None)


def test_what_fails_is_noted_and_the_rest_goes_on() -> None:
    problems: list[str] = []
    with noting(problems, "here"):
        raise WrongAnswerError("no")
    assert problems == ["here: no"]
