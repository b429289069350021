from __future__ import annotations

import errno
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from lrs_trio.storage.library_status import parse_elements
from lrs_trio.tlc.controller import LOOK_AGAIN_SECONDS, Controller
from lrs_trio.wire import tlc
from tests.tlc.conftest import FakeChanger, stuck

GONE = OSError(errno.ENODEV, "the changer has gone")


@asynccontextmanager
async def at_work(changer: FakeChanger) -> AsyncIterator[Controller]:
    controller = Controller(changer)
    await controller.open()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(controller.run)
        yield controller
        nursery.cancel_scope.cancel()


def refusal(answer: tlc.ResponseBody) -> tuple[int, dict[str, Any]]:
    assert isinstance(answer, tlc.Failed)
    return -answer.rc, json.loads(answer.message or "{}")


def is_down(answer: tlc.ResponseBody) -> bool:
    number, message = refusal(answer)
    return (number, *message) == (errno.EBADF, "NO_AVAILABLE_LIB_DEVICE")


class Asked:
    """A request that is under way."""

    def __init__(self, controller: Controller, body: tlc.RequestBody, nursery: trio.Nursery) -> None:
        self.answer: tlc.ResponseBody | None = None
        self.at = 0.0
        self.scope = trio.CancelScope()
        nursery.start_soon(self._ask, controller, body)

    async def _ask(self, controller: Controller, body: tlc.RequestBody) -> None:
        with self.scope:
            self.answer = await controller.answer(body)
            self.at = trio.current_time()


# What is asked for


async def test_a_drive_is_looked_up_in_what_is_known(autojump_clock: MockClock) -> None:
    changer = FakeChanger()
    async with at_work(changer) as controller:
        assert await controller.answer(tlc.LookUp("S1")) == tlc.Found(256, 256, "P3")
        assert await controller.answer(tlc.LookUp("S2")) == tlc.Found(257, 256, None)
        assert refusal(await controller.answer(tlc.LookUp("S9"))) == (errno.ENOENT, {"DRIVE_SERIAL_UNKNOWN": "S9"})
    assert changer.looks == 1


async def test_a_medium_without_a_label_is_not_taken_for_none(autojump_clock: MockClock) -> None:
    changer = FakeChanger()
    changer.places[1002] = changer.places[1003]
    async with at_work(changer) as controller:
        await controller.answer(tlc.Unload("S1"))
        changer.places[256] = type(changer.places[256])(changer.places[256].kind, 256, True, None, None, "S1")
        await controller.answer(tlc.Refresh())
        assert await controller.answer(tlc.LookUp("S1")) == tlc.Found(256, 256, "")


async def test_a_medium_is_brought_and_put_back(autojump_clock: MockClock) -> None:
    changer = FakeChanger()
    async with at_work(changer) as controller:
        assert await controller.answer(tlc.Load("S2", "P1")) == tlc.Loaded()
        assert await controller.answer(tlc.LookUp("S2")) == tlc.Found(257, 256, "P1")
        assert await controller.answer(tlc.Unload("S2", "P1")) == tlc.Unloaded("P1", 1001)
        assert await controller.answer(tlc.LookUp("S2")) == tlc.Found(257, 256, None)
        assert await controller.answer(tlc.Unload("S2")) == tlc.Unloaded("", 0)
        assert await controller.answer(tlc.Unload("S1")) == tlc.Unloaded("P3", 1003)
    assert changer.moves == [(1001, 257), (257, 1001), (256, 1003)]
    assert changer.looks == 1


async def test_what_cannot_be_is_refused_without_the_robot(autojump_clock: MockClock) -> None:
    changer = FakeChanger()
    async with at_work(changer) as controller:
        assert refusal(await controller.answer(tlc.Load("S1", "P1")))[0] == errno.EBUSY
        assert refusal(await controller.answer(tlc.Load("S2", "PX"))) == (errno.ENOENT, {"MEDIA_LABEL_UNKNOWN": "PX"})
        assert refusal(await controller.answer(tlc.Unload("S1", "P1")))[0] == errno.EINVAL
        assert refusal(await controller.answer(tlc.Unload("S9"))) == (errno.ENOENT, {"DRIVE_UNKNOWN_SERIAL": "S9"})
    assert changer.moves == []


async def test_the_status_is_what_is_known_and_a_refresh_asks_the_library(autojump_clock: MockClock) -> None:
    changer = FakeChanger()
    async with at_work(changer) as controller:
        moved = changer.places.pop(1002)
        known = await controller.answer(tlc.Status())
        assert isinstance(known, tlc.Elements)
        assert moved in parse_elements(known.elements)
        fresh = await controller.answer(tlc.Status(refresh=True))
        assert isinstance(fresh, tlc.Elements)
        assert set(parse_elements(fresh.elements)) == set(changer.places.values())
        assert await controller.answer(tlc.Refresh()) == tlc.Refreshed()
    assert changer.looks == 3


async def test_every_request_is_counted(autojump_clock: MockClock) -> None:
    async with at_work(FakeChanger()) as controller:
        for body in (tlc.Ping(), tlc.LookUp("S9"), tlc.Load("S9", "P1"), tlc.Unload("S9"), tlc.Status(), tlc.Refresh()):
            await controller.answer(body)
            await controller.answer(body)
        answer = await controller.answer(tlc.Stat())
        assert isinstance(answer, tlc.Statistics)
        assert json.loads(answer.stats) == [
            {"name": "req.count", "tags": f"request={name}", "value": value}
            for name, value in (
                ("PING", 2),
                ("DRIVE_LOOKUP", 2),
                ("LOAD", 2),
                ("UNLOAD", 2),
                ("STATUS", 2),
                ("REFRESH", 2),
                ("STAT", 1),
            )
        ]
        only = await controller.answer(tlc.Stat("req", None, "request=load"))
        assert isinstance(only, tlc.Statistics)
        assert len(json.loads(only.stats)) == 1
        assert refusal(await controller.answer(tlc.Stat(tags="nonsense")))[0] == errno.EINVAL


# One thing at a time


async def test_moves_wait_for_each_other_and_nothing_else_waits(autojump_clock: MockClock) -> None:
    changer = FakeChanger()
    async with at_work(changer) as controller, trio.open_nursery() as nursery:
        unload = Asked(controller, tlc.Unload("S1"), nursery)
        await trio.testing.wait_all_tasks_blocked()
        load = Asked(controller, tlc.Load("S2", "P1"), nursery)
        await trio.sleep(5)
        assert await controller.answer(tlc.Ping()) == tlc.Pong(True)
        assert await controller.answer(tlc.LookUp("S2")) == tlc.Found(257, 256, None)
        assert isinstance(await controller.answer(tlc.Status()), tlc.Elements)
        assert isinstance(await controller.answer(tlc.Stat()), tlc.Statistics)
        assert trio.current_time() == 5
    assert (unload.at, load.at) == (10, 20)
    assert (unload.answer, load.answer) == (tlc.Unloaded("P3", 1003), tlc.Loaded())
    assert changer.checks == 0


async def test_a_drive_that_is_being_loaded_is_looked_up_when_that_has_ended(autojump_clock: MockClock) -> None:
    async with at_work(FakeChanger()) as controller, trio.open_nursery() as nursery:
        load = Asked(controller, tlc.Load("S2", "P1"), nursery)
        await trio.sleep(5)
        load.scope.cancel()  # its client has gone, and asks what has become of it
        assert await controller.answer(tlc.LookUp("S2")) == tlc.Found(257, 256, "P1")
        assert trio.current_time() == 10
    assert load.answer is None


async def test_a_move_that_has_not_begun_is_not_done_for_somebody_who_has_gone(autojump_clock: MockClock) -> None:
    changer = FakeChanger()
    async with at_work(changer) as controller, trio.open_nursery() as nursery:
        Asked(controller, tlc.Unload("S1"), nursery)
        await trio.testing.wait_all_tasks_blocked()
        load = Asked(controller, tlc.Load("S2", "P1"), nursery)
        await trio.sleep(5)
        load.scope.cancel()
        await controller.answer(tlc.Refresh())
    assert changer.moves == [(256, 1003)]


async def test_a_move_is_decided_when_its_turn_has_come(autojump_clock: MockClock) -> None:
    async with at_work(FakeChanger()) as controller, trio.open_nursery() as nursery:
        first = Asked(controller, tlc.Load("S2", "P1"), nursery)
        await trio.testing.wait_all_tasks_blocked()
        second = Asked(controller, tlc.Load("S2", "P2"), nursery)
        await trio.testing.wait_all_tasks_blocked()
        third = Asked(controller, tlc.Unload("S2", "P1"), nursery)
        await trio.testing.wait_all_tasks_blocked()
        fourth = Asked(controller, tlc.Load("S2", "P2"), nursery)
    assert first.answer == fourth.answer == tlc.Loaded()
    assert second.answer is not None
    assert refusal(second.answer)[0] == errno.EBUSY
    assert third.answer == tlc.Unloaded("P1", 1001)


async def test_the_library_is_not_asked_twice_at_once_whether_it_is_up(autojump_clock: MockClock) -> None:
    changer = FakeChanger()
    changer.check_seconds = 5.0
    async with at_work(changer) as controller, trio.open_nursery() as nursery:
        first = Asked(controller, tlc.Ping(), nursery)
        await trio.sleep(1)
        assert await controller.answer(tlc.Ping()) == tlc.Pong(True)
        assert trio.current_time() == 1
    assert (first.answer, first.at) == (tlc.Pong(True), 5)
    assert changer.checks == 1


# A library that fails


async def test_a_move_that_fails_says_why_and_what_is_where_is_looked_at(autojump_clock: MockClock) -> None:
    changer = FakeChanger()
    async with at_work(changer) as controller:
        changer.failure = stuck()
        assert refusal(await controller.answer(tlc.Load("S2", "P1"))) == (errno.EIO, {"gripper": "stuck"})
        assert changer.looks == 2
        changer.failure = None
        assert await controller.answer(tlc.Load("S2", "P1")) == tlc.Loaded()


async def test_a_library_that_cannot_say_what_is_where_is_down(
    autojump_clock: MockClock,
) -> None:
    changer = FakeChanger()
    async with at_work(changer) as controller:
        changer.failure = changer.broken = GONE
        assert is_down(await controller.answer(tlc.Load("S2", "P1")))
        assert is_down(await controller.answer(tlc.LookUp("S1")))
        assert is_down(await controller.answer(tlc.Unload("S1")))
        assert is_down(await controller.answer(tlc.Status()))
        assert await controller.answer(tlc.Ping()) == tlc.Pong(False)
        assert len(changer.moves) == 1


async def test_a_refresh_that_fails_is_an_error_and_the_controller_lives_on(autojump_clock: MockClock) -> None:
    changer = FakeChanger()
    async with at_work(changer) as controller:
        changer.broken = GONE
        assert refusal(await controller.answer(tlc.Refresh())) == (errno.ENODEV, {"error": "the changer has gone"})
        assert refusal(await controller.answer(tlc.Status(refresh=True)))[0] == errno.ENODEV
        assert await controller.answer(tlc.Ping()) == tlc.Pong(False)
        assert isinstance(await controller.answer(tlc.Stat()), tlc.Statistics)
        changer.broken = None
        assert await controller.answer(tlc.Refresh()) == tlc.Refreshed()
        assert await controller.answer(tlc.LookUp("S1")) == tlc.Found(256, 256, "P3")


async def test_a_library_that_answers_a_ping_again_is_looked_at_and_up(autojump_clock: MockClock) -> None:
    changer = FakeChanger()
    async with at_work(changer) as controller:
        changer.broken = GONE
        assert await controller.answer(tlc.Ping()) == tlc.Pong(False)
        assert is_down(await controller.answer(tlc.LookUp("S1")))
        changer.broken = None
        del changer.places[1002]
        assert await controller.answer(tlc.Ping()) == tlc.Pong(True)
        assert refusal(await controller.answer(tlc.Load("S2", "P2")))[0] == errno.ENOENT


async def test_a_library_that_is_down_is_looked_at_again_by_and_by(
    autojump_clock: MockClock,
) -> None:
    changer = FakeChanger()
    async with at_work(changer) as controller:
        changer.broken = GONE
        await controller.answer(tlc.Refresh())
        changer.broken = None
        for second in range(1, int(LOOK_AGAIN_SECONDS)):
            await trio.sleep(1)
            assert is_down(await controller.answer(tlc.Unload("S1"))), second
        await trio.sleep(1.5)
        assert await controller.answer(tlc.LookUp("S1")) == tlc.Found(256, 256, "P3")
        looks = changer.looks
        await trio.sleep(10 * LOOK_AGAIN_SECONDS)
        assert changer.looks == looks


async def test_a_library_that_does_not_answer_at_first_is_no_start(autojump_clock: MockClock) -> None:
    changer = FakeChanger()
    changer.broken = GONE
    with pytest.raises(OSError, match="the changer has gone"):
        await Controller(changer).open()


# The end


async def test_a_drain_ends_the_move_under_way_and_refuses_those_that_wait(autojump_clock: MockClock) -> None:
    changer = FakeChanger()
    controller = Controller(changer)
    await controller.open()
    async with trio.open_nursery() as asking:
        async with trio.open_nursery() as robot:
            robot.start_soon(controller.run)
            unload = Asked(controller, tlc.Unload("S1"), asking)
            await trio.testing.wait_all_tasks_blocked()
            load = Asked(controller, tlc.Load("S2", "P1"), asking)
            await trio.sleep(5)
            controller.drain()
            assert refusal(await controller.answer(tlc.Load("S2", "P2")))[0] == errno.ESHUTDOWN
            assert refusal(await controller.answer(tlc.Refresh()))[0] == errno.ESHUTDOWN
            assert await controller.answer(tlc.Ping()) == tlc.Pong(True)
            assert await controller.answer(tlc.LookUp("S2")) == tlc.Found(257, 256, None)
        assert trio.current_time() == 10
    assert unload.answer == tlc.Unloaded("P3", 1003)
    assert load.answer is not None
    assert refusal(load.answer)[0] == errno.ESHUTDOWN
    assert changer.moves == [(256, 1003)]


@pytest.mark.parametrize("down", [False, True])
async def test_an_idle_controller_ends_at_once(autojump_clock: MockClock, down: bool) -> None:
    changer = FakeChanger()
    controller = Controller(changer)
    await controller.open()
    async with trio.open_nursery() as robot:
        robot.start_soon(controller.run)
        if down:
            changer.broken = GONE
            await controller.answer(tlc.Refresh())
        await trio.testing.wait_all_tasks_blocked()
        controller.drain()
    assert trio.current_time() == 0
