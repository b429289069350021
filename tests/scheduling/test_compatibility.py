"""What the tables of models decide."""

from __future__ import annotations

import pytest

from lrs_trio.scheduling.compatibility import compatible, gaps, technology
from lrs_trio.settings import TapeSettings

SITE = TapeSettings(
    drive_types={"LTO8_drive": ("ULT3580-TD8", "HH LTO Gen 8"), "LTO9_drive": ("ULT3580-TD9",)},
    tape_types={"LTO8": ("LTO8_drive", "LTO9_drive"), "LTO9": ("LTO9_drive",)},
)


@pytest.mark.parametrize(
    ("medium", "drive", "fits"),
    [
        ("LTO8", "ULT3580-TD8", True),
        ("LTO8", "HH LTO Gen 8", True),
        ("LTO8", "ULT3580-TD9", True),
        ("LTO9", "ULT3580-TD8", False),
        ("LTO9", "ult3580-td9", False),
        ("LTO5", "ULT3580-TD8", False),
        (None, "ULT3580-TD8", False),
        ("LTO8", None, False),
    ],
)
def test_a_tape_goes_into_the_drives_that_its_model_names(medium: str | None, drive: str | None, fits: bool) -> None:
    assert compatible(medium, drive, SITE) is fits


def test_a_site_without_tables_has_drives_for_all() -> None:
    assert compatible("LTO8", None, TapeSettings())
    assert compatible(None, "anything", TapeSettings())
    assert gaps([None, "LTO8"], [None], TapeSettings()) == []


def test_a_technology_is_the_first_model_whose_drives_have_this_one() -> None:
    assert technology("ULT3580-TD9", SITE) == "LTO9"
    assert technology("HH LTO Gen 8", SITE) == "LTO8"
    assert technology("T10000C", SITE) is None
    assert technology(None, SITE) is None
    assert technology("x", TapeSettings(models=("B", "A"), drive_types={"A_drive": ("x",), "B_drive": ("x",)})) == "B"


def test_what_the_tables_lack_is_told() -> None:
    assert gaps(["LTO8", "LTO9"], ["ULT3580-TD8"], SITE) == []
    settings = TapeSettings(drive_types={"LTO8_drive": ("TD8",)}, tape_types={"LTO8": ("LTO8_drive", "LTO9_drive")})
    assert gaps(["LTO8", "LTO7", "LTO7", None], ["TD8", "TD7", None], settings) == [
        "no drive takes tapes of an unknown model: families.tape.tape_types has no such entry",
        "no drive takes tapes of the model LTO7: families.tape.tape_types has no such entry",
        "no drive is of the type LTO9_drive: families.tape.drive_types has no such entry",
        "no tape fits drives of an unknown model: families.tape.drive_types does not list it",
        "no tape fits drives of the model TD7: families.tape.drive_types does not list it",
    ]
