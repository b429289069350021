from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrs_trio.phobos.keys import CLIENTS, POOLS, TAPES, UNKNOWN, why_meaningless
from lrs_trio.phobos.values import by_family, names, switch, whole_number, within


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("0", 0),
        ("5", 5),
        ("-3", -3),
        ("+7", 7),
        ("007", 7),
        (" 1", 1),
        ("2147483647", 2**31 - 1),
        ("-2147483648", -(2**31)),
        ("2147483648", None),
        ("-2147483649", None),
        ("9" * 5000, None),
        ("", None),
        ("1 ", None),
        ("1x", None),
        ("1.0", None),
        ("1_0", None),
        ("0x10", None),
        ("٣", None),
        ("--1", None),
    ],
)
def test_a_number_is_a_whole_c_int(text: str, number: int | None) -> None:
    assert whole_number(text) == number


@pytest.mark.parametrize(
    ("text", "value"), [("true", True), ("false", False), ("True", None), ("yes", None), ("1", None), ("", None)]
)
def test_a_switch_is_exactly_true_or_false(text: str, value: bool | None) -> None:
    assert switch(text) is value


def test_a_list_has_no_empty_items_and_keeps_blanks() -> None:
    assert names("tape,,dir,") == ["tape", "dir"]
    assert names("a, b") == ["a", " b"]
    assert names("") == names(",") == []


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("tape=10000,dir=10", {"tape": "10000", "dir": "10"}),
        ("dir=1,dir=2", {"dir": "1"}),
        ("dir,tape=1", {"tape": "1"}),
        ("tape=1, dir=2", {"tape": "1", " dir": "2"}),
        ("dir=", {"dir": ""}),
        ("dir=a=b", {"dir": "a=b"}),
        ("", {}),
    ],
)
def test_values_by_family(text: str, values: dict[str, str]) -> None:
    assert by_family(text) == values


@pytest.mark.parametrize("text", ["-1", "-0", " -1", "", "1 ", "5x", "0", "11", "1e1", "99999999999999999999999"])
def test_what_is_not_within_is_nothing(text: str) -> None:
    assert within(text, 1, 10) is None


@given(st.integers(0, 2**70), st.integers(0, 2**64), st.integers(0, 2**64))
def test_the_bounds_are_within(number: int, lowest: int, highest: int) -> None:
    expected = number if lowest <= number <= highest else None
    assert within(str(number), lowest, highest) == within(f"+{number}", lowest, highest) == expected


@pytest.mark.parametrize(
    ("variable", "reason"),
    [
        ("PHOBOS_TLC_LEGACY_hostname", TAPES),
        ("PHOBOS_TLC_LEGACY_hostnames", UNKNOWN),
        ("PHOBOS_TLC_hostname", UNKNOWN),
        ("PHOBOS_DRIVE_TYPE_LTO5_DRIVE_models", TAPES),
        ("PHOBOS_IO_SCHED_TAPE_fair_share_lto5_min", TAPES),
        ("PHOBOS_IO_SCHED_TAPE_fair_share_lto5_avg", UNKNOWN),
        ("PHOBOS_RADOS_user_id", POOLS),
        ("PHOBOS_STORE_default_dir_library", CLIENTS),
        ("PHOBOS_PROFILE_SIMPLE_lyt-params", CLIENTS),
        ("PHOBOS_HSM_SOURCE_BACKEND_sync_delay_second", CLIENTS),
        ("PHOBOS_LRS_famlies", UNKNOWN),
        ("PHOBOS_lrs_families", UNKNOWN),
        ("PHOBOS_LRS_FAMILIES", UNKNOWN),
        ("PHOBOS_", UNKNOWN),
    ],
)
def test_why_a_key_has_no_effect(variable: str, reason: str) -> None:
    assert why_meaningless(variable) == reason
