"""The arithmetic of a medium's books, and the JSON they are kept in; the same for every home."""

from __future__ import annotations

import errno
import json
from collections.abc import Mapping
from dataclasses import fields
from functools import lru_cache
from operator import itemgetter
from types import MappingProxyType
from typing import Final

from lrs_trio.dss.operations import MediumUpdate
from lrs_trio.errors import LrsError
from lrs_trio.model import FsStatus, Medium, MediumStats, ResourceId

LARGEST_FIGURE: Final = 2**63 - 1
"""The databases and the clients keep figures in signed 64-bit integers."""

LARGEST_COUNT: Final = 2**31 - 1
"""Phobos's programs keep loads, errors and the time of the last load in an int."""

_STATS_KEYS: Final = tuple(stat.name for stat in fields(MediumStats))
_ALL_KEYS: Final = frozenset(_STATS_KEYS)
_FIGURES_OF: Final = itemgetter(*_STATS_KEYS)
_ENCODE: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
_ONLY_STATS: Final = "{" + ",".join(f'"{key}":%d' for key in _STATS_KEYS) + "}"
_MANDATORY_KEYS: Final = ("nb_obj", "logc_spc_used", "phys_spc_used", "phys_spc_free")


def _figure(value: int) -> int:
    return min(max(value, 0), LARGEST_FIGURE)


def _count(count: int, added: int) -> int:
    return min(max(count + added, 0), LARGEST_COUNT) if added else count


def updated_medium(medium: Medium, update: MediumUpdate) -> Medium:
    """`medium` after `update` (note 2.5d). A figure that is set and added to is set first."""
    stats = medium.stats
    objects = stats.nb_obj if update.set_objects is None else update.set_objects
    logical = stats.logc_spc_used if update.set_logical is None else update.set_logical
    used = stats.phys_spc_used if update.phys_spc_used is None else update.phys_spc_used
    free = stats.phys_spc_free if update.phys_spc_free is None else update.phys_spc_free
    groupings = medium.groupings
    if update.add_groupings:
        groupings += tuple(dict.fromkeys(new for new in update.add_groupings if new not in groupings))
    # Not `replace`, which takes three times as long: every release comes by here.
    return Medium(
        medium.id,
        medium.fs_type,
        medium.adm_status if update.adm_status is None else update.adm_status,
        _updated_fs_status(medium.fs_status, update),
        medium.fs_label if update.fs_label is None else update.fs_label,
        medium.address_type,
        medium.model,
        MediumStats(
            _figure(objects + update.add_objects),
            _figure(logical + update.add_logical),
            _figure(used),
            _figure(free),
            _count(stats.nb_load, update.add_loads),
            _count(stats.nb_errors, update.add_errors),
            stats.last_load if update.last_load is None else min(max(update.last_load, 0), LARGEST_COUNT),
        ),
        medium.tags if update.tags is None else update.tags,
        groupings,
        medium.put if update.put is None else update.put,
        medium.get if update.get is None else update.get,
        medium.delete if update.delete is None else update.delete,
    )


def _updated_fs_status(status: FsStatus, update: MediumUpdate) -> FsStatus:
    if update.fs_status is not None:
        status = update.fs_status
    if update.mark_used and status is FsStatus.EMPTY:
        status = FsStatus.USED
    if update.mark_full and status in (FsStatus.EMPTY, FsStatus.USED):
        status = FsStatus.FULL
    return status


def stats_from_json(text: str, medium: ResourceId) -> MediumStats:
    """The figures in the JSON `text` of `medium`'s row.

    Raises:
        LrsError: EINVAL, a figure is missing, not a whole number, negative or too large.
    """
    stats = _stats_object(text, medium)
    if stats.keys() >= _ALL_KEYS:
        figures = _FIGURES_OF(stats)
        # The common case, and every release comes by here: a generator or a look at each key takes longer.
        for figure in figures:
            if type(figure) is not int or not 0 <= figure <= LARGEST_FIGURE:
                break
        else:
            return MediumStats(*figures)
    return MediumStats(*[_checked_figure(stats, key, medium) for key in _STATS_KEYS])


def _checked_figure(stats: Mapping[str, object], key: str, medium: ResourceId) -> int:
    figure = stats.get(key, None if key in _MANDATORY_KEYS else 0)
    # bool is an int to Python, not to JSON.
    if not isinstance(figure, int) or isinstance(figure, bool) or not 0 <= figure <= LARGEST_FIGURE:
        raise _malformed(medium, f"{key} is {json.dumps(figure)}, not a whole number from 0 to 2^63-1")
    return figure


def stats_to_json(stats: MediumStats, previous: str, medium: ResourceId) -> str:
    """All figures of `stats` as JSON; what else the `previous` text of the row says is kept."""
    before = _stats_object(previous, medium)
    if before.keys() == _ALL_KEYS:
        return _ONLY_STATS % tuple(getattr(stats, key) for key in _STATS_KEYS)
    return _ENCODE({**before, **{key: getattr(stats, key) for key in _STATS_KEYS}})


def _stats_object(text: str, medium: ResourceId) -> Mapping[str, object]:
    try:
        stats = _parsed(text)
    except (ValueError, RecursionError) as error:
        raise _malformed(medium, str(error)) from error
    if not isinstance(stats, dict):
        raise _malformed(medium, "not a JSON object")
    return MappingProxyType(stats)


@lru_cache(1024)
def _parsed(text: str) -> object:
    """What is read is soon written again, with other figures: it need not be parsed twice."""
    return json.loads(text)


def _malformed(medium: ResourceId, why: str, what: str = "stats") -> LrsError:
    return LrsError(
        errno.EINVAL, f"medium {medium}: its {what} in the DSS are malformed ({why}); repair the row of this medium"
    )


def strings_from_json(text: str, medium: ResourceId) -> tuple[str, ...]:
    """The strings of the JSON array `text` of `medium`'s row; an entry that is no string reads as an empty one.

    Raises:
        LrsError: EINVAL, a database holds what Python does not read: a depth, or a number of digits, without end.
    """
    try:
        return _strings(text)
    except (ValueError, RecursionError) as error:
        raise _malformed(medium, str(error), "tags or groupings") from error


@lru_cache(1024)
def _strings(text: str) -> tuple[str, ...]:
    return tuple(entry if isinstance(entry, str) else "" for entry in json.loads(text))


def strings_to_json(strings: tuple[str, ...]) -> str:
    return _ENCODE(strings)
