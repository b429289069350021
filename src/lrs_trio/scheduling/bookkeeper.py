"""What happens to releases after they have begun: their syncs, their books, their ends (notes 2.5, 4.4).

Most releases are of one medium. They need no task: their device tells when they are synced, and the writer of the DSS
when their books are committed. What is synced while a transaction is under way goes into the next one together, and
what waits there for somebody else's lock keeps no other release waiting.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import trio

from lrs_trio.devices.to_sync import SyncStatus
from lrs_trio.dss.operations import Dss
from lrs_trio.model import Medium
from lrs_trio.ordered import OrderedSet
from lrs_trio.scheduling.release import ReleaseRequest
from lrs_trio.scheduling.requests import shutting_down


class Bookkeeper:
    """The releases that wait for a sync or for their books, of all clients. `run` has to be running."""

    def __init__(self, dss: Dss) -> None:
        self._dss = dss
        self._open = OrderedSet[ReleaseRequest]()
        self._ended = trio.Event()
        self._several: trio.Nursery | None = None
        """The tasks of those of several media."""
        self._closing = False

    def __len__(self) -> int:
        return len(self._open)

    def accept(self, release: ReleaseRequest) -> None:
        """See to a release that has begun."""
        if self._several is None:
            # A forced end of the daemon reaches the connections last.
            release.end(shutting_down())
            return
        self._open.add(release)
        if len(release.parts) > 1:
            self._several.start_soon(self._wait_for_syncs, release, name=f"release of {release.client}")
        else:
            release.parts[0].when_settled(partial(self._settled, release))

    def close(self) -> None:
        """No more releases come: `run` returns when those that have come are answered."""
        self._closing = True
        self._look()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Have the books written until `close`, and of what is open then to its end."""
        try:
            async with trio.open_nursery() as self._several:
                task_status.started()
                await self._ended.wait()
        finally:
            self._several = None
            # Only a forced end of the daemon leaves any without an answer.
            for release in tuple(self._open):
                self._end(release, shutting_down())

    async def _wait_for_syncs(self, release: ReleaseRequest) -> None:
        try:
            await release.wait_for_syncs()
        except OSError as error:
            self._end(release, error)
        else:
            self._is_synced(release)

    def _settled(self, release: ReleaseRequest) -> None:
        """The only sync of a release has ended."""
        waiting = release.parts[0].waiting
        if waiting.status is SyncStatus.DONE:
            self._is_synced(release)
        elif waiting.error is not None:
            self._end(release, waiting.error)

    def _is_synced(self, release: ReleaseRequest) -> None:
        self._dss.submit(release.books(), partial(self._end, release))

    def _end(self, release: ReleaseRequest, outcome: Sequence[Medium | None] | OSError) -> None:
        if release not in self._open:
            # A forced end has answered it before its books were committed.
            return
        self._open.discard(release)
        release.end(outcome)
        self._look()

    def _look(self) -> None:
        if self._closing and not self._open:
            self._ended.set()
