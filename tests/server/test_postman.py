"""The postman: who is called upon when, and that nobody is held up by another."""

from __future__ import annotations

from itertools import pairwise

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from lrs_trio.server.postman import Postman


class Client:
    """Has so many pieces to send, and notes when it was its turn."""

    def __init__(self, name: str, pieces: int, turns: list[str]) -> None:
        self.name = name
        self.pieces = pieces
        self.turns = turns

    def send_some(self) -> bool:
        self.turns.append(self.name)
        self.pieces -= 1
        return self.pieces > 0


@pytest.fixture
async def postman(nursery: trio.Nursery) -> Postman:
    made = Postman()
    nursery.start_soon(made.run)
    await wait_all_tasks_blocked()
    return made


@pytest.mark.note("2.2")
async def test_all_who_call_are_served_in_the_order_of_their_calls(postman: Postman) -> None:
    turns: list[str] = []
    for name in "abc":
        postman.call(Client(name, 1, turns))
    assert turns == []
    await wait_all_tasks_blocked()
    assert turns == ["a", "b", "c"]


async def test_who_has_much_to_send_waits_for_all_others_before_its_next_piece(postman: Postman) -> None:
    turns: list[str] = []
    postman.call(Client("long", 3, turns))
    postman.call(Client("short", 1, turns))
    await wait_all_tasks_blocked()
    assert turns == ["long", "short", "long", "long"]


async def test_others_get_their_turn_between_two_pieces(postman: Postman) -> None:
    turns: list[str] = []
    postman.call(Client("long", 50, turns))
    seen = [0]
    while len(turns) < 50:
        await trio.lowlevel.checkpoint()
        seen.append(len(turns))
    # In each turn of the loop, whose tasks are in no order, it sends one piece.
    assert max(later - earlier for earlier, later in pairwise(seen)) <= 2


async def test_who_calls_while_others_are_served_is_served_next(postman: Postman) -> None:
    turns: list[str] = []
    late = Client("late", 1, turns)

    class Caller(Client):
        def send_some(self) -> bool:
            postman.call(late)
            return super().send_some()

    postman.call(Caller("first", 1, turns))
    postman.call(Client("second", 1, turns))
    await wait_all_tasks_blocked()
    assert turns == ["first", "second", "late"]
