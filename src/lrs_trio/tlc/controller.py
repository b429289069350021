"""The controller: answers requests from what it knows, and has the robot do one thing at a time.

Everything that needs the robot takes its turn in one task. What has begun there is completed also when nobody waits
for it any more; what waits for its turn is dropped when whoever has asked goes away.
"""

from __future__ import annotations

import errno
import json
import math
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

import structlog
import trio

from lrs_trio.errors import LrsError, OperationError, describe
from lrs_trio.observe.stats import Stats
from lrs_trio.tlc.changer import Changer
from lrs_trio.tlc.inventory import Inventory, Move
from lrs_trio.wire import tlc

log = structlog.get_logger()

WAITING: Final = 256
"""How many requests may wait for the robot; further ones wait to be among them."""

LOOK_AGAIN_SECONDS: Final = 30.0
"""How often a library that does not answer is looked at. Seconds."""

_COUNTED: Final = {
    tlc.Ping: "PING",
    tlc.LookUp: "DRIVE_LOOKUP",
    tlc.Load: "LOAD",
    tlc.Unload: "UNLOAD",
    tlc.Status: "STATUS",
    tlc.Refresh: "REFRESH",
    tlc.Stat: "STAT",
}

Work = tlc.Ping | tlc.Load | tlc.Unload | tlc.Refresh
"""What needs the robot."""


@dataclass(slots=True, eq=False)
class _Turn:
    """One request's use of the robot. `outcome` is there once it is `done`."""

    work: Work
    done: trio.Event = field(default_factory=trio.Event)
    withdrawn: bool = False
    outcome: tlc.ResponseBody | OSError = field(init=False)


class Controller:
    """One library's controller: `open` it, then have `run` at work while `answer` is called."""

    def __init__(self, changer: Changer) -> None:
        self._changer = changer
        self._inventory = Inventory(())
        self._is_up = False
        self._look_again_at = -math.inf
        self._current: _Turn | None = None
        self._queue, self._turns = trio.open_memory_channel[_Turn](WAITING)
        self._draining = False
        self._stats = Stats()
        self._counters = {
            body: self._stats.counter("req", "count", {"request": name}) for body, name in _COUNTED.items()
        }

    async def open(self) -> int:
        """Look at the library for the first time and return the number of its elements.

        Raises:
            OSError: it does not answer.
        """
        await self._look()
        return len(self._inventory)

    async def run(self) -> None:
        """Give the robot to one request after the other until `drain`; look again at a library that is down."""
        with suppress(trio.EndOfChannel):
            while True:
                turn = await self._next_turn()
                if turn is None:
                    await self._look_again()
                elif not turn.withdrawn:
                    await self._do(turn)

    def drain(self) -> None:
        """Begin nothing new with the robot: `run` returns when what it does has ended."""
        self._draining = True
        self._queue.close()

    async def answer(self, body: tlc.RequestBody) -> tlc.ResponseBody:
        """Do what is asked. When this is cancelled, a move that has begun is completed all the same."""
        self._counters[type(body)].add()
        try:
            return await self._answer(body)
        except OSError as error:
            log.info("request refused", request=_COUNTED[type(body)], error=describe(error))
            return failed(error)

    async def _answer(self, body: tlc.RequestBody) -> tlc.ResponseBody:
        match body:
            case tlc.Ping():
                return await self._ping(body)
            case tlc.LookUp(serial=serial):
                return await self._look_up(serial)
            case tlc.Status(refresh=refresh):
                if refresh:
                    await self._in_turn(tlc.Refresh())
                self._check_is_up()
                return tlc.Elements(self._inventory.dump())
            case tlc.Stat(ns=ns, name=name, tags=tags):
                return tlc.Statistics(self._stats.dump(ns, name, tags))
        return await self._in_turn(body)

    async def _ping(self, body: tlc.Ping) -> tlc.ResponseBody:
        if self._current is not None or self._draining:
            # Asking would mean to wait for the robot. What it said last has to do.
            return tlc.Pong(self._is_up)
        try:
            return await self._in_turn(body)
        except OSError:
            return tlc.Pong(False)

    async def _look_up(self, serial: str) -> tlc.ResponseBody:
        # Who has given up a move and wants to know what has become of it must not be told what was before.
        while self._current is not None and _drive_of(self._current.work) == serial:
            await self._current.done.wait()
        self._check_is_up()
        drive = self._inventory.drive(serial)
        label = drive.label or "" if drive.full else None
        return tlc.Found(drive.address, self._inventory.first_drive(), label)

    # Turns.

    async def _in_turn(self, work: Work) -> tlc.ResponseBody:
        turn = _Turn(work)
        try:
            await self._queue.send(turn)
            await turn.done.wait()
        except trio.ClosedResourceError:
            raise _shutting_down() from None
        finally:
            turn.withdrawn = True
        if isinstance(turn.outcome, OSError):
            raise turn.outcome
        return turn.outcome

    async def _next_turn(self) -> _Turn | None:
        """What is to be done next, ``None`` if that is to look at a library that is down."""
        with trio.move_on_at(math.inf if self._is_up or self._draining else self._look_again_at):
            return await self._turns.receive()
        return None

    async def _do(self, turn: _Turn) -> None:
        self._current = turn
        try:
            turn.outcome = _shutting_down() if self._draining else await self._perform(turn.work)
        except OSError as error:
            turn.outcome = error
        finally:
            self._current = None
        turn.done.set()

    # With the robot. Only the task that has a turn comes here.

    async def _perform(self, work: Work) -> tlc.ResponseBody:
        match work:
            case tlc.Load(serial=serial, label=label):
                self._check_is_up()
                await self._carry(self._inventory.plan_load(serial, label), "load", serial)
                return tlc.Loaded()
            case tlc.Unload(serial=serial, label=expected):
                self._check_is_up()
                move = self._inventory.plan_unload(serial, expected)
                if move is None:
                    return tlc.Unloaded("", 0)
                await self._carry(move, "unload", serial)
                return tlc.Unloaded(move.label, move.target)
            case tlc.Refresh():
                await self._look()
                return tlc.Refreshed()
            case tlc.Ping():
                if not await self._changer.check():
                    self._is_down("it does not answer")
                elif not self._is_up:
                    await self._look()
                return tlc.Pong(self._is_up)

    async def _carry(self, move: Move, what: str, serial: str) -> None:
        began = trio.current_time()
        failure: OSError | None = None
        try:
            await self._changer.move(move.source, move.target)
        except OSError as error:
            failure = error
        if failure is not None:
            log.warning("move failed", request=what, drive=serial, medium=move.label, error=describe(failure))
            # Nobody knows how far it came. And a library that cannot even say what is where is not the drive's fault.
            await self._look_again()
            self._check_is_up()
            raise failure
        self._inventory.moved(move)
        log.info(
            "medium moved",
            request=what,
            drive=serial,
            medium=move.label,
            source=move.source,
            target=move.target,
            seconds=round(trio.current_time() - began, 3),
        )

    async def _look(self) -> None:
        try:
            elements = await self._changer.elements()
        except OSError as error:
            self._is_down(describe(error))
            raise
        if not self._is_up:
            log.info("the library answers", elements=len(elements))
        self._inventory = Inventory(elements)
        self._is_up = True

    async def _look_again(self) -> None:
        with suppress(OSError):  # logged, and ping tells
            await self._look()

    def _is_down(self, why: str) -> None:
        log.warning("the library is down", error=why)
        self._is_up = False
        self._look_again_at = trio.current_time() + LOOK_AGAIN_SECONDS

    def _check_is_up(self) -> None:
        if not self._is_up:
            text = "the library does not answer, or did not when it was last asked"
            raise OperationError(errno.EBADF, text, {"NO_AVAILABLE_LIB_DEVICE": text})


def _drive_of(work: Work) -> str | None:
    return work.serial if isinstance(work, tlc.Load | tlc.Unload) else None


def _shutting_down() -> LrsError:
    return LrsError(errno.ESHUTDOWN, "the tape library controller is shutting down")


def failed(error: OSError) -> tlc.Failed:
    record = error.record if isinstance(error, OperationError) else {"error": describe(error)}
    return tlc.Failed(-(error.errno or errno.EIO), json.dumps(dict(record), ensure_ascii=False))
