"""A program that behaves as mtx, and a changer without any program."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import trio

from lrs_trio.errors import OperationError
from lrs_trio.storage.elements import Element, ElementKind
from lrs_trio.tlc.mtx import MtxChanger

SAMPLES = Path(__file__).parent / "samples"
FAKE = Path(__file__).parent / "fake_mtx.py"


class FakeMtx:
    """The library of a sample, kept in a directory; see fake_mtx.py for what it understands."""

    def __init__(self, directory: Path, sample: str = "small") -> None:
        self.directory = directory
        shutil.copyfile(SAMPLES / f"{sample}.txt", directory / "status.txt")

    @property
    def command(self) -> list[str]:
        return [sys.executable, "-I", "-S", str(FAKE), str(self.directory), "-f", "/dev/changer"]

    @property
    def calls(self) -> list[str]:
        """The commands that have been given, from the first."""
        log = self.directory / "calls.txt"
        return log.read_text().splitlines() if log.exists() else []

    def fail(self, command: str, how: str, text: str = "") -> None:
        (self.directory / command).write_text(f"{how}\n{text}")

    def heal(self, command: str) -> None:
        (self.directory / command).unlink()

    def changer(self, *serials: str, **options: Any) -> MtxChanger:
        settings = {"move_s": 60.0, "retries": 2, "retry_s": 0.01} | options
        return MtxChanger(self.command, serials, **settings)


@pytest.fixture
def mtx(tmp_path: Path) -> FakeMtx:
    return FakeMtx(tmp_path)


class FakeChanger:
    """Two drives and some slots; a move takes `seconds`, and fails if `failure` is set."""

    def __init__(self) -> None:
        self.places = {
            element.address: element
            for element in (
                Element(ElementKind.ARM, 0),
                Element(ElementKind.SLOT, 1001, True, "P1"),
                Element(ElementKind.SLOT, 1002, True, "P2"),
                Element(ElementKind.SLOT, 1003),
                Element(ElementKind.IMPORT_EXPORT, 10, True, "P9"),
                Element(ElementKind.DRIVE, 256, True, "P3", 1003, "VENDOR MODEL S1"),
                Element(ElementKind.DRIVE, 257, device_id="S2"),
            )
        }
        self.moves: list[tuple[int, int]] = []
        self.looks = 0
        self.checks = 0
        self.seconds = 10.0
        self.check_seconds = 0.0
        self.failure: OSError | None = None
        self.broken: OSError | None = None
        self.at_once = 0
        self._robot_scope = trio.CancelScope()

    def finish(self) -> None:
        """End what the robot does now, as if its time had come."""
        self._robot_scope.cancel()

    async def elements(self) -> tuple[Element, ...]:
        self.looks += 1
        await self._robot(0)
        if self.broken is not None:
            raise self.broken
        return tuple(self.places.values())

    async def move(self, source: int, target: int) -> None:
        self.moves.append((source, target))
        await self._robot(self.seconds)
        if self.failure is not None:
            raise self.failure
        from_, to = self.places[source], self.places[target]
        assert from_.full
        assert not to.full
        self.places[source] = Element(from_.kind, source, device_id=from_.device_id)
        self.places[target] = Element(to.kind, target, True, from_.label, source, to.device_id)

    async def check(self) -> bool:
        self.checks += 1
        await self._robot(self.check_seconds)
        return self.broken is None

    async def _robot(self, seconds: float) -> None:
        assert self.at_once == 0, "two things are asked of the robot at once"
        self.at_once += 1
        try:
            with trio.CancelScope() as self._robot_scope:
                await trio.sleep(seconds)
        finally:
            self.at_once -= 1


def stuck() -> OperationError:
    return OperationError(5, "the gripper is stuck", {"gripper": "stuck"})
