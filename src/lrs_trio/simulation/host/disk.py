"""A disk in memory that can lose what was not synced, and an SQLite VFS on it.

When the power is cut there is everything that was synced before, and of what was not synced a random choice,
sector by sector. The same holds for names: a file that was made or deleted since the directory was synced may or
may not be there. What is certain is folded away as it becomes so, so that a long run needs no more memory than its
files; who asks for it has every step kept, and can cut one run at each of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Final

import apsw

SECTOR: Final = 512
"""The unit in which a disk writes: whole or not at all. In bytes."""

_EPOCH_MS: Final = 210_866_760_000_000
"""The Unix epoch in SQLite's time: milliseconds since noon in Greenwich on November 24, 4714 B.C."""


@dataclass(frozen=True, slots=True)
class Made:
    name: str
    inode: int


@dataclass(frozen=True, slots=True)
class Deleted:
    name: str
    directory_synced: bool


@dataclass(frozen=True, slots=True)
class Written:
    inode: int
    offset: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Truncated:
    inode: int
    size: int


@dataclass(frozen=True, slots=True)
class Synced:
    inode: int


Event = Made | Deleted | Written | Truncated | Synced
Change = Written | Truncated


def _write(content: bytearray, offset: int, data: bytes) -> None:
    if len(content) < offset:
        content.extend(bytes(offset - len(content)))
    content[offset : offset + len(data)] = data


def _truncate(content: bytearray, size: int) -> None:
    del content[size:]
    content.extend(bytes(size - len(content)))


def _apply(content: bytearray, change: Change) -> None:
    if isinstance(change, Written):
        _write(content, change.offset, change.data)
    else:
        _truncate(content, change.size)


def _pieces(change: Change) -> list[Change]:
    """`change` in the pieces that reach the disk one by one."""
    if isinstance(change, Truncated):
        return [change]
    pieces: list[Change] = []
    start = 0
    while start < len(change.data):
        end = start + SECTOR - (change.offset + start) % SECTOR
        pieces.append(Written(change.inode, change.offset + start, change.data[start:end]))
        start = end
    return pieces


def _copies(contents: Mapping[int, bytearray]) -> dict[int, bytearray]:
    return {inode: bytearray(content) for inode, content in contents.items()}


@dataclass(slots=True)
class _Platters:
    """What certainly survives the end of the power, and what may."""

    names: dict[str, int]
    contents: dict[int, bytearray]
    name_changes: list[Made | Deleted] = field(default_factory=list)
    changes: dict[int, list[Change]] = field(default_factory=dict)

    def copy(self) -> _Platters:
        changes = {inode: list(changes) for inode, changes in self.changes.items()}
        return _Platters(dict(self.names), _copies(self.contents), list(self.name_changes), changes)

    def take(self, event: Event) -> None:
        match event:
            case Made():
                self.contents[event.inode] = bytearray()
                self.name_changes.append(event)
            case Deleted():
                self.name_changes.append(event)
                if event.directory_synced:
                    self._sync_names(len(self.name_changes))
            case Synced():
                for change in self.changes.pop(event.inode, ()):
                    _apply(self.contents[event.inode], change)
                # As the VFS of the operating system does: the first sync of a new file syncs its directory.
                if any(isinstance(change, Made) and change.inode == event.inode for change in self.name_changes):
                    self._sync_names(len(self.name_changes))
            case _:
                self.changes.setdefault(event.inode, []).append(event)

    def found(self, random: Random) -> dict[str, bytes]:
        """The files when the power comes back. To be asked once: what was lost is gone from here as well."""
        # Names change in order: a file system keeps a journal of them.
        self._sync_names(random.randint(0, len(self.name_changes)))
        luck = random.choice((0.0, 0.5, 0.9, 1.0))
        for inode, changes in self.changes.items():
            for change in changes:
                for piece in _pieces(change):
                    if random.random() < luck:
                        _apply(self.contents[inode], piece)
        return {name: bytes(self.contents[inode]) for name, inode in self.names.items()}

    def _sync_names(self, count: int) -> None:
        """The first `count` changes of names are certain; a file that lost its name for good is forgotten."""
        for change in self.name_changes[:count]:
            if isinstance(change, Made):
                self.names[change.name] = change.inode
            else:
                inode = self.names.pop(change.name)
                del self.contents[inode]
                self.changes.pop(inode, None)
        del self.name_changes[:count]


class Disk:
    """One directory of files as the running system sees it, and what of that the power holds. Starts with `files`."""

    def __init__(self, files: Mapping[str, bytes] | None = None) -> None:
        initial = dict(files or {})
        self.names = {name: inode for inode, name in enumerate(initial)}
        self.contents = {inode: bytearray(content) for inode, content in enumerate(initial.values())}
        self.events: list[Event] = []
        """What was done since `record` was called; nothing if it was not."""
        self._made = len(initial)
        self._platters = _Platters(dict(self.names), _copies(self.contents))
        self._recorded: _Platters | None = None

    @property
    def pending(self) -> bool:
        """Whether the power could take anything now."""
        return bool(self._platters.changes or self._platters.name_changes)

    def make(self, name: str) -> int:
        """Make an empty file; the result stands for it in every other call."""
        inode = self._made
        self._made += 1
        self.names[name] = inode
        self.contents[inode] = bytearray()
        self._happen(Made(name, inode))
        return inode

    def delete(self, name: str, directory_synced: bool) -> None:
        """Delete a file that nobody has open."""
        del self.contents[self.names.pop(name)]
        self._happen(Deleted(name, directory_synced))

    def change(self, change: Change) -> None:
        _apply(self.contents[change.inode], change)
        self._happen(change)

    def sync(self, inode: int) -> None:
        """Everything written to that file so far is safe."""
        self._happen(Synced(inode))

    def copy(self) -> Disk:
        """The same disk, on which things may go on otherwise; what was recorded stays behind."""
        other = Disk()
        other.names, other.contents = dict(self.names), _copies(self.contents)
        other._made = self._made
        other._platters = self._platters.copy()
        return other

    def cut(self, random: Random) -> dict[str, bytes]:
        """The files found when the power comes back, if it fails now."""
        return self._platters.copy().found(random)

    def record(self) -> None:
        """Keep everything that happens from now on."""
        self._recorded = self._platters.copy()
        self.events = []

    def cut_after(self, count: int, random: Random) -> dict[str, bytes]:
        """As `cut`, if the power had failed after the first `count` of the recorded `events`."""
        assert self._recorded is not None, "nothing was recorded"
        platters = self._recorded.copy()
        for event in self.events[:count]:
            platters.take(event)
        return platters.found(random)

    def _happen(self, event: Event) -> None:
        self._platters.take(event)
        if self._recorded is not None:
            self.events.append(event)


class DiskFile:
    """One open file, as SQLite wants it. Locks need no work: there is one connection, and it is exclusive."""

    def __init__(self, disk: Disk, inode: int) -> None:
        self._disk = disk
        self._inode = inode
        self._content = disk.contents[inode]

    def xRead(self, amount: int, offset: int) -> bytes:
        return bytes(self._content[offset : offset + amount])

    def xWrite(self, data: bytes, offset: int) -> None:
        self._disk.change(Written(self._inode, offset, bytes(data)))

    def xTruncate(self, newsize: int) -> None:
        self._disk.change(Truncated(self._inode, newsize))

    def xSync(self, flags: int) -> None:
        self._disk.sync(self._inode)

    def xFileSize(self) -> int:
        return len(self._content)

    def xSectorSize(self) -> int:
        return SECTOR

    def xDeviceCharacteristics(self) -> int:
        # What SQLite takes for granted of every disk: bytes beside those written keep their value.
        return apsw.SQLITE_IOCAP_POWERSAFE_OVERWRITE

    def xFileControl(self, op: int, ptr: int) -> bool:
        return False

    def xLock(self, level: int) -> None:
        pass

    def xUnlock(self, level: int) -> None:
        pass

    def xCheckReservedLock(self) -> bool:
        return False

    def xClose(self) -> None:
        pass


class DiskVfs(apsw.VFS):
    """Opens files on `disk`, which may be replaced between two connections; to be unregistered in the end.

    Args:
        name: by which SQLite knows it; only one VFS of a process has it.
        disk: where the files are.
        clock: the time that SQL statements see, in seconds since the epoch.
        random: what SQLite draws by lot, once `seed` was called.
    """

    def __init__(self, name: str, disk: Disk, clock: Callable[[], float], random: Random) -> None:
        self.disk = disk
        self.name = name
        self._clock = clock
        self._random = random
        super().__init__(name, base="")

    def seed(self) -> None:
        """Let what SQLite draws by lot in this process depend on our random numbers alone.

        SQLite has one generator for everything and seeds it from whatever VFS is the default one.
        """
        before = apsw.vfs_names()[0]
        apsw.set_default_vfs(self.name)
        try:
            apsw.randomness(0)
            apsw.randomness(1)
        finally:
            apsw.set_default_vfs(before)

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> DiskFile:  # type: ignore[override]
        assert name is not None, "the DSS needs no temporary files"
        path = name.filename() if isinstance(name, apsw.URIFilename) else name
        flags[1] = flags[0]
        inode = self.disk.names.get(path)
        return DiskFile(self.disk, self.disk.make(path) if inode is None else inode)

    def xAccess(self, pathname: str, flags: int) -> bool:
        return pathname in self.disk.names

    def xDelete(self, filename: str, syncdir: bool) -> None:
        if filename not in self.disk.names:
            raise apsw.IOError
        self.disk.delete(filename, syncdir)

    def xFullPathname(self, name: str) -> str:
        return name

    def xCurrentTime(self) -> float:
        return self.xCurrentTimeInt64() / 86_400_000

    def xCurrentTimeInt64(self) -> int:
        return round(self._clock() * 1000) + _EPOCH_MS

    def xRandomness(self, numbytes: int) -> bytes:
        return self._random.randbytes(numbytes)

    def xSleep(self, microseconds: int) -> int:
        return microseconds
