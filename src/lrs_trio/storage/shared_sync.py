"""One syncfs for all directories of one filesystem that wait for one (decision 13).

A syncfs writes back the whole filesystem, so what was written to one directory is durable after a
syncfs of another, if it started after the writing. What it does not do is report to the one what it
reports to the other: a write-back error goes once to each descriptor, at its own next syncfs. A directory
is therefore served by another one's syncfs only where that proves that its own would succeed as well.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import trio

from lrs_trio.storage.shared_calls import SharedCall


@dataclass(eq=False, slots=True)
class Member:
    """One directory, from open to close."""

    proven: int | None = None
    """The epoch in which this one's last own syncfs began, if it succeeded."""


@dataclass(slots=True)
class ErrorEpochs:
    """Which members are known to have no write-back error waiting to be reported.

    An epoch is a time without failure and without newcomers. Members with an own success within one
    epoch have seen the same errors, namely all: after that a success of any of them says that there
    was nothing new for any of them.
    """

    current: int = 0

    def joined(self) -> None:
        """A member has opened its descriptor: an error that others have not seen may be hidden from it."""
        self.current += 1

    def begin(self, member: Member) -> int:
        """An own syncfs of `member` begins; until it succeeds nothing is known about that member."""
        member.proven = None
        return self.current

    def succeeded(self, member: Member, began: int) -> None:
        """`began` is what `begin` returned."""
        member.proven = began

    def failed(self) -> None:
        self.current += 1

    def knows(self, member: Member) -> bool:
        """Whether a success of another member, now, says that `member` would have had one as well."""
        return member.proven == self.current


PATIENCE_S = 10.0
"""How long the others count on the one that syncs, in seconds: what it does before may hang, and they need not."""

Syncfs = Callable[[Sequence[SharedCall[Any]]], Awaitable[None]]
"""Syncs, and may then make the calls that it is given, in the same turn of a thread."""


@dataclass(eq=False, slots=True)
class _Call:
    member: Member
    look: SharedCall[Any] | None
    served: bool = False
    woken: trio.Event = field(default_factory=trio.Event)


@dataclass(slots=True)
class VolumeSync:
    """The syncs of the directories of one filesystem."""

    members: int = 0
    epochs: ErrorEpochs = field(default_factory=ErrorEpochs)
    _calls: dict[_Call, None] = field(default_factory=dict)
    _counted_on: dict[_Call, float] = field(default_factory=dict)
    """Whose sync runs and does not take long, and since when, the oldest first."""

    async def sync(self, member: Member, syncfs: Syncfs, look: SharedCall[Any] | None = None) -> None:
        """Return when what `member`'s directory held at the time of the call is durable.

        Either `syncfs` is called in the caller's own task, or another caller's that starts from now on
        stands for it, and may `look` along. While one runs, callers gather for the next. If the one they
        count on fails, is cancelled or takes long they go on without it, so that nobody gets an error that its own
        descriptor has not reported, and nobody waits for a task that has gone.

        Raises:
            OSError: `syncfs` raised it.
        """
        call = _Call(member, look)
        self._calls[call] = None
        try:
            while not call.served:
                if self._counted_on and self.epochs.knows(member):
                    await self._wait(call)
                else:
                    await self._run(call, syncfs)
        finally:
            del self._calls[call]
            if not call.served:
                # It may have been the one that was woken to go on.
                self._go_on()

    async def _run(self, call: _Call, syncfs: Syncfs) -> None:
        waiting = tuple(self._calls)
        began = self.epochs.begin(call.member)
        # Nothing is known of the caller itself now; who is served already may just read what was seen for it.
        counting = (other for other in waiting if not other.served and self.epochs.knows(other.member))
        looks = [other.look for other in counting if other.look is not None]
        self._counted_on[call] = trio.current_time()
        try:
            await syncfs(looks)
        except OSError:
            self.epochs.failed()
            raise
        else:
            self.epochs.succeeded(call.member, began)
            call.served = True
            for other in waiting:
                other.served = other.served or self.epochs.knows(other.member)
        finally:
            self._counted_on.pop(call, None)
            self._go_on()

    async def _wait(self, call: _Call) -> None:
        """Wait for the others, but not for ever: what takes long may hang, and serves who still waits if it ends."""
        oldest, began = next(iter(self._counted_on.items()))
        call.woken = trio.Event()
        with trio.move_on_at(began + PATIENCE_S) as patience:
            await call.woken.wait()
        if patience.cancelled_caught:
            self._counted_on.pop(oldest, None)

    def _go_on(self) -> None:
        """Wake those who are served, those who can count on nobody else, and, if nobody syncs, one of the others."""
        somebody_syncs = bool(self._counted_on)
        for call in self._calls:
            if call.served or not self.epochs.knows(call.member):
                call.woken.set()
            elif not somebody_syncs:
                somebody_syncs = True
                call.woken.set()


class SharedSync:
    """The filesystems of one process, by device number."""

    def __init__(self) -> None:
        self._volumes: dict[int, VolumeSync] = {}

    def join(self, device: int) -> VolumeSync:
        """The syncs of the filesystem `device`, for one more directory that has just been opened on it."""
        volume = self._volumes.setdefault(device, VolumeSync())
        volume.members += 1
        volume.epochs.joined()
        return volume

    def leave(self, device: int) -> None:
        volume = self._volumes[device]
        volume.members -= 1
        if not volume.members:
            del self._volumes[device]
