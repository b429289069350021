"""Calls of others in one turn of a thread."""

from __future__ import annotations

import errno
import threading

import pytest
import trio

from lrs_trio.storage import shared_calls
from lrs_trio.storage.shared_calls import SharedCall, call_with


@pytest.fixture
def limiter() -> trio.CapacityLimiter:
    return trio.CapacityLimiter(1)


@pytest.mark.parametrize("count", [0, 1, 5])
async def test_all_are_called_in_the_thread_of_the_first(limiter: trio.CapacityLimiter, count: int) -> None:
    others = [SharedCall(threading.get_ident) for _ in range(count)]
    thread, have_ended = await call_with(threading.get_ident, others, limiter)
    assert thread != threading.get_ident()
    assert have_ended
    assert [other.result() for other in others] == [thread] * count


async def test_an_error_is_that_of_its_own_call(limiter: trio.CapacityLimiter) -> None:
    def fail() -> str:
        raise OSError(errno.ESTALE, "stale")

    bad, good = SharedCall(fail), SharedCall(lambda: "fine")
    assert await call_with(lambda: 7, [bad, good], limiter) == (7, True)
    assert good.result() == "fine"
    with pytest.raises(OSError, match="stale"):
        bad.result()


async def test_where_the_first_fails_no_others_are_called(limiter: trio.CapacityLimiter) -> None:
    def fail() -> str:
        raise OSError(errno.EIO, "lost")

    other = SharedCall(lambda: "fine")
    with pytest.raises(OSError, match="lost"):
        await call_with(fail, [other], limiter)
    assert not other.made


def test_the_last_call_counts() -> None:
    results = iter([OSError(errno.EIO, "first"), None, OSError(errno.EIO, "last")])

    def act() -> str:
        error = next(results)
        if error is not None:
            raise error
        return "fine"

    call = SharedCall(act)
    call.make()
    with pytest.raises(OSError, match="first"):
        call.result()
    call.make()
    assert call.result() == "fine"
    call.make()
    with pytest.raises(OSError, match="last"):
        call.result()


async def test_one_that_hangs_keeps_the_first_for_a_moment_only(
    limiter: trio.CapacityLimiter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_calls, "PATIENCE_S", 0.01)
    go_on = threading.Event()
    before, hanging, after = SharedCall(lambda: 1), SharedCall(lambda: go_on.wait(10)), SharedCall(lambda: 3)
    assert await call_with(lambda: "mine", [before, hanging, after], limiter) == ("mine", False)
    assert [call.made for call in (before, hanging, after)] == [True, False, False]
    assert limiter.available_tokens == 0
    go_on.set()
    async with limiter:  # the thread gives its token back when it has ended
        assert after.result() == 3


async def test_a_slow_first_call_is_waited_for(limiter: trio.CapacityLimiter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_calls, "PATIENCE_S", 0.01)
    wait = threading.Event()
    other = SharedCall(lambda: "fine")
    assert await call_with(lambda: wait.wait(0.05), [other], limiter) == (False, True)
    assert other.result() == "fine"


async def test_who_gives_up_leaves_the_others_to_the_thread(limiter: trio.CapacityLimiter) -> None:
    go_on, begun = threading.Event(), trio.Event()
    token = trio.lowlevel.current_trio_token()

    def slow() -> None:
        token.run_sync_soon(begun.set)
        go_on.wait(10)

    other = SharedCall(lambda: "fine")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(call_with, slow, [other], limiter)
        await begun.wait()
        nursery.cancel_scope.cancel()
    assert not other.made
    go_on.set()
    async with limiter:
        assert other.result() == "fine"
