"""The arithmetic of the books, against a model that keeps them one figure at a time."""

from __future__ import annotations

import errno
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrs_trio.dss.books import (
    LARGEST_COUNT,
    LARGEST_FIGURE,
    stats_from_json,
    stats_to_json,
    strings_from_json,
    updated_medium,
)
from lrs_trio.dss.operations import MediumUpdate
from lrs_trio.errors import LrsError
from lrs_trio.model import AdmStatus, FsStatus, FsType, Medium, MediumStats

from .samples import medium_id

figures = st.one_of(st.integers(0, 1000), st.integers(0, LARGEST_FIGURE))
signed = st.one_of(st.integers(-1000, 1000), st.integers(-LARGEST_FIGURE - 1, LARGEST_FIGURE))
words = st.lists(st.sampled_from("abcd"), max_size=5).map(tuple)
counts = st.one_of(st.integers(0, 1000), st.integers(0, LARGEST_COUNT))
stats = st.builds(MediumStats, *[figures] * 4, *[counts] * 3)
media = st.builds(
    Medium,
    id=st.just(medium_id()),
    fs_type=st.just(FsType.POSIX),
    adm_status=st.sampled_from(AdmStatus),
    fs_status=st.sampled_from(FsStatus),
    fs_label=st.text(max_size=3),
    stats=stats,
    tags=words,
    groupings=words.map(lambda names: tuple(dict.fromkeys(names))),
    put=st.booleans(),
    get=st.booleans(),
    delete=st.booleans(),
)
updates = st.builds(
    MediumUpdate,
    id=st.just(medium_id()),
    add_objects=signed,
    add_logical=signed,
    set_objects=st.none() | signed,
    set_logical=st.none() | signed,
    phys_spc_used=st.none() | signed,
    phys_spc_free=st.none() | signed,
    fs_status=st.none() | st.sampled_from(FsStatus),
    mark_used=st.booleans(),
    mark_full=st.booleans(),
    adm_status=st.none() | st.sampled_from(AdmStatus),
    fs_label=st.none() | st.text(max_size=3),
    add_groupings=words,
    add_loads=signed,
    add_errors=signed,
    last_load=st.none() | signed,
    tags=st.none() | words,
    put=st.none() | st.booleans(),
    get=st.none() | st.booleans(),
    delete=st.none() | st.booleans(),
)


class PlainBooks:
    """A medium's columns by name, changed one instruction at a time."""

    def __init__(self, medium: Medium) -> None:
        self.columns = {name: getattr(medium, name) for name in Medium.__slots__ if name != "stats"}
        self.figures = {name: getattr(medium.stats, name) for name in MediumStats.__slots__}

    def apply(self, update: MediumUpdate) -> None:
        changed = {
            "nb_obj": (update.set_objects, update.add_objects),
            "logc_spc_used": (update.set_logical, update.add_logical),
            "phys_spc_used": (update.phys_spc_used, 0),
            "phys_spc_free": (update.phys_spc_free, 0),
            "nb_load": (None, update.add_loads),
            "nb_errors": (None, update.add_errors),
            "last_load": (update.last_load, 0),
        }
        for name, (new, added) in changed.items():
            largest = LARGEST_COUNT if name in ("nb_load", "nb_errors", "last_load") else LARGEST_FIGURE
            if new is not None:
                self.figures[name] = new
            self.figures[name] = sorted((0, self.figures[name] + added, largest))[1]
        for name in ("fs_status", "adm_status", "fs_label", "tags", "put", "get", "delete"):
            if getattr(update, name) is not None:
                self.columns[name] = getattr(update, name)
        if update.mark_used:
            self.columns["fs_status"] = {FsStatus.EMPTY: FsStatus.USED}.get(
                self.columns["fs_status"], self.columns["fs_status"]
            )
        if update.mark_full:
            self.columns["fs_status"] = {FsStatus.EMPTY: FsStatus.FULL, FsStatus.USED: FsStatus.FULL}.get(
                self.columns["fs_status"], self.columns["fs_status"]
            )
        for grouping in update.add_groupings:
            if grouping not in self.columns["groupings"]:
                self.columns["groupings"] += (grouping,)


@pytest.mark.note("2.5d")
@given(media, st.lists(updates, max_size=4))
def test_books_after_updates_are_those_of_the_model(medium: Medium, changes: list[MediumUpdate]) -> None:
    books = PlainBooks(medium)
    for change in changes:
        medium = updated_medium(medium, change)
        books.apply(change)
        assert PlainBooks(medium).columns == books.columns
        assert PlainBooks(medium).figures == books.figures


@pytest.mark.note("2.5d")
@given(st.integers(0, 1000), st.lists(st.integers(0, 1000)))
def test_what_was_added_can_be_taken_away_again(objects: int, sizes: list[int]) -> None:
    start = Medium(medium_id(), FsType.POSIX, stats=MediumStats(nb_obj=objects, logc_spc_used=objects))
    medium = start
    for size in sizes:
        medium = updated_medium(medium, MediumUpdate(medium_id(), add_objects=1, add_logical=size))
    for size in sizes:
        medium = updated_medium(medium, MediumUpdate(medium_id(), add_objects=-1, add_logical=-size))
    assert medium == start


def test_a_count_that_is_larger_than_ours_get_is_left_alone_until_it_changes() -> None:
    large = MediumStats(nb_load=LARGEST_COUNT + 5, last_load=LARGEST_COUNT + 5)
    medium = Medium(medium_id(), FsType.POSIX, stats=large)
    assert updated_medium(medium, MediumUpdate(medium_id())).stats == large
    changed = updated_medium(medium, MediumUpdate(medium_id(), add_loads=1, last_load=7)).stats
    assert (changed.nb_load, changed.last_load) == (LARGEST_COUNT, 7)


@given(stats)
def test_stats_survive_their_json_with_all_seven_keys(figures_kept: MediumStats) -> None:
    text = stats_to_json(figures_kept, "{}", medium_id())
    assert len(json.loads(text)) == 7
    assert stats_from_json(text, medium_id()) == figures_kept


def test_keys_of_others_are_kept() -> None:
    text = stats_to_json(MediumStats(nb_obj=2), '{"nb_obj": 1, "site": {"wear": 3}}', medium_id())
    assert json.loads(text)["site"] == {"wear": 3}
    assert json.loads(text)["nb_obj"] == 2


def test_the_figures_that_are_only_counted_may_be_missing() -> None:
    text = '{"nb_obj":1,"logc_spc_used":2,"phys_spc_used":3,"phys_spc_free":4}'
    assert stats_from_json(text, medium_id()) == MediumStats(1, 2, 3, 4)


@pytest.mark.parametrize(
    "change",
    [
        {"nb_obj": -1},
        {"logc_spc_used": 1.5},
        {"phys_spc_used": "3"},
        {"phys_spc_free": None},
        {"nb_load": True},
        {"last_load": 2**63},
    ],
)
def test_a_malformed_figure_is_an_error_that_names_the_medium_and_the_figure(change: dict[str, object]) -> None:
    good = json.loads(stats_to_json(MediumStats(), "{}", medium_id()))
    (key,) = change

    with pytest.raises(LrsError, match=rf"medium dir:legacy:/srv/a: .*{key}") as malformed:
        stats_from_json(json.dumps(good | change), medium_id())
    assert malformed.value.errno == errno.EINVAL


@pytest.mark.parametrize("text", ["", "[]", "7", '{"nb_obj": 1}', "{", '{"a":' * 100_000])
def test_stats_that_are_no_object_of_figures_are_an_error(text: str) -> None:
    with pytest.raises(LrsError, match="medium dir:legacy:/srv/a"):
        stats_from_json(text, medium_id())


@pytest.mark.parametrize("text", ["[" * 100_000 + "]" * 100_000, f"[{'1' * 5000}]"], ids=["deep", "long"])
def test_strings_that_cannot_be_read_are_an_error_that_names_the_medium(text: str) -> None:
    """A database takes them."""
    with pytest.raises(LrsError, match=r"medium dir:legacy:/srv/a: its tags or groupings .* malformed") as malformed:
        strings_from_json(text, medium_id())
    assert malformed.value.errno == errno.EINVAL


def test_an_entry_that_is_no_string_reads_as_an_empty_one() -> None:
    assert strings_from_json('["a", 1, null, "é"]', medium_id()) == ("a", "", "", "é")
