"""A process that moves cartridges about at random: `python -m tests.storage.virtual.mover DIRECTORY SEED MOVES`.

It says when it is ready, and begins when its input ends.
"""

from __future__ import annotations

import random
import sys
from contextlib import suppress
from pathlib import Path

import trio

from lrs_trio.errors import OperationError
from lrs_trio.storage.virtual.library import VirtualLibrary


async def move_about(directory: Path, seed: int, moves: int) -> None:
    library = VirtualLibrary.open(directory, speed=10**6)
    draw = random.Random(seed)
    for _ in range(moves):
        source, target = draw.sample([element.address for element in library.elements()], 2)
        with suppress(OperationError):
            await library.move(source, target)


if __name__ == "__main__":
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.read()
    trio.run(move_about, Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
