"""The books of many releases at once: their rows are read by one statement and written by another.

Each step of a statement lets go of the interpreter and has to wait for it again, which costs more than the step itself
while the daemon is busy. So it takes two of them, however many rows there are.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

import apsw

from lrs_trio.dss.books import stats_to_json, strings_to_json, updated_medium
from lrs_trio.dss.operations import UpdateMedia
from lrs_trio.dss.sqlite_rows import MEDIUM_COLUMNS, Texts, id_columns, medium_from_row, texts_of
from lrs_trio.errors import LrsError
from lrs_trio.model import Family, Medium, ResourceId

_ENCODE: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
_WANTED: Final = "(SELECT value ->> 0, value ->> 1, value ->> 2 FROM json_each(?))"
_READ: Final = f"""
SELECT json_group_array(json_array({MEDIUM_COLUMNS})) FROM media WHERE (family, id, library) IN {_WANTED}
"""
_WRITE: Final = """
UPDATE media
SET adm_status = new.value ->> 3, fs_status = new.value ->> 4, fs_label = new.value ->> 5, stats = new.value ->> 6,
    tags = new.value ->> 7, groupings = new.value ->> 8, put = new.value ->> 9, get = new.value ->> 10,
    "delete" = new.value ->> 11
FROM json_each(?) AS new
WHERE media.family = new.value ->> 0 AND media.id = new.value ->> 1 AND media.library = new.value ->> 2
"""


@dataclass(slots=True)
class _Page:
    """One row: as it was found, and as it is to be."""

    found: Medium
    texts: Texts
    medium: Medium


def update_media_together(
    db: apsw.Connection, operations: Sequence[UpdateMedia]
) -> list[tuple[Medium | None, ...] | LrsError]:
    """Do `operations` in their order; the outcome of each is its media as they are then, or why nothing of it was done.

    Raises:
        apsw.ConstraintError, apsw.TooBigError, UnicodeError: SQLite does not accept what one of them says; it is not
            known which.
    """
    wanted = dict.fromkeys(update.id for operation in operations for update in operation.updates)
    pages = _read(db, wanted)
    outcomes = [_update(operation, pages) for operation in operations]
    changed = [page for page in pages.values() if isinstance(page, _Page) and page.medium is not page.found]
    if changed:
        db.execute(_WRITE, (_json(map(_columns, changed)),))
    return outcomes


def _read(db: apsw.Connection, media: Iterable[ResourceId]) -> dict[ResourceId, _Page | LrsError]:
    text = cast(str, db.execute(_READ, (_json(map(id_columns, media)),)).get)
    pages: dict[ResourceId, _Page | LrsError] = {}
    for row in cast("list[list[Any]]", json.loads(text)):
        family, name, library = row[:3]
        medium = ResourceId(Family.from_label(family), name, library)
        try:
            found = medium_from_row(row)
        except LrsError as error:
            pages[medium] = error
        else:
            pages[medium] = _Page(found, texts_of(row), found)
    return pages


def _update(operation: UpdateMedia, pages: dict[ResourceId, _Page | LrsError]) -> tuple[Medium | None, ...] | LrsError:
    """One operation, all of it or nothing."""
    found: list[_Page | None] = []
    for update in operation.updates:
        page = pages.get(update.id)
        if isinstance(page, LrsError):
            return page
        found.append(page)
    if operation.together and None in found:
        return tuple(None if page is None else page.medium for page in found)
    media: list[Medium | None] = []
    for update, page in zip(operation.updates, found, strict=True):
        if page is not None:
            page.medium = updated_medium(page.medium, update)
        media.append(page.medium if page is not None else None)
    return tuple(media)


def _columns(page: _Page) -> tuple[object, ...]:
    """What `_WRITE` takes; what did not change stays as it is spelled in the row."""
    medium, found, texts = page.medium, page.found, page.texts
    return (
        *id_columns(medium.id),
        medium.adm_status.value,
        medium.fs_status.value,
        medium.fs_label,
        stats_to_json(medium.stats, texts.stats, medium.id),
        texts.tags if medium.tags == found.tags else strings_to_json(medium.tags),
        texts.groupings if medium.groupings == found.groupings else strings_to_json(medium.groupings),
        int(medium.put),
        int(medium.get),
        int(medium.delete),
    )


def _json(rows: Iterable[object]) -> str:
    return _ENCODE(list(rows))
