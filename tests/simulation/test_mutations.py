"""The mistakes that the simulation has to find can be planted."""

from __future__ import annotations

import ast
from dataclasses import replace
from pathlib import Path

import pytest

from lrs_trio.simulation.suite.case import Case
from lrs_trio.simulation.suite.result import Result
from tests.simulation.mistakes import MUTATIONS, Mutation
from tests.simulation.mutations import PACKAGE, ROOT, cases, copied, judged, plant


def test_there_are_enough_and_each_is_another_one() -> None:
    assert len({(mutation.file, mutation.old, mutation.new) for mutation in MUTATIONS}) == len(MUTATIONS) >= 34
    assert len({mutation.why for mutation in MUTATIONS}) == len(MUTATIONS)


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.why)
def test_a_mistake_has_one_place_and_leaves_a_program(mutation: Mutation) -> None:
    text = (ROOT / PACKAGE / mutation.file).read_text()
    assert text.count(mutation.old) == 1
    planted = text.replace(mutation.old, mutation.new)
    assert ast.dump(ast.parse(planted)) != ast.dump(ast.parse(text))
    compile(planted, mutation.file, "exec")


def test_a_mistake_is_planted_in_a_copy(tmp_path: Path) -> None:
    mutation = MUTATIONS[0]
    original = (ROOT / PACKAGE / mutation.file).read_text()
    with copied(tmp_path) as copy:
        plant(mutation, copy)
        assert (copy / PACKAGE / mutation.file).read_text() == original.replace(mutation.old, mutation.new)
        with pytest.raises(ValueError, match="0 times"):
            plant(mutation, copy)
    assert (ROOT / PACKAGE / mutation.file).read_text() == original
    assert list(tmp_path.iterdir()) == []


def test_every_run_that_looks_for_a_mistake_is_another_one() -> None:
    looking = list(cases())
    assert len(set(looking)) == len(looking)


def test_a_run_in_which_nobody_could_ask_has_found_something() -> None:
    served = Result(Case(1), (), 0.0, requests={"Ping": 1})
    assert judged(served) is served
    wrong = replace(served, problems=("two answers",), requests={})
    assert judged(wrong) is wrong
    assert judged(replace(served, requests={})).problems == ("nobody could ask for anything",)
