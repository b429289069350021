"""What happens to releases after they have begun: their syncs, their books, their ends (notes 2.5, 4.4).

Most releases are of one medium. They need no task: their device tells when they are synced, and one task writes the
books of all that are. What is synced while a transaction is under way goes into the next one together.
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
        self._synced: list[ReleaseRequest] = []
        self._rung = trio.Event()
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
        self._rung.set()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Write the books until `close`, and what is open then to its end."""
        try:
            async with trio.open_nursery() as self._several:
                task_status.started()
                while self._open or not self._closing:
                    if self._synced:
                        await self._write_books()
                    else:
                        self._rung = trio.Event()
                        await self._rung.wait()
        finally:
            self._several = None
            # Only a forced end of the daemon leaves any without an answer.
            for release in tuple(self._open):
                self._end(release, shutting_down())

    async def _write_books(self) -> None:
        releases, self._synced = self._synced, []
        outcomes = await self._dss.execute_all([release.books() for release in releases])
        for release, outcome in zip(releases, outcomes, strict=True):
            self._end(release, outcome)

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
        self._synced.append(release)
        self._rung.set()

    def _end(self, release: ReleaseRequest, outcome: Sequence[Medium | None] | OSError) -> None:
        self._open.discard(release)
        release.end(outcome)
        if self._closing:
            self._rung.set()
