"""What is on one simulated medium, and which of it would survive the end of the power."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random


@dataclass(slots=True, eq=False)
class File:
    """Something that a client has written. `size` is in bytes."""

    size: int
    durable: bool = False
    lost: bool = False
    """It can never be read again: a sync failed on it, lied about it, or the power went before it was synced."""

    betrayed: bool = False
    """A sync said that it was durable, and it was not: nobody could have known."""


@dataclass(slots=True, eq=False)
class Content:
    """The files of one medium. Sizes are bytes.

    `users` counts the clients that read or write right now, `intruders` those of them to whom that is not granted any
    more: the daemon cannot know of them.
    """

    capacity: int
    used: int = 0
    files: int = 0
    users: int = 0
    intruders: int = 0
    _volatile: list[File] = field(default_factory=list)
    """Written and not synced, oldest first."""

    @property
    def free(self) -> int:
        return max(self.capacity - self.used, 0)

    def write(self, size: int) -> File:
        """A client writes a file of `size`; it is in the system's memory."""
        file = File(size)
        self._volatile.append(file)
        self.used += size
        self.files += 1
        return file

    def delete(self, size: int) -> None:
        """A client removes a file of `size`."""
        self.used = max(self.used - size, 0)
        self.files = max(self.files - 1, 0)

    def begin_sync(self) -> tuple[File, ...]:
        """What a sync that begins now has to make durable."""
        return tuple(self._volatile)

    def end_sync(self, begun: tuple[File, ...]) -> None:
        """The sync has succeeded."""
        for file in begun:
            file.durable = not file.lost
        self._forget(begun)

    def fail_sync(self, begun: tuple[File, ...]) -> None:
        """The sync has failed: the system throws away what it could not write, and says so only once.

        What another sync has made durable meanwhile stays so.
        """
        for file in begun:
            file.lost = not file.durable
        self._forget(begun)

    def betray(self, begun: tuple[File, ...]) -> None:
        """The sync says that it has succeeded, and what was written is lost."""
        for file in begun:
            if not (file.durable or file.lost):
                file.betrayed = file.lost = True
        self._forget(begun)

    def cut(self, random: Random) -> None:
        """The power goes: of what was not synced, some has got there all the same."""
        for file in self._volatile:
            file.lost = random.random() < 0.5
            if file.lost:
                self.used -= file.size
                self.files -= 1
            else:
                file.durable = True
        self._volatile.clear()
        self.users = self.intruders = 0

    def erase(self) -> None:
        """A format."""
        for file in self._volatile:
            file.lost = True
        self._volatile.clear()
        self.used = self.files = 0

    def _forget(self, done: tuple[File, ...]) -> None:
        gone = set(map(id, done))
        self._volatile = [file for file in self._volatile if id(file) not in gone]
