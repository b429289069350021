"""The cartridges of a simulated library: what is on them, where they are mounted, and who uses them."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass

import trio

from lrs_trio.simulation.host.content import Content
from lrs_trio.simulation.world import World
from lrs_trio.storage.virtual.description import Plan
from lrs_trio.storage.virtual.faults import Fault
from lrs_trio.storage.virtual.keeping import Measure
from lrs_trio.storage.virtual.memory import IndexedState, MemoryState

OPEN_TO_ALL = 0o777


@dataclass(slots=True, eq=False)
class Cartridge:
    """What is on one cartridge, and where it is mounted. `capacity` is what it has when it is new, in bytes."""

    barcode: str
    content: Content
    capacity: int
    mode: int = OPEN_TO_ALL
    root: str | None = None
    _strangers: int = 0
    """How many, at most, of its users were told to use it by a daemon that has gone."""

    @property
    def users(self) -> int:
        """How many clients surely do I/O here whom the daemon of today knows."""
        self._strangers = min(self._strangers, self.content.users)
        return max(self.content.users - self.content.intruders - self._strangers, 0)

    def orphan(self) -> None:
        """The daemon has gone: whoever is at work here goes on, and the next one cannot know."""
        self._strangers = self.content.users

    def end(self) -> None:
        """Nothing more can be written."""
        self.content.capacity = self.content.used

    def erase(self) -> None:
        self.content.erase()
        self.content.capacity = self.capacity


class Cartridges:
    """All of a library, by barcode."""

    def __init__(self, world: World, plan: Plan) -> None:
        self._world = world
        self._all = {
            found.label: Cartridge(found.label, Content(found.capacity), found.capacity)
            for found, _ in plan.cartridges()
        }
        self._mounted: dict[str, Cartridge] = {}

    def __getitem__(self, barcode: str) -> Cartridge:
        return self._all[barcode]

    def __iter__(self) -> Iterator[Cartridge]:
        return iter(self._all.values())

    def at(self, root: str) -> Cartridge | None:
        """What is mounted at `root`."""
        return self._mounted.get(root)

    def mount(self, barcode: str, root: str) -> None:
        """Raises FileExistsError if something is mounted there."""
        cartridge = self._all[barcode]
        if root in self._mounted:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), root)
        self._world.violations.check(cartridge.root is None, f"{barcode} is mounted at {cartridge.root} and at {root}")
        self._mounted[root] = cartridge
        cartridge.root = root
        self._world.trace.note("tape.mounted", medium=barcode, root=root)

    def unmount(self, root: str) -> None:
        """What is mounted at `root` is so no more; nothing happens if nothing is."""
        cartridge = self._mounted.pop(root, None)
        if cartridge is not None:
            cartridge.root = None
            self._world.trace.note("tape.unmounted", medium=cartridge.barcode, root=root)

    def cut_power(self) -> None:
        """The host goes down: nothing is mounted any more, and what was not synced may be lost."""
        random = self._world.chance.of("power cut of tapes")
        for cartridge in self:
            cartridge.content.cut(random)
            cartridge.root = None
        self._mounted.clear()


class Reach:
    """The contents as somebody reaches them who may not live for ever: `check` comes before whatever is changed."""

    def __init__(self, cartridges: Cartridges, check: Callable[[], None]) -> None:
        self._cartridges = cartridges
        self._check = check

    def is_shown(self, barcode: str, mount_point: str) -> bool:
        return self._cartridges[barcode].root == mount_point

    def show(self, barcode: str, mount_point: str) -> None:
        self._check()
        self._cartridges.mount(barcode, mount_point)

    def hide(self, mount_point: str) -> None:
        self._check()
        self._cartridges.unmount(mount_point)

    def mode(self, barcode: str) -> int:
        return self._cartridges[barcode].mode

    def set_mode(self, barcode: str, mode: int) -> None:
        self._check()
        self._cartridges[barcode].mode = mode

    def of_drive(self) -> Reach:
        return self

    def hold(self, barcode: str) -> None:
        """Nothing to do: errors of writing back are the drive's to tell."""

    def let_go(self) -> None: ...

    async def measure(self, barcode: str) -> Measure:
        await trio.lowlevel.checkpoint()
        content = self._cartridges[barcode].content
        return Measure(content.files, content.used)

    async def erase(self, barcode: str) -> None:
        self._check()
        self._cartridges[barcode].erase()
        await trio.lowlevel.checkpoint()

    async def make_durable(self, barcode: str) -> None:
        """Nothing to do: `SimulatedFilesystem` tells what a sync has made durable."""
        await trio.lowlevel.checkpoint()


class ReachedState:
    """The state of the library, for whom `Reach` is."""

    def __init__(self, state: MemoryState, check: Callable[[], None]) -> None:
        self._state = state
        self._check = check

    def read(self) -> IndexedState:
        return self._state.read()

    def change(self) -> AbstractContextManager[IndexedState]:
        self._check()
        return self._state.change()


@dataclass(frozen=True, slots=True)
class KeptInMemory:
    """All that is kept of the library called `name`, for one who uses it."""

    name: str
    state: ReachedState
    contents: Reach

    @property
    def place(self) -> str:
        return f"library {self.name}"

    def listed_faults(self) -> tuple[Fault, ...] | None:
        return None
