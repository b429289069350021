"""Mistakes that people make, one line each: what `tests.simulation.mutations` plants and the simulation has to find.

Each is in the code that schedules, does, syncs, accounts for, answers or drains, and changes what the daemon does in
some run. `old` is in its file once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Mutation:
    """`new` in place of `old` in a `file` below src/lrs_trio; `why` says what that means."""

    file: str
    old: str
    new: str
    why: str


MUTATIONS: Final = (
    # The device task.
    Mutation(
        "devices/device.py",
        "        self.state.end(grant, now, dirty=dirty)\n        self.ring()",
        "        self.state.end(grant, now, dirty=dirty)",
        "a grant ends, and its device is not told to look again",
    ),
    Mutation(
        "devices/device.py",
        "            group.settle(error)",
        "            group.settle(None)",
        "a failed sync tells its releases that all is well",
    ),
    Mutation(
        "devices/device.py",
        "        self.state.end_sync()\n",
        "",
        "a sync never ends for the state of its device",
    ),
    Mutation(
        "devices/device.py",
        "            self.state.unsettled += len(served)",
        "            self.state.unsettled = len(served)",
        "two syncs in a row: releases whose books are not committed are forgotten",
    ),
    Mutation(
        "devices/device.py",
        "        self.state.unsettled -= 1",
        "        self.state.unsettled -= counted",
        "a release whose books were refused is waited for ever after",
    ),
    Mutation(
        "devices/device.py",
        "            grant.holder.grant_ready(grant)\n\n    def _end_promises",
        "            self.ring()\n\n    def _end_promises",
        "the device is ready, and the request is not told",
    ),
    Mutation(
        "devices/device.py",
        "            grant.holder.grant_ready(grant)\n        self.ring()",
        "            pass\n        self.ring()",
        "a sync ends, and the answers that it has held back are not told",
    ),
    Mutation(
        "devices/device.py",
        "                grant.holder.grant_failed(grant, error)",
        "                self.ring()",
        "the device fails, and the requests that it was promised to are not told",
    ),
    Mutation(
        "devices/device.py",
        "            sub_request.settle(broken)",
        "            sub_request.settle(None)",
        "a release that comes after its medium was lost is told that all is well",
    ),
    # What a device may accept, and what it does next.
    Mutation(
        "devices/state.py",
        "        return self.max_concurrent_io - len(self.grants)",
        "        return self.max_concurrent_io - self.ongoing",
        "what is promised and has not begun takes no slot",
    ),
    Mutation(
        "devices/state.py",
        "all(grant.kind is kind for grant in self.grants)",
        "all(grant.kind is kind for grant in self.grants if grant.state is GrantState.ONGOING)",
        "reads and writes that have not begun may be mixed",
    ),
    Mutation(
        "devices/state.py",
        "        grant.volume.reserved -= grant.size\n",
        "",
        "what a write had reserved is never free again",
    ),
    Mutation(
        "devices/state.py",
        "        self._exit(grant)\n        self._enter(grant, state, now)",
        "        self._enter(grant, state, now)",
        "a grant that goes on is counted twice",
    ),
    Mutation(
        "devices/state.py",
        " and (self.sync_while_io or not self.ongoing):",
        ":",
        "a sync begins during the I/O that it excludes",
    ),
    Mutation(
        "devices/state.py",
        "        held_back = held_back or (self.exchanging and not self.at_rest)\n",
        "",
        "a tape is taken out while somebody uses it",
    ),
    Mutation(
        "devices/state.py",
        "        if self.exchanging or self.gives_up:\n",
        "        if self.gives_up:\n",
        "no sync before an exchange",
    ),
    Mutation(
        "devices/state.py",
        "        busy = self.grants or self.to_sync.pending or self.unsettled",
        "        busy = self.grants or self.to_sync.pending",
        "a drain does not wait for the books of what was synced",
    ),
    Mutation(
        "devices/state.py",
        "        return not used and self.syncing is None and not self.unsettled",
        "        return not used and self.syncing is None",
        "a tape leaves before what was synced on it is in the books",
    ),
    Mutation(
        "devices/state.py",
        "        return self.formats or (self.syncing is not None and not self.sync_while_io)",
        "        return self.formats",
        "I/O begins during a sync that excludes it",
    ),
    Mutation(
        "devices/state.py",
        "        self.scheduled.remove(job)\n        self.formatting = None",
        "        self.scheduled.remove(job)",
        "a format that is taken back keeps its device",
    ),
    Mutation(
        "devices/state.py",
        "        if not self.adaptive or not len(self.to_sync) or self._has_company(now):\n",
        "        if not self.adaptive or len(self.to_sync) < 2 or self._has_company(now):\n",
        "who waits for a sync alone waits for somebody",
    ),
    Mutation(
        "scheduling/family.py",
        "                decided()\n",
        "                pass\n",
        "a device that asked whether anybody is coming gets no answer",
    ),
    Mutation(
        "devices/to_sync.py",
        "        if self._forced or len(self._arrivals) >= self.thresholds.requests or self.size",
        "        if self._forced or len(self._arrivals) > self.thresholds.requests or self.size",
        "the sync that is due by number comes one release late",
    ),
    Mutation(
        "devices/to_sync.py",
        "        return since + self.thresholds.age",
        "        return since + 2 * self.thresholds.age",
        "the sync that is due by age comes late",
    ),
    Mutation(
        "devices/to_sync.py",
        "        self.error = error\n        # Who is called",
        "        # Who is called",
        "a release is not told that its sync has failed",
    ),
    Mutation(
        "devices/to_sync.py",
        "        self.size -= sub_request.size\n",
        "",
        "the size of a release that was cancelled stays",
    ),
    # Drives, directories, their locks and their room.
    Mutation(
        "devices/volume.py",
        "        return max(self.free - self.reserved, 0)",
        "        return self.free",
        "the room of a volume is promised twice",
    ),
    Mutation(
        "devices/adoption.py",
        "        await self._ownership.release(LockType.MEDIA, self._loaded().id)\n",
        "",
        "the lock of a tape that has left its drive is not given back",
    ),
    Mutation(
        "devices/adoption.py",
        "                self.state.lost = False\n",
        "",
        "a drive that has found out what is in it goes on to ask",
    ),
    Mutation(
        "devices/carrier.py",
        "        if failure is not None:\n            await self._ownership.release(LockType.MEDIA, medium.id)\n",
        "        if failure is not None:\n",
        "the lock of a tape that is not brought after all is kept",
    ),
    Mutation(
        "devices/drive.py",
        "        self._settle_waiting(error)\n        self.ring()",
        "        self.ring()",
        "releases on a tape that has to leave are not told",
    ),
    Mutation(
        "devices/drive.py",
        "        await self._ownership.give_back()\n",
        "",
        "a drive that ends keeps its locks",
    ),
    Mutation(
        "devices/fixed.py",
        "        self.state.to_sync.take().settle(error)\n",
        "",
        "releases on a directory that has failed are not told",
    ),
    Mutation(
        "devices/departure.py",
        "        self._offered = False\n        if any",
        "        if any",
        "an answer that a sync has held back is never offered again",
    ),
    # Releases.
    Mutation(
        "scheduling/release.py",
        "                self.client.holdings.remove(grant)\n",
        "                pass\n",
        "what is given back still counts as held",
    ),
    Mutation(
        "scheduling/bookkeeper.py",
        "        self._dss.submit(release.books(),",
        "        release._succeed()\n        self._dss.submit(release.books(),",
        "the answer leaves before the books are committed",
    ),
    Mutation(
        "scheduling/bookkeeper.py",
        "            release.parts[0].when_settled(partial(self._settled, release))",
        "            self._is_synced(release)",
        "nobody waits for the sync",
    ),
    Mutation(
        "scheduling/release.py",
        "            elif part.waiting.status is SyncStatus.TODO:",
        "            elif part.waiting.status is SyncStatus.CANCELLED:",
        "the siblings of a release that has failed are not cancelled",
    ),
    Mutation(
        "scheduling/release.py",
        "figures(part.waiting) for part",
        "figures(part.waiting if len(self.parts) == 1 else None) for part",
        "a release of several media is not counted",
    ),
    # Requests and their scheduler.
    Mutation(
        "scheduling/requests.py",
        "        if self._departure is None and all(",
        "        if self._departure is None and any(",
        "the answer leaves when the first medium is ready, not the last",
    ),
    Mutation(
        "scheduling/requests.py",
        "            grant.device.end_grant(grant, dirty=False)",
        "            grant.device.ring()",
        "the siblings of a grant that has failed are not given back",
    ),
    Mutation(
        "scheduling/requests.py",
        "            self.client.holdings.add(grant)\n",
        "",
        "a client is not known to hold what it was granted",
    ),
    Mutation(
        "scheduling/requests.py",
        "        if response is not None and not queued:",
        "        if response is not None:",
        "a request that is refused while its answer leaves is answered twice",
    ),
    Mutation(
        "scheduling/client.py",
        "            _take_back(grant)",
        "            grant.device.ring()",
        "what a client held that has gone stays granted",
    ),
    Mutation(
        "scheduling/client.py",
        "            request.withdraw()\n",
        "            pass\n",
        "what a client waited for that has gone is served",
    ),
    Mutation(
        "server/dispatch.py",
        "        if right is not None and right not in client.rights:",
        "        if right is not None and not client.rights:",
        "who may do anything may do everything",
    ),
    Mutation(
        "scheduling/library_pass.py",
        "            outcome.take(request.kind)\n",
        "            pass\n",
        "two requests of one pass are promised the same",
    ),
    Mutation(
        "scheduling/attached_pass.py",
        "        outcome.keep()",
        "        pass",
        "the directories that a request waits for are given to those behind it",
    ),
    Mutation(
        "scheduling/library_pass.py",
        "            outcome.keep()",
        "            pass",
        "the drives that a request waits for are given to those behind it",
    ),
    Mutation(
        "scheduling/family.py",
        "                await self._schedule()\n",
        "                await self._schedule()\n                self._changed = trio.Event()\n",
        "what changes during a pass wakes nobody",
    ),
    Mutation(
        "scheduling/family.py",
        "            request.done()",
        "            request.withdraw()",
        "news that were heeded are not confirmed",
    ),
    Mutation(
        "scheduling/family.py",
        "        self.live.discard(request)\n",
        "",
        "requests that have ended are kept",
    ),
    Mutation(
        "scheduling/placement.py",
        "open_to(RequestKind.READ)][: request.n_required]",
        "open_to(RequestKind.READ)]",
        "a read gets more media than it needs",
    ),
    Mutation(
        "scheduling/roster.py",
        "        device.stop()\n        self._replan(device)",
        "        device.stop()",
        "requests that were promised a device which is locked are forgotten",
    ),
    Mutation(
        "scheduling/roster.py",
        "            if row.device.adm_status is AdmStatus.UNLOCKED:",
        "            if row.device.adm_status is not AdmStatus.LOCKED:",
        "a device that has failed is used again after a restart",
    ),
    # Connections.
    Mutation(
        "server/outbox.py",
        "        if self._awaited and not self.full:\n            self._drained.set()\n",
        "        pass\n",
        "a reader that waits for room among the responses is never told that there is some",
    ),
    Mutation(
        "server/connection.py",
        "                    self.client.leave()\n"
        "                    await self._outbox.wait_kept()\n"
        "                finally:\n"
        "                    self.client.leave()\n",
        "                    await self._outbox.wait_kept()\n                finally:\n",
        "a connection that ends leaves everything as it is",
    ),
    # The DSS.
    Mutation(
        "dss/group_commit.py",
        "                self._forget(waiter)\n                self._overtake",
        "                self._overtake",
        "an operation that is answered is committed again",
    ),
    Mutation(
        "dss/group_commit.py",
        "            found = await self._resolve(doubt)",
        "            found = None",
        "a commit without an answer is repeated, whatever has become of it",
    ),
    Mutation(
        "dss/group_commit.py",
        "        self._waiters.update(dict.fromkeys(waiters))\n        self._look.set()",
        "        self._waiters.update(dict.fromkeys(waiters))",
        "the writer is not woken",
    ),
    # The daemon and its drain.
    Mutation(
        "daemon.py",
        "            await dss.execute(DeleteLocks(stale))\n",
        "",
        "the locks of a dead predecessor stay",
    ),
    Mutation(
        "daemon.py",
        "                                family.close()",
        "                                family.look()",
        "the schedulers are not told that nothing more comes",
    ),
    Mutation(
        "daemon.py",
        '                self._forced.cancel(reason=f"second signal {name}")\n',
        "",
        "a second signal ends nothing",
    ),
    Mutation(
        "daemon.py",
        "                self._forced.deadline = trio.current_time() + self.settings.drain.deadline_s\n",
        "",
        "a drain has no deadline",
    ),
)
