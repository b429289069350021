"""Clients that die at a moment of the simulation's choice."""

from __future__ import annotations

from random import Random

import pytest
import trio
import trio.testing

from lrs_trio.simulation.clients.mortal import MortalStream


class Pair:
    """A mortal process, and what it has sent to the other end."""

    def __init__(self, seed: int = 1) -> None:
        ours, self.theirs = trio.testing.memory_stream_pair()
        self.mortal = MortalStream(ours, Random(seed))

    async def arrived(self) -> bytes:
        """All that was sent before the end of the stream."""
        await self.mortal.aclose()
        received = b""
        while data := await self.theirs.receive_some():
            received += data
        return received


async def test_what_the_living_send_arrives(autojump_clock: trio.testing.MockClock) -> None:
    pair = Pair()
    with pair.mortal.life:
        await pair.mortal.send_all(b"whole")
        await pair.theirs.send_all(b"answer")
        assert await pair.mortal.receive_some() == b"answer"
    assert not pair.mortal.life.cancelled_caught
    assert await pair.arrived() == b"whole"


async def test_nothing_of_the_dead_arrives(autojump_clock: trio.testing.MockClock) -> None:
    pair = Pair()
    with pair.mortal.life, trio.CancelScope(shield=True):
        pair.mortal.kill()
        with pytest.raises(trio.BrokenResourceError):
            await pair.mortal.send_all(b"last words")
        with pytest.raises(trio.BrokenResourceError):
            await pair.mortal.receive_some()
    assert await pair.arrived() == b""


async def test_the_doomed_die_with_a_part_of_their_last_words(autojump_clock: trio.testing.MockClock) -> None:
    lengths = set()
    for seed in range(50):
        pair = Pair(seed)
        with pair.mortal.life:
            await pair.mortal.send_all(b"before ")
            pair.mortal.doom()
            await pair.mortal.send_all(b"last words")
        assert pair.mortal.life.cancelled_caught
        arrived = await pair.arrived()
        assert b"before last words".startswith(arrived)
        lengths.add(len(arrived))
    assert lengths == set(range(len(b"before "), len(b"before last words")))


async def test_a_process_lives_no_longer_than_the_shortest_of_its_terms(autojump_clock: trio.testing.MockClock) -> None:
    pair = Pair()
    pair.mortal.kill_in(20)
    pair.mortal.kill_in(5)
    pair.mortal.kill_in(60)
    with pair.mortal.life:
        await trio.sleep(100)
    assert pair.mortal.life.cancelled_caught
    assert trio.current_time() == 5
