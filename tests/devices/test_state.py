"""What a device may accept and what it does next, as a table and against invariants."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from dataclasses import replace
from math import inf
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from lrs_trio.devices.departure import Departure
from lrs_trio.devices.grant import Grant, GrantState
from lrs_trio.devices.life import DeviceStatus, Life
from lrs_trio.devices.state import LONG_IO, SERVING, DeviceState, FormatJob, Prepare, Step
from lrs_trio.devices.streaming import Streaming
from lrs_trio.devices.to_sync import Cause, SubRequest, SyncGroup, ToSyncSet
from lrs_trio.devices.volume import Volume
from lrs_trio.errors import LrsError
from lrs_trio.model import FsType, Medium, RequestKind, SyncThresholds
from lrs_trio.wire.messages import Pong, Response
from tests.fakes.outbox import RecordingOutbox
from tests.fakes.site import Holder, medium_id

AGE = 10.0
MEDIUM = Medium(medium_id("/srv/a"), FsType.POSIX)


def make_state(
    *, sync_while_io: bool = True, maximum: int = 2, mix: bool = True, volume: Volume | None = None
) -> DeviceState:
    return DeviceState(
        ToSyncSet(SyncThresholds(AGE, 3, 1000)),
        maximum,
        sync_while_io,
        mix,
        volume or Volume(measured=10_000),
        Life(0.0, DeviceStatus.MOUNTED),
        MEDIUM.id,
    )


class OnDevice:
    """The part of a device task that grants and departures touch."""

    def __init__(self, state: DeviceState) -> None:
        self.state = state
        self.now = 0.0

    def move_grant(self, grant: Grant, state: GrantState) -> None:
        self.state.move(grant, state, self.now)


def grant(state: DeviceState, kind: RequestKind = RequestKind.WRITE, size: int = 0) -> Grant:
    return Grant(OnDevice(state), MEDIUM.id, kind, Holder(), size, volume=state.volume)  # type: ignore[arg-type]


def planned(state: DeviceState, to: GrantState = GrantState.PLANNED, **more: Any) -> Grant:
    made = grant(state, **more)
    state.plan(made, MEDIUM, 0.0)
    if to is not GrantState.PLANNED:
        state.scheduled.pop()
        state.move(made, to, 0.0)
    return made


def add_due(state: DeviceState, now: float = 0.0) -> None:
    state.to_sync.add(SubRequest(1, 1), now, at_once=True)


class Nobody:
    def formatted(self) -> None: ...

    def format_failed(self, error: OSError) -> None: ...

    def format_displaced(self, error: OSError) -> None: ...


def a_format() -> FormatJob:
    return FormatJob(MEDIUM, unlock=False, holder=Nobody())


# The order of precedence (notes 2.5, 4.4, 5.3).


def test_an_idle_device_waits_for_its_bell() -> None:
    assert make_state().next_step(0.0) == (Step.WAIT, inf)


@pytest.mark.note("2.3", "4.5")
def test_a_waiting_release_sets_the_wake_up() -> None:
    state = make_state()
    state.to_sync.add(SubRequest(1, 1), 3.0)
    assert state.next_step(4.0) == (Step.WAIT, 13.0)
    assert state.next_step(13.0)[0] is Step.SYNC


@pytest.mark.note("2.5c", "5.3")
def test_a_due_sync_goes_before_the_next_action() -> None:
    state = make_state()
    planned(state)
    add_due(state)
    assert state.next_step(0.0)[0] is Step.SYNC
    state.begin_sync(0.0)
    assert state.next_step(0.0)[0] is Step.ACT


@pytest.mark.note("2.5c")
@pytest.mark.parametrize(
    ("sync_while_io", "expected"), [pytest.param(True, Step.SYNC, id="dir"), pytest.param(False, Step.WAIT, id="tape")]
)
def test_whether_a_due_sync_waits_for_the_io(sync_while_io: bool, expected: Step) -> None:
    state = make_state(sync_while_io=sync_while_io)
    planned(state, GrantState.ONGOING)
    add_due(state)
    assert state.next_step(0.0)[0] is expected


@pytest.mark.note("9")
@pytest.mark.parametrize("waiting", [GrantState.PLANNED, GrantState.READY, GrantState.RESERVED])
def test_only_an_ongoing_io_holds_a_sync_back(waiting: GrantState) -> None:
    state = make_state(sync_while_io=False)
    planned(state, waiting)
    add_due(state)
    assert state.next_step(0.0)[0] is Step.SYNC


@pytest.mark.note("2.5f")
def test_no_action_starts_while_a_sync_that_excludes_io_is_due_or_running() -> None:
    state = make_state(sync_while_io=False)
    planned(state, GrantState.ONGOING)
    planned(state)
    add_due(state)
    assert state.next_step(0.0)[0] is Step.WAIT
    state.begin_sync(0.0)
    assert state.next_step(0.0)[0] is Step.WAIT
    state.end_sync()
    assert state.next_step(0.0)[0] is Step.ACT


def test_two_syncs_of_one_device_never_run_at_once() -> None:
    state = make_state()
    add_due(state)
    state.begin_sync(0.0)
    add_due(state)
    assert state.next_step(0.0) == (Step.WAIT, inf)
    state.end_sync()
    assert state.next_step(0.0)[0] is Step.SYNC


@pytest.mark.note("11")
def test_a_stop_is_reached_only_when_nothing_is_left() -> None:
    state = make_state()
    held = planned(state, GrantState.ONGOING)
    state.to_sync.add(SubRequest(1, 1), 0.0)
    state.stopping = True
    assert state.next_step(0.0)[0] is Step.SYNC
    state.begin_sync(0.0)
    assert state.next_step(0.0)[0] is Step.WAIT
    state.end_sync()
    state.unsettled += 1
    assert state.next_step(0.0)[0] is Step.WAIT
    state.end(held, 0.0, dirty=False)
    assert state.next_step(0.0)[0] is Step.WAIT
    state.unsettled -= 1
    assert state.next_step(0.0)[0] is Step.STOP


@pytest.mark.note("11", "4.4")
def test_a_stop_syncs_before_any_threshold_and_dirt_as_well() -> None:
    state = make_state()
    state.to_sync.mark_dirty(0.0)
    state.stopping = True
    assert state.next_step(0.0)[0] is Step.SYNC


@pytest.mark.note("11")
def test_a_stopping_device_takes_no_scheduled_action() -> None:
    state = make_state()
    promised = planned(state)
    state.stopping = True
    assert state.next_step(0.0)[0] is Step.WAIT
    state.end(promised, 0.0, dirty=False)
    assert state.next_step(0.0)[0] is Step.STOP


@pytest.mark.note("11")
def test_a_format_under_way_holds_a_stop_back() -> None:
    state = make_state()
    state.schedule_format(a_format())
    state.scheduled.popleft()
    state.stopping = True
    assert state.next_step(0.0)[0] is Step.WAIT


def test_a_failed_device_ends_when_its_sync_and_its_books_have() -> None:
    state = make_state()
    planned(state, GrantState.ONGOING)
    add_due(state)
    state.begin_sync(0.0)
    state.unsettled = 1
    state.fail(OSError(errno.EIO, "disk"), 0.0)
    assert state.next_step(0.0) == (Step.WAIT, inf)
    state.end_sync()
    assert state.next_step(0.0) == (Step.WAIT, inf)
    state.unsettled = 0
    assert state.next_step(0.0)[0] is Step.STOP


# Media that come and go.


OTHER = replace(MEDIUM, id=medium_id("/srv/b"))


def drive_state() -> DeviceState:
    state = make_state(sync_while_io=False)
    state.movable = True
    return state


def planned_other(state: DeviceState) -> Grant:
    """Another medium is promised than the one that is present."""
    made = grant(state, RequestKind.READ)
    made.medium = OTHER.id
    state.plan(made, OTHER, 0.0)
    return made


@pytest.mark.note("2.5f", "4.4")
def test_what_waits_for_a_sync_is_synced_before_its_medium_is_exchanged() -> None:
    state = drive_state()
    state.to_sync.add(SubRequest(1, 1), 0.0)
    assert state.next_step(0.0)[0] is Step.WAIT
    planned_other(state)
    assert state.exchanging
    assert state.next_step(0.0)[0] is Step.SYNC
    state.begin_sync(0.0)
    assert state.next_step(0.0)[0] is Step.WAIT
    state.end_sync()
    state.unsettled = 1
    assert state.next_step(0.0)[0] is Step.WAIT
    state.unsettled = 0
    assert state.next_step(0.0)[0] is Step.ACT


@pytest.mark.note("2.5f", "9")
@pytest.mark.parametrize("used", [GrantState.READY, GrantState.ONGOING, GrantState.RESERVED])
def test_a_medium_in_use_is_neither_exchanged_nor_formatted(used: GrantState) -> None:
    exchanged, formatted = drive_state(), drive_state()
    for state in (exchanged, formatted):
        held = planned(state, used)
        planned_other(state) if state is exchanged else state.schedule_format(a_format())
        assert not state.at_rest
        assert state.next_step(0.0)[0] is Step.WAIT
        state.end(held, 0.0, dirty=False)
        assert state.next_step(0.0)[0] is Step.ACT


def test_the_medium_that_is_present_is_prepared_without_an_exchange() -> None:
    state = drive_state()
    planned(state, GrantState.ONGOING)
    planned(state)
    assert not state.exchanging
    assert state.next_step(0.0)[0] is Step.ACT


@pytest.mark.note("5.3")
def test_a_format_excludes_io_only_while_it_is_under_way() -> None:
    state = drive_state()
    state.schedule_format(a_format())
    assert not state.excludes_io
    state.scheduled.popleft()
    assert state.excludes_io


@pytest.mark.note("2.5f", "4.4")
def test_a_tainted_medium_is_taken_out_when_it_is_not_used_and_its_books_are_written() -> None:
    state = drive_state()
    held = planned(state, GrantState.ONGOING)
    state.unsettled = 1
    state.tainted = OSError(errno.EIO, "tape")
    assert not state.serving
    assert state.next_step(0.0) == (Step.WAIT, inf)
    state.end(held, 0.0, dirty=True)
    assert not state.to_sync.pending
    assert state.next_step(0.0) == (Step.WAIT, inf)
    state.unsettled = 0
    assert state.next_step(0.0)[0] is Step.EJECT


def test_a_tainted_medium_leaves_before_the_next_one_comes() -> None:
    state = drive_state()
    planned_other(state)
    state.tainted = OSError(errno.EIO, "tape")
    assert state.next_step(0.0)[0] is Step.EJECT
    state.tainted = state.present = None
    assert state.next_step(0.0)[0] is Step.ACT


@pytest.mark.note("11")
def test_a_stop_does_not_take_a_tainted_or_a_lost_medium_out() -> None:
    for flag in ("tainted", "lost"):
        state = drive_state()
        setattr(state, flag, OSError(errno.EIO, "tape"))
        state.stopping = True
        assert state.next_step(0.0)[0] is Step.STOP


def test_a_move_that_was_lost_track_of_is_found_out_before_anything_else() -> None:
    state = drive_state()
    state.lost = state.unlocked = True
    state.tainted = OSError(errno.EIO, "tape")
    add_due(state)
    planned(state)
    assert state.next_step(0.0)[0] is Step.FIND_OUT


@pytest.mark.note("2.5f", "4.4")
def test_a_medium_that_is_not_ours_any_more_is_synced_and_then_taken_out() -> None:
    state = drive_state()
    held = planned(state, GrantState.ONGOING)
    state.withheld = LrsError(errno.EALREADY, "somebody else's")
    assert state.next_step(0.0)[0] is Step.WAIT
    state.end(held, 0.0, dirty=True)
    assert state.next_step(0.0)[0] is Step.SYNC
    state.begin_sync(0.0)
    assert state.next_step(0.0)[0] is Step.WAIT
    state.end_sync()
    assert state.next_step(0.0)[0] is Step.EJECT
    # It is not known yet whether the lock can be had again.
    state.unlocked = True
    assert state.next_step(0.0)[0] is Step.LOCK


def test_a_medium_that_cannot_leave_is_withheld_where_it_is() -> None:
    state = make_state()
    state.withheld = LrsError(errno.EALREADY, "somebody else's")
    assert state.next_step(0.0) == (Step.WAIT, inf)


def test_a_device_is_not_idle_while_it_acts_for_a_grant_that_has_gone() -> None:
    state = drive_state()
    promised = planned_other(state)
    state.scheduled.popleft()
    state.acting = True
    state.end(promised, 0.0, dirty=False)
    assert not state.idle
    state.acting = False
    assert state.idle


# What may be planned.


@pytest.mark.note("8")
def test_slots_are_what_the_maximum_leaves() -> None:
    state = make_state(maximum=3)
    assert state.free_slots(0.0) == 3
    planned(state)
    planned(state, GrantState.ONGOING)
    planned(state, GrantState.RESERVED)
    assert (state.planned, state.ongoing, state.reserved) == (1, 1, 1)
    assert state.free_slots(0.0) == 0
    with pytest.raises(RuntimeError, match="max_concurrent_io"):
        state.plan(grant(state), MEDIUM, 0.0)


@pytest.mark.note("2.5f")
@pytest.mark.parametrize(("sync_while_io", "slots"), [(True, 2), (False, 0)])
def test_a_due_sync_takes_the_slots_away_where_it_excludes_io(sync_while_io: bool, slots: int) -> None:
    state = make_state(sync_while_io=sync_while_io)
    add_due(state)
    assert state.free_slots(0.0) == slots
    state.begin_sync(0.0)
    assert state.free_slots(0.0) == slots
    state.end_sync()
    assert state.free_slots(0.0) == 2


@pytest.mark.parametrize("status", [status for status in DeviceStatus if status not in SERVING])
def test_nothing_is_planned_on_a_device_that_does_not_serve(status: DeviceStatus) -> None:
    state = make_state()
    state.life = Life(0.0, status)
    assert state.free_slots(0.0) == 0


@pytest.mark.note("11")
def test_nothing_is_planned_on_a_stopping_a_failed_or_a_formatting_device() -> None:
    stopping, failed, formatting = make_state(), make_state(), make_state()
    stopping.stopping = True
    failed.fail(OSError(errno.EIO, "disk"), 0.0)
    formatting.schedule_format(a_format())
    assert [state.free_slots(0.0) for state in (stopping, failed, formatting)] == [0, 0, 0]


@pytest.mark.note("8")
def test_kinds_mix_only_where_they_may() -> None:
    mixing, separate = make_state(mix=True), make_state(mix=False)
    for state in (mixing, separate):
        assert state.accepts(RequestKind.READ)
        planned(state, GrantState.ONGOING)
        assert state.accepts(RequestKind.WRITE)
    assert mixing.accepts(RequestKind.READ)
    assert not separate.accepts(RequestKind.READ)


def test_ending_a_grant_gives_everything_back_once() -> None:
    state = make_state()
    held = planned(state, size=600)
    assert state.volume.available == 9_400
    for _ in range(2):
        state.end(held, 0.0, dirty=False)
        assert (state.planned, state.volume.reserved, len(state.scheduled)) == (0, 0, 0)
    assert held.state is GrantState.ENDED
    assert not state.to_sync.pending


@pytest.mark.note("6")
def test_a_cancelled_request_leaves_the_scheduled_queue_and_no_other_does() -> None:
    state = make_state()
    first, second = planned(state), planned(state)
    state.end(first, 0.0, dirty=False)
    assert [action.grant for action in state.scheduled] == [second]  # type: ignore[union-attr]


def test_dirt_is_not_noted_on_a_failed_device() -> None:
    state = make_state()
    held = planned(state, GrantState.ONGOING)
    state.fail(OSError(errno.EIO, "disk"), 0.0)
    state.end(held, 0.0, dirty=True)
    assert not state.to_sync.pending


@pytest.mark.note("5.1", "5.3")
def test_a_format_is_withdrawn_only_before_it_begins() -> None:
    state = make_state()
    job = a_format()
    state.schedule_format(job)
    assert not state.idle
    assert state.withdraw_format(job)
    assert state.idle
    state.schedule_format(job)
    state.scheduled.popleft()
    assert not state.withdraw_format(job)
    assert state.formatting is job


def test_free_space_is_never_negative() -> None:
    volume = Volume(measured=100, reserved=300)
    assert volume.available == 0
    volume.estimate(250)
    assert (volume.free, volume.available) == (0, 0)
    volume.measure(70)
    assert volume.free == 70


def test_what_is_deleted_frees_space_only_when_it_is_measured() -> None:
    volume = Volume(measured=100)
    volume.estimate(60)
    volume.estimate(-50)
    assert volume.free == 40


# Planned to ongoing (note 9, decision 6).


def test_nothing_leaves_while_one_of_the_devices_syncs_exclusively() -> None:
    first, second = make_state(sync_while_io=False), make_state(sync_while_io=False)
    grants = (planned(first, GrantState.READY), planned(second, GrantState.READY))
    outbox, departed = RecordingOutbox(lambda: 0.0), []
    response = Response(1, Pong())
    departure = Departure(outbox, response, grants, lambda: departed.append(1))
    departure.offer()
    add_due(second)
    second.begin_sync(0.0)
    assert outbox.flush() == []
    assert (first.ongoing, second.ongoing, departed) == (0, 0, [])
    departure.offer()
    assert not outbox.unsent
    second.end_sync()
    departure.offer()
    departure.offer()
    assert outbox.flush() == [response]
    assert (first.ongoing, second.ongoing, departed) == (1, 1, [1])


def test_a_departure_leaves_once() -> None:
    state = make_state(sync_while_io=False)
    response = Response(1, Pong())
    outbox = RecordingOutbox(lambda: 0.0)
    departure = Departure(outbox, response, (planned(state, GrantState.READY),), lambda: None)
    departure.offer()
    departure.offer()
    assert outbox.flush() == [response]
    departure.offer()
    assert not outbox.unsent
    assert state.ongoing == 1


def test_a_replaced_departure_starts_no_io() -> None:
    state = make_state()
    outbox = RecordingOutbox(lambda: 0.0)
    departure = Departure(outbox, Response(1, Pong()), (planned(state, GrantState.READY),), lambda: None)
    assert not departure.replace(Response(1, Pong(value=True)))
    departure.offer()
    assert departure.replace(None)
    assert outbox.flush() == []
    assert state.ongoing == 0


def test_a_grant_that_ended_meanwhile_does_not_become_ongoing() -> None:
    state = make_state(sync_while_io=False)
    gone = planned(state, GrantState.RESERVED)
    outbox = RecordingOutbox(lambda: 0.0)
    Departure(outbox, Response(1, Pong()), (gone,), lambda: None).offer()
    state.end(gone, 0.0, dirty=True)
    outbox.flush()
    assert (state.ongoing, len(state.grants)) == (0, 0)
    assert state.next_step(AGE)[0] is Step.SYNC


# Adaptive: before the thresholds, where waiting for them gains nothing.


def make_adaptive(*, sync_while_io: bool = True) -> DeviceState:
    state = make_state(sync_while_io=sync_while_io)
    state.adaptive = True
    return state


def released(state: DeviceState, now: float = 0.0) -> None:
    state.to_sync.add(SubRequest(1, 1), now)


def test_a_release_that_nobody_could_join_is_synced_at_once() -> None:
    state = make_adaptive()
    released(state)
    assert state.next_step(0.0)[0] is Step.SYNC
    assert state.begin_sync(0.0).cause is Cause.ALONE


@pytest.mark.parametrize("stage", [GrantState.PLANNED, GrantState.READY, GrantState.ONGOING])
def test_company_is_waited_for_up_to_the_thresholds(stage: GrantState) -> None:
    state = make_adaptive()
    company = planned(state, stage)
    state.scheduled.clear()
    released(state)
    assert state.next_step(0.0) == (Step.WAIT, AGE)
    assert state.sync_cause(AGE) is Cause.TIME
    state.end(company, 1.0, dirty=False)
    assert state.next_step(1.0)[0] is Step.SYNC
    assert state.begin_sync(1.0).cause is Cause.ALONE


def test_the_last_who_comes_joins_and_the_sync_is_due_then() -> None:
    state = make_adaptive()
    last = planned(state, GrantState.ONGOING)
    released(state)
    assert state.next_step(2.0)[0] is Step.WAIT
    state.end(last, 2.0, dirty=False)
    released(state, 2.0)
    assert state.next_step(2.0)[0] is Step.SYNC
    assert len(state.begin_sync(2.0).waiting) == 2


def test_who_comes_while_a_sync_runs_makes_up_the_next_group() -> None:
    state = make_adaptive()
    released(state)
    state.begin_sync(0.0)
    for _ in range(2):
        released(state, 0.5)
        assert state.next_step(0.5)[0] is Step.WAIT
    state.end_sync()
    assert state.next_step(1.0)[0] is Step.SYNC
    assert len(state.begin_sync(1.0).waiting) == 2


@pytest.mark.note("2.2", "4.5")
def test_a_partial_release_is_nobodys_company() -> None:
    state = make_adaptive()
    planned(state, GrantState.RESERVED)
    released(state)
    assert state.sync_cause(0.0) is Cause.ALONE


@pytest.mark.parametrize("sync_while_io", [True, False])
def test_a_reader_is_company_only_where_a_sync_excludes_io(sync_while_io: bool) -> None:
    state = make_adaptive(sync_while_io=sync_while_io)
    reader = planned(state, GrantState.ONGOING, kind=RequestKind.READ)
    released(state)
    assert state.sync_cause(0.0) is (Cause.ALONE if sync_while_io else None)
    state.end(reader, 1.0, dirty=False)
    assert state.sync_cause(1.0) is Cause.ALONE


def test_a_grant_that_is_held_for_long_is_nobodys_company_any_more() -> None:
    state = make_adaptive()
    planned(state, GrantState.ONGOING)
    released(state, LONG_IO * AGE)
    assert state.sync_cause(LONG_IO * AGE) is None
    assert state.sync_cause(LONG_IO * AGE + 0.5) is Cause.ALONE


def test_io_that_excludes_a_sync_is_waited_for_however_long_it_takes() -> None:
    state = make_adaptive(sync_while_io=False)
    planned(state, GrantState.ONGOING)
    released(state, 2 * LONG_IO * AGE)
    assert state.sync_cause(2 * LONG_IO * AGE) is None


def test_dirt_that_nobody_waits_for_can_wait_for_company() -> None:
    state = make_adaptive()
    state.to_sync.mark_dirty(0.0)
    assert state.next_step(0.0) == (Step.WAIT, AGE)


def test_those_who_may_be_sent_here_are_waited_for_until_that_is_decided() -> None:
    state = make_adaptive()
    coming = True
    state.newcomers = lambda: coming
    released(state)
    assert state.next_step(0.0) == (Step.WAIT, AGE)
    state.pass_over(0.0)
    assert state.next_step(0.0)[0] is Step.SYNC
    assert state.next_step(0.0)[0] is Step.SYNC
    state.begin_sync(0.0)
    state.end_sync()
    released(state)
    assert state.next_step(0.0)[0] is Step.WAIT
    coming = False
    assert state.next_step(0.0)[0] is Step.SYNC


def test_what_was_decided_before_the_last_promise_says_nothing() -> None:
    state = make_adaptive()
    state.newcomers = lambda: True
    state.pass_over(0.0)
    company = planned(state, GrantState.ONGOING)
    state.end(company, 0.0, dirty=False)
    released(state)
    assert state.next_step(0.0)[0] is Step.WAIT


def test_who_was_promised_a_place_in_the_last_pass_was_not_passed_over() -> None:
    state = make_adaptive()
    state.newcomers = lambda: True
    company = planned(state, GrantState.ONGOING)
    state.pass_over(0.0)
    released(state)
    state.end(company, 0.0, dirty=False)
    assert state.next_step(0.0)[0] is Step.WAIT


def test_a_sync_that_is_only_due_for_want_of_company_keeps_nobody_away() -> None:
    state = make_adaptive(sync_while_io=False)
    released(state)
    assert state.free_slots(0.0) == 2
    company = planned(state, GrantState.ONGOING)
    assert state.next_step(0.0)[0] is Step.WAIT
    state.end(company, 0.0, dirty=False)
    state.begin_sync(0.0)
    assert state.free_slots(0.0) == 0


def test_a_sync_is_due_once_the_drive_has_streamed_for_it_and_takes_the_slots_away() -> None:
    state = make_adaptive(sync_while_io=False)
    state.to_sync.thresholds = SyncThresholds(1000.0, 1000, 10**9)
    state.newcomers = lambda: True
    # A sync takes as long as the drive has to stream for it: 8 s, and one more for each file.
    state.streaming = Streaming(0.5, lambda files: 8.0 + files)
    write(state, 0.0, 5.0)
    second = writing(state, 5.0)
    assert state.free_slots(8.9) == 1
    assert state.next_step(8.9) == (Step.WAIT, 9.0)
    assert state.free_slots(9.0) == 0
    assert state.next_step(9.0)[0] is Step.WAIT
    state.end(second, 9.5, dirty=False)
    released(state, 9.5)
    assert state.sync_cause(9.5) is None
    write(state, 9.5, 11.5)
    assert state.next_step(11.5)[0] is Step.SYNC
    assert state.begin_sync(11.5).cause is Cause.STREAMING
    state.end_sync()
    write(state, 20.0, 28.9)
    assert state.sync_cause(100.0) is None


def writing(state: DeviceState, now: float) -> Grant:
    made = grant(state)
    state.plan(made, MEDIUM, now)
    state.scheduled.pop()
    state.move(made, GrantState.ONGOING, now)
    return made


def write(state: DeviceState, begun: float, ended: float) -> None:
    state.end(writing(state, begun), ended, dirty=False)
    released(state, ended)


@pytest.mark.note("11")
def test_a_stop_or_an_exchange_is_told_as_what_it_is() -> None:
    state = make_adaptive()
    planned(state, GrantState.ONGOING)
    released(state)
    state.stopping = True
    assert state.sync_cause(0.0) is Cause.DRAIN
    other = drive_state()
    other.adaptive = True
    released(other)
    planned_other(other)
    assert other.sync_cause(0.0) is Cause.EXCHANGE


# Any order of events.


class AnyOrder(RuleBasedStateMachine):
    """One device, driven as its task and the requests drive it, in any order that they could."""

    sync_while_io = True
    mix = True
    maximum = 3

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.state = make_state(sync_while_io=self.sync_while_io, maximum=self.maximum, mix=self.mix)
        self.group: SyncGroup | None = None
        self.formatting: FormatJob | None = None
        self.stopped = False
        self.planned: list[Grant] = []

    def grants(self, *states: GrantState) -> list[Grant]:
        return sorted((g for g in self.state.grants if g.state in states), key=self.planned.index)

    @rule(seconds=st.floats(0, 2 * AGE))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(kind=st.sampled_from([RequestKind.READ, RequestKind.WRITE]), size=st.integers(0, 5_000))
    def plan(self, kind: RequestKind, size: int) -> None:
        if self.state.free_slots(self.now) > 0 and self.state.accepts(kind):
            self.planned.append(grant(self.state, kind, size))
            self.state.plan(self.planned[-1], MEDIUM, self.now)

    @rule()
    def plan_format(self) -> None:
        if self.state.idle and self.state.free_slots(self.now) > 0:
            self.state.schedule_format(a_format())

    @rule()
    def step(self) -> None:
        step, until = self.state.next_step(self.now)
        match step:
            case Step.SYNC:
                assert self.state.to_sync.due(self.now) or self.state.stopping or self.early()
                assert self.sync_while_io or self.state.ongoing == 0
                assert self.group is None
                self.group = self.state.begin_sync(self.now)
            case Step.ACT:
                assert self.sync_while_io or self.group is None
                assert not self.state.stopping
                action = self.state.scheduled.popleft()
                if isinstance(action, FormatJob):
                    self.formatting = action
                elif isinstance(action, Prepare):
                    assert action.grant in self.state.grants
                    self.state.move(action.grant, GrantState.READY, self.now)
                else:
                    self.state.present = None
            case Step.STOP:
                assert self.group is None
                assert self.formatting is None
                assert not self.state.grants or self.state.error
                assert not self.state.to_sync.pending or self.state.error
                self.stopped = True
            case Step.WAIT:
                assert until > self.now
                blocked = self.group is not None or self.formatting is not None or self.state.error is not None
                if not blocked and (self.sync_while_io or not self.state.ongoing):
                    assert not self.state.to_sync.due(self.now)
                    assert until <= self.state.to_sync.deadline()
                    assert not self.early()

    def early(self) -> bool:
        """Whether a sync is due although no threshold is reached."""
        return False

    @precondition(lambda self: self.group is not None)
    @rule(failing=st.booleans())
    def sync_ends(self, failing: bool) -> None:
        assert self.group is not None
        if failing:
            error = OSError(errno.EIO, "disk")
            self.state.fail(error, self.now)
            for waiting in self.grants(GrantState.PLANNED, GrantState.READY):
                self.state.end(waiting, self.now, dirty=False)
            self.state.to_sync.take()
        self.group = None
        self.state.end_sync()

    @precondition(lambda self: self.formatting is not None)
    @rule()
    def format_ends(self) -> None:
        self.state.formatting = self.formatting = None

    @precondition(lambda self: self.grants(GrantState.READY))
    @rule(data=st.data())
    def departs(self, data: st.DataObject) -> None:
        chosen = data.draw(st.sampled_from(self.grants(GrantState.READY)))
        before = self.state.ongoing
        excluded = self.group is not None and not self.sync_while_io
        outbox = RecordingOutbox(lambda: 0.0)
        departure = Departure(outbox, Response(1, Pong()), (chosen,), lambda: None)
        departure.offer()
        outbox.flush()
        assert self.state.ongoing == before + (0 if excluded else 1)

    @precondition(lambda self: self.grants(GrantState.ONGOING))
    @rule(data=st.data(), partial=st.booleans(), size=st.integers(-500, 500), to_sync=st.booleans())
    def is_released(self, data: st.DataObject, partial: bool, size: int, to_sync: bool) -> None:
        chosen = data.draw(st.sampled_from(self.grants(GrantState.ONGOING)))
        if partial:
            self.state.move(chosen, GrantState.RESERVED, self.now)
        else:
            self.state.end(chosen, self.now, dirty=not to_sync)
        if self.state.error is None and (to_sync or partial):
            self.state.to_sync.add(SubRequest(size, 1), self.now, at_once=partial)

    @precondition(lambda self: self.grants(GrantState.RESERVED))
    @rule(data=st.data())
    def partial_release_answers(self, data: st.DataObject) -> None:
        if not self.state.excludes_io:
            chosen = data.draw(st.sampled_from(self.grants(GrantState.RESERVED)))
            self.state.move(chosen, GrantState.ONGOING, self.now)

    @precondition(lambda self: self.state.grants)
    @rule(data=st.data())
    def client_goes(self, data: st.DataObject) -> None:
        self.state.end(data.draw(st.sampled_from(self.grants(*GrantState))), self.now, dirty=data.draw(st.booleans()))

    @rule()
    def stop(self) -> None:
        self.state.stopping = True
        for waiting in self.grants(GrantState.PLANNED, GrantState.READY):
            self.state.end(waiting, self.now, dirty=False)
        for action in tuple(self.state.scheduled):
            if isinstance(action, FormatJob):
                assert self.state.withdraw_format(action)

    @invariant()
    def counts_are_those_of_the_grants(self) -> None:
        state = self.state
        assert 0 <= len(state.grants) <= self.maximum
        assert state.planned == len(self.grants(GrantState.PLANNED, GrantState.READY))
        assert state.ongoing == len(self.grants(GrantState.ONGOING))
        assert state.reserved == len(self.grants(GrantState.RESERVED))
        assert state.planned + state.ongoing + state.reserved == len(state.grants)
        assert 0 <= state.free_slots(self.now) <= self.maximum - len(state.grants) or not state.serving

    @invariant()
    def reserved_space_is_that_of_the_grants(self) -> None:
        assert self.state.volume.reserved == sum(held.size for held in self.state.grants)
        assert self.state.volume.available >= 0

    @invariant()
    def kinds_are_kept_apart_where_they_must(self) -> None:
        assert self.mix or len({held.kind for held in self.state.grants}) <= 1

    def teardown(self) -> None:
        """Whatever happened: when the clients give back and the task goes on, it ends."""
        self.stop()
        for _ in self._until_stopped():
            if self.group is not None:
                self.sync_ends(failing=False)
            if self.formatting is not None:
                self.format_ends()
            for held in self.grants(*GrantState):
                self.state.end(held, self.now, dirty=False)
            self.step()
        assert self.stopped

    def _until_stopped(self) -> Iterator[None]:
        for _ in range(10):
            if self.stopped:
                return
            yield


class AnyOrderExclusive(AnyOrder):
    sync_while_io = False
    mix = False


class AnyOrderOneAtATime(AnyOrder):
    sync_while_io = False
    maximum = 1


class AnyOrderAdaptive(AnyOrder):
    """A sync comes at the thresholds at the latest, and at once where nobody could join."""

    def __init__(self) -> None:
        super().__init__()
        self.coming = False
        self.state.adaptive = True
        self.state.newcomers = lambda: self.coming

    @rule(coming=st.booleans())
    def somebody_comes_or_not(self, coming: bool) -> None:
        self.coming = coming

    @precondition(lambda self: self.coming)
    @rule()
    def a_pass_finds_nobody(self) -> None:
        self.state.pass_over(self.now)

    def early(self) -> bool:
        live = self.grants(GrantState.PLANNED, GrantState.READY, GrantState.ONGOING)
        since = self.now - LONG_IO * self.state.to_sync.thresholds.age
        company = [
            grant
            for grant in live
            if not self.state.sync_while_io or (grant.kind is RequestKind.WRITE and grant.since >= since)
        ]
        decided = not self.coming or self.state.passed_over
        return len(self.state.to_sync) > 0 and not company and decided


class AnyOrderStreaming(AnyOrderAdaptive):
    """And when the drive has streamed for long enough."""

    sync_while_io = False

    def __init__(self) -> None:
        super().__init__()
        self.state.streaming = Streaming(0.5, lambda files: 2.0)
        self.io_s = 0.0

    @rule(seconds=st.floats(0, 2 * AGE))
    def time_passes(self, seconds: float) -> None:
        self.io_s += seconds * (self.state.ongoing > 0)
        super().time_passes(seconds)

    @rule()
    def step(self) -> None:
        group = self.group
        super().step()
        if self.group is not group and self.group is not None:
            self.io_s = 0.0

    def early(self) -> bool:
        # The machine adds up in another order than the state: what is within its rounding is either.
        streamed = self.state.sync_cause(self.now) is Cause.STREAMING if abs(self.io_s - 2) < 1e-6 else self.io_s > 2
        return super().early() or (streamed and len(self.state.to_sync) > 0)


MACHINE = settings(max_examples=50, stateful_step_count=30)
HELD = pytest.mark.note("2.3", "4.2", "4.3", "8", "9", "11")
TestAnyOrder = HELD(AnyOrder.TestCase)
TestAnyOrderExclusive = HELD(AnyOrderExclusive.TestCase)
TestAnyOrderOneAtATime = HELD(AnyOrderOneAtATime.TestCase)
TestAnyOrderAdaptive = HELD(AnyOrderAdaptive.TestCase)
TestAnyOrderStreaming = HELD(AnyOrderStreaming.TestCase)
for case in (
    TestAnyOrder,
    TestAnyOrderExclusive,
    TestAnyOrderOneAtATime,
    TestAnyOrderAdaptive,
    TestAnyOrderStreaming,
):
    case.settings = MACHINE
del case
