"""The comparison that the other tests rely on finds what differs."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import pytest

from lrs_trio.model import LockOwner
from tests.interop.host import Directory
from tests.interop.tables import KEYS, OTHERS_WRITE, Expected, Measured, Since, Tables, differences

NOW = datetime.fromisoformat("2026-01-02 03:04:05")
DIRECTORY = Directory(Path("/"), "store1")


def expected() -> Expected:
    """What one directory that is served leaves in the tables."""
    rows = Expected({table: {} for table in KEYS}, NOW)
    rows.add_device(DIRECTORY)
    rows.add_medium(DIRECTORY)
    rows.serve(DIRECTORY, LockOwner("store1", 1))
    return rows


def found() -> Tables:
    rows = expected()
    for id_ in DIRECTORY.locks.items():
        rows.update("lock", id_, timestamp=NOW)
    return rows.tables


def test_equal_tables_do_not_differ() -> None:
    assert differences(found(), expected().tables) == []


@pytest.mark.parametrize(
    ("table", "column", "value"),
    [
        ("device", "adm_status", "locked"),
        ("device", "model", "directory"),
        ("media", "put", False),
        ("media", "put", 1),
        ("media", "tags", ["foo"]),
        ("media", "fs_label", None),
        ("lock", "is_weak", True),
        ("lock", "owner", 2),
        ("lock", "timestamp", NOW - timedelta(microseconds=1)),
        ("lock", "another", None),
    ],
)
def test_each_column_counts(table: str, column: str, value: object) -> None:
    tables = found()
    key = next(iter(tables[table]))
    tables[table][key][column] = value
    (line,) = differences(tables, expected().tables)
    assert line.startswith(f"{table} {key} {column}: is ")


@pytest.mark.parametrize("change", [{"nb_obj": 1}, {"nb_obj": False}, {"nb_obj": None}, {"another": 0}])
def test_each_figure_counts(change: dict[str, object]) -> None:
    tables = found()
    (row,) = tables["media"].values()
    row["stats"] = row["stats"] | change
    (line,) = differences(tables, expected().tables)
    assert f"stats.{next(iter(change))}: is " in line


def test_a_figure_that_is_missing_counts() -> None:
    tables = found()
    (row,) = tables["media"].values()
    del row["stats"]["last_load"]
    (line,) = differences(tables, expected().tables)
    assert line.endswith("stats.last_load: is missing")


@pytest.mark.parametrize("table", ["device", "media", "lock"])
def test_each_row_counts(table: str) -> None:
    fewer, more = found(), found()
    key, row = fewer[table].popitem()
    more[table]["one", "more"] = row
    assert differences(fewer, expected().tables) == [f"{table} {key}: is missing"]
    assert differences(more, expected().tables) == [f"{table} ('one', 'more'): is there: {row}"]


def test_space_is_compared_as_far_as_others_leave_it_alone() -> None:
    used = Measured(Path("/"), "used")
    near = used._now()
    assert near == used
    assert not any(value == used for value in (near + 2 * OTHERS_WRITE, near - 2 * OTHERS_WRITE, float(near), None))


def test_times_are_not_before() -> None:
    assert Since(NOW) == NOW
    assert not Since(NOW) == NOW - timedelta(seconds=1)  # noqa: SIM201 no other operator is used of it
    assert not Since(NOW) == "2027-01-01"  # noqa: SIM201
