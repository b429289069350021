"""The site of the hostile cases: media that are the honest client's, and media for all others."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.harness import Site, administer, temporary_site
from lrs_trio.dss.operations import MediumUpdate, UpdateMedia
from lrs_trio.model import Family, ResourceId
from lrs_trio.wire.messages import WriteAllocation, WriteMedium

DIRECTORIES: Final = 4
HONEST_TAG: Final = "honest"
OTHER_TAG: Final = "other"


@dataclass(frozen=True, slots=True)
class Place:
    """A site whose first half of media has the one tag, and the second the other.

    Who holds what an honest client wants keeps it waiting, whatever the daemon does. The halves see to it that attacks
    are on the daemon; the case that is about media uses the honest half.
    """

    site: Site

    @property
    def honest(self) -> tuple[ResourceId, ...]:
        return self.site.media[: len(self.site.media) // 2]

    @property
    def others(self) -> tuple[ResourceId, ...]:
        return self.site.media[len(self.site.media) // 2 :]


@contextmanager
def temporary_place(parent: Path | None = None, *, directories: int = DIRECTORIES) -> Iterator[Place]:
    """A place whose media are known and blank."""
    with temporary_site(directories, parent=parent) as site:
        place = Place(site)
        tagged = ((place.honest, HONEST_TAG), (place.others, OTHER_TAG))
        updates = tuple(MediumUpdate(medium, tags=(tag,)) for media, tag in tagged for medium in media)
        administer(site, UpdateMedia(updates))
        yield place


def write(tag: str, size: int = 1000) -> WriteAllocation:
    """A write to a medium with that tag."""
    return WriteAllocation((WriteMedium(size, (tag,)),), Family.DIR)
