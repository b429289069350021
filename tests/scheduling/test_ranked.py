"""Requests by rank, compared with a list that is sorted."""

from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from lrs_trio.scheduling import ranked
from lrs_trio.scheduling.ranked import Rank, Ranked

ranks = st.tuples(st.integers(-2, 2), st.integers(-2, 2), st.integers(1, 10**6))


@given(st.lists(ranks, unique_by=lambda rank: rank[2]), st.randoms(use_true_random=False))
def test_law_it_is_a_sorted_list(added: list[Rank], random: Random) -> None:
    kept: Ranked[str] = Ranked()
    expected: list[Rank] = []
    for rank in added:
        kept.add(rank, str(rank))
        expected.append(rank)
        if random.random() < 0.4:
            gone = random.choice(expected)
            expected.remove(gone)
            kept.discard(gone)
            kept.discard(gone)
    expected.sort()
    assert list(kept) == list(map(str, expected))
    assert len(kept) == len(expected)
    first = kept.first()
    assert (first and first[0]) == (expected[0] if expected else None)
    for asked in added:
        behind = [rank for rank in expected if rank > asked]
        following = kept.first(asked)
        assert (following and following[0]) == (behind[0] if behind else None)
        before = [rank[2] for rank in expected if rank <= asked]
        assert kept.latest_up_to(asked) == max(before, default=0)


def test_many_are_kept_in_blocks_of_bounded_length() -> None:
    """Each way in which they may come, and go."""
    for order in (lambda n: n, lambda n: -n, lambda n: n * 7919 % 10_007):
        kept: Ranked[int] = Ranked()
        serials = sorted(range(1, 5001), key=order)
        for serial in serials:
            kept.add((0, 0, serial), serial)
        assert list(kept) == list(range(1, 5001))
        assert max(map(len, kept._blocks)) < 2 * ranked.BLOCK
        assert kept.latest_up_to((0, 0, 4000)) == 4000
        for serial in serials[::2]:
            kept.discard((0, 0, serial))
        assert list(kept) == sorted(serials[1::2])
        for serial in serials[1::2]:
            kept.discard((0, 0, serial))
        assert (list(kept), kept.first(), kept._blocks, kept._latest) == ([], None, [], [])
