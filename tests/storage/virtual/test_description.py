from __future__ import annotations

import errno
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from lrs_trio.errors import LrsError
from lrs_trio.storage.virtual.description import Description, description_path, generation_files, read_plan
from lrs_trio.storage.virtual.faults import FaultTable
from tests.storage.virtual.shelf import MIB, describe

ROOT = Path(__file__).parents[3]


def test_the_demo_library() -> None:
    plan = read_plan(description_path("demo"))
    assert len(list(plan.drives("x"))) == 8
    cartridges = [cartridge for cartridge, _ in plan.cartridges()]
    assert {(cartridge.model, cartridge.capacity) for cartridge in cartridges} == {("LTO8", 16 * MIB)}
    assert len(cartridges) == 40
    assert plan.description.slots == 48
    assert not plan.description.stream_at_sync


def test_the_small_library() -> None:
    plan = read_plan(description_path("small"))
    assert (len(list(plan.drives("x"))), len(list(plan.cartridges())), plan.description.slots) == (2, 8, 10)
    assert not plan.description.durable


def test_all_that_comes_with_the_program_is_installed() -> None:
    data_files = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["data-files"]
    (pattern,) = data_files["share/lrs-trio/virtual"]
    assert {*ROOT.glob(pattern)} == {*generation_files().values(), description_path("demo"), description_path("small")}


def test_the_page_about_it_is_right() -> None:
    blocks = re.findall(
        r"^```toml\n(.*?)^```", (ROOT / "docs/virtual-library.md").read_text(), re.MULTILINE | re.DOTALL
    )
    description, faults = map(tomllib.loads, blocks)
    Description.model_validate(description)
    assert len(FaultTable.model_validate(faults).faults) == 3


def test_drives_and_cartridges_are_numbered_through(tmp_path: Path) -> None:
    file = describe(
        tmp_path,
        slots=9,
        drives=[{"generation": "lto8", "count": 2}, {"generation": "lto9", "count": 1}],
        cartridges=[
            {"generation": "lto8", "count": 2, "prefix": "A"},
            {"generation": "lto9", "count": 1, "capacity": "1GiB"},
        ],
    )
    plan = read_plan(file)
    assert [(drive.serial, drive.path, drive.address, drive.device_id) for drive in plan.drives("lib")] == [
        ("VD0001", "/dev/virtual-lib-1", 256, "IBM ULT3580-TD8 VD0001"),
        ("VD0002", "/dev/virtual-lib-2", 257, "IBM ULT3580-TD8 VD0002"),
        ("VD0003", "/dev/virtual-lib-3", 258, "IBM ULT3580-TD9 VD0003"),
    ]
    assert [(cartridge.label, cartridge.model, cartridge.capacity) for cartridge, _ in plan.cartridges()] == [
        ("A00001L8", "LTO8", 12 * 10**12),
        ("A00002L8", "LTO8", 12 * 10**12),
        ("V00003L9", "LTO9", 2**30),
    ]


def test_a_generation_of_ones_own_lies_beside_the_description(tmp_path: Path) -> None:
    own = generation_files()["lto8"].read_text().replace("move = 8 ", "move = 30 ")
    (tmp_path / "lto8.toml").write_text(own)
    (tmp_path / "mine.toml").write_text(own)
    plan = read_plan(
        describe(tmp_path, drives=[{"generation": "lto8", "count": 1}, {"generation": "mine", "count": 1}])
    )
    assert [generation.move_s() for generation in plan.generations.values()] == [30, 30]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"drives": [{"generation": "lto3", "count": 1}]}, "'lto3' is unknown.*lto7, lto8, lto9"),
        ({"drives": [{"generation": "../x", "count": 1}]}, "drives.0.generation"),
        ({"drives": []}, "drives"),
        ({"slots": 2}, "more cartridges than the 2 slots"),
        ({"drives": [{"generation": "lto8", "count": 500}, {"generation": "lto8", "count": 500}]}, "more than 745"),
        ({"colour": "red"}, "colour"),
        ({"faults": [{"kind": "load", "rate": 7}]}, "faults.0.rate"),
    ],
)
def test_a_description_that_is_no_good(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    file = describe(tmp_path, **changes)
    with pytest.raises(LrsError, match=f"{file}.*{said}") as caught:
        read_plan(file)
    assert caught.value.errno == errno.EINVAL


def test_a_description_that_is_not_there_or_not_toml(tmp_path: Path) -> None:
    with pytest.raises(LrsError, match="cannot be read") as missing:
        read_plan(tmp_path / "nothing.toml")
    (tmp_path / "bad.toml").write_text("slots =")
    with pytest.raises(LrsError, match="is not TOML") as bad:
        read_plan(tmp_path / "bad.toml")
    assert missing.value.errno == bad.value.errno == errno.EINVAL
    with pytest.raises(LrsError, match="huge") as unknown:
        description_path("huge")
    assert unknown.value.errno == errno.ENOENT
