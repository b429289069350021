from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrs_trio.storage.elements import Element, ElementKind
from lrs_trio.storage.library_status import dump_elements, parse_elements

ARM = Element(ElementKind.ARM, 0)
SLOT = Element(ElementKind.SLOT, 1001, True, "P00000L5")
NAMELESS = Element(ElementKind.SLOT, 1002, True)
PORT = Element(ElementKind.IMPORT_EXPORT, 10)
DRIVE = Element(ElementKind.DRIVE, 256, True, "P00001L5", 1002, "IBM ULT3580-TD5 1013005381")
DOWN = Element(ElementKind.DRIVE, 257, device_id="1013005382", accessible=False)

TEXT = (
    '[{"type":"arm","address":0,"full":false},'
    '{"type":"slot","address":1001,"full":true,"volume":"P00000L5","accessible":true},'
    '{"type":"slot","address":1002,"full":true,"accessible":true},'
    '{"type":"import/export","address":10,"full":false,"accessible":true},'
    '{"type":"drive","address":256,"full":true,"volume":"P00001L5","source_address":1002,'
    '"device_id":"IBM ULT3580-TD5 1013005381","accessible":true},'
    '{"type":"drive","address":257,"full":false,"device_id":"1013005382"}]'
)


def test_the_form_is_the_one_that_others_know_in_their_order() -> None:
    assert dump_elements([DOWN, DRIVE, PORT, NAMELESS, SLOT, ARM]) == TEXT
    assert parse_elements(TEXT) == (ARM, SLOT, NAMELESS, PORT, DRIVE, DOWN)


@given(
    st.lists(
        st.builds(
            Element,
            st.sampled_from(ElementKind).filter(lambda kind: kind is not ElementKind.ARM),
            st.integers(0, 2**40),
            st.just(True),
            st.none() | st.text(max_size=8),
            st.none() | st.integers(0, 2**40),
            st.text(max_size=8),
            st.booleans(),
        ),
        unique_by=lambda element: (element.kind.value, element.address),
        max_size=5,
    )
)
def test_elements_come_back(elements: list[Element]) -> None:
    assert set(parse_elements(dump_elements(elements))) == set(elements)


def test_what_others_say_besides_is_passed_over() -> None:
    text = json.dumps(
        [
            {"type": "(unknown)", "address": 5, "full": False},
            {"type": ["slot"], "address": 6, "full": False},
            {"type": "slot", "address": 7, "full": False, "volume": "gone", "invert": True, "error_code": 131},
            {"type": "import/export", "address": 8, "full": False, "imp_enabled": True, "accessible": True},
        ]
    )
    assert parse_elements(text) == (
        Element(ElementKind.SLOT, 7, accessible=False),
        Element(ElementKind.IMPORT_EXPORT, 8),
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[1]",
        "[" * 100_000,
        '[{"type":"slot"}]',
        '[{"type":"slot","address":"1"}]',
        '[{"type":"slot","address":true}]',
        '[{"type":"slot","address":1,"full":true,"volume":5}]',
        '[{"type":"drive","address":1,"device_id":null}]',
    ],
)
def test_what_is_no_status_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_elements(text)
