"""The frames of the fuzzer, in small: whatever is sent, only its own connection may end, and only if it must."""

from __future__ import annotations

from random import Random

import pytest
import trio
from trio.testing import MockClock

from benchmarks.hostile.frames import FATAL_PART, Frame, FrameMaker
from lrs_trio.model import Family
from lrs_trio.wire.messages import Ping, Pong, WriteAllocation, WriteGranted, WriteMedium
from tests.fakes.house import house_of
from tests.fakes.peer import Peer, door_of
from tests.fakes.site import medium_id

A, B = "/srv/a", "/srv/b"
COUNT = 300


def pool(seed: int, count: int = COUNT) -> tuple[list[Frame], list[Frame]]:
    return FrameMaker(Random(seed), [medium_id(A)], [medium_id(B)]).pool(count)


def test_a_seed_makes_the_same_frames_again() -> None:
    assert pool(1) == pool(1)
    assert pool(1) != pool(2)


def test_most_frames_leave_their_connection_open() -> None:
    frames, fatal = pool(3, 10 * FATAL_PART)
    assert len(frames) == 10 * FATAL_PART
    assert len(fatal) in (10, 11)


@pytest.mark.parametrize("seed", range(10))
async def test_a_connection_ends_after_what_is_not_the_protocol_and_never_else(
    autojump_clock: MockClock, seed: int
) -> None:
    frames, fatal = pool(seed)
    async with house_of(A, B) as house, door_of(house) as door:
        honest, hostile = door.connect(), door.connect()
        for frame in frames:
            await hostile.stream.send_all(frame.data)
        await read_while_open(hostile)
        for frame in fatal:
            hostile = door.connect()
            await hostile.stream.send_all(frame.data)
            if frame.is_half:
                assert isinstance(hostile.stream, trio.StapledStream)
                await hostile.stream.send_eof()
            await hostile.receive_all()
        await honest.send((1, Ping()))
        assert (await honest.receive()).body == Pong()
        await honest.send((2, WriteAllocation((WriteMedium(1),), Family.DIR)))
        assert isinstance((await honest.receive()).body, WriteGranted)


async def read_while_open(peer: Peer) -> None:
    """Read all that comes; fails if the daemon closes the connection."""
    while True:
        with trio.move_on_after(1) as quiet:
            await peer.receive_some()
        if quiet.cancelled_caught:
            return
