"""What the DSS says of media that somebody names: many of them at once, but not all where they are very many."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from lrs_trio.dss.operations import Dss, MediumRow, ReadMedium, ReadNamedMedia
from lrs_trio.errors import LrsError
from lrs_trio.model import ResourceId

READ_AT_ONCE: Final = 256
"""How many media one operation reads: more would keep others from the DSS, and the loop, for too long."""


def in_parts(media: Sequence[ResourceId]) -> Iterator[Sequence[ResourceId]]:
    """All of `media`, as many at a time as are to be read at once."""
    return (media[begin : begin + READ_AT_ONCE] for begin in range(0, len(media), READ_AT_ONCE))


async def read_media(dss: Dss, media: Sequence[ResourceId]) -> Sequence[MediumRow | LrsError | None]:
    """The row of each of `media`, ``None`` where the DSS knows none, or why it cannot be read."""
    try:
        return await dss.execute(ReadNamedMedia(tuple(media)))
    except LrsError as error:
        if len(media) == 1:
            return [error]
    # The DSS does not take the name of one of them, for which the others are not to blame.
    return await dss.execute_all([ReadMedium(medium) for medium in media])
