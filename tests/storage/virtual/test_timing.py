"""How long a real drive would take: the files that come with the program against what is known of the hardware."""

from __future__ import annotations

from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from lrs_trio.storage.virtual.description import generation_files
from lrs_trio.storage.virtual.tables import read_table
from lrs_trio.storage.virtual.timing import Generation

GENERATIONS = {name: read_table(file, Generation) for name, file in generation_files().items()}
GB = 10**9

any_generation = st.sampled_from(sorted(GENERATIONS)).map(GENERATIONS.__getitem__)
files = st.integers(0, 10**8)
sizes = st.integers(0, 2 * 10**13)


@pytest.mark.parametrize(
    ("name", "model", "load", "average_locate", "rate", "capacity"),
    [
        ("lto7", "LTO7", 15, 56, 300, 6),
        ("lto8", "LTO8", 15, 59, 360, 12),
        ("lto9", "LTO9", 17, 45, 400, 18),
    ],
)
def test_what_vendors_say(name: str, model: str, load: int, average_locate: int, rate: int, capacity: int) -> None:
    generation = GENERATIONS[name]
    assert (generation.model, generation.capacity) == (model, capacity * 1000 * GB)
    assert generation.load_s() == load
    assert generation.transfer_s(rate * 10**6) == 1
    places = [generation.locate_s(0, generation.capacity * part // 10_000) for part in range(10_000)]
    assert fmean(places) == pytest.approx(average_locate, abs=0.5)


def test_a_new_cartridge_of_a_generation_that_measures_it_first() -> None:
    assert GENERATIONS["lto9"].load_s(new=True) == 17 + 40 * 60
    assert GENERATIONS["lto8"].load_s(new=True) == GENERATIONS["lto8"].load_s()


@pytest.mark.parametrize(("written", "part"), [(2**30, 0.28), (10 * 2**30, 0.79), (32 * GB, 0.92)])
def test_frequent_syncs_leave_little_of_the_native_rate(written: int, part: float) -> None:
    generation = GENERATIONS["lto9"]
    streaming = generation.transfer_s(written)
    assert streaming / (streaming + generation.sync_s(45_000)) == pytest.approx(part, abs=0.005)


def test_rewinding_goes_by_what_was_moved() -> None:
    generation = GENERATIONS["lto8"]
    moved = (0, 5 * GB - 1, 5 * GB, 50 * GB - 1, 50 * GB)
    assert [generation.rewind_s(size) for size in moved] == [55, 55, 110, 110, 165]
    assert generation.unload_s(0) == 55 + 24


def test_an_unmount_writes_the_index_only_if_something_was_written() -> None:
    generation = GENERATIONS["lto8"]
    assert generation.unmount_s(1000, 0) == 5
    assert 60 <= generation.unmount_s(0, 1) <= generation.unmount_s(200_000, 10 * GB) <= 120


@given(any_generation, files, files, sizes, sizes)
def test_more_never_takes_less(generation: Generation, few: int, many: int, little: int, much: int) -> None:
    few, many = sorted((few, many))
    little, much = sorted((little, much))
    assert 0 < generation.mount_s(few) <= generation.mount_s(many)
    assert 0 < generation.sync_s(few) <= generation.sync_s(many)
    assert 0 < generation.unmount_s(few, little) <= generation.unmount_s(many, much)
    assert generation.sync_s(few) < generation.unmount_s(few, 1)
    assert 0 < generation.unload_s(little) <= generation.unload_s(much)
    assert 0 <= generation.transfer_s(little) <= generation.transfer_s(much)
    assert generation.move_s() > 0
    assert generation.format_s() > 0


@given(any_generation, sizes, sizes)
def test_a_locate_takes_from_4_to_120_seconds(generation: Generation, start: int, end: int) -> None:
    assert 4 <= generation.locate_s(start, end) <= 120


def test_what_a_locate_is_made_of() -> None:
    """Along a wrap of LTO-8 by hand: 208 wraps in 4 bands, the odd ones written backwards."""
    generation = GENERATIONS["lto8"]
    wrap = generation.capacity // 208
    tape = 130_400 * 0.0006192
    bit = 10**6

    assert generation.locate_s(wrap // 4, wrap // 2) == pytest.approx(4.29 + tape / 4, abs=0.01)
    assert generation.locate_s(wrap // 2, wrap // 4) == pytest.approx(4.29 + tape / 4 + 11.32, abs=0.01)
    # Straight below on the next track, which is read the other way; the one after is read as this one is.
    assert generation.locate_s(wrap // 2, wrap * 3 // 2 + bit) == pytest.approx(4.29 + 6.69 + 5.22, abs=0.01)
    assert generation.locate_s(wrap // 2, wrap * 5 // 2 + bit) == pytest.approx(4.29 + 6.69, abs=0.01)
    # The first one of the second band.
    assert generation.locate_s(wrap // 2, wrap * 105 // 2 + bit) == pytest.approx(4.29 + 6.69 + 3.2, abs=0.01)
    # From the load point to the middle of a track that is read backwards.
    assert generation.locate_s(0, wrap * 3 // 2) == pytest.approx(
        4.29 + tape / 2 + 6.69 + 5.22 + 11.32 - 6.04, abs=0.01
    )


@pytest.mark.parametrize("steps", [[(1, 5)], [(0, 5), (0, 6)], [(0, 5), (9, 6), (3, 7)], []])
def test_the_steps_of_rewinding_are_in_order(steps: list[tuple[int, int]]) -> None:
    rewind = [{"moved": moved, "s": seconds} for moved, seconds in steps]
    with pytest.raises(ValidationError, match="rewind"):
        Generation.model_validate(GENERATIONS["lto8"].model_dump() | {"rewind": rewind})
