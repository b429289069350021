from __future__ import annotations

import errno
import threading

import pytest
import trio

from lrs_trio.storage import shared_calls
from lrs_trio.storage.shared_calls import SharedCalls


async def test_those_who_call_at_the_same_moment_share_a_thread() -> None:
    calls, limiter = SharedCalls(), trio.CapacityLimiter(1)
    threads: list[int] = []

    async def one(number: int) -> None:
        def note() -> int:
            threads.append(threading.get_ident())
            return number

        assert await calls.call(note, limiter) == number

    for _ in range(3):
        async with trio.open_nursery() as nursery:
            for number in range(5):
                nursery.start_soon(one, number)
        assert len(set(threads)) == 1
        assert len(threads) == 5
        threads.clear()


async def test_an_error_is_that_of_its_own_call() -> None:
    calls, limiter = SharedCalls(), trio.CapacityLimiter(1)
    good: list[str] = []

    def fail() -> str:
        raise OSError(errno.ESTALE, "stale")

    async def fails() -> None:
        with pytest.raises(OSError, match="stale"):
            await calls.call(fail, limiter)

    async def works() -> None:
        good.append(await calls.call(lambda: "fine", limiter))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(fails)
        nursery.start_soon(works)
    assert good == ["fine"]


async def test_a_call_that_hangs_keeps_nobody_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_calls, "PATIENCE_S", 0.01)
    calls, limiter = SharedCalls(), trio.CapacityLimiter(8)
    go_on, hangs, good = threading.Event(), trio.CancelScope(), list[str]()

    async def hang() -> None:
        with hangs:
            await calls.call(lambda: go_on.wait(10), trio.CapacityLimiter(1))

    async def works() -> None:
        good.append(await calls.call(lambda: "fine", limiter))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(hang)
        async with trio.open_nursery() as others:
            others.start_soon(works)
            others.start_soon(works)
        # Nor those who come while that turn is still under way.
        await works()
        hangs.cancel()
    assert good == ["fine"] * 3
    go_on.set()


async def test_who_is_cancelled_takes_nobody_along() -> None:
    calls, limiter = SharedCalls(), trio.CapacityLimiter(8)
    good: list[str] = []

    async def works() -> None:
        good.append(await calls.call(lambda: "fine", limiter))

    async with trio.open_nursery() as nursery:
        with trio.CancelScope() as scope:
            scope.cancel()
            await calls.call(lambda: "lost", limiter)
        nursery.start_soon(works)
        nursery.start_soon(works)
    assert good == ["fine"] * 2
