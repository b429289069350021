"""The site of the demo on tapes: a virtual library that is faster than a real one, and its clients' pace."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from lrs_trio.cli.demo.crowd import LIBRARY, Pace
from lrs_trio.cli.demo.daemon import DemoSite, new_base, shipped_settings
from lrs_trio.location import read_toml
from lrs_trio.storage.virtual.description import description_path
from lrs_trio.storage.virtual.directory import FAULTS
from lrs_trio.storage.virtual.library import VirtualLibrary, create
from lrs_trio.storage.virtual.timing import Generation

MAGNIFICATION: Final = 80_000
"""A byte takes as long as so many: the cartridges are as much smaller than real ones as files are."""

OVERHEAD_S: Final = 30.0
"""What the machine may take for a demonstration, however fast its library is. Seconds."""


class TapePace(Pace):
    """As with a drive of `generation` that is `speed` times as fast as a real one."""

    def __init__(self, generation: Generation, speed: float) -> None:
        self._generation = generation
        self._speed = speed
        self.pause_s = self.real(300)

    def real(self, library_s: float) -> float:
        """How long what takes `library_s` seconds in a real library takes here."""
        return library_s / self._speed

    def limit(self, library_s: float) -> float:
        """How long something may take here that takes at most `library_s` seconds there."""
        return OVERHEAD_S + self.real(library_s)

    def write_s(self, size: int) -> float:
        return self.real(self._generation.transfer_s(size * MAGNIFICATION))

    def read_s(self, size: int, place: int) -> float:
        locating = self._generation.locate_s(0, place * MAGNIFICATION)
        return self.real(locating) + self.write_s(size)


@contextmanager
def tape_site(parent: Path | None, speed: float, *, keep: bool) -> Iterator[DemoSite]:
    """Make a site with a virtual library in a new directory below `parent`; removed at the end unless `keep`.

    Raises:
        OSError: it cannot be made there.
    """
    with new_base(parent, keep=keep) as base:
        site = DemoSite(base, ())
        create(site.library, description_path("demo"))
        settings: dict[str, Any] = read_toml(shipped_settings("demo-tape.toml"))
        tape = settings["families"]["tape"]
        tape["mount_prefix"] = f"{base}/mnt-"
        tape["sync"]["time_ms"] = max(round(tape["sync"]["time_ms"] / speed), 1)
        settings["drain"]["deadline_s"] = OVERHEAD_S + settings["drain"]["deadline_s"] / speed
        library = {"robot": "virtual", "drives": "virtual", "directory": str(site.library), "speed": speed}
        site.configure({**settings, "libraries": {LIBRARY: library}, "events": {"trace": str(site.trace)}})
        yield site


def open_library(site: DemoSite) -> VirtualLibrary:
    return VirtualLibrary.open(site.library)


def kill_drive(site: DemoSite, serial: str) -> None:
    """Let the drive be dead from now on, as anybody can who may write in the library."""
    fresh = site.library / f"{FAULTS}.new"
    # Such a text in JSON is one in TOML, too.
    fresh.write_text(f'[[faults]]\nkind = "drive_death"\ndrive = {json.dumps(serial)}\nafter_s = 0\n')
    os.replace(fresh, site.library / FAULTS)
