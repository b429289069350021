"""Media and drives for slots: what exists is found, and the best first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from lrs_trio.scheduling.assignment import assign


def most(slots: Sequence[Sequence[str]], drives: Mapping[str, Sequence[int]]) -> int:
    """How many slots can be filled at all, by trying everything."""
    if not slots:
        return 0
    best = most(slots[1:], drives)
    for medium in slots[0]:
        for drive in drives.get(medium, ()):
            left = {m: [d for d in ds if d != drive] for m, ds in drives.items() if m != medium}
            best = max(best, 1 + most(slots[1:], left))
    return best


def test_each_slot_gets_the_best_that_is_left() -> None:
    drives = {"a": [1, 2], "b": [1, 2], "c": [3]}
    assert assign(["abc", "abc", "abc"], drives.__getitem__) == [("a", 1), ("b", 2), ("c", 3)]
    assert assign(["c", "cb"], drives.__getitem__) == [("c", 3), ("b", 1)]


def test_a_medium_moves_to_another_drive_before_a_worse_one_is_taken() -> None:
    assert assign(["ab", "ab"], {"a": [1, 2], "b": [1]}.__getitem__) == [("a", 2), ("b", 1)]
    assert assign(["a", "bc"], {"a": [1, 2], "b": [1], "c": [3]}.__getitem__) == [("a", 2), ("b", 1)]


def test_a_slot_gives_its_medium_up_if_the_other_has_no_choice() -> None:
    assert assign(["ab", "a"], {"a": [1], "b": [2]}.__getitem__) == [("b", 2), ("a", 1)]


def test_a_slot_changes_its_medium_to_free_a_drive() -> None:
    """The only drive for b is the only one for a; who has a can have c."""
    assert assign(["ac", "b"], {"a": [1], "b": [1], "c": [2]}.__getitem__) == [("c", 2), ("b", 1)]


def test_what_cannot_be_filled_stays_empty() -> None:
    assert assign(["a", "a", "b"], {"a": [1, 2], "b": []}.__getitem__) == [("a", 1), None, None]


problems = st.tuples(
    st.lists(st.lists(st.sampled_from("abcde"), unique=True, max_size=4), max_size=4),
    st.fixed_dictionaries({m: st.lists(st.integers(1, 4), unique=True, max_size=3) for m in "abcde"}),
)


@settings(max_examples=150)
@given(problems)
def test_law_as_many_slots_are_filled_as_can_be(problem: tuple[list[list[str]], dict[str, list[int]]]) -> None:
    slots, drives = problem
    result = assign(slots, drives.__getitem__)
    filled = [pair for pair in result if pair is not None]
    assert len({medium for medium, _ in filled}) == len({drive for _, drive in filled}) == len(filled)
    for media, pair in zip(slots, result, strict=True):
        if pair is not None:
            assert pair[0] in media
            assert pair[1] in drives[pair[0]]
    assert len(filled) == most(slots, drives)


@given(st.lists(st.sampled_from("abcde"), unique=True), st.integers(1, 4), problems)
def test_law_slots_that_want_the_same_get_the_first_that_go_together(
    media: list[str], count: int, problem: tuple[object, dict[str, list[int]]]
) -> None:
    """What a read needs: the client's order decides, as far as there are drives."""
    drives = problem[1]
    expected: list[str] = []
    for medium in media:
        if len(expected) < count and most([[m] for m in [*expected, medium]], drives) == len(expected) + 1:
            expected.append(medium)
    result = assign([media] * count, drives.__getitem__)
    assert sorted(pair[0] for pair in result if pair is not None) == sorted(expected)
