"""Reports: one for all who ask for the same, made in pieces between which others have their turns."""

from __future__ import annotations

import errno
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from lrs_trio.errors import LrsError
from lrs_trio.model import RequestKind
from lrs_trio.scheduling.client import Client
from lrs_trio.server.outbox import MOST_PROMISED, ResponseChannel
from lrs_trio.server.reports import AS_ASCII, AS_IT_IS, ELEMENTS, SENDING_S, Report, Reports, json_pieces
from lrs_trio.server.turnstile import PAUSE, TURN_S
from lrs_trio.wire.framing import MAX_FRAME_BYTES
from lrs_trio.wire.messages import Failed, Request, Response, Stat, Statistics, Status, StatusReport, report_text
from tests.fakes.outbox import RecordingOutbox

LAZY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda parts: st.lists(parts, max_size=3 * ELEMENTS) | st.dictionaries(st.text(max_size=3), parts, max_size=4),
    max_leaves=50,
)


def lazy(value: Any) -> Any:
    """The same with iterators in place of lists, but for those that stand in lists of plain values."""
    if isinstance(value, dict):
        return {key: lazy(item) for key, item in value.items()}
    return map(lazy, value) if isinstance(value, list) else value


@given(LAZY)
def test_what_is_made_in_pieces_is_what_would_be_made_at_once(value: Any) -> None:
    for encode, ensure_ascii in ((AS_ASCII, True), (AS_IT_IS, False)):
        assert "".join(json_pieces(lazy(value), encode)) == json.dumps(value, ensure_ascii=ensure_ascii)
        assert "".join(json_pieces(value, encode)) == json.dumps(value, ensure_ascii=ensure_ascii)


def test_a_piece_is_as_long_as_a_few_elements() -> None:
    pieces = list(json_pieces({"all": iter(range(10 * ELEMENTS))}, AS_ASCII))
    assert max(map(len, pieces)) <= len(AS_ASCII(list(range(9 * ELEMENTS, 10 * ELEMENTS))))


def test_elements_are_made_when_their_turn_comes() -> None:
    made: list[int] = []

    def elements() -> Iterator[int]:
        for number in range(100):
            made.append(number)
            yield number

    pieces = json_pieces(elements(), AS_ASCII)
    next(pieces)
    assert len(made) <= ELEMENTS


# Who is answered, and when.


@dataclass
class Desk:
    """Reports with as many pieces as one likes, each of which takes `piece_s` seconds."""

    clock: MockClock
    nursery: trio.Nursery
    piece_s: float = 0.0
    pieces: int = 1
    made: list[Any] = field(default_factory=list)
    asked: int = 0

    def __post_init__(self) -> None:
        kinds = {
            Stat: Report(self._make, Statistics, self._check, RequestKind.STAT),
            Status: Report(self._make, StatusReport, lambda body: None),
        }
        self.reports = Reports(kinds)
        self.nursery.start_soon(self.reports.run)

    def _check(self, body: Stat) -> None:
        if body.tags == "wrong":
            raise LrsError(errno.EINVAL, "no filter")

    def _make(self, body: Any) -> Iterator[str]:
        self.made.append(body)
        for number in range(self.pieces):
            self.clock.jump(self.piece_s)
            yield f"{number} "

    def ask(self, body: Stat | Status, *, uid: int = 0) -> RecordingOutbox:
        outbox = RecordingOutbox()
        self.nursery.start_soon(outbox.serve)
        self.asked += 1
        self.reports.ask(Client(self.asked, outbox, pid=1, uid=uid), Request(self.asked, body))
        return outbox


@asynccontextmanager
async def desk(clock: MockClock, **options: Any) -> AsyncIterator[Desk]:
    async with trio.open_nursery() as nursery:
        yield Desk(clock, nursery, **options)
        nursery.cancel_scope.cancel()


async def answered(outbox: RecordingOutbox) -> tuple[float, Response]:
    """When `outbox` has got its answer, and which."""
    await outbox.wait_sent(1)
    (sent,) = outbox.sent
    return sent


async def test_all_who_have_asked_get_the_same_report(autojump_clock: MockClock) -> None:
    async with desk(autojump_clock) as reports:
        outboxes = [reports.ask(body) for _ in range(100) for body in (Status(), Stat(), Stat(ns="dev"))]
        for number, outbox in enumerate(outboxes, 1):
            assert (await answered(outbox))[1].request_id == number
        assert reports.made == [Status(), Stat(), Stat(ns="dev")]


async def test_who_asks_while_a_report_is_made_gets_the_next_one(autojump_clock: MockClock) -> None:
    async with desk(autojump_clock, piece_s=2 * TURN_S, pieces=10) as reports:
        first = reports.ask(Status())
        while not reports.made:
            await trio.lowlevel.checkpoint()
        second = reports.ask(Status())
        begun = trio.current_time()
        assert (await answered(second))[0] > (await answered(first))[0] >= begun
        assert len(reports.made) == 2


async def test_others_have_turns_while_a_report_is_made(autojump_clock: MockClock) -> None:
    async with desk(autojump_clock, piece_s=TURN_S, pieces=100) as reports:
        outbox = reports.ask(Status())
        turns = 0
        while not outbox.sent:
            await trio.lowlevel.checkpoint()
            turns += 1
        assert turns >= 100


async def test_reports_take_a_share_of_the_time_however_many_ask(autojump_clock: MockClock) -> None:
    async with desk(autojump_clock, piece_s=0.01, pieces=5) as reports:
        begun = trio.current_time()
        outboxes = [reports.ask(Stat(ns=str(number))) for number in range(20)]
        last = max([(await answered(outbox))[0] for outbox in outboxes])
        each = 5 * 0.01
        assert last - begun >= 20 * each + 19 * each * PAUSE


async def test_what_is_sent_is_paced_too(autojump_clock: MockClock) -> None:
    async with desk(autojump_clock, pieces=100_000) as reports:
        outboxes = [reports.ask(Status()) for _ in range(10)]
        answers = [await answered(outbox) for outbox in outboxes]
        (size,) = {len(report_text(response.body) or "") for _, response in answers}
        assert answers[-1][0] - answers[0][0] == pytest.approx(9 * size * SENDING_S)


async def test_one_that_asks_now_and_then_waits_for_nothing(autojump_clock: MockClock) -> None:
    async with desk(autojump_clock, piece_s=TURN_S, pieces=10) as reports:
        for _ in range(10):
            begun = trio.current_time()
            assert (await answered(reports.ask(Status())))[0] - begun == pytest.approx(10 * TURN_S)
            await trio.sleep(1)


async def test_a_report_that_is_too_long_is_an_error_and_the_next_one_is_made(autojump_clock: MockClock) -> None:
    async with desk(autojump_clock, pieces=MAX_FRAME_BYTES // 6) as reports:
        assert (await answered(reports.ask(Stat())))[1].body == Failed(-errno.EMSGSIZE, RequestKind.STAT)
        reports.pieces = 1
        assert (await answered(reports.ask(Stat())))[1].body == Statistics("0 ")


async def test_what_cannot_be_made_is_refused_at_once_and_not_kept(autojump_clock: MockClock) -> None:
    async with desk(autojump_clock) as reports:
        with pytest.raises(LrsError):
            reports.ask(Stat(tags="wrong"))
        assert reports.made == []


async def test_users_take_turns_however_much_one_of_them_asks(autojump_clock: MockClock) -> None:
    async with desk(autojump_clock, piece_s=0.01) as reports:
        for number in range(1000):
            reports.ask(Stat(ns=str(number)), uid=7)
        same = reports.ask(Stat(ns="0"), uid=8)
        await answered(reports.ask(Status()))
        assert len(reports.made) <= 3
        await answered(same)
        assert reports.made.count(Stat(ns="0")) == 1


# What an outbox does with promises.


class Channel:
    """A response channel, and whether somebody who waits for it has gone on."""

    def __init__(self) -> None:
        self.channel = ResponseChannel(100, lambda: None)
        self.went_on = False

    async def wait(self, wait: Callable[[], Any]) -> None:
        await wait()
        self.went_on = True


ANSWER = Response(1, StatusReport("{}"))


async def test_no_more_is_taken_while_many_reports_are_promised() -> None:
    made = Channel()
    async with trio.open_nursery() as nursery:
        for number in range(MOST_PROMISED):
            assert not made.channel.full, number
            made.channel.promise()
        assert made.channel.full
        nursery.start_soon(made.wait, made.channel.wait_room)
        await wait_all_tasks_blocked()
        assert not made.went_on
        made.channel.keep(ANSWER)
        await wait_all_tasks_blocked()
        assert made.went_on


def test_one_that_is_closed_has_room_for_everything() -> None:
    channel = ResponseChannel(100, lambda: None)
    for _ in range(MOST_PROMISED):
        channel.promise()
    channel.discard()
    assert not channel.full


@pytest.mark.parametrize("close", [False, True])
async def test_a_connection_ends_when_its_promises_are_kept_or_nobody_reads(close: bool) -> None:
    made = Channel()
    async with trio.open_nursery() as nursery:
        for _ in range(2):
            made.channel.promise()
        nursery.start_soon(made.wait, made.channel.wait_kept)
        await wait_all_tasks_blocked()
        made.channel.keep(ANSWER)
        await wait_all_tasks_blocked()
        assert not made.went_on
        if close:
            made.channel.discard()
        else:
            made.channel.keep(ANSWER)
        await wait_all_tasks_blocked()
        assert made.went_on
