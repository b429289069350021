"""The way of releases through the to-sync sets of their media and the syncs that serve them, in any order."""

from __future__ import annotations

import errno
from collections import Counter
from dataclasses import dataclass, field

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from lrs_trio.devices.to_sync import SubRequest, SyncGroup, SyncStatus, ToSyncSet
from lrs_trio.model import SyncThresholds

MEDIA = 3
AGE = 10.0


@dataclass(eq=False)
class Part:
    """What a release waits for on one medium, and what the model says of it."""

    medium: int
    sub_request: SubRequest
    status: SyncStatus = SyncStatus.TODO
    error: OSError | None = None
    told: int = 0


@dataclass(eq=False)
class Sync:
    """A sync that is under way: what it was given, and the parts that it serves."""

    medium: int
    group: SyncGroup
    parts: list[Part] = field(default_factory=list)


class Releases(RuleBasedStateMachine):
    """A release has a part on each of its media. Its first error cancels the parts that still wait, as does its end."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.sets = [ToSyncSet(SyncThresholds(AGE, 1000, 2**60)) for _ in range(MEDIA)]
        self.releases: list[list[Part]] = []
        self.waiting: list[list[Part]] = [[] for _ in range(MEDIA)]
        self.dirty_since: list[float | None] = [None] * MEDIA
        self.syncs: list[Sync] = []
        self.told: Counter[Part] = Counter()

    @rule(seconds=st.floats(0, 2 * AGE))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(media=st.sets(st.integers(0, MEDIA - 1), min_size=1), size=st.integers(-100, 100))
    def release(self, media: set[int], size: int) -> None:
        parts = [self._part(medium, size) for medium in sorted(media)]
        self.releases.append(parts)
        for part in parts:
            self.sets[part.medium].add(part.sub_request, self.now)
            self.waiting[part.medium].append(part)

    @precondition(lambda self: self._idle())
    @rule(data=st.data())
    def begin_sync(self, data: st.DataObject) -> None:
        medium = data.draw(st.sampled_from(self._idle()))
        sync = Sync(medium, self.sets[medium].take(), self.waiting[medium])
        assert [part.sub_request for part in sync.parts] == list(sync.group.waiting)
        self.syncs.append(sync)
        self.waiting[medium], self.dirty_since[medium] = [], None

    @precondition(lambda self: self.syncs)
    @rule(data=st.data(), fails=st.booleans())
    def end_sync(self, data: st.DataObject, fails: bool) -> None:
        sync = data.draw(st.sampled_from(self.syncs))
        self.syncs.remove(sync)
        error = OSError(errno.EIO, "sync") if fails else None
        for part in sync.parts:
            if part.status is SyncStatus.TODO:
                part.status, part.error = (SyncStatus.ERROR if fails else SyncStatus.DONE), error
                part.told = 1
        sync.group.settle(error)
        if fails:
            for part in sync.parts:
                if part.status is SyncStatus.ERROR:
                    self._cancel(self._release_of(part))

    @precondition(lambda self: self.releases)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        self._cancel(data.draw(st.sampled_from(self.releases)))

    @invariant()
    def every_part_is_told_once_and_only_what_became_of_it(self) -> None:
        for part in (part for release in self.releases for part in release):
            assert part.sub_request.status is part.status
            assert part.sub_request.error is part.error
            assert self.told[part] == part.told

    @invariant()
    def a_part_waits_in_one_place_or_in_none(self) -> None:
        for part in (part for release in self.releases for part in release):
            in_set = part.sub_request in self.sets[part.medium]
            in_syncs = sum(part.sub_request in sync.group.waiting for sync in self.syncs)
            assert in_set + in_syncs <= 1
            assert in_set == (part in self.waiting[part.medium])
            if part.status is SyncStatus.TODO:
                assert in_set + in_syncs == 1

    @invariant()
    def what_was_written_and_not_synced_is_synced_in_time(self) -> None:
        for medium, to_sync in enumerate(self.sets):
            assert to_sync.size == sum(part.sub_request.size for part in self.waiting[medium])
            assert to_sync.pending == (bool(self.waiting[medium]) or self.dirty_since[medium] is not None)
            if to_sync.pending:
                assert to_sync.deadline() <= self.now + AGE
                assert to_sync.due(self.now + AGE)

    def teardown(self) -> None:
        """Whatever still waits is served in the end."""
        while self.syncs:
            self.syncs.pop().group.settle(None)
        for to_sync in self.sets:
            to_sync.take().settle(None)
        for part in (part for release in self.releases for part in release):
            assert part.sub_request.status is not SyncStatus.TODO
            assert self.told[part] == (part.sub_request.status is not SyncStatus.CANCELLED)

    def _idle(self) -> list[int]:
        """The media that are not being synced: a device does one thing at a time."""
        busy = [sync.medium for sync in self.syncs]
        return [medium for medium in range(MEDIA) if medium not in busy]

    def _part(self, medium: int, size: int) -> Part:
        part = Part(medium, SubRequest(size, 1))
        part.sub_request.on_settled = lambda: self.told.update([part])
        return part

    def _release_of(self, part: Part) -> list[Part]:
        return next(release for release in self.releases if part in release)

    def _cancel(self, release: list[Part]) -> None:
        for part in release:
            part.sub_request.cancel()
            self.sets[part.medium].discard(part.sub_request, self.now)
            if part.status is SyncStatus.TODO:
                part.status = SyncStatus.CANCELLED
            if part in self.waiting[part.medium]:
                self.waiting[part.medium].remove(part)
                if self.dirty_since[part.medium] is None:
                    self.dirty_since[part.medium] = self.now


TestReleases = pytest.mark.note("2.1", "2.5d", "4.4")(Releases.TestCase)
