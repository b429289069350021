from __future__ import annotations

import errno
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrs_trio.errors import OperationError
from lrs_trio.storage.elements import Element, ElementKind
from lrs_trio.storage.library_status import parse_elements
from lrs_trio.tlc.inventory import Inventory, Move

ARM = Element(ElementKind.ARM, 0)
FULL = Element(ElementKind.SLOT, 1001, True, "P1")
FREE = Element(ElementKind.SLOT, 1002)
LAST = Element(ElementKind.SLOT, 1003)
PORT = Element(ElementKind.IMPORT_EXPORT, 10, True, "P9")
LOADED = Element(ElementKind.DRIVE, 256, True, "P3", 1003, "IBM ULT3580-TD5 S1")
EMPTY = Element(ElementKind.DRIVE, 257, device_id="S2")
DOWN = Element(ElementKind.DRIVE, 258, device_id="S3", accessible=False)


def inventory(*more: Element) -> Inventory:
    known = {element.address: element for element in (LAST, FREE, FULL, ARM, PORT, EMPTY, LOADED, DOWN)}
    return Inventory((known | {element.address: element for element in more}).values())


def refused(plan: Callable[[], object]) -> tuple[int | None, dict[str, str]]:
    with pytest.raises(OperationError) as caught:
        plan()
    return caught.value.errno, dict(caught.value.record)


def test_drives_are_found_by_the_last_word_of_what_they_are() -> None:
    assert inventory().drive("S1") == LOADED
    assert inventory().first_drive() == 256
    assert Inventory([FREE]).first_drive() == 0


@pytest.mark.parametrize("serial", ["S9", "", "ULT3580-TD5", "IBM ULT3580-TD5 S1"])
def test_a_serial_that_no_drive_has(serial: str) -> None:
    nameless = Element(ElementKind.DRIVE, 259)
    known = inventory(nameless)
    assert refused(lambda: known.drive(serial)) == (errno.ENOENT, {"DRIVE_SERIAL_UNKNOWN": serial})
    assert refused(lambda: known.plan_load(serial, "P1")) == (errno.ENOENT, {"DRIVE_SERIAL_UNKNOWN": serial})
    assert refused(lambda: known.plan_unload(serial, None)) == (errno.ENOENT, {"DRIVE_UNKNOWN_SERIAL": serial})


@pytest.mark.parametrize(
    ("extra", "source"),
    [
        ([], None),
        ([Element(ElementKind.IMPORT_EXPORT, 11, True, "PX")], 11),
        ([Element(ElementKind.ARM, 1, True, "PX")], 1),
        ([Element(ElementKind.DRIVE, 259, True, "PX")], 259),
        ([Element(ElementKind.SLOT, 1009, True, "PX")], 1009),
    ],
    ids=["nowhere", "port", "arm", "drive", "slot"],
)
def test_a_medium_is_looked_for_everywhere_slots_first(extra: list[Element], source: int | None) -> None:
    everywhere = [
        Element(ElementKind.IMPORT_EXPORT, 11, True, "PX"),
        Element(ElementKind.ARM, 1, True, "PX"),
        Element(ElementKind.DRIVE, 259, True, "PX"),
        Element(ElementKind.SLOT, 1009, True, "PX"),
    ]
    if source is None:
        assert refused(lambda: inventory().plan_load("S2", "PX")) == (errno.ENOENT, {"MEDIA_LABEL_UNKNOWN": "PX"})
        return
    assert inventory(*extra).plan_load("S2", "PX") == Move("PX", source, 257)
    last = everywhere.index(extra[0])
    assert inventory(*everywhere[: last + 1]).plan_load("S2", "PX").source == source


def test_a_full_drive_and_one_that_is_down_are_not_loaded() -> None:
    number, record = refused(lambda: inventory().plan_load("S1", "P1"))
    assert (number, record["LOADED_TAPE"]) == (errno.EBUSY, "P3")
    assert refused(lambda: inventory().plan_load("S3", "P1")) == (errno.EIO, {"DRIVE_NOT_ACCESSIBLE": "S3"})


@pytest.mark.parametrize("label", [None, "P3"])
def test_a_medium_goes_back_to_its_slot(label: str | None) -> None:
    assert inventory().plan_unload("S1", label) == Move("P3", 256, 1003)


@pytest.mark.parametrize(
    "drive",
    [
        Element(ElementKind.DRIVE, 256, True, "P3", 1001, "S1"),  # somebody has taken the slot
        Element(ElementKind.DRIVE, 256, True, "P3", 10, "S1"),  # it came from a port
        Element(ElementKind.DRIVE, 256, True, "P3", 4711, "S1"),  # there is no such place
        Element(ElementKind.DRIVE, 256, True, "P3", None, "S1"),
    ],
)
def test_or_else_to_the_first_free_one(drive: Element) -> None:
    assert inventory(drive).plan_unload("S1", "P3") == Move("P3", 256, 1002)


def test_a_slot_that_cannot_be_reached_is_not_free() -> None:
    known = inventory(Element(ElementKind.SLOT, 1002, accessible=False), Element(ElementKind.SLOT, 1003, True, "P4"))
    number, record = refused(lambda: known.plan_unload("S1", None))
    assert (number, *record) == (errno.ENOENT, "NO_FREE_SLOT")


def test_what_is_in_a_drive_must_be_what_is_expected() -> None:
    assert inventory().plan_unload("S2", None) is None
    assert refused(lambda: inventory().plan_unload("S2", "P1")) == (
        errno.EINVAL,
        {"EMPTY_DRIVE_DOES_NOT_CONTAIN": "P1"},
    )
    assert refused(lambda: inventory().plan_unload("S1", "P1")) == (
        errno.EINVAL,
        {"EXPECTED_TAPE": "P1", "LOADED_TAPE": "P3"},
    )


def test_a_medium_without_a_label_can_be_unloaded_by_whoever_expects_nothing() -> None:
    known = inventory(Element(ElementKind.DRIVE, 256, True, None, None, "S1"))
    assert refused(lambda: known.plan_unload("S1", "P3")) == (errno.EINVAL, {"EXPECTED_TAPE": "P3", "LOADED_TAPE": ""})
    move = known.plan_unload("S1", None)
    assert move == Move("", 256, 1002)
    known.moved(move)
    assert Element(ElementKind.SLOT, 1002, True) in parse_elements(known.dump())


@given(
    st.lists(st.tuples(st.booleans(), st.sampled_from(["S1", "S2"]), st.sampled_from(["P1", "P3", "P9"])), max_size=12)
)
def test_nothing_is_lost_or_doubled_whatever_is_asked(requests: list[tuple[bool, str, str]]) -> None:
    known = inventory()
    for loads, serial, label in requests:
        try:
            move = known.plan_load(serial, label) if loads else known.plan_unload(serial, label)
        except OperationError:
            continue
        assert move is not None
        known.moved(move)
        drive = known.drive(serial)
        assert (drive.full, drive.label) == ((True, label) if loads else (False, None))
        assert drive.source == (move.source if loads else None)
    elements = parse_elements(known.dump())
    assert sorted(element.label or "" for element in elements if element.full) == ["P1", "P3", "P9"]
    assert len(elements) == len(known)
