"""What a virtual library is kept in, as far as its robot and drives know: a directory, or a simulation's memory."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from lrs_trio.storage.virtual.faults import Fault
from lrs_trio.storage.virtual.state import State


@dataclass(frozen=True, slots=True)
class Measure:
    """How many files there are, and how many bytes they have together."""

    files: int
    size: int


class StateKeeper(Protocol):
    """Has the state of a library."""

    def read(self) -> State:
        """The state as it is now. It may go on to change: look again after anything that waits."""
        ...

    def change(self) -> AbstractContextManager[State]:
        """The state, to be changed in the block. The block must not wait, and raises before it changes anything."""
        ...


class Files(Protocol):
    """The contents of cartridges as one drive reaches them, by barcode."""

    def hold(self, barcode: str) -> None:
        """Open what is mounted before anything is written to it: a write-back error is reported to no other.

        Raises:
            OSError: it cannot be opened.
        """
        ...

    def let_go(self) -> None:
        """Close what is held."""
        ...

    async def measure(self, barcode: str) -> Measure: ...

    async def erase(self, barcode: str) -> None:
        """Remove everything; it is done to the end also when it is cancelled."""
        ...

    async def make_durable(self, barcode: str) -> None:
        """Let what was written survive the end of the host, as far as the library can.

        Raises:
            OSError: what it is kept in fails.
        """
        ...


class Contents(Protocol):
    """The contents of all cartridges, by barcode, and where they are shown."""

    def is_shown(self, barcode: str, mount_point: str) -> bool:
        """Whether `mount_point` leads to the content."""
        ...

    def show(self, barcode: str, mount_point: str) -> None:
        """Make `mount_point` lead to the content.

        Raises:
            OSError: EEXIST, something else is there; others, it cannot be done.
        """
        ...

    def hide(self, mount_point: str) -> None:
        """Let `mount_point` lead nowhere; nothing happens if it does so already."""
        ...

    def mode(self, barcode: str) -> int:
        """The permission bits."""
        ...

    def set_mode(self, barcode: str, mode: int) -> None: ...

    def of_drive(self) -> Files:
        """The contents for one more drive."""
        ...


class Keeping(Protocol):
    """All that is kept."""

    @property
    def name(self) -> str:
        """Part of the names of drives and mount points."""
        ...

    @property
    def place(self) -> str:
        """Where it is, for people."""
        ...

    @property
    def state(self) -> StateKeeper: ...

    @property
    def contents(self) -> Contents: ...

    def listed_faults(self) -> tuple[Fault, ...] | None:
        """What people have written down to go wrong, if it is something else than at the last call."""
        ...
