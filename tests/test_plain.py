"""Frozen data as JSON has it, there and back."""

from __future__ import annotations

import json
from typing import Any

import pytest

from lrs_trio.model import Family, FsStatus, FsType, Medium, MediumStats, ResourceId, SyncThresholds
from lrs_trio.plain import from_plain, to_plain

ID = ResourceId(Family.TAPE, "P00003L8", "legacy")


def test_only_what_is_not_as_by_default_is_said() -> None:
    medium = Medium(ID, FsType.LTFS, fs_status=FsStatus.USED, stats=MediumStats(nb_obj=3), tags=("blue",))
    assert to_plain(medium) == {
        "id": {"family": "tape", "name": "P00003L8", "library": "legacy"},
        "fs_type": "ltfs",
        "fs_status": "used",
        "stats": {"nb_obj": 3},
        "tags": ["blue"],
    }


def test_what_has_no_default_is_always_said() -> None:
    assert to_plain(SyncThresholds(0, 0, 0)) == {"age": 0, "requests": 0, "size": 0}


@pytest.mark.parametrize(
    "value",
    [
        Medium(ID, FsType.LTFS, model="LTO8", tags=("a", "b"), get=False),
        Medium(ID, FsType.LTFS),
        SyncThresholds(0.25, 3, 2**40),
        SyncThresholds(7, 3, 4),
    ],
)
def test_values_come_back(value: object) -> None:
    assert from_plain(type(value), json.loads(json.dumps(to_plain(value)))) == value


def test_what_a_newer_program_says_besides_is_left_out() -> None:
    assert from_plain(ResourceId, to_plain(ID) | {"mood": 1}) == ID


@pytest.mark.parametrize(
    ("kind", "plain"),
    [
        (ResourceId, {"family": "tape", "name": "a"}),
        (ResourceId, {"family": "disk", "name": "a", "library": "b"}),
        (ResourceId, {"family": 0, "name": "a", "library": "b"}),
        (ResourceId, {"family": "tape", "name": None, "library": "b"}),
        (ResourceId, ["tape", "a", "b"]),
        (MediumStats, {"nb_obj": True}),
        (MediumStats, {"nb_obj": 1.0}),
        (Medium, to_plain(Medium(ID, FsType.LTFS)) | {"tags": "blue"}),
        (Medium, to_plain(Medium(ID, FsType.LTFS)) | {"put": 1}),
        (Medium, to_plain(Medium(ID, FsType.LTFS)) | {"model": 5}),
    ],
)
def test_other_values_are_refused(kind: type, plain: Any) -> None:
    with pytest.raises(ValueError, match=r"."):
        from_plain(kind, plain)
