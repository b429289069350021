"""How many drives of one technology reads, writes and formats get (Phobos's `fair_share`). Pure.

All triples are in the order reads, writes, formats.
"""

from __future__ import annotations

from fractions import Fraction

Triple = tuple[int, int, int]
"""For reads, writes and formats."""

READ, WRITE, FORMAT = KINDS = (0, 1, 2)

SHARED_UP_TO = 2
"""So few drives of a technology serve several kinds each; of more, each serves one."""


def shares(drives: int, queued: Triple, minimum: Triple, maximum: Triple) -> Triple:
    """How many of `drives` each kind should have.

    Args:
        drives: those of one technology that serve.
        queued: the requests that wait, of the whole family: they give each kind its weight.
        minimum: what a kind with requests gets at least, where there are enough drives.
        maximum: what it gets at most; it wins over the minimum.

    Returns:
        One number for each kind, 0 without requests. With up to two drives a drive may count for several kinds.
    """
    wanting = [queued[kind] > 0 for kind in KINDS]
    if drives == 0 or not any(wanting):
        return 0, 0, 0
    if drives <= SHARED_UP_TO:
        return _shared(drives, queued, minimum, maximum)
    most = [maximum[kind] if wanting[kind] else 0 for kind in KINDS]
    least = [min(minimum[kind], most[kind]) for kind in KINDS]
    if drives < sum(least):
        most, least = least, [min(1, low) for low in least]
    total = sum(queued)
    parts = [_clamp(queued[kind] * drives // total, least[kind], most[kind]) for kind in KINDS]
    while sum(parts) > drives:
        # The minima together are no more than the drives, so one of the kinds has something to give.
        parts[next(kind for kind in KINDS if parts[kind] > least[kind])] -= 1
    weights = [Fraction(part, total) for part in queued]
    while sum(parts) < drives and (growing := [kind for kind in KINDS if parts[kind] < most[kind]]):
        parts[_neediest(drives, parts, weights, growing)] += 1
    return parts[READ], parts[WRITE], parts[FORMAT]


def _shared(drives: int, queued: Triple, minimum: Triple, maximum: Triple) -> Triple:
    """One drive for each kind that has requests, and the second one as well for the kind with the most."""
    parts = [min(_clamp(1, minimum[kind], maximum[kind]), drives) if queued[kind] else 0 for kind in KINDS]
    growing = [kind for kind in KINDS if queued[kind] and parts[kind] < min(maximum[kind], drives)]
    if drives == SHARED_UP_TO and growing:
        weights = [queued[kind] if kind in growing else -1 for kind in KINDS]
        parts[_heaviest(weights, growing)] = drives
    return parts[READ], parts[WRITE], parts[FORMAT]


def _heaviest(weights: list[int], growing: list[int]) -> int:
    read, write, form = weights
    if read > write:
        heaviest = READ if read > form else FORMAT if form > write else WRITE
    else:
        heaviest = WRITE if write > form else FORMAT if form > write else READ
    return heaviest if heaviest in growing else growing[0]


def _neediest(drives: int, parts: list[int], weights: list[Fraction], growing: list[int]) -> int:
    """Which of the `growing` kinds is furthest below its weight, once what the others cannot have is shared out."""
    surplus = [Fraction(parts[kind], drives) - weights[kind] for kind in KINDS]
    for kind in KINDS:
        if kind not in growing and surplus[kind] < 0:
            for other in growing:
                surplus[other] += surplus[kind] / len(growing)
            surplus[kind] = Fraction(0)
    if min(surplus) >= 0:
        shift = max(surplus) + 1
        for kind in growing:
            surplus[kind] -= shift
    read, write, form = surplus
    if read < 0 and read < write:
        return READ if read < form else FORMAT
    return WRITE if write < 0 and write < form else FORMAT


def _clamp(value: int, low: int, high: int) -> int:
    return min(max(value, low), high)
