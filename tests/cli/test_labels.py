from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lrs_trio.cli.labels import MOST_LABELS, expand_labels, may_be_of

texts = st.text(st.sampled_from("AZ09-,. "), max_size=4)


def test_a_range_keeps_its_zeros() -> None:
    assert expand_labels(["P[00008-00011]L8"]) == ["P00008L8", "P00009L8", "P00010L8", "P00011L8"]
    assert expand_labels(["P[8-11]"]) == ["P8", "P9", "P10", "P11"]


def test_lists_several_brackets_and_several_words() -> None:
    assert expand_labels(["P[1,3,10-12]"]) == ["P1", "P3", "P10", "P11", "P12"]
    assert expand_labels(["[1-2]x[07,09]"]) == ["1x07", "1x09", "2x07", "2x09"]
    assert expand_labels(["B", "A[1-2,5]", "A1", "B"]) == ["B", "A1", "A2", "A5"]


@pytest.mark.parametrize(
    "word", ["", "P[", "P]", "P[]", "P[[1]]", "P[1]]", "P[a]", "P[1-]", "P[1-2-3]", "P[1,]", "P[ 1]", "P[٣]", "P[-1]"]
)
def test_nonsense_is_refused_by_name(word: str) -> None:
    with pytest.raises(ValueError, match=r"brackets|neither") as refused:
        expand_labels(["P00001L8", word])
    assert str(refused.value).startswith(word or "an empty word")


@pytest.mark.parametrize("item", ["3-1", "01-3", "1-03", "009-10"])
def test_what_is_no_range_is_refused(item: str) -> None:
    with pytest.raises(ValueError, match=f"{item} is no range"):
        expand_labels([f"P[{item}]L8"])


def test_too_many_are_refused_before_they_are_made() -> None:
    assert len(expand_labels([f"P[1-{MOST_LABELS}]"])) == MOST_LABELS
    for words in (["P[0-10000]"], ["A[1-5000]", "B[1-5001]"], ["[1-999999999999999999]" * 9], ["[1-101]x[1-100]"]):
        with pytest.raises(ValueError, match="10000 at most"):
            expand_labels(words)


@settings(max_examples=30)
@given(texts, st.integers(0, 10**6), st.integers(0, 20), st.integers(0, 8), texts)
def test_a_range_is_what_counting_gives(before: str, low: int, more: int, width: int, after: str) -> None:
    high = low + more
    # Without zeros in front the bounds may differ in length, with them they may not.
    width = max(width, len(str(high))) if width > len(str(low)) else 0
    word = f"{before}[{low:0{width}}-{high:0{width}}]{after}"
    assert expand_labels([word]) == [f"{before}{number:0{width}}{after}" for number in range(low, high + 1)]


@settings(max_examples=50)
@given(st.lists(st.text(st.characters(exclude_characters="[]"), min_size=1)))
def test_what_has_no_brackets_is_what_it_is(words: list[str]) -> None:
    assert expand_labels(words) == list(dict.fromkeys(words))


@settings(max_examples=50)
@given(st.lists(st.text(st.sampled_from("P[]0123-,")), max_size=3))
def test_whatever_is_written_is_labels_or_an_error(words: list[str]) -> None:
    try:
        labels = expand_labels(words)
    except ValueError:
        return
    assert len(set(labels)) == len(labels) <= MOST_LABELS
    assert all(labels)
    assert not any(sign in label for label in labels for sign in "[]")


def test_barcodes_tell_of_generations() -> None:
    assert may_be_of("P00001L8", "LTO8")
    assert may_be_of("P00001L8", "lto8")
    assert not may_be_of("P00001L7", "LTO8")
    assert not may_be_of("CLN001L8", "LTO8")
    assert may_be_of("P00001", "T10KD")
    assert not may_be_of("P00001L8", "T10KD")
