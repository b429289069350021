"""What is where in a virtual library, kept in one file that all processes share.

A reader needs no lock: the file is replaced in one step. Who changes it holds a lock for that moment, over reading it,
changing it and writing it. Whatever process dies at whatever moment, the file is the one before or the one after.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from lrs_trio.errors import LrsError
from lrs_trio.storage.virtual.description import ARM, FIRST_DRIVE, FIRST_MAIL_SLOT, FIRST_SLOT, Plan

STATE = "state.json"


@dataclass(frozen=True, slots=True)
class Cartridge:
    """One cartridge. Sizes are bytes."""

    model: str
    capacity: int
    label: str | None = None
    """What LTFS says that it is, ``None`` before it is formatted. The barcode is on the outside."""

    write_protected: bool = False
    new: bool = False
    """Never loaded."""

    ended: bool = False
    """The end of the medium came early: nothing more can be written."""

    loads: int = 0
    used: int = 0
    """What is on the tape. What is deleted stays on it, out of reach."""

    seen: int = 0
    """What the files were together when `used` was last known."""

    mode: int | None = None
    """The permission bits of its content, while they are others because it is mounted read-only."""

    def grown(self, size: int) -> Cartridge:
        """With files that are `size` together by now."""
        return replace(self, used=self.used + max(size - self.seen, 0), seen=size)

    def erased(self) -> Cartridge:
        """Without label and files."""
        return replace(self, label=None, ended=False, used=0, seen=0)


@dataclass(frozen=True, slots=True)
class Bay:
    """What a drive is like, apart from the cartridge that the library believes to be in it. Sizes are bytes."""

    source: int | None = None
    """The address that its cartridge came from."""

    instead: str | None = None
    """The barcode of the cartridge that is really in it, when the robot has taken a wrong one."""

    mounted: str | None = None
    """Where its cartridge is mounted; there is a link there, or there was one before the host was restarted."""

    moved: int = 0
    """Written since the load."""

    written: int = 0
    """Written since the mount, as far as it is on tape."""

    dead: bool = False


@dataclass(slots=True)
class State:
    """Everything that changes.

    `places` has the barcode of what is at each address, `bays` the drives by address, `cartridges` are by barcode.
    """

    places: dict[int, str | None]
    bays: dict[int, Bay] = field(default_factory=dict)
    cartridges: dict[str, Cartridge] = field(default_factory=dict)

    def place_of(self, barcode: str) -> int | None:
        """Where the library believes the cartridge to be."""
        return next((address for address, found in self.places.items() if found == barcode), None)

    def inside(self, address: int) -> str | None:
        """The barcode of the cartridge that is really in the drive at `address`."""
        return self.bays[address].instead or self.places[address]

    def is_astray(self, barcode: str) -> bool:
        """Whether the robot has taken the cartridge for another one and put it into a drive."""
        return any(bay.instead == barcode for bay in self.bays.values())

    def move(self, source: int, target: int, *, instead: str | None = None) -> None:
        """The cartridge at `source` is at `target` now, or the one that was taken `instead`."""
        self.places[target], self.places[source] = self.places[source], None
        if source in self.bays:
            self.bays[source] = Bay(dead=self.bays[source].dead)
        if target in self.bays:
            self.bays[target] = Bay(source=source, instead=instead, dead=self.bays[target].dead)

    def mount(self, drive: int, root: str, mode: int, *, protected: bool, read_only: bool) -> None:
        """What is in the drive is mounted at `root` now.

        A cartridge is `protected` from now on if it is found to be so. The one that is mounted `read_only` gets other
        permission bits than the `mode` that its content has.
        """
        inside = self._in(drive)
        cartridge = self.cartridges[inside]
        if read_only and cartridge.mode is None:
            cartridge = replace(cartridge, mode=mode)
        self.cartridges[inside] = replace(cartridge, write_protected=cartridge.write_protected or protected)
        self.bays[drive] = replace(self.bays[drive], mounted=root, written=0)

    def unmount(self, drive: int) -> None:
        """What is in the drive is mounted no more, and its content has its own permission bits."""
        inside = self._in(drive)
        self.cartridges[inside] = replace(self.cartridges[inside], mode=None)
        self.bays[drive] = replace(self.bays[drive], mounted=None, written=0)

    def write(self, drive: int, size: int) -> None:
        """The files of what is in the drive, which are `size` together, are on tape now."""
        inside = self._in(drive)
        before = self.cartridges[inside]
        after = self.cartridges[inside] = before.grown(size)
        fresh = after.used - before.used
        bay = self.bays[drive]
        self.bays[drive] = replace(bay, moved=bay.moved + fresh, written=bay.written + fresh)

    def _in(self, drive: int) -> str:
        inside = self.inside(drive)
        if inside is None:
            raise LrsError(errno.ENOMEDIUM, f"the drive at {drive} is empty; somebody has taken out what was in use")
        return inside

    def home(self, drive: int) -> int:
        """The slot for what is in the drive: where it came from if that is free, else the first free one.

        There is one, for there are no more cartridges than slots.
        """
        slots = self._free_slots()
        source = self.bays[drive].source
        return source if source is not None and source in slots else min(slots)

    def _free_slots(self) -> Collection[int]:
        return [address for address in self.places if address >= FIRST_SLOT and self.places[address] is None]


def first_state(plan: Plan) -> State:
    """Of a library in which nothing has happened: all cartridges are in the first slots."""
    description = plan.description
    state = State(places={ARM: None})
    state.places |= dict.fromkeys(range(FIRST_MAIL_SLOT, FIRST_MAIL_SLOT + description.mail_slots))
    for number in range(sum(group.count for group in description.drives)):
        state.places[FIRST_DRIVE + number] = None
        state.bays[FIRST_DRIVE + number] = Bay()
    state.places |= dict.fromkeys(range(FIRST_SLOT, FIRST_SLOT + description.slots))
    for address, (cartridge, group) in enumerate(plan.cartridges(), FIRST_SLOT):
        state.places[address] = cartridge.label
        state.cartridges[cartridge.label] = Cartridge(
            model=cartridge.model,
            capacity=cartridge.capacity,
            label=cartridge.label if group.formatted else None,
            write_protected=group.write_protected,
            new=group.new,
        )
    return state


_STATE = TypeAdapter(State)


class StateFile:
    """The state of the library in `directory`; `durable` makes each change survive the host's end."""

    def __init__(self, directory: Path, *, durable: bool) -> None:
        self._path = directory / STATE
        self._lock = directory / "lock"
        self._durable = durable

    def read(self) -> State:
        """The state as it is now.

        Raises:
            LrsError: EIO, the file cannot be read.
        """
        try:
            return _STATE.validate_json(self._path.read_bytes())
        except (OSError, ValidationError) as error:
            raise LrsError(
                errno.EIO, f"{self._path}: cannot be read as the state of a virtual library: {error}"
            ) from error

    @contextmanager
    def change(self) -> Iterator[State]:
        """The state, to be changed in the block and kept unless that raises. The block must not wait for anything.

        Others that change it are waited for by blocking: they hold the lock for the time of one small write.
        """
        with self._locked():
            state = self.read()
            yield state
            self._write(state)

    def create(self, state: State) -> None:
        with self._locked():
            self._write(state)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        descriptor = os.open(self._lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o660)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            # Unlocked before it is closed: a child that is between fork and exec has a copy of the descriptor.
            fcntl.flock(descriptor, fcntl.LOCK_UN)
            os.close(descriptor)

    def _write(self, state: State) -> None:
        fresh = self._path.with_suffix(".new")
        with fresh.open("wb") as file:
            file.write(_STATE.dump_json(state, indent=1))
            file.flush()
            if self._durable:
                os.fsync(file.fileno())
        os.replace(fresh, self._path)
