"""What a run has found, as a file that others can be compared with."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from pydantic import TypeAdapter, ValidationError

from benchmarks.cases import Place, Point
from benchmarks.measuring import Figures, Schedule
from benchmarks.memory import Memory

DIRECTORY: Final = Path(__file__).with_name("results")
DIRTY: Final = "-dirty"


@dataclass(frozen=True, slots=True)
class Machine:
    """Where it ran."""

    processors: int
    kernel: str
    python: str
    load_average: float
    """Of the minute before."""


@dataclass(frozen=True, slots=True)
class Block:
    """The figures of one place."""

    place: Place
    figures: list[Figures]


@dataclass(slots=True)
class Results:
    """A run. `problems` are empty if nothing was wrong."""

    time: datetime
    commit: str
    """With "-dirty" if files differed from it."""
    machine: Machine
    schedule: Schedule
    processes: int
    """Of the clients."""
    files: bool
    blocks: list[Block] = field(default_factory=list)
    memory: Memory | None = None
    problems: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        """Of its files, without what says what is in them."""
        dirty = DIRTY if self.commit.endswith(DIRTY) else ""
        return f"{self.time:%Y-%m-%dT%H%M%SZ}-{self.commit[:10]}{dirty}"

    def points(self) -> Iterator[tuple[Place, Point, Figures]]:
        for block in self.blocks:
            for figures in block.figures:
                yield block.place, Point(figures.kind, figures.clients), figures


_ADAPTER: Final = TypeAdapter(Results)


def begin(schedule: Schedule, processes: int, *, files: bool) -> Results:
    """A run that begins now, on this machine and with the code as it is."""
    machine = Machine(os.cpu_count() or 1, platform.release(), platform.python_version(), os.getloadavg()[0])
    return Results(datetime.now(UTC).replace(microsecond=0), _commit(), machine, schedule, processes, files)


def save(results: Results, directory: Path) -> Path:
    """Write them to a new file, and return it."""
    directory.mkdir(parents=True, exist_ok=True)
    file = directory / f"{results.name}.json"
    file.write_bytes(_ADAPTER.dump_json(results, indent=1) + b"\n")
    return file


def load(file: Path) -> Results:
    """What `save` wrote.

    Raises:
        ValueError: the file has something else; the text says what.
    """
    try:
        return _ADAPTER.validate_json(file.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ValueError(f"{file} has no results of this suite: {where or 'the text'}: {first['msg']}") from error


def _commit() -> str:
    described = subprocess.run(
        ["git", "describe", "--always", "--exclude=*", "--abbrev=40", f"--dirty={DIRTY}"],
        cwd=Path(__file__).parent,
        check=False,
        capture_output=True,
        text=True,
    )
    return described.stdout.strip() or "unknown"
