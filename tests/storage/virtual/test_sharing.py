"""One library, several users: a robot in one process and drives in another."""

from __future__ import annotations

import errno
import sys
from contextlib import ExitStack
from pathlib import Path
from subprocess import PIPE

import pytest
import trio
from trio.testing import MockClock

from lrs_trio.errors import LrsError, OperationError
from lrs_trio.storage.protocols import Content
from lrs_trio.storage.virtual.faults import Fault
from lrs_trio.storage.virtual.library import VirtualLibrary
from tests.processes import PATIENCE_S, child
from tests.storage.virtual.shelf import (
    D1,
    DRIVE_1,
    DRIVE_2,
    SLOT_A,
    SLOT_B,
    A,
    B,
    C,
    device,
    medium,
    places,
    shelf,
    unit,
)


async def test_a_robot_here_and_drives_there(tmp_path: Path, autojump_clock: MockClock) -> None:
    controller = shelf(tmp_path)
    daemon = VirtualLibrary.open(tmp_path / "shelf")
    found = unit(daemon, tmp_path)
    await controller.move(SLOT_A, DRIVE_1)
    assert await found.library.lookup(device(D1)) == Content(A, 0)
    root = Path(await found.filesystem.mount(medium(A)))
    (root / "object").write_bytes(b"x")
    with pytest.raises(OperationError, match=f"mounted at {root}") as caught:
        await controller.move(DRIVE_1, SLOT_A)
    assert caught.value.errno == errno.EBUSY
    await found.filesystem.unmount()
    await controller.move(DRIVE_1, SLOT_A)
    assert await found.library.lookup(device(D1)) == Content(None, 0)
    with pytest.raises(OperationError, match="the drive is empty"):
        await found.filesystem.mount(medium(A))


async def test_a_drive_that_is_dead_here_is_dead_there(tmp_path: Path, autojump_clock: MockClock) -> None:
    controller = shelf(tmp_path)
    daemon = VirtualLibrary.open(tmp_path / "shelf")
    await controller.move(SLOT_A, DRIVE_1)
    daemon.faults.inject(Fault(kind="drive_death", drive=D1))
    with pytest.raises(OperationError, match="dead"):
        await unit(daemon, tmp_path).filesystem.mount(medium(A))
    with pytest.raises(OperationError, match="dead"):
        await controller.move(DRIVE_1, SLOT_A)
    controller.mend(D1)
    await unit(daemon, tmp_path).filesystem.mount(medium(A))


async def test_two_robots_do_not_put_two_cartridges_into_one_place(tmp_path: Path, autojump_clock: MockClock) -> None:
    robots = [shelf(tmp_path), VirtualLibrary.open(tmp_path / "shelf")]
    refused = []

    async def move(robot: VirtualLibrary, source: int) -> None:
        try:
            await robot.move(source, DRIVE_2)
        except LrsError as error:
            refused.append(error.errno)

    async with trio.open_nursery() as nursery:
        for robot, source in zip(robots, (SLOT_A, SLOT_B), strict=True):
            nursery.start_soon(move, robot, source)
    assert refused == [errno.EINVAL]
    found = places(robots[0])
    assert sorted(found) == [A, B, C]
    assert (found[A] == DRIVE_2) != (found[B] == DRIVE_2)


def test_processes_that_move_at_the_same_time_lose_nothing(tmp_path: Path) -> None:
    library = shelf(tmp_path)
    command = [sys.executable, "-m", "tests.storage.virtual.mover", str(tmp_path / "shelf")]
    with ExitStack() as ending:
        movers = [ending.enter_context(child([*command, str(seed), "300"], stdin=PIPE, stdout=PIPE)) for seed in (1, 2)]
        for mover in movers:
            assert mover.stdout is not None
            assert mover.stdout.readline() == b"ready\n"
        for mover in movers:
            assert mover.stdin is not None
            mover.stdin.close()
        assert [mover.wait(PATIENCE_S) for mover in movers] == [0, 0]
    assert sorted(places(library)) == [A, B, C]
