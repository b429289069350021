"""How drives are shared out: what Phobos 3.3 gives for the same figures, and laws for all others."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrs_trio.scheduling.fair_share import Triple, shares

NONE: Triple = (0, 0, 0)
ONES: Triple = (1, 1, 1)
MANY: Triple = (100, 100, 100)


@pytest.mark.parametrize(
    ("drives", "queued", "expected"),
    [
        (1, (1, 1, 1), (1, 1, 1)),
        (2, (5, 1, 1), (2, 1, 1)),
        (2, (1, 1, 5), (1, 1, 2)),
        (4, (2, 1, 1), (2, 1, 1)),
        (4, (6, 2, 0), (3, 1, 0)),
        (17, (7, 19, 5), (4, 10, 3)),
        (7, (1, 1, 4), (1, 1, 5)),
        (8, (5, 5, 10), (2, 2, 4)),
        (9, (5, 5, 10), (2, 2, 5)),
    ],
)
def test_drives_are_shared_out_by_what_waits(drives: int, queued: Triple, expected: Triple) -> None:
    assert shares(drives, queued, ONES, MANY) == expected


@pytest.mark.parametrize(
    ("drives", "queued", "minimum", "maximum", "expected"),
    [
        (2, (20, 15, 10), NONE, (0, 2, 2), (0, 2, 1)),
        (2, (20, 10, 15), NONE, (0, 2, 2), (0, 1, 2)),
        (8, (20, 4, 12), ONES, (3, 1, 2), (3, 1, 2)),
        (8, (20, 4, 12), (0, 2, 4), (8, 8, 8), (2, 2, 4)),
        (8, (20, 4, 12), (3, 2, 4), (8, 8, 8), (3, 2, 3)),
        (1, (1, 0, 0), NONE, NONE, NONE),
    ],
)
def test_a_site_sets_what_a_kind_gets_at_least_and_at_most(
    drives: int, queued: Triple, minimum: Triple, maximum: Triple, expected: Triple
) -> None:
    assert shares(drives, queued, minimum, maximum) == expected


@pytest.mark.parametrize(
    ("queued", "minima", "maximum", "expected"),
    [
        ((17, 4, 8), (ONES, NONE, NONE), MANY, (15, 3, 6)),
        ((20, 4, 12), (NONE, NONE, NONE), MANY, (12, 3, 9)),
        ((20, 4, 12), ((0, 1, 0),) * 3, (0, 100, 0), (0, 24, 0)),
        ((20, 4, 12), ((1, 1, 0),) * 3, (100, 100, 0), (18, 6, 0)),
        ((0, 4, 12), ((5, 1, 0),) * 3, (10, 100, 0), (0, 24, 0)),
    ],
)
def test_each_of_three_technologies_is_shared_out_with_the_same_weights(
    queued: Triple, minima: tuple[Triple, ...], maximum: Triple, expected: Triple
) -> None:
    each = [shares(8, queued, minimum, maximum) for minimum in minima]
    assert tuple(map(sum, zip(*each, strict=True))) == expected


@pytest.mark.parametrize(
    ("queued", "maximum", "expected"),
    [
        ((1, 1, 1), (1, 1, 1), (1, 1, 1)),
        ((1, 1, 1), MANY, (2, 1, 1)),
        ((1, 0, 0), MANY, (2, 0, 0)),
        # The read, which nobody outweighs, may have no more: somebody who may gets the second drive.
        ((5, 5, 5), (1, 2, 2), (1, 2, 1)),
    ],
)
def test_one_kind_gets_both_of_two_drives_if_it_may(queued: Triple, maximum: Triple, expected: Triple) -> None:
    assert shares(2, queued, NONE, maximum) == expected


triples = st.tuples(*[st.integers(0, 9)] * 3)


@given(st.integers(0, 20), triples, triples, triples)
def test_law_nobody_gets_more_than_allowed_and_nothing_is_left_that_somebody_may_have(
    drives: int, queued: Triple, minimum: Triple, maximum: Triple
) -> None:
    parts = shares(drives, queued, minimum, maximum)
    for part, waiting, most in zip(parts, queued, maximum, strict=True):
        assert 0 <= part <= min(most, drives)
        assert waiting or not part
    if drives > 2:
        assert sum(parts) <= drives
        reachable = [most for waiting, most in zip(queued, maximum, strict=True) if waiting]
        wanted = [least for waiting, least in zip(queued, minimum, strict=True) if waiting]
        if sum(wanted) <= drives:
            assert sum(parts) == min(drives, sum(reachable))
            if all(least <= most for least, most in zip(minimum, maximum, strict=True)):
                assert all(
                    part >= least for part, least, waiting in zip(parts, minimum, queued, strict=True) if waiting
                )
