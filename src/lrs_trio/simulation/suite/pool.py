"""Many cases in as many processes as there are processors: each takes the next one when it has done one."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

import trio

from lrs_trio.simulation.suite.case import Case
from lrs_trio.simulation.suite.result import Result
from lrs_trio.simulation.suite.worker import CASE, RESULT

LIMIT_S: Final = 600.0
"""How long one case may take, in seconds of the real clock."""

END_S: Final = 5.0
"""How long a process that was killed is waited for."""

CHUNK: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class Workers:
    """How cases are run.

    Attributes:
        count: processes at the same time.
        limit_s: a case that takes longer has failed; seconds of the real clock.
        environment: of the processes, besides that of this one.
        first_hash_seed: each process hashes in its own way, beginning with this one.
    """

    count: int = field(default_factory=lambda: os.cpu_count() or 1)
    limit_s: float = LIMIT_S
    environment: Mapping[str, str] = field(default_factory=dict)
    first_hash_seed: int = 1


def run_all(cases: Iterable[Case], workers: Workers, tell: Callable[[Result], bool]) -> None:
    """`run_cases` under trio.

    Raises:
        KeyboardInterrupt: somebody has pressed Ctrl-C.
    """
    try:
        trio.run(run_cases, cases, workers, tell, restrict_keyboard_interrupt_to_checkpoints=True)
    except BaseExceptionGroup as group:
        if group.subgroup(KeyboardInterrupt) is None:
            raise
        raise KeyboardInterrupt from None


async def run_cases(cases: Iterable[Case], workers: Workers, tell: Callable[[Result], bool]) -> None:
    """Run `cases` and `tell` of each as soon as it is done; return when all are, or `tell` says not to go on."""
    queue = iter(cases)
    async with trio.open_nursery() as nursery:

        def told(result: Result) -> None:
            if not tell(result):
                nursery.cancel_scope.cancel(reason="enough is known")

        for number in range(workers.count):
            nursery.start_soon(_work, queue, _Worker(workers, number), told, name=f"worker {number}")


async def _work(queue: Iterator[Case], worker: _Worker, told: Callable[[Result], None]) -> None:
    try:
        for case in queue:
            told(await worker.run(case))
    finally:
        # However the work ends, no process is left behind.
        with trio.move_on_after(END_S, shield=True):
            await worker.end()


class _Worker:
    """One process, and another one after one that has failed."""

    def __init__(self, workers: Workers, number: int) -> None:
        self._limit_s = workers.limit_s
        hash_seed = str(workers.first_hash_seed + number)
        self._environment = {**os.environ, **workers.environment, "PYTHONHASHSEED": hash_seed}
        self._process: trio.Process | None = None

    async def run(self, case: Case) -> Result:
        begun = time.monotonic()
        problem = f"the run has not ended within {self._limit_s:g} s"
        with trio.move_on_after(self._limit_s):
            process = self._process = self._process or await self._start()
            answer = await _ask(process, case)
            if answer:
                return RESULT.validate_json(answer)
            problem = f"the process that ran it has ended with status {await process.wait()}"
        await self.end()
        return Result(case, (problem,), time.monotonic() - begun)

    async def end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        with trio.move_on_after(END_S):
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    await pipe.aclose()
            await process.wait()

    async def _start(self) -> trio.Process:
        return await trio.lowlevel.open_process(
            [sys.executable, "-m", "lrs_trio.simulation.suite.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=self._environment,
        )


async def _ask(process: trio.Process, case: Case) -> bytes:
    """The answer of `process` to `case`, without anything if it has died."""
    assert process.stdin is not None
    assert process.stdout is not None
    answer = bytearray()
    try:
        await process.stdin.send_all(CASE.dump_json(case) + b"\n")
        while not answer.endswith(b"\n"):
            chunk = await process.stdout.receive_some(CHUNK)
            if not chunk:
                return b""
            answer += chunk
    except trio.BrokenResourceError:
        return b""
    return bytes(answer)
