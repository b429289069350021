"""The tables that the daemon works on, read whole before and after, and compared column by column."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Literal

import psycopg

from lrs_trio.model import LockOwner
from tests.interop.host import Directory

KEYS: Final = {
    "device": ("family", "id", "library"),
    "media": ("family", "id", "library"),
    "lock": ("type", "id"),
    "logs": ("uuid",),
}

Connection = psycopg.Connection[dict[str, Any]]
Row = dict[str, Any]
Key = tuple[str, ...]
Tables = dict[str, dict[Key, Row]]

OTHERS_WRITE: Final = 2**30
"""How far the space of a directory may be from what statvfs says later, where its filesystem is not the test's own:
those of temporary files and of memory, which other tests and the database use meanwhile. Bytes."""

NO_STATS: Final = {
    "nb_obj": 0,
    "logc_spc_used": 0,
    "phys_spc_used": 0,
    "phys_spc_free": 0,
    "nb_load": 0,
    "nb_errors": 0,
    "last_load": 0,
}
"""The figures of a medium that nobody has used: all seven are always there."""


def read_tables(connection: Connection) -> Tables:
    """All rows by table and key."""
    return {
        table: {tuple(row[column] for column in key): row for row in connection.execute(f"SELECT * FROM {table}")}
        for table, key in KEYS.items()
    }


class Measured:
    """Equal to what statvfs says of a filesystem, as far as others leave that alone."""

    def __init__(self, path: Path, what: Literal["used", "free"]) -> None:
        self._path = path
        self._what = what

    def __eq__(self, other: object) -> bool:
        return type(other) is int and abs(other - self._now()) <= OTHERS_WRITE

    def __repr__(self) -> str:
        return f"about {self._now()}, what is {self._what} at {self._path}"

    def _now(self) -> int:
        found = os.statvfs(self._path)
        used = found.f_blocks - found.f_bfree
        return (used if self._what == "used" else found.f_bavail) * found.f_frsize


class Since:
    """Equal to a time, by the clock of the database, that is not before `moment`."""

    def __init__(self, moment: datetime) -> None:
        self._moment = moment

    def __eq__(self, other: object) -> bool:
        return isinstance(other, datetime) and other >= self._moment

    def __repr__(self) -> str:
        return f"{self._moment} or later"


def blank_medium(fs_type: str, model: str | None) -> Row:
    """A medium that has just been added, but for its key."""
    return {
        "model": model,
        "adm_status": "locked",
        "fs_type": fs_type,
        "fs_label": "NULL",
        "address_type": "HASH1",
        "fs_status": "blank",
        "stats": dict(NO_STATS),
        "tags": [],
        "put": True,
        "get": True,
        "delete": True,
        "groupings": [],
    }


@dataclass(slots=True)
class Expected:
    """What the tables shall be: what they were, and the differences that a test names."""

    tables: Tables
    since: datetime

    def insert(self, table: str, **row: Any) -> None:
        key = tuple(row[column] for column in KEYS[table])
        assert key not in self.tables[table], f"{table} {key} was there"
        self.tables[table][key] = row

    def update(self, table: str, key: Key, **columns: Any) -> None:
        self.tables[table][key].update(columns)

    def delete(self, table: str, key: Key) -> None:
        del self.tables[table][key]

    # In terms of directories.

    def device(self, directory: Directory, **columns: Any) -> None:
        """Columns of its device that change."""
        self.update("device", ("dir", directory.device.name, directory.library), **columns)

    def medium(self, directory: Directory, **columns: Any) -> None:
        """Columns of its medium that change."""
        self.update("media", _medium_key(directory), **columns)

    def add_device(self, directory: Directory, **columns: Any) -> None:
        """The device as `dir add` makes it, but for `columns`."""
        row: Row = {"model": None, "host": directory.host, "adm_status": "unlocked", "path": str(directory.path)}
        self.insert("device", family="dir", id=directory.device.name, library=directory.library, **(row | columns))

    def add_medium(self, directory: Directory, **columns: Any) -> None:
        """The medium as `dir add` makes it, but for `columns`."""
        row = blank_medium("POSIX", None)
        self.insert("media", family="dir", id=directory.medium.name, library=directory.library, **(row | columns))

    def delete_directory(self, directory: Directory) -> None:
        self.delete("device", ("dir", directory.device.name, directory.library))
        self.delete("media", _medium_key(directory))

    def figures(self, directory: Directory, **figures: Any) -> None:
        """Figures of its medium that are set; the space is that of its filesystem unless given."""
        measured = {
            "phys_spc_used": Measured(directory.path, "used"),
            "phys_spc_free": Measured(directory.path, "free"),
        }
        stats = self.tables["media"][_medium_key(directory)]["stats"]
        stats.update(measured | figures)

    def count(self, directory: Directory, objects: int, size: int) -> None:
        """What a synced release adds to its medium, which is `used` from then on."""
        stats = self.tables["media"][_medium_key(directory)]["stats"]
        self.figures(
            directory,
            nb_obj=max(stats["nb_obj"] + objects, 0),
            logc_spc_used=max(stats["logc_spc_used"] + size, 0),
        )
        self.medium(directory, fs_status="used")

    def lock(self, type_: str, id_: str, owner: LockOwner, **columns: Any) -> None:
        """A strong lock that was taken meanwhile, but for `columns`; in place of another one if there was one."""
        row = {"timestamp": Since(self.since), "is_weak": False, "last_locate": None} | columns
        self.tables["lock"][type_, id_] = {"type": type_, "id": id_, "hostname": owner.host, "owner": owner.pid, **row}

    def unlock(self, type_: str, id_: str) -> None:
        self.delete("lock", (type_, id_))

    def serve(self, directory: Directory, owner: LockOwner) -> None:
        """`owner` takes it into service."""
        for type_, id_ in directory.locks.items():
            self.lock(type_, id_, owner)

    def release(self, directory: Directory) -> None:
        """Whoever has served it serves it no more."""
        for type_, id_ in directory.locks.items():
            self.unlock(type_, id_)


@contextmanager
def expected_rows(connection: Connection) -> Iterator[Expected]:
    """Whatever happens in the block leaves the tables as its `Expected` says when it ends."""
    expected = Expected(deepcopy(read_tables(connection)), database_clock(connection))
    yield expected
    assert differences(read_tables(connection), expected.tables) == []


def database_clock(connection: Connection) -> datetime:
    """The time by the clock of the database."""
    (clock,) = connection.execute("SELECT localtimestamp AS now").fetchall()
    moment = clock["now"]
    assert isinstance(moment, datetime)
    return moment


def differences(found: Tables, expected: Tables) -> list[str]:
    """Each column that is not what was expected, in words."""
    lines = []
    for table in KEYS:
        for key in sorted(found[table].keys() | expected[table].keys()):
            row, wanted = found[table].get(key), expected[table].get(key)
            if row is None or wanted is None:
                lines.append(f"{table} {key}: is {'missing' if row is None else f'there: {row}'}")
                continue
            lines += [f"{table} {key} {line}" for line in _column_differences(row, wanted)]
    return lines


def _column_differences(found: Mapping[str, Any], expected: Mapping[str, Any]) -> Iterator[str]:
    for column in sorted(found.keys() | expected.keys()):
        if column not in found or column not in expected:
            yield f"{column}: is {'missing' if column not in found else f'there: {found[column]!r}'}"
        elif isinstance(found[column], dict) and isinstance(expected[column], dict):
            for line in _column_differences(found[column], expected[column]):
                yield f"{column}.{line}"
        elif found[column] != expected[column] or isinstance(found[column], bool) != isinstance(expected[column], bool):
            yield f"{column}: is {found[column]!r}, not {expected[column]!r}"


def _medium_key(directory: Directory) -> Key:
    return ("dir", directory.medium.name, directory.library)
