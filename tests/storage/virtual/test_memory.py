"""A state in memory knows what one in a file finds by searching."""

from __future__ import annotations

from copy import deepcopy
from typing import Any, Never

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from lrs_trio.storage.virtual.description import FIRST_DRIVE, CartridgeGroup, Description, DriveGroup, Plan
from lrs_trio.storage.virtual.memory import IndexedState, MemoryState
from lrs_trio.storage.virtual.state import State, first_state
from tests.storage.virtual.shelf import DRIVE_1, DRIVE_2, MAIL_SLOT, SLOT_A, SLOT_B, A, B, C
from tests.storage.virtual.test_state import PLAN


class Twins(RuleBasedStateMachine):
    """The same moves in both."""

    def __init__(self) -> None:
        super().__init__()
        self.searching = first_state(PLAN)
        self.indexed = IndexedState(first_state(PLAN))

    @rule(data=st.data(), wrong=st.booleans())
    def move(self, data: st.DataObject, wrong: bool) -> None:
        places = self.searching.places
        full = [address for address, found in places.items() if found and not self.searching.is_astray(found)]
        if not full:
            return
        source = data.draw(st.sampled_from(full))
        target = data.draw(st.sampled_from([address for address, found in places.items() if not found]))
        others = [
            found
            for address, found in places.items()
            if address >= SLOT_A and found and address != source and not self.searching.is_astray(found)
        ]
        instead = others[0] if wrong and others and target in self.searching.bays else None
        for state in (self.searching, self.indexed):
            state.move(source, target, instead=instead)

    @invariant()
    def they_agree(self) -> None:
        one, other = self.searching, self.indexed
        assert (one.places, one.bays) == (other.places, other.bays)
        for barcode in (A, B, C, "nothing"):
            assert one.place_of(barcode) == other.place_of(barcode)
            assert one.is_astray(barcode) == other.is_astray(barcode)
        for drive in (DRIVE_1, DRIVE_2):
            assert one.home(drive) == other.home(drive)


TestTwins = Twins.TestCase
TestTwins.settings = settings(max_examples=30, stateful_step_count=15)


def test_what_is_there_already_is_known() -> None:
    before = first_state(PLAN)
    before.move(SLOT_A, DRIVE_1, instead=B)
    indexed = IndexedState(deepcopy(before))
    assert (indexed.place_of(A), indexed.is_astray(B), indexed.home(DRIVE_1)) == (DRIVE_1, True, SLOT_A)


def test_a_wrong_cartridge_is_set_right() -> None:
    state = IndexedState(first_state(PLAN))
    state.move(SLOT_A, DRIVE_1, instead=B)
    state.set_right(DRIVE_1)
    assert (state.inside(DRIVE_1), state.is_astray(B), state.place_of(B)) == (A, False, SLOT_B)
    state.set_right(DRIVE_1)
    state.set_right(DRIVE_2)
    assert (state.inside(DRIVE_1), state.inside(DRIVE_2)) == (A, None)


def test_a_change_is_seen_by_all() -> None:
    keeper = MemoryState(first_state(PLAN))
    seen = keeper.read()
    with keeper.change() as state:
        state.move(SLOT_A, MAIL_SLOT)
    assert seen is keeper.read()
    assert seen.place_of(A) == MAIL_SLOT


class Unsearched(dict[Any, Any]):
    """Can be looked up in, and not gone through."""

    def __iter__(self) -> Never:
        raise AssertionError("searched")

    def items(self) -> Never:
        raise AssertionError("searched")

    def values(self) -> Never:
        raise AssertionError("searched")


def test_a_large_library_is_not_searched() -> None:
    description = Description(
        slots=2100,
        drives=(DriveGroup(generation="lto8", count=512),),
        cartridges=(CartridgeGroup(generation="lto8", count=2000),),
    )
    state = MemoryState(first_state(Plan(description, PLAN.generations))).read()
    state.places, state.bays = Unsearched(state.places), Unsearched(state.bays)
    state.cartridges = Unsearched(state.cartridges)
    for number in range(512):
        state.move(SLOT_A + number, FIRST_DRIVE + number)
    state.move(FIRST_DRIVE, SLOT_A + 2050)
    assert state.place_of("V00002L8") == FIRST_DRIVE + 1
    assert not state.is_astray("V00002L8")
    assert state.home(FIRST_DRIVE + 1) == SLOT_A + 1
    assert state.inside(FIRST_DRIVE + 1) == "V00002L8"


def test_a_search_would_be_noticed() -> None:
    state = first_state(PLAN)
    searching = State(Unsearched(state.places), state.bays, state.cartridges)
    with pytest.raises(AssertionError, match="searched"):
        searching.place_of(A)
