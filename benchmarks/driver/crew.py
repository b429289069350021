"""The processes of the clients, and what they have seen together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from time import perf_counter, sleep
from typing import Any, Final, TypeVar

from benchmarks.driver.scripts import Kind
from benchmarks.driver.worker import CONNECT_S, PATIENCE_S, Findings, Load, Window, work

T = TypeVar("T")

PROCESSES: Final = 2
WARM_UP_S: Final = 0.2
WARM_UP_OF_EACH_S: Final = 0.001
"""The clients work for so long before anything is counted, and for so much longer for each of them. Seconds."""

_START_S: Final = 0.01
"""From the order to begin until all processes have it. Seconds."""


@dataclass(frozen=True, slots=True)
class Round:
    """What all clients have seen. Times are seconds."""

    seconds: float
    all_cycles: int
    """Before, in and after the window."""
    cycles: int
    """That ended in the window."""
    took: list[float]
    """By each cycle of which some part was in the window."""
    cpu_s: float
    """Of all clients, in the window."""
    released: Counter[tuple[str, ...]]
    """Acknowledged releases, also before and after the window, by their media."""

    @property
    def rate(self) -> float:
        """Cycles per second."""
        return self.cycles / self.seconds


class Crew:
    """Processes that wait for work. After an error they are of no more use."""

    def __init__(self, pipes: list[Connection[Any, Any]]) -> None:
        self._pipes = pipes

    def drive(
        self,
        socket: Path,
        kind: Kind,
        clients: int,
        media: tuple[str, ...],
        seconds: float,
        *,
        files: bool = False,
        probe: Callable[[], T],
    ) -> tuple[Round, T, T]:
        """Let so many clients do cycles of that kind for so long; and what `probe` returned at both ends of that time.

        Raises:
            OSError: a connection failed, or took too long.
            RuntimeError: a process does not answer.
            WrongAnswerError: the daemon said what it must not.
        """
        pipes = self._pipes[:clients]
        for number, pipe in enumerate(pipes):
            pipe.send(Load(str(socket), kind, range(number, clients, len(pipes)), media, files))
        for pipe in pipes:
            _take(pipe, CONNECT_S)
        begins = perf_counter() + _START_S + WARM_UP_S + WARM_UP_OF_EACH_S * clients
        window = Window(begins, begins + seconds)
        for pipe in pipes:
            pipe.send(window)
        sleep(max(window.begins - perf_counter(), 0))
        before = probe()
        sleep(max(window.ends - perf_counter(), 0))
        after = probe()
        found: list[Findings] = [_take(pipe, 2 * PATIENCE_S) for pipe in pipes]
        return (
            Round(
                seconds,
                sum(one.all_cycles for one in found),
                sum(one.cycles for one in found),
                [took for one in found for took in one.took],
                sum(one.cpu_s for one in found),
                sum((one.released for one in found), Counter()),
            ),
            before,
            after,
        )


def _take(pipe: Connection[Any, Any], patience_s: float) -> Any:
    if not pipe.poll(patience_s):
        raise RuntimeError(f"a process of clients has not answered within {patience_s:g} s")
    taken = pipe.recv()
    if isinstance(taken, Exception):
        raise taken
    return taken


@contextmanager
def crew_of(processes: int = PROCESSES) -> Iterator[Crew]:
    """So many processes, which end with the block, whatever they do then."""
    context = get_context("spawn")
    ours, started = [], []
    try:
        for _ in range(processes):
            near, far = context.Pipe()
            process = context.Process(target=work, args=(far,), daemon=True)
            process.start()
            far.close()
            ours.append(near)
            started.append(process)
        yield Crew(ours)
    finally:
        for process in started:
            process.kill()
            process.join()
        for pipe in ours:
            pipe.close()
