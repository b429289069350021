"""A disk in memory that remembers what it was told and in which order, and an SQLite VFS on it.

What was written but not synced may be lost when the power is cut, wholly or in part: after `Disk.cut`
there is everything that was synced before the cut, and of what was not synced a random choice, sector
by sector. The same holds for names: a file that was made or deleted since the directory was synced may
or may not be there. One run can be cut at every one of its events, because the disk keeps them all.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

import apsw

SECTOR = 512
"""The unit in which a disk writes: whole or not at all."""


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


def _write(content: bytearray, offset: int, data: bytes) -> None:
    if len(content) < offset:
        content.extend(bytes(offset - len(content)))
    content[offset : offset + len(data)] = data


def _truncate(content: bytearray, size: int) -> None:
    del content[size:]
    content.extend(bytes(size - len(content)))


def _sectors(write: Written) -> list[Written]:
    """`write` in the pieces that reach the disk one by one."""
    pieces = []
    start = 0
    while start < len(write.data):
        end = start + SECTOR - (write.offset + start) % SECTOR
        pieces.append(Written(write.inode, write.offset + start, write.data[start:end]))
        start = end
    return pieces


def _apply(content: bytearray, event: Written | Truncated) -> None:
    if isinstance(event, Written):
        _write(content, event.offset, event.data)
    else:
        _truncate(content, event.size)


class Disk:
    """One directory of files, as the running system sees it, with all that was done to it since `files`."""

    def __init__(self, files: dict[str, bytes] | None = None) -> None:
        self._initial = dict(files or {})
        self.names = {name: inode for inode, name in enumerate(self._initial)}
        self.contents = {inode: bytearray(content) for inode, content in enumerate(self._initial.values())}
        self.events: list[Event] = []

    def make(self, name: str) -> int:
        inode = len(self.contents)
        self.names[name] = inode
        self.contents[inode] = bytearray()
        self.events.append(Made(name, inode))
        return inode

    def delete(self, name: str, directory_synced: bool) -> None:
        del self.names[name]
        self.events.append(Deleted(name, directory_synced))

    def change(self, event: Written | Truncated) -> None:
        _apply(self.contents[event.inode], event)
        self.events.append(event)

    def sync(self, inode: int) -> None:
        self.events.append(Synced(inode))

    def cut(self, after: int, random: Random) -> dict[str, bytes]:
        """The files found when the power comes back, if it failed after the first `after` events."""
        return _Platters(self._initial).replay(self.events[:after]).found(random)


@dataclass(slots=True)
class _Platters:
    """What certainly survives, and what may."""

    initial: dict[str, bytes]
    names: dict[str, int] = field(init=False)
    contents: dict[int, bytearray] = field(init=False)
    name_changes: list[Made | Deleted] = field(default_factory=list)
    changes: dict[int, list[Written | Truncated]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.names = {name: inode for inode, name in enumerate(self.initial)}
        self.contents = {inode: bytearray(content) for inode, content in enumerate(self.initial.values())}

    def replay(self, events: list[Event]) -> _Platters:
        for event in events:
            if isinstance(event, Made):
                self.contents[event.inode] = bytearray()
                self.name_changes.append(event)
            elif isinstance(event, Deleted):
                self.name_changes.append(event)
                if event.directory_synced:
                    self._sync_names(len(self.name_changes))
            elif isinstance(event, Synced):
                for change in self.changes.pop(event.inode, ()):
                    _apply(self.contents[event.inode], change)
                # As the VFS of the operating system does: the first sync of a new file syncs its directory.
                if any(isinstance(change, Made) and change.inode == event.inode for change in self.name_changes):
                    self._sync_names(len(self.name_changes))
            else:
                self.changes.setdefault(event.inode, []).append(event)
        return self

    def _sync_names(self, count: int) -> None:
        for change in self.name_changes[:count]:
            if isinstance(change, Made):
                self.names[change.name] = change.inode
            else:
                del self.names[change.name]
        del self.name_changes[:count]

    def found(self, random: Random) -> dict[str, bytes]:
        # Names change in order: a file system keeps a journal of them.
        self._sync_names(random.randint(0, len(self.name_changes)))
        luck = random.choice((0.0, 0.5, 0.9, 1.0))
        for inode, changes in self.changes.items():
            for change in changes:
                for piece in _sectors(change) if isinstance(change, Written) else [change]:
                    if random.random() < luck:
                        _apply(self.contents[inode], piece)
        return {name: bytes(self.contents[inode]) for name, inode in self.names.items()}


class DiskFile:
    """One open file, as SQLite wants it. Locks need no work: there is one connection, and it is exclusive."""

    def __init__(self, disk: Disk, inode: int) -> None:
        self._disk = disk
        self._inode = inode

    def xRead(self, amount: int, offset: int) -> bytes:
        return bytes(self._disk.contents[self._inode][offset : offset + amount])

    def xWrite(self, data: bytes, offset: int) -> None:
        self._disk.change(Written(self._inode, offset, bytes(data)))

    def xTruncate(self, newsize: int) -> None:
        self._disk.change(Truncated(self._inode, newsize))

    def xSync(self, flags: int) -> None:
        self._disk.sync(self._inode)

    def xFileSize(self) -> int:
        return len(self._disk.contents[self._inode])

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
    """Opens files on `disk`, which may be replaced between two connections; the rest is the system's."""

    def __init__(self, name: str, disk: Disk) -> None:
        self.disk = disk
        super().__init__(name, base="")

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
