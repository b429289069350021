from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrs_trio.errors import LrsError
from lrs_trio.model import Space
from lrs_trio.storage.space import measured_space, with_full_threshold


def statvfs(blocks: int, bfree: int, bavail: int, frsize: int = 512) -> os.statvfs_result:
    return os.statvfs_result((4096, frsize, blocks, bfree, bavail, 0, 0, 0, 0, 255))


def test_used_is_all_that_is_not_free_and_free_is_what_users_may_take() -> None:
    assert measured_space(statvfs(blocks=100, bfree=40, bavail=30), "/d") == Space(used=60 * 512, free=30 * 512)


def test_contradictory_figures_are_an_error_that_names_the_path() -> None:
    with pytest.raises(LrsError, match="/d: ") as caught:
        measured_space(statvfs(blocks=10, bfree=21, bavail=10), "/d")
    assert caught.value.errno == errno.EIO


def test_more_free_than_there_is_never_makes_a_negative_figure() -> None:
    assert measured_space(statvfs(blocks=10, bfree=12, bavail=10), "/d") == Space(used=0, free=10 * 512)


def test_a_real_filesystem_adds_up(tmp_path: Path) -> None:
    found = os.statvfs(tmp_path)
    space = measured_space(found, str(tmp_path))
    assert 0 < space.used + space.free <= found.f_blocks * found.f_frsize


@pytest.mark.parametrize(("free", "reported"), [(60, 60), (52, 52), (50, 0), (40, 0), (0, 0)])
def test_the_threshold_takes_all_or_nothing(free: int, reported: int) -> None:
    total = 1000
    assert with_full_threshold(Space(total - free, free), 5) == Space(total - free, reported)


def test_without_a_threshold_only_an_exhausted_filesystem_is_full() -> None:
    assert with_full_threshold(Space(10_000, 1), 0).free == 1
    assert with_full_threshold(Space(10_000, 0), 0).free == 0


@given(st.integers(0, 2**62), st.integers(0, 2**62), st.integers(0, 100))
def test_free_space_is_never_invented(used: int, free: int, percent: int) -> None:
    space = with_full_threshold(Space(used, free), percent)
    assert space.used == used
    assert space.free in (0, free)
