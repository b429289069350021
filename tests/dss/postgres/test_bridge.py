"""Between trio and asyncio: errors come out as they are, cancellation goes in, and nothing else ends the loop."""

from __future__ import annotations

import asyncio
import signal
import threading
from math import inf

import pytest
import trio
from structlog.testing import capture_logs
from trio.testing import wait_all_tasks_blocked

from lrs_trio.dss.postgres.bridge import asyncio_loop, cross, run_blocking
from lrs_trio.errors import LrsError


async def fail(error: BaseException) -> None:
    await asyncio.sleep(0)
    raise error


async def test_an_error_crosses_as_it_is() -> None:
    async with asyncio_loop():
        with pytest.raises(LrsError, match="why"):
            await cross(fail, LrsError(5, "why"))


async def test_an_error_leaves_the_block_of_the_loop_as_it_is() -> None:
    with pytest.raises(LrsError, match="why"):
        async with asyncio_loop():
            await cross(fail, LrsError(5, "why"))
    with pytest.raises(ZeroDivisionError):
        async with asyncio_loop():
            raise ZeroDivisionError


async def test_an_error_in_a_callback_is_reported_and_ends_nothing() -> None:
    async def call_back() -> str:
        asyncio.get_running_loop().call_soon(lambda: 1 / 0)
        asyncio.get_running_loop().call_exception_handler({"message": "the driver complains"})
        await asyncio.sleep(0.01)
        return "done"

    with capture_logs() as lines:
        async with asyncio_loop():
            assert await cross(call_back) == "done"
            assert await cross(call_back) == "done"
    assert {line["event"] for line in lines} == {"error in the driver of the dss"}
    assert "the driver complains" in [line["message"] for line in lines]
    assert [type(line["exc_info"]) for line in lines].count(ZeroDivisionError) == 2


async def test_who_is_cancelled_cancels_what_crossed_and_waits_for_its_end() -> None:
    steps = []
    scope = trio.CancelScope()

    async def work() -> None:
        steps.append("begun")
        scope.deadline = trio.current_time()
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0)
            steps.append("cleaned up")

    async with asyncio_loop():
        with scope:
            await cross(work)
    assert scope.cancelled_caught
    assert steps == ["begun", "cleaned up"]


async def test_a_loop_that_is_cancelled_is_left() -> None:
    with trio.move_on_after(0.01) as scope:
        async with asyncio_loop():
            await cross(asyncio.sleep, 60)
    assert scope.cancelled_caught


async def test_what_has_ended_in_time_wakes_nobody_later() -> None:
    async def work() -> None:
        async with asyncio.timeout(60), asyncio.timeout(30):
            asyncio.get_running_loop().call_later(10, print).cancel()
            await asyncio.sleep(0.01)

    async with asyncio_loop():
        await cross(work)
        await wait_all_tasks_blocked()
        assert trio.lowlevel.current_statistics().seconds_to_next_deadline == inf


async def test_what_has_not_ended_in_time_is_told_beside_what_has() -> None:
    async def work() -> None:
        async with asyncio.timeout(0.02):
            async with asyncio.timeout(0.01):
                await asyncio.sleep(0)
            await asyncio.sleep(60)

    async with asyncio_loop():
        with trio.fail_after(20), pytest.raises(TimeoutError):
            await cross(work)


def test_without_trio_a_function_is_run_to_its_end() -> None:
    async def work(number: int) -> int:
        await asyncio.sleep(0)
        return number + 1

    assert run_blocking(work, 1) == 2
    with pytest.raises(LrsError, match="why"):
        run_blocking(fail, LrsError(5, "why"))


def test_ctrl_c_ends_it_as_it_ends_everything() -> None:
    main = threading.main_thread().ident
    assert main is not None
    typed = threading.Timer(0.05, signal.pthread_kill, (main, signal.SIGINT))

    async def work() -> None:
        typed.start()
        await asyncio.sleep(60)

    with pytest.raises(KeyboardInterrupt):
        run_blocking(work)
    typed.join()
