"""The robot and the drives' doors, in virtual time: what is where, how long it takes, and what goes wrong."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from lrs_trio.errors import LrsError, MediumMissingError, OperationError
from lrs_trio.storage.elements import ElementKind
from lrs_trio.storage.protocols import Content, DriveIdentity
from lrs_trio.storage.virtual.faults import Fault
from lrs_trio.storage.virtual.library import VirtualLibrary, create
from tests.storage.virtual.shelf import (
    D1,
    D2,
    DRIVE_1,
    DRIVE_2,
    MAIL_SLOT,
    SLOT_A,
    SLOT_B,
    A,
    B,
    C,
    device,
    generation,
    medium,
    mounted,
    places,
    shelf,
    unit,
)

# Making and opening one.


def test_a_library_is_made_once(tmp_path: Path) -> None:
    library = shelf(tmp_path)
    assert [(drive.serial, drive.model, drive.path) for drive in library.drives] == [
        (D1, "ULT3580-TD8", "/dev/virtual-shelf-1"),
        (D2, "ULT3580-TD8", "/dev/virtual-shelf-2"),
    ]
    assert [(cartridge.label, cartridge.model) for cartridge in library.cartridges] == [
        (A, "LTO8"),
        (B, "LTO8"),
        (C, "LTO8"),
    ]
    with pytest.raises(LrsError, match="already") as caught:
        create(tmp_path / "shelf", tmp_path / "description.toml")
    assert caught.value.errno == errno.EEXIST


def test_where_there_is_none(tmp_path: Path) -> None:
    with pytest.raises(LrsError, match=str(tmp_path)) as caught:
        VirtualLibrary.open(tmp_path)
    assert caught.value.errno == errno.ENOENT


def test_a_library_brings_its_generations_along(tmp_path: Path) -> None:
    shelf(tmp_path)
    own = tmp_path / "shelf" / "lto8.toml"
    own.write_text(own.read_text().replace("move = 8 ", "move = 30 "))
    assert generation(VirtualLibrary.open(tmp_path / "shelf")).move_s() == 30


def test_a_description_that_does_not_go_with_what_is_there(tmp_path: Path) -> None:
    shelf(tmp_path)
    description = tmp_path / "shelf" / "library.toml"
    description.write_text(description.read_text().replace("slots = 4", "slots = 5"))
    with pytest.raises(LrsError, match="make a new library") as caught:
        VirtualLibrary.open(tmp_path / "shelf")
    assert caught.value.errno == errno.EINVAL


def test_what_broke_off_while_it_was_made_is_made_anew(tmp_path: Path) -> None:
    shelf(tmp_path)
    (tmp_path / "shelf" / "library.toml").unlink()
    create(tmp_path / "shelf", tmp_path / "description.toml")
    assert places(VirtualLibrary.open(tmp_path / "shelf")) == {A: SLOT_A, B: SLOT_B, C: 1003}


# Looking.


async def test_elements(tmp_path: Path, autojump_clock: MockClock) -> None:
    library = shelf(tmp_path)
    await library.move(SLOT_B, DRIVE_1)
    elements = {element.address: element for element in library.elements()}
    assert [(address, element.kind, element.label) for address, element in elements.items()] == [
        (0, ElementKind.ARM, None),
        (MAIL_SLOT, ElementKind.IMPORT_EXPORT, None),
        (DRIVE_1, ElementKind.DRIVE, B),
        (DRIVE_2, ElementKind.DRIVE, None),
        (SLOT_A, ElementKind.SLOT, A),
        (SLOT_B, ElementKind.SLOT, None),
        (1003, ElementKind.SLOT, C),
        (1004, ElementKind.SLOT, None),
    ]
    assert (elements[DRIVE_1].full, elements[DRIVE_1].source, elements[DRIVE_1].serial) == (True, SLOT_B, D1)
    assert (elements[DRIVE_2].full, elements[DRIVE_2].source) == (False, None)


async def test_a_drive_is_found_by_its_serial(tmp_path: Path) -> None:
    found = unit(shelf(tmp_path), tmp_path, D2)
    assert await found.drive.query(device(D2)) == DriveIdentity("/dev/virtual-shelf-2", D2, "ULT3580-TD8")
    assert await found.library.lookup(device(D2)) == Content(None, 1)
    for ask in (found.drive.query, found.library.lookup):
        with pytest.raises(LrsError, match="VD0009") as caught:
            await ask(device("VD0009"))
        assert caught.value.errno == errno.ENOENT


# Moving.


async def test_load_and_unload_take_their_time(tmp_path: Path, autojump_clock: MockClock) -> None:
    library = shelf(tmp_path)
    robot = unit(library, tmp_path).library
    await robot.load(device(D1), B)
    assert trio.current_time() == generation(library).move_s() + generation(library).load_s()
    assert await robot.lookup(device(D1)) == Content(B, 0)
    start = trio.current_time()
    await robot.unload(device(D1), B)
    assert trio.current_time() - start == generation(library).unload_s(0) + generation(library).move_s()
    assert places(library)[B] == SLOT_B


async def test_speed_divides_all_times(tmp_path: Path, autojump_clock: MockClock) -> None:
    library = shelf(tmp_path, speed=100)
    await unit(library, tmp_path).library.load(device(D1), B)
    assert trio.current_time() == pytest.approx(0.23)


async def test_a_new_cartridge_takes_longer_once(tmp_path: Path, autojump_clock: MockClock) -> None:
    new = {"generation": "lto9", "count": 1, "new": True}
    library = shelf(tmp_path, drives=[{"generation": "lto9", "count": 1}], cartridges=[new])
    robot, lto9 = unit(library, tmp_path).library, generation(library)
    for initialise_s in (lto9.initialise_s, 0):
        start = trio.current_time()
        await robot.load(device(D1), "V00001L9")
        assert trio.current_time() - start == lto9.move_s() + lto9.load_s() + initialise_s
        await robot.unload(device(D1), "V00001L9")


async def test_unload_rewinds_what_was_written(tmp_path: Path, autojump_clock: MockClock) -> None:
    huge = {"generation": "lto8", "count": 1, "formatted": True}
    library = shelf(tmp_path, cartridges=[huge], stream_at_sync=False)
    found, root = await mounted(library, tmp_path)
    with (root / "object").open("wb") as file:
        file.truncate(6 * 10**9)
    await found.filesystem.unmount()
    start = trio.current_time()
    await found.library.unload(device(D1), A)
    assert trio.current_time() - start == 110 + 24 + 8


async def test_a_slot_that_was_taken_meanwhile(tmp_path: Path, autojump_clock: MockClock) -> None:
    library = shelf(tmp_path)
    robot = unit(library, tmp_path).library
    await robot.load(device(D1), A)
    await library.move(1003, SLOT_A)
    await robot.unload(device(D1), A)
    assert places(library) == {A: 1003, B: SLOT_B, C: SLOT_A}


async def test_from_one_drive_into_another(tmp_path: Path, autojump_clock: MockClock) -> None:
    library = shelf(tmp_path)
    await unit(library, tmp_path).library.load(device(D1), A)
    start = trio.current_time()
    await unit(library, tmp_path, D2).library.load(device(D2), A)
    lto8 = generation(library)
    assert trio.current_time() - start == lto8.unload_s(0) + lto8.move_s() + lto8.load_s()
    assert places(library)[A] == DRIVE_2


@pytest.mark.parametrize(
    ("source", "target", "said"),
    [
        (1004, DRIVE_1, "no cartridge to move"),
        (SLOT_A, SLOT_B, f"{B} is where it should go"),
        (SLOT_A, SLOT_A, f"{A} is where it should go"),
        (SLOT_A, 9999, "no such place"),
        (9999, DRIVE_1, "no such place"),
        (SLOT_A, 0, "no such place"),
    ],
)
async def test_moves_that_cannot_be(tmp_path: Path, source: int, target: int, said: str) -> None:
    library = shelf(tmp_path)
    before = library.elements()
    with pytest.raises(OperationError, match=said) as caught:
        await library.move(source, target)
    assert caught.value.errno == errno.EINVAL
    assert list(caught.value.record) == ["scsi_execute"]
    assert library.elements() == before


async def test_loads_and_unloads_that_cannot_be(tmp_path: Path, autojump_clock: MockClock) -> None:
    library = shelf(tmp_path)
    robot = unit(library, tmp_path).library
    with pytest.raises(MediumMissingError, match="V00009L8") as missing:
        await robot.load(device(D1), "V00009L8")
    assert missing.value.errno == errno.ENXIO
    with pytest.raises(OperationError, match="is empty") as empty:
        await robot.unload(device(D1), A)
    await robot.load(device(D1), A)
    with pytest.raises(OperationError, match=f"holds {A}") as other:
        await robot.unload(device(D1), B)
    with pytest.raises(OperationError, match=f"{A} is where it should go") as full:
        await robot.load(device(D1), B)
    assert empty.value.errno == other.value.errno == full.value.errno == errno.EINVAL


async def test_a_cartridge_that_the_drive_cannot_read_goes_home(tmp_path: Path, autojump_clock: MockClock) -> None:
    library = shelf(tmp_path, cartridges=[{"generation": "lto9", "count": 1}])
    with pytest.raises(OperationError, match="ULT3580-TD8 cannot read") as caught:
        await unit(library, tmp_path).library.load(device(D1), "V00001L9")
    assert caught.value.errno == errno.EMEDIUMTYPE
    assert places(library) == {"V00001L9": SLOT_A}


async def test_what_is_mounted_is_not_moved(tmp_path: Path, autojump_clock: MockClock) -> None:
    library = shelf(tmp_path)
    found, root = await mounted(library, tmp_path)
    with pytest.raises(OperationError, match=f"mounted at {root}") as caught:
        await found.library.unload(device(D1), A)
    assert caught.value.errno == errno.EBUSY
    # As after a restart of the host.
    root.unlink()
    await found.library.unload(device(D1), A)
    assert places(library)[A] == SLOT_A


async def test_what_another_drive_does_not_give_out_cannot_be_loaded(tmp_path: Path, autojump_clock: MockClock) -> None:
    library = shelf(tmp_path)
    found, root = await mounted(library, tmp_path)
    with pytest.raises(
        MediumMissingError, match=f"{A} is in drive {D1}, which has it mounted at {root}"
    ) as mounted_there:
        await found.library.load(device(D2), A)
    await found.filesystem.unmount()
    library.faults.inject(Fault(kind="drive_death", drive=D1))
    with pytest.raises(OperationError, match="dead"):
        await found.library.unload(device(D1), A)
    with pytest.raises(MediumMissingError, match=f"{A} is in drive {D1}, which is dead") as dead:
        await found.library.load(device(D2), A)
    assert mounted_there.value.errno == dead.value.errno == errno.EBUSY
    assert mounted_there.value.record == dead.value.record == {"MEDIUM_IN_DRIVE": D1}


async def test_the_arm_does_one_move_at_a_time_but_drives_work_side_by_side(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    library = shelf(tmp_path)
    lto8 = generation(library)
    async with trio.open_nursery() as nursery:
        for serial, name in ((D1, A), (D2, B)):
            nursery.start_soon(unit(library, tmp_path, serial).library.load, device(serial), name)
    assert trio.current_time() == 2 * lto8.move_s() + lto8.load_s()
    start = trio.current_time()
    async with trio.open_nursery() as nursery:
        for serial, name in ((D1, A), (D2, B)):
            nursery.start_soon(unit(library, tmp_path, serial).library.unload, device(serial), name)
    assert trio.current_time() - start == lto8.unload_s(0) + 2 * lto8.move_s()
    assert places(library) == {A: SLOT_A, B: SLOT_B, C: 1003}


async def test_two_that_want_one_cartridge(tmp_path: Path, autojump_clock: MockClock) -> None:
    library = shelf(tmp_path)
    refused = []

    async def load(serial: str) -> None:
        try:
            await unit(library, tmp_path, serial).library.load(device(serial), A)
        except OperationError as error:
            refused.append(error.errno)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(load, D1)
        nursery.start_soon(load, D2)
    assert refused == [errno.EINVAL]
    assert places(library)[A] in (DRIVE_1, DRIVE_2)


@pytest.mark.parametrize("seconds", range(0, 24, 2))
async def test_a_load_that_is_given_up_is_done_or_not(tmp_path: Path, autojump_clock: MockClock, seconds: int) -> None:
    library = shelf(tmp_path)
    robot = unit(library, tmp_path).library
    with trio.move_on_after(seconds):
        await robot.load(device(D1), A)
    assert places(library)[A] == (DRIVE_1 if seconds > generation(library).move_s() else SLOT_A)
    # The arm is free, and whatever it is can be put right.
    if places(library)[A] == DRIVE_1:
        await robot.unload(device(D1), A)
    await robot.load(device(D1), A)


# What goes wrong.


async def test_a_load_that_fails(tmp_path: Path, autojump_clock: MockClock) -> None:
    library = shelf(tmp_path, faults=[{"kind": "load", "drive": D1}])
    robot = unit(library, tmp_path).library
    with pytest.raises(OperationError, match=f"load of {A} into {D1}") as caught:
        await robot.load(device(D1), A)
    assert caught.value.errno == errno.EIO
    assert list(caught.value.record) == ["scsi_execute"]
    lto8 = generation(library)
    assert trio.current_time() == 2 * lto8.move_s() + lto8.load_s()
    assert places(library)[A] == SLOT_A
    await robot.load(device(D1), A)


async def test_a_stuck_unload(tmp_path: Path, autojump_clock: MockClock) -> None:
    library = shelf(tmp_path)
    library.faults.inject(Fault(kind="stuck_unload", cartridge=A))
    robot = unit(library, tmp_path).library
    await robot.load(device(D1), A)
    with pytest.raises(OperationError, match="does not come out") as caught:
        await robot.unload(device(D1), A)
    assert caught.value.errno == errno.EIO
    assert places(library)[A] == DRIVE_1
    await robot.unload(device(D1), A)


async def test_a_robot_that_stalls_holds_up_all_moves(tmp_path: Path, autojump_clock: MockClock) -> None:
    library = shelf(tmp_path)
    library.faults.inject(Fault(kind="robot_stall", drive=D1, stall_s=600))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(unit(library, tmp_path, D1).library.load, device(D1), A)
        await wait_all_tasks_blocked()
        await unit(library, tmp_path, D2).library.load(device(D2), B)
        assert trio.current_time() == 600 + 2 * generation(library).move_s() + generation(library).load_s()


async def test_a_wrong_cartridge(tmp_path: Path, autojump_clock: MockClock) -> None:
    library = shelf(tmp_path)
    library.faults.inject(Fault(kind="wrong_cartridge", cartridge=A))
    found = unit(library, tmp_path)
    await found.library.load(device(D1), A)
    # Nobody knows but who looks at what is written on the tape.
    assert await found.library.lookup(device(D1)) == Content(A, 0)
    assert await found.filesystem.read_label() == B
    # The robot finds nothing where the other one should be.
    with pytest.raises(OperationError, match=f"{B} is not where it should be") as caught:
        await unit(library, tmp_path, D2).library.load(device(D2), B)
    assert caught.value.errno == errno.EIO
    await found.library.unload(device(D1), A)
    await found.library.load(device(D1), A)
    assert await found.filesystem.read_label() == A
    await unit(library, tmp_path, D2).library.load(device(D2), B)


async def test_there_is_no_wrong_cartridge_to_take(tmp_path: Path, autojump_clock: MockClock) -> None:
    library = shelf(tmp_path, cartridges=[{"generation": "lto8", "count": 1, "formatted": True}])
    library.faults.inject(Fault(kind="wrong_cartridge"))
    found = unit(library, tmp_path)
    await found.library.load(device(D1), A)
    assert await found.filesystem.read_label() == A


async def test_a_dead_drive_keeps_what_it_has(tmp_path: Path, autojump_clock: MockClock) -> None:
    library = shelf(tmp_path)
    found = unit(library, tmp_path)
    await found.library.load(device(D1), A)
    library.faults.inject(Fault(kind="drive_death", drive=D1, after_s=100))
    await trio.sleep(99)
    assert await found.filesystem.adopt() is None
    await trio.sleep(1)
    for operation in (
        lambda: found.library.unload(device(D1), A),
        lambda: found.drive.query(device(D1)),
        lambda: found.filesystem.open("/dev/virtual-shelf-1"),
        found.filesystem.adopt,
        found.filesystem.read_label,
        lambda: found.filesystem.mount(medium(A)),
        lambda: found.filesystem.format(medium(A)),
        found.filesystem.unmount,
        found.filesystem.sync,
        found.filesystem.space,
    ):
        with pytest.raises(LrsError, match="dead") as caught:
            await operation()
        assert caught.value.errno == errno.EIO
    assert await found.library.lookup(device(D1)) == Content(A, 0)
    assert [element.address for element in library.elements() if not element.accessible] == [DRIVE_1]
    assert trio.current_time() == 23 + 100

    library.mend(D1)
    await found.library.unload(device(D1), A)
    assert places(library)[A] == SLOT_A
    with pytest.raises(LrsError, match="VD0009"):
        library.mend("VD0009")


async def test_nothing_is_loaded_into_a_dead_drive(tmp_path: Path, autojump_clock: MockClock) -> None:
    library = shelf(tmp_path, faults=[{"kind": "drive_death", "drive": D1, "after_s": 0}])
    with pytest.raises(OperationError, match="dead"):
        await unit(library, tmp_path).library.load(device(D1), A)
    assert places(library)[A] == SLOT_A
    assert trio.current_time() == 0


async def test_a_drive_dies_in_the_middle_of_a_load(tmp_path: Path, autojump_clock: MockClock) -> None:
    library = shelf(tmp_path, faults=[{"kind": "drive_death", "drive": D1, "after_s": 10}])
    with pytest.raises(OperationError, match="dead"):
        await unit(library, tmp_path).library.load(device(D1), A)
    assert trio.current_time() == 10
    assert places(library)[A] == DRIVE_1


async def test_a_drive_dies_of_its_second_operation(tmp_path: Path, autojump_clock: MockClock) -> None:
    library = shelf(tmp_path, faults=[{"kind": "drive_death", "drive": D1, "at": 2}])
    robot = unit(library, tmp_path).library
    await robot.load(device(D1), A)
    with pytest.raises(OperationError, match="dead"):
        await robot.unload(device(D1), A)
    library.mend(D1)
    await robot.unload(device(D1), A)


async def test_faults_are_read_while_the_library_runs(
    tmp_path: Path, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    library = shelf(tmp_path)
    robot, faults = unit(library, tmp_path).library, tmp_path / "shelf" / "faults.toml"
    await robot.load(device(D1), A)
    faults.write_text(f'[[faults]]\nkind = "stuck_unload"\ndrive = "{D1}"\n')
    with pytest.raises(OperationError, match="does not come out"):
        await robot.unload(device(D1), A)
    # One that is half written changes nothing.
    faults.write_text("[[faults]\nkind")
    await robot.unload(device(D1), A)
    faults.write_text(f'[[faults]]\nkind = "drive_death"\ndrive = "{D1}"\nafter_s = 5\n')
    with pytest.raises(OperationError, match="dead"):
        await robot.load(device(D1), A)
    library.mend(D1)
    faults.unlink()
    assert await unit(library, tmp_path).filesystem.adopt() is None
