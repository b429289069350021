"""The life of one allocation in any order of what may happen to it: a state machine for hypothesis."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass, field
from typing import cast

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from lrs_trio.devices.device import DeviceTask
from lrs_trio.devices.grant import Grant, GrantState
from lrs_trio.devices.life import DeviceStatus
from lrs_trio.devices.state import DeviceState
from lrs_trio.devices.to_sync import ToSyncSet
from lrs_trio.errors import LrsError
from lrs_trio.model import Family, FsType, Medium, ResourceId, SyncThresholds
from lrs_trio.scheduling.client import Client
from lrs_trio.scheduling.requests import Allocation, Choice, RequestState
from lrs_trio.wire.messages import Failed, Request, Response, WriteAllocation, WriteGranted, WriteMedium
from tests.fakes.outbox import RecordingOutbox
from tests.fakes.site import medium_id

THRESHOLDS = SyncThresholds(age=1.0, requests=5, size=1000)
SIZE = 10

ONE_IN_FOUR = st.sampled_from([False, False, False, True])
"""What ends the request for good is drawn seldom, or little else would ever happen."""


@dataclass(eq=False)
class Drive:
    """What a request sees of a device: the state, and plain calls that change it. Time does not matter here."""

    medium: Medium
    root: str = "/root"
    state: DeviceState = field(
        default_factory=lambda: DeviceState(
            ToSyncSet(THRESHOLDS), max_concurrent_io=2, sync_while_io=False, mix_reads_and_writes=True
        )
    )

    def __post_init__(self) -> None:
        self.state.become(DeviceStatus.MOUNTED, 0.0)

    @property
    def id(self) -> ResourceId:
        return self.medium.id

    def plan(self, grant: Grant, medium: Medium) -> None:
        self.state.plan(grant, medium, 0.0)

    def end_grant(self, grant: Grant, *, dirty: bool) -> None:
        self.state.end(grant, 0.0, dirty=dirty)

    def move_grant(self, grant: Grant, state: GrantState) -> None:
        self.state.move(grant, state, 0.0)


class Requesting(RuleBasedStateMachine):
    """One write of two media, its devices, its client, and the sender that takes responses when it likes."""

    @initialize()
    def arrive(self) -> None:
        self.outbox = RecordingOutbox(lambda: 0.0)
        self.client = Client(1, self.outbox, pid=1, uid=0)
        self.drives = [Drive(Medium(medium_id(name), FsType.POSIX)) for name in "abc"]
        body = WriteAllocation((WriteMedium(SIZE),) * 2, Family.DIR)
        self.request = Allocation(self.client, Request(7, body), body, 1, 0.0, THRESHOLDS)
        self.request.on_requeue = self._requeued
        self.request.on_end = self._ended
        self.queued = True
        self.ends = 0
        self.left = False

    def _requeued(self, request: object) -> None:
        assert not self.queued, "queued twice"
        self.queued = True

    def _ended(self, request: object) -> None:
        self.ends += 1
        self.queued = False

    @rule(chosen=st.permutations(range(3)), turns=st.integers(1, 3))
    def go_on(self, chosen: list[int], turns: int) -> None:
        """What happens if nothing comes in between: it is placed, then one medium after the other is ready."""
        for _ in range(turns):
            planned = [grant for grant in self.request.grants if grant.state is GrantState.PLANNED]
            if self.queued:
                self._place(chosen)
            elif planned:
                self._make_ready(planned[0])

    def _place(self, chosen: list[int]) -> None:
        drives = [self.drives[number] for number in chosen[:2]]
        if all(drive.state.free_slots(0.0) for drive in drives):
            self.queued = False
            self.request.place([Choice(cast(DeviceTask, drive), drive.medium, SIZE) for drive in drives])

    def _make_ready(self, grant: Grant) -> None:
        grant.device.state.move(grant, GrantState.READY, 0.0)
        grant.holder.grant_ready(grant)

    @rule(number=st.integers(0, 2), code=st.sampled_from([errno.EIO, errno.ECANCELED]))
    def fail(self, number: int, code: int) -> None:
        grants = self._grants_of(number, GrantState.PLANNED) + self._grants_of(number, GrantState.READY)
        for grant in grants:
            self.drives[number].state.end(grant, 0.0, dirty=False)
            grant.holder.grant_failed(grant, OSError(code, os.strerror(code)))

    @rule(number=st.integers(0, 2))
    def begin_sync(self, number: int) -> None:
        state = self.drives[number].state
        if state.syncing is None and not state.ongoing:
            state.begin_sync(0.0)

    @rule(number=st.integers(0, 2))
    def end_sync(self, number: int) -> None:
        state = self.drives[number].state
        state.end_sync()
        for grant in tuple(state.grants):
            if grant.state is GrantState.READY:
                grant.holder.grant_ready(grant)

    @rule()
    def send(self) -> None:
        """The connection's sender gets its turn."""
        ongoing = self._ongoing()
        for response in self.outbox.flush():
            self._check_sent(response, ongoing)

    @rule()
    def replan(self) -> None:
        self.request.replan()

    @rule(chance=ONE_IN_FOUR)
    def shut_down(self, chance: bool) -> None:
        if chance:
            self._refuse()

    @rule(chance=ONE_IN_FOUR)
    def leave(self, chance: bool) -> None:
        if chance and not self.left:
            self.left = True
            self.client.leave()
            self.outbox.close()

    def _refuse(self) -> None:
        self.request.refuse(LrsError(errno.ESHUTDOWN, "shutting down"))

    def _check_sent(self, response: Response, ongoing_before: int) -> None:
        assert response.request_id == 7
        if isinstance(response.body, WriteGranted):
            assert not self.left, "a grant left for a client that has gone"
            assert self._ongoing() == ongoing_before + 2, "both become ongoing as the response leaves"
            assert len(self.client.holdings) == 2
        else:
            assert isinstance(response.body, Failed)
            assert self._ongoing() == ongoing_before

    def _ongoing(self) -> int:
        return sum(drive.state.ongoing for drive in self.drives)

    def _grants_of(self, number: int, state: GrantState) -> list[Grant]:
        return [grant for grant in tuple(self.drives[number].state.grants) if grant.state is state]

    @invariant()
    def answered_at_most_once(self) -> None:
        assert len(self.outbox.sent) <= 1
        assert self.ends <= 1
        assert self.request.ended == (self.ends == 1)

    @invariant()
    def promises_are_those_of_the_request(self) -> None:
        live = {grant for drive in self.drives for grant in drive.state.grants}
        if self.request.state is RequestState.PLANNED:
            assert live == set(self.request.grants)
        elif self.request.state is RequestState.ANSWERED:
            assert live == set(self.client.holdings.all())
        else:
            assert live == set()
        for drive in self.drives:
            assert drive.state.volume.reserved == 0 or live or drive.state.grants == set()

    @invariant()
    def waits_in_one_place(self) -> None:
        assert self.queued == (self.request.state is RequestState.QUEUED)
        assert (self.request in self.client.waiting) == (not self.request.ended)

    @invariant()
    def no_io_during_an_excluding_sync(self) -> None:
        assert all(drive.state.syncing is None or not drive.state.ongoing for drive in self.drives)

    def teardown(self) -> None:
        """Whatever has happened, the client gets its one answer, unless it has gone."""
        for number in range(3):
            self.end_sync(number)
        self._refuse()
        self.send()
        assert self.left or len(self.outbox.sent) == 1
        assert not self.queued


TestRequesting = pytest.mark.note("6", "9")(Requesting.TestCase)
TestRequesting.settings = settings(max_examples=200, stateful_step_count=30)
