from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrs_trio.sizes import exact_size, human_size, parse_size


@given(st.integers(min_value=0, max_value=2**63 - 1))
def test_a_size_survives_being_written(size: int) -> None:
    assert parse_size(exact_size(size)) == size


@given(
    st.integers(min_value=0, max_value=2**40),
    st.sampled_from([("KiB", 1024), ("MiB", 1024**2), ("GiB", 1024**3), ("TiB", 1024**4)])
    | st.sampled_from([("KB", 1000), ("MB", 1000**2), ("GB", 1000**3), ("TB", 1000**4)]),
    st.sampled_from([str, str.lower, str.upper]),
    st.sampled_from(["", " "]),
)
def test_a_unit_multiplies(number: int, unit: tuple[str, int], case: type[str], space: str) -> None:
    name, scale = unit
    assert parse_size(f"{number}{space}{case(name)}") == number * scale


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0"), (1023, "1023"), (1024, "1KiB"), (1536, "1536"), (2**30, "1GiB"), (5 * 2**40, "5TiB")]
)
def test_the_largest_exact_unit_is_written(size: int, text: str) -> None:
    assert exact_size(size) == text


@pytest.mark.parametrize(
    "text", ["", "GiB", "-1", "1.5GiB", "1PiB", "1Gi", "1 2", "0x10", "1_000", "1 GiB GiB", "²", "1\n2"]
)
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="a number of bytes, plain or with KiB"):
        parse_size(text)


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (1023 * 1024, "1.0 MiB"),
        (250 * 2**20, "250 MiB"),
        (-2048, "-2.0 KiB"),
        (2**63 - 1, "8.0 EiB"),
    ],
)
def test_sizes_are_short(size: int, text: str) -> None:
    assert human_size(size) == text
