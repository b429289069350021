from __future__ import annotations

import errno
import os
from collections import Counter
from pathlib import Path

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from lrs_trio.errors import OperationError
from lrs_trio.storage.elements import Element, ElementKind
from lrs_trio.tlc.mtx import FIRST_DRIVE, MtxChanger, move_arguments, parse_status
from tests.processes import wait_gone
from tests.tlc.conftest import SAMPLES, FakeMtx

SLOT, PORT, DRIVE = ElementKind.SLOT, ElementKind.IMPORT_EXPORT, ElementKind.DRIVE
DRIVE_0, DRIVE_1, DRIVE_2, DRIVE_3 = range(FIRST_DRIVE, FIRST_DRIVE + 4)
NOT_READY = "mtx: Request Sense: Sense Key=Not Ready\nmtx: Request Sense: Additional Sense Code = 04\n"


def sample(name: str) -> list[str]:
    return (SAMPLES / f"{name}.txt").read_text().splitlines()


# What mtx prints


def test_a_small_library() -> None:
    elements = parse_status(sample("small"), ["S1", "IBM ULT3580-TD5 S2"])
    assert elements == (
        Element(SLOT, 1, True, "P00001L5"),
        Element(SLOT, 2, True, "P00002L5"),
        Element(SLOT, 3),
        Element(SLOT, 4, True, "P00004L5"),
        Element(SLOT, 5),
        Element(SLOT, 6, True),
        Element(SLOT, 7, True, "CLN001L1"),
        Element(SLOT, 8),
        Element(SLOT, 9),
        Element(SLOT, 10, True, "P00010L5"),
        Element(PORT, 11),
        Element(PORT, 12, True, "P00012L5"),
        Element(DRIVE, DRIVE_0, True, "P00003L5", 3, "S1"),
        Element(DRIVE, DRIVE_1, device_id="IBM ULT3580-TD5 S2"),
    )
    assert [element.serial for element in elements[-2:]] == ["S1", "S2"]


def test_labels_with_blanks_ports_without_them_and_a_tape_from_nobody_knows_where() -> None:
    assert parse_status(sample("padded")) == (
        Element(SLOT, 1),
        Element(SLOT, 2),
        Element(PORT, 3, True, "UN0101L3"),
        Element(PORT, 4, True, "UN0102L3"),
        Element(PORT, 5, True),
        Element(PORT, 6),
        Element(PORT, 7),
        Element(PORT, 8),
        Element(DRIVE, DRIVE_0),
        Element(DRIVE, DRIVE_1, True, "UN0108L3"),
    )


def test_a_drive_is_down_if_its_state_is_not_known_or_it_is_not_listed() -> None:
    assert parse_status(sample("two_drives_down"), ["S1", "S2", "S3", "S4"]) == (
        Element(SLOT, 1, True, "V5A001L7"),
        Element(SLOT, 2),
        Element(SLOT, 3, True, "V5A002L7"),
        Element(SLOT, 4),
        Element(SLOT, 5),
        Element(SLOT, 6, accessible=False),
        Element(DRIVE, DRIVE_0, True, "V5A003L7", 2, "S1"),
        Element(DRIVE, DRIVE_1, device_id="S2", accessible=False),
        Element(DRIVE, DRIVE_2, device_id="S3", accessible=False),
        Element(DRIVE, DRIVE_3, device_id="S4"),
    )


def test_media_without_labels() -> None:
    elements = parse_status(sample("no_barcodes"), ["S1"])
    assert elements[0] == Element(SLOT, 1)
    assert elements[1:8] == tuple(Element(SLOT, number, True) for number in range(2, 9))
    assert elements[8:] == (Element(DRIVE, DRIVE_0, True, None, 1, "S1"),)


def test_a_large_library() -> None:
    elements = parse_status(sample("large"))
    assert Counter((element.kind, element.full) for element in elements) == {
        (SLOT, True): 276,
        (SLOT, False): 24,
        (PORT, False): 10,
        (DRIVE, True): 4,
        (DRIVE, False): 4,
    }
    assert len({element.label for element in elements if element.full}) == 280


@pytest.mark.parametrize(
    "lines",
    [
        [],
        ["mtx: No such device or address"],
        sample("small")[1:],
        sample("small")[:-1],
        [f"  Storage Changer /dev/changer:1 Drives, {FIRST_DRIVE} Slots ( 0 Import/Export )"],
    ],
    ids=["nothing", "an error", "no header", "cut off", "too large"],
)
def test_what_is_no_status_is_refused(lines: list[str]) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_status(lines)


line = st.builds(
    "{}{} Element {}{}:{}{}".format,
    st.sampled_from(["", "      "]),
    st.sampled_from(["Storage", "Data Transfer", "Other"]),
    st.integers(0, 12),
    st.sampled_from(["", " IMPORT/EXPORT"]),
    st.sampled_from(["Full", "Empty", "Full (Storage Element 3 Loaded)", "Full (", "", " "]),
    st.sampled_from(["", ":VolumeTag=A", ":VolumeTag = A ", ":AlternateVolumeTag=B", ":VolumeTag=A:AlternateVolumeTag"])
    | st.text(max_size=5),
)


@given(st.lists(line | st.text(max_size=20), max_size=20))
def test_any_lines_give_elements_or_an_error(lines: list[str]) -> None:
    header = "  Storage Changer /dev/changer:2 Drives, 3 Slots ( 1 Import/Export )"
    try:
        elements = parse_status([header, *lines])
    except ValueError:
        return
    assert sum(element.kind is DRIVE for element in elements) >= 2
    assert all(element.full for element in elements if element.label is not None)


# What it is told


@pytest.mark.parametrize(
    ("source", "target", "arguments"),
    [
        (3, DRIVE_0, ("load", "3", "0")),
        (DRIVE_1, 12, ("unload", "12", "1")),
        (3, 12, ("transfer", "3", "12")),
    ],
)
def test_addresses_are_made_numbers_again(source: int, target: int, arguments: tuple[str, ...]) -> None:
    assert move_arguments(source, target) == arguments


def test_no_medium_is_carried_from_drive_to_drive() -> None:
    with pytest.raises(OperationError) as caught:
        move_arguments(DRIVE_0, DRIVE_1)
    assert caught.value.errno == errno.ENOTSUP
    assert list(caught.value.record) == ["MEDIUM_IN_DRIVE"]


# The program


async def test_the_program_looks_and_moves(mtx: FakeMtx) -> None:
    changer = mtx.changer("S1", "S2")
    assert await changer.check()
    before = await changer.elements()
    assert before == parse_status(sample("small"), ["S1", "S2"])
    await changer.move(DRIVE_0, 3)
    await changer.move(12, DRIVE_1)
    await changer.move(3, 11)
    assert mtx.calls == ["inquiry", "status", "unload 3 0", "load 12 1", "transfer 3 11"]
    after = {element.address: element for element in await changer.elements()}
    assert after[11] == Element(PORT, 11, True, "P00003L5")
    assert after[DRIVE_0] == Element(DRIVE, DRIVE_0, device_id="S1")
    assert after[DRIVE_1] == Element(DRIVE, DRIVE_1, True, "P00012L5", 12, "S2")


async def test_an_exit_status_is_an_error_with_what_was_said(mtx: FakeMtx) -> None:
    mtx.fail("load", "1", "mtx: Request Sense: Sense Key=Hardware Error\nMOVE MEDIUM from 1 to 256 Failed\n")
    with pytest.raises(OperationError, match="Hardware Error") as caught:
        await mtx.changer().move(1, DRIVE_1)
    assert caught.value.errno == errno.EIO
    assert caught.value.record["mtx load"].endswith("load 1 1 exited with status 1")
    assert caught.value.record["output"].endswith("\nMOVE MEDIUM from 1 to 256 Failed")
    assert mtx.calls == ["load 1 1"]


async def test_a_program_that_dies_or_talks_nonsense_is_an_error(mtx: FakeMtx) -> None:
    mtx.fail("status", "die")
    with pytest.raises(OperationError, match="SIGABRT"):
        await mtx.changer().elements()
    mtx.fail("status", "0", "I feel fine\n")
    with pytest.raises(OperationError, match="not understood") as caught:
        await mtx.changer().elements()
    assert caught.value.errno == errno.EIO


async def test_a_program_that_is_not_there_is_an_error() -> None:
    changer = MtxChanger(["/no/such/program"], (), move_s=1, retries=0, retry_s=1)
    with pytest.raises(OSError, match="/no/such/program") as caught:
        await changer.elements()
    assert caught.value.errno == errno.ENOENT
    assert not await changer.check()


async def test_a_library_that_is_not_ready_is_asked_again(mtx: FakeMtx) -> None:
    mtx.fail("load", "1 once", NOT_READY)
    await mtx.changer().move(1, DRIVE_1)
    assert mtx.calls == ["load 1 1", "load 1 1"]


async def test_it_is_not_asked_for_ever(mtx: FakeMtx) -> None:
    mtx.fail("load", "1", NOT_READY)
    with pytest.raises(OperationError, match="Not Ready"):
        await mtx.changer(retries=2).move(1, DRIVE_1)
    assert mtx.calls == ["load 1 1"] * 3


async def test_a_library_that_does_not_answer_is_told_by_the_check(mtx: FakeMtx) -> None:
    mtx.fail("inquiry", "1", "cannot open SCSI device '/dev/changer' - No such device\n")
    assert not await mtx.changer().check()


async def wait_hanging(directory: Path) -> int:
    """The process that hangs, once it does."""
    with trio.fail_after(60):
        while not (directory / "hanging").exists() or not (directory / "hanging").read_text():  # noqa: ASYNC110 a file
            await trio.sleep(0.01)
    return int((directory / "hanging").read_text())


async def test_a_program_that_hangs_is_ended_at_its_deadline(mtx: FakeMtx) -> None:
    mtx.fail("load", "hang")
    with pytest.raises(OperationError, match=r"load 1 1 has not ended within 0\.5 s") as caught:
        await mtx.changer(move_s=0.5).move(1, DRIVE_1)
    assert caught.value.errno == errno.ETIMEDOUT


async def test_a_program_that_nobody_waits_for_any_more_is_ended(mtx: FakeMtx) -> None:
    mtx.fail("load", "hang")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(mtx.changer().move, 1, DRIVE_1)
        pid = await wait_hanging(mtx.directory)
        os.kill(pid, 0)
        nursery.cancel_scope.cancel()
    wait_gone(pid)
