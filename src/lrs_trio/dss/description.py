"""What a database holds, in words: the same for every home, so that two databases can be compared."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

NOT_NULL = " NOT NULL"
DEFAULT = " DEFAULT "


@dataclass(frozen=True, slots=True)
class Table:
    """Its columns by name, as ``integer NOT NULL DEFAULT 1``, and its keys, as ``primary key (type, id)``.

    Keys are everything that holds for several columns or rows: ``primary key``, ``unique`` and ``index``, which
    are followed by what they are on, and other constraints as the database spells them.
    """

    columns: Mapping[str, str]
    keys: Sequence[str]


@dataclass(frozen=True, slots=True)
class Description:
    """The tables by name, the labels of enumerated types by the type's name, and the extensions."""

    tables: Mapping[str, Table]
    types: Mapping[str, Sequence[str]]
    extensions: Sequence[str]


@dataclass(frozen=True, slots=True)
class Comparison:
    """How a database differs from what is expected of it, a line each; `notes` tell of what does no harm."""

    differences: tuple[str, ...]
    notes: tuple[str, ...]


def compare(expected: Description, found: Description) -> Comparison:
    """Look for all that is expected, and for what is there besides and in its way."""
    differences: list[str] = []
    notes: list[str] = []
    differences += (f"extension {name} is missing" for name in expected.extensions if name not in found.extensions)
    for name, labels in expected.types.items():
        if name not in found.types:
            differences.append(f"type {name} is missing")
            continue
        different = list(_labels(labels, found.types[name]))
        differences += (f"type {name}: {line}" for line in different)
        if not different and list(labels) != list(found.types[name]):
            notes.append(f"type {name}: the labels have another order, in which its values are sorted")
    for name, table in expected.tables.items():
        if name not in found.tables:
            differences.append(f"table {name} is missing")
            continue
        different, unused = _table(table, found.tables[name])
        differences += (f"table {name}: {line}" for line in different)
        notes += (f"table {name}: {line}" for line in unused)
    notes += (f"table {name} is not of this schema" for name in found.tables if name not in expected.tables)
    return Comparison(tuple(differences), tuple(notes))


def _labels(expected: Sequence[str], found: Sequence[str]) -> Iterator[str]:
    yield from (f"label {label!r} is missing" for label in expected if label not in found)
    yield from (f"label {label!r} is not expected" for label in found if label not in expected)


def _table(expected: Table, found: Table) -> tuple[list[str], list[str]]:
    """The differences of one table, and the notes."""
    differences: list[str] = []
    notes: list[str] = []
    for name, column in expected.columns.items():
        if name not in found.columns:
            differences.append(f"column {name} is missing")
        elif found.columns[name] != column:
            differences.append(f"column {name} is {found.columns[name]}, expected {column}")
    for name, column in found.columns.items():
        if name not in expected.columns:
            if NOT_NULL in column and DEFAULT not in column:
                differences.append(f"column {name} is not expected, and no row can be added without it")
            else:
                notes.append(f"column {name} is not of this schema")
    differences += (f"{key} is missing" for key in expected.keys if key not in found.keys)
    for key in found.keys:
        if key not in expected.keys:
            where = notes if _is_harmless(key, expected) else differences
            where.append(f"{key} is not expected")
    return differences, notes


def _is_harmless(key: str, expected: Table) -> bool:
    """Whether `key` refuses nothing that the expected keys would take."""
    kind, _, columns = key.partition(" ")
    return kind == "index" or (kind == "unique" and f"primary key {columns}" in expected.keys)
