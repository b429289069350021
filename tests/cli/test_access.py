from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrs_trio.cli.access import Access


@pytest.mark.parametrize(
    ("text", "put", "get", "delete"),
    [
        ("+PG", True, True, None),
        ("-D", None, None, False),
        ("=G", False, True, False),
        ("G", False, True, False),
        ("PGD", True, True, True),
        ("=", False, False, False),
        ("-DP", False, None, False),
    ],
)
def test_signs_and_letters(text: str, put: bool | None, get: bool | None, delete: bool | None) -> None:
    assert Access.parse(text) == Access(put, get, delete)


@pytest.mark.parametrize("text", ["", "+", "-", "pg", "+X", "P+G", "++P", "P G", "--help"])
def test_nonsense_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no access"):
        Access.parse(text)


@given(st.booleans(), st.booleans(), st.booleans())
def test_what_is_shown_can_be_asked_for(put: bool, get: bool, delete: bool) -> None:
    access = Access(put, get, delete)
    shown = str(access)
    assert Access.parse("=" + shown.strip("-")) == access
