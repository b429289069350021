"""How long what takes with the drives and cartridges of one generation. Pure; all times are seconds of a real one's."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from lrs_trio.settings import Age, Names, Seconds, Size, Table, Whole
from lrs_trio.storage.virtual.tables import ARRAY


class PerFiles(Table):
    """What handles an index: so long for an empty one, and so much longer for each file in it."""

    base_s: Age
    per_file_s: Age = 0.0

    def s(self, files: int) -> float:
        return self.base_s + self.per_file_s * files


class Unmount(Table):
    idle_s: Age
    """Nothing was written since the mount."""

    index: PerFiles
    """Going back to the index partition and writing the index there, after the sync."""


class Rewind(Table):
    moved: Size
    """From so many bytes on that were moved since the load."""

    s: Age


class Locate(Table):
    """The terms of a regression over where the head is and where it has to go, and the shape of the tape.

    The tape has `wraps` tracks that are written one after the other, there and back, in `bands` side by side; along
    it there are `positions`.
    """

    base_s: float
    wrap_change_s: float
    band_change_s: float
    direction_change_s: float
    """The two wraps are read in opposite directions."""

    step_back_s: float
    """The head gets there against the direction in which it will read: it has to pass the place and turn."""

    landing_zone_s: float
    """It starts where the tape turns, so that it need not slow down and turn first; below 0."""

    landing_zone: float = Field(ge=0, le=0.5)
    """How much of the tape's length at either end that is."""

    per_position_s: float = Field(ge=0)
    positions: Whole = Field(ge=1)
    wraps: Whole = Field(ge=1)
    bands: Whole = Field(ge=1)
    shortest_s: Age
    longest_s: Seconds

    def s(self, start: float, end: float) -> float:
        """From `start` to `end`, both in parts of the cartridge's capacity, 0 to 1."""
        from_wrap, from_place = self._place(start)
        wrap, place = self._place(end)
        forward = wrap % 2 == 0
        seconds = self.base_s + self.per_position_s * self.positions * abs(place - from_place)
        if wrap != from_wrap:
            seconds += self.wrap_change_s
        if self._band(wrap) != self._band(from_wrap):
            seconds += self.band_change_s
        if wrap % 2 != from_wrap % 2:
            seconds += self.direction_change_s
        if (place - from_place if forward else from_place - place) < 0:
            seconds += self.step_back_s
            if min(from_place, 1 - from_place) < self.landing_zone:
                seconds += self.landing_zone_s
        return min(max(seconds, self.shortest_s), self.longest_s)

    def _place(self, part: float) -> tuple[int, float]:
        """The wrap, and where along the tape: 0 is its beginning, 1 its end."""
        wrap = min(int(part * self.wraps), self.wraps - 1)
        along = part * self.wraps - wrap
        return wrap, along if wrap % 2 == 0 else 1 - along

    def _band(self, wrap: int) -> int:
        return wrap * self.bands // self.wraps


class Generation(Table):
    """A generation of drives with their cartridges, as its file in `settings/virtual` describes it."""

    model: str = Field(pattern=r"^\S+$")
    """Of its cartridges, as in the DSS."""

    barcode_suffix: str = Field(pattern="^[A-Z0-9]{2}$")
    """What the barcodes of its cartridges end with."""

    vendor: str = Field(pattern=r"^\S+$")
    drive_model: str = Field(pattern=r"^\S+$")

    writes: Names
    """The models of cartridges that its drives write and read."""

    reads: Names = ()
    """Those that they can only read."""

    capacity: Size = Field(ge=1)
    """Bytes that fit on one of its cartridges."""

    rate: Size = Field(ge=1)
    """Bytes a second, native."""

    seat_s: Age
    """The drive takes the cartridge in."""

    thread_s: Age
    """It threads the tape, up to being ready."""

    initialise_s: Age = 0.0
    """What the first load of a new cartridge takes on top of that."""

    unthread_s: Age
    """Unthreading and ejecting a tape that is rewound."""

    rewind: Annotated[tuple[Rewind, ...], ARRAY] = Field(min_length=1)
    move: Seconds
    """The robot takes a cartridge from one place to another."""

    format: Seconds
    locate: Locate
    mount: PerFiles
    """Reading the index."""

    sync: PerFiles
    """Writing the index; all I/O waits."""

    unmount: Unmount

    @model_validator(mode="after")
    def _rewinds_in_order(self) -> Self:
        steps = [step.moved for step in self.rewind]
        if steps[0] != 0 or steps != sorted(set(steps)):
            raise ValueError("the steps of rewind must begin with moved = 0 and ascend")
        return self

    def load_s(self, *, new: bool = False) -> float:
        """From the cartridge at the drive's mouth to the drive being ready; a `new` one has never been loaded."""
        return self.seat_s + self.thread_s + (self.initialise_s if new else 0)

    def rewind_s(self, moved_bytes: int) -> float:
        """Rewinding after `moved_bytes` since the load."""
        return [step.s for step in self.rewind if step.moved <= moved_bytes][-1]

    def unload_s(self, moved_bytes: int) -> float:
        """From loaded to the cartridge at the drive's mouth, after `moved_bytes` since the load."""
        return self.rewind_s(moved_bytes) + self.unthread_s

    def move_s(self) -> float:
        """One move of the robot; a swap is two."""
        return self.move

    def locate_s(self, start: int, end: int) -> float:
        """From one position to another, both in bytes from the beginning of what can be written."""
        return self.locate.s(*(min(max(at, 0), self.capacity) / self.capacity for at in (start, end)))

    def mount_s(self, files: int) -> float:
        """Mounting a cartridge that holds `files`."""
        return self.mount.s(files)

    def sync_s(self, files: int) -> float:
        """Writing the index of `files` after the data."""
        return self.sync.s(files)

    def unmount_s(self, files: int, moved_bytes: int) -> float:
        """Unmounting a cartridge that holds `files`, after writing `moved_bytes` since the mount."""
        if not moved_bytes:
            return self.unmount.idle_s
        return self.sync_s(files) + self.unmount.index.s(files)

    def format_s(self) -> float:
        return self.format

    def transfer_s(self, size: int) -> float:
        """Streaming `size` bytes."""
        return size / self.rate
