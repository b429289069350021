"""Which adapters a drive gets, and that a library that cannot be used says why."""

from __future__ import annotations

import socket
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from lrs_trio.errors import LibraryUnreachableError, LrsError
from lrs_trio.model import Device, Family, ResourceId
from lrs_trio.settings import LibrarySettings, LtfsSettings, TapeSettings
from lrs_trio.storage.ltfs import LtfsFilesystem
from lrs_trio.storage.scsi_tape import ScsiTapeDrive
from lrs_trio.storage.tape import TapeStorage
from lrs_trio.storage.tlc import TlcLibrary
from lrs_trio.storage.virtual.filesystem import VirtualFilesystem
from lrs_trio.storage.virtual.library import create
from lrs_trio.storage.virtual.robot import VirtualDrive, VirtualRobot

SMALL = Path(__file__).parents[2] / "settings" / "virtual" / "small.toml"
SERIAL = "VD0001"


def drive(library: str = "main", serial: str = SERIAL) -> Device:
    return Device(ResourceId(Family.TAPE, serial, library), "here", f"/dev/{serial}")


def storage(*, settings: TapeSettings | None = None, **libraries: LibrarySettings) -> TapeStorage:
    return TapeStorage(settings or TapeSettings(), libraries)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Where a virtual library is."""
    create(tmp_path / "library", SMALL)
    return tmp_path / "library"


@pytest.mark.parametrize(
    ("robot", "drives", "adapters"),
    [
        ("tlc", "ltfs", (TlcLibrary, ScsiTapeDrive, LtfsFilesystem)),
        ("tlc", "virtual", (TlcLibrary, VirtualDrive, VirtualFilesystem)),
        ("virtual", "virtual", (VirtualRobot, VirtualDrive, VirtualFilesystem)),
    ],
)
def test_robot_and_drives_are_chosen_by_the_settings_of_the_library(
    directory: Path, robot: str, drives: str, adapters: tuple[type, type, type]
) -> None:
    library = LibrarySettings.model_validate({"robot": robot, "drives": drives, "directory": str(directory)})
    unit = storage(main=library).unit(drive())
    assert (type(unit.library), type(unit.drive), type(unit.filesystem)) == adapters


def test_the_drives_of_a_virtual_library_share_it(directory: Path) -> None:
    made = storage(main=virtual(directory))
    assert made.unit(drive()).library is made.unit(drive(serial="VD0002")).library


def test_each_library_has_its_own(directory: Path, tmp_path: Path) -> None:
    create(tmp_path / "other", SMALL)
    made = storage(main=virtual(directory), north=virtual(tmp_path / "other"))
    assert made.unit(drive()).library is not made.unit(drive("north")).library


def virtual(place: Path) -> LibrarySettings:
    return LibrarySettings(robot="virtual", drives="virtual", directory=place)


@pytest.mark.parametrize(
    ("spoil", "text"),
    [
        (lambda place: {}, r"\[libraries.main\]"),
        (lambda place: {"main": virtual(place).model_copy(update={"directory": None})}, "has no directory"),
        (lambda place: {"main": virtual(place / "elsewhere")}, "there is no virtual library"),
        (lambda place: (place / "library.toml").write_text("[["), "library.toml"),
        (lambda place: (place / "state.json").write_text("{"), "state"),
        (lambda place: (place / "state.json").unlink(), "state"),
        (lambda place: ((place / "state.json").unlink(), (place / "state.json").mkdir()), "state"),
    ],
)
async def test_a_library_that_cannot_be_used_says_why_at_the_first_question(
    directory: Path, spoil: Callable[[Path], object], text: str
) -> None:
    """Which is what the drive is: without its library nobody need look for it."""
    spoilt = spoil(directory)
    libraries = spoilt if isinstance(spoilt, dict) else {"main": virtual(directory)}
    unit = TapeStorage(TapeSettings(), libraries).unit(drive())
    questions = (
        partial(unit.drive.query, drive()),
        partial(unit.library.lookup, drive()),
        partial(unit.library.load, drive(), "T"),
        partial(unit.library.unload, drive(), "T"),
    )
    for question in questions:
        with pytest.raises(LrsError, match=text):
            await question()


async def test_a_drive_that_the_virtual_library_does_not_have(directory: Path) -> None:
    unit = storage(main=virtual(directory)).unit(drive(serial="NONE"))
    with pytest.raises(LrsError):
        await unit.drive.query(drive(serial="NONE"))


@pytest.mark.parametrize("drives", ["ltfs", "virtual"])
async def test_the_full_threshold_changes_for_those_who_serve_already(directory: Path, drives: str) -> None:
    library = LibrarySettings.model_validate({"robot": "tlc", "drives": drives, "directory": str(directory)})
    made = storage(settings=TapeSettings(full_threshold_percent=7), main=library)
    unit = made.unit(drive())
    assert isinstance(unit.filesystem, LtfsFilesystem | VirtualFilesystem)
    assert unit.filesystem._full_threshold.percent == 7
    made.change(TapeSettings(full_threshold_percent=30))
    assert unit.filesystem._full_threshold.percent == 30


def test_commands_and_mount_points_change_with_the_next_adoption() -> None:
    made = storage(main=LibrarySettings())
    before = made.unit(drive()).filesystem
    changed = TapeSettings(mount_prefix="/other-", ltfs=LtfsSettings(mount='mine "%s" "%s"'))
    made.change(changed)
    after = made.unit(drive()).filesystem
    assert isinstance(before, LtfsFilesystem)
    assert isinstance(after, LtfsFilesystem)
    assert (before._mount_prefix, after._mount_prefix) == (TapeSettings().mount_prefix, "/other-")


async def test_the_controller_of_the_settings_is_asked() -> None:
    with socket.create_server(("127.0.0.2", 0)) as taken:
        port = taken.getsockname()[1]
    drive = Device(ResourceId(Family.TAPE, "S1", "main"), "store1", "")
    found = storage(main=LibrarySettings(host="127.0.0.2", port=port)).unit(drive)
    with pytest.raises(LibraryUnreachableError, match=f"127.0.0.2:{port}"):
        await found.library.lookup(drive)


def test_whose_moves_are_ours_to_log() -> None:
    made = storage(main=LibrarySettings(), north=LibrarySettings(log_moves=False))
    assert [made.logs_moves(name) for name in ("main", "north", "unknown")] == [True, False, False]
