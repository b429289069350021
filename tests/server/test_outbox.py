"""The response channel of one connection."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import trio
from trio.testing import MockClock

from lrs_trio.devices.departure import Departure
from lrs_trio.server.outbox import CHUNK, MOST_REPORTED, ResponseChannel
from lrs_trio.wire.codec import decode_response
from lrs_trio.wire.framing import FrameDecoder
from lrs_trio.wire.messages import (
    Configured,
    Monitored,
    Pong,
    Response,
    ResponseBody,
    Revoked,
    Statistics,
    StatusReport,
)


def pong(id: int) -> Response:
    return Response(id, Pong())


def channel_of(capacity: int) -> ResponseChannel:
    return ResponseChannel(capacity, lambda: None)


def ids(frames: bytes) -> list[int]:
    return [decode_response(message).request_id for message in FrameDecoder().feed(frames)]


@pytest.mark.note("2.2", "2.5e")
async def test_responses_leave_in_the_order_of_their_coming() -> None:
    channel = channel_of(10)
    for number in range(5):
        channel.respond(pong(number))
    assert ids(channel.take()) == list(range(5))
    assert len(channel) == 0


def test_somebody_is_called_with_the_first_response_after_all_have_been_taken() -> None:
    calls: list[int] = []
    channel = ResponseChannel(10, lambda: calls.append(len(channel)))
    channel.respond(pong(1))
    channel.respond(pong(2))
    assert calls == [1]
    assert ids(channel.take()) == [1, 2]
    assert channel.take() == b""
    channel.respond(pong(3))
    assert calls == [1, 1]


def test_a_closed_channel_takes_nothing_and_calls_nobody() -> None:
    calls: list[int] = []
    channel = ResponseChannel(10, lambda: calls.append(len(channel)))
    channel.respond(pong(1))
    channel.close()
    channel.respond(pong(2))
    assert ids(channel.take()) == [1]
    channel.respond(pong(3))
    assert channel.take() == b""
    assert calls == [1]


async def test_a_burst_is_cut_into_pieces_of_at_most_one_chunk() -> None:
    channel = channel_of(10)
    for number in range(10):
        channel.respond(Response(number, Monitored("x" * (CHUNK // 4))))
    sizes, seen = [], []
    while len(channel):
        frames = channel.take()
        sizes.append(len(frames))
        seen += ids(frames)
    assert seen == list(range(10))
    assert max(sizes) <= CHUNK
    assert len(sizes) == 4


async def test_a_response_larger_than_a_chunk_leaves_whole() -> None:
    channel = channel_of(10)
    channel.respond(Response(7, Monitored("x" * (5 * CHUNK))))
    assert ids(channel.take()) == [7]


@pytest.mark.note("2.2")
async def test_room_is_there_again_when_responses_have_left(autojump_clock: MockClock) -> None:
    channel = channel_of(3)
    for number in range(3):
        assert not channel.full
        channel.respond(pong(number))
    assert channel.full
    with trio.move_on_after(100) as waiting:
        await channel.wait_room()
    assert waiting.cancelled_caught
    async with trio.open_nursery() as nursery:
        nursery.start_soon(channel.wait_room)
        await trio.testing.wait_all_tasks_blocked()
        channel.take()
    assert not channel.full


@pytest.mark.parametrize("report", [Monitored, Configured, Statistics, StatusReport, Revoked])
async def test_few_long_reports_leave_no_room_either(
    autojump_clock: MockClock, report: Callable[[str], ResponseBody]
) -> None:
    channel = channel_of(1000)
    channel.respond(Response(1, report("x" * MOST_REPORTED)))
    channel.respond(Response(2, Configured()))
    assert not channel.full
    channel.respond(Response(3, report("x")))
    assert channel.full
    async with trio.open_nursery() as nursery:
        nursery.start_soon(channel.wait_room)
        assert ids(channel.take()) == [1]
        # Until all of them have left.
        assert channel.full
        assert ids(channel.take()) == [2, 3]
    assert not channel.full


async def test_closing_lets_a_reader_that_waits_for_room_go() -> None:
    channel = channel_of(1)
    channel.respond(pong(1))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(channel.wait_room)
        await trio.testing.wait_all_tasks_blocked()
        channel.close()
    assert not channel.full


@pytest.mark.note("9")
async def test_taking_is_the_moment_at_which_a_response_leaves() -> None:
    channel = channel_of(10)
    departed: list[str] = []
    departure = Departure(channel, pong(1), (), lambda: departed.append("now"))
    departure.offer()
    assert departed == []
    assert ids(channel.take()) == [1]
    assert departed == ["now"]


async def test_whoever_wants_to_know_is_told_what_leaves() -> None:
    channel = channel_of(10)
    told: list[Response] = []
    channel.on_departure = told.append
    withdrawn = Departure(channel, pong(1), (), lambda: None)
    withdrawn.offer()
    channel.respond(pong(2))
    assert withdrawn.replace(None)
    assert told == []
    channel.take()
    assert told == [pong(2)]


def test_a_departure_that_has_nothing_to_say_leaves_nothing_behind() -> None:
    channel = channel_of(1)
    departure = Departure(channel, pong(1), (), lambda: None)
    departure.offer()
    assert departure.replace(None)
    assert channel.take() == b""
    assert not channel.full
    channel.respond(pong(2))
    assert ids(channel.take()) == [2]
