"""The processes of a run: each does one thing when it is told to, and says in the end what it has seen."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from enum import Enum
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any, Final, TypeAlias

NICE: Final = 10
"""Those who make the load leave the processors to the daemon and the honest client: those are what is measured."""

PATIENCE_S: Final = 120.0
"""How long a process may take to say what it has seen. Seconds."""

Pipe: TypeAlias = "Connection[Any, Any]"
Findings = Counter[str]


class Word(Enum):
    """What a process is told."""

    GO_ON = "go on"
    REST = "rest"
    END = "end"


class Worker:
    """A process that has been started."""

    def __init__(self, process: BaseProcess, pipe: Pipe) -> None:
        self._process = process
        self._pipe = pipe

    @property
    def pid(self) -> int:
        return self._process.pid or 0

    def is_done(self) -> bool:
        """Whether it has something to say without having been told to stop."""
        return self._pipe.poll()

    def go_on(self) -> None:
        """Let a process that works in `rounds` begin the next one."""
        self._pipe.send(Word.GO_ON)

    def rest(self) -> None:
        """End that round."""
        self._pipe.send(Word.REST)

    def result(self) -> Any:
        """Tell it to end, and wait for what it has seen.

        Raises:
            RuntimeError: it ends without saying anything, or not at all.
        """
        with suppress(BrokenPipeError):  # it has ended by itself
            self._pipe.send(Word.END)
        try:
            if self._pipe.poll(PATIENCE_S):
                return self._pipe.recv()
        except (EOFError, ConnectionError):
            pass
        raise RuntimeError(f"process {self.pid} has not said what it has seen")

    def end(self) -> None:
        self._process.kill()
        self._process.join()
        self._pipe.close()


class Workers:
    """Starts processes; `workers` ends them."""

    def __init__(self) -> None:
        self._context = get_context("spawn")
        self._started: list[Worker] = []

    def start(self, work: Callable[..., None], *arguments: object) -> Worker:
        """Run ``work(*arguments, pipe)`` in a process of its own. It ends when it is told so by the pipe."""
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=work, args=(*arguments, theirs), daemon=True)
        process.start()
        theirs.close()
        self._started.append(Worker(process, ours))
        return self._started[-1]

    def end(self) -> None:
        for worker in self._started:
            worker.end()
        self._started.clear()


@contextmanager
def workers() -> Iterator[Workers]:
    """None of the processes is left after the block."""
    made = Workers()
    try:
        yield made
    finally:
        made.end()


def rounds(pipe: Pipe) -> Iterator[None]:
    """One round after the other, each until something comes by the pipe."""
    os.nice(NICE)
    while pipe.recv() is Word.GO_ON:
        yield
        pipe.recv()


def burn(pipe: Pipe) -> None:
    """Use a processor as an attack does, and leave the daemon alone."""
    for _ in rounds(pipe):
        while not pipe.poll():
            sum(range(10_000))
    pipe.send(None)
