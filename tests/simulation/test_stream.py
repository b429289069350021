"""Connections without sockets: they have to behave as trio's streams do, and to break as Unix sockets do."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from random import Random

import pytest
import trio
import trio.testing

from lrs_trio.simulation.determinism import run_seeded
from lrs_trio.simulation.host.stream import LONGEST_S, StreamEnd, stream_pair

Story = Callable[[StreamEnd, StreamEnd], Awaitable[None]]


def play(story: Story, *, rooms: tuple[int, int] = (1000, 1000), seed: int = 1) -> None:
    async def main() -> None:
        ours, theirs = stream_pair(Random(seed), rooms=rooms)
        await story(ours, theirs)

    run_seeded(seed, main)


async def read_all(stream: StreamEnd) -> tuple[bytes, bool]:
    """Everything up to the end, and whether the connection is broken there."""
    received = b""
    try:
        while piece := await stream.receive_some():
            received += piece
    except trio.BrokenResourceError:
        return received, True
    return received, False


async def make_pair() -> tuple[StreamEnd, StreamEnd]:
    await trio.lowlevel.checkpoint()
    return stream_pair(Random(1))


async def make_clogged_pair() -> tuple[StreamEnd, StreamEnd]:
    """Of which no end can send."""
    ours, theirs = stream_pair(Random(1), rooms=(10, 10))
    await ours.send_all(b"x" * 10)
    await theirs.send_all(b"x" * 10)
    return ours, theirs


def test_it_obeys_the_rules_for_streams() -> None:
    async def main() -> None:
        await trio.testing.check_half_closeable_stream(make_pair, make_clogged_pair)

    run_seeded(1, main)


@pytest.mark.parametrize("seed", range(5))
def test_what_is_sent_arrives_in_pieces_or_several_at_once(seed: int) -> None:
    pieces: list[bytes | bytearray] = []

    async def story(ours: StreamEnd, theirs: StreamEnd) -> None:
        async with trio.open_nursery() as nursery:

            async def send() -> None:
                for number in range(200):
                    await ours.send_all(bytes([number]) * 20)
                    await trio.sleep(Random(number).choice((0, LONGEST_S)))
                await ours.aclose()

            nursery.start_soon(send)
            pieces.extend([piece async for piece in theirs])

    play(story, rooms=(1000, 1000), seed=seed)
    assert b"".join(pieces) == b"".join(bytes([number]) * 20 for number in range(200))
    assert any(len(piece) < 5 for piece in pieces)
    assert any(len(piece) > 20 for piece in pieces)


def test_no_more_is_received_than_was_asked_for() -> None:
    async def story(ours: StreamEnd, theirs: StreamEnd) -> None:
        await ours.send_all(b"abcdef")
        assert all([len(await theirs.receive_some(2)) <= 2 for _ in range(3)])
        with pytest.raises(ValueError, match="at least 1"):
            await theirs.receive_some(0)

    play(story)


def test_a_sender_waits_for_a_slow_reader() -> None:
    async def story(ours: StreamEnd, theirs: StreamEnd) -> None:
        with trio.move_on_after(60) as waiting:
            await ours.send_all(b"x" * 11)
        assert waiting.cancelled_caught
        assert len(await theirs.receive_some()) <= 10
        with trio.fail_after(60):
            await ours.send_all(b"y")

    play(story, rooms=(10, 10))


def test_each_direction_has_its_own_room() -> None:
    async def story(ours: StreamEnd, theirs: StreamEnd) -> None:
        with trio.fail_after(1):
            await ours.send_all(b"x" * 500)
        with trio.move_on_after(1) as waiting:
            await theirs.send_all(b"x" * 500)
        assert waiting.cancelled_caught

    play(story, rooms=(10, 500))


def test_what_was_sent_before_the_end_arrives() -> None:
    async def story(ours: StreamEnd, theirs: StreamEnd) -> None:
        await ours.send_all(b"last words")
        await ours.aclose()
        assert theirs.severed
        assert await read_all(theirs) == (b"last words", False)

    play(story)


def test_who_leaves_without_listening_breaks_the_connection() -> None:
    """A Unix socket that is closed with something unread in it gives its peer ECONNRESET."""

    async def story(ours: StreamEnd, theirs: StreamEnd) -> None:
        await theirs.send_all(b"an answer")
        await ours.send_all(b"last words")
        await ours.aclose()
        assert await read_all(theirs) == (b"last words", True)

    play(story)


def test_a_sender_that_waits_learns_that_the_other_end_is_gone() -> None:
    async def story(ours: StreamEnd, theirs: StreamEnd) -> None:
        async with trio.open_nursery() as nursery:

            async def send() -> None:
                with pytest.raises(trio.BrokenResourceError):
                    await ours.send_all(b"x" * 11)

            nursery.start_soon(send)
            await trio.testing.wait_all_tasks_blocked()
            theirs.close()

    play(story, rooms=(10, 10))


@pytest.mark.parametrize("loses", [False, True])
def test_a_hard_break_may_lose_what_is_on_its_way(loses: bool) -> None:
    async def story(ours: StreamEnd, theirs: StreamEnd) -> None:
        await theirs.send_all(b"answer")
        theirs.break_off(loses=loses)
        assert await read_all(ours) == (b"" if loses else b"answer", True)
        with pytest.raises(trio.ClosedResourceError):
            await theirs.send_all(b"more")

    play(story)


def test_nothing_of_a_dead_process_arrives() -> None:
    class DeadError(BaseException):
        pass

    async def main() -> None:
        alive = True

        def check() -> None:
            if not alive:
                raise DeadError

        ours, theirs = stream_pair(Random(1), rooms=(10, 10), check=check)
        await theirs.send_all(b"x" * 5)

        async def send() -> None:
            with pytest.raises(DeadError):
                await theirs.send_all(b"y" * 20)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            await trio.testing.wait_all_tasks_blocked()
            alive = False
            received = b""
            while len(received) < 10:
                received += await ours.receive_some()
        assert received == b"x" * 5 + b"y" * 5

    run_seeded(1, main)


def test_the_same_seed_cuts_in_the_same_way() -> None:
    def cuts(seed: int) -> list[int]:
        found: list[int] = []

        async def story(ours: StreamEnd, theirs: StreamEnd) -> None:
            await ours.send_all(b"x" * 1000)
            await ours.aclose()
            found.extend([len(piece) async for piece in theirs])

        play(story, seed=seed)
        return found

    assert cuts(3) == cuts(3)
    assert len({tuple(cuts(seed)) for seed in range(20)}) > 1
