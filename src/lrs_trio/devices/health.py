"""The health of a device or a medium at the start: what the operation log of the DSS says of it. Pure."""

from __future__ import annotations

from collections.abc import Iterable


def health_from_log(numbers: Iterable[int], maximum: int) -> int:
    """The health after the operations that ended with `numbers`, oldest first; 0 is a success, all else an error.

    It begins at `maximum`, which no success raises: what came before the first error does not count. Each error
    takes one away and each success gives one back, down to 0 and up to `maximum`.
    """
    health = maximum
    for number in numbers:
        health = min(health + 1, maximum) if number == 0 else max(health - 1, 0)
    return health
